"""Attacks made for unlearning: the densities of RULI and the grades of IAM."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KernelDensity

from cu_attacks._types import AttackError
from cu_attacks.iam import iam, iam_signal
from cu_attacks.ruli import ruli_by_kind, ruli_efficacy, ruli_privacy

Array = np.ndarray[Any, Any]


# --- RULI ------------------------------------------------------------------------------------------------------------


def test_ruli_is_the_kernel_density_of_scikit_learn() -> None:
    rng = np.random.default_rng(10)
    phi, shadows = rng.normal(size=6), rng.normal(size=(12, 6))
    state = rng.integers(0, 3, (12, 6))
    state[:3] = np.arange(3)[:, None]

    def density(values: Array, x: float, width: float) -> float:
        return float(KernelDensity(bandwidth=width).fit(values[:, None]).score_samples([[x]])[0])

    for width in (1.0, 0.3):
        truth = [
            density(shadows[state[:, i] == 1, i], x, width) - density(shadows[state[:, i] == 2, i], x, width)
            for i, x in enumerate(phi)
        ]
        assert ruli_privacy(phi, shadows, state == 1, state == 2, bandwidth=width) == pytest.approx(truth)
    truth = [density(shadows[:5, i], x, 1.0) - density(shadows[5:, i], x, 1.0) for i, x in enumerate(phi)]
    assert ruli_efficacy(phi, shadows[:5], shadows[5:], bandwidth=1.0) == pytest.approx(truth)
    squares = ((shadows[:5] - shadows[:5].mean(0)) ** 2).sum() + ((shadows[5:] - shadows[5:].mean(0)) ** 2).sum()
    width = 1.06 * (squares / (4 * 6 + 6 * 6)) ** 0.5 * 6**-0.2
    assert ruli_efficacy(phi, shadows[:5], shadows[5:]) == pytest.approx(
        ruli_efficacy(phi, shadows[:5], shadows[5:], bandwidth=width)
    )


def test_ruli_sees_two_humps_that_a_normal_law_cannot_and_vulnerable_records_apart() -> None:
    rng, size = np.random.default_rng(11), 400
    vulnerable = np.arange(size) % 2 == 0

    def unlearned(models: int) -> Array:
        humps = rng.choice([-3.0, 3.0], (models, size)) * vulnerable
        return humps + rng.normal(size=(models, size))

    state = rng.integers(1, 3, (60, size)) == 1
    shadows = np.where(state, unlearned(60), rng.normal(size=(60, size)))
    member = np.arange(size) < size // 2
    phi = np.where(member, unlearned(1)[0], rng.normal(size=size))
    found = ruli_by_kind(ruli_privacy(phi, shadows, state, ~state), member, vulnerable)
    assert found.vulnerable.auc.low > 0.8
    assert found.vulnerable.direction == "remembered"
    assert found.others.auc.value == pytest.approx(0.5, abs=0.12)
    assert "vulnerable" in found.vulnerable.name


def test_ruli_is_finite_far_out_and_defined_for_constant_signals() -> None:
    shadows = np.random.default_rng(12).normal(size=(8, 3))
    scores = ruli_efficacy([1e90, -1e90, 0.0], shadows[:4], shadows[4:])
    assert np.isfinite(scores).all()
    assert ruli_efficacy([0.0], np.zeros((3, 1)), np.ones((3, 1)))[0] == pytest.approx(0.5), "width 1"


# --- IAM -------------------------------------------------------------------------------------------------------------


def test_the_iam_signal_by_hand() -> None:
    assert iam_signal([0.5]) == pytest.approx(-np.log(0.01 - np.log(0.50001)))
    assert np.isfinite(iam_signal([0.0, 1.0])).all()
    assert (np.diff(iam_signal(np.linspace(0, 1, 99))) > 0).all()


@pytest.mark.parametrize("shared", [True, False])
def test_iam_is_that_of_a_loop(shared: bool) -> None:
    rng = np.random.default_rng(13)
    phi, shadows, original = rng.normal(size=5), rng.normal(size=(4, 5)), rng.normal(3, 1, 5)
    steps = 7
    grid = [i / (steps - 1) for i in range(steps)]
    truth = []
    for i in range(5):
        total = 0.0
        for a, weight in pairwise(grid):
            drawn = shadows + a * (original - shadows)
            s = drawn.std() if shared else drawn[:, i].std()
            beta = 6**0.5 * s / np.pi
            total += weight * np.exp(-np.exp(-(phi[i] - (drawn[:, i].mean() - 0.5772 * beta)) / beta))
        truth.append(1 - total / sum(grid[1:]))
    found = iam(phi, shadows, original, steps=steps, shared_spread=shared)
    assert found.scores == pytest.approx(truth)
    assert found.mean == pytest.approx(np.mean(truth))


def test_iam_grades_between_the_original_and_a_never_in_model_and_shows_its_null_band() -> None:
    rng = np.random.default_rng(14)
    base = rng.normal(0, 0.2, 60)
    shadows, original = base + rng.normal(0, 0.2, (8, 60)), base + 3
    means = [iam(base + 3 * left, shadows, original).mean for left in (1.0, 0.5, 0.0)]
    assert means == sorted(means)
    assert means[0] < 0.2
    found = iam(base + rng.normal(0, 0.2, 60), shadows, original)
    assert found.null is not None
    assert found.null[0] - 0.1 < found.mean < found.null[1] + 0.1
    assert means[1] < found.null[0]
    assert iam(base, shadows[:2], original).null is None
    assert iam(base, shadows[:1], original).n == (60, 1), "one pre-trained model is enough"
    assert iam(base, np.zeros((2, 60)), np.zeros(60), shared_spread=False).scores == pytest.approx(
        iam(base, np.zeros((2, 60)), np.zeros(60)).scores
    )


def test_without_an_original_the_largest_signal_stands_in() -> None:
    shadows = np.random.default_rng(15).normal(size=(3, 4))
    top = np.full(4, float(iam_signal(1.0)))
    assert iam(np.zeros(4), shadows).scores == pytest.approx(iam(np.zeros(4), shadows, top).scores)


# --- Bad input -------------------------------------------------------------------------------------------------------

HALF = np.full((2, 3), 0.5)
MASK = np.array([[True] * 3, [False] * 3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ruli_privacy([1.0] * 3, HALF, MASK, MASK), "held_out: overlaps"),
        (lambda: ruli_privacy([1.0] * 3, HALF, MASK & False, ~MASK), "unlearned: 3 records have no such model"),
        (lambda: ruli_efficacy([1.0] * 3, HALF, HALF[:, :2]), "retrained: signals on 2 records; expected 3"),
        (lambda: ruli_efficacy([1.0] * 3, HALF, HALF, bandwidth=0.0), "bandwidth: 0.0"),
        (lambda: ruli_by_kind([1.0] * 4, np.ones(3, dtype=bool), np.ones(4, dtype=bool)), "member: shape"),
        (lambda: iam_signal([1.1]), "values in"),
        (lambda: iam_signal([0.5], e1=0.0), "e1 0.0"),
        (lambda: iam([1.0], [[1.0]], steps=1), "steps: 1"),
        (lambda: iam([1.0], [[1.0]], shared_spread=False), "shadows: shape"),
        (lambda: iam([1.0], [[1.0]], [1.0, 2.0]), "original"),
    ],
)
def test_what_cannot_be_used_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        call()
