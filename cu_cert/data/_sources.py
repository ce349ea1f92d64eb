"""The table of data sources: which words in ``[data] source`` name which file of this folder.

A new source is a file here that ends in ``load(config, root)`` and ``guess(path, source, root)``, and one line of
:data:`SOURCES`. Nothing heavy is imported: reading and writing a project file consults this table.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Source:
    """A kind of data source.

    Args:
        module: Its file in this folder, without ``.py``.
        shown: What it is, for messages.
        word: The whole of ``source``, for a source without a path; empty otherwise.
        prefix: Words before a path that name this source whatever the path ends in, such as ``csv:``.
        suffixes: Ends of a path, in lower case, that name this source without a prefix.
        keys: The keys of ``[data]`` that belong to it; they are refused for sources that do not list them.
        needed: Groups of these keys of which exactly one must be set.
        holds: Patterns of entries by which ``cu-cert init`` knows a folder of this kind.
    """

    module: str
    shown: str
    word: str = ""
    prefix: str = ""
    suffixes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    needed: tuple[tuple[str, ...], ...] = ()
    holds: tuple[str, ...] = ()

    def claims(self, source: str) -> bool:
        """Whether ``source`` names this source by its suffix."""
        return source.lower().endswith(self.suffixes) if self.suffixes else False

    def path(self, source: str) -> str:
        """Return ``source`` without the prefix."""
        return source.removeprefix(self.prefix) if self.prefix else source

    def named(self, path: str) -> str:
        """Return ``path`` as ``[data] source`` names it: with the prefix only where the end of it does not suffice."""
        return path if source_of(path) is self else f"{self.prefix}{path}"


_TABLE_KEYS: Final = (
    *("id_column", "ids", "label_column", "numeric", "categorical", "buckets", "missing"),
    *("text_column", "text", "ngrams", "text_buckets", "text_length"),
)
_TABLE_NEEDS: Final = (("id_column", "ids"), ("label_column",))

SOURCES: Final = (
    Source(module="digits", shown='"digits"', word="digits"),
    Source(module="python_factory", shown='"python:module:factory"', prefix="python:"),
    Source(module="npz", shown="a .npz file", prefix="npz:", suffixes=(".npz",), keys=("ids",)),
    Source(
        module="csv_table",
        shown="a .csv file",
        prefix="csv:",
        suffixes=(".csv", ".data"),
        keys=(*_TABLE_KEYS, "columns"),
        needed=_TABLE_NEEDS,
    ),
    Source(
        module="parquet_table",
        shown="a .parquet file or a folder of them",
        prefix="parquet:",
        suffixes=(".parquet",),
        keys=_TABLE_KEYS,
        needed=_TABLE_NEEDS,
        holds=("*.parquet",),
    ),
    Source(
        module="text_lines",
        shown="a .jsonl file (also .gz) or a folder of them",
        prefix="jsonl:",
        suffixes=(".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"),
        keys=_TABLE_KEYS,
        needed=_TABLE_NEEDS,
        holds=("*.jsonl", "*.jsonl.gz"),
    ),
    Source(
        module="idx",
        shown="an idx file (...-images-idx3-ubyte, also .gz) or a folder of them",
        prefix="idx:",
        suffixes=("ubyte", "ubyte.gz", ".idx", ".idx.gz"),
        keys=("ids", "labels"),
        holds=("*ubyte", "*ubyte.gz"),
    ),
    Source(
        module="image_folder",
        shown='"images:FOLDER"',
        prefix="images:",
        keys=("class_folder", "image_size", "channels"),
        holds=("*",),
    ),
)
"""All sources. A folder is of the first kind whose pattern one of its entries fits, so the last may take any."""


def source_of(source: str) -> Source | None:
    """Return the kind of a ``[data] source``: by the whole word, then by prefix, then by the end of the path."""
    for kind in SOURCES:
        if source == kind.word or (kind.prefix and source.startswith(kind.prefix) and source != kind.prefix):
            return kind
    return next((kind for kind in SOURCES if kind.claims(source)), None)


def source_of_folder(folder: Path) -> Source | None:
    """Return the kind of a folder by what it holds, for ``cu-cert init``."""
    names = [entry.name.lower() for entry in folder.iterdir()]
    for kind in SOURCES:
        if any(fnmatchcase(name, pattern) for name in names for pattern in kind.holds):
            return kind
    return None


def shown_sources() -> str:
    """Return what ``[data] source`` may be, for messages."""
    *first, last = (kind.shown for kind in SOURCES)
    return f"{', '.join(first)} or {last}"


def owners(key: str) -> str:
    """Return the sources that a key of ``[data]`` belongs to, for messages."""
    return " or ".join(kind.shown for kind in SOURCES if key in kind.keys)
