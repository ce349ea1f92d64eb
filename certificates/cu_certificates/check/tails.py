"""Rigorous arithmetic: binomial tails, exponentials and the bounds built on them, enclosed from both sides.

Every routine returns an :class:`Interval` of decimals that contains the true value: each operation is rounded once down
and once up (Python's ``decimal`` rounds correctly, and its ``exp`` is within half a unit of the last place). A claim is
accepted only when the inequality holds for the whole interval, so rounding can never help a prover.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from math import comb
from typing import Final

from .strict import Rejected

DIGITS: Final = 60
DOWN: Final = Context(prec=DIGITS, rounding=ROUND_FLOOR, Emin=-(10**9), Emax=10**9)
UP: Final = Context(prec=DIGITS, rounding=ROUND_CEILING, Emin=-(10**9), Emax=10**9)

STEP: Final = Fraction(1, 10_000)
"""Bounds are printed on this grid: lower bounds rounded down to it, upper bounds up."""

_FALLING: Final = Decimal("0.9")
"""Below this ratio of a term to the one before, what is left of a series is little more than its next term."""

MAX_TRIALS: Final = 10_000_000
MAX_EPS: Final = Fraction(1000)


@dataclass(frozen=True)
class Interval:
    """A real number enclosed by two decimals."""

    low: Decimal
    high: Decimal

    def at_most(self, limit: Fraction) -> bool:
        """Whether the whole interval is at most ``limit``."""
        return Fraction(self.high) <= limit

    def above(self, limit: Fraction) -> bool:
        """Whether the whole interval is above ``limit``."""
        return Fraction(self.low) > limit


def enclose(value: Fraction) -> Interval:
    """Enclose a rational number."""
    numerator, denominator = Decimal(value.numerator), Decimal(value.denominator)
    return Interval(DOWN.divide(numerator, denominator), UP.divide(numerator, denominator))


@lru_cache(maxsize=4096)
def exponential(exponent: Fraction) -> Interval:
    """Enclose e^exponent for a rational exponent of magnitude at most 1000."""
    if abs(exponent) > MAX_EPS:
        raise Rejected(f"exponent {exponent}; expected a magnitude of at most {MAX_EPS}")
    argument = enclose(exponent)
    low, high = DOWN.exp(argument.low), UP.exp(argument.high)
    # exp rounds half-even whatever the context says, so one unit outwards makes it an enclosure.
    return Interval(DOWN.next_minus(low), UP.next_plus(high))


@lru_cache(maxsize=4096)
def sigmoid(eps: Fraction) -> Interval:
    """Enclose e^eps / (1 + e^eps), the largest chance of a right guess under (eps, 0)."""
    decay = exponential(-eps)
    one = Decimal(1)
    return Interval(DOWN.divide(one, UP.add(one, decay.high)), UP.divide(one, DOWN.add(one, decay.low)))


def _upper_tail(
    trials: int, chance: Decimal, successes: int, context: Context, limit: Interval | None = None
) -> Decimal:
    """Sum of the binomial probabilities from ``successes`` upwards, every operation rounded as ``context`` says.

    With a ``limit``, which only an upwards sum takes, the sum ends as soon as it is known on which side of it it lies.
    """
    upwards = context is UP
    opposite = DOWN if upwards else UP
    one = Decimal(1)
    if successes <= 0:
        return one
    if successes > trials or chance <= 0:
        return Decimal(0)
    if chance >= 1:
        return one
    failure = context.subtract(one, chance)
    coefficient = context.create_decimal(comb(trials, successes))
    term = context.multiply(coefficient, _power(chance, successes, context))
    term = context.multiply(term, _power(failure, trials - successes, context))
    odds = context.divide(chance, opposite.subtract(one, chance))
    total = Decimal(0)
    for reached in range(successes, trials + 1):
        total = context.add(total, term)
        if limit is not None and total > limit.high:
            return total
        ratio = context.multiply(context.divide(Decimal(trials - reached), Decimal(reached + 1)), odds)
        following = context.multiply(term, ratio)
        if ratio < _FALLING and (limit is not None or following < total.scaleb(-DIGITS)):
            # The ratios only fall from here, so what is left is below following / (1 - ratio).
            whole = context.add(total, context.divide(following, opposite.subtract(one, ratio))) if upwards else total
            if limit is None or whole <= limit.low or following < total.scaleb(-DIGITS):
                return whole
        term = following
    return min(total, one) if upwards else total


def _power(base: Decimal, exponent: int, context: Context) -> Decimal:
    """``base ** exponent`` by repeated squaring: every factor is positive, so directed rounding stays directed."""
    result, square = Decimal(1), base
    while exponent:
        if exponent & 1:
            result = context.multiply(result, square)
        exponent >>= 1
        if exponent:
            square = context.multiply(square, square)
    return result


def binomial_tail(trials: int, chance: Interval, successes: int) -> Interval:
    """Enclose P[Bin(trials, p) >= successes] for every p in ``chance``; the tail rises with p."""
    _require_trials(trials)
    return Interval(_upper_tail(trials, chance.low, successes, DOWN), _upper_tail(trials, chance.high, successes, UP))


def tail_at_most(trials: int, chance: Interval, successes: int, limit: Fraction) -> bool:
    """Whether P[Bin(trials, p) >= successes] is at most ``limit`` for every p in ``chance``; sooner than the tail."""
    _require_trials(trials)
    return Fraction(_upper_tail(trials, chance.high, successes, UP, enclose(limit))) <= limit


def _require_trials(trials: int) -> None:
    if not 0 <= trials <= MAX_TRIALS:
        raise Rejected(f"{trials} trials; expected 0 to {MAX_TRIALS}")


def binomial_pmf(trials: int, chance: Fraction, successes: int) -> Interval:
    """Enclose P[Bin(trials, chance) = successes]."""
    success, failure = enclose(chance), enclose(1 - chance)
    ways = comb(trials, successes)
    ends = []
    for context, p, q in ((DOWN, success.low, failure.low), (UP, success.high, failure.high)):
        both = context.multiply(_power(p, successes, context), _power(q, trials - successes, context))
        ends.append(context.multiply(context.create_decimal(ways), both))
    return Interval(ends[0], ends[1])


def guessing_tail(slots: int, guesses: int, right: int, eps: Fraction, delta: Fraction) -> Interval:
    """Enclose the largest chance of ``right`` or more right guesses under (eps, delta).

    With delta = 0 this is P[Bin(guesses, sigma(eps)) >= right]. With delta > 0 it is
    sum_b P[Bin(slots, delta) = b] P[Bin(max(guesses - b, 0), sigma(eps)) >= right - b] (the protocol's section 2; the
    tight form, for independent slots, of the one-run bound of Steinke, Nasr and Jagielski 2023, arXiv 2305.08846).

    Args:
        slots: Number of slots N, each with its own fair coin.
        guesses: Number of guesses r, at most ``slots``.
        right: Number of right guesses v.
        eps: At least 0.
        delta: In [0, 1).
    """
    chance = sigmoid(eps)
    if delta in (0, 1):
        return binomial_tail(slots, enclose(delta), right) if delta else binomial_tail(guesses, chance, right)
    # The sum rises with the chance of a right guess, so each end is worked out at one end of that.
    ends = [
        _lossy_tail(slots, guesses, right, end, delta, context)
        for end, context in ((chance.low, DOWN), (chance.high, UP))
    ]
    return Interval(ends[0], ends[1])


def _lossy_tail(slots: int, guesses: int, right: int, chance: Decimal, delta: Fraction, context: Context) -> Decimal:
    """Sum w_b G_b over the numbers b of lost slots: w_b = P[Bin(N, delta) = b], G_b = P[Bin(r - b, q) >= v - b].

    One pass: w follows from its ratios, and by Pascal's rule G_{b+1} = G_b + (1 - q) P[Bin(r - b - 1, q) = v - b - 1],
    where the exponent of 1 - q stays the same. All terms are positive, so directed rounding stays directed.
    """
    if right <= 0:
        return Decimal(1)
    upwards = context is UP
    opposite = DOWN if upwards else UP
    lost, kept = (end.high if upwards else end.low for end in (enclose(delta), enclose(1 - delta)))
    odds = context.divide(lost, (enclose(1 - delta).low if upwards else enclose(1 - delta).high))
    weight, tail = _power(kept, slots, context), _upper_tail(guesses, chance, right, context)
    step = Decimal(0)
    if right <= guesses:
        wrong = _power(context.subtract(Decimal(1), chance), guesses - right + 1, context)
        step = context.multiply(wrong, context.create_decimal(comb(guesses - 1, right - 1)))
        step = context.multiply(step, _power(chance, right - 1, context))
    total = Decimal(0)
    for gone in range(min(right, slots + 1)):
        total = context.add(total, context.multiply(weight, tail))
        ratio = context.multiply(odds, context.divide(Decimal(slots - gone), Decimal(gone + 1)))
        weight = context.multiply(weight, ratio)
        if ratio < _FALLING and weight < total.scaleb(-DIGITS):
            # The ratios only fall from here and no tail is above 1, so what is left is below weight / (1 - ratio).
            return (
                context.add(total, context.divide(weight, opposite.subtract(Decimal(1), ratio))) if upwards else total
            )
        tail = min(context.add(tail, step), Decimal(1))
        if step and gone + 1 < right:
            share = context.divide(Decimal(right - gone - 1), Decimal(guesses - gone - 1))
            step = context.divide(context.multiply(step, share), chance)
    certain = binomial_tail(slots, enclose(delta), right)
    return min(context.add(total, certain.high if upwards else certain.low), Decimal(1))


def floor_step(value: Fraction) -> Fraction:
    """Round down to the printed grid."""
    return (value / STEP).__floor__() * STEP


@lru_cache(maxsize=256)
def coinflip_bound(slots: int, guesses: int, right: int, alpha: Fraction, delta: Fraction) -> Fraction:
    """Return the largest eps on the printed grid that ``right`` of ``guesses`` refutes at level ``alpha``.

    Args:
        slots: Number of slots.
        guesses: Number of guesses.
        right: Number of right guesses.
        alpha: Level of the one-sided bound, in (0, 1).
        delta: In [0, 1).

    Returns:
        The bound, at least 0; 0 says nothing.
    """

    def refuted(steps: int) -> bool:
        return guessing_tail(slots, guesses, right, steps * STEP, delta).at_most(alpha)

    return largest_step(refuted)


def group_bound(p: Fraction, alpha: Fraction, delta: Fraction) -> Fraction:
    """Return ln((alpha - delta) / p) rounded down to the printed grid, at least 0."""

    def refuted(steps: int) -> bool:
        growth = exponential(steps * STEP)
        return Fraction(growth.high) * p <= alpha - delta

    return largest_step(refuted)


@lru_cache(maxsize=4096)
def cp_lower(trials: int, successes: int, alpha: Fraction) -> Fraction:
    """Return the one-sided Clopper-Pearson lower bound, rounded down to the printed grid."""

    def refuted(steps: int) -> bool:
        return tail_at_most(trials, enclose(steps * STEP), successes, alpha)

    return largest_step(refuted, limit=int(1 / STEP)) if successes else Fraction(0)


def cp_upper(trials: int, successes: int, alpha: Fraction) -> Fraction:
    """Return the one-sided Clopper-Pearson upper bound, rounded up to the printed grid."""
    return 1 - cp_lower(trials, trials - successes, alpha)


def largest_step(refuted: Callable[[int], bool], limit: int = int(MAX_EPS / STEP)) -> Fraction:
    """Return the largest multiple of the grid step at which a monotone predicate holds; 0 when none does."""
    if not refuted(1):
        return Fraction(0)
    low, high = 1, 2
    while high < limit and refuted(high):
        low, high = high, high * 2
    high = min(high, limit)
    if low < high and refuted(high):
        return high * STEP
    while high - low > 1:
        middle = (low + high) // 2
        if refuted(middle):
            low = middle
        else:
            high = middle
    return low * STEP


def smallest_step(holds: Callable[[int], bool], limit: int = int(MAX_EPS / STEP)) -> Fraction | None:
    """Return the smallest multiple of the grid step from which on a monotone predicate holds; ``None`` when none does.

    Args:
        holds: Takes a number of steps; false up to some number, true from there on.
        limit: Most steps.
    """
    if holds(0):
        return Fraction(0)
    if not holds(limit):
        return None
    low, high = 0, 1
    while high < limit and not holds(high):
        low, high = high, high * 2
    high = min(high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high * STEP


def beta_binomial_tail(runs: int, rank: int, references: int, alarms: int) -> Fraction:
    """Return the exact chance of ``alarms`` or more among ``runs`` sound models judged by one reference pool.

    A sound model's conformal p-value is at most rank / (references + 1) when it lies among the ``rank`` highest of the
    references + 1 models. All runs share one pool, so the number of alarms is beta-binomial with parameters
    (rank, references + 1 - rank); with whole parameters its probabilities are ratios of binomial coefficients (Polya's
    urn).

    Args:
        runs: Number of judged models k.
        rank: a = floor(alpha (references + 1)); with 0 no model can alarm.
        references: Size n of the pool.
        alarms: Number of alarms x.
    """
    if rank <= 0:
        return Fraction(int(alarms <= 0))
    other = references + 1 - rank
    first = max(alarms, 0)
    if first > runs:
        return Fraction(0)
    ways = comb(rank + first - 1, first) * comb(other + runs - first - 1, runs - first)
    total = ways
    for hits in range(first, runs):
        # Each product of binomial coefficients is a whole number, so the division leaves no rest.
        ways = ways * ((rank + hits) * (runs - hits)) // ((hits + 1) * (other + runs - hits - 1))
        total += ways
    return Fraction(total, comb(references + runs, runs))
