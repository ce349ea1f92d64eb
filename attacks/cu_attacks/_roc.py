"""Receiver operating characteristic of a per-record attack, with intervals."""

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


def _split(scores: npt.ArrayLike, member: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return the scores of members and of the others.

    Raises:
        AttackError: Fewer than two of either kind, or wrong shapes.
    """
    values = vector(scores, "scores", size=len(member))
    inside, outside = values[member], values[~member]
    if min(len(inside), len(outside)) < 2:
        raise AttackError(f"member: {len(inside)} members and {len(outside)} others; expected at least two of each")
    return inside, outside


def area(scores: npt.ArrayLike, member: BoolArray, *, name: str, level: float = 0.95) -> Estimate:
    """Area under the curve with DeLong's interval on the logit scale (DeLong et al. 1988, Biometrics 44, eq. 3-5).

    Args:
        scores: One number a record, higher means member.
        member: Whether the record is in the request; both kinds must occur at least twice.
        name: What the estimate is called.
        level: Confidence level of the interval.

    Raises:
        AttackError: Fewer than two records of a kind, or wrong shapes.
    """
    inside, outside = _split(scores, member)
    both = stats.rankdata(np.concatenate([inside, outside]))
    above = (both[: len(inside)] - stats.rankdata(inside)) / len(outside)
    below = 1 - (both[len(inside) :] - stats.rankdata(outside)) / len(inside)
    auc = float(above.mean())
    variance = float(above.var(ddof=1) / len(inside) + below.var(ddof=1) / len(outside))
    # With perfect separation the plug-in variance is 0; one half-win keeps the interval honest.
    least = 0.5 / (len(inside) * len(outside))
    clipped = float(np.clip(auc, least, 1 - least))
    error = max(variance, least**2) ** 0.5 / (clipped * (1 - clipped))
    reach = float(stats.norm.ppf(0.5 + level / 2)) * error
    low, high = (float(special.expit(special.logit(clipped) + sign * reach)) for sign in (-1, 1))
    return Estimate(
        name=name,
        value=auc,
        low=min(low, auc),
        high=max(high, auc),
        level=level,
        method="DeLong, logit scale",
        n=(len(inside), len(outside)),
        shows_not=PANEL_LIMIT,
    )


def rate_at(scores: npt.ArrayLike, member: BoolArray, *, false_rate: float, name: str) -> Estimate:
    """True positive rate at the smallest threshold that keeps the false positive rate at most ``false_rate``.

    The interval is Clopper-Pearson for the true positives given that threshold; the threshold itself comes from the
    same never-trained records, so the number is descriptive.

    Args:
        scores: One number a record, higher means member.
        member: Whether the record is in the request; both kinds must occur at least twice.
        false_rate: Largest share of never-trained records above the threshold, in [0, 1].
        name: What the estimate is called.

    Raises:
        AttackError: Fewer than two records of a kind, or wrong shapes.
    """
    inside, outside = _split(scores, member)
    outside = np.sort(outside)[::-1]
    allowed = int(np.floor(false_rate * len(outside) + 1e-9))
    threshold = outside[allowed] if allowed < len(outside) else -np.inf
    hits, total = int((inside > threshold).sum()), len(inside)
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
