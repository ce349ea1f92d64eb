"""The classifier test and the relative test: exact levels, bounds, second implementations, closed forms."""

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, product
from math import comb, exp, log
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from scipy import stats

from cu_attacks import c2st as c2st_module
from cu_attacks._permute import binomial_p, hypergeometric_p, relabelings
from cu_attacks._types import AttackError
from cu_attacks.c2st import c2st
from cu_attacks.relative import relative

RUNS = 4_000 if SLOW else 300
Rng = np.random.Generator


def at_most(count: int, runs: int, share: float) -> bool:
    return count <= stats.binom.ppf(0.999, runs, share)


# --- Classifier ------------------------------------------------------------------------------------------------------


def test_the_two_exact_tails() -> None:
    for n, v in ((1, 0), (5, 3), (12, 12), (40, 31)):
        assert float(binomial_p(n, v)) == pytest.approx(stats.binomtest(v, n, alternative="greater").pvalue)
    labels = np.array([True] * 3 + [False] * 4)
    guessed = np.array([True, True, False, True, False, False, True])
    draws = [sum(guessed[i] for i in chosen) for chosen in combinations(range(7), 3)]
    hits = int((labels & guessed).sum())
    assert hypergeometric_p(7, 4, 3, hits) == Fraction(sum(h >= hits for h in draws), len(draws))
    assert hypergeometric_p(7, 0, 3, 0) == hypergeometric_p(7, 7, 3, 3) == 1


def test_a_perfect_classifier_has_the_closed_form() -> None:
    rng = np.random.default_rng(20)
    first, second = rng.normal(size=(32, 2)), rng.normal(99, 1, (32, 2))
    planned = c2st(first, second, rng=rng)
    assert planned.held_out == (16, 16)
    assert planned.exact == Fraction(1, comb(32, 16))
    edge = 0.025 ** (1 / 16)
    assert float(planned.tv_lower) == pytest.approx(2 * edge - 1, abs=2e-4)
    assert float(planned.tv_lower) <= 2 * edge - 1
    assert planned.eps_bound is None
    assert planned.unlearned == 16
    tossed = c2st(first, second, rng=rng, fair_coins=True)
    assert tossed.exact == Fraction(1, 2**32)
    assert float(tossed.tv_lower) == pytest.approx(2 * 0.05 ** (1 / 32) - 1, abs=3e-4)
    chance = 0.05 ** (1 / 32)
    assert tossed.eps_bound is not None
    assert float(tossed.eps_bound) == pytest.approx(log(chance / (1 - chance)), abs=2e-4)
    with pytest.raises(AttackError, match="no eps follows"):
        tossed.eps_lower(alpha=Fraction(1, 20))


def halves(rng: Rng, slots: int, shift: float, coins: bool, law: Callable[..., Any]) -> tuple[Any, Any]:
    labels = rng.random(slots) < 0.5 if coins else np.arange(slots) < slots // 2
    values = law(size=(slots, 1)) + shift * labels[:, None]
    return values[labels], values[~labels]


@pytest.mark.slow
@pytest.mark.parametrize("coins", [True, False])
def test_the_classifier_keeps_its_level_and_bounds(coins: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the best rule put in place of the fitted one the bounds are tightest, and quick to simulate."""
    shift, alpha, runs = 1.0, Fraction(1, 10), RUNS
    monkeypatch.setattr(c2st_module, "guesses", lambda train, labels, test: test[:, 0] > shift / 2)
    rng, wrong, rejected = np.random.default_rng(21), np.zeros(2), 0
    variation = 1 - exp(-shift / 2)  # of two Laplace laws
    for _ in range(runs):
        found = c2st(*halves(rng, 48, shift, coins, rng.laplace), rng=rng, fair_coins=coins, alpha=alpha)
        wrong += [found.tv_lower > variation, found.eps_bound is not None and found.eps_bound > shift]
        null = c2st(*halves(rng, 24, 0.0, coins, rng.laplace), rng=rng, fair_coins=coins)
        rejected += null.exact <= Fraction(1, 10)
    assert at_most(int(wrong[0]), runs, 0.1)
    assert at_most(int(wrong[1]), runs, 0.1)
    assert at_most(rejected, runs, 0.1)
    if coins:  # at one level only, so it is not idle
        assert wrong[0] > 0


@pytest.mark.slow
@pytest.mark.parametrize("coins", [True, False])
@pytest.mark.parametrize("law", ["normal", "nearly constant"])
def test_the_fitted_classifier_keeps_its_level(coins: bool, law: str) -> None:
    rng, runs = np.random.default_rng(22), 1_000 if SLOW else 60
    rejected = 0
    for _ in range(runs):
        values = rng.normal(size=(30, 3)) if law == "normal" else (rng.random((30, 3)) < 0.1) * 7.0
        labels = rng.random(30) < 0.5 if coins else np.arange(30) < 15
        rejected += c2st(values[labels], values[~labels], rng=rng, fair_coins=coins).exact <= Fraction(1, 5)
    assert at_most(rejected, runs, 0.2)


# --- Relative --------------------------------------------------------------------------------------------------------


def mean(one: Any, two: Any) -> float:
    return float(np.mean([np.linalg.norm(x - y) for x, y in product(one, two)]))


def energy(one: Any, two: Any) -> float:
    return 2 * mean(one, two) - mean(one, one) - mean(two, two)


def test_relative_by_double_loops() -> None:
    rng = np.random.default_rng(23)
    mine, rival, old = rng.normal(size=(5, 2)), rng.normal(size=(4, 2)), rng.normal(2, 1, (6, 2))
    found = relative(mine, rival, old, rng=np.random.default_rng(24), permutations=20)
    assert found.statistic == pytest.approx(energy(mine, old) - energy(mine, rival))
    offset = (mean(old, old) - mean(rival, rival)) / 2
    leans = [mean([x], old) - mean([x], rival) - offset > 0 for x in mine]
    assert found.leaning == sum(leans)
    assert float(found.share_p) == pytest.approx(stats.binomtest(sum(leans), 5, alternative="greater").pvalue)
    pool = np.concatenate([rival, old])
    rows = relabelings(4, 6, rng=np.random.default_rng(24), permutations=20)
    naive = np.array([energy(mine, pool[~row]) - energy(mine, pool[row]) for row in rows])
    assert found.label_p == Fraction(int((naive >= naive[0] - 1e-9).sum()), 21)
    assert found.exact == max(found.share_p, found.label_p)
    assert found.n == (5, 4, 6)


def test_relative_sees_who_is_closer() -> None:
    rng = np.random.default_rng(25)
    mine, rival, old = rng.normal(size=(16, 2)), rng.normal(size=(16, 2)), rng.normal(3, 1, (16, 2))
    assert relative(mine, rival, old, rng=rng, permutations=99).p <= 0.01
    other = relative(mine, old, rival, rng=rng, permutations=99)
    assert other.p > 0.9
    assert other.leaning <= 1
    same = relative(mine, rival, rival, rng=rng, permutations=99)
    assert same.leaning == 0
    assert same.statistic == pytest.approx(0, abs=1e-12)
    assert same.p == 1.0


@pytest.mark.slow
def test_relative_keeps_its_level_under_both_parts_of_its_hypothesis() -> None:
    rng, runs, rejected = np.random.default_rng(26), RUNS, [0, 0, 0]
    for _ in range(runs):
        # (a) retrained and original models are alike, wherever the unlearned ones are; with ties
        rival, old = np.round(rng.normal(size=(2, 6, 2)), 1)
        near = relative(rng.normal(1, 1, (9, 2)), rival, old, rng=rng, permutations=19)
        rejected[0] += near.exact <= Fraction(1, 20)
        # alone, the count of those that lean would reject far too often here: all models share these two pools
        rejected[2] += near.share_p <= Fraction(1, 20)
        # (b) every unlearned model is like one of the two with chance one half
        side = rng.choice([-5.0, 5.0], (9, 1))
        apart = relative(
            side + rng.normal(size=(9, 2)),
            rng.normal(-5, 1, (6, 2)),
            rng.normal(5, 1, (6, 2)),
            rng=rng,
            permutations=19,
        )
        rejected[1] += apart.exact <= Fraction(1, 20)
    assert at_most(rejected[0], runs, 0.05)
    assert at_most(rejected[1], runs, 0.05)
    assert rejected[2] > 0.1 * runs


def test_coins_that_leave_one_set_out_are_named() -> None:
    first, second = np.zeros((2, 1)), np.ones((3, 1))

    def often(rng: Rng) -> None:
        for _ in range(40):  # the two models to learn from are of one set in four of ten splits
            c2st(first, second, rng=rng, fair_coins=True)

    with pytest.raises(AttackError, match="are all of one set"):
        often(np.random.default_rng(0))
