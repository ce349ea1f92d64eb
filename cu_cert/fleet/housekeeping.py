"""What lies in a store, and what may go: the facts of ``cu-cert fleet status`` and the work of ``cu-cert fleet gc``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cu_cert.fleet._store_check import damage_of
from cu_cert.fleet._store_clean import Cleaning, clean_store, human_size, parse_size
from cu_cert.fleet._store_entry import Damaged, Entry, kind_of, load_entry
from cu_cert.fleet._store_locks import Holder, holders
from cu_cert.fleet._store_survey import Item, Survey, survey

__all__ = [
    "Cleaning",
    "Failed",
    "Here",
    "StoreStatus",
    "Tally",
    "clean_store",
    "human_size",
    "parse_size",
    "store_status",
    "survey",
]


@dataclass(frozen=True)
class Here:
    """What makes a model of use to the project at hand: digests of its recipe, of the program and of the machine."""

    recipe: str
    code: str
    environment: str


@dataclass(frozen=True)
class Tally:
    """Models and their bytes."""

    models: int = 0
    bytes: int = 0

    def plus(self, item: Item) -> "Tally":
        """Return the tally with one more."""
        return Tally(self.models + 1, self.bytes + item.size)


@dataclass(frozen=True)
class Failed:
    """A run that failed for a reason of its own.

    Args:
        label: What the model was for.
        problem: Why it failed.
        path: The entry; once it is deleted, the run is tried again.
        usable: Whether it belongs to the recipe, program and machine at hand.
    """

    label: str
    problem: str
    path: Path
    usable: bool


@dataclass(frozen=True, kw_only=True)
class StoreStatus:
    """The facts of a store.

    Args:
        root: The store.
        exists: Whether it is there.
        holders: Who uses it now.
        kinds: Models of the recipe, program and machine at hand, by kind.
        others: Models that the project at hand cannot use, by reason.
        failed: Runs that failed.
        leftovers: Files of runs that were cut, and models without an entry.
        aside: Files that were found damaged and moved aside.
        size: Bytes of everything.
        checked: Whether everything was read again.
        damage: What that found, by path.
    """

    root: Path
    exists: bool
    holders: tuple[Holder, ...]
    kinds: Mapping[str, Tally]
    others: Mapping[str, Tally]
    failed: tuple[Failed, ...]
    leftovers: Tally
    aside: Tally
    size: int
    checked: bool
    damage: Mapping[Path, str]


def store_status(root: Path, here: Here | None = None, *, verify: bool = False) -> StoreStatus:
    """Say what lies in a store.

    Args:
        root: The store; one that does not exist is empty.
        here: What makes a model of use; ``None`` outside a project, where all are counted by kind.
        verify: Whether everything is read again and held against its digests.

    Raises:
        DataError: It is the store of a newer version.
    """
    found = survey(root)
    kinds: dict[str, Tally] = {}
    others: dict[str, Tally] = {}
    failed: list[Failed] = []
    leftovers = Tally(len(found.leftovers), sum(found.leftovers.values()))
    for item in found.items:
        if item.entry is None:
            leftovers = leftovers.plus(item)
            continue
        why = _elsewhere(item.entry, here)
        kind = "failed" if item.entry.problem else kind_of(item.entry)
        tally, name = (others, why) if why else (kinds, kind)
        tally[name] = tally.get(name, Tally()).plus(item)
        if item.entry.problem:
            path = root / item.key[:2] / f"{item.key}.json"
            failed.append(Failed(item.entry.label or item.key[:12], item.entry.problem, path, not why))
    return StoreStatus(
        root=root,
        exists=root.exists(),
        holders=holders(root),
        kinds=kinds,
        others=others,
        failed=tuple(failed),
        leftovers=leftovers,
        aside=Tally(len(found.damaged), sum(found.damaged.values())),
        size=found.size,
        checked=verify,
        damage=dict(_damage(found)) if verify else {},
    )


def _elsewhere(entry: Entry, here: Here | None) -> str:
    """Return why a model is of no use to the project at hand; nothing when it is."""
    if here is None or entry.engine == "drill":
        return "" if here is None or entry.environment == here.environment else "environment"
    if entry.environment != here.environment:
        return "environment"
    if not entry.recipe:
        return "unknown"
    return "recipe" if entry.recipe != here.recipe else "program" if entry.code != here.code else ""


def _damage(found: Survey) -> Iterator[tuple[Path, str]]:
    for item in found.items:
        path = found.root / item.key[:2] / f"{item.key}.json"
        if item.entry is not None:
            yield from damage_of(item.key, item.entry, item.sizes)
        elif path in item.sizes:
            try:
                load_entry(path, item.key)
            except FileNotFoundError:
                continue
            except Damaged as why:
                yield path, str(why)
