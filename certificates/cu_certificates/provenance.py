"""From a sharded training's own records to claims and evidence that a stranger re-derives: chain, absence, replay.

Whoever trains keeps, for each shard, a manifest (the commitments of its records) and the digests of its checkpoints.
The functions here make evidence files and claims of them, and state the outcome that follows, whatever it is: the
checker refuses any other.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from cu_certificates.check.chain_table import (
    MAX_SHARDS,
    Beacon,
    Chain,
    Chains,
    Shard,
    chain_states,
    drawn,
    enough_steps,
    problems,
    read_chains,
)
from cu_certificates.check.manifests import ROW, Tree
from cu_certificates.check.strict import Rejected, canonical
from cu_certificates.check.tables import rows
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.merkle import MerkleTree

__all__ = [
    "Beacon",
    "Chain",
    "Draw",
    "Manifest",
    "Part",
    "Shard",
    "Tree",
    "absence",
    "chain_part",
    "commitments_part",
    "draws",
    "make_chain",
    "read_chain",
    "replay_part",
    "steps_needed",
]

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

Form = Literal["leaves", "neighbours"]

_FILES: Final = {
    "commitments": ("commitments", "commitments", "evidence/commitments.jsonl", "controlled"),
    "absent": ("absent", "absence", "evidence/absent.jsonl", "controlled"),
    "chain": ("chain", "chain", "evidence/chain.jsonl", "controlled"),
    "replay": ("replay", "replay", "evidence/replay.jsonl", "controlled"),
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One claim and the evidence file behind it.

    Args:
        claim: The claim as it stands in a certificate.
        evidence: Id, kind, name and access of the file.
        data: Its bytes.
        assumptions: The assumptions that the certificate must list for it.
    """

    claim: Mapping[str, object]
    evidence: tuple[str, str, str, str]
    data: bytes
    assumptions: tuple[str, ...] = ()


def _lines(found: Iterable[Mapping[str, object]]) -> bytes:
    return b"".join(canonical(dict(row)) + b"\n" for row in found)


class Manifest:
    """The commitments of the records that one shard was trained on, sorted, and the Merkle tree over them.

    Args:
        commitments: 32 bytes each, in any order, all different; made with the key of the request.

    Raises:
        UsageError: Two are equal, or one is not 32 bytes long.
    """

    def __init__(self, commitments: Iterable[bytes]) -> None:
        self.leaves: tuple[bytes, ...] = tuple(sorted(commitments))
        if any(len(leaf) != 32 for leaf in self.leaves):
            raise UsageError("manifest: a commitment that is not 32 bytes long; expected SHA-256 digests")
        if len(set(self.leaves)) != len(self.leaves):
            raise UsageError("manifest: two commitments are equal; expected one a record")
        self.proofs = MerkleTree(self.leaves)
        self.tree = Tree(self.proofs.root.hex(), len(self.leaves))


def make_chain(shards: Sequence[Shard], *, model: str, request: Tree | None, previous: Chain | None = None) -> Chain:
    """Hash the shards' records into a chain.

    Args:
        shards: The shards in order.
        model: SHA-256 (hex) of the model file that was made of their last checkpoints.
        request: The tree of the request that the chain answers; ``None`` for a model before any request.
        previous: The chain of the model before, whose untouched shards stand here again.

    Raises:
        UsageError: No shards, too many, one without a checkpoint, or a digest that is none.
    """
    if not 1 <= len(shards) <= MAX_SHARDS:
        raise UsageError(f"chain: {len(shards)} shards; expected 1 to {MAX_SHARDS}")
    for number, shard in enumerate(shards):
        for digest in (shard.code, shard.config, shard.seed, *shard.checkpoints, model):
            if not _DIGEST.fullmatch(digest):
                raise UsageError(
                    f"chain: shard {number} names {digest!r:.80}; expected 64 lower-case hexadecimal digits"
                )
        if not shard.checkpoints:
            raise UsageError(f"chain: shard {number} has no checkpoint; expected one after each slice")
    head_before = None if previous is None else previous.head
    states, head = chain_states(head_before, request, shards, model)
    return Chain(head_before, request, tuple(shards), model, states, head)


def _chain_rows(which: str, chain: Chain) -> Iterator[dict[str, object]]:
    request = None if chain.request is None else chain.request.to_json()
    yield {
        "kind": "start",
        "chain": which,
        "previous": chain.previous,
        "request": request,
        "shards": len(chain.shards),
    }
    for number, (shard, state) in enumerate(zip(chain.shards, chain.states, strict=True)):
        yield {
            "kind": "shard",
            "chain": which,
            "shard": number,
            "manifest": shard.manifest.to_json(),
            "code": shard.code,
            "config": shard.config,
            "seed": shard.seed,
            "checkpoints": list(shard.checkpoints),
            "state": state,
        }
    yield {"kind": "end", "chain": which, "model": chain.model, "head": chain.head}


def read_chain(data: bytes, name: str = "chain.jsonl") -> Chain:
    """Read the chain of an earlier certificate from its evidence, to go on from it.

    Args:
        data: The bytes of its ``evidence/chain.jsonl``.
        name: The file's name, for messages.

    Raises:
        UntrustedError: The file is malformed, or its states are not the hashes of its records.
    """
    try:
        found = read_chains(rows(data, name), name).current
    except Rejected as error:
        raise UntrustedError("evidence", str(error)) from None
    if (found.states, found.head) != chain_states(found.previous, found.request, found.shards, found.model):
        raise UntrustedError("evidence", f"{name}: its states are not the hashes of its records; take the original")
    return found


def chain_part(
    chain: Chain, earlier: Chain | None, *, affected: Sequence[int], model: str, level: str, exact: bool = True
) -> Part:
    """Claim that the shards' records form one chain that ends in the audited model.

    Args:
        chain: The chain; it answers a request.
        earlier: The chain before.
        affected: The shards that were trained anew.
        model: SHA-256 (hex) of the audited model.
        level: The finer level that the method states; at ``EXACT_BITWISE`` a shard keeps its seed.
        exact: Whether the method states that its outcome is exact.

    Raises:
        UsageError: The chain answers no request.
    """
    if chain.request is None:
        raise UsageError("chain: answers no request; make it with the tree of the certificate's request")
    against, removed = problems(
        Chains(chain, earlier),
        model=model,
        affected=affected,
        request=chain.request,
        same_seeds=level == "EXACT_BITWISE",
    )
    claim = {
        "id": "c-chain",
        "type": "chain",
        "evidence": "chain",
        "earlier": None if earlier is None else earlier.head,
        "head": chain.head,
        "shards": len(chain.shards),
        "steps": len(chain.steps),
        "affected": sorted(affected),
        "removed": removed,
        "outcome": "broken" if against else "consistent",
        "planned": exact,
    }
    found = [*_chain_rows("current", chain), *(() if earlier is None else _chain_rows("earlier", earlier))]
    return Part(claim=claim, evidence=_FILES["chain"], data=_lines(found), assumptions=("A3", "A4", "A5", "A6", "A14"))


def commitments_part(items: Manifest) -> Part:
    """Claim that the listed commitments are the request's; :func:`absence` needs the file, too.

    Args:
        items: The request's commitments, padding included.
    """
    claim = {
        "id": "c-commitments",
        "type": "receipt",
        "evidence": "commitments",
        "root": items.tree.root,
        "size": items.tree.size,
    }
    found = ({"kind": "commitment", "leaf": leaf.hex()} for leaf in items.leaves)
    return Part(claim=claim, evidence=_FILES["commitments"], data=_lines(found))


def absence(manifests: Sequence[Manifest], items: Manifest, *, form: Form = "leaves", exact: bool = True) -> Part:
    """Claim that no commitment of the request lies in any manifest, or say how many do.

    Args:
        manifests: The manifests of the chain's shards, in their order.
        items: The request's commitments.
        form: ``leaves`` shows all commitments of all manifests and needs no assumption about their order;
            ``neighbours`` shows two of them for each item and manifest, is short where manifests are large, and assumes
            that they are sorted.
        exact: Whether the method states that its outcome is exact.
    """
    make = _leaf_rows if form == "leaves" else _neighbour_rows
    found = [row for number, manifest in enumerate(manifests) for row in make(number, manifest, items.leaves)]
    there = {leaf for manifest in manifests for leaf in manifest.leaves}
    present = len(there.intersection(items.leaves))
    claim = {
        "id": "c-absent",
        "type": "absent",
        "evidence": "absent",
        "form": form,
        "trees": [manifest.tree.to_json() for manifest in manifests],
        "items": items.tree.size,
        "present": present,
        "outcome": "present" if present else "absent",
        "planned": exact,
    }
    assumed = ("A4", "A6") if form == "leaves" else ("A4", "A6", "A15")
    return Part(claim=claim, evidence=_FILES["absent"], data=_lines(found), assumptions=assumed)


def _leaf_rows(number: int, manifest: Manifest, _items: Sequence[bytes]) -> Iterator[dict[str, object]]:
    for first in range(0, max(len(manifest.leaves), 1), ROW):  # a line for a tree without leaves, too
        part = manifest.leaves[first : first + ROW]
        yield {"kind": "leaves", "tree": number, "first": first, "leaves": [leaf.hex() for leaf in part]}


def _neighbour_rows(number: int, manifest: Manifest, items: Sequence[bytes]) -> Iterator[dict[str, object]]:
    leaves, place = manifest.leaves, 0

    def path(at: int) -> list[str]:
        return [entry.hex() for entry in manifest.proofs.inclusion(at)]

    for item in items:  # both lists rise, so the place only moves on
        while place < len(leaves) and leaves[place] < item:
            place += 1
        common = {"tree": number, "item": item.hex(), "place": place}
        if place < len(leaves) and leaves[place] == item:
            yield {"kind": "present", **common, "path": path(place)}
            continue
        left, right = place > 0, place < len(leaves)
        yield {
            "kind": "absent",
            **common,
            "left": leaves[place - 1].hex() if left else None,
            "leftPath": path(place - 1) if left else [],
            "right": leaves[place].hex() if right else None,
            "rightPath": path(place) if right else [],
        }


@dataclass(frozen=True)
class Draw:
    """One step to run again.

    Args:
        shard: Its shard.
        slice: Its slice in the shard.
        expected: SHA-256 (hex) of the checkpoint that the chain states after it.
    """

    shard: int
    slice: int
    expected: str


def steps_needed(steps: int, q: Fraction, alpha: Fraction) -> int:
    """Return the fewest steps to run again that show, up to error alpha, that at most a share q of all is wrong.

    Args:
        steps: Steps of the chain.
        q: Strictly between 0 and 1.
        alpha: Strictly between 0 and 1.
    """
    low, high = 1, steps
    while low < high:
        middle = (low + high) // 2
        if enough_steps(steps, middle, q, alpha):
            high = middle
        else:
            low = middle + 1
    return low


def draws(chain: Chain, beacon: Beacon, *, q: Fraction, alpha: Fraction) -> tuple[Draw, ...]:
    """Return the steps that must be run again, which head and beacon fix together.

    Args:
        chain: The chain, whose head was made known before the beacon's value was.
        beacon: Its value, and where it is from.
        q: The share of wrong steps that must not be exceeded unseen.
        alpha: The chance that more wrong steps than that stay unseen.
    """
    steps = chain.steps
    return tuple(
        Draw(*steps[place]) for place in drawn(chain.head, beacon, len(steps), steps_needed(len(steps), q, alpha))
    )


def replay_part(
    chain: Chain, beacon: Beacon, replayed: Sequence[str], *, q: Fraction, alpha: Fraction, exact: bool = True
) -> Part:
    """Claim what came out when the drawn steps were run again on the recorded platform.

    Args:
        chain: The chain.
        beacon: As for :func:`draws`.
        replayed: SHA-256 (hex) of the checkpoint after each drawn step, in the order of :func:`draws`.
        q: As for :func:`draws`.
        alpha: As for :func:`draws`.
        exact: Whether the method states that its outcome is exact.

    Raises:
        UsageError: Not one digest a drawn step.
    """
    wanted = draws(chain, beacon, q=q, alpha=alpha)
    if len(replayed) != len(wanted):
        raise UsageError(f"replay: {len(replayed)} digests; {len(wanted)} steps were drawn, run each of them again")
    agree = sum(digest == draw.expected for digest, draw in zip(replayed, wanted, strict=True))
    claim = {
        "id": "c-replay",
        "type": "replay",
        "evidence": "replay",
        "head": chain.head,
        "beacon": {"source": beacon.source, "round": beacon.round, "value": beacon.value},
        "q": str(q),
        "alpha": str(alpha),
        "steps": len(chain.steps),
        "replayed": len(wanted),
        "agree": agree,
        "outcome": "agreed" if agree == len(wanted) else "mismatched",
        "planned": exact,
    }
    found = (
        {
            "kind": "replay",
            "draw": number,
            "shard": draw.shard,
            "slice": draw.slice,
            "expected": draw.expected,
            "replayed": digest,
        }
        for number, (draw, digest) in enumerate(zip(wanted, replayed, strict=True))
    )
    return Part(claim=claim, evidence=_FILES["replay"], data=_lines(found), assumptions=("A6", "A16"))
