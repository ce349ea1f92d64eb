"""What is known of records without a model, and what one model's margins say beyond it."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from scipy import stats

from cu_attacks._same_kind import NEIGHBOURS, Kind, calibrate, describe, standardised, whole
from cu_attacks._types import AttackError
from cu_certificates.check.label_table import assignments, blind_statistics, p_values

KEY = bytes(range(32))
Array = np.ndarray[Any, np.dtype[Any]]


# --- Calibration of scores -------------------------------------------------------------------------------------------


def test_calibration_is_least_squares_with_one_intercept_a_stratum() -> None:
    rng = np.random.default_rng(0)
    strata, hard = rng.integers(0, 4, 80), rng.normal(size=80)
    margin = 3 * strata + 2 * hard + rng.normal(size=80)
    design = np.column_stack([hard, *(strata == s for s in range(4))]).astype(float)
    rest = margin - design @ np.linalg.lstsq(design, margin, rcond=None)[0]
    expected = rest / rest.std()
    assert calibrate(margin, hard, strata) == pytest.approx(expected * 1e6, abs=1)


def test_calibration_of_what_is_fully_explained_is_zero() -> None:
    strata, hard = np.array([0, 0, 0, 1, 1]), np.array([1.0, 2.0, 4.0, 0.0, 3.0])
    assert calibrate(np.full(5, 0.1), hard, strata) == [0] * 5
    assert calibrate(2 * hard + strata, hard, strata) == [0] * 5
    assert calibrate([1.0, 3.0], [5.0, 5.0], [0, 0]) == [-1_000_000, 1_000_000]
    assert standardised([2.0, 2.0]).tolist() == [0.0, 0.0]
    assert whole([1.5e-6, -2.0]) == [2, -2_000_000]


def test_calibration_does_not_look_at_who_is_in_the_request() -> None:
    """An order-free function of the records: reordered records get their own scores, reordered."""
    rng = np.random.default_rng(2)
    margin, hard, strata = rng.normal(size=50), rng.normal(size=50), rng.integers(0, 3, 50)
    order = rng.permutation(50)
    own = np.array(calibrate(margin, hard, strata))
    assert np.abs(own[order] - calibrate(margin[order], hard[order], strata[order])).max() <= 1


# --- What the records say without a model ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def records() -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(4)
    y, kept_y = np.arange(60) % 3, np.arange(240) % 3
    return rng.normal(size=(60, 6)) + y[:, None], y, rng.normal(size=(240, 6)) + kept_y[:, None], kept_y


def test_the_description_is_that_of_a_second_implementation(records: tuple[Array, Array, Array, Array]) -> None:
    x, y, kept_x, kept_y = records
    found = describe(x, y, kept_x, kept_y)
    middle, spread = kept_x.mean(axis=0), kept_x.std(axis=0)
    here, there = (x - middle) / spread, (kept_x - middle) / spread
    centre = [np.linalg.norm(row - there[kept_y == own].mean(axis=0)) for row, own in zip(here, y, strict=True)]
    nearest = [min(np.linalg.norm(there[kept_y == own] - row, axis=1)) for row, own in zip(here, y, strict=True)]
    for column, values in zip(found.columns[1:], (centre, nearest), strict=True):
        assert column == pytest.approx((np.array(values) - np.mean(values)) / np.std(values) * 1e6, abs=2)
    for row, near in enumerate(found.near):
        same = [other for other in np.flatnonzero(y == y[row]) if other != row]
        ordered = sorted(same, key=[float(np.linalg.norm(one - here[row])) for one in here].__getitem__)
        assert near == ordered[:NEIGHBOURS]


def test_difficulty_is_higher_for_easy_records(records: tuple[Array, Array, Array, Array]) -> None:
    x, y, kept_x, kept_y = records
    easy = describe(np.vstack([x, [[-4.0] * 6, [6.0] * 6]]), np.append(y, [0, 0]), kept_x, kept_y).difficulty
    assert easy[-2] > easy[:-2].max()  # deep inside class 0
    assert easy[-1] < easy[:-2].min()  # class 0 by name, class 2 by looks


def test_two_classes_and_one_class(records: tuple[Array, Array, Array, Array]) -> None:
    x, y, kept_x, kept_y = records
    two, stay = y < 2, kept_y < 2
    found = describe(x[two], y[two], kept_x[stay], kept_y[stay]).difficulty
    # A binary proxy's margin is its log-odds: about 6 features one unit apart, mirrored between the classes.
    assert found[y[two] == 0].mean() > 1
    assert found[y[two] == 1].mean() > 1
    one = describe(x[y == 0], y[y == 0], kept_x[kept_y == 0], kept_y[kept_y == 0])
    assert one.difficulty.tolist() == [0.0] * 20
    assert set(one.columns[0]) == {0}
    assert len(set(one.columns[1])) == 20


def test_copies_and_lonely_records(records: tuple[Array, Array, Array, Array]) -> None:
    _, _, kept_x, kept_y = records
    found = describe(np.zeros((4, 6)), np.array([0, 0, 0, 1]), kept_x, kept_y)
    assert [sorted(near) for near in found.near] == [[1, 2], [0, 2], [0, 1], []]


def blind_p(kind: Kind, y: Array, request: Array, key: bytes) -> Fraction:
    strata, inside = y.tolist(), request.tolist()
    tests = {"blind": blind_statistics(kind.columns, kind.near, strata, inside)}
    return p_values(tests, assignments(strata, inside, key, 199))[0]["blind"]


def people(rng: np.random.Generator, count: int, each: int) -> Array:
    """Records of people: each person's records lie close together."""
    own: Array = np.repeat(rng.normal(size=(count, 6)), each, axis=0) + 0.3 * rng.normal(size=(count * each, 6))
    return own


@pytest.mark.parametrize("kind", ["outliers", "one person", "hard ones"])
def test_the_negative_control_catches_a_request_of_another_kind(kind: str) -> None:
    rng = np.random.default_rng(8)
    pool = people(rng, 80, 5)
    y = (pool[:, 0] + 0.5 * rng.normal(size=400) > 0).astype(int)
    kept_x, kept_y, never = pool[:200], y[:200], np.arange(200, 380)
    if kind == "outliers":
        asked_x, asked_y = pool[380:] * 2.5, y[380:]
    elif kind == "one person":
        asked_x = pool[380] + 0.3 * rng.normal(size=(20, 6))
        asked_y = np.arange(20) % 2
    else:
        asked_x, asked_y = pool[380:], 1 - (pool[380:, 0] > 0).astype(int)
    x, labels_ = np.vstack([asked_x, pool[never]]), np.append(asked_y, y[never])
    described = describe(x, labels_, kept_x, kept_y)
    assert blind_p(described, labels_, np.arange(200) < 20, KEY) <= Fraction(1, 100)


def test_the_negative_control_rarely_fails_on_a_random_request() -> None:
    rng, runs = np.random.default_rng(9), 2000 if SLOW else 100
    pool = people(rng, 40, 5)
    y = (pool[:, 0] > 0).astype(int)
    described, failed = describe(pool[80:], y[80:], pool[:80], y[:80]), 0
    for _ in range(runs):
        request = np.zeros(120, dtype=bool)
        request[rng.permutation(120)[:20]] = True
        failed += blind_p(described, y[80:], request, rng.bytes(32)) <= Fraction(1, 100)
    assert failed <= stats.binom.isf(0.001, runs, 0.01)


# --- Bad arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        (calibrate, ([1.0, 2.0], [1.0], [0, 0]), "margin, difficulty, strata: shapes (2,), (1,), (2,)"),
        (calibrate, ([1.0, float("nan")], [1.0, 2.0], [0, 0]), "margin: holds NaN or infinite values"),
        (calibrate, ([1.0, 2.0], [1.0, float("inf")], [0, 0]), "difficulty: holds NaN"),
        (describe, ([[1.0]], [0], [[1.0, 2.0]], [0]), "x, y, kept_x, kept_y: shapes (1, 1), (1,), (1, 2), (1,)"),
        (describe, ([[1.0]], [0, 1], [[1.0]], [0]), "x, y, kept_x, kept_y"),
        (describe, ([[1.0]], [1], [[1.0]], [0]), "kept_y: no record of class 1"),
        (describe, ([[float("nan")]], [0], [[1.0]], [0]), "x: holds NaN"),
        (describe, ([[1.0]], [0], [[float("inf")]], [0]), "kept_x: holds NaN"),
    ],
)
def test_bad_records_are_named(function: Any, arguments: Any, said: str) -> None:
    with pytest.raises(AttackError) as problem:
        function(*arguments)
    assert said in str(problem.value)
