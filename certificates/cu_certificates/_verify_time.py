"""When something was signed, and whether its keys counted then: validity, age, time stamps, revocation.

``issuedAt`` is the signer's own word: without a time stamp by a third party, a file that was signed with a stolen key
after its end looks like one that was signed before. So without one, a key is held against the reader's clock.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cu_certificates._files import kind_of, read_bytes
from cu_certificates._opening import CLOCK_SKEW, Opened, open_signed, require_valid_now, stated_instant
from cu_certificates._steps import StepLog
from cu_certificates._trusted import ROLES, Trust, TrustedKey
from cu_certificates.envelope import Statement, read_statement
from cu_certificates.errors import UntrustedError
from cu_certificates.revocation import load_revocations

CERTIFICATE_STAMP: Final = "certificate.tsr"
PLAN_STAMP: Final = "plan.tsr"

_MAX_TOKEN: Final = 256 * 1024
_SUFFIXES: Final = (".sigstore.json", ".dsse.json", ".html", ".json")


def stamp_places(file: Path) -> list[Path]:
    """Return where the time stamp of a certificate may lie: ``NAME.tsr`` beside it, else ``certificate.tsr``.

    The second is for a report, whose bundle is that of ``certificate.sigstore.json``.

    Args:
        file: The certificate.
    """
    name = next((file.name.removesuffix(end) for end in _SUFFIXES if file.name.endswith(end)), file.name)
    return [file.parent / stamp for stamp in dict.fromkeys((f"{name}.tsr", CERTIFICATE_STAMP))]


def trusted_time(file: Path, signature: bytes, trust: Trust) -> datetime | None:
    """Return when a signature existed at the latest, by the word of a time-stamping authority that the reader trusts.

    Args:
        file: The certificate; its time stamp lies beside it.
        signature: The bytes of the signature that was stamped.
        trust: The reader's trust file.

    Returns:
        The time, or ``None`` when the reader trusts no authority or there is no time stamp and none is asked for.

    Raises:
        UntrustedError: There is a time stamp and it is not valid for this signature, or one is required and absent.
    """
    if not trust.tsa_roots:
        return None
    places = stamp_places(file)
    path = next((place for place in places if kind_of(place) == "file"), None)
    if path is None:
        if trust.require_timestamp:
            raise UntrustedError(
                "time",
                f"no time stamp {str(places[0])!r}; require_timestamp = true ({trust.path}); ask the auditor for the "
                ".tsr file and put it beside the certificate",
            )
        return None
    return _stamped(path, signature, trust)


def _stamped(path: Path, data: bytes, trust: Trust) -> datetime:
    from cu_certificates.timestamp import verify_token

    token = read_bytes(path, what="time stamp", max_bytes=_MAX_TOKEN)
    try:
        return verify_token(token, data, list(trust.tsa_roots))
    except UntrustedError as error:
        raise UntrustedError("time", f"{str(path)!r}: {str(error).removeprefix('time: ')}") from None


def note_plan_time(places: Sequence[Path], plan: bytes | None, trust: Trust, log: StepLog) -> None:
    """Say when the plan existed at the latest, where an authority that the reader trusts stamped it.

    Args:
        places: The folders in which ``plan.json`` is looked for.
        plan: Its bytes; ``None`` when it is not at hand.
        trust: The reader's trust file.
        log: Where the step is noted.

    Raises:
        UntrustedError: There is a time stamp and it is not valid for this plan.
    """
    path = next((place / PLAN_STAMP for place in places if kind_of(place / PLAN_STAMP) == "file"), None)
    if path is None or plan is None:
        return
    if not trust.tsa_roots:
        log.add("plan", f"{path} is not looked at: [time] tsa_roots of {trust.path} names no authority", "not checked")
        return
    log.add("plan", f"the plan existed no later than {_stamped(path, plan, trust)} and is unchanged")


def check_time(
    statement: Statement,
    auditor: TrustedKey | None,
    others: Sequence[TrustedKey],
    stamped: datetime | None,
    *,
    trust: Trust,
    now: datetime,
    allow_expired: bool,
    log: StepLog,
) -> None:
    """Hold the times that a certificate states, its time stamp and its keys against the reader's clock and rules.

    Args:
        statement: The certificate.
        auditor: The key of the named auditor, whose signature the time stamp covers; ``None`` when an account signed.
        others: The keys of the other signatures, which nobody stamped.
        stamped: When the auditor's signature existed at the latest, if an authority says so.
        trust: The reader's trust file.
        now: The reader's time.
        allow_expired: Accept a certificate whose ``expiresAt`` is over.
        log: Where the step is noted.

    Raises:
        UntrustedError: A time does not fit.
    """
    issued, expires = stated_instant(statement, "issuedAt"), stated_instant(statement, "expiresAt")
    if expires <= issued:
        raise UntrustedError("time", f"expiresAt {expires} is not later than issuedAt {issued}")
    if issued > now + CLOCK_SKEW:
        raise UntrustedError("time", f"issued {issued}, which is after now, {now}; check this computer's clock")
    if now >= expires and not allow_expired:
        raise UntrustedError("time", f"expired {expires}; now is {now}; ask for a new audit")
    if auditor is not None and issued < auditor.not_before:
        raise UntrustedError(
            "time", f"issued {issued}, before key {auditor.keyid} became valid on {auditor.not_before}"
        )
    if stamped is not None:
        _check_stamp(stamped, issued, auditor, now)
    elif auditor is not None and max(now, issued) > auditor.not_after:
        raise UntrustedError(
            "time", f"key {auditor.keyid} was valid until {auditor.not_after}; now is {now}; ask for a new one"
        )
    for key in others:
        require_valid_now(key, now)
    if trust.max_age_days is not None and now - issued > timedelta(days=trust.max_age_days):
        raise UntrustedError(
            "time",
            f"issued {issued}, more than max_age_days = {trust.max_age_days} ago ({trust.path}); ask for a new one",
        )
    told = f"issued {statement.text('issuedAt')}, expires {statement.text('expiresAt')}"
    if auditor is not None:
        told += f", key valid until {auditor.not_after}"
    if stamped is not None:
        told += f", time stamp {stamped}"
    log.add("time", told, "not checked" if now >= expires else "ok")


def _check_stamp(stamped: datetime, issued: datetime, auditor: TrustedKey | None, now: datetime) -> None:
    if stamped > now + CLOCK_SKEW:
        raise UntrustedError("time", f"time stamp {stamped}, which is after now, {now}; check this computer's clock")
    if stamped < issued - CLOCK_SKEW:
        raise UntrustedError("time", f"time stamp {stamped}, before the certificate was issued on {issued}")
    if auditor is not None and not auditor.not_before <= stamped <= auditor.not_after:
        raise UntrustedError(
            "time",
            f"time stamp {stamped}; key {auditor.keyid} was valid from {auditor.not_before} to {auditor.not_after}; "
            "ask for a certificate by a key that was valid",
        )


def check_revocation(
    payload_sha256: str,
    keys: Sequence[tuple[TrustedKey, datetime | None]],
    *,
    trust: Trust,
    now: datetime,
    log: StepLog | None = None,
) -> None:
    """Refuse a document that was revoked, or whose signature may be younger than the revocation of its key.

    Args:
        payload_sha256: The identity of the document.
        keys: Each key that signed, with the time stamp of its signature if there is one.
        trust: The reader's trust file; without a revocation list nothing is asked.
        now: The reader's time.
        log: Where the step is noted.

    Raises:
        UntrustedError: It was revoked, or the list cannot be relied on.
    """
    found = load_revocations(trust, now=now)
    if found is None:
        return
    entry = found.of(f"sha256:{payload_sha256}")
    if entry is not None:
        raise UntrustedError(
            "revocation",
            f"payload sha256:{payload_sha256} was revoked on {entry.revoked_at} ({entry.reason}), number "
            f"{found.sequence} of the list signed by {found.keyid}; ask for a new certificate",
        )
    for key, stamped in keys:
        entry = found.of(key.keyid)
        if entry is None or (stamped is not None and stamped < entry.revoked_at):
            continue
        when = "no time stamp shows that it is older" if stamped is None else f"its time stamp is {stamped}"
        raise UntrustedError(
            "revocation",
            f"key {key.keyid} was revoked on {entry.revoked_at} ({entry.reason}); it signed this file, and {when}; ask "
            "for a certificate by another key",
        )
    if log is not None:
        log.add(
            "revocation",
            f"list number {found.sequence} of {found.issued_at} with {len(found.entries)} entries does not touch this "
            "certificate",
        )


def open_current(
    data: bytes, trust: Trust, *, role: str | None, predicate_type: str, now: datetime, what: str = "document"
) -> Opened:
    """Open a signed document that nobody time-stamps: a key counts as the reader's clock finds it.

    Args:
        data: The bytes of the file, a bundle or a DSSE envelope.
        trust: The reader's trust file.
        role: What the signer must be; ``None`` for any role.
        predicate_type: What kind of document it must be; the key must be trusted with it.
        now: The reader's time, with a time zone.
        what: How the file is called in messages.

    Raises:
        UntrustedError: A step refuses.
    """
    roles = ROLES if role is None else (role,)
    opened = open_signed(what, data, trust, roles=roles, predicate_type=predicate_type)
    read_statement(opened.payload, predicate_type=predicate_type)
    for key in opened.keys:
        require_valid_now(key, now)
    digest = hashlib.sha256(opened.payload).hexdigest()
    check_revocation(digest, [(key, None) for key in opened.keys], trust=trust, now=now)
    return opened
