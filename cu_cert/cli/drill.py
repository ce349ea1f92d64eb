"""``cu-cert drill``: does a method unlearn at all? One run, on records that the drill draws itself."""

from pathlib import Path
from typing import Annotated

import typer

from cu_cert.cli._options import echo_json, settings


def command(
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help="The method to rehearse; default that of [unlearning].")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the method; repeatable.")
    ] = None,
    canaries: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="What is drawn: mislabelled (wrong labels, strongest), vulnerable (hard to predict), random, mixed.",
        ),
    ] = "mislabelled",
    candidates: Annotated[
        int | None, typer.Option(metavar="M", help="Records that get a coin; default 300, or a quarter of the data.")
    ] = None,
    references: Annotated[
        int | None, typer.Option(metavar="K", help="Models that never see a candidate and fix the score; default 12.")
    ] = None,
    alpha: Annotated[
        str | None, typer.Option(metavar="1/20", help="How often a bound may be wrong; default that of [audit].")
    ] = None,
    seed: Annotated[str, typer.Option(metavar="TEXT", help="Root of all randomness of the drill.")] = "drill",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Rehearse an unlearning method on canaries in one run: seconds, no certificate; exits 0 whatever the verdict."""
    from cu_cert.cli._drill_text import drill_json, drill_lines, level
    from cu_cert.drilling import REFERENCES, drill
    from cu_cert.project import find_project, load_project

    done = drill(
        load_project(find_project(Path.cwd())),
        method=method,
        options=settings(options),
        canaries=canaries,
        candidates=candidates,
        references=REFERENCES if references is None else references,
        alpha=None if alpha is None else level(alpha),
        seed=seed,
        quiet=as_json,
    )
    if as_json:
        echo_json(drill_json(done))
    else:
        for line in drill_lines(done):
            typer.echo(line)
