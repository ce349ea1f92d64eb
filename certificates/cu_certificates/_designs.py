"""How each design of a question is planned: its sizes in ``plan.json``, what they can see, and whether they make sense.

A design is one value of ``Planner``; ``plan.py`` lists them. The checker reads the same sizes again by the rules of
``check/``, so nothing here is trusted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.power import critical_guesses, power_at, smallest_accuracy, smallest_references
from cu_certificates.check.tables import MAX_POOL
from cu_certificates.check.tails import beta_binomial_tail, coinflip_bound, group_bound

if TYPE_CHECKING:
    from cu_certificates.plan import Plan, Subject


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What an audit of this size can see about one subject and question.

    Args:
        question: ``procedure`` or ``artifact``.
        max_eps: Largest eps that a perfect outcome shows.
        critical: Fewest right guesses that refute (procedure), ``None`` when no outcome refutes.
        accuracy: Smallest guessing accuracy that is refuted with probability 0.8 (procedure).
        smallest: Fewest references with which anything can be refuted (artifact), ``None`` when none suffices.
        reached: Whether the planned power is reached.
        possible: Whether a refutation is possible at all.
        why: One line that says what is too small when it is not possible, and what to plan instead.
    """

    question: str
    max_eps: Fraction
    critical: int | None = None
    accuracy: Fraction | None = None
    smallest: int | None = None
    reached: bool
    possible: bool
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Planner:
    """One design of one question.

    Args:
        node: Returns its sizes as they stand in ``plan.json``, without the key ``design``.
        resolution: Returns what they can see about a subject.
        problems: Says, one line each, which control could never fail.
    """

    node: "Callable[[Plan], dict[str, object]]"
    resolution: "Callable[[Plan, Subject], Resolution]"
    problems: "Callable[[Plan], list[str]]"


def coin_sizes(plan: "Plan") -> dict[str, object]:
    """Return the sizes that every coin-flip design has."""
    sizes = plan.sizes
    return {
        "slots": sizes.slots,
        "controlSlots": sizes.control_slots,
        "controlGuesses": sizes.control_guesses,
        "direction": plan.direction,
    }


def control_problems(plan: "Plan") -> list[str]:
    """Say whether the negative control of a coin-flip design can fail at all."""
    counted = plan.counted(plan.sizes.control_guesses)
    if Fraction(1, 2**counted) > CONTROL_TAIL:
        return [f"procedure: {counted} guesses in the negative control; one this small can never fail"]
    return []


def _coins(plan: "Plan", subject: "Subject") -> Resolution:
    alpha, eps, delta, sizes = plan.share(), subject.tested_eps, subject.tested_delta, plan.sizes
    counted = plan.counted(sizes.guesses)
    critical = critical_guesses(sizes.slots, counted, alpha, eps, delta)
    return Resolution(
        question="procedure",
        max_eps=coinflip_bound(sizes.slots, counted, counted, alpha, delta),
        critical=critical,
        accuracy=None if critical is None else smallest_accuracy(counted, critical),
        reached=critical is not None and power_at(counted, critical, eps=plan.detect_eps),
        possible=critical is not None,
        why=f"procedure: {sizes.guesses} guesses over {sizes.slots} slots cannot refute eps* = {eps} at alpha {alpha}, "
        "even if all are right; plan more slots",
    )


def _references(plan: "Plan", subject: "Subject") -> Resolution:
    alpha, eps, delta, references = plan.share(), subject.tested_eps, subject.tested_delta, plan.sizes.references
    smallest = smallest_references(alpha, eps, delta)
    possible = smallest is not None and references >= smallest
    need = "more alpha" if smallest is None else f"at least {smallest} references"
    return Resolution(
        question="artifact",
        max_eps=group_bound(Fraction(1, references + 1), alpha, delta),
        smallest=smallest,
        reached=possible,
        possible=possible,
        why=f"artifact: {references} references cannot refute eps* = {eps} at alpha {alpha}, whatever they show; "
        f"expected {need}",
    )


def _reference_problems(plan: "Plan") -> list[str]:
    sizes = plan.sizes
    if max(sizes.references, sizes.negatives) > MAX_POOL:
        return [f"artifact: {sizes.references} references, {sizes.negatives} controls; expected at most {MAX_POOL}"]
    rank = (plan.share() * (sizes.references + 1)).__floor__()
    if beta_binomial_tail(sizes.negatives, rank, sizes.references, sizes.negatives) > CONTROL_TAIL:
        return [f"artifact: {sizes.negatives} negative controls; so few can never fail"]
    return []


COINS = Planner(
    node=lambda plan: coin_sizes(plan) | {"guesses": plan.sizes.guesses},
    resolution=_coins,
    problems=control_problems,
)

REFERENCES = Planner(
    node=lambda plan: {"references": plan.sizes.references, "positives": 1, "negatives": plan.sizes.negatives},
    resolution=_references,
    problems=_reference_problems,
)
