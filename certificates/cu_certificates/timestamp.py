"""Time stamps (RFC 3161): a third party says that some bytes existed no later than a certain time.

The stamp of a certificate covers the raw bytes of the auditor's signature, as sigstore's does, and lies beside it as
``certificate.tsr``; that of a plan covers the bytes of ``plan.json`` and lies beside it as ``plan.tsr``. Only a digest
goes to the authority. The extra ``timestamp`` brings the library that reads and verifies stamps.
"""

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from cryptography import x509

from cu_certificates._files import read_bytes
from cu_certificates.errors import UntrustedError, UsageError

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

EXTRA: Final = "pip install 'cu-cert[timestamp]'"
MAX_TOKEN: Final = 256 * 1024
TIMEOUT: Final = 30.0
"""Seconds that an authority may take."""

_MAX_ROOTS: Final = 64 * 1024
_LATER: Final = "leave out --tsa and stamp it later with --tsq and --tsr"


def _library() -> Any:
    """Return the library, which is needed only where a stamp is made or read."""
    try:
        import rfc3161_client
    except ImportError:
        raise UsageError(f"time stamps need the library rfc3161-client; install it with {EXTRA}") from None
    return rfc3161_client


def query(data: bytes) -> bytes:
    """Return the question to put to an authority, as ``openssl ts -query -sha256 -cert -no_nonce`` writes it.

    It holds the SHA-256 of ``data`` and nothing else about it. A nonce is left out: the answer is bound to the digest,
    and an earlier answer about the same bytes would only show an earlier time.

    Args:
        data: The bytes to stamp, not empty.

    Raises:
        UsageError: The library is not installed.
    """
    library = _library()
    builder = library.TimestampRequestBuilder().data(data).hash_algorithm(library.HashAlgorithm.SHA256)
    made: bytes = builder.nonce(nonce=False).cert_request(cert_request=True).build().as_bytes()
    return made


def _decode(token: bytes) -> "TimeStampResponse":
    library = _library()
    if len(token) > MAX_TOKEN:
        raise UntrustedError("time", f"time stamp: {len(token)} bytes; expected at most {MAX_TOKEN}")
    try:
        found: TimeStampResponse = library.decode_timestamp_response(token)
        status = found.status
    except ValueError as problem:
        hint = "give the .tsr file as the authority wrote it"
        if "InvalidSetOrdering" in str(problem):  # openssl writes such a set, and no other reader minds
            hint = "its certificates are not in the order that DER demands; ask for a stamp without the whole chain"
        raise UntrustedError(
            "time", f"time stamp: not the answer of an authority (TimeStampResp, DER): {problem}; {hint}"
        ) from None
    if status != 0:
        said = " ".join(found.status_string)
        told = "".join(character if character.isprintable() else "\ufffd" for character in said)[:200]
        raise UntrustedError("time", f"time stamp: refused by the authority with status {status} {told!r}; ask again")
    return found


def require_answer(token: bytes, data: bytes) -> datetime:
    """Demand that an answer is a stamp over these bytes; whether its authority can be trusted is not asked.

    Args:
        token: The answer, DER.
        data: The stamped bytes.

    Returns:
        The latest time at which the bytes came to be, by the authority's word.

    Raises:
        UntrustedError: It is something else, or speaks of other bytes.
        UsageError: The library is not installed.
    """
    found = _decode(token)
    try:
        imprint = found.tst_info.message_imprint
        algorithm, digest = imprint.hash_algorithm.dotted_string, imprint.message
        latest = _latest(found)
    except (ValueError, OverflowError) as problem:
        raise UntrustedError("time", f"time stamp: cannot be read: {problem}; ask the authority again") from None
    wanted = {
        "2.16.840.1.101.3.4.2.1": hashlib.sha256,
        "2.16.840.1.101.3.4.2.2": hashlib.sha384,
        "2.16.840.1.101.3.4.2.3": hashlib.sha512,
    }.get(algorithm)
    if wanted is None or wanted(data).digest() != digest:
        _other_bytes()
    return latest


def _other_bytes() -> NoReturn:
    raise UntrustedError(
        "time",
        "time stamp: speaks of other bytes than these (another digest); it belongs to another file, or this one was "
        "signed again since; ask for the stamp that belongs to it",
    )


def _latest(found: "TimeStampResponse") -> datetime:
    """Return the stamp's time and its stated inaccuracy together: the end that a reader can rely on."""
    info = found.tst_info
    accuracy: Any = info.accuracy  # absent from most stamps, though the library's annotation does not say so
    slack = timedelta(0)
    if accuracy is not None:
        slack = timedelta(
            seconds=accuracy.seconds or 0, milliseconds=accuracy.millis or 0, microseconds=accuracy.micros or 0
        )
    return info.gen_time + slack


def load_roots(paths: Sequence[Path]) -> list[x509.Certificate]:
    """Read the certificates of the authorities that are believed.

    Args:
        paths: PEM files with one or more certificates: the roots, and those between them and the authority.

    Raises:
        MissingFileError: A file cannot be read.
        UsageError: It holds no certificate.
    """
    found: list[x509.Certificate] = []
    for path in paths:
        data = read_bytes(path, what="root certificate", max_bytes=_MAX_ROOTS)
        try:
            found += x509.load_pem_x509_certificates(data)
        except ValueError:
            raise UsageError(f"root certificate {str(path)!r}: no certificate in PEM form; expected one") from None
    return found


def verify_token(token: bytes, signature: bytes, roots: list[Path]) -> datetime:
    """Verify a time stamp: status, imprint, signature, and the authority's certificates at the stamped time.

    Args:
        token: The bytes of the ``.tsr`` file, an RFC 3161 TimeStampResp.
        signature: The stamped bytes: a raw signature, or the bytes of a plan.
        roots: PEM files with the certificates of the authorities that are believed.

    Returns:
        The latest time at which ``signature`` came to be, in UTC: the stamp's time and its stated inaccuracy.

    Raises:
        UntrustedError: It is not a stamp over these bytes by one of these authorities.
        MissingFileError: A root cannot be read.
        UsageError: A root is no certificate, or the library is not installed.
    """
    library = _library()
    trusted = load_roots(roots)
    if not trusted:
        raise UsageError("time stamp: no root certificate is given; name those that you believe in [time] tsa_roots")
    latest = require_answer(token, signature)
    anchors = [certificate for certificate in trusted if certificate.issuer == certificate.subject] or trusted
    between = [certificate for certificate in trusted if certificate not in anchors]
    refused = ""
    # One by one: of two roots of one name the library would look at one only, and not always at the same.
    for anchor in anchors:
        verifier = library.VerifierBuilder(roots=[anchor], intermediates=between).build()
        try:
            verifier.verify_message(_decode(token), signature)  # decoded anew: the verifier empties what it is given
            return latest
        except (library.VerificationError, ValueError) as problem:
            refused = str(problem)
    hint = "its authority is none of those in tsa_roots, its certificate was not valid then, or it was altered"
    if "signer certificate not found" in refused:
        hint = "it holds no certificate of its authority; ask again with the certificate requested"
    raise UntrustedError("time", f"time stamp: not valid: {refused:.300}; {hint}")


def fetch(url: str, data: bytes, *, timeout: float = TIMEOUT) -> bytes:
    """Ask an authority for a stamp over HTTP (RFC 3161, section 3.4).

    Args:
        url: The authority's address, ``https://...`` or ``http://...``; the answer is signed, so both will do.
        data: The bytes to stamp; only their SHA-256 is sent.
        timeout: Seconds to wait.

    Returns:
        The answer, which speaks of these bytes; whether its authority can be trusted is the reader's question.

    Raises:
        UsageError: The authority cannot be reached, or answers something else than a stamp over these bytes.
    """
    if not re.match(r"https?://[^/\[\]\s]+", url):
        raise UsageError(f"--tsa {url!r}: expected an address that begins with https:// or http://")
    asked = urllib.request.Request(url, data=query(data), headers={"Content-Type": "application/timestamp-query"})
    try:
        with urllib.request.urlopen(asked, timeout=timeout) as answer:
            token: bytes = answer.read(MAX_TOKEN + 1)
    except urllib.error.HTTPError as problem:
        problem.close()
        raise UsageError(f"--tsa {url!r}: the authority answers {problem.code} {problem.reason}; {_LATER}") from None
    except (OSError, http.client.HTTPException, ValueError) as problem:
        cause = problem.reason if isinstance(problem, urllib.error.URLError) else problem
        raise UsageError(f"--tsa {url!r}: the authority cannot be reached ({cause}); {_LATER}") from None
    try:
        require_answer(token, data)
    except UntrustedError as problem:
        raise UsageError(f"--tsa {url!r}: {str(problem).removeprefix('time: ')}; {_LATER}") from None
    return token
