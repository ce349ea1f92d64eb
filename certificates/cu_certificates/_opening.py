"""From bytes that anyone could have written to a payload that trusted keys signed; what every signed document shares.

Order: the carrier is taken apart, the reader's trust file is asked about every key that it names, and only then is a
signature looked at. A file holds either good signatures alone or is refused as a whole: a signature that is skipped
could be altered unseen.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cu_certificates._trusted import Trust, TrustedKey
from cu_certificates.check.carrier import Carrier, load_any
from cu_certificates.check.strict import Rejected
from cu_certificates.envelope import (
    GATE_TYPE,
    PREDICATE_TYPE,
    REVOCATION_TYPE,
    ROTATION_TYPE,
    Statement,
    open_envelope,
)
from cu_certificates.errors import UntrustedError

CLOCK_SKEW: Final = timedelta(days=1)
INSTANT: Final = "%Y-%m-%dT%H:%M:%SZ"

_SPELLING: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_DOCUMENTS: Final = {
    PREDICATE_TYPE: "an audit",
    GATE_TYPE: "a gate decision",
    REVOCATION_TYPE: "a revocation list",
    ROTATION_TYPE: "a key rotation",
}


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A document whose signatures are all valid and all by trusted keys; whether these were valid *then* is not judged.

    Args:
        carrier: What held it.
        payload: The signed bytes.
        keys: The keys that signed, in the order of ``carrier.signatures``.
    """

    carrier: Carrier
    payload: bytes = field(repr=False)
    keys: tuple[TrustedKey, ...]


def take_apart(what: str, data: bytes) -> tuple[Carrier, bytes | None]:
    """Take a carrier apart.

    Args:
        what: How the file is called in messages.
        data: Its bytes.

    Returns:
        The unverified parts, and the page around them when ``data`` is a report.

    Raises:
        UntrustedError: The bytes are no carrier.
    """
    try:
        return load_any(data)
    except Rejected as error:
        raise UntrustedError("carrier", f"{what}: {error}") from None


def trusted_keys(
    carrier: Carrier, trust: Trust, *, roles: tuple[str, ...], predicate_type: str
) -> tuple[TrustedKey, ...]:
    """Return the trusted key of each signature, once every one of them may sign such a document.

    Args:
        carrier: What was taken apart.
        trust: The reader's trust file.
        roles: Who may sign such a document; one of these is enough.
        predicate_type: What kind of document it is.

    Raises:
        UntrustedError: A key is not listed, or may not sign this.
    """
    found: list[TrustedKey] = []
    document = _DOCUMENTS.get(predicate_type, "this file")
    for signature in carrier.signatures:
        key = trust.find(signature.keyid)
        if key is None:
            raise UntrustedError(
                "trust",
                f"the file names key {signature.keyid!r}, which {str(trust.path)!r} does not list; to trust it, get "
                "the public key from its holder by another channel, compare what 'cu-cert key show FILE' prints with "
                "this fingerprint, and make a trust file with 'cu-cert key trust FILE' or add a [[key]] table to yours",
            )
        if carrier.hint not in (None, key.keyid):
            raise UntrustedError("carrier", f"publicKey.hint is {carrier.hint!r}; expected the signer's {key.keyid!r}")
        if not set(roles) & set(key.roles):
            raise UntrustedError(
                "trust",
                f"key {key.keyid} has the roles {', '.join(key.roles)}; {document} needs a key with "
                f"{' or '.join(map(repr, roles))}",
            )
        if predicate_type not in key.predicates:
            raise UntrustedError(
                "trust", f"key {key.keyid} may sign {', '.join(key.predicates)}; this file needs {predicate_type}"
            )
        found.append(key)
    return tuple(found)


def open_signed(what: str, data: bytes, trust: Trust, *, roles: tuple[str, ...], predicate_type: str) -> Opened:
    """Open a signed document: carrier, trust, signature. Time and revocation are the caller's.

    Args:
        what: How the file is called in messages.
        data: Its bytes.
        trust: The reader's trust file.
        roles: Who may sign such a document; one of these is enough.
        predicate_type: What kind of document it is.

    Raises:
        UntrustedError: A step refuses.
    """
    carrier, skeleton = take_apart(what, data)
    if skeleton is not None:
        raise UntrustedError("carrier", f"{what}: an HTML page; expected a bundle (.sigstore.json)")
    keys = trusted_keys(carrier, trust, roles=roles, predicate_type=predicate_type)
    return Opened(carrier=carrier, payload=open_envelope(carrier, *(key.public for key in keys)), keys=keys)


def require_valid_now(key: TrustedKey, now: datetime) -> None:
    """Refuse a key outside its time; for documents that nobody time-stamps.

    Args:
        key: The key that signed.
        now: The reader's time.

    Raises:
        UntrustedError: The key is not valid yet, or no longer.
    """
    if now < key.not_before:
        raise UntrustedError("time", f"key {key.keyid} becomes valid on {key.not_before}; now is {now}")
    if now > key.not_after:
        raise UntrustedError(
            "time", f"key {key.keyid} was valid until {key.not_after}; now is {now}; ask for a new one"
        )


def instant(text: str, where: str, step: str = "time") -> datetime:
    """Read the one accepted spelling of a time, ``2026-11-20T18:00:00Z``.

    Args:
        text: What stands in the document.
        where: Its place, for messages.
        step: The step that refuses.

    Raises:
        UntrustedError: It is spelled in another way, or is no time.
    """
    try:
        if not _SPELLING.fullmatch(text):  # strptime takes other digits, single ones and small letters as well
            raise ValueError
        return datetime.strptime(text, INSTANT).replace(tzinfo=UTC)
    except ValueError:
        raise UntrustedError(step, f"{where} is {text!r:.200}; expected a time such as 2026-11-20T18:00:00Z") from None


def stated_instant(statement: Statement, key: str) -> datetime:
    """Return the time that stands under ``key`` of the predicate.

    Args:
        statement: The statement.
        key: The name of the field.

    Raises:
        UntrustedError: There is none, or it is spelled in another way.
    """
    return instant(statement.text(key), key)
