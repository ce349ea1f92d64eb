"""``iam``: on a scale from the original model to a model that never saw it, how far has a record come?

Interpolated approximate measurement (Wang et al. 2025, arXiv 2506.06112): the signal is drawn on a straight line from
what never-in shadow models say (a = 0) to what the original model says (a = 1); at each step a Gumbel law is fitted
over the shadow models by moments (beta = sqrt(6) s / pi, mu = mean - 0.5772 beta), and the audited model's signal is
read in it. The weighted mean of the readings says how much the model still *fits* the record; one minus it is the
completeness, here higher = nearer to never trained. A graded number, with no control of any error: read it beside what
never-in models themselves get.

Steps, weights and constants follow the released code: laws at a_0 .. a_(K-2), the reading at step i weighted by
a_(i+1); one spread a step, over shadow models and records together, when there is a single shadow model or it is asked
for.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from cu_attacks._gauss import models_of, signals_of
from cu_attacks._types import Attack, AttackError, FloatArray, vector

_EULER: Final = 0.5772  # as the released code has it
_NARROWEST: Final = 1e-10


@dataclass(frozen=True, kw_only=True, eq=False)
class Completeness:
    """Completeness of unlearning as IAM grades it.

    Args:
        scores: One number a record in [0, 1], higher nearer to never trained, shape (records,).
        mean: Their mean.
        null: Smallest and largest mean that a never-in shadow model gets when it is graded by the others; ``None`` with
            fewer than three shadow models.
        n: Records and shadow models.
        method: How it was computed.
        assumptions: What the grading rests on.
        shows_not: What a reader must not conclude.
    """

    scores: FloatArray
    mean: float
    null: tuple[float, float] | None
    n: tuple[int, int]
    method: str = "interpolated Gumbel laws, moments; null band: shadow models graded by the others"
    assumptions: str = "a signal moves on a straight line from never-in to original as unlearning fails"
    shows_not: str = "no error is controlled: a high completeness is not evidence that a record left no trace"


def iam_signal(probabilities: npt.ArrayLike, *, e1: float = 1e-2, e2: float = 1e-5) -> FloatArray:
    """Return the signal that IAM is stated on, -ln(e1 - ln(p + e2)).

    Args:
        probabilities: Probability of the true class, any shape, values in [0, 1].
        e1: Keeps the outer logarithm finite, larger than ln(1 + e2); 0.01 for classifiers, 0.1 for language models.
        e2: Keeps the inner logarithm finite, positive.

    Raises:
        AttackError: A value is no probability, or the constants do not keep the logarithms finite.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if not p.size or not np.isfinite(p).all() or p.min() < 0 or p.max() > 1:
        raise AttackError("probabilities: expected values in [0, 1]")
    if not (e2 > 0 and e1 > np.log1p(e2)):
        raise AttackError(f"e1 {e1}, e2 {e2}; expected e2 > 0 and e1 > ln(1 + e2)")
    signal: FloatArray = -np.log(e1 - np.log(p + e2))
    return signal


def iam(
    signals: npt.ArrayLike,
    shadows: npt.ArrayLike,
    original: npt.ArrayLike | None = None,
    *,
    steps: int = 100,
    shared_spread: bool = True,
) -> Completeness:
    """Grade how far each record has come.

    Args:
        signals: Signals of the unlearned model (:func:`iam_signal`), shape (records,).
        shadows: Signals of models that never saw the records, shape (models >= 1, records).
        original: Signals of the model before unlearning, shape (records,); the largest possible signal when not given.
        steps: K, number of steps from 0 to 1, at least 2.
        shared_spread: One spread a step over models and records, else each record its own (models >= 2).

    Raises:
        AttackError: Shapes disagree, a value is not finite, or too few models or steps.
    """
    out = models_of(shadows, "shadows", rows=1 if shared_spread else 2)
    phi = signals_of(signals, "signals", size=out.shape[1])
    if steps < 2:
        raise AttackError(f"steps: {steps}; expected at least 2")
    largest = float(iam_signal(1.0))
    top = np.full_like(phi, largest) if original is None else vector(original, "original", size=len(phi))
    scores = _grade(phi, out, top, steps, shared_spread)
    null = None
    if len(out) >= 3:
        means = [
            float(_grade(out[row], np.delete(out, row, axis=0), top, steps, shared_spread).mean())
            for row in range(len(out))
        ]
        null = min(means), max(means)
    return Completeness(scores=scores, mean=float(scores.mean()), null=null, n=(len(phi), len(out)))


def _grade(phi: FloatArray, out: FloatArray, top: FloatArray, steps: int, shared: bool) -> FloatArray:
    grid = np.linspace(0, 1, steps)
    total = np.zeros_like(phi)
    for a, weight in pairwise(grid):
        drawn = out + a * (top - out)
        spread = np.full_like(phi, drawn.std()) if shared else drawn.std(axis=0)
        beta = np.sqrt(6) * np.maximum(spread, _NARROWEST) / np.pi
        # Below -700 the inner exponential overflows, and the law's distribution function is 0 to every digit.
        at = np.maximum((phi - drawn.mean(axis=0)) / beta + _EULER, -700.0)
        total += weight * np.exp(-np.exp(-at))
    return np.asarray(1 - total / grid[1:].sum(), dtype=np.float64)


ATTACK = Attack(name="iam", kind="descriptive", paper="Wang et al. 2025, arXiv 2506.06112", run=iam)
