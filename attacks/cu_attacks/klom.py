"""``klom``: KL divergence of margins between unlearned and retrained models, record by record.

Georgiev, Rinberg, Park, Garg, Ilyas, Madry, Neel 2024 (arXiv 2410.23232), as its scorer in data-unlearning-bench
(EasyDUB) computes it: margins clipped to +-100, 20 equal bins over the pooled range of a record, KL(unlearned to
retrained) with the retrained share floored at 1e-5 where the unlearned one is positive, then rescaled to sum to 1.

Read it with its floor: two sets of retrained models score 6.4 against each other with 8 models each, 1.6 with 32 and
0.35 with 100. A method that starts from one checkpoint and adds no randomness gets a huge value whatever it left.
:func:`klom_test` makes the same number evidence by permuting model labels. :func:`binned` has JS and TV of the bins.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from cu_attacks._outputs import jensen_shannon, kullback_leibler, total_variation
from cu_attacks._permute import Described, ModelTest, permutation_result, permuted, two_pools
from cu_attacks._splits import described, retrain_splits, three_pools
from cu_attacks._types import Attack, AttackError, FloatArray

BINS = 20
CLIP = 100.0
FLOOR = 1e-5
NAME = "mean KLOM over records, in nats"

Top = Literal["dropped", "kept"]


@dataclass(frozen=True, kw_only=True)
class Klom(Described):
    """A divergence of binned margins.

    Args:
        per_record: The divergence on each record, shape (records,).
    """

    per_record: FloatArray = field(compare=False, repr=False)


def shares(one: FloatArray, two: FloatArray, top: Top) -> tuple[FloatArray, FloatArray]:
    """Return each pool's share of models in every bin.

    The released scorer's bins are open on the right, the last one too, so the largest value of a record is in none. A
    pool whose values are all the largest one would vanish (the scorer then returns NaN, or 0 for two sets that do not
    touch); for such a record the last bin is closed.

    Args:
        one: Margins, shape (models, records).
        two: Margins, shape (models, records).
        top: ``dropped`` as released; ``kept`` closes the last bin for every record.

    Returns:
        Two arrays of shape (records, bins), rows sum to 1.
    """
    pools = [np.clip(pool, -CLIP, CLIP) for pool in (one, two)]
    low = np.minimum(*(pool.min(axis=0) for pool in pools))
    high = np.maximum(*(pool.max(axis=0) for pool in pools))
    edges = np.linspace(low, np.where(high > low, high, low + 1), BINS + 1)
    counts = [np.diff((pool < edges[:, None, :]).sum(axis=1), axis=0).T.astype(np.float64) for pool in pools]
    empty = np.minimum(*(count.sum(axis=1) for count in counts)) == 0
    for pool, count in zip(pools, counts, strict=True):
        closed = np.ones_like(empty) if top == "kept" else empty
        count[:, -1] += closed * (pool >= edges[-1]).sum(axis=0)
    first, second = (count / count.sum(axis=1, keepdims=True) for count in counts)
    return first, second


def margin_divergence(one: FloatArray, two: FloatArray, *, top: Top = "dropped") -> FloatArray:
    """Return KLOM of each record.

    Args:
        one: Margins of the unlearned models, shape (models, records).
        two: Margins of the retrained models, shape (models, records).
        top: See :func:`shares`.
    """
    p, q = shares(one, two, top)
    floored = np.where(p > 0, np.maximum(q, FLOOR), q)
    found = kullback_leibler(p, floored / floored.sum(axis=1, keepdims=True))
    # KL is not negative; rounding may be.
    return np.maximum(found, 0.0)


def klom(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    spare: npt.ArrayLike | None = None,
    draws: int = 200,
    top: Top = "dropped",
) -> Klom:
    """Compute KLOM and its null band.

    Args:
        unlearned: Margins z_y - logsumexp of the other logits, shape (models >= 2, records).
        retrained: Margins, shape (models >= 2, records).
        rng: Source of the splits behind the null band.
        spare: Further retrained models, for the null band only. With as many as unlearned models the band has the
            sizes of the value; without, it comes from smaller sets, and ``matched`` is the value at those.
        draws: Splits behind the band.
        top: ``dropped`` as the released scorer has it, or ``kept``: the largest value belongs to the last bin.

    Raises:
        AttackError: Shapes disagree, values are NaN or infinite, fewer than four retrained models with spare ones, or
            an unknown ``top``.
    """
    if top not in ("dropped", "kept"):
        raise AttackError(f"top: {top!r}; expected dropped or kept")
    values, sizes = three_pools(unlearned, retrained, spare, least=2)
    splits = retrain_splits(sizes, rng=rng, draws=draws, least=(2, 2))
    found = described(NAME, lambda u, r: float(margin_divergence(values[u], values[r], top=top).mean()), splits)
    per_record = margin_divergence(*(values[side] for side in splits.everyone), top=top)
    return Klom(**vars(found), per_record=per_record)


def klom_test(
    unlearned: npt.ArrayLike, retrained: npt.ArrayLike, *, rng: np.random.Generator, permutations: int = 199
) -> ModelTest:
    """Test for a difference with mean KLOM as statistic, by permuting model labels.

    Args:
        unlearned: Margins, shape (models >= 2, records).
        retrained: Margins, shape (models >= 2, records).
        rng: Source of the permutations.
        permutations: B, at least 1.

    Raises:
        AttackError: Shapes disagree, or values are NaN or infinite.
    """
    one, two = two_pools(unlearned, retrained, ("unlearned", "retrained"))
    both = np.concatenate([one, two])
    found = permuted(
        lambda u, r: float(margin_divergence(both[u], both[r]).mean()),
        len(one),
        len(two),
        rng=rng,
        permutations=permutations,
    )
    return permutation_result(NAME, found, (len(one), len(two)))


def binned(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    measure: Literal["js", "tv"] = "js",
    spare: npt.ArrayLike | None = None,
    draws: int = 200,
) -> Klom:
    """Compute JS (in nats) or TV of the margins in KLOM's bins, last bin closed, and its null band.

    Args:
        unlearned: Margins, shape (models >= 2, records).
        retrained: Margins, shape (models >= 2, records).
        rng: Source of the splits behind the null band.
        measure: ``js`` or ``tv``.
        spare: Further retrained models, for the null band only.
        draws: Splits behind the band.

    Raises:
        AttackError: Shapes disagree, values are NaN or infinite, too few retrained models, or an unknown measure.
    """
    if measure not in ("js", "tv"):
        raise AttackError(f"measure: {measure!r}; expected js or tv")
    compare = jensen_shannon if measure == "js" else total_variation
    values, sizes = three_pools(unlearned, retrained, spare, least=2)
    splits = retrain_splits(sizes, rng=rng, draws=draws, least=(2, 2))

    def per_record(one: FloatArray, two: FloatArray) -> FloatArray:
        return compare(*shares(one, two, "kept"))

    found = described(
        f"mean {measure.upper()} of binned margins over records",
        lambda u, r: float(per_record(values[u], values[r]).mean()),
        splits,
    )
    return Klom(**vars(found), per_record=per_record(*(values[side] for side in splits.everyone)))


ATTACK = Attack(name="klom", kind="descriptive", paper="Georgiev et al. 2024, arXiv 2410.23232", run=klom)
