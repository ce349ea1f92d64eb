"""Countersigning: a second party puts its key under the very bytes that the auditor signed, after verifying them.

The signatures stand together in a DSSE envelope, ``certificate.dsse.json``; the bundle with the auditor's signature
stays as it is, and both are the same certificate, since a certificate is known by its payload.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cu_certificates._files import kind_of, write_atomic, write_new
from cu_certificates.check.carrier import MAX_SIGNATURES, Signature
from cu_certificates.envelope import PAYLOAD_TYPE, Signer, dsse, pae
from cu_certificates.errors import UsageError
from cu_certificates.trust import Threshold, Trust
from cu_certificates.verify import Certificate, Step, verify

ENVELOPE_NAME: Final = "certificate.dsse.json"


@dataclass(frozen=True, kw_only=True)
class Countersigning:
    """A verified certificate that is about to be signed once more.

    Args:
        file: Where it was read.
        certificate: What verification returned.
    """

    file: Path
    certificate: Certificate = field(repr=False)

    def described(self) -> list[tuple[str, str]]:
        """Return what one signs, as pairs of a name and a text that may hold anything."""
        predicate = self.certificate.predicate
        model, commitment = _at(predicate, "scope", "model"), _at(predicate, "request", "commitment")
        missing = self.certificate.check.missing
        evidence = f"not at hand: {', '.join(missing)}; the verdict was not re-derived" if missing else "all at hand"
        return [
            ("verdict", str(self.certificate.check.stated)),
            ("model", f"{_text(model, 'name')} sha256:{_text(_at(model, 'digest'), 'sha256')}"),
            ("request", f"{_text(commitment, 'size')} records, commitment {_text(commitment, 'root')}"),
            ("auditor", f"{_text(_at(predicate, 'auditor'), 'name')} ({self.certificate.keyid})"),
            ("issued", _text(predicate, "issuedAt")),
            ("evidence", evidence),
            ("payload", f"sha256:{self.certificate.payload_sha256}"),
            ("signed by", ", ".join(signature.keyid for signature in self.certificate.signatures)),
        ]

    def sign(self, signer: Signer, out: Path) -> bytes:
        """Sign the same bytes and write all signatures to ``out``, the earlier ones first and unchanged.

        Args:
            signer: The countersigner's key.
            out: The envelope; an existing file is replaced only when it is the one that was read.

        Returns:
            The bytes of the envelope.

        Raises:
            UsageError: The key has signed already, there are too many signatures, or the file cannot be written.
        """
        found = self.certificate
        if any(signature.keyid == signer.keyid for signature in found.signatures):
            raise UsageError(f"{str(self.file)!r}: key {signer.keyid} has signed it already; a key counts once")
        if len(found.signatures) >= MAX_SIGNATURES:
            raise UsageError(f"{str(self.file)!r}: {len(found.signatures)} signatures; expected fewer than that")
        own = Signature(keyid=signer.keyid, value=signer.sign(pae(PAYLOAD_TYPE, found.payload)))
        data = dsse(found.payload, (*found.signatures, own))
        if out.name.endswith((".sigstore.json", ".html")):
            raise UsageError(
                f"countersigned certificate {str(out)!r}: expected a name such as {ENVELOPE_NAME!r}; readers of "
                "bundles and reports refuse a second signature"
            )
        again = kind_of(out) == "file" and out.samefile(self.file)
        (write_atomic if again else write_new)(out, data, what="countersigned certificate")
        return data


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: Any, key: str) -> str:
    found = _at(value, key)
    return "not stated" if found is None else str(found)


def open_for_countersigning(
    file: Path,
    *,
    trust: Trust,
    model: Path | None = None,
    evidence: Path | None = None,
    now: datetime,
    allow_missing_evidence: bool = False,
    watch: Callable[[Step], None] | None = None,
) -> Countersigning:
    """Verify a certificate as any reader does, but for the threshold, which the new signature is to help to meet.

    Args:
        file: ``certificate.sigstore.json``, ``report.html``, or a ``certificate.dsse.json`` that others signed.
        trust: The countersigner's trust file; every signature that is there must be by a key in it.
        model: The model file to compare.
        evidence: Folder of the evidence files.
        now: The countersigner's time, with a time zone.
        allow_missing_evidence: Go on without evidence; what is signed was then not re-derived.
        watch: Called with each step.

    Raises:
        UntrustedError: A step refuses; nobody signs what they do not believe.
        MissingFileError: A file cannot be read.
    """
    certificate = verify(
        file,
        trust=replace(trust, threshold=Threshold()),
        model=model,
        evidence=evidence,
        now=now,
        allow_missing_evidence=allow_missing_evidence,
        watch=watch,
    )
    return Countersigning(file=file, certificate=certificate)


def countersign(
    file: Path,
    signer: Signer,
    *,
    out: Path,
    trust: Trust,
    model: Path | None = None,
    evidence: Path | None = None,
    now: datetime,
    allow_missing_evidence: bool = False,
) -> str:
    """Verify a certificate, sign its payload bytes with a further key, and write the envelope with all signatures.

    Args:
        file: The certificate.
        signer: The countersigner's key.
        out: The envelope.
        trust: The countersigner's trust file.
        model: The model file to compare.
        evidence: Folder of the evidence files.
        now: The countersigner's time, with a time zone.
        allow_missing_evidence: Go on without evidence.

    Returns:
        SHA-256 of the payload, the identity of the certificate, which countersigning does not change.

    Raises:
        UntrustedError: A step of verification refuses.
        UsageError: The key has signed already, or the file cannot be written.
    """
    found = open_for_countersigning(
        file, trust=trust, model=model, evidence=evidence, now=now, allow_missing_evidence=allow_missing_evidence
    )
    found.sign(signer, out)
    return found.certificate.payload_sha256
