"""Described numbers: second implementations, closed forms, null bands, what they refuse, and the two result types."""

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from math import log
from typing import Any, get_type_hints

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

import cu_attacks
from cu_attacks._outputs import cube, jensen_shannon, probabilities
from cu_attacks._permute import Described, ModelTest
from cu_attacks._splits import null_sizes, retrain_splits
from cu_attacks._types import AttackError
from cu_attacks.activation import activation
from cu_attacks.agreement import agreement, gap
from cu_attacks.divergence import divergence, divergence_test
from cu_attacks.wasserstein import transport, wasserstein
from cu_attacks.zrf import zrf

RUNS = 2_000 if SLOW else 200
Rng = np.random.Generator


def soft(rng: Rng, *shape: int) -> Any:
    return rng.dirichlet([1.0] * shape[-1], shape[:-1])


def args_of(name: str, rng: Rng) -> tuple[Any, ...]:
    """Arguments with which each member of the two kinds runs."""
    signals = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    outputs = soft(rng, 4, 5, 3), soft(rng, 6, 5, 3)
    known: dict[str, tuple[Any, ...]] = {
        "relative": (*signals, signals[0] + 1),
        "divergence": outputs,
        "zrf": (*outputs, soft(rng, 2, 5, 3)),
        "activation": outputs,
        "agreement": tuple(pool.argmax(axis=2) for pool in outputs),
        "tofu": (signals[0][0], signals[1]),
    }
    return known.get(name, signals)


# --- The two types ---------------------------------------------------------------------------------------------------

TESTS = ("c2st", "energy", "ks", "mmd", "relative", "relearning")
NUMBERS = ("activation", "agreement", "challenge", "divergence", "klom", "tofu", "wasserstein", "zrf")
OURS = (*TESTS, *NUMBERS)


@pytest.mark.parametrize("name", cu_attacks.names())
def test_the_type_of_a_result_says_whether_it_is_evidence(name: str) -> None:
    """Over all members: whoever returns one of the two types is of the kind that the type stands for."""
    attack = cu_attacks.get(name)
    returned = get_type_hints(attack.run)["return"]
    for kind in (ModelTest, Described):
        if isinstance(returned, type) and issubclass(returned, kind):
            assert attack.kind == kind.kind
    if name in OURS:
        assert issubclass(returned, ModelTest if attack.kind == "test" else Described)


@pytest.mark.parametrize("name", OURS)
def test_a_result_carries_what_a_reader_needs(name: str) -> None:
    attack = cu_attacks.get(name)
    rng = np.random.default_rng(0)
    options = {} if name == "tofu" else {"rng": rng}
    found = attack.run(*args_of(name, rng), **options)
    assert found.kind == attack.kind
    assert "does not show" in found.shows_not
    assert found.assumptions
    assert found.method
    assert min(found.n) >= 1
    if attack.kind == "test":
        assert 0 < found.p <= 1
        assert isinstance(found.exact, Fraction)
        assert found.null_low <= found.null_median <= found.null_high
    else:
        assert not {"p", "exact", "eps_lower"} & set(dir(found))
        assert "not evidence" in found.shows_not
        assert found.null_low <= found.null_mean <= found.null_high
        assert found.excess == found.matched - found.null_mean
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.n = (1, 1)


# --- Bands -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "options", "wanted"),
    [
        ((8, 8, 8), {}, (8, 8)),
        ((8, 8, 0), {}, (4, 4)),
        ((8, 8, 3), {"equal": True}, (5, 5)),
        ((1, 9, 0), {}, (1, 8)),
        ((1, 9, 1), {}, (1, 9)),
        ((30, 3, 0), {"least": (1, 2)}, (1, 2)),
        ((3, 30, 0), {"least": (2, 2)}, (3, 27)),
    ],
)
def test_the_sizes_of_a_band(sizes: tuple[int, int, int], options: dict[str, Any], wanted: tuple[int, int]) -> None:
    assert null_sizes(sizes, **options) == wanted


def test_splits_take_only_retrained_models_and_never_one_twice() -> None:
    splits = retrain_splits((4, 5, 2), rng=np.random.default_rng(0), draws=300)
    seen = set()
    for first, second in splits.null:
        assert len({*first, *second}) == len(first) + len(second) == 7
        assert min(*first, *second) >= 4
        seen |= {*first}
    assert seen == set(range(4, 11))
    for first, second in splits.matched:
        assert (len(first), len(second)) == tuple(map(len, splits.null[0]))
        assert max(first) < 4 <= min(second)
        assert max(second) < 9


def test_with_enough_spare_models_nothing_is_taken_out() -> None:
    rng = np.random.default_rng(1)
    first, second, spare = rng.normal(size=(3, 6, 4))
    found = wasserstein(first, second, rng=rng, spare=spare)
    assert (found.matched, found.null_n) == (found.value, (6, 6))
    assert wasserstein(first, second, rng=rng).null_n == (3, 3)


@pytest.mark.slow
def test_a_retrain_is_seldom_outside_its_band_and_a_shift_is() -> None:
    rng, outside = np.random.default_rng(2), 0
    for _ in range(RUNS):
        first, second, spare = rng.standard_t(5, (3, 16))
        found = gap(first, second, name="loss gap", rng=rng, spare=spare, draws=100)
        outside += not found.null_low <= found.matched <= found.null_high
    # A band from 100 splits of 32 models is itself estimated: allow an error of 8 %, up to the binomial's 99.9 %.
    assert outside <= stats.binom.ppf(0.999, RUNS, 0.08)
    shifted = gap(first + 9, second, name="loss gap", rng=rng, spare=spare)
    assert shifted.matched > shifted.null_high


# --- Second implementations and closed forms -------------------------------------------------------------------------


def test_wasserstein_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    first, second = np.round(rng.normal(size=(5, 6)), 1), np.round(rng.normal(1, 2, (8, 6)), 1)
    wanted = [stats.wasserstein_distance(a, b) for a, b in zip(first.T, second.T, strict=True)]
    found = wasserstein(first, second, rng=rng, draws=5)
    assert found.per_record == pytest.approx(wanted)
    assert found.value == pytest.approx(np.mean(wanted))
    alike = rng.normal(size=(7, 3)), rng.normal(size=(7, 3))
    by_rank = np.abs(np.sort(alike[0], axis=0) - np.sort(alike[1], axis=0)).mean(axis=0)
    assert transport(*alike) == pytest.approx(by_rank)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(-50, 50))
def test_a_shift_costs_what_it_moves(seed: int, shift: float) -> None:
    values = np.random.default_rng(seed).normal(size=(6, 2))
    assert transport(values, values + shift) == pytest.approx(abs(shift), abs=1e-9)


def test_divergences_agree_with_scipy() -> None:
    rng = np.random.default_rng(4)
    first, second = soft(rng, 3, 6, 4), soft(rng, 5, 6, 4)
    p, q = first.mean(axis=0), second.mean(axis=0)
    wanted = {
        "kl": stats.entropy(p, q, axis=1),
        "js": jensenshannon(p, q, axis=1) ** 2,
        "tv": np.maximum(p - q, 0).sum(axis=1),
    }
    for measure, values in wanted.items():
        found = divergence(first, second, rng=rng, measure=measure, draws=5)  # type: ignore[arg-type]
        assert found.per_record == pytest.approx(values)
        assert found.value == pytest.approx(values.mean())


def test_divergences_at_their_ends() -> None:
    one, other = [[[1.0, 0.0]]], [[[0.0, 1.0]], [[0.0, 1.0]]]
    rng = np.random.default_rng(0)
    assert divergence(one, other, rng=rng, draws=3).value == pytest.approx(log(2))
    assert divergence(one, other, rng=rng, measure="tv", draws=3).value == 1.0
    assert divergence(other, other, rng=rng, measure="kl", draws=3).value == 0.0
    for run in (divergence, divergence_test):
        with pytest.raises(AttackError, match="so KL is infinite; use js or tv"):
            run(one, other, rng=rng, measure="kl")


def test_agreement_by_loops() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.integers(0, 3, (4, 9)), rng.integers(0, 3, (5, 9))
    wanted = np.mean([[(a == b).mean() for b in second] for a in first])
    found = agreement(first, second, rng=rng)
    assert found.value == pytest.approx(wanted)
    pairs = [(a == b).mean() for i, a in enumerate(second) for b in second[:i]]
    assert min(pairs) <= found.null_low <= found.null_mean <= found.null_high <= max(pairs)
    same = agreement(second, second[[0, 0, 0]], rng=rng)
    assert (same.null_low, same.null_mean, same.null_high) == (1.0, 1.0, 1.0)


def test_a_gap_is_a_difference_of_means() -> None:
    rng = np.random.default_rng(6)
    found = gap([0.5, 0.7], [0.9, 0.8, 0.7], name="accuracy gap", rng=rng)
    assert found.value == pytest.approx(-0.2)
    assert found.name == "accuracy gap"
    assert found.null_low < 0 < found.null_high


def test_activation_by_loops() -> None:
    rng = np.random.default_rng(7)
    first, second = rng.normal(size=(3, 5, 4)), rng.normal(size=(4, 5, 4))

    def mean(pairs: Any) -> float:
        return float(np.mean([np.mean([np.linalg.norm(x - y) for x, y in zip(a, b, strict=True)]) for a, b in pairs]))

    across = mean([(a, b) for a in first for b in second])
    inside = mean([(a, b) for i, a in enumerate(second) for b in second[:i]])
    assert activation(first, second, rng=rng, draws=5).value == pytest.approx(across / inside)


def test_activation_has_no_unit_and_is_one_for_a_retrain() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(size=(40, 6, 5))
    found = activation(values[:20], values[20:], rng=np.random.default_rng(1))
    scaled = activation(values[:20] * 1e3, values[20:] * 1e3, rng=np.random.default_rng(1))
    assert scaled.value == pytest.approx(found.value)
    assert found.null_low < 1 < found.null_high
    assert found.value == pytest.approx(1, abs=0.05)
    assert activation(values[:20] + 3, values[20:], rng=rng).matched > found.null_high


def test_zrf_at_its_ends_and_by_loops() -> None:
    rng = np.random.default_rng(9)
    random = soft(rng, 3, 5, 4)
    first, second = soft(rng, 2, 5, 4), soft(rng, 4, 5, 4)

    def score(model: Any) -> float:
        return 1 - float(np.mean([jensenshannon(model, other, axis=1, base=2) ** 2 for other in random]))

    found = zrf(first, second, random, rng=rng, draws=5)
    assert found.unlearned == pytest.approx(np.mean([score(model) for model in first]))
    assert found.retrained == pytest.approx(np.mean([score(model) for model in second]))
    assert found.value == pytest.approx(found.unlearned - found.retrained)
    alone = zrf(random[:1], second, random[:1], rng=rng, draws=5)
    assert alone.unlearned == pytest.approx(1.0)
    sure = np.array([[[1.0, 0.0]]])
    apart = zrf(sure, [sure[0], sure[0]], sure[:, :, ::-1], rng=rng, draws=5)
    assert (apart.unlearned, apart.value) == (pytest.approx(0.0), 0.0)


def test_jensen_shannon_takes_zeros() -> None:
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(log(2))
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 0.0


# --- What is refused -------------------------------------------------------------------------------------------------

PAIR = np.arange(8.0).reshape(4, 2)
SOFT = np.full((4, 2, 3), 1 / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda rng: wasserstein(PAIR, PAIR[:1], rng=rng),
            "retrained: 1 models, spare ones included; expected at least 2",
        ),
        (lambda rng: wasserstein(PAIR, PAIR[:, :1], rng=rng), "retrained: signals on 1 records; expected 2"),
        (lambda rng: wasserstein(PAIR, PAIR, spare=PAIR[:, :1], rng=rng), "spare: signals on 1 records; expected 2"),
        (lambda rng: wasserstein(PAIR * np.nan, PAIR, rng=rng), "unlearned: holds NaN or infinite"),
        (lambda rng: wasserstein(np.empty((0, 2)), PAIR, rng=rng), "unlearned: shape (0, 2)"),
        (lambda rng: wasserstein(PAIR, PAIR, rng=rng, draws=0), "draws: 0; expected at least 1"),
        (lambda rng: gap([[1.0]], [1.0, 2.0], name="x", rng=rng), "unlearned: shape (1, 1)"),
        (lambda rng: gap([1.0], [1.0, np.inf], name="x", rng=rng), "retrained: holds NaN or infinite"),
        (lambda rng: agreement(PAIR, np.full((3, 2), np.inf), rng=rng), "retrained: holds NaN or infinite"),
        (lambda rng: divergence(SOFT * 2, SOFT, rng=rng), "unlearned: least 0.667, sums off by 1"),
        (lambda rng: divergence(SOFT, SOFT - [[[1, 0, -1]]], rng=rng), "retrained: least -0.667"),
        (lambda rng: divergence(SOFT, SOFT * np.nan, rng=rng), "retrained: holds NaN or infinite"),
        (lambda rng: divergence(SOFT, SOFT[:, :1], rng=rng), "retrained: shape (4, 1, 3); expected (models, 2, 3)"),
        (lambda rng: divergence(SOFT, SOFT, spare=SOFT[:, :1], rng=rng), "spare: shape (4, 1, 3)"),
        (lambda rng: divergence(SOFT, PAIR, rng=rng), "retrained: shape (4, 2); expected (models >= 1, records >= 1"),
        (lambda rng: divergence(SOFT, SOFT, measure="hellinger", rng=rng), "expected one of kl, js, tv"),  # type: ignore[arg-type]
        (lambda rng: zrf(SOFT, SOFT, SOFT[:, :1], rng=rng), "random: shape (4, 1, 3); expected (models, 2, 3)"),
        (lambda rng: zrf(SOFT[:, :, :1] * 3, SOFT, SOFT, rng=rng), "unlearned: 1 class; expected at least 2"),
        (lambda rng: activation(SOFT, SOFT, rng=rng), "models with equal activations"),
        (
            lambda rng: activation(SOFT, SOFT[:2], rng=rng),
            "retrained: 2 models, spare ones included; expected at least 3",
        ),
        (lambda rng: cube(np.empty((1, 0, 2)), "x"), "x: shape (1, 0, 2)"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[Rng], Any], message: str) -> None:
    with pytest.raises(AttackError) as caught:
        call(np.random.default_rng(0))
    assert message in str(caught.value)


def test_probabilities_are_rescaled() -> None:
    rough = np.array([[[0.5002, 0.5]]])
    assert probabilities(rough, "x").sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": float("inf")}, "holds NaN or infinite"),
        ({"null_low": 2.0}, "expected at most null_high"),
        ({"n": (0, 1)}, "out of range"),
        ({"draws": 0}, "out of range"),
        ({"level": 1.0}, "out of range"),
    ],
)
def test_a_result_is_checked(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "name": "x",
        "value": 1.0,
        "matched": 1.0,
        "null_mean": 0.5,
        "null_low": 0.0,
        "null_high": 1.0,
        "draws": 9,
        "n": (2, 2),
        "null_n": (1, 1),
        "method": "m",
    }
    assert Described(**fields).excess == 0.5
    with pytest.raises(AttackError) as caught:
        Described(**{**fields, **change})
    assert message in str(caught.value)
