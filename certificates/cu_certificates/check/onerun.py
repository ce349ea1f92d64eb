"""The one-run audit's arithmetic: right guesses about fair coins of many records, all seen in one model.

Each of m candidate records entered training by a fair coin; r of the coins were guessed from the unlearned model alone,
and v guesses are right (Steinke, Nasr, Jagielski 2023, arXiv 2305.08846). Two statements follow from one v:

- *for one record*: were unlearning with and without any one record (eps, delta)-indistinguishable, v right guesses had
  probability at most f(v) + 2 m delta max_{i = 1..v} (f(v - i) - f(v)) / i, where f(k) = P[Bin(r, sigma(eps)) >= k];
- *for the whole request*: were the unlearned model (eps, delta)-indistinguishable from a retrained one, whose law knows
  no coin, that probability were at most e^eps P[Bin(r, 1/2) >= v] + delta.

Either bound is wrong only when v is at least so large, so the error events are nested and one level serves both.
"""

from collections.abc import Iterator
from decimal import Context, Decimal
from fractions import Fraction

from .strict import Rejected
from .tails import (
    DOWN,
    MAX_EPS,
    STEP,
    UP,
    Interval,
    binomial_pmf,
    binomial_tail,
    exponential,
    floor_step,
    group_bound,
    sigmoid,
)


def half_tail(guesses: int, right: int) -> Fraction:
    """Return P[Bin(guesses, 1/2) >= right] exactly: the chance of so many right guesses about coins that nobody saw.

    Args:
        guesses: r, at least 1.
        right: v, 0 to ``guesses``.

    Raises:
        Rejected: A number lies out of range.
    """
    _require(guesses, guesses, right)
    if 2 * right > guesses:
        ways = _ways(guesses, guesses - right)
    else:
        ways = 2**guesses - (_ways(guesses, right - 1) if right else 0)
    return Fraction(ways, 2**guesses)


def _ways(guesses: int, most: int) -> int:
    """Return how many outcomes have at most ``most`` right guesses; by symmetry, or as many wrong ones."""
    total = term = 1
    for reached in range(1, most + 1):
        term = term * (guesses - reached + 1) // reached
        total += term
    return total


def onerun_tail(candidates: int, guesses: int, right: int, eps: Fraction, delta: Fraction) -> tuple[Fraction, Fraction]:
    """Enclose the largest chance of ``right`` or more right guesses were one record (eps, delta)-hidden; at most 1.

    Args:
        candidates: m, all records that had a coin.
        guesses: r, 1 to ``candidates``.
        right: v, 0 to ``guesses``.
        eps: 0 to 1000.
        delta: In [0, 1).

    Returns:
        A lower and an upper end.

    Raises:
        Rejected: A number lies out of range.
    """
    _require(candidates, guesses, right)
    if not 0 <= eps <= MAX_EPS or not 0 <= delta < 1:
        raise Rejected(f"eps {eps}, delta {delta}; expected 0 <= eps <= {MAX_EPS} and 0 <= delta < 1")
    chance = sigmoid(eps)
    tail = binomial_tail(guesses, chance, right)
    low, high = Fraction(tail.low), Fraction(tail.high)
    if not delta:
        return low, min(high, Fraction(1))
    least = most = Decimal(0)
    widened = zip(_wider(guesses, chance.low, right, DOWN), _wider(guesses, chance.high, right, UP), strict=True)
    for steps, (lower, upper) in enumerate(widened, 1):
        if most * steps >= 1:
            break  # f is at most 1, so no wider window has a larger mean
        least = max(least, DOWN.divide(DOWN.subtract(lower, tail.high), Decimal(steps)))
        most = max(most, UP.divide(UP.subtract(upper, tail.low), Decimal(steps)))
    factor = 2 * candidates * delta
    return min(low + factor * Fraction(least), Fraction(1)), min(high + factor * Fraction(most), Fraction(1))


def _wider(guesses: int, chance: Decimal, right: int, context: Context) -> Iterator[Decimal]:
    """Yield P[Bin(guesses, chance) >= right - i] for i = 1 to ``right``, every operation rounded as ``context`` says.

    Each tail is the one before and one more term, so all of them take no longer than one.
    """
    upwards = context is UP
    tail = binomial_tail(guesses, Interval(chance, chance), right)
    total, odds = (tail.high if upwards else tail.low), context.divide(context.subtract(Decimal(1), chance), chance)
    first = binomial_pmf(guesses, Fraction(chance), right - 1) if right else tail
    term = first.high if upwards else first.low
    for reached in range(right - 1, -1, -1):
        total = context.add(total, term)
        yield total
        ratio = context.divide(Decimal(reached), Decimal(guesses - reached + 1))
        term = context.multiply(term, context.multiply(ratio, odds))


def onerun_bound(candidates: int, guesses: int, right: int, alpha: Fraction, delta: Fraction) -> Fraction:
    """Return the lower bound on eps for one record, rounded down to the printed grid, at least 0.

    What holds at an eps holds at every larger one, so any eps at which the tail is at most ``alpha`` is a valid bound;
    the search returns such an eps whose next step on the grid is not refuted.

    Args:
        candidates: m.
        guesses: r.
        right: v.
        alpha: One-sided level, in (0, 1).
        delta: In [0, 1).

    Raises:
        Rejected: A number lies out of range.
    """
    if not 0 < alpha < 1:
        raise Rejected(f"alpha {alpha}; expected a number above 0 and below 1")

    def refuted(steps: int) -> bool:
        return onerun_tail(candidates, guesses, right, steps * STEP, delta)[1] <= alpha

    if not refuted(1):
        return Fraction(0)
    low, high, limit = 1, 2, int(MAX_EPS / STEP)
    while high < limit and refuted(high):
        low, high = high, 2 * high
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low * STEP


def request_bound(guesses: int, right: int, alpha: Fraction, delta: Fraction) -> Fraction:
    """Return the lower bound on eps for the whole request, ln((alpha - delta) / P[Bin(r, 1/2) >= v]), rounded down.

    Args:
        guesses: r.
        right: v.
        alpha: One-sided level, in (0, 1).
        delta: In [0, 1); from ``alpha`` upwards nothing can be shown and the bound is 0.

    Raises:
        Rejected: A number lies out of range.
    """
    if not 0 < alpha < 1 or not 0 <= delta < 1:
        raise Rejected(f"alpha {alpha}, delta {delta}; expected 0 < alpha < 1 and 0 <= delta < 1")
    return group_bound(half_tail(guesses, right), alpha, delta)


def critical_right(guesses: int, alpha: Fraction, eps: Fraction, delta: Fraction) -> int | None:
    """Return the fewest right guesses whose printed request bound exceeds ``eps``; ``None`` when none does.

    Args:
        guesses: r.
        alpha: One-sided level, in (0, 1).
        eps: eps* of the guarantee under test.
        delta: delta* of the guarantee under test.
    """
    allowed = alpha - delta
    growth = Fraction(exponential(floor_step(eps) + STEP).high)
    found, ways, total = None, 1, 2**guesses
    seen = 0
    for wrong in range(guesses + 1):
        seen += ways
        if growth * seen > allowed * total:
            break
        found, ways = guesses - wrong, ways * (guesses - wrong) // (wrong + 1)
    return found


def _require(candidates: int, guesses: int, right: int) -> None:
    if not 1 <= guesses <= candidates or not 0 <= right <= guesses:
        raise Rejected(
            f"{right} right of {guesses} guesses about {candidates} candidates; expected 0 <= right <= guesses <= "
            "candidates and at least one guess"
        )
