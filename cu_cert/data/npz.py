"""``.npz``: NumPy archives with the arrays x, y, ids and, if wanted, classes."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cu_cert.data._config import DataConfig
from cu_cert.data._guess import DataGuess, listed
from cu_cert.data._names import NO_ROW_NUMBERS, Names
from cu_cert.data._rows import assemble
from cu_cert.errors import DataError
from cu_cert.records import Records

_NAMES = {
    "x": ("x", "X", "features", "data"),
    "y": ("y", "labels", "fine_labels"),
    "ids": ("ids", "filenames"),
    "classes": ("classes",),
}


def load(config: DataConfig, root: Path) -> Records:
    """Load an archive.

    Arrays: ``x`` (or ``X``, ``features``, ``data``), ``y`` (or ``labels``, ``fine_labels``), ``ids`` (or
    ``filenames``) and optionally ``classes``. Without ids in the archive, ``[data] ids`` says how records are named.
    Pickled objects are refused, because reading them runs code.

    Args:
        config: The table ``[data]``.
        root: Folder of ``cu-cert.toml``.

    Raises:
        DataError: The file is missing or is not such an archive.
    """
    path = root / config.path
    arrays = _arrays(path)
    if "ids" not in arrays and config.ids is None:
        raise DataError(
            f"{path}: has no array 'ids'; expected one id for each record. {NO_ROW_NUMBERS}, or add ids that stay, for "
            'example np.savez(path, x=x, y=y, ids=["user-17/3", ...])'
        )
    for name in ("x", "y"):
        if name not in arrays:
            raise DataError(
                f"{path}: has no array {' or '.join(repr(other) for other in _NAMES[name])}; expected features x and "
                f"labels y. It holds {', '.join(sorted(arrays)) or 'nothing'}"
            )
    classes = _strings(path, "classes", arrays["classes"]) if "classes" in arrays else []
    labels = arrays["y"]
    if labels.dtype.kind == "S":
        labels = np.array(_strings(path, "y", labels))
    if config.ids is None:
        ids = _strings(path, "ids", arrays["ids"])
    else:
        ids = _named(path, config, root, arrays["x"], labels)
    return assemble(str(path), ids, arrays["x"], labels, found=classes, declared=config.classes)


def guess(path: Path, source: str, root: Path) -> DataGuess:
    """Guess the table ``[data]`` for an archive.

    Args:
        path: The file.
        source: How ``[data] source`` names it.
        root: Folder of ``cu-cert.toml``.

    Raises:
        DataError: The file is missing or is not such an archive.
    """
    ids = None if "ids" in _arrays(path) else "content"
    records = load(DataConfig(source=source, ids=ids), root)
    shape = " x ".join(str(size) for size in records.x.shape[1:])
    reasons = [f"source = {source}"]
    if len(records):
        reasons = [f"source = {source}: {len(records)} records of {shape} numbers, with ids such as {records.ids[0]!r}"]
    if ids:
        reasons.append("ids = content: the archive has no array ids, so a digest of its content names each record")
    reasons.append(f"classes = {listed(records.classes)}: as in the archive {path.name}")
    return DataGuess(config=DataConfig(source=source, ids=ids, classes=records.classes), reasons=tuple(reasons))


def _named(
    path: Path, config: DataConfig, root: Path, x: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]
) -> list[str]:
    """Return ids for records of an archive without ids."""
    if x.ndim < 2 or labels.shape != x.shape[:1]:
        raise DataError(
            f"{path}: features of shape {x.shape} and labels of shape {labels.shape}; expected one row of features "
            "and one label for each record"
        )
    names = Names(config, root)
    kind = x.dtype.newbyteorder("<")
    head = f"{kind.str} {x.shape[1:]} ".encode()
    ids = [
        names.name(lambda row=row, label=label: head + row.astype(kind).tobytes() + f" {label}".encode())  # type: ignore[misc]
        for row, label in zip(x, labels.tolist(), strict=True)
    ]
    names.finish()
    return ids


def _arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Read the arrays that have a meaning here, by their first name."""
    found: dict[str, npt.NDArray[np.generic]] = {}
    if path.is_file() and not zipfile.is_zipfile(path):
        raise DataError(f"{path}: is not an .npz archive; expected a file as np.savez writes it")
    try:
        with np.load(path, allow_pickle=False) as archive:
            for meaning, names in _NAMES.items():
                here = [name for name in names if name in archive.files]
                if len(here) > 1:
                    raise DataError(f"{path}: has the arrays {' and '.join(here)}; expected only one of them")
                if here:
                    found[meaning] = archive[here[0]]
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; expected an .npz file") from None
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{path}: cannot be read ({error.strerror}); expected an .npz file") from None
        if "pickle" in str(error).lower():
            raise DataError(
                f"{path}: holds Python objects, and reading those runs code; expected arrays of numbers and text. "
                "Convert them before saving, for example ids.astype(str)"
            ) from None
        raise DataError(f"{path}: is not an .npz archive ({error}); save it with np.savez") from None
    return found


def _strings(path: Path, name: str, values: npt.NDArray[np.generic]) -> list[str]:
    if values.ndim != 1 or values.dtype.kind not in "USiu":
        raise DataError(
            f"{path}: array {name!r} has type {values.dtype} and shape {values.shape}; expected one row of text"
        )
    if values.dtype.kind == "S":
        try:
            return [bytes(value).decode("utf-8") for value in values.tolist()]
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: array {name!r} is not UTF-8 ({error}); store it as text") from None
    return [str(value) for value in values.tolist()]
