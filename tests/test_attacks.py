"""The attack floor: golden values, second implementations, and one contract for all members."""

import re
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from scipy import stats
from sklearn.metrics import roc_auc_score

import cu_attacks
from cu_attacks._combined import SCALE, CombinedScore, fit_combined
from cu_attacks._roc import area, rate_at, roc_points
from cu_attacks._types import Attack, AttackError, matrix, vector
from cu_attacks.coinflip import coinflip
from cu_attacks.conformal import conformal
from cu_attacks.energy import energy_distance, energy_test
from cu_attacks.lira import lira_offline
from cu_attacks.loss import negative_loss
from cu_certificates.check import plots
from cu_certificates.check.coins import right_guesses
from cu_certificates.check.tails import coinflip_bound, group_bound

ALPHA = Fraction(1, 20)


# --- One contract for all members ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cu_attacks.names())
def test_a_member_announces_itself(name: str) -> None:
    attack = cu_attacks.get(name)
    assert isinstance(attack, Attack)
    assert attack.name == name
    assert attack.kind in ("question", "panel", "test", "descriptive")
    assert any(character.isdigit() for character in attack.paper), "a paper with its year or number"
    assert callable(attack.run)
    assert attack.run.__doc__
    module = __import__(f"cu_attacks.{name}", fromlist=["ATTACK"])
    assert module.__doc__ is not None
    assert module.__doc__.startswith(f"``{name}``")


def test_the_list_is_that_of_the_readme_and_helpers_are_not_members() -> None:
    readme = (Path(cu_attacks.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)\.py` \| (\w+) \|", readme, re.MULTILINE))
    assert listed == {name: cu_attacks.get(name).kind for name in cu_attacks.names()}
    helpers = re.findall(r"`(_\w+)`", "".join(re.findall(r"^\| (`_.*?) \|", readme, re.MULTILINE)))
    files = {path.stem for path in Path(cu_attacks.__file__).parent.glob("_*.py")} - {"__init__"}
    assert sorted(helpers) == sorted(files)
    with pytest.raises(KeyError, match="expected one of activation, agreement"):
        cu_attacks.get("_roc")


QUESTIONS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "coinflip": ((list(range(8)), [0, 1] * 4), {}),
    "conformal": ((3, [1, 2, 3, 4]), {}),
    "labels": ((list(range(8)), [True] * 4 + [False] * 4, [0] * 8), {"key": bytes(32), "permutations": 19}),
    "onerun": ((list(range(8)), [0, 1] * 4), {}),
    "pools": (([1, 2], [3, 4]), {"calibrate_unlearned": [5, 6], "calibrate_retrained": [7, 8]}),
    "sequential": (([0, 1] * 4, [0, 1] * 4), {}),
}


@pytest.mark.parametrize("name", [name for name in cu_attacks.names() if cu_attacks.get(name).kind == "question"])
def test_the_answer_to_a_question_says_what_it_does_not_show(name: str) -> None:
    arguments, options = QUESTIONS[name]
    found = cu_attacks.get(name).run(*arguments, **options, alpha=ALPHA)
    assert "does not show" in found.shows_not
    assert found.assumptions
    assert found.alpha == ALPHA
    with pytest.raises((AttributeError, TypeError)):  # frozen
        found.alpha = 0


def panel_arguments(name: str) -> tuple[Any, ...]:
    """Five records; what the audited model, eight models and twelve never-trained records say about them."""
    rng = np.random.default_rng(1)
    phi, models, mask = rng.normal(size=5), rng.normal(size=(8, 5)), np.arange(40).reshape(8, 5) % 2 == 0
    others, theirs = rng.normal(size=12), rng.normal(size=(8, 12))
    if name == "rmia":
        return tuple(1 / (1 + np.exp(-value)) for value in (phi, models, others, theirs))
    outputs = rng.dirichlet([1.0] * 3, (8, 5))
    return {
        "calibrated": (phi, models),
        "lira": (phi, models),
        "loss": (phi,),
        "population": (phi, others),
        "quantile": (phi, rng.normal(size=(5, 2)), others, rng.normal(size=(12, 2))),
        "ruli": (phi, models, mask, ~mask),
        "shokri": (outputs[0], np.arange(5) % 3, outputs, np.arange(5) % 3, mask),
        "ulira": (models, theirs[:, :5]),
    }[name]


@pytest.mark.parametrize("name", [name for name in cu_attacks.names() if cu_attacks.get(name).kind == "panel"])
def test_a_panel_attack_scores_every_record(name: str) -> None:
    options: dict[str, Any] = {"rng": np.random.default_rng(0)} if name == "quantile" else {}
    found = cu_attacks.get(name).run(*panel_arguments(name), **options)
    if name in ("quantile", "ulira"):  # those that need more than a score say what it does not show
        assert found.shows_not
        assert found.assumptions
        found = found.record_auc if name == "ulira" else found.scores
    assert found.shape == (5,)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()


def test_a_grade_stands_beside_what_never_in_models_get() -> None:
    found = cu_attacks.get("iam").run(*panel_arguments("lira"))
    assert found.null is not None
    assert found.null[0] <= found.null[1]
    assert "not evidence" in found.shows_not


# --- Per-record scores -----------------------------------------------------------------------------------------------


def test_lira_golden() -> None:
    # Offline, one-sided: out N(1, 2), phi = 3, so ln Phi(1).
    shadows = np.array([[1 - 2**0.5], [1 + 2**0.5]])  # mean 1, standard deviation 2
    assert lira_offline([3.0], shadows)[0] == pytest.approx(-0.1727537790, abs=1e-10)


def test_lira_pools_the_spread_within_records() -> None:
    # Two records with equal within-record variances 2 and 6 pool to 4, whatever the distance between their means.
    shadows = np.array([[100 - 1.0, -(3**0.5)], [100 + 1.0, 3**0.5]])
    assert lira_offline([102.0, 2.0], shadows) == pytest.approx([stats.norm.logcdf(1.0)] * 2)


def test_lira_is_one_sided_and_finite_far_out() -> None:
    shadows = np.random.default_rng(0).normal(size=(8, 5))
    scores = lira_offline(np.linspace(-200, 200, 5), shadows)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) >= 0).all()
    assert lira_offline([1.0], np.zeros((2, 1)))[0] == pytest.approx(stats.norm.logcdf(1.0))  # spread 0 counts as 1


def test_the_loss_rises_with_the_margin() -> None:
    margins = np.linspace(-800, 800, 401)
    scores = negative_loss(margins)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) >= 0).all()
    assert (scores <= 0).all()
    probability = 0.8
    assert negative_loss([np.log(probability / (1 - probability))])[0] == pytest.approx(np.log(probability))


# --- Receiver operating characteristic -------------------------------------------------------------------------------


def records(seed: int, inside: int = 60, outside: int = 90, shift: float = 0.7) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(shift, 1, inside), rng.normal(0, 1, outside)])
    return scores, np.arange(inside + outside) < inside


@pytest.mark.parametrize("seed", range(5))
def test_the_area_agrees_with_scikit_learn(seed: int) -> None:
    scores, member = records(seed)
    for values in (scores, np.round(scores), np.zeros_like(scores)):  # ties, and nothing but ties
        found = area(values, member, name="AUC")
        assert found.value == pytest.approx(roc_auc_score(member, values))
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.n == (60, 90)


def test_perfect_separation_keeps_an_interval() -> None:
    found = area([3.0, 2.0, 1.0, 0.0], np.array([True, True, False, False]), name="AUC")
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low < 0.9


@pytest.mark.slow
def test_delong_covers() -> None:
    runs, shift = (4000 if SLOW else 400), 0.7
    truth = stats.norm.cdf(shift / 2**0.5)
    hits = 0
    for seed in range(runs):
        found = area(*records(seed, 40, 60, shift), name="AUC")
        hits += found.low <= truth <= found.high
    # Asymptotic, so a little slack: a true coverage of at least 93.5 % fails once in a thousand.
    assert hits >= stats.binom.ppf(0.001, runs, 0.935)


def test_the_rate_at_a_false_positive_rate_by_hand() -> None:
    outside = np.arange(100) / 100  # 0.00 .. 0.99
    inside = np.array([2.0, 0.985, 0.975, 0.5])
    scores, member = np.concatenate([inside, outside]), np.arange(104) < 4
    # At most 1 of 100 false positives: the threshold is the second largest, 0.98; 2.0 and 0.985 lie above it.
    found = rate_at(scores, member, false_rate=0.01, name="TPR")
    assert found.value == 0.5
    assert found.low == pytest.approx(stats.beta.ppf(0.025, 2, 3), abs=1.001e-4)
    assert found.high == pytest.approx(stats.beta.ppf(0.975, 3, 2), abs=1.001e-4)
    assert rate_at(scores, member, false_rate=0.001, name="TPR").value == 0.25
    assert rate_at(scores, member, false_rate=0.02, name="TPR").value == 0.75
    assert rate_at(scores, member, false_rate=1.0, name="TPR").value == 1.0
    assert "1 of 100" in found.method


@pytest.mark.parametrize("seed", range(3))
def test_the_curve_is_that_of_a_double_loop(seed: int) -> None:
    scores, member = records(seed, 12, 17)
    scores = np.round(scores, 1)
    false, true = roc_points(scores, member)
    wanted = {(0.0, 0.0)} | {
        ((scores[~member] >= cut).mean(), (scores[member] >= cut).mean()) for cut in np.unique(scores)
    }
    assert np.array(sorted(zip(false, true, strict=True))) == pytest.approx(np.array(sorted(wanted)))
    assert float(np.trapezoid(true, false)) == pytest.approx(roc_auc_score(member, scores))


@pytest.mark.parametrize("function", [area, lambda *a, **k: rate_at(*a, false_rate=0.1, **k)])
@pytest.mark.parametrize("member", [[True] * 4, [False] * 4, [True, False, False, False], [True, True, True, False]])
def test_one_kind_of_record_is_not_enough(function: Callable[..., Any], member: list[bool]) -> None:
    with pytest.raises(AttackError, match="expected at least two of each"):
        function([1.0, 2.0, 3.0, 4.0], np.array(member), name="x")


# --- Energy distance -------------------------------------------------------------------------------------------------


def test_the_energy_distance_is_that_of_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(5, 3)), rng.normal(1, 2, size=(7, 3))

    def mean(a: Any, b: Any) -> float:
        return float(np.mean([np.linalg.norm(x - y) for x, y in product(a, b)]))

    truth = 2 * mean(first, second) - mean(first, first) - mean(second, second)
    found = energy_test(first, second, rng=np.random.default_rng(1), permutations=9)
    assert found.statistic == pytest.approx(truth)
    assert found.n == (5, 7)
    assert energy_test(first, first, rng=rng, permutations=9).statistic == pytest.approx(0, abs=1e-12)


def test_the_permutation_p_is_never_zero_and_sees_a_shift() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(12, 4)), rng.normal(3, 1, size=(12, 4))
    found = energy_test(first, second, rng=rng, permutations=99)
    assert found.p == 1 / 100
    assert found.statistic > found.null_median
    same = energy_test(first, first, rng=rng, permutations=99)
    assert same.p == 1.0


@pytest.mark.slow
def test_the_permutation_p_is_uniform_under_the_null() -> None:
    runs = 2000 if SLOW else 300
    rng = np.random.default_rng(3)
    values = [
        energy_test(rng.normal(size=(6, 2)), rng.normal(size=(7, 2)), rng=rng, permutations=39).p for _ in range(runs)
    ]
    for level in (0.05, 0.25, 0.5):
        share = sum(value <= level + 1e-12 for value in values)
        assert stats.binom.ppf(0.0005, runs, level) <= share <= stats.binom.ppf(0.9995, runs, level)


def test_energy_distance_needs_both_labels() -> None:
    distances = np.ones((2, 2)) - np.eye(2)
    assert energy_distance(distances, np.array([True, False])) == 2.0


# --- Questions -------------------------------------------------------------------------------------------------------


def test_the_coin_flip_is_the_checkers_arithmetic() -> None:
    rng = np.random.default_rng(0)
    coins = [int(bit) for bit in rng.integers(0, 2, 64)]
    scores: list[int | None] = [int(score) for score in rng.normal(size=64) * 1e6 + 1e6 * np.array(coins)]
    scores[3] = None
    for delta, forward in product((Fraction(0), Fraction(1, 1000)), (False, True)):
        found = coinflip(scores, coins, alpha=ALPHA, delta=delta, forward_only=forward)
        right = right_guesses(coins, scores, 48, forward_only=forward)
        assert (found.slots, found.guesses, found.right) == (64, 24 if forward else 48, right)
        assert found.bound == coinflip_bound(64, found.guesses, right, ALPHA, delta)


def test_the_conformal_rank_counts_ties_and_failures_against_the_refutation() -> None:
    found = conformal(5, [1, 5, 9, None, 3], alpha=ALPHA)
    assert (found.at_least, found.p) == (2, Fraction(4, 6))
    best = conformal(10, list(range(10)) * 10, alpha=ALPHA)
    assert (best.p, best.bound) == (Fraction(1, 101), group_bound(Fraction(1, 101), ALPHA, Fraction(0)))
    assert conformal(10, list(range(10)) * 10, alpha=ALPHA, delta=ALPHA).bound == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coinflip([1, 2], [1], alpha=ALPHA), "one 0 or 1 for each"),
        (lambda: coinflip([1, 2], [1, 2], alpha=ALPHA), "one 0 or 1 for each"),
        (lambda: coinflip([1, 2], [1, 0], alpha=ALPHA, guesses=4), "even number from 2 to 2"),
        (lambda: coinflip([1, 2, 3], [1, 0, 1], alpha=ALPHA, guesses=3), "even number"),
        (lambda: coinflip([1, 2], [1, 0], alpha=Fraction(1), guesses=2), "alpha 1"),
        (lambda: coinflip([1, 2], [1, 0], alpha=ALPHA, guesses=2, delta=Fraction(1)), "delta 1"),
        (lambda: conformal(1, [], alpha=ALPHA), "references: none"),
        (lambda: conformal(1, [1], alpha=Fraction(0)), "alpha 0"),
        (lambda: matrix([1.0], "m"), "expected"),
        (lambda: matrix([[np.nan]], "m"), "NaN"),
        (lambda: vector([], "v"), "n >= 1"),
        (lambda: vector([np.inf], "v"), "NaN or infinite"),
        (lambda: vector([1.0], "v", size=2), r"expected \(2,\)"),
        (lambda: energy_test([[1.0], [2.0]], [[1.0, 2.0]] * 2, rng=np.random.default_rng(0)), "expected 1 as in"),
        (
            lambda: energy_test([[1.0], [2.0]], [[1.0], [2.0]], rng=np.random.default_rng(0), permutations=0),
            "at least 1",
        ),
        (lambda: lira_offline([1.0, 2.0], [[1.0], [2.0]]), "signals"),
        (lambda: fit_combined([[1.0], [2.0]], [[1.0, 2.0]] * 2, [[1.0], [2.0]]), "1, 2 and 1 records"),
        (lambda: fit_combined([[1.0]] * 2, [[1.0]] * 2, [[1.0], [2.0]]), "ignores its seed"),
        (lambda: fit_combined([[1.0]], [[1.0], [2.0]], [[1.0], [2.0]]), "models >= 2"),
    ],
)
def test_what_cannot_be_used_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AttackError, match=message):
        call()


# --- The combined score ----------------------------------------------------------------------------------------------


def pools(seed: int, shift: float) -> tuple[CombinedScore, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return fit_combined(rng.normal(shift, 1, (16, 20)), rng.normal(size=(16, 20)), rng.normal(size=(16, 20))), rng


def test_the_combined_score_sees_remembering_over_forgetting_and_one_record() -> None:
    score, rng = pools(0, 0.8)
    retrained = score(rng.normal(size=(200, 20)))
    usual = np.quantile(retrained, 0.95)
    assert np.median(score(rng.normal(0.8, 1, (50, 20)))) > usual
    assert np.median(score(rng.normal(-0.8, 1, (50, 20)))) > usual
    for size in (9.0, -9.0):
        one = rng.normal(size=(50, 20))
        one[:, 3] = size
        assert min(score(one)) > usual
    assert abs(score.parts(rng.normal(size=(2000, 20))).mean()) < 0.5


def test_the_combined_score_is_an_integer_function_of_one_model_alone() -> None:
    score, rng = pools(1, 0.5)
    signals = rng.normal(size=(6, 20))
    together = score(signals)
    assert together == [score(signals[[row]])[0] for row in range(6)]
    assert all(type(value) is int for value in together)
    parts = score.parts(signals)
    assert together == [round(max(abs(ratio), *worst) * SCALE) for ratio, *worst in parts]
    assert abs(score(np.full((1, 20), 1e300))[0]) <= 2**52
    assert plots.SCALE == SCALE


def test_originals_and_retrained_alike_still_give_a_score() -> None:
    same = np.random.default_rng(0).normal(size=(4, 3))
    score = fit_combined(same, same, same)
    assert np.isfinite(score.parts(same)).all()


@pytest.mark.slow
def test_the_conformal_p_is_exact_when_the_model_is_one_more_reference() -> None:
    """P[p <= a/(n + 1)] = a/(n + 1) for the frozen combined score, over pilots, references and model."""
    runs, references = (6000 if SLOW else 600), 19
    values = []
    for seed in range(runs):
        score, rng = pools(seed, 0.5)
        drawn = score(rng.normal(size=(references + 1, 20)))
        values.append(conformal(drawn[0], drawn[1:], alpha=ALPHA).p)
    for rank in (1, 2, 5, 10):
        level = rank / (references + 1)
        share = sum(p <= Fraction(rank, references + 1) for p in values)
        assert stats.binom.ppf(0.0005, runs, level) <= share <= stats.binom.ppf(0.9995, runs, level)
