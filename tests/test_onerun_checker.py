"""What the checker makes of one run on drawn records: honest evidence, and every way to bend it."""

from fractions import Fraction
from typing import Any

import pytest
from conftest import SLOW
from fake_evidence import Json
from fake_onerun import ASSUMED, NAME, REFERENCES, Run, fake_onerun, honest, naive_right, refused, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cu_certificates.check.checker import DECIDING
from cu_certificates.check.coins import right_guesses
from cu_certificates.check.design import DESIGNS
from cu_certificates.check.onerun import onerun_bound, request_bound
from cu_certificates.check.rules import DESIGN_RULES
from cu_certificates.check.tails import STEP
from cu_certificates.plan import PLANNERS

LEAK, CLEAR = 3.0, 0.0


# --- Honest evidence: the claims were computed in floats, a second time ----------------------------------------------


@pytest.mark.parametrize(
    ("run", "verdict"),
    [
        (Run(leak=LEAK), "REFUTED"),
        (Run(leak=-LEAK), "REFUTED"),
        (Run(), "NOT_REFUTED"),
        (Run(method="retrain", guarantee="exact", tested_eps="0"), "NOT_REFUTED"),
        (Run(method="retrain", guarantee="exact", tested_eps="0", leak=1.0), "REFUTED"),
        (Run(method="newton", guarantee="certified", tested_eps="1/10", tested_delta="1/5000"), "NOT_REFUTED"),
        (Run(method="newton", guarantee="certified", tested_eps="1/10", tested_delta="1/5000", leak=1.0), "REFUTED"),
        (Run(candidates=13), "INCONCLUSIVE"),
        (Run(before=0.0), "INCONCLUSIVE"),
        (Run(sham=2.0), "INCONCLUSIVE"),
        (Run(leak=LEAK, sham=2.0), "INCONCLUSIVE"),
        (Run(leak=LEAK, before=0.0), "REFUTED"),
        (Run(tested_delta="1/40"), "INCONCLUSIVE"),
    ],
)
def test_honest_evidence_gives_a_verdict(run: Run, verdict: str) -> None:
    found = fake_onerun(run)
    result = found.check()
    assert not result.rejected, result.rejected
    assert result.derived == verdict, result.reasons
    statuses = {claim.type: claim.status for claim in result.claims}
    assert statuses["eps-onerun"] == "assumed"  # nobody but the prover drew the seed
    assert statuses["control"] == statuses["power"] == statuses["model-digest"] == "proved"
    assert found.copy().state().check().stated == verdict


def test_the_reason_says_of_which_requests_it_speaks() -> None:
    (reason,) = honest(CLEAR).check().reasons
    assert reason.endswith("for records drawn as those of this run were")
    assert honest(LEAK).check().reasons[0].endswith("exceeds the guarantee under test, eps* = 0.5000")


def test_over_forgetting_has_a_bound_of_its_own() -> None:
    claim = fake_onerun(Run(leak=-LEAK)).claim("c-eps-procedure")
    assert claim["reversed"] > claim["right"]
    assert float(claim["bound"]) > 10
    # Both sides share alpha: a side alone would show more.
    assert float(request_bound(44, claim["reversed"], Fraction(1, 20), Fraction(0))) > float(claim["bound"])


def test_a_failed_negative_control_voids_a_refutation() -> None:
    result = fake_onerun(Run(leak=LEAK, sham=2.0)).check()
    assert result.reasons == ("procedure: its negative control failed, so it makes no claim",)
    pushed = fake_onerun(Run(leak=LEAK, sham=-2.0))
    assert pushed.claim("c-neg-procedure")["outcome"] == "failed"  # too few right guesses are too many of the others


def test_without_its_files_nothing_follows() -> None:
    for name in (NAME, REFERENCES):
        found = honest(LEAK).copy()
        del found.files[name]
        result = found.check()
        assert (result.derived, result.missing) == ("INCONCLUSIVE", (name,))
        unseen = {claim.id for claim in result.claims if claim.status == "unverified"}
        assert {f"c-{part}-procedure" for part in ("eps", "pos", "neg")} | {"c-model"} <= unseen


@pytest.mark.parametrize("alpha", ["1/1000", "1/40", "1/10", "1/3", "1/2"])
@pytest.mark.parametrize("delta", ["0", "1/1000"])
def test_the_bound_for_one_record_never_refutes_alone(alpha: str, delta: str) -> None:
    """So the request's bound decides: more than 2 eps* for one record, at the delta that follows, is more than eps*."""
    level, slack = Fraction(alpha), Fraction(delta)
    for guesses in (2, 5, 12, 44):
        for right in range(guesses + 1):
            request = request_bound(guesses, right, level, slack)
            implied = slack * (1 + Fraction(2.718281828459045 ** float(request + STEP)))
            record = onerun_bound(guesses, guesses, right, level, min(implied, Fraction(9, 10)))
            assert record <= 2 * (request + STEP), (guesses, right)


def test_every_table_of_designs_knows_it() -> None:
    for question, designs in DESIGNS.items():
        assert set(designs) == set(DESIGN_RULES[question]) == set(PLANNERS[question])
    assert DESIGNS["procedure"]["onerun"].conclusive
    assert "eps-onerun" in DECIDING


# --- Candidates without a score --------------------------------------------------------------------------------------


def entered(run: Run, bit: str) -> list[int]:
    rows = rows_of(fake_onerun(run))
    return [row["index"] for row in rows if row.get("role") == bit]


def test_missing_scores_count_against_a_refutation() -> None:
    run = Run(leak=LEAK)
    gone = entered(run, "in")[:3]
    less = fake_onerun(Run(leak=LEAK, missing=frozenset(("score", index) for index in gone)))
    result = less.check()
    assert not result.rejected, result.rejected
    assert less.claim("c-eps-procedure")["right"] < honest(LEAK).claim("c-eps-procedure")["right"]
    assert result.derived == "REFUTED"


@pytest.mark.parametrize("bit", ["in", "out"])
def test_missing_scores_cannot_hide_a_refutation(bit: str) -> None:
    run = Run(leak=1.4)
    assert fake_onerun(run).check().derived == "REFUTED"
    hidden = fake_onerun(Run(leak=1.4, missing=frozenset(("score", index) for index in entered(run, bit)[:20]))).check()
    assert not hidden.rejected, hidden.rejected
    assert hidden.derived == "INCONCLUSIVE"
    assert "procedure: failed runs could hide a refutation" in hidden.reasons


def test_missing_scores_of_the_original_weaken_the_positive_control() -> None:
    found = fake_onerun(Run(missing=frozenset(("original", index) for index in range(30))))
    assert not found.check().rejected
    assert found.claim("c-pos-procedure")["outcome"] == "missed"
    assert found.check().derived == "INCONCLUSIVE"


def test_missing_scores_of_the_control_count_as_alarms() -> None:
    found = fake_onerun(Run(leak=LEAK, missing=frozenset(("reruns", index) for index in range(20))))
    assert not found.check().rejected, found.check().rejected
    assert found.claim("c-neg-procedure")["outcome"] == "failed"


# --- Claims that do not follow ---------------------------------------------------------------------------------------

BOUND = honest(LEAK).claim("c-eps-procedure")["bound"]
LIES: list[tuple[str, str, Any, str]] = [
    ("c-eps-procedure", "bound", f"{float(BOUND) + 1e-4:.4f}", f"the evidence gives {BOUND}"),
    ("c-eps-procedure", "bound", f"{float(BOUND) - 1e-4:.4f}", f"the evidence gives {BOUND}"),
    ("c-eps-procedure", "bound", "0.0000", f"the evidence gives {BOUND}"),
    ("c-eps-procedure", "recordBound", "9.0000", "recordBound: '9.0000'; expected"),
    ("c-eps-procedure", "right", 44, "the evidence gives"),
    ("c-eps-procedure", "reversed", 44, "the evidence gives"),
    ("c-eps-procedure", "guesses", 42, "the plan says 44"),
    ("c-eps-procedure", "candidates", 59, "the plan says 60"),
    ("c-eps-procedure", "planned", False, "expected True"),
    ("c-eps-procedure", "alpha", "1/40", "the plan gives this question 1/20"),
    ("c-eps-procedure", "delta", "1/100", "the guarantee under test has 0"),
    ("c-eps-procedure", "evidence", "references", "expected onerun"),
    ("c-eps-procedure", "question", "artifact", "expected procedure"),
    ("c-eps-procedure", "type", "eps-coinflip", "the plan answers this question by eps-onerun"),
    ("c-eps-procedure", "type", "eps-sequential", "the plan answers this question by eps-onerun"),
    ("c-pos-procedure", "right", 45, "the evidence gives"),
    ("c-pos-procedure", "bound", "99.0000", "the evidence gives"),
    ("c-pos-procedure", "outcome", "missed", "expected detected"),
    ("c-neg-procedure", "right", 0, "the evidence gives"),
    ("c-neg-procedure", "reversed", 0, "the evidence gives"),
    ("c-neg-procedure", "tail", "1/1000", "expected 1/100"),
    ("c-neg-procedure", "outcome", "failed", "expected sound"),
    ("c-power-procedure", "critical", 1, "expected"),
    ("c-power-procedure", "accuracy", "0.5000", "expected"),
    ("c-power-procedure", "maxEps", "99.0000", "expected"),
    ("c-power-procedure", "maxRecordEps", "99.0000", "expected"),
    ("c-power-procedure", "detectEps", "1", "differs from the plan"),
    ("c-power-procedure", "reached", False, "the sizes give True"),
]


@pytest.mark.parametrize(("identifier", "key", "value", "said"), LIES)
def test_a_claim_that_does_not_follow_is_rejected(identifier: str, key: str, value: Any, said: str) -> None:
    found = honest(LEAK).copy()
    found.claim(identifier)[key] = value
    del found.predicate["verdict"]
    rejected = {claim.id: claim.detail for claim in found.check().rejected}
    assert said in rejected[identifier]


def test_a_second_bound_is_refused() -> None:
    found = honest(LEAK).copy()
    found.predicate["claims"].append(found.claim("c-eps-procedure") | {"id": "c-again"})
    assert "says again what 'c-eps-procedure' says" in refused(found.state().check())


@pytest.mark.parametrize("name", ASSUMED)
def test_each_assumption_must_be_listed(name: str) -> None:
    found = honest(LEAK).copy()
    found.predicate["assumptions"].remove(name)
    assert any(f"rests on {name}" in claim.detail for claim in found.check().rejected)


def test_claims_of_slots_do_not_stand_beside_it() -> None:
    for claim in (
        {"id": "c-split", "type": "split", "text": "fitted", "fitted": "references", "judged": ["onerun"]},
        {"id": "c-count", "type": "count", "evidence": "slots", "group": "unlearned", "threshold": 0, "k": 1, "n": 2},
        {"id": "c-band", "type": "band", "question": "procedure", "planned": False, "quantity": "delta-up"},
    ):
        found = honest(CLEAR).copy()
        found.predicate["claims"].append(claim)
        assert [one.id for one in found.state().check().rejected] == [claim["id"]]


def test_a_pass_cannot_be_had_by_leaving_claims_out() -> None:
    for identifier in ("c-eps-procedure", "c-pos-procedure", "c-neg-procedure", "c-power-procedure"):
        for leak in (LEAK, CLEAR):
            found = honest(leak).copy()
            found.drop(identifier)
            del found.predicate["plots"]["eps"]
            result = found.state().check()
            assert not result.rejected
            refuting = leak == LEAK and identifier in ("c-pos-procedure", "c-power-procedure")
            assert result.derived == ("REFUTED" if refuting else "INCONCLUSIVE")


# --- Counting --------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([None, -5, 0, 0, 1, 7]), st.booleans()), min_size=4, max_size=30))
def test_both_sides_are_counted_as_a_reader_would(pairs: list[tuple[int | None, bool]]) -> None:
    scores, coins = [score for score, _ in pairs], [int(bit) for _, bit in pairs]
    turned = [None if score is None else -score for score in scores]
    guesses = 2 * (3 * len(pairs) // 8)
    lost = [bit for score, bit in zip(scores, coins, strict=True) if score is None]
    few = max(lost.count(0), lost.count(1)) <= guesses // 2  # more cannot all be wrong guesses, but count as such
    for found, least in (
        (right_guesses(coins, scores, guesses), naive_right(scores, coins, guesses)),
        (right_guesses(coins, turned, guesses), naive_right(scores, coins, guesses, turned=True)),
    ):
        assert found == least if few else found <= least


@pytest.mark.slow
def test_the_checker_seldom_refutes_an_exact_method() -> None:
    """At eps* = 0 the level is nearly met, each attempt with coins of its own; the negative control fails in 1 %."""
    runs, refuted, failed = 1000 if SLOW else 60, 0, 0
    for attempt in range(1, runs + 1):

        def number(plan: Json, attempt: int = attempt) -> None:
            plan["attempt"] = attempt

        found = fake_onerun(Run(method="retrain", guarantee="exact", tested_eps="0", seed=attempt, edit_plan=number))
        refuted += found.check().derived == "REFUTED"
        failed += found.claim("c-neg-procedure")["outcome"] == "failed"
    assert refuted <= stats.binom.ppf(0.999, runs, 0.05)
    assert failed <= stats.binom.ppf(0.999, runs, 0.01)
