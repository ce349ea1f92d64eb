"""``images:FOLDER``: one image a record; the folder it lies in names its class, and its path is its id.

The id is the path below the root, with ``/`` between folders on every system and in Unicode's composed form (NFC),
because some file systems store names decomposed. Two paths that some file system takes for one (equal but for upper and
lower case, or for the form of their accents) are refused: there, one of the two records would be missing.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from cu_cert.data._config import DataConfig, ordered
from cu_cert.data._guess import DataGuess, listed
from cu_cert.data._limits import check_size
from cu_cert.data._pixels import SUFFIXES, Shape, as_array, pixels
from cu_cert.data._rows import assemble
from cu_cert.errors import DataError
from cu_cert.records import Records

_IGNORED: Final = ("thumbs.db", "desktop.ini")
"""What desktops leave in folders, in lower case; names that begin with a dot are left out as well."""

_SPLITS: Final = ("train", "training", "test", "testing", "val", "valid", "validation")
_HELD_OUT: Final = ("test", "testing", "val", "valid", "validation")
_MOST_FILES: Final = 10_000_000
_MOST_FOLDERS_DEEP: Final = 32


@dataclass(frozen=True)
class _Image:
    """A file and what its path says.

    Args:
        path: Where it is.
        id: Its path below the root.
        folders: The folders on that path; at least one.
    """

    path: Path
    id: str
    folders: tuple[str, ...]

    def label(self, which: str) -> str:
        """Return the class: the first folder, the last, or all of them."""
        match which:
            case "first":
                return self.folders[0]
            case "last":
                return self.folders[-1]
            case _:
                return "/".join(self.folders)


def load(config: DataConfig, root: Path) -> Records:
    """Load a folder of images.

    Args:
        config: The table ``[data]``.
        root: Folder of ``cu-cert.toml``.

    Raises:
        DataError: The folder is missing or empty, a file is not an image, images differ in size or colour, or two
            paths would be one on another system.
        EnvironmentProblem: Pillow is not installed.
    """
    folder = root / config.path
    images = _images(folder)
    labels = [image.label(config.class_folder or "first") for image in images]
    names = config.classes or ordered(set(labels))
    if len(names) < 2:
        raise DataError(
            f"{folder}: only one class ({labels[0]!r}); expected at least 2 folders of images. Another class_folder "
            "under [data] may name them"
        )
    return assemble(str(folder), [image.id for image in images], _read(folder, images, config), labels, declared=names)


def guess(path: Path, source: str, root: Path) -> DataGuess:
    """Guess the table ``[data]`` for a folder of images.

    Args:
        path: The folder.
        source: How ``[data] source`` names it.
        root: Folder of ``cu-cert.toml``; every guess is called alike, and this one reads nothing there.

    Raises:
        DataError: The folder holds no images in folders, or one cannot be read.
        EnvironmentProblem: Pillow is not installed.
    """
    images = _images(path)
    first = sorted({image.folders[0] for image in images})
    split = [name for name in first if name.lower() in _SPLITS]
    beside = [name for name in first if name not in split]
    if len(split) > 1 and beside:
        raise DataError(
            f"{path}: beside {' and '.join(split)} it holds {', '.join(beside)}, whose images would become records "
            f"too; move them away, or give one folder alone, such as {path / split[0]}"
        )
    which = "last" if split and all(len(image.folders) > 1 for image in images) else "first"
    classes = ordered({image.label(which) for image in images})
    shapes = Counter(
        pixels(image.path, image.id, size=None, channels=None)[0] for image in images[:: -(-len(images) // 200)]
    )
    usual = shapes.most_common(1)[0][0]
    held = (
        next((name for name in split if name.lower() in _HELD_OUT), None)
        if which == "last" and len(split) > 1
        else None
    )
    size = (usual.height, usual.width)
    channels = max(shape.channels for shape in shapes)
    reasons = [
        f"source = {source}: {len(images)} images, with ids such as {images[0].id!r}",
        f"class_folder = {which}: {len(classes)} classes, {listed(classes)}",
        f"image_size = {list(size)}: the commonest{'' if len(shapes) == 1 else ' of several'}; smaller trains faster",
        f"channels = {channels}: {'all are grey' if channels == 1 else 'there are colours'}",
    ]
    if held:
        reasons.append(f"holdout = {held}/: the folder of that name is the usual test set")
    config = DataConfig(
        source=source,
        class_folder=which,
        image_size=size,
        channels=channels,
        classes=classes if len(classes) > 1 else (),
        holdout=f"{held}/" if held else DataConfig().holdout,
    )
    return DataGuess(config=config, reasons=tuple(reasons))


def _read(folder: Path, images: list[_Image], config: DataConfig) -> npt.NDArray[np.float32]:
    size, channels = config.image_size, config.channels
    first: Shape | None = None
    found = np.empty(0, dtype=np.float32)
    for row, image in enumerate(images):
        shape, values = pixels(image.path, f"{folder}: {image.id}", size=size, channels=channels)
        if first is None:
            first = shape
            check_size(str(folder), 4 * len(images) * int(np.prod(shape.dims)))
            found = as_array(len(images), shape)
        if shape != first:
            raise DataError(
                f"{folder}: {image.id} is {shape}, but {images[0].id} is {first}; expected one size and one kind. Set "
                "image_size and channels under [data] to make them alike"
            )
        found[row] = values
    return found


def _images(folder: Path) -> list[_Image]:
    """Return the images below a folder, ascending by id."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "cannot be read (no such folder)"
        raise DataError(f"{folder}: {what}; expected a folder with one folder of images for each class")
    found: dict[str, _Image] = {}
    alike: dict[str, str] = {}
    for path, parts in _files(folder, ()):
        name = "/".join(parts)
        _check_name(folder, name)
        identifier = unicodedata.normalize("NFC", name)
        if len(parts) == 1:
            if path.suffix.lower() in SUFFIXES:
                raise DataError(f"{path}: lies in no folder that could name its class; expected {folder}/CLASS/IMAGE")
            continue  # a licence or a list beside the folders of the classes
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(
                f"{path}: does not end as an image does ({', '.join(SUFFIXES)}); rename it, or take it out of "
                "the folder"
            )
        plain = unicodedata.normalize("NFC", identifier.casefold())
        if plain in alike:
            raise DataError(
                f"{folder}: {identifier!r} and {alike[plain]!r} are one file where upper and lower case or accents are "
                "not told apart, so the records would differ between machines; rename one"
            )
        alike[plain] = identifier
        folders = tuple(unicodedata.normalize("NFC", part) for part in parts[:-1])
        found[identifier] = _Image(path, identifier, folders)
        if len(found) > _MOST_FILES:
            raise DataError(f"{folder}: holds more than {_MOST_FILES} images; expected fewer")
    if not found:
        raise DataError(f"{folder}: holds no image; expected one folder of images for each class")
    return [found[identifier] for identifier in sorted(found)]


def _files(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    if len(above) > _MOST_FOLDERS_DEEP:
        raise DataError(f"{folder}: lies more than {_MOST_FOLDERS_DEEP} folders deep; expected CLASS/IMAGE")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); expected a folder of images") from None
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in _IGNORED:
            continue
        if entry.is_dir() and entry.is_symlink():
            raise DataError(
                f"{entry.path}: is a link to a folder; expected the folder itself, since links may go round"
            )
        if entry.is_dir():
            yield from _files(Path(entry.path), (*above, entry.name))
        else:
            yield Path(entry.path), (*above, entry.name)


def _check_name(folder: Path, name: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise DataError(f"{folder}: the name {os.fsencode(name)!r} is not UTF-8; rename the file")
    if any(unicodedata.category(character) == "Cc" for character in name) or name != name.strip():
        raise DataError(
            f"{folder}: the name {name!r} has a control character or outer spaces, which no list of ids can hold; "
            "rename the file"
        )
