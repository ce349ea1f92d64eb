"""The gate's report for a program: one JSON object whose form only changes with its ``schema``."""

import json
from typing import Any, Final

from cu_certificates._gate.case import Finding, clean
from cu_certificates._gate.report import Judged, Report
from cu_certificates._policy_types import PolicyException

SCHEMA: Final = "cu-cert-gate/1"


def json_of(report: Report) -> str:
    """Return the whole report, the same facts as the text.

    Args:
        report: What the gate decided.
    """
    document = {
        "schema": SCHEMA,
        "decision": report.decision,
        "exitCode": report.exit_code,
        "error": clean(report.error) or None,
        "judgedAt": f"{report.now:%Y-%m-%dT%H:%M:%SZ}",
        "policy": {"file": clean(report.policy_file), "sha256": report.policy.sha256 if report.policy else None},
        "certificates": [
            {"file": clean(name), "accepted": one is not None, **_judged(one)}
            for name, one in zip(report.files, report.judged or [None] * len(report.files), strict=True)
        ],
        "counts": report.counts(),
        "findings": [_finding(finding) for finding in report.findings],
        "exceptions": [
            _exception(exception) | {"expired": exception.expired(report.now)} for exception in report.exceptions
        ],
        "notDemanded": list(report.not_demanded),
    }
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def _judged(one: Judged | None) -> dict[str, Any]:
    if one is None:
        return {}
    return {
        "id": one.certificate,
        "payloadSha256": one.payload_sha256,
        "keyid": one.keyid,
        "subject": {"name": one.model, "sha256": one.model_sha256},
        "requestRoot": one.root,
        "verdict": one.verdict,
        "claims": one.claims,
        "claimsRederived": one.rederived,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "certificate": finding.certificate,
        "outcome": finding.outcome,
        "excused": finding.excused,
        "title": finding.title,
        "found": [{"text": fact.text, "claim": fact.claim, "status": fact.status} for fact in finding.found],
        "allowed": finding.allowed,
        "where": finding.where,
        "means": finding.means,
        "next": finding.next_step,
        "help": f"docs/rules/{finding.rule}.md",
        "exception": finding.exception and _exception(finding.exception),
    }


def _exception(exception: PolicyException) -> dict[str, Any]:
    return {
        "rule": exception.rule,
        "reason": clean(exception.reason),
        "approvedBy": clean(exception.approved_by),
        "expires": str(exception.expires),
        "line": exception.line,
    }
