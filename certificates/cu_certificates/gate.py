"""The gate: a trusted certificate held against a policy, for a pipeline that must go on or stop.

The certificate states facts, the policy states demands; this file only compares them. The exit codes keep apart what a
pipeline must treat apart: 0 policy satisfied, 1 violated, 3 inconclusive, 4 untrusted (4 before 1 before 3).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cu_certificates._gate_case import SUPPORTED, Case, Fact, Finding, clean, excuse, some
from cu_certificates._gate_rules import JUDGES, expired_exceptions
from cu_certificates.check.result import INFORMING, CheckResult
from cu_certificates.check.strict import Rejected
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.policy import RULES, Policy, PolicyException

SCHEMA: Final = "cu-cert-gate/1"
DECISIONS: Final = {0: "policy satisfied", 1: "policy violated", 3: "inconclusive", 4: "untrusted"}

_PRECEDENCE: Final = (4, 1, 3)
_TITLE_WIDTH: Final = 54
_FACT_WIDTH: Final = 90
_DIGEST: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was judged, once it was known to be trusted.

    Args:
        certificate: Id of the certificate.
        payload_sha256: Digest of the signed bytes.
        keyid: The key that signed.
        model: Name of the audited model.
        model_sha256: Digest of the audited model.
        verdict: The verdict that follows from the claims and the evidence at hand.
        rederived: How many claims were re-derived.
        claims: How many claims there are to re-derive; descriptive metrics are not counted.
    """

    certificate: str
    payload_sha256: str
    keyid: str
    model: str
    model_sha256: str
    verdict: str
    rederived: int
    claims: int


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """The gate's decision and every fact behind it.

    Args:
        file: The certificate file, as the caller gave it.
        policy: The demands.
        now: Time of the judgement, in UTC.
        findings: One finding for each rule that was judged.
        judged: What was judged; ``None`` when it is not trusted.
    """

    file: str
    policy: Policy
    now: datetime
    findings: tuple[Finding, ...]
    judged: Judged | None

    @property
    def exit_code(self) -> int:
        """The exit code: the first of 4, 1 and 3 that a finding calls for, else 0."""
        codes = {finding.exit_code for finding in self.findings}
        return next((code for code in _PRECEDENCE if code in codes), 0)

    @property
    def decision(self) -> str:
        """The decision in words."""
        return DECISIONS[self.exit_code]

    @property
    def not_demanded(self) -> tuple[str, ...]:
        """Rules that the policy does not demand; empty when nothing was judged."""
        judged = {finding.rule for finding in self.findings}
        return tuple(rule for rule in RULES if rule not in judged) if self.judged else ()

    def counts(self) -> dict[str, int]:
        """Return how many findings there are of each kind that a reader should know of."""
        blocking = [finding.outcome for finding in self.findings if finding.excused is None]
        return {
            "violations": blocking.count("violated"),
            "inconclusive": blocking.count("inconclusive"),
            "untrusted": blocking.count("untrusted"),
            "warnings": sum(finding.excused == "warn" for finding in self.findings),
            "excused": sum(finding.excused == "exception" for finding in self.findings),
        }

    def to_text(self) -> str:
        """Return the report for a person: one block a finding, the worst first, and a last line that sums up."""
        told = sorted(self.findings, key=lambda finding: (finding.outcome == "ok", finding.excused is not None))
        lines = [line for finding in told for line in _block(finding, self.judged)]
        lines += [_exception_line(exception, self) for exception in self.policy.exceptions]
        if self.not_demanded:
            lines.append(f"Not demanded by {clean(self.policy.file)}: {', '.join(self.not_demanded)}")
        return "\n".join([*lines, self._checks()]) + "\n"

    def to_json(self) -> str:
        """Return the report as JSON with the same facts, in a form that only changes with its ``schema``."""
        judged = self.judged
        document = {
            "schema": SCHEMA,
            "decision": self.decision,
            "exitCode": self.exit_code,
            "judgedAt": f"{self.now:%Y-%m-%dT%H:%M:%SZ}",
            "file": clean(self.file),
            "policy": {"file": clean(self.policy.file), "sha256": self.policy.sha256},
            "certificate": judged
            and {
                "id": judged.certificate,
                "payloadSha256": judged.payload_sha256,
                "keyid": judged.keyid,
                "verdict": judged.verdict,
                "claims": judged.claims,
                "claimsRederived": judged.rederived,
            },
            "subject": judged and {"name": judged.model, "sha256": judged.model_sha256},
            "counts": self.counts(),
            "findings": [_finding_json(finding) for finding in self.findings],
            "exceptions": [
                _exception_json(exception) | {"expired": exception.expired(self.now)}
                for exception in self.policy.exceptions
            ],
            "notDemanded": list(self.not_demanded),
        }
        return json.dumps(document, indent=2, ensure_ascii=True) + "\n"

    def _checks(self) -> str:
        counts, judged = self.counts(), self.judged
        if judged is None:
            parts = ["certificate refused", "nothing else in it was judged"]
        else:
            parts = [
                "signature ok",
                f"trusted key {judged.keyid}",
                "subject ok",
                f"{judged.rederived}/{judged.claims} claims re-derived",
                _plural(counts["violations"], "violation"),
                f"{counts['inconclusive']} inconclusive",
            ]
        if counts["warnings"]:
            parts.append(_plural(counts["warnings"], "warning"))
        if self.policy.exceptions:
            days = ", ".join(str(exception.expires) for exception in self.policy.exceptions)
            parts.append(f"{_plural(len(self.policy.exceptions), 'exception')} (expires {days})")
        return f"Checks: {' · '.join([*parts, self.decision])}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _label(finding: Finding) -> str:
    match finding.excused, finding.outcome:
        case "warn", _:
            return "WARN"
        case "exception", _:
            return "EXCUSED"
        case _, "ok":
            return "ok"
        case _, "inconclusive":
            return "INCONCLUSIVE"
        case _:
            return "FAIL"


def _row(left: str, right: str, width: int) -> str:
    return f"{left:<{width}} {right}" if right else left


def _block(finding: Finding, judged: Judged | None) -> list[str]:
    """Print one finding; every line starts with words of ours, so no quoted text can pose as a runner's command."""
    head = f"{finding.rule} {_label(finding):<5} {finding.title}"
    if finding.outcome == "ok":
        return [_row(f"{head}: {finding.found[0].text}", finding.where, 0)]
    lines = [_row(head, f"{judged.model} sha256:{judged.model_sha256[:8]}…" if judged else "", _TITLE_WIDTH)]
    for fact in finding.found:
        source = f"claim {fact.claim} [{fact.status}]" if fact.claim else ""
        lines.append(_row(f"  found     {fact.text}", source, _FACT_WIDTH))
    lines.append(_row(f"  allowed   {finding.allowed}", finding.where, _FACT_WIDTH))
    lines.append(f"  means     {finding.means}")
    lines.append(f"  next      {finding.next_step};  docs/rules/{finding.rule}.md")
    return lines


def _exception_line(exception: PolicyException, report: GateReport) -> str:
    used = any(finding.exception is exception for finding in report.findings)
    state = "expired" if exception.expired(report.now) else "used" if used else "not needed"
    text = f"Exception {exception.rule} until {exception.expires} ({state}): {clean(exception.reason)}"
    return _row(
        f"{text}; approved by {clean(exception.approved_by)}", f"{clean(report.policy.file)}:{exception.line}", 0
    )


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "outcome": finding.outcome,
        "excused": finding.excused,
        "title": finding.title,
        "found": [{"text": fact.text, "claim": fact.claim, "status": fact.status} for fact in finding.found],
        "allowed": finding.allowed,
        "where": finding.where,
        "means": finding.means,
        "next": finding.next_step,
        "help": f"docs/rules/{finding.rule}.md",
        "exception": finding.exception and _exception_json(finding.exception),
    }


def _exception_json(exception: PolicyException) -> dict[str, Any]:
    return {
        "rule": exception.rule,
        "reason": clean(exception.reason),
        "approvedBy": clean(exception.approved_by),
        "expires": str(exception.expires),
        "line": exception.line,
    }


def judge(
    result: CheckResult,
    policy: Policy,
    *,
    now: datetime,
    keyid: str,
    payload_sha256: str,
    file: str = "certificate",
    model_sha256: str | None = None,
) -> GateReport:
    """Hold a checked certificate against a policy; nothing is read or written.

    Args:
        result: What the checker found in a certificate whose signature is trusted.
        policy: The demands.
        now: Time of the judgement, aware.
        keyid: The key that signed.
        payload_sha256: Digest of the signed bytes.
        file: Name of the certificate file, for the report.
        model_sha256: Digest that the audited model must have, in lower-case hexadecimal.

    Returns:
        The decision; a certificate that contradicts itself is untrusted, it does not raise.

    Raises:
        UsageError: ``now`` has no time zone.
    """
    if now.tzinfo is None:
        raise UsageError("the time of the judgement has no time zone; give one in UTC")
    case = Case(result=result, policy=policy, now=now)
    try:
        problems = _problems(case, model_sha256)
        if problems:
            return _refused(problems, policy, now, file)
        judged = _judged(case, keyid, payload_sha256)
        found = [rule(case) for rule in JUDGES.values()]
    except Rejected as refusal:
        return _refused([f"claims: {refusal}"], policy, now, file)
    accepted = Finding(
        rule="CU001",
        outcome="ok",
        title="certificate accepted",
        found=(Fact(f"signed by {keyid}; model sha256:{judged.model_sha256}"),),
        allowed="",
    )
    findings = [accepted, *(excuse(finding, policy, now) for finding in found if finding is not None)]
    return GateReport(file=file, policy=policy, now=now.astimezone(UTC), findings=tuple(findings), judged=judged)


def _problems(case: Case, model_sha256: str | None) -> list[str]:
    """Why a certificate cannot be relied on, although its signature is good."""
    result, found = case.result, case.predicate.node("scope").node("model").digest()
    problems = [f"claims: {claim.id} does not follow: {claim.detail}" for claim in result.rejected]
    if model_sha256 is not None and model_sha256 != found:
        problems.append(f"subject: the certificate speaks of sha256:{found}; expected sha256:{model_sha256}")
    if result.stated is None:
        problems.append("verdict: none is stated; this is a draft, ask for the final certificate")
    elif result.stated != result.derived and not result.missing:
        problems.append(f"verdict: {result.stated} is stated, but {result.derived} follows from the claims")
    return problems


def _judged(case: Case, keyid: str, payload_sha256: str) -> Judged:
    model = case.predicate.node("scope").node("model")
    countable = [claim for claim in case.result.claims if claim.type not in INFORMING]
    return Judged(
        certificate=clean(case.predicate.text("certificateId")),
        payload_sha256=payload_sha256,
        keyid=clean(keyid),
        model=clean(model.text("name")),
        model_sha256=model.digest(),
        verdict=case.result.derived,
        rederived=sum(claim.status in SUPPORTED for claim in countable),
        claims=len(countable),
    )


def _refused(problems: Sequence[str], policy: Policy, now: datetime, file: str) -> GateReport:
    """Return the report on a certificate that is not trusted: its content is not judged."""
    refusal = Finding(
        rule="CU001",
        outcome="untrusted",
        title="certificate not accepted",
        found=some([Fact(problem) for problem in problems]),
        allowed="a valid signature by a trusted key, over this model, with claims that follow from the evidence",
        means="nothing in the file can be relied on for this model",
        next_step="do not rely on the file; ask the auditor for the certificate of this model",
    )
    expired = expired_exceptions(policy, now)
    findings = (refusal,) if expired is None else (refusal, expired)
    return GateReport(file=file, policy=policy, now=now.astimezone(UTC), findings=findings, judged=None)


def run_gate(
    file: Path,
    *,
    policy: Policy,
    trust: Path | None = None,
    model: Path | None = None,
    model_digest: str | None = None,
    evidence: Path | None = None,
    now: datetime,
) -> GateReport:
    """Verify a certificate and hold it against a policy.

    Args:
        file: ``certificate.sigstore.json`` or ``report.html``.
        policy: The demands.
        trust: The trust file; without it the policy's, else ``trust.toml`` in the user's configuration folder.
        model: The model that is about to be used. It is hashed, never loaded.
        model_digest: Its SHA-256, when the file itself is elsewhere.
        evidence: Folder of the evidence files; without it they are looked for beside ``file``.
        now: Time of the judgement, aware.

    Returns:
        The decision. A certificate that is not trusted is a decision too, not an error.

    Raises:
        UsageError: Neither ``model`` nor ``model_digest`` is given, or an argument is malformed.
        MissingFileError: A file cannot be read.
        PolicyError: The trust file does not say what it must.
    """
    if model is None and model_digest is None:
        raise UsageError(
            "the gate is not bound to a model, so a certificate for another one would do; "
            "give the file with --model or its SHA-256 with --model-digest"
        )
    digest = None if model_digest is None else _digest(model_digest)
    from cu_certificates.trust import reader_trust
    from cu_certificates.verify import verify

    trusted = reader_trust(trust or policy.trust)
    try:
        certificate = verify(
            file,
            trust=trusted,
            model=model,
            evidence=evidence,
            now=now,
            allow_missing_evidence=True,
            allow_expired=True,  # CU401 judges the age
        )
    except UntrustedError as error:
        return _refused([str(error)], policy, now, str(file))
    return judge(
        certificate.check,
        policy,
        now=now,
        keyid=certificate.keyid,
        payload_sha256=certificate.payload_sha256,
        file=str(file),
        model_sha256=digest,
    )


def _digest(stated: str) -> str:
    match = _DIGEST.fullmatch(stated.strip())
    if match is None:
        raise UsageError(f"model digest {stated[:80]!r}; expected the 64 hexadecimal digits of a SHA-256")
    return match[1].lower()
