"""The only honest statements in the other direction: what one *named* score cannot see, and how close its means are.

Neither is an upper bound on eps: an attacker with another score, or one who does more than compare this score with a
threshold, is not covered. Both have a level of their own, outside a verdict's alpha.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from cu_attacks._bounds import require_delta, require_eps, require_level
from cu_attacks._types import AttackError, FloatArray, vector
from cu_certificates.check import bands
from cu_certificates.check.fields import shown

_LIMIT: Final = 1e100
"""Larger scores would overflow when they are squared."""

Sides = Literal["one", "both"]


@dataclass(frozen=True, kw_only=True)
class AttackLimited:
    """A statement about every attacker who compares one named score with a threshold.

    Args:
        score: Name of the score.
        eps: The eps at which the statement is made.
        delta_up: Upper bound on delta for these attackers, rounded up to four decimals; never called eps.
        floor: What pools of this size reach at best; a bound near it means "too few models", not "a leak".
        alpha: Level of the statement.
        n: Unlearned and retrained models.
        sides: ``one``: from a threshold upwards means unlearned. ``both``: both tails, and the pools may change places.
        method: How the bound was computed.
        assumption: What it rests on.
        supports_verdict: Always false.
        shows_not: What a reader must not conclude.
    """

    score: str
    eps: Fraction
    delta_up: Fraction
    floor: Fraction
    alpha: Fraction
    n: tuple[int, int]
    sides: Sides
    method: str = "Dvoretzky-Kiefer-Wolfowitz bands, Massart's constant"
    assumption: str = "the models of each pool are independent draws, and the score was fixed without them"
    supports_verdict: bool = False
    shows_not: str = "says nothing about another score, or about an attacker who does more than set a threshold on it"

    def __post_init__(self) -> None:
        require_level(self.alpha, "alpha")
        require_delta(self.delta_up, "delta_up", closed=True)
        if not 0 <= self.floor <= self.delta_up:
            raise AttackError(f"floor: {self.floor}; expected at most delta_up {self.delta_up}")

    @property
    def sentence(self) -> str:
        """The statement in words."""
        false = "its false positive rate" if self.eps == 0 else f"e^{shown(self.eps)} times its false positive rate"
        return (
            f"with {float(100 * (1 - self.alpha)):g} % confidence no threshold attacker on this score ({self.score}) "
            f"has a true positive rate above {false} plus {shown(self.delta_up)}"
        )


def attack_limited(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    score: str,
    eps: Fraction,
    alpha: Fraction,
    sides: Sides = "both",
) -> AttackLimited:
    """Bound what a threshold on one score can tell about unlearned and retrained models.

    Only the order of the scores counts, so they are replaced by their ranks and the exact bound of
    ``cu_certificates.check.bands`` is taken; a stranger's checker finds the same number.

    Args:
        unlearned: Scores of the unlearned models, shape (models,).
        retrained: Scores of the retrained models, shape (models,).
        score: Name of the score.
        eps: From 0 to 1000.
        alpha: Level, in (0, 1).
        sides: As in :class:`AttackLimited`.

    Raises:
        AttackError: A pool that is empty or holds a value that is not finite, or a number out of range.
    """
    pools = vector(unlearned, "unlearned"), vector(retrained, "retrained")
    require_level(alpha, "alpha")
    require_eps(eps, "eps")
    if not score:
        raise AttackError("score: empty; expected the name of the score that the statement is about")
    if sides not in ("one", "both"):
        raise AttackError(f"sides: {sides!r}; expected 'one' or 'both'")
    ranks = [int(rank) for rank in np.unique(np.concatenate(pools), return_inverse=True)[1]]
    size, both = len(pools[0]), sides == "both"
    return AttackLimited(
        score=score,
        eps=eps,
        delta_up=bands.delta_up(ranks[:size], ranks[size:], eps, alpha, both=both),
        floor=bands.delta_up_floor(size, len(pools[1]), eps, alpha, both=both),
        alpha=alpha,
        n=(size, len(pools[1])),
        sides=sides,
    )


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Two one-sided tests: is the mean score within a margin that was fixed beforehand?

    Args:
        difference: Mean of the unlearned minus mean of the retrained scores.
        low: Lower end of the interval.
        high: Upper end of it.
        level: Confidence level of the interval, 1 - 2 alpha.
        margin: ``factor`` times the standard deviation of the reference models' scores.
        factor: The margin in standard deviations.
        p: The larger of the two one-sided p-values.
        equivalent: Whether the interval lies strictly within the margin, which is p < alpha.
        alpha: Level of the test.
        n: Unlearned, retrained and reference models.
        method: How the interval was computed.
        assumption: What it rests on.
        supports_verdict: Always false.
        shows_not: What a reader must not conclude.
    """

    difference: float
    low: float
    high: float
    level: float
    margin: float
    factor: float
    p: float
    equivalent: bool
    alpha: Fraction
    n: tuple[int, int, int]
    method: str = "two one-sided Welch tests (Schuirmann 1987)"
    assumption: str = (
        "means of the scores are close to normal; the reference models are independent of both pools, and the factor "
        "was fixed beforehand"
    )
    supports_verdict: bool = False
    shows_not: str = "equal means do not show equal laws: one record, or the spread, can still tell the pools apart"

    def __post_init__(self) -> None:
        require_level(self.alpha, "alpha")
        if not self.low <= self.difference <= self.high or self.margin <= 0:
            raise AttackError(
                f"interval: [{self.low}, {self.high}] around {self.difference}, margin {self.margin}; expected an "
                "interval around the difference and a positive margin"
            )


def equivalence(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    reference: npt.ArrayLike,
    factor: float,
    alpha: Fraction,
) -> Equivalence:
    """Test whether the mean score of unlearned models is as close to the retrained ones' as the plan demands.

    A large p-value of a test for a *difference* is no such evidence: it also comes from too few models.

    Args:
        unlearned: Scores of unlearned models, shape (models >= 2,).
        retrained: Scores of retrained models, shape (models >= 2,).
        reference: Scores of retrained models that are in neither pool, shape (models >= 2,); their spread sets the
            margin. Taken from the tested pools it would be a margin that the data chose.
        factor: Margin in standard deviations of ``reference``, above 0; fixed in the plan.
        alpha: Level of each one-sided test, in (0, 1/2).

    Raises:
        AttackError: Too few scores, a value that is not finite, constant pools, or a number out of range.
    """
    pools = {"unlearned": unlearned, "retrained": retrained, "reference": reference}
    first, second, other = (_scores(value, name) for name, value in pools.items())
    require_level(alpha, "alpha")
    if alpha >= Fraction(1, 2):
        raise AttackError(f"alpha: {alpha}; expected below 1/2, or the interval is empty")
    if not 0 < factor < np.inf:
        raise AttackError(f"factor: {factor}; expected a positive number of standard deviations")
    if len(other) == len(second) and (np.sort(other) == np.sort(second)).all():
        raise AttackError("reference: the same scores as retrained; expected models that are in neither pool")
    margin = factor * _variance(other) ** 0.5
    if margin <= 0:
        raise AttackError("reference: all scores are equal; the recipe ignores its seed, so there is no spread")
    parts = [_variance(pool) / len(pool) for pool in (first, second)]
    if not any(parts):
        raise AttackError("unlearned, retrained: all scores are equal in each; expected some spread in one of them")
    error = sqrt(sum(parts))
    shares = [part / sum(parts) for part in parts]
    freedom = 1 / sum(share**2 / (len(pool) - 1) for share, pool in zip(shares, (first, second), strict=True))
    difference = float(first.mean() - second.mean())
    reach = float(stats.t.isf(float(alpha), freedom)) * error
    p = float(stats.t.sf((margin - abs(difference)) / error, freedom))
    return Equivalence(
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        level=float(1 - 2 * alpha),
        margin=margin,
        factor=factor,
        p=p,
        equivalent=abs(difference) + reach < margin,
        alpha=alpha,
        n=(len(first), len(second), len(other)),
    )


def _variance(scores: FloatArray) -> float:
    """Sample variance, exactly 0 for equal scores: their mean may be rounded, and would leave a trace of a variance."""
    return float(scores.var(ddof=1)) if scores.min() < scores.max() else 0.0


def _scores(value: npt.ArrayLike, name: str) -> FloatArray:
    found = vector(value, name)
    if len(found) < 2 or np.abs(found).max() > _LIMIT:
        raise AttackError(f"{name}: {len(found)} scores up to {np.abs(found).max():.3g}; expected two or more to 1e100")
    return found
