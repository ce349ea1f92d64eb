"""The gate's reports for GitHub, GitLab and readers of Markdown, and which of them are written where."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from gate_case import KEYID, PAYLOAD, POLICY, one_violation
from gate_sound import github_is_sound, markdown_is_sound, runner_reads
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cu_certificates._gate.github import annotations_of, tell_runner
from cu_certificates._gate.gitlab import links_of, quality_of
from cu_certificates._gate.markdown import code, markdown_of
from cu_certificates._gate.output import Output, outputs_from, write_all
from cu_certificates.errors import UsageError
from cu_certificates.gate import GateReport

HERE = Path("/repository")


@pytest.fixture
def violated(tmp_path: Path) -> GateReport:
    return one_violation(tmp_path)


# --- GitHub -----------------------------------------------------------------------------------------------------------


def test_github(violated: GateReport) -> None:
    text = annotations_of(violated, HERE)
    github_is_sound(text)
    kind, properties, message = runner_reads(text.splitlines()[0])
    assert (kind, properties["file"], properties["line"]) == ("error", "cu-cert.toml", "5")
    assert properties["title"] == "CU101 eps lower bound exceeds policy"
    assert message.splitlines()[0].startswith("found: eps >= 0.7312")
    assert [runner_reads(line)[0] for line in text.splitlines()] == ["error", "error", "warning"]


def test_github_shows_nine_and_counts_the_rest(violated: GateReport) -> None:
    finding = next(one for one in violated.findings if one.rule == "CU101")
    for number, lines in ((9, 9), (10, 10), (40, 10)):
        text = annotations_of(replace(violated, findings=(finding,) * number), HERE)
        assert len(text.splitlines()) == lines
        if number > 9:
            assert text.splitlines()[-1] == f"::error title=cu-cert gate::{number - 9} more, see the summary of the job"


@settings(deadline=None)
@given(st.text(max_size=60))
def test_escapes_come_back_as_they_were(text: str) -> None:
    from cu_certificates._gate.github import _command

    line = _command("error", {"title": text}, text)
    assert "\n" not in line
    assert "\r" not in line
    kind, properties, message = runner_reads(line)
    assert (kind, properties["title"], message) == ("error", text, text)


def test_summary_and_outputs_go_where_the_runner_says(violated: GateReport, tmp_path: Path) -> None:
    summary, output = tmp_path / "summary", tmp_path / "output"
    output.write_text("earlier=1\n")
    tell_runner(violated, {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(output)})
    assert summary.read_text() == markdown_of(violated)
    assert output.read_text() == (
        f"earlier=1\ndecision=policy violated\nexit-code=1\nverdict=NOT_REFUTED\ncertificate-digest={PAYLOAD}\n"
    )
    tell_runner(violated, {})
    with pytest.raises(UsageError, match="GITHUB_OUTPUT names"):
        tell_runner(violated, {"GITHUB_OUTPUT": str(tmp_path / "no" / "output")})


def test_no_output_of_a_step_can_set_another(violated: GateReport, tmp_path: Path) -> None:
    judged = violated.judged[0]
    assert judged is not None
    forged = replace(violated, judged=(replace(judged, verdict="NOT_REFUTED\ndecision=policy satisfied"),))
    output = tmp_path / "output"
    with pytest.raises(UsageError, match="expected letters"):
        tell_runner(forged, {"GITHUB_OUTPUT": str(output)})
    assert not output.exists()


# --- GitLab -----------------------------------------------------------------------------------------------------------


def test_gitlab(violated: GateReport) -> None:
    issues = json.loads(quality_of(violated, HERE))
    assert [(one["check_name"], one["severity"]) for one in issues] == [
        ("CU101", "critical"),
        ("CU205", "major"),
        ("CU104", "info"),
    ]
    assert issues[0]["location"] == {"path": "cu-cert.toml", "lines": {"begin": 5}}
    assert len({one["fingerprint"] for one in issues}) == 3


def test_gitlab_links_to_reports_among_the_artifacts(violated: GateReport, tmp_path: Path) -> None:
    for folder in ("out", "a b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "report.html").write_text("x")
    files = ("out/certificate.sigstore.json", "a b/report.html", "gone/c.json", "../c.json", "/elsewhere/report.html")
    report = replace(violated, files=files, judged=violated.judged * 5)
    job = {"CI_JOB_URL": "https://gitlab.example/g/p/-/jobs/17"}
    links = json.loads(links_of(report, job, tmp_path))["cu-cert"]
    assert [link["external_link"]["url"] for link in links] == [
        "https://gitlab.example/g/p/-/jobs/17/artifacts/file/out/report.html",
        "https://gitlab.example/g/p/-/jobs/17/artifacts/file/a%20b/report.html",
    ]
    for url in ("", "javascript:alert(1)", "https://x/\n"):
        assert json.loads(links_of(report, {"CI_JOB_URL": url}, tmp_path)) == {"cu-cert": []}


# --- Markdown ---------------------------------------------------------------------------------------------------------


def test_markdown(violated: GateReport) -> None:
    text = markdown_of(violated)
    markdown_is_sound(text)
    assert text.startswith("## cu-cert gate: policy violated\n")
    assert "| CU101 eps lower bound | FAIL | eps lower bound exceeds policy | 1 |" in text
    assert "- exception CU104 until 2026-12-31 (used): `ticket 812`, approved by `dpo`" in text


@settings(deadline=None)
@given(st.text(max_size=30))
def test_a_code_span_holds_what_it_was_given(text: str) -> None:
    span = MarkdownIt("commonmark").renderInline(f"x {code(text)} y")
    assert re.fullmatch(r"x <code>[^<]*</code> y", span)


def test_markdown_stays_below_the_limit_of_a_job_summary(violated: GateReport) -> None:
    many = tuple(replace(finding, certificate=number) for number in range(1000) for finding in violated.findings)
    report = replace(
        violated, files=tuple("f" * 600 + str(n) for n in range(1000)), judged=violated.judged * 1000, findings=many
    )
    text = markdown_of(report)
    assert len(text.encode()) < 1024 * 1024
    assert "900 more certificates" in text
    assert re.search(r"[0-9]+ more findings; see the other reports\.", text)


# --- what is written, and where ---------------------------------------------------------------------------------------


def test_options() -> None:
    assert outputs_from([]) == (Output("text"),)
    assert outputs_from(["sarif=a=b.sarif"]) == (Output("text"), Output("sarif", Path("a=b.sarif")))
    assert outputs_from(["text", "github", "json=x"]) == (Output("text"), Output("github"), Output("json", Path("x")))
    assert outputs_from(["json"]) == (Output("json"),)


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (["sarf=x"], "'sarif' (did you mean that?)"),
        (["sarif="], "expected NAME or NAME=FILE"),
        ([""], "expected NAME"),
        (["json", "sarif"], "cannot share standard output"),
        (["text", "json"], "cannot share standard output"),
        (["text", "text"], "cannot share standard output"),
        (["json=x", "sarif=./x"], "two reports would go to"),
    ],
)
def test_options_that_contradict_each_other(stated: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        outputs_from(stated)


def test_one_report_that_cannot_be_written_keeps_no_other_from_its_reader(violated: GateReport, tmp_path: Path) -> None:
    outputs = outputs_from([f"json={tmp_path}/no/gate.json", f"sarif={tmp_path}/gate.sarif", f"junit={tmp_path}"])
    shown, problem = write_all(violated, outputs, environment={}, folder=HERE)
    assert shown == violated.to_text()
    assert isinstance(problem, UsageError)
    assert "gate.json" in str(problem)
    assert (tmp_path / "gate.sarif").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cu-cert.toml", "gate.sarif"]


def test_the_key_stands_in_the_summary_line(violated: GateReport) -> None:
    assert f"trusted key {KEYID}" in violated.to_text().splitlines()[-1]
    assert POLICY.count("\n") == 22  # lines in messages above count from here
