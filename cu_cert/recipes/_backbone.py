"""A frozen backbone: dense layers with ReLU that all models of a recipe share, and its features, computed once."""

import copy
import hashlib
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import torch
from torch import nn

from cu_cert.errors import ConfigError
from cu_cert.model_file import file_digest, load_state
from cu_cert.recipes._classifier import Standardize, flat
from cu_cert.records import Records
from cu_cert.rng import Stream
from cu_certificates.check.strict import canonical

_KEPT: Final = 4
"""Sets of features that a process keeps, those last used."""

_ROWS: Final = 4096
"""Records whose features are computed at once."""

_PLACE: Final = "[training] backbone"


@dataclass(frozen=True, eq=False)
class Backbone:
    """Dense layers that are never trained.

    Args:
        widths: Outputs of each layer.
        seed: Seed of random layers; used where there is no file.
        file: A model file whose first dense layers are taken, or ``None`` for random ones.
    """

    widths: tuple[int, ...]
    seed: int
    file: Path | None
    _kept: "OrderedDict[str, torch.Tensor]" = field(default_factory=OrderedDict, repr=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the file's bytes, or of what fixes random layers."""
        if self.file is not None:
            return file_digest(self.file)
        return hashlib.sha256(canonical(["cu-cert-random-features/1", self.seed, list(self.widths)])).hexdigest()

    def module(self, width: int) -> nn.Sequential:
        """Return a copy of its own for a model of records with ``width`` features.

        Raises:
            ConfigError: The file's layers do not fit.
            DataError: The file cannot be read.
        """
        if width not in self._modules:
            made = self._random(width) if self.file is None else self._read(self.file, width)
            self._modules[width] = made.requires_grad_(False).eval()
        return copy.deepcopy(self._modules[width])

    def features(self, records: Records) -> torch.Tensor:
        """Return what the layers give for ``records``, shape (n, last width); kept for when it is asked again.

        It is computed in double precision and rounded once, so the features of a record do not depend on which others
        are computed with it.
        """
        kept = self._kept
        if records.digest not in kept:
            x = flat(records)
            layers = self.module(x.shape[1]).double()
            with torch.no_grad():
                found = [layers(part.double()).float() for part in torch.split(x, _ROWS)]
            kept[records.digest] = torch.cat(found) if found else torch.zeros(0, self.widths[-1])
        kept.move_to_end(records.digest)
        while len(kept) > _KEPT:
            kept.popitem(last=False)
        return kept[records.digest]

    @cached_property
    def _modules(self) -> dict[int, nn.Sequential]:
        return {}

    def _random(self, width: int) -> nn.Sequential:
        """Return layers whose weights keep the size of what passes through them (He et al. 2015, arXiv 1502.01852)."""
        rng = Stream.from_seed(self.seed).child("backbone").torch()
        parts: list[nn.Module] = []
        for units in self.widths:
            layer = _empty(width, units)
            layer.weight.detach().normal_(std=math.sqrt(2 / width), generator=rng)
            layer.bias.detach().normal_(generator=rng)
            parts += [layer, nn.ReLU()]
            width = units
        return nn.Sequential(*parts)

    def _read(self, file: Path, width: int) -> nn.Sequential:
        state = load_state(file)
        parts: list[nn.Module] = []
        names = sorted(
            (name.removesuffix(".weight") for name in state if name.endswith(".weight")),
            key=lambda name: [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")],
        )
        scaled = [name.removesuffix(".scale") for name in state if name.endswith(".scale")]
        for name in scaled[:1]:
            mean, scale = state.get(f"{name}.mean"), state[f"{name}.scale"]
            if mean is None or mean.shape != (width,) or scale.shape != (width,):
                raise self._wrong(file, f"{name}.scale {tuple(scale.shape)}", f"mean and scale of {width} features")
            first = Standardize(width)
            first.mean.copy_(mean)
            first.scale.copy_(scale)
            parts.append(first)
        if len(names) < len(self.widths):
            raise self._wrong(file, f"{len(names)} layers", f"at least {len(self.widths)} dense layers")
        for name, units in zip(names, self.widths, strict=False):
            weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
            if tuple(weight.shape) != (units, width) or bias is None or bias.shape != (units,):
                shapes = f"{name}.weight {tuple(weight.shape)} and bias {None if bias is None else tuple(bias.shape)}"
                raise self._wrong(file, shapes, f"{(units, width)} and {(units,)}")
            layer = _empty(width, units)
            layer.weight.detach().copy_(weight)
            layer.bias.detach().copy_(bias)
            parts += [layer, nn.ReLU()]
            width = units
        return nn.Sequential(*parts)

    def _wrong(self, file: Path, found: str, expected: str) -> ConfigError:
        return ConfigError(
            f"{_PLACE}: {file} has {found}; expected {expected}, for widths = {list(self.widths)} on these records. "
            "Set widths to the outputs of the file's first dense layers"
        )


def _empty(width: int, units: int) -> nn.Linear:
    """Return a dense layer that is yet to be filled; nothing is drawn for it from any generator."""
    layer = nn.Linear(width, units, device="meta")
    return layer.to_empty(device="cpu")
