"""What ``cu-cert audit`` prints when it is done."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cu_certificates.check.fields import shown
from cu_certificates.plan import Plan

if TYPE_CHECKING:
    from cu_cert.protocol import Audited
    from cu_certificates.keys import LocalKey
    from cu_certificates.seal import Issued


def audited_json(done: "Audited") -> dict[str, Any]:
    """Return the outcome for a program."""
    found: dict[str, Any] = {
        "schema": "cu-cert-audit/1",
        "plan": done.plan.digest,
        "questions": list(done.plan.questions),
        "models": done.forecast.models,
        "expected": done.forecast.models if done.forecast.expected is None else done.forecast.expected,
        "finished": done.forecast.finished,
        "trained": done.trained,
        "forecast": {"seconds": done.forecast.seconds, "megabytes": done.forecast.megabytes},
        "resolution": [resolution_json(done.plan, question) for question in done.plan.questions],
    }
    for issued in done.issued:
        found |= {
            "certificate": str(issued.certificate),
            "report": str(issued.report),
            "signed": done.key is not None,
            "verdict": issued.result.stated,
            "derived": issued.result.derived,
            "reasons": list(issued.result.reasons),
        }
        if done.key is not None:
            found |= {"keyid": done.key.key.keyid, "publicKey": str(done.key.public_path)}
    return found


def resolution_json(plan: Plan, question: str) -> dict[str, Any]:
    """Return what an audit of this size can see about the first subject."""
    subject = plan.subjects[0]
    seen = plan.resolution(subject, question)
    return {
        "question": question,
        "testedEps": shown(subject.tested_eps),
        "maxEps": shown(seen.max_eps),
        "accuracy": None if seen.accuracy is None else shown(seen.accuracy),
        "powerReached": seen.reached,
    }


def audited_lines(done: "Audited") -> list[str]:
    """Return the outcome for a person; the verdict is the last line."""
    if not done.issued:
        return ["dry run: nothing was trained and no certificate was written"]
    return issued_lines(done.issued[0], done.key)


def issued_lines(issued: "Issued", key: "LocalKey | None") -> list[str]:
    """Return where the files of a certificate lie and what it says; the verdict is the last line.

    Args:
        issued: The files.
        key: The key that signed, ``None`` for a draft.
    """
    lines = [
        f"certificate  {issued.certificate}",
        f"report       {issued.report}",
        f"evidence     {issued.folder / 'evidence'} (to hand to an auditor)",
        f"private      {issued.folder / 'private'} (never hand on)",
    ]
    if key is None:
        return [*lines, "UNSIGNED DRAFT: it states no verdict; the checker derives " + issued.result.derived]
    made, stated = "made now" if key.created else "existing", issued.result.predicate["auditor"]["independence"]
    lines += [
        f"signed by    {key.key.keyid} ({made} key {key.path}; independence: {stated})",
        f"public key   {key.public_path} (to hand on; readers trust it with cu-cert key trust)",
        f"verify with  cu-cert verify {issued.report} --trust TRUST.toml, where the reader's TRUST.toml names this key",
    ]
    lines += [f"reason       {reason}" for reason in issued.result.reasons]
    return [*lines, f"verdict      {issued.result.stated}"]


def require_gate(policy: Path, trust: Path | None) -> None:
    """Read what the gate will need, so that a missing trust file shows before the audit and not hours later.

    Raises:
        CertificateError: Policy or trust file is missing or wrong.
    """
    from cu_certificates.policy import load_policy
    from cu_certificates.trust import reader_trust

    reader_trust(trust or load_policy(policy).trust)


def gate_after(done: "Audited", policy: Path, model: Path, trust: Path | None, *, quiet: bool) -> int:
    """Judge the new certificate by the project's policy; returns the gate's exit code."""
    from cu_certificates.gate import run_gate
    from cu_certificates.policy import load_policy

    issued = done.issued[0]
    report = run_gate(issued.certificate, policy=load_policy(policy), trust=trust, model=model, now=datetime.now(UTC))
    typer.echo(report.to_text(), nl=False, err=quiet)
    return report.exit_code
