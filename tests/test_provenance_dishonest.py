"""A prover who wants EXACT_BY_PROVENANCE without having retrained, and writes everything consistently."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from fake_certificate import Fake
from fake_evidence import Json, digest
from fake_provenance import REPLAY, Told, commitment, exact, rewritten, row, said, tree

from cu_certificates.check.strict import Rejected, canonical

Edit = Callable[[Told], object]
Change = Callable[[list[Json]], object]


# --- Findings: stated honestly they refute, stated otherwise the claim is refused ------------------------------------


def sharing(told: Told) -> None:
    told.current["shards"][1]["checkpoints"][-1] = told.current["shards"][0]["checkpoints"][-1]


def unlisted(told: Told) -> None:
    told.affected = [0]


def still_in_an_untouched_shard(told: Told) -> None:
    """Shard 1 keeps a record of the request, its old checkpoint and its place off the list."""
    assert told.earlier is not None
    told.affected = [0]
    told.manifests[1] = sorted([commitment(1, 1), commitment(1, 3), *told.manifests[1]])
    told.current["shards"][1] = told.earlier["shards"][1] | {"manifest": tree(told.manifests[1])}


def grown(told: Told) -> None:
    told.manifests[0] = sorted([*told.manifests[0], *(bytes([number]) * 32 for number in range(9))])
    told.current["shards"][0]["manifest"] = tree(told.manifests[0])


def more_gone_than_asked(told: Told) -> None:
    told.manifests[0] = told.manifests[0][5:]
    told.current["shards"][0]["manifest"] = tree(told.manifests[0])


def records(which: str, shard: int, key: str) -> Edit:
    def edit(told: Told) -> None:
        chain = told.current if which == "current" else told.earlier
        assert chain is not None
        chain["shards"][shard][key] = digest("changed")

    return edit


def old_checkpoint(told: Told) -> None:
    assert told.earlier is not None
    told.current["shards"][1]["checkpoints"][-1] = told.earlier["shards"][0]["checkpoints"][0]


def emptied(told: Told) -> None:
    """A shard that is said to have lost all its records, with the checkpoint that it had before."""
    assert told.earlier is not None
    told.manifests[0] = []
    told.current["shards"][0] |= {"manifest": tree([]), "checkpoints": told.earlier["shards"][0]["checkpoints"]}


def earlier_model(told: Told) -> None:
    assert told.earlier is not None
    told.earlier["model"] = told.current["model"]


def fewer_shards_before(told: Told) -> None:
    assert told.earlier is not None
    told.earlier["shards"].pop()


def more_slices(told: Told) -> None:
    told.current["shards"][0]["checkpoints"].insert(0, digest("a slice more"))


CHAIN: list[tuple[str, Edit, str]] = [
    ("a checkpoint of two shards", sharing, "shards 0 and 1 share a checkpoint"),
    ("an affected shard left off the list", unlisted, "shard 1 is said to be untouched, but its record changed"),
    ("no shard trained anew", lambda t: t.affected.clear(), "no shard was trained anew"),
    ("a shard that lost nothing", lambda t: t.affected.append(2), "shard 2 is said to have lost records: 14 became 14"),
    ("a shard that grew", grown, "shard 0 is said to have lost records: 14 became 20"),
    ("more gone than asked for", more_gone_than_asked, "10 records are gone; the request has 5"),
    ("a checkpoint from before", old_checkpoint, "shard 1 is said to have been trained anew, but its checkpoint is an"),
    ("an empty shard with its old checkpoint", emptied, "shard 0 is said to have been trained anew, but its check"),
    ("another program", records("current", 0, "code"), "shard 0 was trained anew by another program"),
    ("another configuration", records("current", 1, "config"), "shard 1 was trained anew by another program"),
    ("another seed", records("current", 0, "seed"), "shard 0 was trained anew from another seed"),
    ("another number of slices", more_slices, "shard 0 was trained anew by another program or configuration"),
    ("an untouched shard by another program", records("current", 2, "code"), "shard 2 is said to be untouched"),
    ("an untouched shard with another seed", records("earlier", 3, "seed"), "shard 3 is said to be untouched"),
    ("a state that is no hash", lambda t: t.states.update({("current", 2): "0" * 64}), "the state of shard 2 is not"),
    ("an earlier state that is no hash", lambda t: t.states.update({("earlier", 0): "0" * 64}), "the earlier chain"),
    ("the end in another model", lambda t: t.current.update(model=digest("x")), "ends in model .*, the audited one is"),
    ("the model of before", earlier_model, "the model is still the earlier one"),
    ("a chain that hangs in the air", lambda t: t.current.update(previous=digest("x")), "does not go on from the head"),
    ("fewer shards before", fewer_shards_before, "4 shards; the earlier chain has 3"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "expected"), [c[1:] for c in CHAIN], ids=[c[0] for c in CHAIN])
def test_a_chain_that_does_not_hold(edit: Edit, expected: str) -> None:
    hidden = said(exact(edit=edit))
    assert "c-chain: " in hidden
    assert "outcome: 'consistent'; expected broken" in hidden, hidden

    def honest(told: Told) -> None:
        edit(told)
        told.outcomes["chain"] = "broken"

    assert re.match(f"REFUTED: c-chain: .*{expected}", said(exact(edit=honest))), said(exact(edit=honest))


def test_what_is_no_fault() -> None:
    """A fresh seed where equality is stated in law; shards without records, which come out alike."""

    def fresh(told: Told) -> None:
        told.current["shards"][0]["seed"] = digest("fresh")

    assert said(exact(edit=fresh, level="EXACT_IN_LAW")).startswith("EXACT")

    def empty(told: Told) -> None:
        assert told.earlier is not None
        for chain in (told.earlier, told.current):
            for number in (2, 3):
                chain["shards"][number] |= {"manifest": tree([]), "checkpoints": [digest("nothing")] * 2}
        told.manifests[2] = told.manifests[3] = []

    for form in ("leaves", "neighbours"):
        assert said(exact(edit=empty, form=form)).startswith("EXACT")


def test_a_first_chain_has_no_untouched_shards() -> None:
    def edit(told: Told) -> None:
        told.affected = [0, 1]

    assert "expected broken" in said(exact(first=True, edit=edit))


@pytest.mark.parametrize("form", ["leaves", "neighbours"])
def test_a_record_that_stays_in_a_shard_that_nobody_listed(form: str) -> None:
    """The chain is consistent; only because every manifest is looked at does the record come to light."""
    hidden = said(exact(edit=still_in_an_untouched_shard, form=form))
    assert "c-absent: " in hidden
    assert "outcome: 'absent'; expected present" in hidden
    assert "c-chain" not in hidden

    def honest(told: Told) -> None:
        still_in_an_untouched_shard(told)
        told.outcomes["absent"] = "present"

    assert said(exact(edit=honest, form=form)).startswith("REFUTED: c-absent: commitments of the request that lie in")


def test_a_step_that_came_out_otherwise() -> None:
    def edit(told: Told) -> None:
        told.replayed = lambda shard, slice_, expected: digest("x") if (shard, slice_) == (3, 1) else expected

    assert "outcome: 'agreed'; expected mismatched" in said(exact(edit=edit))
    found = exact(edit=edit)
    found.claim("c-replay").update(agree=8)
    assert "c-replay: " in said(found)
    found = exact(edit=edit, replay=REPLAY)
    found.drop("c-replay")  # nothing is better than a replay that failed: but the plan asked for one
    assert said(found).startswith("INCONCLUSIVE: replay: planned, but no steps were run again")


# --- What is refused as it stands ------------------------------------------------------------------------------------


def other_tree(told: Told) -> None:
    told.manifests[0] = sorted(commitment(7, number) for number in range(11))


def exchanged_trees(told: Told) -> None:
    told.manifests.reverse()


STORIES: list[tuple[str, Edit, str]] = [
    ("absence from another tree", other_tree, "c-absent: .*not the manifests of the chain's 4 shards, in their order"),
    ("absence from fewer manifests", lambda t: t.manifests.pop(1), "not the manifests of the chain's 4 shards"),
    ("absence from more manifests", lambda t: t.manifests.append([commitment(8, 8)]), "not the manifests of the chain"),
    ("manifests in another order", exchanged_trees, "not the manifests of the chain's 4 shards, in their order"),
    ("the request of another certificate", lambda t: t.current.update(request=tree([commitment(9, 9)])),
     "c-chain: .*the chain answers Tree.*; the certificate's request is"),
    ("a chain that answers no request", lambda t: t.current.update(request=None), "the chain answers None"),
    ("a shard that is not there", lambda t: t.affected.append(4), "expected numbers of shards from 0 to 3"),
    ("shards out of order", lambda t: t.affected.reverse(), "expected rising numbers, each once"),
    ("a shard twice", lambda t: t.affected.append(1), "expected rising numbers, each once"),
    ("true for one", lambda t: t.affected.__setitem__(1, True), "expected numbers of shards"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "expected"), [s[1:] for s in STORIES], ids=[s[0] for s in STORIES])
def test_stories_that_are_refused(edit: Edit, expected: str) -> None:
    found = said(exact(edit=edit))
    assert found.startswith("rejected: "), found
    assert re.search(expected, found), found


ROWS: list[tuple[str, str, Change, str]] = [
    ("commitments", "an item dropped", lambda r: r.pop(), "4 lines; the request has 5 commitments"),
    ("commitments", "an item twice", lambda r: r.__setitem__(0, r[1]), "not in rising order, each once"),
    ("commitments", "another item", lambda r: r[4].update(leaf="f" * 64), "have the root .*; expected"),
    ("commitments", "items out of order", lambda r: r.reverse(), "not in rising order"),
    ("commitments", "another kind", lambda r: r[0].update(kind="leaf"), "expected commitment"),
    ("chain", "a shard twice", lambda r: r.append(row(r, kind="shard", chain="current")), "shard 0 stands twice"),
    ("chain", "two starts", lambda r: r.append(row(r, kind="start")), "start  stands twice"),
    ("chain", "no end", lambda r: r.remove(row(r, kind="end", chain="current")), "one start line and one end line"),
    ("chain", "a shard left out", lambda r: r.remove(row(r, kind="shard", shard=1)), "without a gap"),
    ("chain", "the last shard left out", lambda r: r.remove(row(r, kind="shard", shard=3)), "3 shards stand in the"),
    ("chain", "no shards", lambda r: r.__setitem__(slice(0, 6), [r[0], r[5]]), "without a gap"),
    ("chain", "the earlier chain left out", lambda r: r.__delitem__(slice(6, 12)), "exactly when the start line"),
    ("chain", "an earlier chain that nobody names", lambda r: r[0].update(previous=None), "exactly when the start"),
    ("chain", "a third chain", lambda r: r.append(r[0] | {"chain": "other"}), "expected current or earlier"),
    ("chain", "another kind", lambda r: r.append(r[1] | {"kind": "note"}), "expected start or shard or end"),
    ("chain", "no checkpoint", lambda r: r[1].update(checkpoints=[]), "none; expected the checkpoint after each slice"),
    ("chain", "a checkpoint in capitals", lambda r: r[1].update(checkpoints=["A" * 64]), "digests of 64 lower-case"),
    ("chain", "a manifest without a size", lambda r: r[1]["manifest"].pop("size"), "expected root and size"),
    ("chain", "a manifest with a name", lambda r: r[1]["manifest"].update(name="x"), "expected root and size"),
    ("chain", "too many lines", lambda r: r.extend([r[1]] * 8200), "expected at most 4096 shards"),
    ("chain", "too many checkpoints", lambda r: r[1].update(checkpoints=["0" * 64] * 65_536), "65542 checkpoints"),
    ("chain", "another head", lambda r: row(r, kind="end").update(head="0" * 64), "c-chain.*head"),
    ("replay", "a step left out", lambda r: r.pop(), "7 lines; expected the 8 steps that were drawn"),
    ("replay", "a step too many", lambda r: r.append(r[0]), "9 lines; expected the 8 steps"),
    ("replay", "steps in another order", lambda r: r.reverse(), "draw: 7; expected 0"),
    ("replay", "another step than the one drawn", lambda r: r[0].update(shard=(r[0]["shard"] + 1) % 4), "shard"),
    ("replay", "another expectation", lambda r: r[0].update(expected="0" * 64, replayed="0" * 64), "expected: '0"),
    ("replay", "a step without an outcome", lambda r: r[0].pop("replayed"), "replayed: missing"),
    ("replay", "a failed step", lambda r: r[0].update(replayed="failed"), "64 lower-case"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "expected"), [(r[0], *r[2:]) for r in ROWS], ids=[r[1] for r in ROWS])
def test_rows_that_are_refused(name: str, change: Change, expected: str) -> None:
    found = said(rewritten(exact(), name, change))
    assert found.startswith("rejected: "), found
    assert re.search(expected, found), found


# --- Claims ----------------------------------------------------------------------------------------------------------


def again(found: Fake, claim: str) -> None:
    found.predicate["claims"].append(found.claim(claim) | {"id": "again"})


CLAIMS: list[tuple[str, Callable[[Fake], object], str]] = [
    ("a chain twice", lambda f: again(f, "c-chain"), "says again what 'c-chain' says"),
    ("absence twice", lambda f: again(f, "c-absent"), "says again"),
    ("a replay twice", lambda f: again(f, "c-replay"), "says again"),
    ("a list twice", lambda f: again(f, "c-commitments"), "says again"),
    ("a chain that informs", lambda f: f.claim("c-chain").update(planned=False), "expected True for chain"),
    ("absence that informs", lambda f: f.claim("c-absent").update(planned=False), "expected True for absent"),
    ("a replay that informs", lambda f: f.claim("c-replay").update(planned=False), "expected True for replay"),
    ("absence from nothing", lambda f: f.claim("c-absent").update(trees=[]), "0 trees; expected 1 to 4096"),
    ("too many trees", lambda f: f.claim("c-absent").update(trees=f.claim("c-absent")["trees"] * 1025), "4100 trees"),
    ("fewer items", lambda f: f.claim("c-absent").update(items=4), "items: 4; expected 5"),
    ("the other form", lambda f: f.claim("c-absent").update(form="neighbours"), "4 lines; expected 5 items in each"),
    ("an unknown form", lambda f: f.claim("c-absent").update(form="hoped"), "expected leaves or neighbours"),
    ("fewer shards", lambda f: f.claim("c-chain").update(shards=3), "shards: 3; expected 4"),
    ("fewer records gone", lambda f: f.claim("c-chain").update(removed=4), "removed: 4; expected 5"),
    ("another head", lambda f: f.claim("c-chain").update(head="0" * 64), "head"),
    ("another chain before", lambda f: f.claim("c-chain").update(earlier=None), "earlier: None; expected"),
    ("scores as a chain", lambda f: f.claim("c-chain").update(evidence="slots"), "expected chain"),
    ("fewer steps run again", lambda f: f.claim("c-replay").update(replayed=7, agree=7), "too few to show that"),
    ("no steps run again", lambda f: f.claim("c-replay").update(replayed=0, agree=0), "from 1 to 8"),
    ("fewer steps in the chain", lambda f: f.claim("c-replay").update(steps=7), "steps: 7; expected 8"),
    ("a head of one's own", lambda f: f.claim("c-replay").update(head="0" * 64), "head"),
    ("a value that draws other steps", lambda f: f.claim("c-replay")["beacon"].update(value="0" * 64), "expected"),
    ("another round", lambda f: f.claim("c-replay")["beacon"].update(round=4243), "the plan differs"),
    ("another beacon", lambda f: f.claim("c-replay")["beacon"].update(source="dice"), "the plan differs"),
    ("a nonce with a round", lambda f: f.claim("c-replay")["beacon"].update(source="reader"), "nonce has none"),
    ("a beacon with a note", lambda f: f.claim("c-replay")["beacon"].update(note="x"), "expected source, round and va"),
    ("a larger q", lambda f: f.claim("c-replay").update(q="1/2"), "q: 1/2; the plan says 1/10"),
    ("a larger alpha", lambda f: f.claim("c-replay").update(alpha="1/2"), "alpha: 1/2; the plan says 1/20"),
    ("a q of nothing", lambda f: f.claim("c-replay").update(q="0"), "strictly between 0 and 1"),
    ("another root", lambda f: f.claim("c-commitments").update(root="0" * 64), "root"),
    ("another size", lambda f: f.claim("c-commitments").update(size=6), "size: 6; expected 5"),
    *((f"{name} left out", lambda f, name=name: f.predicate["assumptions"].remove(name), f"rests on {name}")
      for name in ("A3", "A4", "A5", "A6", "A14", "A16")),
    ("a basis without the replay", lambda f: f.state().predicate["verdict"]["basis"].pop(), "that decide are"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), [c[1:] for c in CLAIMS], ids=[c[0] for c in CLAIMS])
def test_claims_that_are_refused(change: Callable[[Fake], object], expected: str) -> None:
    found = exact(replay=REPLAY)
    assert said(found).startswith("EXACT_BY_PROVENANCE")
    change(found)
    told = said(found) if "basis" not in expected and "decide" not in expected else refused(found)
    assert re.search(expected, told), told
    assert not told.startswith("EXACT")


def refused(found: Fake) -> str:
    with pytest.raises(Rejected) as caught:
        found.check()
    return str(caught.value)


def test_sorted_leaves_are_assumed_of_neighbours_alone() -> None:
    for form, wanted in (("leaves", "EXACT"), ("neighbours", "rejected: c-absent: .*rests on A15")):
        found = exact(form=form)
        found.predicate["assumptions"].remove("A15")
        assert re.match(wanted, said(found))


def test_claims_that_carry_a_verdict_elsewhere_say_so() -> None:
    for claim in ("c-chain", "c-absent", "c-replay"):
        found = exact(guarantee="none", level="EMPIRICAL")
        found.claim(claim)["planned"] = True
        assert f"expected False for {claim[2:]}" in said(found)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda p: p["replay"].update(q="1/100"), "q: 1/10; the plan says 1/100"),
        (lambda p: p["replay"].update(alpha="1/100"), "alpha: 1/20; the plan says 1/100"),
        (lambda p: p["replay"].pop("q"), "plan.json.replay.q: missing"),
        (lambda p: p["replay"].pop("beacon"), "plan.json.replay.beacon: missing"),
        (lambda p: p["replay"]["beacon"].update(value="0" * 64), "expected source and round"),
        (lambda p: p["replay"]["beacon"].update(round=1), "the plan differs"),
        (lambda p: p.update(replay=[]), "plan.json.replay: list; expected an object"),
        (lambda p: p["request"].update(size=6), "size: differs from plan.json"),
    ],
)
def test_the_plan_fixes_what_a_prover_could_choose_later(change: Callable[[Json], Any], expected: str) -> None:
    found = exact(replay=REPLAY)
    plan = json.loads(found.files["plan.json"])
    change(plan)
    found.replace("plan.json", canonical(plan))
    assert re.search(re.escape(expected), said(found)), said(found)
