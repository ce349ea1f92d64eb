"""How the design ``onerun`` of the procedure question is planned: one run on records that coins draw."""

from typing import TYPE_CHECKING

from cu_certificates._designs import Planner, Resolution
from cu_certificates.check.candidates import SIDES, control_fails
from cu_certificates.check.onerun import critical_right, request_bound
from cu_certificates.check.power import power_at, smallest_accuracy

if TYPE_CHECKING:
    from cu_certificates.plan import Plan, Subject


def _node(plan: "Plan") -> dict[str, object]:
    sizes = plan.sizes
    return {
        "candidates": sizes.slots,
        "guesses": sizes.guesses,
        "controls": sizes.negatives,
        "references": sizes.references,
    }


def _resolution(plan: "Plan", subject: "Subject") -> Resolution:
    side, eps, delta, guesses = plan.share() / SIDES, subject.tested_eps, subject.tested_delta, plan.sizes.guesses
    critical = critical_right(guesses, side, eps, delta)
    return Resolution(
        question="procedure",
        max_eps=request_bound(guesses, guesses, side, delta),
        critical=critical,
        accuracy=None if critical is None else smallest_accuracy(guesses, critical),
        reached=critical is not None and power_at(guesses, critical, eps=plan.detect_eps),
        possible=critical is not None,
        why=f"procedure: {guesses} guesses about {plan.sizes.slots} candidates cannot refute eps* = {eps} at alpha "
        f"{side} a side, even if all are right; draw more candidates",
    )


def _problems(plan: "Plan") -> list[str]:
    guesses = plan.sizes.guesses
    if not control_fails(guesses, guesses):
        return [f"procedure: {guesses} guesses in the negative control; one this small can never fail"]
    return []


ONERUN = Planner(node=_node, resolution=_resolution, problems=_problems)
