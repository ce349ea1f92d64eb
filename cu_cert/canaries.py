"""Candidates of a drill: records whose part in training a fair coin decides, drawn before any model is trained.

Four kinds. *Mislabelled* records carry a wrong label, which a model can only learn by heart. *Vulnerable* records are
those that models trained without them get most wrong. *Random* records are as they come. *Typical* records are those
that such models get most right; a model hardly needs to remember them, so guesses about them should be near one half.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cu_cert.errors import ConfigError, DataError
from cu_cert.records import IntArray, Records, make_records
from cu_cert.rng import Stream

KINDS: Final = ("mislabelled", "random", "vulnerable", "mixed")
MOST: Final = 300
"""Candidates unless somebody asks for another number, or the data are too few."""

CANARY: Final = "canary:"
"""What the id of a mislabelled record starts with; the rest is the id of the record behind it."""

_SCREENED: Final = ("vulnerable", "typical")
_SCREEN: Final = 4
"""Records looked at for each vulnerable or typical one that is taken."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool:
    """Records set aside before any model is trained.

    Args:
        records: Possible candidates, with the labels under which they would be trained, shape (p, ...).
        kinds: ``mislabelled``, ``random`` or ``screened``, one a record.
        sources: Ids of the training records that they come from, one a record.
        rest: The other training records; reference models see only these.
    """

    records: Records
    kinds: tuple[str, ...]
    sources: tuple[str, ...]
    rest: Records


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidates:
    """The m records that get a coin.

    Args:
        records: The candidates.
        kinds: What each of them is: ``mislabelled``, ``random``, ``vulnerable`` or ``typical``.
        columns: Their places among the records of the pool, shape (m,).
        base: R, the training records that stay in whatever the coins show.
    """

    records: Records
    kinds: tuple[str, ...]
    columns: IntArray
    base: Records

    def strata(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Return which candidates are of each kind, in the order of the kinds' names."""
        return {kind: np.array([own == kind for own in self.kinds]) for kind in sorted(set(self.kinds))}


def default_candidates(train: Records, kind: str) -> int:
    """Return m unless somebody asks for another number: 300, or a quarter of the records when these are few.

    Half of that for ``vulnerable``: picked from as many records, fewer are more vulnerable, and are told apart better.

    Args:
        train: D.
        kind: One of :data:`KINDS`.
    """
    most = min(MOST, len(train) // 4)
    return most // 2 if kind == "vulnerable" else most


def shares(kind: str, count: int) -> Mapping[str, int]:
    """Return how many candidates of each kind make up a drill.

    Args:
        kind: One of :data:`KINDS`.
        count: m.

    Raises:
        ConfigError: There is no such kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"--canaries {kind}: unknown; expected {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    if kind != "mixed":
        return {kind: count}
    quarter = count // 4
    return {"mislabelled": count - 3 * quarter, "random": quarter, "vulnerable": quarter, "typical": quarter}


def set_aside(train: Records, kind: str, count: int, *, rng: Stream) -> Pool:
    """Draw the possible candidates; every wrong label is fixed here, before any coin.

    Args:
        train: D.
        kind: One of :data:`KINDS`.
        count: m.
        rng: The drill's randomness.

    Raises:
        ConfigError: More than half of the training records would be set aside, or a wrong label needs a second class.
        DataError: An id is already called like a canary.
    """
    wanted = shares(kind, count)
    plain = sum(number for name, number in wanted.items() if name not in _SCREENED)
    taken = count - plain
    screened = min(_SCREEN * taken, len(train) // 2 - plain)
    if plain > len(train) // 2 or screened < 2 * taken:
        raise ConfigError(
            f"--candidates {count}: at most half of the {len(train)} training records may be set aside, and {kind} "
            f"candidates set aside {plain + 2 * taken}; expected at most {len(train) // 4}"
        )
    order = rng.child("draw").order(train.ids)
    ids = [train.ids[position] for position in order[: plain + screened]]
    kinds = ["mislabelled"] * wanted.get("mislabelled", 0) + ["random"] * wanted.get("random", 0)
    kinds += ["screened"] * screened
    names = [f"{CANARY}{own}" if kind == "mislabelled" else own for own, kind in zip(ids, kinds, strict=True)]
    for name in names:
        if name.startswith(CANARY) and name in train:
            raise DataError(f"records: id {name!r} is what the drill would call a canary; rename this record")
    rows = train.positions(ids)
    labels = [
        _wrong(train, own, rng) if kind == "mislabelled" else int(train.y[row])
        for own, kind, row in zip(ids, kinds, rows, strict=True)
    ]
    records = make_records(names, train.x[rows], labels, train.classes)
    by_name = {name: (kind, own) for name, kind, own in zip(names, kinds, ids, strict=True)}
    return Pool(
        records=records,
        kinds=tuple(by_name[name][0] for name in records.ids),
        sources=tuple(by_name[name][1] for name in records.ids),
        rest=train.without(ids),
    )


def _wrong(train: Records, identifier: str, rng: Stream) -> int:
    """Return a label that is not the record's own, each other one alike."""
    if len(train.classes) < 2:
        raise ConfigError("--canaries mislabelled: a wrong label needs a second class; try --canaries random")
    right = int(train.y[train.positions([identifier])[0]])
    return (right + 1 + rng.child("label", identifier).integer() % (len(train.classes) - 1)) % len(train.classes)


def choose(train: Records, pool: Pool, kind: str, count: int, margins: npt.NDArray[np.float64]) -> Candidates:
    """Choose the candidates from the pool; what was only looked at goes back among the records that stay in.

    Args:
        train: D.
        pool: What was set aside.
        kind: One of :data:`KINDS`.
        count: m.
        margins: Margins that the reference models give the pool, shape (references, p).
    """
    wanted = shares(kind, count)
    kinds = list(pool.kinds)
    looked_at = [column for column, own in enumerate(kinds) if own == "screened"]
    ranked = sorted(looked_at, key=lambda column: (float(margins[:, column].mean()), column))
    for column in ranked[: wanted.get("vulnerable", 0)]:
        kinds[column] = "vulnerable"
    for column in ranked[len(ranked) - wanted.get("typical", 0) :]:
        kinds[column] = "typical"
    columns = np.array([column for column, own in enumerate(kinds) if own != "screened"], dtype=np.int64)
    return Candidates(
        records=pool.records.select(pool.records.ids[column] for column in columns),
        kinds=tuple(kinds[column] for column in columns),
        columns=columns,
        base=train.without(pool.sources[column] for column in columns),
    )


def joined(base: Records, candidates: Records, coins: Sequence[int]) -> Records:
    """Return the base with those candidates that their coins put in.

    Args:
        base: R.
        candidates: All candidates.
        coins: One coin a candidate, 1 puts it in.
    """
    inside = candidates.select(name for name, coin in zip(candidates.ids, coins, strict=True) if coin)
    return make_records(
        base.ids + inside.ids,
        np.concatenate([base.x, inside.x]),
        np.concatenate([base.y, inside.y]),
        base.classes,
    )
