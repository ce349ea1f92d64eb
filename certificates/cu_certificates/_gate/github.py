"""The gate's report for GitHub Actions: annotations as workflow commands, a job summary, and outputs of the step.

GitHub shows ten errors and ten warnings a step and silently drops the rest, so the worst nine of each are written and a
tenth says how many there are besides.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cu_certificates._gate.case import Finding, clean
from cu_certificates._gate.markdown import markdown_of
from cu_certificates._gate.place import line_of, repository_path, told_lines
from cu_certificates._gate.report import Report
from cu_certificates.errors import UsageError

SHOWN: Final = 9
SUMMARY: Final = "GITHUB_STEP_SUMMARY"
OUTPUT: Final = "GITHUB_OUTPUT"

_VALUE: Final = re.compile(r"[A-Za-z0-9_, -]{0,80000}", re.ASCII)


def annotations_of(report: Report, folder: Path) -> str:
    """Return the annotations, one workflow command a line.

    Args:
        report: What the gate decided.
        folder: The top of the repository, to which the policy's location is relative.
    """
    if report.error:
        return _command("error", {"title": "cu-cert gate"}, f"Nothing was judged: {clean(report.error)}") + "\n"
    kinds: dict[str, list[Finding]] = {"error": [], "warning": []}
    for finding in report.worst_first:
        if finding.exit_code:
            kinds["error"].append(finding)
        elif finding.outcome != "ok":
            kinds["warning"].append(finding)
    lines = []
    for kind, findings in kinds.items():
        for finding in findings[:SHOWN]:
            place = {"file": clean(repository_path(report.policy_file, folder)), "line": str(line_of(finding))}
            text = "\n".join(told_lines(finding, report))
            lines.append(_command(kind, {**place, "title": f"{finding.rule} {finding.title}"}, text))
        if len(findings) > SHOWN:
            text = f"{len(findings) - SHOWN} more, see the summary of the job"
            lines.append(_command(kind, {"title": "cu-cert gate"}, text))
    return "".join(f"{line}\n" for line in lines)


def _command(kind: str, properties: Mapping[str, str], text: str) -> str:
    stated = ",".join(f"{key}={_escape(value, property_value=True)}" for key, value in properties.items())
    return f"::{kind} {stated}::{_escape(text)}"


def _escape(text: str, *, property_value: bool = False) -> str:
    pairs = [("%", "%25"), ("\r", "%0D"), ("\n", "%0A")]
    for plain, escaped in [*pairs, (":", "%3A"), (",", "%2C")] if property_value else pairs:
        text = text.replace(plain, escaped)
    return text


def outputs_of(report: Report) -> dict[str, str]:
    """Return the outputs of the step: decision, exit code, verdicts and digests, in words and digits of ours alone.

    Args:
        report: What the gate decided.
    """
    judged = [one for one in report.judged if one is not None]
    return {
        "decision": report.decision,
        "exit-code": str(report.exit_code),
        "verdict": ",".join(one.verdict for one in judged),
        "certificate-digest": ",".join(one.payload_sha256 for one in judged),
    }


def tell_runner(report: Report, environment: Mapping[str, str]) -> None:
    """Append the summary and the outputs to the files that the runner names; without a runner nothing happens.

    Args:
        report: What the gate decided.
        environment: The process's environment variables.

    Raises:
        UsageError: A file that the runner names cannot be written.
    """
    outputs = outputs_of(report)
    for value in outputs.values():
        if not _VALUE.fullmatch(value):  # a line break would let it set another output
            raise UsageError(f"output {value[:80]!r}: expected letters, digits, commas and spaces")
    texts = {SUMMARY: markdown_of(report), OUTPUT: "".join(f"{key}={value}\n" for key, value in outputs.items())}
    for variable, text in texts.items():
        if name := environment.get(variable):
            try:
                with Path(name).open("a", encoding="utf-8", errors="replace") as stream:
                    stream.write(text)
            except (OSError, ValueError) as error:
                raise UsageError(
                    f"{variable} names {name!r}, which cannot be written ({error}); the runner should set it"
                ) from None
