"""``cu-cert key``: make an audit key, show the fingerprint of a public key."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make a key, show its fingerprint, trust one.", no_args_is_help=True, add_completion=False)

_MAX_PASSPHRASE = 4096


def read_passphrase(descriptor: int) -> bytes:
    """Read a passphrase from an open file descriptor up to its end; one final line end is dropped.

    A descriptor, because what stands in the arguments can be read by every process of the machine.

    Args:
        descriptor: The number of the file descriptor.

    Raises:
        UsageError: It cannot be read, or what it holds is empty or far too long.
    """
    import os

    from cu_certificates.errors import UsageError

    data = b""
    try:
        while len(data) <= _MAX_PASSPHRASE and (chunk := os.read(descriptor, _MAX_PASSPHRASE + 1)):
            data += chunk
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--passphrase-fd {descriptor}: cannot be read ({error}); open it, for example with 3< FILE"
        ) from None
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(data) <= _MAX_PASSPHRASE:
        raise UsageError(
            f"--passphrase-fd {descriptor}: {len(data)} bytes; expected a passphrase of 1 to {_MAX_PASSPHRASE} bytes"
        )
    return data


@app.command("generate")
def generate(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="The new file. Default: audit-key.pem in your configuration folder.",
            show_default=False,
        ),
    ] = None,
    passphrase_fd: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Protect the key with the passphrase read from file descriptor N."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make an ECDSA P-256 key; nothing is overwritten."""
    from cu_certificates.keys import ALGORITHM, default_key_folder, generate_key, public_path_of

    target = default_key_folder() / "audit-key.pem" if path is None else path
    key = generate_key(target, passphrase=None if passphrase_fd is None else read_passphrase(passphrase_fd))
    public = public_path_of(target)
    if json_output:
        import json

        found = {
            "schema": "cu-cert-key/1",
            "private": str(target),
            "public": str(public),
            "algorithm": ALGORITHM,
            "keyid": key.keyid,
            "protected": passphrase_fd is not None,
        }
        typer.echo(json.dumps(found, indent=2))
        return
    protection = "protected by your passphrase" if passphrase_fd is not None else "not protected by a passphrase"
    typer.echo(f"private key  {target} ({protection}; keep it to yourself)")
    typer.echo(f"public key   {public} (hand it to your readers)")
    typer.echo(f"fingerprint  {key.keyid} (tell it to them by another channel)")


@app.command("show", short_help="Show the fingerprint of a public key.")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A public key, PEM.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the fingerprint of a public key, the same that ssh-keygen -lf prints."""
    from cu_certificates.keys import ALGORITHM, fingerprint, load_public_key

    keyid = fingerprint(load_public_key(file))
    if json_output:
        import json

        typer.echo(
            json.dumps(
                {"schema": "cu-cert-key/1", "public": str(file), "algorithm": ALGORITHM, "keyid": keyid}, indent=2
            )
        )
        return
    typer.echo(f"{keyid}  {ALGORITHM}  {file}")


@app.command("trust", short_help="Write a trust file for one key.")
def trust(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The public key to trust, PEM.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The new trust file; nothing is overwritten.")
    ] = Path("trust.toml"),
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a trust file for one key; compare its fingerprint with what its holder tells you first."""
    from datetime import UTC, datetime, timedelta

    from cu_certificates.trust import write_trust

    # A day back, so that a certificate issued a moment ago by a clock ahead of this one is not too early.
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    key = write_trust(out, file, not_before=start).keys[0]
    if json_output:
        import json

        typer.echo(json.dumps({"schema": "cu-cert-key/1", "trust": str(out), "keyid": key.keyid}, indent=2))
        return
    typer.echo(f"{out} trusts {key.keyid} for audits from {key.not_before:%Y-%m-%d} to {key.not_after:%Y-%m-%d}")
    typer.echo("Compare this fingerprint with what the key's holder tells you by another channel.")
