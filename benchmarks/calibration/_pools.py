"""Two pools of models: ``pools`` (design D1) and its control, and the bounds made of counts."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import exp
from typing import Final

import numpy as np
from scipy import stats

from benchmarks.calibration._laws import (
    BEST,
    LAPLACE,
    LAPLACE_TIED,
    SCORES,
    SIGNALS,
    Pair,
    Scores,
    SignalLaw,
    audited,
    failing,
    fitted,
    giving_away,
    same,
    whole,
)
from benchmarks.calibration._slots import ABOVE, FAILS
from benchmarks.calibration._study import ALPHA, NONE, Case, Curve, Rng, Trial
from cu_attacks._bounds import guesses_delta, pair_delta, pair_eps, tv_lower
from cu_attacks.pools import pool_control, two_pools
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.tails import cp_lower

SIZES: Final = (8, 16, 32, 64, 128)
"""Models of each arm, calibration half included."""
CURVE: Final = tuple(Fraction(step, 2) for step in range(5))
TOLD: Final = 1 / (1 + exp(-1))
"""True and false positive rate of a pair at eps = 1 exactly: this, and 1 less this."""


def _drawn(pair: Pair, models: int, rng: Rng) -> tuple[Scores, Scores]:
    scores = pair.draw(rng, (np.arange(2 * models) < models).astype(np.int64))
    return scores[:models], scores[models:]


def _halved(pair: Pair, models: int) -> Trial:
    def trial(rng: Rng) -> bool:
        unlearned, retrained = _drawn(pair, models, rng)
        half = models // 2
        found = two_pools(
            unlearned[half:],
            retrained[half:],
            calibrate_unlearned=unlearned[:half],
            calibrate_retrained=retrained[:half],
            alpha=ALPHA,
            delta=pair.delta,
            direction="forward" if pair.forward else "both",
        )
        return found.bound > pair.eps

    return trial


def _case(name: str, test: str, words: str, trial: Trial, *, statement: str = ABOVE, runs: int = 4000) -> Case:
    return Case(
        name=f"{test}/{name}",
        test=test,
        statement=statement,
        setting=words,
        level=float(ALPHA),
        runs=runs,
        trial=trial,
    )


def pools() -> Iterator[Case]:
    """Yield the rows of ``pools``."""

    def case(name: str, pair: Pair, models: int) -> Case:
        words = f"{pair.words}; {models} models an arm, half of them for the threshold"
        return _case(f"{name}/{models}", "pools", words, _halved(pair, models))

    for models in SIZES:
        yield case("retrain", same("continuous"), models)
        yield case("laplace", LAPLACE, models)
    for law in list(SCORES)[1:]:
        yield case(f"retrain, {law}", same(law), 64)
    for law in SIGNALS:
        yield case(f"fitted score, {law}", audited(law), 64)
    yield case("laplace, tied", LAPLACE_TIED, 64)
    yield case("delta", giving_away(LAPLACE, 50), 64)
    yield case("forward", BEST, 64)
    yield case("failed runs", failing("15 % of the runs", 0.15, 0.15), 64)
    yield case("failed unlearned", failing("20 % of the unlearned runs", 0.0, 0.2), 64)
    yield case("failed retrained", failing("20 % of the retrained runs", 0.2, 0.0), 64)


def _controlled(law: SignalLaw, models: int, control: int) -> Trial:
    """The threshold lies in the middle of other retrained models, where a leak would show most."""

    def trial(rng: Rng) -> bool:
        scores = fitted(law)(rng, models + control + 31)
        drawn: Scores = [*scores[31:]]
        return pool_control(drawn[models:], drawn[:models], threshold=sorted(scores[:31])[15]).failed

    return trial


def controls() -> Iterator[Case]:
    """Yield the rows of the negative control of pools."""
    for law, models, control in (
        ("dependent", 64, 32), ("dependent", 32, 32), ("dependent", 128, 64), ("heavy tails", 64, 32),
        ("two levels", 64, 32),
    ):  # fmt: skip
        yield Case(
            name=f"control of pools/{law}/{models}, {control}",
            test="control of pools",
            statement=FAILS,
            setting=f"fitted score, {law}; {models} retrained and {control} control models, threshold amid 31 others",
            level=float(CONTROL_TAIL),
            runs=10_000,
            trial=_controlled(SIGNALS[law], models, control),
        )


# --- Bounds made of counts -------------------------------------------------------------------------------------------


def _counts(rng: Rng, models: int, tpr: float, fpr: float) -> tuple[int, int, int, int]:
    return int(rng.binomial(models, tpr)), models, int(rng.binomial(models, fpr)), models


def _paired(models: int, *, forward: bool, one_in: int | None) -> Trial:
    """A rule that meets a pair at eps = 1 with equality; with delta it calls every model that gives itself away."""
    share = 1 / one_in if one_in else 0.0
    delta = Fraction(1, one_in) if one_in else NONE
    tpr, fpr = share + (1 - share) * TOLD, (1 - share) * (1 - TOLD)

    def trial(rng: Rng) -> bool:
        counts = _counts(rng, models, tpr, fpr)
        return pair_eps(*counts, alpha=ALPHA, delta=delta, direction="forward" if forward else "both").bound > 1

    return trial


def _paired_curve(models: int) -> Trial:
    truth = [max(TOLD - exp(eps) * (1 - TOLD), 0.0) for eps in CURVE]

    def trial(rng: Rng) -> bool:
        found = pair_delta(*_counts(rng, models, TOLD, 1 - TOLD), eps=CURVE, alpha=ALPHA)
        return any(delta > true for (_, delta), true in zip(found.points, truth, strict=True))

    return trial


def _guessed_curve(slots: int) -> Trial:
    """Randomised response: delta(eps) = p - e^eps (1 - p) for p = sigma(1), at all eps together."""
    truth = [max(TOLD - exp(eps) * (1 - TOLD), 0.0) for eps in CURVE]

    def trial(rng: Rng) -> bool:
        found = guesses_delta(slots, slots, int(rng.binomial(slots, TOLD)), eps=CURVE, alpha=ALPHA)
        return any(delta > true for (_, delta), true in zip(found.points, truth, strict=True))

    return trial


def _apart(slots: int, distance: float) -> Case:
    """Total variation: every guess is right with chance (1 + TV) / 2."""
    chance = (1 + distance) / 2
    wrong = [2 * cp_lower(slots, right, ALPHA) - 1 > distance for right in range(slots + 1)]
    return Case(
        name=f"tv_lower/TV {distance}/{slots}",
        test="tv_lower",
        statement="bound above the true distance",
        setting=f"total variation {distance}; {slots} slots",
        level=float(ALPHA),
        runs=10_000,
        trial=lambda rng: tv_lower(slots, int(rng.binomial(slots, chance)), alpha=ALPHA).bound > distance,
        exact=float(stats.binom.pmf(np.arange(slots + 1), slots, chance) @ np.array(wrong)),
    )


def bounds() -> Iterator[Case]:
    """Yield the rows of the bounds in ``_bounds`` that take counts."""
    for models in SIZES:
        words = f"rates sigma(1) and sigma(-1); {models} models an arm"
        yield _case(f"both/{models}", "pair_eps", words, _paired(models, forward=False, one_in=None), runs=10_000)
    words = "rates sigma(1) and sigma(-1); 64 models an arm"
    yield _case("forward/64", "pair_eps", words, _paired(64, forward=True, one_in=None), runs=10_000)
    shown = f"{words}, 1 in 50 gives itself away"
    yield _case("delta/64", "pair_eps", shown, _paired(64, forward=False, one_in=50), runs=10_000)
    point = "any point of the curve above the true delta"
    for models in (16, 64):
        words = f"rates sigma(1) and sigma(-1); {models} models an arm, five eps"
        yield _case(f"curve/{models}", "pair_delta", words, _paired_curve(models), statement=point, runs=10_000)
    words = "right with chance sigma(1); 32 slots, five eps"
    yield _case("curve/32", "guesses_delta", words, _guessed_curve(32), statement=point)
    for slots, distance in ((16, 0.0), (64, 0.0), (64, 0.4), (128, 0.4)):
        yield _apart(slots, distance)


# --- Power -----------------------------------------------------------------------------------------------------------


def _shifted(models: int) -> Callable[[Rng, float], bool]:
    def trial(rng: Rng, shift: float) -> bool:
        pair = Pair(words="", eps=0.0, draw=lambda rng, bits: [*whole(rng.normal(size=len(bits)) + shift * bits)])
        return _halved(pair, models)(rng)

    return trial


def curves() -> Iterator[Curve]:
    """Yield the power curve of pools."""
    yield Curve(
        name="power/pools/64",
        test="pools",
        effect="shift of the score in standard deviations",
        setting="64 models an arm, half of them for the threshold, normal scores",
        points=(0, 0.5, 1, 1.5, 2, 2.5, 3),
        runs=2000,
        trial=_shifted(64),
    )
