"""What the checker makes of a padded size and of a receipt as a claim."""

import re

import pytest
from fake_certificate import Fake, Json, fake
from fake_evidence import Knobs

from cu_certificates.check.request import Request
from cu_certificates.check.strict import Rejected
from cu_certificates.merkle import MerkleTree
from cu_certificates.request import leaves_of

KEY, IDS = bytes(range(32)), [f"person-{number}" for number in range(7)]


def with_range(padded: object, size: int = 5) -> Fake:
    def edit(plan: Json) -> None:
        plan["request"] = {**plan["request"], "size": size, "padded": padded}

    found = fake(Knobs(edit_plan=edit))
    found.drop("c-utility-request")
    return found


def test_the_checker_accepts_a_padded_size_and_keeps_its_rules() -> None:
    found = with_range({"from": 2, "to": 5})
    assert found.check().rejected == ()
    assert found.state().check().derived == found.predicate["verdict"]["value"]
    # On the request itself there is no accuracy then: an exact number of rows would say how many there are.
    stated = fake(Knobs(edit_plan=lambda plan: plan["request"].update(padded={"from": 2, "to": 5}))).check()
    assert [claim.id for claim in stated.rejected] == ["c-utility-request"]
    # The number of retained records is what the stated size leaves, no more and no fewer.
    found.predicate["scope"]["data"]["trained"] += 1
    assert [claim.id for claim in found.check().rejected] == ["c-utility-retained"]


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"from": 0, "to": 5}, "expected a whole number from 1"),
        ({"from": 6, "to": 5}, "to = size = 5"),
        ({"from": 1, "to": 6}, "to = size = 5"),
        ({"from": 1}, r"to = size = 5|\.to: missing"),
        ({"from": 1, "to": 5, "exactly": 3}, "to = size = 5"),
        (True, "bool; expected an object"),
    ],
)
def test_a_range_that_is_none_is_rejected(stated: object, message: str) -> None:
    found = with_range(stated)
    rejected = found.check().rejected
    assert rejected
    assert any(re.search(message, claim.detail) for claim in rejected)


def test_plan_and_certificate_must_state_the_same_range() -> None:
    for change in (
        lambda stated: stated.pop("padded"),
        lambda stated: stated.update(padded={"from": 1, "to": 5}),
    ):
        found = with_range({"from": 2, "to": 5})
        change(found.predicate["request"]["commitment"])
        assert any("padded: differs from plan.json" in claim.detail for claim in found.check().rejected)


def test_a_receipt_claim_is_checked_against_the_request() -> None:
    tree = MerkleTree(leaves := leaves_of(IDS, KEY, 16))
    knobs = Knobs(
        edit_plan=lambda plan: plan["request"].update(root=tree.root.hex(), size=16, padded={"from": 1, "to": 16})
    )
    found = fake(knobs)
    for identifier in ("c-utility-request", "c-utility-retained"):
        found.drop(identifier)
    claim = {
        "id": "r-1",
        "type": "receipt",
        "commitment": leaves[3].hex(),
        "index": 3,
        "path": [entry.hex() for entry in tree.inclusion(3)],
    }
    found.predicate["claims"].append(claim)
    result = {one.id: one for one in found.check().claims}["r-1"]
    assert (result.status, "commitment 4 of 16 is in the request" in result.detail) == ("assumed", True)
    for change, message in (
        ({"index": 4}, "leads to"),
        ({"commitment": "00" * 32}, "leads to"),
        ({"path": ["x"]}, "64 lower-case"),
        ({"index": 16}, "leaf 16 of a tree of 16"),
    ):
        other = found.copy()
        other.claim("r-1").update(change)
        (rejected,) = other.check().rejected
        assert message in rejected.detail
    twice = found.copy()
    twice.predicate["claims"].append({**claim, "id": "r-2"})
    assert [one.id for one in twice.check().rejected] == ["r-2"]
    alone = found.copy()
    alone.predicate["assumptions"].remove("A4")
    assert "r-1" in [one.id for one in alone.check().rejected]


def test_the_rejection_class_is_the_checkers_own() -> None:
    with pytest.raises(Rejected, match="root of 1 bytes"):
        Request(root=b"x", size=1)
    with pytest.raises(Rejected, match="expected an ascending range"):
        Request(root=bytes(32), size=1, least=2)
