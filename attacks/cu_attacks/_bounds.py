"""Lower bounds that hold: from one p-value, from many models' p-value, from two counts, from right guesses.

Every bound is an exact rational on the printed grid, rounded down, and is computed by the routines with which a
stranger's checker computes it again. What rests on the shape of a curve or on a prior lives in ``_extrapolations``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from cu_attacks._types import AttackError
from cu_certificates.check.bands import counts_bound
from cu_certificates.check.tails import (
    MAX_EPS,
    MAX_TRIALS,
    STEP,
    cp_lower,
    cp_upper,
    exponential,
    floor_step,
    group_bound,
    guessing_tail,
)

Direction = Literal["both", "forward"]
NONE: Final = Fraction(0)
ZERO_LIMIT: Final = "a bound of 0 does not show that nothing is left: read it with the largest value this size can show"


# --- Arguments --------------------------------------------------------------------------------------------------------


def require_level(value: Fraction, name: str) -> None:
    """Demand an exact level in (0, 1).

    Raises:
        AttackError: It is a float, or out of range.
    """
    if not isinstance(value, Fraction) or not 0 < value < 1:
        raise AttackError(f"{name}: {value!r}; expected a Fraction in (0, 1), for example Fraction(1, 20)")


def require_delta(value: Fraction, name: str, *, closed: bool = False) -> None:
    """Demand an exact delta in [0, 1), or in [0, 1] when ``closed``.

    Raises:
        AttackError: It is a float, or out of range.
    """
    if not isinstance(value, Fraction) or value < 0 or value > 1 or (value == 1 and not closed):
        raise AttackError(f"{name}: {value!r}; expected a Fraction in [0, 1{']' if closed else ')'}")


def require_eps(value: Fraction, name: str) -> None:
    """Demand an exact eps from 0 to 1000.

    Raises:
        AttackError: It is a float, or out of range.
    """
    if not isinstance(value, Fraction) or not 0 <= value <= MAX_EPS:
        raise AttackError(f"{name}: {value!r}; expected a Fraction from 0 to {MAX_EPS}")


def require_counts(hits: int, trials: int, name: str) -> None:
    """Demand 0 <= hits <= trials, at least one trial, and no more than the checker sums over.

    Raises:
        AttackError: A count is out of range.
    """
    if not 1 <= trials <= MAX_TRIALS or not 0 <= hits <= trials:
        raise AttackError(f"{name}: {hits} of {trials}; expected 0 <= hits <= trials and 1 to {MAX_TRIALS} trials")


def require_direction(direction: Direction) -> bool:
    """Return whether both directions are meant.

    Raises:
        AttackError: Neither ``both`` nor ``forward``.
    """
    if direction not in ("both", "forward"):
        raise AttackError(f"direction: {direction!r}; expected 'both' or 'forward'")
    return direction == "both"


# --- Results ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LowerBound:
    """A lower bound with everything needed to read it.

    Args:
        quantity: What is bounded.
        bound: The bound, rounded down to four decimals; 0 says nothing.
        alpha: One-sided level: the chance that a sound procedure yields a bound above the truth is at most this.
        delta: At which delta an eps is bounded; 0 where none belongs.
        method: How it was computed.
        n: Numbers of observations.
        assumption: What it rests on.
        supports_verdict: Whether a certificate's verdict may rest on it, once it was planned.
        shows_not: What a reader must not conclude.
    """

    quantity: str
    bound: Fraction
    alpha: Fraction
    delta: Fraction
    method: str
    n: tuple[int, ...]
    assumption: str
    supports_verdict: bool
    shows_not: str = ZERO_LIMIT

    def __post_init__(self) -> None:
        require_level(self.alpha, "alpha")
        require_delta(self.delta, "delta")
        if self.bound < 0 or self.bound % STEP:
            raise AttackError(f"bound: {self.bound}; expected a multiple of {STEP}, at least 0")

    @property
    def level(self) -> float:
        """Confidence level 1 - alpha."""
        return float(1 - self.alpha)


@dataclass(frozen=True, kw_only=True)
class DeltaCurve:
    """Lower bounds on delta at several eps, all at once at one level.

    Args:
        points: Pairs (eps, lower bound on delta), both exact; a delta of 0 says nothing.
        alpha: One-sided level of all points together.
        method: How they were computed.
        n: Numbers of observations.
        assumption: What they rest on.
        supports_verdict: Always false: the eps of the same counts decides, and both would count one finding twice.
        shows_not: What a reader must not conclude.
    """

    points: tuple[tuple[Fraction, Fraction], ...]
    alpha: Fraction
    method: str
    n: tuple[int, ...]
    assumption: str
    supports_verdict: bool = False
    shows_not: str = ZERO_LIMIT

    def __post_init__(self) -> None:
        require_level(self.alpha, "alpha")
        for _, delta in self.points:
            require_delta(delta, "points", closed=True)


# --- From a p-value ---------------------------------------------------------------------------------------------------


def group_eps(p: Fraction, *, alpha: Fraction, delta: Fraction = NONE) -> LowerBound:
    """Bound eps for the whole request by an exact p-value about *one* model.

    Under (eps, delta)-unlearning P[p <= t] <= e^eps t + delta, so eps >= ln((alpha - delta) / p). The p-value may be a
    conformal rank, a permutation p-value of labels, or the chance of as many right guesses about coins.

    Args:
        p: Exact p-value, in (0, 1].
        alpha: Level, in (0, 1).
        delta: In [0, 1); from alpha upwards nothing can be shown.

    Raises:
        AttackError: A number out of range, or a float.
    """
    require_level(alpha, "alpha")
    require_delta(delta, "delta")
    _require_p(p)
    return LowerBound(
        quantity="eps for the whole request",
        bound=group_bound(p, alpha, delta),
        alpha=alpha,
        delta=delta,
        method="ln((alpha - delta) / p)",
        n=(1,),
        assumption="p is exact when the one model is drawn as a retrain; tests unlearned against retrained only",
        supports_verdict=True,
        shows_not="the eps of a whole request, which grows with its size; it is not an eps for one record",
    )


def permutation_eps(p: Fraction, models: int, *, alpha: Fraction, delta: Fraction = NONE) -> LowerBound:
    """Bound eps by a two-sample p-value over several independent unlearned models.

    Under (eps, delta) the law M of one model has min(dM_U, e^eps dM_R) of mass at least 1 - delta, so n independent
    ones obey P_U <= e^(n eps) P_R + 1 - (1 - delta)^n, and eps >= ln((alpha - 1 + (1 - delta)^n) / p) / n. (Group
    privacy would subtract n delta e^((n - 1) eps), which is more.)

    Args:
        p: Exact two-sample p-value under "both pools have one law", in (0, 1].
        models: Number n of unlearned models in the test, at least 1.
        alpha: Level, in (0, 1).
        delta: In [0, 1).

    Raises:
        AttackError: A number out of range, or a float.
    """
    require_level(alpha, "alpha")
    require_delta(delta, "delta")
    require_counts(models, models, "models")
    _require_p(p)
    left = alpha - (1 - (1 - delta) ** models)
    # Rounding down before and after a division by a whole number is rounding down once.
    bound = floor_step(group_bound(p, left, NONE) / models) if left > 0 else NONE
    return LowerBound(
        quantity="eps for the whole request",
        bound=bound,
        alpha=alpha,
        delta=delta,
        method="ln((alpha - 1 + (1 - delta)^n) / p) / n",
        n=(models,),
        assumption="the models are independent, and p is exact when unlearned and retrained models have one law",
        supports_verdict=False,
        shows_not="mostly far below the truth: a detected difference between pools is evidence, hardly ever an eps",
    )


def _require_p(p: Fraction) -> None:
    if not isinstance(p, Fraction) or not 0 < p <= 1:
        raise AttackError(f"p: {p!r}; expected an exact p-value, a Fraction in (0, 1]; a permutation never gives 0")


# --- From two counts --------------------------------------------------------------------------------------------------


def pair_eps(
    true: int,
    unlearned: int,
    false: int,
    retrained: int,
    *,
    alpha: Fraction,
    delta: Fraction = NONE,
    direction: Direction = "both",
) -> LowerBound:
    """Bound eps by two Clopper-Pearson bounds at alpha / 2 each (design D1; Jagielski et al. 2020, arXiv 2006.07709).

    Args:
        true: Unlearned models that the rule called unlearned.
        unlearned: All unlearned models counted.
        false: Retrained models that the rule called unlearned.
        retrained: All retrained models counted.
        alpha: Level of the bound, in (0, 1).
        delta: In [0, 1).
        direction: ``both``, or ``forward`` when only P_U <= e^eps P_R + delta is stated.

    Raises:
        AttackError: A count or a number out of range.
    """
    both = _require_pair(true, unlearned, false, retrained, alpha, direction)
    require_delta(delta, "delta")
    return LowerBound(
        quantity="eps for the whole request",
        bound=counts_bound(true, unlearned, false, retrained, alpha, delta, both=both),
        alpha=alpha,
        delta=delta,
        method="two Clopper-Pearson bounds at alpha / 2, " + ("both directions" if both else "forward direction"),
        n=(unlearned, retrained),
        assumption="the rule was fixed without these models, which are independent draws of each arm",
        supports_verdict=True,
    )


def pair_delta(
    true: int,
    unlearned: int,
    false: int,
    retrained: int,
    *,
    eps: Sequence[Fraction],
    alpha: Fraction,
    direction: Direction = "both",
) -> DeltaCurve:
    """Bound delta at several eps by the same two Clopper-Pearson bounds: delta >= TPR - e^eps FPR, one event for all.

    Args:
        true: As in :func:`pair_eps`.
        unlearned: As in :func:`pair_eps`.
        false: As in :func:`pair_eps`.
        retrained: As in :func:`pair_eps`.
        eps: Where the curve is wanted, each from 0 to 1000.
        alpha: Level of all points together.
        direction: As in :func:`pair_eps`.

    Raises:
        AttackError: A count or a number out of range.
    """
    both = _require_pair(true, unlearned, false, retrained, alpha, direction)
    tpr, fpr = cp_lower(unlearned, true, alpha / 2), cp_upper(retrained, false, alpha / 2)
    points = []
    for value in _curve(eps):
        growth = Fraction(exponential(value).high)
        gaps = [tpr - growth * fpr, *([(1 - fpr) - growth * (1 - tpr)] if both else [])]
        points.append((value, floor_step(max(*gaps, NONE))))
    return DeltaCurve(
        points=tuple(points),
        alpha=alpha,
        method="two Clopper-Pearson bounds at alpha / 2",
        n=(unlearned, retrained),
        assumption="the rule was fixed without these models, which are independent draws of each arm",
    )


def _require_pair(true: int, unlearned: int, false: int, retrained: int, alpha: Fraction, direction: Direction) -> bool:
    require_level(alpha, "alpha")
    require_counts(true, unlearned, "unlearned")
    require_counts(false, retrained, "retrained")
    return require_direction(direction)


def _curve(eps: Sequence[Fraction]) -> Sequence[Fraction]:
    if not eps:
        raise AttackError("eps: none; expected at least one value at which to bound delta")
    for value in eps:
        require_eps(value, "eps")
    return eps


# --- From right guesses about coins -----------------------------------------------------------------------------------


def guesses_delta(slots: int, guesses: int, right: int, *, eps: Sequence[Fraction], alpha: Fraction) -> DeltaCurve:
    """Bound delta at several eps by right guesses about fair coins (design D2).

    The largest delta on the grid at which as many right guesses have a chance of at most alpha. Each eps asks for a
    number of right guesses of its own, and the smallest of these numbers is reached with chance at most alpha, so all
    points hold at once.

    Args:
        slots: N, each with a coin of its own.
        guesses: r, fixed beforehand, at most N.
        right: v.
        eps: Where the curve is wanted, each from 0 to 1000.
        alpha: Level of all points together.

    Raises:
        AttackError: A count or a number out of range.
    """
    require_level(alpha, "alpha")
    require_counts(guesses, slots, "guesses")
    require_counts(right, guesses, "right")
    points = tuple((value, _largest_delta(slots, guesses, right, value, alpha)) for value in _curve(eps))
    return DeltaCurve(
        points=points,
        alpha=alpha,
        method="coin-flip slots, the sum over lost slots",
        n=(slots, guesses),
        assumption="fair coins drawn after the score was fixed; slots share nothing random",
    )


def _largest_delta(slots: int, guesses: int, right: int, eps: Fraction, alpha: Fraction) -> Fraction:
    if not guessing_tail(slots, guesses, right, eps, STEP).at_most(alpha):
        return NONE
    low, high = 1, int(1 / STEP)
    while high - low > 1:
        middle = (low + high) // 2
        if guessing_tail(slots, guesses, right, eps, middle * STEP).at_most(alpha):
            low = middle
        else:
            high = middle
    return low * STEP


def tv_lower(slots: int, right: int, *, alpha: Fraction) -> LowerBound:
    """Bound the total variation distance by a classifier two-sample test with a guess for *every* slot: 2 q - 1.

    A guess about a fair coin is right with chance (1 + TV) / 2 at most (Lopez-Paz and Oquab 2017, arXiv 1610.06545),
    so right guesses bound TV through the one-sided Clopper-Pearson bound q. With slots left out, the guesses made
    would be the easy ones; then :func:`guesses_delta` at eps = 0 is the valid bound.

    Args:
        slots: Slots, each with a fair coin and a guess.
        right: Right guesses.
        alpha: Level, in (0, 1).

    Raises:
        AttackError: A count or the level out of range.
    """
    require_level(alpha, "alpha")
    require_counts(right, slots, "right")
    return LowerBound(
        quantity="total variation distance between unlearned and retrained models",
        bound=max(2 * cp_lower(slots, right, alpha) - 1, NONE),
        alpha=alpha,
        delta=NONE,
        method="classifier two-sample test, Clopper-Pearson",
        n=(slots,),
        assumption="fair coins drawn after the classifier was fixed; slots share nothing random",
        supports_verdict=False,
    )
