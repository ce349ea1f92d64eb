"""Two pools of integer scores: bands around their tails, a bound from one threshold, draws without replacement.

Lower bounds are rounded down to the printed grid and upper statements up, with every irrational number enclosed, so
rounding can never help a prover. Higher scores are farther from a retrained model throughout.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from math import comb
from typing import Final

from .strict import Rejected
from .tails import DIGITS, cp_lower, enclose, exponential, floor_step, group_bound

_UP: Final = Context(prec=DIGITS, rounding=ROUND_CEILING)


def _require(alpha: Fraction, *pools: int) -> None:
    if not 0 < alpha < 1:
        raise Rejected(f"alpha {alpha}; expected a level in (0, 1)")
    if min(pools) < 1:
        raise Rejected(f"pools of {', '.join(map(str, pools))} models; expected at least one in each")


def ceil_step(value: Fraction) -> Fraction:
    """Round up to the printed grid."""
    return -floor_step(-value)


# --- An upper statement about threshold attackers ---------------------------------------------------------------------


def _half_width(models: int, alpha: Fraction, both: bool) -> Fraction:
    """Return sqrt(ln(2 / alpha) / (2 models)), or with ln(4 / alpha) for both sides of the band, rounded up."""
    # ln and sqrt round half-even whatever the context says, so one unit upwards makes each an upper end.
    logarithm = _UP.next_plus(_UP.ln(enclose((4 if both else 2) / alpha).high))
    return Fraction(_UP.next_plus(_UP.sqrt(_UP.divide(logarithm, Decimal(2 * models)))))


def _excess(first: list[int], second: list[int], growth: Fraction, both: bool) -> Fraction:
    """Return the largest of 0 and (share of ``first``) - growth (share of ``second``) over half-lines of scores.

    Args:
        first: Sorted scores.
        second: Sorted scores.
        growth: The factor e^eps, rounded down.
        both: Whether the half-lines to the left of a threshold count as well.
    """
    best = Fraction(0)
    for threshold in sorted(set(first)):  # elsewhere the first share is no larger and the second no smaller
        above = [len(pool) - bisect_left(pool, threshold) for pool in (first, second)]
        below = [bisect_right(pool, threshold) for pool in (first, second)]
        for one, other in (above, below) if both else (above,):
            best = max(best, Fraction(one, len(first)) - growth * Fraction(other, len(second)))
    return best


def delta_up(
    unlearned: Sequence[int], retrained: Sequence[int], eps: Fraction, alpha: Fraction, *, both: bool
) -> Fraction:
    """Bound what any attacker who thresholds this score can gain: true positives <= e^eps false positives + delta_up.

    The Dvoretzky-Kiefer-Wolfowitz inequality with Massart's constant (Massart 1990, Ann. Probab. 18) holds for every
    threshold at once, whatever the law of the score: each pool's empirical tail lies within t of the true one with
    probability 1 - alpha / 2, so delta_up = max(0, sup over thresholds) + t_U + e^eps t_R.

    Args:
        unlearned: Scores of the unlearned models, at least one.
        retrained: Scores of the retrained models, at least one.
        eps: From 0 to 1000.
        alpha: Level of the statement, in (0, 1); it is no part of a verdict's alpha.
        both: False: the attacker says "unlearned" from a threshold upwards, with t = sqrt(ln(2 / alpha) / (2 n)).
            True: he may say it downwards as well, and the two pools may change places, with ln(4 / alpha).

    Returns:
        The bound on the printed grid, rounded up, at most 1.

    Raises:
        Rejected: An empty pool, or a number out of range.
    """
    _require(alpha, len(unlearned), len(retrained))
    growth = _growth(eps)
    pools = sorted(unlearned), sorted(retrained)
    widths = [_half_width(len(pool), alpha, both) for pool in pools]
    bounds = [
        _excess(pools[one], pools[other], growth[0], both) + widths[one] + growth[1] * widths[other]
        for one, other in ([(0, 1), (1, 0)] if both else [(0, 1)])
    ]
    return min(ceil_step(max(bounds)), Fraction(1))


def delta_up_floor(unlearned: int, retrained: int, eps: Fraction, alpha: Fraction, *, both: bool) -> Fraction:
    """Return the smallest ``delta_up`` that pools of these sizes can reach, whatever their scores.

    Args:
        unlearned: Number of unlearned models, at least 1.
        retrained: Number of retrained models, at least 1.
        eps: As in :func:`delta_up`.
        alpha: As in :func:`delta_up`.
        both: As in :func:`delta_up`.

    Raises:
        Rejected: An empty pool, or a number out of range.
    """
    _require(alpha, unlearned, retrained)
    growth = _growth(eps)[1]
    widths = [_half_width(models, alpha, both) for models in (unlearned, retrained)]
    bounds = [widths[0] + growth * widths[1], *([widths[1] + growth * widths[0]] if both else [])]
    return min(ceil_step(max(bounds)), Fraction(1))


def _growth(eps: Fraction) -> tuple[Fraction, Fraction]:
    """Return e^eps rounded down and rounded up."""
    if eps < 0:
        raise Rejected(f"eps {eps}; expected at least 0")
    found = exponential(eps)
    return Fraction(found.low), Fraction(found.high)


# --- A lower bound from one threshold (design D1) ---------------------------------------------------------------------


def rates_bound(tpr: Fraction, fpr: Fraction, delta: Fraction, *, both: bool) -> Fraction:
    """Return the eps that a lower bound on the true and an upper bound on the false positive rate refute.

    max{ln((tpr - delta) / fpr), ln((1 - fpr - delta) / (1 - tpr)), 0}, rounded down (Jagielski et al. 2020,
    arXiv 2006.07709). The first is about P_U <= e^eps P_R + delta, the second about the sides exchanged.

    Args:
        tpr: Lower bound on the chance that an unlearned model is called unlearned, in [0, 1].
        fpr: Upper bound on the chance that a retrained one is, in [0, 1].
        delta: In [0, 1).
        both: Whether the guarantee is stated in both directions.
    """
    found = Fraction(0)
    for top, bottom in ((tpr - delta, fpr), (1 - fpr - delta, 1 - tpr)) if both else ((tpr - delta, fpr),):
        if top > bottom > 0:
            # ln(top / bottom) is the group bound with p = bottom and alpha - delta = top.
            found = max(found, group_bound(bottom, top, Fraction(0)))
    return found


def counts_bound(
    true: int, unlearned: int, false: int, retrained: int, alpha: Fraction, delta: Fraction, *, both: bool
) -> Fraction:
    """Return :func:`rates_bound` of the two Clopper-Pearson bounds, each at level alpha / 2.

    Args:
        true: Unlearned models that were called unlearned.
        unlearned: All unlearned models, at least 1.
        false: Retrained models that were.
        retrained: All retrained models, at least 1.
        alpha: Level of both together, in (0, 1).
        delta: In [0, 1).
        both: Whether the guarantee is stated in both directions.

    Raises:
        Rejected: A count or the level out of range.
    """
    _require(alpha, unlearned, retrained)
    if not (0 <= true <= unlearned and 0 <= false <= retrained):
        raise Rejected(f"{true} of {unlearned} and {false} of {retrained}; expected counts from 0 to the pool's size")
    tpr, fpr = cp_lower(unlearned, true, alpha / 2), 1 - cp_lower(retrained, retrained - false, alpha / 2)
    return rates_bound(tpr, fpr, delta, both=both)


def pool_threshold(
    unlearned: Sequence[int], retrained: Sequence[int], alpha: Fraction, delta: Fraction, *, both: bool
) -> int:
    """Choose the threshold of design D1 on models that are not counted afterwards.

    Candidates are the corners of the concave hull of the receiver operating characteristic: the raw ratios that the
    bound is made of are largest at one of them, and there are few. Of these the one with the largest
    :func:`counts_bound` is taken; among equals the one with the larger difference of rates, then the higher one.
    Any rule that looks at these models only would keep the bound valid.

    Args:
        unlearned: Calibration scores of unlearned models, at least one.
        retrained: Calibration scores of retrained models, at least one.
        alpha: Level of the later bound.
        delta: Of the later bound.
        both: As in the later bound.

    Returns:
        The threshold: a model that scores at least this much is called unlearned.

    Raises:
        Rejected: An empty pool or a level out of range.
    """
    _require(alpha, len(unlearned), len(retrained))
    first, second = sorted(unlearned), sorted(retrained)
    hull: list[tuple[int, int, int]] = [(0, 0, 0)]  # false, true positives and the threshold; the first is no candidate
    for threshold in sorted({*first, *second}, reverse=True):
        point = (len(second) - bisect_left(second, threshold), len(first) - bisect_left(first, threshold), threshold)
        while len(hull) > 1 and _turn(hull[-2], hull[-1], point) >= 0:
            hull.pop()
        hull.append(point)

    def merit(corner: tuple[int, int, int]) -> tuple[Fraction, int, int]:
        false, true, threshold = corner
        bound = counts_bound(true, len(first), false, len(second), alpha, delta, both=both)
        return bound, true * len(second) - false * len(first), threshold

    return max(hull[1:], key=merit)[2]


def _turn(first: tuple[int, int, int], middle: tuple[int, int, int], last: tuple[int, int, int]) -> int:
    """Twice the signed area of a triangle: positive for a turn to the left, so that the middle lies inside the hull."""
    return (middle[0] - first[0]) * (last[1] - first[1]) - (middle[1] - first[1]) * (last[0] - first[0])


# --- Draws without replacement ----------------------------------------------------------------------------------------


def hypergeometric_tail(population: int, marked: int, drawn: int, at_least: int) -> Fraction:
    """Return the exact chance that ``drawn`` of ``population`` items hold ``at_least`` or more of the marked ones.

    Args:
        population: All items.
        marked: Marked items among them.
        drawn: Items drawn without replacement.
        at_least: The count of marked items that is reached or exceeded.

    Raises:
        Rejected: More marked or drawn items than there are, or fewer than none.
    """
    if not (0 <= marked <= population and 0 <= drawn <= population):
        raise Rejected(f"{marked} marked and {drawn} drawn of {population}; expected numbers from 0 to {population}")
    fewest, most = max(at_least, 0, drawn + marked - population), min(marked, drawn)
    ways = sum(comb(marked, hits) * comb(population - marked, drawn - hits) for hits in range(fewest, most + 1))
    return Fraction(ways, comb(population, drawn))


def pools_differ(high: int, size: int, other_high: int, other_size: int) -> Fraction:
    """Return the two-sided p-value that two exchangeable pools hold as unequal counts above a fixed threshold.

    Twice the smaller of the two hypergeometric tails, at most 1.

    Args:
        high: Models of the first pool at or above the threshold.
        size: All models of the first pool.
        other_high: Models of the second pool at or above the threshold.
        other_size: All models of the second pool.

    Raises:
        Rejected: A count out of range.
    """
    population, marked = size + other_size, high + other_high
    if not (0 <= high <= size and 0 <= other_high <= other_size):
        raise Rejected(f"{high} of {size} and {other_high} of {other_size}; expected counts from 0 to the pool's size")
    above = hypergeometric_tail(population, marked, size, high)
    below = 1 - hypergeometric_tail(population, marked, size, high + 1)
    return min(2 * min(above, below), Fraction(1))
