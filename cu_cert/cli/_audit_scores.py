"""``cu-cert audit --scores``: the same certificate from scores that were made elsewhere, without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cu_cert.cli._options import echo_json
from cu_cert.errors import ConfigError

if TYPE_CHECKING:
    from cu_cert.outside import Judged
    from cu_certificates.keys import LocalKey


def run_scores(
    scores: Path,
    plan: Path | None,
    *,
    model: Path | None,
    out: Path,
    key: Path | None,
    passphrase: bytes | None,
    sign: bool,
    allow_underpowered: bool,
    as_json: bool,
    other: Mapping[str, bool],
) -> "Judged":
    """Judge scores and say what came of it; the verdict is the last line.

    Args:
        scores: The scores file.
        plan: The plan file.
        model: The audited file, whose digest is taken.
        out: Folder of the certificate.
        key: Private key that signs.
        passphrase: Its passphrase.
        sign: Whether to sign.
        allow_underpowered: Go on with sizes that do not reach the planned power.
        as_json: Whether to print one JSON object.
        other: Options that say nothing here, and whether they were given.

    Raises:
        ConfigError: An option is missing, or one does not belong here.
    """
    from cu_cert.declared import load_declaration
    from cu_cert.issue import signing_key
    from cu_cert.outside import audit_scores

    if plan is None:
        raise ConfigError(
            "--scores: needs --plan FILE, a file with the tables [audit] and [outside]; see docs/scores.md"
        )
    given = [name for name, there in other.items() if there]
    if given:
        raise ConfigError(f"{given[0]}: says nothing about scores that were made elsewhere; leave it out with --scores")
    declared = load_declaration(plan)
    signer = signing_key(declared.key_path(), key, passphrase) if sign else None
    done = audit_scores(
        scores, plan, model=model, out=out, key=signer.key if signer else None, allow_underpowered=allow_underpowered
    )
    if as_json:
        echo_json(_json(done, signer))
    else:
        for line in _lines(done, signer):
            typer.echo(line)
    return done


def _json(done: "Judged", signer: "LocalKey | None") -> dict[str, Any]:
    issued = done.issued
    found: dict[str, Any] = {
        "schema": "cu-cert-audit/1",
        "plan": done.plan.digest,
        "questions": list(done.plan.questions),
        "coins": done.coins,
        "certificate": str(issued.certificate),
        "report": str(issued.report),
        "signed": signer is not None,
        "verdict": issued.result.stated,
        "derived": issued.result.derived,
        "reasons": list(issued.result.reasons),
    }
    if signer is not None:
        found |= {"keyid": signer.key.keyid, "publicKey": str(signer.public_path)}
    return found


def _lines(done: "Judged", signer: "LocalKey | None") -> list[str]:
    issued = done.issued
    made = "by coins handed out before" if done.coins else "AFTER THE FACT: no coins were handed out for these models"
    lines = [
        f"plan         {done.plan.digest[:16]}, attempt {done.plan.attempt}, {made}",
        f"certificate  {issued.certificate}",
        f"report       {issued.report}",
        f"evidence     {issued.folder / 'evidence'} (to hand to an auditor)",
        f"private      {issued.folder / 'private'} (never hand on)",
    ]
    if signer is None:
        return [*lines, f"UNSIGNED DRAFT: it states no verdict; the checker derives {issued.result.derived}"]
    stated = issued.result.predicate["auditor"]["independence"]
    lines.append(f"signed by    {signer.key.keyid} (key {signer.path}; independence: {stated})")
    lines += [f"reason       {reason}" for reason in issued.result.reasons]
    return [*lines, f"verdict      {issued.result.stated}"]
