"""``cu-cert lint``: look for what gives a person away, and for words that claim too much.

Exit code 0 when nothing is found and 4 when something is: what was looked at should not be handed on as it is. It is
not 2, so that a script can tell a finding from a lint that could not look, and not 1, the gate's code for a policy.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_cert.cli._options import JsonOption, echo_json
from cu_cert.cli.verify import plain

if TYPE_CHECKING:
    from cu_certificates.lint import Linted

app = typer.Typer(help="Look for personal data, or for words that claim too much.", no_args_is_help=True)

FOUND = 4


@app.command("privacy")
def privacy(
    path: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="A certificate, a report, or an output folder.")],
    forget: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The list of ids of the request, which may stand nowhere.")
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Leave out a kind that somebody has looked at: e-mail, phone, digits, uuid, path, host. Repeatable.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look for ids of a request, and for e-mail addresses, phone numbers, long numbers, UUIDs, paths and hosts."""
    import socket

    from cu_cert.data._ids import read_ids
    from cu_certificates.lint import lint_privacy
    from cu_certificates.privacy import IdIndex

    ids = None
    if forget is not None:
        listed = read_ids(forget)
        ids = IdIndex({entry.id: f"{forget.name}:{entry.line}" for entry in listed.entries})
    found = lint_privacy(path, ids=ids, hostnames=(socket.gethostname(),), accepted=accept or ())
    notes = []
    if found.ids is None:
        notes.append("no list of ids was given (--forget FILE), so only patterns were looked for")
    elif found.weak:
        notes.append(
            f"{found.weak} of {found.ids} ids are plain words, short or numeric: looked for in names that people "
            "chose, not in every text"
        )
    if found.not_text:
        notes.append(f"no text, only the name was looked at: {', '.join(found.not_text)}")
    if found.left_out:
        notes.append(f"not looked into: {', '.join(found.left_out)}")
    _tell("privacy", found, notes, as_json)


@app.command("wording")
def wording(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A report, a page, or any text.")],
    language: Annotated[
        list[str] | None, typer.Option(metavar="en|de|fr", help="Whose list to use; repeatable. Default: all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look for phrases that claim more than an audit can show, in English, German and French."""
    from cu_certificates._forbidden import LANGUAGES
    from cu_certificates.lint import lint_wording

    _tell("wording", lint_wording(path, languages=language or LANGUAGES), [], as_json)


def _tell(which: str, found: "Linted", notes: list[str], as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {
            "schema": f"cu-cert-lint-{which}/1",
            "clean": not found.hits,
            "findings": [
                {"kind": one.kind, "file": one.file, "place": one.place, "hint": one.hint} for one in found.hits
            ],
            "files": list(found.files),
            "notes": notes,
        }
        echo_json(document)
    else:
        for hit in found.hits:
            typer.echo(plain(str(hit)))
        for note in notes:
            typer.echo(plain(f"note: {note}"))
        looked = f"{len(found.files)} files" if len(found.files) != 1 else "1 file"
        typer.echo(f"{looked}: {f'{len(found.hits)} findings' if found.hits else 'nothing found'}")
    if found.hits:
        raise typer.Exit(FOUND)
