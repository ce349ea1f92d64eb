"""Receiver operating characteristic of a per-record score between two sets of *models*: the model is the unit.

Scores are compared within a record only, each record thus against its own law. Records of one model are not
independent, so no interval counts them.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from cu_attacks._roc import PANEL_LIMIT, area_from, score_ends, share_of
from cu_attacks._types import AttackError, Estimate, FloatArray


def _pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return both sets of scores.

    Raises:
        AttackError: Fewer than two models of a kind, a value that is not finite, or sets about different records.
    """
    one, two = (np.asarray(value, dtype=np.float64) for value in (first, second))
    for values, side in ((one, "first"), (two, "second")):
        if values.ndim != 2 or len(values) < 2 or not values.shape[1] or not np.isfinite(values).all():
            raise AttackError(f"{side}: shape {values.shape}; expected finite scores (models >= 2, records >= 1)")
    if one.shape[1] != two.shape[1]:
        raise AttackError(f"second: scores of {two.shape[1]} records; expected {one.shape[1]} as in first")
    return one, two


def model_area(first: npt.ArrayLike, second: npt.ArrayLike, *, name: str, level: float = 0.95) -> Estimate:
    """Area under the curve of a per-record score between two sets of *models*, averaged over records.

    The interval is DeLong's with the comparison averaged over records in the place of a single comparison, on the logit
    scale, with a t quantile because models are few.

    Args:
        first: Scores of models of the kind sought, shape (models >= 2, records).
        second: Scores of the other models, shape (models >= 2, records).
        name: What the estimate is called.
        level: Confidence level of the interval.

    Raises:
        AttackError: Fewer than two models of a kind, or sets about different records.
    """
    one, two = _pair(first, second)
    wins = np.stack([((row > two) + 0.5 * (row == two)).mean(axis=1) for row in one])
    freedom = min(wins.shape) - 1
    quantile = float(stats.t.ppf(1 - float(share_of(level, 2)), freedom))
    method = f"DeLong over models, logit scale, t with {freedom} degrees of freedom"
    found = area_from(wins.mean(axis=1), wins.mean(axis=0), quantile, name=name, level=level, method=method)
    share = max(_together(one), _together(two))
    low, high = score_ends(found.value, (len(one), len(two)), quantile, share)
    return replace(found, low=min(found.low, low), high=max(found.high, high))


def _together(scores: FloatArray) -> float:
    """Return how much a mean over records varies between models, as a share of how much one record does.

    That is 1 / records for records that are independent within a model, 1 for those that always go together.
    """
    spread = scores.std(axis=0, ddof=1)
    standard = (scores - scores.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return float(np.clip(standard.mean(axis=1).var(ddof=1), 1 / scores.shape[1], 1.0))


def model_rate_at(first: npt.ArrayLike, second: npt.ArrayLike, *, false_rate: float, name: str) -> Estimate:
    """True positive rate over all pairs of model and record, at the smallest threshold with that rate of false ones.

    One threshold serves all records, so the scores must be on one scale (likelihood ratios are). The interval is
    Student's for the mean over models of each one's rate, given the threshold, and approximate.

    Args:
        first: Scores of models of the kind sought, shape (models >= 2, records).
        second: Scores of the other models, shape (models >= 2, records).
        false_rate: Largest share of pairs of the other models above the threshold, in [0, 1].
        name: What the estimate is called.

    Raises:
        AttackError: Fewer than two models of a kind, sets about different records, or a rate out of range.
    """
    one, two = _pair(first, second)
    if not 0 <= false_rate <= 1:
        raise AttackError(f"false_rate: {false_rate}; expected a rate in [0, 1]")
    allowed = int(np.floor(false_rate * two.size + 1e-9))
    threshold = np.sort(two, axis=None)[::-1][allowed] if allowed < two.size else -np.inf
    rates = (one > threshold).mean(axis=1)
    value = float(rates.mean())
    # Models that all have the same rate, say none, do not make it certain: the spread is at least one hit in a model.
    spread = max(float(rates.std(ddof=1)), 1 / one.shape[1])
    reach = float(stats.t.ppf(0.975, len(one) - 1)) * spread / len(one) ** 0.5
    return Estimate(
        name=name,
        value=value,
        low=max(0.0, value - reach),
        high=min(1.0, value + reach),
        level=0.95,
        method=f"Student over models given the threshold ({allowed} of {two.size} false pairs)",
        n=(len(one), len(two)),
        shows_not=PANEL_LIMIT,
    )
