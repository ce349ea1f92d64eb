"""``ks``: on which records do two sets of models differ? Kolmogorov-Smirnov per record, with max-T and Holm.

D = sup |F_U - F_R| of the models' signals on one record (Smirnov 1939; Hodges 1958 for the exact law). The unit is the
model, so each record's p-value is exact; with ties it is conservative. Over the records: one permutation p-value of the
largest D (Westfall and Young 1993, max-T), and Holm's correction of the exact p-values (Holm 1979, Scand. J. Statist.
6), which needs nothing of how the records depend on each other.
"""

from dataclasses import dataclass, field
from math import lcm

import numpy as np
import numpy.typing as npt
from scipy import stats

from cu_attacks._multiplicity import holm
from cu_attacks._permute import IntArray, ModelTest, null_quantiles, permutation_p, relabelings, two_pools
from cu_attacks._types import Attack, BoolArray, FloatArray


@dataclass(frozen=True, kw_only=True)
class KolmogorovSmirnov(ModelTest):
    """The outcome over all records; ``exact`` and ``p`` belong to the largest D.

    Args:
        per_record: D of each record, in [0, 1], shape (records,).
        raw: Exact p-value of each record alone.
        holm: Holm-adjusted p-values: those at most alpha name records that differ, wrong about any with probability at
            most alpha, whatever the dependence.
        max_t: Single-step max-T adjusted p-values. They name records with the same error only if the records that do
            not differ have one joint law in both sets.
    """

    per_record: FloatArray = field(compare=False, repr=False)
    raw: FloatArray = field(compare=False, repr=False)
    holm: FloatArray = field(compare=False, repr=False)
    max_t: FloatArray = field(compare=False, repr=False)


def distances(values: FloatArray, rows: BoolArray) -> IntArray:
    """Return D times the least common multiple of the two sizes, an integer, for every relabeling and record.

    Args:
        values: Signals of all models, shape (models, records).
        rows: Relabelings, shape (B + 1, models).

    Returns:
        Shape (B + 1, records).
    """
    one = int(rows[0].sum())
    two = rows.shape[1] - one
    unit = lcm(one, two)
    order = np.argsort(values, axis=0, kind="stable")
    ranked = np.take_along_axis(values, order, axis=0)
    # Distribution functions are compared after the last of a run of ties.
    last = np.ones(values.shape, dtype=np.bool_)
    last[:-1] = ranked[1:] != ranked[:-1]
    found = np.empty((len(rows), values.shape[1]), dtype=np.int64)
    for index, row in enumerate(rows):
        gap = np.cumsum(np.where(row[order], unit // one, -(unit // two)), axis=0)
        found[index] = np.abs(gap * last).max(axis=0)
    return found


def exact_p(one: FloatArray, two: FloatArray, steps: IntArray) -> FloatArray:
    """Return each record's exact p-value: P[D >= observed] for continuous signals under one law.

    Args:
        one: Shape (models, records).
        two: Shape (models, records).
        steps: Observed D of each record in the unit of :func:`distances`; equal D have equal p-values.
    """
    _, chosen, where = np.unique(steps, return_index=True, return_inverse=True)
    # Equal sizes with D = 1/n: every relabeling is at least this far apart, but scipy's sum ends a little above 1.
    certain = 1 if len(one) == len(two) else 0
    tails = np.array(
        [
            1.0 if steps[at] <= certain else stats.ks_2samp(one[:, at], two[:, at], method="exact").pvalue
            for at in chosen
        ]
    )
    # A tail that underflows is still not 0.
    p: FloatArray = np.clip(tails, np.finfo(np.float64).tiny, 1.0)[where]
    return p


def ks(
    first: npt.ArrayLike, second: npt.ArrayLike, *, rng: np.random.Generator, permutations: int = 999
) -> KolmogorovSmirnov:
    """Compare two sets of models on every record.

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
    steps = distances(np.concatenate([one, two]), rows)
    largest = steps.max(axis=1)
    unit = lcm(len(one), len(two))
    low, median, high = null_quantiles(largest / unit)
    raw = exact_p(one, two, steps[0])
    # The observed labels are one of the relabelings, so the count starts at one.
    reached = len(largest) - np.searchsorted(np.sort(largest), steps[0], side="left")
    return KolmogorovSmirnov(
        name=f"largest Kolmogorov-Smirnov distance over {one.shape[1]} records",
        statistic=float(largest[0] / unit),
        null_low=low,
        null_median=median,
        null_high=high,
        exact=permutation_p(largest),
        n=(len(one), len(two)),
        permutations=permutations,
        unlearned=len(one),
        method=f"{permutations} permutations of model labels, largest D over the records",
        per_record=steps[0] / unit,
        raw=raw,
        holm=holm(raw),
        max_t=reached / len(largest),
    )


ATTACK = Attack(
    name="ks", kind="test", paper="Hodges 1958, Ark. Mat. 3; Holm 1979; Westfall, Young 1993 (max-T)", run=ks
)
