"""``cu-cert log``: what was planned and signed, in order; whether anything was taken back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_cert.cli._options import JsonOption, echo_json
from cu_cert.cli.verify import plain

if TYPE_CHECKING:
    from cu_certificates._log_lines import Entry, LoggedCertificate

app = typer.Typer(
    help="Show, verify and prove what was planned and signed.", no_args_is_help=True, add_completion=False
)

NO_SIGNATURE = "No signature was checked; cu-cert verify --log does both."

_LOG = Annotated[
    Path | None,
    typer.Option("--log", metavar="FILE", help="The log. Default: that of the project you are in.", show_default=False),
]
_JSON = JsonOption


def _path(given: Path | None) -> Path:
    from cu_certificates.errors import MissingFileError
    from cu_certificates.log import nearest_log

    found = nearest_log(Path.cwd()) if given is None else given
    if found is None:
        raise MissingFileError(
            "no log in this folder or in one above it (.cu-cert/log.jsonl); name the one that you were given with --log"
        )
    return found


def _logged(file: Path) -> "LoggedCertificate":
    from cu_certificates._log_lines import logged
    from cu_certificates.errors import UntrustedError
    from cu_certificates.verify import load_unverified

    found = load_unverified(file)
    if found.stated_keyid is None:
        raise UntrustedError("log", f"{str(file)!r}: UNSIGNED, a draft stands in no log; sign it first")
    return logged(str(file), found.payload_sha256, found.predicate)


def _json(entry: "Entry") -> dict[str, Any]:
    found = {"kind": entry.kind, "digest": entry.digest, "time": entry.time}
    more = {"sequence": entry.sequence, "plan": entry.plan}
    return found | {name: value for name, value in more.items() if value is not None}


@app.command("show", short_help="List the lines of a log.")
def show(log: _LOG = None, json_output: _JSON = False) -> None:
    """List the lines of a log, oldest first."""
    from cu_certificates.log import load_log

    path = _path(log)
    found = load_log(path)
    if json_output:
        lines = [_json(entry) for entry in found.entries]
        echo_json(
            {"schema": "cu-cert-log/1", "log": str(path), "size": found.size, "root": found.root(), "lines": lines}
        )
        return
    for at, entry in enumerate(found.entries, 1):
        told = f"certificate {entry.sequence}" if entry.kind == "certificate" else "plan"
        typer.echo(f"{at:>4}  {entry.time}  {told:<14}  sha256:{entry.digest}")
    typer.echo(f"size {found.size}, root {found.root()}")


@app.command("verify", short_help="Hold a log against certificates.")
def verify(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[CERT]...", help="Certificates at hand, bundles or reports.")
    ] = None,
    log: _LOG = None,
    path: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What cu-cert log prove wrote, in the place of the log."),
    ] = None,
    json_output: _JSON = False,
) -> None:
    """Check that certificates stand in a log, that nothing before them was changed, and what was left open."""
    from cu_certificates.errors import UsageError

    certificates = [_logged(file) for file in files or ()]
    if path is not None:
        if log is not None:
            raise UsageError("--path: stands in the place of the log; leave out --log")
        _verify_path(path, certificates, json_output)
        return
    _verify_log(_path(log), certificates, json_output)


def _verify_path(path: Path, certificates: "list[LoggedCertificate]", json_output: bool) -> None:
    from cu_certificates.log_proof import read_proof

    shown = read_proof(path).require(certificates)
    if json_output:
        echo_json({"schema": "cu-cert-log/1", "path": str(path), "shown": shown, "signatureChecked": False})
        return
    typer.echo(NO_SIGNATURE)
    for line in shown:
        typer.echo(plain(line))


def _verify_log(path: Path, certificates: "list[LoggedCertificate]", json_output: bool) -> None:
    from cu_certificates.log import load_log, verify_log

    log = load_log(path)
    found = verify_log(log, certificates)
    if json_output:
        echo_json(
            {
                "schema": "cu-cert-log/1",
                "log": str(path),
                "size": log.size,
                "root": log.root(),
                "signatureChecked": False,
                "certificates": [{"file": name, "line": line} for name, line in found.shown],
                "open": [_json(entry) for entry in found.open_plans],
                "notGiven": [_json(entry) for entry in found.unseen],
            }
        )
        return
    typer.echo(NO_SIGNATURE)
    typer.echo(plain(f"log          {path}: {log.size} lines, {len(log.certificates())} certificates, {log.root()}"))
    for name, line in found.shown:
        typer.echo(plain(f"ok           {name} stands on line {line}"))
    if silent := len(found.shown) - found.stating:
        typer.echo(f"not checked  the log before {silent} of them, which state none")
    for entry in found.unseen:
        typer.echo(f"not given    certificate {entry.sequence}, {entry.time}, sha256:{entry.digest}")
    for entry in found.open_plans:
        typer.echo(f"open plan    {entry.time}, sha256:{entry.digest}: ended in no certificate")


@app.command("prove", short_help="Show something of a log to somebody who does not have it.")
def prove(
    file: Annotated[
        Path | None, typer.Argument(metavar="[CERT]", help="Prove that this certificate stands in the log.")
    ] = None,
    since: Annotated[
        int | None,
        typer.Option("--from", min=0, metavar="N", help="Prove that the log begins with its first N lines unchanged."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Speak of the first N lines, which a certificate states. Default: all."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The new file.")] = Path(
        "log-path.json"
    ),
    log: _LOG = None,
    json_output: _JSON = False,
) -> None:
    """Write the hashes that show inclusion (CERT) or consistency (--from), for cu-cert log verify --path."""
    from cu_certificates._files import write_new
    from cu_certificates.errors import UsageError
    from cu_certificates.log import load_log
    from cu_certificates.log_proof import prove_consistency, prove_inclusion

    path = _path(log)
    whole = load_log(path)
    if file is not None and since is None:
        data, kind = prove_inclusion(whole, _logged(file), size=size), "inclusion"
    elif since is not None and file is None:
        data, kind = prove_consistency(whole, since, size=size), "consistency"
    else:
        raise UsageError("log prove: give a certificate, or --from N, and not both")
    write_new(output, data, what="path file")
    if json_output:
        echo_json({"schema": "cu-cert-log/1", "log": str(path), "shows": kind, "output": str(output)})
        return
    typer.echo(plain(f"{output}: shows {kind}, {len(data)} bytes"))


@app.command("add", short_help="Enter a certificate that was signed elsewhere.")
def add(
    files: Annotated[list[Path], typer.Argument(metavar="CERT...", help="Signed certificates, the oldest first.")],
    log: _LOG = None,
    json_output: _JSON = False,
) -> None:
    """Enter certificates that were signed elsewhere; one that stands in the log already changes nothing."""
    from cu_certificates.log import load_log, open_log

    path = _path(log)
    load_log(path)  # a mistyped name must not start a new log
    certificates = [_logged(file) for file in files]
    with open_log(path) as held:
        longer = held.log
        for found in certificates:
            longer = longer.with_certificate(found)
        added = longer.size - held.log.size
        held.write(longer)
    if json_output:
        echo_json(
            {
                "schema": "cu-cert-log/1",
                "log": str(path),
                "size": longer.size,
                "root": longer.root(),
                "added": added,
                "certificates": [found.digest for found in certificates],
            }
        )
        return
    for found in certificates:
        typer.echo(
            plain(f"{found.name}: certificate {found.sequence}, line {longer.places[found.digest] + 1} of {path}")
        )
