"""The public face of a forget request: salted commitments, so that no id ever stands in a certificate.

Scheme ``cu-cert-forget/1``: a fresh key K for each request, an opening r_i = HMAC(K, id_i) for each id, a commitment
c_i = SHA-256(tag, r_i, id_i), and the RFC 9162 Merkle root over the sorted commitments. Showing r_i to one data subject
reveals nothing about another; destroying K makes the rest unopenable.

The number of ids is sensitive when it is small. A padded request has further leaves, drawn from K, which nobody can
tell from commitments without K; the certificate then states the padded size and the range that it stands for.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cu_certificates.check.merkle import merkle_root
from cu_certificates.check.request import SCHEME, Request, canonical_id, commitment
from cu_certificates.errors import UsageError

__all__ = ["SCHEME", "ForgetRequest", "canonical_id", "commit", "commitment", "leaves_of", "opening", "padded_size"]

MAX_LEAVES: Final = 10_000_000

_OPENING: Final = b"cu-cert/forget/v1/opening\0"
_PADDING: Final = b"cu-cert/forget/v1/padding\0"


def opening(key: bytes, identifier: str) -> bytes:
    """Return r_i, the 32 bytes that open one id's commitment."""
    return hmac.new(key, _OPENING + canonical_id(identifier), hashlib.sha256).digest()


def padded_size(count: int, multiple: int) -> int:
    """Return the smallest multiple of ``multiple`` that is at least ``count``; ``count`` itself without padding.

    Args:
        count: Number of ids.
        multiple: What sizes are rounded up to; 0 for no padding.
    """
    return -(-count // multiple) * multiple if multiple else count


def leaves_of(ids: Iterable[str], key: bytes, size: int = 0) -> list[bytes]:
    """Return the sorted leaves of a request's tree: a commitment for each id, and padding up to ``size``.

    Args:
        ids: At least one distinct id.
        key: K, 32 random bytes, fresh for this request.
        size: Number of leaves wanted; fewer than there are ids adds nothing.

    Raises:
        UsageError: No ids, equal ids, too many leaves, or a key of the wrong size.
    """
    if len(key) != 32:
        raise UsageError(f"request key: {len(key)} bytes; expected 32")
    leaves = [commitment(opening(key, name), name) for name in ids]
    if not leaves:
        raise UsageError("request: no ids; expected at least one")
    if max(size, len(leaves)) > MAX_LEAVES:
        raise UsageError(f"request: {max(size, len(leaves))} commitments; expected at most {MAX_LEAVES}")
    if len(set(leaves)) != len(leaves):
        raise UsageError("request: two ids are equal after Unicode normalisation; remove one")
    # Without K a leaf of padding is as random as a commitment, so nobody else can count the ids.
    padding = (
        hmac.new(key, _PADDING + number.to_bytes(8, "big"), hashlib.sha256).digest()
        for number in range(size - len(leaves))
    )
    return sorted([*leaves, *padding])


@dataclass(frozen=True, kw_only=True)
class ForgetRequest:
    """A request as a certificate shows it.

    Args:
        scenario: What kind of thing must go; ``sample`` for single records.
        root: Merkle root (hex) over the sorted commitments.
        size: Number of commitments: of ids, or the padded number.
        least: The smallest number of ids that a padded size can stand for; ``None`` where it is not padded.
        allowed_missing: Ids that were asked for but are not in the data, when the user chose to go on.
    """

    scenario: str
    root: str
    size: int
    least: int | None = None
    allowed_missing: int = 0

    @property
    def face(self) -> Request:
        """Root and size."""
        return Request(root=bytes.fromhex(self.root), size=self.size, least=self.least)

    def to_predicate(self) -> dict[str, object]:
        """Return the request as it stands in a certificate."""
        return {
            "scenario": self.scenario,
            "commitment": {"scheme": SCHEME, **self.face.to_json()},
            "allowedMissing": self.allowed_missing,
        }


def commit(
    ids: Iterable[str], key: bytes, *, scenario: str = "sample", allowed_missing: int = 0, pad_to: int = 0
) -> ForgetRequest:
    """Commit to the ids of a request.

    Args:
        ids: At least one distinct id.
        key: K, 32 random bytes, fresh for this request.
        scenario: What kind of thing must go.
        allowed_missing: How many ids were not found in the data.
        pad_to: Round the size up to a multiple of this with leaves drawn from K; 0 for no padding.

    Raises:
        UsageError: No ids, equal ids, too many, a key of the wrong size, or a padded request with missing ids, whose
            exact number would stand beside the range.
    """
    names = list(ids)
    if pad_to and allowed_missing:
        raise UsageError(
            f"request: {allowed_missing} ids are not in the data, and the certificate would state that number beside "
            "the padded size; take them off the list, or do not pad"
        )
    size = padded_size(len(names), pad_to)
    leaves = leaves_of(names, key, size)
    return ForgetRequest(
        scenario=scenario,
        root=merkle_root(leaves).hex(),
        size=len(leaves),
        least=size - pad_to + 1 if pad_to else None,
        allowed_missing=allowed_missing,
    )
