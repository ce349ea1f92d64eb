"""A first guess at what a data file holds, for ``cu-cert init``; each guess comes with its reason."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from cu_cert._toml import toml_value
from cu_cert.data._config import DataConfig, ordered
from cu_cert.data.csv_table import LARGEST, is_missing, read_rows
from cu_cert.errors import DataError

_ID_NAMES = ("id", "uuid", "guid", "key", "record_id", "row_id", "user_id", "person_id")
_LABEL_NAMES = ("label", "target", "class", "y", "outcome", "category")
_MOST_CLASSES = 50
_MANY_WORDS = 20


@dataclass(frozen=True, kw_only=True)
class DataGuess:
    """What was guessed and why.

    Args:
        config: A table ``[data]`` that loads.
        reasons: One line for each choice.
    """

    config: DataConfig
    reasons: tuple[str, ...]


@dataclass(kw_only=True)
class _Column:
    """What is collected about a column while the file is read once."""

    name: str
    words: set[str] = field(default_factory=set)
    missing: int = 0
    first_missing: int = 0
    numbers: bool = True
    whole: bool = True

    def add(self, cell: str, line: int) -> None:
        if is_missing(cell):
            self.missing += 1
            self.first_missing = self.first_missing or line
            return
        self.words.add(cell)
        if self.numbers:
            try:
                value = float(cell)
            except ValueError:
                value = math.nan
            self.numbers = abs(value) <= LARGEST
            self.whole = self.whole and self.numbers and value.is_integer()


def guess(data: Path | None, root: Path) -> DataGuess:
    """Guess the table ``[data]`` for a file.

    Args:
        data: A .csv or .npz file, or ``None`` for the built-in digits.
        root: Folder in which ``cu-cert.toml`` will stand; the source is written relative to it where it lies below.

    Raises:
        DataError: The file cannot be read, or no column can serve as id or label.
    """
    if data is None:
        return DataGuess(
            config=DataConfig(), reasons=("source = digits: no --data was given, so the built-in images are used",)
        )
    path = data.absolute()
    below = path.is_relative_to(root.absolute())
    source = (path.relative_to(root.absolute()) if below else path).as_posix()
    match data.suffix.lower():
        case ".csv":
            return _csv(path, source)
        case ".npz":
            return _npz(path, source, root)
        case suffix:
            raise DataError(
                f"{data}: ends in {suffix or 'nothing'}; expected a .csv or .npz file. For another format write a "
                'function that returns (ids, x, y, classes) and set source = "python:module:function"'
            )


def _npz(path: Path, source: str, root: Path) -> DataGuess:
    from cu_cert.data.npz import load

    records = load(DataConfig(source=source), root)
    shape = " x ".join(str(size) for size in records.x.shape[1:])
    return DataGuess(
        config=DataConfig(source=source, classes=records.classes),
        reasons=(
            f"source = {source}: {len(records)} records of {shape} numbers, with ids such as {records.ids[0]!r}"
            if len(records)
            else f"source = {source}",
            f"classes = {_words(records.classes)}: as in the archive {path.name}",
        ),
    )


def _csv(path: Path, source: str) -> DataGuess:
    header, rows = read_rows(path)
    columns = [_Column(name=name) for name in header]
    count = 0
    for row in rows:
        count += 1
        for column, cell in zip(columns, row.cells, strict=True):
            column.add(cell, row.line)
    if not count:
        raise DataError(f"{path}: has a header but no row; expected at least one record")
    reasons = [f"source = {source}: {count} rows, {len(header)} columns"]
    identifier, why = _identifier(path, columns, count)
    reasons.append(f"id_column = {identifier.name}: {why}")
    label, why = _label(path, [column for column in columns if column is not identifier])
    reasons.append(f"label_column = {label.name}: {why}")
    classes = ordered(label.words)
    reasons.append(f"classes = {_words(classes)}: the words of column {label.name}")
    numeric: list[str] = []
    categorical: list[str] = []
    for column in columns:
        if column is identifier or column is label:
            continue
        left_out = _left_out(column, count)
        if left_out:
            reasons.append(f"{column.name} is left out: {left_out}")
        elif column.numbers:
            numeric.append(column.name)
        else:
            categorical.append(column.name)
    if not numeric and not categorical:
        raise DataError(f"{path}: no column is left to learn from; {'; '.join(reasons[4:]) or 'add feature columns'}")
    reasons.append(f"numeric = {_words(tuple(numeric))}: every cell is a number")
    reasons.append(f"categorical = {_words(tuple(categorical))}: words, hashed into 0/1 features")
    config = DataConfig(
        source=source,
        id_column=identifier.name,
        label_column=label.name,
        numeric=tuple(numeric),
        categorical=tuple(categorical),
        classes=classes,
    )
    return DataGuess(config=config, reasons=tuple(reasons))


def _identifier(path: Path, columns: list[_Column], count: int) -> tuple[_Column, str]:
    able = [
        column
        for column in columns
        if len(column.words) == count
        and (column.whole or not column.numbers)
        and column.name.casefold() not in _LABEL_NAMES
    ]
    for column in able:
        if _is_id_name(column.name):
            return column, "its name says so, and no value stands twice"
    if able:
        return able[0], "the first column in which no value stands twice; check that it names a record for good"
    raise DataError(
        f"{path}: no column can be the id: in each a value is missing or stands twice. Add a column that names each "
        "record for good. A row number is no id: it changes when a record is removed"
    )


def _is_id_name(name: str) -> bool:
    plain = name.casefold().replace("-", "_").replace(" ", "_")
    return plain in _ID_NAMES or plain.endswith("_id")


def _label(path: Path, columns: list[_Column]) -> tuple[_Column, str]:
    able = [column for column in columns if 2 <= len(column.words) <= _MOST_CLASSES and not column.missing]
    for name in _LABEL_NAMES:
        for column in able:
            if column.name.casefold() == name:
                return column, f"its name says so; {len(column.words)} classes"
    words = [column for column in able if not column.numbers or column.whole]
    if words:
        return words[-1], f"the last column with 2 to {_MOST_CLASSES} different words; {len(words[-1].words)} classes"
    raise DataError(
        f"{path}: no column can be the label: expected one with 2 to {_MOST_CLASSES} different words and no gap. "
        "Add one, or run `cu-cert init` without --data and fill in [data] by hand"
    )


def _left_out(column: _Column, count: int) -> str:
    if column.missing:
        cells = f"{column.missing} missing cell{'s' if column.missing > 1 else ''}"
        return f"{cells}, first on line {column.first_missing}; fill them and add the column"
    if len(column.words) == 1:
        return "it is the same in every row"
    if _is_id_name(column.name) and len(column.words) > count // 2:
        return "it looks like another id"
    if not column.numbers and len(column.words) > max(_MANY_WORDS, count // 2):
        return "nearly every row has a word of its own, as in free text or names"
    return ""


def _words(names: tuple[str, ...]) -> str:
    shown = toml_value(names[:8])
    return shown if len(names) <= 8 else f"{shown[:-1]}, ...] ({len(names)})"
