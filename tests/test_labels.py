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

from cu_attacks._types import AttackError
from cu_attacks.labels import Labels, labels
from cu_certificates.check.label_table import (
    arrangements,
    assignments,
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
    runs, size, take = (3000, 120, 20) if SLOW else (400, 45, 9)
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
