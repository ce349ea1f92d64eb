"""``cu-cert revoke``: write into a signed list that a certificate or a key no longer counts."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cu_cert.cli._options import JsonOption, echo_json
from cu_cert.cli._passphrase import key_passphrase

if TYPE_CHECKING:
    from cu_certificates.revocation import Entry


def command(
    key: Annotated[Path, typer.Option(metavar="FILE", help="The private key that signs the list.")],
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Revoke this certificate (bundle, envelope, report).")
    ] = None,
    keyid: Annotated[
        str | None, typer.Option(metavar="FINGERPRINT", help="Revoke this key, as 'cu-cert key show' names it.")
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Revoke nothing; sign the list again, so that it is recent.")
    ] = False,
    reason: Annotated[
        str,
        typer.Option(metavar="WORD", help="key-compromise, superseded, error, retired or another lower-case word."),
    ] = "unspecified",
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Since when, such as 2026-11-20T18:00:00Z. Default: now.", show_default=False
        ),
    ] = None,
    revoked: Annotated[
        Path, typer.Option("--list", metavar="FILE", help="The list; it is made when it does not exist.")
    ] = Path("revoked.sigstore.json"),
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="By which an existing list is verified. Default: it must be signed by --key.",
            show_default=False,
        ),
    ] = None,
    passphrase_fd: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Read the key's passphrase from file descriptor N.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Add a certificate or a key to a signed list of what no longer counts; no entry is ever taken back."""
    from datetime import UTC

    from cu_certificates.errors import UsageError
    from cu_certificates.keys import load_private_key
    from cu_certificates.revocation import revoke
    from cu_certificates.trust import load_trust

    if sum((certificate is not None, keyid is not None, refresh)) != 1:
        raise UsageError("give one of --certificate FILE, --keyid FINGERPRINT and --refresh")
    now = datetime.now(UTC).replace(microsecond=0)
    entry = None if refresh else _entry(certificate, keyid, reason, since, now)
    signer = load_private_key(key, key_passphrase(key, passphrase_fd))
    written = revoke(revoked, signer, entry, now=now, trust=None if trust is None else load_trust(trust))
    if json_output:
        document = {
            "schema": "cu-cert-revoke/1",
            "list": str(revoked),
            "sequence": written.sequence,
            "entries": len(written.entries),
            "revoked": None if entry is None else entry.to_json(),
            "payload": {"sha256": written.payload_sha256},
            "keyid": written.keyid,
        }
        echo_json(document)
        return
    told = "nothing was added" if entry is None else f"{entry.name} ({entry.reason}, since {entry.revoked_at})"
    typer.echo(f"{revoked}: number {written.sequence}, {len(written.entries)} entries; {told}")
    typer.echo(f"Hand the file to your readers; min_sequence = {written.sequence} in a trust file refuses older ones.")


def _entry(certificate: Path | None, keyid: str | None, reason: str, since: str | None, now: datetime) -> "Entry":
    from cu_certificates._opening import instant
    from cu_certificates.errors import UntrustedError, UsageError
    from cu_certificates.revocation import Entry
    from cu_certificates.verify import load_unverified

    try:
        when = now if since is None else instant(since, "--since")
    except UntrustedError as error:
        raise UsageError(str(error).removeprefix("time: ")) from None
    digest = None if certificate is None else load_unverified(certificate).payload_sha256
    return Entry(payload_sha256=digest, keyid=keyid, revoked_at=when, reason=reason)
