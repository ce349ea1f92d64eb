"""``cu-cert unlearn``: run an unlearning method on a model."""

from pathlib import Path
from typing import Annotated

import typer

from cu_cert.cli._options import JsonOption, echo_json, require_place, settings


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model before.")],
    forget: Annotated[
        Path, typer.Option(metavar="FILE", help="The ids that must go: one a line, or CSV with an id column.")
    ],
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help="The method; default that of [unlearning].")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The model file to write.")] = Path(
        "unlearned.pt"
    ),
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the method; repeatable.")
    ] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Go on when ids are not in the data.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Edit or retrain a model so that a request's records are unlearned; audit it afterwards."""
    from cu_cert.project import find_project, load_project
    from cu_cert.unlearning import unlearn_model

    require_place(out)
    project = load_project(find_project(Path.cwd()))
    done = unlearn_model(
        project, model, forget, out, method=method, options=settings(options), allow_missing=allow_missing
    )
    if as_json:
        echo_json(
            {
                "schema": "cu-cert-unlearn/1",
                "model": str(done.model),
                "sha256": done.digest,
                "method": done.method,
                "parameters": dict(done.parameters),
                "request": done.request,
                "requestAccuracy": list(done.request_accuracy),
                "heldOutAccuracy": list(done.held_out_accuracy),
                "seconds": done.seconds,
            }
        )
        return
    typer.echo(f"{done.model}  sha256:{done.digest[:16]}…  by {done.method} in {done.seconds:.2f} s")
    for name, (before, after) in (("request", done.request_accuracy), ("held-out", done.held_out_accuracy)):
        typer.echo(f"accuracy on {name:9}{before:.4f} before, {after:.4f} after")
    typer.echo("A changed accuracy shows nothing about what remains. Next:")
    typer.echo(f"  cu-cert audit {done.model} --forget {forget} --original {model}")
