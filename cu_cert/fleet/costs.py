"""What a model costs by kind of work: measured while a fleet is made, kept in the store for the next one."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Final

from cu_cert.fleet.executor import Group
from cu_cert.fleet.plan import Half, Member
from cu_cert.fleet.store import Store
from cu_cert.fleet.worker import Workshop

MEASURE: Final = "measure"
"""The kind of work of a model that is there, and was never asked about these records."""


def kind_of(member: Member) -> str:
    """Return what kind of work a member is: how it is trained, or which method edits its parent."""
    if member.method is not None:
        return f"edit {member.method}"
    engine = "single" if member.cohort is None else "vectorised"
    return engine if Half.parse(member.records) is None else f"{engine} half"


def work_of(group: Group, workshop: Workshop) -> Counter[str]:
    """Return how many models of a group are not finished, by kind of work; all of them are of one kind."""
    standing = Counter(workshop.standing(member) for member in group)
    unfinished = standing["make"] + standing["measure"]
    if not unfinished:
        return Counter()
    # A cohort of which one model is missing is trained again whole.
    return Counter({kind_of(group[0]) if standing["make"] else MEASURE: unfinished})


class Costs:
    """Seconds on the wall that a model of one recipe takes a worker, by kind of work.

    What was measured in this run counts; before that, what the store remembers of earlier ones.

    Args:
        workshop: Recipe and store.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._store, self._recipe = Store(workshop.store), workshop.recipe.digest
        self._measured: dict[str, tuple[int, float]] = {}
        self._remembered: dict[str, float | None] = {}

    def add(self, kind: str, models: int, seconds: float) -> None:
        """Note what so many models of a kind took together."""
        count, total = self._measured.get(kind, (0, 0.0))
        self._measured[kind] = count + models, total + seconds

    def each(self, kind: str) -> float | None:
        """Return the seconds that a model of this kind takes, ``None`` when none was ever made."""
        if kind in self._measured:
            count, total = self._measured[kind]
            return total / count
        if kind not in self._remembered:
            self._remembered[kind] = self._store.typical_seconds(self._name(kind))
        return self._remembered[kind]

    def guessed(self, kind: str) -> float | None:
        """Return :meth:`each`, or what is most like it: models cost at most as much as one that is trained alone."""
        found = self.each(kind)
        if found is None and kind != "single":
            halved = self.each(kind.removesuffix(" half")) if kind.endswith(" half") else None
            found = halved if halved is not None else self.each("single")
        return self._store.typical_seconds(self._recipe) if found is None else found

    def total(self, models: Mapping[str, int]) -> float | None:
        """Return the seconds that models take one after another, ``None`` when nothing is known.

        Args:
            models: Their numbers by kind.
        """
        each = {kind: self.guessed(kind) for kind, count in models.items() if count}
        if any(seconds is None for seconds in each.values()):
            return None
        return sum(seconds * models[kind] for kind, seconds in each.items() if seconds is not None)

    def keep(self) -> None:
        """Leave what was measured to later runs."""
        for kind, (count, total) in self._measured.items():
            self._store.note_seconds(self._name(kind), total / count)
        self._measured.clear()

    def _name(self, kind: str) -> str:
        return hashlib.sha256(f"{self._recipe} {kind}".encode()).hexdigest()
