"""The rules of the gate beyond the first fourteen: one that is met and one that is not for each, and their pages."""

import random
import re
from dataclasses import replace
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import pytest
from gate_case import (
    BESIDE,
    EXCEPTION,
    MODEL,
    NOW,
    PAYLOAD,
    POLICY,
    ROOT,
    Change,
    at,
    checked,
    decide,
    demands,
    drop,
    outcome,
    predicate,
    set_in,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cu_certificates._forbidden import forbidden_in
from cu_certificates._gate.case import Beside, Finding
from cu_certificates._gate.coverage import coverage
from cu_certificates._gate.help import HELP
from cu_certificates._gate.power import MOST_CONTROLS, MOST_RECORDS, _critical, panel_power
from cu_certificates._gate.report import Judged
from cu_certificates.policy import NEVER_EXCEPTED, RULES, Batch, Policy

PAGES = Path(__file__).parents[1] / "docs" / "rules"


def finding(rule: str, folder: Path, change: Change | None = None, **options: Any) -> Finding:
    """Judge the certificate that satisfies everything after one change; returns the finding of a rule."""
    content = predicate()
    if change is not None:
        change(content)
    swap, beside = options.pop("swap", ("", "")), options.pop("beside", BESIDE)
    report = decide(checked(content, **options), demands(folder, swap=swap), beside)
    return next(one for one in report.findings if one.rule == rule)


UNMET: list[tuple[str, Change, str]] = [
    ("CU107", drop("m-auc"), "inconclusive"),
    ("CU107", drop("c-count-request"), "inconclusive"),
    ("CU107", set_in("c-count-request.n", 7), "inconclusive"),
    ("CU107", set_in("c-count-held-out.n", 40), "inconclusive"),
    ("CU107", set_in("m-auc.kind", "test"), "inconclusive"),
    ("CU108", set_in("c-utility.accuracyAtLeast", "0.8999"), "inconclusive"),
    ("CU108", set_in("c-utility.set", "retained"), "inconclusive"),
    ("CU109", set_in("c-pos-artifact.outcome", "missed"), "inconclusive"),
    ("CU109", set_in("c-neg-artifact.outcome", "failed"), "inconclusive"),
    ("CU109", set_in("c-power-artifact.reached", False), "inconclusive"),
    ("CU109", set_in("c-eps-artifact.planned", False), "inconclusive"),
    ("CU109", set_in("plan.questions", []), "inconclusive"),
    ("CU110", set_in("c-theorem.eps", "1.0001"), "violated"),
    ("CU110", set_in("c-theorem.delta", "0.00002"), "violated"),
    ("CU110", set_in("c-theorem.planned", False), "inconclusive"),
    ("CU110", drop("c-theorem"), "inconclusive"),
    ("CU204", set_in("c-absent.outcome", "present"), "violated"),
    ("CU204", set_in("c-chain.outcome", "broken"), "violated"),
    ("CU204", drop("c-absent"), "inconclusive"),
    ("CU204", drop("c-chain"), "inconclusive"),
    ("CU204", set_in("unlearning.guarantee", "none"), "inconclusive"),
    ("CU205", set_in("c-replay.outcome", "mismatched"), "violated"),
    ("CU205", set_in("c-replay.q", "1/10"), "inconclusive"),
    ("CU205", set_in("c-replay.alpha", "1/10"), "inconclusive"),
    ("CU205", drop("c-replay"), "inconclusive"),
]


@pytest.mark.parametrize(("rule", "change", "expected"), UNMET)
def test_a_rule_that_is_not_met(tmp_path: Path, rule: str, change: Change, expected: str) -> None:
    met, unmet = finding(rule, tmp_path), finding(rule, tmp_path, change)
    assert met.outcome == "ok"
    assert (unmet.outcome, unmet.exit_code) == (expected, {"violated": 1, "inconclusive": 3}[expected])
    assert unmet.line == demands(tmp_path).lines[unmet.allowed.split(" = ")[0]]
    assert unmet.means
    assert unmet.next_step


BESIDES: list[tuple[str, Beside, str]] = [
    ("CU003", replace(BESIDE, signers=[("auditor",)]), "untrusted"),
    ("CU003", replace(BESIDE, signers=[("auditor", "controller")]), "untrusted"),
    ("CU003", replace(BESIDE, signers=[]), "untrusted"),
    ("CU004", replace(BESIDE, stamped=None), "untrusted"),
    ("CU501", replace(BESIDE, report="report.html is not there", report_absent=True), "inconclusive"),
    ("CU501", replace(BESIDE, report="report.html carries another certificate"), "violated"),
    ("CU502", replace(BESIDE, privacy=["report.html: line 3: e-mail: ja... (20 characters)"]), "violated"),
    ("CU502", replace(BESIDE, privacy=None), "inconclusive"),
]


@pytest.mark.parametrize(("rule", "beside", "expected"), BESIDES)
def test_what_stands_beside_the_claims(tmp_path: Path, rule: str, beside: Beside, expected: str) -> None:
    assert finding(rule, tmp_path).outcome == "ok"
    unmet = finding(rule, tmp_path, beside=beside)
    codes = {"untrusted": 4, "violated": 1, "inconclusive": 3}
    assert (unmet.outcome, unmet.exit_code) == (expected, codes[expected])


def test_every_rule_has_one_that_is_met_and_one_that_is_not() -> None:
    import test_gate

    unmet = {rule for rule, *_ in UNMET} | {rule for rule, *_ in BESIDES} | {rule for rule, *_ in test_gate.FAILURES}
    apart = {"CU001", "CU002", "CU102", "CU203", "CU402"}  # each has tests of its own there
    assert unmet | apart == set(RULES)


def test_two_signatures_of_one_person_are_one(tmp_path: Path) -> None:
    both = ("auditor", "controller")
    assert finding("CU003", tmp_path, beside=replace(BESIDE, signers=[both, both])).outcome == "ok"
    three = ("signatures = { auditor = 1, controller = 1 }", "signatures = { auditor = 2, controller = 1 }")
    assert finding("CU003", tmp_path, swap=three, beside=replace(BESIDE, signers=[both, both])).outcome == "untrusted"
    assert finding("CU003", tmp_path, swap=three, beside=replace(BESIDE, signers=[both, both, both])).outcome == "ok"


def test_trust_has_precedence_and_no_exception(tmp_path: Path) -> None:
    content = predicate()
    at(content, "c-eps-procedure")["bound"] = "0.9000"
    report = decide(checked(content), demands(tmp_path), replace(BESIDE, stamped=None))
    assert report.exit_code == 4
    assert "1 untrusted" in report.to_text().splitlines()[-1]
    assert {"CU001", "CU003", "CU004"} <= set(NEVER_EXCEPTED)


def test_one_theorem_within_the_limit_is_enough(tmp_path: Path) -> None:
    def another(content: dict[str, Any]) -> None:
        content["claims"].append({"id": "c-loose", "type": "dp-bound", "eps": "9.0000", "delta": "0", "planned": True})

    assert finding("CU110", tmp_path, another).outcome == "ok"


def test_what_was_not_re_derived_supports_nothing(tmp_path: Path) -> None:
    for identifier, rule in {"c-theorem": "CU110", "c-absent": "CU204", "c-replay": "CU205"}.items():
        assert finding(rule, tmp_path, statuses={identifier: "unverified"}).outcome == "inconclusive", identifier


def test_a_missing_loss_can_be_excused_or_warned_of(tmp_path: Path) -> None:
    content = predicate()
    at(content, "c-utility")["accuracyAtLeast"] = "0.9000"
    tight = ('utility_drop_max = "0.10"', 'utility_drop_max = "0.01"')
    assert decide(checked(content), demands(tmp_path, swap=tight)).exit_code == 3
    excused = EXCEPTION.format(rule="CU108", expires="2026-12-31")
    assert decide(checked(content), demands(tmp_path, swap=tight, extra=excused)).exit_code == 0


# --- power of the panel -----------------------------------------------------------------------------------------------


def alike(records: int, controls: int, rank: int, above: int) -> Fraction:
    """P[K >= above] when all records are alike, as a sum of exact ratios: the long way."""
    ways = sum(
        comb(k + rank - 1, k) * comb(records - k + controls - rank, records - k) for k in range(above, records + 1)
    )
    return Fraction(ways, comb(records + controls, records))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 40), st.data())
def test_the_critical_number_is_the_exact_one(records: int, controls: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, controls))
    alpha = Fraction(data.draw(st.integers(1, 99)), 100)
    naive = next((k for k in range(records + 1) if alike(records, controls, rank, k) <= alpha), None)
    assert _critical(records, controls, rank, alpha) == naive


@pytest.mark.parametrize(
    ("records", "controls", "tpr", "fpr"),
    [(50, 360, "1/5", "1/100"), (50, 360, "1/20", "1/1000"), (30, 90, "2/5", "1/20"), (200, 400, "1/10", "1/50")],
)
def test_the_bound_holds_in_simulation(records: int, controls: int, tpr: str, fpr: str) -> None:
    """The attack whose curve is as low as it may be: nothing to the left of at_fpr, tpr from there on."""
    t, f = Fraction(tpr), Fraction(fpr)
    found = panel_power(records, controls, tpr=t, at_fpr=f, alpha=Fraction(1, 20))
    rng, runs, seen = random.Random(7), 4000, 0
    for _ in range(runs):
        # A score is the false positive rate at which its record is called; smaller is more suspicious.
        threshold = sorted(rng.random() for _ in range(controls))[found.rank - 1]
        called = sum(rng.random() < t for _ in range(records)) if threshold >= f else 0
        seen += called >= found.above
    assert seen / runs > float(found.power) - 0.025
    assert 0 < found.power < 1


def test_a_panel_without_a_leak_is_flagged_no_more_often_than_alpha() -> None:
    found = panel_power(50, 360, tpr=Fraction(1, 5), at_fpr=Fraction(1, 100), alpha=Fraction(1, 20))
    rng, runs, flagged = random.Random(11), 4000, 0
    for _ in range(runs):
        scores = [(rng.random(), record < 50) for record in range(410)]
        threshold = sorted(score for score, forgotten in scores if not forgotten)[found.rank - 1]
        flagged += sum(forgotten and score < threshold for score, forgotten in scores) >= found.above
    assert flagged / runs < 0.05 + 0.012


def test_more_records_see_more_and_very_many_cost_no_more_time() -> None:
    small = panel_power(50, 360, tpr=Fraction(1, 20), at_fpr=Fraction(1, 1000), alpha=Fraction(1, 20))
    large = panel_power(500, 5000, tpr=Fraction(1, 20), at_fpr=Fraction(1, 1000), alpha=Fraction(1, 20))
    assert small.power < Fraction(7, 10) < Fraction(99, 100) < large.power
    options = {"tpr": Fraction(1, 3), "at_fpr": Fraction(1, 5), "alpha": Fraction(1, 20)}
    assert panel_power(10**7, 10**7, **options) == panel_power(MOST_RECORDS, MOST_CONTROLS, **options)
    nothing = panel_power(1, 1, tpr=Fraction(1, 2), at_fpr=Fraction(1, 100), alpha=Fraction(1, 20))
    assert (nothing.power, nothing.above, nothing.rank) == (0, 0, 0)


# --- coverage ---------------------------------------------------------------------------------------------------------


def judged(root: str) -> Judged:
    return Judged(
        certificate="urn:uuid:1", payload_sha256=PAYLOAD, keyid="k", model="model.pt", model_sha256=MODEL, root=root,
        verdict="NOT_REFUTED", rederived=1, claims=1,
    )  # fmt: skip


def wanting(*roots: str) -> Policy:
    return Policy(
        file="p.toml",
        sha256="",
        forget_roots=tuple(Batch(root=root, source=f"{number}.root") for number, root in enumerate(roots)),
        lines={"forget_root": 7},
    )


def test_each_batch_needs_a_trusted_certificate() -> None:
    first, second, third = ("1" * 64, "2" * 64, "3" * 64)
    files = [("a", judged(first)), ("b", judged(second)), ("c", None)]
    assert coverage(wanting(), files) is None
    covered = coverage(wanting(second, first), files)
    assert covered is not None
    assert covered.outcome == "ok"
    assert [fact.text.split()[-1] for fact in covered.found] == ["b", "a"]
    left_over = coverage(wanting(first, third), files)
    assert left_over is not None
    assert (left_over.outcome, left_over.where, len(left_over.found)) == ("violated", "p.toml:7", 1)
    assert f"root {third} (1.root) is not covered" in left_over.found[0].text
    untrusted = coverage(wanting(first), [("c", None)])
    assert untrusted is not None
    assert "nothing that is trusted" in untrusted.found[0].text


def test_many_open_batches_are_counted() -> None:
    found = coverage(wanting(*(f"{number:064d}" for number in range(40))), [])
    assert found is not None
    assert found.found[-1].text == "and 35 more"


def test_a_certificate_that_covers_no_batch_is_judged_all_the_same(tmp_path: Path) -> None:
    content = predicate()
    content["request"]["commitment"]["root"] = "d1" * 32
    at(content, "c-eps-procedure")["bound"] = "0.9000"
    report = decide(checked(content), demands(tmp_path))
    assert (outcome(report, "CU301"), outcome(report, "CU101")) == ("violated", "violated")
    refused = decide(checked(content, stated=None), demands(tmp_path))
    assert [one.rule for one in refused.findings] == ["CU001"], "what is not trusted covers nothing, and says nothing"


# --- words ------------------------------------------------------------------------------------------------------------


def test_pages_and_rules_say_the_same() -> None:
    assert set(HELP) == set(RULES)
    for rule, words in HELP.items():
        page = " ".join((PAGES / f"{rule}.md").read_text(encoding="utf-8").split())
        title = RULES[rule]
        assert page.startswith(f"# {rule}: {title[0].upper()}{title[1:]} ## What {words.what}"), rule
        assert f"## How to fix {words.fix}" in page, rule


def test_the_example_on_the_page_of_the_panel_is_right() -> None:
    page = (PAGES / "CU107.md").read_text(encoding="utf-8")
    found = panel_power(50, 360, tpr=Fraction(1, 20), at_fpr=Fraction(1, 1000), alpha=Fraction(1, 20))
    assert f"with probability {float(found.power):.2f}" in page


def test_no_text_of_the_gate_claims_too_much(tmp_path: Path) -> None:
    said = [text for words in HELP.values() for text in (words.what, words.fix)] + list(RULES.values())
    for rule, change, _ in UNMET:
        one = finding(rule, tmp_path, change)
        said += [one.title, one.means, one.next_step, one.allowed]
    for rule, beside, _ in BESIDES:
        one = finding(rule, tmp_path, beside=beside)
        said += [one.title, one.means, one.next_step, one.allowed]
    for text in said:
        assert not forbidden_in(text, ["en"]), text


def test_rule_ids_belong_to_their_family() -> None:
    assert list(RULES) == sorted(RULES)
    families = {"0": "trust", "1": "statistics", "2": "provenance", "3": "coverage", "4": "freshness", "5": "report"}
    assert {rule[2] for rule in RULES} == set(families)
    assert all(re.fullmatch(r"CU[0-5][0-9]{2}", rule) for rule in RULES)


def test_the_date_decides_nothing_but_age(tmp_path: Path) -> None:
    assert NOW.year == 2026
    assert POLICY.count(ROOT) == 1
    content = predicate()
    content["expiresAt"] = "2026-11-30T00:00:00Z"
    report = decide(checked(content), demands(tmp_path))
    assert [one.rule for one in report.blocking] == ["CU401"]


# --- on certificates that the checker itself accepts ------------------------------------------------------------------

GROUNDS = """schema = 1
[policy.require]
planned_tests = true
absent_all = true
replay = { wrong_max = "1/2", alpha = "1/4" }
"""
THEOREM = 'schema = 1\n[policy.require]\ntheorem_eps_max = { value = "1/2", delta = "1/100" }\n'


def judged_by(found: Any, folder: Path, text: str) -> dict[str, str]:
    """Judge an invented certificate whose claims the checker re-derived; returns the outcome of each rule."""
    found.state()
    result = found.check()
    assert result.stated == result.derived
    assert not result.rejected
    found_dates = replace(demands(folder, text), max_age=None)
    report = decide(result, found_dates)
    return {one.rule: one.outcome for one in report.findings} | {"verdict": result.derived}


def test_a_chain_an_absence_and_replayed_steps(tmp_path: Path) -> None:
    from fake_provenance import exact, old_checkpoint, still_there, unlike

    good = judged_by(exact(), tmp_path, GROUNDS)
    assert good["verdict"] == "EXACT_BY_PROVENANCE"
    assert (good["CU109"], good["CU204"], good["CU205"]) == ("ok", "ok", "ok")
    assert judged_by(exact(edit=still_there), tmp_path, GROUNDS)["CU204"] == "violated"
    assert judged_by(exact(edit=old_checkpoint), tmp_path, GROUNDS)["CU204"] == "violated"
    assert judged_by(exact(edit=unlike), tmp_path, GROUNDS)["CU205"] == "violated"
    tight = GROUNDS.replace('"1/2"', '"1/1000"')
    assert judged_by(exact(), tmp_path, tight)["CU205"] == "inconclusive"
    assert judged_by(exact(guarantee="none", level="EMPIRICAL"), tmp_path, GROUNDS)["CU204"] == "inconclusive"


def test_a_theorem_beside_the_tests(tmp_path: Path) -> None:
    from fake_theorem import certified

    good = judged_by(certified(), tmp_path, THEOREM)
    assert (good["verdict"], good["CU110"]) == ("BOUNDED_BY_THEOREM", "ok")
    tight = THEOREM.replace('"1/2"', '"1/100"')
    assert judged_by(certified(), tmp_path, tight)["CU110"] == "violated"


def test_the_panel_of_a_certificate_that_the_checker_accepts(tmp_path: Path) -> None:
    from fake_certificate import fake
    from fake_evidence import Knobs

    found = fake(Knobs())
    next(claim for claim in found.predicate["claims"] if claim["id"] == "m-auc")["kind"] = "attack"
    power = 'power = { tpr = "9/10", at_fpr = "1/10", prob = "1/2" }\n'
    text = f'schema = 1\n[policy.require]\nutility_drop_max = "1"\n{power}'
    seen = judged_by(found, tmp_path, text)
    assert (seen["CU107"], seen["CU108"]) == ("ok", "ok")
