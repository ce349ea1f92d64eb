"""``cu-cert drill``: does a method unlearn at all? One run, on records that the drill draws itself."""

from pathlib import Path
from typing import Annotated

import typer

from cu_cert.cli._options import JsonOption, echo_json, settings


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
    seed: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Root of all randomness of a drill without certificate; default drill."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a certificate, report and evidence there; the project draws the seed."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --out: private key that signs; default that of [signing].")
    ] = None,
    passphrase_fd: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="With --out: read the key's passphrase from file descriptor N."),
    ] = None,
    no_sign: Annotated[bool, typer.Option("--no-sign", help="With --out: write an unsigned draft.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Rehearse an unlearning method on canaries in one run: seconds; exits 0 whatever the verdict."""
    from cu_cert.cli._drill_text import certified_json, certified_lines, drill_json, drill_lines, level
    from cu_cert.cli.key import read_passphrase
    from cu_cert.drilling import REFERENCES, drill
    from cu_cert.errors import ConfigError
    from cu_cert.project import find_project, load_project

    if out is None:
        for option, given in (("--key", key), ("--passphrase-fd", passphrase_fd), ("--no-sign", no_sign or None)):
            if given is not None:
                raise ConfigError(f"{option}: belongs to a certificate; name its folder with --out DIR too")
    elif seed is not None:
        raise ConfigError(
            f"--seed {seed}: a certificate's coins follow from its plan and the project's secret, so that nobody can "
            "choose them; leave it out (attempt in [audit] tells a repetition from the first drill)"
        )
    project = load_project(find_project(Path.cwd()))
    share = None if alpha is None else level(alpha)
    models = REFERENCES if references is None else references
    if out is None:
        done = drill(
            project,
            method=method,
            options=settings(options),
            canaries=canaries,
            candidates=candidates,
            references=models,
            alpha=share,
            seed="drill" if seed is None else seed,
            quiet=as_json,
        )
        found, lines = drill_json(done), drill_lines(done)
    else:
        from cu_cert.drill_certificate import certify_drill

        certified = certify_drill(
            project,
            out=out,
            method=method,
            options=settings(options),
            canaries=canaries,
            candidates=candidates,
            references=models,
            alpha=share,
            key=key,
            passphrase=None if passphrase_fd is None else read_passphrase(passphrase_fd),
            sign=not no_sign,
            quiet=as_json,
        )
        found, lines = certified_json(certified), certified_lines(certified)
    if as_json:
        echo_json(found)
    else:
        for line in lines:
            typer.echo(line)
