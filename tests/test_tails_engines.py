"""The tails by three engines that share no code: directed decimals, exact integers, and Arb's balls."""

import time
from fractions import Fraction
from math import comb

import pytest
from arb import ball, engine, within
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tails import exact_tail, holds, narrow

from cu_certificates.check.betting import accuracy_needed, bets_needed, wanted_wealth
from cu_certificates.check.pools import PoolSizes, reaches_power
from cu_certificates.check.power import POWER
from cu_certificates.check.tails import (
    STEP,
    beta_binomial_tail,
    binomial_tail,
    coinflip_bound,
    cp_lower,
    enclose,
    guessing_tail,
    sigmoid,
    smallest_step,
    tail_at_most,
)

EXAMPLES = settings(deadline=None, max_examples=300 if SLOW else 40, derandomize=True)
ALPHA = Fraction(1, 40)
ALPHAS = st.sampled_from([Fraction(1, 20), Fraction(1, 40), Fraction(1, 3), Fraction(1, 10**6)])
NONE = Fraction(0)

TABLE = [(200, 60), (1000, 300), (10_000, 900), (100_000, 5200)]
"""Trials and successes of the table that the design measured, but for its last line."""


# --- Arb -------------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.integers(1, 2000), st.fractions(0, 1, max_denominator=10**6), st.data())
def test_arb_agrees_on_the_binomial_tail(trials: int, chance: Fraction, data: st.DataObject) -> None:
    """P[Bin(n, p) >= k] is the regularised incomplete beta function I_p(k, n - k + 1)."""
    engine()
    k = data.draw(st.integers(1, trials))
    found = binomial_tail(trials, enclose(chance), k)
    truth = ball(chance).beta_lower(ball(k), ball(trials - k + 1), True)
    assert within(found, truth) or chance in (0, 1)
    assert narrow(found)


@pytest.mark.parametrize(("trials", "successes"), TABLE)
def test_the_three_engines_agree_on_a_clopper_pearson_end(trials: int, successes: int) -> None:
    """The printed end holds and the next step does not, by each engine; exact integers where they are affordable."""
    bound = cp_lower(trials, successes, ALPHA)
    for witness, accepted in ((bound, True), (bound + STEP, False)):
        assert tail_at_most(trials, enclose(witness), successes, ALPHA) is accepted
        if trials <= (10_000 if SLOW else 1000):
            assert (exact_tail(trials, witness, successes) <= ALPHA) is accepted
        tail = binomial_tail(trials, enclose(witness), successes)
        assert within(tail, ball(witness).beta_lower(ball(successes), ball(trials - successes + 1), True))


@pytest.mark.parametrize(("trials", "successes"), TABLE[:2])
def test_a_witness_that_is_a_millionth_too_large_is_refused(trials: int, successes: int) -> None:
    """Not only on the printed grid: the end itself is found to six places, and no more is accepted."""
    low, high = 0, 10**6
    while high - low > 1:
        middle = (low + high) // 2
        holds_there = tail_at_most(trials, enclose(Fraction(middle, 10**6)), successes, ALPHA)
        low, high = (middle, high) if holds_there else (low, middle)
    assert (
        exact_tail(trials, Fraction(low, 10**6), successes)
        <= ALPHA
        < exact_tail(trials, Fraction(low + 1, 10**6), successes)
    )


@EXAMPLES
@given(st.fractions(-8, 8, max_denominator=10**4))
def test_arb_agrees_on_the_chance_of_a_right_guess(eps: Fraction) -> None:
    engine()
    assert within(sigmoid(eps), 1 / (1 + (-ball(eps)).exp()))


@EXAMPLES
@given(st.integers(2, 40), st.data(), st.sampled_from(["1/1000", "1/30", "1/3", "9/10"]), st.integers(0, 20))
def test_arb_agrees_on_the_sum_over_lost_slots(slots: int, data: st.DataObject, delta: str, eps: int) -> None:
    engine()
    lossy, guesses = Fraction(delta), data.draw(st.integers(1, slots))
    right = data.draw(st.integers(1, guesses))
    q = 1 / (1 + (-ball(Fraction(eps, 10))).exp())

    def tail(trials: int, k: int) -> object:
        return q.beta_lower(ball(k), ball(trials - k + 1), True) if 0 < k <= trials else ball(int(k <= 0))

    truth = ball(0)
    for lost in range(slots + 1):
        share = ball(comb(slots, lost) * lossy**lost * (1 - lossy) ** (slots - lost))
        truth += share * tail(max(guesses - lost, 0), right - lost)
    found = guessing_tail(slots, guesses, right, Fraction(eps, 10), lossy)
    assert within(found, truth)
    assert narrow(found)


# --- Exact integers --------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.integers(1, 150), st.fractions(0, 1, max_denominator=2000), st.data(), ALPHAS)
def test_the_quick_comparison_is_that_of_the_whole_tail(
    trials: int, chance: Fraction, data: st.DataObject, alpha: Fraction
) -> None:
    k = data.draw(st.integers(-1, trials + 1))
    assert tail_at_most(trials, enclose(chance), k, alpha) == (exact_tail(trials, chance, k) <= alpha)


@EXAMPLES
@given(st.integers(1, 40), st.data(), st.fractions(0, 1, max_denominator=30))
def test_the_sum_over_lost_slots_at_eps_zero(slots: int, data: st.DataObject, delta: Fraction) -> None:
    guesses, half = data.draw(st.integers(1, slots)), Fraction(1, 2)
    right = data.draw(st.integers(-1, slots + 1))
    truth = sum(
        (
            comb(slots, b) * delta**b * (1 - delta) ** (slots - b) * exact_tail(max(guesses - b, 0), half, right - b)
            for b in range(slots + 1)
        ),
        NONE,
    )
    found = guessing_tail(slots, guesses, right, NONE, delta)
    assert holds(found, truth)
    assert narrow(found)


@EXAMPLES
@given(st.integers(1, 40), st.integers(1, 60), st.data())
def test_the_beta_binomial_is_the_sum_of_its_terms(runs: int, references: int, data: st.DataObject) -> None:
    rank, alarms = data.draw(st.integers(1, references)), data.draw(st.integers(-1, runs + 1))
    other = references + 1 - rank
    ways = sum(
        comb(rank + hits - 1, hits) * comb(other + runs - hits - 1, runs - hits)
        for hits in range(max(alarms, 0), runs + 1)
    )
    assert beta_binomial_tail(runs, rank, references, alarms) == Fraction(ways, comb(references + runs, runs))


@EXAMPLES
@given(st.integers(0, 300), st.integers(1, 250))
def test_the_smallest_step_is_found(first: int, limit: int) -> None:
    found = smallest_step(lambda steps: steps >= first, limit)
    assert found == (first * STEP if first <= limit else None)


# --- Power: as before, and soon ---------------------------------------------------------------------------------------


@EXAMPLES
@given(
    st.integers(2, 14), st.integers(2, 14), st.booleans(), st.sampled_from(["0", "1/2", "2"]),
    st.sampled_from(["1/2", "2", "4"]), st.sampled_from(["0", "1/50"]),
)  # fmt: skip
def test_the_power_of_two_pools_by_every_outcome(
    unlearned: int, retrained: int, both: bool, eps: str, detect: str, delta: str
) -> None:
    """All pairs of counts, each with its bound from the definition."""
    from cu_certificates.check.bands import counts_bound

    sizes = PoolSizes(unlearned=unlearned, retrained=retrained, both=both)
    alpha, tested, lost = Fraction(1, 3), Fraction(eps), Fraction(delta)
    chance = Fraction(sigmoid(Fraction(detect)).low)
    seen = NONE
    for true in range(unlearned + 1):
        for false in range(retrained + 1):
            if counts_bound(true, unlearned, false, retrained, alpha, lost, both=both) > tested:
                likely = comb(unlearned, true) * chance**true * (1 - chance) ** (unlearned - true)
                seen += likely * comb(retrained, false) * (1 - chance) ** false * chance ** (retrained - false)
    assert reaches_power(sizes, alpha, tested, lost, Fraction(detect)) == (seen >= POWER)


@pytest.mark.parametrize(("bets", "eps"), [(12, "0"), (40, "0"), (60, "1/2"), (90, "1")])
def test_the_accuracy_needed_is_the_first_that_suffices(bets: int, eps: str) -> None:
    tested, wanted = Fraction(eps), wanted_wealth(Fraction(1, 20), NONE, bets)
    found = accuracy_needed(bets, tested, wanted)
    assert found is not None
    assert bets_needed(enclose(found).low, tested, wanted, bets) is not None
    assert bets_needed(enclose(found - STEP).low, tested, wanted, bets) is None


SECONDS = 25
"""Of processor time: several times what the slowest takes, and a fraction of what it took by plain sums."""

MOST_BETS = 4096 if SLOW else 2048

HUGE = [
    ("coins, delta 0", lambda: coinflip_bound(4096, 3072, 3072, ALPHA, NONE)),
    ("coins, delta 1/4", lambda: coinflip_bound(4096, 3072, 3072, ALPHA, Fraction(1, 4))),
    ("coins, delta near 1", lambda: coinflip_bound(4096, 4096, 4096, ALPHA, 1 - Fraction(1, 10**18))),
    ("pools", lambda: reaches_power(PoolSizes(unlearned=2048, retrained=2048, both=True), ALPHA, NONE, NONE, NONE)),
    ("bets", lambda: accuracy_needed(MOST_BETS, Fraction(1, 2), wanted_wealth(ALPHA, NONE, MOST_BETS))),
    ("controls", lambda: beta_binomial_tail(20_000, 500, 20_000, 1000)),
]


@pytest.mark.parametrize("work", [work for _, work in HUGE], ids=[name for name, _ in HUGE])
def test_the_largest_sizes_take_seconds(work: object) -> None:
    """A plan may be written to cost its reader time; at the largest sizes that are not refused it still does not."""
    start = time.process_time()
    work()  # type: ignore[operator]
    assert time.process_time() - start < SECONDS
