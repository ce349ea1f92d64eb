"""Many statements, one error budget: which correction belongs to which kind of statement.

- :func:`bonferroni` for *bounds*. Every bound is computed at its own share of alpha, because Holm's later steps order
  p-values and say nothing about the size of a bound.
- :func:`holm` for p-values that only report a difference: the chance of even one false report stays below alpha.
- :func:`benjamini_hochberg` for "how many records leak": the expected *share* of false reports among the reported stays
  below the level. It holds for independent and for positively dependent p-values, as conformal p-values that share one
  set of references are.
"""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy import stats

from cu_attacks._types import AttackError, BoolArray, FloatArray, vector


def _p_values(p: npt.ArrayLike) -> FloatArray:
    found = vector(p, "p")
    if found.min() < 0 or found.max() > 1:
        raise AttackError(f"p: values from {found.min()} to {found.max()}; expected p-values in [0, 1]")
    return found


def bonferroni(alpha: Fraction, statements: int) -> Fraction:
    """Return the share of alpha that each of several statements gets: alpha / statements.

    Args:
        alpha: Level of all statements together, in (0, 1).
        statements: How many there are, at least 1; scores, sides, directions and records all count.

    Raises:
        AttackError: A level or a number out of range.
    """
    if not 0 < alpha < 1:
        raise AttackError(f"alpha: {alpha}; expected a level in (0, 1)")
    if statements < 1:
        raise AttackError(f"statements: {statements}; expected at least 1")
    return Fraction(alpha) / statements


def holm(p: npt.ArrayLike) -> FloatArray:
    """Return Holm's adjusted p-values (Holm 1979, Scand. J. Stat. 6), in the order given.

    Reporting every hypothesis whose adjusted value is at most alpha makes even one false report happen with probability
    at most alpha, whatever the dependence. An adjusted value is never turned into an eps.

    Args:
        p: p-values in [0, 1], shape (hypotheses,).

    Raises:
        AttackError: Wrong shape, a value that is not finite or outside [0, 1].
    """
    found = _p_values(p)
    order = np.argsort(found)
    steps = np.minimum(found[order] * np.arange(found.size, 0, -1), 1.0)
    adjusted = np.empty_like(found)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def benjamini_hochberg(p: npt.ArrayLike, level: float) -> tuple[BoolArray, FloatArray]:
    """Report the records that leak so that the expected share of false reports is at most ``level``.

    Benjamini and Hochberg 1995 (J. R. Stat. Soc. B 57): with the p-values in rising order, the k first are reported for
    the largest k with p_(k) <= k level / n.

    Args:
        p: One p-value a record, in [0, 1], shape (records,).
        level: False discovery rate, in (0, 1).

    Returns:
        Which records are reported, and the adjusted p-values, both of shape (records,) and in the order given. A record
        is reported exactly when its adjusted p-value is at most ``level``.

    Raises:
        AttackError: Wrong shape, a p-value outside [0, 1], or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise AttackError(f"level: {level}; expected a false discovery rate in (0, 1)")
    adjusted = np.asarray(stats.false_discovery_control(_p_values(p), method="bh"), dtype=np.float64)
    return adjusted <= level, adjusted
