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
_DOWN: Final = Context(prec=DIGITS, rounding=ROUND_FLOOR, Emin=-(10**9), Emax=10**9)
_UP: Final = Context(prec=DIGITS, rounding=ROUND_CEILING, Emin=-(10**9), Emax=10**9)

STEP: Final = Fraction(1, 10_000)
"""Bounds are printed on this grid: lower bounds rounded down to it, upper bounds up."""

_NEGLIGIBLE: Final = Decimal("1e-40")

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
    return Interval(_DOWN.divide(numerator, denominator), _UP.divide(numerator, denominator))


@lru_cache(maxsize=4096)
def exponential(exponent: Fraction) -> Interval:
    """Enclose e^exponent for a rational exponent of magnitude at most 1000."""
    if abs(exponent) > MAX_EPS:
        raise Rejected(f"exponent {exponent}; expected a magnitude of at most {MAX_EPS}")
    argument = enclose(exponent)
    low, high = _DOWN.exp(argument.low), _UP.exp(argument.high)
    # exp rounds half-even whatever the context says, so one unit outwards makes it an enclosure.
    return Interval(_DOWN.next_minus(low), _UP.next_plus(high))


@lru_cache(maxsize=4096)
def sigmoid(eps: Fraction) -> Interval:
    """Enclose e^eps / (1 + e^eps), the largest chance of a right guess under (eps, 0)."""
    decay = exponential(-eps)
    one = Decimal(1)
    return Interval(_DOWN.divide(one, _UP.add(one, decay.high)), _UP.divide(one, _DOWN.add(one, decay.low)))


def _upper_tail(trials: int, chance: Decimal, successes: int, context: Context) -> Decimal:
    """Sum of the binomial probabilities from ``successes`` upwards, every operation rounded as ``context`` says."""
    upwards = context is _UP
    opposite = _DOWN if upwards else _UP
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
        ratio = context.multiply(context.divide(Decimal(trials - reached), Decimal(reached + 1)), odds)
        following = context.multiply(term, ratio)
        if ratio < Decimal("0.9") and following < total.scaleb(-DIGITS):
            # The ratios only fall from here, so what is left is below following / (1 - ratio).
            return context.add(total, context.divide(following, opposite.subtract(one, ratio))) if upwards else total
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
    if not 0 <= trials <= MAX_TRIALS:
        raise Rejected(f"{trials} trials; expected 0 to {MAX_TRIALS}")
    return Interval(_upper_tail(trials, chance.low, successes, _DOWN), _upper_tail(trials, chance.high, successes, _UP))


def binomial_pmf(trials: int, chance: Fraction, successes: int) -> Interval:
    """Enclose P[Bin(trials, chance) = successes]."""
    success, failure = enclose(chance), enclose(1 - chance)
    ways = comb(trials, successes)
    ends = []
    for context, p, q in ((_DOWN, success.low, failure.low), (_UP, success.high, failure.high)):
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
    if delta == 0:
        return binomial_tail(guesses, chance, right)
    low, high = Decimal(0), Decimal(0)
    for lost in range(min(max(right, 0), slots + 1)):
        rest = binomial_tail(slots, enclose(delta), lost)
        if rest.high < _NEGLIGIBLE:
            return Interval(low, _UP.add(high, rest.high))
        weight = binomial_pmf(slots, delta, lost)
        tail = binomial_tail(max(guesses - lost, 0), chance, right - lost)
        low = _DOWN.add(low, _DOWN.multiply(weight.low, tail.low))
        high = _UP.add(high, _UP.multiply(weight.high, tail.high))
    certain = binomial_tail(slots, enclose(delta), right)
    return Interval(_DOWN.add(low, certain.low), _UP.add(high, certain.high))


def floor_step(value: Fraction) -> Fraction:
    """Round down to the printed grid."""
    return (value / STEP).__floor__() * STEP


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


def cp_lower(trials: int, successes: int, alpha: Fraction) -> Fraction:
    """Return the one-sided Clopper-Pearson lower bound, rounded down to the printed grid."""

    def refuted(steps: int) -> bool:
        return binomial_tail(trials, enclose(steps * STEP), successes).at_most(alpha)

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
    total = Fraction(0)
    for hits in range(max(alarms, 0), runs + 1):
        total += comb(rank + hits - 1, hits) * comb(other + runs - hits - 1, runs - hits)
    return total / comb(references + runs, runs)
