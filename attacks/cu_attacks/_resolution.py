"""The resolution line: what an audit of a given size can show, computed from its sizes before anything is trained.

"Not refuted" means nothing without it. Each design has the largest eps that a perfect outcome shows, the outcome that
is needed against eps = 0 and against the eps under test, and the effect that reaches it with a chance of 80 %.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from cu_attacks._bounds import (
    NONE,
    Direction,
    permutation_eps,
    require_counts,
    require_delta,
    require_direction,
    require_eps,
    require_level,
)
from cu_attacks._types import AttackError
from cu_certificates.check.bands import counts_bound
from cu_certificates.check.fields import shown
from cu_certificates.check.onerun import critical_right, onerun_bound, onerun_tail, request_bound
from cu_certificates.check.power import POWER, critical_guesses, smallest_accuracy
from cu_certificates.check.tails import STEP, coinflip_bound, cp_lower, exponential, floor_step, group_bound

_RIGHT: Final = "right guesses needed"
_ACCURACY: Final = "accuracy of a guess, from"
_INDEPENDENT: Final = "the power is that of independent guesses"


@dataclass(frozen=True, kw_only=True)
class Against:
    """What is needed to exceed one eps.

    Args:
        eps: The eps to exceed.
        critical: The count that is needed; ``None`` when no outcome of this size exceeds ``eps``.
        effect: The effect that reaches it with a chance of 80 %, on the printed grid; ``None`` when there is no such
            count, or when the effect depends on the test statistic.
    """

    eps: Fraction
    critical: int | None
    effect: Fraction | None


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What a design of a given size can show.

    Args:
        design: Name of the design.
        sizes: Its sizes, by name.
        alpha: Level of the bound.
        delta: At which delta.
        largest_eps: The bound after a perfect outcome, rounded down to four decimals.
        against: What is needed against 0 and against the eps under test.
        counted: What the critical number counts, and in which direction.
        effect: What the effect is, and in which direction.
        assumption: What the power rests on.
    """

    design: str
    sizes: tuple[tuple[str, int], ...]
    alpha: Fraction
    delta: Fraction
    largest_eps: Fraction
    against: tuple[Against, Against]
    counted: str
    effect: str
    assumption: str

    def __post_init__(self) -> None:
        _require(self.alpha, self.delta, self.against[1].eps)
        if self.largest_eps < 0 or any(count < 1 for _, count in self.sizes):
            raise AttackError(
                f"{self.design}: sizes {self.sizes}, largest eps {self.largest_eps}; expected positive sizes"
            )

    @property
    def line(self) -> str:
        """The resolution as one printed line."""
        size = ", ".join(f"{count} {name}" for name, count in self.sizes)
        parts = [
            f"{self.design} with {size} at level {self.alpha}: largest eps that can be shown {shown(self.largest_eps)}"
        ]
        for need in dict.fromkeys(self.against):
            if need.critical is None:
                parts.append(f"eps {shown(need.eps)} cannot be exceeded")
            else:
                power = f" ({self.effect} {shown(need.effect)}, with 80 % power)" if need.effect is not None else ""
                parts.append(f"against eps {shown(need.eps)}: {self.counted} {need.critical}{power}")
        return "; ".join(parts)


def _require(alpha: Fraction, delta: Fraction, tested_eps: Fraction) -> None:
    require_level(alpha, "alpha")
    require_delta(delta, "delta")
    require_eps(tested_eps, "tested_eps")


def _next(eps: Fraction) -> Fraction:
    """Return the smallest printed bound above ``eps``."""
    return floor_step(eps) + STEP


def coinflip_resolution(
    slots: int,
    guesses: int,
    *,
    alpha: Fraction,
    delta: Fraction = NONE,
    tested_eps: Fraction,
    direction: Direction = "both",
) -> Resolution:
    """Return what coin-flip slots (design D2) can show.

    Args:
        slots: N.
        guesses: r as planned, even, from 2 to N.
        alpha: Level, in (0, 1).
        delta: delta*, in [0, 1).
        tested_eps: eps*, from 0 to 1000.
        direction: With ``forward`` only the top r/2 are guessed.

    Raises:
        AttackError: A number out of range.
    """
    _require(alpha, delta, tested_eps)
    require_counts(guesses, slots, "guesses")
    if guesses < 2 or guesses % 2:
        raise AttackError(f"guesses: {guesses}; expected an even number from 2 to {slots}")
    made = guesses if require_direction(direction) else guesses // 2
    needs = []
    for eps in (NONE, tested_eps):
        critical = critical_guesses(slots, made, alpha, eps, delta)
        needs.append(Against(eps=eps, critical=critical, effect=_accuracy(made, critical)))
    return Resolution(
        design="coin-flip slots",
        sizes=(("slots", slots), ("guesses", made)),
        alpha=alpha,
        delta=delta,
        largest_eps=coinflip_bound(slots, made, made, alpha, delta),
        against=(needs[0], needs[1]),
        counted=_RIGHT,
        effect=_ACCURACY,
        assumption=_INDEPENDENT,
    )


def _accuracy(trials: int, critical: int | None) -> Fraction | None:
    return None if critical is None else smallest_accuracy(trials, critical)


def conformal_resolution(
    references: int, *, scores: int = 1, alpha: Fraction, delta: Fraction = NONE, tested_eps: Fraction
) -> Resolution:
    """Return what the rank of one model among references can show.

    The effect is the share of retrained models that score at least as high: with n references and at most c of them
    allowed to, P[Bin(n, share) <= c] is 0.8 at the largest share.

    Args:
        references: n.
        scores: K scores and sides that share alpha by p = K min p_k; 1 for one combined score.
        alpha: Level, in (0, 1).
        delta: delta*, in [0, 1).
        tested_eps: eps*, from 0 to 1000.

    Raises:
        AttackError: A number out of range.
    """
    _require(alpha, delta, tested_eps)
    require_counts(references, references, "references")
    if scores < 1:
        raise AttackError(f"scores: {scores}; expected at least 1")
    least = Fraction(scores, references + 1)
    needs = []
    for eps in (NONE, tested_eps):
        critical = _most_above(alpha - delta, least, _next(eps))
        share = None if critical is None else cp_lower(references, critical + 1, 1 - POWER)
        needs.append(Against(eps=eps, critical=critical, effect=share))
    return Resolution(
        design="conformal rank",
        sizes=(("references", references), ("scores", scores)),
        alpha=alpha,
        delta=delta,
        largest_eps=group_bound(least, alpha, delta),
        against=(needs[0], needs[1]),
        counted="references at least as high, at most",
        effect="share of retrained models at least as high, up to",
        assumption="references are independent",
    )


def _most_above(allowed: Fraction, least: Fraction, eps: Fraction) -> int | None:
    """Return the largest c with e^eps (1 + c) least <= allowed; ``None`` when even c = 0 is too many."""
    most = (allowed / (least * Fraction(exponential(eps).high))).__floor__() - 1
    return most if most >= 0 else None


def pools_resolution(
    unlearned: int,
    retrained: int,
    *,
    alpha: Fraction,
    delta: Fraction = NONE,
    tested_eps: Fraction,
    direction: Direction = "both",
) -> Resolution:
    """Return what two pools (design D1) can show when no retrained model lies above the threshold.

    Args:
        unlearned: Unlearned models that are counted, without the calibration half.
        retrained: Retrained models that are counted.
        alpha: Level, in (0, 1).
        delta: delta*, in [0, 1).
        tested_eps: eps*, from 0 to 1000.
        direction: Whether the guarantee is stated in both directions.

    Raises:
        AttackError: A number out of range.
    """
    _require(alpha, delta, tested_eps)
    require_counts(unlearned, unlearned, "unlearned")
    require_counts(retrained, retrained, "retrained")
    both = require_direction(direction)

    def bound(true: int) -> Fraction:
        return counts_bound(true, unlearned, 0, retrained, alpha, delta, both=both)

    needs = []
    for eps in (NONE, tested_eps):
        found = bisect_left(range(unlearned + 1), _next(eps), key=bound)
        critical = found if found <= unlearned else None
        needs.append(Against(eps=eps, critical=critical, effect=_accuracy(unlearned, critical)))
    return Resolution(
        design="two pools",
        sizes=(("unlearned", unlearned), ("retrained", retrained)),
        alpha=alpha,
        delta=delta,
        largest_eps=bound(unlearned),
        against=(needs[0], needs[1]),
        counted="unlearned models above the threshold needed when no retrained one is",
        effect="true positive rate, from",
        assumption="models of a pool are independent, and no retrained model lies above the threshold",
    )


def onerun_resolution(
    candidates: int, guesses: int, *, alpha: Fraction, delta: Fraction = NONE, tested_eps: Fraction
) -> tuple[Resolution, Resolution]:
    """Return what one run with canaries (design D3) can show: for the whole request, and for one record.

    Args:
        candidates: m, each with a coin.
        guesses: r, from 1 to m.
        alpha: Level, in (0, 1).
        delta: delta*, in [0, 1).
        tested_eps: eps*, from 0 to 500. For one record the target is twice that: unlearning with and without it
            may each be eps* away from a retrain.

    Raises:
        AttackError: A number out of range.
    """
    _require(alpha, delta, tested_eps)
    require_counts(guesses, candidates, "guesses")
    require_counts(guesses, guesses, "guesses")
    require_eps(2 * tested_eps, "twice tested_eps")

    def record_critical(eps: Fraction) -> int | None:
        def refuted(right: int) -> bool:
            return onerun_tail(candidates, guesses, right, _next(eps), delta)[1] <= alpha

        found = bisect_left(range(guesses + 1), True, key=refuted)
        return found if found <= guesses else None

    def resolution(what: str, largest: Fraction, criticals: dict[Fraction, int | None]) -> Resolution:
        needs = [
            Against(eps=eps, critical=critical, effect=_accuracy(guesses, critical))
            for eps, critical in criticals.items()
        ]
        return Resolution(
            design=f"one run, {what}",
            sizes=(("candidates", candidates), ("guesses", guesses)),
            alpha=alpha,
            delta=delta,
            largest_eps=largest,
            against=(needs[0], needs[-1]),
            counted=_RIGHT,
            effect=_ACCURACY,
            assumption=_INDEPENDENT,
        )

    return (
        resolution(
            "for the whole request",
            request_bound(guesses, guesses, alpha, delta),
            {eps: critical_right(guesses, alpha, eps, delta) for eps in (NONE, tested_eps)},
        ),
        resolution(
            "for one record",
            onerun_bound(candidates, guesses, guesses, alpha, delta),
            {eps: record_critical(eps) for eps in (NONE, 2 * tested_eps)},
        ),
    )


def permutation_resolution(
    models: int, permutations: int, *, alpha: Fraction, delta: Fraction = NONE, tested_eps: Fraction
) -> Resolution:
    """Return what a two-sample permutation test over models can show as eps.

    Args:
        models: Number n of unlearned models in the test.
        permutations: B; the p-value is (1 + #{as large}) / (B + 1).
        alpha: Level, in (0, 1).
        delta: delta*, in [0, 1).
        tested_eps: eps*, from 0 to 1000.

    Raises:
        AttackError: A number out of range.
    """
    _require(alpha, delta, tested_eps)
    require_counts(models, models, "models")
    require_counts(permutations, permutations, "permutations")
    least = Fraction(1, permutations + 1)

    def bound(as_large: int) -> Fraction:
        return permutation_eps((1 + as_large) * least, models, alpha=alpha, delta=delta).bound

    needs = []
    for eps in (NONE, tested_eps):
        # Bounds fall with the count, so their negatives rise: how many counts still exceed eps?
        found = bisect_right(range(permutations + 1), -_next(eps), key=lambda count: -bound(count))
        needs.append(Against(eps=eps, critical=found - 1 if found else None, effect=None))
    return Resolution(
        design="permutation of models",
        sizes=(("unlearned models", models), ("permutations", permutations)),
        alpha=alpha,
        delta=delta,
        largest_eps=bound(0),
        against=(needs[0], needs[1]),
        counted="permutations with as large a statistic, at most",
        effect="",
        assumption="models are independent; the power depends on the statistic",
    )
