"""Scores from anywhere: the documented file in which any framework can hand in what its models say about records.

A file is one long table, one row for each model and record, as ``.npz`` (arrays of equal length) or ``.parquet``
(columns; needs ``pip install 'cu-cert[parquet]'``):

=========  ==============================================================================================
model      name of the model, text; with coins, the name that ``cu-cert plan`` gave it
pool       what the model is; one of :data:`POOLS`
record     name of the record, text: its id, or a commitment to it
group      ``request`` for a record that must go, ``never`` for one that no model of the file was trained on
signal     name of the number, text, for example ``margin``; optional when there is only one
value      the number, float; higher = looks more like a record that was trained on
digest     SHA-256 (hex) of the model's file; optional
=========  ==============================================================================================

Every model must say something about every record. A value that is NaN or infinite marks its model as failed: a failed
model is counted against whoever hands it in, never left out.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cu_attacks._types import AttackError, BoolArray, FloatArray
from cu_certificates._files import write_atomic

POOLS: Final = {
    "unlearned": "made by the method from an original of its own",
    "retrained": "trained without the request",
    "original": "trained on everything, before unlearning (positive control of the procedure question)",
    "rerun": "retrained by the code that calls the method (negative control of the procedure question)",
    "subject": "the one audited model",
    "reference": "trained without the request; the audited model is ranked among these",
    "reference-original": "trained on everything (positive control of the artifact question)",
    "reference-rerun": "retrained like a reference (negative control of the artifact question)",
    "pilot-original": "trained on everything; fits the score and is not judged",
    "pilot-retrained": "trained without the request; fits the score and is not judged",
}
"""What a model can be, by the word in the column ``pool``."""

GROUPS: Final = ("request", "never")
COLUMNS: Final = ("model", "pool", "record", "group", "value")
_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What many models say about the same records.

    Args:
        models: Names of the models, each once.
        pools: What each model is, one of :data:`POOLS`.
        digests: SHA-256 (hex) of each model: the one handed in, else one over its name and values.
        records: Names of the records, ascending, each once.
        request: Which records must go, shape (records,); the others were never trained on.
        values: The signal, float64, shape (models, records); higher looks more like a record trained on.
        signal: Name of the signal.
    """

    models: tuple[str, ...]
    pools: tuple[str, ...]
    digests: tuple[str, ...]
    records: tuple[str, ...]
    request: BoolArray
    values: FloatArray
    signal: str

    def pool(self, name: str) -> list[int]:
        """Return the rows of the models in a pool, in the order of their names."""
        return sorted((row for row, pool in enumerate(self.pools) if pool == name), key=lambda row: self.models[row])

    def usable(self, row: int) -> bool:
        """Whether all values of a model are finite."""
        return bool(np.isfinite(self.values[row]).all())

    def memory(self, row: int) -> FloatArray:
        """Return a model's signal on the request, minus its mean on never-trained records, shape (request,).

        What a model says about records it never saw is no memory of the request, so models that are merely more
        confident do not look as if they remembered.
        """
        values = self.values[row]
        outside: FloatArray = values[~self.request]
        found: FloatArray = values[self.request] - (outside.mean() if len(outside) else 0.0)
        return found

    def signals_digest(self, row: int) -> str:
        """Return the SHA-256 (hex) of a model's values."""
        return sha256(self.values[row].astype("<f8").tobytes()).hexdigest()


def write_scores(
    path: Path,
    values: npt.ArrayLike,
    *,
    models: Sequence[str],
    pools: Sequence[str],
    records: Sequence[str],
    request: Sequence[bool] | BoolArray,
    signal: str = "margin",
    digests: Sequence[str] | None = None,
) -> None:
    """Write a scores file from a matrix; the format is that of the file's ending.

    Args:
        path: Where to write, ``.npz`` or ``.parquet``.
        values: Shape (models, records); NaN marks a model that failed.
        models: Name of each row.
        pools: What each row's model is, see :data:`POOLS`.
        records: Name of each column.
        request: Whether each column's record must go.
        signal: Name of the number.
        digests: SHA-256 (hex) of each row's model file.

    Raises:
        AttackError: Shapes disagree, a name stands twice, or the ending is unknown.
    """
    matrix = np.asarray(values, dtype=np.float64)
    sizes = (len(models), len(records))
    if matrix.shape != sizes or len(pools) != sizes[0] or len(request) != sizes[1]:
        raise AttackError(
            f"values: shape {matrix.shape} with {len(models)} models, {len(pools)} pools, {len(records)} records and "
            f"{len(request)} request flags; expected (models, records) and one entry for each"
        )
    group = np.where(np.asarray(request, dtype=bool), "request", "never")
    table: dict[str, npt.NDArray[Any]] = {
        "model": np.repeat(np.array(models, dtype=str), sizes[1]),
        "pool": np.repeat(np.array(pools, dtype=str), sizes[1]),
        "record": np.tile(np.array(records, dtype=str), sizes[0]),
        "group": np.tile(group, sizes[0]),
        "signal": np.full(matrix.size, signal),
        "value": matrix.reshape(-1),
    }
    if digests is not None:
        if len(digests) != sizes[0]:
            raise AttackError(f"digests: {len(digests)} for {sizes[0]} models; expected one for each")
        table["digest"] = np.repeat(np.array(digests, dtype=str), sizes[1])
    _assemble(table, "values", signal)  # what cannot be read is not written
    content = io.BytesIO()
    if path.suffix == ".npz":
        np.savez_compressed(content, allow_pickle=False, **table)
    elif path.suffix == ".parquet":
        pyarrow, parquet = _pyarrow()
        parquet.write_table(pyarrow.table({name: column.tolist() for name, column in table.items()}), content)
    else:
        raise AttackError(f"{path}: ending {path.suffix!r}; expected .npz or .parquet")
    write_atomic(path, content.getvalue(), what="scores file")


def read_scores(path: Path, *, signal: str | None = None) -> Scores:
    """Read and check a scores file.

    Args:
        path: The file, ``.npz`` or ``.parquet``.
        signal: Which number to take; needed when the file holds several.

    Raises:
        AttackError: The file is missing or damaged, a column is missing, a pair of model and record is missing or
            stands twice, a model or record has two descriptions, or a word is unknown.
    """
    if path.suffix == ".npz":
        table = _read_npz(path)
    elif path.suffix == ".parquet":
        table = _read_parquet(path)
    else:
        raise AttackError(f"{path}: ending {path.suffix!r}; expected .npz or .parquet")
    return _assemble(table, str(path), signal)


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in (*COLUMNS, "signal", "digest") if name in archive.files}
    except FileNotFoundError:
        raise AttackError(f"{path}: no such file; expected a scores file") from None
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise AttackError(f"{path}: cannot be read as .npz ({error}); write it with cu_attacks.write_scores") from None


def _read_parquet(path: Path) -> dict[str, npt.NDArray[Any]]:
    pyarrow, parquet = _pyarrow()
    try:
        table = parquet.read_table(path)
    except FileNotFoundError:
        raise AttackError(f"{path}: no such file; expected a scores file") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise AttackError(f"{path}: cannot be read as parquet ({error}); write it anew") from None
    return {
        name: np.asarray(table[name].to_pylist())
        for name in (*COLUMNS, "signal", "digest")
        if name in table.column_names
    }


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise AttackError(
            "parquet needs pyarrow, which is not installed; pip install 'cu-cert[parquet]', or write the scores as .npz"
        ) from None
    return pyarrow, parquet


def _assemble(table: Mapping[str, npt.NDArray[Any]], where: str, signal: str | None) -> Scores:
    """Check a long table and turn it into a matrix."""
    table = _columns(table, where)
    table, name = _one_signal(table, where, signal)
    models, row = np.unique(table["model"], return_inverse=True)
    records, column = np.unique(table["record"], return_inverse=True)
    pools = _described(table["pool"], models, row, where, "model", "pool", tuple(POOLS))
    groups = _described(table["group"], records, column, where, "record", "group", GROUPS)
    cells = row * len(records) + column
    found, times = np.unique(cells, return_counts=True)
    if (times > 1).any():
        twice = int(found[times > 1][0])
        raise AttackError(f"{where}: {_pair(models, records, twice)} stands {times.max()} times; expected once")
    if len(found) != len(models) * len(records):
        absent = int(np.setdiff1d(np.arange(len(models) * len(records)), found)[0])
        raise AttackError(
            f"{where}: {_pair(models, records, absent)} is missing; every model must have a value for every record "
            "(NaN for a model that failed)"
        )
    flat = np.empty(len(models) * len(records))
    flat[cells] = table["value"]
    values = flat.reshape(len(models), len(records))
    if not (groups == "request").any():
        raise AttackError(f"{where}: no record of the group 'request'; expected at least one that must go")
    return Scores(
        models=tuple(models.tolist()),
        pools=tuple(pools.tolist()),
        digests=_digests(table, models, row, values, where),
        records=tuple(records.tolist()),
        request=groups == "request",
        values=values,
        signal=name,
    )


def _columns(table: Mapping[str, npt.NDArray[Any]], where: str) -> dict[str, npt.NDArray[Any]]:
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise AttackError(
            f"{where}: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}, and signal and digest if wanted"
        )
    shapes = {name: column.shape for name, column in table.items()}
    if len(set(shapes.values())) != 1 or len(shapes["value"]) != 1 or not shapes["value"][0]:
        raise AttackError(f"{where}: columns of shapes {shapes}; expected columns of one equal length, at least 1")
    found = {name: np.asarray(column) for name, column in table.items()}
    for name, column in found.items():
        if (column.dtype.kind not in "fiu") if name == "value" else (column.dtype.kind != "U"):
            kind = "numbers" if name == "value" else "text"
            raise AttackError(f"{where}: column {name} is of type {column.dtype}; expected {kind}")
    return found | {"value": found["value"].astype(np.float64)}


def _one_signal(
    table: dict[str, npt.NDArray[Any]], where: str, signal: str | None
) -> tuple[dict[str, npt.NDArray[Any]], str]:
    if "signal" not in table:
        return table, signal or "signal"
    names = sorted(set(table["signal"].tolist()))
    if signal is None and len(names) > 1:
        raise AttackError(f"{where}: signals {', '.join(names)}; name the one to take (signal = ... in the plan)")
    wanted = signal or names[0]
    keep = table["signal"] == wanted
    if not keep.any():
        raise AttackError(f"{where}: no signal {wanted!r}; it holds {', '.join(names)}")
    return {name: column[keep] for name, column in table.items()}, wanted


def _described(
    column: npt.NDArray[Any],
    names: npt.NDArray[Any],
    place: npt.NDArray[np.intp],
    where: str,
    what: str,
    title: str,
    allowed: tuple[str, ...],
) -> npt.NDArray[Any]:
    """Return the one word that describes each name."""
    unknown = sorted(set(column.tolist()) - set(allowed))
    if unknown:
        raise AttackError(f"{where}: {title} {unknown[0]!r}; expected one of {', '.join(allowed)}")
    found = np.empty(len(names), dtype=column.dtype)
    found[place] = column
    differs = found[place] != column
    if differs.any():
        name = str(names[place[differs][0]])
        raise AttackError(f"{where}: {what} {name!r} stands in two {title}s; expected one")
    return found


def _digests(
    table: Mapping[str, npt.NDArray[Any]],
    models: npt.NDArray[Any],
    row: npt.NDArray[np.intp],
    values: FloatArray,
    where: str,
) -> tuple[str, ...]:
    if "digest" not in table:
        return tuple(
            sha256(b"cu-cert/outside/v1\0" + str(name).encode() + b"\0" + line.astype("<f8").tobytes()).hexdigest()
            for name, line in zip(models, values, strict=True)
        )
    found = np.empty(len(models), dtype=table["digest"].dtype)
    found[row] = table["digest"]
    for name, digest in zip(models, found, strict=True):
        if not _HEX.fullmatch(str(digest)):
            raise AttackError(
                f"{where}: digest of model {str(name)!r} is {str(digest)[:80]!r}; expected 64 hexadecimal digits"
            )
    if (found[row] != table["digest"]).any():
        raise AttackError(f"{where}: one model has two digests; expected one")
    return tuple(found.tolist())


def _pair(models: npt.NDArray[Any], records: npt.NDArray[Any], cell: int) -> str:
    return f"model {str(models[cell // len(records)])!r} with record {str(records[cell % len(records)])!r}"
