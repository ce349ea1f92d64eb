"""The revocation list: which certificates and keys no longer count, signed, numbered, and only ever longer.

A revoked certificate counts for nobody. A key that is revoked at a time t takes every signature with it that is not
shown by a time stamp of a third party to be older than t, because whoever stole the key writes any date they like.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cu_certificates._files import kind_of, read_bytes, write_atomic, write_new
from cu_certificates._opening import CLOCK_SKEW, INSTANT, Opened, instant, open_signed, require_valid_now
from cu_certificates._trusted import ROLES, Trust, TrustedKey
from cu_certificates.check.carrier import MAX_BUNDLE
from cu_certificates.check.strict import canonical
from cu_certificates.envelope import (
    MAX_SUBJECTS,
    REVOCATION_TYPE,
    Statement,
    read_statement,
    require_digest,
    require_object,
    sign,
    statement,
)
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.keys import SigningKey

MAX_ENTRIES: Final = MAX_SUBJECTS - 1
ENTRIES_NAME: Final = "entries.json"
"""The first subject: the canonical JSON of the entries, so that an empty list has a subject too."""

_WORD: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
_KEYID: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_VERSION: Final = "1.0"


def digest_of_keyid(keyid: str) -> str:
    """Return the SHA-256 that an OpenSSH fingerprint spells, in hexadecimal.

    Args:
        keyid: A fingerprint ``SHA256:...``.

    Raises:
        UsageError: It is none.
    """
    if not _KEYID.fullmatch(keyid):
        raise UsageError(f"key {keyid!r:.200}; expected a fingerprint such as 'cu-cert key show FILE' prints")
    raw = base64.b64decode(keyid.removeprefix("SHA256:") + "=")
    if base64.b64encode(raw).decode().rstrip("=") != keyid.removeprefix("SHA256:"):
        raise UsageError(f"key {keyid!r}: unused bits are set at its end; copy the fingerprint again")
    return raw.hex()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that no longer counts: a certificate or a key.

    Args:
        payload_sha256: The identity of the certificate; ``None`` for a key.
        keyid: The fingerprint of the key; ``None`` for a certificate.
        revoked_at: Since when, with a time zone, in whole seconds.
        reason: One word such as ``key-compromise``, ``superseded``, ``error``, ``retired``.

    Raises:
        UsageError: A field is malformed, or both or neither of certificate and key are named.
    """

    payload_sha256: str | None = None
    keyid: str | None = None
    revoked_at: datetime
    reason: str

    def __post_init__(self) -> None:
        if (self.payload_sha256 is None) == (self.keyid is None):
            raise UsageError("revocation: expected either a certificate or a key")
        if self.payload_sha256 is not None and not _SHA256.fullmatch(self.payload_sha256):
            raise UsageError(f"revocation: payload sha256 {self.payload_sha256!r:.200}; expected 64 lower-case digits")
        if self.keyid is not None:
            digest_of_keyid(self.keyid)
        if self.revoked_at.tzinfo is None or self.revoked_at.microsecond:
            raise UsageError(f"revocation: time {self.revoked_at}; expected whole seconds and a time zone")
        if not _WORD.fullmatch(self.reason):
            raise UsageError(
                f"revocation: reason {self.reason!r:.80}; expected one lower-case word such as key-compromise, "
                "superseded, error or retired"
            )

    @property
    def name(self) -> str:
        """``sha256:HEX`` for a certificate, ``SHA256:...`` for a key."""
        return f"sha256:{self.payload_sha256}" if self.keyid is None else self.keyid

    @property
    def digest(self) -> str:
        """SHA-256 of the certificate's payload, or of the key in OpenSSH's encoding, in hexadecimal."""
        return self.payload_sha256 if self.payload_sha256 is not None else digest_of_keyid(self.name)

    def to_json(self) -> dict[str, str]:
        """Return the entry as it stands in the list."""
        told = {"keyid": self.keyid} if self.keyid is not None else {"payloadSha256": self.digest}
        return told | {"revokedAt": self.revoked_at.astimezone(UTC).strftime(INSTANT), "reason": self.reason}


@dataclass(frozen=True, kw_only=True)
class RevocationList:
    """A list whose signature, time and form were accepted.

    Args:
        entries: What was revoked, oldest entry first.
        sequence: The number of this version, from 1.
        previous: SHA-256 of the payload of the version before; ``None`` for the first.
        issued_at: When it was signed.
        payload_sha256: The identity of this version.
        keyid: The key that signed it.
    """

    entries: tuple[Entry, ...]
    sequence: int
    previous: str | None
    issued_at: datetime
    payload_sha256: str
    keyid: str

    def of(self, name: str) -> Entry | None:
        """Return the earliest entry for a certificate ``sha256:HEX`` or a key ``SHA256:...``, if any.

        Args:
            name: What is looked for.
        """
        found = [entry for entry in self.entries if entry.name == name]
        return min(found, key=lambda entry: entry.revoked_at, default=None)


def _subjects(entries: tuple[Entry, ...]) -> dict[str, str]:
    listed = canonical([entry.to_json() for entry in entries])
    return {ENTRIES_NAME: hashlib.sha256(listed).hexdigest()} | {entry.name: entry.digest for entry in entries}


def _read_entry(value: object, where: str) -> Entry:
    entry = require_object(value, where)
    kinds = {"payloadSha256": "payload_sha256", "keyid": "keyid"}
    kind = next((kind for kind in kinds if kind in entry), "payloadSha256 or keyid")
    require_object(entry, where, {kind, "revokedAt", "reason"})
    if not all(isinstance(text, str) for text in entry.values()):
        raise UntrustedError("carrier", f"{where} is {entry!r:.200}; expected strings alone")
    when = instant(entry["revokedAt"], f"{where}.revokedAt")
    try:
        return Entry(**{kinds[kind]: entry[kind]}, revoked_at=when, reason=entry["reason"])
    except UsageError as error:
        raise UntrustedError("carrier", f"{where}: {error}") from None


def _read_number(statement: Statement, previous: object) -> tuple[int, str | None]:
    sequence = statement.predicate.get("sequence")
    if type(sequence) is not int or sequence < 1:
        raise UntrustedError("carrier", f"predicate.sequence is {sequence!r:.80}; expected a whole number from 1")
    if (previous is None) != (sequence == 1):
        raise UntrustedError(
            "carrier", f"predicate.previous is {previous!r:.80} in list number {sequence}; only the first list has none"
        )
    return sequence, None if previous is None else require_digest(previous, "predicate.previous")


def _read(opened: Opened, now: datetime) -> RevocationList:
    found = read_statement(opened.payload, predicate_type=REVOCATION_TYPE)
    if (version := found.text("schemaVersion")) != _VERSION:
        raise UntrustedError("carrier", f"schemaVersion {version!r:.80}; expected {_VERSION!r}; update cu-cert")
    sequence, previous = _read_number(found, found.predicate.get("previous"))
    issued = instant(found.text("issuedAt"), "issuedAt")
    if issued > now + CLOCK_SKEW:
        raise UntrustedError("time", f"issued {issued}, which is after now, {now}; check this computer's clock")
    listed = found.predicate.get("entries")
    if not isinstance(listed, list) or len(listed) > MAX_ENTRIES:
        raise UntrustedError("carrier", f"predicate.entries is no list of at most {MAX_ENTRIES} entries")
    entries = tuple(_read_entry(entry, f"predicate.entries[{index}]") for index, entry in enumerate(listed))
    if found.subjects != _subjects(entries):
        raise UntrustedError("subject", "the subjects of the list are not what its entries name; get the list again")
    return RevocationList(
        entries=entries,
        sequence=sequence,
        previous=previous,
        issued_at=issued,
        payload_sha256=hashlib.sha256(opened.payload).hexdigest(),
        keyid=opened.keys[0].keyid,
    )


def read_revocations(data: bytes, trust: Trust, *, now: datetime, what: str = "revocation list") -> RevocationList:
    """Verify the bytes of a list: signed by a key that may sign lists, valid now, in its one form.

    A list that revokes the very key that signed it is believed: it can only take trust away.

    Args:
        data: The bytes of the file.
        trust: The reader's trust file.
        now: The reader's time, with a time zone.
        what: How the file is called in messages.

    Raises:
        UntrustedError: A step refuses.
    """
    opened = open_signed(what, data, trust, roles=ROLES, predicate_type=REVOCATION_TYPE)
    for key in opened.keys:
        require_valid_now(key, now)
    return _read(opened, now)


def load_revocations(trust: Trust, *, now: datetime) -> RevocationList | None:
    """Read the list that a trust file names; ``None`` when it names none.

    A list that is absent, older than the reader allows or not trusted refuses everything: whoever can delete a file
    must not be able to bring a revoked key back.

    Args:
        trust: The reader's trust file.
        now: The reader's time, with a time zone.

    Raises:
        UntrustedError: The list cannot be relied on; the step is ``revocation``.
    """
    rule = trust.revocation
    if rule is None:
        return None
    what = f"revocation list {str(rule.list)!r}"
    try:
        data = read_bytes(rule.list, what="revocation list", max_bytes=MAX_BUNDLE)
        found = read_revocations(data, trust, now=now, what=what)
    except UsageError as error:
        raise UntrustedError("revocation", f"{error}; without it nobody knows what was revoked") from None
    except UntrustedError as error:
        told = str(error) if what in str(error) else f"{what}: {error}"
        raise UntrustedError("revocation", f"{told}; get the list from its issuer again") from None
    _require_sequence(found, what, trust)
    _require_recent(found, what, trust, now)
    return found


def _require_sequence(found: RevocationList, what: str, trust: Trust) -> None:
    rule = trust.revocation
    if rule is not None and found.sequence < rule.min_sequence:
        raise UntrustedError(
            "revocation",
            f"{what} is number {found.sequence}; min_sequence = {rule.min_sequence} ({trust.path}); an older list was "
            "put in its place, so get the newest one",
        )


def _require_recent(found: RevocationList, what: str, trust: Trust, now: datetime) -> None:
    rule = trust.revocation
    if rule is not None and rule.max_age_days is not None and now - found.issued_at > timedelta(days=rule.max_age_days):
        raise UntrustedError(
            "revocation",
            f"{what} was issued {found.issued_at}, more than max_list_age_days = {rule.max_age_days} ago "
            f"({trust.path}); get the newest one",
        )


def _self_trust(path: Path, signer: SigningKey) -> Trust:
    key = TrustedKey(
        keyid=signer.keyid,
        public=signer.public,
        algorithm=signer.algorithm,
        roles=("auditor",),
        predicates=(REVOCATION_TYPE,),
        not_before=datetime.min.replace(tzinfo=UTC),
        not_after=datetime.max.replace(tzinfo=UTC),
    )
    return Trust(path=path, keys=(key,))


def _extended(before: RevocationList | None, entry: Entry | None) -> tuple[Entry, ...]:
    entries = before.entries if before is not None else ()
    if entry is None:
        return entries
    known = before.of(entry.name) if before is not None else None
    if known is not None and known.revoked_at <= entry.revoked_at:
        raise UsageError(
            f"{entry.name} is revoked since {known.revoked_at} ({known.reason}); an entry is never taken back, and "
            "only an earlier time can be added"
        )
    if len(entries) == MAX_ENTRIES:
        raise UsageError(f"the list holds {MAX_ENTRIES} entries, which is all it can; revoke the key instead")
    return (*entries, entry)


def revoke(
    path: Path, signer: SigningKey, entry: Entry | None, *, now: datetime, trust: Trust | None = None
) -> RevocationList:
    """Write the next version of a revocation list; what stands in it stays in it.

    Args:
        path: The list; it is made when it does not exist.
        signer: The key that signs the new version.
        entry: What is revoked; ``None`` to sign the same entries again, for readers who ask for a recent list.
        now: The time of signing, with a time zone.
        trust: By which an existing list is verified; without it the list must be signed by ``signer``.

    Returns:
        The new version, as it was written.

    Raises:
        UntrustedError: The list that is there is not trusted, so nothing is added to it.
        UsageError: The entry is known already or lies in the future, the list is full or cannot be written.
    """
    now = now.astimezone(UTC).replace(microsecond=0)
    if entry is not None and entry.revoked_at > now:
        raise UsageError(f"{entry.name}: revoked at {entry.revoked_at}, which is after now, {now}")
    before: RevocationList | None = None
    what = f"revocation list {str(path)!r}"
    if fresh := kind_of(path) == "absent":
        reader = _self_trust(path, signer)
    else:
        reader = trust or _self_trust(path, signer)
        data = read_bytes(path, what="revocation list", max_bytes=MAX_BUNDLE)
        before = read_revocations(data, reader, now=now, what=what)
        _require_sequence(before, what, reader)
        if before.issued_at > now:
            raise UsageError(f"{what} was issued {before.issued_at}, which is after now, {now}; check the clock")
    entries = _extended(before, entry)
    predicate: dict[str, Any] = {
        "schemaVersion": _VERSION,
        "issuedAt": now.strftime(INSTANT),
        "sequence": 1 if before is None else before.sequence + 1,
        "entries": [item.to_json() for item in entries],
    }
    if before is not None:
        predicate["previous"] = {"sha256": before.payload_sha256}
    bundle = sign(statement(_subjects(entries), predicate, predicate_type=REVOCATION_TYPE), signer)
    written = read_revocations(bundle, _self_trust(path, signer), now=now, what=what)
    (write_new if fresh else write_atomic)(path, bundle, what="revocation list")
    return written
