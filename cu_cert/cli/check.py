"""``cu-cert check``: re-derive the claims, look at no signature; the same as ``cu-cert-check``."""

from pathlib import Path
from typing import Annotated

import typer

from cu_cert.cli._options import JsonOption


def command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="certificate.sigstore.json, report.html or certificate.draft.json.")
    ],
    evidence: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with plan.json and evidence/. Default: the folder of FILE."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Re-derive every claim from the evidence; no signature is checked."""
    from cu_certificates.check.main import run

    raise typer.Exit(run(file, evidence, as_json=as_json))
