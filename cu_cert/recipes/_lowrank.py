"""A low-rank adapter, of one model and of many at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cu_cert.recipes._cohort_layers import Space, Tape, Weights


class LowRank(nn.Module):
    """h + scale B A h, with B = 0 at the start (Hu et al. 2021, arXiv 2106.09685).

    Args:
        width: Features.
        rank: Rows of A.
        scale: Factor.
    """

    def __init__(self, width: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted features for ``x`` of shape (n, width)."""
        found: Tensor = x + self.scale * self.up(self.down(x))
        return found


class LowRanks:
    """The adapters of all models, (models, rows, width) -> the same; weights lie as (in, out).

    Args:
        layers: The models' adapters.
        device: Where to compute.
        momentum: Of SGD.
    """

    def __init__(self, layers: Sequence[LowRank], device: torch.device, momentum: float) -> None:
        self.layers, self.momentum = layers, momentum
        self.down, self.up = (
            Weights(torch.stack([part.weight.detach().T for part in same]).to(device))
            for same in ([layer.down for layer in layers], [layer.up for layer in layers])
        )
        self.weights = (self.down, self.up)

    def bind(self, tape: Tape, space: Space, x: Tensor, dx: Tensor | None) -> tuple[Tensor, Tensor]:
        """Write its operations; see :class:`cu_cert.recipes._cohort_layers.Layer`. It must be the first layer."""
        assert dx is None
        live, rows, width = x.shape
        (down, fall), (up, rise) = self.down[live], self.up[live]
        low, pull = (space.take(f"low rank {name}", live, rows, down.shape[2]) for name in ("low", "pull"))
        out, grad = (space.take(f"low rank {name}", live, rows, width) for name in ("out", "grad"))
        scale, beta = self.layers[0].scale, self.momentum

        def forward() -> None:
            torch.bmm(x, down, out=low)
            torch.baddbmm(x, low, up, alpha=scale, out=out)

        def backward() -> None:
            torch.bmm(grad, up.transpose(1, 2), out=pull)
            rise.baddbmm_(low.transpose(1, 2), grad, beta=beta, alpha=scale)
            fall.baddbmm_(x.transpose(1, 2), pull, beta=beta, alpha=scale)

        tape.forward.append(forward)
        tape.backward.append(backward)
        return out, grad

    def store(self) -> None:
        """Write the weights into the models."""
        for layer, down, up in zip(self.layers, self.down.value.cpu(), self.up.value.cpu(), strict=True):
            layer.down.weight.detach().copy_(down.T)
            layer.up.weight.detach().copy_(up.T)
