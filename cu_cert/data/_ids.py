"""Lists of record ids in files: holdout lists and forget lists.

``drop:FILE.csv`` names a list of California's Delete Request and Opt-out Platform: one CSV file for each kind of
identifier, with the columns ``ID`` (12 characters of Base62, the work item) and ``Hash``. The records of the project
must then be called by these hashes. They are unsalted, so they are identifiers like any other: they are committed to
under K as all ids are, and must stand nowhere. The work items say nothing about records and are not taken over.
"""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from cu_cert.errors import DataError

DROP = "drop:"
_WORK_ITEM = re.compile(r"[0-9A-Za-z]{12}")


@dataclass(frozen=True)
class ListedId:
    """An id and the line on which it stands.

    Args:
        id: The id, without outer spaces.
        line: Line of the file, from 1.
    """

    id: str
    line: int


@dataclass(frozen=True)
class IdList:
    """The ids of a file, in its order.

    Args:
        path: The file, for messages.
        entries: At least one id, none twice.

    Raises:
        DataError: The list is empty or names an id twice.
    """

    path: Path
    entries: tuple[ListedId, ...]

    def __post_init__(self) -> None:
        if not self.entries:
            raise DataError(f"{self.path}: names no id; expected one id a line")
        first: dict[str, int] = {}
        for entry in self.entries:
            if entry.id in first:
                raise DataError(
                    f"{self.path}:{entry.line}: id {entry.id!r} stands twice (first on line {first[entry.id]}); "
                    "remove one of the two lines"
                )
            first[entry.id] = entry.line

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids, ascending."""
        return tuple(sorted(entry.id for entry in self.entries))


def read_text(path: Path, what: str) -> str:
    """Read a UTF-8 text file; a byte-order mark is dropped.

    Args:
        path: The file.
        what: What the file is expected to be, for messages.

    Raises:
        DataError: It cannot be read, is not UTF-8 or is not text.
    """
    try:
        raw = path.read_bytes()
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; expected {what}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected {what}") from None
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: byte {error.start} is not UTF-8; expected {what}. Save the file as UTF-8"
        ) from None
    if "\0" in content:
        line = content.count("\n", 0, content.index("\0")) + 1
        raise DataError(f"{path}:{line}: holds a NUL character; expected {what}. Save the file as UTF-8")
    return content


def read_ids(path: Path) -> IdList:
    """Read a list of ids: one a line, or the column ``id`` of a file whose name ends in .csv.

    Empty lines and lines that start with ``#`` are skipped (in a CSV file only above the header, since below it a
    leading ``#`` may belong to an id).

    Args:
        path: The file; ``drop:FILE.csv`` for a list of that platform (see this module).

    Raises:
        DataError: The file cannot be read, is not UTF-8, is empty, names an id twice, or is a CSV without ``id``.
    """
    if str(path).startswith(DROP):
        path = Path(str(path).removeprefix(DROP))
        return IdList(path, _csv_ids(path, read_text(path, "a DROP list with the columns ID and Hash"), drop=True))
    content = read_text(path, "a list with one id a line")
    if path.suffix.lower() == ".csv":
        return IdList(path, _csv_ids(path, content))
    lines = ((number, line.strip()) for number, line in enumerate(content.split("\n"), start=1))
    return IdList(path, tuple(ListedId(line, number) for number, line in lines if line and not line.startswith("#")))


def _csv_ids(path: Path, content: str, *, drop: bool = False) -> tuple[ListedId, ...]:
    name = "Hash" if drop else "id"
    reader = csv.reader(io.StringIO(content, newline=""), skipinitialspace=True, strict=True)
    column: int | None = None
    item = 0
    found: list[ListedId] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells) or (column is None and cells[0].startswith("#")):
                continue
            if column is None:
                if cells.count(name) != 1 or (drop and cells.count("ID") != 1):
                    raise DataError(
                        f"{path}:{reader.line_num}: the header has columns {', '.join(cells)}; expected one column "
                        f"{'ID and one column Hash' if drop else 'id'}"
                    )
                column, item = cells.index(name), cells.index("ID") if drop else 0
            elif column >= len(cells) or not cells[column]:
                raise DataError(f"{path}:{reader.line_num}: no id in this row; expected one in column {column + 1}")
            elif drop and not _WORK_ITEM.fullmatch(cells[item] if item < len(cells) else ""):
                raise DataError(f"{path}:{reader.line_num}: no work item of 12 letters and digits in the column ID")
            else:
                found.append(ListedId(cells[column], reader.line_num))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    return tuple(found)
