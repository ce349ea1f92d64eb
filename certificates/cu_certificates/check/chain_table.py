"""How a sharded model came about: one record a shard, hashed one after another from the request to the audited model.

The head of a chain commits to every record in it, so whoever published a head cannot exchange a record later without
being seen, and steps that are drawn from it (:func:`drawn`) cannot be foreseen by whoever fixed it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from math import comb
from typing import Final

from .fields import Node
from .manifests import Tree, hexes, read_tree
from .strict import Rejected, canonical

MAX_SHARDS: Final = 4096
MAX_STEPS: Final = 65_536
"""Checkpoints of one chain; more would only cost the reader time."""

MOST_WORDS: Final = 80
"""Characters of a beacon's name."""

_TAG: Final = "cu-cert/chain/v1/"


@dataclass(frozen=True)
class Shard:
    """One shard of a model, or the whole of it.

    Args:
        manifest: The Merkle tree over the sorted commitments of the records that the shard was trained on.
        code: SHA-256 (hex) of the training program.
        config: SHA-256 (hex) of its configuration, the fingerprint of the machine included.
        seed: SHA-256 (hex) of the shard's seed.
        checkpoints: SHA-256 (hex) of the checkpoint after each slice, in training order; the last is the shard's own.
    """

    manifest: Tree
    code: str
    config: str
    seed: str
    checkpoints: tuple[str, ...]


@dataclass(frozen=True)
class Chain:
    """The shards of one model and the states that were stated for them.

    Args:
        previous: Head (hex) of the chain before, ``None`` for a first one.
        request: The tree of the request that the chain answers; ``None`` when nothing was asked to go.
        shards: The shards in order.
        model: SHA-256 (hex) of the model file that was made of their last checkpoints.
        states: State (hex) after each shard, as stated.
        head: Head (hex), as stated.
    """

    previous: str | None
    request: Tree | None
    shards: tuple[Shard, ...]
    model: str
    states: tuple[str, ...]
    head: str

    @property
    def steps(self) -> tuple[tuple[int, int, str], ...]:
        """Every chained step: shard, slice, digest of the checkpoint; shard by shard, slice by slice."""
        return tuple(
            (number, slice_, digest)
            for number, shard in enumerate(self.shards)
            for slice_, digest in enumerate(shard.checkpoints)
        )


def _hashed(kind: str, *values: object) -> str:
    return sha256(canonical([_TAG + kind, *values])).hexdigest()


def chain_states(
    previous: str | None, request: Tree | None, shards: Sequence[Shard], model: str
) -> tuple[tuple[str, ...], str]:
    """Return the state after each shard, and the head.

    Each is SHA-256 over the canonical JSON of a list that begins with a name of its own; lists of different lengths or
    nesting have different JSON, so no record can be read as another one.

    Args:
        previous: Head of the chain before.
        request: The tree of the request.
        shards: The shards in order.
        model: SHA-256 (hex) of the model file.
    """
    asked = [None, None] if request is None else [request.root, request.size]
    state = _hashed("start", previous, *asked, len(shards))
    states = []
    for number, shard in enumerate(shards):
        made_of = [shard.manifest.root, shard.manifest.size, shard.code, shard.config, shard.seed]
        state = _hashed("shard", state, number, *made_of, list(shard.checkpoints))
        states.append(state)
    return tuple(states), _hashed("end", state, model)


@dataclass(frozen=True)
class Chains:
    """The chain that ends in the audited model, and the one before it."""

    current: Chain
    earlier: Chain | None


def read_chains(lines: Sequence[Node], name: str) -> Chains:
    """Read ``chain.jsonl``: for each chain a start line, one line a shard and an end line.

    Args:
        lines: The parsed lines.
        name: The file's name, for messages.

    Raises:
        Rejected: A line is malformed, stands twice or is missing; shards are not numbered from 0 without a gap.
    """
    if len(lines) > 2 * (MAX_SHARDS + 2):
        raise Rejected(f"{name}: {len(lines)} lines; expected at most {MAX_SHARDS} shards in each of two chains")
    parts: dict[str, list[Node]] = {"current": [], "earlier": []}
    for row in lines:
        parts[row.text("chain", "current", "earlier")].append(row)
    current = _chain(parts["current"], f"{name}: current chain")
    if (current.previous is not None) != bool(parts["earlier"]):
        raise Rejected(f"{name}: the lines of an earlier chain must stand there exactly when the start line names one")
    return Chains(current, _chain(parts["earlier"], f"{name}: earlier chain") if parts["earlier"] else None)


def _chain(lines: Sequence[Node], name: str) -> Chain:
    ends: dict[str, Node] = {}
    shards: dict[int, Node] = {}
    for row in lines:
        kind = row.text("kind", "start", "shard", "end")
        place = row.whole("shard", 0, MAX_SHARDS - 1) if kind == "shard" else None
        if kind in ends or place in shards:
            raise Rejected(f"{row.path}: {kind} {'' if place is None else place} stands twice; expected it once")
        if place is None:
            ends[kind] = row
        else:
            shards[place] = row
    if set(ends) != {"start", "end"}:
        raise Rejected(f"{name}: {sorted(ends)}; expected one start line and one end line")
    if not shards or set(shards) != set(range(len(shards))):
        raise Rejected(f"{name}: shards {sorted(shards)[:8]}...; expected 0, 1, 2 and so on without a gap")
    start, end = ends["start"], ends["end"]
    if start.whole("shards", 1, MAX_SHARDS) != len(shards):
        raise Rejected(f"{start.path}.shards: {start.whole('shards')}; {len(shards)} shards stand in the file")
    ordered = [shards[place] for place in range(len(shards))]
    found = Chain(
        previous=None if start.value.get("previous", "") is None else start.hex("previous"),
        request=None if start.value.get("request", "") is None else read_tree(start.node("request")),
        shards=tuple(_shard(row) for row in ordered),
        model=end.hex("model"),
        states=tuple(row.hex("state") for row in ordered),
        head=end.hex("head"),
    )
    if len(found.steps) > MAX_STEPS:
        raise Rejected(f"{name}: {len(found.steps)} checkpoints; expected at most {MAX_STEPS}")
    return found


def _shard(row: Node) -> Shard:
    checkpoints = hexes(row, "checkpoints", MAX_STEPS)
    if not checkpoints:
        raise Rejected(f"{row.path}.checkpoints: none; expected the checkpoint after each slice")
    return Shard(
        read_tree(row.node("manifest")), row.hex("code"), row.hex("config"), row.hex("seed"), tuple(checkpoints)
    )


def problems(
    chains: Chains, *, model: str, affected: Sequence[int], request: Tree, same_seeds: bool
) -> tuple[list[str], int]:
    """Say what speaks against a chain.

    Args:
        chains: The chain and the one before it.
        model: SHA-256 (hex) of the audited model.
        affected: The shards that are said to have been trained anew.
        request: The tree of the certificate's request.
        same_seeds: Whether a shard that is trained anew must start from its old seed, as it must where the method
            states equality bit for bit.

    Returns:
        One line each, none when the chain is consistent; and how many records went.
    """
    current, earlier = chains.current, chains.earlier
    found = []
    for which, chain in (("current", current), ("earlier", earlier)):
        if chain is None:
            continue
        states, head = chain_states(chain.previous, chain.request, chain.shards, chain.model)
        wrong = [place for place, state in enumerate(states) if state != chain.states[place]]
        if wrong:
            found.append(f"the {which} chain: the state of shard {wrong[0]} is not the hash of its record")
        elif head != chain.head:
            found.append(f"the {which} chain: its head is not the hash of its end")
    if current.model != model:
        found.append(f"the chain ends in model {current.model}, the audited one is {model}")
    found += _shared(current)
    if not affected:
        found.append("no shard was trained anew")
    if earlier is None:
        if len(affected) != len(current.shards):
            found.append("a first chain has shards that are said not to have been trained anew")
        return found, 0
    if earlier.head != current.previous:
        found.append("the chain does not go on from the head of the earlier one")
    if earlier.model == current.model:
        found.append("the model is still the earlier one")
    if len(earlier.shards) != len(current.shards):
        found.append(f"{len(current.shards)} shards; the earlier chain has {len(earlier.shards)}")
        return found, 0
    # A shard without a record may come out alike again and again.
    old = {digest for shard in earlier.shards if shard.manifest.size for digest in shard.checkpoints}
    anew, removed = set(affected), 0
    for place, (before, after) in enumerate(zip(earlier.shards, current.shards, strict=True)):
        if place in anew:
            found += _trained_anew(place, before, after, old, same_seeds=same_seeds)
            removed += before.manifest.size - after.manifest.size
        else:
            found += _untouched(place, before, after)
    if removed > request.size:
        found.append(f"{removed} records are gone; the request has {request.size}")
    return found, removed


def _shared(chain: Chain) -> list[str]:
    """No checkpoint stands for two shards, but for shards without a record, which may all have the same."""
    owner: dict[str, int] = {}
    for place in sorted(range(len(chain.shards)), key=lambda number: (chain.shards[number].manifest.size == 0, number)):
        shard = chain.shards[place]
        for digest in sorted(set(shard.checkpoints)):
            if (other := owner.get(digest, place)) != place:
                return [f"shards {other} and {place} share a checkpoint"]
            if shard.manifest.size:
                owner[digest] = place
    return []


def _trained_anew(place: int, before: Shard, after: Shard, old: set[str], *, same_seeds: bool) -> list[str]:
    found = []
    if after.manifest.size >= before.manifest.size:
        found.append(f"shard {place} is said to have lost records: {before.manifest.size} became {after.manifest.size}")
    if after.checkpoints[-1] in old:
        found.append(f"shard {place} is said to have been trained anew, but its checkpoint is an earlier one")
    if (before.code, before.config, len(before.checkpoints)) != (after.code, after.config, len(after.checkpoints)):
        found.append(f"shard {place} was trained anew by another program or configuration")
    if same_seeds and before.seed != after.seed:
        found.append(f"shard {place} was trained anew from another seed")
    return found


def _untouched(place: int, before: Shard, after: Shard) -> list[str]:
    """The root may differ, since each request has a key of its own and manifests are committed to anew with it."""
    rest = [(one.manifest.size, one.code, one.config, one.seed, one.checkpoints) for one in (before, after)]
    return [] if rest[0] == rest[1] else [f"shard {place} is said to be untouched, but its record changed"]


@dataclass(frozen=True)
class Beacon:
    """Something random that nobody knew when the head of a chain was fixed.

    Args:
        source: Who gave it: ``reader`` for a reader's nonce, else the name of a public beacon.
        round: Its round in a public beacon; ``None`` for a reader's nonce.
        value: 32 bytes in hex.

    Raises:
        Rejected: A value is not of this kind.
    """

    source: str
    round: int | None
    value: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.source) <= MOST_WORDS:
            raise Rejected(f"beacon.source: {len(self.source)} characters; expected 1 to {MOST_WORDS}")
        if (self.round is None) is not (self.source == "reader"):
            raise Rejected("beacon.round: a public beacon has one, and a reader's nonce has none")
        if not re.fullmatch("[0-9a-f]{64}", self.value):
            raise Rejected("beacon.value: expected 64 lower-case hexadecimal digits")


def enough_steps(steps: int, replayed: int, q: Fraction, alpha: Fraction) -> bool:
    """Whether replaying that many steps shows, up to error alpha, that at most a share q of all steps is wrong.

    Of n steps, more than q n wrong ones are at least b = floor(q n) + 1. K steps drawn without replacement all miss
    them with probability C(n - b, K) / C(n, K), which is at most (1 - q)^K.
    """
    wrong = (q * steps).__floor__() + 1
    return comb(steps - wrong, replayed) * alpha.denominator <= alpha.numerator * comb(steps, replayed)


def drawn(head: str, beacon: Beacon, steps: int, count: int) -> tuple[int, ...]:
    """Return the steps to replay: the first ``count`` places of a shuffle that head and beacon fix together.

    Draw k takes one of the n - k steps that are left: SHA-256 of the JSON list of tag, head, beacon, k and t (the tries
    before) is read as an integer w, and w mod (n - k) is taken unless w lies in the incomplete last run of n - k
    integers below 2^256; then t rises by one. So no step is favoured and none is drawn twice.

    Args:
        head: Head (hex) of the chain.
        beacon: What was not known when the head was fixed.
        steps: n, at least ``count``.
        count: K.
    """
    taken: dict[int, int] = {}
    found = []
    for number in range(count):
        left, trial = steps - number, 0
        while (word := _word(head, beacon, number, trial)) >= 2**256 - 2**256 % left:
            trial += 1
        place = number + word % left
        found.append(taken.get(place, place))
        taken[place] = taken.get(number, number)
    return tuple(found)


def _word(head: str, beacon: Beacon, number: int, trial: int) -> int:
    listed = [_TAG + "draw", head, beacon.source, beacon.round, beacon.value, number, trial]
    return int.from_bytes(sha256(canonical(listed)).digest())
