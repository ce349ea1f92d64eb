"""What the issuer's builders write: the same as by hand, at every place of a tree, for every draw, in little time."""

import hashlib
import json
import time
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from fake_certificate import lines
from fake_evidence import Json, digest
from fake_provenance import (
    BEACON,
    REPLAY,
    Story,
    Told,
    commitment,
    exact,
    fewest,
    old_checkpoint,
    parts,
    still_there,
    tell,
    tree,
    unlike,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cu_certificates.check.chain_table import Beacon, drawn, enough_steps
from cu_certificates.check.manifests import found_by_neighbours, found_in_leaves
from cu_certificates.check.merkle import require_inclusion
from cu_certificates.check.strict import Rejected, parse
from cu_certificates.check.tables import rows as read_rows
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.merkle import MerkleTree
from cu_certificates.provenance import (
    Chain,
    Manifest,
    Part,
    Shard,
    Tree,
    absence,
    chain_part,
    commitments_part,
    draws,
    make_chain,
    read_chain,
    replay_part,
    steps_needed,
)

EXAMPLES = settings(deadline=None, max_examples=60)


def as_chain(told: Json, previous: Chain | None) -> Chain:
    shards = [
        Shard(
            Tree(shard["manifest"]["root"], shard["manifest"]["size"]),
            shard["code"],
            shard["config"],
            shard["seed"],
            tuple(shard["checkpoints"]),
        )
        for shard in told["shards"]
    ]
    request = None if told["request"] is None else Tree(told["request"]["root"], told["request"]["size"])
    return make_chain(shards, model=told["model"], request=request, previous=previous)


def nothing_left(told: Told) -> None:
    """A request for all that there is."""
    told.manifests = [[], []]
    for number in (0, 1):
        told.current["shards"][number]["manifest"] = tree([])
    told.outcomes["chain"] = "broken"  # the request has fewer records than went


def built(story: Story) -> tuple[list[Part], dict[str, list[Json]], list[Json]]:
    """The same story by the issuer's builders, and by hand."""
    told = tell(story)
    story.edit(told)
    earlier = None if told.earlier is None else as_chain(told.earlier, None)
    chain = as_chain(told.current, earlier)
    manifests, items = [Manifest(leaves) for leaves in told.manifests], Manifest(told.items)
    wanted = story.replay or REPLAY
    q, alpha = Fraction(wanted["q"]), Fraction(wanted["alpha"])
    beacon = Beacon(**BEACON)
    made = [told.replayed(draw.shard, draw.slice, draw.expected) for draw in draws(chain, beacon, q=q, alpha=alpha)]
    yes = story.guarantee == "exact"
    form: Any = story.form
    return (
        [
            commitments_part(items),
            chain_part(chain, earlier, affected=told.affected, model=digest("file"), level=story.level, exact=yes),
            absence(manifests, items, form=form, exact=yes),
            replay_part(chain, beacon, made, q=q, alpha=alpha, exact=yes),
        ],
        *parts(story, told),
    )


@pytest.mark.parametrize("form", ["leaves", "neighbours"])
@pytest.mark.parametrize(
    "story",
    [
        Story(),
        Story(first=True, shards=3),
        Story(shards=1, slices=30),
        Story(shards=55, replay=REPLAY),
        Story(edit=nothing_left, shards=2),
        Story(edit=still_there),
        Story(edit=unlike),
        Story(edit=old_checkpoint),
        Story(guarantee="none", level="EMPIRICAL"),
    ],
    ids=["usual", "first", "one shard", "empty shards", "nothing left", "present", "mismatched", "broken", "informs"],
)
def test_builders_write_what_is_written_by_hand(story: Story, form: str) -> None:
    found, rows, claims = built(replace(story, form=form))
    assert [dict(part.claim) for part in found] == claims
    for part in found:
        name = part.evidence[0]
        assert [json.loads(line) for line in part.data.splitlines()] == rows[name], name
        assert part.data == lines(rows[name])
        assert part.evidence[2] == f"evidence/{name}.jsonl"


def test_the_assumptions_that_builders_name_are_those_that_the_checker_demands() -> None:
    for form in ("leaves", "neighbours"):
        story = Story(form=form, replay=REPLAY)
        needed = {name for part in built(story)[0] for name in part.assumptions}
        for name in sorted(needed):
            found = exact(story)
            found.predicate["assumptions"].remove(name)
            refused = [c.detail for c in found.check().claims if c.type in ("chain", "absent", "replay", "receipt")]
            assert any(f"rests on {name}, which" in detail for detail in refused), name
        found = exact(story)
        found.predicate["assumptions"] = [*(f"A{number}" for number in range(1, 12)), *sorted(needed - {"A3", "A4"})]
        assert not found.check().rejected


def test_a_chain_goes_on_from_the_file_of_the_certificate_before() -> None:
    first = built(Story(first=True))[0][1]
    chain = read_chain(first.data)
    assert chain.head == first.claim["head"]
    told = tell(Story())
    request = Tree(told.current["request"]["root"], told.current["request"]["size"])
    shards = [*chain.shards[:3], replace(chain.shards[3], manifest=Tree(digest("x"), 12), checkpoints=("0" * 64,) * 2)]
    following = make_chain(shards, model=digest("next file"), request=request, previous=chain)
    part = chain_part(following, chain, affected=[3], model=digest("next file"), level="EXACT_BITWISE")
    assert (part.claim["outcome"], part.claim["removed"], part.claim["earlier"]) == ("consistent", 1, chain.head)
    assert read_chain(part.data) == following
    with pytest.raises(UntrustedError, match="its states are not the hashes of its records"):
        read_chain(first.data.replace(digest("code").encode(), digest("other code").encode(), 1))
    with pytest.raises(UntrustedError, match="no newline"):
        read_chain(first.data[:-1])


def test_builders_refuse_what_no_training_has() -> None:
    shard = Shard(Tree("0" * 64, 3), *["1" * 64] * 3, ("2" * 64,))
    for call, message in (
        (lambda: Manifest([b"short"]), "not 32 bytes"),
        (lambda: Manifest([bytes(32), bytes(32)]), "two commitments are equal"),
        (lambda: make_chain([], model="1" * 64, request=None), "0 shards"),
        (lambda: make_chain([shard] * 4097, model="1" * 64, request=None), "4097 shards"),
        (lambda: make_chain([replace(shard, seed="seed")], model="1" * 64, request=None), "shard 0 names 'seed'"),
        (lambda: make_chain([replace(shard, checkpoints=())], model="1" * 64, request=None), "no checkpoint"),
        (lambda: chain_part(make_chain([shard], model="1" * 64, request=None), None, affected=[0], model="", level=""),
         "answers no request"),
        (lambda: replay_part(make_chain([shard], model="1" * 64, request=None), Beacon(**BEACON), [],
                             q=Fraction(1, 2), alpha=Fraction(1, 2)), "0 digests; 1 steps were drawn"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            call()
    for change, message in (
        ({"source": ""}, "0 characters"), ({"source": "x" * 81}, "81 characters"), ({"value": "ab"}, "64 lower-case"),
        ({"source": "reader"}, "a reader's nonce has none"), ({"round": None}, "a public beacon has one"),
    ):  # fmt: skip
        with pytest.raises(Rejected, match=message):
            Beacon(**(BEACON | change))


# --- Absence at every place ------------------------------------------------------------------------------------------


def leaf(number: int) -> bytes:
    return bytes([number]) * 32


@EXAMPLES
@given(st.sets(st.integers(0, 40), max_size=20), st.sets(st.integers(0, 40), min_size=1, max_size=6), st.booleans())
def test_both_forms_find_exactly_what_is_there(records: set[int], asked: set[int], neighbours: bool) -> None:
    """Left of the first leaf, right of the last, between any two, in an empty tree, and in the tree."""
    manifests = [Manifest(map(leaf, records)), Manifest([]), Manifest([leaf(7)])]
    items = Manifest(map(leaf, asked))
    part = absence(manifests, items, form="neighbours" if neighbours else "leaves")
    look = found_by_neighbours if neighbours else found_in_leaves
    found = look(read_rows(part.data, "x"), "x", [m.tree for m in manifests], items.leaves)
    assert found == {leaf(number) for number in asked & (records | {7})}
    assert part.claim["present"] == len(found)


def test_an_unsorted_tree_hides_a_record_from_neighbours_and_not_from_the_whole_list() -> None:
    """What A15 is for: with one leaf out of order, its own place lies between two others."""
    hidden = sorted(commitment(9, number) for number in range(8))
    asked, moved = hidden[5], [hidden[5], *hidden[:5], *hidden[6:]]
    proofs = MerkleTree(moved)
    named = Tree(proofs.root.hex(), 8)
    row = {
        "kind": "absent", "tree": 0, "item": asked.hex(), "place": 6,
        "left": moved[5].hex(), "leftPath": [entry.hex() for entry in proofs.inclusion(5)],
        "right": moved[6].hex(), "rightPath": [entry.hex() for entry in proofs.inclusion(6)],
    }  # fmt: skip
    assert found_by_neighbours(read_rows(lines([row]), "x"), "x", [named], [asked]) == set()
    whole = lines([{"kind": "leaves", "tree": 0, "first": 0, "leaves": [entry.hex() for entry in moved]}])
    with pytest.raises(Rejected, match="not in rising order"):
        found_in_leaves(read_rows(whole, "x"), "x", [named], [asked])


def test_no_stated_size_makes_two_leaves_neighbours_that_are_not() -> None:
    """A root does not tell the size of its tree; whatever size is stated, what passes as adjacent is adjacent."""
    for size in range(1, 18):
        tree, leaves = MerkleTree([leaf(number) for number in range(size)]), [leaf(number) for number in range(size)]
        for stated in range(1, 40):
            passing: list[list[int]] = []
            for place in range(stated):
                passing.append([])
                for true, content in enumerate(leaves):
                    try:
                        require_inclusion(content, place, stated, tree.inclusion(true), tree.root)
                    except Rejected:
                        continue
                    passing[-1].append(true)
            assert set(passing[0]) <= {0}
            assert set(passing[-1]) <= {size - 1}
            for before, after in pairwise(passing):
                assert all(second == first + 1 for first in before for second in after)


# --- The draw --------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(
    st.integers(1, 400), st.fractions(Fraction(1, 200), Fraction(1, 2)), st.fractions(Fraction(1, 50), Fraction(1, 2))
)
def test_the_number_of_steps_is_the_smallest_and_never_more_than_the_page_asks(
    steps: int, q: Fraction, alpha: Fraction
) -> None:
    """The design page asks for (1 - q)^K <= alpha; drawing without replacement never needs more."""
    needed = steps_needed(steps, q, alpha)
    assert needed == fewest(steps, q, alpha)
    page = next((k for k in range(1, steps + 1) if (1 - q) ** k <= alpha), None)
    assert page is None or enough_steps(steps, page, q, alpha)
    assert all(enough_steps(steps, count, q, alpha) is (count >= needed) for count in range(1, steps + 1))


def test_a_draw_is_uniform_distinct_and_fixed_by_head_and_beacon() -> None:
    beacon = Beacon(**BEACON)
    pairs = {drawn(digest(number), beacon, 5, 2) for number in range(1500)}
    assert len(pairs) == 20  # every ordered pair of two of five comes up
    counts = [0] * 5
    for number in range(5000):
        first, second = drawn(digest("even", number), beacon, 5, 2)
        assert first != second
        counts[first] += 1
        counts[second] += 1
    # 2000 expected each with a standard deviation of 35; the coins are fixed, so this cannot fail by chance.
    assert max(abs(count - 2000) for count in counts) < 150
    whole = drawn(digest("h"), beacon, 50, 50)
    assert sorted(whole) == list(range(50))
    assert drawn(digest("h"), beacon, 50, 20) == whole[:20]
    others = [
        drawn(digest("g"), beacon, 50, 50),
        drawn(digest("h"), replace(beacon, round=1), 50, 50),
        drawn(digest("h"), replace(beacon, value=digest("v")), 50, 50),
        drawn(digest("h"), replace(beacon, source="another"), 50, 50),
    ]
    assert len({whole, *others}) == 5


# --- Time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["leaves", "neighbours"])
def test_fifty_proofs_of_absence_over_twenty_thousand_leaves(form: Any) -> None:
    manifests = [Manifest(hashlib.sha256(b"%d" % number).digest() for number in range(20_000))]
    items = Manifest(hashlib.sha256(b"x%d" % number).digest() for number in range(50))
    part = absence(manifests, items, form=form)
    start = time.process_time()
    lines_ = read_rows(part.data, "x")
    look = found_by_neighbours if form == "neighbours" else found_in_leaves
    assert look(lines_, "x", [manifests[0].tree], items.leaves) == set()
    needed = time.process_time() - start
    assert needed < 3, f"{needed:.2f} s"
    assert parse(part.data.splitlines()[0], "x")["tree"] == 0
