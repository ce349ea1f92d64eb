"""The public face of a request: Merkle roots, commitments that open one by one, nothing that links two requests."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cu_certificates.errors import UsageError
from cu_certificates.request import SCHEME, canonical_id, commit, commitment, merkle_root, opening

KEY, OTHER = bytes(32), bytes([7]) * 32
IDS = [f"person-{number}@example" for number in range(11)]
EXAMPLES = settings(deadline=None, max_examples=80)

# The test vectors of the Certificate Transparency reference implementation, on which RFC 9162 (and RFC 6962) rest.
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(9))
def test_the_root_is_that_of_rfc_9162(size: int) -> None:
    assert merkle_root(LEAVES[:size]).hex() == ROOTS[size]


def by_levels(leaves: Sequence[bytes]) -> bytes:
    """The same tree built from below: pair neighbours, carry an odd one up unchanged."""
    level = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        paired = [hashlib.sha256(b"\1" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(level) - len(level) % 2 :]
    return level[0]


@EXAMPLES
@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70))
def test_the_root_agrees_with_a_second_construction(leaves: list[bytes]) -> None:
    assert merkle_root(leaves) == by_levels(leaves)


def test_leaves_and_inner_nodes_cannot_pose_as_each_other() -> None:
    inner = b"".join(hashlib.sha256(b"\0" + leaf).digest() for leaf in (b"a", b"b"))
    assert merkle_root([b"a", b"b"]) != merkle_root([inner])


@EXAMPLES
@given(st.permutations(IDS))
def test_the_commitment_does_not_depend_on_order(ids: list[str]) -> None:
    assert commit(ids, KEY) == commit(IDS, KEY)


def test_the_documented_derivation() -> None:
    import hmac

    tag = b"str:" + b"caf\xc3\xa9"
    assert canonical_id("  cafe\u0301 ") == canonical_id("caf\u00e9") == tag
    opened = hmac.new(KEY, b"cu-cert/forget/v1/opening\0" + tag, hashlib.sha256).digest()
    assert opening(KEY, "caf\u00e9") == opened
    assert commitment(opened, "caf\u00e9") == hashlib.sha256(b"cu-cert/forget/v1\0" + opened + tag).digest()


def test_every_opening_rebuilds_the_root() -> None:
    found = commit(IDS, KEY)
    leaves = sorted(commitment(opening(KEY, name), name) for name in IDS)
    assert found.root == merkle_root(leaves).hex()
    assert found.size == len(IDS)
    # An opening fits its own id alone.
    assert commitment(opening(KEY, IDS[0]), IDS[1]) not in leaves
    assert len({opening(KEY, name) for name in IDS}) == len(IDS)


def test_two_requests_with_two_keys_have_nothing_in_common() -> None:
    first, second = ({commitment(opening(key, name), name) for name in IDS} for key in (KEY, OTHER))
    assert not first & second
    assert commit(IDS, KEY).root != commit(IDS, OTHER).root


def test_the_root_names_exactly_these_ids() -> None:
    roots = {commit(IDS[:size], KEY).root for size in range(1, len(IDS) + 1)}
    assert len(roots) == len(IDS)


def test_the_predicate_shows_no_id() -> None:
    shown = commit(IDS, KEY, allowed_missing=2).to_predicate()
    assert shown == {
        "scenario": "sample",
        "commitment": {"scheme": SCHEME, "root": commit(IDS, KEY).root, "size": 11},
        "allowedMissing": 2,
    }


@pytest.mark.parametrize(
    ("ids", "key", "message"),
    [
        (IDS, b"short", "5 bytes; expected 32"),
        ([], KEY, "no ids"),
        (["a", "a"], KEY, "two ids are equal"),
        (["caf\u00e9", "cafe\u0301 "], KEY, "two ids are equal after Unicode normalisation"),
    ],
)
def test_what_cannot_be_committed_to(ids: list[str], key: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        commit(ids, key)
