"""``rmia``: is the record's likelihood ratio larger than that of most never-trained records?

Robust membership inference (Zarifzadeh et al. 2024, arXiv 2312.03262): the score is the share of population records z
with (p_x / pbar_x) / (p_z / pbar_z) > gamma, where p is the audited model's probability of the true class and pbar its
mean over reference models, half of them trained on the record. Offline, where no reference model saw x, pbar is set
from the never-in mean by pbar = ((1 + a) pbar_out + (1 - a)) / 2: it assumes pbar_in = a pbar_out + 1 - a. It needs few
reference models; the score has no finer steps than one over the number of population records.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

from cu_attacks._gauss import mask_of
from cu_attacks._roc import members_and_others
from cu_attacks._types import Attack, AttackError, FloatArray, matrix, vector

_SMALLEST: Final = 1e-300
_GRID: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def rmia_offline(
    probabilities: npt.ArrayLike,
    shadows: npt.ArrayLike,
    population: npt.ArrayLike,
    population_shadows: npt.ArrayLike,
    *,
    a: float = 0.3,
    gamma: float = 1.0,
) -> FloatArray:
    """Score each record from reference models that never saw it; higher means "was trained on".

    Args:
        probabilities: p_x, the audited model's probability of the true class of each record, shape (records,).
        shadows: The same of reference models that never saw these records, shape (models >= 1, records).
        population: p_z of never-trained records that are not among the records, shape (population >= 1,).
        population_shadows: The same of the reference models, shape (models, population).
        a: How far the in-mean lies from the never-in mean towards 1, in [0, 1]: 1 means no difference. Tune it with
            :func:`tuned_a` when a model with known members is at hand.
        gamma: Ratio that a population record must be beaten by, positive.

    Returns:
        Share of beaten population records, shape (records,), in [0, 1].

    Raises:
        AttackError: Shapes disagree, a value is no probability, or a parameter is out of range.
    """
    if not 0 <= a <= 1:
        raise AttackError(f"a: {a}; expected a number in [0, 1]")
    p, others = _probabilities(probabilities, "probabilities"), _probabilities(population, "population")
    means = []
    models = _models(shadows, "shadows", len(p))
    for found in (models, _models(population_shadows, "population_shadows", len(others), len(models))):
        means.append(((1 + a) * found.mean(axis=0) + (1 - a)) / 2)
    return _share(p / means[0], others / means[1], gamma)


def rmia_online(
    probabilities: npt.ArrayLike,
    shadows: npt.ArrayLike,
    member_mask: npt.ArrayLike,
    population: npt.ArrayLike,
    population_shadows: npt.ArrayLike,
    *,
    gamma: float = 1.0,
) -> FloatArray:
    """Score each record from reference models of both kinds; higher means "was trained on".

    Args:
        probabilities: p_x, the audited model's probability of the true class of each record, shape (records,).
        shadows: The same of the reference models, shape (models >= 2, records).
        member_mask: Whether a reference model was trained on a record, booleans of shape (models, records); each record
            needs a model of either kind. pbar_x is the mean of the two kinds' means, so an uneven split does no harm.
        population: p_z of population records that are not among the records, shape (population >= 1,).
        population_shadows: The same of the reference models, shape (models, population); pbar_z is their plain mean.
        gamma: Ratio that a population record must be beaten by, positive.

    Returns:
        Share of beaten population records, shape (records,), in [0, 1].

    Raises:
        AttackError: Shapes disagree, a value is no probability, a record lacks a kind of model, or gamma is not
            positive.
    """
    p, others = _probabilities(probabilities, "probabilities"), _probabilities(population, "population")
    models = _models(shadows, "shadows", len(p))
    inside = mask_of(member_mask, "member_mask", models.shape)
    means = []
    for kind, chosen in (("in", inside), ("out", ~inside)):
        count = chosen.sum(axis=0)
        if count.min() < 1:
            raise AttackError(
                f"member_mask: {int((count < 1).sum())} records have no {kind} model; expected at least one"
            )
        means.append(np.where(chosen, models, 0.0).sum(axis=0) / count)
    around = _models(population_shadows, "population_shadows", len(others), len(models)).mean(axis=0)
    return _share(p / ((means[0] + means[1]) / 2), others / around, gamma)


def tuned_a(
    probabilities: npt.ArrayLike,
    shadows: npt.ArrayLike,
    member: npt.ArrayLike,
    population: npt.ArrayLike,
    population_shadows: npt.ArrayLike,
    *,
    grid: Sequence[float] = _GRID,
) -> float:
    """Return the ``a`` with the largest area under the curve on a model whose members are known.

    That model must be a reference model of the attacker's own, never the audited one: there it would be fitted to the
    answer.

    Args:
        probabilities: p_x of that model, shape (records,).
        shadows: Probabilities of further models that never saw the records, shape (models >= 1, records).
        member: Which records that model was trained on, booleans of shape (records,); at least two of either kind.
        population: Its p_z, shape (population >= 1,).
        population_shadows: The same of the further models, shape (models, population).
        grid: Candidates in [0, 1]; of equals the first wins.

    Raises:
        AttackError: No candidates, or what :func:`rmia_offline` refuses.
    """
    if not grid:
        raise AttackError("grid: none; expected at least one candidate in [0, 1]")

    def area(a: float) -> float:
        scores = rmia_offline(probabilities, shadows, population, population_shadows, a=a)
        inside, outside = members_and_others(scores, member)
        return float(stats.rankdata(np.concatenate([inside, outside]))[: len(inside)].mean())

    return max(grid, key=area)


def _probabilities(value: npt.ArrayLike, name: str) -> FloatArray:
    return _within(vector(value, name), name)


def _models(value: npt.ArrayLike, name: str, size: int, rows: int | None = None) -> FloatArray:
    found = _within(matrix(value, name), name)
    if found.shape[1] != size or (rows is not None and len(found) != rows):
        raise AttackError(f"{name}: shape {found.shape}; expected ({rows if rows is not None else 'models'}, {size})")
    return found


def _within(found: FloatArray, name: str) -> FloatArray:
    if found.min() < 0 or found.max() > 1:
        raise AttackError(f"{name}: values from {found.min()} to {found.max()}; expected probabilities in [0, 1]")
    return np.maximum(found, _SMALLEST)  # a probability that underflowed to 0 is small, not impossible


def _share(ratio: FloatArray, population: FloatArray, gamma: float) -> FloatArray:
    """Return the share of population ratios r with ratio > gamma r."""
    if not (gamma > 0 and np.isfinite(gamma)):
        raise AttackError(f"gamma: {gamma}; expected a positive number")
    beaten = np.searchsorted(np.sort(gamma * population), ratio, side="left")
    scores: FloatArray = beaten / len(population)
    return scores


ATTACK = Attack(name="rmia", kind="panel", paper="Zarifzadeh et al. 2024, arXiv 2312.03262", run=rmia_offline)
