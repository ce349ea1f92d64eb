"""Merkle trees: roots and proofs against the RFC's own recursion and pymerkle, and every way to lie about them."""

import time
from collections.abc import Callable

import naive_merkle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cu_certificates.check.merkle import leaf_hash, merkle_root, node_hash, require_consistency, require_inclusion
from cu_certificates.check.strict import Rejected
from cu_certificates.errors import UsageError
from cu_certificates.merkle import MerkleTree

EXAMPLES = settings(deadline=None, max_examples=60)


def leaves_of(size: int) -> list[bytes]:
    return [number.to_bytes(2) + b"leaf" * (number % 3) for number in range(size)]


def holds(check: Callable[..., None], *arguments: object) -> bool:
    try:
        check(*arguments)
    except Rejected:
        return False
    return True


@pytest.mark.parametrize("size", range(71))
def test_roots_and_all_proofs_are_those_of_the_rfc(size: int) -> None:
    leaves = leaves_of(size)
    tree, root = MerkleTree(leaves), naive_merkle.root(leaves)
    assert tree.root == merkle_root(leaves) == root
    assert tree.size == size
    for place in range(size):
        path = naive_merkle.path(place, leaves)
        assert tree.inclusion(place) == path
        require_inclusion(leaves[place], place, size, path, root)
    for first in range(size + 1):
        path = naive_merkle.proof(first, leaves) if first else []
        assert tree.consistency(first) == path
        require_consistency(first, naive_merkle.root(leaves[:first]), size, root, path)


def test_a_tree_of_a_thousand_leaves() -> None:
    leaves = leaves_of(1000)
    tree, root = MerkleTree(leaves), naive_merkle.root(leaves)
    assert tree.root == root
    for place in range(1000):
        require_inclusion(leaves[place], place, 1000, tree.inclusion(place), root)
    for place in (0, 1, 511, 512, 767, 768, 998, 999):
        assert tree.inclusion(place) == naive_merkle.path(place, leaves)
    for first in (1, 2, 511, 512, 513, 999, 1000):
        assert tree.consistency(first) == naive_merkle.proof(first, leaves)
        require_consistency(first, naive_merkle.root(leaves[:first]), 1000, root, tree.consistency(first))


def test_pymerkle_has_the_same_roots_and_paths() -> None:
    # Under the GPL, so no dependency of ours; whoever installs it by hand gets a third opinion.
    pymerkle = pytest.importorskip("pymerkle", reason="pymerkle 7 is not installed")
    for size in (*range(1, 36), 100):
        leaves = leaves_of(size)
        tree, other = MerkleTree(leaves), pymerkle.InmemoryTree.init_from_entries(leaves, algorithm="sha256")
        assert tree.root == other.get_root()
        for place in range(size):
            assert [leaf_hash(leaves[place]), *tree.inclusion(place)] == other.prove_inclusion(place + 1, size).path


def test_the_size_of_proofs_and_the_time_for_twenty_thousand_leaves() -> None:
    leaves = [number.to_bytes(32) for number in range(20_000)]
    start = time.process_time()
    tree = MerkleTree(leaves)
    paths = [tree.inclusion(place) for place in range(20_000)]
    needed = time.process_time() - start
    assert max(map(len, paths)) == 15
    assert max(len(tree.consistency(first)) for first in range(1, 20_000, 37)) <= 16
    assert needed < 5, f"{needed:.2f} s"  # 0.05 s where it was written


# --- What is refused -------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.integers(1, 70), st.data())
def test_a_changed_leaf_place_path_or_root_is_refused(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    tree = MerkleTree(leaves)
    place = data.draw(st.integers(0, size - 1))
    leaf, path, root = leaves[place], tree.inclusion(place), tree.root
    other = bytes([root[0] ^ 1]) + root[1:]
    assert not holds(require_inclusion, leaf + b"x", place, size, path, root)
    assert not holds(require_inclusion, leaf, place, size, path, other)
    assert not holds(require_inclusion, leaf, place, size, [*path, root], root)
    for wrong in set(range(size + 1)) - {place}:
        assert not holds(require_inclusion, leaf, wrong, size, path, root)
    for number, entry in enumerate(path):
        changed = bytes([entry[0] ^ 128]) + entry[1:]
        assert not holds(require_inclusion, leaf, place, size, [*path[:number], changed, *path[number + 1 :]], root)
        assert not holds(require_inclusion, leaf, place, size, [*path[:number], *path[number + 1 :]], root)
        assert not holds(require_inclusion, leaf, place, size, [*path[:number], entry[:31], *path[number + 1 :]], root)
    if len(path) > 1:
        assert not holds(require_inclusion, leaf, place, size, path[::-1], root)


@EXAMPLES
@given(st.integers(2, 70), st.data())
def test_an_earlier_tree_with_another_leaf_is_refused(size: int, data: st.DataObject) -> None:
    """A log that changed, moved or dropped an old leaf cannot prove that it only grew."""
    leaves = leaves_of(size)
    first = data.draw(st.integers(1, size - 1))
    place = data.draw(st.integers(0, first - 1))
    before, tree = MerkleTree(leaves[:first]), MerkleTree(leaves)
    path = tree.consistency(first)
    dropped = leaves[:place] + leaves[place + 1 :]
    for changed in ([*leaves[:place], b"another", *leaves[place + 1 :]], [*dropped, b"new"]):
        later = MerkleTree(changed)
        for proof in (path, later.consistency(first)):
            assert not holds(require_consistency, first, before.root, size, later.root, proof)
    assert not holds(require_consistency, first, before.root, size, tree.root, [*path, tree.root])
    assert not holds(require_consistency, first, before.root, size, tree.root, path[:-1])
    assert not holds(require_consistency, first, tree.root, size, before.root, path)
    assert not holds(require_consistency, first, tree.root, size, tree.root, path)
    assert not holds(require_consistency, size, tree.root, first, before.root, path)
    for number, entry in enumerate(path):
        changed_path = [*path[:number], bytes([entry[0] ^ 1]) + entry[1:], *path[number + 1 :]]
        assert not holds(require_consistency, first, before.root, size, tree.root, changed_path)


def test_an_inner_node_cannot_pose_as_a_leaf() -> None:
    """A leaf whose bytes are two hashes would have the hash of the node above them, were it not for the prefixes."""
    leaves = [b"a", b"b", b"c", b"d"]
    tree = MerkleTree(leaves)
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert not holds(require_inclusion, left + right, 0, 2, [node_hash(leaf_hash(b"c"), leaf_hash(b"d"))], tree.root)
    assert not holds(require_inclusion, left + right, 0, 3, tree.inclusion(0)[1:], tree.root)
    assert MerkleTree([left + right]).root != MerkleTree([b"a", b"b"]).root
    assert merkle_root([b""]) != merkle_root([])


def test_special_sizes() -> None:
    empty, one = merkle_root([]), merkle_root([b"x"])
    require_inclusion(b"x", 0, 1, [], one)
    require_consistency(0, empty, 0, empty, [])
    require_consistency(0, empty, 1, one, [])
    assert not holds(require_inclusion, b"x", 0, 0, [], empty)
    assert not holds(require_inclusion, b"", 0, 0, [], empty)
    assert not holds(require_consistency, 0, one, 1, one, [])
    assert not holds(require_consistency, 1, one, 1, empty, [])
    assert not holds(require_consistency, 1, one, 1, one, [one])
    assert not holds(require_consistency, 1, one, 2, merkle_root([b"x", b"y"]), [])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: require_inclusion(b"x", 0, 2**53, [], bytes(32)), "a tree of 9007199254740992 leaves"),
        (lambda: require_inclusion(b"x", 0, 8, [bytes(32)] * 100_000, bytes(32)), "has at most 5"),
        (lambda: require_inclusion(b"x", 0, 8, [bytes(31)] * 3, bytes(32)), "not 32 bytes long"),
        (lambda: require_inclusion(b"x", 8, 8, [], bytes(32)), "leaf 8 of a tree of 8 leaves; expected 0 to 7"),
        (lambda: require_inclusion(b"x", -1, 8, [], bytes(32)), "leaf -1"),
        (lambda: require_inclusion(b"x", 0, 8, [bytes(32)] * 2, bytes(32)), "ends below the root"),
        (lambda: require_inclusion(b"x", 0, 8, [bytes(32)] * 4, bytes(32)), "goes on above the root"),
        (lambda: require_inclusion(b"x", 0, 8, [bytes(32)] * 3, bytes(32)), "leaf 0 leads to"),
        (lambda: require_consistency(3, bytes(32), 2, bytes(32), []), "cannot begin one of 2"),
        (lambda: require_consistency(3, bytes(32), 8, bytes(32), []), "no hashes; expected some"),
        (lambda: require_consistency(3, bytes(32), 8, bytes(32), [bytes(32)] * 4), "the earlier root"),
        (lambda: require_consistency(4, bytes(32), 8, bytes(32), [bytes(32)]), "changed, moved or removed"),
        (lambda: require_consistency(4, bytes(32), 8, bytes(32), [bytes(32)] * 2), "goes on above"),
        (lambda: require_consistency(3, bytes(32), 8, bytes(32), [bytes(32)] * 3), "ends below"),
        (lambda: require_consistency(3, bytes(32), 8, bytes(32), [bytes(32)] * 9), "has at most 5"),
    ],
)
def test_refusals_say_what_is_wrong(call: Callable[[], None], message: str) -> None:
    with pytest.raises(Rejected, match=message):
        call()


def test_whoever_has_the_leaves_asks_only_for_proofs_that_there_are() -> None:
    tree = MerkleTree([b"a", b"b"])
    for call in (lambda: tree.inclusion(2), lambda: tree.inclusion(-1), lambda: MerkleTree([]).inclusion(0)):
        with pytest.raises(UsageError, match="no leaf"):
            call()
    with pytest.raises(UsageError, match="3 leaves; expected 0 to 2"):
        tree.consistency(3)
