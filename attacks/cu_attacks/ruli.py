"""``ruli``: two games about one record, with densities instead of normal laws.

RULI (Naderloui et al. 2025, arXiv 2506.13009). *Privacy*: looking at unlearned models only, was the record unlearned or
never there? Lambda = p(phi | trained and unlearned) / p(phi | held out). *Efficacy*: does the record look as in an
unlearned model or as in a retrained one? The laws are kernel density estimates over shadow models, one a record, so
they need no normal shape. In the paper's design each shadow model draws, for every record, one of three states (in,
held out, unlearned), which the masks of :func:`ruli_privacy` state.

Random records are easy to unlearn, so targets must include *vulnerable* ones, and the two kinds are reported apart:
:func:`ruli_by_kind`.

The released code uses Gaussian kernels of width 1 whatever the signal's scale, cuts all laws to equal counts, and
scores by p1 / (p1 + p0), which ranks like Lambda. Here the width follows the data: 1.06 s n^(-1/5) (Silverman 1986)
with s the within-record spread pooled over records and both laws, and is shared by both laws, so that far out
neither wins by its width alone. ``bandwidth=1.0`` gives the released choice.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from cu_attacks._gauss import mask_of, models_of, signals_of
from cu_attacks._panel import RECORDS_INDEPENDENT, PanelResult, judge
from cu_attacks._types import Attack, AttackError, BoolArray, FloatArray


def ruli_privacy(
    signals: npt.ArrayLike,
    shadows: npt.ArrayLike,
    unlearned: npt.ArrayLike,
    held_out: npt.ArrayLike,
    *,
    bandwidth: float | None = None,
) -> FloatArray:
    """Score each record in one unlearned model: was it unlearned (high), or never there (low)?

    Args:
        signals: Margins of the audited unlearned model, shape (records,) or (records, queries).
        shadows: Margins of shadow models *after unlearning*, shape (models >= 2, records[, queries]).
        unlearned: Whether a shadow model was trained on a record and then unlearned it, booleans (models, records).
        held_out: Whether it never saw the record, booleans (models, records), nowhere true together with ``unlearned``.
            Models in which the record is retained count for neither.
        bandwidth: Width of the kernels, positive; from the data when not given.

    Returns:
        ln Lambda, shape (records,).

    Raises:
        AttackError: Shapes disagree, masks overlap, a record lacks a kind of model, or a value is not finite.
    """
    models = models_of(shadows, "shadows", rows=2)
    first, second = (
        mask_of(value, name, models.shape) for value, name in ((unlearned, "unlearned"), (held_out, "held_out"))
    )
    if (first & second).any():
        raise AttackError("held_out: overlaps with unlearned; expected one state for each model and record")
    phi = signals_of(signals, "signals", size=models.shape[1])
    return _log_ratio(phi, (models, first, "unlearned"), (models, second, "held_out"), bandwidth)


def ruli_efficacy(
    signals: npt.ArrayLike, unlearned: npt.ArrayLike, retrained: npt.ArrayLike, *, bandwidth: float | None = None
) -> FloatArray:
    """Score each record in one model: does it look unlearned (high) or as in a retrained model (low)?

    Args:
        signals: Margins of the model, shape (records,) or (records, queries).
        unlearned: Margins of shadow models that unlearned the records, shape (models >= 2, records[, queries]).
        retrained: Margins of shadow models retrained without them, shape (models >= 2, records[, queries]).
        bandwidth: Width of the kernels, positive; from the data when not given.

    Returns:
        ln of the ratio of densities, shape (records,).

    Raises:
        AttackError: Shapes disagree, too few models, or a value is not finite.
    """
    one = models_of(unlearned, "unlearned", rows=2)
    two = models_of(retrained, "retrained", rows=2, size=one.shape[1])
    phi = signals_of(signals, "signals", size=one.shape[1])
    first, second = (np.ones(pool.shape, dtype=np.bool_) for pool in (one, two))
    return _log_ratio(phi, (one, first, "unlearned"), (two, second, "retrained"), bandwidth)


@dataclass(frozen=True, kw_only=True)
class RuliByKind:
    """The same game on vulnerable and on other records.

    Args:
        vulnerable: What it shows on records that models memorise most.
        others: What it shows on the rest.
        assumptions: What the intervals rest on.
        shows_not: What a reader must not conclude.
    """

    vulnerable: PanelResult
    others: PanelResult
    assumptions: str = RECORDS_INDEPENDENT
    shows_not: str = "a small number on ordinary records shows nothing about vulnerable ones"


def ruli_by_kind(scores: npt.ArrayLike, member: npt.ArrayLike, vulnerable: npt.ArrayLike) -> RuliByKind:
    """Judge scores of vulnerable and of other records apart.

    Args:
        scores: One number a record, higher means "was unlearned".
        member: Whether the record was unlearned, booleans of shape (records,).
        vulnerable: Whether it is a vulnerable record, chosen on other models than the audited one, booleans (records,).

    Raises:
        AttackError: Wrong shapes, or fewer than two records of either kind in either group.
    """
    values, chosen = np.asarray(scores, dtype=np.float64), np.asarray(member)
    apart = mask_of(vulnerable, "vulnerable", values.shape)
    if chosen.shape != values.shape:
        raise AttackError(f"member: shape {chosen.shape}; expected {values.shape}")
    first, second = (
        judge(values[group], chosen[group], name=f"RULI, {words}")
        for group, words in ((apart, "vulnerable records"), (~apart, "other records"))
    )
    return RuliByKind(vulnerable=first, others=second)


_Pool = tuple[FloatArray, BoolArray, str]


def _log_ratio(phi: FloatArray, first: _Pool, second: _Pool, bandwidth: float | None) -> FloatArray:
    counts = []
    for _, use, name in (first, second):
        counts.append(use.sum(axis=0))
        if counts[-1].min() < 1:
            raise AttackError(
                f"{name}: {int((counts[-1] < 1).sum())} records have no such model; expected at least one"
            )
    width = _width((first, second), counts) if bandwidth is None else bandwidth
    if not (width > 0 and np.isfinite(width)):
        raise AttackError(f"bandwidth: {bandwidth}; expected a positive number")
    one, two = (
        logsumexp(np.where(use, -0.5 * np.clip((phi - values) / width, -1e150, 1e150) ** 2, -np.inf), axis=0)
        - np.log(count)
        for (values, use, _), count in zip((first, second), counts, strict=True)
    )
    scores: FloatArray = np.asarray(one - two, dtype=np.float64)
    return scores


def _width(pools: tuple[_Pool, _Pool], counts: list[npt.NDArray[np.int_]]) -> float:
    """Return the normal-reference width from the pooled within-record spread; 1 when all spreads are 0."""
    squares, freedom = 0.0, 0
    for (values, use, _), count in zip(pools, counts, strict=True):
        centre = np.where(use, values, 0.0).sum(axis=0) / count
        squares += float((np.where(use, values - centre, 0.0) ** 2).sum())
        freedom += int((count - 1).sum())
    if not freedom or squares <= 0:
        return 1.0
    typical = float(np.mean([count.mean() for count in counts]))
    return float(1.06 * (squares / freedom) ** 0.5 * typical**-0.2)


ATTACK = Attack(name="ruli", kind="panel", paper="Naderloui et al. 2025, arXiv 2506.13009", run=ruli_privacy)
