"""What an audit of a given size can see: computed before it is planned, and again by the checker."""

from fractions import Fraction
from functools import lru_cache
from typing import Final

from .tails import STEP, binomial_tail, enclose, exponential, floor_step, guessing_tail, sigmoid

POWER: Final = Fraction(4, 5)
"""The chance with which an audit must detect what it says it can detect."""


@lru_cache(maxsize=256)
def critical_guesses(slots: int, guesses: int, alpha: Fraction, eps: Fraction, delta: Fraction) -> int | None:
    """Return the fewest right guesses whose printed bound exceeds ``eps``; ``None`` when none does."""
    exceeded = floor_step(eps) + STEP

    def refuted(right: int) -> bool:
        return guessing_tail(slots, guesses, right, exceeded, delta).at_most(alpha)

    if not refuted(guesses):
        return None
    low, high = -1, guesses  # the tail falls as the number of right guesses rises
    while high - low > 1:
        middle = (low + high) // 2
        if refuted(middle):
            high = middle
        else:
            low = middle
    return high


def power_at(guesses: int, critical: int, accuracy: Fraction | None = None, eps: Fraction | None = None) -> bool:
    """Whether ``critical`` or more of ``guesses`` are right with probability 0.8 at an accuracy or at sigma(eps)."""
    chance = enclose(accuracy) if accuracy is not None else sigmoid(eps or Fraction(0))
    return not binomial_tail(guesses, chance, critical).low < POWER


@lru_cache(maxsize=256)
def smallest_accuracy(guesses: int, critical: int) -> Fraction:
    """Return the smallest accuracy on the printed grid that is detected with probability 0.8."""
    low, high = 0, int(1 / STEP)
    while high - low > 1:
        middle = (low + high) // 2
        if power_at(guesses, critical, accuracy=middle * STEP):
            high = middle
        else:
            low = middle
    return high * STEP


def smallest_references(alpha: Fraction, eps: Fraction, delta: Fraction) -> int | None:
    """Return the smallest pool in which the most extreme model exceeds ``eps`` as printed; ``None`` when none does.

    ln((alpha - delta)(n + 1)) must reach the next printed step above eps, so n + 1 >= e^eps' / (alpha - delta).
    """
    if alpha <= delta:
        return None
    needed = Fraction(exponential(floor_step(eps) + STEP).high) / (alpha - delta)
    return max(needed.__ceil__() - 1, 1)
