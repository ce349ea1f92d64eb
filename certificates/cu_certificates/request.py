"""The public face of a forget request: salted commitments, so that no id ever stands in a certificate.

Scheme ``cu-cert-forget/1``: a fresh key K for each request, an opening r_i = HMAC(K, id_i) for each id, a commitment
c_i = SHA-256(tag, r_i, id_i), and the RFC 9162 Merkle root over the sorted commitments. Showing r_i to one data subject
reveals nothing about another; destroying K makes the rest unopenable.
"""

import hashlib
import hmac
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cu_certificates.errors import UsageError

SCHEME: Final = "cu-cert-forget/1"
_OPENING: Final = b"cu-cert/forget/v1/opening\0"
_COMMITMENT: Final = b"cu-cert/forget/v1\0"


def canonical_id(identifier: str) -> bytes:
    """Return the bytes that are committed to: NFC, trimmed, tagged as a string."""
    return b"str:" + unicodedata.normalize("NFC", identifier).strip().encode()


def opening(key: bytes, identifier: str) -> bytes:
    """Return r_i, the 32 bytes that open one id's commitment."""
    return hmac.new(key, _OPENING + canonical_id(identifier), hashlib.sha256).digest()


def commitment(opened: bytes, identifier: str) -> bytes:
    """Return c_i, the 32-byte salted commitment to an id."""
    return hashlib.sha256(_COMMITMENT + opened + canonical_id(identifier)).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of RFC 9162, section 2.1.1.

    Leaves are hashed with prefix 0x00 and inner nodes with 0x01, so neither can pose as the other.
    """
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + merkle_root(leaves[:split]) + merkle_root(leaves[split:])).digest()


@dataclass(frozen=True, kw_only=True)
class ForgetRequest:
    """A request as a certificate shows it.

    Args:
        scenario: What kind of thing must go; ``sample`` for single records.
        root: Merkle root (hex) over the sorted commitments.
        size: Number of ids.
        allowed_missing: Ids that were asked for but are not in the data, when the user chose to go on.
    """

    scenario: str
    root: str
    size: int
    allowed_missing: int = 0

    def to_predicate(self) -> dict[str, object]:
        """Return the request as it stands in a certificate."""
        return {
            "scenario": self.scenario,
            "commitment": {"scheme": SCHEME, "root": self.root, "size": self.size},
            "allowedMissing": self.allowed_missing,
        }


def commit(ids: Iterable[str], key: bytes, *, scenario: str = "sample", allowed_missing: int = 0) -> ForgetRequest:
    """Commit to the ids of a request.

    Args:
        ids: At least one distinct id.
        key: K, 32 random bytes, fresh for this request.
        scenario: What kind of thing must go.
        allowed_missing: How many ids were not found in the data.

    Raises:
        UsageError: No ids, equal ids, or a key of the wrong size.
    """
    if len(key) != 32:
        raise UsageError(f"request key: {len(key)} bytes; expected 32")
    leaves = sorted(commitment(opening(key, name), name) for name in ids)
    if not leaves:
        raise UsageError("request: no ids; expected at least one")
    if len(set(leaves)) != len(leaves):
        raise UsageError("request: two ids are equal after Unicode normalisation; remove one")
    return ForgetRequest(
        scenario=scenario, root=merkle_root(leaves).hex(), size=len(leaves), allowed_missing=allowed_missing
    )
