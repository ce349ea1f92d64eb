"""What carries a signed payload: a sigstore bundle, alone or as one line of a report, or a bare DSSE envelope.

Nothing here looks at a signature; this module only takes the carrier apart, and refuses every carrier that another
reader could take apart differently. The rules are those of the strictest public verifiers: exact fields, canonical
base64 without white space, exactly one signature in a bundle. Several signatures over the same payload stand in a DSSE
envelope of their own (``certificate.dsse.json``), because most readers of bundles refuse a second one.
"""

import base64
import re
from dataclasses import dataclass, field
from typing import Any, Final

from .strict import Rejected, decode_base64, parse

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BUNDLE: Final = 24 * 1024 * 1024
MAX_REPORT: Final = 64 * 1024 * 1024
MAX_SIGNATURES: Final = 16

_OPENING: Final = f'<script type="{MEDIA_TYPE};base64" id="cu-cert-bundle">'.encode()
_CLOSING: Final = b"</script>\n"
_LINE: Final = re.compile(rb"^" + re.escape(_OPENING) + rb"([A-Za-z0-9+/=]+)" + re.escape(_CLOSING), re.MULTILINE)
# `grep -v` in the by-hand recipe removes every line that begins with the first of these, so it must stand only once.
_MARKERS: Final = (b'<script type="application/vnd.dev.sigstore.bundle', b'id="cu-cert-bundle"')
_BUNDLE_ONLY: Final = {"mediaType", "verificationMaterial", "dsseEnvelope", "_type"}
_HEAD: Final = re.compile(rb"^<head>\n", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One signature entry of an envelope; not verified.

    Args:
        keyid: The key that the entry names; a filter, never a reason to trust.
        value: The signature bytes as the envelope holds them.
    """

    keyid: str
    value: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """A signed payload taken out of its carrier; nothing in it is verified.

    Args:
        payload: The bytes that were signed (inside DSSE's pre-authentication encoding).
        payload_type: The DSSE payload type as the envelope states it.
        signatures: The signatures in the order of the envelope, no two of one ``keyid``; a bundle holds one.
        hint: The key that a bundle's verification material names; ``None`` for a bare envelope, which has none.
    """

    payload: bytes = field(repr=False)
    payload_type: str
    signatures: tuple[Signature, ...]
    hint: str | None


def _exact(value: Any, names: set[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Rejected(f"{where}: {type(value).__name__}; expected an object with {', '.join(sorted(names))}")
    if unknown := sorted(set(value) - names):
        raise Rejected(f"{where}: unknown field {unknown[0]!r}; expected exactly {', '.join(sorted(names))}")
    if absent := sorted(names - set(value)):
        raise Rejected(f"{where}: field {absent[0]!r} is absent; expected exactly {', '.join(sorted(names))}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise Rejected(f"{where}: {value!r}; expected a string that is not empty")
    return value


def _signatures(value: Any, where: str, most: int) -> tuple[Signature, ...]:
    expected = "one signature" if most == 1 else f"1 to {most} signatures"
    if not isinstance(value, list):
        raise Rejected(f"{where}: {type(value).__name__}; expected a list of {expected}")
    if not value:
        raise Rejected(f"{where}: UNSIGNED, the envelope holds no signature; ask for the signed certificate")
    if len(value) > most:
        hint = "exactly one; several signatures stand in a .dsse.json" if most == 1 else f"at most {most}"
        raise Rejected(f"{where}: {len(value)} signatures; expected {hint}")
    found: list[Signature] = []
    for index, item in enumerate(value):
        place = f"{where}[{index}]"
        entry = _exact(item, {"keyid", "sig"}, place)
        signature = decode_base64(_text(entry["sig"], f"{place}.sig"), f"{place}.sig")
        keyid = _text(entry["keyid"], f"{place}.keyid")
        if any(other.keyid == keyid for other in found):
            raise Rejected(f"{place}.keyid: {keyid!r:.200} stands twice; expected one signature a key")
        found.append(Signature(keyid=keyid, value=signature))
    return tuple(found)


def _envelope(value: Any, where: str, *, most: int, hint: str | None) -> Carrier:
    envelope = _exact(value, {"payload", "payloadType", "signatures"}, where)
    signatures = _signatures(envelope["signatures"], f"{where}.signatures", most)
    payload = _text(envelope["payload"], f"{where}.payload")
    return Carrier(
        payload=decode_base64(payload, f"{where}.payload"),
        payload_type=_text(envelope["payloadType"], f"{where}.payloadType"),
        signatures=signatures,
        hint=hint,
    )


def parse_bundle(data: bytes) -> Carrier:
    """Take a sigstore bundle v0.3 with a public-key hint apart.

    Args:
        data: The bytes of the file.

    Returns:
        The unverified parts.

    Raises:
        Rejected: A field is absent, unknown or has another value than the format demands.
    """
    return _bundle(parse(data, "bundle", max_bytes=MAX_BUNDLE))


def parse_dsse(data: bytes) -> Carrier:
    """Take a DSSE envelope that stands alone apart; it may hold several signatures, each of another key.

    Args:
        data: The bytes of the file.

    Returns:
        The unverified parts; ``hint`` is ``None``.

    Raises:
        Rejected: A field is absent, unknown or has another value than the format demands, or a key stands twice.
    """
    return _envelope(parse(data, "envelope", max_bytes=MAX_BUNDLE), "envelope", most=MAX_SIGNATURES, hint=None)


def _bundle(value: Any) -> Carrier:
    if isinstance(value, dict) and "_type" in value:
        raise Rejected("bundle: UNSIGNED, this is a bare statement without a signature; ask for the signed certificate")
    bundle = _exact(value, {"mediaType", "verificationMaterial", "dsseEnvelope"}, "bundle")
    if bundle["mediaType"] != MEDIA_TYPE:
        raise Rejected(f"bundle.mediaType: {bundle['mediaType']!r}; expected {MEDIA_TYPE!r}")
    material = _exact(bundle["verificationMaterial"], {"publicKey", "tlogEntries"}, "bundle.verificationMaterial")
    key = _exact(material["publicKey"], {"hint"}, "bundle.verificationMaterial.publicKey")
    if material["tlogEntries"] != []:
        raise Rejected("bundle.verificationMaterial.tlogEntries: not an empty list; expected []")
    hint = _text(key["hint"], "bundle.verificationMaterial.publicKey.hint")
    return _envelope(bundle["dsseEnvelope"], "bundle.dsseEnvelope", most=1, hint=hint)


def join_report(skeleton: bytes, bundle: bytes) -> bytes:
    """Put the bundle into the report as one line right after the line ``<head>``.

    Args:
        skeleton: The rendered page, without a bundle; its SHA-256 is a subject of the signed statement.
        bundle: The bytes of the bundle file.

    Returns:
        The page as it is handed on.

    Raises:
        Rejected: The skeleton does not have exactly one line ``<head>``, holds a bundle already, or is not text that
            ``grep -v`` gives back unchanged.
    """
    for marker in _MARKERS:
        if marker in skeleton:
            raise Rejected(f"report skeleton: holds {marker.decode()!r}; expected a page without a bundle line")
    heads = list(_HEAD.finditer(skeleton))
    if len(heads) != 1:
        raise Rejected(f"report skeleton: {len(heads)} lines are exactly '<head>'; expected one")
    if not skeleton.endswith(b"\n") or b"\0" in skeleton:
        raise Rejected("report skeleton: a NUL byte, or no line feed at the end; expected lines of plain text")
    try:
        skeleton.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected(f"report skeleton: byte {error.start} is not UTF-8") from None
    place = heads[0].end()
    return skeleton[:place] + _OPENING + base64.b64encode(bundle) + _CLOSING + skeleton[place:]


def split_report(html: bytes) -> tuple[bytes, bytes]:
    """Take the bundle line out of a report.

    The hole has a fixed place, cannot hold markup, and is one; so what is left is what was hashed and signed.

    Args:
        html: The bytes of ``report.html``.

    Returns:
        The skeleton and the bundle.

    Raises:
        Rejected: There is not exactly one bundle line, or it does not stand right after the line ``<head>``.
    """
    if len(html) > MAX_REPORT:
        raise Rejected(f"report: {len(html)} bytes; expected at most {MAX_REPORT}")
    lines = list(_LINE.finditer(html))
    if not lines:
        raise Rejected("report: UNSIGNED, no bundle line after '<head>'; ask for the signed report")
    for marker in _MARKERS:
        if (count := html.count(marker)) != 1:
            raise Rejected(f"report: {marker.decode()!r} stands {count} times; expected one bundle line and no other")
    skeleton = html[: lines[0].start()] + html[lines[0].end() :]
    bundle = decode_base64(lines[0].group(1).decode("ascii"), "report bundle line")
    if join_report(skeleton, bundle) != html:
        raise Rejected("report: the bundle line stands elsewhere; expected it right after the line '<head>'")
    return skeleton, bundle


def load_any(data: bytes) -> tuple[Carrier, bytes | None]:
    """Take apart a bundle, a report or an envelope; which of them it is shows from the content, not from a file name.

    Args:
        data: The bytes of the file.

    Returns:
        The unverified parts, and the skeleton when ``data`` is a report.

    Raises:
        Rejected: ``data`` is none of them, or is not in the one accepted form.
    """
    if data.startswith(b"<"):
        skeleton, bundle = split_report(data)
        return parse_bundle(bundle), skeleton
    value = parse(data, "bundle", max_bytes=MAX_BUNDLE)
    if isinstance(value, dict) and not _BUNDLE_ONLY & set(value) and {"payload", "signatures"} & set(value):
        return _envelope(value, "envelope", most=MAX_SIGNATURES, hint=None), None
    return _bundle(value), None
