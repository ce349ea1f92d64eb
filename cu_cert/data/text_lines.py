"""``.jsonl``: one record a line, a JSON object in UTF-8; also gzipped, and folders of such files.

The fields that ``[data]`` names are single values: text, numbers (taken as they are written), true, false or null. All
other fields may hold anything and are not read, but for a digest where records are named by content.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn, cast

from cu_cert.data._config import DataConfig
from cu_cert.data._guess import DataGuess
from cu_cert.data._guess_table import guess_table
from cu_cert.data._limits import MOST_BYTES
from cu_cert.data._table import Batch, check_columns, read_table, roles, rows_at_once
from cu_cert.errors import DataError

if TYPE_CHECKING:
    from cu_cert.records import Records

MOST_LINE: Final = 2**22
"""Bytes of a line, at most: a longer one would be held in memory several times before anybody could object."""

_MOST_ROWS: Final = 2**14
_MOST_BATCH: Final = 2**24
"""Bytes of the lines of a batch, at most (but for its last line)."""
_GUESSED_ROWS: Final = 20_000
_MOST_FIELDS: Final = 4096
_SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_HELD_OUT: Final = ("test/", "testing/", "val/", "valid/", "validation/")
_EXPECTED: Final = "expected a JSON object on every line"


@dataclass(frozen=True)
class Line:
    """A line of a file.

    Args:
        number: From 1.
        size: Its bytes.
        fields: The object that it holds; numbers stand as they are written.
    """

    number: int
    size: int
    fields: dict[str, object]


def load(config: DataConfig, root: Path) -> "Records":
    """Load a file of JSON lines, or all such files of a folder in the order of their names.

    Args:
        config: The table ``[data]``.
        root: Folder of ``cu-cert.toml``.

    Raises:
        DataError: A file is missing or malformed, a field is not there or holds more than one value, or an id stands
            twice.
    """
    path = root / config.path
    return read_table(path, config, root, _batches(_files(path), config))


def guess(path: Path, source: str, root: Path) -> DataGuess:
    """Guess the table ``[data]`` for JSON lines.

    Args:
        path: The file or folder.
        source: How ``[data] source`` names it.
        root: Folder of ``cu-cert.toml``; every guess is called alike, and this one reads nothing there.

    Raises:
        DataError: A file cannot be read, or no field can serve as label.
    """
    lines: list[Line] = []
    more = False
    for file in _files(path):
        for line in read_lines(file):
            more = len(lines) == _GUESSED_ROWS
            if more:
                break
            lines.append(replace(line, number=len(lines) + 1))
        if more:
            break
    if not lines:
        raise DataError(f"{path}: has no line; {_EXPECTED}")
    names = list(dict.fromkeys(name for line in lines for name in line.fields))
    odd = {
        name: "it holds lists or objects"
        for name in names
        if any(isinstance(line.fields.get(name), list | dict) for line in lines)
    }
    plain = [name for name in names if name not in odd]
    rows = ((line.number, [_word(line.fields.get(name)) for name in plain]) for line in lines)
    unit = "on line" if path.is_file() else "in record"
    read = f" (the first {_GUESSED_ROWS} were read)" if more else ""
    found = guess_table(path, source, plain, rows, unread=odd, unit=unit, read=read)
    config = found.config
    ids = [str(line.fields.get(config.id_column)) for line in lines] if config.id_column else []
    held = next((start for start in _HELD_OUT if _splits(ids, start)), None)
    if held is None:
        return found
    reason = f"holdout = {held}: so begin the ids of the usual test set"
    return DataGuess(config=replace(config, holdout=held), reasons=(*found.reasons, reason))


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file; empty ones are skipped.

    Args:
        path: The file.

    Raises:
        DataError: The file cannot be read, or a line is too long, is not UTF-8 or holds something else than an object
            with distinct fields.
    """
    with _open(path) as stream:
        number = read = 0
        while raw := stream.readline(MOST_LINE + 1):
            number += 1
            read += len(raw)
            where = f"{path}:{number}"
            if len(raw) > MOST_LINE:
                raise DataError(f"{where}: is longer than {MOST_LINE} bytes; expected one record a line")
            if read > MOST_BYTES:
                raise DataError(
                    f"{where}: more than {MOST_BYTES >> 30} GiB of text stand before; expected a smaller file"
                )
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if raw.strip():
                yield Line(number, len(raw), _parse(where, raw))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(entry for entry in path.iterdir() if entry.name.lower().endswith(_SUFFIXES) and entry.is_file())
    if not files:
        raise DataError(f"{path}: is a folder without a file that ends in {', '.join(_SUFFIXES)}; expected JSON lines")
    return files


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Open a file, gzipped or not; whatever goes wrong while it is read becomes an error that names it."""
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: is not a regular file; expected JSON lines")
        with path.open("rb") as raw:
            if raw.read(2) == b"\x1f\x8b":
                raw.seek(0)
                with gzip.open(raw, "rb") as stream:
                    yield cast(BinaryIO, stream)
            else:
                raw.seek(0)
                yield raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: is not a gzip file, or a damaged one ({error}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected JSON lines") from None


def _parse(where: str, raw: bytes) -> dict[str, object]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} of the line is not UTF-8; save the file as UTF-8") from None
    try:
        found = json.loads(
            text, object_pairs_hook=_distinct, parse_int=str, parse_float=str, parse_constant=_no_constant
        )
    except RecursionError:
        raise DataError(f"{where}: lists or objects lie too deep in one another; {_EXPECTED}") from None
    except json.JSONDecodeError as error:
        start = text.lstrip()[:1]
        hint = ". The file looks like one JSON array: write one object a line" if start == "[" else ""
        raise DataError(f"{where}: is not JSON ({error.msg}, column {error.colno}); {_EXPECTED}{hint}") from None
    except ValueError as error:
        raise DataError(f"{where}: {error}; {_EXPECTED}") from None
    if not isinstance(found, dict):
        raise DataError(f"{where}: holds {_kind(found)}; {_EXPECTED}")
    return found


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} stands twice in one object")
    if len(found) > _MOST_FIELDS:
        raise ValueError(f"an object has {len(found)} fields, more than {_MOST_FIELDS}")
    return found


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON; write null for a missing value")


def _kind(value: object) -> str:
    match value:
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a single value"


def _word(value: object) -> str | None:
    """Return a value as a cell of a table; lists and objects have none."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case _:
            return None


def _batches(files: Sequence[Path], config: DataConfig) -> Iterator[Batch]:
    most = rows_at_once(config, _MOST_ROWS)
    for file in files:
        lines: list[Line] = []
        size = 0
        for line in read_lines(file):
            if not lines:
                check_columns(f"{file}:{line.number}", list(line.fields), config)
            lines.append(line)
            size += line.size
            if len(lines) == most or size > _MOST_BATCH:
                yield _batch(file, lines, config)
                lines, size = [], 0
        if lines:
            yield _batch(file, lines, config)


def _batch(file: Path, lines: list[Line], config: DataConfig) -> Batch:
    return Batch(
        file=file,
        unit="line",
        numbers=[line.number for line in lines],
        columns={name: [_cell(file, line, name, config) for line in lines] for name in roles(config)},
        content=lambda row: _content(file, lines[row]),
    )


def _content(file: Path, line: Line) -> bytes:
    try:
        return json.dumps(line.fields, sort_keys=True).encode()
    except RecursionError:
        raise DataError(f"{file}:{line.number}: lists or objects lie too deep in one another; {_EXPECTED}") from None


def _cell(file: Path, line: Line, name: str, config: DataConfig) -> str | None:
    value = line.fields.get(name)
    if isinstance(value, list | dict):
        raise DataError(
            f"{file}:{line.number}: field {name!r} holds {_kind(value)}; expected text, a number, true, false or null"
        )
    word = _word(value)
    if word is None or name == config.text_column:
        return word
    if any("\ud800" <= character <= "\udfff" for character in word):
        raise DataError(f"{file}:{line.number}: field {name!r} holds half a character (\\ud800 to \\udfff); mend it")
    return word.strip()


def _splits(ids: Sequence[str], start: str) -> bool:
    count = sum(identifier.startswith(start) for identifier in ids)
    return 0 < count < len(ids)
