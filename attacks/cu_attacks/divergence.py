"""``divergence``: how far are the class probabilities of unlearned and retrained models apart, on average?

KL, JS (Lin 1991, IEEE Trans. Inf. Theory 37) or TV between the mean probabilities of the two sets, averaged over the
records. The number has a floor that falls with the number of models, so it stands beside its null band.
:func:`divergence_test` makes the same number evidence by permuting model labels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from cu_attacks._outputs import jensen_shannon, kullback_leibler, probabilities, three_cubes, total_variation
from cu_attacks._permute import Described, IntArray, ModelTest, permutation_result, permuted
from cu_attacks._splits import described, retrain_splits
from cu_attacks._types import Attack, AttackError, FloatArray

Measure = Literal["kl", "js", "tv"]
MEASURES: dict[str, tuple[str, Callable[[FloatArray, FloatArray], FloatArray]]] = {
    "kl": ("mean KL of class probabilities, unlearned to retrained, in nats", kullback_leibler),
    "js": ("mean JS of class probabilities, in nats", jensen_shannon),
    "tv": ("mean TV of class probabilities", total_variation),
}


@dataclass(frozen=True, kw_only=True)
class Divergence(Described):
    """A divergence of class probabilities.

    Args:
        per_record: The divergence on each record, shape (records,).
    """

    per_record: FloatArray = field(compare=False, repr=False)


def divergence(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    measure: Measure = "js",
    spare: npt.ArrayLike | None = None,
    draws: int = 200,
) -> Divergence:
    """Measure how far apart the mean class probabilities are.

    Args:
        unlearned: Probabilities, shape (models, records, classes).
        retrained: Probabilities, shape (models >= 2, records, classes).
        rng: Source of the splits behind the null band.
        measure: ``kl`` (unlearned to retrained), ``js`` or ``tv``.
        spare: Further retrained models, for the null band only.
        draws: Splits behind the band.

    Raises:
        AttackError: Shapes disagree, values are no probabilities, too few retrained models, an unknown measure, or an
            infinite KL.
    """
    values, sizes = _checked(unlearned, retrained, spare, measure)
    name, _ = MEASURES[measure]
    found = described(name, lambda u, r: _mean(values, u, r, measure), retrain_splits(sizes, rng=rng, draws=draws))
    per_record = _per_record(values, np.arange(sizes[0]), sizes[0] + np.arange(sizes[1]), measure)
    return Divergence(**vars(found), per_record=per_record)


def divergence_test(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    measure: Measure = "js",
    permutations: int = 999,
) -> ModelTest:
    """Test for a difference with the same number as statistic, by permuting model labels.

    Args:
        unlearned: Probabilities, shape (models, records, classes).
        retrained: Probabilities, shape (models, records, classes).
        rng: Source of the permutations.
        measure: ``kl`` (unlearned to retrained), ``js`` or ``tv``.
        permutations: B, at least 1.

    Raises:
        AttackError: Shapes disagree, values are no probabilities, or an infinite KL.
    """
    values, (one, two, _) = _checked(unlearned, retrained, None, measure)
    found = permuted(lambda u, r: _mean(values, u, r, measure), one, two, rng=rng, permutations=permutations)
    return permutation_result(MEASURES[measure][0], found, (one, two))


def _checked(
    unlearned: npt.ArrayLike, retrained: npt.ArrayLike, spare: npt.ArrayLike | None, measure: str
) -> tuple[FloatArray, tuple[int, int, int]]:
    if measure not in MEASURES:
        raise AttackError(f"measure: {measure!r}; expected one of {', '.join(MEASURES)}")
    more = None if spare is None else probabilities(spare, "spare")
    return three_cubes((probabilities(unlearned, "unlearned"), probabilities(retrained, "retrained"), more))


def _per_record(values: FloatArray, unlearned: IntArray, retrained: IntArray, measure: str) -> FloatArray:
    found = MEASURES[measure][1](values[unlearned].mean(axis=0), values[retrained].mean(axis=0))
    if not np.isfinite(found).all():
        raise AttackError("retrained: probability 0 where unlearned models have more, so KL is infinite; use js or tv")
    return found


def _mean(values: FloatArray, unlearned: IntArray, retrained: IntArray, measure: str) -> float:
    return float(_per_record(values, unlearned, retrained, measure).mean())


ATTACK = Attack(name="divergence", kind="descriptive", paper="Lin 1991, IEEE Trans. Inf. Theory 37", run=divergence)
