"""``cu-cert plan``: fix and hash an audit plan without running it; hand out coins when models are made elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_cert.cli._options import JsonOption, echo_json, settings

if TYPE_CHECKING:
    from cu_certificates.plan import Plan


def command(
    subject: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL|PLAN.toml",
            help="The model that this project will audit; or the plan file of models that are made elsewhere.",
        ),
    ],
    forget: Annotated[
        Path, typer.Option(metavar="FILE", help="The ids that must go; for models made elsewhere, as scores name them.")
    ],
    method: Annotated[str | None, typer.Option(metavar="NAME", help="As in cu-cert audit.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter of --method; repeatable.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With PLAN.toml: the audited file, if it is there already.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for plan.json and models.csv.")] = Path("plan-out"),
    as_json: JsonOption = False,
) -> None:
    """Write and hash the plan of an audit, so that its digest is known before anything is trained.

    For models that are made elsewhere (PLAN.toml) it also hands out the coins: which model to make how.
    """
    from cu_cert.errors import ConfigError

    say: Callable[[str], None] = (lambda line: None) if as_json else typer.echo
    if subject.suffix == ".toml":
        if method is not None or options:
            raise ConfigError("--method, --set: the plan file names the method ([outside] method); leave them out")
        _elsewhere(subject, forget, model, out, say, as_json)
        return
    if model is not None:
        raise ConfigError("--model: goes with PLAN.toml; here MODEL is the audited file")
    from cu_cert.project import find_project, load_project
    from cu_cert.protocol import audit

    done = audit(
        subject,
        forget,
        project=load_project(find_project(Path.cwd())),
        method=method,
        options=settings(options),
        out=out,
        plan_only=True,
        quiet=True,
        say=say,
    )
    found = _document(done.plan, out) | {"models": done.forecast.models}
    if as_json:
        echo_json(found)
        return
    typer.echo(f"plan         {done.plan.digest}")
    typer.echo(f"             {out / 'plan.json'}; the same cu-cert audit command uses this plan and no other")


def _elsewhere(
    plan: Path, forget: Path, model: Path | None, out: Path, say: Callable[[str], None], as_json: bool
) -> None:
    from cu_cert.outside import hand_out
    from cu_certificates.check.fields import shown

    order = hand_out(plan, forget, model=model, out=out)
    found = _document(order.plan, out) | {"models": order.models, "workOrder": str(out / "models.csv")}
    if as_json:
        echo_json(found)
        return
    say(f"plan         {order.plan.digest}")
    say(f"             {out / 'plan.json'} (publish this digest before you train: it fixes the coins)")
    say(f"work order   {out / 'models.csv'}: {order.models} models to make; use their names in the scores")
    tested = shown(order.plan.subjects[0].tested_eps)
    for question, most in found["maxEps"].items():
        say(f"{question:<12} tests eps* = {tested}, can show eps up to {most}")
    say(f"then         cu-cert audit --scores FILE --plan {plan}")


def _document(plan: "Plan", out: Path) -> dict[str, Any]:
    from cu_certificates.check.fields import shown

    return {
        "schema": "cu-cert-plan/1",
        "plan": plan.digest,
        "planFile": str(out / "plan.json"),
        "maxEps": {question: shown(plan.resolution(plan.subjects[0], question).max_eps) for question in plan.questions},
    }
