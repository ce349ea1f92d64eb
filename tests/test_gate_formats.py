"""The gate's output formats: the same facts in each, the form that each service reads, nothing that can break out."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import jsonschema
import pytest
from gate_case import (
    NASTY,
    NOW,
    at,
    checked,
    decide,
    demands,
    hostile,
    one_violation,
    outcome,
    predicate,
)
from gate_sound import github_is_sound, junit_is_sound, markdown_is_sound, sarif_is_sound
from hypothesis import given, settings
from sarif_subset import SARIF

from cu_certificates._gate.github import outputs_of
from cu_certificates._gate.gitlab import quality_of
from cu_certificates._gate.json import json_of
from cu_certificates._gate.junit import junit_of
from cu_certificates._gate.output import FORMATS, render
from cu_certificates._gate.place import fingerprints, repository_path, uri_of
from cu_certificates._gate.sarif import sarif_of
from cu_certificates.gate import GateReport, nothing_judged

HERE = Path("/repository")


@pytest.fixture
def violated(tmp_path: Path) -> GateReport:
    return one_violation(tmp_path)


def test_the_fixture_is_what_it_says(violated: GateReport) -> None:
    assert [finding.rule for finding in violated.blocking] == ["CU101", "CU205"]
    assert (outcome(violated, "CU104"), violated.exit_code) == ("violated", 1)


# --- every format -----------------------------------------------------------------------------------------------------


def everything(report: GateReport) -> dict[str, str]:
    return {name: render(report, name, environment={}, folder=HERE) for name in FORMATS}


def test_every_format_tells_the_same_facts(violated: GateReport) -> None:
    for name, text in everything(violated).items():
        plain = text.replace("%2C", ",").replace("%3A", ":") if name == "github" else text
        if name == "gitlab-annotations":
            continue  # links alone
        for told in ("CU101", "CU104", "CU205", "0.7312", "0.50 at delta 0", "ticket 812", "2026-12-31"):
            assert told in plain, (name, told)
        for told in ("policy violated", "nothing was judged"):
            assert (told in plain) == (told == "policy violated" and name in ("text", "json", "markdown", "junit"))


def test_a_gate_that_could_not_judge_says_so_in_every_format() -> None:
    report = nothing_judged(["a.json"], "cu-cert.toml", "cu-cert.toml:3: unknown key\n::error::x", NOW)
    assert (report.exit_code, report.decision) == (2, "nothing was judged")
    for name, text in everything(report).items():
        if name != "gitlab-annotations":
            assert re.search("(?i)nothing was judged", text), name
            assert "unknown key" in text, name
        assert not any(line.startswith("::error::x") for line in text.splitlines()), name
    run = json.loads(sarif_of(report, HERE))["runs"][0]
    assert run["invocations"][0]["executionSuccessful"] is False
    assert run["results"] == []
    assert json.loads(json_of(report))["exitCode"] == 2
    assert ElementTree.fromstring(junit_of(report)).get("errors") == "1"
    assert len(json.loads(quality_of(report, HERE))) == 1
    assert outputs_of(report)["decision"] == "nothing was judged"


def test_two_renders_are_the_same_bytes_and_tell_neither_time_nor_host(violated: GateReport) -> None:
    first, again = everything(violated), everything(violated)
    assert first == again
    later = everything(replace(violated, now=NOW.replace(hour=13)))
    assert {name for name in FORMATS if first[name] != later[name]} == {"json"}


@settings(deadline=None, max_examples=60)
@given(NASTY)
def test_no_format_lets_a_quoted_text_out(tmp_path_factory: pytest.TempPathFactory, nasty: str) -> None:
    folder = tmp_path_factory.mktemp("p")
    reports = [*hostile(nasty, folder), nothing_judged([nasty], nasty, nasty, NOW)]
    for report in reports:
        texts = everything(report)
        for name, text in texts.items():
            text.encode("utf-8", "replace")
            allowed = "\n " if name != "github" else "\n"
            for line in text.split("\n"):
                assert line.isprintable(), (name, line)
                assert "##[" not in line
                assert name == "github" or not line.lstrip().startswith("::"), (name, line)
            assert {character for character in text if not character.isprintable()} <= set(allowed)
        sarif_is_sound(texts["sarif"])
        junit_is_sound(texts["junit"], report)
        github_is_sound(texts["github"])
        markdown_is_sound(texts["markdown"])
        for issue in json.loads(texts["gitlab"]):
            assert set(issue) == {"check_name", "description", "fingerprint", "severity", "location"}
        json.loads(texts["json"])


# --- SARIF ------------------------------------------------------------------------------------------------------------


def test_sarif(violated: GateReport) -> None:
    text = sarif_of(violated, HERE)
    sarif_is_sound(text)
    results = {result["ruleId"]: result for result in json.loads(text)["runs"][0]["results"]}
    assert set(results) == {"CU101", "CU104", "CU205"}, "what is ok is no alert"
    eps, excused, left_open = results["CU101"], results["CU104"], results["CU205"]
    assert (eps["kind"], eps["level"]) == ("fail", "error")
    place = eps["locations"][0]
    assert place["physicalLocation"] == {"artifactLocation": {"uri": "cu-cert.toml"}, "region": {"startLine": 5}}
    assert place["logicalLocations"] == [{"name": "c-eps-procedure", "kind": "claim"}]
    assert excused["suppressions"][0]["justification"] == "ticket 812 (until 2026-12-31)"
    assert excused["level"] == "note"
    assert left_open["kind"] == "review"
    assert "level" not in left_open


def test_the_subset_schema_refuses_what_the_standard_refuses(violated: GateReport) -> None:
    good = json.loads(sarif_of(violated, HERE))
    changes: list[Callable[[dict[str, object]], object]] = [
        lambda run: run.update(extra=1),
        lambda run: run["results"][0].update(level="fatal"),  # type: ignore[index]
        lambda run: run["results"][0].update(kind="review"),  # type: ignore[index]
        lambda run: run["results"][0]["locations"][0]["physicalLocation"]["region"].update(startLine=0),  # type: ignore[index]
        lambda run: run["results"][0].pop("message"),  # type: ignore[index]
    ]
    for change in changes:
        document = json.loads(json.dumps(good))
        change(document["runs"][0])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, SARIF)


def test_a_fingerprint_outlives_a_retraining_and_tells_certificates_apart(tmp_path: Path) -> None:
    def prints(*roots: str, digest: str = "7a" * 32, name: str = "model.pt") -> list[str]:
        content = predicate()
        content["scope"]["model"].update(name=name, digest={"sha256": digest})
        at(content, "c-eps-procedure")["bound"] = "0.9000"
        one = decide(checked(content), demands(tmp_path))
        report = replace(
            one,
            files=tuple(roots),
            judged=one.judged * len(roots),
            findings=tuple(
                replace(finding, certificate=number) for number in range(len(roots)) for finding in one.findings
            ),
        )
        shown = [finding for finding in report.findings if finding.rule == "CU101"]
        return [fingerprint for _, fingerprint in fingerprints(report, shown)]

    (first,) = prints("a")
    assert prints("a", digest="8b" * 32) == [first], "the same alert after a retraining"
    assert prints("other.json") == [first], "whatever the file is called"
    assert prints("a", name="other.pt") != [first]
    two = prints("a", "b")
    assert two[0] == first
    assert len(set(two)) == 2


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("cu-cert.toml", "cu-cert.toml"),
        ("a b/ü#?.toml", "a%20b/%C3%BC%23%3F.toml"),
        ("/repository/sub/p.toml", "sub/p.toml"),
        ("/elsewhere/p.toml", "file:///elsewhere/p.toml"),
        ("p\n::error::.toml", "p%0A%3A%3Aerror%3A%3A.toml"),
    ],
)
def test_where_the_policy_stands(name: str, uri: str) -> None:
    assert uri_of(name, HERE) == uri
    assert unquote(uri_of(name, HERE)).removeprefix("file://") == repository_path(name, HERE)


# --- JUnit ------------------------------------------------------------------------------------------------------------


def test_junit(violated: GateReport) -> None:
    text = junit_of(violated)
    junit_is_sound(text, violated)
    cases = {case.attrib["name"].split()[0]: case for case in ElementTree.fromstring(text).iter("testcase")}
    failure, skipped, error = (
        cases["CU101"].find("failure"),
        cases["CU104"].find("skipped"),
        cases["CU205"].find("error"),
    )
    assert failure is not None
    assert failure.attrib == {"type": "CU101", "message": "eps lower bound exceeds policy"}
    assert failure.text is not None
    assert "found: eps >= 0.7312" in failure.text
    assert "policy: cu-cert.toml:5" in failure.text
    assert skipped is not None
    assert skipped.text is not None
    assert "excused: until 2026-12-31 by dpo: ticket 812" in skipped.text
    assert error is not None
    assert list(cases["CU102"]) == []
