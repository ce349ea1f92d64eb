"""``activation``: how far are the activations of unlearned models from those of retrained ones?

The layer-wise L2 distance of Golatkar, Achille, Ravichandran, Polito, Soatto 2021 (CVPR), as a ratio to the distance
between two retrained models, because the distance itself has the layer's unit and two training seeds are far apart
anyway: mean |a_U - a_R| / mean |a_R - a_R'|, which is about 1 for a retrained model.
"""

import numpy as np
import numpy.typing as npt

from cu_attacks._outputs import cube, three_cubes
from cu_attacks._permute import Described, IntArray
from cu_attacks._splits import described, retrain_splits
from cu_attacks._types import Attack, AttackError, FloatArray


def pair_distances(features: FloatArray) -> FloatArray:
    """Return the mean L2 distance over records for every pair of models.

    Args:
        features: Shape (models, records, units).

    Returns:
        Shape (models, models).
    """
    return np.stack([np.linalg.norm(features - one, axis=2).mean(axis=1) for one in features])


def activation(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    spare: npt.ArrayLike | None = None,
    draws: int = 200,
) -> Described:
    """Measure the activation distance in units of the distance between retrained models.

    Args:
        unlearned: Activations of one layer, shape (models, records, units).
        retrained: The same, shape (models >= 3, records, units).
        rng: Source of the splits behind the null band.
        spare: Further retrained models, for the null band only.
        draws: Splits behind the band.

    Raises:
        AttackError: Shapes disagree, values are NaN or infinite, fewer than three retrained models, or two retrained
            models do not differ at all.
    """
    more = None if spare is None else cube(spare, "spare")
    values, sizes = three_cubes((cube(unlearned, "unlearned"), cube(retrained, "retrained"), more))
    splits = retrain_splits(sizes, rng=rng, draws=draws, least=(1, 2))
    pairs = pair_distances(values)

    def ratio(one: IntArray, two: IntArray) -> float:
        inside = pairs[np.ix_(two, two)].sum() / (len(two) * (len(two) - 1))
        if inside == 0:
            raise AttackError("retrained: models with equal activations; expected models trained from different seeds")
        return float(pairs[np.ix_(one, two)].mean() / inside)

    return described("activation distance over that between retrained models", ratio, splits)


ATTACK = Attack(name="activation", kind="descriptive", paper="Golatkar et al. 2021, CVPR", run=activation)
