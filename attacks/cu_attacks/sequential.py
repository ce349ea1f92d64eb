"""``sequential``: does this method unlearn? The same fair coins as ``coinflip``, looked at after every slot.

Slot i is guessed before its coin is opened, by whatever was learned on pilots and on slots opened before. Under
(eps, 0) the guess is right with probability at most q = sigma(eps) given all of that, so betting a share lambda of the
wealth on each guess, at the odds 1/q, multiplies the wealth by 1 - lambda + lambda c_i/q, in the mean at most by 1. The
mean K(eps) of this product over stakes fixed beforehand is an e-process: it ever reaches 1/alpha with probability at
most alpha (Ville's inequality; betting as in Waudby-Smith and Ramdas 2024, arXiv 2010.09686). So

    eps_LB = the largest eps with max over t of K_t(eps) >= 1/(alpha - N delta)

holds at any stopping time, and the same bets serve every eps. Slots must be judged in the order of the plan. Judged in
the order of their arrival, retrained models before those that are unlearned on top of a training, a perfect method is
refuted for certain.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction

from cu_attacks._types import Attack, AttackError
from cu_certificates.check.betting import betting_bound, mark_of, wanted_wealth, wealth
from cu_certificates.check.design import MAX_SLOTS
from cu_certificates.check.tails import MAX_EPS, STEP, floor_step


@dataclass(frozen=True, kw_only=True)
class Sequential:
    """The outcome of a sequence of guesses, so far.

    Args:
        slots: Slots opened so far.
        budget: N, the most slots that may be opened.
        marks: What became of each: R a right guess, W a wrong one, A no guess, F a failed run.
        alpha: Level of the bound at all times together.
        delta: Of the guarantee under test.
        tested_eps: eps*, at which wealth is shown.
        wealth: K now at eps*, rounded down; a failed run is a lost bet.
        wanted: The wealth that refutes; ``None`` when alpha does not exceed N delta, and nothing can be refuted.
        bound: Lower bound on eps for the whole request, rounded down to four decimals.
        method: How the bound was computed.
        assumptions: What it rests on.
        shows_not: What a reader must not conclude.
    """

    slots: int
    budget: int
    marks: str
    alpha: Fraction
    delta: Fraction
    tested_eps: Fraction
    wealth: Fraction
    wanted: Fraction | None
    bound: Fraction
    method: str = "betting e-process, mean over seven stakes; valid at any stopping time"
    assumptions: str = (
        "fair coins; slots share nothing random, and are guessed in plan order from what was known before each coin"
    )
    shows_not: str = (
        "a bound of 0 does not show that nothing is left: read it with the largest eps these slots can show"
    )

    @property
    def right(self) -> int:
        """Right guesses."""
        return self.marks.count("R")

    @property
    def wrong(self) -> int:
        """Wrong guesses, without failed runs."""
        return self.marks.count("W")

    @property
    def bets(self) -> int:
        """Guesses made about runs that did not fail."""
        return self.right + self.wrong

    def running(self) -> tuple[Fraction, ...]:
        """Return the bound after each slot; it never falls."""
        found: list[Fraction] = []
        bound = Fraction(0)
        for opened, mark in enumerate(self.marks, 1):
            if mark == "R" and self.wanted is not None:
                seen = self.marks[:opened]
                if wealth(seen, bound + STEP)[-1] >= self.wanted:
                    bound = betting_bound(seen, self.wanted)
            found.append(bound)
        return tuple(found)

    def refuted_after(self) -> int | None:
        """Return after how many slots eps* was refuted, ``None`` when it was not."""
        if self.wanted is None:
            return None
        found = wealth(self.marks, floor_step(self.tested_eps) + STEP)
        return next((opened for opened, value in enumerate(found, 1) if value >= self.wanted), None)


def sequential(
    guesses: Sequence[int | None],
    coins: Sequence[int],
    *,
    alpha: Fraction,
    budget: int | None = None,
    delta: Fraction = Fraction(0),
    tested_eps: Fraction = Fraction(0),
    failed: Collection[int] = (),
    forward_only: bool = False,
) -> Sequential:
    """Bet on each guess in turn and bound eps.

    Args:
        guesses: One a slot, in the plan's order: 1 unlearned, 0 retrained, ``None`` for none. Each must have been fixed
            before its coin was opened.
        coins: One fair coin a slot: 1 unlearned, 0 retrained.
        alpha: Level, in (0, 1).
        budget: N, the most slots that may ever be opened; default those given. It matters when delta is above 0.
        delta: Of the guarantee under test, in [0, 1).
        tested_eps: eps*, at which the wealth is shown, 0 to 1000.
        failed: Numbers of the slots whose run failed; each is a lost bet, whatever its guess.
        forward_only: Only P_U <= e^eps P_R + delta is claimed, so a guess of "retrained" is no bet.

    Raises:
        AttackError: Sizes, guesses, coins or levels are out of range.
    """
    slots, most = len(coins), len(coins) if budget is None else budget
    if not slots or len(guesses) != slots or any(coin not in (0, 1) for coin in coins):
        raise AttackError(f"coins: expected one 0 or 1 for each of {len(guesses)} guesses, at least one")
    if any(guess not in (0, 1, None) for guess in guesses):
        raise AttackError("guesses: expected 0, 1 or None for each slot")
    if not slots <= most <= MAX_SLOTS:
        raise AttackError(f"budget: {most} slots; expected {slots} (those given) to {MAX_SLOTS}")
    if not set(failed) <= set(range(slots)):
        raise AttackError(f"failed: {sorted(failed)}; expected numbers of slots, 0 to {slots - 1}")
    if not 0 < alpha < 1 or not 0 <= delta < 1 or not 0 <= tested_eps <= MAX_EPS:
        raise AttackError(
            f"alpha {alpha}, delta {delta}, tested_eps {tested_eps}; expected 0 < alpha < 1, 0 <= delta < 1 and "
            f"0 <= tested_eps <= {MAX_EPS}"
        )
    kept = [None if forward_only and guess == 0 else guess for guess in guesses]
    marks = "".join(
        "F" if slot in failed else mark_of(guess, coin)
        for slot, (guess, coin) in enumerate(zip(kept, coins, strict=True))
    )
    wanted = wanted_wealth(alpha, delta, most)
    return Sequential(
        slots=slots,
        budget=most,
        marks=marks,
        alpha=alpha,
        delta=delta,
        tested_eps=tested_eps,
        wealth=Fraction(wealth(marks, tested_eps)[-1]),
        wanted=wanted,
        bound=betting_bound(marks, wanted),
    )


ATTACK = Attack(
    name="sequential",
    kind="question",
    paper="Waudby-Smith, Ramdas 2024, arXiv 2010.09686 (betting), on the coins of Steinke, Nasr, Jagielski 2023",
    run=sequential,
)
