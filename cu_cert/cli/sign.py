"""``cu-cert sign``: make a certificate of a draft, where the key is; have a third party state the time of one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_cert.cli._options import JsonOption, echo_json
from cu_cert.cli._passphrase import key_passphrase
from cu_cert.cli.verify import plain

if TYPE_CHECKING:
    from datetime import datetime

    from cu_certificates.signing import Signed
    from cu_certificates.stamping import Stampable


def command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The draft to sign; to add a time stamp alone, a signed certificate or a plan.json."
        ),
    ],
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your private key; needed for a draft.", show_default=False)
    ] = None,
    passphrase_fd: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Read the key's passphrase from file descriptor N.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Who signs. Default: what the draft says.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder of the certificate. Default: that of the draft."),
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with plan.json and the evidence. Default: the folder of FILE."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The audited project's log.jsonl. Default: that of the project in which the draft lies.",
            show_default=False,
        ),
    ] = None,
    tsa: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Have this time-stamping authority stamp it (RFC 3161); sends a digest."),
    ] = None,
    tsq: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the query for an authority there, to be carried to it."),
    ] = None,
    tsr: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add this answer of an authority, after checking what it stamps."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Check a draft with its evidence and sign it; the key need not be where models are trained."""
    from cu_certificates.errors import UsageError
    from cu_certificates.signing import is_draft

    if sum(option is not None for option in (tsa, tsq, tsr)) > 1:
        raise UsageError("--tsa, --tsq, --tsr: give one of them; --tsq and --tsr are the two halves of a slower --tsa")
    if is_draft(file):
        if key is None:
            raise UsageError("--key: name the private key that signs, for example --key audit-key.pem")
        if tsr is not None:
            raise UsageError("--tsr: a draft has no signature yet that could be stamped; sign it first")
        if tsq is not None:
            _require_query(tsq)
        signed = _sign(file, key, passphrase_fd, name, out, evidence, log, tsa)
        if tsq is not None:
            _stampable(signed.issued.certificate).write_query(tsq)
        _tell_signed(signed, tsq, json_output)
        return
    given = {"--key": key, "--name": name, "--out": out, "--evidence": evidence, "--log": log}
    if superfluous := [option for option, value in given.items() if value is not None]:
        raise UsageError(
            f"{superfluous[0]}: goes with an unsigned draft, which {str(file)!r} is not; to put a second key under a "
            "certificate, use 'cu-cert countersign'"
        )
    if tsa is None and tsq is None and tsr is None:
        raise UsageError(
            f"{str(file)!r} is no unsigned draft; give the certificate.draft.json of 'cu-cert audit --no-sign', or "
            "--tsa, --tsq or --tsr to add a time stamp"
        )
    _stamp(file, tsa, tsq, tsr, json_output)


def _require_query(path: Path) -> None:
    from cu_certificates.stamping import require_query

    require_query(path)


def _stampable(file: Path) -> "Stampable":
    from cu_certificates.stamping import stampable

    return stampable(file)


def _sign(
    file: Path,
    key: Path,
    passphrase_fd: int | None,
    name: str | None,
    out: Path | None,
    evidence: Path | None,
    log: Path | None,
    tsa: str | None,
) -> "Signed":
    from datetime import UTC, datetime

    from cu_certificates.keys import load_private_key
    from cu_certificates.signing import sign_draft

    def ask(data: bytes) -> "tuple[bytes, datetime]":
        from cu_certificates.timestamp import fetch, require_answer

        assert tsa is not None
        token = fetch(tsa, data)
        return token, require_answer(token, data)

    return sign_draft(
        file,
        signer=load_private_key(key, key_passphrase(key, passphrase_fd)),
        name=name,
        out=out,
        evidence=evidence,
        log=log,
        stamp=None if tsa is None else ask,
        now=datetime.now(UTC),
    )


def _tell_signed(signed: "Signed", tsq: Path | None, json_output: bool) -> None:
    result, issued = signed.issued.result, signed.issued
    if json_output:
        found: dict[str, Any] = {
            "schema": "cu-cert-sign/1",
            "certificate": str(issued.certificate),
            "report": str(issued.report),
            "payload": {"sha256": signed.payload_sha256},
            "keyid": signed.keyid,
            "sequence": signed.sequence,
            "log": None if signed.log is None else str(signed.log),
            "timeStamp": None if signed.stamped is None else f"{signed.stamped:%Y-%m-%dT%H:%M:%SZ}",
            "query": None if tsq is None else str(tsq),
            "verdict": result.stated,
            "reasons": list(result.reasons),
        }
        echo_json(found)
        return
    lines = [
        f"certificate  {issued.certificate}, number {signed.sequence}",
        f"report       {issued.report}",
        f"signed by    {signed.keyid}; {len(result.claims)} claims checked with their evidence",
    ]
    if signed.log is None:
        lines.append("log          not at hand; enter it where the project is, with cu-cert log add")
    else:
        lines.append(f"log          {signed.log}")
    if signed.stamped is not None:
        lines.append(f"time stamp   {signed.stamped:%Y-%m-%dT%H:%M:%SZ}, certificate.tsr")
    if tsq is not None:
        lines.append(f"query        {tsq} (carry it to an authority; add its answer with cu-cert sign --tsr)")
    lines += [f"reason       {reason}" for reason in result.reasons]
    for line in (*lines, f"verdict      {result.stated}"):
        typer.echo(plain(line))


def _stamp(file: Path, tsa: str | None, tsq: Path | None, tsr: Path | None, json_output: bool) -> None:
    from cu_certificates.stamping import read_answer

    found = _stampable(file)
    stamped: datetime | None = None
    if tsa is not None:
        stamped = found.ask(tsa)
    elif tsq is not None:
        found.write_query(tsq)
    elif tsr is not None:
        stamped = found.keep(read_answer(tsr))
    told = None if stamped is None else f"{stamped:%Y-%m-%dT%H:%M:%SZ}"
    if json_output:
        echo_json(
            {
                "schema": "cu-cert-sign/1",
                "file": str(file),
                "stamped": found.what,
                "stampFile": None if told is None else str(found.place),
                "timeStamp": told,
                "query": None if tsq is None else str(tsq),
            }
        )
        return
    if told is None:
        typer.echo(
            plain(f"query        {tsq} (carry it to an authority; add its answer with cu-cert sign {file} --tsr)")
        )
        return
    typer.echo(plain(f"time stamp   {told} over the {found.what}, {found.place}"))
    typer.echo("             readers believe it by [time] tsa_roots of their trust file")
