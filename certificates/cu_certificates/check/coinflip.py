"""Procedure question by coin-flip slots: recount the right guesses and redo the binomial bound."""

from collections.abc import Sequence
from fractions import Fraction

from .coins import right_guesses
from .common import (
    ASSUMED,
    CONTROL_TAIL,
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
from .design import Coins
from .fields import Node, printed
from .power import critical_guesses, power_at, smallest_accuracy
from .strict import Rejected
from .tables import Model
from .tails import binomial_tail, coinflip_bound, enclose


def _guesses(
    claim: Node, coins: Coins, guesses: int, bits: Sequence[int], models: Sequence[Model]
) -> tuple[int, list[int | None]]:
    """Recount the right guesses, failed runs counted as wrong; returns them and the scores."""
    planned_size(claim, "guesses", guesses)
    scores = [model.score for model in models]
    right = right_guesses(bits, scores, guesses, forward_only=coins.forward)
    if claim.whole("right") != right:
        raise Rejected(f"{claim.path}.right: {claim.whole('right')}; the evidence gives {right}")
    return right, scores


def most_right(bits: Sequence[int], scores: Sequence[int | None], right: int, coins: Coins) -> int:
    """Return the most guesses that could be right had no run failed.

    That is the larger of two counts: each failed run is a right guess, and each failed run has the score that helps
    most. The second can be larger: failed runs at the top would have pushed wrong guesses out of it.
    """
    filled = [(2**53 if bit else -(2**53)) if score is None else score for bit, score in zip(bits, scores, strict=True)]
    moved = right_guesses(bits, filled, coins.guesses, forward_only=coins.forward)
    return max(moved, min(right + scores.count(None), coins.counted))


def eps_coinflip(claim: Node, context: Context) -> Outcome:
    """Procedure question: recount the right guesses and redo the binomial bound."""
    question = attack_question(claim, context, "procedure")
    coins, table = context.coins, context.slots
    planned_size(claim, "slots", coins.slots)
    claim.text("direction", coins.direction)
    planned(claim, True)
    alpha, delta = level_of(claim, context, question)
    right, scores = _guesses(claim, coins, coins.guesses, table.coins, table.main)
    bound = exact_bound(claim, coinflip_bound(coins.slots, coins.counted, right, alpha, delta))
    context.assume(claim, *ASSUMED)
    finding, most = context.finding(question), most_right(table.coins, scores, right, coins)
    finding.bound = bound
    finding.generous = coinflip_bound(coins.slots, coins.counted, most, alpha, delta)
    return "assumed", f"{right} of {coins.counted} guesses right over {coins.slots} slots: eps >= {printed(bound)}"


def positive_bound(claim: Node, context: Context) -> Fraction:
    """The same rule, with the original models in place of the unlearned ones."""
    alpha, coins, table = alpha_of(claim, context, "procedure"), context.coins, context.slots
    right, _ = _guesses(claim, coins, coins.guesses, table.coins, table.positive)
    return exact_bound(claim, coinflip_bound(coins.slots, coins.counted, right, alpha, context.tested_delta))


def negative_outcome(claim: Node, context: Context) -> tuple[bool, str]:
    """On retrained models alone right guesses are fair coins; too many show a fault of the pipeline."""
    coins, table = context.coins, context.slots
    right, scores = _guesses(claim, coins, coins.control_guesses, table.control_coins, table.negative)
    return fair_guesses(claim, right, scores.count(None), coins.control_counted)


def fair_guesses(claim: Node, right: int, failed: int, counted: int) -> tuple[bool, str]:
    """Whether so many right guesses are within what fair coins give, had each failed run been one more.

    Raises:
        Rejected: The control is so small that it can never fail.
    """
    half = enclose(Fraction(1, 2))
    if not binomial_tail(counted, half, counted).at_most(CONTROL_TAIL):
        raise Rejected(f"{claim.path}.guesses: {counted}; a control this small can never fail")
    tail = binomial_tail(counted, half, min(right + failed, counted))
    return tail.above(CONTROL_TAIL), f"{right} of {counted} guesses right on retrained models"


def power(claim: Node, context: Context) -> bool:
    """Whether the slots are enough for the planned power."""
    alpha, coins, detect = alpha_of(claim, context, "procedure"), context.coins, claim.number("detectEps")
    eps, delta = context.tested_eps, context.tested_delta
    planned_size(claim, "guesses", coins.guesses)
    if detect != context.plan.number("detectEps"):
        raise Rejected(f"{claim.path}.detectEps: {claim.text('detectEps')}; differs from the plan")
    critical = critical_guesses(coins.slots, coins.counted, alpha, eps, delta)
    derived_value(claim, "critical", critical)
    derived_value(claim, "accuracy", None if critical is None else printed(smallest_accuracy(coins.counted, critical)))
    derived_value(claim, "maxEps", printed(coinflip_bound(coins.slots, coins.counted, coins.counted, alpha, delta)))
    return critical is not None and power_at(coins.counted, critical, eps=detect)


COINS = DesignRules(
    rules={"eps-coinflip": eps_coinflip}, positive=positive_bound, negative=negative_outcome, power=power
)
