"""``cu-cert audit``: plan, train, measure, claim, sign, report."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cu_cert.cli._options import ExecutorOption, JsonOption, echo_json, settings


def command(
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="The model under audit; optional with --scores.")
    ] = None,
    forget: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The ids that must go: one a line, or CSV with an id column.")
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Judge models by scores made elsewhere (.npz or .parquet); needs --plan, loads no model.",
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The table [audit] in a file of its own; with --scores also [outside]."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The method that made the model; default: what its sidecar or [unlearning] says."
        ),
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter of --method; repeatable.")
    ] = None,
    procedure: Annotated[
        str, typer.Option(metavar="auto|none", help="none: ask only whether this very file is typical.")
    ] = "auto",
    original: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The model before unlearning, shown beside it in the attacks panel."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for certificate, report and evidence.")] = Path(
        "audit-out"
    ),
    budget: Annotated[int | None, typer.Option(min=1, metavar="N", help="Train at most this many models.")] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Private key that signs; default that of [signing].")
    ] = None,
    passphrase_fd: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Read the key's passphrase from file descriptor N.")
    ] = None,
    no_sign: Annotated[bool, typer.Option("--no-sign", help="Write an unsigned draft.")] = False,
    no_retrain: Annotated[
        bool,
        typer.Option(
            "--no-retrain",
            help="Train nothing: compare the request's records with never-trained ones of the same class on this one "
            "model. May end REFUTED or INCONCLUSIVE, never NOT_REFUTED.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print plan and forecast, train nothing.")] = False,
    gate: Annotated[bool, typer.Option("--gate", help="End with the gate's decision and exit code.")] = False,
    trust: Annotated[Path | None, typer.Option(metavar="FILE", help="With --gate: the keys you trust.")] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Go on when ids are not in the data.")] = False,
    allow_underpowered: Annotated[
        bool, typer.Option("--allow-underpowered", help="Go on with sizes that do not reach the planned power.")
    ] = False,
    executor: ExecutorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure whether a deletion took, and write a signed certificate; exits 0 whatever the verdict."""
    from cu_cert.cli._audit_text import audited_json, audited_lines, gate_after, require_gate
    from cu_cert.cli.key import read_passphrase
    from cu_cert.errors import ConfigError

    if scores is not None:
        from cu_cert.cli._audit_scores import run_scores

        other = {
            "--forget": forget is not None,
            "--method": method is not None,
            "--set": bool(options),
            "--procedure": procedure != "auto",
            "--original": original is not None,
            "--budget": budget is not None,
            "--no-retrain": no_retrain,
            "--dry-run": dry_run,
            "--gate": gate,
            "--trust": trust is not None,
            "--allow-missing": allow_missing,
            "--executor": executor is not None,
        }
        run_scores(
            scores,
            plan,
            model=model,
            out=out,
            key=key,
            passphrase=None if passphrase_fd is None else read_passphrase(passphrase_fd),
            sign=not no_sign,
            allow_underpowered=allow_underpowered,
            as_json=as_json,
            other=other,
        )
        return
    if model is None or forget is None:
        raise ConfigError("expected MODEL and --forget FILE, or --scores FILE with --plan FILE")
    from cu_cert.no_retrain import audit_without_retraining
    from cu_cert.project import find_project, load_project, with_plan
    from cu_cert.protocol import audit

    if procedure not in ("auto", "none"):
        raise ConfigError(f"--procedure {procedure}: expected none, or leave it out")
    if procedure == "none" and (method or options):
        raise ConfigError("--procedure none: does not go with --method or --set; leave one of them out")
    if options and method is None:
        raise ConfigError("--set: belongs to --method; name the method too")
    if no_retrain and (budget is not None or allow_underpowered or executor is not None):
        raise ConfigError("--no-retrain: trains no model; leave out --budget, --allow-underpowered and --executor")
    if gate and (no_sign or dry_run):
        raise ConfigError("--gate: needs a signed certificate; leave out --no-sign and --dry-run")
    project = load_project(find_project(Path.cwd()))
    if plan is not None:
        project = with_plan(project, plan)
    if gate:
        require_gate(project.path, trust)
    say = (lambda line: None) if as_json else typer.echo
    train = partial(audit, budget=budget, allow_underpowered=allow_underpowered, executor=executor, quiet=as_json)
    run = audit_without_retraining if no_retrain else train
    done = run(
        model,
        forget,
        project=project,
        method=method,
        options=settings(options),
        procedure=procedure == "auto",
        original=original,
        out=out,
        key=key,
        passphrase=None if passphrase_fd is None else read_passphrase(passphrase_fd),
        sign=not no_sign,
        dry_run=dry_run,
        allow_missing=allow_missing,
        say=say,
    )
    if as_json:
        echo_json(audited_json(done))
    else:
        for line in audited_lines(done):
            typer.echo(line)
    if gate:
        raise typer.Exit(gate_after(done, project.path, model, trust, quiet=as_json))
