"""Numbers that look like bounds and rest on more than the data: a Gaussian pair, a Gaussian curve, a prior.

Each has a type of its own, names its assumption and never supports a verdict. When the assumption fails they lie above
the truth as a rule, not by chance: on a pair of Laplace laws, which is exactly (eps, 0), both Gaussian numbers do so
in nearly every run (``tests/test_bounds_extrapolations.py``).
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import exp, expm1, log
from typing import Final

import numpy as np
from scipy import optimize, special

from cu_attacks._bounds import require_counts, require_level
from cu_attacks._types import AttackError, FloatArray
from cu_certificates.check.tails import cp_lower, cp_upper

_LARGEST_MU: Final = 40.0
"""Beyond it every chance of an error underflows."""

_NODES: Final = 128


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise AttackError(f"delta: {delta}; expected a number in (0, 1), for at 0 a Gaussian pair has no finite eps")


def _require_finite(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < np.inf:
            raise AttackError(f"{name}: {value}; expected a finite number, at least 0")


# --- The Gaussian pair ------------------------------------------------------------------------------------------------


def gaussian_delta(mu: float, eps: float) -> float:
    """Return delta(eps) of two unit normal laws at distance mu: Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu).

    Balle and Wang 2018 (arXiv 1805.06530); Dong, Roth and Su 2019 (arXiv 1905.02383).

    Args:
        mu: Distance in standard deviations, from 0 to 40.
        eps: At least 0.

    Raises:
        AttackError: A number out of range.
    """
    if not 0 <= mu <= _LARGEST_MU or not 0 <= eps < np.inf:
        raise AttackError(f"mu {mu}, eps {eps}; expected mu from 0 to {_LARGEST_MU:g} and a finite eps, at least 0")
    if mu == 0:
        return 0.0
    first = float(special.log_ndtr(mu / 2 - eps / mu))
    gap = eps + float(special.log_ndtr(-mu / 2 - eps / mu)) - first
    # Both terms may be tiny and nearly equal: their difference is taken on the logarithmic scale.
    return -exp(first) * expm1(gap) if gap < 0 else 0.0


def gaussian_eps(mu: float, delta: float) -> float:
    """Return the smallest eps at which two unit normal laws at distance mu are (eps, delta)-close.

    Args:
        mu: From 0 to 40.
        delta: In (0, 1).

    Raises:
        AttackError: A number out of range.
    """
    _require_delta(delta)
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    # P[privacy loss > eps] bounds delta(eps), and the loss is normal with mean mu^2 / 2 and deviation mu.
    largest = mu * mu / 2 + mu * float(-special.ndtri(delta / 2)) + 1.0
    return float(optimize.brentq(lambda eps: gaussian_delta(mu, eps) - delta, 0.0, largest, xtol=1e-13, rtol=1e-14))


@dataclass(frozen=True, kw_only=True)
class GaussianMu:
    """A lower bound on mu, if the pair is Gaussian, and what it would mean as eps.

    Args:
        mu: Phi^-1(1 - FPR_U) - Phi^-1(FNR_U), at least 0.
        eps: The eps of a Gaussian pair with that mu at ``delta``.
        delta: In (0, 1).
        tpr: Lower Clopper-Pearson bound on the true positive rate, at alpha / 2.
        fpr: Upper Clopper-Pearson bound on the false positive rate, at alpha / 2.
        alpha: Level, were the assumption true.
        n: Unlearned and retrained models.
        method: How it was computed.
        assumption: What it rests on.
        supports_verdict: Always false.
        shows_not: What a reader must not conclude.
    """

    mu: float
    eps: float
    delta: float
    tpr: Fraction
    fpr: Fraction
    alpha: Fraction
    n: tuple[int, int]
    method: str = "Gaussian extrapolation (Nasr et al. 2023, arXiv 2302.07956)"
    assumption: str = "the trade-off between the two kinds of error is that of two normal laws with equal variance"
    supports_verdict: bool = False
    shows_not: str = "no lower bound on eps unless the pair is Gaussian, which these data cannot show"

    def __post_init__(self) -> None:
        _require_finite(mu=self.mu, eps=self.eps)


def gaussian_mu(true: int, unlearned: int, false: int, retrained: int, *, alpha: Fraction, delta: float) -> GaussianMu:
    """Extrapolate one operating point along the trade-off curve of two normal laws (Nasr et al. 2023).

    Args:
        true: Unlearned models that a rule, fixed without them, called unlearned.
        unlearned: All unlearned models counted.
        false: Retrained models that the rule called unlearned.
        retrained: All retrained models counted.
        alpha: Level, in (0, 1).
        delta: In (0, 1), where eps is wanted.

    Raises:
        AttackError: A count or a number out of range.
    """
    require_level(alpha, "alpha")
    require_counts(true, unlearned, "unlearned")
    require_counts(false, retrained, "retrained")
    _require_delta(delta)
    tpr, fpr = cp_lower(unlearned, true, alpha / 2), cp_upper(retrained, false, alpha / 2)
    # With a bound at its trivial end the difference is minus infinity, or undefined: it says nothing.
    mu = max(float(special.ndtri(float(tpr)) - special.ndtri(float(fpr))), 0.0) if tpr > 0 and fpr < 1 else 0.0
    return GaussianMu(
        mu=mu,
        eps=gaussian_eps(mu, delta),
        delta=delta,
        tpr=tpr,
        fpr=fpr,
        alpha=alpha,
        n=(unlearned, retrained),
    )


# --- One run along a Gaussian curve -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class GaussianCurve:
    """The largest Gaussian trade-off curve that a one-run audit rejects, and what it would mean as eps.

    Args:
        mu: Its parameter, at least 0.
        eps: The eps of that curve at ``delta``, for one record.
        delta: In (0, 1).
        alpha: Level, within the family of Gaussian curves.
        n: Candidates, guesses and right guesses.
        method: How it was computed.
        assumption: What it rests on.
        supports_verdict: Always false.
        shows_not: What a reader must not conclude.
    """

    mu: float
    eps: float
    delta: float
    alpha: Fraction
    n: tuple[int, int, int]
    method: str = "f-DP audit in one run along Gaussian curves (Mahloujifar et al. 2024, arXiv 2410.22235)"
    assumption: str = "the trade-off curve of one record is that of two normal laws with equal variance"
    supports_verdict: bool = False
    shows_not: str = "a rejected Gaussian curve is no lower bound on eps: one of another shape may hold at a smaller"

    def __post_init__(self) -> None:
        _require_finite(mu=self.mu, eps=self.eps)


def curve_rejected(candidates: int, guesses: int, right: int, *, mu: float, alpha: float) -> bool:
    """Return whether ``right`` of ``guesses`` reject the Gaussian curve with parameter ``mu`` at level ``alpha``.

    The recursion of Mahloujifar et al. 2024 with a cap on the guesses: r and h are the shares of the probability of
    the event that go with a right and with a wrong guess; each step back from the observed count uses the curve once,
    and when more than all of the probability would be needed the curve is impossible.

    Args:
        candidates: m.
        guesses: g, at most m.
        right: c, at most g.
        mu: From 0 to 40; at 0 the two laws are one.
        alpha: In (0, 1).
    """
    r, h = alpha * right / candidates, alpha * (guesses - right) / candidates
    for index in range(right - 1, -1, -1):
        raised = max(h, float(special.ndtr(special.ndtri(r) - mu))) if r > 0 else h
        if raised == h:
            break  # neither number changes from here on
        r = min(r + index / (guesses - index) * (raised - h), 1.0)
        h = raised
    return r + h > guesses / candidates


def fdp_one_run(candidates: int, guesses: int, right: int, *, alpha: Fraction, delta: float) -> GaussianCurve:
    """Extrapolate a one-run audit along Gaussian curves.

    Args:
        candidates: m, each included by a fair coin.
        guesses: g, made without the coins.
        right: c.
        alpha: Level, in (0, 1).
        delta: In (0, 1), where eps is wanted.

    Raises:
        AttackError: A count or a number out of range.
    """
    require_level(alpha, "alpha")
    require_counts(guesses, candidates, "guesses")
    if guesses < 1:
        raise AttackError("guesses: 0; expected at least one")
    require_counts(right, guesses, "right")
    _require_delta(delta)

    def rejected(mu: float) -> bool:
        return curve_rejected(candidates, guesses, right, mu=mu, alpha=float(alpha))

    low, high = 0.0, _LARGEST_MU
    if rejected(low):
        while high - low > 1e-12 * max(high, 1.0):
            middle = (low + high) / 2
            low, high = (middle, high) if rejected(middle) else (low, middle)
    return GaussianCurve(mu=low, eps=gaussian_eps(low, delta), delta=delta, alpha=alpha, n=(candidates, guesses, right))


# --- A prior on both error rates --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class JointBeta:
    """A Bayesian interval for eps from one confusion matrix.

    Args:
        low: eps below which the posterior has mass alpha.
        high: eps below which it has mass 1 - alpha.
        delta: In [0, 1).
        alpha: Posterior mass beyond each end.
        n: False negatives, true positives, false positives, true negatives.
        method: How it was computed.
        assumption: What it rests on.
        supports_verdict: Always false.
        shows_not: What a reader must not conclude.
    """

    low: float
    high: float
    delta: float
    alpha: Fraction
    n: tuple[int, int, int, int]
    method: str = "joint Beta posterior (Zanella-Beguelin et al. 2022, arXiv 2206.05199)"
    assumption: str = "independent Jeffreys priors on both error rates of one rule that was fixed beforehand"
    supports_verdict: bool = False
    shows_not: str = "a credible interval, no confidence bound: when the truth is 0 its lower end is always above it"

    def __post_init__(self) -> None:
        _require_finite(low=self.low, high=self.high)
        if self.low > self.high:
            raise AttackError(f"low {self.low}, high {self.high}; expected an interval")


def posterior_private(counts: tuple[int, int, int, int], eps: float, delta: float) -> float:
    """Return the posterior probability that both error rates are possible under (eps, delta).

    The region is lo(x) <= FPR <= 1 - lo(1 - x) at x = FNR, with lo(x) = max(0, 1 - delta - e^eps x,
    (1 - delta - x) e^-eps). Given x the FPR's probability is a difference of two Beta distribution functions, so the
    double integral becomes one; over the quantile of FNR it is split where lo has corners, so that each piece is
    nearly smooth and Gauss-Legendre is exact to about 1e-6.

    Args:
        counts: False negatives, true positives, false positives, true negatives.
        eps: At least 0.
        delta: In [0, 1).
    """
    missed, found, false, left = (count + 0.5 for count in counts)
    growth = exp(min(eps, 700.0))

    def lower(x: FloatArray) -> FloatArray:
        return np.maximum(0.0, np.maximum(1 - delta - growth * x, (1 - delta - x) / growth))

    # lo has corners where its three parts meet; the upper edge has them mirrored.
    corners = np.array([(1 - delta) / growth, (1 - delta) / (1 + growth), 1 - delta])
    quantiles = special.betainc(missed, found, np.clip(np.concatenate([corners, 1 - corners]), 0.0, 1.0))
    edges = np.unique(np.concatenate([[0.0, 1.0], quantiles, np.linspace(0.0, 1.0, 5)]))
    nodes, weights = _legendre()
    widths = np.diff(edges)[:, None]
    points = edges[:-1, None] + widths * nodes
    x = special.betaincinv(missed, found, np.clip(points, 0.0, 1.0))
    above = special.betainc(false, left, np.clip(1 - lower(1 - x), 0.0, 1.0))
    below = special.betainc(false, left, np.clip(lower(x), 0.0, 1.0))
    return float((widths * weights * np.maximum(above - below, 0.0)).sum())


@lru_cache(maxsize=1)
def _legendre() -> tuple[FloatArray, FloatArray]:
    """Nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return (nodes + 1) / 2, weights / 2


def joint_beta(
    true: int, unlearned: int, false: int, retrained: int, *, alpha: Fraction, delta: float = 0.0
) -> JointBeta:
    """Return the equal-tailed credible interval of eps.

    Args:
        true: Unlearned models that a rule, fixed without them, called unlearned.
        unlearned: All unlearned models counted.
        false: Retrained models that the rule called unlearned.
        retrained: All retrained models counted.
        alpha: Posterior mass beyond each end, in (0, 1/2).
        delta: In [0, 1).

    Raises:
        AttackError: A count or a number out of range.
    """
    require_level(alpha, "alpha")
    if alpha >= Fraction(1, 2):
        raise AttackError(f"alpha: {alpha}; expected below 1/2, or the interval is empty")
    require_counts(true, unlearned, "unlearned")
    require_counts(false, retrained, "retrained")
    if not 0 <= delta < 1:
        raise AttackError(f"delta: {delta}; expected a number in [0, 1)")
    counts = (unlearned - true, true, false, retrained - false)

    def end(mass: float) -> float:
        def excess(eps: float) -> float:
            return posterior_private(counts, eps, delta) - mass

        if excess(0.0) >= 0:
            return 0.0
        largest = 8.0 + 2 * log(max(unlearned, retrained))
        while excess(largest) < 0:
            largest *= 2
        return float(optimize.brentq(excess, 0.0, largest, xtol=1e-9))

    return JointBeta(low=end(float(alpha)), high=end(float(1 - alpha)), delta=delta, alpha=alpha, n=counts)
