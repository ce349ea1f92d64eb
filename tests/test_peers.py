"""The comparison with other libraries: their definitions, their published numbers, their attacks as described."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve
from small_peers import SMALL, small_scores

from benchmarks import _peers_attacks, _peers_compare, _peers_vectors
from benchmarks import _peers_definitions as definitions
from benchmarks._peers_compare import Row
from benchmarks._peers_scores import Sizes, make, outside_only, paired_masks
from cu_attacks._extrapolations import gaussian_eps
from cu_attacks._roc import area, rate_at
from cu_certificates.check.onerun import onerun_tail
from cu_certificates.check.tails import cp_lower, cp_upper

STEP = 1e-4


@pytest.fixture(scope="module")
def arrays() -> dict[str, npt.NDArray[Any]]:
    return small_scores()


# --- Definitions ------------------------------------------------------------------------------------------------------


def points(inside: list[float], outside: list[float]) -> definitions.Points:
    return definitions.roc_counts(inside + outside, [True] * len(inside) + [False] * len(outside))


def test_hull_area_and_rate_of_jax_privacys_own_examples() -> None:
    assert definitions.area(definitions.hull(points([0, 4, 6, 7], [1, 2, 3, 5]))) == 13 / 16
    curve = definitions.hull(points([1, 3], [0, 2]))
    rates = [definitions.interpolated_rate(curve, rate) for rate in (0, 0.25, 0.5, 0.75, 1)]
    assert rates == [0.5, 0.75, 1, 1, 1]
    shifted = definitions.hull(points([k + 9.5 for k in range(100)], [float(k) for k in range(100)]))
    assert definitions.interpolated_rate(shifted, 0.01) == pytest.approx(0.11, abs=0.005)
    assert definitions.area(shifted) == pytest.approx(0.595)


def test_worst_and_tied_scores_have_the_hull_of_a_coin() -> None:
    for curve in (points([0.0] * 3, [1.0] * 5), points([2.0] * 3, [2.0] * 5)):
        assert definitions.hull(curve).tolist() == [[0, 0], [5, 3]]
        assert definitions.interpolated_rate(definitions.hull(curve), 0.3) == pytest.approx(0.3)


SCORES = st.lists(st.integers(0, 6), min_size=4, max_size=40)


@given(scores=SCORES, data=st.data(), rate=st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_definitions_agree_with_ours_and_scikit_learn_and_are_ordered(
    scores: list[int], data: st.DataObject, rate: float
) -> None:
    member = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    member[:4] = [True, True, False, False]
    values = np.array(scores, dtype=np.float64)
    curve = definitions.roc_counts(values, member)
    assert definitions.area(curve) == pytest.approx(area(values, member, name="AUC").value)
    assert definitions.area(curve) == pytest.approx(roc_auc_score(member, values))
    assert definitions.step_rate(curve, rate) == rate_at(values, member, false_rate=rate, name="TPR").value
    false, true, _ = roc_curve(member, values, drop_intermediate=False)
    assert definitions.interpolated_rate(curve, rate) == pytest.approx(np.interp(rate, false, true), abs=1e-6) or (
        rate in false
    )
    hull = definitions.hull(curve)
    assert definitions.area(hull) >= definitions.area(curve) - 1e-12
    steps = definitions.step_rate(curve, rate)
    lines = definitions.interpolated_rate(curve, rate)
    assert steps <= lines + 1e-9 <= definitions.interpolated_rate(hull, rate) + 2e-9


def test_the_hull_lies_above_every_point_and_is_concave() -> None:
    rng = np.random.default_rng(5)
    member = rng.random(60) < 0.5
    curve = definitions.roc_counts(np.round(rng.normal(size=60) + member, 1), member)
    corners = definitions.hull(curve).tolist()
    slopes = [
        np.inf if right[0] == left[0] else (right[1] - left[1]) / (right[0] - left[0])
        for left, right in pairwise(corners)
    ]
    assert all(first > second for first, second in pairwise(slopes))
    for x, y in curve.tolist():
        assert y <= np.interp(x, *np.array(corners[1:] if corners[1][0] == 0 else corners).T) + 1e-9


# --- Published numbers ------------------------------------------------------------------------------------------------


def test_ours_reproduces_the_published_clopper_pearson_intervals() -> None:
    for hits, (low, high) in _peers_vectors.INTERVALS.items():
        assert 0 <= low - float(cp_lower(10, hits, Fraction(1, 40))) < STEP
        assert 0 <= float(cp_upper(10, hits, Fraction(1, 40))) - high < STEP
    for (hits, trials, alpha), end in _peers_vectors.UPPER.items():
        assert 0 <= float(cp_upper(trials, hits, alpha)) - end < STEP


def test_ours_reproduces_the_published_one_run_numbers() -> None:
    for case, published in _peers_vectors.ONE_RUN_P.items():
        low, high = onerun_tail(*case)
        assert float(low) <= published + 5e-11
        assert float(high) == pytest.approx(published, abs=5e-11)
        assert _peers_vectors.one_run_p(case) == float(high)
    for bound, published in _peers_vectors.ONE_RUN_EPS.items():
        assert 0 <= published - _peers_vectors.one_run_eps(bound) <= STEP + 1e-12


@pytest.mark.parametrize("shift", [1, 2, 4])
def test_ours_reproduces_jax_privacys_published_one_run_eps(shift: int) -> None:
    corners = _peers_vectors.normal_curve(shift).tolist()
    assert list(_peers_vectors.CLOSE_AT[shift]) in corners
    published = _peers_vectors.CLOSE[shift]
    assert -1e-5 < published - _peers_vectors.close_eps(shift) < STEP + 1e-5


def naive_one_run_p(candidates: int, guesses: int, right: int, eps: float, delta: float) -> float:
    """Steinke, Nasr and Jagielski's formula summed term by term."""
    chance = 1 / (1 + np.exp(-eps))
    tail = stats.binom.sf(right - 1, guesses, chance)
    steps = np.arange(1, right + 1)
    masses = np.cumsum(stats.binom.pmf(right - steps, guesses, chance))
    return float(min(tail + 2 * candidates * delta * (masses / steps).max(), 1))


@pytest.mark.parametrize(("guesses", "right"), [(1, 1), (10, 9), (60, 44)])
@pytest.mark.parametrize(("eps", "delta"), [(0, 0), (1, 1e-6), (0.5, 1e-3)])
def test_our_one_run_chance_is_the_formula_summed_term_by_term(
    guesses: int, right: int, eps: float, delta: float
) -> None:
    ours = onerun_tail(100, guesses, right, Fraction(eps), Fraction(delta))
    assert float(ours[1]) == pytest.approx(naive_one_run_p(100, guesses, right, eps, delta), rel=1e-9)


def test_ours_reproduces_the_published_gaussian_numbers() -> None:
    for delta, eps in _peers_vectors.GAUSSIAN.items():
        assert gaussian_eps(1.0, delta) == pytest.approx(eps, abs=1e-6)


def test_ours_reproduces_jax_privacys_published_gaussian_curve() -> None:
    assert _peers_vectors.close_fdp(4) == pytest.approx(_peers_vectors.CLOSE_FDP[4], rel=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not SLOW, reason="CU_CERT_SLOW is not 1")
def test_the_published_corner_is_the_best_of_all() -> None:
    level = 0.05 / len(_peers_vectors.normal_curve(1))
    for false, true in _peers_vectors.normal_curve(1).tolist():
        if true:
            assert naive_one_run_p(20_000, false + true, true, _peers_vectors.CLOSE[1] + 2e-5, 1e-6) > level


def test_rows_of_published_numbers_name_what_a_peer_gets_wrong() -> None:
    told = {
        "dp-accounting": {"gaussian": list(_peers_vectors.GAUSSIAN.values())},
        "statsmodels": {
            "two-sided": list(_peers_vectors.INTERVALS.values()),
            "upper": list(_peers_vectors.UPPER.values()),
        },
    }
    assert [row.agrees for row in _peers_vectors.rows(told)] == [True] * 10
    told["dp-accounting"]["gaussian"] = [4.4, 1.2]
    assert [row.agrees for row in _peers_vectors.rows(told)] == [True] * 8 + [False] * 2


# --- Rows -------------------------------------------------------------------------------------------------------------


def row(**changes: Any) -> Row:
    return replace(Row(peer="p", quantity="q", ours=1.0, theirs=1.0, expected=1.0), **changes)


def test_a_row_agrees_within_rounding_to_one_side_only() -> None:
    assert row().agrees is True
    assert row(theirs=1.0 + 1e-6).agrees is False
    assert row(theirs=1.0 + 5e-5, rounding=1e-4).agrees is True
    assert row(theirs=1.0 - 5e-5, rounding=1e-4).agrees is False
    assert row(expected=None).agrees is None


def test_rates_are_compared_by_each_peers_definition(arrays: dict[str, npt.NDArray[Any]]) -> None:
    told: dict[str, dict[str, dict[str, float]]] = {"statsmodels": {}, "jax-privacy": {}, "opake-auditing": {}}
    for key in (key for key in arrays if key.startswith("score:")):
        curve = definitions.roc_counts(arrays[key], arrays["member"])
        for peer, numbers in told.items():
            measure, _ = _peers_compare.AREAS[peer]
            rule, _ = _peers_compare.RATES[peer]
            numbers[key.removeprefix("score:")] = {"auc": measure(curve)} | {
                f"tpr@{rate}": rule(curve, rate) for rate in _peers_compare.FALSE_RATES
            }
    rows = _peers_compare.rates(arrays, told)
    assert len(rows) == 6 * 3 * 3
    assert all(found.agrees for found in rows)
    told["statsmodels"]["loss"]["auc"] += 0.01
    wrong = [found for found in _peers_compare.rates(arrays, told) if not found.agrees]
    assert [(found.peer, found.quantity) for found in wrong] == [("statsmodels", "AUC, loss")]
    assert _peers_compare.rates(arrays, {"statsmodels": None}) == []


def test_counts_at_a_threshold() -> None:
    counts = _peers_compare.count(np.array([1.0, 2.0, 3.0, 2.0]), np.array([True, True, False, False]), 2.0)
    assert (counts.true, counts.included, counts.false, counts.excluded) == (1, 2, 2, 2)
    assert (counts.candidates, counts.right) == (4, 1)


def test_null_audits_are_mostly_silent(arrays: dict[str, npt.NDArray[Any]]) -> None:
    rng = np.random.default_rng(2)
    shape = 100, 60
    many = arrays | {"null:scores": rng.normal(size=shape), "null:coins": rng.random(shape) < 0.5}
    found = _peers_compare.null(many, {"peer": {"x": {"above 0": 1.0, "mean": 2.0}}, "gone": None})
    assert set(found) == {"cu-cert", "peer"}
    for told in found["cu-cert"].values():
        assert told["above 0"] <= stats.binom.ppf(0.999, 100, 0.05) / 100


# --- Scores and attacks -----------------------------------------------------------------------------------------------


def test_every_record_is_inside_exactly_half_of_the_shadow_models() -> None:
    masks = paired_masks(6, 9, np.random.default_rng(0))
    assert masks.sum(axis=0).tolist() == [3] * 9
    margins = np.arange(54, dtype=np.float64).reshape(6, 9)
    outside = outside_only(margins, masks)
    for record in range(9):
        assert outside[:, record].tolist() == [margins[k, record] for k in range(6) if not masks[k, record]]


def test_the_scores_are_made_once_and_the_threshold_knows_no_coin(arrays: dict[str, npt.NDArray[Any]]) -> None:
    again = make(SMALL)
    assert set(again) == set(arrays)
    assert all(np.array_equal(arrays[key], again[key]) for key in arrays)
    assert arrays["shadow_mask"].shape == (4, 1397)
    assert np.array_equal(arrays["canary"], arrays["score:lira offline"])
    assert np.array_equal(arrays["coins"], arrays["member"])
    above = arrays["canary"] >= arrays["threshold"]
    assert arrays["counts"].tolist() == [
        [int((above & side).sum()), int(side.sum())] for side in (arrays["coins"], ~arrays["coins"])
    ]


@pytest.mark.parametrize(
    "changes", [{"shadows": 3}, {"shadows": 2}, {"race_shadows": 2}, {"epochs": 0}, {"null_canaries": 0}]
)
def test_bad_sizes_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Sizes(**changes)


def test_privacy_meters_mean_is_of_the_larger_half(arrays: dict[str, npt.NDArray[Any]]) -> None:
    found = _peers_attacks.privacy_meter_rmia(arrays)
    mask, out = arrays["shadow_mask"], arrays["shadow_own"]
    for record in range(0, 1397, 200):
        seen = [out[k, record] for k in range(4) if not mask[k, record]]
        ratio = arrays["target_own"][record] / (0.65 * np.mean(seen) + 0.35)
        beaten = 0
        for z, p in enumerate(arrays["target_own_population"]):
            larger = sorted(arrays["shadow_own_population"][:, z])[-2:]
            beaten += ratio > p / (0.65 * np.mean(larger) + 0.35)
        assert found[record] == pytest.approx(beaten / 400)


def test_attack_rows_agree_when_the_peer_answers_as_described(arrays: dict[str, npt.NDArray[Any]]) -> None:
    told = {
        "adversarial-robustness-toolbox": {
            "rule": (arrays["target_probability"].argmax(axis=1) == arrays["y"]).astype(int),
            "shokri": _peers_attacks.art_learned(arrays),
        },
        "ml_privacy_meter": {"rmia": _peers_attacks.privacy_meter_rmia(arrays)},
    }
    rows = _peers_attacks.attacks(arrays, told)
    assert len(rows) == 6
    assert all(found.agrees for found in rows)
    told["ml_privacy_meter"]["rmia"] = -told["ml_privacy_meter"]["rmia"]
    assert [found.agrees for found in _peers_attacks.attacks(arrays, told)][4] is False
