"""One image file to pixels: what is decoded, what is refused, and what conversions mean.

- Decoders: PNG, JPEG, BMP, GIF, TIFF, WebP, PPM. Others are refused, so no rarely used one meets a file from outside.
- Orientation: as the EXIF tag says.
- Grey of 16 bits keeps its 16 bits; palettes become colours; transparent pixels are laid over white. Colours become
  grey by Pillow's weights (ITU-R 601-2: 299 R + 587 G + 114 B, of 1000); grey becomes colour by repetition.
- Size: Pillow's bilinear filter over the whole area that a new pixel covers; the sides are scaled each by itself.
- Scale: divided by 255 (16 bits: by 65535), a constant, so nothing is learned from any record.

PNG, BMP, GIF and PPM decode to the same pixels everywhere. Decoders of JPEG and WebP may differ in the last bits
between machines; the digest of the records covers the pixels, so a difference never goes unseen.
"""

import importlib
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cu_cert.errors import CuCertError, DataError, EnvironmentProblem

SUFFIXES: Final = (
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
"""Ends of the names of image files."""

_FORMATS: Final = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_MOST_PIXELS: Final = 100_000_000
_MOST_BYTES: Final = 2**29
_GREY: Final = ("1", "L", "I;16", "I;16L", "I;16B", "I;16N")
_DEEP: Final = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_FADED: Final = ("LA", "La", "RGBA", "RGBa", "PA")


Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What all images of a folder have in common.

    Args:
        height: In pixels.
        width: In pixels.
        channels: 1 or 3.
    """

    height: int
    width: int
    channels: int

    def __str__(self) -> str:
        return f"{self.height} x {self.width}, {'grey' if self.channels == 1 else 'coloured'}"

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions of one image as an array: (h, w), or (3, h, w)."""
        size = (self.height, self.width)
        return size if self.channels == 1 else (self.channels, *size)


def pixels(path: Path, name: str, *, size: tuple[int, int] | None, channels: int | None) -> tuple[Shape, Pixels]:
    """Decode an image.

    Args:
        path: The file.
        name: What to call it in messages.
        size: Height and width to which it is scaled, or ``None`` for its own.
        channels: 1 or 3, or ``None`` for its own.

    Returns:
        Its shape, and its pixels as float32 in [0, 1], shape (h, w) or (3, h, w).

    Raises:
        DataError: It is not an image of a known format, too large, cut off, animated, or in a mode whose meaning is
            not fixed here.
        EnvironmentProblem: Pillow is not installed.
    """
    image = _decode(path, name)
    deep = image.mode in _DEEP
    if image.mode == "I" and not 0 <= image.getextrema()[0] <= image.getextrema()[1] <= 65535:
        raise _mode(name, "I with values beyond 0 to 65535")
    wanted = channels or (1 if image.mode in (*_GREY, "I", "LA", "La") else 3)
    if deep:
        values = np.asarray(image).astype(np.float32)
        image = importlib.import_module("PIL.Image").fromarray(values)
    else:
        image = _flat(image, name, "L" if wanted == 1 else "RGB")
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), resample=importlib.import_module("PIL.Image").Resampling.BILINEAR)
    found = np.asarray(image, dtype=np.float32) / np.float32(65535 if deep else 255)
    if deep and wanted == 3:
        found = np.repeat(found[:, :, None], 3, axis=2)
    if wanted == 3:
        found = found.transpose(2, 0, 1)
    shape = Shape(height=found.shape[-2], width=found.shape[-1], channels=wanted)
    return shape, np.ascontiguousarray(np.clip(found, 0.0, 1.0), dtype=np.float32)


def _decode(path: Path, name: str) -> Any:
    try:
        pil = importlib.import_module("PIL.Image")
        ops = importlib.import_module("PIL.ImageOps")
    except ImportError:
        raise EnvironmentProblem(
            f"{name}: reading images needs Pillow, which is not installed; pip install 'cu-cert[images]'"
        ) from None
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise DataError(f"{name}: is not a regular file; expected an image")
        if facts.st_size > _MOST_BYTES:
            raise DataError(
                f"{name}: has {facts.st_size} bytes; expected at most {_MOST_BYTES}. Make the image smaller"
            )
        with warnings.catch_warnings():
            # Pillow warns of large images, which are refused here by a limit of our own, and of odd metadata.
            warnings.simplefilter("ignore")
            with pil.open(path, formats=_FORMATS) as image:
                width, height = image.size
                if width * height > _MOST_PIXELS:
                    raise DataError(
                        f"{name}: has {width} x {height} pixels; expected at most {_MOST_PIXELS}. "
                        "Make the image smaller"
                    )
                if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a JPEG of a phone, with a preview
                    raise DataError(f"{name}: holds {image.n_frames} pictures; expected one. Save one of them as PNG")
                image.load()
                return ops.exif_transpose(image)
    except pil.DecompressionBombError:
        raise DataError(f"{name}: has more pixels than the {_MOST_PIXELS} allowed; make the image smaller") from None
    except pil.UnidentifiedImageError:
        raise DataError(
            f"{name}: is not an image of a known format ({', '.join(_FORMATS)}); mend it, or take it out of the folder"
        ) from None
    except (CuCertError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they meet: OSError, SyntaxError, struct.error, IndexError ...
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0] or type(error).__name__
        raise DataError(
            f"{name}: cannot be decoded ({reason}); it may be cut off or damaged. Mend it, or take it out of the folder"
        ) from None


def _flat(image: Any, name: str, mode: str) -> Any:
    """Return an image of 8 bits a channel as ``L`` or ``RGB``."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("L", "RGB", "1") and "transparency" in image.info:
        image = image.convert("RGBA")  # one colour of the file stands for nothing
    if image.mode in _FADED:
        image = image.convert("RGBA")
        white = importlib.import_module("PIL.Image").new("RGBA", image.size, (255, 255, 255, 255))
        image = importlib.import_module("PIL.Image").alpha_composite(white, image).convert("RGB")
    if image.mode not in ("1", "L", "RGB"):
        raise _mode(name, image.mode)
    return image if image.mode == mode else image.convert(mode)


def _mode(name: str, mode: str) -> DataError:
    return DataError(
        f"{name}: has pixels of mode {mode}, whose conversion depends on profiles; expected grey (8 or 16 bits), RGB, "
        "RGBA or a palette. Save it as PNG in one of these"
    )


def as_array(rows: int, shape: Shape) -> Pixels:
    """Return room for ``rows`` images of a shape."""
    return np.empty((rows, *shape.dims), dtype=np.float32)
