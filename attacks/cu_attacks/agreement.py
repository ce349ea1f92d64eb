"""``agreement``: how often do unlearned and retrained models predict the same class?

The share of equal predictions over pairs of one unlearned and one retrained model and over records, as in the churn of
Milani Fard, Cormier, Canini, Gupta 2016 (NeurIPS). Two retrained models do not agree everywhere either, so the number
stands beside their own agreement. :func:`gap` does the same for a number per model: accuracy, or loss.
"""

import numpy as np
import numpy.typing as npt

from cu_attacks._permute import Described
from cu_attacks._splits import described, retrain_splits, three_pools
from cu_attacks._types import Attack, vector


def agreement(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    spare: npt.ArrayLike | None = None,
    draws: int = 200,
) -> Described:
    """Measure how often predictions agree; less than the band is a difference.

    Args:
        unlearned: Predicted classes as numbers, shape (models, records).
        retrained: Predicted classes, shape (models >= 2, records).
        rng: Source of the splits behind the null band.
        spare: Further retrained models, for the null band only.
        draws: Splits behind the band.

    Raises:
        AttackError: Shapes disagree, values are NaN or infinite, or too few retrained models.
    """
    values, sizes = three_pools(unlearned, retrained, spare)
    same = np.stack([(values == row).mean(axis=1) for row in values])
    return described(
        "share of equal predictions",
        lambda u, r: float(same[np.ix_(u, r)].mean()),
        retrain_splits(sizes, rng=rng, draws=draws),
    )


def gap(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    name: str,
    rng: np.random.Generator,
    spare: npt.ArrayLike | None = None,
    draws: int = 200,
) -> Described:
    """Measure the gap between the means of a number per model; the band has two sides.

    Args:
        unlearned: One number a model, for example its accuracy on the request, shape (models,).
        retrained: The same, shape (models >= 2,).
        name: What is measured, with its unit.
        rng: Source of the splits behind the null band.
        spare: Further retrained models, for the null band only.
        draws: Splits behind the band.

    Raises:
        AttackError: Wrong shapes, NaN or infinite values, or too few retrained models.
    """
    mine, theirs = vector(unlearned, "unlearned"), vector(retrained, "retrained")
    more = None if spare is None else vector(spare, "spare")[:, None]
    values, sizes = three_pools(mine[:, None], theirs[:, None], more)
    splits = retrain_splits(sizes, rng=rng, draws=draws)
    return described(name, lambda u, r: float(values[u].mean() - values[r].mean()), splits)


ATTACK = Attack(name="agreement", kind="descriptive", paper="Milani Fard et al. 2016, NeurIPS 29", run=agreement)
