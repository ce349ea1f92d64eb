"""Signals of many models: a matrix on disk that is read through memory maps, so memory does not grow with the fleet."""

import errno
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, overload

import numpy as np
import numpy.typing as npt

from cu_cert.errors import EnvironmentProblem
from cu_cert.signals import Signals

FloatArray = npt.NDArray[np.float64]

BLOCK: Final = 1 << 24
"""Bytes of signals that are worked on at a time; a matrix that is no larger stays in memory."""

_ROWS: Final = 256
"""Models whose rows are mapped together."""


class SignalMatrix:
    """Signals of models on the same records, one row a model, in a file without a name that goes when this does.

    Args:
        records: Columns.
        folder: Where the file lies; in the system's folder for such files where that cannot be written.
    """

    def __init__(self, records: int, folder: Path) -> None:
        self.records, self.folder = records, folder
        self._row = -(-9 * max(records, 1) // 8) * 8
        self._count = 0
        self._file: IO[bytes] | None = None
        self._parts: list[npt.NDArray[np.uint8]] = []

    def __len__(self) -> int:
        return self._count

    def append(self, signals: Signals) -> int:
        """Add a model and return its row.

        Raises:
            EnvironmentProblem: The file cannot be written.
            ValueError: There are more or fewer records.
        """
        if signals.margin.shape != (self.records,) or signals.correct.shape != (self.records,):
            raise ValueError(f"signals of shape {signals.margin.shape}; expected ({self.records},)")
        data = signals.margin.astype(np.float64).tobytes() + signals.correct.astype(np.bool_).tobytes()
        if self._file is None:
            self._file = _nameless(self.folder)
            weakref.finalize(self, self._file.close)
        try:
            if self._count == _ROWS * len(self._parts):
                # The file grows before it is mapped and is written as a file: where a disk is full, writing into a map
                # would end the process.
                self._file.truncate((self._count + _ROWS) * self._row)
                self._parts.append(self._mapped(self._count))
            self._file.seek(self._count * self._row)
            self._file.write(data)
            self._file.flush()  # maps read the file itself
        except OSError as error:
            raise unwritable(self.folder, error) from None
        self._count += 1
        return self._count - 1

    def __getitem__(self, row: int) -> Signals:
        if not 0 <= row < self._count:
            raise IndexError(row)
        data = self._parts[row // _ROWS][row % _ROWS]
        margin = data[: 8 * self.records].view(np.float64)
        return Signals(margin, data[8 * self.records : 9 * self.records].view(np.bool_))

    def _mapped(self, start: int) -> npt.NDArray[np.uint8]:
        assert self._file is not None
        shape = (_ROWS, self._row)
        return np.asarray(np.memmap(self._file, np.uint8, "r", offset=start * self._row, shape=shape))


class Pool(Sequence[Signals]):
    """Some rows of a matrix, as the signals of their models.

    Args:
        matrix: The matrix.
        rows: Its rows, in the order of the pool.
    """

    def __init__(self, matrix: SignalMatrix, rows: Sequence[int]) -> None:
        self._matrix, self._rows = matrix, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Signals: ...

    @overload
    def __getitem__(self, index: slice) -> "Pool": ...

    def __getitem__(self, index: int | slice) -> "Signals | Pool":
        if isinstance(index, slice):
            return Pool(self._matrix, self._rows[index])
        return self._matrix[self._rows[index]]

    @property
    def folder(self) -> Path:
        """Where a matrix that is made of this one may lie."""
        return self._matrix.folder


def blocks(many: Sequence[Signals]) -> Iterator[FloatArray]:
    """Yield the margins of models, some at a time, each of shape (models, records)."""
    if not many:
        return
    # Never one model alone if there are more: numpy would add up the numbers of a single row in another order.
    size = max(BLOCK // (8 * max(len(many[0].margin), 1)), 2)
    start = 0
    while start < len(many):
        end = start + size if len(many) - start - size != 1 else start + size + 1
        yield np.stack([one.margin for one in many[start:end]])
        start = end


def margins_of(many: Sequence[Signals]) -> FloatArray:
    """Return the margins of models, shape (models, records); a memory map when they are many.

    Args:
        many: At least one model.
    """
    return spooled(blocks(many), many)


def spooled(parts: Iterable[FloatArray], many: Sequence[Signals]) -> FloatArray:
    """Put parts of a matrix one below the other: in memory while they are few, else in a file that is mapped.

    Args:
        parts: Arrays of equal width.
        many: The models that they were made of.

    Raises:
        EnvironmentProblem: The file cannot be written.
    """
    held: list[FloatArray] = []
    stream: IO[bytes] | None = None
    folder = many.folder if isinstance(many, Pool) else Path(tempfile.gettempdir())
    rows, width = 0, 0
    try:
        for part in parts:
            rows, width = rows + len(part), part.shape[1]
            held.append(part)
            if stream is None and sum(one.nbytes for one in held) > BLOCK:
                stream = _nameless(folder)
            if stream is not None:
                while held:
                    stream.write(np.ascontiguousarray(held.pop(0), np.float64).data)
        if stream is None:
            return np.concatenate(held)
        stream.flush()
        # Changed values stay in memory; the map outlives the file object.
        return np.asarray(np.memmap(stream, np.float64, "c", shape=(rows, width)))
    except OSError as error:
        raise unwritable(folder, error) from None
    finally:
        if stream is not None:
            stream.close()


def _nameless(folder: Path) -> IO[bytes]:
    wanted = folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())
    try:
        return tempfile.TemporaryFile(dir=wanted, prefix="cu-cert-")
    except OSError as error:
        raise unwritable(wanted, error) from None


def unwritable(folder: Path, error: OSError) -> EnvironmentProblem:
    """Return the error to raise when scores cannot be kept on disk."""
    why = "the disk is full" if error.errno == errno.ENOSPC else f"cannot be written ({error.strerror})"
    return EnvironmentProblem(
        f"folder {str(folder)!r}: scores of models are kept here while they are compared, and {why}; free some space "
        "and run the same command again"
    )
