"""``cu-cert fleet``: the models that serve many audits, and the store in which they lie."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_cert.cli import _fleet_release
from cu_cert.cli._options import JsonOption, echo_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cu_cert.fleet.housekeeping import Cleaning, StoreStatus, Tally
    from cu_cert.project import Project

app = typer.Typer(
    help="Make, count and clean up the models that serve many audits.", no_args_is_help=True, add_completion=False
)
app.command("plan", short_help="Say what serves every request of this release, and what it takes.")(_fleet_release.plan)
app.command("train", short_help="Make what serves every request of this release.")(_fleet_release.train)

_SHOWN = 10
_WHY = {
    "environment": "of another machine or version of python or torch",
    "recipe": "of another recipe",
    "program": "of another version of cu-cert",
    "unknown": "of an older cu-cert, which did not say what they are",
}


def _place() -> "tuple[Project | None, Path]":
    """Return the project, if there is one, and its store; ``CU_CERT_STORE`` alone is enough for a clean-up."""
    from cu_cert.errors import ConfigError
    from cu_cert.project import find_project, load_project

    try:
        path = find_project(Path.cwd())
    except ConfigError:
        if not (named := os.environ.get("CU_CERT_STORE")):
            raise
        return None, Path.cwd() / named
    project = load_project(path)
    return project, project.store_path(os.environ)


@app.command("status", short_help="Say what lies in the store, what failed, and who uses it.")
def status(
    verify: Annotated[bool, typer.Option("--verify", help="Read everything again and check its digests.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what lies in the store, what this project can use of it, what failed, and who uses it; changes nothing."""
    from cu_cert.errors import CuCertError
    from cu_cert.fleet.housekeeping import Here, store_status

    project, root = _place()
    here, release, problem = None, None, ""
    if project is not None:
        from cu_cert.fleet.environment import code_digest, fingerprint_digest
        from cu_cert.stocking import plan_release

        here = Here(project.make_recipe().digest, code_digest(), fingerprint_digest())
        try:
            release = plan_release(project)
        except CuCertError as error:  # the store is worth a look without its data, too
            problem = str(error)
    found = store_status(root, here, verify=verify)
    if as_json:
        echo_json(_document(found) | {"release": release.to_json() if release else None, "releaseProblem": problem})
        return
    from cu_cert.cli.verify import plain

    for line in _lines(found):
        typer.echo(plain(line))
    for line in release.lines() if release else [f"release: cannot be told: {problem}"] if problem else []:
        typer.echo(plain(line))


def _lines(found: "StoreStatus") -> "Iterator[str]":
    from cu_cert.fleet.housekeeping import human_size

    yield f"store {found.root}: {human_size(found.size)}" if found.exists else f"store {found.root}: not there yet"
    yield from (f"  {line}" for line in _tallies(found.kinds, {}))
    yield from (f"  {line}, of no use here" for line in _tallies(found.others, _WHY))
    for name, tally, what in (
        ("unfinished", found.leftovers, "left by runs that were cut; cu-cert fleet gc removes it"),
        ("damaged", found.aside, "moved aside; cu-cert fleet gc removes it"),
    ):
        if tally.models:
            yield f"  {tally.models} {name} ({human_size(tally.bytes)}), {what}"
    for one in found.failed[:_SHOWN]:
        yield f"failed: {one.label}: {one.problem}"
        yield f"  to try it again, correct the cause and delete {one.path}"
    if len(found.failed) > _SHOWN:
        yield f"failed: {len(found.failed) - _SHOWN} more; --json lists them all"
    yield from (f"in use by {one}" for one in found.holders)
    if found.checked:
        yield f"read again: {len(found.damage)} files damaged" if found.damage else "read again: nothing damaged"
        for path, why in list(found.damage.items())[:_SHOWN]:
            yield f"  {path}: {why}; the next run that needs it makes it again"
        if len(found.damage) > _SHOWN:
            yield f"  {len(found.damage) - _SHOWN} more; --json lists them all"


def _tallies(counted: "Mapping[str, Tally]", names: "Mapping[str, str]") -> "Iterator[str]":
    from cu_cert.fleet.housekeeping import human_size

    for name, tally in sorted(counted.items()):
        yield f"{tally.models} {names.get(name, name)} ({human_size(tally.bytes)})"


def _document(found: "StoreStatus") -> dict[str, Any]:
    def counted(tallies: "Mapping[str, Tally]") -> dict[str, dict[str, int]]:
        return {name: _tally(one) for name, one in sorted(tallies.items())}

    return {
        "schema": "cu-cert-fleet-status/1",
        "store": str(found.root),
        "exists": found.exists,
        "bytes": found.size,
        "models": counted(found.kinds),
        "others": counted(found.others),
        "failed": [
            {"label": one.label, "problem": one.problem, "entry": str(one.path), "usable": one.usable}
            for one in found.failed
        ],
        "leftovers": _tally(found.leftovers),
        "damagedAside": _tally(found.aside),
        "inUseBy": [
            {"purpose": one.purpose, "process": one.process, "host": one.host, "since": one.since}
            for one in found.holders
        ],
        "verified": found.checked,
        "damage": [{"file": str(path), "problem": why} for path, why in found.damage.items()],
    }


def _tally(one: "Tally") -> dict[str, int]:
    return {"models": one.models, "bytes": one.bytes}


@app.command("gc", short_help="Remove what is left over, and what was used least recently.")
def gc(
    limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Remove models until this much is left, as in 2GB or 500MiB.")
    ] = None,
    older: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Remove models that were not used for this long.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove leftovers of runs that were cut and damaged files; with --limit or --older also models, oldest use first.

    It never runs while an audit does, and touches no file that is not the store's own.
    """
    from cu_cert.fleet.housekeeping import clean_store, parse_size

    size = None if limit is None else parse_size(limit)
    _, root = _place()
    done = clean_store(root, limit=size, older=older, dry_run=dry_run)
    if as_json:
        echo_json(
            {
                "schema": "cu-cert-fleet-gc/1",
                "store": str(root),
                "dryRun": done.dry_run,
                "models": done.models,
                "weightsOnly": done.weights,
                "leftovers": done.leftovers,
                "freedBytes": done.freed,
                "leftBytes": done.left,
            }
        )
        return
    _say(done, size)


def _say(done: "Cleaning", limit: int | None) -> None:
    from cu_cert.cli.verify import plain
    from cu_cert.fleet.housekeeping import human_size

    what = "would remove" if done.dry_run else "removed"
    typer.echo(
        plain(
            f"store {done.root}: {what} {done.models} models, the weights alone of {done.weights}, and "
            f"{done.leftovers} leftover files; {human_size(done.freed)} freed, {human_size(done.left)} left"
        )
    )
    if limit is not None and done.left > limit:
        typer.echo(f"more than {human_size(limit)} is left: failed runs and files younger than an hour stay")
