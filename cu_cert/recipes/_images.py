"""Records as images of shape (n, channels, height, width)."""

import math
from typing import Final

import torch

from cu_cert.errors import ConfigError
from cu_cert.records import Records

_COLOURS: Final = (1, 2, 3, 4)
"""Channels of grey and colour pictures, with and without transparency."""


def images(records: Records) -> torch.Tensor:
    """Return the features as float32 images of shape (n, channels, height, width).

    Args:
        records: Features of shape (n, height, width), (n, channels, height, width), or (n, pixels) where the number of
            pixels is a square.

    Raises:
        ConfigError: They have another shape, or look as if the channels stood last.
    """
    shape = records.x.shape[1:]
    return torch.from_numpy(records.x).reshape(len(records), *image_shape(shape))


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return channels, height and width of a record's features.

    Args:
        shape: Shape of one record.

    Raises:
        ConfigError: It is no image's.
    """
    expected = (
        "expected images (n, height, width) or (n, channels, height, width), or flat squares such as 64 features for "
        "8 x 8. For other data take the recipe mlp"
    )
    match shape:
        case (pixels,) if pixels >= 1 and math.isqrt(pixels) ** 2 == pixels:
            return 1, math.isqrt(pixels), math.isqrt(pixels)
        case (height, width) if min(height, width) >= 1:
            return 1, height, width
        case (height, width, channels) if channels in _COLOURS and height not in _COLOURS:
            raise ConfigError(
                f'[training] recipe = "cnn": records of shape {shape} look like images with their channels last; '
                f"expected channels first: save x.transpose(0, 3, 1, 2), of shape (n, {channels}, {height}, {width})"
            )
        case (channels, height, width) if min(shape) >= 1:
            return channels, height, width
    raise ConfigError(f'[training] recipe = "cnn": records of shape {shape} are no images; {expected}')
