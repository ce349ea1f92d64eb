"""Signing elsewhere: a draft that ``cu-cert audit --no-sign`` wrote becomes a certificate, on a machine without torch.

The draft is checked in full, with its evidence, as a reader would; nothing is signed that does not follow. What can
only be known when it is signed is set then:

* ``issuedAt`` and ``expiresAt``: the signer vouches from the moment of signing, by a key that may be younger than the
  draft, and the certificate lives as long as the draft would have; ``measuredAt`` keeps the time of the draft. A draft
  past its own end is not signed, so signing late can at most double a measurement's life, and shows that it did.
* ``auditor.keyid``, and ``auditor.name`` where one is given.
* ``sequence``, ``previous`` and ``log``: from the project's log where it is at hand. A draft takes no number, so one
  that is never signed leaves no gap; its plan stands in the log as open. Without the log the draft's own numbers stay,
  and ``cu-cert log add`` enters the certificate later, if nothing else took its number meanwhile.

Who carries the draft can change what no claim re-derives: names, descriptive numbers and texts. Carry it as you would
carry a paper that you are going to sign.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cu_certificates._files import kind_of, read_bytes
from cu_certificates._log_lines import instant, logged
from cu_certificates._opening import CLOCK_SKEW, stated_instant
from cu_certificates._steps import StepLog
from cu_certificates._verify_content import collect_evidence
from cu_certificates.check.carrier import MAX_BUNDLE, parse_bundle
from cu_certificates.check.strict import Rejected, canonical, parse
from cu_certificates.envelope import Signer, Statement, read_statement, require_digest, require_object
from cu_certificates.errors import MissingFileError, UntrustedError, UsageError
from cu_certificates.log import OpenLog, load_log, nearest_log, open_log
from cu_certificates.report import render_skeleton
from cu_certificates.seal import CERTIFICATE, REPORT, Issued, Sealed, seal, write_sealed

MAX_NAME: Final = 200


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A draft that was signed.

    Args:
        issued: The files.
        payload_sha256: The identity of the certificate.
        keyid: The key that signed.
        sequence: Its number.
        log: The log that it was entered in; ``None`` when none was at hand.
        stamped: The time that an authority stated over the signature; ``None`` when none was asked.
    """

    issued: Issued
    payload_sha256: str
    keyid: str
    sequence: int
    log: Path | None
    stamped: datetime | None


def is_draft(file: Path) -> bool:
    """Whether a file is an unsigned statement, to be told from a signed one by its content.

    Args:
        file: The file.

    Raises:
        MissingFileError: It cannot be read.
    """
    data = read_bytes(file, what="draft", max_bytes=MAX_BUNDLE)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "_type" in found


def _read_draft(file: Path) -> Statement:
    """Read a draft that this version of cu-cert can sign.

    Raises:
        MissingFileError: It cannot be read.
        UsageError: It is signed already, or another version drew its page.
        UntrustedError: It is malformed.
    """
    data = read_bytes(file, what="draft", max_bytes=MAX_BUNDLE)
    payload = data.removesuffix(b"\n")
    if not is_draft(file):
        raise UsageError(
            f"draft {str(file)!r}: no unsigned statement; give the certificate.draft.json that 'cu-cert audit "
            "--no-sign' wrote, and put a second key under a signed certificate with 'cu-cert countersign'"
        )
    statement = read_statement(payload)
    try:
        if canonical(parse(payload, "draft")) != payload:
            raise Rejected("not in canonical form")
        auditor = require_object(statement.predicate.get("auditor"), "predicate.auditor")
        if "verdict" in statement.predicate or "keyid" in auditor:
            raise Rejected("states a verdict or a key, which only a signed certificate does")
        drawn = sha256(render_skeleton(statement.predicate)).hexdigest()
    except Rejected as problem:
        raise UntrustedError("carrier", f"draft {str(file)!r}: {problem}; take it as cu-cert wrote it") from None
    if statement.subjects.get(REPORT) != drawn:
        tool = statement.predicate.get("tool")
        version = tool.get("version") if isinstance(tool, dict) else None
        raise UsageError(
            f"draft {str(file)!r}: this version of cu-cert draws another page than the one that wrote the draft "
            f"({version!r:.40}); sign with that version, or take the draft as it was written"
        )
    return statement


def _renewed(statement: Statement, now: datetime, name: str | None) -> dict[str, Any]:
    """Return the predicate with what is set at the moment of signing."""
    measured, expires = stated_instant(statement, "issuedAt"), stated_instant(statement, "expiresAt")
    if measured > now + CLOCK_SKEW:
        raise UsageError(f"draft: measured {measured}, which is after now, {now}; check this computer's clock")
    if expires <= max(now, measured):
        raise UsageError(f"draft: measured {measured}, to be signed until {expires}; now is {now}; audit again")
    predicate = dict(statement.predicate)
    if name is not None:
        if not name.strip() or not name.isprintable() or len(name) > MAX_NAME:
            raise UsageError(f"--name {name!r:.80}: expected 1 to {MAX_NAME} printable characters on one line")
        predicate["auditor"] = predicate["auditor"] | {"name": name}
    return predicate | {
        "issuedAt": instant(now),
        "expiresAt": instant(now + (expires - measured)),
        "measuredAt": instant(measured),
    }


@contextmanager
def _held(log: Path | None, near: Path, plan: str) -> Iterator[OpenLog | None]:
    """Hold the log that is named, else that of the project in which the draft lies, if it is the log of its plan."""
    path = log
    if path is None and (found := nearest_log(near)) is not None and plan in load_log(found).places:
        path = found
    if path is None:
        yield None
        return
    with open_log(path) as held:
        yield held


def sign_draft(
    draft: Path,
    *,
    signer: Signer,
    name: str | None = None,
    out: Path | None = None,
    evidence: Path | None = None,
    log: Path | None = None,
    stamp: Callable[[bytes], tuple[bytes, datetime]] | None = None,
    now: datetime,
) -> Signed:
    """Check a draft with its evidence, sign it, and write certificate and report in its place.

    Args:
        draft: ``certificate.draft.json``.
        signer: The key.
        name: Who signs, when it is not who the draft names.
        out: Folder of the certificate, which then gets plan and evidence as well; default that of the draft.
        evidence: Folder with ``plan.json`` and the evidence; default that of the draft.
        log: The project's log; default the one of the project in which the draft lies, where that knows its plan.
        stamp: Gets a time stamp over the signature bytes: returns it and the time that it states. Called before
            anything is written.
        now: The time of signing, with a time zone.

    Raises:
        MissingFileError: A file cannot be read.
        UsageError: Evidence is not at hand, the draft is too old, or something cannot be written; nothing is signed.
        UntrustedError: The draft is malformed, a claim does not follow, or evidence was altered; nothing is signed.
    """
    if evidence is not None and kind_of(evidence) != "folder":
        raise UsageError(f"evidence {str(evidence)!r} is no folder; give the folder that holds the evidence files")
    statement = _read_draft(draft)
    files = collect_evidence(statement, evidence, draft.parent, True, StepLog(None))
    predicate = _renewed(statement, now.astimezone(UTC), name)
    plan = require_digest(predicate["plan"].get("digest"), "predicate.plan.digest")
    folder = draft.parent if out is None else out
    if folder.absolute() != draft.parent.absolute() and kind_of(folder / CERTIFICATE) != "absent":
        raise UsageError(f"{str(folder / CERTIFICATE)!r} exists already and is never overwritten; give another folder")
    if log is not None and kind_of(log) != "file":
        raise MissingFileError(f"log {str(log)!r} does not exist; give the log.jsonl of the project that was audited")
    with _held(log, draft.parent.absolute(), plan) as held:
        if held is not None:
            predicate.pop("previous", None)
            predicate |= held.log.with_plan(plan, instant(now)).position()
        sealed = seal(predicate, files.get, signer=signer)
        entry = logged(str(draft), sha256(sealed.payload).hexdigest(), sealed.result.predicate)
        longer = None if held is None else held.log.with_plan(plan, instant(now)).with_certificate(entry)
        token, stamped = (None, None) if stamp is None else stamp(signature_of(sealed))
        issued = write_sealed(folder, sealed, files, stamp=token)
        if held is not None and longer is not None:
            held.write(longer)
    return Signed(
        issued=issued,
        payload_sha256=entry.digest,
        keyid=signer.keyid,
        sequence=entry.sequence,
        log=None if held is None else held.path,
        stamped=stamped,
    )


def signature_of(sealed: Sealed) -> bytes:
    """Return the raw signature of a sealed certificate: what a time stamp covers.

    Args:
        sealed: What :func:`cu_certificates.seal.seal` returned for a signer.
    """
    if sealed.bundle is None:
        raise UsageError("a draft holds no signature to stamp")
    return parse_bundle(sealed.bundle).signatures[0].value
