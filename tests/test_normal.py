"""The normal law in decimals: against Arb, against exact integers, and against its own laws."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, getcontext
from fractions import Fraction
from itertools import pairwise
from math import exp, factorial, isqrt, log, pi, sqrt

import pytest
from arb import ball, engine, within
from conftest import SLOW
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special

from cu_attacks._extrapolations import gaussian_delta as gaussian_delta_in_floats
from cu_certificates.check.normal import (
    LARGEST,
    PI,
    WITNESS,
    gaussian_delta,
    implied_eps,
    is_lower_witness,
    lower_witness,
    normal,
    quantile,
    upper_tail,
)
from cu_certificates.check.strict import Rejected
from cu_certificates.check.tails import STEP, Interval

EXAMPLES = settings(deadline=None, max_examples=400 if SLOW else 60, derandomize=True)
PLACES = st.fractions(-40, 40, max_denominator=10**7)
CHANCES = st.integers(1, 10**18 - 1).map(lambda top: Fraction(top, 10**18))
EDGES = [Fraction(edge) for edge in ("0", "1/10000000000", "3", "30000001/10000000", "8", "40", "-3", "-40", "64")]


def width(found: Interval) -> Fraction:
    """Relative width."""
    low, high = Fraction(found.low), Fraction(found.high)
    return (high - low) / high if high else Fraction(0)


@contextmanager
def careless() -> Iterator[None]:
    """A caller who computes with three digits; enclosures must not follow."""
    before, getcontext().prec = getcontext().prec, 3
    try:
        yield
    finally:
        getcontext().prec = before


# --- Enclosures ------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(PLACES)
def test_arb_agrees_on_the_tail(z: Fraction) -> None:
    engine()
    found = upper_tail(z)
    assert within(found, (ball(z) / ball(2).sqrt()).erfc() / 2)
    assert width(found) < Fraction(1, 10**50)


@pytest.mark.parametrize("z", EDGES, ids=str)
def test_arb_agrees_at_the_edges(z: Fraction) -> None:
    engine()
    truth = (ball(z) / ball(2).sqrt()).erfc() / 2
    found = upper_tail(z)
    assert within(found, truth) or (z == 0 and found.low == found.high == Decimal("0.5"))
    assert width(found) < Fraction(1, 10**50)


def root_of_two_pi(digits: int) -> Fraction:
    """sqrt(2 pi), cut off, by Machin's formula in whole numbers."""
    unit = 10 ** (digits + 10)

    def arctan(inverse: int) -> int:
        total, term, odd, sign = 0, unit // inverse, 1, 1
        while term:
            total, term = total + sign * (term // odd), term // (inverse * inverse)
            odd, sign = odd + 2, -sign
        return total

    return Fraction(isqrt(2 * (16 * arctan(5) - 4 * arctan(239)) * unit), unit)


def test_the_digits_of_pi() -> None:
    root = root_of_two_pi(90)
    truth, digits = root * root / 2, -PI.as_tuple().exponent  # type: ignore[operator]
    assert Fraction(PI) < truth < Fraction(PI) + Fraction(1, 10**digits)


@EXAMPLES
@given(st.fractions(-7, 7, max_denominator=10**6))
def test_a_series_in_whole_numbers_agrees(z: Fraction) -> None:
    """Taylor's series of the distribution function: alternating, so it needs long numbers, which the checker avoids."""
    unit, total = 10**120, 0
    term = z * unit // 1
    for k in range(260):
        total += term // (2 * k + 1)
        term = -term * z.numerator**2 // (z.denominator**2 * 2 * (k + 1))
    truth = Fraction(1, 2) + Fraction(total, unit) / root_of_two_pi(80)
    found = normal(z)
    assert Fraction(found.low) - Fraction(1, 10**60) <= truth <= Fraction(found.high) + Fraction(1, 10**60)


@EXAMPLES
@given(PLACES)
def test_scipy_agrees_far_out_as_well(z: Fraction) -> None:
    found = normal(z)
    assert float(special.log_ndtr(float(z))) == pytest.approx(float(found.low.ln()), rel=1e-9, abs=1e-12)


# --- Laws ------------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(PLACES)
def test_both_sides_sum_to_one(z: Fraction) -> None:
    left, right = normal(z), normal(-z)
    assert Fraction(left.low) + Fraction(right.low) <= 1 <= Fraction(left.high) + Fraction(right.high)
    assert normal(z) == upper_tail(-z)
    assert upper_tail(Fraction(0)) == Interval(Decimal("0.5"), Decimal("0.5"))


@EXAMPLES
@given(PLACES, st.integers(1, 10**6))
def test_it_rises_strictly(z: Fraction, step: int) -> None:
    """Two places 10^-40 of a unit apart have enclosures that do not touch, on the side where the tail is small."""
    other = z + Fraction(step, 10**40)
    first, second = (upper_tail(abs(place)) for place in (z, other))
    assert (first.low > second.high) if abs(z) < abs(other) else (first.high < second.low)


def test_it_rises_over_the_seam_of_the_two_methods() -> None:
    places = [Fraction(3) + Fraction(k, 10**30) for k in range(-5, 6)]
    found = [upper_tail(place) for place in places]
    assert all(one.low > two.high for one, two in pairwise(found))
    assert all(width(each) < Fraction(1, 10**50) for each in found)


def test_beyond_all_places_a_tail_is_still_enclosed() -> None:
    for z in (Fraction(LARGEST) + 1, Fraction(10**40)):
        assert upper_tail(z).low == 0
        assert upper_tail(z).high < Decimal("1e-890")
        assert normal(z).high == 1
        assert 1 - Fraction(normal(z).low) < Fraction(1, 10**50)


def test_arithmetic_does_not_follow_the_callers_context() -> None:
    before = (upper_tail(Fraction(7, 2)), quantile(Fraction(1, 40)), gaussian_delta(Fraction(1, 3), Fraction(1)))
    for function in (upper_tail,):
        function.cache_clear()
    with careless():
        after = (upper_tail(Fraction(7, 2)), quantile(Fraction(1, 40)), gaussian_delta(Fraction(1, 3), Fraction(1)))
    assert before == after


# --- Quantiles -------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(CHANCES)
def test_a_quantile_is_enclosed(p: Fraction) -> None:
    found = quantile(p)
    assert normal(Fraction(found.low)).at_most(p)
    assert Fraction(normal(Fraction(found.high)).low) >= p
    assert found.high - found.low < Decimal("1e-40")
    small = min(p, 1 - p)  # near 1 a float has lost its digits
    assert abs(float(found.low)) == pytest.approx(-float(special.ndtri(float(small))), rel=1e-9, abs=1e-9)


def test_quantiles_at_the_ends() -> None:
    assert quantile(Fraction(1, 2)).low < 0 < quantile(Fraction(1, 2)).high
    assert float(quantile(Fraction(1, 10**300)).low) == pytest.approx(float(special.ndtri(1e-300)), rel=1e-10)
    mirrored = quantile(1 - Fraction(1, 10**18))
    assert float(mirrored.low) == pytest.approx(-float(special.ndtri(1e-18)), rel=1e-12)
    for p in (Fraction(0), Fraction(1), Fraction(-1, 2), Fraction(3, 2)):
        with pytest.raises(Rejected, match="strictly between 0 and 1"):
            quantile(p)
    with pytest.raises(Rejected, match="within 60 standard deviations"):
        quantile(Fraction(1, 10**900))


@EXAMPLES
@given(CHANCES)
def test_a_witness_is_the_last_one(p: Fraction) -> None:
    z = lower_witness(p)
    assert is_lower_witness(z, p)
    assert not is_lower_witness(z + WITNESS, p)
    assert not is_lower_witness(z - WITNESS, p)
    assert not is_lower_witness(z + WITNESS / 2, p)


def test_the_witness_of_one_half_is_zero() -> None:
    assert lower_witness(Fraction(1, 2)) == 0
    assert lower_witness(Fraction(1, 40)) == Fraction("-1.959963984541")


# --- Gaussian privacy ------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.fractions(Fraction(1, 1000), 20, max_denominator=1000), st.fractions(0, 30, max_denominator=1000))
def test_arb_agrees_on_gaussian_privacy(mu: Fraction, eps: Fraction) -> None:
    engine()

    def phi(z: Fraction) -> object:
        return (-ball(z) / ball(2).sqrt()).erfc() / 2

    truth = phi(mu / 2 - eps / mu) - ball(eps).exp() * phi(-mu / 2 - eps / mu)  # type: ignore[operator]
    found = gaussian_delta(mu, eps)
    assert within(found, truth)
    assert found.high - found.low < Decimal("1e-50")


@EXAMPLES
@given(st.floats(0.05, 8), st.floats(0, 20))
def test_floats_agree_on_gaussian_privacy(mu: float, eps: float) -> None:
    truth = gaussian_delta_in_floats(mu, eps)
    assume(truth > 1e-12)
    assert float(gaussian_delta(Fraction(mu), Fraction(eps)).low) == pytest.approx(truth, rel=1e-8)


@EXAMPLES
@given(st.fractions(Fraction(1, 50), 6, max_denominator=50), st.fractions(0, 6, max_denominator=50), st.integers(1, 9))
def test_gaussian_privacy_rises_with_distance_and_falls_in_eps(mu: Fraction, eps: Fraction, step: int) -> None:
    more = Fraction(step, 100)
    assume(eps + more < 30 * mu)  # beyond 64 deviations all that is known is that nothing is left
    assert gaussian_delta(mu, eps).high < gaussian_delta(mu + more, eps).low
    assert gaussian_delta(mu, eps + more).high < gaussian_delta(mu, eps).low


@pytest.mark.parametrize(
    ("mu", "delta", "eps"),
    [
        ("1", "1/100000", 4.377178095681),
        ("1/20", "1/10000", 0.126),
        ("1/10", "1/10000", 0.276),
        ("1/5", "1/10000", 0.602),
        ("1/2", "1/10000", 1.698),
    ],
)
def test_golden_gaussian_curves(mu: str, delta: str, eps: float) -> None:
    found = implied_eps(Fraction(mu), Fraction(delta))
    assert float(found) == pytest.approx(eps, abs=6e-4)
    assert gaussian_delta(Fraction(mu), found).above(Fraction(delta))
    assert gaussian_delta(Fraction(mu), found + STEP).at_most(Fraction(delta))


def test_what_no_pair_implies() -> None:
    assert implied_eps(Fraction(0), Fraction(1, 10)) == 0
    assert implied_eps(Fraction(-1), Fraction(1, 10)) == 0
    assert implied_eps(Fraction(1, 10**6), Fraction(1, 10)) == 0
    # With delta close to 1 hardly any pair is far enough apart: total variation is 2 Phi(mu / 2) - 1.
    apart = 2 * float(normal(Fraction(1, 2)).low) - 1
    assert float(gaussian_delta(Fraction(1), Fraction(0)).low) == pytest.approx(apart, rel=1e-12)


def test_the_continued_fraction_is_the_quotient_of_repeated_integrals() -> None:
    """The recurrence behind the remainder: (k + 1) I_{k+1} = I_{k-1} - z I_k, by quadrature of the integrals."""
    z, points = 1.5, 20_000
    step = 12 / points

    def integral(k: int) -> float:
        values = (
            ((n + 0.5) * step) ** k / factorial(k) * exp(-((z + (n + 0.5) * step) ** 2) / 2) / sqrt(2 * pi)
            for n in range(points)
        )
        return step * sum(values)

    found = [exp(-z * z / 2) / sqrt(2 * pi), *(integral(k) for k in range(4))]
    for k in range(3):
        assert (k + 1) * found[k + 2] == pytest.approx(found[k] - z * found[k + 1], rel=1e-6)
        assert found[k] / found[k + 1] > z
    assert log(found[1]) == pytest.approx(float(upper_tail(Fraction(3, 2)).low.ln()), rel=1e-7)
