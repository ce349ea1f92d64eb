"""Term: what is wanted, on which stream. A term is always minimised; ascent is written as the negative of a loss."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cu_cert.engine.subject import Batch
from cu_cert.errors import MethodError

if TYPE_CHECKING:
    import torch

Role = Literal["forget", "retain"]
Reference = Callable[[Batch], "torch.Tensor"]
Loss = Callable[["torch.Tensor", Batch, Reference], "torch.Tensor"]
"""``loss(out, batch, reference)``: class scores (n, classes), the rows they belong to, and the frozen original's scores
of any batch on demand; returns one number."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One loss on one stream.

    Args:
        stream: Name of the stream that it reads.
        loss: The loss; see :data:`Loss`.
        weight: Factor, at least 0.
        role: Whether the term serves forgetting or retaining; rules and the log tell terms apart by it.
    """

    stream: str
    loss: Loss
    weight: float = 1.0
    role: Role

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise MethodError(
                f"a {self.role} term has weight {self.weight!r}; expected a finite number of at least 0 "
                "(terms are minimised; negate the loss for ascent)"
            )


def cross_entropy(out: "torch.Tensor", batch: Batch, reference: Reference) -> "torch.Tensor":
    """Return the mean cross-entropy of the labels, in nats."""
    import torch

    return torch.nn.functional.cross_entropy(out, batch.y)
