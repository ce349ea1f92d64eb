"""``cu-cert init``: write a commented ``cu-cert.toml`` and say what was guessed."""

from pathlib import Path
from typing import Annotated

import typer

from cu_cert.cli._options import JsonOption, echo_json


def command(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="A table (.csv, .parquet), .npz archive, idx file or folder to describe. Without it: built-in digits.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a cu-cert.toml that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented cu-cert.toml into this folder."""
    from cu_cert.project import FILE_NAME, init_project

    found = init_project(Path.cwd(), data=data, force=force)
    if as_json:
        echo_json({"schema": "cu-cert-init/1", "file": FILE_NAME, "guessed": list(found.reasons)})
        return
    typer.echo(f"Wrote {FILE_NAME}. Please check these guesses:")
    for reason in found.reasons:
        typer.echo(f"  {reason}")
    typer.echo("Next: cu-cert train -o model.pt")
