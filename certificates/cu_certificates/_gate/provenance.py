"""The rules of the gate on how the model came about, CU204 and CU205."""

from collections.abc import Callable, Mapping
from typing import Final

from cu_certificates._gate.case import SUPPORTED, Case, Fact, Finding, three_ways
from cu_certificates.check.fields import Node


def absent_all(case: Case) -> Finding | None:
    """CU204: every committed record was shown absent from what the model was trained on.

    Only a method that states exactness counts: there the checker holds the manifests of the absence claim against those
    of the chain, and elsewhere a prover could name any manifest.
    """
    if not case.policy.absent_all:
        return None
    against: list[Fact] = []
    gaps: list[Fact] = []
    kept: list[Fact] = []
    guarantee = case.predicate.node("unlearning").text("guarantee")
    if guarantee != "exact":
        gaps.append(Fact(f"the method states the guarantee {guarantee}; absence counts only for exact methods"))
    for kind, good, words in (
        ("absent", "absent", "commitments of the request in the manifests"),
        ("chain", "consistent", "chain of training records"),
    ):
        claims = case.of(kind)
        if not claims:
            gaps.append(Fact(f"no claim of type {kind}"))
        for claim in claims:
            outcome = claim.text("outcome")
            fact = case.fact(f"{words}: {outcome}{_items(claim)}", claim)
            if outcome != good:
                against.append(fact)
            else:
                (kept if case.status(claim) in SUPPORTED else gaps).append(fact)
    return three_ways(
        case,
        "CU204",
        "absent_all",
        "absent_all = true",
        violated=against,
        gaps=gaps,
        kept=kept,
        titles=(
            "a record of the request is in the training data",
            "absence from the training data is not shown",
            "absent from the training data",
        ),
        means=(
            "the model was trained on what it states to have left out, or its training records contradict each other",
            "nothing re-derived says that the request is absent from what the model was trained on",
        ),
        steps=(
            "train the affected shards again without the request, then audit anew",
            "use an exact method that writes a chain of training records, and give its evidence with --evidence",
        ),
    )


def _items(claim: Node) -> str:
    return f" ({claim.whole('items')} of them looked for)" if claim.has("items") else ""


def replay(case: Case) -> Finding | None:
    """CU205: enough training steps were run again, and each came out as recorded."""
    demand = case.policy.replay
    if demand is None:
        return None
    against: list[Fact] = []
    gaps: list[Fact] = []
    kept: list[Fact] = []
    for claim in case.of("replay"):
        q, alpha, outcome = claim.level("q"), claim.level("alpha"), claim.text("outcome")
        text = (
            f"{claim.whole('replayed')} steps run again, {outcome}: at most a share {claim.text('q')} is wrong, up to "
            f"error {claim.text('alpha')}"
        )
        fact = case.fact(text, claim)
        if outcome != "agreed":
            against.append(fact)
        elif case.status(claim) in SUPPORTED and q <= demand.wrong_max.value and alpha <= demand.alpha.value:
            kept.append(fact)
        else:
            gaps.append(fact)
    if not (against or gaps or kept):
        gaps.append(Fact("no step was run again"))
    return three_ways(
        case,
        "CU205",
        "replay",
        f"replay = at most a share {demand.wrong_max.text} wrong, up to error {demand.alpha.text}",
        violated=against,
        gaps=[] if kept else gaps,
        kept=kept,
        titles=("a replayed step came out differently", "too few steps were run again", "steps run again"),
        means=(
            "the training records do not describe how the model came about",
            "a larger share of the recorded steps could be wrong than the policy allows",
        ),
        steps=(
            "do not rely on the records; train the affected shards again and audit anew",
            "replay more steps (`cu-cert replay`), or give the evidence with --evidence",
        ),
    )


PROVENANCE: Final[Mapping[str, Callable[[Case], Finding | None]]] = {"CU204": absent_all, "CU205": replay}
"""The rules on provenance by their ids."""
