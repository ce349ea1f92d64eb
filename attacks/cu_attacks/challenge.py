"""``challenge``: the forgetting quality of the NeurIPS 2023 unlearning challenge, with the null band that it lacks.

Triantafillou et al. 2024 (arXiv 2406.09073), as the released scorer computes it (google-deepmind's
unlearning_evaluation, metric.py). For each record, the largest ln((1 - delta - FPR) / FNR) or ln((1 - delta - FNR) /
FPR) over two families of rules on a grid; a bin of width 1/2 for this eps-hat; 1, 1/2, 1/4 ... points by bin; F is the
mean over records.

The rules are chosen on the models that they are counted on, and a rule with one error rate of 0 is thrown away. So
eps-hat is no bound on anything: two sets of retrained models reach 1.5 on average and F = 0.19, from eight models up.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, log

import numpy as np
import numpy.typing as npt

from cu_attacks._permute import Described, IntArray
from cu_attacks._splits import described, retrain_splits, three_pools
from cu_attacks._types import Attack, AttackError, BoolArray, FloatArray

DELTA = 1e-5
CAP = 50.0
PER_UNIT = 100
BUFFER = 2.0
LEFT = ceil(2 * BUFFER * PER_UNIT)
PEAKED = 0.01
LARGEST = 1e6
NEAR = 1e-6


@dataclass(frozen=True, kw_only=True)
class Challenge(Described):
    """The challenge's score; ``value`` is F.

    Args:
        per_record: eps-hat of each record, in [0, 50]; a biased estimate, never a bound.
        mean_eps: Their mean at the sizes of the band (over draws when the band is made from smaller sets).
        null_mean_eps: The same for retrained against retrained models.
        final: F times the ratios of retain and test accuracy to those of the retrained models, when these were given.
    """

    per_record: FloatArray = field(compare=False, repr=False)
    mean_eps: float
    null_mean_eps: float
    final: float | None


# --- One record ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def eps_table(models: int) -> FloatArray:
    """Return eps-hat of a rule for every count of errors, as a flat table.

    Args:
        models: Models in each pool.

    Returns:
        Entry ``hits * (models + 1) + false`` is for ``hits`` right calls on the first pool and ``false`` wrong ones on
        the second; -inf for a rule that the scorer throws away. In [0, 50] otherwise.
    """
    rate = np.arange(models + 1) / models
    missed, false = (1 - rate)[:, None], rate[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        ways = np.stack([np.log(1 - DELTA - false) - np.log(missed), np.log(1 - DELTA - missed) - np.log(false)])
    # fmax ignores the NaN of a rate of 1, as the scorer does.
    found = np.clip(np.fmax(ways[0], ways[1]), 0, CAP)
    found[np.isnan(found)] = -np.inf
    found[(missed == 0) ^ (false == 0)] = -np.inf
    found[-1, 0] = CAP  # no error at all
    flat: FloatArray = found.ravel()
    return flat


def grid_rank(values: FloatArray, start: FloatArray, stop: FloatArray, count: int) -> IntArray:
    """Count the points of ``linspace(start, stop, count)`` that are at most each value.

    The count follows from a division; where a value is as near to a grid point as rounding, from the point itself.

    Args:
        values: Shape (values,).
        start: Shape (grids,).
        stop: Shape (grids,), above ``start`` unless ``count`` is 1.
        count: Points of each grid.

    Returns:
        Shape (grids, values).
    """
    if count == 1:
        alone: IntArray = (values[None, :] >= start[:, None]).astype(np.int64)
        return alone
    step = (stop - start) / (count - 1)
    position = (values[None, :] - start[:, None]) / step[:, None]
    rank: IntArray = np.clip(np.floor(position) + 1, 0, count).astype(np.int64)
    nearest = np.rint(position)
    rows, columns = np.nonzero((np.abs(position - nearest) < NEAR) & (nearest >= 0) & (nearest < count))
    if len(rows):
        index = nearest[rows, columns]
        point = np.where(index == count - 1, stop[rows], index * step[rows] + start[rows])
        rank[rows, columns] = index.astype(np.int64) + (values[columns] >= point)
    return rank


def _below(first: FloatArray, second: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return all values sorted, and, at each cut between them, (first below) * (models + 1) + (second below)."""
    both = np.concatenate([first, second])
    order = np.argsort(both, kind="stable")
    weight = np.where(order < len(first), len(first) + 1, 1)
    return both[order], np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(weight)])


def _changes(rank: IntArray, count: int) -> BoolArray:
    """Mark the cuts that some grid point makes: after ``i`` of the sorted values, with a point beyond them."""
    rows = len(rank)
    edges = np.concatenate([np.zeros((rows, 1), dtype=np.int64), rank, np.full((rows, 1), count)], axis=1)
    marks: BoolArray = edges[:, 1:] > edges[:, :-1]
    return marks


def _single(high: FloatArray, low: FloatArray, table: FloatArray) -> float:
    """Return the best eps-hat of "at least c is the pool with the larger median", c on a grid over the pooled range."""
    values, below = _below(high, low)
    count = ceil((values[-1] - values[0]) * PER_UNIT)
    if count < 1:
        return -np.inf
    marks = _changes(grid_rank(values, values[:1], values[-1:], count), count)[0]
    return float(table[(below[-1] - below)[marks]].max())


def _window(narrow: FloatArray, wide: FloatArray, table: FloatArray) -> float:
    """Return the best eps-hat of "inside [l, r] is the pool with the smaller range", l and r on grids.

    The order of the sums is the scorer's, so that its grid, of 400 or by rounding 401 right ends, is met exactly.
    """
    values, below = _below(narrow, wide)
    width = narrow[-1] - narrow[0]
    start, stop = narrow[0] + width - BUFFER, narrow[-1] + BUFFER
    right = np.linspace(start, stop, ceil((stop - start) * PER_UNIT))
    ends = below[np.searchsorted(values, right, side="right")]
    group = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.diff(ends) != 0)])
    hopes = _hopes(values, below, right - width, ends, group, table)
    best = -np.inf
    for hope in np.unique(hopes)[::-1]:
        if best >= hope:
            break
        rows = hopes[group] == hope
        marks = _changes(grid_rank(values, right[rows] - width - BUFFER, right[rows] - width + BUFFER, LEFT), LEFT)
        best = max(best, float(table[_inside(ends[rows], below) * marks].max()))
    return best


def _inside(ends: IntArray, below: IntArray) -> IntArray:
    """Count what windows hold; when their ends are crossed both counts are 0, and the difference is not positive."""
    counts: IntArray = np.maximum(ends[:, None] - below[None, :], 0)
    return counts


def _hopes(
    values: FloatArray, below: IntArray, centre: FloatArray, ends: IntArray, group: IntArray, table: FloatArray
) -> FloatArray:
    """Return what each group of right ends with equal counts could reach if every left end in its range were tried.

    An upper limit that is cheap and seldom missed: only groups that could improve on what was found need the grid.
    """
    first = np.flatnonzero(np.diff(group, prepend=-1))
    last = np.append(first[1:], len(group)) - 1
    reach = BUFFER + 1 / PER_UNIT
    after = np.append(values, np.inf)[None, :] >= (centre[first] - reach)[:, None]
    before = np.insert(values, 0, -np.inf)[None, :] <= (centre[last] + reach)[:, None]
    found: FloatArray = table[_inside(ends[first], below) * (after & before)].max(axis=1)
    return found


def record_eps(unlearned: FloatArray, retrained: FloatArray) -> float:
    """Return eps-hat of one record; NaN when the scorer throws every rule away.

    Args:
        unlearned: Sorted signals, shape (models,).
        retrained: Sorted signals, shape (models,).
    """
    spans = unlearned[-1] - unlearned[0], retrained[-1] - retrained[0]
    if max(spans) == 0:
        # The scorer divides 0 by 0 here. One point for all is no difference; two points are a perfect separation.
        return 0.0 if unlearned[0] == retrained[0] else CAP
    if min(spans) / max(spans) < PEAKED:
        return CAP
    table = eps_table(len(unlearned))
    high, low = (retrained, unlearned) if np.median(retrained) > np.median(unlearned) else (unlearned, retrained)
    narrow, wide = (low, high) if high[-1] - high[0] >= low[-1] - low[0] else (high, low)
    best = max(_single(high, low, table), _window(narrow, wide, table))
    return best if best >= 0 else float("nan")


# --- All records -----------------------------------------------------------------------------------------------------


def epsilons(unlearned: FloatArray, retrained: FloatArray) -> FloatArray:
    """Return eps-hat of every record.

    Args:
        unlearned: Signals, shape (models, records).
        retrained: Signals, same shape.

    Raises:
        AttackError: On some record every rule is thrown away, where the released scorer stops, too.
    """
    one, two = np.sort(unlearned, axis=0).T, np.sort(retrained, axis=0).T
    found = np.array([record_eps(*pair) for pair in zip(one, two, strict=True)])
    if np.isnan(found).any():
        raise AttackError(
            f"record {int(np.isnan(found).argmax())}: every rule on the scorer's grid of 0.01 has exactly one error "
            f"rate of 0, so it has no eps-hat; give logit-scaled confidences of more than {len(unlearned)} models"
        )
    return found


def quality(eps: FloatArray, models: int) -> float:
    """Return F: the mean of 2^-k points for eps-hat in [k/2, (k + 1)/2), none beyond ceil(ln(models - 1)).

    Args:
        eps: eps-hat of each record.
        models: Models in each pool, at least 3.
    """
    bins = np.floor(2 * eps)
    return float(np.where(bins < 2 * ceil(log(models - 1)), 0.5**bins, 0.0).mean())


def challenge(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    spare: npt.ArrayLike | None = None,
    draws: int = 100,
    retain_accuracy: tuple[float, float] | None = None,
    test_accuracy: tuple[float, float] | None = None,
) -> Challenge:
    """Compute the challenge's score and its null band.

    Args:
        unlearned: Logit-scaled confidences ln(p_y / (1 - p_y)) on the request, shape (models >= 3, records).
        retrained: The same for as many retrained models.
        rng: Source of the splits behind the null band.
        spare: Further retrained models, for the null band only. With as many as retrained ones the band has the sizes
            of the value; without, it comes from half as many, and ``matched`` is the value at that size.
        draws: Splits behind the band.
        retain_accuracy: Accuracy on retained records of unlearned and of retrained models, each in (0, 1].
        test_accuracy: The same on held-out records; both or neither.

    Raises:
        AttackError: Shapes disagree, values are NaN, infinite or beyond +-1e6, too few models for the score or the
            band, a record on which the scorer has no eps-hat, or accuracies out of range.
    """
    values, sizes = three_pools(unlearned, retrained, spare, least=3)
    models = sizes[0]
    if sizes[1] != models:
        raise AttackError(f"retrained: {sizes[1]} models; the scorer needs as many as unlearned ones, {models}")
    if np.abs(values).max() > LARGEST:
        raise AttackError(f"unlearned, retrained: signals beyond +-{LARGEST:.0e}; expected logit-scaled confidences")
    final = _utility(retain_accuracy, test_accuracy)
    splits = retrain_splits(sizes, rng=rng, draws=draws, least=(3, 3), equal=True)
    seen: dict[tuple[bytes, bytes], FloatArray] = {}

    def eps(one: IntArray, two: IntArray) -> FloatArray:
        key = one.tobytes(), two.tobytes()
        if key not in seen:
            seen[key] = epsilons(values[one], values[two])
        return seen[key]

    found = described("F, 2023 challenge", lambda u, r: quality(eps(u, r), len(u)), splits)
    per_record = eps(*splits.everyone)
    return Challenge(
        **vars(found),
        per_record=per_record,
        mean_eps=float(np.mean([eps(*pair).mean() for pair in splits.matched or (splits.everyone,)])),
        null_mean_eps=float(np.mean([eps(*pair).mean() for pair in splits.null])),
        final=None if final is None else found.value * final,
    )


def _utility(retain: tuple[float, float] | None, test: tuple[float, float] | None) -> float | None:
    """Return the product of the two accuracy ratios, or nothing when no accuracies were given."""
    if retain is None and test is None:
        return None
    if retain is None or test is None or not all(0 < value <= 1 for value in (*retain, *test)):
        raise AttackError(f"retain_accuracy {retain}, test_accuracy {test}; expected two pairs in (0, 1], or neither")
    return retain[0] / retain[1] * test[0] / test[1]


ATTACK = Attack(
    name="challenge", kind="descriptive", paper="Triantafillou et al. 2024, arXiv 2406.09073", run=challenge
)
