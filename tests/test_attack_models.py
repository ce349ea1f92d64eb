"""U-LiRA between pools of models, both sides of chance, and the count of records that leak."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from scipy import stats

from cu_attacks._multiplicity import benjamini_hochberg
from cu_attacks._panel import PanelResult, direction, judge, leaking_records
from cu_attacks._types import AttackError, Estimate
from cu_attacks.lira import lira_online
from cu_attacks.ulira import ulira, ulira_pools

Array = np.ndarray[Any, Any]
RUNS = 2000 if SLOW else 200


def at_most(count: int, runs: int, share: float) -> bool:
    return count <= stats.binom.ppf(0.999, runs, share)


def pool(rng: np.random.Generator, models: int, records: int = 20, shift: Any = 0.0) -> Array:
    """Signals with a part that all records of a model share, records far apart."""
    base = np.linspace(-4, 4, records)
    found: Array = base + 0.5 * rng.normal(size=(models, 1)) + rng.normal(size=(models, records)) + shift
    return found


# --- U-LiRA ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", ["pooled", "record", "nig"])
def test_ulira_is_online_lira_with_unlearned_models_as_members(variance: Any) -> None:
    rng = np.random.default_rng(0)
    unlearned, retrained, targets = pool(rng, 6, shift=0.7), pool(rng, 7), pool(rng, 3)
    both = np.concatenate([unlearned, retrained])
    mask = np.repeat(np.arange(13) < 6, 20).reshape(13, 20)
    wanted = [lira_online(row, both, mask, variance=variance) for row in targets]
    assert ulira(targets, unlearned, retrained, variance=variance) == pytest.approx(np.stack(wanted))


def test_ulira_golden() -> None:
    half = 0.5**0.5
    found = ulira([[3.0]], [[4 - half], [4 + half]], [[1 - 2 * half], [1 + 2 * half]])
    assert found == pytest.approx(np.array([[np.log(2)]]))


def test_targets_are_other_models_than_shadows() -> None:
    rng = np.random.default_rng(1)
    unlearned, retrained = pool(rng, 9, shift=0.5), pool(rng, 8)
    found = ulira_pools(unlearned, retrained)
    assert found.n == (5, 4, 4, 4)
    assert found.unlearned == pytest.approx(ulira(unlearned[1::2], unlearned[0::2], retrained[0::2]))
    assert found.retrained == pytest.approx(ulira(retrained[1::2], unlearned[0::2], retrained[0::2]))
    assert found.record_auc == pytest.approx(
        [
            stats.mannwhitneyu(found.unlearned[:, i], found.retrained[:, i]).statistic / 16
            for i in range(found.unlearned.shape[1])
        ]
    )


def test_the_p_of_a_record_is_the_exact_rank_sum_and_ties_count_against_a_report() -> None:
    rng = np.random.default_rng(2)
    found = ulira_pools(pool(rng, 12, shift=0.8), pool(rng, 14))
    exact = [
        stats.mannwhitneyu(a, b, alternative="greater", method="exact").pvalue
        for a, b in zip(found.unlearned.T, found.retrained.T, strict=True)
    ]
    assert found.p == pytest.approx(exact)
    assert found.count == benjamini_hochberg(exact, 0.05)[0].sum()
    tied = ulira_pools(np.zeros((8, 3)), np.zeros((8, 3)))
    assert tied.p == pytest.approx([1.0] * 3)
    assert (tied.auc.value, tied.direction, tied.count) == (0.5, "none seen", 0)


@pytest.mark.parametrize("models", [12, 32])
def test_identical_laws_give_an_area_of_one_half(models: int) -> None:
    rng, areas, hits, seen, small = np.random.default_rng(3), [], 0, 0, 0
    for _ in range(RUNS):
        found = ulira_pools(pool(rng, models), pool(rng, models))
        areas.append(found.auc.value)
        hits += found.auc.low <= 0.5 <= found.auc.high
        seen += found.direction != "none seen"
        small += found.p[0] <= 0.1
    assert np.mean(areas) == pytest.approx(0.5, abs=4 * np.std(areas) / RUNS**0.5)
    # The interval is approximate with six or sixteen target models: 93 % is what it must reach.
    assert hits >= stats.binom.ppf(0.001, RUNS, 0.93)
    assert at_most(seen, RUNS, 0.06)
    assert at_most(small, RUNS, 0.1)


def test_ulira_sees_remembering_over_forgetting_and_records_that_go_both_ways() -> None:
    rng = np.random.default_rng(4)
    sides = {
        "remembered": 1.0,
        "over-forgotten": -1.0,
        "both": np.where(np.arange(20) % 2, 1.5, -1.5),
    }
    for side, shift in sides.items():
        found = ulira_pools(pool(rng, 32, shift=shift), pool(rng, 32))
        assert found.direction == side
        assert found.auc.low > 0.5, "scores are high on either side"
        assert (found.signal.value > 0.5) == (side == "remembered") or side == "both"
        assert found.count > 0
    one = ulira_pools(pool(rng, 40, shift=np.where(np.arange(20) == 7, 4.0, 0.0)), pool(rng, 40))
    assert one.record_auc[7] > 0.95
    assert one.count >= 1
    assert one.p[7] == one.p.min(), "the single record that leaks"


def test_false_reports_of_records_stay_rare() -> None:
    """Half the records leak; among the reported ones at most 5 % are false on average."""
    rng, shares = np.random.default_rng(5), []
    for _ in range(RUNS // 4):
        found = ulira_pools(pool(rng, 24, shift=np.where(np.arange(20) < 10, 2.5, 0.0)), pool(rng, 24))
        reported = benjamini_hochberg(found.p, 0.05)[0]
        shares.append(reported[10:].sum() / max(reported.sum(), 1))
    assert np.mean(shares) <= 0.05 + 3.3 * np.std(shares) / len(shares) ** 0.5


# --- Both sides of chance --------------------------------------------------------------------------------------------


def estimate(low: float, high: float) -> Estimate:
    return Estimate(name="x", value=(low + high) / 2, low=low, high=high, level=0.95, method="", n=(1, 1), shows_not="")


@pytest.mark.parametrize(
    ("auc", "high", "low", "wanted"),
    [
        ((0.4, 0.6), 0.0, 0.0, "none seen"),
        ((0.51, 0.6), 0.0, 0.0, "remembered"),
        ((0.4, 0.49), 0.0, 0.0, "over-forgotten"),
        ((0.4, 0.6), 0.02, 0.0, "remembered"),
        ((0.4, 0.6), 0.0, 0.02, "over-forgotten"),
        ((0.4, 0.6), 0.02, 0.02, "both"),
        ((0.4, 0.49), 0.02, 0.0, "both"),
        ((0.5, 0.5), 0.01, 0.01, "none seen"),
    ],
)
def test_the_direction_follows_the_intervals(auc: tuple[float, float], high: float, low: float, wanted: str) -> None:
    assert direction(estimate(*auc), [(0.01, estimate(high, 1))], [(0.01, estimate(low, 1))]) == wanted


def judged(rng: np.random.Generator, inside: Array, outside: int = 700) -> PanelResult:
    scores = np.concatenate([inside, rng.normal(size=outside)])
    return judge(scores, np.arange(len(scores)) < len(inside), name="LiRA")


def test_a_signal_far_below_chance_is_reported_as_a_leak() -> None:
    rng = np.random.default_rng(6)
    found = judged(rng, rng.normal(-1.5, 1, 80))
    assert found.direction == "over-forgotten"
    assert found.auc.high < 0.5
    assert found.low_rates[0][1].value > found.rates[0][1].value
    assert found.low_advantage.low > 0
    assert found.rates[0][1].name == "TPR at 1.0% FPR, LiRA"
    assert "low side" in found.low_rates[0][1].name
    assert judged(rng, rng.normal(1.5, 1, 80)).direction == "remembered"


def test_few_records_far_out_are_seen_by_the_rates_though_not_by_the_area() -> None:
    rng = np.random.default_rng(7)
    inside = rng.normal(0.25, 1, size=100)
    inside[:14] -= 8
    found = judged(rng, inside)
    assert found.auc.low < 0.5 < found.auc.high
    assert found.direction == "over-forgotten"
    inside[14:28] += 8
    assert judged(rng, inside).direction == "both"


def test_flipping_the_scores_exchanges_the_sides() -> None:
    rng = np.random.default_rng(8)
    scores, member = rng.normal(size=300), np.arange(300) < 60
    one, two = (judge(sign * scores, member, name="x") for sign in (1, -1))
    assert one.low_advantage.value == two.advantage.value
    assert [(r, e.value, e.low, e.high) for r, e in one.low_rates] == [
        (r, e.value, e.low, e.high) for r, e in two.rates
    ]


def test_nothing_is_seen_where_nothing_is() -> None:
    """Over both sides, the area and two rates the chance of a false sight is 5 %, the area's part asymptotic."""
    rng, seen = np.random.default_rng(9), 0
    runs = RUNS // 2
    for _ in range(runs):
        seen += judged(rng, rng.normal(size=30)).direction != "none seen"
    assert at_most(seen, runs, 0.055)


# --- Records that leak -----------------------------------------------------------------------------------------------


def test_leaking_records_are_those_of_a_naive_count() -> None:
    rng = np.random.default_rng(10)
    shadows = rng.normal(size=(199, 12))
    phi = 0.3 * rng.normal(size=12)
    phi[[2, 5]], phi[9] = 6.0, -6.0
    found = leaking_records(phi, shadows, level=0.1, top=4)
    p = [min(1.0, 2 * min(1 + sum(shadows[:, i] >= x), 1 + sum(shadows[:, i] <= x)) / 200) for i, x in enumerate(phi)]
    reported = benjamini_hochberg(p, 0.1)[0]
    assert found.count == reported.sum() == 3
    assert (found.remembered, found.over_forgotten) == (2, 1)
    assert {record.index for record in found.worst[:3]} == {2, 5, 9}
    assert [record.p for record in found.worst] == sorted(p)[:4]
    assert [record.leaks for record in found.worst] == [True] * 3 + [False]
    worst = {record.index: record for record in found.worst}
    spread = shadows.var(axis=0, ddof=1).mean() ** 0.5
    assert worst[9].score == pytest.approx((-6 - shadows[:, 9].mean()) / spread)
    assert (worst[9].side, worst[2].side) == ("over-forgotten", "remembered")
    assert found.least == 2  # 2/200 is the smallest p-value: with one record, 1/12 of 10 % would be needed
    assert found.n == (12, 199)


def test_few_never_in_models_can_report_only_many_records_at_once() -> None:
    shadows = np.random.default_rng(11).normal(size=(19, 10))
    found = leaking_records(np.full(10, 9.0), shadows)
    assert found.least == 20, "more than there are records: nothing can be reported"
    assert found.count == 0
    more = leaking_records(np.full(10, 9.0), np.random.default_rng(11).normal(size=(39, 10)))
    assert (more.least, more.count) == (10, 10)


def test_a_never_in_model_seldom_has_a_leaking_record() -> None:
    rng, any_, small = np.random.default_rng(12), 0, 0
    for _ in range(RUNS):
        models = pool(rng, 100, records=3)
        found = leaking_records(models[0], models[1:])
        any_ += found.count > 0
        small += sum(record.p <= 0.1 and record.index == 0 for record in found.worst)
    assert at_most(any_, RUNS, 0.05)
    assert at_most(small, RUNS, 0.1)
    assert small >= stats.binom.ppf(0.001, RUNS, 0.1), "exact, not merely safe: 10 of 100 ranks"


FOUR = np.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ulira([[1.0]], FOUR, FOUR), "unlearned: signals on 2 records; expected 1"),
        (lambda: ulira_pools(FOUR[:3], FOUR), "unlearned: shape"),
        (lambda: ulira_pools(FOUR, FOUR[:, :1]), "retrained: signals on 1 records; expected 2"),
        (lambda: ulira_pools(FOUR, FOUR, level=1.0), "level: 1.0"),
        (lambda: ulira_pools(FOUR * np.nan, FOUR), "unlearned: holds NaN"),
        (lambda: judge([1.0] * 4, [True] * 4, name="x"), "two of each"),
        (lambda: judge([1.0] * 4, np.arange(4) < 2, name="x", false_rates=()), "false_rates: none"),
        (lambda: leaking_records([1.0], FOUR), "signals"),
        (lambda: leaking_records([1.0, 1.0], FOUR, top=-1), "top: -1"),
        (lambda: leaking_records([1.0, 1.0], FOUR[:1]), "shadows: shape"),
    ],
)
def test_what_cannot_be_used_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        call()


def test_results_say_what_they_rest_on_and_do_not_show() -> None:
    rng = np.random.default_rng(13)
    results = (
        ulira_pools(pool(rng, 8), pool(rng, 8)),
        judged(rng, rng.normal(size=9)),
        leaking_records([0.0], [[0.0]] * 2),
    )
    for found in results:
        assert found.assumptions
        assert "does not show" in found.shows_not
        with pytest.raises(AttributeError):
            found.shows_not = ""  # type: ignore[misc]
    assert replace(results[1], name="y").name == "y"
