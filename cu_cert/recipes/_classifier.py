"""What the built-in classifiers share: parameters, standardisation, and the training loop of one model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, TypeVar

import torch
from torch import nn

from cu_cert.errors import ConfigError
from cu_cert.records import Records
from cu_cert.rng import Stream

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, kw_only=True)
class TrainingParams:
    """Parameters of minibatch SGD with momentum on cross-entropy.

    Args:
        epochs: Passes over the records, at least 1.
        batch_size: Records a step, at least 1; the last batch of an epoch may be smaller.
        learning_rate: Step size, above 0.
        momentum: In [0, 1).
        weight_decay: L2 penalty, at least 0.
        standardize: Divide features by the standard deviation of the *records trained on* after subtracting their
            mean. The constants are part of the model, so a retrain recomputes them without the forgotten records.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    standardize: bool = True

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")


P = TypeVar("P", bound="DataclassInstance")


def require(holds: bool, key: str, value: object, expected: str) -> None:
    """Raise a :class:`ConfigError` about one recipe parameter unless ``holds``."""
    if not holds:
        raise ConfigError(f"[training] {key} = {value!r}; expected {expected}")


def widths(sizes: tuple[object, ...]) -> bool:
    """Return whether all entries are whole numbers of at least 1."""
    return all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes)


def checked(kind: type[P], options: Mapping[str, object]) -> P:
    """Build a parameter record from options; unknown keys and wrong types are errors."""
    known = {field.name: field.default for field in fields(kind)}
    values: dict[str, object] = {}
    for key, value in options.items():
        if key not in known:
            raise ConfigError(f"[training] {key}: unknown; expected one of {', '.join(sorted(known))}")
        values[key] = _cast(key, value, known[key])
    return kind(**values)


def _cast(key: str, value: object, default: object) -> object:
    if isinstance(default, bool) or isinstance(value, bool):
        require(isinstance(default, bool) and isinstance(value, bool), key, value, f"a {type(default).__name__}")
        return value
    if isinstance(default, float):
        require(isinstance(value, int | float), key, value, "a number")
        return float(value)  # type: ignore[arg-type]
    if isinstance(default, tuple):
        require(isinstance(value, list | tuple), key, value, "a list of whole numbers")
        return tuple(value)  # type: ignore[arg-type]
    require(isinstance(value, type(default)), key, value, f"a {type(default).__name__}")
    return value


class Standardize(nn.Module):
    """Subtracts a mean and divides by a scale that were measured on the training records.

    Args:
        shape: Shape of the constants. Along an axis of size 1 all numbers of a record share theirs.
    """

    SMALLEST: Final = 1e-6
    """What varies less than this is constant and keeps scale 1."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def fit(self, x: torch.Tensor) -> None:
        """Set the constants from ``x``, shape (n, ...)."""
        over = [0, *(axis + 1 for axis, size in enumerate(self.mean.shape) if size == 1)]
        spread = x.std(dim=over, unbiased=False).reshape(self.mean.shape)
        self.mean.copy_(x.mean(dim=over).reshape(self.mean.shape))
        self.scale.copy_(torch.where(spread > self.SMALLEST, spread, torch.ones_like(spread)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (x - mean) / scale for ``x`` of shape (n, ...)."""
        return (x - self.mean) / self.scale


def flat(records: Records) -> torch.Tensor:
    """Return the features as a float32 tensor of shape (n, features)."""
    return torch.from_numpy(records.x.reshape(len(records), -1))


def fit(
    model: nn.Sequential,
    inputs: Callable[[Records], torch.Tensor],
    records: Records,
    params: TrainingParams,
    *,
    rng: Stream,
) -> None:
    """Train ``model`` in place by SGD; the order of every epoch goes by id.

    Args:
        model: A fresh model whose first part is a :class:`Standardize`.
        inputs: Returns what the model is applied to, one row a record.
        records: At least one record.
        params: The recipe's parameters.
        rng: Stream from which the order of every epoch derives.

    Raises:
        ConfigError: There is no record.
    """
    if not len(records):
        raise ConfigError("training on 0 records; expected at least 1 (does the request remove all data?)")
    x, y = inputs(records), torch.from_numpy(records.y)
    first = model[0]
    if params.standardize and isinstance(first, Standardize):
        first.fit(x)
    model.train()
    optimiser = torch.optim.SGD(
        model.parameters(), lr=params.learning_rate, momentum=params.momentum, weight_decay=params.weight_decay
    )
    for epoch in range(params.epochs):
        order = torch.from_numpy(rng.child("order", epoch).arrange(records.marks))
        for batch in torch.split(order, params.batch_size):
            optimiser.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
