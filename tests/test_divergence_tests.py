"""Tests between sets of models: exact levels with ties, second implementations, closed forms, and what they refuse."""

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, product
from math import comb, exp, log
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist
from statsmodels.stats.multitest import multipletests

from cu_attacks._permute import ModelTest, permutation_p, relabelings
from cu_attacks._types import AttackError
from cu_attacks.c2st import c2st
from cu_attacks.divergence import divergence_test
from cu_attacks.energy import energy_distance, energy_test
from cu_attacks.klom import klom_test, margin_divergence
from cu_attacks.ks import ks
from cu_attacks.mmd import bandwidths, mmd
from cu_attacks.relative import relative
from cu_attacks.relearning import relearning, steps_to
from cu_attacks.wasserstein import transport, wasserstein_test

RUNS = 4_000 if SLOW else 300
LEVELS = (Fraction(1, 20), Fraction(1, 4), Fraction(1, 2))
Rng = np.random.Generator
Draw = Callable[[Rng, int, int], Any]


def at_most(count: int, runs: int, share: float) -> bool:
    return count <= stats.binom.ppf(0.999, runs, share)


def probabilities(rng: Rng, models: int, records: int) -> Any:
    rounded = np.round(rng.dirichlet([1.0, 1.0, 1.0], (models, records)), 1) + 0.01
    return rounded / rounded.sum(axis=2, keepdims=True)


LAWS: dict[str, Draw] = {
    "normal": lambda rng, models, records: rng.normal(size=(models, records)),
    "heavy, dependent": lambda rng, models, records: (
        rng.standard_t(2, (models, 1)) + 0.1 * rng.normal(size=(models, records))
    ),
    "whole numbers": lambda rng, models, records: rng.integers(0, 3, (models, records)),
    "nearly constant": lambda rng, models, records: (rng.random((models, records)) < 0.1) * 7.0,
}
SIGNAL_TESTS: dict[str, Callable[..., ModelTest]] = {
    "energy": energy_test,
    "mmd": lambda *args, **named: mmd(*args, kernels=1, **named),
    "mmd aggregated": lambda *args, **named: mmd(*args, kernels=3, **named),
    "ks": ks,
    "relearning": relearning,
    "wasserstein": wasserstein_test,
    "klom": klom_test,
}


# --- Level -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", SIGNAL_TESTS)
def test_the_level_is_kept(name: str, law: str) -> None:
    rng, draw = np.random.default_rng(1), LAWS[law]
    runs = RUNS if law in ("normal", "whole numbers") or SLOW else RUNS // 2
    found = [SIGNAL_TESTS[name](draw(rng, 5, 3), draw(rng, 6, 3), rng=rng, permutations=19).exact for _ in range(runs)]
    for level in LEVELS:
        count = sum(p <= level for p in found)
        assert at_most(count, runs, float(level)), (level, count / runs)
        # 19 permutations reach every one of these levels; without ties the level is met, so the test can fail. The
        # statistic of ks is a multiple of 1/30 and ties anyway.
        if law == "normal" and name != "ks":
            assert count >= stats.binom.ppf(0.001, runs, float(level)) - 1, (level, count / runs)


@pytest.mark.slow
def test_the_level_is_kept_on_probabilities() -> None:
    rng = np.random.default_rng(2)
    found = [
        divergence_test(probabilities(rng, 4, 2), probabilities(rng, 5, 2), rng=rng, permutations=19).exact
        for _ in range(RUNS)
    ]
    for level in LEVELS:
        assert at_most(sum(p <= level for p in found), RUNS, float(level))


def test_every_test_sees_a_shift() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(12, 4)), rng.normal(4, 1, size=(12, 4))
    for name, run in SIGNAL_TESTS.items():
        found = run(first, second, rng=rng, permutations=99)
        assert found.exact == Fraction(1, 100), name
        assert found.statistic > found.null_high, name
        assert found.null_low <= found.null_median <= found.null_high


@pytest.mark.parametrize("name", SIGNAL_TESTS)
def test_two_sets_without_any_difference(name: str) -> None:
    rng = np.random.default_rng(4)
    same = np.full((4, 2), 3.0)
    found = SIGNAL_TESTS[name](same, same, rng=rng, permutations=19)
    assert (found.exact, found.statistic) == (1, 0)
    twins = rng.normal(size=(5, 2))
    assert SIGNAL_TESTS[name](twins, twins, rng=rng, permutations=19).p == 1.0


# --- The p-value -----------------------------------------------------------------------------------------------------


def test_the_p_value_counts_the_observed_labels_and_ties() -> None:
    assert permutation_p(np.array([3.0, 1.0, 2.0, 3.0, 4.0])) == Fraction(3, 5)
    assert permutation_p(np.array([3.0, 3.0 - 1e-12])) == 1  # a tie up to rounding
    assert permutation_p(np.array([5, 1, 1])) == Fraction(1, 3)


def test_relabelings_keep_the_sizes_and_visit_all_sets() -> None:
    rows = relabelings(2, 3, rng=np.random.default_rng(0), permutations=500)
    assert rows[0].tolist() == [True, True, False, False, False]
    assert set(rows.sum(axis=1)) == {2}
    assert len({tuple(row) for row in rows}) == comb(5, 2)


def test_the_only_conversion_to_eps() -> None:
    rng = np.random.default_rng(0)
    found = energy_test(rng.normal(size=(32, 2)), rng.normal(9, 1, (32, 2)), rng=rng)
    assert found.exact == Fraction(1, 1000)
    alpha = Fraction(1, 20)
    assert found.eps_lower(alpha=alpha) == Fraction(int(1e4 * log(50) / 32), 10_000)  # 0.1222, as the protocol says
    delta = Fraction(1, 10_000)
    bound = found.eps_lower(alpha=alpha, delta=delta)

    def largest(eps: float) -> float:
        return exp(32 * eps) * 0.001 + 32 * 1e-4 * exp(31 * eps)

    assert largest(float(bound)) <= 0.05 < largest(float(bound) + 1e-4)
    assert 0 < bound < found.eps_lower(alpha=alpha)
    assert found.eps_lower(alpha=alpha, delta=Fraction(1, 500)) == 0
    same = rng.normal(size=(4, 2))
    assert energy_test(same, same, rng=rng, permutations=19).eps_lower(alpha=alpha) == 0
    with pytest.raises(AttackError, match="expected 0 < alpha < 1"):
        found.eps_lower(alpha=Fraction(0))
    with pytest.raises(AttackError, match="no eps follows"):
        relative(same, same, same + 1, rng=rng, permutations=9).eps_lower(alpha=alpha)


@pytest.mark.slow
def test_the_bound_from_a_p_value_holds_where_it_is_weakest() -> None:
    """One unlearned-like law at a known eps: the bound may exceed it in at most alpha of the runs."""
    rng, eps, false, alpha = np.random.default_rng(5), 0.5, 0, Fraction(1, 4)
    for _ in range(RUNS):
        found = energy_test(rng.laplace(eps, 1, (2, 1)), rng.laplace(size=(30, 1)), rng=rng, permutations=39)
        false += found.eps_lower(alpha=alpha) > eps
    assert at_most(false, RUNS, float(alpha))


# --- Second implementations ------------------------------------------------------------------------------------------


def relabeled(values: Any, seed: int, first: int, count: int, statistic: Callable[[Any, Any], float]) -> Any:
    rows = relabelings(first, len(values) - first, rng=np.random.default_rng(seed), permutations=count)
    return np.array([statistic(values[row], values[~row]) for row in rows])


def naive_mmd(one: Any, two: Any, width: float) -> float:
    def kernel(x: Any, y: Any) -> float:
        return exp(-float(((x - y) ** 2).sum()) / (2 * width**2))

    def inside(pool: Any) -> float:
        return 2 * sum(kernel(x, y) for x, y in combinations(pool, 2)) / (len(pool) * (len(pool) - 1))

    return inside(one) + inside(two) - 2 * sum(kernel(x, y) for x, y in product(one, two)) / (len(one) * len(two))


def naive_energy(one: Any, two: Any) -> float:
    def mean(a: Any, b: Any) -> float:
        return float(np.mean([np.linalg.norm(x - y) for x, y in product(a, b)]))

    return 2 * mean(one, two) - mean(one, one) - mean(two, two)


def test_energy_by_double_loops() -> None:
    rng = np.random.default_rng(6)
    values = np.round(rng.normal(size=(9, 2)), 1)
    found = energy_test(values[:4], values[4:], rng=np.random.default_rng(7), permutations=30)
    naive = relabeled(values, 7, 4, 30, naive_energy)
    assert found.statistic == pytest.approx(naive[0])
    assert found.exact == Fraction(int((naive >= naive[0] - 1e-9).sum()), 31)
    assert found.null_median == pytest.approx(np.median(naive[1:]))


def test_mmd_by_double_loops() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(size=(9, 2))
    width = float(np.median(pdist(values)))
    found = mmd(values[:4], values[4:], rng=np.random.default_rng(9), permutations=30, kernels=1)
    naive = relabeled(values, 9, 4, 30, lambda one, two: naive_mmd(one, two, width))
    assert found.statistic == pytest.approx(naive[0])
    assert found.exact == Fraction(int((naive >= naive[0] - 1e-9).sum()), 31)


def test_aggregated_mmd_by_double_loops() -> None:
    rng = np.random.default_rng(10)
    values = rng.normal(size=(8, 2))
    widths = bandwidths(pdist(values), 4)
    each = np.stack([relabeled(values, 11, 3, 20, lambda a, b, w=w: naive_mmd(a, b, w)) for w in widths])  # type: ignore[misc]
    largest = np.max([(row - row.mean()) / row.std() for row in each], axis=0)
    found = mmd(values[:3], values[3:], rng=np.random.default_rng(11), permutations=20, kernels=4)
    assert found.statistic == pytest.approx(largest[0])
    assert found.exact == Fraction(int((largest >= largest[0] - 1e-9).sum()), 21)


def test_bandwidths_are_those_of_all_models() -> None:
    assert bandwidths(np.zeros(3), 2).tolist() == [1.0, 1.0]
    assert bandwidths(np.array([0.0, 1.0, 3.0]), 1).tolist() == [2.0]
    grid = bandwidths(np.arange(1.0, 102.0), 3)
    assert grid == pytest.approx([3.0, (3.0 * 192.0) ** 0.5, 192.0])


@pytest.mark.parametrize("sizes", [(6, 6), (5, 8), (2, 9)])
def test_ks_agrees_with_scipy(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(12)
    first, second = rng.normal(size=(sizes[0], 7)), rng.normal(1, 1, (sizes[1], 7))
    first[:, 0], second[:, 0] = 1.0, 1.0  # constant
    first[:, 1], second[:, 1] = np.round(first[:, 1]), np.round(second[:, 1])
    found = ks(first, second, rng=rng, permutations=19)
    for record in range(7):
        wanted = stats.ks_2samp(first[:, record], second[:, record], method="exact")
        assert found.per_record[record] == pytest.approx(wanted.statistic)
        assert found.raw[record] == pytest.approx(wanted.pvalue)
    assert found.holm == pytest.approx(multipletests(found.raw, method="holm")[1])
    assert found.statistic == found.per_record.max()


def test_ks_far_apart_has_the_closed_form() -> None:
    found = ks(np.zeros((7, 1)), np.ones((5, 1)), rng=np.random.default_rng(0), permutations=9)
    assert found.raw[0] == pytest.approx(2 / comb(12, 5))
    far = ks(np.zeros((900, 1)), np.ones((901, 1)), rng=np.random.default_rng(0), permutations=1)
    assert 0 < far.raw[0] < 1e-300


def test_max_t_by_loops() -> None:
    rng = np.random.default_rng(13)
    values = np.round(rng.normal(size=(11, 4)), 1)
    found = ks(values[:5], values[5:], rng=np.random.default_rng(14), permutations=40)
    rows = relabelings(5, 6, rng=np.random.default_rng(14), permutations=40)
    each = np.array([[stats.ks_2samp(c[row], c[~row]).statistic for c in values.T] for row in rows])
    largest = each.max(axis=1)
    assert found.exact == Fraction(int((largest >= largest[0] - 1e-12).sum()), 41)
    for record in range(4):
        assert found.max_t[record] == pytest.approx((largest >= each[0, record] - 1e-12).mean())


@pytest.mark.slow
def test_ks_names_wrong_records_seldom() -> None:
    """Half of the records differ; the others, dependent on each other, are named in at most alpha of the runs."""
    rng, runs, level = np.random.default_rng(15), RUNS // 2, 0.05
    wrong, right = np.zeros(3), np.zeros(2)
    for _ in range(runs):
        shared = rng.normal(size=(16, 1))
        values = np.round(shared + rng.normal(size=(16, 6)), 1)
        values[:8, :3] += 9
        found = ks(values[:8], values[8:], rng=rng, permutations=19)
        wrong += [(p[3:] <= level).any() for p in (found.holm, found.max_t, found.raw[:4])]
        right += [(p[:3] <= level).all() for p in (found.holm, found.max_t)]
    assert all(at_most(int(count), runs, level) for count in wrong)
    assert right[0] == runs
    assert right[1] >= 0.95 * runs  # one of 19 relabelings may be the observed one


def test_relearning_by_loops() -> None:
    rng = np.random.default_rng(16)
    curves = np.exp(-np.arange(6) * rng.uniform(0.2, 1.0, (9, 1)))
    curves[:, 0] = 1.0  # the same loss for all before the first step
    found = relearning(curves[:4], curves[4:], rng=np.random.default_rng(17), permutations=25)
    spread = curves.std(axis=0)

    def largest(one: Any, two: Any) -> float:
        gaps = [abs(two[:, s].mean() - one[:, s].mean()) / spread[s] for s in range(1, 6)]
        return float(max(gaps))

    naive = relabeled(curves, 17, 4, 25, largest)
    assert found.statistic == pytest.approx(naive[0])
    assert found.exact == Fraction(int((naive >= naive[0] - 1e-9).sum()), 26)
    assert found.area == pytest.approx(curves[4:].mean() - curves[:4].mean())
    assert 1 <= found.step <= 5


def test_relearn_time() -> None:
    curves = [[3.0, 2.0, 1.0], [3.0, 2.5, 2.1], [1.0, 5.0, 5.0]]
    assert steps_to(curves, 2.0).tolist() == [1, 3, 0]
    with pytest.raises(AttackError, match="level: nan"):
        steps_to(curves, float("nan"))


@pytest.mark.parametrize(
    ("run", "statistic"),
    [
        (wasserstein_test, lambda a, b: float(transport(a, b).mean())),
        (klom_test, lambda a, b: float(margin_divergence(a, b).mean())),
    ],
)
def test_a_described_number_as_a_test(run: Callable[..., ModelTest], statistic: Callable[[Any, Any], float]) -> None:
    values = np.round(np.random.default_rng(18).normal(size=(9, 3)), 1)
    found = run(values[:4], values[4:], rng=np.random.default_rng(19), permutations=30)
    naive = relabeled(values, 19, 4, 30, statistic)
    assert found.statistic == pytest.approx(naive[0])
    assert found.exact == Fraction(int((naive >= naive[0] - 1e-9).sum()), 31)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1e3, 1e3), st.floats(0.1, 10))
def test_tests_do_not_depend_on_unit_and_origin(seed: int, shift: float, scale: float) -> None:
    values = np.random.default_rng(seed).normal(size=(8, 2))
    for run in (energy_test, mmd, ks):
        plain, moved = (
            run(v[:4], v[4:], rng=np.random.default_rng(1), permutations=19) for v in (values, values * scale + shift)
        )
        assert plain.exact == moved.exact


# --- What is refused -------------------------------------------------------------------------------------------------

GOOD = np.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize("name", [*SIGNAL_TESTS, "c2st", "relative"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([[1.0, 2.0]], "expected (models >= 2, records >= 1)"),
        ([1.0, 2.0], "expected (models >= 2, records >= 1)"),
        (np.empty((0, 2)), "expected (models >= 2, records >= 1)"),
        ([[1.0, float("nan")]] * 3, "holds NaN or infinite values"),
        ([[1.0, float("inf")]] * 3, "holds NaN or infinite values"),
        ([[1.0, 1e200]] * 3, "signals beyond"),
        ([[1.0, 2.0, 3.0]] * 3, "signals on 3 records; expected 2 as in"),
    ],
)
def test_bad_arrays_are_named(name: str, bad: Any, message: str) -> None:
    rng = np.random.default_rng(0)
    run: Callable[..., Any] = {**SIGNAL_TESTS, "c2st": c2st, "relative": relative}[name]
    more = {"relative": (GOOD,)}.get(name, ())
    with pytest.raises(AttackError) as caught:
        run(GOOD, bad, *more, rng=rng)
    assert message in str(caught.value)
    assert str(caught.value).startswith(("second:", "retrained:"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: energy_test(GOOD, GOOD, rng=rng, permutations=0), "permutations: 0; expected at least 1"),
        (lambda rng: mmd(GOOD, GOOD, rng=rng, kernels=0), "kernels: 0; expected at least 1"),
        (lambda rng: c2st(GOOD, GOOD, rng=rng, alpha=Fraction(1)), "expected 0 < alpha < 1"),
        (lambda rng: c2st(GOOD, GOOD, rng=rng, delta=Fraction(1)), "expected 0 < alpha < 1 and 0 <= delta < 1"),
        (lambda rng: relative(GOOD, GOOD, GOOD[:, :1], rng=rng), "original: signals on 1 records; expected 2"),
        (lambda rng: divergence_test([[[0.5, 0.6]]], [[[0.5, 0.5]]], rng=rng), "expected probabilities that sum to 1"),
    ],
)
def test_bad_options_are_named(call: Callable[[Rng], Any], message: str) -> None:
    with pytest.raises(AttackError) as caught:
        call(np.random.default_rng(0))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exact": Fraction(0)}, "expected a p-value in (0, 1]"),
        ({"exact": Fraction(3, 2)}, "expected a p-value in (0, 1]"),
        ({"statistic": float("nan")}, "holds NaN or infinite"),
        ({"n": (0, 2)}, "expected at least one model"),
        ({"n": ()}, "expected at least one model"),
        ({"permutations": 0}, "expected at least 1"),
        ({"unlearned": 0}, "expected at least 1"),
    ],
)
def test_a_result_is_checked(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "name": "x",
        "statistic": 1.0,
        "null_median": 0.0,
        "null_low": 0.0,
        "null_high": 1.0,
        "exact": Fraction(1, 2),
        "n": (2, 2),
        "permutations": 9,
        "unlearned": 2,
        "method": "m",
    }
    assert ModelTest(**fields).p == 0.5
    with pytest.raises(AttackError) as caught:
        ModelTest(**{**fields, **change})
    assert message in str(caught.value)


def test_energy_distance_of_a_labelled_matrix() -> None:
    assert energy_distance(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([True, False])) == 2.0
