"""``quantisation``: does rounding the weights bring the request back?

A method that moves weights by less than a rounding step is undone by the rounding (Zhang et al. 2024, arXiv 2410.16454:
4 bits brought back most of what had seemed gone). Every weight tensor is rounded to the nearest of 2^b - 1 equally
spaced values that are symmetric about 0 and reach to its largest magnitude, and is kept as float.
"""

from collections.abc import Sequence
from functools import partial

import torch

from cu_cert.probes._case import Case
from cu_cert.probes._types import Finding, Part, Probe
from cu_cert.probes._weights import treated

_LIMIT = "another way of rounding (by channel, calibrated) may bring back more or less than this one"


def round_weights(found: Sequence[torch.Tensor], bits: int) -> None:
    """Round tensors in place, each on a symmetric grid of its own; halves go to the even step.

    Args:
        found: The tensors.
        bits: b, at least 2; there are 2^(b - 1) - 1 steps on each side of 0.
    """
    for tensor in found:
        exact = tensor.double()
        step = exact.abs().amax() / (2 ** (bits - 1) - 1) if tensor.numel() else 0.0
        if step > 0:
            tensor.copy_(torch.round(exact / step) * step)


def _rounded(bits: int, case: Case) -> Finding:
    return treated(case, partial(round_weights, bits=bits), f"rounding the weights of every model to {bits} bits")


PROBE = Probe(
    name="quantisation",
    paper="Zhang et al. 2024, arXiv 2410.16454",
    parts=tuple(
        Part(
            name=f"quantisation-int{bits}",
            title=f"margin on the request with weights of {bits} bits, in nats",
            shows_not=_LIMIT,
            run=partial(_rounded, bits),
        )
        for bits in (8, 4)
    ),
)
