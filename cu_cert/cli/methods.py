"""``cu-cert methods``: list the unlearning methods and what each states about itself."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cu_cert.methods import UnlearningMethod


def listing() -> list["UnlearningMethod"]:
    """Return all built-in methods by name, without importing torch."""
    from cu_cert.methods import get, names

    return [get(name) for name in names()]


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects instead of the table.")] = False,
) -> None:
    """List the unlearning methods, what each states about itself, and what each needs."""
    methods = listing()
    if as_json:
        keys = ("name", "kind", "guarantee", "level", "paper", "summary")
        rows = [{key: getattr(method, key) for key in keys} | {"needs": sorted(method.needs)} for method in methods]
        typer.echo(json.dumps(rows, indent=2, sort_keys=True, ensure_ascii=False))
        return
    table = [("NAME", "KIND", "GUARANTEE", "NEEDS", "PAPER")]
    table += [(one.name, one.kind, one.guarantee, ", ".join(sorted(one.needs)), one.paper) for one in methods]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    typer.echo("A guarantee is what the method states; an audit measures whether the model bears it out.")
