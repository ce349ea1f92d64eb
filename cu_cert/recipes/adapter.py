"""``adapter``: low-rank adapters and a linear head over a frozen backbone that all models share.

The backbone is a stack of dense layers with ReLU, random (``backbone_seed``, ``widths``) or from a model file
(``backbone``, ``widths``). It is never trained; its features h are computed once and kept, so a model costs only its
adapter and head: scores = W (h + scale B A h) + b with A of ``rank`` rows and B = 0 at the start (Hu et al. 2021, arXiv
2106.09685), on features that are standardised by the model's own records.

A model file holds the backbone, too, so it can be used alone; ``parameters["backbone"]`` names the digest of the frozen
part, which is part of the recipe's.

What the backbone learned, no retraining of adapters takes back: where it was trained on the records of this project, a
deletion by way of the adapters is no exact one, and no claim of exactness can be made. Take a backbone that never saw
them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from cu_cert.recipes._backbone import Backbone
from cu_cert.recipes._classifier import Standardize, TrainingParams, checked, flat, require, widths
from cu_cert.recipes._lowrank import LowRank
from cu_cert.recipes._network import ClassifierRecipe
from cu_cert.records import Records


@dataclass(frozen=True, kw_only=True)
class AdapterParams(TrainingParams):
    """Parameters of ``adapter``.

    Args:
        widths: Outputs of each layer of the backbone.
        backbone_seed: Seed of a random backbone, at least 0.
        backbone: Model file of the backbone, from the project's folder; empty for a random one.
        rank: Rows of A, at least 1.
        scale: What B A h is multiplied by, above 0.
    """

    widths: tuple[int, ...] = (256,)
    backbone_seed: int = 0
    backbone: str = ""
    rank: int = 8
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        good = bool(self.widths) and widths(self.widths)
        require(good, "widths", list(self.widths), "a list of widths of at least 1")
        require(self.backbone_seed >= 0, "backbone_seed", self.backbone_seed, "at least 0")
        ends = self.backbone == "" or Path(self.backbone).suffix in (".pt", ".pth", ".safetensors")
        require(ends, "backbone", self.backbone, "a path that ends in .pt, .pth or .safetensors")
        require(self.rank >= 1, "rank", self.rank, "at least 1")
        require(math.isfinite(self.scale) and self.scale > 0, "scale", self.scale, "above 0")


def make_at(options: Mapping[str, object], root: str | None) -> ClassifierRecipe:
    """Make the recipe from the options of ``[training]``.

    Args:
        options: The options.
        root: Folder of the project, where the path of a backbone starts.
    """
    params = checked(AdapterParams, options)
    backbone = Backbone(
        params.widths, params.backbone_seed, Path(root or "") / params.backbone if params.backbone else None
    )
    return ClassifierRecipe(
        name="adapter",
        params=params,
        cohort_size=16,
        network=partial(parts, params=params, backbone=backbone),
        features=flat,
        frozen=1,
        inputs=backbone.features,
        # In place of the path, which says nothing about the model and may say something about its maker.
        more={"backbone": f"sha256:{backbone.digest}"},
    )


def parts(records: Records, *, params: AdapterParams, backbone: Backbone) -> list[nn.Module]:
    """Return fresh parts of a model for the shape and classes of ``records``, the frozen one first."""
    wide = params.widths[-1]
    return [
        backbone.module(math.prod(records.x.shape[1:])),
        Standardize(wide),
        LowRank(wide, params.rank, params.scale),
        nn.Linear(wide, len(records.classes)),
    ]
