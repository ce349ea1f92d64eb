"""Merkle trees of RFC 9162, section 2.1: the root of a list, and what a short proof shows about two roots.

Leaves are hashed with prefix 0x00 and inner nodes with 0x01, so neither can pose as the other. Functions that check a
proof return nothing and raise: a caller cannot forget to look at the answer.
"""

import hashlib
from collections.abc import Sequence

from .strict import MAX_INT, Rejected


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf's bytes."""
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two hashes of 32 bytes each."""
    return hashlib.sha256(b"\1" + left + right).digest()


def level_above(level: Sequence[bytes]) -> list[bytes]:
    """Return the hashes one level higher: neighbours are joined, a last one without a neighbour rises unchanged.

    Joining level by level gives the tree of RFC 9162, which cuts a list after the largest power of two below its size:
    each complete block of 2^k leaves is one node in both, and only the last block of a level can be shorter.
    """
    last = len(level) - 1
    return [node_hash(level[at], level[at + 1]) if at < last else level[at] for at in range(0, len(level), 2)]


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of RFC 9162, section 2.1.1; SHA-256 of nothing for no leaves."""
    level = [leaf_hash(leaf) for leaf in leaves]
    if not level:
        return hashlib.sha256(b"").digest()
    while len(level) > 1:
        level = level_above(level)
    return level[0]


def _bounded(size: int, path: Sequence[bytes], what: str) -> None:
    """Refuse sizes and paths that no tree has, before anything is hashed."""
    if not 0 <= size <= MAX_INT:
        raise Rejected(f"{what}: a tree of {size} leaves; expected 0 to 2^53 - 1")
    # A consistency proof holds at most one hash a level, and one more.
    if len(path) > size.bit_length() + 1:
        raise Rejected(f"{what}: {len(path)} hashes; a tree of {size} leaves has at most {size.bit_length() + 1}")
    if any(len(entry) != 32 for entry in path):
        raise Rejected(f"{what}: a hash that is not 32 bytes long")


def require_inclusion(
    leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes, what: str = "inclusion proof"
) -> None:
    """Demand that a leaf stands at a place in a tree (RFC 9162, section 2.1.3.2).

    Args:
        leaf: The leaf's bytes, before hashing.
        index: Its place, from 0.
        size: Number of leaves of the tree.
        path: The hashes beside the way from the leaf to the root, from below.
        root: The tree's root.
        what: How the proof is called in a message.

    Raises:
        Rejected: The path does not lead from this leaf at this place to this root.
    """
    _bounded(size, path, what)
    if not 0 <= index < size:
        raise Rejected(f"{what}: leaf {index} of a tree of {size} leaves; expected 0 to {size - 1}")
    place, last, found = index, size - 1, leaf_hash(leaf)
    for entry in path:
        if last == 0:
            raise Rejected(f"{what}: the path goes on above the root")
        if place & 1 or place == last:
            found = node_hash(entry, found)
            while not place & 1 and place:  # a last node without a neighbour rose unchanged
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, entry)
        place, last = place >> 1, last >> 1
    if last:
        raise Rejected(f"{what}: the path ends below the root")
    if found != root:
        raise Rejected(f"{what}: leaf {index} leads to {found.hex()}; the root is {root.hex()}")


def require_consistency(
    first: int,
    first_root: bytes,
    second: int,
    second_root: bytes,
    path: Sequence[bytes],
    what: str = "consistency proof",
) -> None:
    """Demand that a tree begins with all leaves of an earlier one, in their order (RFC 9162, section 2.1.4.2).

    Args:
        first: Number of leaves of the earlier tree.
        first_root: Its root.
        second: Number of leaves of the later tree.
        second_root: Its root.
        path: The proof; empty when the trees are equal or the earlier one has no leaves.
        what: How the proof is called in a message.

    Raises:
        Rejected: The later tree is smaller, or the path does not lead to both roots.
    """
    _bounded(second, path, what)
    if not 0 <= first <= second:
        raise Rejected(f"{what}: a tree of {first} leaves cannot begin one of {second}")
    if first == 0 or first == second:
        if path:
            raise Rejected(f"{what}: {len(path)} hashes; expected none for {first} and {second} leaves")
        if first_root != (second_root if first else merkle_root(())):
            raise Rejected(f"{what}: the root of {first} leaves is {first_root.hex()}, which does not belong to it")
        return
    # A first tree that is one complete block is a node of the second; its root then opens the proof unsaid.
    steps = list(path) if first & (first - 1) else [first_root, *path]
    if not steps:
        raise Rejected(f"{what}: no hashes; expected some for {first} and {second} leaves")
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = steps[0]
    for entry in steps[1:]:
        if last == 0:
            raise Rejected(f"{what}: the path goes on above the root")
        if place & 1 or place == last:
            before, after = node_hash(entry, before), node_hash(entry, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, entry)
        place, last = place >> 1, last >> 1
    if last:
        raise Rejected(f"{what}: the path ends below the root")
    if before != first_root or after != second_root:
        which = "earlier" if before != first_root else "later"
        raise Rejected(f"{what}: the path does not lead to the {which} root, so leaves were changed, moved or removed")
