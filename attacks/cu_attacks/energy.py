"""``energy``: do two sets of models differ at all? Energy distance with a permutation test over models.

Szekely and Rizzo 2013 (J. Stat. Plan. Inference 143, eq. 2): E = 2 E|X - Y| - E|X - X'| - E|Y - Y'| over the models'
signal vectors. Models are the units, so models are permuted. Nothing to tune: the default among the tests.
"""

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist, squareform

from cu_attacks._permute import ModelTest, block_sums, permutation_result, relabelings, two_pools
from cu_attacks._types import Attack, BoolArray, FloatArray


def energy_distance(distances: FloatArray, first: BoolArray) -> float:
    """Return the energy statistic of a labelled distance matrix.

    Args:
        distances: Pairwise distances, shape (models, models).
        first: Whether a model belongs to the first set, shape (models,); both sets occur.
    """
    return float(_energies(distances, first[None, :])[0])


def _energies(distances: FloatArray, rows: BoolArray) -> FloatArray:
    one = int(rows[0].sum())
    two = rows.shape[1] - one
    inside, outside, between = block_sums(distances, rows)
    found: FloatArray = 2 * between / (one * two) - inside / one**2 - outside / two**2
    return found


def energy_test(
    first: npt.ArrayLike, second: npt.ArrayLike, *, rng: np.random.Generator, permutations: int = 999
) -> ModelTest:
    """Compare two sets of models by permuting model labels.

    Args:
        first: Signals of one set, the unlearned models, shape (models >= 2, records).
        second: Signals of the other, the retrained models, shape (models >= 2, records).
        rng: Source of the permutations.
        permutations: B, at least 1.

    Raises:
        AttackError: Shapes disagree, values are NaN or infinite, or there are no permutations.
    """
    one, two = two_pools(first, second)
    rows = relabelings(len(one), len(two), rng=rng, permutations=permutations)
    distances = squareform(pdist(np.concatenate([one, two])))
    return permutation_result("energy distance, in the signal's unit", _energies(distances, rows), (len(one), len(two)))


ATTACK = Attack(name="energy", kind="test", paper="Szekely, Rizzo 2013, JSPI 143", run=energy_test)
