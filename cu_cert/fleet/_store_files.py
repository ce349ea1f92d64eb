"""How a store lies on disk: names, the format mark, writing, and putting damaged files aside."""

import contextlib
import errno
import json
import logging
import os
import re
import secrets
from pathlib import Path
from typing import Final

from cu_cert.errors import DataError, EnvironmentProblem

FORMAT: Final = 1
"""The format of the folder that this version writes; a store of a higher number is refused."""

MARK: Final = "store.json"
LOCKS: Final = "locks"
TIMING: Final = "timing"
DAMAGED: Final = "damaged"

KEY: Final = re.compile(r"[0-9a-f]{64}")
MODEL_FILE: Final = re.compile(r"([0-9a-f]{64})\.(json|pt|[0-9a-f]{16}\.(?:sig|npz))")
"""A file of a model: its address, and what it holds (entry, weights, or signals on one set of records; those of
older versions were archives, which nobody reads any more)."""
TEMPORARY: Final = re.compile(
    r"\.(?:[0-9a-f]{64}\.(?:json|pt|[0-9a-f]{16}\.(?:sig|npz))|[0-9a-f]{64}|store\.json)\.[0-9a-f]{16}"
)
"""A file that was being written: a hidden name that ends in random digits."""

_MARK_BYTES: Final = 1 << 16
_LOG: Final = logging.getLogger("cu_cert.store")


def require_format(root: Path) -> bool:
    """Return whether a folder is marked as a store; one without the mark may be new, or older than the mark.

    Raises:
        DataError: It is the store of a newer version, or the mark is damaged.
    """
    path = root / MARK
    try:
        with path.open("rb") as stream:
            found = json.loads(stream.read(_MARK_BYTES))
        version = found["schema"].removeprefix("cu-cert-store/")
        number = int(version) if version.isdecimal() and len(version) < 10 else 0
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f'{path}: damaged ({error}); expected {{"schema": "cu-cert-store/{FORMAT}"}}; delete this file, which '
            "loses no model, and run again"
        ) from None
    if not 1 <= number <= FORMAT:
        raise DataError(
            f"{path}: {str(found['schema'])[:60]!r}; this cu-cert reads stores up to cu-cert-store/{FORMAT}; use the "
            "version that made it or a newer one, or point CU_CERT_STORE at another folder"
        )
    return True


def mark(root: Path) -> None:
    """Mark a folder as a store, unless it is one.

    Raises:
        DataError: It is the store of a newer version.
        EnvironmentProblem: It cannot be written.
    """
    if not require_format(root):
        write(root / MARK, json.dumps({"schema": f"cu-cert-store/{FORMAT}"}).encode() + b"\n")


def write(path: Path, data: bytes) -> None:
    """Write a file of the store under a temporary name, then move it into place.

    It is not forced onto the disk, which would cost more than training a small model: after a power cut a file may be
    damaged, and since each is checked when it is read, its model is then made again.

    Raises:
        EnvironmentProblem: It cannot be written.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as stream:
                stream.write(data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> EnvironmentProblem:
    """Return what to say when a file of the store cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "the disk is full; free some space and run the same command again"
        return EnvironmentProblem(f"store file '{path}': {what}")
    return EnvironmentProblem(
        f"store file '{path}': cannot be written ({error.strerror or error}); check its rights, or point CU_CERT_STORE "
        "at a folder of yours"
    )


def set_aside(root: Path, path: Path, why: str) -> None:
    """Move a damaged file out of the way, so that what it held counts as missing and is made again, and say so.

    Raises:
        DataError: It cannot be moved.
    """
    target = root / DAMAGED / f"{path.name}.{secrets.token_hex(4)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    except FileNotFoundError:
        return  # somebody else has moved it
    except OSError as error:
        raise DataError(
            f"{path}: damaged ({why}), and cannot be moved aside ({error.strerror}); delete this file and run again"
        ) from None
    _LOG.warning(
        "cu-cert: warning: store file %s was damaged (%s); moved to %s, and what it held is made again",
        path,
        why,
        target,
    )
