"""The report: a predicate as one self-contained page of HTML.

``render_skeleton`` is a pure function of the predicate: no clock, no locale, no randomness, nothing fetched. Its bytes
are a signed subject of the certificate that they show, so the page can be checked as a file and drawn again years
later. The page is ASCII (other characters are written as references), runs no script and loads nothing. It is written
in the language that the certificate states; in another one it is a translation, which says so and carries no signature.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, Literal

import jinja2
from markupsafe import Markup

from cu_certificates._fields import NOT_STATED, objects, text
from cu_certificates._page import page
from cu_certificates._wording import LANGUAGES, Wording, language_of, wording
from cu_certificates.check.carrier import join_report
from cu_certificates.check.strict import canonical
from cu_certificates.errors import UsageError

Marked = Literal["unverified", "translation"]

# The page must not hold the marker of the signed line, not even inside a name that somebody chose.
_RESERVED: Final = {"cu-cert-bundle": "cu-cert&#45;bundle", "vnd.dev.sigstore.bundle": "vnd.dev.sigstore&#46;bundle"}
# In a data block, characters that could end it, or spell such a marker, are written as JSON escapes.
_IN_DATA: Final = {character: f"\\u{ord(character):04x}" for character in "<>&"} | {
    "cu-cert-bundle": "cu-cert\\u002dbundle",
    "vnd.dev.sigstore.bundle": "vnd.dev.sigstore\\u002ebundle",
}


def render_skeleton(
    predicate: Mapping[str, Any], *, marked: Marked | None = None, language: str | None = None
) -> bytes:
    """Draw the page of a certificate, without the line that carries the signed bundle.

    Args:
        predicate: The predicate of the statement. Without ``verdict`` it is an unsigned draft and the page says so.
        marked: ``unverified`` puts a banner on the page: nobody checked the file against a trusted key.
            ``translation`` says that the certificate was checked and the page is not the signed one.
        language: The language of the page, by default the one in which the certificate was issued. A page in another
            language is always marked as a translation.

    Returns:
        The bytes of one HTML page, the same for the same arguments on every machine.

    Raises:
        Rejected: The predicate is not the JSON that cu-cert writes, or one of its fields is of the wrong kind.
        UsageError: There is no such language.
    """
    whole = canonical(predicate)
    issued = language_of(predicate)
    if language is not None and language not in LANGUAGES:
        raise UsageError(f"language: {language!r}; expected one of {', '.join(LANGUAGES)}")
    t = wording(language or issued)
    if t.code != issued and marked is None:
        marked = "translation"
    context = page(predicate, t) | {
        "t": t,
        "marked": marked,
        "translated": t.code != issued or marked == "translation",
        "issued_in": t.word("language_name", issued),
        "claims_digest": hashlib.sha256(whole).hexdigest(),
        "raw": _in_text(_pretty(predicate)),
        "summary": _summary(predicate, t),
    }
    drawn = _environment(t.code).get_template("report.html.j2").render(context)
    for reserved, written in _RESERVED.items():
        drawn = drawn.replace(reserved, written)
    return drawn.encode("ascii", errors="xmlcharrefreplace")


def report_bytes(predicate: Mapping[str, Any], bundle: bytes) -> bytes:
    """Return ``report.html``: the page with the signed bundle in its one line.

    Args:
        predicate: The predicate that the bundle signs.
        bundle: The bytes of ``certificate.sigstore.json``.

    Raises:
        Rejected: As for ``render_skeleton``.
    """
    return join_report(render_skeleton(predicate), bundle)


@functools.cache
def _environment(code: str) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("cu_templates", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=wording(code).shown,
    )


def _pretty(value: object, indent: int = 0) -> str:
    """Return JSON with one field a line, but lists of plain values on one line: ROC points would fill pages."""
    pad = " " * (indent + 1)
    match value:
        case dict() if value:
            lines = (f"{pad}{json.dumps(key)}: {_pretty(value[key], indent + 1)}" for key in sorted(value))
            return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
        case list() if any(isinstance(item, dict) for item in value):
            lines = (f"{pad}{_pretty(item, indent + 1)}" for item in value)
            return "[\n" + ",\n".join(lines) + "\n" + " " * indent + "]"
        case [[*_], *_]:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        case _:
            return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _in_text(said: str) -> Markup:
    """Escape text for the content of an element, where quotation marks may stay: a predicate is full of them."""
    return Markup(said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _summary(predicate: Mapping[str, Any], t: Wording) -> Markup:
    """Return what a search engine or an archive may read of the page, in the terms of schema.org: data, no script."""
    parts = {
        "@context": "https://schema.org",
        "@type": "Report",
        "name": t("page.title"),
        "inLanguage": t.code,
        "identifier": text(predicate, "certificateId"),
        "dateCreated": text(predicate, "issuedAt"),
        "expires": text(predicate, "expiresAt"),
        "author": {"@type": "Organization", "name": text(predicate, "auditor.name")},
        "about": _thing("CreativeWork", predicate, "scope.model"),
        "isBasedOn": [_thing("Dataset", item, "") for item in objects(predicate, "evidence")],
    }
    written = json.dumps({key: value for key, value in parts.items() if value != NOT_STATED})
    for found, escaped in _IN_DATA.items():
        written = written.replace(found, escaped)
    return Markup(written)


def _thing(kind: str, source: Mapping[str, Any], path: str) -> dict[str, str]:
    at = f"{path}." if path else ""
    name, digest = text(source, f"{at}name"), text(source, f"{at}digest.sha256")
    return {"@type": kind, "name": name, "identifier": f"sha256:{digest}"}
