"""``tofu``: TOFU's forget quality, a p-value used as a score, beside what retain models score against each other.

Maini, Feng, Schwarzschild, Lipton, Kolter 2024 (arXiv 2401.06121): the p-value of a two-sample Kolmogorov-Smirnov test
between the truth ratios of the unlearned model and of one retain model, over the questions about the request. Only the
order of the truth ratios matters, so any strictly rising transform of both gives the same number.

Why it is no evidence: the questions are not independent draws, and one retain model stands for all. A p-value is no
measure of likeness either: with fewer questions it rises whatever was left behind (the smallest split nearly always
"succeeds"), and with many it falls for two retain models as well, which is what the band shows.
"""

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

from cu_attacks._permute import LEVEL, Described
from cu_attacks._types import Attack, AttackError, FloatArray, matrix, vector


@dataclass(frozen=True, kw_only=True)
class Tofu(Described):
    """The forget quality; ``value`` is the p-value against one retain model.

    Args:
        questions: Questions behind every p-value.
        distance: The Kolmogorov-Smirnov distance behind ``value``, which does not depend on their number.
        against: The number against each of the retain models: how much the choice of one matters.
    """

    questions: int
    distance: float
    against: FloatArray = field(compare=False, repr=False)


def tofu(unlearned: npt.ArrayLike, retained: npt.ArrayLike, *, reference: int = 0) -> Tofu:
    """Compute the forget quality and its null band.

    Args:
        unlearned: Truth ratios of the unlearned model, shape (questions,).
        retained: Truth ratios of retain models, shape (models >= 3, questions).
        reference: Which of them is "the" retain model of the score.

    Raises:
        AttackError: Shapes disagree, values are NaN or infinite, fewer than three retain models, or no such reference.
    """
    pool = matrix(retained, "retained")
    mine = vector(unlearned, "unlearned", size=pool.shape[1])
    if len(pool) < 3:
        raise AttackError(f"retained: {len(pool)} models; expected at least 3 to compare them with each other")
    if not 0 <= reference < len(pool):
        raise AttackError(f"reference: {reference}; expected 0 to {len(pool) - 1}")
    tests = [_two_samples(mine, other) for other in pool]
    null = np.array([_two_samples(one, two)[1] for one, two in combinations(pool, 2)])
    low, high = np.quantile(null, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    distance, value = tests[reference]
    return Tofu(
        name="TOFU forget quality, a p-value over questions",
        value=value,
        matched=value,
        null_mean=float(null.mean()),
        null_low=float(low),
        null_high=float(high),
        draws=len(null),
        n=(1, 1),
        null_n=(1, 1),
        method=f"all {len(null)} pairs of {len(pool)} retain models",
        assumptions="retain models are independent and come from one law; nothing makes the p-value itself valid",
        shows_not="not evidence: a large number does not show that nothing is left, it also comes from few questions",
        questions=len(mine),
        distance=distance,
        against=np.array([p for _, p in tests]),
    )


def _two_samples(one: FloatArray, two: FloatArray) -> tuple[float, float]:
    """Return the distance D of two samples of one size, and its p-value."""
    distance = float(stats.ks_2samp(one, two, method="asymp").statistic)
    if distance <= 1 / len(one):
        return distance, 1.0  # any two samples are this far apart; scipy's exact sum ends a little above 1
    return distance, float(stats.ks_2samp(one, two).pvalue)


ATTACK = Attack(name="tofu", kind="descriptive", paper="Maini et al. 2024, arXiv 2401.06121", run=tofu)
