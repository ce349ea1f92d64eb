"""The normal law, enclosed from both sides by decimals: tails without cancellation, quantiles, Gaussian privacy.

For z >= 0 the upper tail Q(z) = P[X > z] is made of positive terms alone. With the repeated integrals
I_k(z) = (1/k!) int_z^inf (x - z)^k phi(x) dx > 0, I_-1 = phi, integration by parts gives
(k + 1) I_{k+1} = I_{k-1} - z I_k. So the quotients t_k = I_{k-1} / I_k obey t_{k-1} = z + k / t_k and t_k > z. That
is Laplace's continued fraction Q = phi / t_0, with a remainder that is enclosed however early it is cut. Near 0, where
it converges slowly, Q = 1/2 - phi(z) sum_k z^(2k+1) / (1 3 5 ... (2k + 1)) loses no more than three digits.
"""

from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

from .strict import Rejected
from .tails import DIGITS, DOWN, STEP, UP, Interval, enclose, exponential, largest_step

PI: Final = Decimal("3.1415926535897932384626433832795028841971693993751058209749445923078164062862089986")
"""Digits of pi, cut off: the true value lies above, by less than one unit of the last place."""

LARGEST: Final = 64
"""Farther out than this a tail is enclosed by 0 and the tail there, which is below 10^-890."""

SERIES_UP_TO: Final = Decimal(3)

WITNESS: Final = Fraction(1, 10**12)
"""The grid on which witnesses for a quantile are stated."""

_ONE: Final = Decimal(1)
_HALF: Final = Decimal("0.5")


def _outwards(low: Decimal, high: Decimal) -> Interval:
    # exp, ln and sqrt round half-even whatever the context says, so one unit outwards makes each end a bound.
    return Interval(DOWN.next_minus(low), UP.next_plus(high))


@lru_cache(maxsize=1)
def _root() -> Interval:
    """Enclose sqrt(2 pi)."""
    return _outwards(DOWN.sqrt(DOWN.multiply(2, PI)), UP.sqrt(UP.multiply(2, UP.next_plus(PI))))


def _density(z: Decimal) -> Interval:
    """Enclose phi(z) = e^(-z^2 / 2) / sqrt(2 pi)."""
    half = Interval(DOWN.multiply(_HALF, DOWN.multiply(z, z)), UP.multiply(_HALF, UP.multiply(z, z)))
    raised = _outwards(DOWN.exp(half.high.copy_negate()), UP.exp(half.low.copy_negate()))
    return Interval(DOWN.divide(raised.low, _root().high), UP.divide(raised.high, _root().low))


def _middle(z: Decimal) -> Interval:
    """Enclose phi(z) times the series, P[0 < X < z], for 0 <= z <= 3; the terms are positive."""
    ends = []
    for context in (DOWN, UP):
        square, term, total, odd = context.multiply(z, z), z, z, 1
        while True:
            odd += 2
            term = context.divide(context.multiply(term, square), Decimal(odd))
            total = context.add(total, term)
            # From here each term is at most half of the one before, since odd + 2 > 2 z^2; so the rest is below term.
            if Decimal(odd) > context.multiply(2, square) and term <= total.scaleb(-DIGITS):
                break
        ends.append(context.add(total, term) if context is UP else total)
    density = _density(z)
    return Interval(DOWN.multiply(density.low, ends[0]), UP.multiply(density.high, ends[1]))


def _fraction(z: Decimal) -> Interval:
    """Enclose t_0 = phi(z) / Q(z) for z > 0: backwards from t_n, which lies between z and z + (n + 1) / z."""
    steps = 60 + int(4000 / float(z) ** 2)
    low, high = z, UP.add(z, UP.divide(Decimal(steps + 1), z))
    for k in range(steps, 0, -1):
        low, high = DOWN.add(z, DOWN.divide(Decimal(k), high)), UP.add(z, UP.divide(Decimal(k), low))
    return Interval(low, high)


def _tail_at(z: Decimal) -> Interval:
    """Enclose Q(z) for one decimal 0 <= z <= 64."""
    if z <= SERIES_UP_TO:
        middle = _middle(z)
        return Interval(DOWN.subtract(_HALF, middle.high), UP.subtract(_HALF, middle.low))
    density, ratio = _density(z), _fraction(z)
    return Interval(DOWN.divide(density.low, ratio.high), UP.divide(density.high, ratio.low))


@lru_cache(maxsize=4096)
def upper_tail(z: Fraction) -> Interval:
    """Enclose P[X > z] for a standard normal X; both ends agree in 50 digits for z from -40 to 40.

    Args:
        z: Any rational; beyond 64 only that the tail is below the one there.
    """
    if z < 0:
        other = upper_tail(-z)
        return Interval(DOWN.subtract(_ONE, other.high), UP.subtract(_ONE, other.low))
    if z > LARGEST:
        return Interval(Decimal(0), _tail_at(Decimal(LARGEST)).high)
    ends = enclose(z)  # the tail falls as z rises
    if ends.low == ends.high:
        return _tail_at(ends.low)
    return Interval(_tail_at(ends.high).low, _tail_at(ends.low).high)


def normal(z: Fraction) -> Interval:
    """Enclose Phi(z) = P[X <= z]."""
    return upper_tail(-z)


def quantile(p: Fraction) -> Interval:
    """Enclose the z with Phi(z) = p, to at least 40 digits behind the point.

    The search is by Newton's method on the logarithm of the tail and proves nothing; what is returned was verified: Phi
    is at most p at the one end and at least p at the other.

    Args:
        p: Strictly between 0 and 1, so that z lies between -60 and 60.

    Raises:
        Rejected: p is out of range.
    """
    if not 0 < p < 1:
        raise Rejected(f"probability {p}; expected strictly between 0 and 1")
    if p > Fraction(1, 2):
        mirrored = quantile(1 - p)
        return Interval(mirrored.high.copy_negate(), mirrored.low.copy_negate())
    wanted = enclose(p).low
    z = DOWN.sqrt(max(DOWN.multiply(-2, DOWN.ln(DOWN.multiply(2, wanted))), Decimal(0)))  # Q(z) <= e^(-z^2 / 2) / 2
    if z > LARGEST - 4:
        raise Rejected("probability below 10^-780; expected one whose quantile lies within 60 standard deviations")
    for _ in range(12):
        tail = _tail_at(z)
        step = DOWN.divide(DOWN.multiply(tail.low, DOWN.ln(DOWN.divide(tail.low, wanted))), _density(z).low)
        z = max(DOWN.add(z, step), Decimal(0))
    for digits in range(50, 38, -2):
        margin = _ONE.scaleb(-digits)
        ends = DOWN.subtract(z, margin), UP.add(z, margin)
        if upper_tail(Fraction(ends[0])).above(p) and upper_tail(Fraction(ends[1])).at_most(p):
            return Interval(ends[1].copy_negate(), ends[0].copy_negate())
    raise Rejected(f"probability {p}: its quantile could not be enclosed")  # unreachable for the range above


def lower_witness(p: Fraction) -> Fraction:
    """Return the largest multiple of 10^-12 with Phi(z) <= p; raises as :func:`quantile`."""
    z = (Fraction(quantile(p).high) / WITNESS).__floor__() * WITNESS
    return z if normal(z).at_most(p) else z - WITNESS


def is_lower_witness(z: Fraction, p: Fraction) -> bool:
    """Whether ``z`` is that: Phi(z) <= p, and no longer one step of the grid farther."""
    return (z / WITNESS).denominator == 1 and normal(z).at_most(p) and normal(z + WITNESS).above(p)


# --- Gaussian privacy -------------------------------------------------------------------------------------------------


def gaussian_delta(mu: Fraction, eps: Fraction) -> Interval:
    """Enclose delta(eps) of two unit normal laws at distance mu: Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu).

    Balle and Wang 2018 (arXiv 1805.06530); Dong, Roth and Su 2019 (arXiv 1905.02383). It rises with mu, falls in eps.

    Args:
        mu: Above 0.
        eps: From 0 to 1000.
    """
    first, second, growth = normal(mu / 2 - eps / mu), normal(-mu / 2 - eps / mu), exponential(eps)
    low = DOWN.subtract(first.low, UP.multiply(growth.high, second.high))
    high = UP.subtract(first.high, DOWN.multiply(growth.low, second.low))
    return Interval(max(low, Decimal(0)), high)


def implied_eps(mu: Fraction, delta: Fraction) -> Fraction:
    """Return the largest printed eps at which unit normal laws at distance mu are not (eps, delta)-close; else 0."""
    if mu <= 0:
        return Fraction(0)
    return largest_step(lambda steps: gaussian_delta(mu, steps * STEP).above(delta))
