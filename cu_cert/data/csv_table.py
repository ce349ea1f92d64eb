"""``.csv``: one record a row, with an id column, a label column and feature columns that ``cu-cert.toml`` names."""

import csv
import difflib
import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cu_cert.data._config import DataConfig, ordered
from cu_cert.data._ids import read_text
from cu_cert.errors import DataError

if TYPE_CHECKING:
    from cu_cert.records import Records

# numpy is not imported here: `cu-cert init` reads the same files and shall answer at once.
LARGEST: Final = (2 - 2**-23) * 2.0**127
"""Features are float32; a larger number would become infinite."""


@dataclass(frozen=True)
class Row:
    """A row of a CSV file.

    Args:
        line: Line on which it ends, from 1.
        cells: As many as the header has columns, without outer spaces.
    """

    line: int
    cells: list[str]


def load(config: DataConfig, root: Path) -> "Records":
    """Load a CSV file (comma, UTF-8, one header line).

    Features are the numeric columns in the order of the project file, then each categorical column as
    ``buckets`` 0/1 features.

    Args:
        config: The table ``[data]``.
        root: Folder of ``cu-cert.toml``.

    Raises:
        DataError: The file is missing or malformed, a column is not there, a cell is missing or not a number, or an
            id stands twice.
    """
    from cu_cert.data._rows import assemble

    path = root / config.source
    header, rows = read_rows(path)
    if not config.numeric and not config.categorical:
        raise DataError(
            f"{path}: [data] numeric and categorical name no column; expected at least one feature. "
            f"The columns are {', '.join(header)}"
        )
    # __post_init__ of DataConfig demands both columns for a CSV source.
    id_at, label_at = (_column(path, header, str(name)) for name in (config.id_column, config.label_column))
    numeric = [(name, _column(path, header, name)) for name in config.numeric]
    categorical = [(name, _column(path, header, name)) for name in config.categorical]

    lines: dict[str, int] = {}
    labels: list[str] = []
    features: list[list[float]] = []
    for row in rows:
        identifier = row.cells[id_at]
        if is_missing(identifier):
            raise DataError(f"{path}:{row.line}: no id in column {config.id_column!r}; expected one in every row")
        if identifier in lines:
            raise DataError(
                f"{path}:{row.line}: id {identifier!r} stands twice (first on line {lines[identifier]}); ids must be "
                "unique. If a person may have several rows, number them, for example 'person-7/2'"
            )
        lines[identifier] = row.line
        labels.append(_present(path, row, identifier, str(config.label_column), label_at))
        values = [_number(path, row, identifier, name, at) for name, at in numeric]
        for name, at in categorical:
            values += one_hot(name, _present(path, row, identifier, name, at), config.buckets)
        features.append(values)
    if not features:
        raise DataError(f"{path}: has a header but no row; expected at least one record")
    classes = config.classes or ordered(set(labels))
    return assemble(str(path), list(lines), features, labels, declared=classes)


def read_rows(path: Path) -> tuple[list[str], Iterator[Row]]:
    """Open a CSV file: return the header and an iterator over the rows; empty lines are skipped.

    Raises:
        DataError: The file cannot be read, is not UTF-8, has no usable header, or (while iterating) a row has another
            number of cells than the header.
    """
    content = read_text(path, "a CSV file")
    reader = csv.reader(io.StringIO(content, newline=""), skipinitialspace=True, strict=True)
    rows = _rows(path, reader)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: is empty; expected a header line and one record a row")
    header = first.cells
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise DataError(f"{path}:{first.line}: the header has no comma; expected columns separated by commas")
    for name in header:
        if not name or header.count(name) > 1:
            raise DataError(
                f"{path}:{first.line}: column name {name!r} is empty or stands twice; expected distinct names"
            )
    return header, _same_width(path, header, rows)


def _rows(path: Path, reader: "Iterator[list[str]]") -> Iterator[Row]:
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: not CSV: {error}") from None  # type: ignore[attr-defined]
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield Row(reader.line_num, [cell.strip() for cell in cells])  # type: ignore[attr-defined]


def _same_width(path: Path, header: Sequence[str], rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        if len(row.cells) != len(header):
            raise DataError(
                f"{path}:{row.line}: {len(row.cells)} cells, but the header has {len(header)} columns; "
                "quote cells that contain a comma"
            )
        yield row


def is_missing(cell: str) -> bool:
    """Return whether a cell holds no value: empty, or a NaN in any spelling."""
    return not cell or cell.casefold() == "nan"


def one_hot(column: str, word: str, buckets: int) -> list[float]:
    """Return ``word`` as ``buckets`` 0/1 features.

    The bucket is a hash of column and word alone. A vocabulary, or an order of first sight, would be learned from the
    records, and a deleted record would live on in the layout of every later model.

    Args:
        column: Name of the column, so that equal words of two columns fall apart.
        word: The cell.
        buckets: At least 1.
    """
    digest = hashlib.blake2b(f"{column}\x1f{word}".encode(), digest_size=8).digest()
    features = [0.0] * buckets
    features[int.from_bytes(digest, "big") % buckets] = 1.0
    return features


def _column(path: Path, header: list[str], name: str) -> int:
    if name not in header:
        close = difflib.get_close_matches(name, header, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise DataError(f"{path}:1: has no column {name!r}; {hint}The columns are {', '.join(header)}")
    return header.index(name)


def _present(path: Path, row: Row, identifier: str, column: str, at: int) -> str:
    cell = row.cells[at]
    if is_missing(cell):
        raise DataError(
            f"{path}:{row.line}: id {identifier!r} has no value in column {column!r}; fill the cell, drop the record, "
            "or take the column out of [data]"
        )
    return cell


def _number(path: Path, row: Row, identifier: str, column: str, at: int) -> float:
    cell = _present(path, row, identifier, column, at)
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:
        raise DataError(
            f"{path}:{row.line}: id {identifier!r} has {cell!r} in column {column!r}; expected a finite number. "
            "List columns of words under [data] categorical"
        )
    return value
