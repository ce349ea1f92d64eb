"""One Bayesian interval for eps (Zanella-Beguelin et al. 2022, arXiv 2206.05199), ours against a double integral.

The released estimator of that paper is not on the package registry in the form that has it. What stands in for it is
written here from the paper, twice: once as quick as scipy's ``dblquad`` allows, and once with frozen ``scipy.stats``
densities and the released tolerances, which is how the released code computes it.
"""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import exp, log
from statistics import median
from typing import Final

from scipy import integrate, optimize, special, stats

from benchmarks._peers_worker import timed
from cu_attacks._extrapolations import joint_beta

CASE: Final = (90, 100, 20, 100)
"""True of all unlearned and false of all retrained models."""

ALPHA: Final = Fraction(1, 20)

Density = Callable[[float, float], float]


def plain_density(case: tuple[int, int, int, int]) -> Density:
    """Return the posterior density of (FPR, FNR) by arithmetic on floats alone."""
    true, unlearned, false, retrained = case
    a, b, c, d = unlearned - true - 0.5, true - 0.5, false - 0.5, retrained - false - 0.5
    scale = -float(special.betaln(a + 1, b + 1) + special.betaln(c + 1, d + 1))

    def density(y: float, x: float) -> float:
        if not (0 < x < 1 and 0 < y < 1):
            return 0.0
        return exp(scale + a * log(x) + b * log(1 - x) + c * log(y) + d * log(1 - y))

    return density


def library_density(case: tuple[int, int, int, int]) -> Density:
    """Return the same density from two frozen distributions of ``scipy.stats``."""
    true, unlearned, false, retrained = case
    missed = stats.beta(unlearned - true + 0.5, true + 0.5)
    called = stats.beta(false + 0.5, retrained - false + 0.5)
    return lambda y, x: float(missed.pdf(x) * called.pdf(y))


def posterior_mass(density: Density, eps: float, *, error: float) -> float:
    """Integrate a density of (FPR, FNR) over the region of pairs that (eps, 0) allows.

    The outer interval is split where the inner limits have corners.

    Args:
        density: Called with FPR and FNR.
        eps: At least 0.
        error: Absolute error that each integral may have.
    """
    growth = exp(eps)

    def lower(x: float) -> float:
        return max(0.0, 1 - growth * x, (1 - x) / growth)

    corners = (1 / growth, 1 / (1 + growth))
    edges = sorted({0.0, 1.0, *corners, *(1 - corner for corner in corners)})
    total = 0.0
    for left, right in pairwise(edges):
        mass, _ = integrate.dblquad(
            density, left, right, lower, lambda x: max(lower(x), 1 - lower(1 - x)), epsabs=error, epsrel=error
        )
        total += mass
    return total


def interval(case: tuple[int, int, int, int], density: Density, *, error: float, step: float) -> tuple[float, float]:
    """Return the equal-tailed credible interval of eps at delta = 0.

    Args:
        case: True, unlearned, false, retrained.
        density: Posterior density, called with FPR and FNR.
        error: Absolute error of an integral.
        step: How near the ends are searched.
    """
    largest = 8.0 + 2 * log(max(case[1], case[3]))

    def end(mass: float) -> float:
        found = optimize.brentq(lambda eps: posterior_mass(density, eps, error=error) - mass, 0.0, largest, xtol=step)
        return float(found)

    return end(float(ALPHA)), end(float(1 - ALPHA))


def bayes(runs: int) -> dict[str, object]:
    """Time our interval and the two double integrals in turn.

    Args:
        runs: Of each.

    Returns:
        The intervals, median CPU seconds and ratios to ours.
    """
    work: dict[str, Callable[[], tuple[float, float]]] = {
        "cu-cert": _ours,
        "dblquad, plain density": lambda: interval(CASE, plain_density(CASE), error=1e-8, step=1e-6),
        "dblquad, scipy.stats density, coarse": lambda: interval(CASE, library_density(CASE), error=5e-3, step=1e-2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    ends: dict[str, tuple[float, float]] = {}
    for _ in range(runs):
        for name, compute in work.items():
            ends[name], taken = timed(compute)
            seconds[name].append(taken)
    base = median(seconds["cu-cert"])
    return {
        "case": CASE,
        "runs": runs,
        "ends": ends,
        "medianSeconds": {name: round(median(taken), 6) for name, taken in seconds.items()},
        "ratios": {name: round(median(taken) / base, 1) for name, taken in seconds.items()},
    }


def _ours() -> tuple[float, float]:
    found = joint_beta(*CASE, alpha=ALPHA)
    return found.low, found.high
