"""Convolutions of many models at once.

The models' channels stand side by side in one image, channels last, and one convolution with as many groups as models
computes them all. Measured on one thread against the two other ways (batches of 64; 1 -> 16 channels on 8 x 8, then
16 -> 32 on 4 x 4; forward and backward, microseconds a model): grouped 79 and 217, one convolution a model in torch's
own layout 229 and 368, channels last 204 and 341; patches written out and multiplied 133 and 530. On 28 x 28 and
14 x 14: grouped 960 and 2100, one a model 2260 and 2680 (channels last 1540 and 2160), patches 1620 and 7500.

Memory: beside what :mod:`cu_cert.recipes._cohort` lists, about five times the outputs of all convolutions of the models
that train at once; :func:`at_once` keeps the largest output of these to 8 MiB.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from cu_cert.recipes._cohort_layers import Space, Tape, Weights

_LARGEST: Final = 2**21
"""Numbers in an output of a convolution; above, memory is slower than the models that it would serve are worth."""


@dataclass(frozen=True)
class Stage:
    """A convolution with ReLU and pooling, in one model.

    Args:
        convolution: The layer.
        pooling: Side of the squares that are averaged.
        size: Height and width of its input.
    """

    convolution: nn.Conv2d
    pooling: int
    size: tuple[int, int]


def stages(model: nn.Sequential, size: tuple[int, int]) -> list[Stage]:
    """Return the convolutions of a model that is applied to images of this height and width."""
    found: list[Stage] = []
    for part in model:
        if isinstance(part, nn.Conv2d):
            found.append(Stage(part, 1, size))
        elif isinstance(part, nn.AvgPool2d):
            pooling = int(part.kernel_size)  # type: ignore[arg-type]
            found[-1] = Stage(found[-1].convolution, pooling, size)
            size = (size[0] // pooling, size[1] // pooling)
    return found


def at_once(model: nn.Sequential, size: tuple[int, int], rows: int) -> int:
    """Return how many models train in one program at most; fixed by shapes, since bits may depend on it.

    Args:
        model: One of the models.
        size: Height and width of the images.
        rows: Rows of a batch.
    """
    largest = max(one.size[0] * one.size[1] * one.convolution.out_channels for one in stages(model, size))
    return max(1, _LARGEST // (largest * rows))


class Convolutions:
    """The convolutions of all models, (models, rows, channels * height * width) -> the same, flat as nn.Flatten does.

    Args:
        parts: The stages of each model.
        device: Where to compute.
        momentum: Of SGD.
    """

    def __init__(self, parts: Sequence[Sequence[Stage]], device: torch.device, momentum: float) -> None:
        self.parts, self.momentum = parts, momentum
        self.kernels = [
            Weights(torch.stack([one.convolution.weight.detach() for one in same]).to(device))
            for same in zip(*parts, strict=True)
        ]
        self.biases = [
            Weights(
                torch.stack([one.convolution.bias.detach() for one in same if one.convolution.bias is not None]).to(
                    device
                )
            )
            for same in zip(*parts, strict=True)
        ]

    @property
    def weights(self) -> Sequence[Weights]:
        """What SGD moves."""
        return [*self.kernels, *self.biases]

    def bind(self, tape: Tape, space: Space, x: Tensor, dx: Tensor | None) -> tuple[Tensor, Tensor]:
        """Write its operations; see :class:`cu_cert.recipes._cohort_layers.Layer`. It must be the first layer."""
        assert dx is None
        live, rows, _ = x.shape
        first, last = self.parts[0][0], self.parts[0][-1]
        height, width = (side // last.pooling for side in last.size)
        shape = (live, rows, last.convolution.out_channels, height, width)
        out = space.take("images out", live, rows, x[0, 0].new_empty(shape[2:]).numel())
        grad = space.take("images grad", live, rows, out.shape[2])
        above = x.view(live, rows, first.convolution.in_channels, *first.size)
        image, pull = _side_by_side(space, "images in", above), _side_by_side(space, "images pull", grad.view(shape))
        seen: list[tuple[Tensor, Tensor]] = []

        def forward() -> None:
            seen.clear()
            _spread(image, above)
            at = image
            for stage, kernel, bias in zip(self.parts[0], self.kernels, self.biases, strict=True):
                weight, offset = kernel[live][0].flatten(0, 1), bias[live][0].flatten()
                value = nn.functional.conv2d(at, weight, offset, padding="same", groups=live).relu_()
                seen.append((at, value))
                at = value if stage.pooling == 1 else nn.functional.avg_pool2d(value, stage.pooling)
            out.view(shape).copy_(at.view(rows, live, -1, height, width).transpose(0, 1))

        def backward() -> None:
            _spread(pull, grad.view(shape))
            change: Tensor = pull
            for number in reversed(range(len(seen))):
                at, value = seen[number]
                stage, (weight, velocity), (_, drift) = (
                    self.parts[0][number],
                    self.kernels[number][live],
                    self.biases[number][live],
                )
                change = _unpooled(change, value, stage.pooling)
                change, turn, shift = torch.ops.aten.convolution_backward(
                    change, at, weight.flatten(0, 1), [drift.numel()], [1, 1], [weight.shape[-1] // 2] * 2, [1, 1],
                    False, [0, 0], live, [number > 0, True, True],
                )  # fmt: skip
                velocity.mul_(self.momentum).add_(turn.view_as(velocity))
                drift.mul_(self.momentum).add_(shift.view_as(drift))

        tape.forward.append(forward)
        tape.backward.append(backward)
        return out, grad

    def store(self) -> None:
        """Write the weights into the models."""
        for number, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            for own, weight, offset in zip(self.parts, kernel.value.cpu(), bias.value.cpu(), strict=True):
                layer = own[number].convolution
                assert layer.bias is not None
                layer.weight.detach().copy_(weight)
                layer.bias.detach().copy_(offset)


def _side_by_side(space: Space, name: str, images: Tensor) -> Tensor:
    """Return a buffer (rows, models * channels, height, width), channels last, for (models, rows, channels, ...)."""
    live, rows, channels, height, width = images.shape
    return space.take(name, rows, height, width, live * channels).permute(0, 3, 1, 2)


def _spread(wide: Tensor, images: Tensor) -> None:
    """Copy the images of all models into one image; see :func:`_side_by_side`."""
    wide.view(images.transpose(0, 1).shape).copy_(images.transpose(0, 1))


def _unpooled(change: Tensor, value: Tensor, pooling: int) -> Tensor:
    """Return the gradient by what a convolution gave, from the gradient by its average of what ReLU left of it."""
    if pooling > 1:
        side = [pooling, pooling]
        change = torch.ops.aten.avg_pool2d_backward(change, value, side, side, [0, 0], False, True, None)
    torch.ops.aten.threshold_backward.grad_input(change, value, 0, grad_input=change)
    return change
