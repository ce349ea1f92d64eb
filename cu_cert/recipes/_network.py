"""The built-in recipes as values: a network, the parameters of its training, and two ways to train it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import torch
from torch import nn

from cu_cert.recipes._classifier import TrainingParams, fit, flat
from cu_cert.recipes._cohort import train_together
from cu_cert.records import IntArray, Records
from cu_cert.rng import Stream
from cu_certificates.check.strict import canonical

_ASKED: Final = 4096
"""Records that a model is asked about at a time, since a convolution's outputs are many times as large as its input."""


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe:
    """A built-in classifier.

    Args:
        name: File name of the recipe.
        params: Checked parameters.
        cohort_size: How many models one program trains best; fixed by the parameters, never by the machine.
        network: Returns fresh parts of a model for the shape and classes of records. It may draw from torch's global
            generator, which is seeded for it.
        features: Returns what a model is applied to, float32, one row a record.
        frozen: Number of leading parts that are never trained.
        inputs: Returns what the parts after the frozen ones are applied to.
        more: Further parameters that fix the model.
        version: Raised when the same parameters give other models.
    """

    name: str
    params: TrainingParams
    cohort_size: int
    network: Callable[[Records], list[nn.Module]]
    features: Callable[[Records], torch.Tensor] = flat
    frozen: int = 0
    inputs: Callable[[Records], torch.Tensor] = flat
    more: Mapping[str, object] = field(default_factory=dict)
    version: int = 1

    @property
    def parameters(self) -> Mapping[str, object]:
        """All parameters, with numbers as printable strings where they are not whole."""
        return {key: _printable(value) for key, value in asdict(self.params).items()} | dict(self.more)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of name, version and parameters."""
        document = {"recipe": self.name, "version": self.version, "parameters": dict(self.parameters)}
        return hashlib.sha256(canonical(document)).hexdigest()

    def build(self, records: Records, *, rng: Stream) -> nn.Sequential:
        """Return a fresh model for the shape and classes of ``records``; initialised from ``rng`` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(rng.child("init").integer(63))
            return nn.Sequential(*self.network(records)).eval()

    def train(self, records: Records, *, rng: Stream) -> nn.Module:
        """Train from a fresh initialisation."""
        model = self.build(records, rng=rng)
        fit(self._trained(model), self.inputs, records, self.params, rng=rng)
        return model.eval()

    def train_cohort(
        self, records: Records, rows: Sequence[IntArray], *, rngs: Sequence[Stream], device: str = "cpu"
    ) -> list[nn.Module]:
        """Train several models in one program; see :class:`cu_cert.recipes.CohortRecipe`."""
        models = [self.build(records, rng=rng) for rng in rngs]
        trained = [self._trained(model) for model in models]
        train_together(trained, self.inputs, records, rows, self.params, rngs=rngs, device=device)
        return [model.eval() for model in models]

    def logits(self, model: nn.Module, records: Records) -> torch.Tensor:
        """Return float32 class scores, shape (n, classes)."""
        with torch.no_grad():
            parts = [model(part) for part in torch.split(self.features(records), _ASKED)]
        return torch.cat(parts)

    def _trained(self, model: nn.Sequential) -> nn.Sequential:
        return nn.Sequential(*list(model)[self.frozen :])


def _printable(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, int) else str(value)
