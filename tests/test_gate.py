"""The gate: each rule once satisfied and once not, precedence, exceptions, output that nothing can hijack."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from gate_case import (
    EXCEPTION,
    KEYID,
    MODEL,
    NASTY,
    NOW,
    PLAIN,
    POLICY,
    REPORT,
    ROOT,
    Change,
    at,
    checked,
    decide,
    demands,
    drop,
    hostile,
    outcome,
    predicate,
    set_in,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cu_cert.cli.gate import command
from cu_certificates.check.checker import PREDICATE_TYPE
from cu_certificates.errors import MissingFileError, UntrustedError, UsageError
from cu_certificates.gate import judge, run_gate
from cu_certificates.policy import RULES, Policy, load_policy

NEVER = r"(?i)\b(erased|forgotten|anonymous|compliant|guaranteed|passed|verified|proof)\b"


@pytest.fixture
def policy(tmp_path: Path) -> Callable[..., Policy]:
    return lambda *text, **changes: demands(tmp_path, *text, **changes)


Make = Callable[..., Policy]


def test_a_certificate_that_satisfies_every_demand(policy: Make) -> None:
    report = decide(checked(predicate()), policy(extra=EXCEPTION.format(rule="CU104", expires="2026-12-31")))
    assert {finding.rule: finding.outcome for finding in report.findings} == dict.fromkeys(RULES, "ok")
    assert (report.exit_code, report.decision) == (0, "policy satisfied")
    assert report.not_demanded == ()
    assert report.to_text().splitlines()[-1] == (
        f"Checks: signature ok · trusted key {KEYID} · subject ok · 20/20 claims re-derived · 0 violations · "
        "0 inconclusive · 1 exception (expires 2026-12-31) · policy satisfied"
    )


def test_the_defaults_demand_a_verdict_and_a_current_certificate_only(policy: Make) -> None:
    report = decide(checked(predicate()), policy("schema = 1\n"))
    assert [finding.rule for finding in report.findings] == ["CU001", "CU002", "CU102", "CU401"]
    assert report.exit_code == 0
    assert set(report.not_demanded) == set(RULES) - {"CU001", "CU002", "CU102", "CU401"}
    assert "Not demanded by cu-cert.toml: CU003, CU004, CU101," in report.to_text()


FAILURES = [
    ("CU101", set_in("c-eps-procedure.bound", "0.5001"), "violated"),
    ("CU101", set_in("c-eps-artifact.bound", "0.5001"), "violated"),
    ("CU101", lambda c: at(c, "c-eps-procedure").update(planned=False, bound="2.0000"), "violated"),
    ("CU101", lambda c: at(c, "c-eps-procedure").update(delta="1/1000", bound="2.0000"), "violated"),
    ("CU101", set_in("c-eps-procedure.delta", "1/1000"), "inconclusive"),
    ("CU101", set_in("c-power-procedure.maxEps", "0.5000"), "inconclusive"),
    ("CU101", set_in("plan.testedEps", "1"), "inconclusive"),
    ("CU101", drop("c-eps-artifact"), "inconclusive"),
    ("CU101", drop("c-power-artifact"), "inconclusive"),
    ("CU101", set_in("c-neg-procedure.outcome", "failed"), "inconclusive"),
    ("CU103", set_in("c-power-procedure.reached", False), "inconclusive"),
    ("CU103", set_in("c-power-procedure.detectEps", "2.0001"), "inconclusive"),
    ("CU103", set_in("c-power-artifact.reached", False), "inconclusive"),
    ("CU103", set_in("c-pos-artifact.outcome", "missed"), "inconclusive"),
    ("CU103", set_in("c-neg-artifact.outcome", "failed"), "inconclusive"),
    ("CU103", drop("c-pos-procedure"), "inconclusive"),
    ("CU103", drop("c-power-procedure"), "inconclusive"),
    ("CU104", set_in("plan.attacks", ["eps-group"]), "violated"),
    ("CU104", drop("c-eps-procedure"), "inconclusive"),
    ("CU105", set_in("c-utility.accuracyAtLeast", "0.8999"), "violated"),
    ("CU105", set_in("c-utility.set", "retain"), "inconclusive"),
    ("CU105", drop("c-utility"), "inconclusive"),
    ("CU106", set_in("plan.alphaTotal", "1/19"), "violated"),
    ("CU201", set_in("unlearning.method", "scrub"), "violated"),
    ("CU201", set_in("unlearning.method", None), "violated"),
    ("CU202", set_in("auditor.independence", "internal"), "violated"),
    ("CU202", set_in("auditor.independence", "External"), "violated"),
    ("CU301", set_in("request.commitment.root", "c1" * 32), "violated"),
    ("CU401", lambda c: c.update(issuedAt="2026-09-02T11:59:59Z"), "violated"),
    ("CU401", lambda c: c.update(expiresAt="2026-12-01T12:00:00Z"), "violated"),
    ("CU401", lambda c: c.update(issuedAt="2026-12-03T00:00:00Z"), "violated"),
]


@pytest.mark.parametrize(("rule", "change", "expected"), FAILURES)
def test_each_rule_refuses_and_dropping_any_claim_never_helps(
    policy: Make, rule: str, change: Change, expected: str
) -> None:
    content, demands = predicate(), policy()
    change(content)
    report = decide(checked(content), demands)
    assert outcome(report, rule) == expected
    assert report.exit_code == (1 if any(f.outcome == "violated" for f in report.findings) else 3)
    finding = next(finding for finding in report.findings if finding.rule == rule)
    assert finding.where.startswith("cu-cert.toml:")
    assert finding.means
    assert finding.next_step
    assert not re.search(NEVER, report.to_text())
    for claim in content["claims"]:
        rest = deepcopy(content) | {"claims": [other for other in content["claims"] if other["id"] != claim["id"]]}
        # A voided question is the checker's business too: without its failed control it derives INCONCLUSIVE.
        derived = "INCONCLUSIVE" if claim["id"].startswith("c-neg") else "NOT_REFUTED"
        assert decide(checked(rest, stated=derived, derived=derived), demands).exit_code != 0, claim["id"]


def test_other_values_that_satisfy_the_rules(policy: Make) -> None:
    content = predicate()
    at(content, "c-eps-procedure")["attack"] = "lira"
    content["plan"]["attacks"].append("lira")
    demands = policy(swap=('"eps-coinflip", "eps-group"', '"lira"'))
    assert decide(checked(content), demands).exit_code == 0
    content["auditor"]["independence"] = "internal"
    demands = policy(swap=('independence = "external"', 'independence = "internal"'))
    assert outcome(decide(checked(content), demands), "CU202") == "ok"


def test_the_statement_must_have_the_demanded_type(policy: Make) -> None:
    demands = policy(swap=(PREDICATE_TYPE, "https://example.org/other/v1"))
    report = decide(checked(predicate()), demands)
    assert (outcome(report, "CU203"), report.exit_code) == ("violated", 1)


def test_a_claim_that_was_not_re_derived_supports_nothing(policy: Make) -> None:
    for identifier, rules in {
        "c-eps-procedure": ("CU101", "CU104", "CU109"),
        "c-power-procedure": ("CU101", "CU103", "CU109"),
        "c-pos-procedure": ("CU103", "CU109"),
        "c-neg-artifact": ("CU109",),
        "c-utility": ("CU105", "CU107", "CU108"),
        "c-count-request": ("CU107",),
        "c-theorem": ("CU110",),
        "c-absent": ("CU204",),
        "c-chain": ("CU204",),
        "c-replay": ("CU205",),
    }.items():
        report = decide(checked(predicate(), statuses={identifier: "unverified"}), policy())
        found = {finding.rule for finding in report.findings if finding.outcome == "inconclusive"}
        assert found == set(rules), identifier
        assert report.exit_code == 3


@pytest.mark.parametrize(
    ("stated", "derived", "missing", "expected"),
    [
        ("REFUTED", "REFUTED", (), 1),
        ("INCONCLUSIVE", "INCONCLUSIVE", (), 3),
        ("EXACT_BY_PROVENANCE", "EXACT_BY_PROVENANCE", (), 1),  # POLICY accepts NOT_REFUTED alone
        ("NOT_REFUTED", "INCONCLUSIVE", ("plan.json",), 3),
        ("REFUTED", "INCONCLUSIVE", ("plan.json",), 1),  # leaving evidence out must not soften a refutation
        ("NOT_REFUTED", "REFUTED", (), 4),
        ("NOT_REFUTED", "INCONCLUSIVE", (), 4),
        (None, "NOT_REFUTED", (), 4),
    ],
)
def test_verdicts(policy: Make, stated: str | None, derived: str, missing: tuple[str, ...], expected: int) -> None:
    result = checked(predicate(), stated=stated, derived=derived, missing=missing)
    report = decide(result, policy())
    assert report.exit_code == expected
    assert outcome(report, "CU001") == ("untrusted" if expected == 4 else "ok")


def test_warn_covers_what_is_inconclusive_but_neither_missing_evidence_nor_a_refutation(policy: Make) -> None:
    warn = policy(extra='on_inconclusive = "warn"\n')
    result = checked(predicate(), stated="INCONCLUSIVE", derived="INCONCLUSIVE")
    report = decide(result, warn)
    assert (report.exit_code, report.counts()["warnings"]) == (0, 1)
    assert "CU102 WARN" in report.to_text()
    assert "1 warning" in report.to_text().splitlines()[-1]
    missing = checked(predicate(), derived="INCONCLUSIVE", missing=("evidence/slots.jsonl",))
    report = decide(missing, warn)
    assert report.exit_code == 3
    assert [finding.rule for finding in report.findings if finding.exit_code] == ["CU002"]
    assert decide(checked(predicate(), stated="REFUTED", derived="REFUTED"), warn).exit_code == 1


def test_precedence_four_before_one_before_three(policy: Make) -> None:
    content = predicate()
    at(content, "c-power-procedure")["reached"] = False
    assert decide(checked(content), policy()).exit_code == 3
    at(content, "c-eps-artifact")["bound"] = "0.9000"
    assert decide(checked(content), policy()).exit_code == 1
    result = checked(content, statuses={"c-model": "rejected"})
    report = decide(result, policy(extra=EXCEPTION.format(rule="CU104", expires="2026-11-30")))
    assert report.exit_code == 4
    assert [finding.rule for finding in report.findings] == ["CU001", "CU402"], "its content is not judged"


def test_the_digest_is_the_model_s_and_not_another_subject_s(policy: Make) -> None:
    assert decide(checked(predicate()), policy(), model_sha256=MODEL).exit_code == 0
    for other in (REPORT, "00" * 32):
        report = decide(checked(predicate()), policy(), model_sha256=other)
        assert report.exit_code == 4
        assert other in report.to_text()


@pytest.mark.parametrize(
    "change",
    [
        set_in("plan.alphaTotal", 1),
        set_in("plan.questions", "procedure"),
        set_in("c-eps-procedure.bound", "-1"),
        set_in("c-eps-procedure.bound", "0.30000000000000000000000"),
        lambda content: content.pop("auditor"),
        lambda content: content.update(issuedAt="yesterday"),
        lambda content: content["scope"]["model"].update(digest="x"),
    ],
)
def test_a_malformed_certificate_is_untrusted_not_a_crash(
    policy: Make, change: Callable[[dict[str, Any]], None]
) -> None:
    content = predicate()
    change(content)
    assert decide(checked(content), policy()).exit_code == 4


def test_an_exception_covers_its_rule_until_its_day(policy: Make) -> None:
    content = predicate()
    content["plan"]["attacks"] = ["eps-group"]
    report = decide(checked(content), policy(extra=EXCEPTION.format(rule="CU104", expires="2026-12-01")))
    assert (report.exit_code, report.counts()["excused"]) == (0, 1)
    text = report.to_text()
    assert "CU104 EXCUSED" in text
    assert "Exception CU104 until 2026-12-01 (used): ticket 812; approved by dpo cu-cert.toml:23" in text
    assert json.loads(report.to_json())["exceptions"][0]["approvedBy"] == "dpo"

    report = decide(checked(content), policy(extra=EXCEPTION.format(rule="CU104", expires="2026-11-30")))
    assert (outcome(report, "CU402"), report.exit_code) == ("violated", 1)
    assert [finding.rule for finding in report.findings if finding.exit_code] == ["CU104", "CU402"]
    assert "(expired)" in report.to_text()

    report = decide(checked(predicate()), policy(extra=EXCEPTION.format(rule="CU104", expires="2026-11-30")))
    assert [finding.rule for finding in report.findings if finding.exit_code] == ["CU402"], "even when not needed"


def test_no_exception_covers_a_refutation(policy: Make) -> None:
    demands = policy(extra=EXCEPTION.format(rule="CU102", expires="2026-12-31"))
    assert decide(checked(predicate(), stated="INCONCLUSIVE", derived="INCONCLUSIVE"), demands).exit_code == 0
    assert decide(checked(predicate(), stated="REFUTED", derived="REFUTED"), demands).exit_code == 1


@settings(deadline=None)
@given(
    st.integers(0, 20_000).map(lambda n: f"{n // 10_000}.{n % 10_000:04d}"),
    st.sampled_from(["0.5", "0.50", "1/2", "5e-1", "0.3333", "1/3", "1"]),
)
def test_the_message_and_the_decision_agree(tmp_path_factory: pytest.TempPathFactory, bound: str, limit: str) -> None:
    path = tmp_path_factory.mktemp("policy") / "cu-cert.toml"
    path.write_text(POLICY.replace('"0.50"', f'"{limit}"'))
    content = predicate()
    content["plan"]["testedEps"] = "0"
    at(content, "c-eps-procedure")["bound"] = bound
    at(content, "c-eps-artifact")["bound"] = "0.0000"
    report = decide(checked(content), load_policy(path))
    finding = next(one for one in json.loads(report.to_json())["findings"] if one["rule"] == "CU101")
    assert finding["found"][0]["text"].startswith(f"eps >= {bound} ")
    assert finding["allowed"].startswith(f"eps_lower_max = {limit} ")
    top, _, bottom = limit.partition("/")
    assert (finding["outcome"] == "violated") == (Decimal(bound) * Decimal(bottom or 1) > Decimal(top))


def test_at_the_boundary_the_bound_is_within_the_policy(policy: Make) -> None:
    report = decide(checked(predicate()), policy(swap=('"0.50"', '"0.5"')))
    assert at(predicate(), "c-eps-artifact")["bound"] == "0.5000"
    assert outcome(report, "CU101") == "ok"


def test_the_failure_text(policy: Make) -> None:
    content = predicate()
    at(content, "c-eps-procedure")["bound"] = "0.7312"
    lines = decide(checked(content), policy()).to_text().splitlines()
    assert lines[0] == "CU101 FAIL  eps lower bound exceeds policy".ljust(55) + "model.pt sha256:7a7a7a7a…"
    assert lines[1].startswith("  found     eps >= 0.7312  (eps-coinflip, delta 0, alpha 1/40, 30 of 48 guesses right)")
    assert lines[1].endswith("claim c-eps-procedure [proved]")
    assert lines[2].startswith("  allowed   eps_lower_max = 0.50 at delta 0 ")
    assert lines[2].endswith("cu-cert.toml:5")
    assert lines[3].startswith("  means     ")
    assert lines[4].startswith("  next      ")
    assert lines[4].endswith(";  docs/rules/CU101.md")
    assert lines[5].startswith("CU001 ok    ")
    assert lines[-1].startswith("Checks: ")
    assert "1 violation ·" in lines[-1]
    assert lines[-1].endswith("policy violated")


def test_the_json_report_holds_the_same_facts(policy: Make) -> None:
    content = predicate()
    at(content, "c-eps-procedure")["bound"] = "0.7312"
    report = decide(checked(content), policy(), file="certificate.sigstore.json")
    document = json.loads(report.to_json())
    assert document["schema"] == "cu-cert-gate/1"
    assert (document["decision"], document["exitCode"]) == ("policy violated", 1)
    assert document["judgedAt"] == "2026-12-01T12:00:00Z"
    (certificate,) = document["certificates"]
    assert (certificate["file"], certificate["accepted"]) == ("certificate.sigstore.json", True)
    assert certificate["subject"] == {"name": "model.pt", "sha256": MODEL}
    assert (certificate["keyid"], certificate["requestRoot"]) == (KEYID, ROOT)
    assert document["policy"] == {"file": "cu-cert.toml", "sha256": policy().sha256}
    assert document["error"] is None
    text = report.to_text()
    for finding in document["findings"]:
        assert f"{finding['rule']} " in text
        assert finding["help"] == f"docs/rules/{finding['rule']}.md"
        if finding["outcome"] != "ok":
            told = [finding["title"], finding["allowed"], finding["means"], finding["next"], finding["where"]]
            told += [fact["text"] for fact in finding["found"]] + [fact["claim"] for fact in finding["found"]]
            assert all(part in text for part in told)


@settings(deadline=None)
@given(NASTY)
def test_no_quoted_text_can_command_a_terminal_or_a_runner(
    tmp_path_factory: pytest.TempPathFactory, nasty: str
) -> None:
    for report in hostile(nasty, tmp_path_factory.mktemp("policy")):
        text = report.to_text()
        assert report.exit_code == 4
        for line in text.removesuffix("\n").split("\n"):
            assert line.isprintable(), line
            assert line.lstrip().startswith(("CU", "found", "allowed", "means", "next", "Exception", "Not", "Checks:"))
            assert "##" not in line
        for line in report.to_json().splitlines():
            assert not line.lstrip().startswith("::")
            assert "##[" not in line
        json.loads(report.to_json())


def test_many_facts_are_cut_short(policy: Make) -> None:
    names = tuple(f"evidence/{number}.jsonl" for number in range(30))
    text = decide(checked(predicate(), derived="INCONCLUSIVE", missing=names), policy()).to_text()
    assert text.count("is not at hand") == 5
    assert "and 25 more" in text


def test_judging_needs_a_time_zone(policy: Make) -> None:
    with pytest.raises(UsageError, match="time zone"):
        judge(checked(predicate()), policy(), now=datetime(2026, 12, 1), keyid=KEYID, payload_sha256="ee" * 32)


# --- with a file ------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put a verification in place that accepts every file but ``forged.json`` and remembers how it was called."""
    calls: list[dict[str, Any]] = []

    def verify(file: Path, **options: Any) -> SimpleNamespace:
        calls.append(options)
        if file.name == "forged.json":
            raise UntrustedError("signature", "does not match;\n::error::ask the auditor")
        if file.name == "gone.json":
            raise MissingFileError("gone.json does not exist; give the path of a readable file")
        return SimpleNamespace(
            check=checked(predicate()), keyid=KEYID, payload_sha256="ee" * 32, signatures=(), stamped=None
        )

    monkeypatch.setattr("cu_certificates.verify.verify", verify)
    monkeypatch.setattr("cu_certificates.trust.reader_trust", lambda path: path or Path("/config/trust.toml"))
    monkeypatch.setenv("CU_CERT_CONFIG", "/config")
    return calls


def test_run_gate_opens_then_judges(policy: Make, opened: list[dict[str, Any]]) -> None:
    report = run_gate(Path("a.json"), policy=policy(PLAIN), model_digest=MODEL, evidence=Path("e"), now=NOW)
    assert report.exit_code == 0
    assert opened[0] == {
        "trust": Path("/config/trust.toml"),
        "evidence": Path("e"),
        "now": NOW,
        "allow_missing_evidence": True,
        "allow_expired": True,
    }


def test_whose_trust_file_counts(policy: Make, opened: list[dict[str, Any]], tmp_path: Path) -> None:
    demands = policy(PLAIN, extra='[policy.trust]\nfile = "ours.toml"\n')
    run_gate(Path("a.json"), policy=demands, model_digest=MODEL, now=NOW)
    run_gate(Path("a.json"), policy=demands, model_digest=MODEL, trust=Path("mine.toml"), now=NOW)
    assert [call["trust"] for call in opened] == [tmp_path / "ours.toml", Path("mine.toml")]


def test_a_gate_must_be_bound_to_a_model(policy: Make, opened: list[dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match="not bound to a model"):
        run_gate(Path("a.json"), policy=policy(PLAIN), now=NOW)
    for digest in ("", "xyz", MODEL[:-1], MODEL + "\n0"):
        with pytest.raises(UsageError, match="64 hexadecimal"):
            run_gate(Path("a.json"), policy=policy(PLAIN), model_digest=digest, now=NOW)
    assert opened == []


def test_the_digest_is_compared_in_either_spelling(policy: Make, opened: list[dict[str, Any]]) -> None:
    for digest in (MODEL, MODEL.upper(), f"sha256:{MODEL}"):
        assert run_gate(Path("a.json"), policy=policy(PLAIN), model_digest=digest, now=NOW).exit_code == 0
    assert run_gate(Path("a.json"), policy=policy(PLAIN), model_digest=REPORT, now=NOW).exit_code == 4


def test_an_untrusted_file_is_a_decision_and_a_missing_one_an_error(policy: Make, opened: list[dict[str, Any]]) -> None:
    report = run_gate(Path("forged.json"), policy=policy(PLAIN), model_digest=MODEL, now=NOW)
    assert report.exit_code == 4
    assert report.judged == (None,)
    text = report.to_text()
    assert "CU001 FAIL" in text
    assert "signature: does not match" in text
    assert not any(line.startswith("::") for line in text.splitlines())
    assert text.splitlines()[-1] == "Checks: certificate refused · nothing else in it was judged · untrusted"
    assert json.loads(report.to_json())["certificates"] == [{"file": "forged.json", "accepted": False}]
    with pytest.raises(MissingFileError):
        run_gate(Path("gone.json"), policy=policy(PLAIN), model_digest=MODEL, now=NOW)


@pytest.fixture
def invoke(tmp_path: Path, opened: list[dict[str, Any]]) -> Callable[..., Any]:
    """Call the verb; a limit that the certificate cannot meet is chosen by the policy."""
    app = typer.Typer()
    app.command()(command)
    # The verb takes the time from the clock, so the certificate's own dates must not decide.
    text = PLAIN.replace('max_age = "90d"\n', "")

    def call(*options: str, file: str = "a.json", value: str = "0.50") -> Any:
        path = tmp_path / "policy.toml"
        path.write_text(text.replace('"0.50"', f'"{value}"'))
        return CliRunner().invoke(app, [file, "--policy", str(path), *options])

    return call


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the certificate's dates hold whatever today is."""
    from cu_certificates._gate import rules

    monkeypatch.setitem(rules.JUDGES, "CU401", lambda case: None)


@pytest.mark.usefixtures("current")
def test_the_verb_exits_with_the_decision(invoke: Callable[..., Any], tmp_path: Path) -> None:
    good = invoke("--model-digest", MODEL)
    assert (good.exit_code, good.output.splitlines()[-1].endswith("policy satisfied")) == (0, True)
    assert invoke("--model-digest", MODEL, value="0.40").exit_code == 1
    assert invoke("--model-digest", MODEL, file="forged.json").exit_code == 4
    assert invoke("--model-digest", MODEL, "--exit-zero", file="forged.json").exit_code == 0


@pytest.mark.usefixtures("current")
def test_the_verb_writes_its_report_before_it_exits(invoke: Callable[..., Any], tmp_path: Path) -> None:
    output = tmp_path / "gate.json"
    run = invoke("--model-digest", MODEL, "--json", "-o", str(output), value="0.40")
    assert run.exit_code == 1
    assert json.loads(run.stdout)["exitCode"] == json.loads(output.read_text())["exitCode"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate.json", "policy.toml"]
    nowhere = invoke("--model-digest", MODEL, "-o", str(tmp_path / "no" / "gate.json"), value="0.40")
    assert isinstance(nowhere.exception, UsageError)
    assert "CU101 FAIL" in nowhere.output, "the decision is shown although the file cannot be written"


def test_exit_zero_hides_no_error(invoke: Callable[..., Any]) -> None:
    assert isinstance(invoke("--exit-zero").exception, UsageError)
    assert isinstance(invoke("--exit-zero", "--model-digest", MODEL, file="gone.json").exception, MissingFileError)
