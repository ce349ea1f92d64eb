"""Procedure question by one run on drawn records: recount the guesses on both sides and redo the binomial bounds.

Two sides are looked at, each with half of the level: records that are still remembered (highest scores called "in"),
and records that were pushed away too far (lowest scores called "in").
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from .candidate_table import RunSizes
from .coinflip import most_right
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
from .onerun import critical_right, half_tail, onerun_bound, request_bound
from .power import power_at, smallest_accuracy
from .strict import Rejected

SIDES: Final = 2
"""Remembering and over-forgetting: each has its share of alpha, and of the negative control's tail."""

ONERUN_ASSUMED: Final = (*(name for name in ASSUMED if name != "A11"), "A20")
"""A20 in the place of A11: the score is fixed by reference models that the plan names, and training heeds the coins."""

Scores = Sequence[int | None]


def _turned(scores: Scores) -> list[int | None]:
    """Return the scores of the other side, where the lowest are called "in"."""
    return [None if score is None else -score for score in scores]


def _both_sides(claim: Node, sizes: RunSizes, bits: Sequence[int], scores: Scores) -> tuple[int, int]:
    """Recount the right guesses of either side, candidates without a score counted as wrong."""
    planned_size(claim, "guesses", sizes.guesses)
    found = right_guesses(bits, scores, sizes.guesses), right_guesses(bits, _turned(scores), sizes.guesses)
    for key, right in zip(("right", "reversed"), found, strict=True):
        if claim.whole(key) != right:
            raise Rejected(f"{claim.path}.{key}: {claim.whole(key)}; the evidence gives {right}")
    return found


def _most(sizes: RunSizes, bits: Sequence[int], scores: Scores, rights: tuple[int, int]) -> int:
    """Return the most guesses of a side that could be right had every candidate a score."""
    r = sizes.guesses
    coins = Coins(slots=sizes.candidates, guesses=r, counted=r, control_guesses=r, control_counted=r, forward=False)
    sides = (list(scores), rights[0]), (_turned(scores), rights[1])
    return max(most_right(bits, side, right, coins) for side, right in sides)


def eps_onerun(claim: Node, context: Context) -> Outcome:
    """Recount the guesses about the coins of drawn records, and redo both bounds (arXiv 2305.08846, applied here)."""
    question = attack_question(claim, context, "procedure")
    sizes, table = context.run, context.candidates
    planned_size(claim, "candidates", sizes.candidates)
    planned(claim, True)
    alpha, delta = level_of(claim, context, question)
    rights = _both_sides(claim, sizes, table.coins, table.scores)
    right, side = max(rights), alpha / SIDES
    bound = exact_bound(claim, request_bound(sizes.guesses, right, side, delta))
    record = onerun_bound(sizes.candidates, sizes.guesses, right, side, delta)
    derived_value(claim, "recordBound", printed(record))
    context.assume(claim, *ONERUN_ASSUMED)
    finding = context.finding(question)
    finding.bound = bound
    finding.generous = request_bound(sizes.guesses, _most(sizes, table.coins, table.scores, rights), side, delta)
    finding.split = True  # the plan names the references before there is a coin, and none of them is judged
    return "assumed", (
        f"{right} of {sizes.guesses} guesses right about {sizes.candidates} drawn records: eps >= {printed(bound)} for "
        f"the whole request, eps >= {printed(record)} for one record"
    )


def positive_bound(claim: Node, context: Context) -> Fraction:
    """The same rule on the model before unlearning, on the side of remembering.

    No model that over-forgets is at hand, so the other side has no positive control.
    """
    alpha, sizes, table = alpha_of(claim, context, "procedure"), context.run, context.candidates
    planned_size(claim, "guesses", sizes.guesses)
    right = right_guesses(table.coins, table.originals, sizes.guesses)
    if claim.whole("right") != right:
        raise Rejected(f"{claim.path}.right: {claim.whole('right')}; the evidence gives {right}")
    return exact_bound(claim, request_bound(sizes.guesses, right, alpha / SIDES, context.tested_delta))


def negative_outcome(claim: Node, context: Context) -> tuple[bool, str]:
    """Retrained models know no coin: guesses about their mean score are fair on both sides; failures count as right."""
    sizes, table = context.run, context.candidates
    rights = _both_sides(claim, sizes, table.coins, table.reruns)
    if control_fails(sizes.guesses, sizes.guesses):
        most = min(max(rights) + table.reruns.count(None), sizes.guesses)
        told = f"{rights[0]} of {sizes.guesses} guesses right on retrained models, {rights[1]} with the sides exchanged"
        return not control_fails(sizes.guesses, most), told
    raise Rejected(f"{claim.path}.guesses: {sizes.guesses}; a control this small can never fail")


def control_fails(guesses: int, right: int) -> bool:
    """Whether so many right guesses about retrained models are too many for chance: at most 1 % of sound runs."""
    return half_tail(guesses, right) <= CONTROL_TAIL / SIDES


def power(claim: Node, context: Context) -> bool:
    """Whether the candidates are enough for the planned power."""
    alpha, sizes, detect = alpha_of(claim, context, "procedure"), context.run, claim.number("detectEps")
    side, delta, guesses = alpha / SIDES, context.tested_delta, sizes.guesses
    planned_size(claim, "candidates", sizes.candidates)
    planned_size(claim, "guesses", guesses)
    if detect != context.plan.number("detectEps"):
        raise Rejected(f"{claim.path}.detectEps: {claim.text('detectEps')}; differs from the plan")
    critical = critical_right(guesses, side, context.tested_eps, delta)
    derived_value(claim, "critical", critical)
    derived_value(claim, "accuracy", None if critical is None else printed(smallest_accuracy(guesses, critical)))
    derived_value(claim, "maxEps", printed(request_bound(guesses, guesses, side, delta)))
    derived_value(claim, "maxRecordEps", printed(onerun_bound(sizes.candidates, guesses, guesses, side, delta)))
    return critical is not None and power_at(guesses, critical, eps=detect)


ONERUN = DesignRules(
    rules={"eps-onerun": eps_onerun},
    positive=positive_bound,
    negative=negative_outcome,
    power=power,
    assumed=ONERUN_ASSUMED,
)
