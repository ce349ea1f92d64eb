"""Lower bounds: tables of the protocol, second implementations, error rates with a known truth, bad arguments."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import combinations
from math import comb, exp, log

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cu_attacks._bounds import (
    DeltaCurve,
    LowerBound,
    group_eps,
    guesses_delta,
    pair_delta,
    pair_eps,
    permutation_eps,
    tv_lower,
)
from cu_attacks._types import AttackError
from cu_certificates.check.coins import right_guesses
from cu_certificates.check.tails import STEP, cp_lower, guessing_tail

EXAMPLES = settings(deadline=None, max_examples=300 if SLOW else 50)
RUNS = 5_000 if SLOW else 400
ALPHA = Fraction(1, 20)
NONE = Fraction(0)
TRUTHS = [0.0, 1.0, 3.0]


def at_most(count: int, share: float, runs: int = RUNS) -> bool:
    return bool(count <= stats.binom.ppf(0.999, runs, share))


# --- From one p-value ------------------------------------------------------------------------------------------------


def test_group_eps_of_the_protocol() -> None:
    """Section 2's table of largest showable eps, and the one-run examples of the reference page."""
    for references, one, four in ((99, 1.60, 0.22), (199, 2.30, 0.91), (399, 2.99, 1.60), (999, 3.91, 2.52)):
        for scores, printed in ((1, one), (4, four)):
            found = group_eps(Fraction(scores, references + 1), alpha=ALPHA)
            assert float(found.bound) == pytest.approx(printed, abs=0.0101)
    assert group_eps(Fraction(4, 65), alpha=ALPHA).bound == 0
    for right, printed in ((60, 0.564), (80, 18.3)):
        tail = Fraction(sum(comb(100, v) for v in range(right, 101)), 2**100)
        assert float(group_eps(tail, alpha=ALPHA).bound) == pytest.approx(printed, abs=0.05)


@EXAMPLES
@given(st.fractions(Fraction(1, 10**6), 1), st.sampled_from([NONE, Fraction(1, 100), Fraction(1, 10)]))
def test_group_eps_is_the_formula_rounded_down(p: Fraction, delta: Fraction) -> None:
    found = group_eps(p, alpha=ALPHA, delta=delta)
    left = float(ALPHA - delta)
    truth = max(log(left / float(p)), 0.0) if left > 0 else 0.0
    assert truth - 1.0001e-4 <= float(found.bound) <= truth + 1e-9
    assert found.supports_verdict
    assert found.level == 0.95


# --- From the p-value of many models ---------------------------------------------------------------------------------


@EXAMPLES
@given(
    st.fractions(Fraction(1, 10**5), 1),
    st.integers(1, 64),
    st.sampled_from([NONE, Fraction(1, 10**5), Fraction(1, 1000)]),
)
def test_permutation_eps_is_the_formula_rounded_down(p: Fraction, models: int, delta: Fraction) -> None:
    found = permutation_eps(p, models, alpha=ALPHA, delta=delta)
    left = float(ALPHA) - (1 - (1 - float(delta)) ** models)
    truth = max(log(left / float(p)), 0.0) / models if left > 0 else 0.0
    assert truth - 1.0001e-4 <= float(found.bound) <= truth + 1e-9
    assert found.bound % STEP == 0
    assert not found.supports_verdict
    # Group privacy, alpha - n delta e^((n - 1) eps), is a valid correction as well, and never shows more.
    loose = [
        eps
        for eps in np.arange(0, 6, 0.01)
        if exp(models * eps) * float(p) + models * float(delta) * exp((models - 1) * eps) <= float(ALPHA)
    ]
    assert max(loose, default=0.0) <= truth + 1e-9


def test_the_product_law_is_what_the_correction_says() -> None:
    """All events of three models with (eps, delta): brute force over a four-point law."""
    eps, delta = 0.7, 0.02
    # With chance delta a model shows a mark that no retrained one has; else two points at ratio e^eps.
    high = exp(eps) / (1 + exp(eps))
    first = np.array([delta, (1 - delta) * high, (1 - delta) * (1 - high), 0.0])
    second = np.array([0.0, (1 - delta) * (1 - high), (1 - delta) * high, delta])
    one, other = first, second
    for _ in range(2):
        one, other = np.multiply.outer(one, first), np.multiply.outer(other, second)
    for growth in (0.0, eps / 2, eps):
        excess = np.maximum(one - exp(3 * growth) * other, 0).sum()
        if growth == eps:
            assert excess <= 1 - (1 - delta) ** 3 + 1e-12
            assert excess >= delta
        else:
            assert excess > 1 - (1 - delta) ** 3


# --- From two counts -------------------------------------------------------------------------------------------------


def test_pair_eps_is_the_checkers_bound() -> None:
    found = pair_eps(64, 64, 0, 64, alpha=ALPHA)
    assert float(found.bound) == pytest.approx(2.825, abs=0.004)
    assert found.n == (64, 64)
    assert found.supports_verdict
    # One direction reads one ratio only.
    assert (
        pair_eps(64, 64, 32, 64, alpha=ALPHA).bound > pair_eps(64, 64, 32, 64, alpha=ALPHA, direction="forward").bound
    )


def test_jax_privacys_rule_at_an_explicit_threshold() -> None:
    """``test_epsilon_clopper_pearson_explicit``: deterministic normal scores, significance 0.1, TPR / FPR only."""

    def normal(mean: float, count: int) -> np.ndarray:
        return stats.norm.ppf(np.linspace(0, 1, count, endpoint=False) + 1 / (2 * count)) + mean

    for inside, outside, threshold in ((100, 50, 0.0), (100, 100, 0.5), (100, 150, 1.0), (1000, 500, 1.0)):
        true, false = int((normal(1, inside) >= threshold).sum()), int((normal(0, outside) >= threshold).sum())
        low = stats.beta.ppf(0.05, true, inside - true + 1)
        high = stats.beta.ppf(0.95, false + 1, outside - false)
        found = pair_eps(true, inside, false, outside, alpha=Fraction(1, 10), direction="forward")
        assert float(found.bound) == pytest.approx(max(0.0, log(low / high)), abs=2e-3)


@EXAMPLES
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_eps_and_delta_of_the_same_counts_agree(n: int, m: int, data: st.DataObject) -> None:
    """eps is where the curve of delta meets it."""
    true, false = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    for direction in ("both", "forward"):
        eps = pair_eps(true, n, false, m, alpha=ALPHA, direction=direction).bound
        curve = pair_delta(true, n, false, m, eps=[NONE, eps, eps + Fraction(1, 50)], alpha=ALPHA, direction=direction)
        deltas = [delta for _, delta in curve.points]
        assert deltas[0] >= deltas[1] >= deltas[2] == 0
        assert not curve.supports_verdict
        if deltas[0] > STEP:
            assert pair_eps(true, n, false, m, alpha=ALPHA, delta=deltas[0], direction=direction).bound <= Fraction(
                1, 100
            )


# --- From right guesses ----------------------------------------------------------------------------------------------


def test_tv_of_a_classifier_two_sample_test() -> None:
    for slots, right in ((32, 30), (64, 64), (64, 20)):
        found = tv_lower(slots, right, alpha=ALPHA)
        assert found.bound == max(2 * cp_lower(slots, right, ALPHA) - 1, 0)
        # The sum over lost slots at eps = 0 is the same law: a slot is lost, or guessed at even odds.
        curve = guesses_delta(slots, slots, right, eps=[NONE], alpha=ALPHA).points[0][1]
        assert abs(curve - found.bound) <= 2 * STEP


def test_delta_by_guesses_is_the_largest_that_is_refuted() -> None:
    curve = guesses_delta(32, 24, 23, eps=[NONE, Fraction(1)], alpha=ALPHA)
    for eps, delta in curve.points:
        assert 0 < delta < 1
        assert guessing_tail(32, 24, 23, eps, delta).at_most(ALPHA)
        assert not guessing_tail(32, 24, 23, eps, delta + STEP).at_most(ALPHA)
    assert curve.points[0][1] > curve.points[1][1]
    assert guesses_delta(32, 24, 13, eps=[NONE], alpha=ALPHA).points == ((NONE, NONE),)


def test_leaving_slots_out_would_void_the_share() -> None:
    """Half of the models give themselves away, the others nothing: TV is 1/2, and the guessed half is always right."""
    rng, truth, false = np.random.default_rng(3), 0.5, [0, 0]
    naive = float(tv_lower(24, 24, alpha=ALPHA).bound)
    bounds = cache(lambda right: float(guesses_delta(48, 24, right, eps=[NONE], alpha=ALPHA).points[0][1]))
    for _ in range(RUNS // 4):
        coins = rng.integers(0, 2, 48)
        shown = rng.random(48) < truth
        scores = np.where(shown, 2 * coins - 1.0, 0.0) + rng.random(48) / 4
        right = right_guesses([int(c) for c in coins], [int(1e6 * s) for s in scores], 24)
        false[0] += bounds(right) > truth
        false[1] += right == 24 and naive > truth
    assert at_most(false[0], 0.05, RUNS // 4)
    assert false[1] > 0.1 * RUNS // 4


# --- Error rates with a known truth ----------------------------------------------------------------------------------


def laplace(rng: np.random.Generator, shift: float, models: int) -> np.ndarray:
    """Two such laws at distance eps are exactly (eps, 0), in both directions."""
    return rng.laplace(size=models) + shift


def errors(truth: float, bound: Callable[[np.random.Generator], float], seed: int) -> int:
    rng = np.random.default_rng(seed)
    return sum(bound(rng) > truth for _ in range(RUNS))


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("models", [32, 64])
def test_the_pair_bound_errs_at_most_at_its_level(truth: float, models: int) -> None:
    bounds = cache(lambda true, false: float(pair_eps(true, models, false, models, alpha=ALPHA).bound))

    def draw(rng: np.random.Generator) -> float:
        # The best threshold of this pair, fixed beforehand.
        true, false = (int((laplace(rng, shift, models) >= truth).sum()) for shift in (truth, 0.0))
        return bounds(true, false)

    assert at_most(errors(truth, draw, 5), float(ALPHA))


def test_the_pair_simulation_can_fail() -> None:
    """A claim that the truth is smaller than it is falls often."""

    def draw(rng: np.random.Generator) -> float:
        true, false = (int((laplace(rng, shift, 64) >= 3.0).sum()) for shift in (3.0, 0.0))
        return float(pair_eps(true, 64, false, 64, alpha=ALPHA).bound)

    rng = np.random.default_rng(5)
    assert sum(draw(rng) > 0.3 for _ in range(40)) >= 30


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_rank_bound_errs_at_most_at_its_level(truth: float) -> None:
    bounds = cache(lambda above: float(group_eps(Fraction(1 + above, 100), alpha=ALPHA).bound))

    def draw(rng: np.random.Generator) -> float:
        score = laplace(rng, truth, 1)
        return bounds(int((laplace(rng, 0.0, 99) >= score).sum()))

    assert at_most(errors(truth, draw, 6), float(ALPHA))


@cache
def rank_sum_p(total: int, first: int, second: int) -> Fraction:
    """Exact one-sided p-value of the rank sum by counting all splits."""
    sums = _rank_sums(first, second)
    return Fraction(sum(found >= total for found in sums), len(sums))


@cache
def _rank_sums(first: int, second: int) -> tuple[int, ...]:
    return tuple(sum(split) for split in combinations(range(1, first + second + 1), first))


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("models", [2, 5])
def test_the_permutation_bound_errs_at_most_at_its_level(truth: float, models: int) -> None:
    other = 8

    def draw(rng: np.random.Generator) -> float:
        scores = np.concatenate([laplace(rng, truth, models), laplace(rng, 0.0, other)])
        total = int(stats.rankdata(scores)[:models].sum())
        return float(permutation_eps(rank_sum_p(total, models, other), models, alpha=ALPHA).bound)

    assert at_most(errors(truth, draw, 7), float(ALPHA))


def test_without_the_division_by_n_the_permutation_bound_would_err() -> None:
    other, models, truth = 8, 5, 1.0

    def naive(rng: np.random.Generator) -> float:
        scores = np.concatenate([laplace(rng, truth, models), laplace(rng, 0.0, other)])
        total = int(stats.rankdata(scores)[:models].sum())
        return float(group_eps(rank_sum_p(total, models, other), alpha=ALPHA).bound)

    assert errors(truth, naive, 8) > stats.binom.ppf(0.999, RUNS, float(ALPHA))


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_tv_bound_errs_at_most_at_its_level(truth: float) -> None:
    slots = 48
    distance = 1 - exp(-truth / 2)  # of two unit Laplace laws at that distance
    bounds = cache(lambda right: float(tv_lower(slots, right, alpha=ALPHA).bound))

    def draw(rng: np.random.Generator) -> float:
        coins = rng.integers(0, 2, slots)
        scores = rng.laplace(size=slots) + truth * coins
        return bounds(int(((scores > truth / 2) == coins).sum()))

    assert at_most(errors(distance, draw, 9), float(ALPHA))


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_delta_curve_errs_at_most_at_its_level_at_all_points_together(truth: float) -> None:
    models, grid = 48, [Fraction(0), Fraction(1, 2), Fraction(1), Fraction(3)]
    curves = cache(lambda true, false: pair_delta(true, models, false, models, eps=grid, alpha=ALPHA).points)
    # delta(eps) of the pair: the best event is a half-line.
    cuts = np.linspace(-10, 10 + truth, 4001)
    tails = stats.laplace.sf(cuts - truth), stats.laplace.sf(cuts)
    truths = [max((tails[0] - exp(float(eps)) * tails[1]).max(), 0.0) + 1e-6 for eps in grid]
    rng, false_curves = np.random.default_rng(10), 0
    for _ in range(RUNS):
        true, false = (int((laplace(rng, shift, models) >= truth / 2).sum()) for shift in (truth, 0.0))
        points = curves(true, false)
        false_curves += any(float(delta) > limit for (_, delta), limit in zip(points, truths, strict=True))
    assert at_most(false_curves, float(ALPHA))


# --- Bad arguments ---------------------------------------------------------------------------------------------------

HALF = Fraction(1, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: group_eps(NONE, alpha=ALPHA), r"p: Fraction\(0, 1\); expected an exact p-value"),
        (lambda: group_eps(0.1, alpha=ALPHA), "p: 0.1; expected an exact p-value, a Fraction"),
        (lambda: group_eps(HALF, alpha=0.05), r"alpha: 0.05; expected a Fraction in \(0, 1\)"),
        (lambda: group_eps(HALF, alpha=Fraction(1)), "alpha: "),
        (lambda: group_eps(HALF, alpha=ALPHA, delta=Fraction(1)), r"delta: .* expected a Fraction in \[0, 1\)"),
        (lambda: permutation_eps(HALF, 0, alpha=ALPHA), "models: 0 of 0; expected"),
        (lambda: pair_eps(5, 4, 0, 4, alpha=ALPHA), "unlearned: 5 of 4; expected 0 <= hits <= trials"),
        (lambda: pair_eps(0, 4, -1, 4, alpha=ALPHA), "retrained: -1 of 4"),
        (lambda: pair_eps(0, 4, 0, 0, alpha=ALPHA), "retrained: 0 of 0"),
        (lambda: pair_eps(0, 4, 0, 4, alpha=ALPHA, direction="back"), "direction: 'back'; expected 'both'"),
        (lambda: pair_delta(0, 4, 0, 4, eps=[], alpha=ALPHA), "eps: none; expected at least one"),
        (lambda: pair_delta(0, 4, 0, 4, eps=[0.5], alpha=ALPHA), "eps: 0.5; expected a Fraction from 0 to 1000"),
        (lambda: guesses_delta(4, 5, 1, eps=[NONE], alpha=ALPHA), "guesses: 5 of 4"),
        (lambda: guesses_delta(4, 2, 3, eps=[NONE], alpha=ALPHA), "right: 3 of 2"),
        (lambda: tv_lower(4, 5, alpha=ALPHA), "right: 5 of 4"),
    ],
)
def test_bad_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        call()


def test_records_check_themselves() -> None:
    words = {"quantity": "eps", "method": "m", "n": (1,), "assumption": "a", "supports_verdict": True}
    with pytest.raises(AttackError, match="bound: 1/3; expected a multiple of 1/10000"):
        LowerBound(bound=Fraction(1, 3), alpha=ALPHA, delta=NONE, **words)
    with pytest.raises(AttackError, match="alpha"):
        LowerBound(bound=NONE, alpha=NONE, delta=NONE, **words)
    with pytest.raises(AttackError, match="points"):
        DeltaCurve(points=((NONE, Fraction(2)),), alpha=ALPHA, method="m", n=(1,), assumption="a")
