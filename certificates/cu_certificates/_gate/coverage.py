"""CU301: every closed batch of requests is covered by a trusted certificate for the model about to be used."""

from collections.abc import Sequence

from cu_certificates._gate.case import Fact, Finding, some
from cu_certificates._gate.report import Judged
from cu_certificates._policy_types import Policy


def coverage(policy: Policy, certificates: Sequence[tuple[str, Judged | None]]) -> Finding | None:
    """Judge the certificates together; ``None`` when the policy names no batch.

    A certificate that other rules block still says which batch it is about: its own findings keep the gate shut.

    Args:
        policy: The demands.
        certificates: File name of each certificate, and what it says once it is trusted.
    """
    if not policy.forget_roots:
        return None
    stated = {one.root: file for file, one in reversed(certificates) if one is not None}
    uncovered: list[Fact] = []
    kept: list[Fact] = []
    for batch in policy.forget_roots:
        named = f"root {batch.root} ({batch.source})"
        if batch.root in stated:
            kept.append(Fact(f"{named} is covered by {stated[batch.root]}"))
        else:
            told = ", ".join(stated) or "nothing that is trusted"
            uncovered.append(Fact(f"{named} is not covered; the certificates speak of {told}"))
    batches, line = len(policy.forget_roots), policy.lines.get("forget_root")
    return Finding(
        rule="CU301",
        outcome="violated" if uncovered else "ok",
        title="a batch of requests is not covered" if uncovered else "requests covered",
        found=some(uncovered or kept),
        allowed=f"forget_root = {batches} {'batch' if batches == 1 else 'batches, each'} with a certificate for this "
        "model",
        where=f"{policy.file}:{line}" if line else "default of cu-cert",
        means="no trusted certificate speaks of these requests and this model",
        next_step="audit the model for the open batch and give its certificate as well, or correct the root",
    )
