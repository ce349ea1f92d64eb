"""The gate's report as SARIF 2.1.0, for code scanning: one run, one result for each finding that is not ok.

Findings that are ok are left out: services that ignore ``kind`` would show them as alerts.
"""

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from cu_certificates._gate.case import Finding, clean
from cu_certificates._gate.help import HELP
from cu_certificates._gate.place import fingerprints, line_of, told_lines, uri_of
from cu_certificates._gate.report import Report
from cu_certificates._policy_types import RULES

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"

_BRACKETS: Final = str.maketrans("[]{}", "()()")


def sarif_of(report: Report, folder: Path) -> str:
    """Return the whole report.

    Args:
        report: What the gate decided.
        folder: The top of the repository, to which the policy's location is relative.
    """
    shown = [finding for finding in report.worst_first if finding.outcome != "ok"]
    location = {"uri": uri_of(report.policy_file, folder)}
    invocation: dict[str, Any] = {"executionSuccessful": not report.error, "exitCode": report.exit_code}
    if report.error:
        notification = {"level": "error", "message": {"text": _plain(f"Nothing was judged: {clean(report.error)}")}}
        invocation["toolExecutionNotifications"] = [notification]
    run = {
        "tool": {"driver": {"name": "cu-cert gate", **_version(), "rules": [_rule(rule) for rule in RULES]}},
        "invocations": [invocation],
        "columnKind": "unicodeCodePoints",
        "results": [
            _result(finding, fingerprint, report, location) for finding, fingerprint in fingerprints(report, shown)
        ],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=True) + "\n"


def _version() -> dict[str, str]:
    try:
        return {"semanticVersion": version("cu-cert")}
    except PackageNotFoundError:  # a source tree that is not installed
        return {}


def _plain(text: str) -> str:
    """Take the characters out of a message that would make a link or a placeholder in it."""
    return text.translate(_BRACKETS)


def _rule(rule: str) -> dict[str, Any]:
    words = RULES[rule].split()
    return {
        "id": rule,
        "name": "".join(word[:1].upper() + word[1:].strip(",") for word in words),
        "shortDescription": {"text": RULES[rule]},
        "fullDescription": {"text": _plain(HELP[rule].what)},
        "help": {"text": _plain(f"{HELP[rule].what}\n\n{HELP[rule].fix}\n\nSee docs/rules/{rule}.md of cu-cert.")},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["machine-unlearning", "privacy"]},
    }


def _result(finding: Finding, fingerprint: str, report: Report, location: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": list(RULES).index(finding.rule),
        # Without "fail" the level must be "none" or absent; absent leaves a service the rule's own.
        "kind": "review" if finding.outcome == "inconclusive" else "fail",
        "message": {"text": _plain("\n".join([finding.title, *told_lines(finding, report)]))},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": location, "region": {"startLine": line_of(finding)}},
                "logicalLocations": [{"name": fact.claim, "kind": "claim"} for fact in finding.found if fact.claim],
            }
        ],
        "partialFingerprints": {"cuCertRuleAndSubject/v1": fingerprint},
    }
    if found["kind"] == "fail":
        found["level"] = "note" if finding.excused else "error"
    if finding.exception is not None:
        reason = _plain(f"{clean(finding.exception.reason)} (until {finding.exception.expires})")
        found["suppressions"] = [{"kind": "external", "status": "accepted", "justification": reason}]
    return found
