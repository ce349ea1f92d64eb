"""How the design ``sequential`` of the procedure question is planned: slots judged one by one, up to a budget."""

from typing import TYPE_CHECKING, Final

from cu_certificates._designs import Planner, Resolution, coin_sizes, control_problems
from cu_certificates.check.betting import LAMBDAS, Terms, accuracy_needed, betting_bound, rights_needed, terms_of

if TYPE_CHECKING:
    from cu_certificates.plan import Plan, Subject

ROUND: Final = 4
"""Slots between two looks. It is part of the plan, so that no result depends on how many models train at a time."""

CONTROL_SIZES: Final = {"both": (16, 12), "forward": (20, 14)}
"""Slots and guesses of the negative control, by direction; fewer could never fail it. They are models of its own."""


def betting_terms(plan: "Plan", subject: "Subject") -> Terms:
    """Return what the bets about a subject are held against."""
    return terms_of(
        slots=plan.sizes.slots,
        round_=min(ROUND, plan.sizes.slots),
        alpha=plan.share(),
        eps=subject.tested_eps,
        delta=subject.tested_delta,
        detect=plan.detect_eps,
    )


def _node(plan: "Plan") -> dict[str, object]:
    return coin_sizes(plan) | {"round": min(ROUND, plan.sizes.slots), "lambdas": list(LAMBDAS)}


def _resolution(plan: "Plan", subject: "Subject") -> Resolution:
    terms, slots = betting_terms(plan, subject), plan.sizes.slots
    best = betting_bound("R" * slots, terms.wanted)
    return Resolution(
        question="procedure",
        max_eps=best,
        critical=rights_needed(subject.tested_eps, terms.wanted, slots),
        accuracy=accuracy_needed(slots, subject.tested_eps, terms.wanted),
        reached=terms.needed is not None,
        possible=best > subject.tested_eps,
        why=f"procedure: {slots} slots one after another cannot refute eps* = {subject.tested_eps} at alpha "
        f"{plan.share()}, even if each is guessed right; plan more slots",
    )


def _problems(plan: "Plan") -> list[str]:
    fixed = ["procedure: slots that share one original cannot be judged one after another; expected original = redrawn"]
    return control_problems(plan) + (fixed if plan.original == "fixed" else [])


SEQUENTIAL = Planner(node=_node, resolution=_resolution, problems=_problems)
