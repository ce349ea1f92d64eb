"""Slots with fair coins: ``coinflip``, its negative control, and ``sequential`` with a fixed and a learning score."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from math import exp
from typing import Final

import numpy as np
from scipy import stats

from benchmarks.calibration._laws import (
    BEST,
    LAPLACE,
    LAPLACE_TIED,
    OTHER_SCORES,
    RECORDS,
    RESPONSE,
    SCORES,
    SIGNALS,
    IntArray,
    Pair,
    SignalLaw,
    audited,
    failing,
    fitted,
    giving_away,
    same,
)
from benchmarks.calibration._study import ALPHA, NONE, Case, Curve, Rng, Trial
from cu_attacks._combined import fit_combined
from cu_attacks._relearned import relearn
from cu_attacks.coinflip import coinflip
from cu_attacks.sequential import sequential
from cu_certificates.check.betting import LAMBDAS, guess_of
from cu_certificates.check.coins import right_guesses
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.power import critical_guesses
from cu_certificates.check.tails import binomial_tail, enclose, guessing_tail
from cu_certificates.plan import default_guesses

Guesser = Callable[[Rng, IntArray], list[int | None]]
"""Takes the source and the coins; guesses each slot from models that these coins decided."""

ABOVE: Final = "bound above the true eps"
FAILS: Final = "control fails on a sound pipeline"
SIZES: Final = (8, 16, 32, 64, 128)
ROUND: Final = 8
QUARTER: Final = ALPHA / 4


def flips(rng: Rng, size: int) -> IntArray:
    """Return fair coins."""
    return rng.integers(0, 2, size)


# --- coinflip --------------------------------------------------------------------------------------------------------


def _flipped(pair: Pair, slots: int, guesses: int, alpha: Fraction) -> Trial:
    def trial(rng: Rng) -> bool:
        coins = flips(rng, slots)
        found = coinflip(
            pair.draw(rng, coins),
            coins.tolist(),
            alpha=alpha,
            guesses=guesses,
            delta=pair.delta,
            forward_only=pair.forward,
        )
        return found.bound > pair.eps

    return trial


def guessing_chance(pair: Pair, slots: int, guesses: int, alpha: Fraction = ALPHA) -> float:
    """Return how often the bound is too large when every guess is right with the largest chance.

    Args:
        pair: Whose distance is the truth.
        slots: N.
        guesses: r.
        alpha: Level.
    """
    eps = Fraction(pair.eps)
    critical = critical_guesses(slots, guesses, alpha, eps, pair.delta)
    return 0.0 if critical is None else float(guessing_tail(slots, guesses, critical, eps, pair.delta).high)


def _coinflip(
    name: str, pair: Pair, slots: int, *, guesses: int | None = None, alpha: Fraction = ALPHA, tight: bool = False
) -> Case:
    chosen = default_guesses(slots) if guesses is None else guesses
    side = ", guesses of one side" if pair.forward else ""
    return Case(
        name=f"coinflip/{name}/{slots}",
        test="coinflip",
        statement=ABOVE,
        setting=f"{pair.words}; {slots} slots, r = {chosen}{side}",
        level=float(alpha),
        runs=10_000,
        trial=_flipped(pair, slots, chosen, alpha),
        exact=guessing_chance(pair, slots, chosen, alpha) if tight else None,
    )


def coinflips() -> Iterator[Case]:
    """Yield the rows of ``coinflip``."""
    for slots in SIZES:
        # Retrained against retrained, each guess is right with chance 1/2 exactly, whatever the scores.
        yield _coinflip("retrain", same("continuous"), slots, tight=True)
    for law in list(SCORES)[1:]:
        yield _coinflip(f"retrain, {law}", same(law), 64, tight=True)
    for law in SIGNALS:
        yield _coinflip(f"fitted score, {law}", audited(law), 64, tight=True)
    for score in OTHER_SCORES:
        yield _coinflip(f"{score} score, dependent", audited("dependent", score), 64, tight=True)
    yield _coinflip("quarter of alpha", same("continuous"), 64, alpha=QUARTER, tight=True)
    for slots in SIZES[1:]:
        yield _coinflip("laplace", LAPLACE, slots)
    yield _coinflip("laplace, tied", LAPLACE_TIED, 64)
    # With a quarter of the slots guessed, every guessed one told its side: the error is the binomial tail itself.
    yield _coinflip("response", RESPONSE, 128, guesses=32, tight=True)
    yield _coinflip("response", RESPONSE, 64)
    yield _coinflip("delta", giving_away(RESPONSE, 50), 64, guesses=16, tight=True)
    yield _coinflip("delta", giving_away(LAPLACE, 50), 32)
    yield _coinflip("forward", BEST, 64)
    yield _coinflip("forward", BEST, 128, guesses=32)
    yield _coinflip("failed runs", failing("15 % of the runs", 0.15, 0.15), 64)
    yield _coinflip("failed unlearned", failing("20 % of the unlearned runs", 0.0, 0.2), 64)
    yield _coinflip("failed retrained", failing("20 % of the retrained runs", 0.2, 0.0), 64)


# --- The negative control of slots -----------------------------------------------------------------------------------


@cache
def _too_many(guesses: int, right: int) -> bool:
    """The rule of the checker: so many right guesses, or more, have a chance of at most 1 %."""
    return not binomial_tail(guesses, enclose(Fraction(1, 2)), right).above(CONTROL_TAIL)


def _controlled(law: SignalLaw, slots: int) -> Trial:
    """As the evidence has it: retrained models of the main run serve the control first, under fresh coins."""

    def trial(rng: Rng) -> bool:
        guesses, scores = default_guesses(slots), fitted(law)(rng, 2 * slots)
        main, fresh = scores[:slots], scores[slots:]
        coins, control = flips(rng, slots), flips(rng, slots)
        spare = [score for score, coin in zip(main, coins, strict=True) if not coin]
        used = [spare.pop(0) if not coin and spare else fresh[slot] for slot, coin in enumerate(control)]
        return _too_many(guesses, right_guesses(control.tolist(), used, guesses))

    return trial


def _controlled_last(law: SignalLaw, slots: int) -> Trial:
    """Of a sequence: fresh models under the last score, which was learned from 64 opened slots of one law."""

    def trial(rng: Rng) -> bool:
        pilots = law(rng, 16, RECORDS) + 0.7, law(rng, 16, RECORDS), law(rng, 16, RECORDS)
        opened, signals = flips(rng, 64) == 1, law(rng, 64, RECORDS)
        judge = relearn(fit_combined(*pilots), pilots, signals[opened], signals[~opened], eps=NONE)
        scores: list[int | None] = [*judge.score(law(rng, slots, RECORDS))]
        guesses = default_guesses(slots)
        return _too_many(guesses, right_guesses(flips(rng, slots).tolist(), scores, guesses))

    return trial


def controls() -> Iterator[Case]:
    """Yield the rows of the negative control of both designs."""

    def case(test: str, law: str, slots: int, words: str, trial: Trial) -> Case:
        guesses = default_guesses(slots)
        first = next(right for right in range(guesses + 1) if _too_many(guesses, right))
        return Case(
            name=f"control of {test}/{law}/{slots}",
            test=f"control of {test}",
            statement=FAILS,
            setting=words,
            level=float(CONTROL_TAIL),
            runs=10_000,
            trial=trial,
            exact=float(stats.binom.sf(first - 1, guesses, 0.5)),
        )

    for slots in (16, 32, 64, 256):
        for law in SIGNALS if slots == 64 else ("dependent",):
            words = f"fitted score, {law}; {slots} slots, retrained models of the main run first"
            yield case("coinflip", law, slots, words, _controlled(SIGNALS[law], slots))
    for law in ("dependent", "heavy tails"):
        words = f"the last score learned, {law}; 32 fresh slots"
        yield case("sequential", law, 32, words, _controlled_last(SIGNALS[law], 32))


# --- sequential ------------------------------------------------------------------------------------------------------


@cache
def ever_refuted(chance: float, eps: float, slots: int, alpha: float = float(ALPHA)) -> float:
    """Return how often bets that are each won with ``chance`` refute ``eps`` within so many slots, in floats.

    The probability of every number of won and lost bets, summed over paths that have not reached 1/alpha before.

    Args:
        chance: Of a right guess.
        eps: Under test.
        slots: N.
        alpha: Level.
    """
    stakes = [float(stake) for stake in LAMBDAS]
    alive, refuted = {0: 1.0}, 0.0  # by won bets
    for made in range(1, slots + 1):
        following: dict[int, float] = {}
        for won, share in alive.items():
            for more, part in ((1, chance), (0, 1 - chance)):
                wins = won + more
                wealth = np.mean([(1 + stake * exp(-eps)) ** wins * (1 - stake) ** (made - wins) for stake in stakes])
                if wealth >= 1 / alpha:
                    refuted += share * part
                else:
                    following[wins] = following.get(wins, 0.0) + share * part
        alive = following
    return refuted


def _threshold(pair: Pair, middle: float) -> Guesser:
    """Guess by a threshold on the score that was fixed beforehand."""

    def guess(rng: Rng, coins: IntArray) -> list[int | None]:
        scores = pair.draw(rng, coins)
        return [None if score is None else guess_of(score, round(middle), 0, forward=pair.forward) for score in scores]

    return guess


def _timid(rng: Rng, coins: IntArray) -> list[int | None]:
    """Withhold the guess where a Laplace score lies in the middle."""
    return [guess_of(score or 0, 500_000, 400_000) for score in LAPLACE.draw(rng, coins)]


def _learning(law: SignalLaw, shift: float) -> Guesser:
    """Learn the score again on opened slots after each round; unlearned models lie ``shift`` above retrained ones."""

    def guess(rng: Rng, coins: IntArray) -> list[int | None]:
        pilots = law(rng, 16, RECORDS) + 0.7, law(rng, 16, RECORDS), law(rng, 16, RECORDS)
        frozen, found = fit_combined(*pilots), list[int | None]()
        signals = law(rng, len(coins), RECORDS) + shift * coins[:, None]
        for first in range(0, len(coins), ROUND):
            opened = coins[:first] == 1
            judge = relearn(frozen, pilots, signals[:first][opened], signals[:first][~opened], eps=NONE)
            scores = judge.score(signals[first : first + ROUND])
            found += [guess_of(score, judge.threshold, judge.margin) for score in scores]
        return found

    return guess


def _opened(guess: Guesser, slots: int, pair: Pair, fail: float = 0.0) -> Trial:
    def trial(rng: Rng) -> bool:
        coins = flips(rng, slots)
        found = sequential(
            guess(rng, coins),
            coins.tolist(),
            alpha=ALPHA,
            delta=pair.delta,
            failed=np.flatnonzero(rng.random(slots) < fail).tolist(),
            forward_only=pair.forward,
        )
        return found.bound > pair.eps

    return trial


def sequences() -> Iterator[Case]:
    """Yield the rows of ``sequential``; each bound is that of all stopping times together."""

    def case(
        name: str, pair: Pair, guess: Guesser, slots: int, *, runs: int = 10_000, tight: bool = False, fail: float = 0.0
    ) -> Case:
        chance = 1 / (1 + exp(-pair.eps))
        return Case(
            name=f"sequential/{name}/{slots}",
            test="sequential",
            statement=f"{ABOVE} at any time",
            setting=f"{pair.words}; {slots} slots",
            level=float(ALPHA),
            runs=runs,
            trial=_opened(guess, slots, pair, fail),
            exact=ever_refuted(chance, pair.eps, slots) if tight else None,
        )

    alike = same("continuous")
    for slots in (16, 32, 64, 128):
        yield case("retrain", alike, _threshold(alike, 0), slots, tight=True)
    for law in ("whole numbers", "all equal"):
        yield case(f"retrain, {law}", same(law), _threshold(same(law), 0), 64, tight=True)
    yield case("response", RESPONSE, _threshold(RESPONSE, 750_000), 64, runs=2000, tight=True)
    yield case("response", RESPONSE, _threshold(RESPONSE, 750_000), 128, runs=2000, tight=True)
    yield case("laplace", LAPLACE, _threshold(LAPLACE, 500_000), 64, runs=2000)
    yield case("guesses withheld", LAPLACE, _timid, 64, runs=2000)
    rare = giving_away(alike, 2000)
    yield case("delta", rare, _threshold(rare, 0), 64)
    yield case("forward", BEST, _threshold(BEST, 500_000), 64, runs=2000)
    yield case("failed runs", alike, _threshold(alike, 0), 64, fail=0.15)
    for law, signals in SIGNALS.items():
        pair = Pair(words=f"one law, score learned anew each round, {law}", eps=0.0, draw=alike.draw)
        yield case(f"learning, {law}", pair, _learning(signals, 0.0), 64, runs=2000, tight=True)


# --- Power -----------------------------------------------------------------------------------------------------------


def _ranked(slots: int) -> Callable[[Rng, float], bool]:
    """A coin agrees with the guess at its rank with the given chance."""

    def trial(rng: Rng, accuracy: float) -> bool:
        scores, guesses = rng.permutation(slots), default_guesses(slots)
        guessed = scores >= slots - guesses // 2
        coins = np.where(rng.random(slots) < accuracy, guessed, ~guessed).astype(int)
        return coinflip(scores.tolist(), coins.tolist(), alpha=ALPHA).bound > 0

    return trial


def _bet(rng: Rng, accuracy: float) -> bool:
    coins = flips(rng, 64)
    guessed = np.where(rng.random(64) < accuracy, coins, 1 - coins)
    return sequential(guessed.tolist(), coins.tolist(), alpha=ALPHA).bound > 0


def curves() -> Iterator[Curve]:
    """Yield the power curves of both designs."""
    accuracies = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9)
    effect = "chance of a right guess"
    for slots in (32, 64, 128):
        yield Curve(
            name=f"power/coinflip/{slots}",
            test="coinflip",
            effect=effect,
            setting=f"{slots} slots, r = {default_guesses(slots)}",
            points=accuracies,
            runs=2000,
            trial=_ranked(slots),
        )
    yield Curve(
        name="power/sequential/64",
        test="sequential",
        effect=effect,
        setting="64 slots at most",
        points=accuracies,
        runs=1000,
        trial=_bet,
    )
