"""Do the bounds hold? Simulation with a known truth: how often is a printed bound larger than it?

Each test runs in a small form always and in a large one with CU_CERT_SLOW=1. A share that should be at most alpha may
exceed it by chance: it may be as large as a binomial count is in 999 of 1000 tries.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from math import exp, log

import numpy as np
import pytest
from conftest import SLOW
from scipy import stats

from cu_attacks._combined import fit_combined
from cu_attacks.conformal import conformal
from cu_certificates.check.coins import right_guesses
from cu_certificates.check.power import critical_guesses, power_at, smallest_accuracy
from cu_certificates.check.tails import beta_binomial_tail, binomial_tail, coinflip_bound, enclose, group_bound
from cu_certificates.plan import default_guesses

pytestmark = pytest.mark.slow

RUNS = 10_000 if SLOW else 1_000
ALPHA = Fraction(1, 20)
NONE = Fraction(0)
TAIL = Fraction(1, 100)
UNIT = 1_000_000
FAR = 10**12

Rng = np.random.Generator


def at_most(count: int, runs: int, share: float) -> bool:
    return count <= stats.binom.ppf(0.999, runs, share)


@cache
def bound_of(slots: int, guesses: int, right: int, delta: Fraction = NONE) -> float:
    return float(coinflip_bound(slots, guesses, right, ALPHA, delta))


def whole(values: np.ndarray) -> list[int]:
    return [int(value) for value in np.rint(values * UNIT)]


def flips(rng: Rng, slots: int) -> list[int]:
    return [int(bit) for bit in rng.integers(0, 2, slots)]


def exceeding(
    truth: float,
    slots: int,
    draw: Callable[[Rng, list[int]], Sequence[int | None]],
    *,
    delta: Fraction = NONE,
    forward: bool = False,
    seed: int = 0,
) -> int:
    """In how many runs does the printed bound exceed the truth? ``draw`` makes the scores from the coins."""
    rng, guesses, false = np.random.default_rng(seed), default_guesses(slots), 0
    for _ in range(RUNS):
        coins = flips(rng, slots)
        right = right_guesses(coins, draw(rng, coins), guesses, forward_only=forward)
        false += bound_of(slots, guesses // 2 if forward else guesses, right, delta) > truth
    return false


def laplace(eps: float) -> Callable[[Rng, list[int]], list[int]]:
    """Two Laplace laws at distance eps: exactly (eps, 0), in both directions."""
    return lambda rng, coins: whole(rng.laplace(size=len(coins)) + eps * np.array(coins))


# --- The coin-flip bound ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("slots", [32, 64])
def test_the_coin_flip_bound_holds(eps: float, slots: int) -> None:
    assert at_most(exceeding(eps, slots, laplace(eps)), RUNS, float(ALPHA))


def test_the_coin_flip_bound_is_not_idle() -> None:
    """The same simulation must be able to fail: a claim that the truth is a little smaller is often refuted."""
    assert exceeding(0.3, 64, laplace(3.0)) > 0.9 * RUNS


def test_the_worst_pair_meets_the_level() -> None:
    """Randomised response: a guess is right with probability sigma(eps), so the error is the binomial tail itself."""
    eps, slots = 1.0, 64
    share = 1 / (1 + exp(-eps))

    def draw(rng: Rng, coins: list[int]) -> list[int]:
        told = np.where(rng.random(slots) < share, coins, 1 - np.array(coins))
        return whole(told + rng.random(slots) / 2)

    right = next(v for v in range(49) if bound_of(slots, 48, v) > eps)
    level = stats.binom.sf(right - 1, 48, share)
    assert level <= float(ALPHA)
    false = exceeding(eps, slots, draw)
    # The middle of the ranks is not guessed, so wrong answers among the guesses cannot be more frequent than that.
    assert at_most(false, RUNS, level)
    assert false >= stats.binom.ppf(0.001, RUNS, level / 4)


def test_the_bound_with_delta_holds() -> None:
    """(eps, delta): with probability delta a model gives its origin away."""
    eps, delta, slots = 1.0, Fraction(1, 50), 64

    def draw(rng: Rng, coins: list[int]) -> list[int]:
        scores = laplace(eps)(rng, coins)
        told = rng.random(slots) < float(delta)
        return [(FAR if coin else -FAR) if told[slot] else scores[slot] for slot, coin in enumerate(coins)]

    assert at_most(exceeding(eps, slots, draw, delta=delta), RUNS, float(ALPHA))


def test_a_guarantee_in_one_direction_needs_guesses_in_one_direction() -> None:
    """P_U <= 2 P_R holds and P_R <= 2 P_U does not: half of the retrained models show where no unlearned one does."""

    def draw(rng: Rng, coins: list[int]) -> list[int]:
        scores, shown = whole(rng.normal(size=len(coins))), rng.random(len(coins)) < 0.5
        return [-FAR if not coin and shown[slot] else scores[slot] for slot, coin in enumerate(coins)]

    assert at_most(exceeding(log(2), 64, draw, forward=True), RUNS, float(ALPHA))
    assert exceeding(log(2), 64, draw, forward=False) > 0.15 * RUNS


def test_runs_that_fail_whatever_their_coin_do_no_harm() -> None:
    def draw(rng: Rng, coins: list[int]) -> list[int | None]:
        failed = rng.random(len(coins)) < 0.15
        return [None if failed[slot] else score for slot, score in enumerate(laplace(1.0)(rng, coins))]

    assert at_most(exceeding(1.0, 64, draw), RUNS, float(ALPHA))


def test_ties_do_no_harm() -> None:
    assert at_most(exceeding(0.0, 64, lambda rng, coins: [0] * len(coins)), RUNS, float(ALPHA))
    assert at_most(
        exceeding(1.0, 64, lambda rng, coins: [s // UNIT for s in laplace(1.0)(rng, coins)]), RUNS, float(ALPHA)
    )


# --- The group bound of one model ------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("references", [64, 99])
def test_the_group_bound_holds(eps: float, references: int) -> None:
    rng, false = np.random.default_rng(1), 0
    bounds = [float(group_bound(Fraction(1 + above, references + 1), ALPHA, NONE)) for above in range(references + 1)]
    for _ in range(RUNS):
        scores = whole(rng.laplace(size=references + 1) + eps * np.eye(1, references + 1)[0])
        above = sum(score >= scores[0] for score in scores[1:])
        false += bounds[above] > eps
    assert at_most(false, RUNS, float(ALPHA))
    if eps == 0:  # p is uniform then, so the level is met and not only kept
        assert false >= stats.binom.ppf(0.001, RUNS, (int(ALPHA * (references + 1)) - 1) / (references + 1))


# --- Retrain against retrain, with the score that audits use ----------------------------------------------------------


@cache
def retrained() -> Callable[[int, Rng], list[int]]:
    """Models whose signals are correlated within a model and heavy-tailed, as real ones are."""
    rng, records = np.random.default_rng(2), 12

    def signals(count: int, shift: float, source: Rng) -> np.ndarray:
        return source.standard_t(5, (count, records)) + source.normal(size=(count, 1)) + shift

    score = fit_combined(signals(16, 0.7, rng), signals(16, 0.0, rng), signals(16, 0.0, rng))
    return lambda count, source: score(signals(count, 0.0, source))


def test_retraining_is_not_refuted_by_the_coin_flips() -> None:
    scores = retrained()
    assert at_most(exceeding(0.0, 64, lambda rng, coins: scores(len(coins), rng)), RUNS, float(ALPHA))


def test_retraining_is_not_refuted_by_its_rank() -> None:
    scores, rng, false = retrained(), np.random.default_rng(5), 0
    for _ in range(RUNS):
        drawn = scores(71, rng)
        false += conformal(drawn[0], drawn[1:], alpha=ALPHA).bound > 0
    assert at_most(false, RUNS, float(ALPHA))


def test_sound_runs_seldom_fail_their_negative_controls() -> None:
    """As the evidence has it: retrained models of the main run serve the control first, under fresh coins."""
    scores, rng = retrained(), np.random.default_rng(6)
    guesses, half = default_guesses(64), enclose(Fraction(1, 2))
    fails = [not binomial_tail(guesses, half, right).above(TAIL) for right in range(guesses + 1)]
    references, runs = 99, 8
    rank = int(ALPHA * (references + 1))
    alarming = [beta_binomial_tail(runs, rank, references, alarms) <= TAIL for alarms in range(runs + 1)]
    false = [0, 0]
    for _ in range(RUNS):
        coins, control = flips(rng, 64), flips(rng, 64)
        main, fresh = scores(64, rng), scores(64, rng)
        spare = [score for score, coin in zip(main, coins, strict=True) if not coin]
        used = [spare.pop(0) if not coin and spare else fresh[slot] for slot, coin in enumerate(control)]
        false[0] += fails[right_guesses(control, used, guesses)]
        pool = np.sort(scores(references, rng))
        judged = np.array(scores(runs, rng))
        ranks = 1 + references - np.searchsorted(pool, judged, side="left")
        false[1] += alarming[int((ranks <= rank).sum())]
    assert at_most(false[0], RUNS, 0.01)
    assert at_most(false[1], RUNS, 0.01)
    assert fails.index(True) == 33
    assert alarming.index(True) == 3


# --- Power -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [Fraction(0), Fraction(1, 2)])
@pytest.mark.parametrize("slots", [32, 64])
def test_what_is_printed_as_detectable_is_detected(eps: Fraction, slots: int) -> None:
    guesses = default_guesses(slots)
    critical = critical_guesses(slots, guesses, ALPHA, eps, NONE)
    assert critical is not None
    accuracy = float(smallest_accuracy(guesses, critical))

    def refuted(rate: float) -> int:
        """Scores rank the slots; a coin agrees with the guess at its rank with probability ``rate``."""
        rng, seen = np.random.default_rng(4), 0
        for _ in range(RUNS):
            scores = rng.permutation(slots)
            guessed = scores >= slots - guesses // 2
            coins = [int(bit) for bit in np.where(rng.random(slots) < rate, guessed, ~guessed)]
            right = right_guesses(coins, [int(score) for score in scores], guesses)
            seen += bound_of(slots, guesses, right) > eps
        return seen

    assert refuted(accuracy) >= stats.binom.ppf(0.001, RUNS, 0.8)
    assert refuted(accuracy - 0.05) <= stats.binom.ppf(0.999, RUNS, 0.8)
    assert power_at(guesses, critical, accuracy=smallest_accuracy(guesses, critical))
    assert not power_at(guesses, critical, accuracy=smallest_accuracy(guesses, critical) - Fraction(1, 1000))
