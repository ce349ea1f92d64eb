"""A sharded model that never was: manifests, chain and replay log by hand, in a certificate of an exact method.

Nothing here comes from the issuer's builders: the hashes are written a second time from ``docs/checker.md``, so a test
can compare both, and a prover who lies consistently can be played.
"""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import comb
from typing import Any

import naive_merkle
from fake_certificate import Fake, fake, lines
from fake_evidence import Json, Knobs, digest

from cu_certificates.check.main import accepted
from cu_certificates.check.strict import Rejected

BEACON: Json = {"source": "example beacon", "round": 4_242, "value": digest("beacon")}
REPLAY: Json = {"q": "1/10", "alpha": "1/20", "beacon": {"source": "example beacon", "round": 4_242}}


def h(*values: object) -> str:
    text = json.dumps(list(values), separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def commitment(shard: int, record: int) -> bytes:
    return bytes.fromhex(digest("commitment", shard, record))


def tree(leaves: list[bytes]) -> Json:
    return {"root": naive_merkle.root(leaves).hex(), "size": len(leaves)}


@dataclass
class Told:
    """What a prover tells; a test changes it before evidence and claims are written from it.

    Args:
        items: The request's commitments, sorted.
        manifests: The commitments of each shard's records, sorted.
        earlier: The chain before: previous, request, shards (manifest, code, config, seed, checkpoints), model.
        current: The chain that ends in the audited model.
        affected: The shards that are said to have been trained anew.
        replayed: What came out of a step, from shard, slice and chained digest.
        outcomes: The outcome that a claim states, by type.
        states: Changes (chain, shard) to another stated state.
    """

    items: list[bytes]
    manifests: list[list[bytes]]
    earlier: Json | None
    current: Json
    affected: list[int]
    replayed: Callable[[int, int, str], str] = lambda shard, slice_, expected: expected
    outcomes: Json = field(default_factory=lambda: {"chain": "consistent", "absent": "absent", "replay": "agreed"})
    states: dict[tuple[str, int], str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Story:
    """Sizes and kinds of the invented training.

    Args:
        shards: S.
        slices: Checkpoints of each shard.
        form: How absence is shown.
        guarantee: What the method states.
        level: Its finer level.
        replay: What the plan asks of a replay; ``None`` when it asks for none.
        claims: The types that are claimed.
        first: Whether there is no chain before.
        edit: Changes what is told.
        knobs: The statistical part.
    """

    shards: int = 4
    slices: int = 2
    form: str = "leaves"
    guarantee: str = "exact"
    level: str = "EXACT_BITWISE"
    replay: Json | None = None
    claims: tuple[str, ...] = ("receipt", "chain", "absent", "replay")
    first: bool = False
    edit: Callable[[Told], None] = lambda told: None
    knobs: Knobs = field(default_factory=lambda: Knobs(questions=("artifact",)))


def shard_record(number: int, manifest: list[bytes], slices: int, *names: object) -> Json:
    return {
        "manifest": tree(manifest),
        "code": digest("code"),
        "config": digest("config"),
        "seed": digest("seed", number),
        "checkpoints": [digest("checkpoint", number, slice_, *names) for slice_ in range(slices)],
    }


def tell(story: Story) -> Told:
    """55 records in S shards; five of them, in shards 0 and 1, are asked to go (all in 0 when it is the only one)."""
    sizes = [55 // story.shards + (number < 55 % story.shards) for number in range(story.shards)]
    before = [[commitment(number, record) for record in range(size)] for number, size in enumerate(sizes)]
    gone = {commitment(min(record % 2, story.shards - 1), record) for record in range(5)}
    after = [[leaf for leaf in leaves if leaf not in gone] for leaves in before]
    affected = sorted({number for number in range(story.shards) if len(before[number]) != len(after[number])})
    earlier: Json | None = {
        "previous": None,
        "request": None,
        # The earlier manifests were committed to with another key: other roots, the same sizes.
        "shards": [
            shard_record(n, sorted(hashlib.sha256(leaf).digest() for leaf in leaves), story.slices, "before")
            for n, leaves in enumerate(before)
        ],
        "model": digest("original file"),
    }
    current: Json = {
        "previous": "head",
        "request": tree(sorted(gone)),
        "shards": [
            shard_record(n, sorted(leaves), story.slices, "after" if n in affected or story.first else "before")
            for n, leaves in enumerate(after)
        ],
        "model": digest("file"),
    }
    if story.first:
        earlier, affected, current["previous"] = None, list(range(story.shards)), None
    return Told(sorted(gone), [sorted(leaves) for leaves in after], earlier, current, affected)


def chain_rows(which: str, chain: Json, wrong: dict[tuple[str, int], str]) -> list[Json]:
    asked = chain["request"] or {"root": None, "size": None}
    state = h("cu-cert/chain/v1/start", chain["previous"], asked["root"], asked["size"], len(chain["shards"]))
    found: list[Json] = [
        {"kind": "start", "chain": which, "previous": chain["previous"], "request": chain["request"],
         "shards": len(chain["shards"])}
    ]  # fmt: skip
    for number, shard in enumerate(chain["shards"]):
        manifest = shard["manifest"]
        state = h("cu-cert/chain/v1/shard", state, number, manifest["root"], manifest["size"], shard["code"],
                  shard["config"], shard["seed"], shard["checkpoints"])  # fmt: skip
        stated = wrong.get((which, number), state)
        found.append({"kind": "shard", "chain": which, "shard": number, **shard, "state": stated})
    head = h("cu-cert/chain/v1/end", state, chain["model"])
    return [*found, {"kind": "end", "chain": which, "model": chain["model"], "head": head}]


def leaf_rows(number: int, leaves: list[bytes]) -> list[Json]:
    return [
        {"kind": "leaves", "tree": number, "first": at, "leaves": [leaf.hex() for leaf in leaves[at : at + 256]]}
        for at in range(0, max(len(leaves), 1), 256)
    ]


def neighbour_row(number: int, leaves: list[bytes], item: bytes) -> Json:
    place = bisect_left(leaves, item)
    row: Json = {"tree": number, "item": item.hex(), "place": place}

    def way(at: int) -> list[str]:
        return [entry.hex() for entry in naive_merkle.path(at, leaves)]

    if item in leaves:
        return {"kind": "present", **row, "path": way(place)}
    left, right = place > 0, place < len(leaves)
    return {
        "kind": "absent", **row,
        "left": leaves[place - 1].hex() if left else None, "leftPath": way(place - 1) if left else [],
        "right": leaves[place].hex() if right else None, "rightPath": way(place) if right else [],
    }  # fmt: skip


def absent_rows(form: str, manifests: list[list[bytes]], items: list[bytes]) -> list[Json]:
    if form == "leaves":
        return [row for number, leaves in enumerate(manifests) for row in leaf_rows(number, leaves)]
    return [neighbour_row(number, leaves, item) for number, leaves in enumerate(manifests) for item in items]


def lottery(head: str, beacon: Json, steps: int, count: int) -> list[int]:
    """The drawn steps, by removing each from a list of those that are left in the order of the shuffle."""
    left = list(range(steps))
    found = []
    for number in range(count):
        trial = 0
        while True:
            word = int(h("cu-cert/chain/v1/draw", head, beacon["source"], beacon["round"], beacon["value"], number,
                         trial), 16)  # fmt: skip
            if word < 2**256 // len(left) * len(left):
                break
            trial += 1
        place = word % len(left)
        found.append(left[place])
        left[place] = left[0]
        left = left[1:]
    return found


def fewest(steps: int, q: Fraction, alpha: Fraction) -> int:
    """The smallest sample that misses more than q wrong steps with probability at most alpha, one after another."""
    wrong = int(q * steps) + 1
    return next(k for k in range(1, steps + 1) if Fraction(comb(steps - wrong, k), comb(steps, k)) <= alpha)


def parts(story: Story, told: Told) -> tuple[dict[str, list[Json]], list[Json]]:
    """The rows of each evidence file and the claims."""
    if told.earlier is not None and told.current["previous"] == "head":
        told.current["previous"] = chain_rows("earlier", told.earlier, {})[-1]["head"]
    earlier = [] if told.earlier is None else chain_rows("earlier", told.earlier, told.states)
    current = chain_rows("current", told.current, told.states)
    head, planned = current[-1]["head"], story.guarantee == "exact"
    steps = [
        (number, slice_, name)
        for number, shard in enumerate(told.current["shards"])
        for slice_, name in enumerate(shard["checkpoints"])
    ]
    wanted = story.replay or REPLAY
    count = fewest(len(steps), Fraction(wanted["q"]), Fraction(wanted["alpha"]))
    log = [
        {"kind": "replay", "draw": number, "shard": steps[step][0], "slice": steps[step][1], "expected": steps[step][2],
         "replayed": told.replayed(*steps[step])}
        for number, step in enumerate(lottery(head, BEACON, len(steps), count))
    ]  # fmt: skip
    there = sum(any(item in leaves for leaves in told.manifests) for item in told.items)
    removed = 0
    if told.earlier is not None and len(told.earlier["shards"]) == len(told.current["shards"]):
        removed = sum(
            told.earlier["shards"][n]["manifest"]["size"] - told.current["shards"][n]["manifest"]["size"]
            for n in told.affected
            if n < len(told.current["shards"])
        )
    rows: dict[str, list[Json]] = {
        "commitments": [{"kind": "commitment", "leaf": leaf.hex()} for leaf in told.items],
        "chain": [*current, *earlier],
        "absent": absent_rows(story.form, told.manifests, told.items),
        "replay": log,
    }
    claims: list[Json] = [
        {"id": "c-commitments", "type": "receipt", "evidence": "commitments", **tree(told.items)},
        {"id": "c-chain", "type": "chain", "evidence": "chain", "earlier": earlier[-1]["head"] if earlier else None,
         "head": head, "shards": len(told.current["shards"]), "steps": len(steps), "affected": told.affected,
         "removed": removed, "outcome": told.outcomes["chain"], "planned": planned},
        {"id": "c-absent", "type": "absent", "evidence": "absent", "form": story.form,
         "trees": [tree(leaves) for leaves in told.manifests], "items": len(told.items), "present": there,
         "outcome": told.outcomes["absent"], "planned": planned},
        {"id": "c-replay", "type": "replay", "evidence": "replay", "head": head, "beacon": dict(BEACON),
         "q": wanted["q"], "alpha": wanted["alpha"], "steps": len(steps), "replayed": count,
         "agree": sum(row["expected"] == row["replayed"] for row in log), "outcome": told.outcomes["replay"],
         "planned": planned},
    ]  # fmt: skip
    return rows, [claim for claim in claims if claim["type"] in story.claims]


def add(found: Fake, name: str, data: bytes, kind: str) -> None:
    """List one more evidence file."""
    file = f"evidence/{name}.jsonl"
    found.files[file] = data
    entry = {"id": name, "kind": kind, "name": file, "access": "controlled"}
    found.predicate["evidence"].append(entry | {"digest": {"sha256": hashlib.sha256(data).hexdigest()}})


NEEDS = {"receipt": "commitments", "chain": "chain", "absent": "absent", "replay": "replay"}


def exact(story: Story | None = None, **changes: Any) -> Fake:
    """A whole certificate; the verdict is left out, as in a draft."""
    story = replace(story or Story(), **changes)
    told = tell(story)
    story.edit(told)
    rows, claims = parts(story, told)

    def edit_plan(plan: Json) -> None:
        plan["request"] = tree(told.items)
        plan["subjects"][0]["level"] = story.level
        if story.replay is not None:
            plan["replay"] = story.replay
        story.knobs.edit_plan(plan)

    found = fake(
        replace(
            story.knobs,
            guarantee=story.guarantee,
            method="apa",
            tested_eps="0" if story.guarantee == "exact" else story.knobs.tested_eps,
            edit_plan=edit_plan,
        )
    )
    used = {NEEDS[claim["type"]] for claim in claims}
    used |= {"commitments"} if "absent" in used else set()
    used |= {"chain"} if "replay" in used else set()
    for name in rows:
        if name in used:
            add(
                found,
                name,
                b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows[name]),
                name,
            )
    found.predicate["claims"] += claims
    found.predicate["assumptions"] += ["A14", "A15", "A16"]
    return found


# --- What speaks against a chain, said honestly ----------------------------------------------------------------------


def still_there(told: Told) -> None:
    """One of the request's records stays in shard 1, and the prover says so."""
    told.manifests[1] = sorted([*told.manifests[1], told.items[0]])
    told.current["shards"][1]["manifest"] = tree(told.manifests[1])
    told.outcomes["absent"] = "present"


def unlike(told: Told) -> None:
    told.replayed = lambda shard, slice_, expected: digest("other") if shard == 2 else expected
    told.outcomes["replay"] = "mismatched"


def old_checkpoint(told: Told) -> None:
    assert told.earlier is not None
    told.current["shards"][0]["checkpoints"] = told.earlier["shards"][0]["checkpoints"]
    told.outcomes["chain"] = "broken"


# --- What a reader hears ---------------------------------------------------------------------------------------------


def said(found: Fake) -> str:
    """The verdict with its reasons, or everything that the checker objects to."""
    try:
        result = found.state().check()
    except Rejected as refusal:
        return f"refused: {refusal}"
    rejected = [f"{claim.id}: {claim.detail}" for claim in result.claims if claim.status == "rejected"]
    if rejected:
        assert not accepted(result)
        return "rejected: " + "; ".join(rejected)
    return f"{result.derived}: {'; '.join(result.reasons)}"


def rewritten(found: Fake, name: str, change: Callable[[list[Json]], object]) -> Fake:
    """Change the rows of an evidence file and sign its new digest."""
    file = f"evidence/{name}.jsonl"
    rows = [json.loads(line) for line in found.files[file].splitlines()]
    change(rows)
    found.replace(file, lines(rows))
    return found


def row(rows: list[Json], **fields: object) -> Json:
    return next(one for one in rows if all(one.get(key) == value for key, value in fields.items()))
