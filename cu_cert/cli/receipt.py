"""``cu-cert receipt``: give a data subject a receipt, check one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_cert.cli._options import JsonOption, TrustOption, echo_json
from cu_cert.cli.verify import plain

if TYPE_CHECKING:
    from cu_certificates.receipt import Kept

app = typer.Typer(help="Give a data subject a receipt, check one.", no_args_is_help=True, add_completion=False)

_LIST = 64 * 1024

IdOption = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="ID",
        help="The id. Other users of the machine can read what stands on a command line, and shells keep it: prefer "
        "--id-file.",
        show_default=False,
    ),
]
IdFile = Annotated[
    Path | None,
    typer.Option(
        "--id-file",
        metavar="FILE",
        help="A file that holds the id and nothing else; - reads it from standard input.",
        show_default=False,
    ),
]


def read_identifier(given: str | None, file: Path | None) -> str:
    """Return the id from the command line, from a file or from standard input.

    Args:
        given: The id itself.
        file: A file with one line; ``-`` for standard input.

    Raises:
        UsageError: Both or neither is given, or what is read is not one line of UTF-8.
    """
    import sys

    from cu_certificates._files import read_bytes
    from cu_certificates.errors import UsageError

    if (given is None) == (file is None):
        raise UsageError("expected the id, once: --id-file FILE (or - for standard input), or --id ID")
    if file is None:
        return str(given)
    if str(file) == "-":
        data, where = sys.stdin.buffer.read(_LIST + 1), "standard input"
        if len(data) > _LIST:
            raise UsageError(f"{where}: more than {_LIST} bytes; expected one id")
    else:
        data, where = read_bytes(file, what="id file", max_bytes=_LIST), str(file)
    try:
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UsageError(f"{where}: is not UTF-8; expected one id") from None
    if len(lines) != 1:
        raise UsageError(f"{where}: {len(lines)} lines with text; expected one line with one id")
    return lines[0]


def kept_of(private: Path, forget: Path | None, certificate: Path) -> "Kept":
    """Return what the controller keeps of a request: from a private folder, or from the project and the list.

    Args:
        private: A private folder, an output folder that holds one, or a project.
        forget: The list of ids; needed for a project, which keeps K and not the ids.
        certificate: The certificate, for the size of a padded request.

    Raises:
        CertificateError: A file is missing or wrong.
        CuCertError: The list cannot be read.
    """
    from cu_certificates._files import kind_of
    from cu_certificates.receipt import KEPT, Kept, read_kept

    if forget is None or any(kind_of(place / KEPT) == "file" for place in (private, private / "private")):
        return read_kept(private)
    from cu_cert.data._ids import read_ids
    from cu_cert.secrets_store import FOLDER, Secrets
    from cu_certificates._fields import field
    from cu_certificates.errors import MissingFileError
    from cu_certificates.verify import load_unverified

    folder, ids = private / FOLDER, read_ids(forget).ids
    secrets = Secrets(folder, keep=False)
    known = kind_of(folder / "audit.key") == "file"
    if not known or kind_of(folder / secrets.request_key_name(ids)) != "file":
        raise MissingFileError(
            f"{str(folder)!r} keeps no key for exactly the {len(ids)} ids of {str(forget)!r}; give the project and the "
            "list that were audited (without ids that were not in the data), or --private of the audit's output folder"
        )
    commitment = field(load_unverified(certificate).predicate, "request.commitment")
    padded = commitment.get("size") if isinstance(commitment, dict) and "padded" in commitment else None
    return Kept(key=secrets.request_key(ids), ids=ids, padded=padded if isinstance(padded, int) else None)


@app.command("issue")
def issue(
    certificate: Annotated[
        Path, typer.Option(metavar="FILE", help="The signed certificate or report that the receipt is to name.")
    ],
    private: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The audit's private folder, its output folder, or (with --forget) project."),
    ] = Path("audit-out/private"),
    identifier: IdOption = None,
    id_file: IdFile = None,
    every: Annotated[bool, typer.Option("--all", help="A receipt for each id, into the folder that -o names.")] = False,
    forget: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The list of ids, where --private names a project.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="Receipt file; folder with --all.")] = (
        Path("receipt.json")
    ),
    as_json: JsonOption = False,
) -> None:
    """Make receipts: a commitment to this id is in the request that this certificate is about."""
    from cu_certificates._files import kind_of, write_new
    from cu_certificates.errors import UsageError
    from cu_certificates.receipt import KEPT, open_book, write_all

    if every and (identifier is not None or id_file is not None):
        raise UsageError("--all makes a receipt for each id; leave out --id and --id-file")
    if every and output == Path("receipt.json"):
        raise UsageError("--all writes many files; name a folder with -o DIR")
    asked = None if every else read_identifier(identifier, id_file)
    book = open_book(kept_of(private, forget, certificate), certificate)
    if asked is None:
        own = next((place for place in (private / "private", private) if kind_of(place / KEPT) == "file"), output)
        files = write_all(book, output, own)
    else:
        write_new(output, book.receipt(asked).to_bytes(), what="receipt", mode=0o600)
        files, own = [output], None
    if as_json:
        echo_json(
            {
                "schema": "cu-cert-receipt-issue/1",
                "certificate": {"id": book.certificate, "payload": {"sha256": book.payload}},
                "files": [str(file) for file in files],
                "list": None if own is None else str(own / "receipts.csv"),
            }
        )
        return
    typer.echo(plain(f"{output}: {len(files)} receipts" if every else f"{output}: one receipt"))
    if own is not None:
        typer.echo(plain(f"{own / 'receipts.csv'}: whose each is; never hand on"))
    typer.echo("Give each to the person whose id it is, and to nobody else: it lets its holder test guesses at the id.")


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(metavar="RECEIPT", help="The receipt.")],
    identifier: IdOption = None,
    id_file: IdFile = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The certificate or report that the receipt names.")
    ] = None,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt: is it about this id, and is the id's commitment in the certificate's request?"""
    from datetime import UTC, datetime

    from cu_certificates.check.receipt import SAYS
    from cu_certificates.errors import UsageError
    from cu_certificates.receipt import verify_receipt
    from cu_certificates.trust import reader_trust

    if trust is not None and certificate is None:
        raise UsageError("--trust: says whose certificate is believed; name the certificate too, --certificate FILE")
    receipt, steps = verify_receipt(
        file,
        read_identifier(identifier, id_file),
        certificate=certificate,
        trust=None if certificate is None else reader_trust(trust),
        now=datetime.now(UTC),
    )
    compared = certificate is not None
    if as_json:
        document: dict[str, Any] = {
            "schema": "cu-cert-receipt-verify/1",
            "file": str(file),
            "certificate": {"id": receipt.certificate, "payload": {"sha256": receipt.payload}, "compared": compared},
            "request": receipt.request.to_json(),
            "steps": [{"name": step.name, "state": step.state, "detail": step.detail} for step in steps],
            "says": SAYS if compared else None,
        }
        echo_json(document)
        return
    for step in steps:
        typer.echo(plain(f"{step.name:<12}{step.state:<12}{step.detail}"))
    typer.echo("")
    typer.echo(SAYS if compared else "The receipt holds in itself. Give --certificate to see what it is about.")
