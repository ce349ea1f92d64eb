"""The records that attacks take and return: arrays in, one checked record out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class AttackError(ValueError):
    """An attack got arrays that it cannot use; the message says which, what was found and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with everything needed to read it.

    Args:
        name: What was measured, in the field's words.
        value: The point estimate.
        low: Lower end of the interval.
        high: Upper end of the interval.
        level: Confidence level of the interval, for example 0.95.
        method: How the interval was computed.
        n: Number of observations on each side.
        shows_not: What a reader must not conclude.
    """

    name: str
    value: float
    low: float
    high: float
    level: float
    method: str
    n: tuple[int, ...]
    shows_not: str


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A member of this floor: one file, one attack.

    Args:
        name: File name, name in the command line and in certificates.
        kind: ``question`` can decide a verdict; ``panel`` scores single records and informs; ``test`` compares two sets
            with a valid p-value, which is evidence of a difference; ``descriptive`` is a number without a confidence
            statement, shown with its null band.
        paper: Where it comes from.
        run: The function; its arguments differ by kind.
    """

    name: str
    kind: Literal["question", "panel", "test", "descriptive"]
    paper: str
    run: Callable[..., Any]


def matrix(value: npt.ArrayLike, name: str, *, rows: int = 1) -> FloatArray:
    """Return ``value`` as a finite float64 matrix with at least ``rows`` rows.

    Raises:
        AttackError: Wrong shape, or a value that is NaN or infinite.
    """
    found = np.asarray(value, dtype=np.float64)
    if found.ndim != 2 or found.shape[0] < rows or found.shape[1] < 1:
        raise AttackError(f"{name}: shape {found.shape}; expected (models >= {rows}, records >= 1)")
    if not np.isfinite(found).all():
        raise AttackError(f"{name}: holds NaN or infinite values; drop the failed models first")
    return found


def vector(value: npt.ArrayLike, name: str, *, size: int | None = None) -> FloatArray:
    """Return ``value`` as a finite float64 vector, of ``size`` entries when that is given.

    Raises:
        AttackError: Wrong shape, or a value that is NaN or infinite.
    """
    found = np.asarray(value, dtype=np.float64)
    if found.ndim != 1 or not found.size or (size is not None and found.size != size):
        raise AttackError(f"{name}: shape {found.shape}; expected ({size if size is not None else 'n >= 1'},)")
    if not np.isfinite(found).all():
        raise AttackError(f"{name}: holds NaN or infinite values")
    return found
