"""Temporary folders that nobody leaves behind: whoever comes next removes those whose process is gone.

A worker or a driver that is killed cannot clean up, and its folder holds models. So each folder carries a lock that the
system releases when its process ends, however it ends. Nothing here imports a numerical library.
"""

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_LOCK: Final = ".lock"
_LONGEST: Final = 20


class Scratch:
    """A private temporary folder of this process.

    Args:
        base: Folder in which it is made.
        prefix: Begins its name; at its start and end, folders of this prefix whose process is gone are removed.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, base: Path, prefix: str) -> None:
        sweep(base, prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove(self) -> None:
        """Remove the folder; a second call does nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            os.close(self._lock)


def sweep(base: Path, prefix: str) -> int:
    """Remove the folders of this user whose process is gone, and return how many there were.

    Args:
        base: Where they lie.
        prefix: How their names begin.
    """
    gone = 0
    for folder in base.glob(f"{prefix}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # not one of ours, or somebody else is removing it, or it is being made
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            gone += 1
        except OSError:
            pass  # its process lives
        finally:
            os.close(lock)
    return gone


def clear(folder: Path, patience: float) -> bool:
    """Remove a folder as soon as its process is gone, and return whether that came to pass.

    Args:
        folder: Path of a :class:`Scratch` of another process of this machine.
        patience: Seconds to wait.
    """
    end = time.monotonic() + patience
    while folder.exists():
        sweep(folder.parent, folder.name)
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def short_base() -> Path:
    """Return a folder for temporary files whose path is short: names of sockets may have about 100 bytes.

    Raises:
        OSError: There is none that can be written.
    """
    for name in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):
        if len(os.fsencode(name)) <= _LONGEST and os.access(name, os.W_OK | os.X_OK):
            return Path(name)
    raise OSError(f"no folder for temporary files with a path of at most {_LONGEST} bytes can be written; tried /tmp")
