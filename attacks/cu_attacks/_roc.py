"""Receiver operating characteristic of a per-record attack, with intervals.

Every interval treats the records of either kind as independent draws *given the model*; none of them is a statement
about the procedure that made the model.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from cu_attacks._types import AttackError, BoolArray, Estimate, FloatArray, vector
from cu_certificates.check.tails import cp_lower, cp_upper

PANEL_LIMIT = "a small number does not show that nothing is left, and the attack judges records, not the procedure"


def roc_points(scores: npt.ArrayLike, member: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return false and true positive rates at every threshold, from (0, 0) to (1, 1).

    Args:
        scores: One number a record, higher means member.
        member: Whether the record is in the request.
    """
    values = vector(scores, "scores", size=len(member))
    order = np.argsort(-values, kind="stable")
    hits, last = member[order], np.append(np.diff(values[order]) != 0, True)
    true, false = np.cumsum(hits)[last], np.cumsum(~hits)[last]
    start = np.zeros(1)
    return np.concatenate([start, false / max(false[-1], 1)]), np.concatenate([start, true / max(true[-1], 1)])


def members_and_others(scores: npt.ArrayLike, member: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the scores of members and of the others.

    Raises:
        AttackError: Fewer than two of either kind, or wrong shapes.
    """
    chosen = np.asarray(member)
    values = vector(scores, "scores")
    if chosen.dtype != np.bool_ or chosen.shape != values.shape:
        raise AttackError(f"member: {chosen.dtype} of shape {chosen.shape}; expected booleans of shape {values.shape}")
    inside, outside = values[chosen], values[~chosen]
    if min(len(inside), len(outside)) < 2:
        raise AttackError(f"member: {len(inside)} members and {len(outside)} others; expected at least two of each")
    return inside, outside


def share_of(level: float, parts: int) -> Fraction:
    """Return one of ``parts`` equal shares of the error 1 - level.

    Raises:
        AttackError: The level is out of range.
    """
    if not 0 < level < 1:
        raise AttackError(f"level: {level}; expected a confidence level in (0, 1)")
    return (1 - Fraction(level).limit_denominator(10**9)) / parts


def area(scores: npt.ArrayLike, member: npt.ArrayLike, *, name: str, level: float = 0.95) -> Estimate:
    """Area under the curve with the wider of two intervals, at either end.

    DeLong's on the logit scale (DeLong et al. 1988, Biometrics 44, eq. 3-5), with a t quantile of the smaller side, and
    the score-type one of Newcombe 2006 (Stat. Med. 25, method 5). DeLong's alone is far too narrow where few or no
    pairs are out of order, because there its variance, too, is estimated as nearly 0.

    Args:
        scores: One number a record, higher means member.
        member: Whether the record is in the request; both kinds must occur at least twice.
        name: What the estimate is called.
        level: Confidence level of the interval.

    Raises:
        AttackError: Fewer than two records of a kind, or wrong shapes.
    """
    inside, outside = members_and_others(scores, member)
    both = stats.rankdata(np.concatenate([inside, outside]))
    above = (both[: len(inside)] - stats.rankdata(inside)) / len(outside)
    below = 1 - (both[len(inside) :] - stats.rankdata(outside)) / len(inside)
    sizes, tail = (len(inside), len(outside)), float(share_of(level, 2))
    method = "the wider of DeLong (logit scale, t) and Newcombe (method 5)"
    found = area_from(above, below, float(stats.t.ppf(1 - tail, min(sizes) - 1)), name=name, level=level, method=method)
    low, high = score_ends(found.value, sizes, float(stats.norm.ppf(1 - tail)))
    return replace(found, low=min(found.low, low), high=max(found.high, high))


def score_ends(auc: float, sizes: tuple[int, int], quantile: float, share: float = 1.0) -> tuple[float, float]:
    """Return the two areas t with (auc - t)^2 = quantile^2 share V(t): Newcombe 2006, Stat. Med. 25, method 5.

    V is the variance of the area between two exponential laws. It is taken at t and not at the estimate, so it does not
    vanish where few or no pairs are out of order.

    Args:
        auc: The estimate.
        sizes: Observations on each side.
        quantile: Of the interval's law.
        share: Variance as a share of that of a single comparison, in (0, 1]; below 1 for a mean over comparisons.
    """
    one, two = sizes
    pairs = (one + two) / 2 - 1

    def outside(t: float) -> bool:
        variance = t * (1 - t) / (one * two) * (1 + pairs * (1 - t) / (2 - t) + pairs * t / (1 + t))
        return (auc - t) ** 2 > quantile**2 * share * variance

    ends = []
    for end in (0.0, 1.0):
        near, far = auc, end
        for _ in range(60):
            middle = (near + far) / 2
            near, far = (near, middle) if outside(middle) else (middle, far)
        ends.append(far)
    return ends[0], ends[1]


def area_from(
    above: FloatArray, below: FloatArray, quantile: float, *, name: str, level: float, method: str
) -> Estimate:
    """Return the area and its interval from the structural components of both sides.

    Args:
        above: Share of the others that each member beats, ties half.
        below: Share of the members that beat each of the others.
        quantile: Of the interval's law, at (1 + level) / 2.
        name: What the estimate is called.
        level: Confidence level.
        method: How the interval was computed.
    """
    sizes = (len(above), len(below))
    auc = float(np.clip(above.mean(), 0, 1))
    variance = float(above.var(ddof=1) / sizes[0] + below.var(ddof=1) / sizes[1])
    # With perfect separation the plug-in variance is 0; one half-win keeps the interval honest.
    least = 0.5 / (sizes[0] * sizes[1])
    clipped = float(np.clip(auc, least, 1 - least))
    reach = quantile * max(variance, least**2) ** 0.5 / (clipped * (1 - clipped))
    low, high = (float(special.expit(special.logit(clipped) + sign * reach)) for sign in (-1, 1))
    return Estimate(
        name=name,
        value=auc,
        low=min(low, auc),
        high=max(high, auc),
        level=level,
        method=method,
        n=sizes,
        shows_not=PANEL_LIMIT,
    )


def rate_at(scores: npt.ArrayLike, member: npt.ArrayLike, *, false_rate: float, name: str) -> Estimate:
    """True positive rate at the smallest threshold that keeps the false positive rate at most ``false_rate``.

    The interval is Clopper-Pearson for the true positives given that threshold; the threshold itself comes from the
    same never-trained records, so the number is descriptive. :func:`exact_rate_at` accounts for the threshold.

    Args:
        scores: One number a record, higher means member.
        member: Whether the record is in the request; both kinds must occur at least twice.
        false_rate: Largest share of never-trained records above the threshold, in [0, 1].
        name: What the estimate is called.

    Raises:
        AttackError: Fewer than two records of a kind, wrong shapes, or a rate out of range.
    """
    inside, outside = members_and_others(scores, member)
    hits, allowed = _hits_at(inside, outside, false_rate)
    total = len(inside)
    alpha = Fraction(1, 40)
    return Estimate(
        name=name,
        value=hits / total,
        low=float(cp_lower(total, hits, alpha)),
        high=float(cp_upper(total, hits, alpha)),
        level=0.95,
        method=f"Clopper-Pearson given the threshold ({allowed} of {len(outside)} false positives)",
        n=(total, len(outside)),
        shows_not=PANEL_LIMIT,
    )


def _hits_at(inside: FloatArray, outside: FloatArray, false_rate: float) -> tuple[int, int]:
    """Return members above the empirical threshold, and how many of the others may lie above it."""
    if not 0 <= false_rate <= 1:
        raise AttackError(f"false_rate: {false_rate}; expected a rate in [0, 1]")
    allowed = int(np.floor(false_rate * len(outside) + 1e-9))
    threshold = np.sort(outside)[::-1][allowed] if allowed < len(outside) else -np.inf
    return int((inside > threshold).sum()), allowed


def exact_rate_at(
    scores: npt.ArrayLike, member: npt.ArrayLike, *, false_rate: float, name: str, level: float = 0.95
) -> Estimate:
    """True positive rate at a *true* false positive rate, with an interval that is exact for both kinds of record.

    The rate is the largest that any threshold with a true false positive rate of at most ``false_rate`` reaches. Beyond
    the k-th largest of n never-trained scores lies a share of never-trained records that is distributed like the k-th
    smallest of n uniform numbers (Wilks 1941, Ann. Math. Stat. 12: distribution-free tolerance limits). So k can be
    chosen from n alone such that the share is at most the wanted one, and another k such that it is at least that, each
    with error (1 - level) / 4; Clopper-Pearson bounds on the members beyond either threshold take the other half. Ties
    only widen the interval. With too few never-trained records no threshold is safe, and the lower end is 0.

    Args:
        scores: One number a record, higher means member.
        member: Whether the record is in the request; both kinds must occur at least twice.
        false_rate: False positive rate, in (0, 1).
        name: What the estimate is called.
        level: Confidence level.

    Raises:
        AttackError: Fewer than two records of a kind, wrong shapes, or a rate or level out of range.
    """
    inside, outside = members_and_others(scores, member)
    alpha = share_of(level, 4)
    if not 0 < false_rate < 1:
        raise AttackError(f"false_rate: {false_rate}; expected a rate in (0, 1)")
    total, n = len(inside), len(outside)
    ranked = np.sort(outside)[::-1]
    below = stats.binom.cdf(np.arange(n), n, false_rate)  # P[fewer than k of n lie beyond a true share], k = 1 .. n
    safe = int((below <= float(alpha)).sum())  # the share beyond the safe-th largest is at most false_rate
    wide = int((1 - below > float(alpha)).sum()) + 1  # the share from the wide-th largest upwards is above it
    high_hits = int((inside >= ranked[wide - 1]).sum()) if wide <= n else total
    low = float(cp_lower(total, int((inside > ranked[safe - 1]).sum()), alpha)) if safe else 0.0
    needed = int(np.ceil(np.log(float(alpha)) / np.log1p(-false_rate)))
    note = "" if safe else f"; a lower end above 0 takes {needed} never-trained records"
    return Estimate(
        name=name,
        value=_hits_at(inside, outside, false_rate)[0] / total,
        low=low,
        high=float(cp_upper(total, high_hits, alpha)),
        level=level,
        method=f"exact (tolerance limits, Clopper-Pearson){note}",
        n=(total, n),
        shows_not=PANEL_LIMIT,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """A band that holds the whole curve.

    Args:
        false: False positive rates, rising from 0 to 1; between two of them the band is that of the left one.
        low: Lower end of the true positive rate at each.
        high: Upper end.
        margin: Half-widths of the two distribution bands, members and others.
        level: Confidence that the curve lies in the band everywhere.
        method: How it was computed.
        n: Members and others.
        assumptions: What it rests on.
        shows_not: What a reader must not conclude.
    """

    false: FloatArray
    low: FloatArray
    high: FloatArray
    margin: tuple[float, float]
    level: float
    n: tuple[int, int]
    method: str = "Dvoretzky-Kiefer-Wolfowitz bands of both score distributions, each at level sqrt(level)"
    assumptions: str = "records of either kind are independent draws, given the model"
    shows_not: str = PANEL_LIMIT


def _margins(sizes: tuple[int, int], level: float) -> tuple[float, float]:
    """Return both half-widths; the kinds are independent, so the joint level is the product of the two."""
    alpha = 1 - (1 - float(share_of(level, 1))) ** 0.5
    one, two = (float(np.sqrt(np.log(2 / alpha) / (2 * size))) for size in sizes)
    return one, two


def roc_band(scores: npt.ArrayLike, member: npt.ArrayLike, *, level: float = 0.95) -> Band:
    """Return a simultaneous confidence band for the curve.

    With probability ``level`` both empirical distributions lie within their Dvoretzky-Kiefer-Wolfowitz half-widths t1
    (members) and t0 (others) of the true ones at *every* threshold (constant 2: Massart 1990, Ann. Probab. 18). Then at
    every true false positive rate x the curve lies between the empirical one at x - t0, minus t1, and the empirical one
    at x + t0, plus t1. The band holds for the curve of non-randomised thresholds. Its width is the same everywhere, so
    it says little at small false positive rates: there :func:`exact_rate_at` is the sharper statement.

    Args:
        scores: One number a record, higher means member.
        member: Whether the record is in the request; both kinds must occur at least twice.
        level: Confidence level of the whole band.

    Raises:
        AttackError: Fewer than two records of a kind, wrong shapes, or a level out of range.
    """
    inside, outside = members_and_others(scores, member)
    sizes = len(inside), len(outside)
    t1, t0 = _margins(sizes, level)
    false, true = roc_points(scores, np.asarray(member))

    def curve(at: FloatArray) -> FloatArray:
        """Largest true positive rate at a false positive rate of at most ``at``; 0 before the curve begins."""
        where = np.searchsorted(false, at, side="right") - 1
        return np.where(where < 0, 0.0, true[np.maximum(where, 0)])

    # Steps move by t0; the shift is added and taken off again in floats, so a step is looked up a hair to its right.
    grid = np.unique(np.clip(np.concatenate([[0.0, 1.0], false + t0, false - t0]), 0, 1))
    low = np.clip(curve(grid - t0 + 1e-12) - t1, 0, 1)
    high = np.clip(curve(grid + t0 + 1e-12) + t1, 0, 1)
    return Band(false=grid, low=low, high=high, margin=(t1, t0), level=level, n=sizes)


def advantage(scores: npt.ArrayLike, member: npt.ArrayLike, *, name: str, level: float = 0.95) -> Estimate:
    """Largest membership advantage TPR - FPR over all thresholds, with an interval that knows it was searched for.

    The best threshold is chosen on the data, so the value alone is biased upwards; the interval is that of the band
    (:func:`roc_band`) and holds whatever threshold is chosen. The largest balanced accuracy is (1 + advantage) / 2.

    Args:
        scores: One number a record, higher means member.
        member: Whether the record is in the request; both kinds must occur at least twice.
        name: What the estimate is called.
        level: Confidence level of the interval.

    Raises:
        AttackError: Fewer than two records of a kind, wrong shapes, or a level out of range.
    """
    inside, outside = members_and_others(scores, member)
    sizes = len(inside), len(outside)
    false, true = roc_points(scores, np.asarray(member))
    value = float((true - false).max())
    reach = sum(_margins(sizes, level))
    return Estimate(
        name=name,
        value=value,
        low=max(0.0, value - reach),
        high=min(1.0, value + reach),
        level=level,
        method="largest over all thresholds, interval from the simultaneous band",
        n=sizes,
        shows_not=PANEL_LIMIT,
    )
