"""``cu-cert report --edition``: copy the files of an edition."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from cu_cert.cli._options import echo_json
from cu_cert.cli.verify import plain


def write(
    file: Path,
    edition: str,
    *,
    trust: Path | None,
    output: Path | None,
    forget: Path | None,
    accept: list[str] | None,
    as_json: bool,
) -> None:
    """Copy the files of an edition and say what was written.

    Args:
        file: The certificate or the report.
        edition: ``public`` or ``annex``.
        trust: The keys that are trusted.
        output: The new folder.
        forget: The request's ids, which may stand nowhere.
        accept: Kinds of finding that somebody has looked at.
        as_json: Whether to print one JSON object.

    Raises:
        UsageError: An option is missing or wrong, or the lint finds something.
        UntrustedError: The certificate is not accepted.
    """
    from cu_cert.data._ids import read_ids
    from cu_certificates.editions import write_edition
    from cu_certificates.errors import UsageError
    from cu_certificates.privacy import IdIndex
    from cu_certificates.trust import load_trust

    if edition not in ("public", "annex"):
        raise UsageError(f"--edition {edition!r}: expected public or annex")
    if trust is None or output is None:
        raise UsageError("--edition copies the files of a verified certificate; it needs --trust FILE and -o DIR")
    ids = None
    if forget is not None:
        ids = IdIndex({entry.id: f"{forget.name}:{entry.line}" for entry in read_ids(forget).entries})
    done = write_edition(
        file,
        "public" if edition == "public" else "annex",
        output,
        trust=load_trust(trust),
        now=datetime.now(UTC),
        ids=ids,
        accepted=accept or (),
    )
    if as_json:
        document: dict[str, Any] = {
            "schema": "cu-cert-report/1",
            "file": str(file),
            "edition": edition,
            "output": str(output),
            "files": list(done.files),
            "payload": {"sha256": done.certificate.payload_sha256},
        }
        echo_json(document)
        return
    typer.echo(plain(f"{output}: {'public edition' if edition == 'public' else 'controlled annex'}"))
    for name in done.files:
        typer.echo(plain(f"  {name}"))
    if ids is None:
        typer.echo("note: no list of ids was given (--forget FILE), so only patterns were looked for")
