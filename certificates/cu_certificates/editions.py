"""Two editions of one certificate: what anybody may have, and what an auditor gets on request.

Both hold the same signed bytes; they differ in the evidence. The *public* edition has the certificate, its report, the
plan and whatever evidence the certificate calls public. The *annex* has all evidence, among it the scores of single
models and the rows of right answers, which the certificate calls controlled: who gets it answers for keeping it.
Nothing from ``private/`` is in either.
"""

import secrets
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

from cu_certificates._fields import objects, text
from cu_certificates._files import kind_of, make_folder, read_bytes, write_new
from cu_certificates._passages import take_apart
from cu_certificates.check.carrier import MAX_REPORT, load_any
from cu_certificates.check.main import plain as clean
from cu_certificates.check.strict import Rejected
from cu_certificates.countersign import ENVELOPE_NAME
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.log import FILE as LOG
from cu_certificates.privacy import PATTERNS, IdIndex, patterns_in, require_no_ids
from cu_certificates.seal import CERTIFICATE, REPORT, STAMP
from cu_certificates.trust import Trust
from cu_certificates.verify import MAX_EVIDENCE, Certificate, verify

Edition = Literal["public", "annex"]

CARRIERS: Final = (CERTIFICATE, ENVELOPE_NAME, REPORT)
"""Files that carry the same signed payload, each in its own way."""

BESIDE: Final = (STAMP, "plan.tsr", LOG, "log-proof.json")
"""Files that say something about the certificate and hold digests only."""

README: Final = "README.txt"


@dataclass(frozen=True, kw_only=True)
class Written:
    """An edition that was written.

    Args:
        folder: Where.
        files: The names of its files.
        certificate: The certificate, verified.
    """

    folder: Path
    files: tuple[str, ...]
    certificate: Certificate = field(repr=False)


def write_edition(
    file: Path,
    edition: Edition,
    folder: Path,
    *,
    trust: Trust,
    now: datetime,
    evidence: Path | None = None,
    ids: IdIndex | None = None,
    accepted: Collection[str] = (),
) -> Written:
    """Copy the files of an edition, byte for byte, after verification and the privacy lint.

    Args:
        file: ``certificate.sigstore.json`` or ``report.html``; the other files lie beside it.
        edition: ``public`` or ``annex``.
        folder: The new folder; it must not exist.
        trust: The keys that are trusted.
        now: The time, with a time zone.
        evidence: Folder with the evidence, where it does not lie beside ``file``.
        ids: Ids of the request, which may stand nowhere.
        accepted: Kinds of finding that somebody has looked at already.

    Raises:
        UntrustedError: The certificate is not accepted, or a file beside it carries another one.
        UsageError: The lint finds something, a file is missing, or the folder exists.
    """
    if kind_of(folder) != "absent":
        raise UsageError(
            f"{str(folder)!r} exists already; name a new folder, so that nothing else is handed on with it"
        )
    if unknown := sorted(set(accepted) - set(PATTERNS)):
        raise UsageError(f"accepted kind {unknown[0]!r}; expected {', '.join(PATTERNS)}; ids are never accepted")
    annex = edition == "annex"
    certificate = verify(
        file, trust=trust, now=now, evidence=evidence, allow_missing_evidence=not annex, allow_expired=True
    )
    files = _carriers(file.parent, certificate) | _beside(file.parent)
    for entry in objects(certificate.predicate, "evidence"):
        if annex or entry.get("access") == "public":
            name = text(entry, "name")
            files[name] = _evidence(name, text(entry, "digest.sha256"), (evidence, file.parent))
    files[README] = readme(certificate, edition, files)
    _lint(files, certificate, ids or IdIndex({}), [kind for kind in PATTERNS if kind not in accepted])
    _write(folder, files, private=annex)
    return Written(folder=folder, files=tuple(sorted(files)), certificate=certificate)


def _carriers(folder: Path, certificate: Certificate) -> dict[str, bytes]:
    found = {}
    for name in CARRIERS:
        if kind_of(folder / name) != "file":
            continue
        data = read_bytes(folder / name, what="certificate", max_bytes=MAX_REPORT)
        try:
            payload = load_any(data)[0].payload
        except Rejected as problem:
            raise UntrustedError("carrier", f"{str(folder / name)!r}: {problem}") from None
        if sha256(payload).hexdigest() != certificate.payload_sha256:
            raise UntrustedError(
                "carrier",
                f"{str(folder / name)!r} carries another certificate than the one given; give the output folder of one "
                "audit, or draw the report again with cu-cert report",
            )
        found[name] = data
    if CERTIFICATE not in found and REPORT not in found:
        raise UsageError(
            f"{str(folder)!r} holds neither {CERTIFICATE} nor {REPORT}; expected the output folder of an audit"
        )
    return found


def _beside(folder: Path) -> dict[str, bytes]:
    return {
        name: read_bytes(folder / name, what="file", max_bytes=MAX_REPORT)
        for name in BESIDE
        if kind_of(folder / name) == "file"
    }


def _evidence(name: str, digest: str, folders: tuple[Path | None, ...]) -> bytes:
    for folder in folders:
        if folder is not None and kind_of(folder / name) == "file":
            data = read_bytes(folder / name, what="evidence file", max_bytes=MAX_EVIDENCE)
            if sha256(data).hexdigest() == digest:
                return data
    raise UsageError(f"evidence file {name!r} with sha256:{digest} is not at hand; name its folder with --evidence DIR")


def _lint(files: Mapping[str, bytes], certificate: Certificate, ids: IdIndex, kinds: list[str]) -> None:
    sources = [source for name, data in files.items() if (source := take_apart(data, name)) is not None]
    require_no_ids(ids, sources, done="nothing was copied")
    hits = [hit for source in sources for hit in patterns_in(source, kinds=kinds, predicate=certificate.predicate)]
    if hits:
        shown = "; ".join(str(hit) for hit in hits[:5])
        more = f" and {len(hits) - 5} more" if len(hits) > 5 else ""
        raise UsageError(
            f"nothing was copied: the privacy lint found {shown}{more}; look at each (cu-cert lint privacy), then pass "
            f"--accept KIND for a kind that may be handed on ({', '.join(sorted({hit.kind for hit in hits}))})"
        )


def _write(folder: Path, files: Mapping[str, bytes], *, private: bool) -> None:
    """Write everything below a temporary name, then give the folder its own: it appears whole or not at all."""
    make_folder(folder.parent)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        make_folder(partial, private=private)
        for name, data in files.items():
            make_folder((partial / name).parent)
            write_new(partial / name, data, what="file")
        partial.rename(folder)
    except OSError as error:
        raise UsageError(f"folder {str(folder)!r}: cannot be written ({error.strerror}); name another") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def readme(certificate: Certificate, edition: Edition, files: Mapping[str, bytes]) -> bytes:
    """Return the words that go with an edition: what is in it, what is not, and how each file can be checked.

    Args:
        certificate: The certificate.
        edition: ``public`` or ``annex``.
        files: What the edition holds besides.
    """
    predicate = certificate.predicate
    lines = [
        f"{'Public edition' if edition == 'public' else 'Controlled annex'} of certificate",
        f"{text(predicate, 'certificateId')}",
        f"payload sha256:{certificate.payload_sha256}",
        "",
        *(_PUBLIC if edition == "public" else _ANNEX),
        "",
        "Files, each with its SHA-256:",
        *(f"  {sha256(data).hexdigest()}  {name}" for name, data in sorted(files.items())),
        "",
        "Evidence that the certificate names:",
        *(_evidence_line(entry, files) for entry in objects(predicate, "evidence")),
        "",
        f"Evidence is kept until: {text(predicate, 'governance.evidenceRetainedUntil')}",
        f"Access to it: {text(predicate, 'governance.evidenceAccess')}",
        f"Controller: {text(predicate, 'controller.name')} ({text(predicate, 'controller.contact')})",
        "",
        "To check: get the signer's public key and its fingerprint by another channel, then",
        f"  cu-cert key trust KEY.pub.pem && cu-cert verify {_first(files)} --trust trust.toml"
        + (" --without-evidence" if edition == "public" else ""),
    ]
    return "".join(f"{clean(line)}\n" for line in lines).encode()


_PUBLIC: Final = (
    "Anybody may have these files. They name nobody of the request. The evidence marked as controlled is not among",
    "them; whoever needs to compute the claims again can ask for the annex.",
)
_ANNEX: Final = (
    "For an auditor or an authority, on request. It holds the evidence from which every claim can be computed again:",
    "scores of single models, and rows that are ordered by their numbers and never by record. Rows about records can",
    "still say something about the people behind them when they are joined with other knowledge. Keep these files as",
    "confidential as the training data, hand them to nobody else, and delete them when your examination ends.",
)


def _evidence_line(entry: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    name = text(entry, "name")
    here = "here" if name in files else "not here"
    return f"  {text(entry, 'digest.sha256')}  {name}  {text(entry, 'access')}  {here}"


def _first(files: Mapping[str, bytes]) -> str:
    return CERTIFICATE if CERTIFICATE in files else REPORT
