"""A prover who wants a pass, or a false refutation, and writes everything consistently: the checker stays firm."""

import json
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest
from fake_certificate import Fake, fake, lines
from fake_evidence import CLEAN, LEAK, Json, Knobs, Rows, digest

from cu_certificates.check.coins import right_guesses
from cu_certificates.check.fields import printed, rational
from cu_certificates.check.main import accepted
from cu_certificates.check.strict import Rejected, canonical
from cu_certificates.check.tails import STEP, coinflip_bound

Edit = Callable[[Any], object]


def refusals(found: Fake) -> str:
    """Everything that the checker objects to, or how it withholds NOT_REFUTED and REFUTED."""
    try:
        result = found.check()
    except Rejected as refusal:
        return f"refused: {refusal}"
    if result.rejected:
        return "; ".join(claim.detail for claim in result.rejected)
    return f"{result.derived}: {'; '.join(result.reasons)}"


def entry(plan: Json) -> Json:
    return plan["subjects"][0]


# --- Dishonest plans, followed to the letter -------------------------------------------------------------------------

PLANS: list[tuple[str, Edit, str]] = [
    ("exact, tested loosely", lambda p: entry(p).update(guarantee="exact", level="EXACT_IN_LAW"),
     r"not tested at \(0, 0\)"),
    ("exact, tested at a delta",
     lambda p: entry(p).update(guarantee="exact", level="EXACT_BITWISE", testedEps="0", testedDelta="1/1000"),
     r"not tested at \(0, 0\)"),
    ("an exact level without the guarantee", lambda p: entry(p).update(level="EXACT_BITWISE"), "expected EMPIRICAL"),
    ("two entries for one file", lambda p: p["subjects"].append(entry(p) | {"name": "b", "testedEps": "9"}),
     "one model stands"),
    ("two entries of one name", lambda p: p["subjects"].append(entry(p) | {"model": {"sha256": digest(1)}}),
     "one name stands"),
    ("another name", lambda p: entry(p).update(name="other.pt"), "name: differs"),
    ("a share too many", lambda p: p["alphaSplit"].update(oneRun="1/80"), "shares for"),
    ("shares above the total", lambda p: p["alphaSplit"].update(procedure="1/20"), "sum to 3/40; alphaTotal is 1/20"),
    ("a share of nothing", lambda p: p["alphaSplit"].update(procedure="1"), "strictly between"),
    ("the other question's test", lambda p: p.update(attacks=["conformal-p", "eps-coinflip"]), "the questions need"),
    ("one test", lambda p: p.update(attacks=["eps-coinflip"]), "the questions need"),
    ("one direction of a two-sided law", lambda p: p["procedure"].update(direction="forward"), "only a certified"),
    ("more guesses than slots", lambda p: p["procedure"].update(guesses=80), "expected an even number up to 64"),
    ("an odd number of guesses", lambda p: p["procedure"].update(guesses=47), "expected an even number"),
    ("more control guesses than slots", lambda p: p["procedure"].update(controlGuesses=80), "expected an even number"),
    ("two guesses", lambda p: p["procedure"].update(guesses=2), "INCONCLUSIVE: .*does not reach the planned power"),
    ("a control of six guesses", lambda p: p["procedure"].update(controlSlots=8, controlGuesses=6), "can never fail"),
    ("one negative model", lambda p: p["artifact"].update(negatives=1), "1; a control this small can never fail"),
    ("no original", lambda p: p["artifact"].update(positives=0), "positives: 0; expected a whole number from 1 to 1"),
    ("three originals", lambda p: p["artifact"].update(positives=3), "positives: 3"),
    ("another reference", lambda p: p.update(reference="noop"), "expected retrain"),
    ("one original for all", lambda p: p.update(original="first"), "expected redrawn"),
    ("another score", lambda p: p["score"].update(name="constant"), "expected combined"),
    ("a score of another design", lambda p: p["score"].update(name="margin"), "need combined"),
    ("another version of the score", lambda p: p["score"].update(version=2), "version: 2"),
    ("another format", lambda p: p.update(kind="cu-cert-plan/2"), "expected cu-cert-plan/1"),
    ("no attempt", lambda p: p.update(attempt=0), "attempt: 0"),
    ("attempt true", lambda p: p.update(attempt=True), "attempt: True"),
    ("an unknown method asked about", lambda p: entry(p).update(method=None), "expected a string"),
    ("a delta above every share", lambda p: entry(p).update(testedDelta="1/10"), "INCONCLUSIVE"),
    ("an eps that nothing can show", lambda p: entry(p).update(testedEps="3"), "INCONCLUSIVE: .*positive control"),
    ("no power wanted", lambda p: p.update(detectEps="0"), "INCONCLUSIVE: .*does not reach the planned power"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "expected"), [p[1:] for p in PLANS], ids=[p[0] for p in PLANS])
def test_a_dishonest_plan(edit: Edit, expected: str) -> None:
    found = fake(Knobs(edit_plan=edit))
    assert re.search(expected, refusals(found)), refusals(found)
    assert "NOT_REFUTED:" not in refusals(found)


def test_a_share_for_a_question_that_was_not_asked() -> None:
    knobs = Knobs(
        questions=("artifact",), edit_plan=lambda p: p["alphaSplit"].update(procedure="1/40", artifact="1/40")
    )
    assert "shares for ['artifact', 'procedure']" in refusals(fake(knobs))


def test_an_honest_certified_guarantee_in_one_direction_is_accepted() -> None:
    def forward(plan: Json) -> None:
        plan["procedure"]["direction"] = "forward"

    for means, verdict in ((CLEAN, "NOT_REFUTED"), (LEAK, "REFUTED")):
        knobs = Knobs(guarantee="certified", slots=128, control_slots=128, edit_plan=forward, means=means)
        found = fake(knobs).state()
        assert accepted(found.check())
        assert found.check().derived == verdict


def test_questions_in_another_order_are_the_same_plan_only_when_the_plan_says_so() -> None:
    assert "NOT_REFUTED" in refusals(fake(Knobs(questions=("artifact", "procedure"))))
    found = fake(Knobs())
    found.predicate["plan"]["questions"].reverse()
    assert "questions: differs from plan.json" in refusals(found)


def test_a_plan_with_a_huge_size_costs_no_time() -> None:
    for part, key in (("procedure", "slots"), ("procedure", "controlSlots"), ("artifact", "references")):
        found = fake(Knobs())
        plan = json.loads(found.files["plan.json"])
        plan[part][key] = 9_999_999
        found.replace("plan.json", canonical(plan))
        most = 20_000 if part == "artifact" else 4096
        assert f"expected a whole number from {2 - (part == 'artifact')} to {most}" in refusals(found)


# --- Dishonest evidence ----------------------------------------------------------------------------------------------


def first(rows: list[Json], **fields: object) -> Json:
    return next(row for row in rows if all(row.get(key) == value for key, value in fields.items()))


def twin(rows: Rows, table: str, source: Json, target: Json) -> None:
    one = first(rows[table], **source)
    first(rows[table], **target).update(model=one["model"], score=one["score"], signals=one["signals"])


EVIDENCE: list[tuple[str, Edit, str]] = [
    ("a nonce that nobody sent", lambda r: r["slots"][0].update(nonce="00"), "takes no challenge"),
    ("a nonce in one file", lambda r: r["artifact"][0].update(nonce="00"), "takes no challenge"),
    ("another seed", lambda r: r["slots"][0].update(seed="ff" * 32), "not the seed that the plan commits to"),
    ("another seed for the file", lambda r: r["artifact"][0].update(seed="ff" * 32), "not the seed"),
    ("no opening", lambda r: r["slots"].pop(0), "no line of kind 'opening'"),
    ("two subjects", lambda r: r["artifact"].append(r["artifact"][1]), "a second line of kind 'subject'"),
    ("a retrained model twice in the slots",
     lambda r: twin(r, "slots", {"role": "retrained"}, {"role": "unlearned"}), "one model digest stands for two"),
    ("a rerun that is a model of the main run",
     lambda r: twin(r, "slots", {"role": "retrained"}, {"role": "rerun"}), "one model digest stands for two"),
    ("a reference twice",
     lambda r: twin(r, "artifact", {"group": "reference", "slot": 3}, {"group": "reference", "slot": 4}), "one model"),
    ("a control that is a reference",
     lambda r: twin(r, "artifact", {"group": "reference"}, {"group": "negative"}), "one model digest stands for two"),
    ("the file is a reference",
     lambda r: twin(r, "artifact", {"group": "reference"}, {"kind": "subject"}), "one model digest stands for two"),
    ("a pilot that is judged", lambda r: r["pilots"][0].update(model=first(r["slots"], role="retrained")["model"]),
     "1 models both fitted the score and are judged"),
    ("a pilot twice", lambda r: r["pilots"][0].update(model=r["pilots"][1]["model"]), "one model digest stands"),
    ("a failed pilot", lambda r: r["pilots"][0].update(status="failed"), "pilot original 0 failed"),
    ("a pilot left out", lambda r: r["pilots"].pop(), "11 pilots; the plan has 4 original and 8 retrained"),
    ("no pilots", lambda r: r["pilots"].clear(), "pilots.jsonl"),
    ("a pilot of another kind", lambda r: r["pilots"].append(r["utility"][0]), "expected run"),
    ("wrong answers left out", lambda r: r["utility"].pop(0), "39 rows of the set 'held-out'"),
    ("answers that are more than right", lambda r: r["utility"][5].update(score=2), "other scores than 0 and 1"),
    ("rows of another kind", lambda r: r["utility"].append(r["pilots"][0]), "expected record"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "expected"), [e[1:] for e in EVIDENCE], ids=[e[0] for e in EVIDENCE])
def test_dishonest_evidence(edit: Edit, expected: str) -> None:
    try:
        found = fake(Knobs(edit_rows=edit))
    except (IndexError, StopIteration):  # the claims cannot even be computed; so keep the old ones
        found = fake(Knobs())
        rows = {name: [json.loads(line) for line in found.files[f"evidence/{name}.jsonl"].splitlines()] for name in
                ("slots", "artifact", "pilots", "utility")}  # fmt: skip
        edit(rows)
        for name, changed in rows.items():
            found.replace(f"evidence/{name}.jsonl", lines(changed))
    assert expected in refusals(found), refusals(found)


@pytest.mark.parametrize("method", ["identity", "npo"])
def test_a_method_may_return_its_own_original_and_no_other(method: str) -> None:
    def copied(rows: Rows, shift: int) -> None:
        originals = [row for row in rows["slots"] if row.get("role") == "original"]
        edited = [row for row in rows["slots"] if row.get("role") == "unlearned"]
        for number, row in enumerate(edited):
            source = originals[(number + shift) % len(originals)]
            row.update(model=source["model"], score=source["score"], signals=source["signals"])

    found = fake(Knobs(method=method, edit_rows=lambda rows: copied(rows, 0))).state()
    assert accepted(found.check())
    assert found.check().derived == "REFUTED"
    other = refusals(fake(Knobs(method=method, edit_rows=lambda rows: copied(rows, 1))))
    assert ("said to change nothing" if method == "identity" else "one model digest stands for two") in other


def test_a_method_that_is_said_to_change_nothing_changes_nothing() -> None:
    assert "said to change nothing" in refusals(fake(Knobs(method="identity", means=LEAK)))


def test_failing_the_runs_that_leak_does_not_make_a_pass() -> None:
    """Sixteen unlearned models leak and are written down as failed; all others look retrained."""

    def hide(rows: Rows) -> None:
        leaking = [row for row in rows["slots"] if row.get("role") == "unlearned"][:16]
        for row in leaking:
            row.pop("model"), row.pop("signals"), row.pop("score")
            row["status"] = "failed"

    found = fake(Knobs(edit_rows=hide, questions=("procedure",)))
    claim = found.claim("c-eps-procedure")
    # Counted as right guesses, the failed runs would not be missed; at the top, where they were, they are.
    assert coinflip_bound(64, 48, min(claim["right"] + 16, 48), Fraction(1, 20), Fraction(0)) <= Fraction(1, 2)
    assert "failed runs could hide a refutation" in refusals(found)


def test_failing_runs_never_helps_a_refutation() -> None:
    coins = [slot % 2 for slot in range(16)]
    scores: list[int | None] = [coin * 3 + slot % 5 for slot, coin in enumerate(coins)]
    whole = right_guesses(coins, scores, 12)
    for failed in combinations(range(16), 2):
        assert right_guesses(coins, [None if n in failed else s for n, s in enumerate(scores)], 12) <= whole


# --- Dishonest claims ------------------------------------------------------------------------------------------------


def up(found: Fake, claim: str, key: str, step: Fraction = STEP) -> None:
    value = rational(found.claim(claim)[key], key)
    found.claim(claim)[key] = printed(value + step)


BOUNDS = ["c-eps-procedure", "c-eps-artifact", "c-pos-procedure", "c-pos-artifact", "c-cp-held-out", "c-eps-pools"]


@pytest.mark.parametrize("claim", BOUNDS)
@pytest.mark.parametrize("step", [STEP, -STEP, -Fraction(1, 4)], ids=["a step more", "a step less", "much less"])
def test_a_bound_that_is_not_the_largest_proven_is_refused(claim: str, step: Fraction) -> None:
    found = fake(Knobs(means=LEAK))
    up(found, claim, "bound", step)
    assert "the evidence gives" in refusals(found)


def again(found: Fake, claim: str) -> None:
    found.predicate["claims"].append(found.claim(claim) | {"id": "again"})


def records_for_models(found: Fake) -> None:
    """The rates of records that other claims are about, moved before the claim about models."""
    claims = found.predicate["claims"]
    claims.remove(pools := found.claim("c-eps-pools"))
    claims.append(pools | {"tpr": "c-cp-held-out"})


CLAIMS: list[tuple[str, Callable[[Fake], object], str]] = [
    ("more alpha", lambda f: f.claim("c-eps-procedure").update(alpha="1/20"), "the plan gives this question 1/40"),
    ("less alpha", lambda f: f.claim("c-eps-artifact").update(alpha="1/80"), "the plan gives this question 1/40"),
    ("another delta", lambda f: f.claim("c-eps-procedure").update(delta="1/100"), "the guarantee under test has 0"),
    ("fewer guesses", lambda f: f.claim("c-eps-procedure").update(guesses=32), "the plan says 48"),
    ("one guess less right", lambda f: f.claim("c-eps-procedure").update(right=47), "the evidence gives 48"),
    ("not planned", lambda f: f.claim("c-eps-procedure").update(planned=False), "expected True"),
    ("a cross-check as a verdict", lambda f: f.claim("c-eps-pools").update(planned=True), "by eps-coinflip"),
    ("a bound twice", lambda f: again(f, "c-eps-procedure"), "says again"),
    ("a rank twice", lambda f: again(f, "c-p-artifact"), "says again"),
    ("a control twice", lambda f: again(f, "c-neg-artifact"), "says again"),
    ("a split twice", lambda f: again(f, "c-split"), "says again"),
    ("power twice", lambda f: again(f, "c-power-artifact"), "says again"),
    ("one id twice", lambda f: f.predicate["claims"].append(f.claim("m-auc")), "refused: .*'m-auc' stands twice"),
    ("a child before its parent", lambda f: f.predicate["claims"].reverse(), "is not a conformal-p claim earlier"),
    ("a claim as its own parent", lambda f: f.claim("c-eps-artifact").update({"from": "c-eps-artifact"}), "earlier in"),
    ("another parent", lambda f: f.claim("c-eps-artifact").update({"from": "c-model"}), "is not a conformal-p claim"),
    ("a type that nobody knows", lambda f: f.claim("m-auc").update(type="eps-hoped"), "knows no rule for it"),
    ("fitted on nothing", lambda f: f.claim("c-split").update(fitted="utility"), "expected pilots"),
    ("nothing judged", lambda f: f.claim("c-split").update(judged=[]), "the planned questions judge"),
    ("half of it judged", lambda f: f.claim("c-split").update(judged=["slots"]), "the planned questions judge"),
    ("one of them twice", lambda f: f.claim("c-split").update(judged=["slots"] * 2), "the planned questions judge"),
    ("scores from another file", lambda f: f.claim("c-eps-procedure").update(evidence="artifact"), "expected slots"),
    ("a level of one half", lambda f: f.claim("c-cp-held-out").update(alpha="1/2"), "expected at most 1/20"),
    ("the other side", lambda f: f.claim("c-cp-held-out").update(side="upper"), "the evidence gives"),
    ("a lower end as an upper one", lambda f: f.claim("c-eps-pools").update(fpr="c-cp-pool-unlearned"),
     "is not a upper bound"),
    ("a rate of records", records_for_models, "not about the unlearned models"),
    ("another set", lambda f: f.claim("c-utility-held-out").update(set="retained"), "not about its right answers"),
    ("an unknown set", lambda f: f.claim("c-utility-held-out").update(set="easy"), "expected held-out or"),
    ("an assumption left out", lambda f: f.predicate["assumptions"].remove("A9"), "rests on A9"),
    ("no size for the control", lambda f: f.claim("c-neg-procedure").update(tail="1/1000"), "expected 1/100"),
    ("a missed control", lambda f: f.claim("c-pos-procedure").update(outcome="missed"), "expected detected"),
    ("a failed control", lambda f: f.claim("c-neg-procedure").update(outcome="failed"), "expected sound"),
    ("another basis", lambda f: f.state().predicate["verdict"].update(basis=["c-model"]), "the bounds that decide are"),
    ("no basis", lambda f: f.state().predicate["verdict"].update(basis=[]), "the bounds that decide are"),
    ("a lower bar", lambda f: f.predicate["plots"]["eps"]["bars"][0].update(lower="0.1000"), "not the bounds"),
    ("no bars", lambda f: f.predicate["plots"]["eps"].update(bars=[]), "not the bounds"),
    ("a pool moved", lambda f: f.predicate["plots"]["procedure"]["series"][1].update(counts=[28] + [0] * 14), "gives"),
    ("a pool left out", lambda f: f.predicate["plots"]["procedure"]["series"].pop(), "the evidence has"),
    ("roles exchanged", lambda f: f.predicate["plots"]["procedure"]["series"][0].update(role="unlearned"), "roles"),
    ("a mark moved", lambda f: f.predicate["plots"]["artifact"]["marks"][0].update(at="1.00"), "the audited model's"),
    ("no mark", lambda f: f.predicate["plots"]["artifact"].pop("marks"), "the audited model alone"),
    ("edges out of order", lambda f: f.predicate["plots"]["artifact"]["binEdges"].reverse(), "rising values"),
    ("a plot under another name",
     lambda f: f.predicate["plots"].update(x=f.predicate["plots"].pop("procedure")), "under another name"),
    ("other data", lambda f: f.predicate["scope"]["data"].update(digest={"sha256": digest(1)}), "data.digest: differs"),
    ("another recipe", lambda f: f.predicate["scope"]["recipe"].update(digest={"sha256": digest(1)}), "recipe.digest"),
    ("a larger request", lambda f: f.predicate["request"]["commitment"].update(size=500), "size: differs"),
    ("another request", lambda f: f.predicate["request"]["commitment"].update(root=digest(1)), "its root is not"),
    ("another scheme", lambda f: f.predicate["request"]["commitment"].update(scheme="plain"), "cu-cert-forget/1"),
    ("one file under two ids",
     lambda f: f.predicate["evidence"].append(f.predicate["evidence"][1] | {"id": "more"}), "stands twice"),
    ("two files under one id",
     lambda f: f.predicate["evidence"].append(f.predicate["evidence"][1] | {"name": "more"}), "stands twice"),
    ("another model", lambda f: f.predicate["scope"]["model"].update(digest={"sha256": digest(1)}), "statement.sub"),
    ("a later version", lambda f: f.predicate.update(schemaVersion="2.0"), "knows version 1"),
    ("too many claims", lambda f: f.predicate["claims"].extend([{}] * 10_000), "expected at most 10000"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "expected"), [c[1:] for c in CLAIMS], ids=[c[0] for c in CLAIMS])
def test_dishonest_claims(edit: Callable[[Fake], object], expected: str) -> None:
    found = fake(Knobs(means=LEAK))
    assert refusals(found).startswith("REFUTED")
    edit(found)
    assert re.search(expected, refusals(found)), refusals(found)


def test_a_count_cannot_stand_in_for_a_p_value() -> None:
    """The p-value with failed references low must not lie where a claim with a chosen id can overwrite it."""
    failed = frozenset({("reference", 0), ("reference", 1), ("reference", 2)})
    found = fake(Knobs(means=LEAK, questions=("artifact",), references=36, negatives=12, failed=failed))
    assert "failed runs could hide a refutation" in refusals(found)
    parent = found.claim("c-p-artifact")["id"]
    count = found.claim("c-count-held-out") | {"id": f"{parent}/generous", "threshold": 0, "k": 40, "n": 40}
    found.predicate["claims"].insert(3, count)
    assert "failed runs could hide a refutation" in refusals(found)
