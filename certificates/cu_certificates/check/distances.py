"""Unlearned against retrained models as two sets: a permutation test on the distances between them.

Under the null every model of both sets is one more draw from one law, so each way to call as many of them "unlearned"
is equally likely, and p = #{labellings whose energy distance is at least the true one} / (all labellings) is exact; so
it is over the true labelling and B random ones (Phipson and Smyth 2010, arXiv 1603.05766). The energy distance (Szekely
and Rizzo 2013, JSPI 143) is held in whole numbers. A detected difference is no eps, so the claim supports no verdict.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, combinations
from math import comb
from sys import byteorder
from typing import Final

from .coins import derive
from .common import Outcome, derived_value, planned, question_of
from .context import Context
from .fields import Node, printed
from .label_table import assignments
from .strict import Rejected
from .tables import Model, opened
from .tails import floor_step

MOST_MODELS: Final = 512
MOST_LABELLINGS: Final = 20_000
"""Up to so many labellings are all counted; beyond, the true one and :data:`RANDOM` random ones are."""

RANDOM: Final = 9_999
SCALE: Final = 1_000_000
"""Distances are whole millionths of the unit of the signals."""

MOST_DISTANCE: Final = 10**12
MIDDLE: Final = Fraction(95, 100)
"""The part of the labellings that lies in the printed range."""


@dataclass(frozen=True)
class Labelled:
    """Models with their distances.

    Args:
        distances: Row i holds the distances of model i to models 0 to i - 1, in millionths; shape (models, i).
        unlearned: Whether each model is an unlearned one; both kinds occur.
        key: Of the random labellings.
    """

    distances: Sequence[Sequence[int]]
    unlearned: Sequence[bool]
    key: bytes

    @property
    def sizes(self) -> tuple[int, int]:
        """Unlearned models and retrained ones."""
        count = sum(self.unlearned)
        return count, len(self.unlearned) - count


@dataclass(frozen=True)
class EnergyTest:
    """What the permutation test found.

    Args:
        labellings: How many were looked at, the true one among them.
        reached: How many of them have at least the true one's energy distance.
        statistic: The energy distance of the true labelling in the signals' unit, rounded down, at least 0.
        low: Of 95 in 100 labellings, the lower end, rounded down, at least 0.
        high: The upper end, rounded down, at least 0.
    """

    labellings: int
    reached: int
    statistic: Fraction
    low: Fraction
    high: Fraction

    @property
    def p(self) -> Fraction:
        """The exact p-value."""
        return Fraction(self.reached, self.labellings)


def distance_key(seed: bytes, plan_digest: str, nonce: str) -> bytes:
    """Return the key of all random labellings, from the committed audit seed and the plan's digest."""
    return derive(seed, "permute", plan_digest, nonce, "distances")


def energy_test(models: Labelled) -> EnergyTest:
    """Compare the two sets.

    Returns:
        The exact p-value with what it was counted from.
    """
    one, two = models.sizes
    energy = _energy(models.distances, one)
    values = list(map(energy, _labellings(models)))
    # E = 2 between / (n m) - within / n^2 - others / m^2, in units of n^2 m^2 millionths.
    unit = SCALE * (one * two) ** 2
    ordered = sorted(values)
    cut = ((1 - MIDDLE) / 2 * len(ordered)).__floor__()

    def shown(value: int) -> Fraction:
        return max(floor_step(Fraction(value, unit)), Fraction(0))

    return EnergyTest(
        labellings=len(values),
        reached=sum(value >= values[0] for value in values),
        statistic=shown(values[0]),
        low=shown(ordered[cut]),
        high=shown(ordered[-1 - cut]),
    )


def _labellings(models: Labelled) -> Iterator[Sequence[int]]:
    """Yield the places that each labelling calls unlearned, the true labelling first."""
    one, two = models.sizes
    if comb(one + two, one) > MOST_LABELLINGS:
        yield from assignments([0] * (one + two), models.unlearned, models.key, RANDOM)
        return
    true = tuple(place for place, bit in enumerate(models.unlearned) if bit)
    yield true
    yield from (chosen for chosen in combinations(range(one + two), one) if chosen != true)


def _energy(distances: Sequence[Sequence[int]], one: int) -> Callable[[Sequence[int]], int]:
    """Return the energy distance of a labelling, times n^2 m^2, as a function of the places in the first set.

    Each row of the whole matrix is packed into one integer of 64-bit lanes, so the rows of a set are added at once.

    Args:
        distances: As in :class:`Labelled`.
        one: n, the size of the first set.
    """
    size = len(distances)
    two = size - one
    full = [
        [*row, 0, *(distances[other][place] for other in range(place + 1, size))] for place, row in enumerate(distances)
    ]
    # A lane holds at most 512 * 10^12 < 2^63.
    packed = [int.from_bytes(array("Q", row).tobytes(), byteorder) for row in full]
    sums = [sum(row) for row in full]
    everything = sum(sums)

    def energy(chosen: Sequence[int]) -> int:
        lanes = array("Q", sum(map(packed.__getitem__, chosen)).to_bytes(8 * size, byteorder))
        within = sum(map(lanes.__getitem__, chosen))
        reach = sum(map(sums.__getitem__, chosen))
        between = reach - within
        others = everything - within - 2 * between
        return 2 * between * one * two - within * two * two - others * one * one

    return energy


def read_distances(
    lines: Sequence[Node], name: str, models: Sequence[tuple[bool, Model]], context: Context
) -> Labelled:
    """Read ``distances.jsonl``: an opening, then one line a judged model in the order of its table.

    Args:
        lines: The parsed lines.
        name: The file's name, for messages.
        models: Whether each judged model is an unlearned one, and the model.
        context: Where plan and digest stand.

    Raises:
        Rejected: The seed is not the committed one, a model is missing, stands elsewhere or failed, or a distance is
            none.
    """
    if not lines:
        raise Rejected(f"{name}: no line; expected an opening")
    lines[0].text("kind", "opening")
    seed, nonce = opened(lines[0], context.plan)
    require_sizes([bit for bit, _ in models], name)
    if len(lines) != 1 + len(models):
        raise Rejected(f"{name}: {len(lines)} lines; expected an opening and the {len(models)} judged models")
    found = []
    for place, (row, (_, model)) in enumerate(zip(lines[1:], models, strict=True)):
        row.text("kind", "model")
        if model.digest is None or row.hex("model") != model.digest:
            raise Rejected(f"{row.path}.model: not the judged model of this place, or that one failed")
        values = row.items("distances")
        if len(values) != place or not all(_is_distance(value) for value in values):
            raise Rejected(
                f"{row.path}.distances: expected {place} whole numbers from 0 to {MOST_DISTANCE}, one for each model "
                "before it"
            )
        found.append(values)
    return Labelled(found, [bit for bit, _ in models], distance_key(seed, context.plan_digest, nonce))


def _is_distance(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_DISTANCE


def require_sizes(unlearned: Iterable[bool], name: str) -> None:
    """Demand two models of either kind, and not more than 512 in all.

    Raises:
        Rejected: There are fewer, or more.
    """
    bits = list(unlearned)
    few = min(sum(bits), len(bits) - sum(bits))
    if few < 2 or len(bits) > MOST_MODELS:
        raise Rejected(f"{name}: {len(bits)} models, {few} of the rarer kind; expected 2 or more, {MOST_MODELS} in all")


def judged_models(context: Context) -> list[tuple[bool, Model]]:
    """Return the judged models of the procedure question in the order of their table, with whether each is unlearned.

    Raises:
        Rejected: The design opens slots until it has seen enough, or judges no sets of models; or the models share one
            original, and so are no independent draws.
    """
    design = context.design_name("procedure")
    if context.setting.text("original", "redrawn", "fixed") == "fixed":
        raise Rejected("all unlearned models started from one original, so the models are no independent draws")
    if design == "coins":
        return [(bool(bit), model) for bit, model in zip(context.slots.coins, context.slots.main, strict=True)]
    if design == "pools":
        pools = context.pools
        return list(chain(((True, one) for one in pools.unlearned), ((False, one) for one in pools.retrained)))
    raise Rejected(f"the design {design!r} has no two sets of models whose sizes were fixed beforehand")


def perm_p(claim: Node, context: Context) -> Outcome:
    """Count the labellings of the judged models that look at least as different as the true one."""
    planned(claim, False)
    question_of(claim, context, "procedure", keys=())
    claim.text("evidence", "distances")
    claim.text("statistic", "energy")
    models = judged_models(context)
    table = read_distances(context.rows("distances"), context.evidence_name("distances"), models, context)
    found, (one, two) = energy_test(table), table.sizes
    derived: dict[str, int | str] = {
        "unlearned": one,
        "retrained": two,
        "labellings": found.labellings,
        "asDifferent": found.reached,
        "value": printed(found.statistic),
        "p": str(found.p),
    }
    for key, value in derived.items():
        derived_value(claim, key, value)
    if claim.texts("interval") != [printed(found.low), printed(found.high)]:
        raise Rejected(f"{claim.path}.interval: expected {printed(found.low)} to {printed(found.high)}")
    context.assume(claim, "A1", "A2", "A10")
    return "assumed", (
        f"{found.reached} of {found.labellings} ways to name {one} of the {one + two} models look at least as "
        f"different: p = {found.p}; a difference of two sets is no eps and supports no verdict"
    )
