"""``relearning``: do unlearned models take the request up again at another pace than retrained ones do?

Fine-tuning on the request brings it back fast when something was left behind (Golatkar, Achille, Soatto 2020, CVPR:
relearn time). "Fast" has no meaning alone: a retrained model learns, too. So the whole loss curves are compared with
the retrained models' own, and the unit is the model, with its seeds. The statistic is the largest difference of the
mean curves in standard deviations over all models, its law comes from permuting model labels: exact, and two-sided, so
that a model which resists relearning shows as well.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cu_attacks._permute import EXCHANGE, ModelTest, null_quantiles, permutation_p, relabelings, two_pools
from cu_attacks._types import Attack, AttackError, FloatArray, matrix

NEGLIGIBLE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Relearning(ModelTest):
    """The outcome of the comparison of curves.

    Args:
        step: Step at which the curves are furthest apart, counted from 0.
        area: Mean over steps of the retrained less the unlearned loss, in the loss's unit: positive when the unlearned
            models learn the request faster.
    """

    step: int
    area: float


def steps_to(curves: npt.ArrayLike, level: float) -> npt.NDArray[np.int64]:
    """Return the relearn time of every model: the first step with a loss of at most ``level``.

    Args:
        curves: Losses on the request after each step, shape (models, steps).
        level: In the loss's unit, finite.

    Returns:
        Shape (models,), counted from 0; the number of steps when the level was not reached.

    Raises:
        AttackError: Wrong shape, or NaN or infinite values.
    """
    values = matrix(curves, "curves")
    if not np.isfinite(level):
        raise AttackError(f"level: {level}; expected a finite loss")
    there = values <= level
    first: npt.NDArray[np.int64] = np.where(there.any(axis=1), there.argmax(axis=1), values.shape[1]).astype(np.int64)
    return first


def relearning(
    unlearned: npt.ArrayLike, retrained: npt.ArrayLike, *, rng: np.random.Generator, permutations: int = 999
) -> Relearning:
    """Compare relearning curves by permuting models.

    Args:
        unlearned: Losses on the request after each step of the same fine-tuning, shape (models >= 2, steps).
        retrained: The same, shape (models >= 2, steps).
        rng: Source of the permutations.
        permutations: B, at least 1.

    Raises:
        AttackError: Shapes disagree, values are NaN or infinite, or there are no permutations.
    """
    one, two = two_pools(unlearned, retrained, ("unlearned", "retrained"))
    both = np.concatenate([one, two])
    rows = relabelings(len(one), len(two), rng=rng, permutations=permutations)
    # Centre and spread are those of all models, whatever their label, so the permutation stays exact.
    spread = both.std(axis=0)
    flat = spread <= NEGLIGIBLE * np.abs(both).max()
    standard = np.where(flat, 0.0, (both - both.mean(axis=0)) / np.where(flat, 1.0, spread))
    gaps = np.abs(_gaps(standard, rows))
    values = gaps.max(axis=1)
    low, median, high = null_quantiles(values)
    return Relearning(
        name="largest gap between mean relearning curves, in standard deviations",
        statistic=float(values[0]),
        null_low=low,
        null_median=median,
        null_high=high,
        exact=permutation_p(values),
        n=(len(one), len(two)),
        permutations=permutations,
        unlearned=len(one),
        method=f"{permutations} permutations of model labels, largest gap over the steps",
        assumptions=f"{EXCHANGE}; all were fine-tuned alike, each with seeds of its own",
        step=int(gaps[0].argmax()),
        area=float(two.mean() - one.mean()),
    )


def _gaps(values: FloatArray, rows: npt.NDArray[np.bool_]) -> FloatArray:
    """Return mean of the second set less mean of the first, for every relabeling and step."""
    one = int(rows[0].sum())
    sums = rows.astype(np.float64) @ values
    found: FloatArray = (values.sum(axis=0) - sums) / (len(values) - one) - sums / one
    return found


ATTACK = Attack(
    name="relearning", kind="test", paper="Golatkar, Achille, Soatto 2020, CVPR (relearn time)", run=relearning
)
