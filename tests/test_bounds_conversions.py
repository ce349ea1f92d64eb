"""Arithmetic between eps, regions and accuracies: closed forms, inverses, known regions, bad arguments."""

from collections.abc import Callable
from fractions import Fraction
from math import exp, inf, log

import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st

from cu_attacks._conversions import eps_of_accuracy, largest_accuracy, largest_advantage, region_eps
from cu_attacks._types import AttackError
from cu_certificates.check.tails import STEP

EXAMPLES = settings(deadline=None, max_examples=300 if SLOW else 50)
NONE = Fraction(0)


def test_accuracy_and_advantage() -> None:
    assert largest_accuracy(NONE) == Fraction(1, 2)
    assert largest_advantage(NONE) == 0
    assert float(largest_accuracy(Fraction(1, 2))) == pytest.approx(0.6225, abs=1e-4)  # 62 %, as the protocol says
    for eps, delta in ((0.0, 0.1), (1.0, 0.0), (1.0, 0.01), (3.0, 0.2)):
        accuracy = (exp(eps) + delta) / (1 + exp(eps))
        found = float(largest_accuracy(Fraction(eps), Fraction(str(delta))))
        assert accuracy - 1e-12 <= found <= accuracy + 1.001e-4
        advantage = (exp(eps) - 1 + 2 * delta) / (exp(eps) + 1)
        found = float(largest_advantage(Fraction(eps), Fraction(str(delta))))
        assert advantage - 1e-12 <= found <= advantage + 1.001e-4
    assert largest_accuracy(Fraction(1), Fraction(1)) == 1


@EXAMPLES
@given(st.fractions(Fraction(1, 2), Fraction(999, 1000)), st.sampled_from([NONE, Fraction(1, 50)]))
def test_eps_of_an_accuracy_allows_it_and_no_less_does(accuracy: Fraction, delta: Fraction) -> None:
    eps = eps_of_accuracy(accuracy, delta)
    assert largest_accuracy(eps + STEP, delta) >= accuracy
    if eps:
        assert float(eps) <= log(float((accuracy - delta) / (1 - accuracy))) + 1e-9
        assert largest_accuracy(eps, delta) <= accuracy + STEP


@EXAMPLES
@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.0, 0.01]))
def test_a_region_is_the_least_eps_that_holds(tpr: float, fpr: float, delta: float) -> None:
    found = region_eps(tpr, fpr, delta=delta)
    rates = [(tpr, fpr), (1 - fpr, 1 - tpr), (fpr, tpr), (1 - tpr, 1 - fpr)]
    if found.eps < 30:
        assert all(top <= exp(found.eps) * bottom + delta + 1e-9 for top, bottom in rates)
    if 0 < found.eps < 30:
        assert any(top > exp(found.eps - 1e-6) * bottom + delta for top, bottom in rates)
    assert not found.supports_verdict
    # Exchanging the arms, or calling the complement, changes nothing.
    assert region_eps(fpr, tpr, delta=delta).eps == pytest.approx(found.eps)
    assert region_eps(1 - tpr, 1 - fpr, delta=delta).eps == pytest.approx(found.eps, abs=1e-6) or found.eps > 15


def test_known_regions() -> None:
    assert region_eps(0.5, 0.25).eps == pytest.approx(log(2))
    assert region_eps(0.5, 0.25, delta=0.25).eps == 0
    assert region_eps(0.9, 0.5).eps == pytest.approx(log(5))
    assert region_eps(1.0, 0.0).eps == inf
    assert region_eps(0.0, 0.0).eps == 0
    # Randomised response with e^eps to 1 odds, and the advantage formula at its corner.
    share = exp(1) / (1 + exp(1))
    assert region_eps(share, 1 - share).eps == pytest.approx(1)
    # jax_privacy ``test_epsilon_raw_counts_helper_nonzero_delta``: corners (2, 0), (6, 4) of 8.
    for delta, slope in ((1 / 4, 1.0), (3 / 8, 3 / 4)):
        assert max(log(max((6 / 8 - delta) / (4 / 8), 1e-9)), 0.0) == pytest.approx(max(log(slope), 0))
        assert region_eps(6 / 8, 4 / 8, delta=delta).eps == pytest.approx(max(log(slope), 0.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: region_eps(1.1, 0.0), "tpr: 1.1; expected a rate"),
        (lambda: region_eps(0.1, float("nan")), "fpr: nan; expected a rate"),
        (lambda: region_eps(0.1, 0.2, delta=1.0), "delta: 1.0"),
        (lambda: largest_accuracy(Fraction(-1)), "eps: .* expected a Fraction from 0 to 1000"),
        (lambda: largest_advantage(NONE, Fraction(2)), r"delta: .* expected a Fraction in \[0, 1\]"),
        (lambda: eps_of_accuracy(Fraction(1)), r"accuracy: .* expected a Fraction in \[1/2, 1\)"),
    ],
)
def test_bad_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        call()
