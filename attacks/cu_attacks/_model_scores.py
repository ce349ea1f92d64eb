"""The scores of a whole model that a plan can choose, each fitted on pilots that are neither judged nor ranked.

``combined`` is the default (``_combined``). The others are its parts alone, and two that use the records jointly. Each
looks at both sides, so over-forgetting counts like remembering. Any fixed function keeps the tests exact; what differs
is what they see.

============  =====================================================================================================
combined      the largest of ``likelihood`` and the worst record, high and low side
mean          mean signal over the records
likelihood    sum of the records' log-likelihood ratios, own variances shrunk towards the pooled one
discriminant  regularised discriminant: Ledoit and Wolf's (2004) covariance within the two kinds of pilots
worst         the worst record, high and low side
============  =====================================================================================================
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf

from cu_attacks._combined import SCALE, CombinedScore, fit_combined
from cu_attacks._types import AttackError, FloatArray, matrix

_LIMIT: Final = 2**52


class ModelScore(Protocol):
    """A fitted, frozen score.

    Attributes:
        weight: How much each record counts, shape (records,).
    """

    @property
    def weight(self) -> FloatArray: ...

    def __call__(self, signals: npt.ArrayLike) -> list[int]:
        """Return one integer a model, in millionths; higher is farther from a retrained model."""
        ...


@dataclass(frozen=True, eq=False)
class LinearScore:
    """A weighted sum of signals, in standard deviations from the centre, either side.

    Args:
        weight: Weight of each record, shape (records,).
        centre: Mean of the sum over the centring pilots.
        scale: Its standard deviation over them, above 0.
    """

    weight: FloatArray
    centre: float
    scale: float

    def __call__(self, signals: npt.ArrayLike) -> list[int]:
        """Return one integer a model, in millionths; see :class:`ModelScore`.

        Args:
            signals: Shape (models, records).
        """
        distance = np.abs(matrix(signals, "signals") @ self.weight - self.centre) / self.scale
        return [int(score) for score in np.clip(np.rint(distance * SCALE), 0, _LIMIT)]


@dataclass(frozen=True, eq=False)
class WorstScore:
    """The worst record of a model, high or low side.

    Args:
        whole: The combined score, of which this is a part.
    """

    whole: CombinedScore

    @property
    def weight(self) -> FloatArray:
        """All records count alike."""
        return np.ones_like(self.whole.weight)

    def __call__(self, signals: npt.ArrayLike) -> list[int]:
        """Return one integer a model, in millionths; see :class:`ModelScore`.

        Args:
            signals: Shape (models, records).
        """
        worst = self.whole.parts(signals)[:, 1:].max(axis=1)
        return [int(score) for score in np.clip(np.rint(worst * SCALE), -_LIMIT, _LIMIT)]


def fit_score(name: str, original: npt.ArrayLike, retrained: npt.ArrayLike, centring: npt.ArrayLike) -> ModelScore:
    """Fit a score on pilot models.

    Args:
        name: One of :data:`FITTED`.
        original: Signals of models trained on the request, shape (models >= 2, records).
        retrained: Signals of models that never saw it, shape (models >= 2, records).
        centring: Signals of other models that never saw it, shape (models >= 2, records).

    Raises:
        AttackError: The name is unknown, too few pilots, shapes that disagree, or a value that is not finite.
    """
    if name not in FITTED:
        raise AttackError(f"score: {name!r}; expected one of {', '.join(FITTED)}")
    whole = fit_combined(original, retrained, centring)  # checks the pilots, whatever is made of them
    seen, unseen, other = (np.asarray(pool, dtype=np.float64) for pool in (original, retrained, centring))
    return FITTED[name](whole, seen, unseen, other)


def _linear(weight: FloatArray, centring: FloatArray) -> LinearScore:
    raw = centring @ weight
    spread = float(raw.std(ddof=1))
    return LinearScore(weight, float(raw.mean()), spread if spread > 0 else 1.0)


def _discriminant(whole: CombinedScore, seen: FloatArray, unseen: FloatArray, centring: FloatArray) -> ModelScore:
    within = np.concatenate([seen - seen.mean(axis=0), unseen - unseen.mean(axis=0)])
    covariance = ledoit_wolf(within, assume_centered=True)[0]
    # Some record may never vary; a millionth of the mean variance keeps the matrix invertible.
    covariance[np.diag_indices_from(covariance)] += 1e-6 * float(np.trace(covariance)) / len(covariance)
    weight: FloatArray = np.linalg.solve(covariance, seen.mean(axis=0) - unseen.mean(axis=0))
    return _linear(weight if weight.any() else whole.weight, centring)


Fit = Callable[[CombinedScore, FloatArray, FloatArray, FloatArray], ModelScore]

FITTED: Final[dict[str, Fit]] = {
    "combined": lambda whole, seen, unseen, centring: whole,
    "mean": lambda whole, seen, unseen, centring: _linear(np.full(seen.shape[1], 1 / seen.shape[1]), centring),
    "likelihood": lambda whole, seen, unseen, centring: _linear(whole.weight, centring),
    "discriminant": _discriminant,
    "worst": lambda whole, seen, unseen, centring: WorstScore(whole),
}
"""How each score is fitted; the names are those of ``[audit] score`` and of the plan."""
