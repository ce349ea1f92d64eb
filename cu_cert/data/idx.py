"""idx: the format of MNIST, plain or gzipped; images and labels in two files.

A file begins with two zero bytes, a byte for the type, a byte for the number of dimensions and the dimensions, each as
four bytes with the highest first; the values follow. Bytes (0 to 255) are pixels and become float32 in [0, 1] by a
division by 255: a constant, so nothing is learned from any record. Values of other types are taken as they are.

A folder holds pairs such as ``train-images-idx3-ubyte`` and ``t10k-images-idx3-ubyte`` with their labels. Their ids
begin with ``train/`` and ``t10k/``, so ``holdout = "t10k/"`` holds out the second pair.
"""

import gzip
import re
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np
import numpy.typing as npt

from cu_cert.data._config import DataConfig
from cu_cert.data._guess import DataGuess, listed
from cu_cert.data._limits import check_size
from cu_cert.data._names import BY_CONTENT, BY_ROW, Names
from cu_cert.data._rows import assemble
from cu_cert.errors import DataError
from cu_cert.records import Records

_TYPES: Final = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS: Final = 8
_IMAGES: Final = re.compile(r"(?P<set>.*?)-?images(?P<rest>.idx\d-[a-z0-9]+)?(?P<end>\.idx)?(?P<gz>\.gz)?", re.ASCII)
_PIECE: Final = 2**20

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class _Pair:
    """Files of images and of their labels.

    Args:
        prefix: Put before the ids, such as ``train/``; empty for a pair of its own.
        images: The file of images.
        labels: The file of labels.
    """

    prefix: str
    images: Path
    labels: Path


def load(config: DataConfig, root: Path) -> Records:
    """Load a pair of idx files, or all pairs of a folder.

    Args:
        config: The table ``[data]``.
        root: Folder of ``cu-cert.toml``.

    Raises:
        DataError: A file is missing, is not idx, is cut off or too long, or images and labels do not fit together.
    """
    path = root / config.path
    ids: list[str] = []
    xs: list[Array] = []
    ys: list[Array] = []
    for pair in _pairs(path, config, root):
        images, labels = read_idx(pair.images), read_idx(pair.labels)
        _check(pair, images, labels)
        if xs and (images.shape[1:] != xs[0].shape[1:] or images.dtype != xs[0].dtype):
            raise DataError(
                f"{pair.images}: images of shape {images.shape[1:]} and type {images.dtype}, but those of the first "
                f"pair have {xs[0].shape[1:]} and {xs[0].dtype}; expected one kind. Point [data] source to one pair"
            )
        xs.append(images)
        ys.append(labels)
        check_size(str(path), 4 * sum(array.size for array in xs))
        ids += _ids(config, root, pair, images, labels)
    y = np.concatenate([labels.astype(np.int64) for labels in ys])
    if not config.classes and int(y.min()) == int(y.max()):
        raise DataError(
            f"{path}: only label {y[0]} occurs; expected at least 2 classes. If the others were deleted, declare "
            "all of them under [data] classes"
        )
    return assemble(str(path), ids, np.concatenate([_scaled(array) for array in xs]), y, declared=config.classes)


def guess(path: Path, source: str, root: Path) -> DataGuess:
    """Guess the table ``[data]`` for idx files.

    Args:
        path: A file of images, or a folder of pairs.
        source: How ``[data] source`` names it.
        root: Folder of ``cu-cert.toml``.

    Raises:
        DataError: As :func:`load`.
    """
    config = DataConfig(source=source, ids="content")
    pairs = _pairs(path, config, root)
    records = load(config, root)
    shape = " x ".join(str(size) for size in records.x.shape[1:])
    holdout = "t10k/" if len(pairs) > 1 and any(pair.prefix == "t10k/" for pair in pairs) else config.holdout
    reasons = [f"source = {source}: {len(records)} images of {shape} pixels"]
    reasons += [f"labels of {pair.images.name}: {pair.labels.name}, by its name" for pair in pairs]
    reasons.append(
        "ids = content: idx files have no ids, so a digest of its pixels and label names each image, such as "
        f"{records.ids[0]}"
    )
    reasons.append(f"classes = {listed(records.classes)}: 0 to the highest label; name them as you like")
    if holdout != config.holdout:
        reasons.append(f"holdout = {holdout}: the folder has a pair called t10k, the usual test set of MNIST")
    return DataGuess(
        config=DataConfig(source=source, ids="content", classes=records.classes, holdout=holdout),
        reasons=tuple(reasons),
    )


def read_idx(path: Path) -> Array:
    """Read an idx file, gzipped or not.

    Nothing is allocated for more values than the header announces, and nothing is announced that exceeds the limit of
    memory, so a small file cannot unpack to a large one.

    Args:
        path: The file.

    Returns:
        Its values, shape as in the header, native byte order.

    Raises:
        DataError: It cannot be read, is not idx, is cut off, too long or too large.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if packed else raw
            dtype, shape = _header(path, file)
            values = _values(path, file, dtype, shape, path.stat().st_size if not packed else None)
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; expected an idx file") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: is a damaged gzip file ({error}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected an idx file") from None
    return np.frombuffer(values, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _header(path: Path, file: BinaryIO) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        raise DataError(
            f"{path}: begins with the bytes {magic.hex(' ') or '(none)'}; expected 00 00 and a type "
            f"({', '.join(f'{code:02x}' for code in _TYPES)}), as idx files do"
        )
    count = magic[3]
    if not 1 <= count <= _MOST_DIMENSIONS:
        raise DataError(f"{path}: announces {count} dimensions; expected 1 to {_MOST_DIMENSIONS}")
    raw = file.read(4 * count)
    if len(raw) < 4 * count:
        raise DataError(f"{path}: ends within its header; fetch the file again")
    shape = tuple(int(size) for size in np.frombuffer(raw, dtype=">u4"))
    return np.dtype(_TYPES[magic[2]]), shape


def _values(
    path: Path, file: BinaryIO, dtype: np.dtype[np.generic], shape: tuple[int, ...], file_size: int | None
) -> bytearray:
    size = dtype.itemsize * prod(shape)
    shown = " x ".join(str(side) for side in shape)
    if 0 in shape:
        raise DataError(f"{path}: announces {shown} values; expected at least one")
    check_size(str(path), 4 * prod(shape))
    head = 4 + 4 * len(shape)
    if file_size is not None and file_size != head + size:
        raise DataError(
            f"{path}: has {file_size} bytes, but its header announces {shown} values of {dtype.itemsize} bytes and so "
            f"{head + size}; the file is {'cut off' if file_size < head + size else 'too long'}. Fetch it again"
        )
    values = bytearray()
    while len(values) <= size and (piece := file.read(min(_PIECE, size + 1 - len(values)))):
        values += piece
    if len(values) != size:
        raise DataError(
            f"{path}: holds {'more than' if len(values) > size else 'only'} {min(len(values), size)} bytes of values, "
            f"but its header announces {shown} of {dtype.itemsize} bytes and so {size}; fetch it again"
        )
    return values


def _pairs(path: Path, config: DataConfig, root: Path) -> list[_Pair]:
    """Return the pairs of files that a source names."""
    if not path.is_dir():
        labels = _labels_of(path) if config.labels is None else root / config.labels
        return [_Pair("", path, labels)]
    if config.labels is not None:
        raise DataError(f"{path}: is a folder, and [data] labels = {config.labels!r}; expected no labels with a folder")
    chosen: dict[str, Path] = {}
    for file in sorted(path.iterdir(), key=lambda file: file.name):
        found = _IMAGES.fullmatch(file.name)
        # The plain file sorts before its gzipped twin; torchvision leaves both side by side.
        if found and file.is_file():
            chosen.setdefault(found["set"] or "images", file)
    if not chosen:
        raise DataError(
            f"{path}: holds no file of images such as train-images-idx3-ubyte or train-images-idx3-ubyte.gz"
        )
    if len(chosen) > 1 and config.ids not in (None, BY_CONTENT, BY_ROW):
        raise DataError(
            f"{path}: holds {len(chosen)} sets of images, but [data] ids = {config.ids!r} lists the ids of one; point "
            "[data] source to one file of images"
        )
    return [_Pair(f"{name}/", file, _labels_of(file)) for name, file in chosen.items()]


def _labels_of(images: Path) -> Path:
    """Return the file of labels that stands beside a file of images."""
    name = images.name
    if not images.is_file():
        raise DataError(f"{images}: cannot be read (no such file); expected an idx file of images")
    if "images" not in name:
        raise DataError(
            f"{images}: its name does not contain 'images', so the file of labels is not known; name it with "
            "[data] labels"
        )
    plain = re.sub(r"idx\d", "idx1", name.replace("images", "labels")).removesuffix(".gz")
    tried = [plain, f"{plain}.gz"] if not name.endswith(".gz") else [f"{plain}.gz", plain]
    for candidate in tried:
        if (images.parent / candidate).is_file():
            return images.parent / candidate
    raise DataError(
        f"{images}: has no labels beside it (looked for {' and '.join(tried)}); put them there or name them with "
        "[data] labels"
    )


def _check(pair: _Pair, images: Array, labels: Array) -> None:
    if images.ndim < 2:
        raise DataError(
            f"{pair.images}: has one dimension of {len(images)} values; expected images. Is it the file of labels?"
        )
    if labels.ndim != 1:
        raise DataError(f"{pair.labels}: has shape {labels.shape}; expected one label for each image")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{pair.labels}: its labels have type {labels.dtype}; expected whole numbers from 0")
    if len(labels) != len(images):
        raise DataError(
            f"{pair.images}: {len(images)} images, but {pair.labels.name} has {len(labels)} labels; expected one for "
            "each image. Are the files of one set?"
        )
    if int(labels.min()) < 0:
        raise DataError(f"{pair.labels}: label {int(labels.min())} is below 0; expected whole numbers from 0")
    if int(labels.max()) >= 2**16:
        raise DataError(f"{pair.labels}: label {int(labels.max())} is too high; expected class numbers below 65536")


def _ids(config: DataConfig, root: Path, pair: _Pair, images: Array, labels: Array) -> list[str]:
    names = Names(config, root, prefix=pair.prefix)
    kind = images.dtype.newbyteorder("<")
    head = f"idx {kind.str} {images.shape[1:]} ".encode()
    ids = [
        names.name(lambda row=row, label=label: head + row.astype(kind).tobytes() + f" {label}".encode())  # type: ignore[misc]
        for row, label in zip(images, labels.tolist(), strict=True)
    ]
    names.finish()
    return ids


def _scaled(values: Array) -> npt.NDArray[np.float32]:
    if values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(255)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which Records names by id
        return values.astype(np.float32)
