"""Claims -> certificate files: the predicate, the report, the signature, all written whole or not at all."""

import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Final

from cu_cert import __version__
from cu_cert._tables import SigningConfig
from cu_cert.claims import Claim, Plot
from cu_cert.errors import DataError
from cu_cert.secrets_store import Secrets
from cu_cert.sources import source_digest
from cu_certificates._files import make_folder, write_atomic
from cu_certificates.check.checker import check_payload
from cu_certificates.check.result import CheckResult
from cu_certificates.check.rules import DESIGN_RULES
from cu_certificates.envelope import sign, statement
from cu_certificates.keys import LocalKey, SigningKey, load_private_key, local_key, public_path_of
from cu_certificates.plan import Plan, Subject
from cu_certificates.report import render_skeleton, report_bytes
from cu_certificates.request import ForgetRequest

LIMITATIONS: Final = ("L1", "L2", "L3", "L4", "L5", "L6", "L9", "L10", "L11")
BY_QUESTION: Final = {"procedure": "L7", "artifact": "L8"}
BY_DESIGN: Final = {"labels": "L13"}
"""In the place of the question's own limitation."""
EXCLUDED: Final = ("backups", "other copies of the model", "models derived from it", "the records themselves")

_PLANNED: Final = ("questions", "attacks", "alphaTotal", "alphaSplit", "detectEps", "seedCommitment", "attempt")

CERTIFICATE: Final = "certificate.sigstore.json"
DRAFT: Final = "certificate.draft.json"
REPORT: Final = "report.html"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What an audit of one subject measured.

    Args:
        subject: The subject, as planned.
        source: Where the name of its method came from: ``option``, ``sidecar``, ``project`` or ``unknown``.
        claims: All claims, parents before children.
        plots: What the report draws.
        evidence: Content of each evidence file by (id, kind, name, access), the plan first.
    """

    subject: Subject
    source: str
    claims: Sequence[Claim]
    plots: Mapping[str, Plot]
    evidence: Mapping[tuple[str, str, str, str], bytes]


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a certificate speaks about besides its subject.

    Args:
        data: Source, sizes and digest of the data.
        recipe: Name, digest and parameters of the recipe.
        request: The request's public face.
        environment: The machine and the versions on which bits may depend.
        limitations: Limitations beyond those that every certificate has, the first ones first.
        assumptions: Assumptions beyond those that every certificate has.
        access: ``white-box``, or ``black-box`` when only scores were seen.
    """

    data: Mapping[str, object]
    recipe: Mapping[str, object]
    request: ForgetRequest
    environment: Mapping[str, str]
    limitations: Sequence[str] = ()
    assumptions: Sequence[str] = ()
    access: str = "white-box"


@dataclass(frozen=True, kw_only=True)
class Issued:
    """The files of one certificate.

    Args:
        folder: Where they lie.
        certificate: The bundle, or the unsigned draft.
        report: The report.
        result: What the checker derived from them.
    """

    folder: Path
    certificate: Path
    report: Path
    result: CheckResult


def signing_key(configured: Path | None, given: Path | None, passphrase: bytes | None = None) -> LocalKey:
    """Return the key that signs: the one given, the one configured, or the user's own, made on first use.

    Args:
        configured: The key that ``[signing]`` names.
        given: A key named on the command line.
        passphrase: The passphrase of a protected key.
    """
    path = given or configured
    if path is None:
        return local_key(passphrase)
    return LocalKey(key=load_private_key(path, passphrase), path=path, public_path=public_path_of(path), created=False)


def predicate_of(
    findings: Findings, plan: Plan, scope: Scope, *, signing: SigningConfig, key: SigningKey | None, secrets: Secrets
) -> dict[str, object]:
    """Build the certificate's content, all but its verdict."""
    subject, now = findings.subject, datetime.now(UTC).replace(microsecond=0)
    sequence, previous = secrets.next_sequence()
    asked = plan.to_json()
    return {
        "schemaVersion": "1.0",
        "certificateId": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, plan.digest + subject.model)}",
        "issuedAt": _instant(now),
        "expiresAt": _instant(now + timedelta(days=signing.expires_days)),
        "sequence": sequence,
        **({"previous": {"sha256": previous}} if previous else {}),
        "auditor": {
            "name": signing.name,
            "independence": "internal",
            **({"keyid": key.keyid} if key else {}),
        },
        "tool": {
            "name": "cu-cert",
            "version": __version__,
            "sourceDigest": {"sha256": source_digest()},
            "environment": {**scope.environment, **_versions()},
        },
        "scope": {
            "model": {"name": subject.name, "digest": {"sha256": subject.model}, "access": scope.access},
            "data": dict(scope.data),
            "recipe": dict(scope.recipe),
            "excluded": list(EXCLUDED),
        },
        "request": scope.request.to_predicate(),
        "unlearning": {
            "method": subject.method,
            "source": findings.source,
            "guarantee": subject.guarantee,
            "level": subject.level,
            "parameters": dict(subject.parameters),
        },
        "plan": {
            "digest": {"sha256": plan.digest},
            **{name: asked[name] for name in _PLANNED},
            "testedEps": str(subject.tested_eps),
            "testedDelta": str(subject.tested_delta),
        },
        "evidence": [
            {"id": name, "kind": kind, "name": file, "digest": {"sha256": sha256(data).hexdigest()}, "access": access}
            for (name, kind, file, access), data in findings.evidence.items()
        ],
        "plots": dict(findings.plots),
        "claims": list(findings.claims),
        "assumptions": [*_assumptions(plan), *scope.assumptions],
        "limitations": [
            *scope.limitations,
            *LIMITATIONS,
            *(BY_DESIGN.get(plan.designs[question], BY_QUESTION[question]) for question in plan.questions),
        ],
    }


def _assumptions(plan: Plan) -> list[str]:
    """Return what the planned designs assume, in the order of the numbers.

    A9, that nobody searched for a convenient seed, falls away only when a reader's nonce takes part.
    """
    found = {name for question in plan.questions for name in DESIGN_RULES[question][plan.designs[question]].assumed}
    return sorted(found, key=lambda name: int(name[1:]))


def _instant(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("numpy", "scipy", "scikit-learn")} | {
        "implementation": platform.python_implementation()
    }


def write_changed(path: Path, data: bytes, *, what: str) -> None:
    """Write a file unless it holds these bytes already: the plan keeps the time at which it was fixed.

    Args:
        path: The file; its folder must exist.
        data: The content.
        what: How the file is called in an error message.
    """
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data, what=what)


def write_certificate(
    folder: Path,
    findings: Findings,
    plan: Plan,
    scope: Scope,
    *,
    signing: SigningConfig,
    key: SigningKey | None,
    secrets: Secrets,
) -> Issued:
    """Derive the verdict with the checker, render the report, sign, and write everything.

    Args:
        folder: Output folder of this certificate.
        findings: What was measured.
        plan: The plan.
        scope: Data, recipe and request.
        signing: For names and expiry.
        key: The signing key; ``None`` for an unsigned draft, which states no verdict.
        secrets: The project's memory, for the sequence of certificates.

    Raises:
        DataError: The checker does not accept what was measured: a bug, and nothing is signed.
    """
    predicate = predicate_of(findings, plan, scope, signing=signing, key=key, secrets=secrets)
    files = {file: data for (_, _, file, _), data in findings.evidence.items()}
    digest = findings.subject.model
    draft = check_payload(statement({findings.subject.name: digest}, predicate), files.get)
    if draft.rejected:
        raise DataError(f"nothing was signed: the checker rejects {draft.rejected[0].id}: {draft.rejected[0].detail}")
    if key is not None:
        basis = [claim["id"] for claim in findings.claims if claim.get("planned")]
        predicate["verdict"] = {"value": draft.derived, "basis": basis, "reasons": list(draft.reasons)}
    skeleton = render_skeleton(predicate)
    payload = statement({findings.subject.name: digest, REPORT: sha256(skeleton).hexdigest()}, predicate)
    result = check_payload(payload, files.get)

    make_folder(folder / "evidence")
    for file, data in files.items():
        write_changed(folder / file, data, what="evidence file")
    certificate = folder / (CERTIFICATE if key else DRAFT)
    stale = folder / (DRAFT if key else CERTIFICATE)
    if key is None:
        write_atomic(folder / REPORT, skeleton, what="report")
        write_atomic(certificate, payload + b"\n", what="certificate draft")
    else:
        bundle = sign(payload, key)
        write_atomic(folder / REPORT, report_bytes(predicate, bundle), what="report")
        write_atomic(certificate, bundle, what="certificate")
        secrets.record(payload, plan.digest)
    stale.unlink(missing_ok=True)
    return Issued(folder=folder, certificate=certificate, report=folder / REPORT, result=result)
