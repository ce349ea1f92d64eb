"""``coinflip``: does this method unlearn? Fair coins decide between unlearning and retraining, slot by slot.

The binomial argument of Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846, theorem for pure eps), applied to whole
models: under (eps, 0) the posterior chance that a coin shows "unlearned", given every model, lies in
[sigma(-eps), sigma(eps)], so v right guesses of r that do not look at the coins are stochastically at most
Bin(r, sigma(eps)), and a one-sided Clopper-Pearson bound on v / r is a bound on eps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from cu_attacks._types import Attack, AttackError
from cu_certificates.check.coins import right_guesses
from cu_certificates.check.tails import coinflip_bound
from cu_certificates.plan import default_guesses


@dataclass(frozen=True, kw_only=True)
class CoinFlip:
    """The outcome of a coin-flip audit.

    Args:
        slots: N.
        guesses: r, those that were counted.
        right: v, with failed slots counted as wrong guesses.
        alpha: One-sided level.
        delta: Of the guarantee under test.
        bound: Lower bound on eps for the whole request, rounded down to four decimals.
        assumptions: What the bound rests on.
        shows_not: What a reader must not conclude.
    """

    slots: int
    guesses: int
    right: int
    alpha: Fraction
    delta: Fraction
    bound: Fraction
    assumptions: str = "fair coins drawn after the score was fixed; slots share nothing random"
    shows_not: str = "a bound of 0 does not show that nothing is left: read it with the largest eps this size can show"


def coinflip(
    scores: Sequence[int | None],
    coins: Sequence[int],
    *,
    alpha: Fraction,
    guesses: int | None = None,
    delta: Fraction = Fraction(0),
    forward_only: bool = False,
) -> CoinFlip:
    """Guess every coin by rank and bound eps.

    Args:
        scores: One integer a slot, higher looks more like a model that saw the request; ``None`` for a failed slot.
        coins: One fair coin a slot: 1 unlearned, 0 retrained.
        alpha: One-sided level of the bound, in (0, 1).
        guesses: r, even, fixed before the coins; default 2 floor(3N/8).
        delta: Of the guarantee under test, in [0, 1).
        forward_only: Only P_U <= e^eps P_R + delta is claimed: guess the top r/2 alone.

    Raises:
        AttackError: Sizes or levels are out of range.
    """
    slots = len(scores)
    planned = default_guesses(slots) if guesses is None else guesses
    if len(coins) != slots or any(coin not in (0, 1) for coin in coins):
        raise AttackError(f"coins: expected one 0 or 1 for each of {slots} slots")
    if planned % 2 or not 2 <= planned <= slots:
        raise AttackError(f"guesses: {planned}; expected an even number from 2 to {slots}")
    if not 0 < alpha < 1 or not 0 <= delta < 1:
        raise AttackError(f"alpha {alpha}, delta {delta}; expected 0 < alpha < 1 and 0 <= delta < 1")
    right = right_guesses(coins, scores, planned, forward_only=forward_only)
    counted = planned // 2 if forward_only else planned
    bound = coinflip_bound(slots, counted, right, alpha, delta)
    return CoinFlip(slots=slots, guesses=counted, right=right, alpha=alpha, delta=delta, bound=bound)


ATTACK = Attack(
    name="coinflip",
    kind="question",
    paper="Steinke, Nasr, Jagielski 2023, arXiv 2305.08846, applied to models",
    run=coinflip,
)
