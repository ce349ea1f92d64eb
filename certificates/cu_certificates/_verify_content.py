"""What a trusted certificate speaks of and whether it holds: page, model, evidence, claims, verdict."""

import hashlib
import re
from pathlib import Path
from typing import Final

from cu_certificates._files import kind_of, read_bytes, sha256_of
from cu_certificates._steps import StepLog, StepState
from cu_certificates.check.result import CheckResult
from cu_certificates.check.strict import Rejected
from cu_certificates.envelope import Statement, require_digest, require_object
from cu_certificates.errors import UntrustedError, UsageError

REPORT_NAME: Final = "report.html"
MAX_EVIDENCE: Final = 256 * 1024 * 1024

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}){0,9}")


def check_subjects(statement: Statement, skeleton: bytes | None, model: Path | None, log: StepLog) -> None:
    """Compare the page and the model with the digests that were signed.

    Args:
        statement: The certificate.
        skeleton: The page without its bundle line; ``None`` when the carrier is no report.
        model: The model file; it is hashed and never loaded. ``None`` to leave it unchecked.
        log: Where the steps are noted.

    Raises:
        UntrustedError: A digest differs.
    """
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


def check_model_signature(
    statement: Statement, model: Path | None, signature: Path, public: Path, log: StepLog
) -> None:
    """Verify the model's own signature (OpenSSF model signing), and that the certificate names the model as it does.

    Args:
        statement: The certificate.
        model: The model file, which was compared with the audited one.
        signature: Its ``model.sig``.
        public: The public key of its maker.
        log: Where the step is noted.

    Raises:
        UntrustedError: The signature is not valid for this model and key, or the certificate names another root.
        UsageError: No model is given, or the library is not installed.
    """
    from cu_certificates.oms import model_root, verify_model_signature

    if model is None:
        raise UsageError("--model-sig: needs --model FILE, the model whose signature it is")
    verify_model_signature(model, signature, public)
    root = model_root(model)
    stated = statement.predicate["scope"]["model"].get("omsRoot")
    told = f"{signature} is valid for this model and {public}"
    if stated is None:
        log.add("subject", f"{told}; the certificate names no omsRoot")
        return
    if (named := require_digest(stated, "predicate.scope.model.omsRoot")) != root:
        raise UntrustedError("subject", f"scope.model.omsRoot is {named}; this model has {root}; ask for a new audit")
    log.add("subject", f"{told}; the certificate names the same omsRoot")


def _places(name: str, given: Path | None, beside: Path) -> list[Path]:
    # Which of several places is asked first cannot mislead: whatever is found must have the signed digest.
    if given is None:
        return [beside / name]
    return [given / name, given / name.rsplit("/", 1)[-1], beside / name]


def collect_evidence(
    statement: Statement, given: Path | None, beside: Path, allow_missing: bool, log: StepLog
) -> dict[str, bytes]:
    """Read each evidence file once and compare its digest.

    Args:
        statement: The certificate.
        given: The folder that the reader names, if any.
        beside: The folder of the certificate.
        allow_missing: Accept that files are absent.
        log: Where the step is noted.

    Returns:
        The bytes by name.

    Raises:
        UntrustedError: A file is absent, was altered, or the list of them is malformed.
    """
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


def check_claims(payload: bytes, files: dict[str, bytes], allow_missing: bool, log: StepLog) -> CheckResult:
    """Have the checker re-derive every claim.

    Args:
        payload: The signed bytes.
        files: The evidence by name.
        allow_missing: Accept that evidence is absent; its claims stay unverified.
        log: Where the step is noted.

    Raises:
        UntrustedError: A claim does not follow.
    """
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


def check_verdict(check: CheckResult, log: StepLog) -> None:
    """Compare the stated verdict with the one that follows.

    Args:
        check: What the checker found.
        log: Where the step is noted.

    Raises:
        UntrustedError: They differ, or none is stated.
    """
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
