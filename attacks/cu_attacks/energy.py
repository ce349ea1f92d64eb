"""``energy``: do two sets of models differ at all? Energy distance with a permutation test over models.

Szekely and Rizzo 2013 (J. Stat. Plan. Inference 143, eq. 2): E = 2 E|X - Y| - E|X - X'| - E|Y - Y'| over the models'
signal vectors. Models are the units, so models are permuted.
"""

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist, squareform

from cu_attacks._types import Attack, AttackError, Estimate, FloatArray, matrix


def energy_distance(distances: FloatArray, first: npt.NDArray[np.bool_]) -> float:
    """Return the energy statistic of a labelled distance matrix.

    Args:
        distances: Pairwise distances, shape (models, models).
        first: Whether a model belongs to the first set, shape (models,).
    """
    between = distances[np.ix_(first, ~first)].mean()
    within = distances[np.ix_(first, first)].mean() + distances[np.ix_(~first, ~first)].mean()
    return float(2 * between - within)


def energy_test(
    first: npt.ArrayLike, second: npt.ArrayLike, *, rng: np.random.Generator, permutations: int = 999
) -> Estimate:
    """Compare two sets of models by permuting model labels.

    Args:
        first: Signals of one set, shape (models >= 2, records).
        second: Signals of the other, shape (models >= 2, records).
        rng: Source of the permutations.
        permutations: B, at least 1.

    Returns:
        ``value`` is the statistic, ``high`` the exact permutation p-value (1 + #{as large}) / (B + 1), ``low`` the
        median statistic under permutation (its null level).
    """
    one, two = matrix(first, "first", rows=2), matrix(second, "second", rows=2)
    if one.shape[1] != two.shape[1]:
        raise AttackError(f"second: signals on {two.shape[1]} records; expected {one.shape[1]} as in first")
    if permutations < 1:
        raise AttackError(f"permutations: {permutations}; expected at least 1")
    distances = squareform(pdist(np.concatenate([one, two])))
    labels = np.arange(len(distances)) < len(one)
    observed = energy_distance(distances, labels)
    null = np.array([energy_distance(distances, rng.permutation(labels)) for _ in range(permutations)])
    p = (1 + int((null >= observed - 1e-12).sum())) / (permutations + 1)
    return Estimate(
        name="energy distance",
        value=observed,
        low=float(np.median(null)),
        high=p,
        level=0.0,
        method=f"permutation of models, B = {permutations}; low = null median, high = p-value",
        n=(len(one), len(two)),
        shows_not="a detected difference is not an eps; a large p does not show that the two sets are alike",
    )


ATTACK = Attack(name="energy", kind="difference", paper="Szekely, Rizzo 2013, JSPI 143", run=energy_test)
