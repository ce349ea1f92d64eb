"""The public face of a request: its commitments' tree, as root and size, and what a padded size stands for.

Scheme ``cu-cert-forget/1``: a commitment c = SHA-256(tag, r, id) with an opening r for each id, and a Merkle tree
(RFC 9162) over the sorted commitments. Where the size is padded, some leaves are random, and the range that the true
number of ids lies in stands beside it.
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Final

from .fields import Node
from .strict import MAX_INT, Rejected

SCHEME: Final = "cu-cert-forget/1"

_COMMITMENT: Final = b"cu-cert/forget/v1\0"


def canonical_id(identifier: str) -> bytes:
    """Return the bytes that are committed to: NFC, trimmed, tagged as a string."""
    return b"str:" + unicodedata.normalize("NFC", identifier).strip().encode()


def commitment(opened: bytes, identifier: str) -> bytes:
    """Return c, the 32-byte commitment to an id under its opening."""
    return hashlib.sha256(_COMMITMENT + opened + canonical_id(identifier)).digest()


@dataclass(frozen=True, kw_only=True)
class Request:
    """The public face of a request, as a certificate and a receipt state it.

    Args:
        root: Merkle root over the sorted commitments.
        size: Number of leaves, 1 to 2^53 - 1.
        least: The smallest number of ids that a padded size can stand for; ``None`` where it is not padded.

    Raises:
        Rejected: The root is not 32 bytes, or a size lies out of range.
    """

    root: bytes
    size: int
    least: int | None = None

    def __post_init__(self) -> None:
        if len(self.root) != 32 or not 1 <= self.size <= MAX_INT:
            raise Rejected(f"request: root of {len(self.root)} bytes, size {self.size}; expected 32 and at least 1")
        if self.least is not None and not 1 <= self.least <= self.size:
            raise Rejected(f"request.padded: from {self.least} to {self.size}; expected an ascending range from 1")

    def to_json(self) -> dict[str, object]:
        """Return the request without its scheme, as plan and receipt write it."""
        return {"root": self.root.hex(), "size": self.size} | (
            {} if self.least is None else {"padded": {"from": self.least, "to": self.size}}
        )


def read_request(node: Node) -> Request:
    """Read root, size and, where the size is padded, the range that it stands for.

    Raises:
        Rejected: A value is missing, of another kind or out of range.
    """
    return Request(root=bytes.fromhex(node.hex("root")), size=node.whole("size", 1, MAX_INT), least=padded_from(node))


def padded_from(node: Node) -> int | None:
    """Return the smallest number of ids that a padded size can stand for; ``None`` where it is not padded.

    Args:
        node: An object with ``size`` and perhaps ``padded``.

    Raises:
        Rejected: The range is not one that ends in the stated size.
    """
    if not node.has("padded"):
        return None
    size, padded = node.whole("size", 1, MAX_INT), node.node("padded")
    least = padded.whole("from", 1, MAX_INT)
    if set(padded.value) != {"from", "to"} or padded.whole("to", 1, MAX_INT) != size or least > size:
        raise Rejected(f"{padded.path}: {dict(padded.value)!r:.200}; expected from (at least 1) and to = size = {size}")
    return least
