"""A first guess at the columns of a table, for ``cu-cert init``."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cu_cert.data._config import DataConfig, ordered
from cu_cert.data._guess import DataGuess, listed
from cu_cert.data._table import LARGEST, is_missing
from cu_cert.errors import DataError

_ID_NAMES = ("id", "uuid", "guid", "key", "record_id", "row_id", "user_id", "person_id")
_LABEL_NAMES = ("label", "target", "class", "y", "outcome", "category")
_TEXT_NAMES = ("text", "review", "comment", "body", "content", "message", "tweet", "sentence", "document", "post")
_MOST_CLASSES = 50
_MANY_WORDS = 20
_GAP_WORDS: Final = ("?", "NA", "N/A", "null", "NULL", "\\N")
"""Words that commonly stand for no value."""


@dataclass(kw_only=True)
class _Column:
    """What is collected about a column while the file is read once."""

    name: str
    words: set[str] = field(default_factory=set)
    missing: int = 0
    marks: Counter[str] = field(default_factory=Counter)
    first_missing: int = 0
    numbers: bool = True
    whole: bool = True

    def add(self, cell: str | None, number: int) -> None:
        if cell is None or is_missing(cell):
            self.missing += 1
            self.first_missing = self.first_missing or number
            return
        if cell in _GAP_WORDS:
            self.marks[cell] += 1
            return
        self.words.add(cell)
        if self.numbers:
            try:
                value = float(cell)
            except ValueError:
                value = math.nan
            self.numbers = abs(value) <= LARGEST
            self.whole = self.whole and self.numbers and value.is_integer()


def names_for_bare_file(first: Sequence[str]) -> tuple[str, ...]:
    """Return names for the columns of a CSV file without a header; empty when its first line is a header.

    Args:
        first: The first line's cells. A header names its columns, and hardly with numbers.
    """
    if not any(_is_number(cell) for cell in first):
        return ()
    return tuple(f"c{number}" for number in range(1, len(first) + 1))


def guess_table(
    path: Path,
    source: str,
    header: Sequence[str],
    rows: Iterable[tuple[int, Sequence[str | None]]],
    *,
    columns: tuple[str, ...] = (),
    lists: Sequence[str] = (),
    unread: Mapping[str, str] | None = None,
    unit: str = "on line",
    read: str = "",
) -> DataGuess:
    """Guess which column is what.

    Args:
        path: The table.
        source: How ``[data] source`` names it.
        header: The names of its columns.
        rows: The number of each row and its cells, as many as the header has.
        columns: The header again when it was made up for a file without one.
        lists: Further columns, each of which holds as many numbers in every row.
        unread: Further columns that cannot be used, and why.
        unit: How a row is pointed to: "on line" or "in row".
        read: What to say of the rows when not all are handed over.

    Raises:
        DataError: There is no row, or no column can serve as label or as feature.
    """
    found = [_Column(name=name) for name in header]
    count = 0
    for number, cells in rows:
        count += 1
        for column, cell in zip(found, cells, strict=True):
            column.add(cell, number)
    if not count:
        raise DataError(f"{path}: has no row; expected at least one record")
    reasons = [f"source = {source}: {count} rows{read}, {len(header) + len(lists) + len(unread or {})} columns"]
    if columns:
        reasons.append(f"columns = {listed(columns)}: the first line holds numbers, so there is no header; rename them")
    texts = [column for column in found if _is_text(column, count)]
    identifier, why = _identifier([column for column in found if column not in texts], count)
    reasons.append(f"id_column = {identifier.name}: {why}" if identifier else f"ids = content: {why}")
    label, why = _label(path, [column for column in found if column is not identifier])
    reasons.append(f"label_column = {label.name}: {why}")
    classes = ordered(label.words)
    reasons.append(f"classes = {listed(classes)}: the words of column {label.name}")
    missing = _missing([column for column in found if column not in (identifier, label)], reasons)
    numeric: list[str] = []
    categorical: list[str] = []
    left = dict(unread or {})
    for column in found:
        if column is identifier or column is label:
            continue
        left_out = _left_out(column, count, unit, gaps=bool(missing))
        if left_out:
            left[column.name] = left_out
        elif column.numbers:
            numeric.append(column.name)
        else:
            categorical.append(column.name)
    numeric += lists
    text = _text([column for column in texts if column is not label], sure=not numeric and not categorical)
    if text:
        left |= dict.fromkeys([*numeric, *categorical], "a text is learned from alone; add it if it belongs there")
        del left[text.name]
        reasons.append(
            f"text_column = {text.name}: every row has a text of its own; its words are hashed. Under [training], "
            "standardize = false suits them"
        )
        numeric, categorical = [], []
    out = [f"{name} is left out: {why}" for name, why in left.items()]
    if not (text or numeric or categorical):
        raise DataError(f"{path}: no column is left to learn from; {'; '.join(out) or 'add feature columns'}")
    reasons += out
    if not text:
        reasons.append(f"numeric = {listed(numeric)}: every cell is a number{' or missing' if missing else ''}")
        reasons.append(f"categorical = {listed(categorical)}: words, hashed into 0/1 features")
    config = DataConfig(
        source=source,
        ids=None if identifier else "content",
        id_column=identifier.name if identifier else None,
        label_column=label.name,
        numeric=tuple(numeric),
        categorical=tuple(categorical),
        missing=missing,
        text_column=text.name if text else None,
        columns=columns,
        classes=classes,
    )
    return DataGuess(config=config, reasons=tuple(reasons))


def _is_text(column: _Column, count: int) -> bool:
    """Return whether nearly every row holds words of its own, several in a cell."""
    if column.numbers or len(column.words) <= count // 2:
        return False
    seen = list(column.words)[:1000]
    return sum(len(word.split()) for word in seen) >= 4 * len(seen)


def _text(columns: list[_Column], *, sure: bool) -> _Column | None:
    """Return the column to learn from as text: the one whose name says so, else the longest if nothing else is left."""
    named = next((column for name in _TEXT_NAMES for column in columns if column.name.casefold() == name), None)
    if named or not sure or not columns:
        return named
    return max(columns, key=lambda column: sum(len(word) for word in column.words))


def _missing(columns: list[_Column], reasons: list[str]) -> tuple[str, ...]:
    """Return the words that stand for no value, and say where they were seen."""
    where = [column for column in columns if column.marks]
    words = tuple(word for word in _GAP_WORDS if any(word in column.marks for column in where))
    if words:
        cells = sum(column.marks.total() for column in where)
        reasons.append(
            f"missing = {listed(words)}: in {cells} cells of {', '.join(column.name for column in where)}; they count "
            "as no value, and a 0/1 feature says so"
        )
    return words


def _identifier(columns: list[_Column], count: int) -> tuple[_Column | None, str]:
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
    return None, (
        "no column can be the id (in each a value is missing or stands twice), so a digest of its cells names each "
        "record; better add a column that names each record for good"
    )


def _is_id_name(name: str) -> bool:
    plain = name.casefold().replace("-", "_").replace(" ", "_")
    return plain in _ID_NAMES or plain.endswith("_id")


def _label(path: Path, columns: list[_Column]) -> tuple[_Column, str]:
    able = [
        column
        for column in columns
        if 2 <= len(column.words) <= _MOST_CLASSES and not column.missing and not column.marks
    ]
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


def _left_out(column: _Column, count: int, unit: str, *, gaps: bool) -> str:
    if not column.words:
        return "it holds no value"
    if column.missing and not gaps:
        cells = f"{column.missing} missing cell{'s' if column.missing > 1 else ''}"
        return f"{cells}, first {unit} {column.first_missing}; fill them and add the column, or allow gaps with missing"
    if len(column.words) == 1:
        return "it is the same in every row"
    if _is_id_name(column.name) and len(column.words) > count // 2:
        return "it looks like another id"
    if not column.numbers and len(column.words) > max(_MANY_WORDS, count // 2):
        return "nearly every row has a word of its own, as in free text or names"
    return ""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
