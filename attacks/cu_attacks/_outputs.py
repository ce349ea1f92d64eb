"""Checks of stacked model outputs: class probabilities and features, one slab a model."""

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr

from cu_attacks._types import AttackError, FloatArray

SUM_TOLERANCE = 1e-3
"""Half-precision softmax outputs miss 1 by about this much."""


def cube(value: npt.ArrayLike, name: str) -> FloatArray:
    """Return ``value`` as a finite float64 array of three dimensions.

    Raises:
        AttackError: Wrong shape, or a value that is NaN or infinite.
    """
    found = np.asarray(value, dtype=np.float64)
    if found.ndim != 3 or not found.size:
        raise AttackError(f"{name}: shape {found.shape}; expected (models >= 1, records >= 1, values >= 1)")
    if not np.isfinite(found).all():
        raise AttackError(f"{name}: holds NaN or infinite values; drop the failed models first")
    return found


def probabilities(value: npt.ArrayLike, name: str) -> FloatArray:
    """Return class probabilities, rescaled to sum to 1 exactly up to rounding.

    Args:
        value: Shape (models, records, classes >= 2).
        name: What the array is called in messages.

    Raises:
        AttackError: Wrong shape, NaN, infinite or negative values, or rows that do not sum to 1.
    """
    found = cube(value, name)
    if found.shape[2] < 2:
        raise AttackError(f"{name}: {found.shape[2]} class; expected at least 2 (give p and 1 - p for a binary output)")
    totals = found.sum(axis=2, keepdims=True)
    off = float(np.abs(totals - 1).max())
    if found.min() < 0 or off > SUM_TOLERANCE:
        raise AttackError(
            f"{name}: least {found.min():.3g}, sums off by {off:.3g}; expected probabilities that sum to 1"
        )
    rescaled: FloatArray = found / totals
    return rescaled


def three_cubes(
    pools: tuple[FloatArray, FloatArray, FloatArray | None],
) -> tuple[FloatArray, tuple[int, int, int]]:
    """Stack unlearned, retrained and spare outputs.

    Args:
        pools: Checked arrays of three dimensions, the third one optional.

    Returns:
        All models in one array, and how many there are of each.

    Raises:
        AttackError: They disagree in records or values.
    """
    there = [pool for pool in pools if pool is not None]
    rest = ", ".join(map(str, there[0].shape[1:]))
    for name, pool in zip(("unlearned", "retrained", "spare"), there, strict=False):
        if pool.shape[1:] != there[0].shape[1:]:
            raise AttackError(f"{name}: shape {pool.shape}; expected (models, {rest}) as in unlearned")
    spare = len(there[2]) if len(there) == 3 else 0
    return np.concatenate(there), (len(there[0]), len(there[1]), spare)


def kullback_leibler(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return KL(p to q) in nats along the last axis; infinite where q is 0 and p is not."""
    found: FloatArray = rel_entr(p, q).sum(axis=-1)
    return found


def jensen_shannon(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return the Jensen-Shannon divergence in nats along the last axis, in [0, ln 2]."""
    middle = (p + q) / 2
    return (kullback_leibler(p, middle) + kullback_leibler(q, middle)) / 2


def total_variation(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return the total variation distance along the last axis, in [0, 1]."""
    found: FloatArray = np.abs(p - q).sum(axis=-1) / 2
    return found
