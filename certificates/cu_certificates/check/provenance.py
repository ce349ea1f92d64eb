"""How a model came about: a chain of training records, commitments in none of its manifests, steps run again.

These claims carry a verdict only where the method states that its outcome is exact; beside any other they inform. What
speaks against the stated provenance is a finding and no error: the claim says so itself, and the verdict is REFUTED.
"""

from collections.abc import Mapping
from typing import Final

from .chain_table import MAX_SHARDS, Beacon, drawn, enough_steps, problems
from .common import Outcome, Rule, derived_value, once, planned
from .context import Context
from .design import same
from .fields import Node
from .manifests import MAX_TREES, found_by_neighbours, found_in_leaves, read_tree
from .strict import MAX_INT, Rejected

CHAIN_ASSUMED: Final = ("A3", "A4", "A5", "A6", "A14")
ABSENT_ASSUMED: Final = ("A4", "A6")
SORTED: Final = "A15"
REPLAY_ASSUMED: Final = ("A6", "A16")


def _carries(claim: Node, context: Context) -> bool:
    """Whether the claim carries the verdict: exactly when the method states that its outcome is exact."""
    once(claim, context)
    exact = context.subject.text("guarantee") == "exact"
    planned(claim, exact)
    return exact


def _outcome(claim: Node, context: Context, good: str, bad: str, against: list[str]) -> bool:
    """Demand the outcome that follows; what speaks against the provenance stands in the verdict's reasons."""
    claim.text("outcome", bad if against else good)
    if against and context.subject.text("guarantee") == "exact":
        context.provenance.contradictions += [f"{claim.text('id')}: {line}" for line in against]
    return not against


def listed(claim: Node, context: Context) -> Outcome:
    """Claim type ``receipt`` over a whole file: its commitments are exactly the leaves of the request's tree."""
    once(claim, context, "evidence")
    claim.text("evidence", "commitments")
    request = context.request_tree
    derived_value(claim, "root", request.root)
    derived_value(claim, "size", len(context.commitments))
    return "proved", f"{request.size} different commitments, sorted, have the request's root"


def absent(claim: Node, context: Context) -> Outcome:
    """No commitment of the request lies in any of the manifests, or some do."""
    exact = _carries(claim, context)
    claim.text("evidence", "absent")
    trees = [read_tree(tree) for tree in claim.nodes("trees")]
    if not 1 <= len(trees) <= MAX_TREES:
        raise Rejected(f"{claim.path}.trees: {len(trees)} trees; expected 1 to {MAX_TREES}")
    if exact and "chain" in context.evidence_ids():
        chained = [shard.manifest for shard in context.chains.current.shards]
        if trees != chained:
            raise Rejected(
                f"{claim.path}.trees: not the manifests of the chain's {len(chained)} shards, in their order"
            )
    items = context.commitments
    derived_value(claim, "items", len(items))
    whole = claim.text("form", "leaves", "neighbours") == "leaves"
    look = found_in_leaves if whole else found_by_neighbours
    found = look(context.rows("absent"), context.evidence_name("absent"), trees, items)
    derived_value(claim, "present", len(found))
    context.assume(claim, *ABSENT_ASSUMED, *(() if whole else (SORTED,)))
    against = [f"commitments of the request that lie in a manifest: {len(found)}"] if found else []
    if _outcome(claim, context, "absent", "present", against) and exact:
        context.provenance.absent |= {tree.root for tree in trees}
    records = sum(tree.size for tree in trees)
    detail = f"{len(found)} of {len(items)} commitments lie in a manifest (manifests: {len(trees)}, records: {records})"
    return ("proved", detail) if whole else ("assumed", f"{detail}, if their leaves are sorted ({SORTED})")


def chain(claim: Node, context: Context) -> Outcome:
    """The shards' records form one chain from the request to the audited model; only what lost records is new."""
    exact = _carries(claim, context)
    claim.text("evidence", "chain")
    chains = context.chains
    if (asked := chains.current.request) != context.request_tree:
        raise Rejected(f"{claim.path}: the chain answers {asked}; the certificate's request is {context.request_tree}")
    shards = len(chains.current.shards)
    derived_value(claim, "shards", shards)
    derived_value(claim, "steps", len(chains.current.steps))
    derived_value(claim, "earlier", None if chains.earlier is None else chains.earlier.head)
    derived_value(claim, "head", chains.current.head)
    affected = claim.items("affected")
    if len(affected) > MAX_SHARDS or not all(type(place) is int and 0 <= place < shards for place in affected):
        raise Rejected(f"{claim.path}.affected: expected numbers of shards from 0 to {shards - 1}")
    if affected != sorted(set(affected)):
        raise Rejected(f"{claim.path}.affected: {affected[:8]}; expected rising numbers, each once")
    against, removed = problems(
        chains,
        model=context.predicate.node("scope").node("model").digest(),
        affected=affected,
        request=context.request_tree,
        same_seeds=context.subject.value.get("level") == "EXACT_BITWISE",
    )
    derived_value(claim, "removed", removed)
    context.assume(claim, *CHAIN_ASSUMED)
    consistent = _outcome(claim, context, "consistent", "broken", against)
    if exact:
        context.provenance.chain = consistent
        # Every manifest, not only those of new shards: a shard that a prover forgets to list must not hide a record.
        context.provenance.wanted |= {shard.manifest.root for shard in chains.current.shards}
    if not consistent:
        return "assumed", f"the chain of the shards does not hold: {against[0]}"
    removals = "no chain before it" if chains.earlier is None else f"records fewer: {removed}"
    return "assumed", f"one chain (shards: {shards}, trained anew: {len(affected)}, {removals})"


def replay(claim: Node, context: Context) -> Outcome:
    """The steps that head and beacon draw were run again, as many as show that at most a share q is wrong."""
    exact = _carries(claim, context)
    claim.text("evidence", "replay")
    chained = context.chains.current
    derived_value(claim, "head", chained.head)
    derived_value(claim, "steps", len(chained.steps))
    beacon = _beacon(claim.node("beacon"))
    q, alpha = claim.level("q"), claim.level("alpha")
    if exact and context.plan.has("replay"):
        _as_planned(context.plan.node("replay"), claim)
    count = claim.whole("replayed", 1, len(chained.steps))
    if not enough_steps(len(chained.steps), count, q, alpha):
        raise Rejected(
            f"{claim.path}.replayed: {count} of {len(chained.steps)} steps; too few to show that at most {q} of them "
            f"are wrong, up to error {alpha}"
        )
    rows, name = context.rows("replay"), context.evidence_name("replay")
    if len(rows) != count:
        raise Rejected(f"{name}: {len(rows)} lines; expected the {count} steps that were drawn")
    differ = 0
    for number, (row, step) in enumerate(
        zip(rows, drawn(chained.head, beacon, len(chained.steps), count), strict=True)
    ):
        shard, slice_, digest = chained.steps[step]
        row.text("kind", "replay")
        for key, value in (("draw", number), ("shard", shard), ("slice", slice_), ("expected", digest)):
            derived_value(row, key, value)
        differ += row.hex("replayed") != digest
    derived_value(claim, "agree", count - differ)
    context.assume(claim, *REPLAY_ASSUMED)
    against = [f"{differ} of {count} steps gave another checkpoint when they were run again"] if differ else []
    agreed = _outcome(claim, context, "agreed", "mismatched", against)
    if exact:
        context.provenance.replayed = agreed
    return (
        "replayed",
        f"{count - differ} of {count} drawn steps, of {len(chained.steps)}, came out bit for bit the same",
    )


def _beacon(node: Node) -> Beacon:
    if set(node.value) != {"source", "round", "value"}:
        raise Rejected(f"{node.path}: keys {sorted(node.value)}; expected source, round and value")
    number = None if node.value["round"] is None else node.whole("round", 0, MAX_INT)
    return Beacon(node.text("source"), number, node.hex("value"))


def _as_planned(wanted: Node, claim: Node) -> None:
    """Compare with the plan what a prover could choose once it knows which steps are wrong."""
    for key in ("q", "alpha"):
        if claim.level(key) != wanted.level(key):
            raise Rejected(f"{claim.path}.{key}: {claim.text(key)}; the plan says {wanted.text(key)}")
    planned_beacon = wanted.node("beacon")
    if set(planned_beacon.value) != {"source", "round"}:
        raise Rejected(f"{planned_beacon.path}: keys {sorted(planned_beacon.value)}; expected source and round")
    for key in ("source", "round"):
        if not same(claim.node("beacon").value.get(key, "absent"), planned_beacon.value[key]):
            raise Rejected(f"{claim.path}.beacon.{key}: {claim.node('beacon').value.get(key)!r}; the plan differs")


PROVENANCE: Final[Mapping[str, Rule]] = {"absent": absent, "chain": chain, "replay": replay}
"""The rule of each claim type on which a verdict of exactness can rest."""
