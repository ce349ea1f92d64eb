"""``mmd``: do two sets of models differ at all? Maximum mean discrepancy with a permutation test over models.

Gretton, Borgwardt, Rasch, Schoelkopf, Smola 2012 (JMLR 13): the unbiased estimate of MMD^2 with a Gaussian kernel
k(x, y) = exp(-|x - y|^2 / (2 h^2)). With one bandwidth, h is the median distance. With several, in the spirit of MMDAgg
(Schrab, Kim, Albert, Laurent, Guedj, Gretton 2023, JMLR 24), the statistic is the largest of the standardised
estimates, and its own permutation law pays for the choice. Bandwidths and standardisation look at all models alike, so
the p-value stays exact.
"""

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist, squareform

from cu_attacks._permute import ModelTest, block_sums, permutation_result, relabelings, two_pools
from cu_attacks._types import Attack, AttackError, BoolArray, FloatArray

NEGLIGIBLE = 1e-12
"""Kernel values lie in [0, 1]; a spread of estimates below this is rounding."""


def bandwidths(distances: FloatArray, count: int) -> FloatArray:
    """Return bandwidths that depend on the set of all models only.

    Args:
        distances: Pairwise distances of all models, shape (pairs,).
        count: 1 for the median distance; more for a geometric grid from half the 5 % quantile to twice the 95 %
            quantile. Distances of 0 are left out; when all are 0 the bandwidth is 1.
    """
    positive = distances[distances > 0]
    if not len(positive):
        return np.ones(count)
    if count == 1:
        return np.array([np.median(positive)])
    low, high = np.quantile(positive, [0.05, 0.95])
    return np.geomspace(low / 2, 2 * high, count)


def squared_mmd(kernel: FloatArray, rows: BoolArray) -> FloatArray:
    """Return the unbiased estimate of MMD^2 for every relabeling.

    Args:
        kernel: Kernel matrix, shape (models, models); its diagonal is not used.
        rows: Relabelings, shape (B + 1, models), with at least two models on each side.
    """
    one = int(rows[0].sum())
    two = rows.shape[1] - one
    inside, outside, between = block_sums(kernel - np.diag(np.diag(kernel)), rows)
    found: FloatArray = inside / (one * (one - 1)) + outside / (two * (two - 1)) - 2 * between / (one * two)
    return found


def mmd(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    permutations: int = 999,
    kernels: int = 10,
) -> ModelTest:
    """Compare two sets of models by permuting model labels.

    Args:
        first: Signals of one set, the unlearned models, shape (models >= 2, records).
        second: Signals of the other, the retrained models, shape (models >= 2, records).
        rng: Source of the permutations.
        permutations: B, at least 1.
        kernels: Bandwidths: 1 for the median heuristic, more for the aggregated test.

    Raises:
        AttackError: Shapes disagree, values are NaN or infinite, or a count is below 1.
    """
    one, two = two_pools(first, second)
    if kernels < 1:
        raise AttackError(f"kernels: {kernels}; expected at least 1")
    rows = relabelings(len(one), len(two), rng=rng, permutations=permutations)
    pairs = pdist(np.concatenate([one, two]))
    squares = squareform(pairs) ** 2
    found = np.stack([squared_mmd(np.exp(-squares / (2 * h * h)), rows) for h in bandwidths(pairs, kernels)])
    n = (len(one), len(two))
    if kernels == 1:
        return permutation_result("squared MMD, Gaussian kernel, median bandwidth", found[0], n)
    centre, spread = found.mean(axis=1, keepdims=True), found.std(axis=1, keepdims=True)
    flat = spread <= NEGLIGIBLE
    standard = np.where(flat, 0.0, (found - centre) / np.where(flat, 1.0, spread))
    return permutation_result(f"largest of {kernels} squared MMDs, in standard deviations", standard.max(axis=0), n)


ATTACK = Attack(name="mmd", kind="test", paper="Gretton et al. 2012, JMLR 13; Schrab et al. 2023, JMLR 24", run=mmd)
