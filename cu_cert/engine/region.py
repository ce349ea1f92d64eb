"""Region: where an edit may land. Everything outside keeps the original's bits, buffers included."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cu_cert.engine.subject import Subject
from cu_cert.errors import MethodError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Region:
    """Whole parameter tensors, by name.

    Args:
        names: Names of the parameters that may change, in the model's own order; at least one.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise MethodError(
                "the region is empty; expected at least one trainable parameter (did the recipe return a model with "
                "requires_grad switched off?)"
            )

    def parameters(self, model: "torch.nn.Module") -> "list[torch.nn.Parameter]":
        """Return the parameters of ``model`` inside the region."""
        known = dict(model.named_parameters())
        return [known[name] for name in self.names]

    def require_outside_kept(self, subject: Subject) -> None:
        """Compare every tensor outside the region with the frozen original, bit for bit.

        Raises:
            MethodError: A parameter or a buffer outside the region changed.
        """
        from cu_cert.methods._contract import same_bits, tensors

        old, new = dict(tensors(subject.theta0)), dict(tensors(subject.model))
        moved = [
            name
            for name in old | new
            if name not in self.names and (name not in old or name not in new or not same_bits(old[name], new[name]))
        ]
        if moved:
            raise MethodError(
                f"the edit changed {', '.join(moved[:5])} outside its region; expected every tensor there to keep the "
                "original's bits. Widen the region, or stop the loss from writing to the model"
            )


def full(subject: Subject) -> Region:
    """Return the region of all parameters that the recipe left trainable; buffers are never part of a region."""
    return Region(tuple(_trainable(subject)))


def only(subject: Subject, names: Iterable[str]) -> Region:
    """Return the region of the named parameters.

    Raises:
        MethodError: A name is no trainable parameter of the model, or none is named.
    """
    known = _trainable(subject)
    wanted = set(names)
    for name in sorted(wanted):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or known[:5]
            raise MethodError(
                f"the region names {name!r}, which is no trainable parameter of this model; nearest: {', '.join(near)}"
            )
    return Region(tuple(name for name in known if name in wanted))


def _trainable(subject: Subject) -> list[str]:
    return [name for name, tensor in subject.model.named_parameters() if tensor.requires_grad]
