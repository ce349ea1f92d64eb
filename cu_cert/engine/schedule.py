"""Schedule: in what steps, and until when."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cu_cert.errors import MethodError
from cu_cert.methods import Epoch

if TYPE_CHECKING:
    import torch

    from cu_cert.methods._params import SgdParams

Optimiser = Callable[["list[torch.nn.Parameter]"], "torch.optim.Optimizer"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The order of work of an edit.

    Args:
        epochs: Most epochs, at least 1.
        batch_size: Rows a step and stream, at least 1.
        optimiser: Makes the optimiser for the parameters of the region.
        stop: Asked after every epoch; the edit ends when it returns true. None = run all epochs.
    """

    epochs: int
    batch_size: int
    optimiser: Optimiser
    stop: Callable[[Epoch], bool] | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise MethodError(
                f"schedule of {self.epochs} epochs with batches of {self.batch_size}; expected at least 1 of each"
            )


def sgd(learning_rate: float, momentum: float) -> Optimiser:
    """Return a maker of plain SGD with momentum and no weight decay."""

    def make(parameters: "list[torch.nn.Parameter]") -> "torch.optim.Optimizer":
        import torch

        return torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum)

    return make


def sgd_schedule(params: "SgdParams") -> Schedule:
    """Return the schedule of a method that trains by SGD for a fixed number of epochs."""
    return Schedule(
        epochs=params.epochs, batch_size=params.batch_size, optimiser=sgd(params.learning_rate, params.momentum)
    )
