"""Arb's ball arithmetic as a judge: another engine, written by other people, that encloses the same numbers."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from cu_certificates.check.tails import Interval

BITS = 4000


def engine() -> Any:
    """Return python-flint at 4000 bits; the test is skipped without it."""
    flint = pytest.importorskip("flint", reason="python-flint (extra dev) is the second engine")
    flint.ctx.prec = BITS
    return flint


def ball(value: Fraction | Decimal | int) -> Any:
    """Return a rational as a ball."""
    exact, flint = Fraction(value), engine()
    return flint.arb(flint.fmpq(exact.numerator, exact.denominator))


def holds(found: Interval, truth: Any) -> bool:
    """Whether an interval holds everything that a ball may be; where the two only touch, the ball decides nothing."""
    below, above = ball(found.low) - truth, truth - ball(found.high)
    return not (below > 0 or above > 0)


def within(found: Interval, truth: Any) -> bool:
    """Whether a ball lies inside an interval for certain."""
    return bool(ball(found.low) <= truth) and bool(truth <= ball(found.high))
