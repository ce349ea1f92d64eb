"""Bets on coins, multiplied: the e-process of the sequential design, its bound, its power and where it stops.

Before the coin of a slot is opened, it is guessed; the guess may be withheld. Under (eps, 0) a guess is right with
probability at most q = sigma(eps) given everything before, so a stake of a share lambda of the wealth, paid out at the
odds 1/q, multiplies the wealth by 1 - lambda + lambda c/q, in the mean at most by 1: c = 1 for a right guess, 0 for a
wrong one. The product ever reaches 1/alpha with probability at most alpha (Ville's inequality), and so does the mean
over stakes fixed beforehand. One sequence of bets serves every eps, so neither the search for the largest refuted eps
nor looking after each slot costs any alpha.

Since 1/q = 1 + e^-eps, a right guess multiplies by 1 + lambda e^-eps and a wrong one by 1 - lambda.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from math import isqrt
from typing import Final, Literal

from .power import POWER
from .tails import STEP, enclose, exponential, floor_step, largest_step, sigmoid

Outcome = Literal["right", "wrong", "abstained", "failed"]

MARKS: Final[dict[str, Outcome]] = {"R": "right", "W": "wrong", "A": "abstained", "F": "failed"}
"""How the outcome of a slot is written; a sequence of slots is one string of them."""

LAMBDAS: Final = ("0.05", "0.1", "0.2", "0.35", "0.5", "0.7", "0.9")
"""The stakes, each a share of the wealth; the wealth is spread evenly over them at the start."""

DOWN: Final = Context(prec=40, rounding=ROUND_FLOOR, Emin=-(10**9), Emax=10**9)
UP: Final = Context(prec=40, rounding=ROUND_CEILING, Emin=-(10**9), Emax=10**9)
_STAKES: Final = tuple(Decimal(stake) for stake in LAMBDAS)
_NOTHING: Final = Decimal(0)
_ONE: Final = Decimal(1)

_NEGLIGIBLE: Final = Decimal("1e-30")
"""A state of a sequence less likely than this is dropped; the chance of a refutation only shrinks by that."""

Ended = Literal["refuted", "nothing", "budget"]


def guess_of(score: int, threshold: int, margin: int, *, forward: bool = False) -> int | None:
    """Return the guess about a slot: 1 unlearned, 0 retrained, ``None`` for none.

    Args:
        score: Of the slot's model; higher looks more like one that saw the request.
        threshold: Above it the guess is "unlearned".
        margin: At least 0; closer to the threshold than this nothing is guessed.
        forward: Guess "unlearned" alone: for a guarantee stated in one direction.
    """
    if score > threshold + margin:
        return 1
    return 0 if score <= threshold - margin and not forward else None


def mark_of(guess: int | None, coin: int) -> str:
    """Return the mark of a slot whose model did not fail."""
    return "A" if guess is None else "R" if guess == coin else "W"


def wealth(marks: str, eps: Fraction, context: Context = DOWN) -> list[Decimal]:
    """Return the wealth after each slot, starting from 1, every operation rounded as ``context`` says.

    Args:
        marks: What became of each slot; a failed one counts as a lost bet.
        eps: The eps under test, at least 0.
        context: Rounds down or up.
    """
    decay = exponential(-eps)
    odds = decay.low if context is DOWN else decay.high
    won = [context.add(_ONE, context.multiply(stake, odds)) for stake in _STAKES]
    lost = [context.subtract(_ONE, stake) for stake in _STAKES]
    parts, found = [_ONE] * len(_STAKES), []
    for mark in marks:
        if mark != "A":
            factors = won if mark == "R" else lost
            parts = [context.multiply(part, factor) for part, factor in zip(parts, factors, strict=True)]
        found.append(_mean(parts, context))
    return found


def _mean(parts: Sequence[Decimal], context: Context) -> Decimal:
    total = Decimal(0)
    for part in parts:
        total = context.add(total, part)
    return context.divide(total, Decimal(len(parts)))


def hopeful(marks: str) -> str:
    """Return the marks had each failed run been a bet won: what a pass must still survive."""
    return marks.replace("F", "R")


def wanted_wealth(alpha: Fraction, delta: Fraction, slots: int) -> Fraction | None:
    """Return 1/(alpha - N delta), the wealth that refutes; ``None`` when no wealth does.

    With probability at least 1 - N delta all N slots behave as under (eps, 0), so what is left of alpha is for those.

    Args:
        alpha: Level, in (0, 1).
        delta: Of the guarantee under test.
        slots: N, the most slots that may be opened.
    """
    left = alpha - slots * delta
    return 1 / left if left > 0 else None


def _first(found: Sequence[Decimal], wanted: Fraction | None) -> int | None:
    """Return after how many slots the wealth first reaches ``wanted``."""
    if wanted is None:
        return None
    limit = enclose(wanted).high
    return next((opened for opened, value in enumerate(found, 1) if value >= limit), None)


def betting_bound(marks: str, wanted: Fraction | None) -> Fraction:
    """Return the largest eps on the printed grid that was refuted at some time; 0 when none was.

    The wealth after any slot falls as eps rises, and so does its running maximum.

    Args:
        marks: What became of each slot, in the plan's order.
        wanted: What :func:`wanted_wealth` returns.
    """
    # Only a right guess raises the wealth, so the sequence up to the last one decides.
    needed = marks[: marks.rfind("R") + 1]
    return largest_step(lambda steps: _first(wealth(needed, steps * STEP), wanted) is not None)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a sequence of bets is held against.

    Args:
        slots: N, the most slots that may be opened.
        round: Slots between two looks.
        eps: eps* of the guarantee under test.
        wanted: Wealth that refutes, ``None`` when none does.
        needed: Bets with which a leak of the planned size is refuted with probability 0.8, ``None`` when N do not do.
    """

    slots: int
    round: int
    eps: Fraction
    wanted: Fraction | None
    needed: int | None

    @property
    def looks(self) -> list[int]:
        """After how many slots the rule looks: at each whole round, and at the end of the budget."""
        return [*range(self.round, self.slots, self.round), self.slots]


@lru_cache(maxsize=64)
def terms_of(*, slots: int, round_: int, alpha: Fraction, eps: Fraction, delta: Fraction, detect: Fraction) -> Terms:
    """Work out the terms of a plan.

    Args:
        slots: N.
        round_: Slots between two looks.
        alpha: The question's share.
        eps: eps*.
        delta: delta*.
        detect: The eps that should be seen.
    """
    wanted = wanted_wealth(alpha, delta, slots)
    needed = bets_needed(sigmoid(detect).low, eps, wanted, slots)
    return Terms(slots=slots, round=round_, eps=eps, wanted=wanted, needed=needed)


def ending(main: str, positive: str, terms: Terms) -> tuple[int, Ended] | None:
    """Return where the sequence ends, and why; ``None`` when all these slots are opened and it goes on.

    At each look, in this order: ``refuted``, when the wealth has refuted eps*; ``nothing``, when the positive control
    was refuted, the bets made reach the planned power, and the wealth at eps* is below 1, failed runs counted as bets
    won; ``budget``, when all N slots are opened.

    Args:
        main: What became of each opened slot.
        positive: The same with the original model in place of the unlearned one.
        terms: What they are held against.
    """
    exceeded = floor_step(terms.eps) + STEP
    hit, seen = (_first(wealth(marks, exceeded), terms.wanted) for marks in (main, positive))
    best = wealth(hopeful(main), terms.eps, UP)
    hidden = _first(wealth(hopeful(main), exceeded), terms.wanted)
    bets = list(accumulate(mark in "RW" for mark in main))
    for opened in terms.looks:
        if opened > len(main):
            return None
        if hit is not None and hit <= opened:
            return opened, "refuted"
        powered = terms.needed is not None and bets[opened - 1] >= terms.needed
        detected = seen is not None and seen <= opened
        clear = best[opened - 1] < 1 and (hidden is None or hidden > opened)
        if powered and detected and clear:
            return opened, "nothing"
        if opened == terms.slots:
            return opened, "budget"
    return None


def bets_needed(chance: Decimal, eps: Fraction, wanted: Fraction | None, most: int) -> int | None:
    """Return the fewest bets with which eps is refuted with probability 0.8; ``None`` when ``most`` do not suffice.

    Exact dynamic programming of the first passage, over the number of right and wrong bets: each state holds the
    chance, rounded down, that it is reached before any refutation.

    Args:
        chance: Of a right guess, the same for each bet, in [0, 1].
        eps: To be exceeded as printed.
        wanted: Wealth that refutes.
        most: Most bets.
    """
    made, refuted = _passage(chance, _wins_wanted(floor_step(eps) + STEP, wanted, most), most)
    return made if refuted >= POWER else None


def _passage(chance: Decimal, wins: Sequence[int], most: int) -> tuple[int, Decimal]:
    """Bet until eps is refuted with probability 0.8, at most ``most`` times.

    Args:
        chance: Of a right guess.
        wins: What :func:`_wins_wanted` returns.
        most: Most bets.

    Returns:
        The bets made, and the chance that they refuted, rounded down.
    """
    wrong = DOWN.subtract(_ONE, chance)
    # The states that are alive have first, first + 1, ... wrong bets. Refuted ones have fewer: a state with more wrong
    # bets has fewer right ones and needs more.
    first, alive, refuted = 0, [_ONE], Decimal(0)
    for made in range(1, most + 1):
        won = [DOWN.multiply(share, chance) for share in alive]
        missed = [DOWN.multiply(share, wrong) for share in alive]
        following = [*map(DOWN.add, [*won, _NOTHING], [_NOTHING, *missed])]
        start = 0
        while start < len(following) and made - first - start >= wins[first + start]:
            refuted = DOWN.add(refuted, following[start])
            start += 1
        if refuted >= POWER:
            return made, refuted
        end = len(following)
        while end > start and following[end - 1] <= _NEGLIGIBLE:
            end -= 1
        while start < end and following[start] <= _NEGLIGIBLE:
            start += 1
        first, alive = first + start, following[start:end]
        if not alive:
            break
    return most, refuted


def _wins_wanted(eps: Fraction, wanted: Fraction | None, most: int) -> list[int]:
    """Return, for each number of wrong bets up to ``most``, how many right ones refute; beyond ``most`` none do."""
    if wanted is None:
        return [most + 1] * (most + 1)
    limit, odds = enclose(wanted).high, exponential(-eps).low
    won = [DOWN.add(_ONE, DOWN.multiply(stake, odds)) for stake in _STAKES]
    lost = [DOWN.subtract(_ONE, stake) for stake in _STAKES]
    parts, wins, found = [_ONE] * len(_STAKES), 0, []
    for missed in range(most + 1):
        while wins + missed <= most and _mean(parts, DOWN) < limit:
            parts = [DOWN.multiply(part, factor) for part, factor in zip(parts, won, strict=True)]
            wins += 1
        found.append(wins if wins + missed <= most else most + 1)
        parts = [DOWN.multiply(part, factor) for part, factor in zip(parts, lost, strict=True)]
    return found


def rights_needed(eps: Fraction, wanted: Fraction | None, most: int) -> int | None:
    """Return how many right guesses in a row refute eps from the start; ``None`` when ``most`` do not."""
    return _first(wealth("R" * most, floor_step(eps) + STEP), wanted)


@lru_cache(maxsize=64)
def accuracy_needed(bets: int, eps: Fraction, wanted: Fraction | None) -> Fraction | None:
    """Return the smallest accuracy on the printed grid with which ``bets`` bets refute eps with probability 0.8."""
    if bets_needed(_ONE, eps, wanted, bets) is None:
        return None
    wins = _wins_wanted(floor_step(eps) + STEP, wanted, bets)
    low, high = 0, int(1 / STEP)
    # Fewest right ones among all bets that refute at the end: about that share is needed, and a little more.
    fewest = bets - max(lost for lost, needed in enumerate(wins) if lost + needed <= bets)
    guess, width = fewest * high // bets, max(high // (2 * isqrt(bets)), 1)
    while high - low > 1:
        # Any place between the two will do; this one closes in from the guess in growing steps, then halves.
        middle = guess if low < guess < high else (low + high) // 2
        if _passage(enclose(middle * STEP).low, wins, bets)[1] >= POWER:
            high, guess = middle, middle - width
        else:
            low, guess = middle, middle + width
        width = max(width // 3, 1) if low > 0 and high < int(1 / STEP) else 2 * width
    return high * STEP
