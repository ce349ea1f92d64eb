"""A score that learns while slots are opened: what unlearned models turned out to be like helps to judge the next ones.

The frozen score of the pilots looks for what sets the *original* apart. A method that forgets in part, or in its own
way, lies elsewhere: between the pilots' two kinds, or off to the side. Opened slots show where. Two parts are added up:

- a linear discriminant along the difference of means, unlearned against retrained, where the pilots' originals stand in
  for the unlearned models until some are opened;
- the frozen score, which sees single records.

Each is standardised and weighted by the square of its distance between the two kinds. A model never takes part in the
score that measures its own distance: each is left out in turn. Shape and constants were chosen for power on models that
belong to no audit (digits; the request fine-tuned away, treated by NPO, and half-way to a retrain); a guess that uses
pilots and opened slots alone keeps the bets fair whatever they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt

from cu_attacks._combined import SCALE
from cu_attacks._model_scores import ModelScore
from cu_attacks._types import AttackError, FloatArray, matrix
from cu_certificates.check.tables import Model, PilotTable

_LIMIT: Final = 2**52
_SHRINK: Final = 0.25
"""Share of a record's own variance, as in the frozen score."""
_PILOT_WEIGHT: Final = 0.3
"""How many opened unlearned models the pilots' originals count as."""
_PRIOR: Final = 4
"""Degrees of freedom by which a spread of few models leans on that of the retrained ones."""
_APART: Final = 0.5
"""Standard deviations between the two kinds below which no guess is withheld: nearly all would be."""
_SURE: Final = 2.0
"""Standard errors of that distance below which none is withheld: it may be nothing at all."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """How the slots of one round are judged.

    Args:
        score: Returns one integer a model; higher looks more like a model that saw the request.
        threshold: Above it the guess is "unlearned".
        margin: Closer to the threshold than this nothing is guessed.
    """

    score: Callable[[npt.ArrayLike], list[int]]
    threshold: int
    margin: int


@dataclass(frozen=True, eq=False, kw_only=True)
class LearnedScore:
    """The sum of a linear discriminant and the frozen score, each standardised.

    Args:
        frozen: The pilots' score.
        weight: Of each record in the discriminant, shape (records,).
        centre: Mean of discriminant and frozen score over retrained models.
        scale: Their spread within the two kinds.
        share: What each counts; the two sum to 1.
    """

    frozen: ModelScore
    weight: FloatArray
    centre: tuple[float, float]
    scale: tuple[float, float]
    share: tuple[float, float]

    def __call__(self, signals: npt.ArrayLike) -> list[int]:
        """Return one integer score a model, in millionths.

        Args:
            signals: Membership signals on the request, shape (models, records).
        """
        found = matrix(signals, "signals")
        parts = (found @ self.weight, np.array(self.frozen(found)) / SCALE)
        total = sum(
            share * (part - centre) / scale
            for part, centre, scale, share in zip(parts, self.centre, self.scale, self.share, strict=True)
        )
        return _whole(np.asarray(total))


def _whole(values: FloatArray) -> list[int]:
    return [int(value) for value in np.clip(np.rint(values * SCALE), -_LIMIT, _LIMIT)]


def first_judge(frozen: ModelScore, original: npt.ArrayLike, centring: npt.ArrayLike) -> Judge:
    """Return how slots are judged before any was opened: half-way between the pilots' medians, holding none back.

    Args:
        frozen: The pilots' score.
        original: Signals of the pilots that saw the request, shape (models, records).
        centring: Signals of those on which the score was centred, shape (models, records).
    """
    pools = [tuple(Model(None, score) for score in frozen(pool)) for pool in (original, centring)]
    return Judge(score=frozen, threshold=PilotTable(pools[0], (), pools[1]).middle(), margin=0)


def relearn(
    frozen: ModelScore,
    pilots: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike],
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    eps: Fraction,
) -> Judge:
    """Learn score, threshold and margin from pilots and opened slots.

    Args:
        frozen: The pilots' score.
        pilots: Signals of its originals, of the retrained models that fitted it and of those that centred it, each of
            shape (models >= 2, records).
        unlearned: Signals of the unlearned models opened so far, shape (models, records); none gives
            :func:`first_judge`.
        retrained: Signals of the retrained ones, shape (models, records); there may be none.
        eps: eps* of the guarantee under test. Where the odds of the two kinds do not exceed e^eps*, a bet loses in the
            mean even if the method is as bad as it looks, so there the guess is withheld.

    Raises:
        AttackError: Shapes disagree, or a value is not finite or too large.
    """
    original, fitting, centring = (matrix(pool, f"pilots[{number}]", rows=2) for number, pool in enumerate(pilots))
    size = original.shape[1]
    if not len(np.asarray(unlearned)):
        return first_judge(frozen, original, centring)
    seen = matrix(unlearned, "unlearned")
    opened = matrix(retrained, "retrained") if len(np.asarray(retrained)) else np.empty((0, size))
    if {pool.shape[1] for pool in (fitting, centring, seen, opened)} != {size}:
        raise AttackError(f"pilots, unlearned, retrained: signals on different numbers of records; expected {size}")
    with np.errstate(over="ignore", invalid="ignore"):
        judge = _learn(frozen, original, fitting, np.concatenate([centring, opened]), seen, float(eps))
    if judge is None:
        raise AttackError("unlearned, retrained: signals too large to square; expected magnitudes below 1e100")
    return judge


def _learn(
    frozen: ModelScore, original: FloatArray, fitting: FloatArray, fresh: FloatArray, seen: FloatArray, eps: float
) -> Judge | None:
    """Learn from retrained models that fitted the frozen score, others that did not, and unlearned ones."""
    unseen = np.concatenate([fitting, fresh])
    variance = unseen.var(axis=0, ddof=1)
    spread = _SHRINK * variance + (1 - _SHRINK) * variance.mean()
    spread = np.where(spread > 0, spread, 1.0)
    linear_seen, linear_unseen, weight = _discriminant(original.mean(axis=0), seen, unseen, spread)
    pairs = (
        (linear_seen, linear_unseen[len(fitting) :]),
        (np.array(frozen(seen)) / SCALE, np.array(frozen(fresh)) / SCALE),
    )
    centre, scale = zip(*(_standard(*pair) for pair in pairs), strict=True)
    apart = [max(float(pair[0].mean()) - mid, 0.0) / wide for pair, mid, wide in zip(pairs, centre, scale, strict=True)]
    total = sum(distance**2 for distance in apart)
    if not np.isfinite([*centre, *scale, total]).all() or not np.isfinite(weight).all():
        return None
    linear = apart[0] ** 2 / total if total else 0.5
    share = (linear, 1 - linear)
    score = LearnedScore(frozen=frozen, weight=weight, centre=centre, scale=scale, share=share)
    kinds = [
        sum(part * (values - mid) / wide for part, values, mid, wide in zip(share, side, centre, scale, strict=True))
        for side in zip(*pairs, strict=True)
    ]
    threshold, margin = _cut(np.asarray(kinds[0]), np.asarray(kinds[1]), eps)
    return Judge(score=score, threshold=_whole(np.array([threshold]))[0], margin=_whole(np.array([margin]))[0])


def _discriminant(
    pilots: FloatArray, seen: FloatArray, unseen: FloatArray, spread: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the discriminant of each model, fitted without it, and the weights fitted with all.

    Args:
        pilots: Mean signals of the pilots' originals.
        seen: Signals of unlearned models.
        unseen: Signals of retrained models.
        spread: Variance of each record.
    """

    def mean_of(total: FloatArray, count: int) -> FloatArray:
        mixed: FloatArray = (total + _PILOT_WEIGHT * pilots) / (count + _PILOT_WEIGHT)
        return mixed

    total, count, base = seen.sum(axis=0), len(seen), unseen.mean(axis=0)
    others = (base * len(unseen) - unseen) / (len(unseen) - 1)
    whole = mean_of(total, count)
    left_out = mean_of(total - seen, count - 1)
    return (
        (seen * (left_out - base) / spread).sum(axis=1),
        (unseen * (whole - others) / spread).sum(axis=1),
        (whole - base) / spread,
    )


def _standard(seen: FloatArray, unseen: FloatArray) -> tuple[float, float]:
    """Return the mean over retrained models and the spread within both kinds."""
    own = float(unseen.var(ddof=1))
    within = float(((seen - seen.mean()) ** 2).sum() + ((unseen - unseen.mean()) ** 2).sum()) + _PRIOR * own
    wide = (within / (len(seen) + len(unseen) - 2 + _PRIOR)) ** 0.5
    return float(unseen.mean()), wide if wide > 0 else 1.0


def _cut(seen: FloatArray, unseen: FloatArray, eps: float) -> tuple[float, float]:
    """Return the threshold at which both kinds are told apart equally well, and the margin, for two normal laws."""
    low, high = float(unseen.mean()), float(seen.mean())
    own = float(unseen.std(ddof=1))
    other = ((float(((seen - high) ** 2).sum()) + _PRIOR * own**2) / (len(seen) - 1 + _PRIOR)) ** 0.5
    threshold = (high * own + low * other) / (own + other) if own + other > 0 else (low + high) / 2
    wide = _standard(seen, unseen)[1]
    least = max(_APART, _SURE * (1 / len(seen) + 1 / len(unseen)) ** 0.5)
    # With equal spreads the log-odds grow by (high - low)/wide^2 a unit, so within the margin they are below eps.
    return threshold, eps * wide**2 / (high - low) if high - low > least * wide else 0.0
