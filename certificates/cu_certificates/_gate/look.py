"""Looking beside a certificate for what the policy demands: who signed, a time stamp, the report, personal data."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Final

from cu_certificates._files import kind_of, read_bytes
from cu_certificates._gate.case import Beside
from cu_certificates._policy_types import Policy
from cu_certificates._trusted import Trust
from cu_certificates.check.carrier import MAX_REPORT, load_any
from cu_certificates.check.strict import Rejected
from cu_certificates.verify import REPORT_NAME, Certificate

_INSTANT: Final = "%Y-%m-%dT%H:%M:%SZ"


def look_beside(file: Path, certificate: Certificate, policy: Policy, trust: Trust) -> Beside:
    """Collect what the policy demands beside the claims.

    Args:
        file: The certificate's file; its report is looked for in the same folder.
        certificate: What verification returned.
        policy: The demands; what they leave out is not looked at.
        trust: The reader's trust file, which says who the signers are.

    Raises:
        MissingFileError: A file is there and cannot be read.
        UsageError: A file is far too large for its kind.
    """
    keys = [trust.find(signature.keyid) for signature in certificate.signatures]
    stamped = certificate.stamped
    problem, absent, page = _report(file, certificate) if policy.report or policy.privacy_lint else ("", True, None)
    return Beside(
        signers=[key.roles for key in keys if key is not None],
        stamped=None if stamped is None else f"signed no later than {stamped:{_INSTANT}}",
        report=problem,
        report_absent=absent,
        privacy=_personal(certificate, page) if policy.privacy_lint else None,
    )


def _personal(certificate: Certificate, page: bytes | None) -> list[str]:
    """Return the places that look like personal data, with enough of each to find it and not the data itself."""
    from cu_certificates._passages import take_apart
    from cu_certificates.privacy import patterns_in

    texts = {"the certificate": certificate.payload} | ({} if page is None else {REPORT_NAME: page})
    sources = [source for name, data in texts.items() if (source := take_apart(data, name)) is not None]
    # What the certificate states on purpose, of its auditor for example, counts nowhere: the page repeats it.
    return [str(hit) for source in sources for hit in patterns_in(replace(source, predicate=certificate.predicate))]


def _report(file: Path, certificate: Certificate) -> tuple[str, bool, bytes | None]:
    """Return what is wrong with the report, whether there is none, and the page without its certificate."""
    stated = certificate.subjects.get(REPORT_NAME)
    if stated is None:
        return f"the certificate names no {REPORT_NAME}", True, None
    own = any(step.name == "report" for step in certificate.steps)
    path = file if own else file.parent / REPORT_NAME
    if kind_of(path) != "file":
        return f"{path} is not there", True, None
    try:
        carrier, page = load_any(read_bytes(path, what="report", max_bytes=MAX_REPORT))
    except Rejected as refusal:
        return f"{path}: {refusal}", False, None
    if page is None:
        return f"{path} is no page", False, None
    if hashlib.sha256(carrier.payload).hexdigest() != certificate.payload_sha256:
        return f"{path} carries another certificate", False, page
    if (found := hashlib.sha256(page).hexdigest()) != stated:
        return f"{path} has sha256:{found}; the signer stated sha256:{stated}", False, page
    return "", False, page
