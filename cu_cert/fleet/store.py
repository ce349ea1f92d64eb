"""The content-addressed store: a finished model, its signals and its cost, by key.

Every write goes to a temporary file that is then renamed, so a reader never sees half a model and two writers of the
same key cannot disturb each other (their bytes are equal). Everything is checked when it is read. A model is a
function of its address, so a damaged file is moved aside with a warning, counts as missing, and is made again.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cu_cert.errors import DataError
from cu_cert.fleet._store_entry import Damaged, Entry, described, entry_bytes, load_entry, read_entry
from cu_cert.fleet._store_files import KEY, MODEL_FILE, TIMING, mark, require_format, set_aside, write
from cu_cert.fleet._store_locks import Claims, Holder, hold, holders
from cu_cert.fleet._store_signals import read_signals, signals_bytes
from cu_cert.model_file import model_bytes
from cu_cert.signals import Signals
from cu_certificates._files import make_folder

if TYPE_CHECKING:
    import torch

__all__ = ["Bundle", "Claims", "Entry", "Holder", "Store", "described"]

_HOUR: Final = 3600.0
"""Use of a model is noted at most this often (seconds), by the time stamp of its entry."""


@dataclass(frozen=True)
class Bundle:
    """A finished member as bytes, for a store that the maker cannot write to.

    Args:
        entry: Its entry.
        signals: Its signals, by query.
        weights: Its weights; empty when the run failed.
    """

    entry: bytes
    signals: Mapping[str, bytes] = field(default_factory=dict)
    weights: bytes = b""


class Store:
    """A folder of finished models.

    Args:
        root: The folder; made when it is first written to.

    Raises:
        DataError: It is the store of a newer version.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._marked = require_format(root)

    # Who uses it

    def hold(self, purpose: str) -> AbstractContextManager[None]:
        """Use the store together with other runs; while somebody does, nothing is cleaned up.

        Args:
            purpose: What for, such as ``audit``; told to whoever wants to clean up.

        Raises:
            EnvironmentProblem: It is being cleaned up for long, or cannot be written.
        """
        return hold(self.root, purpose)

    def claims(self) -> Claims:
        """Return what is needed to say which models this run is making, so that no other run makes them, too."""
        mark(self.root)
        return Claims(self.root)

    def holders(self) -> tuple[Holder, ...]:
        """Return who uses the store now."""
        return holders(self.root)

    # Where things lie

    def _path(self, key: str, suffix: str) -> Path:
        return self.root / key[:2] / f"{key}{suffix}"

    def entry_path(self, key: str) -> Path:
        """Return where the entry of a key lies; a failed run is tried again only after it is deleted."""
        return self._path(key, ".json")

    def model_path(self, key: str) -> Path:
        """Return where the model of a key lies."""
        return self._path(key, ".pt")

    def _signals_path(self, key: str, query: str) -> Path:
        return self._path(key, f".{query[:16]}.sig")

    # Reading

    def entry(self, key: str) -> Entry | None:
        """Return the entry of a finished member, ``None`` when it was never finished, or was damaged.

        Raises:
            DataError: It was damaged, and cannot be moved aside.
        """
        path = self.entry_path(key)
        try:
            entry = load_entry(path, key)
        except FileNotFoundError:
            return None
        except Damaged as why:
            set_aside(self.root, path, str(why))
            return None
        _used(path)
        return entry

    def peek(self, key: str) -> Entry | None:
        """Return :meth:`entry` for who only looks: no use is noted, and what is damaged stays where it is."""
        try:
            return load_entry(self.entry_path(key), key)
        except (FileNotFoundError, Damaged):
            return None

    def signals(self, key: str, query: str) -> Signals | None:
        """Return a model's signals on the records of a query, ``None`` when they were never measured, or were damaged.

        Raises:
            DataError: They were damaged, and cannot be moved aside.
        """
        path = self._signals_path(key, query)
        try:
            return read_signals(path.read_bytes(), key, query)
        except FileNotFoundError:
            return None
        except (Damaged, OSError) as why:
            set_aside(self.root, path, str(why))
            return None

    def settled(self, wanted: Mapping[str, str]) -> set[str]:
        """Return those members that are measured, or known to fail, by one look into each folder.

        Their files are there; what is in them is checked when they are read.

        Args:
            wanted: The query of each member, by address.
        """
        names, found = self._names({key[:2] for key in wanted}), set()
        for key, query in wanted.items():
            if f"{key}.json" not in names:
                continue
            if f"{key}.{query[:16]}.sig" in names:
                _used(self.entry_path(key))
                found.add(key)
            elif (entry := self.entry(key)) is not None and entry.problem:
                found.add(key)
        return found

    def known(self) -> set[str]:
        """Return the addresses of all finished members."""
        return {name[:64] for name in self._names() if name.endswith(".json")}

    def loadable(self, keys: Iterable[str]) -> set[str]:
        """Return those members whose weights are there; cleaning up may have removed them and kept the signals."""
        wanted = set(keys)
        names = self._names({key[:2] for key in wanted})
        return {key for key in wanted if f"{key}.pt" in names}

    def _names(self, prefixes: Iterable[str] | None = None) -> set[str]:
        folders = (f"{number:02x}" for number in range(256)) if prefixes is None else prefixes
        found: set[str] = set()
        for folder in folders:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root / folder) as names:
                found.update(one.name for one in names if MODEL_FILE.fullmatch(one.name))
        return found

    def drop_model(self, key: str, why: str) -> None:
        """Move a model's damaged weights aside; its entry stays and says what they must be when they are made again.

        Raises:
            DataError: They cannot be moved aside.
        """
        set_aside(self.root, self.model_path(key), why)

    # Writing

    def place(self, key: str) -> Path:
        """Make room for a model and return where it goes; it counts as finished only after :meth:`finish`."""
        self._mark()
        path = self.model_path(key)
        make_folder(path.parent)
        return path

    def put_model(self, key: str, model: "torch.nn.Module") -> None:
        """Keep a model's weights; it counts as finished only after :meth:`finish`."""
        self._write(self.model_path(key), model_bytes(model))

    def finish(self, key: str, entry: Entry) -> Entry:
        """Mark a member as finished, or as failed when the entry names a problem.

        Returns:
            The entry as it was written: with the time, and the digest of the weights file that lies at its place.
        """
        if not entry.problem and not entry.file:
            with contextlib.suppress(FileNotFoundError), self.model_path(key).open("rb") as stream:
                # A drill keeps no weights that nobody needs again.
                digest, size = hashlib.file_digest(stream, "sha256").hexdigest(), os.fstat(stream.fileno()).st_size
                entry = replace(entry, file=digest, size=size)
        if not entry.created:
            entry = replace(entry, created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        self._write(self.entry_path(key), entry_bytes(key, entry))
        return entry

    def put_signals(self, key: str, query: str, signals: Signals) -> None:
        """Keep a model's signals on the records of a query."""
        self._write(self._signals_path(key, query), signals_bytes(key, query, signals))

    # Carrying members from one store to another

    def export(self, key: str, queries: Iterable[str], *, weights: bool = True) -> Bundle:
        """Return a finished member as bytes, checked.

        Args:
            key: Its address.
            queries: The queries whose signals go with it.
            weights: Whether its weights go with it.

        Raises:
            DataError: Something of it is missing or damaged.
        """
        entry = self.entry(key)
        if entry is None:
            raise DataError(f"{self.entry_path(key)}: there is no such model in the store; make it first")
        if entry.problem:
            return Bundle(entry_bytes(key, entry))
        parts: dict[str, bytes] = {}
        for query in queries:
            signals = self.signals(key, query)
            if signals is None:
                raise DataError(f"{self._signals_path(key, query)}: not there; measure the model first")
            parts[query] = signals_bytes(key, query, signals)
        data = b""
        if weights:
            path = self.model_path(key)
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror}); delete the entry and run again") from None
            _require_weights(entry, data, str(path))
        return Bundle(entry_bytes(key, entry), parts, data)

    def ingest(self, key: str, bundle: Bundle) -> Entry:
        """Keep a member that was made elsewhere, entry last; what is there already stays.

        Args:
            key: The address that it must have.
            bundle: What :meth:`export` of the other store returned.

        Raises:
            DataError: It is damaged, another member, or another model than the one that is here; nothing is kept then.
            EnvironmentProblem: It cannot be written.
        """
        where = f"model {key[:12]}, as it arrived"
        try:
            if not KEY.fullmatch(key):
                raise Damaged("its address is no SHA-256")
            entry = read_entry(bundle.entry, key)
            signals = {query: read_signals(data, key, query) for query, data in bundle.signals.items()}
        except Damaged as why:
            raise DataError(f"{where}: {why}; expected what export() returned; make it again") from None
        kept = self.entry(key)
        if kept is not None and kept.model != entry.model:
            raise DataError(
                f"{where}: it is another model than the one that is here; the recipe does not repeat itself there; "
                f"delete {self.entry_path(key)} and the files beside it whose names begin alike, and run again"
            )
        if bundle.weights:
            _require_weights(entry, bundle.weights, where)
            if not self.model_path(key).exists():
                self._write(self.model_path(key), bundle.weights)
        for query, found in signals.items():
            self.put_signals(key, query, found)
        if kept is not None:
            return kept
        self._write(self.entry_path(key), entry_bytes(key, entry))
        return entry

    # Costs, for forecasts

    def typical_seconds(self, recipe: str) -> float | None:
        """Return the last noted cost of a model of this recipe, ``None`` when none was noted."""
        try:
            return float((self.root / TIMING / recipe).read_text("ascii"))
        except (OSError, ValueError):
            return None

    def note_seconds(self, recipe: str, seconds: float) -> None:
        """Note what a model of this recipe costs, for forecasts of other plans."""
        self._write(self.root / TIMING / recipe, f"{seconds:.6f}".encode())

    def _write(self, path: Path, data: bytes) -> None:
        self._mark()
        write(path, data)

    def _mark(self) -> None:
        if not self._marked:
            mark(self.root)
            self._marked = True


def _require_weights(entry: Entry, data: bytes, where: str) -> None:
    if entry.file and hashlib.sha256(data).hexdigest() != entry.file:
        raise DataError(f"{where}: weights that do not fit the entry's digest; make the model again")


def _used(path: Path) -> None:
    """Note that a model is used, for cleaning up; a store that cannot be written is read all the same."""
    with contextlib.suppress(OSError):
        if abs(time.time() - path.stat().st_mtime) > _HOUR:
            os.utime(path)
