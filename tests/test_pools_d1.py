"""Two pools of outside scores: redone by the checker's routines, error rates with a known truth, the controls."""

from collections.abc import Callable
from fractions import Fraction
from math import log

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import cu_attacks
from cu_attacks._types import AttackError
from cu_attacks.pools import TwoPools, pool_control, pools_at, two_pools
from cu_certificates.check.bands import counts_bound, pool_threshold
from cu_certificates.check.tails import STEP

EXAMPLES = settings(deadline=None, max_examples=100 if SLOW else 30)
RUNS = 2_000 if SLOW else 150
ALPHA = Fraction(1, 20)
NONE = Fraction(0)


def at_most(count: int, share: float, runs: int = RUNS) -> bool:
    return bool(count <= stats.binom.ppf(0.999, runs, share))


def whole(values: np.ndarray) -> list[int]:
    return [int(value) for value in np.rint(values * 1e6)]


def audit(u: list[int], r: list[int], **changes: object) -> TwoPools:
    half, other = len(u) // 2, len(r) // 2
    return two_pools(
        u[half:], r[other:], calibrate_unlearned=u[:half], calibrate_retrained=r[:other], alpha=ALPHA, **changes
    )


def test_a_stranger_can_redo_it() -> None:
    rng = np.random.default_rng(0)
    u, r = whole(rng.normal(3, 1, 80)), whole(rng.normal(0, 1, 80))
    found = audit(u, r)
    threshold = pool_threshold(u[:40], r[:40], ALPHA, NONE, both=True)
    true, false = sum(x >= threshold for x in u[40:]), sum(x >= threshold for x in r[40:])
    assert (found.threshold, found.true, found.false) == (threshold, true, false)
    assert found.bound == counts_bound(true, 40, false, 40, ALPHA, NONE, both=True)
    assert found.bound > 1
    assert found.bound % STEP == 0
    assert found.supports_verdict
    assert "does not show" in found.shows_not
    assert found.assumptions
    assert found.calibration == (40, 40)


def test_it_is_a_member() -> None:
    attack = cu_attacks.get("pools")
    assert attack.kind == "question"
    assert attack.run is two_pools


def test_perfect_separation_reaches_the_ceiling() -> None:
    found = audit(list(range(1000, 1128)), list(range(128)))
    assert float(found.bound) == pytest.approx(2.825, abs=0.004)  # 64 models a side are counted
    ratio = stats.beta.ppf(0.025, 64, 1) / stats.beta.ppf(0.975, 1, 64)
    assert float(found.bound) <= log(ratio)


@pytest.mark.parametrize("truth", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("models", [24, 64])
def test_the_bound_errs_at_most_at_its_level(truth: float, models: int) -> None:
    rng, false = np.random.default_rng(1), 0
    for _ in range(RUNS):
        false += audit(whole(rng.laplace(truth, 1, models)), whole(rng.laplace(0, 1, models))).bound > truth
    assert at_most(false, float(ALPHA))


def test_a_threshold_chosen_on_the_counted_models_would_err() -> None:
    """The reason for the split, in the form that tools ship: the best of many thresholds, without a correction."""
    rng, false, runs = np.random.default_rng(2), [0, 0], 100
    # A level of 1/2 shows with few runs what 1/20 shows with many.
    level, models = Fraction(1, 2), 200
    for _ in range(runs):
        u, r = whole(rng.laplace(0, 1, models)), whole(rng.laplace(0, 1, models))
        threshold = pool_threshold(u, r, level, NONE, both=True)
        false[0] += pools_at(u, r, threshold=threshold, calibration=(0, 0), alpha=level).bound > 0
        half = {"calibrate_unlearned": u[:100], "calibrate_retrained": r[:100]}
        false[1] += two_pools(u[100:], r[100:], **half, alpha=level).bound > 0
    assert at_most(false[1], 0.5, runs)
    assert false[0] > stats.binom.ppf(0.999, runs, 0.5)


@EXAMPLES
@given(st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=2, max_size=12), st.integers(-3, 4))
def test_failed_models_count_against_the_claim(scores: list[int | None], threshold: int) -> None:
    arguments = {"threshold": threshold, "calibration": (0, 0), "alpha": Fraction(1, 3)}
    half = len(scores) // 2
    u, r = scores[:half], scores[half:]
    found = pools_at(u, r, **arguments)
    for filled in (-100, 100):
        lucky = pools_at([filled if x is None else x for x in u], [-100 if x is None else x for x in r], **arguments)
        assert found.bound <= lucky.bound or filled == -100
    worst = pools_at([-100 if x is None else x for x in u], [100 if x is None else x for x in r], **arguments)
    assert (found.true, found.false, found.bound) == (worst.true, worst.false, worst.bound)


def test_failed_calibration_models_are_left_out() -> None:
    u, r = [5, 6, 7, 8] * 4, [0, 1, 2, 3] * 4
    plain = two_pools(u, r, calibrate_unlearned=u, calibrate_retrained=r, alpha=ALPHA)
    holes = two_pools(u, r, calibrate_unlearned=[*u, None], calibrate_retrained=[None, *r], alpha=ALPHA)
    assert plain == holes


def test_direction_and_delta_show_less() -> None:
    rng = np.random.default_rng(3)
    u, r = whole(rng.normal(2, 1, 80)), whole(rng.normal(0, 1, 80))
    assert audit(u, r, direction="forward").bound <= audit(u, r).bound
    assert audit(u, r, delta=Fraction(1, 10)).bound < audit(u, r).bound
    assert audit(u, r, delta=Fraction(1, 10)).delta == Fraction(1, 10)


def test_constant_scores_show_nothing() -> None:
    found = audit([4] * 40, [4] * 40)
    assert (found.threshold, found.true, found.false, found.bound) == (4, 20, 20, 0)


# --- Controls --------------------------------------------------------------------------------------------------------


def test_sound_pipelines_seldom_fail_the_negative_control() -> None:
    rng, failed, runs = np.random.default_rng(4), 0, 4 * RUNS
    for _ in range(runs):
        scores = whole(rng.normal(size=48))
        failed += pool_control(scores[:16], scores[16:], threshold=0).failed
    assert at_most(failed, 0.01, runs)


def test_a_leak_in_either_direction_fails_the_negative_control() -> None:
    for control in ([9] * 16, [-9] * 16):
        found = pool_control(control, [1, -1] * 16, threshold=0)
        assert found.failed
        assert found.p < Fraction(1, 1000)
    found = pool_control([1, -1] * 8, [1, -1] * 16, threshold=0)
    assert not found.failed
    assert found.p == 1
    assert (found.high, found.control, found.reference_high, found.reference) == (8, 16, 16, 32)
    # Hypergeometric by scipy, twice the smaller tail.
    found = pool_control([1] * 7 + [-1], [1] * 10 + [-1] * 20, threshold=0)
    law = stats.hypergeom(38, 17, 8)
    assert float(found.p) == pytest.approx(2 * min(law.sf(6), law.cdf(7)))


def test_the_positive_control_is_the_same_rule_with_original_models() -> None:
    """When unlearned models look like retrained ones, their threshold is noise: the control chooses its own."""
    rng = np.random.default_rng(5)
    u, r, original = (whole(rng.normal(shift, 1, 64)) for shift in (0, 0, 6))
    found, control = audit(u, r), audit(original, r)
    assert found.bound == 0
    assert control.bound > 1


# --- Bad arguments ---------------------------------------------------------------------------------------------------


def call(**changes: object) -> TwoPools:
    arguments = {
        "unlearned": [1, 2],
        "retrained": [1, 2],
        "calibrate_unlearned": [1, 2],
        "calibrate_retrained": [1, 2],
        "alpha": ALPHA,
    } | changes
    return two_pools(arguments.pop("unlearned"), arguments.pop("retrained"), **arguments)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: call(unlearned=[]), "unlearned: no models; expected at least one"),
        (lambda: call(retrained=[1.5]), "retrained: 1.5; expected integers below 2\\^53, or None"),
        (lambda: call(retrained=[True]), "retrained: True; expected integers"),
        (lambda: call(unlearned=[2**53]), "expected integers below"),
        (lambda: call(calibrate_unlearned=[None, None]), "calibrate_unlearned: all 2 models failed"),
        (lambda: call(calibrate_retrained=[]), "calibrate_retrained: no models"),
        (lambda: call(alpha=0.05), "alpha: 0.05; expected a Fraction"),
        (lambda: call(delta=Fraction(1)), r"delta: .* expected a Fraction in \[0, 1\)"),
        (lambda: call(direction="back"), "direction: 'back'"),
        (lambda: pool_control([], [1], threshold=0), "control: no models"),
        (lambda: pool_control([1], [None], threshold=0), "retrained: all 1 models failed"),
        (lambda: pool_control([1], [1], threshold=0.5), "threshold: 0.5; expected integers"),
    ],
)
def test_bad_arguments(run: Callable[[], object], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        run()
