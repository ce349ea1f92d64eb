"""Statement and envelope: what is signed, how it is signed, and the only way from a signature to trusted bytes.

The payload is an in-toto Statement v1 in canonical JSON. It is signed through DSSE v1.0.2
(https://github.com/secure-systems-lab/dsse) and carried in a sigstore bundle v0.3, so that cosign, securesystemslib
and plain openssl can verify it. Several signatures over the same payload bytes stand in a bare DSSE envelope. Payload
bytes are never serialised again after signing.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidSignature

from cu_certificates.check.carrier import MEDIA_TYPE, Carrier, Signature
from cu_certificates.check.strict import Rejected, canonical, parse
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.keys import ED25519, PublicKey, algorithm_of, require_signature

PREDICATE_BASE: Final = "https://cu-cert.example/predicate"
"""A reserved name; changing it is a change of format."""
PREDICATE_TYPE: Final = PREDICATE_BASE + "/unlearning-audit/v1"
REVOCATION_TYPE: Final = PREDICATE_BASE + "/revocation/v1"
ROTATION_TYPE: Final = PREDICATE_BASE + "/key-rotation/v1"
GATE_TYPE: Final = "https://in-toto.io/attestation/svr/v0.2"
"""in-toto's Simple Verification Result: what a gate signs."""
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
MAX_SUBJECTS: Final = 999
"""sigstore-go refuses a statement with more than 1024 subjects; cu-cert stays below that."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Signer(Protocol):
    """Whatever signs: a key in memory now, a hardware token later."""

    @property
    def keyid(self) -> str:
        """The OpenSSH fingerprint ``SHA256:...`` of the public key."""

    def sign(self, data: bytes) -> bytes:
        """Return the signature over ``data``: DER for ECDSA P-256, 64 bytes for Ed25519."""


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding, the bytes that a signature covers.

    Args:
        payload_type: The type of the payload.
        payload: The payload.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def statement(
    subjects: Mapping[str, str], predicate: Mapping[str, Any], *, predicate_type: str = PREDICATE_TYPE
) -> bytes:
    """Return the payload: an in-toto Statement v1 in canonical JSON.

    Args:
        subjects: The file name of each subject and its SHA-256 in lower-case hexadecimal, in the order they are
            to be listed.
        predicate: The certificate itself.
        predicate_type: What kind of document it is.

    Raises:
        UsageError: A digest is malformed, the predicate is empty or holds something that canonical JSON cannot say.
    """
    if not 1 <= len(subjects) <= MAX_SUBJECTS:
        raise UsageError(f"statement: {len(subjects)} subjects; expected 1 to {MAX_SUBJECTS}")
    if not predicate:
        raise UsageError("statement: the predicate is empty; verifiers refuse such a statement")
    for name, digest in subjects.items():
        if not name or not _SHA256.fullmatch(digest):
            raise UsageError(f"statement: subject {name!r} has digest {digest!r}; expected 64 lower-case hex digits")
    document = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    try:
        return canonical(document)
    except Rejected as error:
        raise UsageError(f"statement: {error}") from None


def bundle(payload: bytes, signature: bytes, keyid: str) -> bytes:
    """Return the bytes of a sigstore bundle v0.3; a pure function of its three arguments.

    Args:
        payload: The payload that was signed.
        signature: The signature over ``pae(PAYLOAD_TYPE, payload)``.
        keyid: The OpenSSH fingerprint of the key, the only name of a key that every public verifier accepts.
    """
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": keyid}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": keyid, "sig": base64.b64encode(signature).decode("ascii")}],
        },
    }
    return canonical(document) + b"\n"


def dsse(payload: bytes, signatures: Sequence[Signature]) -> bytes:
    """Return the bytes of a DSSE envelope that stands alone; a pure function of its two arguments.

    Args:
        payload: The payload that was signed.
        signatures: One or more signatures over ``pae(PAYLOAD_TYPE, payload)``, in the order they are to be listed.

    Raises:
        UsageError: There is none, or one key stands twice.
    """
    names = [signature.keyid for signature in signatures]
    if not names or len(set(names)) != len(names):
        raise UsageError(f"envelope: signatures by {', '.join(names) or 'nobody'}; expected each key once")
    entries = [
        {"keyid": signature.keyid, "sig": base64.b64encode(signature.value).decode("ascii")} for signature in signatures
    ]
    document = {
        "payload": base64.b64encode(payload).decode("ascii"),
        "payloadType": PAYLOAD_TYPE,
        "signatures": entries,
    }
    return canonical(document) + b"\n"


def sign(payload: bytes, signer: Signer) -> bytes:
    """Sign a payload and return the bytes of its bundle.

    Args:
        payload: What :func:`statement` returned.
        signer: The key.

    Raises:
        UsageError: The payload is not canonical JSON; some verifier would read it differently.
    """
    _require_canonical(payload)
    return bundle(payload, signer.sign(pae(PAYLOAD_TYPE, payload)), signer.keyid)


def _require_canonical(payload: bytes) -> None:
    try:
        reread = canonical(parse(payload, "payload"))
    except Rejected as error:
        raise UsageError(f"nothing was signed: {error}") from None
    if reread != payload:
        raise UsageError("nothing was signed: the payload is not in canonical form; build it with statement()")


def open_envelope(carrier: Carrier, *keys: PublicKey) -> bytes:
    """Return the payload once every signature was found valid; the only way from a carrier to trusted bytes.

    The keys and with them the algorithms come from the caller's trust file, never from the carrier.

    Args:
        carrier: What was taken out of a bundle, a report or an envelope.
        *keys: The keys that must have signed, in the order of ``carrier.signatures``.

    Raises:
        UntrustedError: A signature is not valid for its key, or the payload is of another type.
        ValueError: There are not as many keys as signatures, or none.
    """
    if not keys:
        raise ValueError("an envelope opens with keys; none was given")
    data = pae(carrier.payload_type, carrier.payload)
    for signature, key in zip(carrier.signatures, keys, strict=True):
        try:
            require_signature(key, signature.value, data)
        except InvalidSignature:
            form = "Ed25519, 64 bytes" if algorithm_of(key) == ED25519 else "ECDSA P-256 with SHA-256, DER"
            raise UntrustedError(
                "signature",
                f"the signature does not match the content for key {signature.keyid!r}; the file was altered, or "
                f"another key signed it (expected: {form}); ask the auditor for the original file",
            ) from None
    if carrier.payload_type != PAYLOAD_TYPE:
        raise UntrustedError("carrier", f"payloadType {carrier.payload_type!r}; expected exactly {PAYLOAD_TYPE!r}")
    return carrier.payload


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement of the one accepted shape. Whether it can be relied on depends on where its bytes came from.

    Args:
        document: The parsed statement.
        subjects: The SHA-256 of each subject by its name.
    """

    document: dict[str, Any]
    subjects: dict[str, str]

    @property
    def predicate(self) -> dict[str, Any]:
        """The certificate itself."""
        predicate: dict[str, Any] = self.document["predicate"]
        return predicate

    def text(self, *path: str) -> str:
        """Return the string at ``path`` below the predicate.

        Args:
            path: Keys, outermost first.

        Raises:
            UntrustedError: There is no such string, or it is empty.
        """
        value: Any = self.predicate
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, str) or not value:
            raise UntrustedError("carrier", f"predicate.{'.'.join(path)} is {value!r:.200}; expected a string")
        return value


def require_object(value: object, where: str, keys: set[str] | None = None) -> dict[str, Any]:
    """Return ``value`` if it is an object that is not empty.

    Args:
        value: What was parsed.
        where: Its place, for messages.
        keys: Its only accepted keys; ``None`` for any.

    Raises:
        UntrustedError: It is something else.
    """
    if not isinstance(value, dict) or not value:
        raise UntrustedError("carrier", f"{where} is {value!r:.200}; expected an object that is not empty")
    if keys is not None and set(value) != keys:
        raise UntrustedError("carrier", f"{where} has the fields {sorted(value)}; expected exactly {sorted(keys)}")
    return value


def require_digest(value: object, where: str) -> str:
    """Return the hexadecimal digest of a map with ``sha256`` and nothing else.

    A second algorithm in the map is refused: verifiers disagree on whether all entries or any entry must match.

    Args:
        value: What was parsed.
        where: Its place, for messages.

    Raises:
        UntrustedError: It is something else.
    """
    sha256 = require_object(value, where, {"sha256"})["sha256"]
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise UntrustedError("carrier", f"{where}.sha256 is {sha256!r:.200}; expected 64 lower-case hex digits")
    return sha256


def _read_subjects(entries: object) -> dict[str, str]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_SUBJECTS:
        raise UntrustedError("subject", f"the statement's subject is no list of 1 to {MAX_SUBJECTS} entries")
    found: dict[str, str] = {}
    for index, entry in enumerate(entries):
        subject = require_object(entry, f"subject[{index}]", {"name", "digest"})
        name = subject["name"]
        if not isinstance(name, str) or not name or name in found:
            raise UntrustedError("subject", f"subject[{index}].name is {name!r:.200}; expected a name that stands once")
        found[name] = require_digest(subject["digest"], f"subject[{index}].digest")
    return found


def read_statement(payload: bytes, *, predicate_type: str = PREDICATE_TYPE) -> Statement:
    """Read payload bytes: exact fields, exact types, digests in their one spelling, the model among the subjects.

    Args:
        payload: The bytes of the statement, as they were signed.
        predicate_type: The only kind of document that is accepted; an audit must name its model as a subject.

    Raises:
        UntrustedError: The bytes are something else.
    """
    try:
        parsed = parse(payload, "payload")
    except Rejected as error:
        raise UntrustedError("carrier", str(error)) from None
    document = require_object(parsed, "payload", {"_type", "subject", "predicateType", "predicate"})
    for name, expected in (("_type", STATEMENT_TYPE), ("predicateType", predicate_type)):
        if document[name] != expected:
            raise UntrustedError("carrier", f"{name} is {document[name]!r:.200}; expected exactly {expected!r}")
    require_object(document["predicate"], "predicate")
    found = Statement(document=document, subjects=_read_subjects(document["subject"]))
    if predicate_type != PREDICATE_TYPE:
        return found
    name = found.text("scope", "model", "name")
    stated = require_digest(found.predicate["scope"]["model"].get("digest"), "predicate.scope.model.digest")
    if found.subjects.get(name) != stated:
        raise UntrustedError("subject", f"scope.model {name!r} with sha256:{stated} is not a subject of the statement")
    return found
