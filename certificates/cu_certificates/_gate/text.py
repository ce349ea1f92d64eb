"""The gate's report for a person at a terminal: one block a finding, and a last line that sums up."""

from typing import Final

from cu_certificates._gate.case import Finding, clean
from cu_certificates._gate.report import Report, label
from cu_certificates._policy_types import PolicyException

_TITLE_WIDTH: Final = 54
_FACT_WIDTH: Final = 90


def text_of(report: Report) -> str:
    """Return the whole report.

    Every line starts with words of ours, so no quoted text can pose as a command to the runner of a pipeline.

    Args:
        report: What the gate decided.
    """
    lines = [line for finding in report.worst_first for line in _block(finding, report)]
    if report.error:
        lines.append(f"Nothing was judged: {clean(report.error)}")
    lines += [_exception_line(exception, report) for exception in report.exceptions]
    if report.not_demanded:
        lines.append(f"Not demanded by {clean(report.policy_file)}: {', '.join(report.not_demanded)}")
    return "\n".join([*lines, summary(report)]) + "\n"


def summary(report: Report) -> str:
    """Return the last line: what was checked, and the decision.

    Args:
        report: What the gate decided.
    """
    counts, accepted = report.counts(), [one for one in report.judged if one is not None]
    if report.error:
        parts = ["no certificate was looked at"]
    elif not accepted:
        refused = "certificate refused" if len(report.files) == 1 else f"all {len(report.files)} certificates refused"
        parts = [refused, "nothing else in it was judged"]
    else:
        parts = ["signature ok"] if len(report.files) == 1 else [f"{len(accepted)}/{len(report.files)} signatures ok"]
        keys = sorted({one.keyid for one in accepted})
        parts += [
            f"trusted key {', '.join(keys)}",
            "subject ok",
            f"{sum(one.rederived for one in accepted)}/{sum(one.claims for one in accepted)} claims re-derived",
            _plural(counts["violations"], "violation"),
            f"{counts['inconclusive']} inconclusive",
        ]
        if counts["untrusted"]:
            parts.append(f"{counts['untrusted']} untrusted")
    if counts["warnings"]:
        parts.append(_plural(counts["warnings"], "warning"))
    if report.exceptions:
        days = ", ".join(str(exception.expires) for exception in report.exceptions)
        parts.append(f"{_plural(len(report.exceptions), 'exception')} (expires {days})")
    return f"Checks: {' · '.join([*parts, report.decision])}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _row(left: str, right: str, width: int) -> str:
    return f"{left:<{width}} {right}" if right else left


def _subject(finding: Finding, report: Report) -> str:
    """Name what a finding is about: the model, and the file where several certificates were given."""
    parts = []
    if judged := report.about(finding):
        parts.append(f"{judged.model} sha256:{judged.model_sha256[:8]}…")
    if finding.certificate is not None and len(report.files) > 1:
        parts.append(f"({clean(report.files[finding.certificate])})")
    return " ".join(parts)


def _block(finding: Finding, report: Report) -> list[str]:
    head = f"{finding.rule} {label(finding):<5} {finding.title}"
    if finding.outcome == "ok":
        where = finding.where or (_subject(finding, report) if len(report.files) > 1 else "")
        return [_row(f"{head}: {finding.found[0].text}", where, 0)]
    lines = [_row(head, _subject(finding, report), _TITLE_WIDTH)]
    for fact in finding.found:
        source = f"claim {fact.claim} [{fact.status}]" if fact.claim else ""
        lines.append(_row(f"  found     {fact.text}", source, _FACT_WIDTH))
    lines.append(_row(f"  allowed   {finding.allowed}", finding.where, _FACT_WIDTH))
    lines.append(f"  means     {finding.means}")
    lines.append(f"  next      {finding.next_step};  docs/rules/{finding.rule}.md")
    return lines


def exception_state(exception: PolicyException, report: Report) -> str:
    """Return whether an exception ran out, was used, or was not needed.

    Args:
        exception: An exception of the policy.
        report: What the gate decided.
    """
    if exception.expired(report.now):
        return "expired"
    return "used" if any(finding.exception is exception for finding in report.findings) else "not needed"


def _exception_line(exception: PolicyException, report: Report) -> str:
    state = exception_state(exception, report)
    text = f"Exception {exception.rule} until {exception.expires} ({state}): {clean(exception.reason)}"
    return _row(
        f"{text}; approved by {clean(exception.approved_by)}", f"{clean(report.policy_file)}:{exception.line}", 0
    )
