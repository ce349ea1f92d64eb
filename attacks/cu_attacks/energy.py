"""``energy``: do two sets of models differ at all? Energy distance with a permutation test over models.

Szekely and Rizzo 2013 (J. Stat. Plan. Inference 143, eq. 2): E = 2 E|X - Y| - E|X - X'| - E|Y - Y'| over the models'
signal vectors. Models are the units, so models are permuted.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist, squareform

from cu_attacks._types import Attack, AttackError, FloatArray, matrix


@dataclass(frozen=True, kw_only=True)
class TwoSample:
    """The outcome of a two-sample test on models.

    Args:
        statistic: Energy distance, at least 0.
        null_median: Its median under permutation: the level that two alike sets reach.
        p: Exact permutation p-value (1 + #{as large}) / (B + 1).
        n: Models in each set.
        shows_not: What a reader must not conclude.
    """

    statistic: float
    null_median: float
    p: float
    n: tuple[int, int]
    shows_not: str = "a detected difference is not an eps; a large p does not show that the two sets are alike"


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
) -> TwoSample:
    """Compare two sets of models by permuting model labels.

    Args:
        first: Signals of one set, shape (models >= 2, records).
        second: Signals of the other, shape (models >= 2, records).
        rng: Source of the permutations.
        permutations: B, at least 1.

    Raises:
        AttackError: Shapes disagree, or there are no permutations.
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
    return TwoSample(statistic=observed, null_median=float(np.median(null)), p=p, n=(len(one), len(two)))


ATTACK = Attack(name="energy", kind="test", paper="Szekely, Rizzo 2013, JSPI 143", run=energy_test)
