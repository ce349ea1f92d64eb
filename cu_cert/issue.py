"""Claims -> certificate files: the predicate, the report, the signature, all written whole or not at all."""

import platform
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Final

from cu_cert import __version__
from cu_cert._tables import SigningConfig
from cu_cert.claims import Claim, Plot
from cu_cert.errors import DataError
from cu_cert.naming_nobody import require_files
from cu_cert.secrets_store import Secrets
from cu_cert.sources import source_digest
from cu_certificates._log_lines import instant, logged
from cu_certificates.check.extrapolations import GAUSSIAN
from cu_certificates.check.rules import DESIGN_RULES
from cu_certificates.check.theorems import UNPROVEN
from cu_certificates.errors import UntrustedError
from cu_certificates.keys import LocalKey, SigningKey, load_private_key, local_key, public_path_of
from cu_certificates.log import Log, open_log
from cu_certificates.oms import file_root
from cu_certificates.plan import Plan, Subject
from cu_certificates.privacy import IdIndex
from cu_certificates.request import ForgetRequest
from cu_certificates.seal import Issued, seal, write_sealed

LIMITATIONS: Final = ("L1", "L2", "L3", "L4", "L5", "L6", "L9", "L10", "L11")
BY_QUESTION: Final = {"procedure": "L7", "artifact": "L8"}
BY_DESIGN: Final = {"labels": "L13", "onerun": "L17"}
"""In the place of the question's own limitation."""
ASSUMED_BY: Final = {"mu-lower": GAUSSIAN, "dp-bound": UNPROVEN}
"""What a type of claim assumes beyond its design."""
EXCLUDED: Final = ("backups", "other copies of the model", "models derived from it", "the records themselves")

_PLANNED: Final = ("questions", "attacks", "alphaTotal", "alphaSplit", "detectEps", "seedCommitment", "attempt")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What an audit of one subject measured.

    Args:
        subject: The subject, as planned.
        source: Where the name of its method came from: ``option``, ``sidecar``, ``project`` or ``unknown``.
        claims: All claims, parents before children.
        plots: What the report draws.
        evidence: Content of each evidence file by (id, kind, name, access), the plan first.
        sharing: What is said of models that other plans use as well; empty where none could be.
    """

    subject: Subject
    source: str
    claims: Sequence[Claim]
    plots: Mapping[str, Plot]
    evidence: Mapping[tuple[str, str, str, str], bytes]
    sharing: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a certificate speaks about besides its subject.

    Args:
        data: Source, sizes and digest of the data.
        recipe: Name, digest and parameters of the recipe.
        request: The request's public face.
        environment: The machine and the versions on which bits may depend.
        asked: Ground and dates of the request, as the project describes them.
        limitations: Limitations beyond those that every certificate has, the first ones first.
        assumptions: Assumptions beyond those that every certificate has.
        access: ``white-box``, or ``black-box`` when only scores were seen.
    """

    data: Mapping[str, object]
    recipe: Mapping[str, object]
    request: ForgetRequest
    environment: Mapping[str, str]
    asked: Mapping[str, object] = field(default_factory=dict)
    limitations: Sequence[str] = ()
    assumptions: Sequence[str] = ()
    access: str = "white-box"


Share = Callable[[Findings, Scope, Log], tuple[Findings, Scope]]


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
    findings: Findings, plan: Plan, scope: Scope, *, signing: SigningConfig, position: Mapping[str, object]
) -> dict[str, object]:
    """Build the certificate's content, all but its verdict and the key that signs.

    Args:
        findings: What was measured.
        plan: The plan.
        scope: Data, recipe and request.
        signing: For names and expiry.
        position: Its place in the project's log: ``sequence``, ``previous`` and ``log``.
    """
    subject, now = findings.subject, datetime.now(UTC).replace(microsecond=0)
    asked = plan.to_json()
    model = {"name": subject.name, "digest": {"sha256": subject.model}, "access": scope.access}
    if scope.access == "white-box":  # else the digest may be that of a declaration, and no model was at hand
        model["omsRoot"] = {"sha256": file_root(subject.model)}
    return {
        "schemaVersion": "1.0",
        "certificateId": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, plan.digest + subject.model)}",
        "issuedAt": instant(now),
        "expiresAt": instant(now + timedelta(days=signing.expires_days)),
        **position,
        "auditor": {"name": signing.name, "independence": signing.independence},
        **signing.statements(),
        "tool": {
            "name": "cu-cert",
            "version": __version__,
            "sourceDigest": {"sha256": source_digest()},
            "environment": {**scope.environment, **_versions()},
        },
        "scope": {
            "model": model,
            "data": dict(scope.data),
            "recipe": dict(scope.recipe),
            **signing.scope(),
            "excluded": [*EXCLUDED, *signing.excluded],
        },
        "request": {**scope.request.to_predicate(), **scope.asked},
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
        **({"sharing": dict(findings.sharing)} if findings.sharing else {}),
        "plots": dict(findings.plots),
        "claims": list(findings.claims),
        "assumptions": [*_assumptions(plan, findings.claims), *scope.assumptions],
        "limitations": [
            *scope.limitations,
            *LIMITATIONS,
            *(BY_DESIGN.get(plan.designs[question], BY_QUESTION[question]) for question in plan.questions),
        ],
    }


def _assumptions(plan: Plan, claims: Sequence[Claim]) -> list[str]:
    """Return what the planned designs and the claims beside them assume, in the order of the numbers.

    A9, that nobody searched for a convenient seed, falls away only when a reader's nonce takes part.
    """
    found = {name for question in plan.questions for name in DESIGN_RULES[question][plan.designs[question]].assumed}
    found |= {ASSUMED_BY[kind] for claim in claims if (kind := str(claim["type"])) in ASSUMED_BY}
    return sorted(found, key=lambda name: int(name[1:]))


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("numpy", "scipy", "scikit-learn")} | {
        "implementation": platform.python_implementation()
    }


def write_certificate(
    folder: Path,
    findings: Findings,
    plan: Plan,
    scope: Scope,
    *,
    signing: SigningConfig,
    key: SigningKey | None,
    secrets: Secrets,
    forget: IdIndex,
    share: Share | None = None,
) -> Issued:
    """Derive the verdict with the checker, render the report, sign, write everything, and enter it in the log.

    The log is held meanwhile, so that two audits at once cannot give one number twice. The certificate is written
    first: were the machine to stop between the two, ``cu-cert log add`` enters it later.

    Args:
        folder: Output folder of this certificate.
        findings: What was measured.
        plan: The plan.
        scope: Data, recipe and request.
        signing: For names and expiry.
        key: The signing key; ``None`` for an unsigned draft, which states no verdict and is not entered.
        secrets: The project's memory, for its log.
        forget: The request's ids, which may stand nowhere in it.
        share: Adds what the certificate says of models that other plans use as well, given the log before it.

    Raises:
        DataError: The checker does not accept what was measured: a bug, and nothing is signed.
        UsageError: An id of the request stands in what would be signed.
    """

    def look(payload: bytes, page: bytes) -> None:
        require_files(forget, {"the certificate": payload, "the report": page, **files})

    with open_log(secrets.log) as held:
        held.write(held.log.with_plan(plan.digest, instant(datetime.now(UTC))))
        if share is not None:
            findings, scope = share(findings, scope, held.log)
        files = {file: data for (_, _, file, _), data in findings.evidence.items()}
        predicate = predicate_of(findings, plan, scope, signing=signing, position=held.log.position())
        try:
            sealed = seal(predicate, files.get, signer=key, look=look)
        except UntrustedError as problem:
            raise DataError(str(problem).removeprefix(f"{problem.step}: ")) from None
        issued = write_sealed(folder, sealed, files)
        if key is not None:
            digest = sha256(sealed.payload).hexdigest()
            held.write(held.log.with_certificate(logged(str(issued.certificate), digest, predicate)))
    return issued
