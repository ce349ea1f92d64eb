"""From raw rows to records: what every source checks in the same words."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cu_cert.data._config import ordered
from cu_cert.errors import DataError
from cu_cert.records import Records, make_records


def assemble(
    where: str,
    ids: Sequence[object],
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    found: Sequence[str] = (),
    declared: Sequence[str] = (),
) -> Records:
    """Build records from what a source yielded.

    Args:
        where: The source, for messages.
        ids: n distinct strings.
        x: Numbers, shape (n, ...), at least two dimensions.
        y: Class indices or class names, shape (n,).
        found: Class names that the source itself lists, in order; empty when it lists none.
        declared: ``[data] classes``; empty when not declared.

    Raises:
        DataError: The rows are not records.
    """
    features = _numbers(where, x)
    names = agreed_classes(where, found, declared)
    labels, classes = _labels(where, ids, y, names)
    for row, identifier in enumerate(ids):
        if isinstance(identifier, str) and any("\ud800" <= character <= "\udfff" for character in identifier):
            raise DataError(f"{where}: row {row} has id {identifier!r}, which no file can hold; expected plain text")
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which make_records() names by id
            return make_records([str(i) if isinstance(i, str) else i for i in ids], features, labels, classes)  # type: ignore[misc]
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def agreed_classes(where: str, found: Sequence[str], declared: Sequence[str]) -> tuple[str, ...]:
    """Return the class names on which source and project file agree; empty when neither lists any.

    Raises:
        DataError: Both list classes and the lists differ.
    """
    if found and declared and tuple(found) != tuple(declared):
        raise DataError(
            f"{where}: its classes are {_some(found)}, but [data] classes lists {_some(declared)}; "
            "expected the same names in the same order. Correct one of the two"
        )
    return tuple(found) or tuple(declared)


def _numbers(where: str, x: npt.ArrayLike) -> npt.NDArray[np.generic]:
    try:
        features = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: the features are not an array ({error}); expected numbers of one shape") from None
    if features.dtype.kind not in "fiub":
        raise DataError(f"{where}: the features have type {features.dtype}; expected real numbers")
    if features.ndim < 2:
        raise DataError(f"{where}: the features have shape {features.shape}; expected (records, features)")
    return features


def _labels(
    where: str, ids: Sequence[object], y: npt.ArrayLike, names: tuple[str, ...]
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    try:
        labels = np.asarray(y)
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: the labels are not an array ({error}); expected one for each record") from None
    if labels.ndim != 1 or len(labels) != len(ids):
        raise DataError(f"{where}: {len(ids)} ids but labels of shape {labels.shape}; expected one label for each id")
    if labels.dtype.kind in "iub":
        indices = labels.astype(np.int64)
        most = int(indices.max()) if len(indices) else 0
        classes = names or tuple(str(label) for label in range(max(most + 1, 2)))
    elif labels.dtype.kind in "UO" and all(isinstance(label, str) for label in labels):
        classes = names or ordered({str(label) for label in labels})
        place = {name: index for index, name in enumerate(classes)}
        for row, label in enumerate(labels):
            if str(label) not in place:
                raise DataError(
                    f"{where}: id {ids[row]!r} has label {str(label)!r}; expected one of {_some(classes)}. "
                    "Correct the label or add it to [data] classes"
                )
        indices = np.array([place[str(label)] for label in labels], dtype=np.int64)
    else:
        raise DataError(
            f"{where}: the labels have type {labels.dtype}; expected whole numbers from 0, or class names. "
            "Convert them, for example with y.astype(int)"
        )
    if len(classes) < 2:
        raise DataError(f"{where}: only one class ({_some(classes)}); expected at least 2. Is this the label?")
    return indices, classes


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")
