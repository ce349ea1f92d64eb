"""Sealing: from a predicate whose claims are measured to the files that are handed on.

The checker derives the verdict, the page is drawn from the predicate, one statement names the model and the page, and
one key signs it. ``cu-cert audit`` does this where the model was measured; ``cu-cert sign`` does the same with a draft
on another machine, so that the key need not be where models are trained.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cu_certificates._files import make_folder, write_atomic
from cu_certificates.check.checker import check_payload
from cu_certificates.check.result import CheckResult
from cu_certificates.check.strict import Rejected
from cu_certificates.envelope import Signer, sign, statement
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.report import render_skeleton, report_bytes

CERTIFICATE: Final = "certificate.sigstore.json"
DRAFT: Final = "certificate.draft.json"
REPORT: Final = "report.html"
STAMP: Final = "certificate.tsr"
"""A time stamp over the signature bytes, beside the certificate."""


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A certificate or a draft, in bytes, not yet written.

    Args:
        payload: The statement.
        report: The page; with the certificate in it when there is one.
        bundle: The signed certificate; ``None`` for a draft.
        result: What the checker derived from the payload and the evidence.
    """

    payload: bytes = field(repr=False)
    report: bytes = field(repr=False)
    bundle: bytes | None = field(repr=False)
    result: CheckResult


@dataclass(frozen=True, kw_only=True)
class Issued:
    """The files of one certificate.

    Args:
        folder: Where they lie.
        certificate: The bundle, or the unsigned draft.
        report: The report.
        result: What the checker derived from them.
    """

    folder: Path
    certificate: Path
    report: Path
    result: CheckResult


def seal(
    predicate: Mapping[str, Any],
    evidence: Callable[[str], bytes | None],
    *,
    signer: Signer | None,
    look: Callable[[bytes, bytes], None] | None = None,
) -> Sealed:
    """Derive the verdict with the checker, draw the page, and sign.

    Args:
        predicate: The certificate's content without its verdict.
        evidence: Returns the bytes of an evidence file by its name in the certificate, ``None`` when it is absent.
        signer: The key; ``None`` for an unsigned draft, which states no verdict.
        look: Called with the finished payload and page before the signature; refuses by raising.

    Raises:
        UntrustedError: The checker does not accept a claim, or evidence was altered; nothing is signed.
        UsageError: An evidence file is not at hand; nothing is signed.
    """
    model = predicate["scope"]["model"]
    subjects = {str(model["name"]): str(model["digest"]["sha256"])}
    whole = {name: value for name, value in predicate.items() if name != "verdict"}
    auditor = {name: value for name, value in predicate["auditor"].items() if name != "keyid"}
    whole["auditor"] = auditor | ({"keyid": signer.keyid} if signer else {})
    try:
        draft = _checked(statement(subjects, whole), evidence)
        if signer is not None:
            basis = [claim["id"] for claim in whole["claims"] if claim.get("planned")]
            whole["verdict"] = {"value": draft.derived, "basis": basis, "reasons": list(draft.reasons)}
        skeleton = render_skeleton(whole)
        payload = statement(subjects | {REPORT: sha256(skeleton).hexdigest()}, whole)
        result = check_payload(payload, evidence)
    except Rejected as problem:
        raise UntrustedError("claims", f"nothing was signed: the checker refuses: {problem}") from None
    if look is not None:
        look(payload, skeleton)
    if signer is None:
        return Sealed(payload=payload, report=skeleton, bundle=None, result=result)
    bundle = sign(payload, signer)
    return Sealed(payload=payload, report=report_bytes(whole, bundle), bundle=bundle, result=result)


def _checked(payload: bytes, evidence: Callable[[str], bytes | None]) -> CheckResult:
    found = check_payload(payload, evidence)
    if found.rejected:
        first = found.rejected[0]
        raise UntrustedError("claims", f"nothing was signed: the checker rejects {first.id}: {first.detail}")
    if found.missing:
        raise UsageError(
            f"nothing was signed: evidence file {found.missing[0]} is not at hand, so its claims cannot be checked; "
            "lay it beside the draft, or name its folder with --evidence DIR"
        )
    return found


def write_sealed(folder: Path, sealed: Sealed, evidence: Mapping[str, bytes], *, stamp: bytes | None = None) -> Issued:
    """Write certificate, report and evidence; each file appears whole or not at all.

    Args:
        folder: Output folder of this certificate; what an earlier draft or certificate left there is replaced.
        sealed: What :func:`seal` returned.
        evidence: Content of each evidence file by its name in the certificate.
        stamp: A time stamp over the signature.

    Raises:
        UsageError: The folder cannot be written.
    """
    signed = sealed.bundle is not None
    certificate = folder / (CERTIFICATE if signed else DRAFT)
    make_folder(folder)
    for name, data in evidence.items():
        make_folder((folder / name).parent)
        write_changed(folder / name, data, what="evidence file")
    write_atomic(folder / REPORT, sealed.report, what="report")
    write_atomic(certificate, sealed.bundle or sealed.payload + b"\n", what="certificate" if signed else "draft")
    if stamp is not None:
        write_atomic(folder / STAMP, stamp, what="time stamp")
    else:  # one from before is over another signature, and verification would refuse the pair
        (folder / STAMP).unlink(missing_ok=True)
    (folder / (DRAFT if signed else CERTIFICATE)).unlink(missing_ok=True)
    return Issued(folder=folder, certificate=certificate, report=folder / REPORT, result=sealed.result)


def write_changed(path: Path, data: bytes, *, what: str) -> None:
    """Write a file unless it holds these bytes already: the plan keeps the time at which it was fixed.

    Args:
        path: The file; its folder must exist.
        data: The content.
        what: How the file is called in an error message.
    """
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data, what=what)
