"""``.csv``: one record a row, with an id column, a label column and feature columns that ``cu-cert.toml`` names."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cu_cert.data._config import DataConfig
from cu_cert.data._guess import DataGuess
from cu_cert.data._ids import read_text
from cu_cert.data._table import Batch, cells_content, check_columns, read_table, roles, rows_at_once
from cu_cert.errors import DataError

if TYPE_CHECKING:
    from cu_cert.records import Records

_ROWS: Final = 16_384
"""Rows of a batch: enough for arrays to pay, few enough that their cells as Python objects take some megabytes."""


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
    """Load a CSV file (comma, UTF-8, one header line unless ``columns`` names the columns).

    Args:
        config: The table ``[data]``.
        root: Folder of ``cu-cert.toml``.

    Raises:
        DataError: The file is missing or malformed, a column is not there, a cell is missing or not a number, or an
            id stands twice.
    """
    path = root / config.path
    header, rows = read_rows(path, config.columns)
    hint = "" if config.columns else ". If the first line is a record, name the columns under [data] columns"
    check_columns(str(path) if config.columns else f"{path}:1", header, config, hint=hint)
    at = {name: header.index(name) for name in roles(config)}
    return read_table(path, config, root, _batches(path, rows, at, rows_at_once(config, _ROWS)))


def guess(path: Path, source: str, root: Path) -> DataGuess:
    """Guess the table ``[data]`` for a CSV file.

    Args:
        path: The file.
        source: How ``[data] source`` names it.
        root: Folder of ``cu-cert.toml``; every guess is called alike, and this one reads nothing there.

    Raises:
        DataError: The file cannot be read, or no column can serve as label.
    """
    from cu_cert.data._guess_table import guess_table, names_for_bare_file

    first = next(_open(path), None)
    columns = names_for_bare_file(first.cells) if first is not None else ()
    header, rows = read_rows(path, columns)
    return guess_table(path, source, header, ((row.line, row.cells) for row in rows), columns=columns)


def _batches(path: Path, rows: Iterator[Row], at: dict[str, int], most: int) -> Iterator[Batch]:
    while batch := list(islice(rows, most)):
        yield _batch(path, batch, at)


def _batch(path: Path, rows: list[Row], at: dict[str, int]) -> Batch:
    return Batch(
        file=path,
        unit="line",
        numbers=[row.line for row in rows],
        columns={name: [row.cells[place] for row in rows] for name, place in at.items()},
        content=lambda row: cells_content(rows[row].cells),
    )


def read_rows(path: Path, columns: Sequence[str] = ()) -> tuple[list[str], Iterator[Row]]:
    """Open a CSV file: return the header and an iterator over the rows; empty lines are skipped.

    Args:
        path: The file.
        columns: Names of the columns when the file has no header line; else empty.

    Raises:
        DataError: The file cannot be read, is not UTF-8, has no usable header, or (while iterating) a row has another
            number of cells than the header.
    """
    rows = _open(path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: is empty; expected a header line and one record a row")
    if columns:
        if first.cells == list(columns):
            raise DataError(f"{path}:{first.line}: is a header line; take columns out of [data], or remove this line")
        return list(columns), _same_width(path, columns, chain([first], rows), "[data] columns names")
    header = first.cells
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise DataError(f"{path}:{first.line}: the header has no comma; expected columns separated by commas")
    for name in header:
        if not name or header.count(name) > 1:
            raise DataError(
                f"{path}:{first.line}: column name {name!r} is empty or stands twice; expected distinct names. If this "
                "line is a record, name the columns under [data] columns"
            )
    return header, _same_width(path, header, rows, "the header has")


def _open(path: Path) -> Iterator[Row]:
    content = read_text(path, "a CSV file")
    reader = csv.reader(io.StringIO(content, newline=""), skipinitialspace=True, strict=True)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: not CSV: {error}") from None
        if cells is None:
            return
        cells = [cell.strip() for cell in cells]
        if any(cells):
            yield Row(reader.line_num, cells)


def _same_width(path: Path, header: Sequence[str], rows: Iterator[Row], whose: str) -> Iterator[Row]:
    for row in rows:
        if len(row.cells) != len(header):
            raise DataError(
                f"{path}:{row.line}: {len(row.cells)} cells, but {whose} {len(header)} columns; "
                "quote cells that contain a comma"
            )
        yield row
