"""What rounding and pruning have in common: which tensors they change, and what is measured afterwards."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from cu_cert.probes._case import Case, alone
from cu_cert.probes._types import Finding, Skip, middle


def weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the weight matrices, kernels and tables of a model: real parameters with at least two dimensions.

    Offsets and the scales of normalisation have one dimension and stay as they are, as deployments leave them. A
    parameter that several layers share is named once.
    """
    return [tensor for tensor in model.parameters() if tensor.is_floating_point() and tensor.dim() >= 2]


def treated(case: Case, change: Callable[[Sequence[torch.Tensor]], None], treatment: str) -> Finding:
    """Change the weights of every model in the same way and measure what they show of the request.

    Args:
        case: The models.
        change: Changes weights in place.
        treatment: The change in words, ending the sentence "after ...".

    Raises:
        Skip: A model has no weights of this kind, or gives scores that are not finite afterwards.
    """

    def apply(model: nn.Module) -> None:
        found = weights(model)
        if not found:
            raise Skip("the model has no real weight with two dimensions or more")
        with torch.no_grad():
            change(found)

    values, before = case.memory(apply), case.memory()
    low, high = middle(before[1:])
    note = (
        f"{case.signal}, after {treatment}; before, the audited model has {before[0]:.4f} and retrained models "
        f"{low:.4f} to {high:.4f}"
    )
    return alone(values, note)
