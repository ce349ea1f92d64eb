"""Parameters of methods: frozen dataclasses, built strictly from options and printed without floats."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, TypeVar

from cu_cert.errors import MethodError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

P = TypeVar("P", bound="DataclassInstance")

MOST = 10**9
"""No count a method takes (epochs, records a step) may be larger."""


def require(holds: bool, key: str, value: object, expected: str) -> None:
    """Raise a :class:`MethodError` about one parameter unless ``holds``."""
    if not holds:
        raise MethodError(f"[unlearning] {key} = {value!r}; expected {expected}")


def require_count(key: str, value: int) -> None:
    """Require a whole number of at least 1."""
    require(1 <= value <= MOST, key, value, f"a whole number from 1 to {MOST}")


def require_positive(key: str, value: float) -> None:
    """Require a finite number above 0."""
    require(0 < value < math.inf, key, value, "a finite number above 0")


def require_weight(key: str, value: float) -> None:
    """Require a finite number of at least 0."""
    require(0 <= value < math.inf, key, value, "a finite number of at least 0")


@dataclass(frozen=True, kw_only=True)
class NoParams:
    """The method leaves nothing to choose."""


@dataclass(frozen=True, kw_only=True)
class SgdParams:
    """Parameters of an edit by minibatch SGD with momentum.

    Args:
        epochs: Passes over the longest stream, at least 1.
        batch_size: Records a step and stream, at least 1; the last batch of a pass may be smaller.
        learning_rate: Step size, above 0.
        momentum: In [0, 1).
    """

    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 0.05
    momentum: float = 0.9

    def __post_init__(self) -> None:
        require_count("epochs", self.epochs)
        require_count("batch_size", self.batch_size)
        require_positive("learning_rate", self.learning_rate)
        require(0 <= self.momentum < 1, "momentum", self.momentum, "a number in [0, 1)")


def checked(method: str, kind: type[P], options: Mapping[str, object]) -> P:
    """Build a parameter record from options.

    Args:
        method: Name of the method, for messages.
        kind: A frozen dataclass whose fields all have defaults of type bool, int, float or str.
        options: Values by field name; a whole number is accepted for a float.

    Raises:
        MethodError: A key is unknown, or a value has the wrong type or lies out of range.
    """
    known = {field.name: field.default for field in fields(kind)}
    values: dict[str, object] = {}
    for key, value in options.items():
        if key not in known:
            expected = f"one of {', '.join(sorted(known))}" if known else "no parameter at all"
            raise MethodError(f"[unlearning] {key}: method {method} does not know it; expected {expected}")
        values[key] = _cast(key, value, known[key])
    return kind(**values)


def _cast(key: str, value: object, default: object) -> object:
    if isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        require(math.isfinite(number), key, value, "a finite number")
        return number
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
    require(type(value) is type(default), key, value, names.get(type(default), type(default).__name__))
    return value


def printable(params: "DataclassInstance") -> dict[str, object]:
    """Return the effective values as JSON holds them in a certificate: floats become strings."""
    return {key: str(value) if isinstance(value, float) else value for key, value in asdict(params).items()}
