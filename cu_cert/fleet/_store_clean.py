"""What may go from a store, and in which order: the work of ``cu-cert fleet gc``."""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Final

from cu_cert.errors import ConfigError, DataError, EnvironmentProblem
from cu_cert.fleet._store_entry import kind_of
from cu_cert.fleet._store_files import DAMAGED, require_format
from cu_cert.fleet._store_locks import drop_notes, hold
from cu_cert.fleet._store_survey import Item, Survey, survey

_DAY: Final = 86400.0
_FRESH: Final = 3600.0
"""A temporary file younger than this (seconds) may still be written by somebody who holds no lock."""
_WEIGHTS: Final = {"original": 2.0, "retrained": 1.0, "shadow": 1.0, "edit": 1.0}
"""What weights are worth, by kind: those of originals are edited and measured anew for each request. Weights of these
kinds are made again when they are asked for; those of other kinds go with the rest of the model only."""
_REST: Final = 4.0
"""What entry and signals are worth: they are small, and all that an audit needs of a model that it has measured."""

_UNITS: Final = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([A-Za-z]{0,3})")


def parse_size(text: str) -> int:
    """Return a size in bytes, as a person writes it: ``500 MB``, ``1.5GiB``, ``123456``.

    Raises:
        ConfigError: It is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or found[2].upper() not in _UNITS:
        raise ConfigError(
            f"size {text[:40]!r}: expected a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB, as in 2GB"
        )
    return int(Decimal(found[1]) * _UNITS[found[2].upper()])


def human_size(size: int) -> str:
    """Write a number of bytes for a person, in powers of ten."""
    if size < 1000:
        return f"{size} B"
    for unit in ("KB", "MB", "GB", "TB"):
        scaled = size / _UNITS[unit]
        if scaled < 999.5 or unit == "TB":
            return f"{scaled:.1f} {unit}" if scaled < 99.95 else f"{scaled:.0f} {unit}"
    raise AssertionError


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What was removed, or would be.

    Args:
        root: The store.
        models: Models of which everything was removed.
        weights: Models of which the weights were removed and the rest was kept.
        leftovers: Files of runs that were cut, damaged files, and files without an entry.
        freed: Bytes.
        left: Bytes that are left.
        dry_run: Whether nothing was removed.
    """

    root: Path
    models: int
    weights: int
    leftovers: int
    freed: int
    left: int
    dry_run: bool


@dataclass(frozen=True)
class _Step:
    """Files that go together; entries stand first, so that nobody takes for finished what is half removed.

    Args:
        files: Bytes by path.
        models: Models that are gone with it.
        weights: Change of the number of models without weights.
    """

    files: Mapping[Path, int]
    models: int = 0
    weights: int = 0

    @property
    def size(self) -> int:
        return sum(self.files.values())


def clean_store(root: Path, *, limit: int | None = None, older: float | None = None, dry_run: bool = False) -> Cleaning:
    """Remove what is of least use: leftovers always, then what was used least recently.

    What goes together is a cohort, or a model that was trained alone. Weights go before entry and signals, which count
    as used four times as recently. Failed runs stay, since to forget one would be to try it again.

    Args:
        root: The store.
        limit: Bytes that may be left; ``None`` for any number.
        older: Days; what was not used for longer goes, whatever the limit. ``None`` keeps what is old.
        dry_run: Whether to say what would be removed, and remove nothing.

    Raises:
        EnvironmentProblem: Somebody uses the store, or a file cannot be removed.
        DataError: The folder is no store, or that of a newer version.
    """
    if not root.exists():
        return Cleaning(root=root, models=0, weights=0, leftovers=0, freed=0, left=0, dry_run=dry_run)
    if not require_format(root):
        raise DataError(
            f"{root}: is no store of cu-cert (it has no store.json), so nothing is removed; check CU_CERT_STORE and "
            "[audit] store. A store of an older version gets the file with its next run"
        )
    if dry_run:
        return _clean(root, limit, older, dry_run=True)
    with hold(root, "fleet gc", alone=True):
        return _clean(root, limit, older, dry_run=False)


def _clean(root: Path, limit: int | None, older: float | None, *, dry_run: bool) -> Cleaning:
    found, now = survey(root), time.time()
    leftovers = _leftovers(found, now)
    left = found.size - leftovers.size
    units = _units(found)
    old = [unit for unit in units if older is not None and now - _used(unit) > older * _DAY]
    done = [leftovers, *(_whole(unit) for unit in old)]
    left -= sum(step.size for step in done[1:])
    for step in _in_order([unit for unit in units if unit not in old], now):
        if limit is None or left <= limit:
            break
        done.append(step)
        left -= step.size
    if not dry_run:
        for step in done:
            _remove(step.files)
        _tidy(root)
    return Cleaning(
        root=root,
        models=sum(step.models for step in done),
        weights=sum(step.weights for step in done),
        leftovers=len(leftovers.files),
        freed=found.size - left,
        left=left,
        dry_run=dry_run,
    )


def _leftovers(found: Survey, now: float) -> _Step:
    files = {path: size for path, size in found.leftovers.items() if now - found.ages[path] > _FRESH}
    files |= found.damaged
    for item in found.items:
        if item.entry is None:  # without its entry nobody finds the rest again; it is made anew
            files |= item.sizes
    return _Step(files)


Unit = Sequence[Item]


def _units(found: Survey) -> list[Unit]:
    """Return the models that did not fail, in cohorts."""
    units: dict[str, list[Item]] = {}
    for item in found.items:
        if item.entry is not None and not item.entry.problem:
            units.setdefault(item.entry.cohort or item.key, []).append(item)
    return list(units.values())


def _used(unit: Unit) -> float:
    return max(item.used for item in unit)


def _whole(unit: Unit) -> _Step:
    return _Step({path: size for item in unit for path, size in _entry_first(item)}, models=len(unit))


def _entry_first(item: Item) -> list[tuple[Path, int]]:
    return sorted(item.sizes.items(), key=lambda one: one[0].suffix != ".json")


def _in_order(units: Sequence[Unit], now: float) -> Iterator[_Step]:
    """Yield what may go, the least recently used first, as its worth has it."""
    steps: list[tuple[float, int, _Step]] = []
    for unit in units:
        age = max(now - _used(unit), 0.0)
        kinds = {kind_of(item.entry) for item in unit if item.entry is not None}
        weights = {path: size for item in unit for path, size in item.weights.items()}
        whole = _whole(unit)
        if kinds <= _WEIGHTS.keys():
            steps.append((age / max(_WEIGHTS[kind] for kind in kinds), 0, _Step(weights, weights=len(weights))))
            rest = {path: size for path, size in whole.files.items() if path not in weights}
            whole = replace(whole, files=rest, weights=-len(weights))
        steps.append((age / _REST, 1, whole))
    for _, _, step in sorted(steps, key=lambda one: (-one[0], one[1])):
        if step.files:
            yield step


def _remove(files: Mapping[Path, int]) -> None:
    for path in files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise EnvironmentProblem(
                f"{path}: cannot be removed ({error.strerror}); check its rights and run again"
            ) from None


def _tidy(root: Path) -> None:
    """Remove folders that are empty now, and the notes of runs that were killed."""
    drop_notes(root)
    for folder in (*(root / f"{number:02x}" for number in range(256)), root / DAMAGED):
        with contextlib.suppress(OSError):  # it is absent, or something lies in it
            folder.rmdir()
