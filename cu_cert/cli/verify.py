"""``cu-cert verify``: signature, trust, time, subject, evidence, claims, verdict; each step printed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_cert.cli._options import EvidenceOption, JsonOption, TrustOption
from cu_cert.cli._verify_gate import decision_in

if TYPE_CHECKING:
    from cu_certificates.verify import Certificate, Step

_STEP_WIDTH = 11
_STATE_WIDTH = 12


def command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="certificate.sigstore.json, certificate.dsse.json, report.html or gate.sigstore.json."
        ),
    ],
    trust: TrustOption = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The model file to compare with the audited one; it is never loaded."),
    ] = None,
    evidence: EvidenceOption = None,
    without_evidence: Annotated[
        bool,
        typer.Option("--without-evidence", help="Go on when evidence is absent; its claims then stay unverified."),
    ] = False,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The auditor's log.jsonl, in which the certificate must stand.")
    ] = None,
    model_sig: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The model's own signature (OpenSSF model signing).")
    ] = None,
    model_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The public key of the model's maker; goes with --model-sig.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Verify a certificate: who signed it, whether you trust them, and whether its claims follow."""
    from datetime import UTC, datetime

    from cu_certificates.errors import UsageError
    from cu_certificates.trust import reader_trust
    from cu_certificates.verify import verify

    if (model_sig is None) != (model_key is None):
        raise UsageError("--model-sig, --model-key: give both, the model's signature and the key of its maker")
    if decision_in(file, trust=trust, model=model, as_json=json_output):
        return
    certificate = verify(
        file,
        trust=reader_trust(trust),
        model=model,
        evidence=evidence,
        log=log,
        model_signature=None if model_sig is None or model_key is None else (model_sig, model_key),
        now=datetime.now(UTC),
        allow_missing_evidence=without_evidence,
        watch=None if json_output else print_step,
    )
    if json_output:
        import json

        typer.echo(json.dumps(to_json(file, certificate), indent=2))
        return
    typer.echo("")
    for status, name, detail in certificate.check.lines():
        typer.echo(plain(f"{status:<{_STATE_WIDTH}}{name}  {detail}"))
    typer.echo("")
    typer.echo(plain(last_line(certificate)))


def plain(text: str) -> str:
    """Return ``text`` on one line without control characters, which could forge lines or colours in a terminal.

    Args:
        text: A line that may quote a certificate.
    """
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def print_step(step: "Step") -> None:
    """Print one step of a verification.

    Args:
        step: What was done.
    """
    typer.echo(plain(f"{step.name:<{_STEP_WIDTH}}{step.state:<{_STATE_WIDTH}}{step.detail}"))


def _assumptions(certificate: "Certificate") -> list[str]:
    found = certificate.predicate.get("assumptions")
    return [str(name) for name in found] if isinstance(found, list) else []


def last_line(certificate: "Certificate") -> str:
    """Return the verdict and what it rests on.

    Args:
        certificate: What verification returned.
    """
    check = certificate.check
    parts = ["signature valid"]
    if check.missing:
        parts += [
            f"stated verdict {check.stated} not re-derived",
            f"claims not re-derived without {', '.join(check.missing)}",
        ]
    else:
        parts.append("claims re-derived")
    parts.append(f"assumed: {', '.join(_assumptions(certificate)) or 'nothing named'}")
    unchecked = [step.name for step in certificate.steps if step.name == "subject" and step.state != "ok"]
    if unchecked:
        parts.append("no model file compared")
    return f"{certificate.verdict}: {'; '.join(parts)}"


def to_json(file: Path, certificate: "Certificate") -> dict[str, Any]:
    """Return the outcome for a program.

    Args:
        file: The file that was verified.
        certificate: What verification returned.
    """
    check = certificate.check
    return {
        "schema": "cu-cert-verify/1",
        "file": str(file),
        "payload": {"sha256": certificate.payload_sha256},
        "key": {"keyid": certificate.keyid, "roles": list(certificate.roles)},
        "signatures": [signature.keyid for signature in certificate.signatures],
        "timeStamp": None if certificate.stamped is None else f"{certificate.stamped:%Y-%m-%dT%H:%M:%SZ}",
        "steps": [{"name": step.name, "state": step.state, "detail": step.detail} for step in certificate.steps],
        "claims": [
            {"id": claim.id, "type": claim.type, "status": claim.status, "detail": claim.detail}
            for claim in check.claims
        ],
        "verdict": {"stated": check.stated, "derived": check.derived, "reasons": list(check.reasons)},
        "missing": list(check.missing),
        "assumptions": _assumptions(certificate),
    }
