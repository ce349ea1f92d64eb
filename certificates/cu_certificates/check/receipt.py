"""Receipts: what a data subject holds to see that a commitment to their id is in the request of a certificate.

A receipt holds the opening r, the commitment c and c's way to the root; it does not hold the id. It shows that the
request speaks of the id. Whether anything was taken out of a model is the certificate's matter, not a receipt's.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .carrier import load_any
from .common import Outcome, once
from .context import Context
from .fields import Node
from .merkle import require_inclusion
from .request import SCHEME, Request, commitment, read_request
from .strict import MAX_INT, Rejected, canonical, parse

KIND: Final = "cu-cert-receipt/1"
SAYS: Final = (
    "A commitment to your id is in the request that this certificate is about. "
    "This does not say that anything was removed from a model: the certificate says what was tested."
)
"""The one sentence of a receipt; another one is refused, so that nobody can put words into it."""

MAX_RECEIPT: Final = 64 * 1024
MAX_ID: Final = 4096

_FIELDS: Final = frozenset(
    {"kind", "scheme", "says", "opening", "commitment", "index", "path", "request", "certificate"}
)
_NAME: Final = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """A receipt, well-formed and nothing more.

    Args:
        opening: r, 32 bytes; whoever holds it can test guesses at the id.
        commitment: c, 32 bytes.
        index: Place of c among the sorted leaves, from 0.
        path: The hashes beside c's way to the root, from below.
        request: Root and size of the request.
        certificate: Id of the certificate.
        payload: SHA-256 (hex) of the certificate's signed bytes.
    """

    opening: bytes = field(repr=False)
    commitment: bytes = field(repr=False)
    index: int
    path: tuple[bytes, ...] = field(repr=False)
    request: Request
    certificate: str
    payload: str

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        return (
            canonical(
                {
                    "kind": KIND,
                    "scheme": SCHEME,
                    "says": SAYS,
                    "opening": self.opening.hex(),
                    "commitment": self.commitment.hex(),
                    "index": self.index,
                    "path": [entry.hex() for entry in self.path],
                    "request": self.request.to_json(),
                    "certificate": {"id": self.certificate, "payload": {"sha256": self.payload}},
                }
            )
            + b"\n"
        )


def read_receipt(data: bytes) -> Receipt:
    """Read a receipt.

    Args:
        data: The bytes of the file.

    Raises:
        Rejected: It is too large, not JSON, or a field is missing, unknown or of another kind.
    """
    node = Node(parse(data, "receipt", max_bytes=MAX_RECEIPT), "receipt")
    node.text("kind", KIND)
    if odd := sorted(_FIELDS ^ set(node.value)):
        raise Rejected(f"receipt: field {odd[0]!r} is {'unknown' if odd[0] in node.value else 'absent'}")
    node.text("scheme", SCHEME)
    node.text("says", SAYS)
    certificate = node.node("certificate")
    name = certificate.text("id")
    if not _NAME.fullmatch(name):
        raise Rejected(f"{certificate.path}.id: {name[:80]!r}; expected urn:uuid: and a UUID")
    path = node.texts("path")
    if not all(re.fullmatch("[0-9a-f]{64}", entry) for entry in path):
        raise Rejected(f"{node.path}.path: expected hashes of 64 lower-case hexadecimal digits")
    return Receipt(
        opening=bytes.fromhex(node.hex("opening")),
        commitment=bytes.fromhex(node.hex("commitment")),
        index=node.whole("index", 0, MAX_INT),
        path=tuple(map(bytes.fromhex, path)),
        request=read_request(node.node("request")),
        certificate=name,
        payload=certificate.digest("payload"),
    )


def require_receipt(receipt: Receipt, identifier: str) -> None:
    """Demand that a receipt is about an id, and that its commitment is in the request that it names.

    Args:
        receipt: The receipt.
        identifier: The id, as the controller keeps it; it is not printed.

    Raises:
        Rejected: The id is empty or too long, the receipt is about another id, or the path does not lead to the root.
    """
    if not identifier.strip() or len(identifier) > MAX_ID or any("\ud800" <= one <= "\udfff" for one in identifier):
        raise Rejected(f"id: {len(identifier)} characters; expected 1 to {MAX_ID}, in UTF-8")
    if commitment(receipt.opening, identifier) != receipt.commitment:
        raise Rejected(
            "receipt: its commitment is not about the id that was given; ask whoever keeps the data under which id "
            "they keep yours (spelling and letter case count), or for your own receipt"
        )
    request = receipt.request
    require_inclusion(
        receipt.commitment, receipt.index, request.size, receipt.path, request.root, "receipt: the path to the root"
    )


def require_certificate(receipt: Receipt, predicate: Node, payload_sha256: str) -> None:
    """Demand that a receipt names exactly this certificate, and that the certificate is about the receipt's request.

    Args:
        receipt: The receipt.
        predicate: The certificate's content. Whether its signature holds is for the caller to establish.
        payload_sha256: SHA-256 (hex) of the certificate's signed bytes.

    Raises:
        Rejected: It is another certificate, or about another request.
    """
    if payload_sha256 != receipt.payload:
        raise Rejected(
            f"receipt.certificate: names the certificate with payload sha256:{receipt.payload}; the one given has "
            f"sha256:{payload_sha256}; ask for the certificate that belongs to the receipt"
        )
    if predicate.text("certificateId") != receipt.certificate:
        raise Rejected(f"receipt.certificate.id: {receipt.certificate}; the certificate has another id")
    stated = predicate.node("request").node("commitment")
    stated.text("scheme", SCHEME)
    if read_request(stated) != receipt.request:
        raise Rejected("receipt.request: root and size are not those of the certificate's request")


def receipt(claim: Node, context: Context) -> Outcome:
    """Claim type ``receipt``: a commitment, named without its opening, stands in the request's tree."""
    once(claim, context, "index")
    _ = context.plan  # which holds the same root
    request = read_request(context.predicate.node("request").node("commitment"))
    path, index = claim.texts("path"), claim.whole("index", 0, MAX_INT)
    if not all(re.fullmatch("[0-9a-f]{64}", entry) for entry in path):
        raise Rejected(f"{claim.path}.path: expected hashes of 64 lower-case hexadecimal digits")
    leaf = bytes.fromhex(claim.hex("commitment"))
    require_inclusion(leaf, index, request.size, list(map(bytes.fromhex, path)), request.root, f"{claim.path}.path")
    context.assume(claim, "A4")
    return "assumed", f"commitment {index + 1} of {request.size} is in the request; its opening shows whose it is"


def check_receipt(file: Path, identifier: str, certificate: Path | None = None) -> list[tuple[str, str, str]]:
    """Check a receipt from files; no signature is looked at.

    Args:
        file: The receipt.
        identifier: The id.
        certificate: The certificate or report that the receipt names.

    Returns:
        What was checked and what was not, as (step, state, detail).

    Raises:
        Rejected: The receipt does not hold.
        OSError: A file cannot be read.
    """
    with file.open("rb") as stream:
        found = read_receipt(stream.read(MAX_RECEIPT + 1))
    require_receipt(found, identifier)
    steps = receipt_steps(found)
    if certificate is None:
        return [*steps, not_compared(found)]
    payload = load_any(certificate.read_bytes())[0].payload
    predicate = Node(parse(payload, "payload"), "statement").node("predicate")
    require_certificate(found, predicate, hashlib.sha256(payload).hexdigest())
    return [*steps, ("certificate", "ok", f"{found.certificate} is about this request; its signature was not checked")]


def receipt_steps(found: Receipt) -> list[tuple[str, str, str]]:
    """Return what an accepted receipt says for itself, as (step, state, detail)."""
    request = found.request
    size = f"{request.size} commitments"
    if request.least is not None:
        size += f", a padded number that stands for {request.least} to {request.size} ids"
    return [
        ("id", "ok", f"the commitment {found.commitment.hex()[:16]}... is about the id that was given"),
        ("request", "ok", f"it is number {found.index + 1} of {size}; root {request.root.hex()[:16]}..."),
    ]


def not_compared(found: Receipt) -> tuple[str, str, str]:
    """Return the step that was left out where no certificate is at hand."""
    return (
        "certificate",
        "not checked",
        f"the receipt names {found.certificate} with payload sha256:{found.payload}; without that file nobody but the "
        "receipt says that a certificate is about this request",
    )
