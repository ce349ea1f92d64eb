"""The gate's report as Markdown, for a job summary or a merge request.

Table cells hold words of ours alone. Whatever was quoted stands in code spans, where neither markup nor links nor
mentions come to life.
"""

import re
from typing import Final

from cu_certificates._gate.case import Finding, clean
from cu_certificates._gate.place import told
from cu_certificates._gate.report import Report, label
from cu_certificates._gate.text import exception_state, summary
from cu_certificates._policy_types import RULES

MAX_DETAILS: Final = 600_000
"""Bytes of facts: a job summary may have 1 MiB on GitHub, and one that is too large is dropped as a whole."""

MAX_FILES: Final = 100
MAX_ROWS: Final = 500
MAX_EXCEPTIONS: Final = 50

_RUNS: Final = re.compile("`+")


def code(text: str) -> str:
    """Return quoted text as a code span that it cannot leave.

    Args:
        text: Any text; characters that could start a line are taken out.
    """
    shown = clean(text) or " "
    longest = max((len(run) for run in _RUNS.findall(shown)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def markdown_of(report: Report) -> str:
    """Return the report: the decision, a table of all findings, and the facts behind those that are not ok.

    Args:
        report: What the gate decided.
    """
    lines = [f"## cu-cert gate: {report.decision}", ""]
    if report.error:
        lines += [f"Nothing was judged: {code(report.error)}", ""]
    lines += [f"{number}. certificate {code(file)}" for number, file in enumerate(report.files[:MAX_FILES], start=1)]
    lines += ["", *_more(len(report.files) - MAX_FILES, "certificates")]
    if report.findings:
        lines += ["| rule | outcome | | certificate |", "|---|---|---|---|"]
        lines += [_row(finding) for finding in report.worst_first[:MAX_ROWS]]
        lines += ["", *_more(len(report.findings) - MAX_ROWS, "findings")]
    lines += _details(report)
    lines += [
        f"- exception {exception.rule} until {exception.expires} ({exception_state(exception, report)}): "
        f"{code(exception.reason)}, approved by {code(exception.approved_by)}"
        for exception in report.exceptions[:MAX_EXCEPTIONS]
    ]
    if report.not_demanded:
        lines += ["", f"Not demanded: {', '.join(report.not_demanded)}"]
    lines += ["", code(summary(report))]
    return "\n".join(lines) + "\n"


def _more(left_out: int, what: str) -> list[str]:
    return [f"{left_out} more {what}; see the other reports.", ""] if left_out > 0 else []


def _row(finding: Finding) -> str:
    number = "all" if finding.certificate is None else str(finding.certificate + 1)
    return f"| {finding.rule} {RULES[finding.rule]} | {label(finding)} | {finding.title} | {number} |"


def _details(report: Report) -> list[str]:
    """Return the facts behind the findings, as many as there is room for."""
    lines: list[str] = []
    room = MAX_DETAILS
    shown = [finding for finding in report.worst_first if finding.outcome != "ok"]
    for done, finding in enumerate(shown):
        block = [f"### {finding.rule} {label(finding)}: {finding.title}", ""]
        block += [f"- {word}: {code(line)}" for word, line in told(finding, report)]
        if finding.where:
            block.append(f"- policy: {code(finding.where)}")
        block.append("")
        room -= sum(len(line.encode("utf-8", "replace")) + 1 for line in block)
        if room < 0:
            return [*lines, *_more(len(shown) - done, "findings")]
        lines += block
    return lines
