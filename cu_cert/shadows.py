"""Shadows as numbers: what models of random halves of all records say about the records that an audit asks about.

Shadows were measured on all records once, when they were made. So an audit of whatever request reads its columns and
trains nothing; and since halves come in pairs, each record is outside exactly one model of each pair.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cu_attacks._types import BoolArray, FloatArray
from cu_cert.errors import DataError
from cu_cert.fleet.plan import Half, Member
from cu_cert.fleet.store import Store
from cu_cert.fleet.worker import Workshop

FEWEST_PAIRS = 2
"""Pairs that the attacks need: with one model of a kind a record's spread cannot be told."""


@dataclass(frozen=True, eq=False)
class Shadows:
    """Pairs of models of complementary halves, on the request's and the held-out records.

    Both models of a pair stand in neighbouring rows.

    Args:
        margin: What each model says about each record, finite float64, shape (models, records), request first.
        inside: Whether the model was trained on the record, shape (models, records).
        models: Digest of each model's tensors.
        planned: How many models were planned; more than there are when some failed.

    Raises:
        DataError: Shapes disagree, a model stands twice, or a record is not in exactly one model of a pair.
    """

    margin: FloatArray
    inside: BoolArray
    models: tuple[str, ...]
    planned: int

    def __post_init__(self) -> None:
        if self.margin.shape != self.inside.shape or len(self.models) != len(self.margin) or len(self.models) % 2:
            raise DataError(
                f"shadows: margins of shape {self.margin.shape}, halves of shape {self.inside.shape}, "
                f"{len(self.models)} models; expected equal shapes and an even number of models"
            )
        if len(set(self.models)) != len(self.models):
            raise DataError("shadows: two of them are the same model; expected seeds of their own")
        if not (self.inside[::2] ^ self.inside[1::2]).all():
            raise DataError("shadows: a record is not in exactly one model of each pair; expected complementary halves")

    def __len__(self) -> int:
        return len(self.models)

    def without(self, models: Iterable[str]) -> "Shadows":
        """Leave out every pair that holds one of these models: a model that fits an attack is not judged by it.

        Args:
            models: Digests of tensors.
        """
        gone = np.isin(self.models, list(models)).reshape(-1, 2).any(axis=1)
        return self if not gone.any() else self.pairs([int(pair) for pair in np.flatnonzero(~gone)])

    def pairs(self, numbers: Sequence[int]) -> "Shadows":
        """Return some of the pairs.

        Args:
            numbers: Their places among the pairs, from 0.
        """
        rows = [row for number in numbers for row in (2 * number, 2 * number + 1)]
        return Shadows(self.margin[rows], self.inside[rows], tuple(self.models[row] for row in rows), self.planned)

    @property
    def enough(self) -> bool:
        """Whether there are enough for an attack."""
        return len(self) >= 2 * FEWEST_PAIRS

    def lines(self) -> list[str]:
        """Say what became of those that failed; nothing when none did."""
        failed = self.planned - len(self)
        if not failed:
            return []
        left = "the attacks that need them are left out" if not self.enough else f"{len(self)} others serve the attacks"
        return [f"{failed} of {self.planned} shadows failed, or the other half of their pair did: {left}"]


def read_shadows(workshop: Workshop, members: Sequence[Member]) -> Shadows:
    """Read what finished shadows say about the records of this request; no model is loaded.

    One model's signals are in memory at a time, beside the columns that are asked for. A pair of which a model failed
    is left out whole, so that every record keeps as many models of either kind.

    Args:
        workshop: What they were made with.
        members: The shadows of a release, pair by pair.

    Raises:
        DataError: One is not finished, or is not the half that its place demands.
    """
    ids = (*workshop.forget_records.ids, *workshop.held_out.ids)
    columns = workshop.universe.positions(ids)
    margins = np.empty((len(members), len(ids)), dtype=np.float64)
    inside = np.empty(margins.shape, dtype=np.bool_)
    models: list[str] = []
    for pair in zip(members[::2], members[1::2], strict=True):
        half = Half.parse(pair[0].records)
        if half is None or half.side or pair[1].records != str(replace(half, side=1)):
            raise DataError(f"{pair[0].label} and {pair[1].label}: not the two halves of one pair")
        both = [found for member in pair if (found := _columns(workshop, member, columns)) is not None]
        if len(both) < 2:
            continue
        first = np.fromiter((half.holds(name) for name in ids), dtype=np.bool_, count=len(ids))
        for (digest, margin), known in zip(both, (first, ~first), strict=True):
            margins[len(models)], inside[len(models)] = margin, known
            models.append(digest)
    return Shadows(margins[: len(models)], inside[: len(models)], tuple(models), len(members))


def _columns(
    workshop: Workshop, member: Member, columns: "np.typing.NDArray[np.int64]"
) -> tuple[str, FloatArray] | None:
    """Return a shadow's digest and its margins on some records of the universe; ``None`` when it failed."""
    store, key = Store(workshop.store), workshop.identity.key(member)
    entry = store.entry(key)
    if entry is None:
        raise DataError(f"store {workshop.store}: model {key[:12]} ({member.label}) is gone; run again")
    if entry.problem:
        return None
    signals = store.signals(key, workshop.query_of(member))
    if signals is None or len(signals.margin) != len(workshop.universe):
        found = "no signals" if signals is None else f"signals on {len(signals.margin)} records"
        raise DataError(
            f"store {workshop.store}: model {key[:12]} ({member.label}) has {found}; expected those on all "
            f"{len(workshop.universe)} records; run again"
        )
    return (entry.model, signals.margin[columns]) if signals.usable else None
