"""``cu-cert plan``: fix and hash an audit plan, and hand out its coins; nothing is trained."""

from pathlib import Path
from typing import Annotated

import typer

from cu_cert.cli._options import echo_json


def command(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", help="The plan file: the tables [audit] and [outside].")],
    forget: Annotated[Path, typer.Option(metavar="FILE", help="The ids that must go, as the scores will call them.")],
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The audited file, when it is there already.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for plan.json and models.csv.")] = Path("plan-out"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fix the plan of models that are made elsewhere: write and hash it, then hand out which model to make how."""
    from cu_cert.outside import hand_out
    from cu_certificates.check.fields import shown

    order = hand_out(plan, forget, model=model, out=out)
    subject = order.plan.subjects[0]
    seen = {question: order.plan.resolution(subject, question) for question in order.plan.questions}
    if as_json:
        echo_json(
            {
                "schema": "cu-cert-plan/1",
                "plan": order.plan.digest,
                "models": order.models,
                "planFile": str(order.folder / "plan.json"),
                "workOrder": str(order.folder / "models.csv"),
                "maxEps": {question: shown(found.max_eps) for question, found in seen.items()},
            }
        )
        return
    typer.echo(f"plan         {order.plan.digest}")
    typer.echo(f"             {order.folder / 'plan.json'} (publish this digest before you train: it fixes the coins)")
    typer.echo(
        f"work order   {order.folder / 'models.csv'}: {order.models} models to make; use their names in the scores"
    )
    for question, found in seen.items():
        typer.echo(
            f"{question:<12} tests eps* = {shown(subject.tested_eps)}, can show eps up to {shown(found.max_eps)}"
        )
    typer.echo(f"then         cu-cert audit --scores FILE --plan {plan}")
