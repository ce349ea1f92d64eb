"""Tails and bounds: enclosures against exact fractions, printed bounds against the inequality that they assert."""

from decimal import Decimal, getcontext
from fractions import Fraction
from math import ceil, comb, exp, floor, log

import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cu_certificates.check.power import critical_guesses, power_at, smallest_accuracy, smallest_references
from cu_certificates.check.strict import Rejected
from cu_certificates.check.tails import (
    MAX_EPS,
    STEP,
    Interval,
    beta_binomial_tail,
    binomial_pmf,
    binomial_tail,
    coinflip_bound,
    cp_lower,
    cp_upper,
    enclose,
    exponential,
    floor_step,
    group_bound,
    guessing_tail,
    sigmoid,
)

EXAMPLES = settings(deadline=None, max_examples=400 if SLOW else 60)
NONE = Fraction(0)
ALPHAS = st.sampled_from([Fraction(1, 20), Fraction(1, 40), Fraction(1, 80), Fraction(1, 3), Fraction(1, 10**6)])
CHANCES = st.fractions(min_value=0, max_value=1, max_denominator=10**6)


def exact_tail(trials: int, chance: Fraction, successes: int) -> Fraction:
    """P[Bin(trials, chance) >= successes] by whole numbers alone."""
    p, q, whole = chance.numerator, chance.denominator - chance.numerator, chance.denominator
    total = sum(comb(trials, k) * p**k * q ** (trials - k) for k in range(max(successes, 0), trials + 1))
    return Fraction(total, whole**trials)


def holds(found: Interval, truth: Fraction) -> bool:
    return Fraction(found.low) <= truth <= Fraction(found.high)


def narrow(found: Interval) -> bool:
    """Whether low and high agree to fifty digits: an enclosure of everything would be true and useless."""
    return found.high - found.low <= abs(found.high) * Decimal("1e-50")


# --- Enclosures ------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.integers(0, 150), CHANCES, st.integers(-2, 152))
def test_the_binomial_tail_is_enclosed(trials: int, chance: Fraction, successes: int) -> None:
    found = binomial_tail(trials, enclose(chance), successes)
    assert holds(found, exact_tail(trials, chance, successes))
    assert narrow(found)


@EXAMPLES
@given(st.integers(0, 60), st.fractions(0, 1, max_denominator=1000), st.data())
def test_the_binomial_probability_is_enclosed(trials: int, chance: Fraction, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, trials))
    truth = comb(trials, k) * chance**k * (1 - chance) ** (trials - k)
    assert holds(binomial_pmf(trials, chance, k), truth)


@EXAMPLES
@given(st.fractions(-8, 8, max_denominator=10**4))
def test_the_exponential_and_the_sigmoid_are_enclosed(exponent: Fraction) -> None:
    # Taylor's series with its remainder: an enclosure of e^x from whole numbers alone.
    terms, size = Fraction(1), Fraction(1)
    for k in range(1, 160):
        size *= exponent / k
        terms += size
    rest = abs(size)
    found = exponential(exponent)
    assert Fraction(found.low) <= terms + rest
    assert Fraction(found.high) >= terms - rest
    assert narrow(found)
    share = sigmoid(exponent)
    assert Fraction(share.low) <= (terms + rest) / (1 + terms - rest)
    assert Fraction(share.high) >= (terms - rest) / (1 + terms + rest)
    assert narrow(share)
    assert float(share.low) == pytest.approx(1 / (1 + exp(-exponent)))


def test_an_exponent_that_no_audit_has_is_refused() -> None:
    with pytest.raises(Rejected, match="at most 1000"):
        exponential(MAX_EPS + 1)
    with pytest.raises(Rejected, match="trials"):
        binomial_tail(10**8, enclose(Fraction(1, 2)), 1)


@EXAMPLES
@given(st.integers(1, 30), st.data(), st.fractions(0, 1, max_denominator=40))
def test_the_sum_over_lost_slots_is_enclosed(slots: int, data: st.DataObject, delta: Fraction) -> None:
    guesses, right = data.draw(st.integers(0, slots)), data.draw(st.integers(-1, slots + 1))
    chance = sigmoid(Fraction(1, 2))
    low, high = (
        sum(
            comb(slots, b) * delta**b * (1 - delta) ** (slots - b) * exact_tail(max(guesses - b, 0), end, right - b)
            for b in range(slots + 1)
        )
        for end in (Fraction(chance.low).limit_denominator(10**9) - Fraction(1, 10**8), Fraction(18, 28))
    )
    found = guessing_tail(slots, guesses, right, Fraction(1, 2), delta)
    # sigma(1/2) = .6224... lies between the two rational chances, and the sum rises with the chance.
    assert low <= Fraction(found.high)
    assert Fraction(found.low) <= high
    assert narrow(found)


def test_the_sum_over_lost_slots_at_eps_zero_is_exact() -> None:
    slots, guesses, right, delta, half = 24, 18, 15, Fraction(1, 50), Fraction(1, 2)
    truth = sum(
        comb(slots, b) * delta**b * (1 - delta) ** (slots - b) * exact_tail(max(guesses - b, 0), half, right - b)
        for b in range(slots + 1)
    )
    assert holds(guessing_tail(slots, guesses, right, NONE, delta), truth)
    assert narrow(guessing_tail(slots, guesses, right, NONE, delta))


def test_many_lost_slots_are_cut_off_on_the_safe_side() -> None:
    found = guessing_tail(1000, 750, 700, Fraction(2), Fraction(1, 1000))
    assert found.low < found.high
    assert found.high - found.low < Decimal("1e-39")
    assert float(found.low) > float(binomial_tail(750, sigmoid(Fraction(2)), 700).low)


def test_arithmetic_does_not_follow_the_callers_context() -> None:
    before = coinflip_bound(64, 48, 48, Fraction(1, 40), NONE)
    getcontext().prec = 3
    coinflip_bound.cache_clear()
    try:
        assert coinflip_bound(64, 48, 48, Fraction(1, 40), NONE) == before
    finally:
        getcontext().prec = 28


# --- Bounds are the largest that the evidence proves -----------------------------------------------------------------


@EXAMPLES
@given(st.integers(1, 120), st.data(), ALPHAS)
def test_clopper_pearson_is_the_last_step_that_holds(trials: int, data: st.DataObject, alpha: Fraction) -> None:
    k = data.draw(st.integers(0, trials))
    bound = cp_lower(trials, k, alpha)
    assert bound.denominator in {1, 2, 4, 5} or 10_000 % bound.denominator == 0
    assert bound == 0 or exact_tail(trials, bound, k) <= alpha
    assert bound + STEP > 1 or exact_tail(trials, bound + STEP, k) > alpha
    assert cp_upper(trials, k, alpha) == 1 - cp_lower(trials, trials - k, alpha)
    truth = stats.beta.ppf(float(alpha), k, trials - k + 1) if k else 0.0
    assert float(bound) == pytest.approx(truth, abs=1.001e-4)
    assert float(bound) <= truth + 1e-12


@EXAMPLES
@given(st.integers(2, 80), st.data(), ALPHAS, st.sampled_from([NONE, Fraction(1, 1000), Fraction(1, 30)]))
def test_the_coin_flip_bound_is_the_last_step_that_holds(
    slots: int, data: st.DataObject, alpha: Fraction, delta: Fraction
) -> None:
    guesses = data.draw(st.integers(1, slots))
    right = data.draw(st.integers(0, guesses))
    bound = coinflip_bound(slots, guesses, right, alpha, delta)
    assert bound == 0 or guessing_tail(slots, guesses, right, bound, delta).at_most(alpha)
    assert guessing_tail(slots, guesses, right, bound + STEP, delta).above(alpha)
    assert coinflip_bound(slots, guesses, right, alpha, delta + Fraction(1, 100)) <= bound
    if delta == 0 and right:
        # logit of the one-sided Clopper-Pearson end
        rate = stats.beta.ppf(float(alpha), right, guesses - right + 1)
        assert float(bound) == pytest.approx(max(0.0, log(rate / (1 - rate))), abs=1.001e-4)


@EXAMPLES
@given(st.integers(1, 2000), st.integers(1, 2000), ALPHAS, st.sampled_from([NONE, Fraction(1, 1000), Fraction(1, 2)]))
def test_the_group_bound_is_the_last_step_that_holds(top: int, rest: int, alpha: Fraction, delta: Fraction) -> None:
    p = Fraction(top, top + rest)
    bound = group_bound(p, alpha, delta)
    if alpha - delta <= p:
        assert bound == 0
        return
    truth = log((alpha - delta) / p)
    assert truth - 1.001e-4 <= float(bound) <= truth + 1e-12


def test_extremes_show_nothing() -> None:
    assert coinflip_bound(64, 48, 0, Fraction(1, 20), NONE) == 0
    assert coinflip_bound(64, 48, 24, Fraction(1, 20), NONE) == 0
    assert coinflip_bound(64, 48, 48, Fraction(1, 20), Fraction(99, 100)) == 0
    assert coinflip_bound(64, 48, 48, Fraction(1, 20), Fraction(1)) == 0
    assert group_bound(Fraction(1, 1000), Fraction(1, 20), Fraction(1, 20)) == 0
    assert group_bound(Fraction(1, 1000), Fraction(1, 20), Fraction(1, 2)) == 0
    assert cp_lower(10, 0, Fraction(1, 20)) == 0
    assert cp_upper(10, 10, Fraction(1, 20)) == 1
    assert floor_step(Fraction(1, 3)) == Fraction(3333, 10_000)
    assert critical_guesses(64, 48, Fraction(1, 20), Fraction(3), NONE) is None
    assert smallest_references(Fraction(1, 20), Fraction(1, 2), Fraction(1, 20)) is None


# --- Golden values ---------------------------------------------------------------------------------------------------


def near(found: Fraction, truth: float) -> bool:
    """A lower bound lies at most one step below the truth."""
    return truth - 1e-4 - 1e-9 <= float(found) <= truth + 1e-9


@pytest.mark.parametrize(
    ("k", "n", "alpha", "low", "high"),
    [
        (0, 10, Fraction(1, 40), 0.0, 0.3084971078),
        (1, 10, Fraction(1, 40), 0.0025285785, 0.4450161170),
        (5, 10, Fraction(1, 40), 0.1870860284, 0.8129139716),
        (60, 200, Fraction(1, 40), 0.237389, None),
        (300, 1000, Fraction(1, 40), 0.271721, None),
        (900, 10_000, Fraction(1, 40), 0.084460, None),
        (5200, 100_000, Fraction(1, 40), 0.050631, None),
        (0, 100, Fraction(1, 20), 0.0, 0.0295130496),
        (3, 10, Fraction(1, 10), None, 0.5517308324),
    ],
)
def test_clopper_pearson_golden(k: int, n: int, alpha: Fraction, low: float | None, high: float | None) -> None:
    if low is not None:
        assert near(cp_lower(n, k, alpha), low)
    if high is not None:
        assert near(1 - cp_upper(n, k, alpha), 1 - high)


@pytest.mark.parametrize(
    ("slots", "guesses", "alpha", "most", "against_zero", "against_one"),
    [
        (32, 24, Fraction(1, 20), 2.01, (17, 0.760), (22, 0.936)),
        (32, 24, Fraction(1, 80), 1.60, (18, 0.797), (23, 0.966)),
        (64, 48, Fraction(1, 20), 2.74, (31, 0.692), (41, 0.882)),
        (64, 48, Fraction(1, 80), 2.34, (33, 0.731), (43, 0.918)),
        (128, 96, Fraction(1, 20), 3.45, (57, 0.630), (78, 0.839)),
        (128, 96, Fraction(1, 80), 3.06, (60, 0.661), (81, 0.868)),
        (256, 192, Fraction(1, 20), 4.15, (108, 0.590), (151, 0.808)),
        (256, 192, Fraction(1, 80), 3.76, (113, 0.616), (155, 0.828)),
    ],
)
def test_the_table_of_sizes(
    slots: int,
    guesses: int,
    alpha: Fraction,
    most: float,
    against_zero: tuple[int, float],
    against_one: tuple[int, float],
) -> None:
    assert guesses == 2 * (3 * slots // 8)
    assert floor(100 * coinflip_bound(slots, guesses, guesses, alpha, NONE)) == round(100 * most)
    for eps, (right, accuracy) in ((NONE, against_zero), (Fraction(1), against_one)):
        critical = critical_guesses(slots, guesses, alpha, eps, NONE)
        assert critical == right
        assert coinflip_bound(slots, guesses, right, alpha, NONE) > eps
        assert coinflip_bound(slots, guesses, right - 1, alpha, NONE) <= eps
        assert ceil(1000 * smallest_accuracy(guesses, right)) == round(1000 * accuracy)


def test_the_delta_term_golden() -> None:
    # The protocol's section 2: N = 256, delta = 1e-3, all right; the loose form would show 3.31.
    tight = coinflip_bound(256, 192, 192, Fraction(1, 20), Fraction(1, 1000))
    assert floor(100 * tight) == 415
    assert tight < coinflip_bound(256, 192, 192, Fraction(1, 20), NONE)


@pytest.mark.parametrize(
    ("guesses", "fails_from", "accuracy"),
    [(12, 11, 0.931), (24, 19, 0.834), (48, 33, 0.731), (192, 113, 0.616)],
)
def test_the_table_of_negative_controls(guesses: int, fails_from: int, accuracy: float) -> None:
    half = enclose(Fraction(1, 2))
    assert binomial_tail(guesses, half, fails_from).at_most(Fraction(1, 100))
    assert binomial_tail(guesses, half, fails_from - 1).above(Fraction(1, 100))
    assert not binomial_tail(6, half, 6).at_most(Fraction(1, 100))
    assert ceil(1000 * smallest_accuracy(guesses, fails_from)) == round(1000 * accuracy)


@pytest.mark.parametrize(
    ("references", "alpha", "most"),
    [(64, "1/20", 1.17), (99, "1/20", 1.60), (199, "1/20", 2.30), (399, "1/20", 2.99), (999, "1/20", 3.91),
     (64, "1/80", 0.0), (99, "1/80", 0.22), (199, "1/80", 0.91), (399, "1/80", 1.60), (999, "1/80", 2.52)],
)  # fmt: skip
def test_the_table_of_references(references: int, alpha: str, most: float) -> None:
    assert floor(100 * group_bound(Fraction(1, references + 1), Fraction(alpha), NONE)) == round(100 * most)


def test_smallest_references() -> None:
    sizes = {Fraction(1, 20): 32, Fraction(1, 40): 65, Fraction(1, 80): 131}
    for alpha, size in sizes.items():
        assert smallest_references(alpha, Fraction(1, 2), NONE) == size
        assert group_bound(Fraction(1, size + 1), alpha, NONE) > Fraction(1, 2)
        assert group_bound(Fraction(1, size), alpha, NONE) <= Fraction(1, 2)


def test_group_bounds_golden() -> None:
    half = exact_tail(100, Fraction(1, 2), 60)
    assert near(group_bound(half, Fraction(1, 20), NONE), 0.5640)
    assert near(coinflip_bound(100, 100, 80, Fraction(1, 20), NONE), 0.9584)


# --- Beta-binomial ---------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.integers(1, 40), st.integers(1, 200), st.data())
def test_the_beta_binomial_agrees_with_scipy(runs: int, references: int, data: st.DataObject) -> None:
    rank, alarms = data.draw(st.integers(1, references)), data.draw(st.integers(0, runs + 1))
    # scipy's sf is 1 - cdf and loses the digits of a small tail, so its probabilities are added here.
    truth = sum(stats.betabinom.pmf(hits, runs, rank, references + 1 - rank) for hits in range(alarms, runs + 1))
    assert float(beta_binomial_tail(runs, rank, references, alarms)) == pytest.approx(truth, rel=1e-8, abs=1e-14)


def test_the_beta_binomial_golden() -> None:
    # n = 99 at alpha .05: the control fails from 3 of 8, 5 of 16 and 7 of 32; "any alarm" would void 33 % of eight.
    for runs, fails_from in ((8, 3), (16, 5), (32, 7)):
        assert (
            beta_binomial_tail(runs, 5, 99, fails_from)
            <= Fraction(1, 100)
            < beta_binomial_tail(runs, 5, 99, fails_from - 1)
        )
    assert float(beta_binomial_tail(8, 5, 99, 1)) == pytest.approx(0.33, abs=0.005)
    assert beta_binomial_tail(8, 0, 30, 0) == 1
    assert beta_binomial_tail(8, 0, 30, 1) == 0


def test_power_is_the_chance_at_the_planned_leak() -> None:
    assert power_at(48, 37, eps=Fraction(2))
    assert stats.binom.sf(36, 48, 1 / (1 + exp(-2))) >= 0.8
    assert not power_at(48, 45, eps=Fraction(2))
    assert stats.binom.sf(44, 48, 1 / (1 + exp(-2))) < 0.8
