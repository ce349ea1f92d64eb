"""Bands and pools in the checker: directed rounding, a second implementation in floats, exhaustive draws."""

from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import combinations
from math import comb, exp, log, sqrt

import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cu_certificates.check.bands import (
    ceil_step,
    counts_bound,
    delta_up,
    delta_up_floor,
    hypergeometric_tail,
    pool_threshold,
    pools_differ,
    rates_bound,
)
from cu_certificates.check.strict import Rejected
from cu_certificates.check.tails import STEP, cp_lower, cp_upper, floor_step

EXAMPLES = settings(deadline=None, max_examples=300 if SLOW else 50)
ALPHA = Fraction(1, 20)
NONE = Fraction(0)
POOLS = st.lists(st.integers(-4, 4), min_size=1, max_size=12)
LEVELS = st.sampled_from([Fraction(1, 20), Fraction(1, 40), Fraction(1, 3)])
EPS = st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(1), Fraction(3)])


def naive_delta_up(first: list[int], second: list[int], eps: float, alpha: float, both: bool) -> float:
    """The formula of the protocol, written down without a thought for rounding or speed."""

    def width(models: int) -> float:
        return sqrt(log((4 if both else 2) / alpha) / (2 * models))

    def share(pool: list[int], cut: float, upper: bool) -> float:
        return sum((score > cut) if upper else (score < cut) for score in pool) / len(pool)

    cuts = [x + shift for x in {*first, *second} for shift in (-0.5, 0.5)]
    found = []
    for u, r in ((first, second), (second, first)) if both else ((first, second),):
        gaps = [
            share(u, cut, upper) - exp(eps) * share(r, cut, upper)
            for cut in cuts
            for upper in ((True, False) if both else (True,))
        ]
        found.append(max(0.0, *gaps) + width(len(u)) + exp(eps) * width(len(r)))
    return min(max(found), 1.0)


# --- The upper statement ---------------------------------------------------------------------------------------------


@EXAMPLES
@given(POOLS, POOLS, EPS, LEVELS, st.booleans())
def test_delta_up_is_the_formula_rounded_up(u: list[int], r: list[int], eps: Fraction, alpha: Fraction, both: bool):
    found = delta_up(u, r, eps, alpha, both=both)
    assert (found / STEP).denominator == 1
    assert -1e-9 <= float(found) - naive_delta_up(u, r, float(eps), float(alpha), both) <= 1.0001e-4


@EXAMPLES
@given(POOLS, POOLS, EPS, LEVELS)
def test_delta_up_obeys_its_laws(u: list[int], r: list[int], eps: Fraction, alpha: Fraction) -> None:
    one, both = (delta_up(u, r, eps, alpha, both=sides) for sides in (False, True))
    assert one <= both
    assert one >= delta_up_floor(len(u), len(r), eps, alpha, both=False)
    assert both >= delta_up_floor(len(u), len(r), eps, alpha, both=True)
    assert both == delta_up(r, u, eps, alpha, both=True)
    assert both == delta_up([-x for x in u], [-x for x in r], eps, alpha, both=True)
    # Only the order of the scores counts.
    assert one == delta_up([x**3 + 7 for x in u], [x**3 + 7 for x in r], eps, alpha, both=False)
    # A smaller level, more of the same models.
    assert one <= delta_up(u, r, eps, alpha / 2, both=False)
    assert delta_up(u * 4, r * 4, eps, alpha, both=False) <= one


def test_the_floors_of_the_protocol() -> None:
    """Section 3: N slots make two arms of N / 2; two decimals, rounded up. And the table of the reference page."""
    for models, pair in ((32, ("0.49", "0.90")), (128, ("0.25", "0.45"))):
        for eps, printed in enumerate(pair):
            found = delta_up_floor(models, models, Fraction(eps), ALPHA, both=False)
            assert Fraction(-(-found * 100 // 1), 100) == Fraction(printed)
    table = {64: (0.34, 0.63), 128: (0.24, 0.45), 512: (0.12, 0.22), 1024: (0.085, 0.16), 4096: (0.042, 0.079)}
    for models, (zero, one) in table.items():
        assert float(delta_up_floor(models, models, NONE, ALPHA, both=False)) == pytest.approx(zero, abs=0.006)
        assert float(delta_up_floor(models, models, Fraction(1), ALPHA, both=False)) == pytest.approx(one, abs=0.006)


def test_how_many_models_a_floor_needs() -> None:
    for least, eps, goal in ((738, 0, "0.1"), (2551, 1, "0.1"), (185, 0, "0.2"), (638, 1, "0.2")):
        assert delta_up_floor(least, least, Fraction(eps), ALPHA, both=False) <= Fraction(goal)
        assert delta_up_floor(least - 1, least - 1, Fraction(eps), ALPHA, both=False) > Fraction(goal)


@EXAMPLES
@given(st.integers(1, 10**6), LEVELS, st.booleans())
def test_the_half_width_is_rounded_up_and_by_little(models: int, alpha: Fraction, both: bool) -> None:
    with localcontext() as context:
        context.prec = 100
        share = (4 if both else 2) / alpha
        truth = 2 * ((Decimal(share.numerator) / share.denominator).ln() / (2 * models)).sqrt()
    found = delta_up_floor(models, models, NONE, alpha, both=both)
    assert found == min(ceil_step(Fraction(truth)), 1)


@EXAMPLES
@given(st.fractions(-3, 3))
def test_rounding_up_is_rounding_down_mirrored(value: Fraction) -> None:
    assert floor_step(value) <= value <= ceil_step(value) < value + STEP
    assert (ceil_step(value) / STEP).denominator == 1


# --- One threshold ---------------------------------------------------------------------------------------------------


def test_the_ceilings_of_two_pools() -> None:
    """The table of the reference page, section A.3; two rates on the printed grid cost up to 0.003."""
    table = {8: 0.535, 16: 1.350, 32: 2.102, 64: 2.825, 128: 3.532, 256: 4.233}
    for models, eps in table.items():
        found = float(counts_bound(models, models, 0, models, ALPHA, NONE, both=True))
        assert eps - 0.009 <= found <= eps + 0.0005
    for alpha, eps in ((Fraction(1, 100), 2.450), (Fraction(1, 10), 3.038)):
        assert float(counts_bound(64, 64, 0, 64, alpha, NONE, both=True)) == pytest.approx(eps, abs=0.004)


def test_realistic_counts() -> None:
    """The examples below the same table."""
    for true, false, models, eps in (
        (51, 0, 512, 2.35),
        (256, 128, 512, 0.45),
        (280, 232, 512, 0.01),
        (64, 0, 128, 2.67),
    ):
        assert float(counts_bound(true, models, false, models, ALPHA, NONE, both=False)) == pytest.approx(eps, abs=0.02)


@EXAMPLES
@given(st.integers(1, 30), st.integers(1, 30), st.data(), st.sampled_from([NONE, Fraction(1, 50)]))
def test_a_pair_of_counts_is_two_exact_intervals(n: int, m: int, data: st.DataObject, delta: Fraction) -> None:
    true, false = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    low = stats.beta.ppf(0.025, true, n - true + 1) if true else 0.0
    high = stats.beta.ppf(0.975, false + 1, m - false) if false < m else 1.0

    def ratio(tpr: float, fpr: float, both: bool) -> float:
        pairs = [(tpr - float(delta), fpr)] + ([(1 - fpr - float(delta), 1 - tpr)] if both else [])
        return max([log(top / bottom) for top, bottom in pairs if top > 0 < bottom] + [0.0])

    for both in (False, True):
        found = float(counts_bound(true, n, false, m, ALPHA, delta, both=both))
        # Both rates and the bound itself are rounded to the printed grid, always against the claim.
        assert ratio(low - 1e-4, high + 1e-4, both) - 1.001e-4 <= found <= ratio(low, high, both) + 1e-9


def test_published_clopper_pearson_ends() -> None:
    """statsmodels ``proportion_confint(..., 0.05, "beta")``, and the one-sided ends of jax_privacy's tests."""
    quarter = Fraction(1, 40)
    for k, low, high in ((0, 0.0, 0.3084971078), (1, 0.0025285785, 0.4450161170), (5, 0.1870860284, 0.8129139716)):
        assert float(cp_lower(10, k, quarter)) == pytest.approx(low, abs=1e-4)
        assert float(cp_upper(10, k, quarter)) == pytest.approx(high, abs=1e-4)
    assert float(cp_upper(100, 0, ALPHA)) == pytest.approx(0.0295130496, abs=1e-4)
    assert float(cp_upper(10, 3, Fraction(1, 10))) == pytest.approx(0.5517308324, abs=1e-4)


def test_rates_that_are_certain() -> None:
    assert rates_bound(Fraction(1), Fraction(1), NONE, both=True) == 0
    assert rates_bound(Fraction(0), Fraction(1), NONE, both=True) == 0
    assert float(rates_bound(Fraction(1, 2), Fraction(1, 4), NONE, both=False)) == pytest.approx(log(2), abs=1e-4)
    # The other direction: retrained models stay below the threshold more often than e^eps times.
    assert float(rates_bound(Fraction(9, 10), Fraction(1, 2), NONE, both=True)) == pytest.approx(log(5), abs=1e-4)
    assert float(rates_bound(Fraction(9, 10), Fraction(1, 2), NONE, both=False)) == pytest.approx(log(1.8), abs=1e-4)
    assert float(rates_bound(Fraction(9, 10), Fraction(1, 2), Fraction(1, 10), both=True)) == pytest.approx(
        log(4), abs=1e-4
    )


def corners(u: list[int], r: list[int]) -> list[tuple[int, int, int]]:
    """Points above every segment between two others, by brute force: (false, true, threshold)."""
    points = [(sum(x >= t for x in r), sum(x >= t for x in u), t) for t in {*u, *r}]
    everything = [(0, 0, 0), *points]
    kept = []
    for x, y, t in points:
        below = False
        for (x1, y1, _), (x2, y2, _) in combinations([p for p in everything if (p[0], p[1]) != (x, y)], 2):
            (x1, y1), (x2, y2) = sorted([(x1, y1), (x2, y2)])
            if x1 <= x <= x2 and x1 < x2 and y * (x2 - x1) <= y1 * (x2 - x1) + (y2 - y1) * (x - x1):
                below = True
            if x1 == x == x2 and y1 <= y <= y2:
                below = True
        if not below:
            kept.append((x, y, t))
    return kept


@EXAMPLES
@given(POOLS, POOLS, st.booleans())
def test_the_threshold_is_the_best_corner(u: list[int], r: list[int], both: bool) -> None:
    found = pool_threshold(u, r, ALPHA, NONE, both=both)

    def merit(corner: tuple[int, int, int]) -> tuple[Fraction, int, int]:
        false, true, threshold = corner
        bound = counts_bound(true, len(u), false, len(r), ALPHA, NONE, both=both)
        return bound, true * len(r) - false * len(u), threshold

    assert found == max(corners(u, r), key=merit)[2]


def test_the_threshold_separates_what_can_be_separated() -> None:
    assert pool_threshold(range(100, 132), range(32), ALPHA, NONE, both=True) == 100
    assert pool_threshold([7] * 8, [7] * 8, ALPHA, NONE, both=True) == 7
    # Nothing can be shown with three models; the difference of rates decides.
    assert pool_threshold([5, 6, 0], [1, 2, 3], ALPHA, NONE, both=True) == 5


# --- Draws without replacement ---------------------------------------------------------------------------------------


@EXAMPLES
@given(st.integers(1, 40), st.data())
def test_the_hypergeometric_tail_agrees_with_scipy(population: int, data: st.DataObject) -> None:
    marked, drawn = (data.draw(st.integers(0, population)) for _ in range(2))
    least = data.draw(st.integers(-2, population + 2))
    found = hypergeometric_tail(population, marked, drawn, least)
    assert float(found) == pytest.approx(stats.hypergeom.sf(least - 1, population, marked, drawn), abs=1e-12)


def test_the_hypergeometric_tail_by_counting() -> None:
    population, marked, drawn = 8, 3, 4
    draws = list(combinations(range(population), drawn))
    for least in range(6):
        share = Fraction(sum(sum(item < marked for item in draw) >= least for draw in draws), len(draws))
        assert hypergeometric_tail(population, marked, drawn, least) == share


@pytest.mark.parametrize(("size", "other"), [(8, 32), (16, 16), (32, 64), (5, 3)])
def test_the_two_sided_p_value_keeps_every_level(size: int, other: int) -> None:
    """Exactly, for every number of marked models: P[p <= t] <= t."""
    for marked in range(size + other + 1):
        chances = {}
        for high in range(max(0, marked - other), min(size, marked) + 1):
            p = pools_differ(high, size, marked - high, other)
            assert 0 < p <= 1
            weight = Fraction(comb(size, high) * comb(other, marked - high), comb(size + other, marked))
            chances[p] = chances.get(p, NONE) + weight
        assert sum(chances.values()) == 1
        for level in (Fraction(1, 100), ALPHA, *chances):
            assert sum(weight for p, weight in chances.items() if p <= level) <= level


# --- Refusals --------------------------------------------------------------------------------------------------------


def test_numbers_out_of_range_are_refused() -> None:
    for call, message in (
        (lambda: delta_up([], [1], NONE, ALPHA, both=False), "pools of 0, 1 models"),
        (lambda: delta_up([1], [1], NONE, Fraction(1), both=False), r"alpha 1; expected a level in \(0, 1\)"),
        (lambda: delta_up([1], [1], Fraction(-1), ALPHA, both=False), "eps -1; expected at least 0"),
        (lambda: delta_up([1], [1], Fraction(2000), ALPHA, both=False), "at most 1000"),
        (lambda: delta_up_floor(0, 4, NONE, ALPHA, both=True), "pools of 0, 4 models"),
        (lambda: counts_bound(3, 2, 0, 2, ALPHA, NONE, both=True), "3 of 2 and 0 of 2"),
        (lambda: pool_threshold([1], [], ALPHA, NONE, both=True), "pools of 1, 0 models"),
        (lambda: hypergeometric_tail(3, 4, 1, 0), "4 marked and 1 drawn of 3"),
        (lambda: pools_differ(3, 2, 0, 4), "3 of 2 and 0 of 4"),
    ):
        with pytest.raises(Rejected, match=message):
            call()
