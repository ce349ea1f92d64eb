"""The promise of the audit, tested as a whole: how often it errs on a retrain, and how often it misses an original.

One whole audit a seed: new project secret, new audited models, new fleet. Seeds are fixed, and so are the counts on one
kind of machine; the limits allow for others. CU_CERT_SLOW=1 runs 100 seeds, else 10.
"""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import SLOW
from scipy.stats import binom
from small_project import SMALLEST, fix_secrets, write_project

from cu_cert.project import load_project
from cu_cert.protocol import audit_subjects
from cu_cert.subjects import SubjectInput
from cu_cert.training import train_model
from cu_cert.unlearning import unlearn_model

SEEDS = 100 if SLOW else 10
RARE = 0.001
ERROR = 79 / 4096 + 1 / 42
"""What these sizes spend of alpha = 1/20: ten or more of twelve fair guesses right, or the highest of 42 scores."""


@dataclass(frozen=True)
class Outcome:
    """One seed: both verdicts, and what is exactly known of an audit of ``retrain`` by ``retrain``."""

    retrained: str
    untouched: str
    right: int
    guesses: int
    control: int
    p: Fraction
    control_failed: bool


def audited(folder: Path, seed: int) -> Outcome:
    write_project(folder, **SMALLEST)
    fix_secrets(folder, f"simulation {seed}")
    loaded = load_project(folder / "cu-cert.toml")
    project = replace(loaded, training=replace(loaded.training, seed=seed))
    train_model(project, folder / "model.pt")
    unlearn_model(project, folder / "model.pt", folder / "ids.txt", folder / "retrained.pt", method="retrain")
    subjects = [
        SubjectInput(model=folder / "retrained.pt", out=folder / "retrained", method="retrain"),
        SubjectInput(model=folder / "model.pt", out=folder / "untouched", method="identity"),
    ]
    done = audit_subjects(project, subjects, folder / "ids.txt", sign=False, quiet=True, say=lambda line: None)
    draft = json.loads((folder / "retrained" / "certificate.draft.json").read_bytes())
    claims = {claim["id"]: claim for claim in draft["predicate"]["claims"]}
    return Outcome(
        retrained=done.issued[0].result.derived,
        untouched=done.issued[1].result.derived,
        right=claims["c-eps-procedure"]["right"],
        guesses=claims["c-eps-procedure"]["guesses"],
        control=claims["c-neg-procedure"]["right"],
        p=Fraction(claims["c-p-artifact"]["p"]),
        control_failed="failed" in (claims["c-neg-procedure"]["outcome"], claims["c-neg-artifact"]["outcome"]),
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    folder = tmp_path_factory.mktemp("simulation")
    return [audited(folder / str(seed), seed) for seed in range(SEEDS)]


def most(chance: float) -> int:
    """The number of seeds that an event of this chance stays within, but for one simulation in a thousand."""
    return int(binom.ppf(1 - RARE, SEEDS, chance))


def between(right: int, trials: int) -> bool:
    """Whether ``right`` of ``trials`` fair guesses are as many as one would expect, on both sides."""
    return bool(binom.ppf(RARE / 2, trials, 0.5) <= right <= binom.ppf(1 - RARE / 2, trials, 0.5))


@pytest.mark.slow
def test_a_retrained_model_is_refuted_in_at_most_a_share_alpha(outcomes: list[Outcome]) -> None:
    assert {outcome.guesses for outcome in outcomes} == {12}
    assert {42 % outcome.p.denominator for outcome in outcomes} == {0}
    refuted = sum(outcome.retrained == "REFUTED" for outcome in outcomes)
    assert refuted <= (12 if SLOW else most(ERROR))
    # INCONCLUSIVE is no way out: controls of a sound audit fail in 1 % of runs each.
    assert sum(outcome.retrained == "NOT_REFUTED" for outcome in outcomes) >= SEEDS - most(ERROR + 0.02)


@pytest.mark.slow
def test_an_untouched_model_is_refuted_nearly_always(outcomes: list[Outcome]) -> None:
    refuted = sum(outcome.untouched == "REFUTED" for outcome in outcomes)
    assert refuted >= SEEDS - most(0.02)
    assert SEEDS - most(0.02) >= 0.9 * SEEDS or not SLOW


@pytest.mark.slow
def test_guesses_about_retrains_are_fair_coins(outcomes: list[Outcome]) -> None:
    # Both arms have one law here, so v is exactly Bin(r, 1/2) for every seed, and so is the control's; any leak of the
    # coins into models, scores or order of storage would show.
    guesses = sum(outcome.guesses for outcome in outcomes)
    assert between(sum(outcome.right for outcome in outcomes), guesses)
    assert between(sum(outcome.control for outcome in outcomes), guesses)
    assert sum(outcome.control_failed for outcome in outcomes) <= most(0.02)


@pytest.mark.slow
def test_p_values_of_retrains_are_uniform(outcomes: list[Outcome]) -> None:
    # p is uniform on 1/42, ..., 42/42, so it lies at or below 1/2 with chance 21/42.
    assert between(sum(outcome.p <= Fraction(1, 2) for outcome in outcomes), SEEDS)
    assert sum(outcome.p <= Fraction(1, 10) for outcome in outcomes) <= most(4 / 42)
