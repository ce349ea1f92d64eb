"""What rules have in common: a claim's question, level and sizes, compared with the plan before they are used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from .context import Context
from .design import same
from .fields import Node, printed
from .result import Status
from .strict import Rejected

Outcome = tuple[Status, str]

Rule = Callable[[Node, Context], Outcome]

CONTROL_TAIL: Final = Fraction(1, 100)
"""A sound pipeline fails its negative control in at most this share of audits."""

ASSUMED: Final = tuple(f"A{number}" for number in range(1, 12))
"""The trusted base, stated wherever a bound on eps stands; A9, because nobody but the prover drew the seed."""


@dataclass(frozen=True, kw_only=True)
class DesignRules:
    """How one design of a question is re-derived.

    Args:
        rules: Its claim types.
        positive: Returns the bound that the positive control reaches, by the rule of the claim that it controls.
        negative: Returns whether the negative control is sound, and one line about it.
        power: Returns whether the sizes reach the planned power, after comparing what the claim says of it.
        assumed: The assumptions on which its bound on eps rests.
    """

    rules: Mapping[str, Rule]
    positive: Callable[[Node, Context], Fraction]
    negative: Callable[[Node, Context], tuple[bool, str]]
    power: Callable[[Node, Context], bool]
    assumed: tuple[str, ...] = ASSUMED


def once(claim: Node, context: Context, *keys: str) -> None:
    """Refuse a second claim of one kind: a reader must not have to ask which of two counts."""
    named = ("type", *keys)
    for other in context.claims.values():
        if other is not claim and all(other.value.get(key) == claim.value.get(key) for key in named):
            raise Rejected(f"{claim.path}: says again what {other.text('id')!r} says; expected one claim of its kind")


def question_of(claim: Node, context: Context, *allowed: str, keys: tuple[str, ...] = ("sign",)) -> str:
    """Return the claim's question, which must be a planned one with one claim of this kind.

    Args:
        claim: The claim.
        context: Where the planned questions stand.
        allowed: The questions that it may be about.
        keys: Further fields in which claims of one kind may differ.
    """
    question = claim.text("question", *allowed)
    if question not in context.questions():
        raise Rejected(f"{claim.path}.question: {question!r} was not planned")
    once(claim, context, "question", *keys)
    return question


def attack_question(claim: Node, context: Context, question: str) -> str:
    """Return the question of the claim that answers it, which must be of the type that its design plans."""
    question = question_of(claim, context, question)
    design = context.design(question)
    if claim.text("type") != design.attack:
        raise Rejected(f"{claim.path}.type: {claim.text('type')!r}; the plan answers this question by {design.attack}")
    claim.text("evidence", design.evidence)
    return question


def planned_size(claim: Node, key: str, expected: int) -> int:
    """Return a size that must be the planned one."""
    size = claim.whole(key)
    if size != expected:
        raise Rejected(f"{claim.path}.{key}: {size}; the plan says {expected}")
    return size


def planned(claim: Node, expected: bool) -> None:
    """Demand the one value of ``planned`` that a claim type can have."""
    if claim.flag("planned") is not expected:
        raise Rejected(f"{claim.path}.planned: {claim.flag('planned')}; expected {expected} for {claim.text('type')}")


def alpha_of(claim: Node, context: Context, question: str) -> Fraction:
    """Return the claim's level, which must be the question's planned share."""
    alpha = claim.level("alpha")
    if alpha != context.share(question):
        raise Rejected(f"{claim.path}.alpha: {alpha}; the plan gives this question {context.share(question)}")
    return alpha


def level_of(claim: Node, context: Context, question: str) -> tuple[Fraction, Fraction]:
    """Return the planned share of alpha and the delta under test, as the claim states them."""
    alpha, delta = alpha_of(claim, context, question), claim.number("delta", high=Fraction(1))
    if delta != context.tested_delta:
        raise Rejected(f"{claim.path}.delta: {delta}; the guarantee under test has {context.tested_delta}")
    return alpha, delta


def exact_bound(claim: Node, derived: Fraction) -> Fraction:
    """Demand that the printed bound is the one that the evidence gives, neither more nor less."""
    bound = claim.number("bound")
    if bound != derived:
        raise Rejected(f"{claim.path}.bound: {claim.text('bound')}; the evidence gives {printed(derived)}")
    return bound


def derived_value(claim: Node, key: str, derived: int | str | None) -> None:
    """Demand that a field holds what sizes or evidence give."""
    if not same(claim.value.get(key, "absent"), derived):
        raise Rejected(f"{claim.path}.{key}: {claim.value.get(key)!r}; expected {derived!r}")
