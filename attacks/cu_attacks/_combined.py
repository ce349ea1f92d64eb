"""One score for one model: how far it lies from models that never saw the request.

The score is a fixed function of the model's signals on the request; its constants are fitted on pilot models that are
neither judged nor ranked afterwards. Three standardised parts are combined by their maximum, so that one share of alpha
serves them all:

- the log-likelihood ratio of "trained on the request" against "never saw it", two-sided: remembering and
  over-forgetting both count;
- the worst record, high side: a data subject asks about one record, not about a mean;
- the worst record, low side.

The two worst-record parts are taken on a logarithmic scale. Shape and constants were chosen for power on models that
belong to no audit (digits, the request trained on, fine-tuned away, and treated by NPO); any fixed function keeps the
tests exact.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cu_attacks._types import AttackError, FloatArray, matrix

SCALE: Final = 1_000_000
"""Scores are written as whole millionths, because evidence holds integers only."""

_LIMIT: Final = 2**52
_SHRINK: Final = 0.25
"""Share of the pooled variance: with a few dozen pilots a record's own variance is usable, but not alone."""


@dataclass(frozen=True, eq=False)
class CombinedScore:
    """A fitted, frozen score.

    Args:
        mean: Mean signal of each record over models that never saw it, shape (records,).
        spread: Within-record standard deviation, shrunk towards the pooled one, shape (records,).
        weight: Weight of each record in the log-likelihood ratio, shape (records,).
        centre: Mean of the three parts over the centring pilots, shape (3,).
        scale: Their standard deviation, shape (3,).
    """

    mean: FloatArray
    spread: FloatArray
    weight: FloatArray
    centre: FloatArray
    scale: FloatArray

    def parts(self, signals: npt.ArrayLike) -> FloatArray:
        """Return the three standardised parts of each model, shape (models, 3)."""
        raw = _parts(matrix(signals, "signals"), self.mean, self.spread, self.weight)
        return (raw - self.centre) / self.scale

    def __call__(self, signals: npt.ArrayLike) -> list[int]:
        """Return one integer score a model, in millionths; higher is farther from a retrained model.

        Args:
            signals: Membership signals on the request, shape (models, records).
        """
        parts = self.parts(signals)
        parts[:, 0] = np.abs(parts[:, 0])
        scores = np.clip(np.rint(parts.max(axis=1) * SCALE), -_LIMIT, _LIMIT)
        return [int(score) for score in scores]


def _parts(signals: FloatArray, mean: FloatArray, spread: FloatArray, weight: FloatArray) -> FloatArray:
    standardised = (signals - mean) / spread
    # A retrained model, too, now and then gets one record very wrong. On a logarithmic scale such a model stays within
    # reach of its kind; on the linear one a single outlier among the references hides everything below it.
    high, low = standardised.max(axis=1), -standardised.min(axis=1)
    return np.stack([signals @ weight, np.log1p(np.maximum(high, 0)), np.log1p(np.maximum(low, 0))], axis=1)


def fit_combined(original: npt.ArrayLike, retrained: npt.ArrayLike, centring: npt.ArrayLike) -> CombinedScore:
    """Fit the score on pilot models.

    Args:
        original: Signals of models trained on the request, shape (models >= 2, records).
        retrained: Signals of models that never saw it, shape (models >= 2, records).
        centring: Signals of *other* models that never saw it: fitting and centring on the same models would shift the
            centre, because the weights have adapted to them. Shape (models >= 2, records).

    Raises:
        AttackError: Too few pilots, shapes that disagree, or a value that is not finite.
    """
    seen, unseen, other = (
        matrix(value, name, rows=2)
        for value, name in ((original, "original"), (retrained, "retrained"), (centring, "centring"))
    )
    if not seen.shape[1] == unseen.shape[1] == other.shape[1]:
        raise AttackError(
            f"pilots: signals on {seen.shape[1]}, {unseen.shape[1]} and {other.shape[1]} records; expected the same"
        )
    variance = (seen.var(axis=0, ddof=1) + unseen.var(axis=0, ddof=1)) / 2
    pooled = float(variance.mean())
    if pooled <= 0:
        raise AttackError("pilots: all signals are equal; the recipe ignores its seed, so nothing can be measured")
    spread = np.sqrt(_SHRINK * variance + (1 - _SHRINK) * pooled)
    mean = unseen.mean(axis=0)
    weight = (seen.mean(axis=0) - mean) / spread**2
    if not weight.any():
        weight = np.ones_like(weight)
    raw = _parts(other, mean, spread, weight)
    scale = raw.std(axis=0, ddof=1)
    return CombinedScore(mean, spread, weight, raw.mean(axis=0), np.where(scale > 0, scale, 1.0))
