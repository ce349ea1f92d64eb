"""A first guess at what a data file holds, for ``cu-cert init``; each guess comes with its reason.

The guess itself is made by the source: each module of a source has a function ``guess``.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cu_cert._toml import toml_value
from cu_cert.data._config import DataConfig
from cu_cert.data._sources import shown_sources, source_of, source_of_folder
from cu_cert.errors import DataError


@dataclass(frozen=True, kw_only=True)
class DataGuess:
    """What was guessed and why.

    Args:
        config: A table ``[data]`` that loads.
        reasons: One line for each choice.
    """

    config: DataConfig
    reasons: tuple[str, ...]


def guess(data: Path | None, root: Path) -> DataGuess:
    """Guess the table ``[data]`` for a file or a folder.

    Args:
        data: What a data source reads (see ``_sources.py``), or ``None`` for the built-in digits.
        root: Folder in which ``cu-cert.toml`` will stand; the source is written relative to it where it lies below.

    Raises:
        DataError: The file cannot be read, or no column can serve as label.
    """
    if data is None:
        return DataGuess(
            config=DataConfig(), reasons=("source = digits: no --data was given, so the built-in images are used",)
        )
    path = data.absolute()
    below = path.is_relative_to(root.absolute())
    name = (path.relative_to(root.absolute()) if below else path).as_posix()
    kind = source_of(name)
    if path.is_dir() and (kind is None or not kind.holds):
        kind = source_of_folder(path)
        if kind is None:
            raise DataError(f"{data}: is an empty folder; expected {shown_sources()}")
    if kind is None:
        raise DataError(
            f"{data}: ends in {data.suffix or 'nothing'}; expected {shown_sources()}. For another format write a "
            'function that returns (ids, x, y, classes) and set source = "python:module:function"'
        )
    make: Callable[[Path, str, Path], DataGuess] = importlib.import_module(f"cu_cert.data.{kind.module}").guess
    return make(path, kind.named(name), root)


def listed(names: Sequence[str]) -> str:
    """Return names as a list that a reason can show: the first eight."""
    shown = toml_value(tuple(names[:8]))
    return shown if len(names) <= 8 else f"{shown[:-1]}, ...] ({len(names)})"
