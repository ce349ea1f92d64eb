"""A whole Merkle tree of RFC 9162 in memory, for whoever has its leaves: its root and every proof about it.

The checker's side, which has a root and a proof and no leaves, is :mod:`cu_certificates.check.merkle`.
"""

from collections.abc import Sequence

from cu_certificates.check.merkle import leaf_hash, level_above, merkle_root
from cu_certificates.errors import UsageError


class MerkleTree:
    """The tree over a list of leaves; each proof reads a hash or two a level.

    Args:
        leaves: The leaves' bytes, in their order.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        # _levels[k][i] is the hash over the leaves from i * 2^k up to (i + 1) * 2^k, or up to the last one.
        self._levels: list[list[bytes]] = [[leaf_hash(leaf) for leaf in leaves]]
        while len(self._levels[-1]) > 1:
            self._levels.append(level_above(self._levels[-1]))

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """The tree's root, 32 bytes."""
        return self._levels[-1][0] if self.size else merkle_root(())

    def inclusion(self, index: int) -> list[bytes]:
        """Return the path that proves the leaf at ``index`` (RFC 9162, section 2.1.3.1).

        Raises:
            UsageError: The tree has no such leaf.
        """
        if not 0 <= index < self.size:
            raise UsageError(f"merkle tree: no leaf {index}; it has {self.size} leaves, counted from 0")
        path = []
        for level in self._levels[:-1]:
            beside = index ^ 1
            if beside < len(level):
                path.append(level[beside])
            index >>= 1
        return path

    def consistency(self, first: int) -> list[bytes]:
        """Return the path that proves that the tree's first ``first`` leaves were a tree of their own.

        RFC 9162, section 2.1.4.1.

        Args:
            first: Number of leaves of the earlier tree, 0 to the size of this one.

        Raises:
            UsageError: The tree has fewer leaves.
        """
        if not 0 <= first <= self.size:
            raise UsageError(f"merkle tree: {first} leaves; expected 0 to {self.size}, the size of this tree")
        if first in (0, self.size):
            return []
        # Follow the cut between old and new leaves down from the root; the block at (level, at) holds the cut.
        level, at, path = len(self._levels) - 1, 0, []
        while True:
            start, end = at << level, min((at + 1) << level, self.size)
            if first == end:  # all of the block is old
                if start:
                    path.append(self._levels[level][at])
                return path[::-1]
            level, at = level - 1, at * 2
            if at + 1 == len(self._levels[level]):  # the block has one half only: it rose unchanged
                continue
            if first <= (at + 1) << level:
                path.append(self._levels[level][at + 1])
            else:
                path.append(self._levels[level][at])
                at += 1
