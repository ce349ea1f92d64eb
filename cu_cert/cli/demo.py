"""``cu-cert demo``: the main job on built-in data."""

from pathlib import Path
from typing import Annotated

import typer

from cu_cert.cli._options import JsonOption


def command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for everything the demo makes.")] = Path("demo-out"),
    as_json: JsonOption = False,
) -> None:
    """Train on digits, audit an untouched, an edited and a retrained model, sign, verify, gate."""
    from cu_cert.main_job import as_json as write_json
    from cu_cert.main_job import demo

    results = demo(out, quiet=as_json, say=(lambda line: None) if as_json else typer.echo)
    if as_json:
        typer.echo(write_json(results))
