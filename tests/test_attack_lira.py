"""The likelihood-ratio attack, its laws and its kin: golden values, second implementations, laws, bad input."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cu_attacks._gauss import Prior, Variance, fit_law, predictive
from cu_attacks._types import AttackError
from cu_attacks.calibrated import calibrated
from cu_attacks.lira import lira_offline, lira_online

Array = np.ndarray[Any, Any]
WAYS: tuple[Variance, ...] = ("pooled", "record", "nig", "global")


def fleet(seed: int, models: int = 12, records: int = 9) -> tuple[Array, Array, Array]:
    """Signals of one model, of shadow models, and who was trained on what; each record about half in."""
    rng = np.random.default_rng(seed)
    base, inside = rng.normal(0, 3, records), rng.random((models, records)) < 0.5
    inside[:3], inside[3:6] = True, False  # at least three of either kind
    return base + rng.normal(0.5, 1, records), base + rng.normal(size=(models, records)) + inside, inside


# --- Golden values ---------------------------------------------------------------------------------------------------


def test_online_golden() -> None:
    """phi = 3, in N(4, 1), out N(1, 2): the densities differ by ln 2."""
    half = 0.5**0.5
    shadows = np.array([[4 - half], [4 + half], [1 - 2 * half], [1 + 2 * half]])
    mask = np.array([[True], [True], [False], [False]])
    for variance in ("pooled", "record"):
        assert lira_online([3.0], shadows, mask, variance=variance)[0] == pytest.approx(np.log(2), abs=1e-12)


def test_offline_golden_and_the_signature_of_old() -> None:
    shadows = np.array([[1 - 2**0.5], [1 + 2**0.5]])
    for variance in ("pooled", "record"):
        assert lira_offline([3.0], shadows, variance=variance)[0] == pytest.approx(-0.1727537790, abs=1e-10)
    assert lira_offline([3.0], shadows)[0] == pytest.approx(stats.norm.logcdf(1.0))


def test_the_predictive_law_by_hand() -> None:
    """Values 1 and 3 under k0 = 1, m0 = 0, nu0 = 2, s0^2 = 2: t with 4 degrees at 4/3, s^2 = 26/12, scale^2 = 26/9."""
    law = predictive(
        np.array([2.0]), np.array([2.0]), np.array([2]), Prior(mean=0.0, strength=1.0, freedom=2.0, variance=2.0)
    )
    assert law.freedom == pytest.approx([4.0])
    assert law.centre == pytest.approx([4 / 3])
    assert law.spread**2 == pytest.approx([(2 * 2 + 2 + 1 * 2 / 3 * 4) / 4 * (1 + 1 / 3)])


def test_the_predictive_law_is_the_integral_over_the_prior() -> None:
    """Draw mean and variance from the prior, weigh by the likelihood: the mixture must be the Student t."""
    prior = Prior(mean=0.3, strength=0.7, freedom=5.0, variance=1.4)
    values, x = np.array([0.2, 1.9, 1.1]), 2.2
    rng = np.random.default_rng(0)
    variance = prior.freedom * prior.variance / rng.chisquare(prior.freedom, 400_000)
    mean = rng.normal(prior.mean, np.sqrt(variance / prior.strength))
    weight = np.prod(stats.norm.pdf(values[:, None], mean, np.sqrt(variance)), axis=0)
    truth = np.average(stats.norm.pdf(x, mean, np.sqrt(variance)), weights=weight)
    squares = ((values - values.mean()) ** 2).sum()
    law = predictive(np.array([values.mean()]), np.array([squares]), np.array([3]), prior)
    assert law.log_density(np.array([x]))[0] == pytest.approx(np.log(truth), abs=0.01)


# --- Second implementations ------------------------------------------------------------------------------------------


def naive_law(values: list[Array], variance: Variance) -> list[Any]:
    """One frozen scipy law a record, from lists of its own values."""
    freedom = sum(len(v) - 1 for v in values)
    pooled = sum(((v - v.mean()) ** 2).sum() for v in values) / freedom
    if variance == "pooled":
        return [stats.norm(v.mean(), pooled**0.5) for v in values]
    if variance == "record":
        return [stats.norm(v.mean(), v.std(ddof=1)) for v in values]
    if variance == "global":
        spread = np.concatenate(values).std()
        return [stats.norm(np.median(v), spread) for v in values]
    centres = np.array([v.mean() for v in values])
    typical = np.mean([1 / len(v) for v in values])
    between = max(centres.var(ddof=1) - pooled * typical, pooled / np.mean([len(v) for v in values]))
    k0, m0, nu0 = pooled / between, centres.mean(), 4
    laws = []
    for v in values:
        n, kn, nun = len(v), k0 + len(v), nu0 + len(v)
        mn = (k0 * m0 + v.sum()) / kn
        s2 = (nu0 * pooled + ((v - v.mean()) ** 2).sum() + k0 * n * (v.mean() - m0) ** 2 / kn) / nun
        laws.append(stats.t(nun, mn, (s2 * (1 + 1 / kn)) ** 0.5))
    return laws


@pytest.mark.parametrize("variance", WAYS)
@pytest.mark.parametrize("seed", range(3))
def test_lira_is_that_of_a_loop_over_records(variance: Variance, seed: int) -> None:
    phi, shadows, inside = fleet(seed)
    laws = [
        naive_law([shadows[use[:, i], i] for i in range(len(phi))], variance)
        for use in (inside, ~inside, np.ones_like(inside))
    ]
    online = [one.logpdf(x) - two.logpdf(x) for x, one, two in zip(phi, laws[0], laws[1], strict=True)]
    assert lira_online(phi, shadows, inside, variance=variance) == pytest.approx(online)
    offline = [law.logcdf(x) for x, law in zip(phi, laws[2], strict=True)]
    assert lira_offline(phi, shadows, variance=variance) == pytest.approx(offline)


def test_calibrated_subtracts_what_was_to_be_expected() -> None:
    phi, shadows, inside = fleet(3)
    assert calibrated(phi, shadows) == pytest.approx([x - shadows[:, i].mean() for i, x in enumerate(phi)])
    middle = [(shadows[inside[:, i], i].mean() + shadows[~inside[:, i], i].mean()) / 2 for i in range(len(phi))]
    assert calibrated(phi, shadows, inside) == pytest.approx(phi - middle)
    assert calibrated([2.0], [[0.5]])[0] == 1.5, "one reference model is enough"
    assert (np.argsort(calibrated(phi, shadows)) == np.argsort(lira_offline(phi, shadows))).all()


def test_queries_are_averaged_before_a_law_is_fitted() -> None:
    rng = np.random.default_rng(4)
    phi, shadows, inside = rng.normal(size=(7, 3)), rng.normal(size=(8, 7, 3)), rng.random((8, 7)) < 0.5
    inside[:2], inside[2:4] = True, False
    means = phi.mean(axis=1), shadows.mean(axis=2)
    assert lira_offline(phi, shadows) == pytest.approx(lira_offline(*means))
    assert lira_online(phi, shadows, inside) == pytest.approx(lira_online(*means, inside))
    assert calibrated(phi, shadows) == pytest.approx(calibrated(*means))
    assert lira_offline(phi, means[1]) == pytest.approx(lira_offline(*means)), "queries on one side only"


# --- What the choices are for ----------------------------------------------------------------------------------------


def test_pooling_beats_a_spread_for_each_record_with_few_shadows_and_one_side_beats_two() -> None:
    """The pitfalls in numbers: 8 shadows, records far apart, a tenth of them remembered."""
    rng, size = np.random.default_rng(5), 4000
    base = rng.normal(0, 3, size)
    member = np.arange(size) < 400
    shadows, phi = base + rng.normal(size=(8, size)), base + rng.normal(size=size) + 2.5 * member

    def found(scores: Array) -> float:
        return float((scores[member] > np.quantile(scores[~member], 0.99)).mean())

    pooled, own, overall = (found(lira_offline(phi, shadows, variance=way)) for way in ("pooled", "record", "global"))
    two_sided = found(-np.abs(phi - shadows.mean(axis=0)) * -1)
    assert pooled > 1.3 * own
    assert pooled > 1.1 * two_sided
    assert overall > 0.8 * pooled, "offline, one spread for all ranks by the distance from the centre"


def test_shrinkage_lies_between_pooling_and_each_record_its_own() -> None:
    """Half the records are ten times as noisy: shrunk spreads see it with many shadows and stay calm with few."""
    rng = np.random.default_rng(6)
    noise = np.where(np.arange(600) % 2, 0.3, 3.0)
    for models, least in ((4, 0.1), (64, 0.75)):
        law = fit_law(noise * rng.normal(size=(models, 600)), "nig", "shadows")
        ratio = np.median(law.spread[noise < 1]) / np.median(law.spread[noise > 1])
        assert 0.1 < ratio < 1 - least


@pytest.mark.parametrize("variance", WAYS)
def test_never_in_models_score_uniformly_when_the_law_is_right(variance: Variance) -> None:
    """Under the null exp(score) is about uniform: with many shadows as far as a binomial count can tell."""
    rng, records = np.random.default_rng(7), 40_000 if SLOW else 4000
    models = 400 if SLOW else 200
    centre = np.zeros(records) if variance == "global" else rng.normal(0, 3, records)
    u = np.exp(
        lira_offline(centre + rng.normal(size=records), centre + rng.normal(size=(models, records)), variance=variance)
    )
    for level in (0.05, 0.5, 0.95):
        share = float((u <= level).mean())
        assert share == pytest.approx(level, abs=4 * (level * (1 - level) / records) ** 0.5 + 0.004)


# --- Laws and edges --------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), variance=st.sampled_from(WAYS), shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_scores_do_not_depend_on_unit_or_origin(seed: int, variance: Variance, shift: float, scale: float) -> None:
    phi, shadows, inside = fleet(seed)
    moved = scale * phi + shift, scale * shadows + shift
    assert lira_offline(*moved, variance=variance) == pytest.approx(
        lira_offline(phi, shadows, variance=variance), rel=1e-6, abs=1e-8
    )
    assert lira_online(*moved, inside, variance=variance) == pytest.approx(
        lira_online(phi, shadows, inside, variance=variance), rel=1e-6, abs=1e-6
    )


@pytest.mark.parametrize("variance", WAYS)
def test_far_out_the_score_is_finite_and_keeps_its_order(variance: Variance) -> None:
    shadows = np.repeat(np.random.default_rng(8).normal(size=(8, 1)), 9, axis=1)
    far = np.array([-1e100, -1e60, -1e8, -300.0, 0.0, 300.0, 1e8, 1e60, 1e100])
    scores = lira_offline(far, shadows, variance=variance)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) >= 0).all()
    assert (np.diff(scores[:5]) > 0).all()
    mask = np.arange(8)[:, None] < np.full(9, 4)
    assert np.isfinite(lira_online(far, shadows, mask, variance=variance)).all()


def test_the_far_tail_of_the_student_law_joins_the_near_one() -> None:
    law = predictive(np.zeros(1), np.ones(1), np.array([400]), Prior(mean=0.0, strength=0.0, freedom=4.0, variance=1.0))
    z = np.linspace(-120, -20, 4001) * law.spread
    scores = law.log_below(z[:, None])[:, 0]
    assert scores.min() < np.log(1e-250) < scores.max()
    assert (np.diff(scores) > 0).all()
    assert np.abs(np.diff(scores, 2)).max() < 1e-3, "no step where one formula takes over from the other"


@pytest.mark.parametrize("variance", WAYS)
def test_constant_shadows_have_a_defined_answer(variance: Variance) -> None:
    scores = lira_offline([1.0, 0.0], np.zeros((4, 2)), variance=variance)
    assert np.isfinite(scores).all()
    assert scores[0] > scores[1]
    if variance != "nig":
        assert scores[0] == pytest.approx(stats.norm.logcdf(1.0)), "a spread of 0 counts as 1"
    half = np.array([[0.0, -1.0], [0.0, 1.0]])  # one record constant: it gets the pooled spread
    assert lira_offline([1.0, 1.0], half, variance="record")[0] == pytest.approx(stats.norm.logcdf(1.0))


MASK = np.array([[True, False], [False, True], [True, False], [False, True]])
FOUR = np.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lira_offline([1.0, 2.0], [[1.0], [2.0]]), r"signals: shape \(2,\); expected \(1,\)"),
        (lambda: lira_offline([1.0, 2.0], [[1.0, 2.0]]), "shadows: shape"),
        (lambda: lira_offline([1.0, np.nan], FOUR), "signals: holds NaN"),
        (lambda: lira_offline([1.0, 1e101], FOUR), "signals: a value of 1e\\+101"),
        (lambda: lira_offline([1.0, 1.0], [[np.inf, 0.0], [0.0, 0.0]]), "shadows: holds NaN"),
        (lambda: lira_offline([1.0, 1.0], FOUR, variance="median"), "variance: 'median'; expected one of pooled"),  # type: ignore[arg-type]
        (lambda: lira_online([1.0, 1.0], FOUR, MASK[:3]), r"member_mask: bool of shape \(3, 2\)"),
        (lambda: lira_online([1.0, 1.0], FOUR, MASK.astype(int)), "member_mask: int64"),
        (lambda: lira_online([1.0, 1.0], FOUR, np.ones((4, 2), dtype=bool)), "2 records have no out model"),
        (lambda: lira_online([1.0, 1.0], FOUR, np.zeros((4, 2), dtype=bool)), "2 records have no in model"),
        (lambda: lira_online([1.0, 1.0], FOUR[:2], MASK[:2]), r"shadows \(in\): 1 to 1 models a record"),
        (lambda: calibrated([1.0, 1.0], FOUR, np.ones((4, 2), dtype=bool)), "2 records have no out model"),
        (lambda: calibrated([1.0], np.empty((0, 1))), "shadows: shape"),
        (lambda: Prior(mean=0.0, strength=-1.0, freedom=1.0, variance=1.0), "strength >= 0"),
    ],
)
def test_what_cannot_be_used_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        call()
