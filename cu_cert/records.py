"""Records: training examples with stable string ids.

Records are kept sorted by id from the moment they exist, so nothing downstream can depend on the order in which a file
listed them: selection, split, shuffle, seed and request all go by id.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cu_cert.errors import DataError

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Records:
    """A set of labelled examples in canonical (id) order.

    Args:
        ids: n distinct non-empty strings, ascending. Use :func:`make_records` to sort.
        x: Features, float32, shape (n, ...), finite.
        y: Class indices, int64, shape (n,), in ``range(len(classes))``.
        classes: Names of the classes; their number is the width of a classifier's output.

    Raises:
        DataError: Shapes disagree, an id stands twice, a value is not finite or a label is out of range.
    """

    ids: tuple[str, ...]
    x: FloatArray
    y: IntArray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.x.shape[:1] != (n,) or self.y.shape != (n,):
            raise DataError(
                f"records: {n} ids, features of shape {self.x.shape}, labels of shape {self.y.shape}; "
                "expected one row and one label for each id"
            )
        if any(first >= second for first, second in zip(self.ids, self.ids[1:], strict=False)):
            raise DataError("records: ids are not strictly ascending; build records with make_records()")
        finite = np.isfinite(self.x.reshape(n, -1)).all(axis=1) if n else np.ones(0, dtype=bool)
        if not finite.all():
            bad = int(np.flatnonzero(~finite)[0])
            raise DataError(
                f"records: id {self.ids[bad]!r} has a feature that is NaN or infinite "
                f"({int((~finite).sum())} such records); clean the data or drop these records"
            )
        if n and not (int(self.y.min()) >= 0 and int(self.y.max()) < len(self.classes)):
            raise DataError(f"records: labels span {self.y.min()}..{self.y.max()}; expected 0..{len(self.classes) - 1}")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {identifier: position for position, identifier in enumerate(self.ids)}

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._position

    def positions(self, ids: Iterable[str]) -> IntArray:
        """Return the row of each id.

        Raises:
            DataError: An id is unknown.
        """
        try:
            return np.array([self._position[identifier] for identifier in ids], dtype=np.int64)
        except KeyError as error:
            raise DataError(f"records: unknown id {error.args[0]!r}; there are {len(self)} records") from None

    def select(self, ids: Iterable[str]) -> "Records":
        """Return the records of these ids; the order in which they are named does not matter.

        Raises:
            DataError: An id is unknown.
        """
        rows = np.unique(self.positions(ids))
        return Records(tuple(self.ids[row] for row in rows), self.x[rows], self.y[rows], self.classes)

    def without(self, ids: Iterable[str]) -> "Records":
        """Return the records whose ids are not named; ids that are not here are ignored."""
        gone = set(ids)
        rows = np.array([row for row, name in enumerate(self.ids) if name not in gone], dtype=np.int64)
        return Records(tuple(self.ids[row] for row in rows), self.x[rows], self.y[rows], self.classes)

    @cached_property
    def marks(self) -> npt.NDArray[np.uint64]:
        """One 64-bit number a record, a hash of its id alone, from which every order of training derives."""
        digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in self.ids)
        return np.frombuffer(digests, dtype="<u8").astype(np.uint64)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over classes, shapes and every (id, features, label), independent of file order."""
        state = hashlib.sha256(b"cu-cert/records/v1\0")
        for name in self.classes:
            state.update(len(name.encode()).to_bytes(8, "big") + name.encode())
        state.update(repr((len(self), self.x.shape[1:])).encode())
        labels = self.y.astype("<i8")
        features = np.ascontiguousarray(self.x.astype("<f4"))
        for row, identifier in enumerate(self.ids):
            state.update(len(identifier.encode()).to_bytes(8, "big") + identifier.encode())
            state.update(labels[row].tobytes() + features[row].tobytes())
        return state.hexdigest()


def make_records(ids: Sequence[str], x: npt.ArrayLike, y: npt.ArrayLike, classes: Sequence[str]) -> Records:
    """Build records from rows in any order.

    Args:
        ids: n distinct ids.
        x: Features, shape (n, ...); converted to float32.
        y: Class indices, shape (n,); converted to int64.
        classes: Names of the classes.

    Raises:
        DataError: Rows disagree in number, or an id is empty or stands twice.
    """
    features = np.asarray(x, dtype=np.float32)
    labels = np.asarray(y, dtype=np.int64)
    if len(features) != len(ids) or len(labels) != len(ids):
        raise DataError(
            f"records: {len(ids)} ids, {len(features)} feature rows, {len(labels)} labels; expected equal numbers"
        )
    seen: set[str] = set()
    for row, identifier in enumerate(ids):
        if not isinstance(identifier, str) or not identifier or identifier != identifier.strip():
            raise DataError(
                f"records: row {row} has id {identifier!r}; expected a non-empty string with no outer spaces"
            )
        if identifier in seen:
            raise DataError(f"records: id {identifier!r} stands twice (second time in row {row}); ids must be unique")
        seen.add(identifier)
    rows = sorted(range(len(ids)), key=lambda row: ids[row])
    return Records(tuple(ids[row] for row in rows), features[rows], labels[rows], tuple(classes))
