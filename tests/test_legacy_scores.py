"""Scores of the literature, exactly as released and with their null bands: 2023 challenge, KLOM, TOFU."""

from collections.abc import Callable
from math import ceil, comb, log
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cu_attacks._types import AttackError
from cu_attacks.challenge import CAP, challenge, eps_table, epsilons, grid_rank, quality, record_eps
from cu_attacks.klom import binned, klom, margin_divergence
from cu_attacks.ks import distances
from cu_attacks.tofu import tofu
from cu_attacks.wasserstein import transport

Rng = np.random.Generator
RECORDS = 2_000 if SLOW else 250


# --- 2023 challenge --------------------------------------------------------------------------------------------------


def slow_rule(hits: int, false: int, models: int) -> float:
    """eps-hat of one rule by the published formula; NaN where the scorer throws it away."""
    missed, wrong = 1 - hits / models, false / models
    if missed == 0 and wrong == 0:
        return float("inf")
    if missed == 0 or wrong == 0:
        return float("nan")
    ways = [log(1 - 1e-5 - a) - log(b) for a, b in ((wrong, missed), (missed, wrong)) if 1 - 1e-5 - a > 0]
    return max(0.0, *ways) if ways else float("nan")


def slow_record(unlearned: Any, retrained: Any) -> float:
    """All rules one after the other, straight from the description of the scorer."""
    models, found = len(unlearned), []
    spans = np.ptp(unlearned), np.ptp(retrained)
    if min(spans) / max(spans) < 0.01:
        return 50.0
    positive, negative = (
        (retrained, unlearned) if np.median(retrained) > np.median(unlearned) else (unlearned, retrained)
    )
    everything = np.concatenate([positive, negative])
    low, high = everything.min(), everything.max()
    for cut in np.linspace(low, high, ceil((high - low) * 100)):
        found.append(slow_rule(int((positive >= cut).sum()), int((negative >= cut).sum()), models))
    narrow, wide = (negative, positive) if np.ptp(positive) >= np.ptp(negative) else (positive, negative)
    width = narrow.max() - narrow.min()
    start, stop = narrow.min() + width - 2.0, narrow.max() + 2.0
    for right in np.linspace(start, stop, ceil((stop - start) * 100)):
        left = np.linspace(right - width - 2.0, right - width + 2.0, 400)[:, None]
        inside = [((left <= pool) & (pool <= right)).sum(axis=1) for pool in (narrow, wide)]
        counts = set(zip(*(count.tolist() for count in inside), strict=True))
        found += [slow_rule(*count, models) for count in counts]
    kept = [value for value in found if value == value]
    return float(min(max(kept), 50.0)) if kept else float("nan")


CASES = [
    pytest.param(models, shift, scale, digits, id=f"{models} models, {shift}, {scale}, {digits}")
    for models, shift, scale, digits in [
        (4, 0.0, 1.0, None),
        (8, 0.0, 3.0, None),
        (16, 1.0, 1.0, None),
        (16, 0.0, 3.0, 0),  # whole numbers: ties, and values on the grid
        (32, 0.5, 2.0, 1),
        (12, 6.0, 1.0, None),  # separated
        (8, 0.0, 0.02, None),  # a spread of a few grid steps
    ]
]


@pytest.mark.parametrize(("models", "shift", "scale", "digits"), CASES)
def test_the_scorer_agrees_with_a_slow_one(models: int, shift: float, scale: float, digits: int | None) -> None:
    rng = np.random.default_rng(models)
    for narrowing in (1.0, 0.3):
        first = rng.normal(shift, narrowing * scale, models)
        second = rng.normal(0, scale, models)
        if digits is not None:
            first, second = np.round(first, digits), np.round(second, digits)
        found = record_eps(np.sort(first), np.sort(second))
        assert found == pytest.approx(slow_record(first, second), abs=1e-9)


def test_the_grid_is_met_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    start, stop = rng.normal(size=5), rng.normal(9, 1, 5)
    grids = np.linspace(start, stop, 37)
    values = np.sort(np.concatenate([grids.ravel(), np.nextafter(grids.ravel(), -9), rng.normal(4, 9, 50)]))
    wanted = (grids.T[:, None, :] <= values[None, :, None]).sum(axis=2)
    assert (grid_rank(values, start, stop, 37) == wanted).all()
    assert (grid_rank(values, start, stop, 1) == (values >= start[:, None])).all()


def test_the_table_of_rules() -> None:
    table = eps_table(4).reshape(5, 5)  # right calls on one pool, wrong ones on the other
    assert table[4, 0] == CAP
    assert table[3, 1] == pytest.approx(log(0.75 - 1e-5) - log(0.25))
    assert table[1, 3] == 0.0  # ln((1 - .75)/.75) and its twin are negative
    assert np.isneginf(table[4, 1:]).all()
    assert np.isneginf(table[:4, 0]).all()
    assert np.isneginf(table[0, 4])
    for hits in range(5):
        for false in range(5):
            wanted = slow_rule(hits, false, 4)
            found = table[hits, false]
            assert np.isneginf(found) if wanted != wanted else found == pytest.approx(min(wanted, 50.0))


def test_points_by_hand() -> None:
    # 32 models: ceil(ln 31) = 4, so eight bins of a half; 1.3 lies in the third, 3.9 in the last, 4.0 in none.
    assert quality(np.array([0.2, 0.5, 0.99, 1.3, 3.9, 4.0, 50.0]), 32) == pytest.approx(
        (1 + 0.5 + 0.5 + 0.25 + 2**-7) / 7
    )
    assert quality(np.array([6.9]), 512) == 2**-13
    assert quality(np.array([7.0]), 512) == 0.0
    assert quality(np.array([0.99, 1.0]), 3) == 0.25


def test_special_records() -> None:
    line = np.linspace(0, 1, 8)
    assert record_eps(np.full(8, 2.0), np.full(8, 2.0)) == 0.0
    assert record_eps(np.full(8, 2.0), np.full(8, 3.0)) == 50.0
    assert record_eps(line / 200, line) == 50.0  # a range below 1 % of the other
    assert record_eps(line, line + 5) == 50.0
    assert record_eps(line, line) == pytest.approx(slow_record(line, line))
    assert np.isnan(record_eps(np.array([0.0, 3e-6, 6e-6]), np.array([1e-6, 4e-6, 9e-6])))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_the_score_does_not_depend_on_who_is_called_unlearned(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0.5, 1, (9, 3)), rng.normal(size=(9, 3))
    assert epsilons(first, second) == pytest.approx(epsilons(second, first))


@pytest.mark.slow
@pytest.mark.parametrize(("models", "share"), [(32, 1.0), (128, 0.4)])
def test_the_floor_of_perfect_unlearning(models: int, share: float) -> None:
    """Two sets of retrained models: mean eps-hat about 1.53 and F about 0.19 to 0.20, at either size."""
    rng, records = np.random.default_rng(models), int(share * RECORDS)
    eps = epsilons(rng.normal(0, 3, (models, records)), rng.normal(0, 3, (models, records)))
    error = eps.std() / records**0.5
    assert eps.mean() == pytest.approx(1.53, abs=0.03 + 3.3 * error)
    assert quality(eps, models) == pytest.approx(0.195, abs=0.006 + 3.3 * 0.12 / records**0.5)


def test_the_band_of_the_score() -> None:
    rng = np.random.default_rng(2)
    retrained, spare = rng.normal(0, 3, (2, 16, 12))
    alike = challenge(rng.normal(0, 3, (16, 12)), retrained, rng=rng, spare=spare, draws=30)
    assert alike.null_n == (16, 16)
    assert alike.per_record.shape == (12,)
    assert alike.mean_eps == pytest.approx(alike.per_record.mean())
    assert alike.value == quality(alike.per_record, 16)
    assert alike.null_mean == pytest.approx(0.19, abs=0.08)
    assert alike.null_mean_eps == pytest.approx(1.5, abs=0.3)
    # Plainly different: beyond the band, at half the size where there are no spare models.
    apart = challenge(rng.normal(9, 3, (16, 12)), retrained, rng=rng, draws=30)
    assert apart.null_n == (8, 8)
    assert apart.matched < apart.null_low
    assert apart.mean_eps > apart.null_mean_eps
    assert apart.final is None


def test_the_final_score() -> None:
    rng = np.random.default_rng(3)
    pools = rng.normal(0, 3, (2, 8, 3))
    found = challenge(*pools, rng=rng, draws=2, retain_accuracy=(0.9, 1.0), test_accuracy=(0.4, 0.8))
    assert found.final == pytest.approx(found.value * 0.45)


# --- KLOM ------------------------------------------------------------------------------------------------------------


def slow_klom(p: Any, q: Any) -> float:
    """One record, as the released scorer is described."""
    p, q = np.clip(p, -100, 100), np.clip(q, -100, 100)
    low, high = min(*p, *q), max(*p, *q)
    edges = np.linspace(low, high if high > low else low + 1, 21)
    counts = [[sum(edges[i] <= x < edges[i + 1] for x in pool) for i in range(20)] for pool in (p, q)]
    one, two = (np.array(count) / sum(count) for count in counts)
    two = np.where(one > 0, np.maximum(two, 1e-5), two)
    return float(stats.entropy(one, two))


@pytest.mark.parametrize("sizes", [(5, 5), (12, 9), (40, 40)])
@pytest.mark.parametrize("digits", [None, 0])
def test_klom_agrees_with_a_slow_one(sizes: tuple[int, int], digits: int | None) -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(0, 2, (sizes[0], 6)), rng.normal(1, 2, (sizes[1], 6))
    first[:, 0] *= 200  # clipped
    if digits is not None:
        first, second = np.round(first, digits), np.round(second, digits)
    found = margin_divergence(first, second)
    wanted = [slow_klom(a, b) for a, b in zip(first.T, second.T, strict=True)]
    assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("models", "floor"), [(8, 6.39), (16, 3.88), (32, 1.64), (64, 0.62), (100, 0.35)])
def test_the_floor_of_klom(models: int, floor: float) -> None:
    rng, records = np.random.default_rng(models), 4 * RECORDS
    pools = rng.normal(size=(2, models, records))
    found = margin_divergence(*pools, top="kept")
    # The floors are simulated themselves, and printed with two decimals.
    assert found.mean() == pytest.approx(floor, abs=0.03 * floor + 3.3 * found.std() / records**0.5)
    # The released scorer leaves the largest value out, which hardly moves the floor.
    assert margin_divergence(*pools).mean() == pytest.approx(floor, rel=0.08, abs=0.3 if models < 32 else 0.05)


@pytest.mark.slow
def test_the_floors_of_other_distances() -> None:
    rng, records = np.random.default_rng(5), RECORDS
    first, second = rng.normal(size=(2, 100, records))
    rows = np.arange(200)[None, :] < 100
    found = {
        "js": (binned(first, second, rng=rng, draws=1).per_record, 0.052),
        "tv": (binned(first, second, rng=rng, measure="tv", draws=1).per_record, 0.217),
        "w1": (transport(first, second), 0.178),
        "ks": (distances(np.concatenate([first, second]), rows)[0] / 100, 0.120),
    }
    for name, (values, floor) in found.items():
        assert values.mean() == pytest.approx(floor, abs=0.03 * floor + 3.3 * values.std() / records**0.5), name


def test_klom_where_the_released_scorer_has_no_answer() -> None:
    low, high = np.zeros((6, 1)), np.ones((6, 1))
    # Point masses that do not touch: as released NaN one way and 0 the other; here the floor of the share, both ways.
    for pair in ((low, high), (high, low)):
        assert margin_divergence(*pair)[0] == pytest.approx(log((1 + 1e-5) / 1e-5))
    assert margin_divergence(low, low)[0] == 0.0
    assert margin_divergence(high * 500, high * 900)[0] == 0.0  # both clipped to 100


def test_the_band_of_klom() -> None:
    rng = np.random.default_rng(6)
    first, second, spare = rng.normal(size=(3, 32, 20))
    found = klom(first, second, rng=rng, spare=spare, draws=40)
    assert found.null_low < found.matched < found.null_high
    assert found.null_mean == pytest.approx(1.64, abs=0.3)
    assert abs(found.excess) < 0.6
    smaller = klom(first, second, rng=rng, draws=40)
    assert smaller.null_n == (16, 16)
    # The value at the full size lies far below the floor of half the size: only the matched one is comparable.
    assert smaller.value < smaller.null_low < smaller.matched < smaller.null_high
    assert klom(first + 5, second, rng=rng, draws=40).matched > smaller.null_high


# --- TOFU ------------------------------------------------------------------------------------------------------------


def test_forget_quality_is_the_p_value_of_two_samples() -> None:
    rng = np.random.default_rng(7)
    retained = rng.lognormal(size=(4, 40))
    mine = rng.lognormal(0.3, 1, 40)
    found = tofu(mine, retained, reference=2)
    assert found.value == stats.ks_2samp(mine, retained[2]).pvalue
    assert found.distance == stats.ks_2samp(mine, retained[2]).statistic
    assert found.against == pytest.approx([stats.ks_2samp(mine, other).pvalue for other in retained])
    assert found.draws == 6
    null = [stats.ks_2samp(retained[i], retained[j]).pvalue for i in range(4) for j in range(i)]
    assert found.null_mean == pytest.approx(np.mean(null))
    assert (found.null_low, found.null_high) == pytest.approx(np.quantile(null, [0.025, 0.975]))
    # Only the order counts, so the inverse ratio of other code bases changes nothing.
    assert tofu(-1 / mine, -1 / retained, reference=2).value == pytest.approx(found.value)


def test_forget_quality_far_apart_has_the_closed_form() -> None:
    found = tofu(np.arange(40.0), 100 + np.arange(120.0).reshape(3, 40))
    assert found.value == pytest.approx(2 / comb(80, 40))
    assert found.questions == 40


def test_forget_quality_rises_when_questions_are_left_out() -> None:
    """The same shift of half a standard deviation "succeeds" with 20 questions and fails with 400."""
    rng = np.random.default_rng(8)
    retained, mine = rng.normal(size=(3, 400)), rng.normal(0.5, 1, 400)
    assert tofu(mine[:20], retained[:, :20]).value > 0.05
    assert tofu(mine, retained).value < 1e-4


# --- What is refused -------------------------------------------------------------------------------------------------

PAIR = np.random.default_rng(9).normal(0, 3, (8, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: challenge(PAIR, PAIR[:7], rng=rng), "retrained: 7 models; the scorer needs as many"),
        (lambda rng: challenge(PAIR[:2], PAIR[:2], rng=rng), "unlearned: shape (2, 2); expected (models >= 3"),
        (
            lambda rng: challenge(PAIR[:5], PAIR[3:], rng=rng),
            "retrained: 5 models, spare ones included; expected at least 6",
        ),
        (lambda rng: challenge(PAIR, PAIR * 1e7, rng=rng), "signals beyond +-1e+06"),
        (lambda rng: challenge(PAIR, PAIR * np.nan, rng=rng), "retrained: holds NaN or infinite"),
        (lambda rng: challenge(PAIR, PAIR + 1e-9, rng=rng, draws=0), "draws: 0; expected at least 1"),
        (lambda rng: challenge(PAIR * 1e-6, PAIR[::-1] * 9e-7, rng=rng), ": every rule on the scorer's grid"),
        (lambda rng: challenge(PAIR, PAIR, rng=rng, retain_accuracy=(1, 1)), "expected two pairs in (0, 1]"),
        (
            lambda rng: challenge(PAIR, PAIR, rng=rng, retain_accuracy=(1, 0), test_accuracy=(1, 1)),
            "expected two pairs in (0, 1]",
        ),
        (lambda rng: klom(PAIR, PAIR[:3], rng=rng), "retrained: 3 models, spare ones included; expected at least 4"),
        (lambda rng: klom(PAIR[:1], PAIR, rng=rng), "unlearned: shape (1, 2); expected (models >= 2"),
        (lambda rng: klom(PAIR, PAIR, rng=rng, top="open"), "top: 'open'; expected dropped or kept"),  # type: ignore[arg-type]
        (lambda rng: binned(PAIR, PAIR, rng=rng, measure="kl"), "measure: 'kl'; expected js or tv"),  # type: ignore[arg-type]
        (lambda _: tofu([1.0, 2.0], PAIR[:2]), "retained: 2 models; expected at least 3"),
        (lambda _: tofu([1.0], PAIR), "unlearned: shape (1,); expected (2,)"),
        (lambda _: tofu([1.0, np.inf], PAIR), "unlearned: holds NaN or infinite"),
        (lambda _: tofu([1.0, 2.0], PAIR, reference=8), "reference: 8; expected 0 to 7"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[Rng], Any], message: str) -> None:
    with pytest.raises(AttackError) as caught:
        call(np.random.default_rng(0))
    assert message in str(caught.value)
