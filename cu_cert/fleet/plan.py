"""What a fleet must make: members, each fixed by recipe, records, seed and (for an edit) its parent and method."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from cu_cert.errors import ConfigError
from cu_certificates.check.strict import canonical

_HALF: Final = re.compile(r"half:([0-9a-f]{64}):(0|[1-9][0-9]*):([01])")


@dataclass(frozen=True)
class Half:
    """A random half of all records of a project, held-out ones included, and never the other half of its pair.

    Whether a record is in it depends on the record's id, the seed and the pair alone. So whatever is asked to be
    deleted later, each of its records is outside exactly one model of each pair.

    Args:
        seed: 64 hexadecimal digits.
        pair: Number of the pair, from 0.
        side: 0 or 1; the two halves of a pair hold each record once.
    """

    seed: str
    pair: int
    side: int

    @classmethod
    def parse(cls, name: str) -> "Half | None":
        """Return the half that a member's ``records`` names, ``None`` when it names something else."""
        found = _HALF.fullmatch(name)
        return None if found is None else cls(found[1], int(found[2]), int(found[3]))

    def __str__(self) -> str:
        return f"half:{self.seed}:{self.pair}:{self.side}"

    def holds(self, identifier: str) -> bool:
        """Return whether a record is in this half."""
        key = bytes.fromhex(self.seed) + self.pair.to_bytes(8, "big")
        return hashlib.blake2b(identifier.encode(), key=key, digest_size=1).digest()[0] & 1 == self.side


@dataclass(frozen=True)
class Seat:
    """What fixes one model of a cohort: its label, records and seed, as in :class:`Member`."""

    label: str
    records: str
    seed: str


@dataclass(frozen=True)
class Cohort:
    """Models that train together in one program.

    Which matrices are multiplied together may change the last bits, so the bits of each depend on the whole cohort;
    therefore a cohort is fixed by the plan, is part of its members' addresses, and is repeated whole.

    Args:
        seats: Its models, at least 2.
    """

    seats: tuple[Seat, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of its models, in order."""
        seats = [[seat.records, seat.seed] for seat in self.seats]
        return hashlib.sha256(canonical(["cu-cert-cohort/1", seats])).hexdigest()

    def members(self) -> "tuple[Member, ...]":
        """Return its models."""
        return tuple(Member(label=seat.label, records=seat.records, seed=seat.seed, cohort=self) for seat in self.seats)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model of a fleet.

    Args:
        label: What the model is for, for progress lines; no part of its identity.
        records: ``all`` for D, ``retain`` for D without the request, or a :class:`Half` as text.
        seed: 64 hexadecimal digits, from which all of its randomness derives.
        method: ``None`` for a trained model, else the unlearning method that edits ``parent``.
        options: The method's options as the user gave them.
        sources: Digest of the sources of a method outside the tree, else empty.
        parent: The trained model that the method starts from.
        empty: Whether the method is given an empty request, on a model that never saw the records ("retrain+noop").
        cohort: The models that it trains together with; ``None`` when it is trained alone.
    """

    label: str
    records: str
    seed: str
    method: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    sources: str = ""
    parent: "Member | None" = None
    empty: bool = False
    cohort: Cohort | None = None

    def __post_init__(self) -> None:
        if self.records not in ("all", "retain") and Half.parse(self.records) is None:
            raise ConfigError(f"fleet member {self.label}: records {self.records!r}; expected all, retain or a half")
        if (self.method is None) != (self.parent is None):
            raise ConfigError(f"fleet member {self.label}: a method needs a parent, and only a method does")

    def lineage(self) -> tuple["Member", ...]:
        """Return the models that must exist in order, this one last."""
        return (*self.parent.lineage(), self) if self.parent else (self,)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a member's bits depend on besides the member itself.

    Args:
        recipe: Digest of the recipe.
        records: Digest of D and of D without the request, by the names that members use; under ``universe`` that of
            all records, of which halves are drawn.
        request: Digest of the forget ids.
        code: Digest of the program that trains and edits.
        environment: Digest of the environment fingerprint.
        device: Where cohorts are trained: ``cpu``, or the name of an accelerator.
    """

    recipe: str
    records: Mapping[str, str]
    request: str
    code: str
    environment: str
    device: str = "cpu"

    def key(self, member: Member) -> str:
        """Return the content address (hex) of a member."""
        document: dict[str, object] = {
            "kind": "cu-cert-model/1",
            "recipe": self.recipe,
            "records": self._records(member.records),
            "seed": member.seed,
            "code": self.code,
            "environment": self.environment,
            "engine": "single" if member.cohort is None else "vectorised",
        }
        if member.cohort is not None:
            # The names of record sets mean something else in another project, so what they stand for is part of it.
            sets = {seat.records: self._records(seat.records) for seat in member.cohort.seats}
            document |= {"cohort": member.cohort.digest, "sets": sets, "device": self.device}
        if member.parent is not None:
            document |= {
                "method": member.method,
                "options": canonical_options(member.options),
                "sources": member.sources,
                "parent": self.key(member.parent),
                "request": "" if member.empty else self.request,
            }
        return hashlib.sha256(canonical(document)).hexdigest()

    def _records(self, name: str) -> str | list[str]:
        return [name, self.records["universe"]] if Half.parse(name) else self.records[name]


def canonical_options(options: Mapping[str, object]) -> dict[str, object]:
    """Return options with decimals as text, since digests and certificates hold no floats."""
    return {key: repr(value) if isinstance(value, float) else value for key, value in options.items()}


@dataclass(frozen=True)
class FleetPlan:
    """The models to make and how they are grouped.

    Members of a group train together and an unfinished group is repeated whole, so a model's bits depend on the plan
    alone and never on where a run was cut. A model that is trained alone, or made by a method, is a group of its own.

    Args:
        groups: Groups of members, in the order in which they are wanted; parents stand before children.
    """

    groups: tuple[tuple[Member, ...], ...]

    def __post_init__(self) -> None:
        for group in self.groups:
            cohort = group[0].cohort
            if len(group) != (1 if cohort is None else len(cohort.seats)) or any(one.cohort != cohort for one in group):
                raise ConfigError("fleet plan: a group is one model, or exactly the models of one cohort")


def fleet_plan(members: Iterable[Member]) -> FleetPlan:
    """Plan members, parents before children, none twice; a member of a cohort brings the whole of it."""
    found: dict[str | int, tuple[Member, ...]] = {}
    for member in members:
        for one in member.lineage():
            key = id(one) if one.cohort is None else one.cohort.digest
            if key not in found:
                found[key] = (one,) if one.cohort is None else one.cohort.members()
    return FleetPlan(tuple(found.values()))


def in_cohorts(members: Sequence[Member], size: int) -> tuple[Member, ...]:
    """Return trained members seated in cohorts of at most ``size``, in the order given.

    Args:
        members: Models without a parent, none twice.
        size: Most models of a cohort; below 2 everyone is trained alone.
    """
    found: list[Member] = []
    for start in range(0, len(members), max(size, 1)):
        part = members[start : start + max(size, 1)]
        if len(part) > 1:
            cohort = Cohort(tuple(Seat(one.label, one.records, one.seed) for one in part))
            found += [replace(one, cohort=cohort) for one in part]
        else:
            found += part
    return tuple(found)
