"""Who uses a store: runs share it, cleaning up has it alone; and which model is being made by whom.

Every lock is one of the operating system, held through an open file, so a process that is killed holds nothing. On a
system, or a file system, without such locks nothing is held back: two runs may then make a model twice, which costs
time and no result, and cleaning up refuses while the notes of a run lie in the store.
"""

import contextlib
import errno
import json
import logging
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import IO, Final

from cu_cert.errors import EnvironmentProblem
from cu_cert.fleet._store_files import LOCKS, mark, unwritable

try:
    import fcntl as _module
except ImportError:  # a system without them
    fcntl: ModuleType | None = None
else:
    fcntl = _module

PATIENCE: Final = 60.0
"""Seconds for which a run waits until cleaning up has ended."""

_LOG: Final = logging.getLogger("cu_cert.store")
_BUSY: Final = (errno.EAGAIN, errno.EACCES)
_UNABLE: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Somebody who uses a store, as they said of themselves.

    Args:
        purpose: What for, such as ``training``.
        process: Process id.
        host: Name of the machine.
        since: When it began, ``YYYY-MM-DDThh:mm:ssZ``.
    """

    purpose: str
    process: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"{self.purpose} (process {self.process} on {self.host}, since {self.since})"


@contextmanager
def hold(root: Path, purpose: str, *, alone: bool = False, patience: float = PATIENCE) -> Iterator[None]:
    """Use a store for a while: with others who use it, or alone.

    Args:
        root: The store; made and marked when it is not there.
        purpose: What for; others are told.
        alone: Whether nobody else may use it meanwhile.
        patience: Seconds to wait for somebody who has it alone; who wants it alone does not wait.

    Raises:
        EnvironmentProblem: It is in use, or cannot be written.
        DataError: It is the store of a newer version.
    """
    mark(root)
    folder = root / LOCKS
    with _opened(folder / "store") as stream:
        locked = _acquire(root, stream, alone=alone, patience=0.0 if alone else patience)
        if alone and not locked and (others := holders(root)):
            raise EnvironmentProblem(
                f"store {root}: this file system has no locks, and the store may be in use by "
                f"{_named(others)}; when that has ended, delete the files run-* in {folder} and run again"
            )
        note = folder / f"run-{secrets.token_hex(8)}"
        with _opened(note) as own:
            try:
                if locked:
                    _try_lock(own, alone=True)
                _introduce(own, purpose)
                yield
            finally:
                with contextlib.suppress(OSError):
                    note.unlink(missing_ok=True)


def _acquire(root: Path, stream: IO[bytes], *, alone: bool, patience: float) -> bool:
    """Lock the store; return ``False`` where there are no locks."""
    end = time.monotonic() + patience
    while (found := _try_lock(stream, alone=alone)) is False:
        if time.monotonic() >= end:
            users = _named(holders(root)) or "somebody who left no name"
            raise EnvironmentProblem(
                f"store {root}: in use by {users}; cleaning up needs it alone, since a run may need any model; run "
                "this again when that has ended"
                if alone
                else f"store {root}: being cleaned up by {users}; run this again when that has ended"
            )
        time.sleep(0.05)
    return found is True


def _try_lock(stream: IO[bytes], *, alone: bool) -> bool | None:
    """Return whether the lock was free, ``None`` where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(stream, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno in _UNABLE:
            return None
        raise EnvironmentProblem(
            f"lock {stream.name}: {error.strerror}; point CU_CERT_STORE at another folder"
        ) from None
    return True


def _opened(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError as error:
        raise unwritable(path, error) from None


def _introduce(stream: IO[bytes], purpose: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    own = Holder(purpose=purpose, process=os.getpid(), host=platform.node()[:100], since=now)
    try:
        stream.write(json.dumps(asdict(own)).encode())
        stream.flush()
    except OSError as error:
        raise unwritable(Path(stream.name), error) from None


def holders(root: Path) -> tuple[Holder, ...]:
    """Return who uses a store now; without locks also those who were killed while they did."""
    found = []
    for path in sorted((root / LOCKS).glob("run-*")):
        try:
            with path.open("rb") as stream:
                if _try_lock(stream, alone=False) is not True:
                    found.append(_read_note(stream.read(4096)))
        except FileNotFoundError:
            continue  # it ended meanwhile
        except OSError as error:
            raise EnvironmentProblem(f"{path}: cannot be read ({error.strerror}); check its rights") from None
    return tuple(found)


def drop_notes(root: Path) -> None:
    """Remove the notes of those who were killed; only for who has the store alone."""
    for path in (root / LOCKS).glob("run-*"):
        with contextlib.suppress(OSError), path.open("rb") as stream:
            if _try_lock(stream, alone=False) is True:
                path.unlink(missing_ok=True)


def _read_note(data: bytes) -> Holder:
    try:
        found = json.loads(data)
        values = [found[name] for name in ("purpose", "host", "since")]
        if not all(isinstance(value, str) for value in values) or not isinstance(found["process"], int):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        return Holder(purpose="a run", process=0, host="?", since="?")
    purpose, host, since = ("".join(c if c.isprintable() else "?" for c in value[:100]) for value in values)
    return Holder(purpose=purpose, process=found["process"], host=host, since=since)


def _named(found: tuple[Holder, ...]) -> str:
    shown = ", ".join(str(one) for one in found[:3])
    return shown + (f" and {len(found) - 3} more" if len(found) > 3 else "")


# Claims: one byte a model of one file, which needs no clean-up. The system keeps such locks a process and drops all of
# them when the process closes the file anywhere, so a process opens it once and says itself which of its threads has
# which.


class _Board:
    """The file of claims as this process has it open."""

    def __init__(self, name: tuple[int, str], stream: IO[bytes]) -> None:
        self.name, self.stream, self.users = name, stream, 0
        self.taken: set[str] = set()


_BOARDS: dict[tuple[int, str], _Board] = {}
_GUARD: Final = threading.RLock()  # a claim may be dropped, and so closed, in the middle of another's turn


class Claims:
    """What one run is making; whoever else wants to make it waits, or makes something else meanwhile.

    Kept by the process that decides what is made, and only for what is being made just then, so that no two runs wait
    for each other. The threads of a process exclude each other, too. Dropped, it holds nothing any more.

    Args:
        root: The store.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / LOCKS / "claims"
        self._own: set[str] = set()
        self._board: _Board | None = None

    def take(self, key: str) -> bool:
        """Claim a model, or the cohort that it stands for, if nobody else is making it; return whether it is ours."""
        if key in self._own:
            return True
        with _GUARD:
            board = self._opened()
            if key not in board.taken and self._lock(board, key):
                board.taken.add(key)
                self._own.add(key)
            self._close_idle()
        return key in self._own

    def release(self, key: str) -> None:
        """Give a claim back; nothing happens when it is not ours."""
        if key not in self._own:
            return
        with _GUARD:
            assert self._board is not None
            self._own.discard(key)
            self._board.taken.discard(key)
            if fcntl is not None:
                with contextlib.suppress(OSError):
                    fcntl.lockf(self._board.stream, fcntl.LOCK_UN, 1, _place(key))
            self._close_idle()

    def close(self) -> None:
        """Give all claims back."""
        for key in tuple(self._own):
            self.release(key)

    def __del__(self) -> None:
        self.close()

    def _opened(self) -> _Board:
        if self._board is None:
            name = (os.getpid(), os.path.realpath(self._path))
            if name not in _BOARDS:
                _BOARDS[name] = _Board(name, _opened(self._path))
            self._board = _BOARDS[name]
            self._board.users += 1
        return self._board

    def _close_idle(self) -> None:
        if self._own or self._board is None:
            return
        board, self._board = self._board, None
        board.users -= 1
        if not board.users:
            board.stream.close()
            _BOARDS.pop(board.name, None)

    def _lock(self, board: _Board, key: str) -> bool:
        if fcntl is None:
            return True
        try:
            fcntl.lockf(board.stream, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
        except OSError as error:
            if error.errno in _BUSY:
                return False
            if error.errno not in _UNABLE:
                raise EnvironmentProblem(
                    f"lock {self._path}: {error.strerror}; point CU_CERT_STORE at another folder"
                ) from None
            _LOG.debug("no locks on %s: a model may be made twice", self._path)
        return True


def _place(key: str) -> int:
    return int(key[:15], 16)  # below 2^60; two models in one place would only wait for each other
