"""Verification: from a file that anyone could have written to a ``Certificate``.

The steps run in a fixed order, each on what the one before it established, and the first that fails raises. The file
is read once; what was verified is handed on as bytes and never read again.
"""

import hashlib
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cu_certificates._files import kind_of, read_bytes
from cu_certificates._log_lines import logged
from cu_certificates._opening import CLOCK_SKEW, Opened, take_apart, trusted_keys
from cu_certificates._steps import Step, StepLog, StepState
from cu_certificates._verify_content import (
    MAX_EVIDENCE,
    REPORT_NAME,
    check_claims,
    check_model_signature,
    check_subjects,
    check_verdict,
    collect_evidence,
)
from cu_certificates._verify_keyless import keyless_in, open_keyless, require_named
from cu_certificates._verify_time import check_revocation, check_time, note_plan_time, open_current, trusted_time
from cu_certificates.check.carrier import MAX_BUNDLE, MAX_REPORT, Carrier, Signature, load_any
from cu_certificates.check.result import CheckResult
from cu_certificates.check.strict import Rejected, parse
from cu_certificates.envelope import PREDICATE_TYPE, Statement, bundle, open_envelope, read_statement
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.keyless import payload_of
from cu_certificates.trust import AUDIT_ROLES, Threshold, Trust, TrustedKey

__all__ = [
    "CLOCK_SKEW",
    "MAX_EVIDENCE",
    "REPORT_NAME",
    "Certificate",
    "Step",
    "StepState",
    "UnverifiedStatement",
    "load_unverified",
    "open_trusted",
    "verify",
]

_MAX_FILE: Final = max(MAX_BUNDLE, MAX_REPORT)
_SEAL: Final = object()


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate whose signature, trust, time, subject and claims were all accepted; only :func:`verify` makes one.

    Args:
        payload_sha256: The identity of the certificate: SHA-256 of the signed bytes, never of the envelope, which
            can be written in more than one way.
        check: What the checker re-derived.
        keyid: The key of the auditor that the certificate names.
        roles: What the reader's trust file says its holder is.
        steps: What was done, in order.
        bundle: The certificate as a bundle with the auditor's signature, to be put into a report that is drawn again.
        payload: The signed bytes.
        signatures: Every signature over them, all valid, in the order of the file.
        stamped: When the auditor's signature existed at the latest, if a time stamp that the reader trusts says so.
        seal: Held by :func:`verify` alone.
    """

    payload_sha256: str
    check: CheckResult
    keyid: str
    roles: tuple[str, ...]
    steps: tuple[Step, ...]
    bundle: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    signatures: tuple[Signature, ...]
    stamped: datetime | None
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("a Certificate comes only from cu_certificates.verify.verify()")

    @property
    def predicate(self) -> dict[str, Any]:
        """The certificate's content."""
        return self.check.predicate

    @property
    def verdict(self) -> str:
        """The verdict that follows from the claims and the evidence at hand."""
        return self.check.derived

    @property
    def subjects(self) -> dict[str, str]:
        """The SHA-256 of each subject by its name."""
        return {entry["name"]: entry["digest"]["sha256"] for entry in self.check.statement["subject"]}


@dataclass(frozen=True, kw_only=True)
class UnverifiedStatement:
    """What a file says, with nothing about it verified; every page made from it must say so.

    Args:
        statement: The statement, well-formed and nothing more.
        payload_sha256: SHA-256 of its bytes.
        stated_keyid: The first key that the file names, or that it is an account; ``None`` for an unsigned draft.
    """

    statement: Statement
    payload_sha256: str
    stated_keyid: str | None

    @property
    def predicate(self) -> dict[str, Any]:
        """The unverified content."""
        return self.statement.predicate


def _require_signers(statement: Statement, opened: Opened, trust: Trust, log: StepLog) -> TrustedKey:
    """Return the key of the auditor that the certificate names, once enough others have signed with it."""
    signed = ", ".join(key.keyid for key in opened.keys)
    named = statement.text("auditor", "keyid")
    auditor = next((key for key in opened.keys if key.keyid == named), None)
    if auditor is None:
        raise UntrustedError("trust", f"the certificate names auditor key {named!r}; {signed} signed it")
    if "auditor" not in auditor.roles:
        raise UntrustedError(
            "trust",
            f"key {named} has the roles {', '.join(auditor.roles)}; an audit needs a key with 'auditor', which is "
            "the one that it names",
        )
    log.add("signature", f"signature valid over {len(opened.payload)} bytes; the document is an unlearning audit")
    wanted, roles = trust.threshold, [key.roles for key in opened.keys]
    told = f"{len(roles)} of different keys over the same bytes, by " + "; ".join(", ".join(entry) for entry in roles)
    if not wanted.met_by(roles):
        raise UntrustedError(
            "threshold",
            f"{told}; expected auditor = {wanted.auditor} and controller = {wanted.controller}, each key counted once "
            f"({trust.path}); ask for the certificate.dsse.json that all of them signed with 'cu-cert countersign'",
        )
    if len(roles) > 1 or wanted != Threshold():
        log.add("threshold", told)
    return auditor


def open_trusted(data: bytes, trust: Trust, *, role: str | None, predicate_type: str, now: datetime) -> bytes:
    """Return the payload of any signed document of ours: carrier, trust, signature, validity and revocation of the key.

    A certificate goes through :func:`verify`, which asks for more. Nobody time-stamps these documents, so a key counts
    as the reader's clock finds it.

    Args:
        data: The bytes of the file, a bundle or a DSSE envelope.
        trust: The reader's trust file.
        role: What the signer must be: ``auditor``, ``controller`` or ``gate``; ``None`` for any of them.
        predicate_type: What kind of document it must be; the key must be trusted with it.
        now: The reader's time, with a time zone.

    Returns:
        The signed bytes, whose statement names ``predicate_type``; read them with ``envelope.read_statement``.

    Raises:
        UntrustedError: A step refuses; ``step`` names it.
    """
    return open_current(data, trust, role=role, predicate_type=predicate_type, now=now).payload


@dataclass(frozen=True, kw_only=True)
class _Signed:
    """A certificate whose signatures count; what it says is not looked at yet."""

    payload: bytes
    signatures: tuple[Signature, ...]
    skeleton: bytes | None
    statement: Statement
    payload_sha256: str
    signer: str
    roles: tuple[str, ...]
    stamped: datetime | None
    bundle: bytes


def _value(carrier: Carrier, key: TrustedKey) -> bytes:
    return next(signature.value for signature in carrier.signatures if signature.keyid == key.keyid)


def _open(file: Path, *, trust: Trust, now: datetime, allow_expired: bool, log: StepLog) -> _Signed:
    data = read_bytes(file, what="certificate", max_bytes=_MAX_FILE)
    try:
        carrier, skeleton = take_apart(repr(str(file)), data)
    except UntrustedError:
        found = keyless_in(data)
        if found is None:
            raise
        return _open_keyless(file, *found, trust=trust, now=now, allow_expired=allow_expired, log=log)
    digest = hashlib.sha256(carrier.payload).hexdigest()
    form = "a DSSE envelope" if carrier.hint is None else "sigstore bundle v0.3"
    kind = "one line of a report" if skeleton is not None else "a file of its own"
    log.add("carrier", f"{form}, {kind}; payload sha256:{digest}")
    keys = trusted_keys(carrier, trust, roles=AUDIT_ROLES, predicate_type=PREDICATE_TYPE)
    if not any("auditor" in key.roles for key in keys):
        first = keys[0]
        raise UntrustedError(
            "trust", f"key {first.keyid} has the roles {', '.join(first.roles)}; an audit needs a key with 'auditor'"
        )
    for key in keys:
        log.add("trust", f"key {key.keyid}, {key.algorithm}, role {', '.join(key.roles)}, listed in {trust.path}")
    payload = open_envelope(carrier, *(key.public for key in keys))
    statement = read_statement(payload)
    opened = Opened(carrier=carrier, payload=payload, keys=keys)
    auditor = _require_signers(statement, opened, trust, log)
    others = [key for key in keys if key is not auditor]
    stamped = trusted_time(file, _value(carrier, auditor), trust)
    check_time(statement, auditor, others, stamped, trust=trust, now=now, allow_expired=allow_expired, log=log)
    signers = [(auditor, stamped), *((key, None) for key in others)]
    check_revocation(digest, signers, trust=trust, now=now, log=log)
    return _Signed(
        payload=payload,
        signatures=carrier.signatures,
        skeleton=skeleton,
        statement=statement,
        payload_sha256=digest,
        signer=auditor.keyid,
        roles=auditor.roles,
        stamped=stamped,
        bundle=bundle(payload, _value(carrier, auditor), auditor.keyid),
    )


def _open_keyless(
    file: Path, data: bytes, skeleton: bytes | None, *, trust: Trust, now: datetime, allow_expired: bool, log: StepLog
) -> _Signed:
    """The same where an account signed: there is no key to be valid or revoked, but a log entry and its time."""
    identity, found = open_keyless(data, trust)
    digest = hashlib.sha256(found.payload).hexdigest()
    kind = "one line of a report" if skeleton is not None else "a file of its own"
    log.add("carrier", f"sigstore bundle v0.3 by an account, {kind}; payload sha256:{digest}")
    who = f"{identity.identity}, vouched for by {identity.issuer}"
    log.add("trust", f"account {who}, role {', '.join(identity.roles)}, listed in {trust.path}")
    statement = read_statement(found.payload)
    require_named(statement, identity)
    log.add("signature", f"signature valid over {len(found.payload)} bytes; the document is an unlearning audit")
    if not trust.threshold.met_by([identity.roles]):
        raise UntrustedError(
            "threshold", f"one signature, by an account; {trust.path} asks for more, which such a file cannot hold"
        )
    stamped = trusted_time(file, found.signature, trust) or found.logged
    check_time(statement, None, (), stamped, trust=trust, now=now, allow_expired=allow_expired, log=log)
    check_revocation(digest, (), trust=trust, now=now, log=log)
    return _Signed(
        payload=found.payload,
        signatures=(Signature(keyid=identity.identity, value=found.signature),),
        skeleton=skeleton,
        statement=statement,
        payload_sha256=digest,
        signer=identity.identity,
        roles=identity.roles,
        stamped=stamped,
        bundle=data,
    )


def verify(
    file: Path,
    *,
    trust: Trust,
    model: Path | None = None,
    evidence: Path | None = None,
    log: Path | None = None,
    model_signature: tuple[Path, Path] | None = None,
    now: datetime,
    allow_missing_evidence: bool = False,
    allow_expired: bool = False,
    watch: Callable[[Step], None] | None = None,
) -> Certificate:
    """Verify a certificate: signatures, trust, time, revocation, subject, evidence, claims, verdict.

    Args:
        file: ``certificate.sigstore.json``, ``certificate.dsse.json`` or ``report.html``; which of them shows from its
            content. A time stamp ``certificate.tsr`` is looked for beside it.
        trust: The reader's trusted keys.
        model: The model file to compare with the audited one. It is hashed and never loaded.
        evidence: Folder with ``plan.json`` and the evidence files; the folder of ``file`` is asked as well. A
            time stamp ``plan.tsr`` is looked for in them.
        log: The auditor's log, in which the certificate must stand.
        model_signature: The model's own signature (``model.sig``) and its maker's public key; needs ``model``.
        now: The reader's time, with a time zone.
        allow_missing_evidence: Accept that evidence files are absent; their claims stay unverified and the verdict
            is then not re-derived. An evidence file that is there and differs is refused all the same.
        allow_expired: Accept a certificate whose ``expiresAt`` is over; for a caller that judges its age itself, as
            the gate does.
        watch: Called with each step as soon as it is done, so that steps before a failure can be shown.

    Returns:
        The certificate.

    Raises:
        UntrustedError: A step refuses; ``step`` names it.
        MissingFileError: ``file``, ``model`` or ``log`` cannot be read.
        UsageError: ``now`` has no time zone, ``evidence`` is no folder, or ``model_signature`` comes without ``model``.
    """
    if now.tzinfo is None:
        raise UsageError("the time to compare with has no time zone; give one in UTC")
    if evidence is not None and kind_of(evidence) != "folder":
        raise UsageError(f"evidence {str(evidence)!r} is no folder; give the folder that holds the evidence files")
    steps = StepLog(watch)
    signed = _open(file, trust=trust, now=now.astimezone(UTC), allow_expired=allow_expired, log=steps)
    statement = signed.statement
    check_subjects(statement, signed.skeleton, model, steps)
    if model_signature is not None:
        check_model_signature(statement, model, *model_signature, steps)
    files = collect_evidence(statement, evidence, file.parent, allow_missing_evidence, steps)
    places = [file.parent] if evidence is None else [evidence, file.parent]
    note_plan_time(places, files.get("plan.json"), trust, steps)
    if log is not None:
        _check_log(log, file, signed, steps)
    check = check_claims(signed.payload, files, allow_missing_evidence, steps)
    check_verdict(check, steps)
    return Certificate(
        payload_sha256=signed.payload_sha256,
        check=check,
        keyid=signed.signer,
        roles=signed.roles,
        signatures=signed.signatures,
        payload=signed.payload,
        stamped=signed.stamped,
        steps=tuple(steps.steps),
        bundle=signed.bundle,
        seal=_SEAL,
    )


def _check_log(path: Path, file: Path, signed: _Signed, steps: StepLog) -> None:
    from cu_certificates.log import load_log, verify_log

    log = load_log(path)
    own = logged(str(file), signed.payload_sha256, signed.statement.predicate)
    found = verify_log(log, [own])
    told = f"certificate {own.sequence} stands on line {found.shown[0][1]} of {log.size} in {path}"
    if found.stating:
        told += ", and the lines before it are those that it states"
    if found.open_plans:
        told += f"; {len(found.open_plans)} plans ended in no certificate: ask what became of them"
    steps.add("log", told)


def load_unverified(file: Path) -> UnverifiedStatement:
    """Read what a file says without verifying anything, for a page that is marked as unverified.

    Args:
        file: A bundle, an envelope, a report, or an unsigned draft.

    Raises:
        MissingFileError: The file cannot be read.
        UntrustedError: It is none of these.
    """
    data = read_bytes(file, what="certificate", max_bytes=_MAX_FILE)
    keyid: str | None = None
    try:
        document = None if data.startswith(b"<") else parse(data, "file", max_bytes=MAX_BUNDLE)
        if isinstance(document, dict) and "_type" in document:
            payload = data.removesuffix(b"\n")
        elif (found := keyless_in(data)) is not None:
            payload, keyid = payload_of(found[0]), "an account"
        else:
            carrier, _ = load_any(data)
            payload, keyid = carrier.payload, carrier.signatures[0].keyid
    except Rejected as error:
        raise UntrustedError("carrier", f"{str(file)!r}: {error}") from None
    return UnverifiedStatement(
        statement=read_statement(payload), payload_sha256=hashlib.sha256(payload).hexdigest(), stated_keyid=keyid
    )
