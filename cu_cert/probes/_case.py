"""What the probes share: the models, their copies, and their margins on the records of the audit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cu_cert.errors import DataError
from cu_cert.probes._types import Finding, Skip
from cu_cert.signals import measure, relative

if TYPE_CHECKING:
    from cu_cert.fleet.worker import Workshop
    from cu_cert.records import Records
    from cu_cert.rng import Stream

FloatArray = npt.NDArray[np.float64]
Statistic = Callable[[FloatArray], FloatArray]
"""Numbers of several models, shape (models, ...), to one number a model, shape (models,)."""
Change = Callable[[nn.Module], None]
"""What is done to a copy, in place, before it is measured."""

SMALLEST: Final = 1e-6
"""Spreads below this are float arithmetic, as between models that a recipe trains to nearly the same bits."""


@dataclass(frozen=True, eq=False)
class Case:
    """One audited model with its controls.

    Args:
        workshop: Recipe, records and request.
        subject: The audited model.
        controls: Models that were retrained without the request; read one at a time.
        original: The model before unlearning, when it is known.
        rng: The probes' randomness; each draws under names of its own.
        weight: Weight of each record of the request in the mean margin, shape (request,), finite and not all 0; default
            equal weights. Fitted on other models, if at all.
    """

    workshop: "Workshop"
    subject: nn.Module
    controls: Sequence[nn.Module]
    original: nn.Module | None
    rng: "Stream"
    weight: FloatArray | None = None
    _kept: dict[str, FloatArray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        size = len(self.workshop.forget)
        found = np.ones(size) if self.weight is None else self.weight
        finite = bool(np.isfinite(found).all())
        if found.shape != (size,) or not finite or not found.any():
            raise DataError(
                f"probes: record weights of shape {found.shape}, {'finite' if finite else 'not all finite'}; expected "
                f"one finite weight for each of the {size} records of the request, and not 0 for all of them"
            )

    @property
    def retrained(self) -> int:
        """k, the number of retrained models."""
        return len(self.controls)

    def copies(self) -> Iterator[nn.Module]:
        """Yield a copy of each model, the audited one first, in evaluation mode and free to be changed."""
        for model in chain([self.subject], self.controls):
            yield copy_of(model)

    def margins(self, *sets: "Records", change: Change | None = None) -> FloatArray:
        """Return the margins of all models on some sets of records.

        Args:
            sets: What to ask about.
            change: Is done to each copy first.

        Returns:
            Shape (k + 1, records of all sets).

        Raises:
            Skip: A margin is not finite.
        """
        rows = []
        for model in self.copies():
            if change is not None:
                change(model)
            rows.append(self._margins(model, *sets))
        found = np.stack(rows)
        if not np.isfinite(found).all():
            raise Skip("a model gives scores that are not finite")
        return found

    def memory(self, change: Change | None = None) -> FloatArray:
        """Return each model's :attr:`signal` on the request.

        Args:
            change: Is done to each copy first.

        Returns:
            Shape (k + 1,).

        Raises:
            Skip: A margin is not finite.
        """
        if change is None:
            return self.relative(self.outside)
        return self.relative(self.margins(self.workshop.forget_records, self.workshop.held_out, change=change))

    def relative(self, margins: FloatArray) -> FloatArray:
        """Return each model's :attr:`signal` from its margins.

        Args:
            margins: On request and held-out records, in this order, shape (k + 1, request + held out).

        Returns:
            Shape (k + 1,), in nats.
        """
        found = relative(margins, self.workshop.forget_records, self.workshop.held_out)
        weight = np.ones(found.shape[1]) if self.weight is None else self.weight
        # Row by row, so that equal models get equal bits wherever they stand.
        return np.array([float((row * weight).sum() / np.abs(weight).sum()) for row in found])

    @property
    def signal(self) -> str:
        """The signal on the request in words."""
        how = "mean" if self.weight is None else "mean (records weighted as in the audit's score)"
        return f"{how} margin on the request relative to held-out records of the same class, in nats"

    @cached_property
    def outside(self) -> FloatArray:
        """Margins of all models on the request and the held-out records, in this order."""
        return np.stack([self._audited(model) for model in self.copies()])

    @cached_property
    def retained(self) -> FloatArray:
        """Margins of all models on the records that stay."""
        return self.margins(self.workshop.retain)

    @cached_property
    def before(self) -> FloatArray | None:
        """Margins of the original on the request and the held-out records; ``None`` when it is not known."""
        return None if self.original is None else self._audited(copy_of(self.original))

    def require_finite(self) -> None:
        """Check the models as they were given.

        Raises:
            DataError: One gives scores that are not finite on request or held-out records.
        """
        for position, row in enumerate(self.outside):
            if not np.isfinite(row).all():
                which = "the audited model" if not position else f"retrained model {position} of {self.retrained}"
                raise DataError(f"probes: {which} gives NaN or infinite scores; leave failed models out")
        if self.before is not None and not np.isfinite(self.before).all():
            raise DataError("probes: the original gives NaN or infinite scores; expected a model that was trained")

    def once(self, name: str, make: Callable[["Case"], FloatArray]) -> FloatArray:
        """Return what ``make`` gives for this case, computed the first time only.

        Args:
            name: Names the numbers.
            make: Computes them.
        """
        if name not in self._kept:
            self._kept[name] = make(self)
        return self._kept[name]

    def _audited(self, model: nn.Module) -> FloatArray:
        return self._margins(model, self.workshop.forget_records, self.workshop.held_out)

    def _margins(self, model: nn.Module, *sets: "Records") -> FloatArray:
        with isolated(self.rng.child("measure")):
            return np.concatenate([measure(self.workshop.recipe, model, records).margin for records in sets])


@contextmanager
def isolated(rng: "Stream") -> Iterator[None]:
    """Give layers that draw from torch's global generator one of their own, equal for all models, and restore it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(rng.integer(63))
        yield


def copy_of(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode, without gradients."""
    copied = deepcopy(model).eval()
    copied.zero_grad(set_to_none=True)
    return copied


def alone(values: FloatArray, note: str) -> Finding:
    """Return the finding of a number that each model has by itself.

    Args:
        values: Of all models, the audited one first.
        note: How it was made.
    """
    return Finding(values=values, null=values[1:], note=note)


def together(statistic: Statistic, numbers: FloatArray, note: str) -> Finding:
    """Return the finding of a number that compares models with one another.

    The statistic is computed over all models for the p-value, which is exact because none of them is singled out, and
    over the retrained ones alone for the range.

    Args:
        statistic: Treats all models alike.
        numbers: Of all models, the audited one first.
        note: How it was made.
    """
    return Finding(values=statistic(numbers), null=statistic(numbers[1:]), note=note)


def against_others(numbers: FloatArray) -> FloatArray:
    """Return how far each model lies from all others, in their standard deviations.

    Args:
        numbers: Shape (models >= 3, columns).

    Returns:
        Shape (models, columns).
    """
    rows = []
    for position, row in enumerate(numbers):
        others = np.delete(numbers, position, axis=0)
        rows.append((row - others.mean(axis=0)) / np.maximum(others.std(axis=0, ddof=1), SMALLEST))
    return np.stack(rows)
