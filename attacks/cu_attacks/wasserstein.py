"""``wasserstein``: by how much do the signals of unlearned and retrained models differ, in the signal's own unit?

W1 on one record is the area between the two distribution functions of the models' signals (Vallender 1974); for as many
models on each side it is the mean difference of the sorted signals. Averaged over the records: an effect size, beside
its null band. :func:`wasserstein_test` makes it evidence by permuting model labels.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cu_attacks._permute import Described, ModelTest, permutation_result, permuted, two_pools
from cu_attacks._splits import described, retrain_splits, three_pools
from cu_attacks._types import Attack, FloatArray

NAME = "mean Wasserstein-1 distance over records, in the signal's unit"


@dataclass(frozen=True, kw_only=True)
class Wasserstein(Described):
    """An effect size.

    Args:
        per_record: W1 on each record, in the signal's unit, shape (records,).
    """

    per_record: FloatArray = field(compare=False, repr=False)


def transport(one: FloatArray, two: FloatArray) -> FloatArray:
    """Return W1 on each record.

    Args:
        one: Shape (models, records).
        two: Shape (models, records).
    """
    both = np.concatenate([one, two])
    order = np.argsort(both, axis=0, kind="stable")
    gap = np.cumsum(np.where(order < len(one), 1 / len(one), -1 / len(two)), axis=0)[:-1]
    found: FloatArray = (np.abs(gap) * np.diff(np.take_along_axis(both, order, axis=0), axis=0)).sum(axis=0)
    return found


def wasserstein(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    spare: npt.ArrayLike | None = None,
    draws: int = 200,
) -> Wasserstein:
    """Measure the mean shift of the signals.

    Args:
        unlearned: Signals, shape (models, records).
        retrained: Signals, shape (models >= 2, records).
        rng: Source of the splits behind the null band.
        spare: Further retrained models, for the null band only.
        draws: Splits behind the band.

    Raises:
        AttackError: Shapes disagree, values are NaN or infinite, or too few retrained models.
    """
    values, sizes = three_pools(unlearned, retrained, spare)
    splits = retrain_splits(sizes, rng=rng, draws=draws)
    found = described(NAME, lambda u, r: float(transport(values[u], values[r]).mean()), splits)
    return Wasserstein(**vars(found), per_record=transport(*(values[side] for side in splits.everyone)))


def wasserstein_test(
    unlearned: npt.ArrayLike, retrained: npt.ArrayLike, *, rng: np.random.Generator, permutations: int = 999
) -> ModelTest:
    """Test for a difference with the same number as statistic, by permuting model labels.

    Args:
        unlearned: Signals, shape (models >= 2, records).
        retrained: Signals, shape (models >= 2, records).
        rng: Source of the permutations.
        permutations: B, at least 1.

    Raises:
        AttackError: Shapes disagree, or values are NaN or infinite.
    """
    one, two = two_pools(unlearned, retrained, ("unlearned", "retrained"))
    both = np.concatenate([one, two])
    found = permuted(
        lambda u, r: float(transport(both[u], both[r]).mean()), len(one), len(two), rng=rng, permutations=permutations
    )
    return permutation_result(NAME, found, (len(one), len(two)))


ATTACK = Attack(
    name="wasserstein", kind="descriptive", paper="Vallender 1974, Theory Probab. Appl. 18", run=wasserstein
)
