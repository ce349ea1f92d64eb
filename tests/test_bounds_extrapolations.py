"""Extrapolations: published values, second implementations, right for Gaussian pairs and shown to fail for Laplace."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from math import exp, log

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from cu_attacks._bounds import pair_eps
from cu_attacks._extrapolations import (
    GaussianCurve,
    JointBeta,
    curve_rejected,
    fdp_one_run,
    gaussian_delta,
    gaussian_eps,
    gaussian_mu,
    joint_beta,
    posterior_private,
)
from cu_attacks._types import AttackError
from cu_certificates.check.coins import right_guesses
from cu_certificates.check.tails import cp_lower, cp_upper

EXAMPLES = settings(deadline=None, max_examples=200 if SLOW else 40)
RUNS = 2_000 if SLOW else 100
ALPHA = Fraction(1, 20)


def at_most(count: int, share: float) -> bool:
    return bool(count <= stats.binom.ppf(0.999, RUNS, share))


# --- The Gaussian pair -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "delta", "eps"),
    [
        (1, 1e-5, 4.377178095681137),
        (1, 0.1, 1.1603338527916227),
        (0.5, 1e-6, 10.997151214220652),
        (2, 1e-3, 1.3522762448025527),
        (0.25, 1e-5, 24.381610883113737),
    ],
)
def test_dp_accountings_gaussian_eps(sigma: float, delta: float, eps: float) -> None:
    """``dp_accounting`` 0.6.0, ``get_epsilon_gaussian(sigma, delta)``; mu = 1 / sigma."""
    assert gaussian_eps(1 / sigma, delta) == pytest.approx(eps, rel=1e-11)
    assert gaussian_delta(1 / sigma, eps) == pytest.approx(delta, rel=1e-9)


@EXAMPLES
@given(st.floats(0.05, 6), st.floats(0, 8))
def test_gaussian_delta_is_the_best_event(mu: float, eps: float) -> None:
    """delta(eps) is the integral of the positive part of p - e^eps q."""
    start = eps / mu + mu / 2  # the likelihood ratio exceeds e^eps from here on
    found, _ = integrate.quad(
        lambda x: stats.norm.pdf(x - mu) - exp(eps) * stats.norm.pdf(x), start, start + 20, epsabs=1e-13
    )
    assert gaussian_delta(mu, eps) == pytest.approx(found, abs=1e-9)


def test_gaussian_ends() -> None:
    assert gaussian_delta(0.0, 1.0) == 0.0
    assert gaussian_eps(0.0, 1e-5) == 0.0
    assert gaussian_eps(0.1, 0.5) == 0.0  # total variation is below delta
    assert gaussian_delta(1.0, 0.0) == pytest.approx(2 * stats.norm.cdf(0.5) - 1)
    assert gaussian_delta(0.01, 600.0) == 0.0
    assert np.isfinite(gaussian_eps(40.0, 1e-300))
    assert gaussian_eps(1e-6, 1e-12) == pytest.approx(1e-6 * 4.6, rel=0.1)


def test_gaussian_mu_is_the_formula() -> None:
    found = gaussian_mu(60, 64, 3, 64, alpha=ALPHA, delta=1e-5)
    low, high = cp_lower(64, 60, ALPHA / 2), cp_upper(64, 3, ALPHA / 2)
    assert (found.tpr, found.fpr) == (low, high)
    false_negative = 1 - float(low)
    assert found.mu == pytest.approx(stats.norm.ppf(1 - float(high)) - stats.norm.ppf(false_negative))
    assert found.eps == gaussian_eps(found.mu, 1e-5)
    assert not found.supports_verdict
    assert "normal laws" in found.assumption
    for true, false in ((0, 0), (64, 64), (0, 64), (10, 40)):
        assert gaussian_mu(true, 64, false, 64, alpha=ALPHA, delta=1e-5).eps == 0.0


def test_jax_privacys_gaussian_tightness() -> None:
    """``test_epsilon_from_gdp_tight``: with many samples the number reaches the truth of a Gaussian pair."""
    models = 8_000
    for mu in (1.0, 3.0):
        true, false = (round(models * stats.norm.cdf(side * mu / 2)) for side in (1, -1))
        found = gaussian_mu(true, models, false, models, alpha=Fraction(1, 10), delta=0.05)
        truth = gaussian_eps(mu, 0.05)
        assert found.eps <= truth
        assert found.eps == pytest.approx(truth, rel=0.08)  # theirs has 60 times the samples


@pytest.mark.parametrize("mu", [0.0, 1.0, 2.0])
def test_gaussian_mu_holds_for_a_gaussian_pair(mu: float) -> None:
    models, rng, false_claims = 64, np.random.default_rng(1), 0
    numbers = cache(lambda t, f: gaussian_mu(t, models, f, models, alpha=ALPHA, delta=1e-5).mu)
    for _ in range(RUNS):
        true, false = (int((rng.normal(shift, 1, models) >= mu / 2).sum()) for shift in (mu, 0.0))
        false_claims += numbers(true, false) > mu
    assert at_most(false_claims, 0.05)


@pytest.mark.parametrize("truth", [1.0, 3.0])
def test_gaussian_mu_fails_for_a_laplace_pair(truth: float) -> None:
    """The reason why it supports no verdict: the pair is exactly (eps, 0), and the number lies above eps as a rule."""
    models, rng, above, bounds_above = 256, np.random.default_rng(2), 0, 0
    numbers = cache(lambda t, f: gaussian_mu(t, models, f, models, alpha=ALPHA, delta=1e-5).eps)
    bounds = cache(lambda t, f: float(pair_eps(t, models, f, models, alpha=ALPHA).bound))
    for _ in range(RUNS):
        true, false = (int((rng.laplace(shift, 1, models) >= truth / 2).sum()) for shift in (truth, 0.0))
        above += numbers(true, false) > truth
        bounds_above += bounds(true, false) > truth
    assert above >= 0.9 * RUNS
    assert at_most(bounds_above, 0.05)  # the valid bound on the same counts


# --- One run along a Gaussian curve ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guesses", "right", "hypotheses", "eps"),
    [(406, 379, 386, 2.164749), (938, 934, 374, 4.7218075), (5436, 5436, 140, 9.133752)],
)
def test_jax_privacys_one_run_values(guesses: int, right: int, hypotheses: int, eps: float) -> None:
    """``test_epsilon_one_run_close``: 2 x 10^4 canaries, significance 0.05 over all corners of the hull, delta 1e-6.

    The counts are those of the best corner; the numbers of corners and the counts follow from their deterministic
    normal scores at shifts 1, 2 and 4.
    """
    found = fdp_one_run(20_000, guesses, right, alpha=Fraction(1, 20) / hypotheses, delta=1e-6)
    assert found.eps == pytest.approx(eps, rel=1e-5)


def naive_rejected(m: int, g: int, c: int, mu: float, alpha: float) -> bool:
    """The recursion with lists, all the way down."""
    r, h = [0.0] * (c + 1), [0.0] * (c + 1)
    r[c], h[c] = alpha * c / m, alpha * (g - c) / m
    for i in range(c - 1, -1, -1):
        h[i] = max(h[i + 1], stats.norm.cdf(stats.norm.ppf(min(r[i + 1], 1.0)) - mu))
        r[i] = r[i + 1] + i / (g - i) * (h[i] - h[i + 1])
    return r[0] + h[0] > g / m


@EXAMPLES
@given(st.integers(1, 30), st.data(), st.floats(0, 4))
def test_the_recursion_agrees_with_a_second_implementation(m: int, data: st.DataObject, mu: float) -> None:
    g = data.draw(st.integers(1, m))
    c = data.draw(st.integers(0, g))
    assert curve_rejected(m, g, c, mu=mu, alpha=0.05) == naive_rejected(m, g, c, mu, 0.05)


def test_one_run_laws() -> None:
    found = [fdp_one_run(200, 100, right, alpha=ALPHA, delta=1e-5) for right in (0, 50, 60, 80, 100)]
    numbers = [one.eps for one in found]
    assert numbers == sorted(numbers)
    assert numbers[:2] == [0.0, 0.0]
    assert numbers[2] > 0
    assert not any(one.supports_verdict for one in found)
    # A smaller level shows less.
    assert fdp_one_run(200, 100, 80, alpha=ALPHA / 10, delta=1e-5).eps < numbers[3]


def guessed(rng: np.random.Generator, noise: Callable[[int], np.ndarray], shift: float, m: int, g: int) -> int:
    coins = rng.integers(0, 2, m)
    scores = noise(m) + shift * coins
    return right_guesses([int(c) for c in coins], [int(1e6 * s) for s in scores], g)


def test_one_run_holds_for_gaussian_and_fails_for_laplace() -> None:
    m, g, truth = 400, 200, 1.0
    numbers = cache(lambda right: fdp_one_run(m, g, right, alpha=ALPHA, delta=1e-5))
    rng = np.random.default_rng(4)
    gaussian = sum(numbers(guessed(rng, lambda n: rng.normal(size=n), 1.0, m, g)).mu > 1.0 for _ in range(RUNS))
    laplace = sum(numbers(guessed(rng, lambda n: rng.laplace(size=n), truth, m, g)).eps > truth for _ in range(RUNS))
    assert at_most(gaussian, 0.05)
    assert laplace > 0.6 * RUNS


# --- The joint Beta posterior ----------------------------------------------------------------------------------------


def slow_posterior(counts: tuple[int, int, int, int], eps: float, delta: float) -> float:
    """The double integral over the privacy region, density by density."""
    fnr, fpr = stats.beta(counts[0] + 0.5, counts[1] + 0.5), stats.beta(counts[2] + 0.5, counts[3] + 0.5)

    def lower(x: float) -> float:
        return max(0.0, 1 - delta - exp(eps) * x, (1 - delta - x) * exp(-eps))

    found, _ = integrate.dblquad(
        lambda y, x: fnr.pdf(x) * fpr.pdf(y), 0, 1, lower, lambda x: 1 - lower(1 - x), epsabs=1e-5, epsrel=1e-5
    )
    return float(found)


@pytest.mark.parametrize(("counts", "eps"), [((3, 5, 4, 4), 0.1), ((1, 9, 2, 6), 1.0), ((6, 4, 5, 7), 0.5)])
def test_the_posterior_agrees_with_the_double_integral(counts: tuple[int, int, int, int], eps: float) -> None:
    assert posterior_private(counts, eps, 0.01) == pytest.approx(slow_posterior(counts, eps, 0.01), abs=1e-4)


@pytest.mark.parametrize("counts", [(0, 487, 512, 1), (12, 200, 58, 200), (32, 32, 32, 32), (0, 50, 0, 50)])
def test_the_posterior_agrees_with_draws(counts: tuple[int, int, int, int]) -> None:
    rng, delta, draws = np.random.default_rng(5), 1e-5, 200_000
    x = rng.beta(counts[0] + 0.5, counts[1] + 0.5, draws)
    y = rng.beta(counts[2] + 0.5, counts[3] + 0.5, draws)
    for eps in (0.1, 1.0, 3.0, 6.0):
        ratios = ((1 - x, y), (1 - y, x), (x, 1 - y), (y, 1 - x))
        inside = np.logical_and.reduce([top <= exp(eps) * bottom + delta for top, bottom in ratios])
        assert posterior_private(counts, eps, delta) == pytest.approx(inside.mean(), abs=4.5 * 0.5 / draws**0.5)


def test_published_joint_beta_intervals() -> None:
    """microsoft/responsible-ai-toolbox-privacy: its test (tolerance 0.01) and its README (root found to 0.01)."""
    assert joint_beta(1000, 1000, 0, 1000, alpha=ALPHA, delta=1e-5).low == pytest.approx(7.21, abs=0.01)
    found = joint_beta(487, 487, 512, 513, alpha=ALPHA, delta=1e-5)
    assert found.low == pytest.approx(0.145, abs=0.01)
    assert found.high == pytest.approx(6.399, abs=0.02)


def test_joint_beta_laws_of_its_authors() -> None:
    """``test_symmetry`` and ``test_eps_lo_order``: a symmetric region; the prior shows more than two intervals."""
    missed, found, false, left = 12, 200, 58, 200
    first = joint_beta(found, found + missed, false, false + left, alpha=ALPHA, delta=1e-5)
    for tp, fn, fp, tn in ((left, false, missed, found), (missed, found, left, false)):
        other = joint_beta(tp, tp + fn, fp, fp + tn, alpha=ALPHA, delta=1e-5)
        assert (other.low, other.high) == pytest.approx((first.low, first.high), abs=1e-5)
    exact = float(pair_eps(found, found + missed, false, false + left, alpha=ALPHA).bound)
    assert exact < first.low < log((200 / 212) / (58 / 258)) + 2 < first.high + 2
    # With delta as large as all of the mass, every pair of rates is private.
    assert joint_beta(5, 10, 5, 10, alpha=ALPHA, delta=0.99).high == 0.0


def test_the_credible_interval_is_no_confidence_bound() -> None:
    """At a truth of 0 its lower end is always above it; at eps = 1 it errs about as often as its level says."""
    models, rng = 64, np.random.default_rng(6)
    lows = cache(lambda t, f: joint_beta(t, models, f, models, alpha=ALPHA).low)
    runs, above = 40, {0.0: 0, 1.0: 0}
    for truth in above:
        for _ in range(runs):
            true, false = (int((rng.laplace(shift, 1, models) >= truth).sum()) for shift in (truth, 0.0))
            above[truth] += lows(true, false) > truth
    assert above[0.0] == runs
    assert above[1.0] <= stats.binom.ppf(0.999, runs, 0.08)


# --- Bad arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_delta(-1.0, 0.0), "mu -1.0, eps 0.0; expected mu from 0 to 40"),
        (lambda: gaussian_delta(1.0, float("nan")), "eps nan"),
        (lambda: gaussian_eps(1.0, 0.0), r"delta: 0.0; expected a number in \(0, 1\), for at 0"),
        (lambda: gaussian_mu(5, 4, 0, 4, alpha=ALPHA, delta=0.1), "unlearned: 5 of 4"),
        (lambda: gaussian_mu(1, 4, 5, 4, alpha=ALPHA, delta=0.1), "retrained: 5 of 4"),
        (lambda: gaussian_mu(1, 4, 1, 4, alpha=0.05, delta=0.1), "alpha: 0.05; expected a Fraction"),
        (lambda: fdp_one_run(4, 5, 1, alpha=ALPHA, delta=0.1), "guesses: 5 of 4"),
        (lambda: fdp_one_run(4, 0, 0, alpha=ALPHA, delta=0.1), "guesses: 0; expected at least one"),
        (lambda: fdp_one_run(4, 2, 3, alpha=ALPHA, delta=0.1), "right: 3 of 2"),
        (lambda: fdp_one_run(4, 2, 1, alpha=ALPHA, delta=1.0), "delta: 1.0"),
        (lambda: joint_beta(1, 4, 1, 4, alpha=Fraction(1, 2)), "alpha: 1/2; expected below 1/2"),
        (lambda: joint_beta(1, 4, 1, 4, alpha=ALPHA, delta=1.0), r"delta: 1.0; expected a number in \[0, 1\)"),
        (lambda: joint_beta(1, 0, 1, 4, alpha=ALPHA), "unlearned: 1 of 0"),
    ],
)
def test_bad_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        call()


def test_records_check_themselves() -> None:
    with pytest.raises(AttackError, match=r"low 2\.0, high 1\.0; expected an interval"):
        JointBeta(low=2.0, high=1.0, delta=0.0, alpha=ALPHA, n=(1, 1, 1, 1))
    with pytest.raises(AttackError, match="eps: nan; expected a finite number"):
        GaussianCurve(mu=1.0, eps=float("nan"), delta=0.1, alpha=ALPHA, n=(4, 2, 1))
