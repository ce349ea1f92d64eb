"""The gate: trusted certificates held against a policy, for a pipeline that must go on or stop.

A certificate states facts, the policy states demands; this file only compares them. The exit codes keep apart what a
pipeline must treat apart: 0 policy satisfied, 1 violated, 3 inconclusive, 4 untrusted (4 before 1 before 3).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cu_certificates._files import sha256_of
from cu_certificates._gate.case import SUPPORTED, Beside, Case, Fact, Finding, clean, excuse, some
from cu_certificates._gate.coverage import coverage
from cu_certificates._gate.json import json_of
from cu_certificates._gate.report import Judged, Report
from cu_certificates._gate.rules import JUDGES, expired_exceptions
from cu_certificates._gate.text import text_of
from cu_certificates.check.result import INFORMING, CheckResult
from cu_certificates.check.strict import Rejected
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.policy import Policy

if TYPE_CHECKING:
    from cu_certificates._trusted import Trust

MAX_FILES: Final = 1000

_DIGEST: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class GateReport(Report):
    """The gate's decision and every fact behind it, with the two forms that everybody needs."""

    def to_text(self) -> str:
        """Return the report for a person: one block a finding, the worst first, and a last line that sums up."""
        return text_of(self)

    def to_json(self) -> str:
        """Return the report as JSON with the same facts, in a form that only changes with its ``schema``."""
        return json_of(self)


@dataclass(frozen=True)
class _Outcome:
    """What was found about one certificate."""

    file: str
    findings: tuple[Finding, ...]
    judged: Judged | None


def judge(
    result: CheckResult,
    policy: Policy,
    *,
    now: datetime,
    keyid: str,
    payload_sha256: str,
    file: str = "certificate",
    model_sha256: str | None = None,
    beside: Beside | None = None,
) -> GateReport:
    """Hold one checked certificate against a policy; nothing is read or written.

    Args:
        result: What the checker found in a certificate whose signature is trusted.
        policy: The demands.
        now: Time of the judgement, aware.
        keyid: The key that signed.
        payload_sha256: Digest of the signed bytes.
        file: Name of the certificate file, for the report.
        model_sha256: Digest that the audited model must have, in lower-case hexadecimal.
        beside: What is known of the certificate beside its claims.

    Returns:
        The decision; a certificate that contradicts itself is untrusted, it does not raise.

    Raises:
        UsageError: ``now`` has no time zone.
    """
    _require_zone(now)
    case = Case(result=result, policy=policy, now=now, beside=beside or Beside())
    return _decide([_examine(case, file, keyid, payload_sha256, model_sha256)], policy, now, model_sha256 or "")


def _require_zone(now: datetime) -> None:
    if now.tzinfo is None:
        raise UsageError("the time of the judgement has no time zone; give one in UTC")


def _examine(case: Case, file: str, keyid: str, payload_sha256: str, model_sha256: str | None) -> _Outcome:
    try:
        problems = _problems(case, model_sha256)
        if problems:
            return _refused(problems, file)
        judged = _judged(case, keyid, payload_sha256)
        found = [rule(case) for rule in JUDGES.values()]
    except Rejected as refusal:
        return _refused([f"claims: {refusal}"], file)
    accepted = Finding(
        rule="CU001",
        outcome="ok",
        title="certificate accepted",
        found=(Fact(f"signed by {keyid}; model sha256:{judged.model_sha256}"),),
        allowed="",
    )
    return _Outcome(file, (accepted, *(finding for finding in found if finding is not None)), judged)


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
        root=case.predicate.node("request").node("commitment").hex("root"),
        verdict=case.result.derived,
        rederived=sum(claim.status in SUPPORTED for claim in countable),
        claims=len(countable),
    )


def _refused(problems: Sequence[str], file: str) -> _Outcome:
    """Return what there is to say of a certificate that is not trusted: its content is not judged."""
    refusal = Finding(
        rule="CU001",
        outcome="untrusted",
        title="certificate not accepted",
        found=some([Fact(problem) for problem in problems]),
        allowed="a valid signature by a trusted key, over this model, with claims that follow from the evidence",
        means="nothing in the file can be relied on for this model",
        next_step="do not rely on the file; ask the auditor for the certificate of this model",
    )
    return _Outcome(file, (refusal,), None)


def _decide(outcomes: Sequence[_Outcome], policy: Policy, now: datetime, model_sha256: str) -> GateReport:
    """Put the findings on all certificates together, and judge what concerns all of them."""
    findings = [
        excuse(replace(finding, certificate=number), policy, now)
        for number, one in enumerate(outcomes)
        for finding in one.findings
    ]
    covered = [(one.file, one.judged) for one in outcomes]
    if any(one.judged for one in outcomes) and (finding := coverage(policy, covered)):
        findings.append(excuse(finding, policy, now))
    if expired := expired_exceptions(policy, now):
        findings.append(expired)
    return GateReport(
        files=tuple(one.file for one in outcomes),
        policy=policy,
        policy_file=policy.file,
        now=now.astimezone(UTC),
        findings=tuple(findings),
        judged=tuple(one.judged for one in outcomes),
        model_sha256=model_sha256,
    )


def nothing_judged(files: Sequence[str], policy_file: str, error: str, now: datetime) -> GateReport:
    """Return the report on a gate that could not judge: it says so in every format, and its exit code is 2.

    Args:
        files: The certificate files, as the caller gave them.
        policy_file: The policy file, as the caller gave it.
        error: Why, for a person.
        now: The time, aware.
    """
    _require_zone(now)
    return GateReport(
        files=tuple(files), policy=None, policy_file=policy_file, now=now.astimezone(UTC), error=error or "no reason"
    )


def run_gate(
    file: Path | Sequence[Path],
    *,
    policy: Policy,
    trust: Path | None = None,
    model: Path | None = None,
    model_digest: str | None = None,
    evidence: Path | None = None,
    now: datetime,
) -> GateReport:
    """Verify certificates of one model and hold them against a policy.

    Args:
        file: ``certificate.sigstore.json`` or ``report.html``, or several of them.
        policy: The demands.
        trust: The trust file; without it the policy's, else ``trust.toml`` in the user's configuration folder.
        model: The model that is about to be used. It is hashed once, never loaded.
        model_digest: Its SHA-256, when the file itself is elsewhere.
        evidence: Folder of the evidence files; without it they are looked for beside each file.
        now: Time of the judgement, aware.

    Returns:
        The decision. A certificate that is not trusted is a decision too, not an error.

    Raises:
        UsageError: Neither ``model`` nor ``model_digest`` is given, both differ, or an argument is malformed.
        MissingFileError: A file cannot be read.
        PolicyError: The trust file does not say what it must.
    """
    _require_zone(now)
    files = [file] if isinstance(file, Path) else list(file)
    if not 1 <= len(files) <= MAX_FILES:
        raise UsageError(f"{len(files)} certificates; expected 1 to {MAX_FILES}")
    digest = _model_digest(model, model_digest)
    from cu_certificates.trust import reader_trust

    trusted = reader_trust(trust or policy.trust)
    outcomes = [_open(one, policy, trusted, digest, evidence, now) for one in files]
    return _decide(outcomes, policy, now, digest)


def _open(file: Path, policy: Policy, trust: "Trust", digest: str, evidence: Path | None, now: datetime) -> _Outcome:
    from cu_certificates._gate.look import look_beside
    from cu_certificates.verify import verify

    try:
        certificate = verify(
            file,
            trust=trust,
            evidence=evidence,
            now=now,
            allow_missing_evidence=True,
            allow_expired=True,  # CU401 judges the age
        )
    except UntrustedError as error:
        return _refused([str(error)], str(file))
    case = Case(result=certificate.check, policy=policy, now=now, beside=look_beside(file, certificate, policy, trust))
    return _examine(case, str(file), certificate.keyid, certificate.payload_sha256, digest)


def _model_digest(model: Path | None, stated: str | None) -> str:
    """Return the digest of the model that is about to be used; its file is hashed once, never loaded."""
    digest = None if stated is None else _digest(stated)
    if model is not None:
        found = sha256_of(model, what="model file")
        if digest not in (None, found):
            raise UsageError(
                f"--model {str(model)!r} has sha256:{found}, --model-digest says {digest}; give one of them"
            )
        return found
    if digest is None:
        raise UsageError(
            "the gate is not bound to a model, so a certificate for another one would do; "
            "give the file with --model or its SHA-256 with --model-digest"
        )
    return digest


def _digest(stated: str) -> str:
    match = _DIGEST.fullmatch(stated.strip())
    if match is None:
        raise UsageError(f"model digest {stated[:80]!r}; expected the 64 hexadecimal digits of a SHA-256")
    return match[1].lower()
