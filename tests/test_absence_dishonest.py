"""A prover who wants commitments to be absent from manifests that hold them, or shows nothing at all."""

import re
from collections.abc import Callable

import pytest
from fake_evidence import Json, digest
from fake_provenance import Told, exact, rewritten, said

Change = Callable[[list[Json]], object]


LEAVES: list[tuple[str, Change, str]] = [
    ("a leaf dropped", lambda r: r[0]["leaves"].pop(), "tree 0: 10 leaves; the tree has 11"),
    ("a leaf added", lambda r: r[3]["leaves"].append("f" * 64), "tree 3: 14 leaves; the tree has 13"),
    ("a leaf exchanged", lambda r: r[0]["leaves"].__setitem__(-1, "f" * 64), "have the root .*; expected"),
    ("leaves out of order", lambda r: r[0]["leaves"].reverse(), "not in rising order"),
    ("a leaf twice", lambda r: r[0]["leaves"].__setitem__(1, r[0]["leaves"][0]), "not in rising order"),
    ("a tree left out", lambda r: r.pop(2), "tree 2: 0 leaves"),
    ("a tree too many", lambda r: r.append(r[0] | {"tree": 4}), "tree 4; the claim names 4 trees"),
    ("trees out of order", lambda r: r.reverse(), "tree 0: 0 leaves"),
    ("a line that begins elsewhere", lambda r: r[0].update(first=1), "expected a whole number from 0 to 0"),
    ("too many leaves on a line", lambda r: r[0].update(leaves=["0" * 64] * 257), "257 digests; expected at most 256"),
    ("another kind of line", lambda r: r[0].update(kind="absent"), "expected leaves"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), [r[1:] for r in LEAVES], ids=[r[0] for r in LEAVES])
def test_whole_trees_that_are_refused(change: Change, expected: str) -> None:
    found = said(rewritten(exact(), "absent", change))
    assert re.match(f"rejected: c-absent: .*{expected}", found), found


def inner(rows: list[Json]) -> Json:
    """A line whose item lies between two leaves."""
    return next(one for one in rows if one["left"] is not None and one["right"] is not None)


def outermost(rows: list[Json], side: str) -> Json:
    return next(one for one in rows if one[side] is None)


NEIGHBOURS: list[tuple[str, Change, str]] = [
    ("an item dropped", lambda r: r.pop(), "54 lines; expected 5 items in each of 11 trees"),
    ("an item twice", lambda r: r.__setitem__(1, r[0]), "expected the request's next commitment"),
    ("an item of another tree", lambda r: r.__setitem__(0, r[5]), "expected a whole number from 0 to 0"),
    ("another item", lambda r: inner(r).update(item="0" * 64), "expected the request's next commitment"),
    ("another place", lambda r: inner(r).update(place=inner(r)["place"] - 1), "leads to|ends|goes on|expected null"),
    ("neighbours exchanged", lambda r: exchange(inner(r)), "does not stand left of"),
    ("the same leaf on both sides", lambda r: inner(r).update(right=inner(r)["left"]), "does not stand right of"),
    ("another neighbour", lambda r: inner(r).update(left="0" * 64), "leads to"),
    ("the end where it is not", lambda r: inner(r).update(right=None, rightPath=[]), "right: None; expected"),
    ("a leaf beyond the end", lambda r: outermost(r, "right").update(right="f" * 64), "the tree ends there"),
    ("a path beyond the end", lambda r: outermost(r, "left").update(leftPath=["f" * 64]), "the tree ends there"),
    ("a path that is too long", lambda r: inner(r).update(leftPath=["0" * 64] * 100), "100 digests; expected at most"),
    ("a path that is cut", lambda r: inner(r)["leftPath"].pop(), "ends below the root"),
    ("present without a path", lambda r: inner(r).update(kind="present"), "path: missing"),
    ("present by a neighbour's path", lambda r: pose(inner(r)), "leads to"),
    ("another kind of line", lambda r: inner(r).update(kind="leaves"), "expected absent or present"),
]  # fmt: skip


def exchange(one: Json) -> None:
    one["left"], one["right"] = one["right"], one["left"]


def pose(one: Json) -> None:
    one.update(kind="present", path=one["rightPath"])


@pytest.mark.parametrize(("change", "expected"), [r[1:] for r in NEIGHBOURS], ids=[r[0] for r in NEIGHBOURS])
def test_neighbours_that_are_refused(change: Change, expected: str) -> None:
    found = said(rewritten(exact(form="neighbours", shards=11), "absent", change))
    assert re.match(f"rejected: c-absent: .*({expected})", found), found


def test_an_empty_manifest_has_the_empty_root() -> None:
    def edit(told: Told) -> None:
        told.manifests[3] = []
        told.current["shards"][3]["manifest"] = {"root": digest("any"), "size": 0}

    found = exact(edit=edit, form="neighbours", claims=("absent",))
    found.claim("c-absent")["trees"][3]["root"] = digest("any")
    assert "a tree without leaves has the root e3b0c44298fc" in said(found)
