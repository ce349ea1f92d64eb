"""Reading with a limit, hashing as a stream, writing so that no half-written file is ever seen."""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from cu_certificates.errors import MissingFileError, UsageError

_CHUNK = 1024 * 1024


def kind_of(path: Path) -> Literal["file", "folder", "other", "absent"]:
    """Return what stands at ``path``, symbolic links followed.

    Args:
        path: The place to look at.

    Raises:
        MissingFileError: It cannot be told, for example because a folder above may not be entered.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except (OSError, ValueError) as error:
        raise MissingFileError(f"{str(path)!r}: cannot be looked at ({error}); give another path") from None
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "other"


def _require_file(path: Path, what: str) -> None:
    # Asked before opening, because opening a named pipe would wait for a writer for ever.
    found = kind_of(path)
    if found != "file":
        problem = "does not exist" if found == "absent" else "is a folder" if found == "folder" else "is no plain file"
        raise MissingFileError(f"{what} {str(path)!r} {problem}; give the path of a readable file")


def read_bytes(path: Path, *, what: str, max_bytes: int) -> bytes:
    """Read a whole file of bounded size.

    Args:
        path: The file.
        what: How the file is called in an error message.
        max_bytes: The largest size that is read.

    Raises:
        MissingFileError: The file does not exist, is not a regular file or cannot be read.
        UsageError: The file is larger than ``max_bytes``.
    """
    _require_file(path, what)
    try:
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise MissingFileError(f"{what} {str(path)!r}: cannot be read ({error.strerror}); check its rights") from None
    if len(data) > max_bytes:
        raise UsageError(f"{what} {str(path)!r}: more than {max_bytes} bytes; expected a smaller file of this kind")
    return data


def sha256_of(path: Path, *, what: str) -> str:
    """Return the SHA-256 of a file in lower-case hexadecimal, reading it as a stream.

    The bytes are only hashed, never interpreted: a model file is a program for whoever unpickles it.

    Args:
        path: The file.
        what: How the file is called in an error message.

    Raises:
        MissingFileError: The file does not exist, is not a regular file or cannot be read.
    """
    _require_file(path, what)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise MissingFileError(f"{what} {str(path)!r}: cannot be read ({error.strerror}); check its rights") from None
    return digest.hexdigest()


def make_folder(path: Path, *, private: bool = False) -> None:
    """Make a folder, unless it exists.

    Args:
        path: The folder.
        private: Whether only its owner may enter it; also holds for the folders above that are made.

    Raises:
        UsageError: It cannot be made.
    """
    try:
        if private:
            for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
                missing.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"folder {str(path)!r}: cannot be made ({error.strerror}); give another path") from None


def _create(path: Path, data: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _unwritable(path: Path, what: str, error: OSError) -> UsageError:
    if error.errno == errno.ENOSPC:
        return UsageError(f"{what} {str(path)!r}: the disk is full; free some space and run the same command again")
    return UsageError(f"{what} {str(path)!r}: cannot be written ({error.strerror}); choose another folder")


def write_new(path: Path, data: bytes, *, what: str, mode: int = 0o666) -> None:
    """Write a file that must not exist yet; nothing is ever overwritten.

    Args:
        path: The file; its folder must exist.
        data: The content.
        what: How the file is called in an error message.
        mode: Its rights, before the user's umask.

    Raises:
        UsageError: The file exists, or the folder cannot be written.
    """
    try:
        _create(path, data, mode)
    except FileExistsError:
        raise UsageError(
            f"{what} {str(path)!r} exists already and is never overwritten; give another path, or move it away first"
        ) from None
    except OSError as error:
        raise _unwritable(path, what, error) from None


def write_atomic(path: Path, data: bytes, *, what: str, mode: int = 0o666) -> None:
    """Write a file under a temporary name in the same folder, then move it into place.

    Args:
        path: The file; its folder must exist.
        data: The content.
        what: How the file is called in an error message.
        mode: Its rights, before the user's umask.

    Raises:
        UsageError: The folder cannot be written.
    """
    # Not with_name(), which raises for a path without a name such as "."; that one is told when it is replaced.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        _create(temporary, data, mode)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _unwritable(path, what, error) from None


@contextlib.contextmanager
def locked(path: Path, *, what: str, mode: int = 0o666) -> Iterator[None]:
    """Hold a lock file; whoever else wants it waits, and a process that is killed lets go of it.

    Args:
        path: The lock file, made when absent; its folder must exist.
        what: How the locked thing is called in an error message.
        mode: Rights of the lock file, before the user's umask.

    Raises:
        UsageError: The lock file cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system: two processes at once may then disturb each other
        yield
        return
    try:
        stream = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, mode), "wb")
    except OSError as error:
        raise UsageError(f"{what} {str(path)!r}: cannot be written ({error.strerror}); check its rights") from None
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
