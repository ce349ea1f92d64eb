"""``cu-cert countersign``: put a second key under the bytes that an auditor signed, after verifying them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cu_cert.cli._options import EvidenceOption, JsonOption, TrustOption, echo_json
from cu_cert.cli._passphrase import key_passphrase
from cu_cert.cli.verify import plain, print_step

if TYPE_CHECKING:
    from cu_certificates.countersign import Countersigning


def command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="certificate.sigstore.json, report.html or certificate.dsse.json.")
    ],
    key: Annotated[Path, typer.Option(metavar="FILE", help="Your private key.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write all signatures. Default: certificate.dsse.json beside FILE.",
            show_default=False,
        ),
    ] = None,
    trust: TrustOption = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The model file to compare with the audited one.")
    ] = None,
    evidence: EvidenceOption = None,
    without_evidence: Annotated[
        bool, typer.Option("--without-evidence", help="Sign although evidence is absent and nothing was re-derived.")
    ] = False,
    passphrase_fd: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Read the key's passphrase from file descriptor N.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before signing.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Verify a certificate, show what you are about to sign, and sign the same bytes with your key as well."""
    import sys
    from datetime import UTC, datetime

    from cu_certificates.countersign import ENVELOPE_NAME, open_for_countersigning
    from cu_certificates.keys import load_private_key
    from cu_certificates.trust import reader_trust

    found = open_for_countersigning(
        file,
        trust=reader_trust(trust),
        model=model,
        evidence=evidence,
        now=datetime.now(UTC),
        allow_missing_evidence=without_evidence,
        watch=None if json_output else print_step,
    )
    if not json_output:
        _show(found)
    if not yes and sys.stdin.isatty() and not typer.confirm("Sign this?", default=False, err=True):
        raise typer.Abort
    signer = load_private_key(key, key_passphrase(key, passphrase_fd))
    out = file.parent / ENVELOPE_NAME if output is None else output
    found.sign(signer, out)
    if json_output:
        echo_json(_to_json(file, out, found, signer.keyid))
        return
    typer.echo(plain(f"{out}: {len(found.certificate.signatures) + 1} signatures over the same bytes; yours is by"))
    typer.echo(plain(f"{signer.keyid}"))


def _show(found: "Countersigning") -> None:
    typer.echo("\nYou are about to sign, with your key and in your name:")
    for name, text in found.described():
        typer.echo(plain(f"  {name:<10}{text}"))
    typer.echo("Your signature says that you verified this certificate and stand by it; it cannot be taken back.\n")


def _to_json(file: Path, out: Path, found: "Countersigning", keyid: str) -> dict[str, object]:
    certificate = found.certificate
    return {
        "schema": "cu-cert-countersign/1",
        "file": str(file),
        "output": str(out),
        "payload": {"sha256": certificate.payload_sha256},
        "verdict": {"stated": certificate.check.stated, "derived": certificate.check.derived},
        "missing": list(certificate.check.missing),
        "signatures": [*(signature.keyid for signature in certificate.signatures), keyid],
        "keyid": keyid,
    }
