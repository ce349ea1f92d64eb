"""Keyless signatures: sigstore's, by an account instead of a key, verified offline from a stored bundle.

Whoever signs so holds no key for longer than a few minutes: an identity provider vouches for an account, sigstore's
certificate authority writes that into a certificate, and a public log keeps an entry for ever. A reader trusts an
account and its provider, named in ``[[identity]]`` of the trust file, and sigstore's roots, which come with its library
(the extra ``sigstore``). Nothing is fetched. cu-cert does not sign in this way: the account's name would stand in a
public log for ever.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cu_certificates._files import kind_of
from cu_certificates.check.strict import Rejected, decode_base64, parse
from cu_certificates.errors import UntrustedError, UsageError

EXTRA: Final = "pip install 'cu-cert[sigstore]'"
MEDIA_TYPES: Final = (
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
)
MAX_BUNDLE: Final = 24 * 1024 * 1024
PUBLIC: Final = "https://tuf-repo-cdn.sigstore.dev"
"""The repository of sigstore's public roots; only its name is used, to find the packaged copy."""

_SECONDS: Final = re.compile(r"[1-9][0-9]{0,10}")


@dataclass(frozen=True, kw_only=True)
class Keyless:
    """What a valid keyless bundle holds. Payload type, document type and subjects are for the caller to compare.

    Args:
        payload_type: The envelope's type of content.
        payload: The signed bytes.
        signature: The bytes of the signature.
        issuer: The provider that vouched for the account.
        identity: The account.
        logged: When sigstore's log says that it entered the signature; ``None`` when it says no time.
    """

    payload_type: str
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    issuer: str
    identity: str
    logged: datetime | None


def is_keyless(value: object) -> bool:
    """Whether a parsed bundle carries a certificate of sigstore's authority in the place of a key's name.

    Args:
        value: The bundle as JSON.
    """
    material = value.get("verificationMaterial") if isinstance(value, dict) else None
    return isinstance(material, dict) and "certificate" in material and "publicKey" not in material


def packaged_roots() -> Path:
    """Return the file with sigstore's public roots that comes with its library.

    Raises:
        UsageError: The library is not installed, or holds no such file.
    """
    try:
        import sigstore
    except ImportError:
        raise UsageError(f"keyless signatures need the library sigstore; install it with {EXTRA}") from None
    # Read as a file: the library's own way copies it into a cache in the home folder first and reads that.
    path = Path(sigstore.__path__[0]) / "_store" / quote(PUBLIC, safe="") / "trusted_root.json"
    if kind_of(path) != "file":
        raise UsageError(
            f"keyless signatures: sigstore {sigstore.__version__} comes without its public roots; install another "
            f"version with {EXTRA}"
        )
    return path


@dataclass(frozen=True)
class _Read:
    """A bundle as our own strict parser reads it."""

    payload: bytes
    signature: bytes
    logged: datetime | None


def _read(data: bytes) -> _Read:
    """Read payload, signature and time of entry; the library must then find the same.

    Raises:
        Rejected: The bundle is not of the one accepted shape.
    """
    value: Any = parse(data, "bundle", max_bytes=MAX_BUNDLE)
    if not isinstance(value, dict) or value.get("mediaType") not in MEDIA_TYPES or not is_keyless(value):
        raise Rejected("bundle: no sigstore bundle v0.3 with the certificate of an identity")
    envelope, entries = value.get("dsseEnvelope"), value["verificationMaterial"].get("tlogEntries")
    if not isinstance(envelope, dict) or set(envelope) != {"payload", "payloadType", "signatures"}:
        raise Rejected("bundle.dsseEnvelope: expected exactly payload, payloadType and signatures")
    signatures, payload = envelope["signatures"], envelope["payload"]
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise Rejected("bundle.dsseEnvelope.signatures: expected a list of exactly one")
    signature = signatures[0].get("sig")
    if not isinstance(payload, str) or not isinstance(signature, str):
        raise Rejected("bundle.dsseEnvelope: payload and sig must be strings")
    if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], dict):
        raise Rejected("bundle.verificationMaterial.tlogEntries: expected a list of exactly one")
    # Without the log's promise nobody signed the time that stands there.
    seconds = entries[0].get("integratedTime") if entries[0].get("inclusionPromise") else None
    return _Read(
        payload=decode_base64(payload, "bundle.dsseEnvelope.payload"),
        signature=decode_base64(signature, "bundle.dsseEnvelope.signatures[0].sig"),
        logged=datetime.fromtimestamp(int(seconds), UTC)
        if isinstance(seconds, str) and _SECONDS.fullmatch(seconds)
        else None,
    )


def payload_of(data: bytes) -> bytes:
    """Return what a keyless bundle says, with nothing about it verified.

    Args:
        data: The bytes of the bundle.

    Raises:
        Rejected: It is not of the one accepted shape.
    """
    return _read(data).payload


def verify_keyless(data: bytes, *, issuer: str, identity: str, roots: Path | None = None) -> Keyless:
    """Verify a stored bundle offline: certificate chain, its log entry and time, identity, signature.

    Args:
        data: The bytes of the bundle.
        issuer: The identity provider that must have vouched, an exact URL.
        identity: The account that must have signed, exact: an e-mail address or the URI of a workflow.
        roots: A file with other roots (sigstore's ``trusted_root.json``); by default the packaged public ones.

    Raises:
        UntrustedError: The bundle is malformed, not valid, or was signed by somebody else.
        UsageError: The library is not installed, or the roots cannot be read.
    """
    path = packaged_roots() if roots is None else roots
    from sigstore.models import Bundle, TrustedRoot
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity

    try:
        verifier = Verifier(trusted_root=TrustedRoot.from_file(str(path)))
    except Exception as problem:
        raise UsageError(
            f"roots {str(path)!r}: cannot be read ({_plain(problem)}); give sigstore's trusted_root.json"
        ) from None
    try:
        ours = _read(data)
    except Rejected as problem:
        raise UntrustedError("carrier", str(problem)) from None
    try:
        bundle = Bundle.from_json(data)
        kind, payload = verifier.verify_dsse(bundle, Identity(identity=identity, issuer=issuer))
    except Exception as problem:  # whatever stops the library on a hostile file, it has then not verified it
        raise UntrustedError(
            "signature",
            f"the keyless signature is not valid for {identity!r} by {issuer!r}: {_plain(problem)}; ask who signed, "
            "and whether you trust that account",
        ) from None
    if (payload, bundle.signature) != (ours.payload, ours.signature):
        raise UntrustedError(
            "carrier", "bundle: two parsers read its envelope differently; ask for it as it was signed"
        )
    return Keyless(
        payload_type=kind,
        payload=payload,
        signature=ours.signature,
        issuer=issuer,
        identity=identity,
        logged=ours.logged,
    )


def _plain(problem: Exception) -> str:
    text = str(problem) or type(problem).__name__
    return "".join(character if character.isprintable() else " " for character in text)[:300]
