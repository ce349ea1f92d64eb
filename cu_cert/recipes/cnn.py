"""``cnn``: a small convolutional network for images, trained by SGD with momentum.

Each stage is a convolution that keeps height and width, ReLU, and the average over squares; then dense layers as in
``mlp``. The average, where others take the largest: its gradient adds up in a fixed order on every device, and it costs
half as much. Features are standardised by channel. There is no batch normalisation, through which a model's view of
one record would depend on others.

Records are images of shape (n, height, width) or (n, channels, height, width), or flat squares.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from cu_cert.errors import ConfigError
from cu_cert.recipes._classifier import Standardize, TrainingParams, checked, require, widths
from cu_cert.recipes._images import image_shape, images
from cu_cert.recipes._network import ClassifierRecipe
from cu_cert.records import Records


@dataclass(frozen=True, kw_only=True)
class CnnParams(TrainingParams):
    """Parameters of ``cnn``.

    Args:
        filters: Output channels of each convolution, at least one of at least one channel.
        kernel: Side of the kernels, odd.
        pooling: Side of the squares over which each stage averages; 1 for none.
        hidden: Width of each dense hidden layer; may be empty.
    """

    filters: tuple[int, ...] = (8, 16)
    kernel: int = 3
    pooling: int = 2
    hidden: tuple[int, ...] = (128,)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            bool(self.filters) and widths(self.filters),
            "filters",
            list(self.filters),
            "a list of numbers of at least 1",
        )
        require(self.kernel >= 1 and self.kernel % 2 == 1, "kernel", self.kernel, "an odd number of at least 1")
        require(self.pooling >= 1, "pooling", self.pooling, "at least 1")
        require(widths(self.hidden), "hidden", list(self.hidden), "a list of widths of at least 1")


def make(options: Mapping[str, object]) -> ClassifierRecipe:
    """Make the recipe from the options of ``[training]``."""
    params = checked(CnnParams, options)
    return ClassifierRecipe(
        name="cnn",
        params=params,
        cohort_size=8,
        network=partial(parts, params=params),
        features=images,
        inputs=images,
    )


def parts(records: Records, *, params: CnnParams) -> list[nn.Module]:
    """Return fresh parts of a model for the shape and classes of ``records``.

    Raises:
        ConfigError: The records are no images, or too small for so many stages.
    """
    channels, height, width = image_shape(records.x.shape[1:])
    found: list[nn.Module] = [Standardize(channels, 1, 1)]
    for number, deep in enumerate(params.filters):
        if min(height, width) < params.pooling:
            raise ConfigError(
                f"[training] pooling = {params.pooling}: images of shape {records.x.shape[1:]} are {height} x {width} "
                f"before stage {number + 1} of {len(params.filters)}; expected at least {params.pooling} x "
                f"{params.pooling}. Name fewer filters, or a smaller pooling"
            )
        found += [nn.Conv2d(channels, deep, params.kernel, padding=params.kernel // 2), nn.ReLU()]
        if params.pooling > 1:
            found.append(nn.AvgPool2d(params.pooling))
        channels, height, width = deep, height // params.pooling, width // params.pooling
    found.append(nn.Flatten())
    size = channels * height * width
    for units in params.hidden:
        found += [nn.Linear(size, units), nn.ReLU()]
        size = units
    return [*found, nn.Linear(size, len(records.classes))]
