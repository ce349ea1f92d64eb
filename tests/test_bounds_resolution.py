"""The resolution line against the tables of the protocol, and against what the bounds then do."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from conftest import SLOW
from scipy import stats

from cu_attacks._bounds import group_eps, pair_eps, permutation_eps
from cu_attacks._resolution import (
    coinflip_resolution,
    conformal_resolution,
    onerun_resolution,
    permutation_resolution,
    pools_resolution,
)
from cu_attacks._types import AttackError
from cu_certificates.check.onerun import onerun_bound, request_bound
from cu_certificates.check.tails import coinflip_bound

ALPHA, SPLIT = Fraction(1, 20), Fraction(1, 80)
NONE, ONE = Fraction(0), Fraction(1)
RUNS = 4_000 if SLOW else 1_000


@pytest.mark.parametrize(
    ("slots", "guesses", "alpha", "largest", "zero", "one"),
    [
        (32, 24, ALPHA, 2.01, (17, 0.760), (22, 0.936)),
        (32, 24, SPLIT, 1.60, (18, 0.797), (23, 0.966)),
        (64, 48, ALPHA, 2.74, (31, 0.692), (41, 0.882)),
        (64, 48, SPLIT, 2.34, (33, 0.731), (43, 0.918)),
        (128, 96, ALPHA, 3.45, (57, 0.630), (78, 0.839)),
        (256, 192, SPLIT, 3.76, (113, 0.616), (155, 0.828)),
    ],
)
def test_the_table_of_default_sizes(
    slots: int, guesses: int, alpha: Fraction, largest: float, zero: tuple[int, float], one: tuple[int, float]
) -> None:
    """The protocol, section 7."""
    found = coinflip_resolution(slots, guesses, alpha=alpha, tested_eps=ONE)
    assert float(found.largest_eps) == pytest.approx(largest, abs=0.0101)
    for need, (right, accuracy) in zip(found.against, (zero, one), strict=True):
        assert need.critical == right
        assert float(need.effect) == pytest.approx(accuracy, abs=0.0011)
    for need in found.against:
        assert coinflip_bound(slots, guesses, need.critical, alpha, NONE) > need.eps
        assert coinflip_bound(slots, guesses, need.critical - 1, alpha, NONE) <= need.eps


def test_one_direction_makes_half_of_the_guesses() -> None:
    found = coinflip_resolution(64, 48, alpha=ALPHA, tested_eps=ONE, direction="forward")
    assert found.sizes == (("slots", 64), ("guesses", 24))
    assert found.largest_eps == coinflip_bound(64, 24, 24, ALPHA, NONE)
    assert found.largest_eps < coinflip_resolution(64, 48, alpha=ALPHA, tested_eps=ONE).largest_eps


@pytest.mark.parametrize(
    ("references", "scores", "alpha", "largest"),
    [(99, 1, ALPHA, 1.60), (199, 4, ALPHA, 0.91), (999, 1, ALPHA, 3.91), (99, 1, SPLIT, 0.22), (64, 4, ALPHA, None)],
)
def test_the_table_of_references(references: int, scores: int, alpha: Fraction, largest: float | None) -> None:
    """The protocol, section 2."""
    found = conformal_resolution(references, scores=scores, alpha=alpha, tested_eps=Fraction(1, 2))
    if largest is None:
        assert found.largest_eps == 0
        assert [need.critical for need in found.against] == [None, None]
        assert "eps 0.0000 cannot be exceeded" in found.line
        return
    assert float(found.largest_eps) == pytest.approx(largest, abs=0.0101)
    for need in found.against:
        if need.critical is None:
            assert found.largest_eps <= need.eps
            continue
        for above, more in ((need.critical, True), (need.critical + 1, False)):
            p = Fraction(scores * (1 + above), references + 1)
            assert (group_eps(p, alpha=alpha).bound > need.eps) is more
        shares = np.array([float(need.effect), float(need.effect) + 1e-4])
        power = stats.binom.cdf(need.critical, references, shares)
        assert power[0] >= 0.8 > power[1]


def test_two_pools() -> None:
    found = pools_resolution(64, 48, alpha=ALPHA, tested_eps=ONE)
    assert found.largest_eps == pair_eps(64, 64, 0, 48, alpha=ALPHA).bound
    for need in found.against:
        assert pair_eps(need.critical, 64, 0, 48, alpha=ALPHA).bound > need.eps
        assert pair_eps(need.critical - 1, 64, 0, 48, alpha=ALPHA).bound <= need.eps
        rng = np.random.default_rng(1)
        seen = int((rng.binomial(64, float(need.effect), RUNS) >= need.critical).sum())
        assert stats.binom.ppf(0.001, RUNS, 0.8) <= seen <= stats.binom.ppf(0.999, RUNS, 0.82)
    # The smallest pools that can show eps >= 1, 2 and 3 (the reference page, A.3).
    for models, eps in ((12, 1), (30, 2), (76, 3)):
        assert pools_resolution(models, models, alpha=ALPHA, tested_eps=ONE).largest_eps >= Fraction(eps) - Fraction(
            1, 100
        )
        assert pools_resolution(models - 1, models - 1, alpha=ALPHA, tested_eps=ONE).largest_eps < eps


@pytest.mark.parametrize("delta", [NONE, Fraction(1, 10**5)])
def test_one_run(delta: Fraction) -> None:
    candidates, guesses, tested = 200, 100, Fraction(1, 2)
    request, record = onerun_resolution(candidates, guesses, alpha=ALPHA, delta=delta, tested_eps=tested)
    assert request.largest_eps == request_bound(guesses, guesses, ALPHA, delta)
    assert record.largest_eps == onerun_bound(candidates, guesses, guesses, ALPHA, delta)
    for need in request.against:
        assert request_bound(guesses, need.critical, ALPHA, delta) > need.eps
        assert request_bound(guesses, need.critical - 1, ALPHA, delta) <= need.eps
    for need in record.against:
        assert onerun_bound(candidates, guesses, need.critical, ALPHA, delta) > need.eps
        assert onerun_bound(candidates, guesses, need.critical - 1, ALPHA, delta) <= need.eps
    assert [need.eps for need in record.against] == [0, 2 * tested]
    assert "for the whole request" in request.line
    assert "for one record" in record.line


def test_permutations() -> None:
    found = permutation_resolution(4, 999, alpha=ALPHA, tested_eps=Fraction(1, 2))
    assert found.largest_eps == permutation_eps(Fraction(1, 1000), 4, alpha=ALPHA).bound
    for need in found.against:
        for as_large, more in ((need.critical, True), (need.critical + 1, False)):
            p = Fraction(1 + as_large, 1000)
            assert (permutation_eps(p, 4, alpha=ALPHA).bound > need.eps) is more
        assert need.effect is None
    assert permutation_resolution(64, 999, alpha=ALPHA, tested_eps=ONE).against[1].critical is None


def test_the_line_names_each_eps_once() -> None:
    found = coinflip_resolution(16, 12, alpha=ALPHA, tested_eps=NONE)
    assert found.line.count("against eps 0.0000") == 1
    assert "with 80 % power" in found.line
    assert found.line.startswith(
        "coin-flip slots with 16 slots, 12 guesses at level 1/20: largest eps that can be shown"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coinflip_resolution(8, 7, alpha=ALPHA, tested_eps=ONE), "guesses: 7; expected an even number"),
        (lambda: coinflip_resolution(8, 10, alpha=ALPHA, tested_eps=ONE), "guesses: 10 of 8"),
        (lambda: coinflip_resolution(8, 6, alpha=ALPHA, tested_eps=0.5), "tested_eps: 0.5; expected a Fraction"),
        (lambda: coinflip_resolution(8, 6, alpha=ALPHA, tested_eps=ONE, direction="x"), "direction: 'x'"),
        (lambda: conformal_resolution(0, alpha=ALPHA, tested_eps=ONE), "references: 0 of 0"),
        (lambda: conformal_resolution(9, scores=0, alpha=ALPHA, tested_eps=ONE), "scores: 0; expected at least 1"),
        (lambda: pools_resolution(8, 0, alpha=ALPHA, tested_eps=ONE), "retrained: 0 of 0"),
        (lambda: onerun_resolution(8, 0, alpha=ALPHA, tested_eps=ONE), "guesses: 0 of 0"),
        (lambda: permutation_resolution(8, 0, alpha=ALPHA, tested_eps=ONE), "permutations: 0 of 0"),
    ],
)
def test_bad_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        call()
