"""The permutation test on one model: exact by counting, a second implementation, false alarms, power, bad arguments."""

import struct
from collections.abc import Callable
from fractions import Fraction
from hashlib import shake_256
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cu_attacks._same_kind import NEIGHBOURS, Kind, calibrate, describe, standardised, whole
from cu_attacks._types import AttackError
from cu_attacks.labels import Labels, labels
from cu_certificates.check.label_table import (
    arrangements,
    assignments,
    blind_statistics,
    combined_p,
    edge_statistic,
    extreme_statistic,
    mean_statistic,
    p_values,
    permutation_key,
    score_statistics,
    tail_statistic,
)
from cu_certificates.check.tails import group_bound

ALPHA = Fraction(1, 20)
KEY = bytes(range(32))
Array = np.ndarray[Any, np.dtype[Any]]


def judge(scores: Array | list[int], request: Array | list[bool], strata: Array | list[int], **options: Any) -> Labels:
    def listed(values: Array | list[Any]) -> list[Any]:
        return values.tolist() if isinstance(values, np.ndarray) else values

    given_: dict[str, Any] = {"key": KEY, "permutations": 99, "alpha": ALPHA} | options
    return labels(listed(scores), listed(request), listed(strata), **given_)


# --- Exact by counting -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scores", [[5, 1, 4, 2, 3, 9], [1, 1, 1, 2, 2, 7], [0, 0, 0, 0, 0, 0], [-9, 3, 3, 3, 3, 3]])
@pytest.mark.parametrize("take", [1, 2, 3])
def test_over_all_assignments_no_p_value_is_too_small(scores: list[int], take: int) -> None:
    """The law itself: were each assignment the true one, a share of at most t of them would have p <= t."""
    strata, size = [0] * len(scores), len(scores)
    every = [list(chosen) for chosen in combinations(range(size), take)]
    found = []
    for true in every:
        request = [position in true for position in range(size)]
        statistics = score_statistics(scores, strata, request)
        ordered = [true, *(other for other in every if other != true)]
        found.append(combined_p([[statistic(chosen) for chosen in ordered] for statistic in statistics]))
    for p in found:
        assert sum(other <= p for other in found) <= p * len(every)
    if len(set(scores)) == 1:
        assert set(found) == {Fraction(1)}


def test_over_all_assignments_within_two_strata_no_p_value_is_too_small() -> None:
    scores, strata = [3, 8, 1, 100, 140, 90, 95], [0, 0, 0, 1, 1, 1, 1]
    every = [[first, *rest] for first in range(3) for rest in combinations(range(3, 7), 2)]
    found = []
    for true in every:
        request = [position in true for position in range(7)]
        statistics = score_statistics(scores, strata, request)
        ordered = [true, *(other for other in every if other != true)]
        found.append(combined_p([[statistic(chosen) for chosen in ordered] for statistic in statistics]))
    assert len(every) == arrangements(strata, [True, False, False, True, True, False, False]) == 18
    assert all(sum(other <= p for other in found) <= p * 18 for p in found)
    assert min(found) == Fraction(1, 18)  # ties between statistics are broken, so the smallest p can be reached


def test_statistics_in_closed_form() -> None:
    scores, strata, request = [10, 20, 30, 5], [0, 0, 0, 7], [True, False, True, True]
    # Stratum 0 expects two of three at a mean of 20; stratum 7 is all request and says nothing. The unit is lcm(3, 1).
    assert mean_statistic(scores, strata, request)([0, 2, 3]) == 0
    assert mean_statistic(scores, strata, request)([1, 2, 3]) == 3 * 10
    assert mean_statistic(scores, strata, request)([0, 1, 3]) == 3 * 10
    # Savage scores of ranks 1, 2, 3, 4 from the top: 25/12, 13/12, 7/12, 1/4.
    tail = tail_statistic(scores)
    assert [tail([position]) / 1e9 for position in (2, 1, 0, 3)] == pytest.approx([25 / 12, 13 / 12, 7 / 12, 1 / 4])
    assert tail_statistic([4, 4, 1])([0]) == tail_statistic([4, 4, 1])([1]) == pytest.approx(11 / 6 * 1e9)
    assert [extreme_statistic(scores)(chosen) for chosen in ([0, 1], [3], [2, 3], [0])] == [3, 1, 4, 2]
    assert edge_statistic([[1, 2], [0], [3], []])([0, 1, 3]) == 2


def test_one_record_of_many_can_be_no_rarer_than_its_share() -> None:
    """One request record against h others: p is at least 1 / (h + 1), whatever its score; and the worst one has it."""
    scores, request = [0] * 200, [False] * 200
    for row in range(200):
        scores[row] = row
    scores[0], request[0] = 10**6, True
    found = judge(scores, request, [0] * 200, permutations=9999)
    assert found.p == pytest.approx(1 / 200, abs=0.003)


# --- Random assignments ----------------------------------------------------------------------------------------------


def naive_assignment(strata: list[int], request: list[bool], key: bytes, number: int) -> list[int]:
    """A second reading of the recipe in the docstring, word by word."""
    words = list(struct.unpack(">400I", shake_256(key + number.to_bytes(8, "big")).digest(1600)))
    chosen = []
    for stratum in sorted(set(strata)):
        pool = [position for position, own in enumerate(strata) if own == stratum]
        for first in range(sum(request[position] for position in pool)):
            left = len(pool) - first
            word = words.pop(0)
            while word >= 2**32 - 2**32 % left:
                word = words.pop(0)
            other = first + word % left
            pool[first], pool[other] = pool[other], pool[first]
            chosen.append(pool[first])
    return chosen


def test_assignments_are_those_of_a_second_implementation() -> None:
    strata = [2, 0, 0, 1, 2, 2, 0, 1, 1, 1, 2, 0]
    request = [True, False, True, True, False, True, False, False, False, True, False, True]
    found = list(assignments(strata, request, KEY, 50))
    assert list(found[0]) == [0, 2, 3, 5, 9, 11]
    for number, chosen in enumerate(found[1:]):
        assert list(chosen) == naive_assignment(strata, request, KEY, number)


def test_a_golden_assignment() -> None:
    """Fixed for ever: a checker in another language must draw the same."""
    key = permutation_key(KEY, "ab" * 32, "")
    assert key.hex() == "220c6e79f9b3d4593b0890b38417970aab84a29f646612dd651645db7602c7da"
    drawn = list(assignments([0] * 10, [True] * 3 + [False] * 7, key, 3))
    assert [list(chosen) for chosen in drawn[1:]] == [[3, 5, 0], [1, 3, 2], [4, 7, 1]]


def test_all_assignments_are_equally_likely() -> None:
    strata, request = [0, 0, 0, 0, 1, 1, 1], [True, True, False, False, True, False, False]
    drawn = list(assignments(strata, request, KEY, 18_000))[1:]
    seen: dict[tuple[int, ...], int] = {}
    for chosen in drawn:
        seen[tuple(sorted(chosen))] = seen.get(tuple(sorted(chosen)), 0) + 1
    assert len(seen) == comb(4, 2) * 3
    assert stats.chisquare(list(seen.values())).pvalue > 0.001


def test_a_long_assignment_draws_more_words_when_some_are_skipped() -> None:
    # The first guess at the number of words is the request's size and 8; the stream goes on unbroken after it.
    size = 2000
    drawn = next(iter(list(assignments([0] * size, [True] * size, KEY, 1))[1:]))
    assert sorted(drawn) == list(range(size))


def test_arrangements() -> None:
    assert arrangements([0] * 6, [True] * 3 + [False] * 3) == 20
    assert arrangements([0, 0, 1, 1, 1], [True, False, True, True, False]) == 6
    assert arrangements([0] * 1000, [True] * 500 + [False] * 500) == 10**9
    assert arrangements([0, 1], [True, False]) == 1


# --- A second implementation of the p-value --------------------------------------------------------------------------


def naive_p(scores: Array, request: Array, strata: Array, permutations: int) -> Fraction:
    """In floating point, with scipy's ranks, from the naive assignments."""
    size = len(scores)
    harmonic = np.array([sum(1 / place for place in range(first, size + 1)) for first in range(1, size + 1)])

    def looks(chosen: list[int]) -> list[float]:
        inside = np.zeros(size, dtype=bool)
        inside[chosen] = True
        centred = sum(
            scores[inside & (strata == s)].sum() - inside[strata == s].sum() * scores[strata == s].mean()
            for s in np.unique(strata)
        )
        high = harmonic[(stats.rankdata(-scores, method="min") - 1).astype(int)]
        low = harmonic[(stats.rankdata(scores, method="min") - 1).astype(int)]
        return [abs(centred), high[inside].sum(), low[inside].sum(), scores[inside].max(), -scores[inside].min()]

    drawn = [naive_assignment(strata.tolist(), request.tolist(), KEY, number) for number in range(permutations)]
    table = np.array([looks([int(row) for row in np.flatnonzero(request)]), *(looks(chosen) for chosen in drawn)])
    ranks = (table[None, :, :] >= table[:, None, :] - 1e-9 * np.abs(table).max(axis=0)).sum(axis=1)
    keys = [sorted(row.tolist()) for row in ranks]
    return Fraction(sum(one <= keys[0] for one in keys), len(keys))


@pytest.mark.parametrize("seed", range(8))
def test_the_p_value_is_that_of_a_second_implementation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = 40
    strata, request = np.arange(size) % 3, np.arange(size) % 4 == 0
    scores = rng.integers(-50, 50, size) + 30 * (seed % 3) * request  # ties, and a shift in some
    found = judge(scores, request, strata, permutations=60)
    assert found.p == naive_p(scores, request, strata, 60)
    assert found.as_unusual == found.p * 61
    assert found.bound == group_bound(found.p, ALPHA, Fraction(0))
    assert (found.request, found.never) == (10, 30)


# --- Laws ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-5, 5), min_size=6, max_size=14), st.integers(1, 9), st.randoms(use_true_random=False))
def test_the_two_sides_and_the_unit_do_not_matter(scores: list[int], factor: int, random: Any) -> None:
    strata = [position % 2 for position in range(len(scores))]
    request = [position < 4 for position in range(len(scores))]
    own = judge(scores, request, strata).p
    assert judge([-score for score in scores], request, strata).p == own
    assert judge([factor * score + 17 for score in scores], request, strata).p == own
    assert Fraction(1, 100) <= own <= 1


def test_equal_scores_say_nothing() -> None:
    assert judge([7] * 20, [True] * 5 + [False] * 15, [0] * 20).p == 1


def test_separated_scores_say_as_much_as_the_permutations_allow() -> None:
    for sign in (1, -1):
        scores = [sign * (1000 + row if row < 10 else row) for row in range(60)]
        found = judge(scores, [row < 10 for row in range(60)], [0] * 60, permutations=9999)
        assert found.p == Fraction(1, 10_000)
        assert found.bound == Fraction("6.2146")


# --- False alarms ----------------------------------------------------------------------------------------------------

LAWS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy tails": lambda rng, size: rng.standard_cauchy(size),
    "discrete": lambda rng, size: rng.integers(0, 3, size).astype(float),
    "strata far apart": lambda rng, size: rng.normal(size=size) + 50 * (np.arange(size) % 3),
    "one outlier": lambda rng, size: np.where(np.arange(size) == rng.integers(size), 1e6, rng.normal(size=size)),
    "records that depend on each other": lambda rng, size: np.cumsum(rng.normal(size=size)),
}


@pytest.mark.parametrize("law", LAWS)
def test_a_model_that_never_saw_the_request_is_refuted_in_at_most_alpha_of_all_audits(law: str) -> None:
    """The request is drawn at random and the scores know nothing of it; small form of the study in benchmarks."""
    runs, size, take = (20_000, 120, 20) if SLOW else (400, 45, 9)
    rng = np.random.default_rng(sorted(LAWS).index(law))
    refuted = {Fraction(0): 0, Fraction(1, 2): 0}
    for _ in range(runs):
        strata = np.arange(size) % 3
        request = np.zeros(size, dtype=bool)
        request[rng.permutation(size)[:take]] = True
        scores = np.rint(LAWS[law](rng, size) * 1e3).astype(int)
        bound = judge(scores, request, strata, key=rng.bytes(32)).bound if _both(strata, request) else Fraction(0)
        for eps in refuted:
            refuted[eps] += bound > eps
    for eps, level in ((Fraction(0), 0.05), (Fraction(1, 2), 0.05 * np.exp(-0.5))):
        assert refuted[eps] <= stats.binom.isf(0.001, runs, level)


def _both(strata: Array, request: Array) -> bool:
    return all(0 < request[strata == s].sum() < (strata == s).sum() for s in np.unique(strata))


@pytest.mark.parametrize(("shift", "least"), [(1.0, 0.75), (-1.0, 0.75), (0.0, 0.0)])
def test_a_shifted_request_is_seen_on_both_sides(shift: float, least: float) -> None:
    rng, seen = np.random.default_rng(11), 0
    for _ in range(60):
        request = np.arange(120) < 20
        scores = np.rint(1e3 * (rng.normal(size=120) + shift * request)).astype(int)
        seen += judge(scores, request, np.arange(120) % 2, key=rng.bytes(32), permutations=199).bound > 0
    assert seen >= least * 60
    assert shift or seen <= stats.binom.isf(0.001, 60, 0.05)


def test_a_few_remembered_records_are_seen_where_the_mean_hides_them() -> None:
    """Five of 40 records stand out: the tails see them more often than a test of the mean alone would."""
    rng, seen, by_mean = np.random.default_rng(3), 0, 0
    for _ in range(40):
        request = np.arange(240) < 40
        values = rng.normal(size=240)
        values[:5] += 4
        scores = np.rint(1e3 * values).astype(int).tolist()
        listed = request.tolist()
        seen += judge(scores, listed, [0] * 240, key=rng.bytes(32), permutations=199).p <= ALPHA
        mean = [mean_statistic(scores, [0] * 240, listed)]
        by_mean += p_values({"m": mean}, assignments([0] * 240, listed, rng.bytes(32), 199))[0]["m"] <= ALPHA
    assert seen >= 28
    assert seen > by_mean


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
    ("changed", "said"),
    [
        ({"scores": [1, 2, 3]}, "scores, request, strata: 3, 4 and 4 entries"),
        ({"scores": [], "request": [], "strata": []}, "0, 0 and 0 entries"),
        ({"scores": [1, 2, 3, float("nan")]}, "scores: expected integers below 2^53"),
        ({"scores": [1, 2, 3, float("inf")]}, "scores: expected integers below 2^53"),
        ({"scores": [1, 2, 3, True]}, "scores: expected integers"),
        ({"scores": [1, 2, 3, 2**53]}, "scores: expected integers"),
        ({"request": [True, True, True, False]}, "stratum 0 holds only records of the request"),
        ({"request": [False, False, True, False]}, "stratum 0 holds no records of the request"),
        ({"alpha": Fraction(0)}, "alpha 0, delta 0; expected 0 < alpha < 1"),
        ({"delta": Fraction(1)}, "alpha 1/20, delta 1; expected"),
        ({"permutations": 0}, "permutations 0, key of 32 bytes; expected at least 1"),
        ({"key": b"short"}, "key of 5 bytes; expected at least 1, and 32 bytes"),
    ],
)
def test_bad_arguments_are_named(changed: dict[str, Any], said: str) -> None:
    good: dict[str, Any] = {
        "scores": [1, 2, 3, 4],
        "request": [True, False, True, False],
        "strata": [0, 0, 1, 1],
        "key": KEY,
        "alpha": ALPHA,
    }
    labels(**good)
    with pytest.raises(AttackError) as problem:
        labels(**(good | changed))
    assert said in str(problem.value)


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
