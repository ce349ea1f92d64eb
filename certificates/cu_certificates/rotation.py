"""Key rotation: the old key names its successor in a signed statement, and the successor shows that it is held.

A reader who trusts the old key for such statements can add the new one without meeting its holder again. What the new
key may do is bounded by what the old one may; a rotation moves trust and never widens it.
"""

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature

from cu_certificates._files import kind_of, read_bytes, write_new
from cu_certificates._opening import CLOCK_SKEW, INSTANT, stated_instant
from cu_certificates._trusted import Trust, TrustedKey
from cu_certificates._verify_time import open_current
from cu_certificates.check.carrier import MAX_BUNDLE
from cu_certificates.check.strict import Rejected, canonical, decode_base64
from cu_certificates.envelope import ROTATION_TYPE, Statement, pae, read_statement, require_object, sign, statement
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.keys import (
    PublicKey,
    SigningKey,
    algorithm_of,
    fingerprint,
    load_public_key,
    parse_public_key,
    public_pem,
    require_signature,
)
from cu_certificates.revocation import digest_of_keyid, load_revocations
from cu_certificates.trust import add_key, load_trust

POSSESSION_TYPE: Final = "application/vnd.cu-cert.key-possession+json"
"""DSSE payload type of the new key's own signature: no other document of ours is ever signed under it."""
PEM_NAME: Final = "new.pub.pem"

_VERSION: Final = "1.0"


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """A rotation that was verified.

    Args:
        old: The trusted key that signed it.
        new: The public key that takes its place.
        rotated_at: When, by the word of the old key's holder.
    """

    old: TrustedKey
    new: PublicKey = field(repr=False)
    rotated_at: datetime

    @property
    def keyid(self) -> str:
        """The fingerprint of the new key."""
        return fingerprint(self.new)


def _possession(old: str, new: str, rotated_at: str) -> bytes:
    # What the new key signs names both keys and the time, so it can be used for no other rotation.
    return pae(POSSESSION_TYPE, canonical({"new": new, "old": old, "rotatedAt": rotated_at}))


def rotate(old: SigningKey, new: SigningKey, *, now: datetime) -> bytes:
    """Return the signed statement in which the old key names the new one.

    A bundle carries one signature, the old key's; the new key's, which shows that its private half is held, stands
    inside the statement.

    Args:
        old: The key that readers trust today.
        new: The key that is to take its place.
        now: The time, with a time zone.

    Raises:
        UsageError: Both are the same key.
    """
    if old.keyid == new.keyid:
        raise UsageError(f"old and new key are both {old.keyid}; make a new key with 'cu-cert key generate'")
    when, pem = now.astimezone(UTC).strftime(INSTANT), public_pem(new.public)
    predicate = {
        "schemaVersion": _VERSION,
        "rotatedAt": when,
        "old": {"keyid": old.keyid, "alg": old.algorithm},
        "new": {"keyid": new.keyid, "alg": new.algorithm, "publicKey": pem.decode("ascii")},
        "possession": base64.b64encode(new.sign(_possession(old.keyid, new.keyid, when))).decode("ascii"),
    }
    # The PEM file is a subject, so that any tool that verifies a bundle over a file can verify the rotation.
    subjects = {new.keyid: digest_of_keyid(new.keyid), PEM_NAME: hashlib.sha256(pem).hexdigest()}
    return sign(statement(subjects, predicate, predicate_type=ROTATION_TYPE), old)


def _new_key(found: Statement) -> PublicKey:
    entry = require_object(found.predicate.get("new"), "predicate.new", {"keyid", "alg", "publicKey"})
    pem = entry["publicKey"]
    if not isinstance(pem, str):
        raise UntrustedError("carrier", f"predicate.new.publicKey is {pem!r:.80}; expected a public key in PEM form")
    try:
        key = parse_public_key(pem.encode(), "predicate.new.publicKey")
    except UsageError as error:
        raise UntrustedError("trust", str(error)) from None
    if public_pem(key) != pem.encode():
        raise UntrustedError("carrier", "predicate.new.publicKey holds more than one key in its usual PEM form")
    if (entry["keyid"], entry["alg"]) != (fingerprint(key), algorithm_of(key)):
        raise UntrustedError(
            "trust",
            f"predicate.new names {entry['keyid']!r:.100} {entry['alg']!r:.40}; its public key is {fingerprint(key)} "
            f"{algorithm_of(key)}",
        )
    subjects = {fingerprint(key): digest_of_keyid(fingerprint(key)), PEM_NAME: hashlib.sha256(pem.encode()).hexdigest()}
    if found.subjects != subjects:
        raise UntrustedError("subject", "the subjects of the rotation are not the new key; ask for the original file")
    return key


def _check_possession(found: Statement, old: str, new: PublicKey) -> None:
    try:
        signature = decode_base64(found.text("possession"), "predicate.possession")
        require_signature(new, signature, _possession(old, fingerprint(new), found.text("rotatedAt")))
    except Rejected as error:
        raise UntrustedError("carrier", str(error)) from None
    except InvalidSignature:
        raise UntrustedError(
            "signature",
            f"predicate.possession is not a signature by {fingerprint(new)} over this rotation; whoever made it does "
            "not hold the new key",
        ) from None


def read_rotation(data: bytes, trust: Trust, *, now: datetime) -> Rotation:
    """Verify a rotation: signed by a trusted key that may sign rotations, valid and unrevoked; the new key is held.

    Args:
        data: The bytes of the file.
        trust: The reader's trust file, which lists the old key.
        now: The reader's time, with a time zone.

    Raises:
        UntrustedError: A step refuses.
    """
    opened = open_current(data, trust, role=None, predicate_type=ROTATION_TYPE, now=now, what="rotation")
    found = read_statement(opened.payload, predicate_type=ROTATION_TYPE)
    if len(opened.keys) != 1:
        raise UntrustedError("carrier", f"{len(opened.keys)} signatures; a rotation has one, by the old key")
    old = opened.keys[0]
    if (version := found.text("schemaVersion")) != _VERSION:
        raise UntrustedError("carrier", f"schemaVersion {version!r:.80}; expected {_VERSION!r}; update cu-cert")
    if found.predicate.get("old") != {"keyid": old.keyid, "alg": old.algorithm}:
        raise UntrustedError("trust", f"predicate.old is {found.predicate.get('old')!r:.200}; {old.keyid} signed it")
    rotated = stated_instant(found, "rotatedAt")
    if not old.not_before <= rotated <= now + CLOCK_SKEW:
        raise UntrustedError(
            "time", f"rotated {rotated}; expected between {old.not_before}, when the old key became valid, and now"
        )
    new = _new_key(found)
    if fingerprint(new) == old.keyid:
        raise UntrustedError("trust", f"the new key is the old one, {old.keyid}")
    _check_possession(found, old.keyid, new)
    listed = load_revocations(trust, now=now)
    if listed is not None and (entry := listed.of(fingerprint(new))) is not None:
        raise UntrustedError(
            "revocation", f"the new key {fingerprint(new)} was revoked on {entry.revoked_at} ({entry.reason})"
        )
    return Rotation(old=old, new=new, rotated_at=rotated)


def public_name(keyid: str) -> str:
    """Return the name under which the public half of a key is kept beside a trust file.

    Args:
        keyid: Its fingerprint.
    """
    return f"key-{digest_of_keyid(keyid)[:16]}.pub.pem"


def trust_rotation(
    path: Path,
    rotation: Path,
    *,
    now: datetime,
    not_after: datetime | None = None,
    roles: tuple[str, ...] | None = None,
    predicates: tuple[str, ...] | None = None,
) -> TrustedKey:
    """Verify a rotation against a trust file and add the new key to it; the old key stays until it ends.

    Args:
        path: The trust file; it lists the old key.
        rotation: The file that the old key's holder signed.
        now: The reader's time, with a time zone.
        not_after: End of the new key's validity; two years after its start when not given.
        roles: Fewer roles than the old key has; default the same.
        predicates: Fewer document types than the old key may sign; default the same.

    Returns:
        The new key as it is trusted now.

    Raises:
        UntrustedError: The rotation is not trusted, or is revoked.
        PolicyError: The trust file does not say what it must.
        UsageError: Roles or predicates are wider than the old key's, the key is listed, or a file cannot be written.
    """
    trust = load_trust(path)
    found = read_rotation(read_bytes(rotation, what="rotation", max_bytes=MAX_BUNDLE), trust, now=now)
    roles = found.old.roles if roles is None else roles
    predicates = found.old.predicates if predicates is None else predicates
    for name, given, most in (("roles", roles, found.old.roles), ("predicates", predicates, found.old.predicates)):
        if wider := [item for item in given if item not in most]:
            raise UsageError(
                f"{name} {', '.join(wider)}: the old key {found.old.keyid} has only {', '.join(most)}; a rotation "
                "cannot widen what a key may do, so leave these out or edit the trust file by hand"
            )
    if trust.find(found.keyid) is not None:
        raise UsageError(f"trust file {str(path)!r} lists key {found.keyid} already; nothing is to be added")
    public = path.parent / public_name(found.keyid)
    fresh = kind_of(public) == "absent"
    if not fresh and fingerprint(load_public_key(public)) != found.keyid:
        raise UsageError(f"public key {str(public)!r} is another one than {found.keyid}; move it away first")
    if fresh:
        write_new(public, public_pem(found.new), what="public key")
    try:
        return add_key(
            path,
            public,
            not_before=max(found.rotated_at, found.old.not_before),
            not_after=not_after,
            roles=roles,
            predicates=predicates,
        )
    except BaseException:
        if fresh:
            public.unlink(missing_ok=True)
        raise
