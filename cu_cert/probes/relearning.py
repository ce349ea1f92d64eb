"""``relearning``: how fast does the model learn the request again?

What was only covered up comes back in fewer steps than what is gone: the time to relearn of Golatkar et al. 2020, arXiv
1911.04933. A bare curve means nothing, for a retrained model learns easy records just as fast; so the curves of the
retrained models are the measure.

Every model goes through the same few steps of gradient descent on the request, with one step length. It is a tenth of
Polyak's, loss over squared gradient norm, in the median of all models: a unit that fits any network and singles out no
model.
"""

from typing import Final

import numpy as np
import torch
from torch import nn

from cu_cert.engine.subject import Batch, Subject
from cu_cert.probes._case import Case, FloatArray, alone, isolated
from cu_cert.probes._types import Finding, Part, Probe, Skip
from cu_cert.records import Records

STEPS: Final = 10
SHARE: Final = 0.1
MOST: Final = 256
"""Records that are learned again, at most: a large request would make a large batch."""
CAP: Final = 100.0
"""Nats at which a loss stops counting; a run that diverges stays here."""

_LIMIT = "another optimiser or step length may relearn faster; a slow curve does not show that nothing is left"


def chosen(case: Case) -> Records:
    """Return the records that are learned again: the request, or a random part of a large one."""
    records = case.workshop.forget_records
    order = case.rng.child("relearning", "records").order(records.ids)
    return records.select(records.ids[row] for row in order[:MOST])


def curves(case: Case) -> FloatArray:
    """Return each model's mean cross-entropy on the request before every step and after the last.

    Returns:
        In nats, at most :data:`CAP`, shape (k + 1, STEPS + 1).

    Raises:
        Skip: A model has nothing to train, or the loss has no gradient.
    """
    records = chosen(case)
    make = getattr(case.workshop.recipe, "features", None)
    rows = torch.from_numpy(records.x) if make is None else make(records)
    batch = Batch(x=rows, y=torch.from_numpy(records.y))
    length = SHARE * float(np.median([_polyak(case, model, batch) for model in case.copies()]))
    if not 0 < length < np.inf:
        raise Skip("the loss on the request has no gradient to follow")
    found = [_curve(case, model, batch, length) for model in case.copies()]
    return np.nan_to_num(np.minimum(found, CAP), nan=CAP)


def _polyak(case: Case, model: nn.Module, batch: Batch) -> float:
    with isolated(case.rng.child("relearning")), torch.enable_grad():
        loss, gradient = _gradient(case, model, batch)
    norm = float(sum(part.double().square().sum() for part in gradient))
    return loss / norm if norm > 0 else np.inf


def _curve(case: Case, model: nn.Module, batch: Batch, length: float) -> list[float]:
    losses = []
    with isolated(case.rng.child("relearning")), torch.enable_grad():
        for _ in range(STEPS):
            loss, gradient = _gradient(case, model, batch)
            losses.append(loss)
            with torch.no_grad():
                for parameter, part in zip(_trainable(model), gradient, strict=True):
                    parameter.sub_(length * part)
        losses.append(_gradient(case, model, batch)[0])
    return losses


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [tensor for tensor in model.parameters() if tensor.requires_grad]


def _gradient(case: Case, model: nn.Module, batch: Batch) -> tuple[float, tuple[torch.Tensor, ...]]:
    """Return the loss and its gradient with respect to everything that the recipe left trainable."""
    parameters = _trainable(model)
    if not parameters:
        raise Skip("the model has no trainable weight")
    # The engine's own way of applying a model says what is wrong when features are missing.
    classes = len(case.workshop.train.classes)
    subject = Subject(model=model, theta0=model, streams={}, classes=classes, rng=case.rng)
    loss = nn.functional.cross_entropy(subject.out(batch), batch.y)
    return float(loss.detach()), torch.autograd.grad(loss, parameters, materialize_grads=True)


def _note(found: FloatArray, case: Case) -> str:
    first, last = found[:, 0], found[:, -1]
    return (
        f"{STEPS} steps of gradient descent on {len(chosen(case))} records of the request; the audited model's loss "
        f"goes from {first[0]:.4f} to {last[0]:.4f} nats, that of retrained models in the mean from "
        f"{first[1:].mean():.4f} to {last[1:].mean():.4f}"
    )


def area(case: Case) -> Finding:
    """Mean loss along the curve."""
    found = case.once("relearning", curves)
    return alone(found.mean(axis=1), _note(found, case))


def shares(found: FloatArray) -> FloatArray:
    """Return the mean loss after the first step as a share of the loss at the start, at most :data:`CAP`.

    Args:
        found: Curves, shape (models, steps + 1). A curve that starts at 0 leaves nothing to learn and counts as 1.
    """
    start = found[:, 0]
    after = found[:, 1:].mean(axis=1)
    return np.where(start > 0, np.minimum(after / np.maximum(start, 1e-12), CAP), 1.0)


def left(case: Case) -> Finding:
    """Share of the first loss that is left along the curve."""
    found = case.once("relearning", curves)
    return alone(shares(found), _note(found, case))


PROBE = Probe(
    name="relearning",
    paper="Golatkar et al. 2020, arXiv 1911.04933",
    parts=(
        Part(
            name="relearning-area",
            title="mean loss while the request is learned again, in nats",
            shows_not=_LIMIT,
            run=area,
        ),
        Part(
            name="relearning-left",
            title="share of the first loss that is left while the request is learned again",
            shows_not=_LIMIT,
            run=left,
        ),
    ),
)
