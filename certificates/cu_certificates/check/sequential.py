"""Procedure question by slots judged one after another: multiply the bets, and see that they stop where planned."""

from fractions import Fraction
from typing import Final

from .betting import Terms, accuracy_needed, betting_bound, ending, hopeful, rights_needed, terms_of
from .coinflip import fair_guesses
from .coins import right_guesses
from .common import (
    ASSUMED,
    DesignRules,
    Outcome,
    alpha_of,
    attack_question,
    derived_value,
    exact_bound,
    level_of,
    planned,
    planned_size,
)
from .context import Context
from .fields import Node, printed
from .strict import Rejected

BETTING_ASSUMED: Final = (*(name for name in ASSUMED if name != "A11"), "A13")
"""A13 in the place of A11: a score is learned on opened slots as well, before the coin of its own slot is opened."""


def _marks(context: Context, group: str) -> str:
    """Return what became of each opened slot of ``main`` or ``positive``."""
    table = context.bets
    bets = table.main if group == "main" else table.positive
    return table.marks(bets, forward=context.betting.forward)


def _terms(context: Context) -> Terms:
    sizes = context.betting
    return terms_of(
        slots=sizes.slots,
        round_=sizes.round,
        alpha=context.share("procedure"),
        eps=context.tested_eps,
        delta=context.tested_delta,
        detect=context.plan.number("detectEps"),
    )


def _counts(claim: Node, marks: str) -> None:
    """Demand that the claim counts the bets as the evidence gives them."""
    for key, mark in (("right", "R"), ("wrong", "W"), ("abstained", "A"), ("failed", "F")):
        if claim.whole(key) != marks.count(mark):
            raise Rejected(f"{claim.path}.{key}: {claim.whole(key)}; the evidence gives {marks.count(mark)}")


def eps_sequential(claim: Node, context: Context) -> Outcome:
    """The largest eps that the wealth refuted at some time, and the end of the sequence that the plan's rule gives."""
    question = attack_question(claim, context, "procedure")
    sizes = context.betting
    planned_size(claim, "slots", sizes.slots)
    claim.text("direction", sizes.direction)
    planned(claim, True)
    level_of(claim, context, question)
    main, positive, terms = _marks(context, "main"), _marks(context, "positive"), _terms(context)
    ended = ending(main, positive, terms)
    if ended is None or ended[0] != len(main):
        where = "goes on beyond that" if ended is None else f"ends after {ended[0]}"
        raise Rejected(f"{claim.path}.opened: {len(main)} slots were opened; the plan's rule {where}")
    derived_value(claim, "opened", len(main))
    claim.text("ended", ended[1])
    _counts(claim, main)
    bound = exact_bound(claim, betting_bound(main, terms.wanted))
    context.assume(claim, *BETTING_ASSUMED)
    finding = context.finding(question)
    finding.bound, finding.generous = bound, betting_bound(hopeful(main), terms.wanted)
    made = len(main) - main.count("A")
    return "assumed", (
        f"{main.count('R')} of {made} guesses right over {len(main)} of at most {sizes.slots} slots: "
        f"eps >= {printed(bound)}"
    )


def positive_bound(claim: Node, context: Context) -> Fraction:
    """The same multiplication over the same slots, with the original models in place of the unlearned ones."""
    alpha_of(claim, context, "procedure")
    marks = _marks(context, "positive")
    derived_value(claim, "opened", len(marks))
    _counts(claim, marks)
    return exact_bound(claim, betting_bound(marks, _terms(context).wanted))


def negative_outcome(claim: Node, context: Context) -> tuple[bool, str]:
    """On fresh retrained models alone, ranked by the last score, right guesses are fair coins."""
    sizes, table = context.betting, context.bets
    planned_size(claim, "guesses", sizes.control_guesses)
    scores = [model.score for model in table.negative]
    right = right_guesses(table.control_coins, scores, sizes.control_guesses, forward_only=sizes.forward)
    if claim.whole("right") != right:
        raise Rejected(f"{claim.path}.right: {claim.whole('right')}; the evidence gives {right}")
    return fair_guesses(claim, right, scores.count(None), sizes.control_counted)


def power(claim: Node, context: Context) -> bool:
    """Whether the bets that were made are enough for the planned power."""
    alpha_of(claim, context, "procedure")
    if claim.number("detectEps") != context.plan.number("detectEps"):
        raise Rejected(f"{claim.path}.detectEps: {claim.text('detectEps')}; differs from the plan")
    terms, marks = _terms(context), _marks(context, "main")
    bets = marks.count("R") + marks.count("W")
    accuracy = accuracy_needed(bets, context.tested_eps, terms.wanted)
    derived_value(claim, "bets", bets)
    derived_value(claim, "critical", rights_needed(context.tested_eps, terms.wanted, bets))
    derived_value(claim, "needed", terms.needed)
    derived_value(claim, "accuracy", None if accuracy is None else printed(accuracy))
    derived_value(claim, "maxEps", printed(betting_bound("R" * bets, terms.wanted)))
    return terms.needed is not None and bets >= terms.needed


SEQUENTIAL = DesignRules(
    rules={"eps-sequential": eps_sequential},
    positive=positive_bound,
    negative=negative_outcome,
    power=power,
    assumed=BETTING_ASSUMED,
)
