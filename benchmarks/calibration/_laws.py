"""What synthetic models and records look like, and pairs of laws whose distance is known exactly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import e, exp
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.calibration._study import NONE, Rng
from cu_attacks._model_scores import FITTED, fit_score

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Scores = list[int | None]
SignalLaw = Callable[[Rng, int, int], FloatArray]
"""Takes the source, models and records; returns signals of shape (models, records)."""

UNIT: Final = 1_000_000
FAR: Final = 10**12
"""A score that no law reaches by itself: the model gives itself away."""
RECORDS: Final = 12
DEPENDENCE: Final = 0.5
"""Correlation of the signals of one model on any two records."""
BEST_OF: Final = (2, 3)
_SHARE: Final = e - 2
"""How often the most telling of three draws is taken, else that of two: e draws in the mean."""


def whole(values: npt.ArrayLike) -> list[int]:
    """Return scores in whole millionths, as evidence holds them."""
    return [int(value) for value in np.clip(np.rint(np.asarray(values) * UNIT), -(2**52), 2**52)]


# --- Scores of single models or records ------------------------------------------------------------------------------

SCORES: Final[Mapping[str, Callable[[Rng, int], FloatArray]]] = {
    "continuous": lambda rng, size: rng.normal(size=size),
    "heavy tails": lambda rng, size: rng.standard_cauchy(size),
    "whole numbers": lambda rng, size: np.rint(2 * rng.normal(size=size)),
    "two levels": lambda rng, size: (rng.random(size) < 0.3).astype(np.float64),
    "all equal": lambda rng, size: np.zeros(size),
}
"""Laws of one score a model; the first two have no ties."""
WITHOUT_TIES: Final = ("continuous", "heavy tails")


# --- Signals of models on records ------------------------------------------------------------------------------------


def factor(rng: Rng, models: int, records: int, rho: float = DEPENDENCE) -> FloatArray:
    """Return signals with one factor a model: normal, any two records correlated by ``rho``."""
    found: FloatArray = rho**0.5 * rng.normal(size=(models, 1)) + (1 - rho) ** 0.5 * rng.normal(size=(models, records))
    return found


def _heavy(rng: Rng, models: int, records: int) -> FloatArray:
    found: FloatArray = rng.standard_t(2, (models, 1)) + rng.standard_t(2, (models, records))
    return found


def _some_constant(rng: Rng, models: int, records: int) -> FloatArray:
    found = factor(rng, models, records)
    found[:, : records // 2] = 1.0
    return found


SIGNALS: Final[Mapping[str, SignalLaw]] = {
    "independent": lambda rng, models, records: factor(rng, models, records, 0.0),
    "dependent": factor,
    "heavy tails": _heavy,
    "whole numbers": lambda rng, models, records: np.rint(factor(rng, models, records)),
    "two levels": lambda rng, models, records: (factor(rng, models, records) > 0.5).astype(np.float64),
    "constant records": _some_constant,
}
"""Laws of the signals of retrained models: rho = 0, rho = 1/2, one factor and noise of Student's t with two degrees of
freedom, rho = 1/2 rounded to whole numbers and to two levels, and with one half of the records constant."""
TIED: Final = ("whole numbers", "two levels")
OTHER_SCORES: Final = tuple(name for name in FITTED if name != "combined")
"""What a plan may choose instead of the default."""


def fitted(law: SignalLaw, score: str = "combined") -> Callable[[Rng, int], list[int]]:
    """Return a way to draw scores of retrained models under one of the audit's own, fitted anew on pilots each time.

    Args:
        law: Of the signals; the pilots that saw the request lie 0.7 higher.
        score: Its name in a plan.
    """

    def draw(rng: Rng, models: int) -> list[int]:
        seen, unseen, centring = (law(rng, 16, RECORDS) for _ in range(3))
        return fit_score(score, seen + 0.7, unseen, centring)(law(rng, models, RECORDS))

    return draw


# --- Pairs at a known distance ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A law of unlearned and one of retrained models.

    Args:
        words: Both, in words.
        eps: Their distance: a bound above it is wrong.
        draw: Takes the source and one bit a model (1 unlearned); returns their scores.
        delta: Of the pair.
        forward: Whether only P_U <= e^eps P_R + delta holds.
    """

    words: str
    eps: float
    draw: Callable[[Rng, IntArray], Scores]
    delta: Fraction = NONE
    forward: bool = False


def _laplace(eps: float, unit: float) -> Callable[[Rng, IntArray], Scores]:
    def draw(rng: Rng, bits: IntArray) -> Scores:
        found = rng.laplace(size=len(bits)) + eps * bits
        return [*whole(np.rint(found / unit) if unit else found)]

    return draw


def _responses(rng: Rng, bits: IntArray) -> Scores:
    """Randomised response: a model shows its true side with chance sigma(1)."""
    told = np.where(rng.random(len(bits)) < 1 / (1 + exp(-1)), bits, 1 - bits)
    return [*whole(told + rng.random(len(bits)) / 2)]


def best_of(rng: Rng) -> int:
    """Return 2 or 3, e in the mean.

    A model that is the most telling of so many retrained ones, by whatever order, has a density of at most e times that
    of one of them: with k draws it is k F^(k - 1) f <= k f. So P_U <= e P_R holds for every event, and with near
    equality for the most telling ones. In the other direction nothing holds.
    """
    return BEST_OF[int(rng.random() < _SHARE)]


def best_chance(chance: float) -> float:
    """Return how often the most telling of 2 or 3 independent draws is one that happens with ``chance``."""
    return (1 - _SHARE) * (1 - (1 - chance) ** 2) + _SHARE * (1 - (1 - chance) ** 3)


def _best(rng: Rng, bits: IntArray) -> Scores:
    return [*whole([rng.normal(size=best_of(rng) if bit else 1).max() for bit in bits])]


def _failing(rates: tuple[float, float]) -> Callable[[Rng, IntArray], Scores]:
    """Return one law whose runs fail with another chance in each arm, retrained first."""

    def draw(rng: Rng, bits: IntArray) -> Scores:
        lost = rng.random(len(bits)) < np.take(rates, bits)
        return [None if out else score for out, score in zip(lost, whole(rng.normal(size=len(bits))), strict=True)]

    return draw


def same(law: str) -> Pair:
    """Return a pair of one law, out of :data:`SCORES`."""
    return Pair(words=f"one law, {law}", eps=0.0, draw=lambda rng, bits: [*whole(SCORES[law](rng, len(bits)))])


def audited(law: str, score: str = "combined") -> Pair:
    """Return a pair of one law: one of the audit's own scores on signals out of :data:`SIGNALS`."""
    draw, name = fitted(SIGNALS[law], score), "fitted" if score == "combined" else f"fitted {score}"
    return Pair(words=f"one law, {name} score, {law}", eps=0.0, draw=lambda rng, bits: [*draw(rng, len(bits))])


def failing(name: str, retrained: float, unlearned: float) -> Pair:
    """Return a pair of one law, with runs that fail by chance.

    Args:
        name: Which runs fail.
        retrained: How often a retrained run fails.
        unlearned: How often an unlearned one does.
    """
    return Pair(words=f"one law, {name} fail", eps=0.0, draw=_failing((retrained, unlearned)))


def giving_away(pair: Pair, one_in: int) -> Pair:
    """Return the pair in which one model in ``one_in`` gives itself away: delta = 1 / ``one_in``."""

    def draw(rng: Rng, bits: IntArray) -> Scores:
        shown = rng.random(len(bits)) < 1 / one_in
        own = pair.draw(rng, bits)
        return [(FAR if bit else -FAR) if out else score for bit, out, score in zip(bits, shown, own, strict=True)]

    words = f"{pair.words}, 1 model in {one_in} gives itself away"
    return replace(pair, words=words, draw=draw, delta=Fraction(1, one_in))


LAPLACE: Final = Pair(words="Laplace pair", eps=1.0, draw=_laplace(1.0, 0.0))
LAPLACE_TIED: Final = Pair(words="Laplace pair, whole numbers", eps=1.0, draw=_laplace(1.0, 1.0))
RESPONSE: Final = Pair(words="randomised response", eps=1.0, draw=_responses)
BEST: Final = Pair(words="the most telling of 2 or 3 retrained models", eps=1.0, draw=_best, forward=True)
