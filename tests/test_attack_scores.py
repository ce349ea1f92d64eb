"""Attacks without a fitted normal law: population, loss, RMIA, quantile regression and Shokri."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from cu_attacks._types import AttackError
from cu_attacks.loss import yeom_advantage
from cu_attacks.population import population_rate, population_scores, population_threshold
from cu_attacks.quantile import quantile_regression
from cu_attacks.rmia import rmia_offline, rmia_online, tuned_a
from cu_attacks.shokri import shokri

Array = np.ndarray[Any, Any]
RUNS = 3200 if SLOW else 320


def at_most(count: int, runs: int, share: float) -> bool:
    return count <= stats.binom.ppf(0.999, runs, share)


# --- Population ------------------------------------------------------------------------------------------------------


def test_the_population_score_is_one_minus_the_conformal_p() -> None:
    scores = population_scores([3.0, 2.0, 0.0, 9.0], [1.0, 2.0, 3.0])
    assert scores == pytest.approx([1 - 2 / 4, 1 - 3 / 4, 1 - 4 / 4, 1 - 1 / 4])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 60), rate=st.floats(0.001, 0.999), digits=st.integers(0, 3))
def test_the_threshold_flags_what_the_p_value_flags(seed: int, size: int, rate: float, digits: int) -> None:
    rng = np.random.default_rng(seed)
    population, phi = np.round(rng.normal(size=size), digits), np.round(rng.normal(size=30), digits)
    p = 1 - population_scores(phi, population)
    threshold = population_threshold(population, false_rate=rate)
    assert (phi > threshold.value).tolist() == (p <= rate + 1e-12).tolist()
    assert np.isfinite(threshold.value) == (size >= threshold.least)


@pytest.mark.parametrize("digits", [6, 0])
def test_the_populations_false_positive_rate_holds_by_construction(digits: int) -> None:
    rng, flagged = np.random.default_rng(0), 0
    for _ in range(RUNS):
        *population, fresh = np.round(rng.standard_t(3, 21), digits)
        flagged += fresh > population_threshold(population, false_rate=0.1).value
    assert at_most(flagged, RUNS, 0.1)
    if digits:  # 21 draws, two of them above: exactly 2 / 21
        assert flagged >= stats.binom.ppf(0.001, RUNS, 2 / 21)


def test_the_flagged_share_by_hand() -> None:
    population = np.arange(199.0)  # 1 % of 200 allows two: the threshold is the second largest, 197
    found = population_rate([200.0, 197.5, 197.0, 0.0], population, false_rate=0.01, name="TPR")
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx(
        (stats.beta.ppf(0.025, 2, 3), stats.beta.ppf(0.975, 3, 2)), abs=1.001e-4
    )
    assert found.n == (4, 199)


# --- Loss ------------------------------------------------------------------------------------------------------------


def test_yeoms_advantage_by_hand_and_its_interval_holds() -> None:
    probability = np.array([0.9, 0.8, 0.4, 0.7, 0.3, 0.2])
    margins, member = np.log(probability / (1 - probability)), np.arange(6) < 3
    found = yeom_advantage(margins, member, training_loss=-np.log(0.6))
    assert found.value == pytest.approx(2 / 3 - 1 / 3)
    low = stats.beta.ppf(0.0125, 2, 2) - stats.beta.ppf(1 - 0.0125, 2, 2)
    assert found.low == pytest.approx(low, abs=3e-4)
    rng, hits = np.random.default_rng(1), 0
    truth = stats.norm.sf(-1.0) - stats.norm.sf(0.0)
    for _ in range(RUNS // 4):
        values = np.concatenate([rng.normal(1, 1, 30), rng.normal(0, 1, 40)])
        one = yeom_advantage(values, np.arange(70) < 30, training_loss=float(np.log(2)))
        hits += one.low <= truth <= one.high
    assert hits >= stats.binom.ppf(0.001, RUNS // 4, 0.95)


# --- RMIA ------------------------------------------------------------------------------------------------------------


def test_rmia_golden() -> None:
    found = rmia_offline([0.9, 0.5], [[0.6, 0.5]], [0.8, 0.6, 0.3], [[0.7, 0.6, 0.4]], a=0.3, gamma=1.0)
    assert found == pytest.approx([1, 1 / 3])


@pytest.mark.parametrize("seed", range(3))
def test_rmia_is_that_of_two_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, shadows = rng.uniform(size=8), rng.uniform(size=(6, 8))
    z, around = rng.uniform(size=11), rng.uniform(size=(6, 11))
    inside = rng.random((6, 8)) < 0.5
    inside[0], inside[1] = True, False
    for gamma in (1.0, 2.0):
        online = [
            np.mean(
                [
                    (p[i] / ((shadows[inside[:, i], i].mean() + shadows[~inside[:, i], i].mean()) / 2))
                    / (z[j] / around[:, j].mean())
                    > gamma
                    for j in range(11)
                ]
            )
            for i in range(8)
        ]
        assert rmia_online(p, shadows, inside, z, around, gamma=gamma) == pytest.approx(online)
        a = 0.4
        offline = [
            np.mean(
                [
                    (p[i] / (0.5 * ((1 + a) * shadows[:, i].mean() + (1 - a))))
                    / (z[j] / (0.5 * ((1 + a) * around[:, j].mean() + (1 - a))))
                    > gamma
                    for j in range(11)
                ]
            )
            for i in range(8)
        ]
        assert rmia_offline(p, shadows, z, around, a=a, gamma=gamma) == pytest.approx(offline)


def test_rmia_under_the_null_is_a_rank_among_the_population() -> None:
    """Records and population from one law: the share beaten is uniform on its steps, so its mean is 1/2."""
    rng = np.random.default_rng(2)
    base = rng.normal(0, 2, 4000)
    draw = lambda models: 1 / (1 + np.exp(-(base + rng.normal(size=(models, 4000)))))  # noqa: E731
    own, others = draw(1)[0], draw(4)
    scores = rmia_offline(own[:2000], others[:, :2000], own[2000:], others[:, 2000:])
    assert scores.mean() == pytest.approx(0.5, abs=4 * (1 / 12 / 1000) ** 0.5)


def test_a_is_tuned_on_a_model_with_known_members_and_of_equals_the_first_wins() -> None:
    rng = np.random.default_rng(3)
    member = np.arange(400) < 200
    base = rng.normal(0, 2, 800)
    logits = base + rng.normal(size=(5, 800))
    logits[0, :200] += 1.5
    p = 1 / (1 + np.exp(-logits))
    arguments = p[0, :400], p[1:, :400], member, p[0, 400:], p[1:, 400:]
    grid = (0.0, 0.3, 0.6, 1.0)
    areas = [
        roc_auc_score(member, rmia_offline(arguments[0], arguments[1], arguments[3], arguments[4], a=a)) for a in grid
    ]
    assert tuned_a(*arguments, grid=grid) == grid[int(np.argmax(areas))]
    flat = np.full(6, 0.5)
    assert tuned_a(flat, flat[None], np.arange(6) < 3, flat, flat[None], grid=(0.7, 0.2)) == 0.7


def test_probabilities_that_underflowed_are_small_not_impossible() -> None:
    scores = rmia_offline([0.0, 1.0], [[0.0, 1.0]], [0.0, 0.5], [[0.0, 0.5]], a=1.0)
    assert np.isfinite(scores).all()
    assert rmia_online([0.0], [[0.0], [0.0]], np.array([[True], [False]]), [0.5], [[0.5], [0.5]])[0] == 0.0


# --- Quantile regression ---------------------------------------------------------------------------------------------


def hard(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    """Signals whose level and spread depend on a feature, and that feature with one that means nothing."""
    x = rng.uniform(-1, 1, (size, 2))
    return 4 * x[:, 0] + (0.2 + (x[:, 0] > 0)) * rng.normal(size=size), x


def test_the_quantile_attack_sees_what_one_threshold_for_all_cannot() -> None:
    rng = np.random.default_rng(4)
    population, z = hard(rng, 1200)
    fresh, x = hard(rng, 1000)
    phi = fresh + np.where(np.arange(1000) < 500, 1.0, 0.0)
    found = quantile_regression(phi, x, population, z, rng=rng, false_rate=0.05)
    plain = phi > population_threshold(population, false_rate=0.05).value
    assert found.flagged[500:].mean() == pytest.approx(0.05, abs=0.03)
    assert found.flagged[:500].mean() > 3 * plain[:500].mean()
    assert (found.flagged == (found.p <= 0.05)).all()
    assert found.n == (1000, 600, 600)


def test_the_quantile_attacks_false_positive_rate_holds_however_bad_the_regression() -> None:
    """Fitted on ten records the quantile is nonsense; the conformal threshold does not mind."""
    rng, runs, flagged = np.random.default_rng(5), RUNS // 8, 0
    for _ in range(runs):
        signals, x = hard(rng, 22)
        found = quantile_regression(signals[:1], x[:1], signals[1:], x[1:], rng=rng, false_rate=0.2)
        flagged += bool(found.flagged[0])
    assert at_most(flagged, runs, 0.2)


def test_the_quantile_attack_repeats_with_its_generator() -> None:
    signals, x = hard(np.random.default_rng(6), 90)
    one, two = (
        quantile_regression(signals[:30], x[:30], signals[30:], x[30:], rng=np.random.default_rng(7)) for _ in range(2)
    )
    assert (one.scores == two.scores).all()
    assert one.threshold.value == np.inf
    assert one.threshold.least == 99
    assert not one.flagged.any()


# --- Shokri ----------------------------------------------------------------------------------------------------------


def vectors(rng: np.random.Generator, labels: Array, inside: Array, classes: int, strength: float) -> Array:
    logits = rng.normal(size=(*inside.shape, classes))
    logits[..., np.arange(len(labels)), labels] += 1 + strength * inside
    p = np.exp(logits)
    found: Array = p / p.sum(axis=-1, keepdims=True)
    return found


def test_shokri_learns_from_shadow_models_what_members_look_like() -> None:
    rng, classes = np.random.default_rng(8), 3
    labels, mask = rng.integers(0, classes, 300), rng.random((4, 300)) < 0.5
    member = np.arange(300) < 150
    found = [
        roc_auc_score(
            member,
            shokri(
                vectors(rng, labels, member, classes, strength),
                labels,
                vectors(rng, labels, mask, classes, strength),
                labels,
                mask,
            ),
        )
        for strength in (2.0, 0.0)
    ]
    assert found[0] > 0.75
    assert found[1] == pytest.approx(0.5, abs=0.12)


def test_shokri_falls_back_to_one_classifier_where_a_class_shows_one_kind_only() -> None:
    rng = np.random.default_rng(9)
    labels = np.arange(60) % 3
    mask = rng.random((4, 60)) < 0.5
    mask[:, labels == 2] = True
    shadows = vectors(rng, labels, mask, 3, 2.0)
    own = vectors(rng, labels, np.zeros(60, dtype=bool), 3, 2.0)
    own[2] = [0.01, 0.01, 0.98]
    own[5] = [0.5, 0.45, 0.05]
    scores = shokri(own, labels, shadows, labels, mask)
    assert np.isfinite(scores).all()
    assert scores[2] > scores[5]
    assert np.isfinite(shokri(np.eye(3), np.arange(3), shadows, labels, mask)).all(), "certain models are no error"


# --- Bad input -------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
HALF = np.full((2, 3), 0.5)
MASK = np.array([[True] * 3, [False] * 3])
PAIR = np.full((2, 2), 0.5)
SHADOW = np.full((1, 4, 2), 0.5)
KNOWN = np.array([[True, True, False, False]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: population_scores([np.nan], [1.0]), "signals: holds NaN"),
        (lambda: population_threshold([1.0], false_rate=1.0), "false_rate: 1.0"),
        (
            lambda: population_rate([1.0], np.arange(98.0), false_rate=0.01, name="x"),
            "98 records; expected at least 99",
        ),
        (lambda: yeom_advantage([1.0] * 4, np.array([True, True, False, False]), training_loss=-1.0), "training_loss"),
        (lambda: yeom_advantage([1.0] * 4, np.ones(4, dtype=bool), training_loss=1.0), "two of each"),
        (lambda: rmia_offline([1.5], [[0.5]], [0.5], [[0.5]]), "probabilities: values from 1.5"),
        (lambda: rmia_offline([0.5], [[0.5, 0.5]], [0.5], [[0.5]]), r"shadows: shape \(1, 2\); expected \(models, 1\)"),
        (
            lambda: rmia_offline([0.5], [[0.5]] * 2, [0.5], [[0.5]]),
            r"population_shadows: shape \(1, 1\); expected \(2, 1",
        ),
        (lambda: rmia_offline([0.5], [[0.5]], [0.5], [[0.5]], a=1.5), "a: 1.5"),
        (lambda: rmia_offline([0.5], [[0.5]], [0.5], [[0.5]], gamma=0.0), "gamma: 0.0"),
        (lambda: rmia_online([0.5] * 3, HALF, MASK & False, [0.5], [[0.5]] * 2), "3 records have no in model"),
        (lambda: rmia_online([0.5] * 3, HALF, MASK[:1], [0.5], [[0.5]] * 2), "member_mask: bool of shape"),
        (lambda: tuned_a([0.5], [[0.5]], [True], [0.5], [[0.5]], grid=()), "grid: none"),
        (lambda: quantile_regression([1.0], [[1.0]], [1.0] * 3, [[1.0]] * 3, rng=RNG), "population: 3 records"),
        (
            lambda: quantile_regression([1.0], [[1.0]] * 2, [1.0] * 4, [[1.0]] * 4, rng=RNG),
            "features: 2 rows; expected 1",
        ),
        (
            lambda: quantile_regression([1.0], [[1.0]], [1.0] * 4, [[1.0, 2.0]] * 4, rng=RNG),
            "population_features: shape",
        ),
        (
            lambda: quantile_regression([1.0], [[1.0]], [1.0] * 4, [[1.0]] * 4, rng=RNG, false_rate=0.0),
            "false_rate: 0.0",
        ),
        (lambda: shokri(PAIR * 3, [0, 1], SHADOW, [0, 1, 0, 1], KNOWN), "probabilities: a row is no probability"),
        (lambda: shokri(PAIR, [0, 2], SHADOW, [0, 1, 0, 1], KNOWN), "labels: classes 0 to 2; expected 0 to 1"),
        (lambda: shokri(PAIR, [0.0, 1.0], SHADOW, [0, 1, 0, 1], KNOWN), "labels: float64"),
        (lambda: shokri(PAIR, [0, 1], SHADOW, [0, 1, 0, 1], KNOWN | True), "member_mask: 4 examples in and 0 out"),
        (lambda: shokri(PAIR, [0, 1], np.full((1, 4, 4), 0.25), [0] * 4, KNOWN), "shadow_probabilities: 4 classes"),
        (lambda: shokri(PAIR, [0, 1], PAIR, [0, 1], KNOWN), "shadow_probabilities: shape"),
        (lambda: shokri(PAIR * np.nan, [0, 1], SHADOW, [0] * 4, KNOWN), "probabilities: holds NaN"),
    ],
)
def test_what_cannot_be_used_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        call()
