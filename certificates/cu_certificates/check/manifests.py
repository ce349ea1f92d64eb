"""Lists of salted commitments in Merkle trees: the request's own, and those of the records a model was trained on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from .fields import Node
from .merkle import merkle_root, require_inclusion
from .strict import Rejected

MAX_LEAVES: Final = 10_000_000
"""Leaves of one tree."""
MAX_TREES: Final = 4096
ROW: Final = 256
"""Leaves that stand on one line of a file with whole trees."""
_DEEPEST: Final = MAX_LEAVES.bit_length() + 1
_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Tree:
    """A Merkle tree as a certificate names it.

    Args:
        root: Its root (hex).
        size: Its number of leaves.
    """

    root: str
    size: int

    def to_json(self) -> dict[str, object]:
        """Return the tree as it stands in claims and evidence."""
        return {"root": self.root, "size": self.size}


def read_tree(node: Node) -> Tree:
    """Read a tree's root and size, and nothing else."""
    if set(node.value) != {"root", "size"}:
        raise Rejected(f"{node.path}: keys {sorted(node.value)}; expected root and size")
    return Tree(node.hex("root"), node.whole("size", 0, MAX_LEAVES))


def hexes(node: Node, key: str, most: int) -> list[str]:
    """Return a list of SHA-256 digests, at most ``most`` of them."""
    values = node.texts(key)
    if len(values) > most:
        raise Rejected(f"{node.path}.{key}: {len(values)} digests; expected at most {most}")
    if not all(map(_HEX.fullmatch, values)):
        raise Rejected(f"{node.path}.{key}: expected digests of 64 lower-case hexadecimal digits")
    return values


def _require_whole(leaves: Sequence[bytes], tree: Tree, name: str) -> None:
    """Demand that these are all leaves of a tree, in rising order and each once."""
    if len(leaves) != tree.size:
        raise Rejected(f"{name}: {len(leaves)} leaves; the tree has {tree.size}")
    if any(first >= second for first, second in pairwise(leaves)):
        raise Rejected(f"{name}: the leaves are not in rising order, each once")
    if (root := merkle_root(leaves).hex()) != tree.root:
        raise Rejected(f"{name}: the leaves have the root {root}; expected {tree.root}")


def read_commitments(lines: Sequence[Node], name: str, request: Tree) -> tuple[bytes, ...]:
    """Read ``commitments.jsonl``: one line a commitment of the request, in rising order.

    Raises:
        Rejected: They are not exactly the leaves of the request's tree.
    """
    if len(lines) != request.size:
        raise Rejected(f"{name}: {len(lines)} lines; the request has {request.size} commitments")
    for row in lines:
        row.text("kind", "commitment")
    leaves = tuple(bytes.fromhex(row.hex("leaf")) for row in lines)
    _require_whole(leaves, request, name)
    return leaves


def found_in_leaves(lines: Sequence[Node], name: str, trees: Sequence[Tree], items: Sequence[bytes]) -> set[bytes]:
    """Return which items lie in a tree, from files that hold all leaves of all trees.

    Args:
        lines: One line up to :data:`ROW` leaves, tree by tree in rising order.
        name: The file's name, for messages.
        trees: The trees.
        items: The commitments that are looked for.

    Raises:
        Rejected: The leaves are not those of the trees.
    """
    left = list(lines)[::-1]
    wanted = set(items)
    found: set[bytes] = set()
    for number, tree in enumerate(trees):
        leaves: list[bytes] = []
        while left and left[-1].whole("tree", 0, MAX_TREES) == number:
            row = left.pop()
            row.text("kind", "leaves")
            row.whole("first", len(leaves), len(leaves))
            leaves += [bytes.fromhex(text) for text in hexes(row, "leaves", ROW)]
        _require_whole(leaves, tree, f"{name}: tree {number}")
        found |= wanted.intersection(leaves)
    if left:
        raise Rejected(f"{left[-1].path}: tree {left[-1].whole('tree')}; the claim names {len(trees)} trees, in order")
    return found


def found_by_neighbours(lines: Sequence[Node], name: str, trees: Sequence[Tree], items: Sequence[bytes]) -> set[bytes]:
    """Return which items lie in a tree, from one line a tree and item.

    An item that lies in a tree is shown by its own path, one that does not by the two leaves next to each other between
    which it would stand if the tree is sorted.

    Args:
        lines: One line a tree and item, tree by tree, item by item.
        name: The file's name, for messages.
        trees: The trees.
        items: The commitments that are looked for, in order.

    Raises:
        Rejected: A line is missing or too much, or a proof does not hold.
    """
    if len(lines) != len(trees) * len(items):
        raise Rejected(f"{name}: {len(lines)} lines; expected {len(items)} items in each of {len(trees)} trees")
    pairs = ((number, item) for number in range(len(trees)) for item in items)
    return {
        item for row, (number, item) in zip(lines, pairs, strict=True) if _present(row, number, trees[number], item)
    }


def _present(row: Node, number: int, tree: Tree, item: bytes) -> bool:
    """Check one line; whether it shows that the item is there."""
    row.whole("tree", number, number)
    if row.hex("item") != item.hex():
        raise Rejected(f"{row.path}.item: {row.hex('item')}; expected the request's next commitment {item.hex()}")
    root, place = bytes.fromhex(tree.root), row.whole("place", 0, tree.size)
    if row.text("kind", "absent", "present") == "present":
        require_inclusion(item, place, tree.size, _path(row, "path"), root, row.path)
        return True
    if tree.size == 0 and tree.root != merkle_root(()).hex():
        raise Rejected(f"{row.path}: a tree without leaves has the root {merkle_root(()).hex()}, not {tree.root}")
    for side, there, at in (("left", place > 0, place - 1), ("right", place < tree.size, place)):
        if not there:
            if row.value.get(side, "") is not None or row.items(f"{side}Path"):
                raise Rejected(f"{row.path}.{side}: expected null and no path, the tree ends there")
            continue
        leaf = bytes.fromhex(row.hex(side))
        if not (leaf < item if side == "left" else item < leaf):
            raise Rejected(f"{row.path}.{side}: {leaf.hex()} does not stand {side} of {item.hex()}")
        require_inclusion(leaf, at, tree.size, _path(row, f"{side}Path"), root, f"{row.path}.{side}")
    return False


def _path(row: Node, key: str) -> list[bytes]:
    return [bytes.fromhex(text) for text in hexes(row, key, _DEEPEST)]
