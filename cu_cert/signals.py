"""Models x records -> numbers: the membership signal of every audit.

The signal is the margin phi = ln(p_y / (1 - p_y)) = z_y - logsumexp_{k != y} z_k (Carlini et al. 2022, arXiv
2112.03570, section IV-A), in double precision.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    from cu_cert.recipes import Recipe
    from cu_cert.records import Records


@dataclass(frozen=True, eq=False)
class Signals:
    """What one model says about a set of records, in id order.

    Args:
        margin: phi of each record, float64, shape (records,).
        correct: Whether the true class has the highest score, shape (records,).
    """

    margin: npt.NDArray[np.float64]
    correct: npt.NDArray[np.bool_]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the margins' bytes."""
        return hashlib.sha256(self.margin.astype("<f8").tobytes()).hexdigest()

    @property
    def usable(self) -> bool:
        """Whether every margin is finite."""
        return bool(np.isfinite(self.margin).all())


def measure(recipe: "Recipe", model: "torch.nn.Module", records: "Records") -> Signals:
    """Compute the signals of a model on records.

    Args:
        recipe: Knows how the model is applied.
        model: A trained model; it is not changed.
        records: The records to ask about.
    """
    import torch

    if not len(records):  # no request yet; recipes are asked about records only
        return Signals(np.empty(0), np.empty(0, dtype=bool))
    scores = recipe.logits(model, records).double()
    label = torch.from_numpy(records.y)[:, None]
    own = scores.gather(1, label)[:, 0]
    others = scores.scatter(1, label, float("-inf")).logsumexp(dim=1)
    return Signals((own - others).numpy(), (scores.argmax(dim=1) == label[:, 0]).numpy())


def relative(margin: npt.NDArray[np.float64], forget: "Records", held_out: "Records") -> npt.NDArray[np.float64]:
    """Subtract from each margin on the request the mean margin on never-trained records of the same class.

    What a model says about fresh records of the class is no memory of the request, so models that are merely better or
    more confident do not look as if they remembered.

    Args:
        margin: Margins on request and held-out records, request first, shape (..., request + held out).
        forget: The request's records.
        held_out: Never-trained records.

    Returns:
        Shape (..., request).
    """
    size = len(forget)
    outside = margin[..., size:]
    baseline = np.repeat(outside.mean(axis=-1, keepdims=True), len(forget.classes), axis=-1)
    for label in np.unique(held_out.y):
        baseline[..., label] = outside[..., held_out.y == label].mean(axis=-1)
    difference: npt.NDArray[np.float64] = margin[..., :size] - baseline[..., forget.y]
    return difference
