"""Corrections for many statements: second implementations, known examples, error rates."""

from fractions import Fraction

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cu_attacks._multiplicity import benjamini_hochberg, bonferroni, holm
from cu_attacks._types import AttackError

EXAMPLES = settings(deadline=None, max_examples=300 if SLOW else 50)
RUNS = 4_000 if SLOW else 1_000
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def naive_holm(p: list[float]) -> list[float]:
    n, adjusted = len(p), [0.0] * len(p)
    reached = 0.0
    for rank, index in enumerate(sorted(range(n), key=lambda i: p[i])):
        reached = max(reached, min((n - rank) * p[index], 1.0))
        adjusted[index] = reached
    return adjusted


def naive_steps(p: list[float], level: float) -> int:
    """How many hypotheses the step-up rule reports."""
    ordered = sorted(p)
    return max((k for k in range(1, len(p) + 1) if ordered[k - 1] <= k * level / len(p)), default=0)


@EXAMPLES
@given(P_VALUES)
def test_holm_agrees_with_the_textbook(p: list[float]) -> None:
    found = holm(p)
    assert found == pytest.approx(naive_holm(p), abs=1e-12)
    assert (found >= np.array(p) - 1e-15).all()


@EXAMPLES
@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.2]))
def test_step_up_agrees_with_the_textbook(p: list[float], level: float) -> None:
    # Away from the boundary, where one unit in the last place decides.
    if any(abs(value * len(p) - k * level) < 1e-12 for value in p for k in range(len(p) + 1)):
        return
    rejected, adjusted = benjamini_hochberg(p, level)
    assert rejected.sum() == naive_steps(p, level)
    assert (rejected == (adjusted <= level)).all()
    assert rejected.sum() >= (holm(p) <= level).sum()


def test_known_examples() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    # Benjamini and Hochberg 1995, section 3.2: fifteen p-values, of which four are reported at 0.05.
    p = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
        0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
    ]  # fmt: skip
    rejected, adjusted = benjamini_hochberg(p[::-1], 0.05)
    assert rejected.tolist() == [False] * 11 + [True] * 4
    assert adjusted[::-1] == pytest.approx(multipletests(p, method="fdr_bh")[1])
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert (holm(p) <= 0.05).sum() == 3
    assert bonferroni(Fraction(1, 20), 4) == Fraction(1, 80)


def test_ties_and_single_values_are_defined() -> None:
    assert holm([0.2]).tolist() == [0.2]
    assert holm([0.02, 0.02, 0.02]) == pytest.approx([0.06] * 3)
    assert benjamini_hochberg([0.02] * 3, 0.05)[0].all()
    assert benjamini_hochberg([1.0, 1.0], 0.05)[1].tolist() == [1.0, 1.0]


def test_error_rates() -> None:
    """Forty records of which ten leak: Holm errs at all in 5 % at most, step-up in 5 % of what it reports."""
    rng, any_false, shares = np.random.default_rng(11), 0, []
    for _ in range(RUNS):
        p = stats.norm.sf(rng.normal(size=40) + 3.0 * (np.arange(40) < 10))
        any_false += bool((holm(p)[10:] <= 0.05).any())
        rejected, _ = benjamini_hochberg(p, 0.05)
        shares.append(rejected[10:].sum() / max(rejected.sum(), 1))
    assert any_false <= stats.binom.ppf(0.999, RUNS, 0.05)
    # The level of step-up under independence is 0.05 * 30 / 40 exactly.
    expected, error = 0.05 * 30 / 40, np.std(shares) / RUNS**0.5
    assert abs(np.mean(shares) - expected) < 3.3 * error


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: holm([]), r"p: shape \(0,\)"),
        (lambda: holm([[0.1]]), r"p: shape \(1, 1\)"),
        (lambda: holm([0.1, float("nan")]), "p: holds NaN or infinite"),
        (lambda: holm([0.1, 1.2]), r"p: values from 0.1 to 1.2; expected p-values in \[0, 1\]"),
        (lambda: benjamini_hochberg([-0.1], 0.05), "expected p-values"),
        (lambda: benjamini_hochberg([0.1], 1.0), r"level: 1.0; expected a false discovery rate in \(0, 1\)"),
        (lambda: bonferroni(Fraction(1), 2), r"alpha: 1; expected a level in \(0, 1\)"),
        (lambda: bonferroni(Fraction(1, 20), 0), "statements: 0; expected at least 1"),
    ],
)
def test_bad_arguments(call, message: str) -> None:
    with pytest.raises(AttackError, match=message):
        call()
