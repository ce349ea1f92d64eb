"""``cu-cert fleet plan`` and ``cu-cert fleet train``: the models of a release, made before the first request comes."""

from pathlib import Path
from typing import Annotated

import typer

from cu_cert.cli._options import ExecutorOption, JsonOption, echo_json

OriginalsOption = Annotated[
    int | None,
    typer.Option(
        "--originals",
        min=0,
        metavar="N",
        help="Models on all records that audits may judge. Default: what one audit of the configured sizes takes.",
        show_default=False,
    ),
]
ShadowsOption = Annotated[
    int | None,
    typer.Option(
        "--shadows",
        min=0,
        metavar="N",
        help="Models on random halves of all records, even. Default: [audit] shadows.",
        show_default=False,
    ),
]


def plan(originals: OriginalsOption = None, shadows: ShadowsOption = None, as_json: JsonOption = False) -> None:
    """Say which models serve every request of this release, how many are there, and what the others take."""
    from cu_cert.project import find_project, load_project
    from cu_cert.stocking import plan_release

    found = plan_release(load_project(find_project(Path.cwd())), originals=originals, shadows=shadows)
    if as_json:
        echo_json({"schema": "cu-cert-fleet-plan/1", **found.to_json()})
        return
    for line in found.lines():
        typer.echo(line)


def train(
    originals: OriginalsOption = None,
    shadows: ShadowsOption = None,
    executor: ExecutorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the models that serve every request of this release; the same command goes on after an interruption."""
    from cu_cert.project import find_project, load_project
    from cu_cert.stocking import plan_release, train_release

    project = load_project(find_project(Path.cwd()))
    if not as_json:
        for line in plan_release(project, originals=originals, shadows=shadows).lines():
            typer.echo(line)
    done = train_release(project, originals=originals, shadows=shadows, executor=executor, quiet=as_json)
    if as_json:
        echo_json(
            {
                "schema": "cu-cert-fleet-train/1",
                **done.plan.to_json(),
                "trained": done.trained,
                "failed": done.failed,
            }
        )
        return
    there = f"{done.trained} models trained now, {done.plan.finished} of {done.plan.models} are in the store"
    typer.echo(there + (f"; {done.failed} of them failed, and plans count them as failed" if done.failed else ""))
