"""``cu-cert train``: train the project's recipe."""

from pathlib import Path
from typing import Annotated

import typer

from cu_cert.cli._options import JsonOption, echo_json, require_place


def command(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The model file to write.")] = Path(
        "model.pt"
    ),
    as_json: JsonOption = False,
) -> None:
    """Train the project's recipe on its training records; the same project gives the same bytes."""
    from cu_cert.project import find_project, load_project
    from cu_cert.training import train_model

    require_place(out)
    done = train_model(load_project(find_project(Path.cwd())), out)
    if as_json:
        echo_json(
            {
                "schema": "cu-cert-train/1",
                "model": str(done.model),
                "sha256": done.digest,
                "records": len(done.train_ids),
                "heldOutAccuracy": done.held_out_accuracy,
            }
        )
        return
    typer.echo(f"{done.model}  sha256:{done.digest[:16]}…")
    typer.echo(f"trained on {len(done.train_ids)} records; held-out accuracy {done.held_out_accuracy:.4f}")
