"""Verification: from a file that anyone could have written to a ``Certificate``.

The steps run in a fixed order, each on what the one before it established, and the first that fails raises. The file
is read once; what was verified is handed on as bytes and never read again.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from cu_certificates._files import kind_of, read_bytes, sha256_of
from cu_certificates.check.carrier import MAX_BUNDLE, MAX_REPORT, Carrier, load_any
from cu_certificates.check.result import CheckResult
from cu_certificates.check.strict import Rejected, parse
from cu_certificates.envelope import (
    PREDICATE_TYPE,
    Statement,
    bundle,
    open_envelope,
    read_statement,
    require_digest,
    require_object,
)
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.trust import Trust, TrustedKey

REPORT_NAME: Final = "report.html"
CLOCK_SKEW: Final = timedelta(days=1)
MAX_EVIDENCE: Final = 256 * 1024 * 1024

_MAX_FILE: Final = max(MAX_BUNDLE, MAX_REPORT)
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}){0,9}")
_SEAL: Final = object()

StepState = Literal["ok", "not checked"]


@dataclass(frozen=True)
class Step:
    """One step of a verification that did not fail.

    Args:
        name: ``carrier``, ``trust``, ``signature``, ``time``, ``report``, ``subject``, ``evidence``, ``claims`` or
            ``verdict``.
        state: Whether it was done, or could not be done with what was given.
        detail: One line for a person.
    """

    name: str
    state: StepState
    detail: str


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate whose signature, trust, time, subject and claims were all accepted; only :func:`verify` makes one.

    Args:
        payload_sha256: The identity of the certificate: SHA-256 of the signed bytes, never of the envelope, which
            can be written in more than one way.
        check: What the checker re-derived.
        keyid: The key that signed.
        roles: What the reader's trust file says its holder is.
        steps: What was done, in order.
        bundle: The certificate as a bundle, to be put into a report that is rendered again.
        seal: Held by :func:`verify` alone.
    """

    payload_sha256: str
    check: CheckResult
    keyid: str
    roles: tuple[str, ...]
    steps: tuple[Step, ...]
    bundle: bytes = field(repr=False)
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
        stated_keyid: The key that the file names; ``None`` for an unsigned draft.
    """

    statement: Statement
    payload_sha256: str
    stated_keyid: str | None

    @property
    def predicate(self) -> dict[str, Any]:
        """The unverified content."""
        return self.statement.predicate


class _Log:
    def __init__(self, watch: Callable[[Step], None] | None) -> None:
        self.steps: list[Step] = []
        self.watch = watch

    def add(self, name: str, detail: str, state: StepState = "ok") -> None:
        step = Step(name, state, detail)
        self.steps.append(step)
        if self.watch is not None:
            self.watch(step)


def _take_apart(file: Path, data: bytes, log: _Log) -> tuple[Carrier, bytes | None]:
    try:
        carrier, skeleton = load_any(data)
    except Rejected as error:
        raise UntrustedError("carrier", f"{str(file)!r}: {error}") from None
    kind = "one line of a report" if skeleton is not None else "a file of its own"
    log.add("carrier", f"sigstore bundle v0.3, {kind}; payload sha256:{hashlib.sha256(carrier.payload).hexdigest()}")
    return carrier, skeleton


def _trusted_key(carrier: Carrier, trust: Trust, log: _Log) -> TrustedKey:
    key = trust.find(carrier.keyid)
    if key is None:
        raise UntrustedError(
            "trust",
            f"the file names key {carrier.keyid!r}, which {str(trust.path)!r} does not list; to trust it, get the "
            "public key from its holder by another channel, compare what 'cu-cert key show FILE' prints with this "
            "fingerprint, and make a trust file with 'cu-cert key trust FILE' or add a [[key]] table to yours",
        )
    if carrier.hint != key.keyid:
        raise UntrustedError("carrier", f"publicKey.hint is {carrier.hint!r}; expected the signer's {key.keyid!r}")
    if "auditor" not in key.roles:
        raise UntrustedError(
            "trust", f"key {key.keyid} has the roles {', '.join(key.roles)}; an audit needs a key with 'auditor'"
        )
    if PREDICATE_TYPE not in key.predicates:
        raise UntrustedError(
            "trust", f"key {key.keyid} may sign {', '.join(key.predicates)}; this file needs {PREDICATE_TYPE}"
        )
    log.add("trust", f"key {key.keyid}, {key.algorithm}, role {', '.join(key.roles)}, listed in {trust.path}")
    return key


def _instant(statement: Statement, key: str) -> datetime:
    text = statement.text(key)
    try:
        if not _INSTANT.fullmatch(text):
            raise ValueError
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise UntrustedError("time", f"{key} is {text!r:.200}; expected a time such as 2026-11-20T18:00:00Z") from None


def _check_time(
    statement: Statement, key: TrustedKey, trust: Trust, now: datetime, allow_expired: bool, log: _Log
) -> None:
    issued, expires = _instant(statement, "issuedAt"), _instant(statement, "expiresAt")
    if expires <= issued:
        raise UntrustedError("time", f"expiresAt {expires} is not later than issuedAt {issued}")
    if issued > now + CLOCK_SKEW:
        raise UntrustedError("time", f"issued {issued}, which is after now, {now}; check this computer's clock")
    if now >= expires and not allow_expired:
        raise UntrustedError("time", f"expired {expires}; now is {now}; ask for a new audit")
    if issued < key.not_before:
        raise UntrustedError("time", f"issued {issued}, before key {key.keyid} became valid on {key.not_before}")
    # issuedAt is the signer's own word: without a time stamp by a third party, a file that was signed with a stolen
    # key after its end looks like one that was signed before. So the end is compared with the reader's clock.
    if max(now, issued) > key.not_after:
        raise UntrustedError(
            "time", f"key {key.keyid} was valid until {key.not_after}; now is {now}; ask for a new one"
        )
    if trust.max_age_days is not None and now - issued > timedelta(days=trust.max_age_days):
        raise UntrustedError(
            "time",
            f"issued {issued}, more than max_age_days = {trust.max_age_days} ago ({trust.path}); ask for a new one",
        )
    log.add(
        "time",
        f"issued {statement.text('issuedAt')}, expires {statement.text('expiresAt')}, key valid until {key.not_after}",
        "not checked" if now >= expires else "ok",
    )


def _check_subjects(statement: Statement, skeleton: bytes | None, model: Path | None, log: _Log) -> None:
    if skeleton is not None:
        found = hashlib.sha256(skeleton).hexdigest()
        if statement.subjects.get(REPORT_NAME) != found:
            raise UntrustedError(
                "report",
                f"the page without its bundle line has sha256:{found}; the signer stated "
                f"{statement.subjects.get(REPORT_NAME, 'no report')}; the page was altered, do not rely on it",
            )
        log.add("report", f"the page is the signed one, sha256:{found}")
    name = statement.text("scope", "model", "name")
    stated = statement.subjects[name]
    if model is None:
        log.add("subject", f"give --model FILE to compare it with {name} sha256:{stated}", "not checked")
        return
    found = sha256_of(model, what="model file")
    if found != stated:
        raise UntrustedError(
            "subject",
            f"{str(model)!r} has sha256:{found}; the certificate speaks only of {name!r} with sha256:{stated}; "
            "give that file, or have this one audited",
        )
    log.add("subject", f"{model} is the audited model, sha256:{found}")


def _places(name: str, given: Path | None, beside: Path) -> list[Path]:
    # Which of several places is asked first cannot mislead: whatever is found must have the signed digest.
    if given is None:
        return [beside / name]
    return [given / name, given / name.rsplit("/", 1)[-1], beside / name]


def _collect_evidence(
    statement: Statement, given: Path | None, beside: Path, allow_missing: bool, log: _Log
) -> dict[str, bytes]:
    """Read each evidence file once and compare its digest; returns the bytes by name."""
    entries = statement.predicate.get("evidence")
    if not isinstance(entries, list):
        raise UntrustedError("evidence", f"predicate.evidence is {entries!r:.80}; expected a list")
    found: dict[str, bytes] = {}
    absent: list[str] = []
    for index, item in enumerate(entries):
        where = f"predicate.evidence[{index}]"
        entry = require_object(item, where)
        name, digest = entry.get("name"), require_digest(entry.get("digest"), f"{where}.digest")
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in found or name in absent:
            raise UntrustedError("evidence", f"{where}.name is {name!r:.200}; expected a plain path, once")
        path = next((path for path in _places(name, given, beside) if kind_of(path) == "file"), None)
        if path is not None:
            found[name] = read_bytes(path, what="evidence file", max_bytes=MAX_EVIDENCE)
            if (actual := hashlib.sha256(found[name]).hexdigest()) != digest:
                raise UntrustedError(
                    "evidence",
                    f"{str(path)!r} has sha256:{actual}; the signer stated sha256:{digest}; the file was altered or "
                    f"exchanged, so ask {statement.text('auditor', 'name')!r} for the original",
                )
        elif allow_missing:
            absent.append(name)
        else:
            raise UntrustedError(
                "evidence",
                f"{name!r} is absent from {str(given or beside)!r}; ask {statement.text('auditor', 'name')!r} for the "
                f"file with sha256:{digest} (access: {entry.get('access', 'not stated')!r:.40}) and name its folder "
                "with --evidence DIR, or use --without-evidence to check only what needs no evidence",
            )
    state: StepState = "not checked" if absent else "ok"
    gap = f"; absent: {', '.join(absent)}" if absent else ""
    log.add("evidence", f"{len(found)} of {len(entries)} files at hand, each with the signed digest{gap}", state)
    return found


def _check_claims(payload: bytes, files: dict[str, bytes], allow_missing: bool, log: _Log) -> CheckResult:
    from cu_certificates.check.checker import check_payload

    try:
        check = check_payload(payload, files.get)
    except Rejected as error:
        raise UntrustedError("claims", f"the checker refuses the certificate: {error}") from None
    if check.rejected:
        first = check.rejected[0]
        raise UntrustedError(
            "claims",
            f"{len(check.rejected)} of {len(check.claims)} claims do not follow from the evidence; first "
            f"{first.id!r} ({first.type}): {first.detail}; do not rely on this certificate",
        )
    if check.missing and not allow_missing:
        raise UntrustedError("evidence", f"the checker needs {', '.join(check.missing)}, which is not at hand")
    derived = ("proved", "replayed", "assumed")
    counts = {status: sum(claim.status == status for claim in check.claims) for status in derived}
    told = ", ".join(f"{number} {status}" for status, number in counts.items() if number or status != "replayed")
    log.add(
        "claims",
        f"{len(check.claims)} claims: {told}, {len(check.claims) - sum(counts.values())} unverified",
        "not checked" if check.missing else "ok",
    )
    return check


def _check_verdict(check: CheckResult, log: _Log) -> None:
    if check.stated is None:
        raise UntrustedError("verdict", "the certificate states no verdict; it is a draft, ask for the final one")
    if check.missing:
        log.add("verdict", f"stated {check.stated}; without all evidence only {check.derived} follows", "not checked")
        return
    if check.stated != check.derived:
        raise UntrustedError(
            "verdict",
            f"the certificate states {check.stated}, but {check.derived} follows from its claims "
            f"({'; '.join(check.reasons) or 'no reason given'}); do not rely on it",
        )
    log.add("verdict", f"{check.stated} is stated and follows from the claims")


def verify(
    file: Path,
    *,
    trust: Trust,
    model: Path | None = None,
    evidence: Path | None = None,
    now: datetime,
    allow_missing_evidence: bool = False,
    allow_expired: bool = False,
    watch: Callable[[Step], None] | None = None,
) -> Certificate:
    """Verify a certificate: signature, trust, time, subject, evidence, claims, verdict.

    Args:
        file: ``certificate.sigstore.json`` or ``report.html``; which of the two shows from its content.
        trust: The reader's trusted keys.
        model: The model file to compare with the audited one. It is hashed and never loaded.
        evidence: Folder with ``plan.json`` and the evidence files; the folder of ``file`` is asked as well.
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
        MissingFileError: ``file`` or ``model`` cannot be read.
        UsageError: ``now`` has no time zone, or ``evidence`` is no folder.
    """
    if now.tzinfo is None:
        raise UsageError("the time to compare with has no time zone; give one in UTC")
    if evidence is not None and kind_of(evidence) != "folder":
        raise UsageError(f"evidence {str(evidence)!r} is no folder; give the folder that holds the evidence files")
    now = now.astimezone(UTC)
    log = _Log(watch)
    carrier, skeleton = _take_apart(file, read_bytes(file, what="certificate", max_bytes=_MAX_FILE), log)
    key = _trusted_key(carrier, trust, log)
    payload = open_envelope(carrier, key.public)
    statement = read_statement(payload)
    if (named := statement.text("auditor", "keyid")) != key.keyid:
        raise UntrustedError("trust", f"the certificate names auditor key {named!r}; {key.keyid} signed it")
    log.add("signature", f"signature valid over {len(payload)} bytes; the document is an unlearning audit")
    _check_time(statement, key, trust, now, allow_expired, log)
    _check_subjects(statement, skeleton, model, log)
    files = _collect_evidence(statement, evidence, file.parent, allow_missing_evidence, log)
    check = _check_claims(payload, files, allow_missing_evidence, log)
    _check_verdict(check, log)
    return Certificate(
        payload_sha256=hashlib.sha256(payload).hexdigest(),
        check=check,
        keyid=key.keyid,
        roles=key.roles,
        steps=tuple(log.steps),
        bundle=bundle(payload, carrier.signature, key.keyid),
        seal=_SEAL,
    )


def load_unverified(file: Path) -> UnverifiedStatement:
    """Read what a file says without verifying anything, for a page that is marked as unverified.

    Args:
        file: A bundle, a report, or an unsigned draft.

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
        else:
            carrier, _ = load_any(data)
            payload, keyid = carrier.payload, carrier.keyid
    except Rejected as error:
        raise UntrustedError("carrier", f"{str(file)!r}: {error}") from None
    return UnverifiedStatement(
        statement=read_statement(payload), payload_sha256=hashlib.sha256(payload).hexdigest(), stated_keyid=keyid
    )
