"""The scores that a plan can choose: what each sees, and that none sees what is not there."""

from pathlib import Path

import numpy as np
import pytest
from conftest import SLOW
from scipy import stats
from small_project import SMALLEST, fix_secrets, predicate_of, write_project

from cu_attacks._combined import SCALE, fit_combined
from cu_attacks._model_scores import FITTED, fit_score
from cu_attacks._types import AttackError
from cu_attacks.conformal import conformal
from cu_cert.cli.main import run
from cu_certificates.check import design

RECORDS = 12


def pilots(rng: np.random.Generator, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    seen = rng.normal(size=(16, RECORDS)) + shift
    return seen, rng.normal(size=(16, RECORDS)), rng.normal(size=(16, RECORDS))


def test_the_plan_knows_the_same_names() -> None:
    assert set(FITTED) == set(design.FITTED)


@pytest.mark.parametrize("name", sorted(FITTED))
def test_remembering_and_over_forgetting_score_higher_than_retraining(name: str) -> None:
    rng = np.random.default_rng(1)
    score = fit_score(name, *pilots(rng))
    retrained, kept, pushed = (rng.normal(size=(60, RECORDS)) + shift for shift in (0.0, 2.5, -2.5))
    middle = np.median(score(retrained))
    assert (np.array(score(kept)) > middle).mean() > 0.9
    assert (np.array(score(pushed)) > middle).mean() > 0.9
    assert score.weight.shape == (RECORDS,)


def test_combined_is_what_it_was() -> None:
    data = pilots(np.random.default_rng(2))
    other = np.random.default_rng(3).normal(size=(5, RECORDS))
    assert fit_score("combined", *data)(other) == fit_combined(*data)(other)


def test_the_mean_by_hand() -> None:
    seen, unseen, centring = pilots(np.random.default_rng(4))
    signals = np.random.default_rng(5).normal(size=(3, RECORDS))
    means = centring.mean(axis=1)
    expected = np.abs(signals.mean(axis=1) - means.mean()) / means.std(ddof=1)
    found = np.array(fit_score("mean", seen, unseen, centring)(signals)) / SCALE
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_discriminant_uses_that_records_move_together() -> None:
    """Noise common to two records is taken out when only one of them can be remembered; a sum of records cannot."""
    rng = np.random.default_rng(6)

    def models(count: int, shift: float) -> np.ndarray:
        common = rng.normal(size=(count, 1)) * 5
        found: np.ndarray = common + rng.normal(size=(count, 2)) * 0.3 + np.array([shift, 0.0])
        return found

    data = (models(200, 2.0), models(200, 0.0), models(200, 0.0))
    kept, retrained = models(200, 2.0), models(200, 0.0)

    def area(name: str) -> float:
        score = fit_score(name, *data)
        ranks = stats.rankdata([*score(kept), *score(retrained)])
        return float((ranks[:200].mean() - 100.5) / 200)

    assert area("discriminant") > 0.95
    assert area("likelihood") < 0.8


@pytest.mark.parametrize("name", sorted(FITTED))
def test_a_retrained_model_alarms_no_more_often_than_stated(name: str) -> None:
    rng, runs, rank = np.random.default_rng(7), 2000 if SLOW else 200, 1 / 10
    alarms = 0
    for _ in range(runs):
        score = fit_score(name, *pilots(rng))
        own, *references = score(np.round(rng.normal(size=(20, RECORDS)), 1))
        alarms += conformal(own, references, alpha=design.Fraction(1, 10)).p <= design.Fraction(1, 10)
    assert alarms <= stats.binom.ppf(0.999, runs, rank)


def test_an_unknown_score() -> None:
    with pytest.raises(AttackError, match="'median'; expected one of combined, mean"):
        fit_score("median", *pilots(np.random.default_rng(8)))


@pytest.mark.parametrize("name", ["mean", "discriminant"])
def test_an_audit_by_another_score(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_project(tmp_path, **SMALLEST | {"more": f'{SMALLEST["more"]}\nscore = "{name}"'})
    fix_secrets(folder, "scores")
    monkeypatch.chdir(folder)
    assert run(["train", "-o", "model.pt"]) == 0
    assert run(["audit", "model.pt", "--forget", "ids.txt", "--method", "identity"]) == 0
    assert run(["check", "audit-out/report.html"]) == 0
    plan = (folder / "audit-out" / "plan.json").read_text()
    assert f'"score":{{"name":"{name}"' in plan
    assert predicate_of(folder / "audit-out")["verdict"]["value"] == "REFUTED"
