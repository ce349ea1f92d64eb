"""Null bands: what the retrained models score against each other, by splitting them into two roles."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cu_attacks._permute import LEVEL, Described, IntArray, PoolStatistic, two_pools
from cu_attacks._types import AttackError, FloatArray


def three_pools(
    unlearned: npt.ArrayLike, retrained: npt.ArrayLike, spare: npt.ArrayLike | None, *, least: int = 1
) -> tuple[FloatArray, tuple[int, int, int]]:
    """Check and stack unlearned, retrained and further retrained models.

    Args:
        unlearned: Shape (models >= least, records).
        retrained: Shape (models >= least, records).
        spare: Shape (models, records), retrained models that only the null band uses; ``None`` for none.
        least: Fewest models in either of the first two.

    Returns:
        All models in one matrix, and how many there are of each.

    Raises:
        AttackError: Wrong shapes, NaN or infinite values, or different numbers of records.
    """
    one, two = two_pools(unlearned, retrained, ("unlearned", "retrained"), least=least)
    pools = [one, two]
    if spare is not None:
        pools.append(two_pools(unlearned, spare, ("unlearned", "spare"), least=1)[1])
    return np.concatenate(pools), (len(one), len(two), sum(map(len, pools[2:])))


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Which models take which role: in the null (retrained against retrained), and at its sizes.

    Models are counted through: unlearned, then retrained, then spare.

    Args:
        sizes: Unlearned, retrained and spare models.
        null: Pairs of index arrays among retrained and spare models.
        matched: As many pairs of unlearned and retrained indices of the same sizes; empty when these are all of them.
    """

    sizes: tuple[int, int, int]
    null: tuple[tuple[IntArray, IntArray], ...]
    matched: tuple[tuple[IntArray, IntArray], ...]

    @property
    def everyone(self) -> tuple[IntArray, IntArray]:
        """The indices of all unlearned and of all retrained models."""
        unlearned, retrained, _ = self.sizes
        return np.arange(unlearned), unlearned + np.arange(retrained)


def null_sizes(sizes: tuple[int, int, int], *, least: tuple[int, int] = (1, 1), equal: bool = False) -> tuple[int, int]:
    """Choose how many retrained models stand on each side of the null: the true sizes, or those in proportion.

    Args:
        sizes: Unlearned, retrained and spare models.
        least: Fewest models on each side that the statistic works with.
        equal: Whether the statistic needs as many on one side as on the other.

    Raises:
        AttackError: There are too few retrained models for a band.
    """
    unlearned, retrained, spare = sizes
    total = retrained + spare
    if total < sum(least):
        raise AttackError(
            f"retrained: {total} models, spare ones included; expected at least {sum(least)} to compare with each other"
        )
    if total >= unlearned + retrained:
        return unlearned, retrained
    if equal:
        return total // 2, total // 2
    share = round(total * unlearned / (unlearned + retrained))
    first = min(max(share, least[0]), unlearned, total - least[1])
    return first, min(total - first, retrained)


def retrain_splits(
    sizes: tuple[int, int, int],
    *,
    rng: np.random.Generator,
    draws: int,
    least: tuple[int, int] = (1, 1),
    equal: bool = False,
) -> Splits:
    """Draw the splits behind a null band; the arguments are those of :func:`null_sizes`.

    Raises:
        AttackError: Too few retrained models, or no draws.
    """
    if draws < 1:
        raise AttackError(f"draws: {draws}; expected at least 1")
    unlearned, retrained, spare = sizes
    first, second = null_sizes(sizes, least=least, equal=equal)
    null, matched = [], []
    for _ in range(draws):
        order = unlearned + rng.permutation(retrained + spare)
        null.append((order[:first], order[first : first + second]))
        if (first, second) != (unlearned, retrained):
            matched.append((rng.permutation(unlearned)[:first], unlearned + rng.permutation(retrained)[:second]))
    return Splits(sizes=sizes, null=tuple(null), matched=tuple(matched))


def described(name: str, statistic: PoolStatistic, splits: Splits) -> Described:
    """Evaluate a statistic of two index sets on all models, and its null band on the splits.

    Args:
        name: What is measured, with its unit.
        statistic: Takes the indices of the models in the unlearned role and of those in the retrained role.
        splits: From :func:`retrain_splits`.
    """
    everyone = statistic(*splits.everyone)
    null = np.array([statistic(*pair) for pair in splits.null])
    matched = [statistic(*pair) for pair in splits.matched]
    low, high = np.quantile(null, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    unlearned, retrained, spare = splits.sizes
    first, second = map(len, splits.null[0])
    return Described(
        name=name,
        value=everyone,
        matched=float(np.mean(matched)) if matched else everyone,
        null_mean=float(null.mean()),
        null_low=float(low),
        null_high=float(high),
        draws=len(null),
        n=(unlearned, retrained),
        null_n=(first, second),
        method=f"{len(null)} random splits of {retrained + spare} retrained models into {first} and {second}",
    )
