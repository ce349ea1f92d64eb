"""The content-addressed store: a finished model, its signals and its cost, by key.

Every write goes to a temporary file that is then renamed, so a reader never sees half a model and two writers of the
same key cannot disturb each other (their bytes are equal).
"""

import io
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cu_cert.errors import DataError
from cu_cert.signals import Signals
from cu_certificates._files import make_folder, write_atomic


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the store knows about a finished member.

    Args:
        model: Digest of the model's tensors; empty when the run failed.
        seconds: CPU-seconds that making it took, without its parent.
        engine: How it was trained.
        environment: Digest of the environment fingerprint.
        problem: Why the run failed; empty when it did not.
    """

    model: str
    seconds: float
    engine: str
    environment: str
    problem: str = ""


class Store:
    """A folder of finished models.

    Args:
        root: The folder; made when it is first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, key: str, suffix: str) -> Path:
        return self.root / key[:2] / f"{key}{suffix}"

    def entry(self, key: str) -> Entry | None:
        """Return the entry of a finished member, ``None`` when it was never finished.

        Raises:
            DataError: The entry was damaged.
        """
        path = self.entry_path(key)
        try:
            return Entry(**json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, OSError) as error:
            raise DataError(f"{path}: damaged store entry ({error}); delete this file and run again") from None

    def entry_path(self, key: str) -> Path:
        """Return where the entry of a key lies; a failed run is tried again only after it is deleted."""
        return self._path(key, ".json")

    def model_path(self, key: str) -> Path:
        """Return where the model of a key lies."""
        return self._path(key, ".pt")

    def place(self, key: str) -> Path:
        """Make room for a model and return where it goes; it counts as finished only after :meth:`finish`."""
        path = self.model_path(key)
        make_folder(path.parent)
        return path

    def finish(self, key: str, entry: Entry) -> None:
        """Mark a member as finished, or as failed when the entry names a problem."""
        self._write(self.entry_path(key), json.dumps(asdict(entry), sort_keys=True).encode())

    def signals(self, key: str, query: str) -> Signals | None:
        """Return a model's signals on the records of a query, ``None`` when they were never measured."""
        path = self._path(key, f".{query[:16]}.npz")
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return Signals(arrays["margin"], arrays["correct"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path}: damaged signals ({error}); delete this file and run again") from None

    def put_signals(self, key: str, query: str, signals: Signals) -> None:
        """Keep a model's signals on the records of a query."""
        content = io.BytesIO()
        np.savez(content, margin=signals.margin, correct=signals.correct)
        self._write(self._path(key, f".{query[:16]}.npz"), content.getvalue())

    def typical_seconds(self, recipe: str) -> float | None:
        """Return the last noted cost of a model of this recipe, ``None`` when none was noted."""
        try:
            return float((self.root / "timing" / recipe).read_text("ascii"))
        except (OSError, ValueError):
            return None

    def note_seconds(self, recipe: str, seconds: float) -> None:
        """Note what a model of this recipe costs, for forecasts of other plans."""
        self._write(self.root / "timing" / recipe, f"{seconds:.6f}".encode())

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        make_folder(path.parent)
        write_atomic(path, data, what="store file")
