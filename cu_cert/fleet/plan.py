"""What a fleet must make: members, each fixed by recipe, records, seed and (for an edit) its parent and method."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from cu_cert.errors import ConfigError
from cu_certificates.check.strict import canonical

ENGINES: Final = ("single",)
"""How members may be trained; ``single`` is one model at a time, one thread, replayable bit for bit."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model of a fleet.

    Args:
        label: What the model is for, for progress lines; no part of its identity.
        records: ``all`` for D, ``retain`` for D without the request.
        seed: 64 hexadecimal digits, from which all of its randomness derives.
        method: ``None`` for a trained model, else the unlearning method that edits ``parent``.
        options: The method's options as the user gave them.
        sources: Digest of the sources of a method outside the tree, else empty.
        parent: The trained model that the method starts from.
        empty: Whether the method is given an empty request, on a model that never saw the records ("retrain+noop").
    """

    label: str
    records: Literal["all", "retain"]
    seed: str
    method: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    sources: str = ""
    parent: "Member | None" = None
    empty: bool = False

    def __post_init__(self) -> None:
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
        records: Digest of D and of D without the request, by the names that members use.
        request: Digest of the forget ids.
        code: Digest of the program that trains and edits.
        environment: Digest of the environment fingerprint.
        engine: How models are trained.
    """

    recipe: str
    records: Mapping[str, str]
    request: str
    code: str
    environment: str
    engine: str = "single"

    def key(self, member: Member) -> str:
        """Return the content address (hex) of a member."""
        document: dict[str, object] = {
            "kind": "cu-cert-model/1",
            "recipe": self.recipe,
            "records": self.records[member.records],
            "seed": member.seed,
            "code": self.code,
            "environment": self.environment,
            "engine": self.engine,
        }
        if member.parent is not None:
            document |= {
                "method": member.method,
                "options": canonical_options(member.options),
                "sources": member.sources,
                "parent": self.key(member.parent),
                "request": "" if member.empty else self.request,
            }
        return hashlib.sha256(canonical(document)).hexdigest()


def canonical_options(options: Mapping[str, object]) -> dict[str, object]:
    """Return options with decimals as text, since digests and certificates hold no floats."""
    return {key: repr(value) if isinstance(value, float) else value for key, value in options.items()}


@dataclass(frozen=True)
class FleetPlan:
    """The models to make and how they are grouped.

    Members of a group train together and an unfinished group is repeated whole, so a model's bits depend on the plan
    alone and never on where a run was cut. The ``single`` engine has groups of one.

    Args:
        groups: Groups of members.
        engine: One of :data:`ENGINES`.
    """

    groups: tuple[tuple[Member, ...], ...]
    engine: str = "single"

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigError(f"fleet engine {self.engine!r}: unknown; expected {' or '.join(ENGINES)}")
        if self.engine == "single" and any(len(group) != 1 for group in self.groups):
            raise ConfigError("fleet plan: the single engine trains groups of one model")


def single_plan(members: Iterable[Member]) -> FleetPlan:
    """Plan every member as a group of its own, parents before children, none twice."""
    found: dict[int, Member] = {}
    for member in members:
        for one in member.lineage():
            found.setdefault(id(one), one)
    return FleetPlan(tuple((member,) for member in found.values()))
