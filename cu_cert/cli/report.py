"""``cu-cert report``: draw the page of a certificate again, byte for byte, or of an unchecked file, marked as such.

A page in another language than the certificate's is a translation: it says so and carries no signature.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cu_cert.cli._options import JsonOption, echo_json
from cu_cert.cli.verify import plain

if TYPE_CHECKING:
    from cu_certificates.verify import Certificate


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page that was drawn and not written yet.

    Args:
        data: The bytes of ``report.html``.
        status: ``signature valid``, or ``unverified`` for a page that says so at its top.
        signed: Whether these are the signed bytes, with the bundle in its line.
        language: The language of the page.
        verdict: The verdict that the certificate states; ``None`` for a draft.
        payload_sha256: The identity of the certificate.
        missing: Evidence files that were not at hand, so that their claims were not computed again.
    """

    data: bytes
    status: str
    signed: bool
    language: str
    verdict: str | None
    payload_sha256: str
    missing: tuple[str, ...] = ()


def draw(file: Path, *, trust: Path | None, now: datetime, language: str | None = None) -> Page:
    """Draw the page of a certificate.

    Args:
        file: ``certificate.sigstore.json``, ``report.html`` or, without ``trust``, an unsigned draft.
        trust: The reader's trust file; without it nothing is checked and the page is marked as unverified.
        now: The reader's time, with a time zone.
        language: ``en``, ``de`` or ``fr``; by default the certificate's own. Another one gives a translation.

    Raises:
        UntrustedError: Verification refuses, the page cannot be drawn, or this version draws other bytes than the
            signed ones.
        MissingFileError: A file cannot be read.
        UsageError: There is no such language.
    """
    from cu_certificates.check.strict import Rejected
    from cu_certificates.errors import UntrustedError

    try:
        return _unverified(file, language) if trust is None else _verified(file, trust, now, language)
    except Rejected as error:
        raise UntrustedError("report", f"{str(file)!r} cannot be drawn: {error}") from None


def _unverified(file: Path, language: str | None) -> Page:
    from cu_certificates._fields import field
    from cu_certificates._wording import language_of
    from cu_certificates.report import render_skeleton
    from cu_certificates.verify import load_unverified

    found = load_unverified(file)
    stated = field(found.predicate, "verdict.value")
    return Page(
        data=render_skeleton(found.predicate, marked="unverified", language=language),
        status="unverified",
        signed=False,
        language=language or language_of(found.predicate),
        verdict=stated if isinstance(stated, str) else None,
        payload_sha256=found.payload_sha256,
    )


def _verified(file: Path, trust: Path, now: datetime, language: str | None) -> Page:
    from cu_certificates._wording import language_of
    from cu_certificates.report import render_skeleton
    from cu_certificates.trust import load_trust
    from cu_certificates.verify import verify

    # The page shows what was signed, not what was computed again; so it can be drawn where evidence is absent.
    certificate = verify(file, trust=load_trust(trust), now=now, allow_missing_evidence=True)
    own = language_of(certificate.predicate)
    translated = language not in (None, own)
    if translated:
        data = render_skeleton(certificate.predicate, marked="translation", language=language)
    else:
        data = _signed_page(certificate)
    return Page(
        data=data,
        status="signature valid",
        signed=not translated,
        language=language or own,
        verdict=certificate.check.stated,
        payload_sha256=certificate.payload_sha256,
        missing=certificate.check.missing,
    )


def _signed_page(certificate: "Certificate") -> bytes:
    """Draw the very bytes that were signed, with the bundle in its line."""
    import hashlib

    from cu_certificates.errors import UntrustedError
    from cu_certificates.report import render_skeleton, report_bytes
    from cu_certificates.verify import REPORT_NAME

    drawn = hashlib.sha256(render_skeleton(certificate.predicate)).hexdigest()
    signed = certificate.subjects.get(REPORT_NAME)
    if drawn != signed:
        tool = certificate.predicate.get("tool")
        version = tool.get("version") if isinstance(tool, dict) else None
        raise UntrustedError(
            "report",
            f"this version of cu-cert draws a page with sha256:{drawn}; the signer stated "
            f"{f'sha256:{signed}' if signed else 'no page'}; draw it with the version that issued the certificate "
            f"({version!r:.40}), or leave out --trust for a page that is marked as unverified",
        )
    return report_bytes(certificate.predicate, certificate.bundle)


def command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="certificate.sigstore.json, report.html or an unsigned draft.")
    ],
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The keys you trust. Without it the page is marked as unverified.", show_default=False
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--lang",
            metavar="en|de|fr",
            help="Translate the page; without it, it is in the certificate's own language.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write the page; by default report.html, a translation report.LANGUAGE.html.",
            show_default=False,
        ),
    ] = None,
    pdf: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also print the page to this PDF, an unsigned copy; needs an installed Chromium.",
            show_default=False,
        ),
    ] = None,
    paper: Annotated[
        str, typer.Option(metavar="A4|letter", help="The size of a sheet of the PDF.", case_sensitive=False)
    ] = "A4",
    edition: Annotated[
        str | None,
        typer.Option(
            metavar="public|annex",
            help="Copy what anybody may have, or all that an auditor needs, into the new folder -o; nothing is drawn.",
            show_default=False,
        ),
    ] = None,
    forget: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --edition: ids that may stand nowhere.", show_default=False),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="With --edition: a kind of finding of the privacy lint that may stay."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Draw the report of a certificate again; without trusted keys the page says that nothing was checked."""
    from datetime import UTC

    from cu_certificates._files import write_atomic, write_new
    from cu_certificates.errors import UsageError
    from cu_certificates.pdf import find_browser, print_pdf

    if edition is not None:
        from cu_cert.cli import _edition

        if pdf is not None or language is not None:
            raise UsageError("--edition copies files as they are; leave out --pdf and --lang")
        _edition.write(file, edition, trust=trust, output=output, forget=forget, accept=accept, as_json=json_output)
        return
    if forget is not None or accept:
        raise UsageError("--forget and --accept belong to --edition public or annex; name one")
    if paper.lower() not in ("a4", "letter"):
        raise UsageError(f"--paper {paper!r}: expected A4 or letter")
    if pdf is not None:
        find_browser()  # before anything is written
    page = draw(file, trust=trust, now=datetime.now(UTC), language=language)
    translated = language is not None and not page.signed
    output = output or Path(f"report.{page.language}.html" if translated else "report.html")
    # A page without the signed line must not take the place of one that lies there under the usual name.
    write = write_atomic if page.signed else write_new
    write(output, page.data, what="report")
    if pdf is not None:
        print_pdf(page.data, pdf, paper="A4" if paper.lower() == "a4" else "Letter")
    if json_output:
        document = {
            "schema": "cu-cert-report/1",
            "file": str(file),
            "output": str(output),
            "pdf": None if pdf is None else str(pdf),
            "status": page.status,
            "language": page.language,
            "signed": page.signed,
            "verdict": {"stated": page.verdict},
            "payload": {"sha256": page.payload_sha256},
            "missing": list(page.missing),
        }
        echo_json(document)
        return
    note = f"; not at hand: {', '.join(page.missing)}" if page.missing else ""
    mark = "; a translation, unsigned" if translated and trust is not None else ""
    typer.echo(plain(f"{output}: {page.status}{mark}; states {page.verdict or 'no verdict (draft)'}{note}"))
    if pdf is not None:
        typer.echo(plain(f"{pdf}: the same page on paper, unsigned"))
