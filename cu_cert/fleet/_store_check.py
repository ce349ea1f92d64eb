"""Reading everything of a model again, to see whether it is what was written."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from cu_cert.errors import DataError
from cu_cert.fleet._store_entry import Damaged, Entry
from cu_cert.fleet._store_signals import read_signals
from cu_cert.model_file import load_state, state_digest


def damage_of(key: str, entry: Entry, files: Mapping[Path, int]) -> Iterator[tuple[Path, str]]:
    """Yield those files of a model that are not what was written, and what is wrong with each.

    Args:
        key: Its address.
        entry: Its entry.
        files: All its files.
    """
    for path in files:
        if path.suffix == ".pt" and (why := _weights(path, entry)):
            yield path, why
        elif path.suffix == ".sig":
            try:
                read_signals(path.read_bytes(), key, None)
            except FileNotFoundError:
                continue
            except (Damaged, OSError) as problem:
                yield path, str(problem)


def _weights(path: Path, entry: Entry) -> str:
    try:
        if entry.file:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            return "" if found == entry.file else "its digest does not fit the entry"
        # An entry of an older version knows its tensors only.
        return "" if state_digest(load_state(path)) == entry.model else "its tensors do not fit the entry"
    except FileNotFoundError:
        return ""
    except (OSError, DataError) as problem:
        return str(problem)
