"""``.parquet``: the same table as in CSV, with types; a file, or a folder of part files.

Read piece by piece: what is held beyond the features themselves is one piece of the columns that ``[data]`` names.
"""

import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cu_cert.data._config import DataConfig
from cu_cert.data._guess import DataGuess
from cu_cert.data._guess_table import guess_table
from cu_cert.data._limits import MOST_BYTES, check_size
from cu_cert.data._table import Batch, cells_content, check_columns, read_table, roles, text_width
from cu_cert.errors import DataError, EnvironmentProblem
from cu_cert.records import Records

_MOST_CELLS: Final = 2**22
"""Numbers of one piece: 32 MiB as float64."""

_MOST_ROWS: Final = 2**16
_MOST_FEATURES: Final = 2**24
_GUESSED_ROWS: Final = 200_000


@dataclass(frozen=True)
class _Part:
    """An open part file.

    Args:
        path: Where it is.
        file: The ``pyarrow.parquet.ParquetFile``.
        types: The type of each column.
    """

    path: Path
    file: Any
    types: dict[str, Any]


def load(config: DataConfig, root: Path) -> Records:
    """Load a Parquet file, or all Parquet files of a folder.

    Args:
        config: The table ``[data]``.
        root: Folder of ``cu-cert.toml``.

    Raises:
        DataError: A file is missing or damaged, a column is not there or of a type that cannot be used, a cell is
            missing or not finite, or an id stands twice.
        EnvironmentProblem: pyarrow is not installed.
    """
    path = root / config.path
    parts = _files(path)
    return read_table(path, config, root, _batches(path, parts, config))


def guess(path: Path, source: str, root: Path) -> DataGuess:
    """Guess the table ``[data]`` for a Parquet file or folder.

    Args:
        path: The file or folder.
        source: How ``[data] source`` names it.
        root: Folder of ``cu-cert.toml``; every guess is called alike, and this one reads nothing there.

    Raises:
        DataError: It cannot be read, or no column can serve as label.
        EnvironmentProblem: pyarrow is not installed.
    """
    files = _files(path)
    with _open(files[0]) as first:
        plain = [name for name, kind in first.types.items() if _is_word(kind)]
        lists = [name for name, kind in first.types.items() if _is_list_of_numbers(kind)]
        others = {name: kind for name, kind in first.types.items() if name not in plain and name not in lists}
        total = sum(_rows_of(file) for file in files)
    read = "" if total <= _GUESSED_ROWS else f" (guessed from the first {_GUESSED_ROWS} of {total})"
    return guess_table(
        path,
        source,
        plain,
        _first_rows(files, plain),
        lists=lists,
        unread={name: f"type {kind} cannot be used" for name, kind in others.items()},
        unit="in row",
        read=read,
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith((".", "_")))
    for entry in entries:
        if entry.is_dir():
            raise DataError(
                f"{path}: holds the folder {entry.name!r}; expected part files alone. Columns that stand in the names "
                "of folders are not read: write them into the files"
            )
    files = [entry for entry in entries if entry.suffix.lower() == ".parquet"]
    if not files:
        raise DataError(f"{path}: is a folder without a .parquet file; expected part files")
    return files


@contextmanager
def _open(path: Path, *, texts: Sequence[str] = ()) -> Iterator[_Part]:
    """Open a part file; whatever goes wrong while it is read becomes an error that names it."""
    try:
        pa = importlib.import_module("pyarrow")
        pq = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise EnvironmentProblem(
            f"{path}: reading Parquet needs pyarrow, which is not installed; pip install 'cu-cert[parquet]'"
        ) from None
    if path.is_dir():
        raise DataError(f"{path}: is a folder; expected a .parquet file")
    try:
        # Words that repeat stay a dictionary, so a long word in many rows takes no memory for each of them.
        with pq.ParquetFile(path, read_dictionary=list(texts)) as file:
            schema = file.schema_arrow
            for name in schema.names:
                if not name or schema.names.count(name) > 1:
                    raise DataError(f"{path}: column name {name!r} is empty or stands twice; expected distinct names")
            types = {field.name: _undictionary(field.type) for field in schema}
            yield _Part(path, file, types)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno:
            raise DataError(f"{path}: cannot be read ({os.strerror(error.errno)}); expected a Parquet file") from None
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{path}: is not a Parquet file, or a damaged one ({reason}); write or fetch it again"
        ) from None


def _rows_of(path: Path) -> int:
    with _open(path) as part:
        return int(part.file.metadata.num_rows)


def _batches(path: Path, files: Sequence[Path], config: DataConfig) -> Iterator[Batch]:
    kinds: dict[str, Any] = {}
    total = 0
    for file in files:
        with _open(file) as part:
            check_columns(str(file), list(part.types), config)
            wanted = roles(config) if config.id_column else tuple(part.types)
            width = _check_types(file, part.types, config, wanted)
            for name in wanted:
                known = kinds.setdefault(name, part.types.get(name))
                if known != part.types.get(name):
                    raise DataError(
                        f"{file}: column {name!r} has type {part.types.get(name)}, but {known} in {files[0].name}; "
                        "expected one type in all parts"
                    )
            total += int(part.file.metadata.num_rows) * width * 4
            check_size(str(path), total)
            _check_unpacked(part)
            texts = [name for name in wanted if _is_text(part.types[name])]
        rows = max(1, min(_MOST_ROWS, _MOST_CELLS // width))
        with _open(file, texts=texts) as part:
            yield from _read(part, wanted, config, rows)


def _read(part: _Part, wanted: Sequence[str], config: DataConfig, rows: int) -> Iterator[Batch]:
    begin = 0
    for piece in part.file.iter_batches(batch_size=rows, columns=list(wanted)):
        columns = {name: _column(piece, name) for name in wanted}
        if not piece.num_rows:
            continue
        yield _batch(part.path, columns, config, range(begin + 1, begin + 1 + piece.num_rows))
        begin += piece.num_rows


def _column(piece: Any, name: str) -> Any:
    """Return a column of a piece, checked: a damaged file may hold codes without a word, or text that is no UTF-8."""
    column = piece.column(piece.schema.get_field_index(name))
    column.validate(full=True)
    return column


def _batch(path: Path, columns: dict[str, Any], config: DataConfig, numbers: range) -> Batch:
    cells: dict[str, Any] = {
        name: _numbers(columns[name]) if name in config.numeric else _words(columns[name]) for name in roles(config)
    }
    # All columns of the file, in its order: what stands in a row must not depend on which columns have a role.
    whole = [] if config.id_column else [_words(column) for column in columns.values()]
    return Batch(
        file=path,
        unit="row",
        numbers=numbers,
        columns=cells,
        content=lambda row: cells_content([words[row] for words in whole]),
    )


def _check_types(path: Path, types: dict[str, Any], config: DataConfig, wanted: Sequence[str]) -> int:
    """Check that each column has a type that fits its role; return the number of features of a record."""
    gap = 1 if config.missing else 0
    width = len(config.categorical) * (config.buckets + gap) + text_width(config)
    for name in wanted:
        kind = types[name]
        if name in config.numeric:
            if not _is_number(kind) and not _is_list_of_numbers(kind):
                raise DataError(
                    f"{path}: column {name!r} has type {kind}; expected numbers, or lists of numbers of one fixed "
                    f"length. {_advice(kind)}"
                )
            width += (kind.list_size if _is_list_of_numbers(kind) else 1) + gap
        elif name in roles(config) and not _is_word(kind):
            raise DataError(f"{path}: column {name!r} has type {kind}; expected text or numbers. {_advice(kind)}")
        elif not _is_plain(kind) and not _is_list_of_numbers(kind):
            raise DataError(
                f'{path}: column {name!r} has type {kind}, which ids = "content" cannot take a digest of; name an '
                "id_column, or write the table without this column"
            )
    if width > _MOST_FEATURES:
        raise DataError(f"{path}: a record would have {width} features; expected at most {_MOST_FEATURES}")
    return width


def _check_unpacked(part: _Part) -> None:
    """Check how much a row group takes before it is decoded; a small file may unpack to a large one.

    The sizes of single columns are not asked for: where they are damaged, pyarrow ends the process.
    """
    metadata = part.file.metadata
    size = max((int(metadata.row_group(at).total_byte_size) for at in range(metadata.num_row_groups)), default=0)
    if size > MOST_BYTES:
        raise DataError(
            f"{part.path}: a row group unpacks to {size / 2**30:.1f} GiB; expected at most "
            f"{MOST_BYTES / 2**30:.0f} GiB. Is the file damaged? Otherwise write it in smaller row groups"
        )


def _numbers(column: Any) -> npt.NDArray[np.float64]:
    """Return a column of numbers or lists, shape (n,) or (n, k); NaN where there is no value."""
    pa = importlib.import_module("pyarrow")
    column = _decoded(column)
    if pa.types.is_fixed_size_list(column.type):
        there = np.asarray(column.is_valid())
        values = np.full((len(column), column.type.list_size), np.nan)
        values[there] = _numbers(column.flatten()).reshape(int(there.sum()), column.type.list_size)
        return values
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    values = column.to_numpy(zero_copy_only=False).astype(np.float64)
    values[np.asarray(column.is_null())] = np.nan
    return np.asarray(values, dtype=np.float64)


def _words(column: Any) -> list[str | None]:
    """Return a column as words, as a CSV file would hold them."""
    pa = importlib.import_module("pyarrow")
    if pa.types.is_dictionary(column.type):
        words = _words(column.dictionary)
        return [None if at is None else words[at] for at in column.indices.to_pylist()]
    if _is_time(column.type):
        # As a count: Python's own times have no nanoseconds.
        column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
    return [_word(value) for value in column.to_pylist()]


def _word(value: object) -> str | None:
    match value:
        case None:
            return None
        case str():
            return value.strip()
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))  # 1.0 stands for the whole number 1 wherever a column with gaps was made float
        case float():
            return repr(value)
        case bytes():
            return value.hex()
        case list():
            return " ".join(str(_word(item)) for item in value)
        case int() | Decimal():
            return str(value)
    raise AssertionError(f"a value of type {type(value).__name__} in a column that was checked")


def _first_rows(files: Iterable[Path], plain: Sequence[str]) -> Iterator[tuple[int, list[str | None]]]:
    number = 0
    for file in files:
        with _open(file) as part:
            for name in plain:
                if name not in part.types:
                    raise DataError(f"{file}: has no column {name!r}; expected the columns of the first part in all")
            for piece in part.file.iter_batches(batch_size=_MOST_ROWS, columns=list(plain)):
                columns = [_words(_column(piece, name)) for name in plain]
                for row in range(piece.num_rows):
                    number += 1
                    if number > _GUESSED_ROWS:
                        return
                    yield number, [column[row] for column in columns]


def _undictionary(kind: Any) -> Any:
    return kind.value_type if importlib.import_module("pyarrow").types.is_dictionary(kind) else kind


def _decoded(column: Any) -> Any:
    is_dictionary = importlib.import_module("pyarrow").types.is_dictionary(column.type)
    return column.dictionary_decode() if is_dictionary else column


def _is_number(kind: Any) -> bool:
    of = importlib.import_module("pyarrow").types
    return bool(of.is_integer(kind) or of.is_floating(kind) or of.is_boolean(kind) or of.is_decimal(kind))


def _is_text(kind: Any) -> bool:
    of = importlib.import_module("pyarrow").types
    return bool(of.is_string(kind) or of.is_large_string(kind))


def _is_time(kind: Any) -> bool:
    return bool(importlib.import_module("pyarrow").types.is_temporal(kind))


def _is_word(kind: Any) -> bool:
    """Whether the values of a type can be ids, class names or words."""
    return _is_number(kind) or _is_text(kind)


def _is_plain(kind: Any) -> bool:
    """Whether the values of a type are single words, numbers, times or strings of bytes."""
    of = importlib.import_module("pyarrow").types
    return _is_word(kind) or _is_time(kind) or bool(of.is_binary(kind))


def _is_list_of_numbers(kind: Any) -> bool:
    of = importlib.import_module("pyarrow").types
    return bool(of.is_fixed_size_list(kind)) and kind.list_size > 0 and _is_number(kind.value_type)


def _advice(kind: Any) -> str:
    of = importlib.import_module("pyarrow").types
    if of.is_list(kind) or of.is_large_list(kind):
        return "Lists of any length have no fixed place for a number: cast the column to pyarrow.list_(float32, LENGTH)"
    if of.is_nested(kind):
        return "Write what is inside as columns of their own"
    if _is_text(kind):
        return "List columns of words under [data] categorical"
    return "Cast the column before it is written"
