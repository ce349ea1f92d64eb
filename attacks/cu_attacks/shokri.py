"""``shokri``: can a classifier trained on shadow models tell members from others by the model's outputs?

Shadow-model attack (Shokri et al. 2017, arXiv 1610.05820): shadow models imitate the audited one, on records for which
membership is known; a classifier a class learns "in" against "out" from their probability vectors, and is then shown
the audited model's. Here the classifier is a logistic regression on standardised log-probabilities: it is convex, so
equal inputs give equal scores, and it does not overfit with few records a class, where a small network does.

A baseline: it has one rule for all records of a class, which finds few records at small false positive rates.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from cu_attacks._gauss import mask_of
from cu_attacks._types import Attack, AttackError, BoolArray, FloatArray

_SMALLEST: Final = 1e-12
_FEWEST: Final = 2


def shokri(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    shadow_probabilities: npt.ArrayLike,
    shadow_labels: npt.ArrayLike,
    member_mask: npt.ArrayLike,
) -> FloatArray:
    """Score each record by the log-odds of membership; higher means "was trained on".

    A class for which the shadow models show fewer than two examples of either kind is judged by one classifier for all
    classes.

    Args:
        probabilities: Probability vectors of the audited model on the records, shape (records, classes >= 2).
        labels: True class of each record, whole numbers from 0, shape (records,).
        shadow_probabilities: Probability vectors of the shadow models on their records,
            shape (models >= 1, shadow records, classes).
        shadow_labels: True class of each shadow record, shape (shadow records,).
        member_mask: Whether a shadow model was trained on a shadow record, booleans of shape (models, shadow records).

    Returns:
        Log-odds, shape (records,).

    Raises:
        AttackError: Shapes disagree, rows are no probability vectors, labels are out of range, or the shadow models
            show fewer than two examples of either kind.
    """
    own = _vectors(probabilities, "probabilities", 2)
    shadows = _vectors(shadow_probabilities, "shadow_probabilities", 3)
    if shadows.shape[2] != own.shape[1]:
        raise AttackError(f"shadow_probabilities: {shadows.shape[2]} classes; expected {own.shape[1]}")
    target = _labels(labels, "labels", len(own), own.shape[1])
    known = np.tile(_labels(shadow_labels, "shadow_labels", shadows.shape[1], own.shape[1]), len(shadows))
    inside = mask_of(member_mask, "member_mask", shadows.shape[:2]).ravel()
    flat = shadows.reshape(-1, own.shape[1])
    if not _both(inside):
        raise AttackError(
            f"member_mask: {inside.sum()} examples in and {(~inside).sum()} out; expected at least {_FEWEST} of each"
        )
    scores = np.empty(len(own))
    # The joint classifier sees the true class's own probability first; within a class the columns say the same.
    joint = _fit(_arranged(flat, known), inside)
    for label in np.unique(target):
        here, there = target == label, known == label
        if _both(inside[there]):
            scores[here] = _fit(flat[there], inside[there]).decision_function(_logs(own[here]))
        else:
            scores[here] = joint.decision_function(_logs(_arranged(own[here], target[here])))
    return scores


def _fit(probabilities: FloatArray, inside: BoolArray) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return model.fit(_logs(probabilities), inside)


def _logs(probabilities: FloatArray) -> FloatArray:
    found: FloatArray = np.log(np.maximum(probabilities, _SMALLEST))
    return found


def _arranged(probabilities: FloatArray, labels: npt.NDArray[np.int_]) -> FloatArray:
    """Put the true class's probability first, the others behind it in falling order."""
    rows = np.arange(len(labels))
    own = probabilities[rows, labels][:, None]
    others = probabilities.copy()
    others[rows, labels] = -1.0
    return np.concatenate([own, -np.sort(-others, axis=1)[:, :-1]], axis=1)


def _both(inside: BoolArray) -> bool:
    return min(int(inside.sum()), int((~inside).sum())) >= _FEWEST


def _vectors(value: npt.ArrayLike, name: str, dimensions: int) -> FloatArray:
    found = np.asarray(value, dtype=np.float64)
    wanted = "(records, classes >= 2)" if dimensions == 2 else "(models, records, classes >= 2)"
    if found.ndim != dimensions or not found.size or found.shape[-1] < 2:
        raise AttackError(f"{name}: shape {found.shape}; expected {wanted}")
    if not np.isfinite(found).all():
        raise AttackError(f"{name}: holds NaN or infinite values")
    if found.min() < 0 or np.abs(found.sum(axis=-1) - 1).max() > 1e-3:
        raise AttackError(f"{name}: a row is no probability vector; expected values >= 0 that sum to 1")
    return found


def _labels(value: npt.ArrayLike, name: str, size: int, classes: int) -> npt.NDArray[np.int_]:
    found = np.asarray(value)
    if found.shape != (size,) or not np.issubdtype(found.dtype, np.integer):
        raise AttackError(f"{name}: {found.dtype} of shape {found.shape}; expected whole numbers of shape ({size},)")
    if found.min() < 0 or found.max() >= classes:
        raise AttackError(f"{name}: classes {found.min()} to {found.max()}; expected 0 to {classes - 1}")
    return found.astype(np.int_)


ATTACK = Attack(name="shokri", kind="panel", paper="Shokri et al. 2017, arXiv 1610.05820", run=shokri)
