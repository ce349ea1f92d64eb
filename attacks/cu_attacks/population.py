"""``population``: does a record score higher than almost all of a population of never-trained records?

Attack-P of Ye et al. 2022 (arXiv 2111.09679): one threshold for all records, a quantile of the signal over
never-trained records of the same kind, so that the false positive rate is known *by construction*, without a single
shadow model. The quantile is the conformal one (Vovk, Gammerman, Shafer 2005): a never-trained record that is one more
draw from the population is flagged with probability at most the wanted rate, whatever the law and whatever the size.

As a ranking it is the loss attack; what it adds is the threshold.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from cu_attacks._gauss import signals_of
from cu_attacks._roc import PANEL_LIMIT
from cu_attacks._types import Attack, AttackError, Estimate, FloatArray, vector
from cu_certificates.check.tails import cp_lower, cp_upper


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A threshold whose false positive rate holds by construction.

    Args:
        value: A record is flagged when its signal lies above it; infinite when the population is too small to flag any.
        false_rate: Largest chance that a never-trained record is flagged.
        n: Size of the population.
        least: Smallest population that gives a finite threshold at this rate.
        method: How it was found.
        assumptions: What the rate rests on.
        shows_not: What a reader must not conclude.
    """

    value: float
    false_rate: float
    n: int
    least: int
    method: str = "conformal quantile of the population's signals"
    assumptions: str = (
        "a never-trained record is one more draw from the population; the rate is an average over populations"
    )
    shows_not: str = (
        "a flag rate above the threshold's false positive rate says nothing about any single flagged record"
    )


def population_scores(signals: npt.ArrayLike, population: npt.ArrayLike) -> FloatArray:
    """Score each record by one minus its conformal p-value in the population; higher means "was trained on".

    Args:
        signals: Margins of the audited model on the records, shape (records,) or (records, queries).
        population: Its margins on never-trained records that are not among the records, shape (n >= 1,).

    Returns:
        1 - p, with p = (1 + #{z : signal_z >= signal}) / (n + 1), shape (records,), in [0, 1). p <= a happens for a
        never-trained record with probability at most a.

    Raises:
        AttackError: A wrong shape or a value that is not finite.
    """
    others = np.sort(vector(population, "population"))
    phi = signals_of(signals, "signals")
    at_least = len(others) - np.searchsorted(others, phi, side="left")
    scores: FloatArray = 1 - (1 + at_least) / (len(others) + 1)
    return scores


def population_threshold(population: npt.ArrayLike, *, false_rate: float) -> Threshold:
    """Return the smallest threshold whose false positive rate is at most ``false_rate`` by construction.

    Args:
        population: Margins of the audited model on never-trained records, shape (n >= 1,).
        false_rate: Wanted rate, in (0, 1).

    Raises:
        AttackError: A wrong shape, a value that is not finite, or a rate out of range.
    """
    values = np.sort(vector(population, "population"))[::-1]
    if not 0 < false_rate < 1:
        raise AttackError(f"false_rate: {false_rate}; expected a rate in (0, 1)")
    # p <= rate for signals with at most k - 1 of the population at or above them: those above the k-th largest.
    rank = min(int(np.floor(false_rate * (len(values) + 1) + 1e-9)), len(values))
    least = int(np.ceil(1 / false_rate - 1e-9)) - 1
    return Threshold(
        value=float(values[rank - 1]) if rank else float("inf"), false_rate=false_rate, n=len(values), least=least
    )


def population_rate(signals: npt.ArrayLike, population: npt.ArrayLike, *, false_rate: float, name: str) -> Estimate:
    """Share of records above the population's threshold, with a Clopper-Pearson interval.

    The threshold comes from other records than those counted, so the interval needs no correction for it.

    Args:
        signals: Margins of the audited model on the records, shape (records,) or (records, queries).
        population: Its margins on never-trained records that are not among the records, shape (n >= least,).
        false_rate: False positive rate by construction, in (0, 1).
        name: What the estimate is called.

    Raises:
        AttackError: A wrong shape, a value that is not finite, a rate out of range, or too small a population.
    """
    phi = signals_of(signals, "signals")
    threshold = population_threshold(population, false_rate=false_rate)
    if not np.isfinite(threshold.value):
        raise AttackError(f"population: {threshold.n} records; expected at least {threshold.least} at this rate")
    hits, total = int((phi > threshold.value).sum()), len(phi)
    alpha = Fraction(1, 40)
    return Estimate(
        name=name,
        value=hits / total,
        low=float(cp_lower(total, hits, alpha)),
        high=float(cp_upper(total, hits, alpha)),
        level=0.95,
        method=f"Clopper-Pearson; threshold: {threshold.method}, {threshold.n} never-trained records",
        n=(total, threshold.n),
        shows_not=PANEL_LIMIT,
    )


ATTACK = Attack(
    name="population", kind="panel", paper="Ye et al. 2022, arXiv 2111.09679 (Attack-P)", run=population_scores
)
