"""``cu-cert key``: make a key, show its fingerprint, trust it, replace it."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cu_cert.cli._options import JsonOption, echo_json
from cu_cert.cli._passphrase import key_passphrase, new_passphrase
from cu_cert.cli._passphrase import read_passphrase as read_passphrase

if TYPE_CHECKING:
    from cu_certificates.trust import TrustedKey

app = typer.Typer(
    help="Make a key, show its fingerprint, trust it, replace it.", no_args_is_help=True, add_completion=False
)

_SCHEMA = "cu-cert-key/1"
_ALGORITHMS = {"ecdsa-p256": "ecdsa-p256-sha256", "ecdsa-p256-sha256": "ecdsa-p256-sha256", "ed25519": "ed25519"}


def _algorithm(word: str) -> str:
    if word not in _ALGORITHMS:
        raise typer.BadParameter(f"{word!r}; expected ecdsa-p256 or ed25519", param_hint="--alg")
    return _ALGORITHMS[word]


@app.command("generate", short_help="Make a key; nothing is overwritten.")
def generate(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="The new file. Default: audit-key.pem in your configuration folder.",
            show_default=False,
        ),
    ] = None,
    alg: Annotated[
        str,
        typer.Option(metavar="NAME", help="ecdsa-p256, which every verifier accepts, or ed25519."),
    ] = "ecdsa-p256",
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Protect the key with a passphrase asked for on the terminal.")
    ] = False,
    passphrase_fd: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Protect the key with the passphrase read from file descriptor N."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Make a key; nothing is overwritten."""
    from cu_certificates.keys import default_key_folder, generate_key, public_path_of

    algorithm = _algorithm(alg)
    secret = new_passphrase(passphrase_fd, ask=passphrase)
    target = default_key_folder() / "audit-key.pem" if path is None else path
    key = generate_key(target, passphrase=secret, algorithm=algorithm)
    public = public_path_of(target)
    if json_output:
        found = {
            "schema": _SCHEMA,
            "private": str(target),
            "public": str(public),
            "algorithm": key.algorithm,
            "keyid": key.keyid,
            "protected": secret is not None,
        }
        echo_json(found)
        return
    protection = "protected by your passphrase" if secret is not None else "not protected by a passphrase"
    typer.echo(f"private key  {target} ({protection}; keep it to yourself)")
    typer.echo(f"public key   {public} (hand it to your readers)")
    typer.echo(f"fingerprint  {key.keyid} (tell it to them by another channel)")


@app.command("show", short_help="Show the fingerprint of a public key.")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A public key, PEM.")],
    json_output: JsonOption = False,
) -> None:
    """Show the fingerprint of a public key, the same that ssh-keygen -lf prints."""
    from cu_certificates.keys import algorithm_of, fingerprint, load_public_key

    public = load_public_key(file)
    keyid, algorithm = fingerprint(public), algorithm_of(public)
    if json_output:
        echo_json({"schema": _SCHEMA, "public": str(file), "algorithm": algorithm, "keyid": keyid})
        return
    typer.echo(f"{keyid}  {algorithm}  {file}")


@app.command("trust", short_help="Trust a key: write a trust file, or add to one.")
def trust(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The public key to trust, PEM.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The new trust file; nothing is overwritten. Default: trust.toml."
        ),
    ] = None,
    add_to: Annotated[
        Path | None, typer.Option("--trust", metavar="FILE", help="Add the key to this trust file instead.")
    ] = None,
    rotation: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add the key that a trusted one names as its successor (with --trust)."),
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="auditor (default), controller or gate; may stand several times."),
    ] = None,
    predicate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What the key may sign: audit, gate, revocation, rotation or a URI. Default: by its role.",
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long to trust the key.")] = 730,
    max_age_days: Annotated[
        int | None, typer.Option(min=1, help="Accept no certificate older than this (new files only).")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Write a trust file for one key, or add a key to one; compare its fingerprint with its holder's word first."""
    from datetime import UTC

    from cu_certificates.errors import UsageError

    if (file is None) == (rotation is None):
        raise UsageError("give a public key FILE, or --rotation FILE with --trust FILE; one of the two")
    if add_to is not None and (out is not None or max_age_days is not None):
        raise UsageError("--trust adds to an existing trust file; leave out --out and --max-age-days")
    now = datetime.now(UTC).replace(microsecond=0)
    if rotation is not None:
        if add_to is None:
            raise UsageError("--rotation: name the trust file that lists the old key with --trust FILE")
        target, key = add_to, _rotated(add_to, rotation, role, predicate, now, now + timedelta(days=days))
    elif file is not None:
        target = add_to or out or Path("trust.toml")
        key = _trusted(target, file, role, predicate, now, timedelta(days=days), max_age_days, add=add_to is not None)
    if json_output:
        found = {
            "schema": _SCHEMA,
            "trust": str(target),
            "keyid": key.keyid,
            "roles": list(key.roles),
            "predicates": list(key.predicates),
        }
        echo_json(found)
        return
    typer.echo(
        f"{target} trusts {key.keyid} {_purpose(key)} from {key.not_before:%Y-%m-%d} to {key.not_after:%Y-%m-%d}"
    )
    if rotation is not None:
        typer.echo("A key that was trusted already vouches for it; what it may do is no more than that one may.")
    else:
        typer.echo("Compare this fingerprint with what the key's holder tells you by another channel.")


def _purpose(key: "TrustedKey") -> str:
    from cu_certificates.envelope import PREDICATE_TYPE
    from cu_certificates.trust import PREDICATES

    if (key.roles, key.predicates) == (("auditor",), (PREDICATE_TYPE,)):
        return "for audits"
    words = {uri: word for word, uri in PREDICATES.items()}
    return f"as {', '.join(key.roles)} for {', '.join(words.get(uri, uri) for uri in key.predicates)}"


def _rights(roles: list[str] | None, predicates: list[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    from cu_certificates.trust import predicates_for

    given = tuple(roles or ("auditor",))
    return given, _uris(predicates) or predicates_for(given)


def _uris(words: list[str] | None) -> tuple[str, ...] | None:
    from cu_certificates.errors import UsageError
    from cu_certificates.trust import PREDICATES

    for word in words or ():
        if word not in PREDICATES and "://" not in word:
            raise UsageError(f"--predicate {word!r}: expected one of {', '.join(PREDICATES)}, or the URI of a type")
    return tuple(PREDICATES.get(word, word) for word in words) if words else None


def _trusted(
    target: Path,
    file: Path,
    roles: list[str] | None,
    predicates: list[str] | None,
    now: datetime,
    validity: timedelta,
    max_age_days: int | None,
    *,
    add: bool,
) -> "TrustedKey":
    from cu_certificates.trust import add_key, write_trust

    # A day back, so that a certificate issued a moment ago by a clock ahead of this one is not too early.
    start = now - timedelta(days=1)
    given, allowed = _rights(roles, predicates)
    if add:
        return add_key(target, file, not_before=start, not_after=start + validity, roles=given, predicates=allowed)
    written = write_trust(
        target,
        file,
        not_before=start,
        not_after=start + validity,
        roles=given,
        predicates=allowed,
        max_age_days=max_age_days,
    )
    return written.keys[0]


def _rotated(
    target: Path, rotation: Path, roles: list[str] | None, predicates: list[str] | None, now: datetime, end: datetime
) -> "TrustedKey":
    from cu_certificates.rotation import trust_rotation

    return trust_rotation(
        target,
        rotation,
        now=now,
        not_after=end,
        roles=tuple(roles) if roles else None,
        predicates=_uris(predicates),
    )


@app.command("rotate", short_help="Let a key name its successor.")
def rotate(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The private key that readers trust today.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The private key that is to take its place.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write it; nothing is overwritten.")
    ] = Path("rotation.sigstore.json"),
    passphrase_fd: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Read OLD's passphrase from file descriptor N.")
    ] = None,
    new_passphrase_fd: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Read NEW's passphrase from file descriptor N.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Write a statement, signed by OLD, that NEW takes its place; readers add it with 'key trust --rotation'."""
    from datetime import UTC

    from cu_certificates._files import write_new
    from cu_certificates.keys import load_private_key
    from cu_certificates.rotation import rotate as make_rotation

    before = load_private_key(old, key_passphrase(old, passphrase_fd))
    after = load_private_key(new, key_passphrase(new, new_passphrase_fd))
    write_new(out, make_rotation(before, after, now=datetime.now(UTC)), what="rotation")
    if json_output:
        echo_json({"schema": _SCHEMA, "rotation": str(out), "old": before.keyid, "new": after.keyid})
        return
    typer.echo(f"{out}: {before.keyid} names {after.keyid} as its successor")
    typer.echo(f"Your readers run: cu-cert key trust --rotation {out.name} --trust trust.toml")
