"""Procedure question by two pools, for scores that were made without coins (design D1).

One half of each pool chooses a threshold and fits the score, the other half is counted. Which model belongs to which
half follows from the committed seed, so it does not follow from a score.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from .bands import counts_bound, pool_threshold, pools_differ
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
from .design import MAX_SLOTS
from .fields import Node, printed
from .pool_table import PoolTable, counted_half
from .power import POWER
from .strict import MAX_INT, Rejected
from .tables import Model
from .tails import STEP, binomial_pmf, binomial_tail, cp_lower, enclose, exponential, floor_step, sigmoid, tail_at_most

_NEGLIGIBLE: Final = Fraction(1, 10**30)
"""Counts of wrongly called models less likely than this are left out of the power, which only shrinks by that."""


@dataclass(frozen=True, kw_only=True)
class PoolSizes:
    """Sizes of the two pools that are counted, after the calibration halves are gone.

    Args:
        unlearned: Unlearned models.
        retrained: Retrained models.
        both: Whether the guarantee is stated in both directions.
    """

    unlearned: int
    retrained: int
    both: bool


def read_sizes(plan: Node) -> PoolSizes:
    """Return the planned sizes of what is counted.

    Raises:
        Rejected: A pool is too small to be halved, or too large.
    """
    procedure = plan.node("procedure")
    sizes = [counted_half(procedure.whole(key, 4, MAX_SLOTS)) for key in ("unlearned", "retrained")]
    both = procedure.text("direction", "both", "forward") == "both"
    return PoolSizes(unlearned=sizes[0], retrained=sizes[1], both=both)


def threshold_of(table: PoolTable, alpha: Fraction, delta: Fraction, *, both: bool, positive: bool = False) -> int:
    """Return the threshold that the calibration halves choose; failed models are left out.

    The positive control chooses one of its own: where unlearned models look like retrained ones, theirs is noise.

    Args:
        table: The evidence.
        alpha: Level of the bound.
        delta: delta* of the guarantee under test.
        both: Whether the guarantee is stated in both directions.
        positive: Whether originals stand in the place of the unlearned models.

    Raises:
        Rejected: A whole half failed.
    """
    treated = table.calibrate_original if positive else table.calibrate_unlearned
    halves = [
        [model.score for model in pool if model.score is not None] for pool in (treated, table.calibrate_retrained)
    ]
    if not all(halves):
        raise Rejected("evidence/pools: all models of a calibration half failed; no threshold can be chosen")
    return pool_threshold(halves[0], halves[1], alpha, delta, both=both)


def counts(
    unlearned: tuple[Model, ...], retrained: tuple[Model, ...], threshold: int, *, worst: bool
) -> tuple[int, int]:
    """Return how many models of each pool reach the threshold.

    Args:
        unlearned: Models of the one pool.
        retrained: Models of the other.
        threshold: See :func:`threshold_of`.
        worst: Whether a failed model counts against a refutation; else it counts for one.
    """
    true = sum(model.score >= threshold if model.score is not None else not worst for model in unlearned)
    false = sum(model.score >= threshold if model.score is not None else worst for model in retrained)
    return true, false


def _bound(true: int, false: int, sizes: PoolSizes, alpha: Fraction, delta: Fraction) -> Fraction:
    return counts_bound(true, sizes.unlearned, false, sizes.retrained, alpha, delta, both=sizes.both)


def _threshold(claim: Node, context: Context, alpha: Fraction, *, positive: bool = False) -> int:
    both = read_sizes(context.setting).both
    found = threshold_of(context.pools, alpha, context.tested_delta, both=both, positive=positive)
    if claim.whole("threshold", -MAX_INT, MAX_INT) != found:
        raise Rejected(
            f"{claim.path}.threshold: {claim.whole('threshold', -MAX_INT)}; the calibration halves give {found}"
        )
    return found


def eps_lower(claim: Node, context: Context) -> Outcome:
    """Recount both pools at the threshold that the other halves chose (Jagielski et al. 2020, arXiv 2006.07709)."""
    question = attack_question(claim, context, "procedure")
    planned(claim, True)
    alpha, delta = level_of(claim, context, question)
    sizes, table = read_sizes(context.setting), context.pools
    threshold = _threshold(claim, context, alpha)
    true, false = counts(table.unlearned, table.retrained, threshold, worst=True)
    for key, value in (
        ("true", true),
        ("unlearned", sizes.unlearned),
        ("false", false),
        ("retrained", sizes.retrained),
    ):
        derived_value(claim, key, value)
    bound = exact_bound(claim, _bound(true, false, sizes, alpha, delta))
    context.assume(claim, *ASSUMED)
    context.proven[claim.text("id")] = bound
    finding = context.finding(question)
    finding.bound = bound
    finding.generous = _bound(*counts(table.unlearned, table.retrained, threshold, worst=False), sizes, alpha, delta)
    if context.setting.node("score").text("name") == "calibrated":
        finding.split = True  # no model stands in two rows, and the halves that fit the score are not counted
    return "assumed", f"{true} of {sizes.unlearned} against {false} of {sizes.retrained}: eps >= {printed(bound)}"


def positive_bound(claim: Node, context: Context) -> Fraction:
    """The same rule, with original models in place of the unlearned ones in either half."""
    alpha, table = alpha_of(claim, context, "procedure"), context.pools
    sizes, originals = read_sizes(context.setting), len(table.original)
    if not originals:
        raise Rejected(f"{claim.path}: the evidence holds no original model")
    threshold = _threshold(claim, context, alpha, positive=True)
    true, false = counts(table.original, table.retrained, threshold, worst=True)
    for key, value in (("true", true), ("originals", originals), ("false", false), ("retrained", sizes.retrained)):
        derived_value(claim, key, value)
    own = PoolSizes(unlearned=originals, retrained=sizes.retrained, both=sizes.both)
    return exact_bound(claim, _bound(true, false, own, alpha, context.tested_delta))


def negative_outcome(claim: Node, context: Context) -> tuple[bool, str]:
    """Retrains that went through the method's code path lie above the threshold no more and no less often."""
    table = context.pools
    threshold = _threshold(claim, context, context.share("procedure"))
    pools = [[model.score for model in pool if model.score is not None] for pool in (table.rerun, table.retrained)]
    failed = len(table.rerun) - len(pools[0])
    if not all(pools):
        raise Rejected(f"{claim.path}: no rerun or no retrained model came out; there is no control")
    high = [sum(score >= threshold for score in pool) for pool in pools]
    planned_size(claim, "runs", len(table.rerun))
    for key, value in (("high", high[0]), ("referenceHigh", high[1])):
        derived_value(claim, key, value)
    if pools_differ(len(pools[0]), len(pools[0]), 0, len(pools[1])) > CONTROL_TAIL:
        raise Rejected(f"{claim.path}.runs: {len(pools[0])}; a control this small can never fail")
    # A rerun that failed may have hidden an alarm, so each counts as the one that would be seen most.
    p = pools_differ(high[0] + failed, len(pools[0]) + failed, high[1], len(pools[1]))
    return (
        p > CONTROL_TAIL,
        f"{high[0]} of {len(table.rerun)} reruns above the threshold, {high[1]} of {len(pools[1])} retrains",
    )


def most_eps(sizes: PoolSizes, alpha: Fraction, delta: Fraction) -> Fraction:
    """Return the bound that perfectly separated pools show."""
    return _bound(sizes.unlearned, 0, sizes, alpha, delta)


def reaches_power(sizes: PoolSizes, alpha: Fraction, eps: Fraction, delta: Fraction, detect: Fraction) -> bool:
    """Whether the pools exceed ``eps`` with probability 0.8 when each model is told rightly with chance sigma(detect).

    Args:
        sizes: The pools that are counted.
        alpha: Level of the bound.
        eps: eps* of the guarantee under test.
        delta: delta* of the guarantee under test.
        detect: The eps that should be seen.
    """
    chance = sigmoid(detect)
    wrong = Fraction(1) - Fraction(chance.low)
    growth = Fraction(exponential(floor_step(eps) + STEP).high)
    total, least = Fraction(0), 0
    for false in range(sizes.retrained + 1):
        share = Fraction(binomial_pmf(sizes.retrained, wrong, false).low)
        if share < _NEGLIGIBLE:
            continue  # left out, these make the power at most that much smaller
        fpr = 1 - cp_lower(sizes.retrained, sizes.retrained - false, alpha / 2)
        wanted = growth * fpr + delta
        if sizes.both:
            wanted = min(wanted, 1 - (1 - fpr - delta) / growth)
        # More wrongly called retrained models need more rightly called unlearned ones.
        least = _least_right(sizes.unlearned, least, wanted, alpha / 2)
        if least > sizes.unlearned:
            break
        seen = Fraction(binomial_tail(sizes.unlearned, enclose(Fraction(chance.low)), least).low)
        total += share * seen
        if total >= POWER:
            return True
        if total + seen < POWER:
            break  # what is left has at most probability 1, and is seen no more often
    return False


def _least_right(models: int, low: int, rate: Fraction, alpha: Fraction) -> int:
    """Return the fewest of ``models``, at least ``low``, whose Clopper-Pearson lower bound as printed reaches ``rate``.

    One more than there are models when no count does.
    """
    steps = max((rate / STEP).__ceil__(), 1)
    if steps * STEP > 1:
        return models + 1
    chance, high = enclose(steps * STEP), models + 1
    while low < high:
        middle = (low + high) // 2
        # The printed bound is the last step at which the tail is at most alpha, and the tail rises from step to step.
        if middle and tail_at_most(models, chance, middle, alpha):
            high = middle
        else:
            low = middle + 1
    return low


def power(claim: Node, context: Context) -> bool:
    """Whether the pools are large enough for the planned power."""
    alpha, detect = alpha_of(claim, context, "procedure"), claim.number("detectEps")
    sizes = read_sizes(context.setting)
    if detect != context.plan.number("detectEps"):
        raise Rejected(f"{claim.path}.detectEps: {claim.text('detectEps')}; differs from the plan")
    for key, value in (("unlearned", sizes.unlearned), ("retrained", sizes.retrained)):
        derived_value(claim, key, value)
    derived_value(claim, "maxEps", printed(most_eps(sizes, alpha, context.tested_delta)))
    return reaches_power(sizes, alpha, context.tested_eps, context.tested_delta, detect)


POOLS = DesignRules(rules={}, positive=positive_bound, negative=negative_outcome, power=power)
"""Its claim type, ``eps-lower``, may also stand beside another design; ``rules.py`` tells the two apart."""
