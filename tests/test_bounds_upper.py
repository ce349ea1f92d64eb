"""Statements in the other direction: words, coverage of the bands, level and power of the equivalence test."""

from collections.abc import Callable
from fractions import Fraction
from math import exp

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_ind

from cu_attacks._types import AttackError
from cu_attacks._upper import AttackLimited, attack_limited, equivalence
from cu_certificates.check.bands import delta_up, delta_up_floor

EXAMPLES = settings(deadline=None, max_examples=200 if SLOW else 40)
RUNS = 4_000 if SLOW else 500
ALPHA = Fraction(1, 20)
NONE = Fraction(0)


def at_most(count: int, share: float, runs: int = RUNS) -> bool:
    return bool(count <= stats.binom.ppf(0.999, runs, share))


# --- Attack-limited --------------------------------------------------------------------------------------------------


def test_it_says_what_it_says() -> None:
    rng = np.random.default_rng(0)
    found = attack_limited(rng.normal(size=64), rng.normal(size=64), score="mean margin", eps=Fraction(1), alpha=ALPHA)
    assert found.sentence.startswith(
        "with 95 % confidence no threshold attacker on this score (mean margin) has a true"
    )
    assert "e^1.0000 times its false positive rate" in found.sentence
    assert found.floor == delta_up_floor(64, 64, Fraction(1), ALPHA, both=True)
    assert found.floor <= found.delta_up <= 1
    assert not found.supports_verdict
    at_zero = attack_limited([1.0], [2.0], score="s", eps=NONE, alpha=ALPHA, sides="one")
    assert "above its false positive rate plus 1.0000" in at_zero.sentence
    assert "eps" not in at_zero.sentence


@EXAMPLES
@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=20),
    st.lists(st.integers(-50, 50), min_size=1, max_size=20),
    st.sampled_from(["one", "both"]),
)
def test_integer_scores_give_the_checkers_number(u: list[int], r: list[int], sides: str) -> None:
    for eps in (NONE, Fraction(1)):
        expected = delta_up(u, r, eps, ALPHA, both=sides == "both")
        assert attack_limited(u, r, score="s", eps=eps, alpha=ALPHA, sides=sides).delta_up == expected
        # Any score with the same order, as small or large as it may be.
        tiny = [np.array(pool) * 1e-300 for pool in (u, r)]
        assert attack_limited(*tiny, score="s", eps=eps, alpha=ALPHA, sides=sides).delta_up == expected


@pytest.mark.parametrize("truth", [0.0, 1.0, 3.0])
def test_the_statement_errs_at_most_at_its_level(truth: float) -> None:
    """A Laplace pair: the best threshold attacker is the best attacker, with delta(eps) known."""
    alpha, models = Fraction(1, 4), 24
    cuts = np.linspace(-10, 14, 2401)
    for sides in ("one", "both"):
        rng, false = np.random.default_rng(7), 0
        for eps in (NONE, Fraction(1)):
            gaps = stats.laplace.sf(cuts - truth) - exp(float(eps)) * stats.laplace.sf(cuts)
            limit = max(gaps.max(), 0.0)
            false = 0
            for _ in range(RUNS // 4):
                u, r = rng.laplace(size=models) + truth, rng.laplace(size=models)
                found = attack_limited(u, r, score="s", eps=eps, alpha=alpha, sides=sides)
                false += found.delta_up < min(limit, 1.0)
            assert at_most(false, float(alpha), RUNS // 4)


def test_pools_that_differ_are_seen_and_ties_are_defined() -> None:
    apart = attack_limited(np.arange(100) + 1000.0, np.arange(100.0), score="s", eps=NONE, alpha=ALPHA)
    alike = attack_limited(np.arange(100.0), np.arange(100.0), score="s", eps=NONE, alpha=ALPHA)
    constant = attack_limited(np.ones(100), np.ones(100), score="s", eps=NONE, alpha=ALPHA)
    assert apart.delta_up == 1
    assert alike.delta_up == alike.floor == constant.delta_up


# --- Equivalence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    u, r, other = rng.normal(0.1, 1.5, 30), rng.normal(0, 1, 41), rng.normal(0, 1, 25)
    found = equivalence(u, r, reference=other, factor=0.8, alpha=ALPHA)
    margin = 0.8 * other.std(ddof=1)
    p, _, _ = ttost_ind(u, r, -margin, margin, usevar="unequal")
    assert found.p == pytest.approx(p, rel=1e-9)
    assert found.equivalent == (p < 0.05)
    interval = stats.ttest_ind(u, r, equal_var=False).confidence_interval(0.90)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.level == pytest.approx(0.90)
    assert found.margin == pytest.approx(margin)
    assert found.n == (30, 41, 25)
    assert not found.supports_verdict


def test_its_level_at_the_margin_and_its_power() -> None:
    """A mean exactly one margin away is called equivalent in at most 5 %; one that is equal nearly always."""
    rng, models = np.random.default_rng(8), 64
    reference = rng.normal(size=32)
    margin = 0.5 * reference.std(ddof=1)
    rates = []
    for shift in (margin, 0.0):
        rates.append(
            sum(
                equivalence(
                    rng.normal(size=models) + shift,
                    rng.normal(size=models),
                    reference=reference,
                    factor=0.5,
                    alpha=ALPHA,
                ).equivalent
                for _ in range(RUNS)
            )
        )
    assert at_most(rates[0], 0.05)
    assert rates[0] >= stats.binom.ppf(0.001, RUNS, 0.03)
    assert rates[1] > 0.75 * RUNS


def test_too_few_models_are_no_equivalence() -> None:
    """The fallacy that a large p-value of a difference is a sign of likeness: four models show nothing."""
    rng = np.random.default_rng(9)
    found = [
        equivalence(
            rng.normal(size=4), rng.normal(size=4), reference=rng.normal(size=16), factor=0.5, alpha=ALPHA
        ).equivalent
        for _ in range(100)
    ]
    assert sum(found) <= 5


def test_one_constant_pool_is_defined() -> None:
    rng = np.random.default_rng(10)
    found = equivalence(np.full(20, 0.1), rng.normal(size=20), reference=rng.normal(size=9), factor=2.0, alpha=ALPHA)
    assert np.isfinite([found.low, found.high, found.p]).all()


# --- Bad arguments ---------------------------------------------------------------------------------------------------

GOOD = [0.0, 1.0, 2.0]
OTHER = [0.5, 1.5, 4.0]


def limited(**changes: object) -> AttackLimited:
    arguments = {"unlearned": GOOD, "retrained": GOOD, "score": "s", "eps": NONE, "alpha": ALPHA} | changes
    return attack_limited(arguments.pop("unlearned"), arguments.pop("retrained"), **arguments)


def tost(**changes: object) -> object:
    arguments = {"unlearned": GOOD, "retrained": GOOD, "reference": OTHER, "factor": 1.0, "alpha": ALPHA} | changes
    return equivalence(arguments.pop("unlearned"), arguments.pop("retrained"), **arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: limited(unlearned=[]), r"unlearned: shape \(0,\)"),
        (lambda: limited(retrained=[1.0, float("nan")]), "retrained: holds NaN or infinite"),
        (lambda: limited(alpha=0.05), "alpha: 0.05; expected a Fraction"),
        (lambda: limited(eps=1.0), "eps: 1.0; expected a Fraction"),
        (lambda: limited(score=""), "score: empty; expected the name"),
        (lambda: limited(sides="two"), "sides: 'two'; expected 'one' or 'both'"),
        (lambda: tost(unlearned=[1.0]), "unlearned: 1 scores"),
        (lambda: tost(retrained=[1e200, 1.0]), "retrained: 2 scores up to 1e\\+200"),
        (lambda: tost(reference=[0.1, 0.1, 0.1]), "reference: all scores are equal"),
        (lambda: tost(reference=[2.0, 0.0, 1.0]), "reference: the same scores as retrained"),
        (lambda: tost(unlearned=[0.1] * 3, retrained=[0.1] * 4), "unlearned, retrained: all scores are equal"),
        (lambda: tost(factor=0.0), "factor: 0.0; expected a positive number"),
        (lambda: tost(factor=float("inf")), "factor: inf"),
        (lambda: tost(alpha=Fraction(1, 2)), "alpha: 1/2; expected below 1/2"),
    ],
)
def test_bad_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        call()


def test_a_record_checks_itself() -> None:
    with pytest.raises(AttackError, match="floor: 1; expected at most delta_up 1/2"):
        AttackLimited(
            score="s", eps=NONE, delta_up=Fraction(1, 2), floor=Fraction(1), alpha=ALPHA, n=(1, 1), sides="one"
        )
