"""Receipts for data subjects: made from what the controller keeps in ``private/``, checked by whoever holds one.

A receipt shows that a commitment to an id is in the request that a certificate is about, and nothing else: what was
done to the model, and what a test of it found, stands in the certificate.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cu_certificates._files import kind_of, make_folder, read_bytes, write_atomic
from cu_certificates._steps import Step
from cu_certificates.check.fields import Node
from cu_certificates.check.receipt import (
    MAX_ID,
    MAX_RECEIPT,
    Receipt,
    not_compared,
    read_receipt,
    receipt_steps,
    require_certificate,
    require_receipt,
)
from cu_certificates.check.request import Request, canonical_id, commitment, read_request
from cu_certificates.check.strict import Rejected, parse
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.merkle import MerkleTree
from cu_certificates.request import leaves_of, opening
from cu_certificates.trust import Trust
from cu_certificates.verify import load_unverified, verify

KEPT: Final = "request.json"
MAX_KEPT: Final = 1024 * 1024 * 1024
LIST: Final = "receipts.csv"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What the controller keeps of a request.

    Args:
        key: K.
        ids: The ids, as they were committed to.
        padded: Number of leaves of a padded request; ``None`` where it is not padded.
    """

    key: bytes = field(repr=False)
    ids: tuple[str, ...] = field(repr=False)
    padded: int | None = None

    @cached_property
    def places(self) -> Mapping[bytes, str]:
        """Each id by the bytes that are committed to."""
        return {canonical_id(name): name for name in self.ids}


def read_kept(folder: Path) -> Kept:
    """Read the private folder of a certificate.

    Args:
        folder: ``private/`` of an output folder, or that output folder.

    Raises:
        MissingFileError: It holds no ``request.json``, for example because K was destroyed.
        UsageError: The file is not what cu-cert writes.
    """
    path = next((place for place in (folder, folder / "private") if kind_of(place / KEPT) == "file"), folder) / KEPT
    data = read_bytes(path, what="private file", max_bytes=MAX_KEPT)
    try:
        node = Node(parse(data, str(path), max_bytes=MAX_KEPT), str(path))
        node.text("kind", "cu-cert-private/1")
        key, padded = bytes.fromhex(node.hex("requestKey")), node.whole("padded", 1) if node.has("padded") else None
        ids = []
        for entry in node.nodes("openings"):
            ids.append(entry.text("id"))
            if opening(key, ids[-1]).hex() != entry.hex("opening"):
                raise Rejected(f"{entry.path}.opening: does not belong to requestKey")
    except Rejected as problem:
        raise UsageError(f"{problem}; restore the file from a copy") from None
    return Kept(key=key, ids=tuple(ids), padded=padded)


@dataclass(frozen=True)
class ReceiptBook:
    """A request together with the certificate that is about it, ready to give receipts.

    Args:
        kept: What the controller keeps.
        certificate: Id of the certificate.
        payload: SHA-256 (hex) of its signed bytes.
        request: The request as the certificate states it.

    Raises:
        UsageError: The certificate is about another request.
    """

    kept: Kept
    certificate: str
    payload: str
    request: Request

    def __post_init__(self) -> None:
        if (self._tree.root, self._tree.size) != (self.request.root, self.request.size):
            raise UsageError(
                f"the private folder holds a request with root {self._tree.root.hex()} and {self._tree.size} "
                f"commitments; the certificate is about root {self.request.root.hex()} and {self.request.size}; give "
                "the private folder that was written with this certificate"
            )

    @cached_property
    def _leaves(self) -> list[bytes]:
        return leaves_of(self.kept.ids, self.kept.key, self.kept.padded or 0)

    @cached_property
    def _tree(self) -> MerkleTree:
        return MerkleTree(self._leaves)

    @cached_property
    def _index(self) -> Mapping[bytes, int]:
        return {leaf: index for index, leaf in enumerate(self._leaves)}

    def receipt(self, identifier: str) -> Receipt:
        """Make the receipt of an id.

        Raises:
            UsageError: The request does not hold the id, which is not printed.
        """
        name = self.kept.places.get(canonical_id(identifier))
        if name is None:
            raise UsageError(
                "the id that was given is not in this request (letter case counts; an id that was not in the data was "
                "counted and not committed to); compare it with the list that was audited"
            )
        opened = opening(self.kept.key, name)
        leaf = commitment(opened, name)
        index = self._index[leaf]
        return Receipt(
            opening=opened,
            commitment=leaf,
            index=index,
            path=tuple(self._tree.inclusion(index)),
            request=self.request,
            certificate=self.certificate,
            payload=self.payload,
        )


def open_book(kept: Kept, certificate: Path) -> ReceiptBook:
    """Hold what is kept against a certificate of one's own; its signature is not checked.

    Args:
        kept: What the controller keeps.
        certificate: The signed certificate or report.

    Raises:
        UntrustedError: The file is no signed certificate.
        UsageError: It is about another request.
    """
    found = load_unverified(certificate)
    if found.stated_keyid is None:
        raise UsageError(
            f"{str(certificate)!r} is an unsigned draft; a receipt names a signed certificate, so sign it first"
        )
    predicate: dict[str, Any] = found.predicate
    try:
        node = Node(predicate, "predicate")
        request, name = read_request(node.node("request").node("commitment")), node.text("certificateId")
    except Rejected as problem:
        raise UntrustedError("carrier", f"{str(certificate)!r}: {problem}") from None
    return ReceiptBook(kept, name, found.payload_sha256, request)


def write_all(book: ReceiptBook, folder: Path, private: Path) -> list[Path]:
    """Write a receipt for each id of a request.

    Args:
        book: The request and its certificate.
        folder: Where the receipts are written, for the owner alone; no file name tells whose a receipt is.
        private: Folder of the list that does, ``receipts.csv``.

    Raises:
        UsageError: A folder cannot be written.
    """
    make_folder(folder, private=True)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("id", "file"))
    written = []
    for name in sorted(book.kept.ids):
        receipt = book.receipt(name)
        path = folder / f"receipt-{receipt.commitment.hex()[:16]}.json"
        write_atomic(path, receipt.to_bytes(), what="receipt", mode=0o600)
        lines.writerow((name, path.name))
        written.append(path)
    write_atomic(private / LIST, text.getvalue().encode(), what="list of receipts", mode=0o600)
    return written


def verify_receipt(
    file: Path, identifier: str, *, certificate: Path | None = None, trust: Trust | None = None, now: datetime
) -> tuple[Receipt, list[Step]]:
    """Check a receipt.

    Args:
        file: The receipt.
        identifier: The id that it is said to be about.
        certificate: The certificate or report that it names; without it that step is not done, and the steps say so.
        trust: The keys that the reader trusts; needed with ``certificate``.
        now: The reader's time, with a time zone.

    Returns:
        The receipt, and each step with what was and what was not checked.

    Raises:
        UntrustedError: The receipt is about another id, another request or another certificate, or the certificate is
            not accepted.
        UsageError: A file cannot be read, or the id is empty.
    """
    if not identifier.strip() or len(identifier) > MAX_ID:
        raise UsageError(f"id: {len(identifier)} characters; expected 1 to {MAX_ID}")
    data = read_bytes(file, what="receipt", max_bytes=MAX_RECEIPT)
    try:
        receipt = read_receipt(data)
        require_receipt(receipt, identifier)
    except Rejected as problem:
        raise UntrustedError("receipt", f"{str(file)!r}: {problem}") from None
    steps = [_step(*entry) for entry in receipt_steps(receipt)]
    if certificate is None or trust is None:
        return receipt, [*steps, _step(*not_compared(receipt))]
    # A receipt outlives the certificate's date: what was committed to stays so.
    found = verify(certificate, trust=trust, now=now, allow_missing_evidence=True, allow_expired=True)
    try:
        require_certificate(receipt, Node(found.predicate, "predicate"), found.payload_sha256)
    except Rejected as problem:
        raise UntrustedError("receipt", str(problem)) from None
    detail = f"signature valid, key {found.keyid}; {receipt.certificate} is about this request"
    unchecked = [step for step in found.steps if step.state != "ok"]
    return receipt, [*steps, Step("certificate", "ok", detail), *unchecked]


def _step(name: str, state: str, detail: str) -> Step:
    return Step(name, "ok" if state == "ok" else "not checked", detail)
