"""The two answers about two sets of models, and what makes them valid: permuting and splitting whole models.

:class:`ModelTest` is evidence: an exact p-value whose unit is the model. :class:`Described` is a number beside what the
retrained models score against each other; it carries no p-value and no confidence statement. A reader tells them apart
by type, and by ``kind``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import comb, isfinite
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cu_attacks._types import AttackError, BoolArray, FloatArray, matrix
from cu_certificates.check.tails import STEP, exponential, group_bound

IntArray = npt.NDArray[np.int64]
PoolStatistic = Callable[[IntArray, IntArray], float]
"""Takes the indices of the models in the unlearned role and of those in the retrained role."""

SLACK = 1e-9
LARGEST = 1e100
"""Larger signals would overflow when they are squared."""
LEVEL = 0.95
EXCHANGE = "models are independent, and under the hypothesis every model of both sets comes from one law"
TEST_LIMIT = "a detected difference is not an eps; a large p does not show that the two sets are alike"
BAND_LIMIT = "not evidence: a number without a p-value; inside the band does not show that the two sets are alike"
RETRAINS = "the retrained models are independent and come from one law"


@dataclass(frozen=True, kw_only=True)
class ModelTest:
    """The outcome of a test that compares sets of models: evidence of a difference, or none.

    Args:
        name: What was measured.
        statistic: The observed value; larger speaks against the hypothesis.
        null_median: Median of the statistic under the hypothesis: the level that two alike sets reach.
        null_low: Its 2.5 % quantile under the hypothesis.
        null_high: Its 97.5 % quantile under the hypothesis.
        exact: The p-value as a fraction in (0, 1]: P[exact <= t] <= t for every t under the hypothesis.
        n: Models in each set.
        permutations: B, how many relabelings were drawn; ``None`` when the p-value counts all of them in closed form.
        unlearned: Unlearned models that the p-value concerns, for :meth:`eps_lower`; ``None`` when no eps follows.
        method: How the p-value was computed.
        assumptions: What it rests on.
        shows_not: What a reader must not conclude.

    Raises:
        AttackError: A field is out of range.
    """

    kind: ClassVar[str] = "test"

    name: str
    statistic: float
    null_median: float
    null_low: float
    null_high: float
    exact: Fraction
    n: tuple[int, ...]
    permutations: int | None
    unlearned: int | None
    method: str
    assumptions: str = EXCHANGE
    shows_not: str = TEST_LIMIT

    def __post_init__(self) -> None:
        _finite(self.name, self.statistic, self.null_low, self.null_median, self.null_high)
        if not 0 < self.exact <= 1:
            raise AttackError(f"exact: {self.exact}; expected a p-value in (0, 1]")
        if not self.n or min(self.n) < 1:
            raise AttackError(f"n: {self.n}; expected at least one model on every side")
        if any(count is not None and count < 1 for count in (self.permutations, self.unlearned)):
            raise AttackError(f"permutations {self.permutations}, unlearned {self.unlearned}; expected at least 1")

    @property
    def p(self) -> float:
        """The p-value as a float."""
        return float(self.exact)

    def eps_lower(self, *, alpha: Fraction, delta: Fraction = Fraction(0)) -> Fraction:
        """Turn the p-value into a lower bound on eps: the only valid conversion, and a weak one.

        With n unlearned models the joint law changes by at most e^(n eps), and by n delta e^((n - 1) eps) more, when
        they are replaced one by one. So the bound is the largest eps with e^(n eps) p + n delta e^((n - 1) eps) <=
        alpha; for delta = 0 that is ln(alpha / p) / n.

        Args:
            alpha: Level of the bound, in (0, 1).
            delta: Of the guarantee under test, in [0, 1).

        Returns:
            The bound, rounded down to four decimals, at least 0; 0 says nothing.

        Raises:
            AttackError: The test is not about unlearned models against retrained ones, or a level is out of range.
        """
        if self.unlearned is None:
            raise AttackError(f"{self.name}: its hypothesis is not that of an unlearning guarantee; no eps follows")
        if not 0 < alpha < 1 or not 0 <= delta < 1:
            raise AttackError(f"alpha {alpha}, delta {delta}; expected 0 < alpha < 1 and 0 <= delta < 1")
        # floor(floor(n x) / n) = floor(x), so nothing is lost by rounding before the division.
        most = int(group_bound(self.exact, alpha, Fraction(0)) / STEP) // self.unlearned
        return _largest_step(self.exact, self.unlearned, alpha, delta, most) * STEP


@dataclass(frozen=True, kw_only=True)
class Described:
    """A number about two sets of models beside what the retrained models score against each other; not evidence.

    Args:
        name: What was measured, with its unit.
        value: The number, from all models.
        matched: The number at the sizes that the band was made with (mean over draws); equal to ``value`` when the
            band has the same sizes. Only this one may be compared with the band.
        null_mean: Mean of the number for retrained against retrained models.
        null_low: Lower end of the band.
        null_high: Upper end of the band.
        level: Share of the draws inside the band.
        draws: Splits of the retrained models behind the band.
        n: Unlearned and retrained models behind ``value``.
        null_n: Models on each side behind the band.
        method: How the band was made.
        assumptions: What the band rests on.
        shows_not: What a reader must not conclude.

    Raises:
        AttackError: A field is out of range.
    """

    kind: ClassVar[str] = "descriptive"

    name: str
    value: float
    matched: float
    null_mean: float
    null_low: float
    null_high: float
    draws: int
    n: tuple[int, int]
    null_n: tuple[int, int]
    method: str
    level: float = LEVEL
    assumptions: str = RETRAINS
    shows_not: str = BAND_LIMIT

    def __post_init__(self) -> None:
        _finite(self.name, self.value, self.matched, self.null_mean, self.null_low, self.null_high)
        if self.null_low > self.null_high:
            raise AttackError(f"null_low {self.null_low}; expected at most null_high {self.null_high}")
        if min(*self.n, *self.null_n, self.draws) < 1 or not 0 < self.level < 1:
            raise AttackError(f"n {self.n}, null_n {self.null_n}, draws {self.draws}, level {self.level}: out of range")

    @property
    def excess(self) -> float:
        """``matched`` minus ``null_mean``: what is left when the noise floor is taken off."""
        return self.matched - self.null_mean


def _finite(name: str, *values: float) -> None:
    if not all(map(isfinite, values)):
        raise AttackError(f"{name}: {values} holds NaN or infinite values")


def _largest_step(p: Fraction, unlearned: int, alpha: Fraction, delta: Fraction, most: int) -> int:
    """Return the largest grid step at which the inequality of :meth:`ModelTest.eps_lower` holds, at most ``most``."""

    def refuted(steps: int) -> bool:
        whole, rest = (exponential(count * steps * STEP).high for count in (unlearned, unlearned - 1))
        return Fraction(whole) * p + unlearned * delta * Fraction(rest) <= alpha

    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if refuted(middle) else (low, middle - 1)
    return low


# --- Permutation: evidence -------------------------------------------------------------------------------------------


def two_pools(
    first: npt.ArrayLike, second: npt.ArrayLike, names: tuple[str, str] = ("first", "second"), *, least: int = 2
) -> tuple[FloatArray, FloatArray]:
    """Check two pools of models.

    Args:
        first: Shape (models >= least, records).
        second: Shape (models >= least, records).
        names: What the arrays are called in messages.
        least: Fewest models in each.

    Raises:
        AttackError: Wrong shapes, NaN, infinite or huge values, or different numbers of records.
    """
    one, two = matrix(first, names[0], rows=least), matrix(second, names[1], rows=least)
    for name, pool in zip(names, (one, two), strict=True):
        if np.abs(pool).max() > LARGEST:
            raise AttackError(f"{name}: signals beyond +-{LARGEST:.0e}")
    if one.shape[1] != two.shape[1]:
        raise AttackError(f"{names[1]}: signals on {two.shape[1]} records; expected {one.shape[1]} as in {names[0]}")
    return one, two


def relabelings(first: int, second: int, *, rng: np.random.Generator, permutations: int) -> BoolArray:
    """Return labels, one row a relabeling, ``True`` for the first set; row 0 is the observed one.

    Args:
        first: Models in the first set; they come first.
        second: Models in the second set.
        rng: Source of the permutations.
        permutations: B, at least 1.

    Returns:
        Shape (permutations + 1, first + second).

    Raises:
        AttackError: There are no permutations.
    """
    if permutations < 1:
        raise AttackError(f"permutations: {permutations}; expected at least 1")
    rows = np.tile(np.arange(first + second) < first, (permutations + 1, 1))
    rows[1:] = rng.permuted(rows[1:], axis=1)
    return rows


def permutation_p(values: npt.NDArray[np.float64] | IntArray) -> Fraction:
    """Return (1 + #{relabelings that reach the observed value}) / (B + 1), for the observed value in entry 0.

    A relabeling that ties up to rounding counts as reaching it, which can only raise p.
    """
    slack = 0 if values.dtype.kind == "i" else SLACK * float(np.abs(values).max())
    return Fraction(1 + int((values[1:] >= values[0] - slack).sum()), len(values))


def null_quantiles(values: npt.NDArray[np.float64] | IntArray) -> tuple[float, float, float]:
    """Return the 2.5 %, 50 % and 97.5 % quantiles of the relabeled values; entry 0, the observed one, is left out."""
    low, median, high = np.quantile(values[1:], [0.025, 0.5, 0.975])
    return float(low), float(median), float(high)


def permutation_result(name: str, values: FloatArray, n: tuple[int, int]) -> ModelTest:
    """Wrap the statistics of relabelings, observed one first, for unlearned (first) against retrained models."""
    low, median, high = null_quantiles(values)
    count = len(values) - 1
    return ModelTest(
        name=name,
        statistic=float(values[0]),
        null_low=low,
        null_median=median,
        null_high=high,
        exact=permutation_p(values),
        n=n,
        permutations=count,
        unlearned=n[0],
        method=f"{count} permutations of model labels",
    )


def block_sums(pairs: FloatArray, rows: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sum a symmetric matrix over pairs within the first set, within the second and between, for every relabeling.

    Args:
        pairs: Shape (models, models), symmetric.
        rows: Relabelings, shape (B + 1, models).

    Returns:
        Three arrays of shape (B + 1,); pairs within a set count twice, pairs between count once.
    """
    labels = rows.astype(np.float64)
    reach = labels @ pairs
    inside = np.einsum("bm,bm->b", reach, labels)
    between = reach.sum(axis=1) - inside
    return inside, pairs.sum() - inside - 2 * between, between


def binomial_p(trials: int, right: int) -> Fraction:
    """Return P[Bin(trials, 1/2) >= right], exactly."""
    return Fraction(sum(comb(trials, count) for count in range(right, trials + 1)), 2**trials)


def hypergeometric_p(total: int, marked: int, drawn: int, hits: int) -> Fraction:
    """Return the chance of ``hits`` or more marked among ``drawn`` of ``total``, exactly."""
    ways = sum(comb(marked, x) * comb(total - marked, drawn - x) for x in range(hits, min(marked, drawn) + 1))
    return Fraction(ways, comb(total, drawn))


def permuted(
    statistic: PoolStatistic, first: int, second: int, *, rng: np.random.Generator, permutations: int
) -> FloatArray:
    """Evaluate a statistic of two index sets on the observed labels (entry 0) and on relabelings."""
    rows = relabelings(first, second, rng=rng, permutations=permutations)
    return np.array([statistic(np.flatnonzero(row), np.flatnonzero(~row)) for row in rows])
