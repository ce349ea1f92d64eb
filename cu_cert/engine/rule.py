"""Rule: how the gradients of the terms become one step. Any optimiser comes after it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cu_cert.engine.term import Role

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Pull:
    """The gradient of one weighted term.

    Args:
        role: The term's role.
        gradient: One tensor for each parameter of the region.
    """

    role: Role
    gradient: "Sequence[torch.Tensor]"


Rule = Callable[[Sequence[Pull]], "Sequence[torch.Tensor]"]


def sum_rule(pulls: Sequence[Pull]) -> "Sequence[torch.Tensor]":
    """Add the gradients up: plain gradient descent on the weighted sum of the terms."""
    total = list(pulls[0].gradient)
    for pull in pulls[1:]:
        total = [left + right for left, right in zip(total, pull.gradient, strict=True)]
    return total
