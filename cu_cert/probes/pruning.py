"""``pruning``: does removing the smallest weights bring the request back?

A method that covers what was learned with many small weights is undone when they are taken away. A share of all
weights, those of smallest magnitude over all weight tensors together, is set to 0; nothing is trained afterwards.
"""

from collections.abc import Sequence
from functools import partial

import torch

from cu_cert.probes._case import Case
from cu_cert.probes._types import Finding, Part, Probe
from cu_cert.probes._weights import treated

_LIMIT = "a model may hold the request in its large weights, where pruning does not show it"


def prune(found: Sequence[torch.Tensor], percent: int) -> None:
    """Set the smallest entries of all tensors together to 0.

    Works in place, where torch's own pruning puts new parameters into the modules and so parts what layers share.

    Args:
        found: The tensors.
        percent: Share of their entries, 0 to 100, rounded down to whole entries; among equal magnitudes the first go.
    """
    sizes = torch.cat([tensor.abs().float().reshape(-1) for tensor in found])
    kept = torch.ones_like(sizes)
    kept[torch.sort(sizes, stable=True).indices[: sizes.numel() * percent // 100]] = 0
    for tensor, mask in zip(found, torch.split(kept, [tensor.numel() for tensor in found]), strict=True):
        tensor.mul_(mask.reshape(tensor.shape).to(tensor.dtype))


def _pruned(percent: int, case: Case) -> Finding:
    treatment = f"setting the smallest {percent} % of the weights of every model to 0"
    return treated(case, partial(prune, percent=percent), treatment)


PROBE = Probe(
    name="pruning",
    paper="Han et al. 2015, arXiv 1506.02626 (pruning by magnitude)",
    parts=tuple(
        Part(
            name=f"pruning-{percent}",
            title=f"margin on the request without the smallest {percent} % of the weights, in nats",
            shows_not=_LIMIT,
            run=partial(_pruned, percent),
        )
        for percent in (30, 60, 90)
    ),
)
