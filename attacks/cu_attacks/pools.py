"""``pools``: does this method unlearn? Scores that arrive from outside without coins, as two pools of models.

Design D1 (Jagielski, Ullman and Oprea 2020, arXiv 2006.07709): a threshold is chosen on one half of each pool, the
other halves are counted, and two Clopper-Pearson bounds at alpha / 2 each bound the true and the false positive rate,
hence eps. A threshold chosen on the models that it counts would void the bound. At equal cost coin-flip slots show
more; this design remains for models that somebody else trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from cu_attacks._bounds import (
    NONE,
    Direction,
    pair_eps,
    require_counts,
    require_delta,
    require_direction,
    require_level,
)
from cu_attacks._types import Attack, AttackError
from cu_certificates.check.bands import pool_threshold, pools_differ
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.strict import MAX_INT

Scores = Sequence[int | None]
"""One integer a model, higher is farther from a retrained model; ``None`` for a model that failed."""


@dataclass(frozen=True, kw_only=True)
class TwoPools:
    """The outcome of a two-pool audit.

    Args:
        threshold: A model that scores at least this much is called unlearned.
        true: Unlearned models called so; failed ones count as not.
        unlearned: All unlearned models counted.
        false: Retrained models called unlearned; failed ones count as such.
        retrained: All retrained models counted.
        calibration: Models on which the threshold was chosen: unlearned and retrained.
        alpha: One-sided level.
        delta: Of the guarantee under test.
        direction: ``both``, or ``forward`` for a guarantee in one direction.
        bound: Lower bound on eps for the whole request, rounded down to four decimals.
        supports_verdict: Whether a certificate's verdict may rest on it, once it was planned.
        assumptions: What the bound rests on.
        shows_not: What a reader must not conclude.
    """

    threshold: int
    true: int
    unlearned: int
    false: int
    retrained: int
    calibration: tuple[int, int]
    alpha: Fraction
    delta: Fraction
    direction: Direction
    bound: Fraction
    supports_verdict: bool = True
    assumptions: str = (
        "models are independent draws of their arm, split into halves without a look at their scores; the score was "
        "fixed without them"
    )
    shows_not: str = "a bound of 0 does not show that nothing is left: read it with the largest eps this size can show"

    def __post_init__(self) -> None:
        require_level(self.alpha, "alpha")
        require_delta(self.delta, "delta")
        require_counts(self.true, self.unlearned, "unlearned")
        require_counts(self.false, self.retrained, "retrained")
        require_direction(self.direction)


@dataclass(frozen=True, kw_only=True)
class PoolControl:
    """The negative control of a two-pool audit: models made by ``retrain`` in the method's place.

    Args:
        threshold: The threshold of the audit.
        high: Control models at or above it.
        control: All control models that came out.
        reference_high: Retrained models of the audit at or above it.
        reference: All retrained models of the audit that came out.
        p: Exact p-value of "both pools have one law", two-sided.
        failed: Whether p is at most 1/100; a failure voids every claim of the question, a refutation too.
        assumptions: What p rests on.
        shows_not: What a reader must not conclude.
    """

    threshold: int
    high: int
    control: int
    reference_high: int
    reference: int
    p: Fraction
    failed: bool
    assumptions: str = "control and retrained models are exchangeable when the pipeline treats both alike"
    shows_not: str = "a control that did not fail does not show that the pipeline leaks nothing: pools are small"

    def __post_init__(self) -> None:
        require_counts(self.high, self.control, "control")
        require_counts(self.reference_high, self.reference, "retrained")
        if self.failed != (self.p <= CONTROL_TAIL):
            raise AttackError(
                f"failed: {self.failed} at p = {self.p}; expected a failure from {CONTROL_TAIL} downwards"
            )


def two_pools(
    unlearned: Scores,
    retrained: Scores,
    *,
    calibrate_unlearned: Scores,
    calibrate_retrained: Scores,
    alpha: Fraction,
    delta: Fraction = NONE,
    direction: Direction = "both",
) -> TwoPools:
    """Choose a threshold on the calibration halves and bound eps on the others.

    The rule that chooses it is :func:`cu_certificates.check.bands.pool_threshold`: of the corners of the calibration
    halves' receiver operating characteristic the one with the largest bound, ties to the larger difference of rates,
    then to the higher threshold. Failed calibration models are left out.

    The positive control is this function with original models in place of the unlearned ones, in both halves: where
    unlearned models look like retrained ones their threshold is noise, and at that threshold nothing would be seen.

    Args:
        unlearned: Scores of the unlearned models that are counted.
        retrained: Scores of the retrained models that are counted.
        calibrate_unlearned: Scores of other unlearned models.
        calibrate_retrained: Scores of other retrained models.
        alpha: Level, in (0, 1).
        delta: Of the guarantee under test, in [0, 1).
        direction: ``both``, or ``forward`` when only P_U <= e^eps P_R + delta is stated.

    Raises:
        AttackError: An empty pool, a score that is not an integer, or a number out of range.
    """
    require_level(alpha, "alpha")
    require_delta(delta, "delta")
    both = require_direction(direction)
    first = _came_out(calibrate_unlearned, "calibrate_unlearned")
    second = _came_out(calibrate_retrained, "calibrate_retrained")
    threshold = pool_threshold(first, second, alpha, delta, both=both)
    return pools_at(
        unlearned,
        retrained,
        threshold=threshold,
        calibration=(len(first), len(second)),
        alpha=alpha,
        delta=delta,
        direction=direction,
    )


def pools_at(
    unlearned: Scores,
    retrained: Scores,
    *,
    threshold: int,
    calibration: tuple[int, int],
    alpha: Fraction,
    delta: Fraction = NONE,
    direction: Direction = "both",
) -> TwoPools:
    """Bound eps at a threshold that was fixed without these models, by :func:`two_pools` or by the plan.

    Args:
        unlearned: As in :func:`two_pools`.
        retrained: As in :func:`two_pools`.
        threshold: Fixed beforehand.
        calibration: Unlearned and retrained models on which it was chosen; (0, 0) when the plan fixed it.
        alpha: As in :func:`two_pools`.
        delta: As in :func:`two_pools`.
        direction: As in :func:`two_pools`.

    Raises:
        AttackError: As in :func:`two_pools`.
    """
    _require_scores(unlearned, "unlearned")
    _require_scores(retrained, "retrained")
    _require_scores([threshold], "threshold")
    # A failed run counts against the claim: as an unlearned model that was missed, as a retrained one that was called.
    true = sum(score is not None and score >= threshold for score in unlearned)
    false = sum(score is None or score >= threshold for score in retrained)
    found = pair_eps(true, len(unlearned), false, len(retrained), alpha=alpha, delta=delta, direction=direction)
    return TwoPools(
        threshold=threshold,
        true=true,
        unlearned=len(unlearned),
        false=false,
        retrained=len(retrained),
        calibration=calibration,
        alpha=alpha,
        delta=delta,
        direction=direction,
        bound=found.bound,
    )


def pool_control(control: Scores, retrained: Scores, *, threshold: int) -> PoolControl:
    """Run the negative control: do retrained models that passed through the method's code path look like the others?

    Given how many of both pools lie above the threshold, how they fall on the pools is hypergeometric; p is twice the
    smaller tail, so a leak in either direction counts.

    Args:
        control: Scores of models made by ``retrain`` in the method's place.
        retrained: Scores of the audit's retrained models.
        threshold: The audit's threshold, fixed without both.

    Raises:
        AttackError: An empty pool, or a score that is not an integer.
    """
    first, second = _came_out(control, "control"), _came_out(retrained, "retrained")
    _require_scores([threshold], "threshold")
    high, other = (sum(score >= threshold for score in pool) for pool in (first, second))
    p = pools_differ(high, len(first), other, len(second))
    return PoolControl(
        threshold=threshold,
        high=high,
        control=len(first),
        reference_high=other,
        reference=len(second),
        p=p,
        failed=p <= CONTROL_TAIL,
    )


def _require_scores(scores: Scores, name: str) -> None:
    if not len(scores):
        raise AttackError(f"{name}: no models; expected at least one")
    for score in scores:
        if score is not None and (isinstance(score, bool) or not isinstance(score, int) or abs(score) > MAX_INT):
            raise AttackError(f"{name}: {score!r}; expected integers below 2^53, or None for a failed model")


def _came_out(scores: Scores, name: str) -> list[int]:
    _require_scores(scores, name)
    found = [score for score in scores if score is not None]
    if not found:
        raise AttackError(f"{name}: all {len(scores)} models failed; expected at least one that came out")
    return found


ATTACK = Attack(
    name="pools",
    kind="question",
    paper="Jagielski, Ullman, Oprea 2020, arXiv 2006.07709",
    run=two_pools,
)
