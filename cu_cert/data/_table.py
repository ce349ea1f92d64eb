"""Tables: what CSV and Parquet mean alike. Each reads batches of columns; everything after that happens here.

Features are the numeric columns in the order of the project file (a column of fixed-size lists gives as many as its
lists are long), then each categorical column as ``buckets`` 0/1 features, then those of the column of texts
(:mod:`cu_cert.data._text`). With ``[data] missing`` each feature column, but no sequence of tokens, has one more 0/1
feature behind its own: 1 where the record has no value there, and then its own features are 0. So the width depends on
the project file and the file's schema alone, never on a record, and nothing is filled in from others.
"""

import difflib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cu_cert.data._config import DataConfig, ordered
from cu_cert.data._limits import check_size
from cu_cert.data._names import NO_ROW_NUMBERS, Names
from cu_cert.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cu_cert.data._text import TextReader
    from cu_cert.records import Records

    Values = npt.NDArray[np.float64]

# numpy is imported where it is used: `cu-cert init` reads the same files and shall answer at once.
LARGEST: Final = (2 - 2**-23) * 2.0**127
"""Features are float32; a larger number would become infinite."""

Cells = Sequence[str | None]
"""Words of a column; ``None`` where there is no value."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some rows of a table.

    Args:
        file: The file they come from.
        unit: ``line`` or ``row``: how the file's rows are counted.
        numbers: The number of each row, from 1.
        columns: Each column that has a role: words, or an array (n,) or (n, k) of float64 in which NaN is no value.
        content: Returns the bytes of all cells of a row, whichever have a role.
    """

    file: Path
    unit: str
    numbers: Sequence[int]
    columns: "Mapping[str, Cells | Values]"
    content: Callable[[int], bytes]

    def place(self, row: int) -> str:
        """Return where a row of this batch stands, to begin a message with."""
        number = self.numbers[row]
        return f"{self.file}:{number}" if self.unit == "line" else f"{self.file}: row {number}"

    def spot(self, row: int) -> str:
        """Return where a row stands, within a message."""
        number = self.numbers[row]
        return f"on line {number}" if self.unit == "line" else f"in row {number} of {self.file.name}"


def cells_content(cells: Sequence[str | None]) -> bytes:
    """Return the cells of a row as bytes from which they can be told again."""
    return json.dumps(cells, ensure_ascii=False).encode("utf-8", "surrogatepass")


def is_missing(cell: str | None) -> bool:
    """Return whether a cell holds no value: absent, empty, or a NaN in any spelling."""
    return not cell or cell.casefold() == "nan"


def bucket_of(column: str, word: str, buckets: int) -> int:
    """Return which of the 0/1 features of a categorical column a word sets.

    The bucket is a hash of column and word alone. A vocabulary, or an order of first sight, would be learned from the
    records, and a deleted record would live on in the layout of every later model.

    Args:
        column: Name of the column, so that equal words of two columns fall apart.
        word: The cell.
        buckets: At least 1.
    """
    digest = hashlib.blake2b(f"{column}\x1f{word}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % buckets


def one_hot(column: str, word: str, buckets: int) -> list[float]:
    """Return ``word`` as ``buckets`` 0/1 features; see :func:`bucket_of`."""
    features = [0.0] * buckets
    features[bucket_of(column, word, buckets)] = 1.0
    return features


def roles(config: DataConfig) -> tuple[str, ...]:
    """Return the columns that ``[data]`` names: id, label, text, numeric, categorical."""
    own = (config.id_column, config.label_column, config.text_column)
    return (*(name for name in own if name), *config.numeric, *config.categorical)


def text_width(config: DataConfig) -> int:
    """Return how many features of a record come from its text."""
    found = config.text_features
    if found is None:
        return 0
    return found.width + (1 if config.missing and found.kind != "tokens" else 0)


def rows_at_once(config: DataConfig, most: int) -> int:
    """Return how many rows a batch may have at most, so that the features of its texts stay below 256 MiB."""
    return max(1, min(most, 2**26 // max(1, text_width(config))))


def check_columns(where: str, header: Sequence[str], config: DataConfig, *, hint: str = "") -> None:
    """Check that the columns of ``[data]`` are there, and that at least one of them is a feature.

    Args:
        where: The header's place, to begin a message with.
        header: The names of all columns.
        config: The table ``[data]``.
        hint: Put at the end of the message.

    Raises:
        DataError: One is not there.
    """
    if not config.numeric and not config.categorical and not config.text_column:
        raise DataError(
            f"{where}: [data] numeric, categorical and text_column name no column; expected at least one feature. "
            f"The columns are {', '.join(header)}"
        )
    for name in roles(config):
        if name not in header:
            close = difflib.get_close_matches(name, header, n=1)
            near = f"did you mean {close[0]!r}? " if close else ""
            raise DataError(f"{where}: has no column {name!r}; {near}The columns are {', '.join(header)}{hint}")


def read_table(where: Path, config: DataConfig, root: Path, batches: Iterable[Batch]) -> "Records":
    """Build records from the batches of a table.

    Args:
        where: The table, for messages.
        config: The table ``[data]``; its columns are in every batch.
        root: Folder of ``cu-cert.toml``.
        batches: The rows.

    Raises:
        DataError: A cell is missing or not a number, an id stands twice, or there is no row.
    """
    import numpy as np

    from cu_cert.data._rows import assemble

    reader = _Reader(config, root)
    blocks = []
    held = 0
    for batch in batches:
        check_size(str(where), held + 4 * len(batch.numbers) * text_width(config))
        blocks.append(reader.block(batch))
        held += blocks[-1].nbytes
        check_size(str(where), held)
    if not reader.ids:
        raise DataError(f"{where}: has no row; expected at least one record")
    reader.names.finish()
    classes = config.classes or ordered(set(reader.labels))
    return assemble(str(where), reader.ids, np.concatenate(blocks), reader.labels, declared=classes)


class _Reader:
    """Turns batches into ids, labels and blocks of features."""

    def __init__(self, config: DataConfig, root: Path) -> None:
        self.config = config
        self.names = Names(config, root)
        self.ids: list[str] = []
        self.labels: list[str] = []
        self._first: dict[str, str] = {}
        self._sentinels = [float(word) for word in config.missing if _is_number(word)]
        self._buckets: dict[tuple[str, str], int] = {}
        self._texts: TextReader | None = None

    def block(self, batch: Batch) -> "npt.NDArray[np.float32]":
        """Return the features of a batch, shape (n, width), and keep its ids and labels."""
        import numpy as np

        begin = len(self.ids)
        for row in range(len(batch.numbers)):
            self._add_id(batch, row)
        ids = self.ids[begin:]
        label = str(self.config.label_column)
        for row, word in enumerate(self._words(batch, label)):
            if word is None:
                raise self._gap(batch, row, ids, label, missing_helps=False)
            self.labels.append(word)
        parts: list[Any] = []
        for name in self.config.numeric:
            parts += self._with_gaps(batch, ids, name, self._numbers(batch, ids, name))
        for name in self.config.categorical:
            parts += self._with_gaps(batch, ids, name, self._one_hot(batch, name))
        if self.config.text_column is not None:
            parts += self._text(batch, ids, self.config.text_column)
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def _add_id(self, batch: Batch, row: int) -> None:
        column = self.config.id_column
        if column is None:
            identifier = self.names.name(lambda: batch.content(row))
        else:
            cell = batch.columns[column][row]
            if is_missing(cell):
                raise DataError(
                    f"{batch.place(row)}: no id in column {column!r}; expected one in every row. {NO_ROW_NUMBERS}"
                )
            identifier = str(cell)
        if identifier in self._first:
            raise DataError(
                f"{batch.place(row)}: id {identifier!r} stands twice (first {self._first[identifier]}); ids must be "
                "unique. If a person may have several rows, number them, for example 'person-7/2'"
            )
        self._first[identifier] = batch.spot(row)
        self.ids.append(identifier)

    def _words(self, batch: Batch, name: str) -> list[str | None]:
        """Return the words of a column, ``None`` where there is no value."""
        none = set(self.config.missing)
        return [None if is_missing(cell) or cell in none else cell for cell in batch.columns[name]]

    def _numbers(self, batch: Batch, ids: Sequence[str], name: str) -> "Values":
        """Return a numeric column, shape (n, k); NaN where there is no value."""
        import numpy as np

        cells = batch.columns[name]
        if isinstance(cells, np.ndarray):
            values = cells.astype(np.float64)
        else:
            none = set(self.config.missing)
            values = np.array(
                [math.nan if is_missing(cell) or cell in none else _float(str(cell)) for cell in cells], dtype=float
            )
        if self._sentinels and values.ndim == 1:
            values[np.isin(values, self._sentinels)] = math.nan
        values = values.reshape(len(values), -1)
        wrong = np.flatnonzero((np.abs(values) > LARGEST).any(axis=1))
        if len(wrong):
            row = int(wrong[0])
            cell = cells[row]
            first = float(values[row][np.abs(values[row]) > LARGEST][0])
            shown = repr(cell if isinstance(cell, str) else first)
            raise DataError(
                f"{batch.place(row)}: id {ids[row]!r} has {shown} in column {name!r}; expected a finite number. "
                "List columns of words under [data] categorical"
            )
        return values

    def _one_hot(self, batch: Batch, name: str) -> "Values":
        """Return a categorical column, shape (n, buckets); NaN in every feature where there is no value."""
        import numpy as np

        words = self._words(batch, name)
        values = np.zeros((len(words), self.config.buckets))
        for row, word in enumerate(words):
            if word is None:
                values[row] = math.nan
                continue
            at = self._buckets.get((name, word))
            if at is None:
                at = self._buckets[name, word] = bucket_of(name, word, self.config.buckets)
            values[row, at] = 1.0
        return values

    def _text(self, batch: Batch, ids: Sequence[str], name: str) -> "list[npt.NDArray[np.float32]]":
        """Return the features of the texts and, for bags when gaps are allowed, whether there is one."""
        import numpy as np

        from cu_cert.data._text import TextReader

        features = self.config.text_features
        assert features is not None  # there is a column of texts
        if self._texts is None:
            self._texts = TextReader(features)
        none = set(self.config.missing)
        # A text of the one word "nan" is a text.
        texts = [None if not cell or not cell.strip() or cell in none else cell for cell in batch.columns[name]]
        if None in texts and not self.config.missing:
            raise self._gap(batch, texts.index(None), ids, name)
        found = [self._texts.read([text or "" for text in texts])]
        if self.config.missing and features.kind != "tokens":
            found.append(np.array([[text is None] for text in texts], dtype=np.float32))
        return found

    def _with_gaps(self, batch: Batch, ids: Sequence[str], name: str, values: "Values") -> "list[Values]":
        """Return the features of a column and, when gaps are allowed, whether there is one."""
        import numpy as np

        gaps = np.isnan(values)
        gap: npt.NDArray[np.bool_] = gaps.any(axis=1).reshape(-1, 1)
        if self.config.missing:
            filled: Values = np.where(gap, 0.0, values)
            return [filled, gap.astype(np.float64)]
        if gap.any():
            raise self._gap(batch, int(np.flatnonzero(gap)[0]), ids, name)
        return [values]

    def _gap(self, batch: Batch, row: int, ids: Sequence[str], column: str, *, missing_helps: bool = True) -> DataError:
        way = "take the column out of [data], or allow gaps with [data] missing" if missing_helps else "correct it"
        return DataError(
            f"{batch.place(row)}: id {ids[row]!r} has no value in column {column!r}; fill the cell, drop the record, "
            f"or {way}"
        )


def _float(cell: str) -> float:
    """Return a cell as a number; what is none becomes infinite, which no feature may be."""
    try:
        value = float(cell)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(value) else value


def _is_number(word: str) -> bool:
    return math.isfinite(_float(word))
