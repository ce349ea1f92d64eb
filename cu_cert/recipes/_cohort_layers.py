"""Layers of many models at once, on fixed buffers, with their gradients written out.

:mod:`cu_cert.recipes._cohort` makes programs of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

Op = Callable[[], object]


@dataclass
class Tape:
    """The operations of a step on fixed buffers."""

    forward: list[Op] = field(default_factory=list)
    backward: list[Op] = field(default_factory=list)
    """In the order in which layers were bound; run from the end."""


class Space:
    """Buffers that are reused by steps of all sizes.

    Args:
        device: Where they lie.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._flat: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a contiguous float32 tensor; the same name gives the same memory. The largest is taken first."""
        size = int(np.prod(shape))
        if name not in self._flat:
            self._flat[name] = torch.zeros(size, device=self.device)
        return self._flat[name][:size].view(shape)


class Weights:
    """The weights of one kind of all models, with their momentum.

    Args:
        start: Their values at the start, shape (models, ...); changed in place.
    """

    def __init__(self, start: Tensor) -> None:
        self.value = start.contiguous()
        self.velocity = torch.zeros_like(self.value)

    def __getitem__(self, live: int) -> tuple[Tensor, Tensor]:
        return self.value[:live], self.velocity[:live]


class Layer(Protocol):
    """A layer of all models.

    Attributes:
        weights: What SGD moves.
    """

    @property
    def weights(self) -> Sequence[Weights]: ...

    def bind(self, tape: Tape, space: Space, x: Tensor, dx: Tensor | None) -> tuple[Tensor, Tensor]:
        """Write the layer's operations for one size of step.

        Args:
            tape: Takes the operations.
            space: Gives buffers.
            x: Its input, shape (live models, rows, ...).
            dx: Where the gradient by ``x`` is to be written; ``None`` when nobody asks.

        Returns:
            Its output, and the buffer in which the next layer leaves the gradient by that output.
        """
        ...

    def store(self) -> None:
        """Write the weights into the models."""
        ...


class Hidden:
    """Dense layers with ReLU, of shape (models, rows, in) -> (models, rows, out).

    Weights lie as (in, out): here a product with rows of features ran a fifth faster than with torch's (out, in).

    Args:
        name: Name of its buffers.
        layers: The models' layers.
        device: Where to compute.
        momentum: Of SGD.
    """

    def __init__(self, name: str, layers: Sequence[nn.Linear], device: torch.device, momentum: float) -> None:
        self.name, self.layers, self.momentum = name, layers, momentum
        weight = torch.stack([layer.weight.detach() for layer in layers]).to(device)
        bias = torch.stack([layer.bias.detach() for layer in layers]).to(device)
        self.weight, self.bias = Weights(weight.transpose(1, 2)), Weights(bias[:, None])
        self.weights = (self.weight, self.bias)

    def bind(self, tape: Tape, space: Space, x: Tensor, dx: Tensor | None) -> tuple[Tensor, Tensor]:
        """Write its operations; see :class:`Layer`."""
        live, rows, _ = x.shape
        (weight, velocity), (bias, drift) = self.weight[live], self.bias[live]
        out = space.take(f"{self.name} out", live, rows, weight.shape[2])
        grad = space.take(f"{self.name} grad", live, rows, weight.shape[2])
        ones = torch.ones(live, 1, rows, device=x.device)
        turned, across, beta = x.transpose(1, 2), weight.transpose(1, 2), self.momentum

        def forward() -> None:
            torch.bmm(x, weight, out=out)
            out.add_(bias).relu_()

        def backward() -> None:
            torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=grad)
            if dx is not None:
                torch.bmm(grad, across, out=dx)
            # Momentum is the product's own factor, so gradients are never written down apart from it.
            velocity.baddbmm_(turned, grad, beta=beta)
            drift.baddbmm_(ones, grad, beta=beta)

        tape.forward.append(forward)
        tape.backward.append(backward)
        return out, grad

    def store(self) -> None:
        """Write the weights into the models."""
        for layer, weight, bias in zip(self.layers, self.weight.value.cpu(), self.bias.value.cpu(), strict=True):
            layer.weight.detach().copy_(weight.T)
            layer.bias.detach().copy_(bias[0])


class Head:
    """The last dense layers with softmax and cross-entropy.

    Scores lie as (models, classes, rows), so that the softmax runs along memory: 0.5 against 10 microseconds a model
    for 64 rows of 10 classes.

    Args:
        layers: The models' layers.
        device: Where to compute.
        momentum: Of SGD.
    """

    def __init__(self, layers: Sequence[nn.Linear], device: torch.device, momentum: float) -> None:
        self.layers, self.momentum = layers, momentum
        self.weight = Weights(torch.stack([layer.weight.detach() for layer in layers]).to(device))
        self.bias = Weights(torch.stack([layer.bias.detach() for layer in layers]).to(device)[:, :, None])
        self.weights = (self.weight, self.bias)

    def bind(self, tape: Tape, space: Space, x: Tensor, dx: Tensor | None) -> tuple[Tensor, Tensor]:
        """Write its operations; its output are class probabilities, and the gradient by the scores is left in them."""
        live, rows, _ = x.shape
        (weight, velocity), (bias, drift) = self.weight[live], self.bias[live]
        scores = space.take("scores", live, weight.shape[1], rows)
        chance = space.take("chance", live, weight.shape[1], rows)
        ones = torch.ones(live, rows, 1, device=x.device)
        turned, across, beta = x.transpose(1, 2), chance.transpose(1, 2), self.momentum

        def forward() -> None:
            torch.bmm(weight, turned, out=scores)
            torch.softmax(scores.add_(bias), 1, out=chance)

        def backward() -> None:
            if dx is not None:
                torch.bmm(across, weight, out=dx)
            velocity.baddbmm_(chance, x, beta=beta)
            drift.baddbmm_(chance, ones, beta=beta)

        tape.forward.append(forward)
        tape.backward.append(backward)
        return chance, chance

    def store(self) -> None:
        """Write the weights into the models."""
        for layer, weight, bias in zip(self.layers, self.weight.value.cpu(), self.bias.value.cpu(), strict=True):
            layer.weight.detach().copy_(weight)
            layer.bias.detach().copy_(bias[:, 0])
