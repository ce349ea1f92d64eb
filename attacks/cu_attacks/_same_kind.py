"""What one model's margins say beyond how hard a record is, and what the records say without any model.

Margins differ between records mostly because some records are hard. How hard is read off a plain logistic regression on
records that stay in training: it saw neither the request nor the never-trained records, so it treats both alike, and
subtracting what it explains leaves the two groups exchangeable while much of the noise goes (digits, the untreated
model, 50 of 1446 records: refuted at eps* = 1/2 in 40 % of runs instead of 3 %).

The same numbers without the audited model are the negative control: where they tell the request from the others, the
two are not of one kind, and no test of their margins means anything (Das, Zhang and Tramer 2024, arXiv 2406.16201).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from cu_attacks._types import AttackError, FloatArray, matrix, vector

IntArray = npt.NDArray[np.int64]

SCALE: Final = 1_000_000
"""Scores are written as whole millionths, because evidence holds integers only."""

NEIGHBOURS: Final = 3
MOST_KEPT: Final = 4000
"""Kept records that are enough for a proxy; whoever calls thins a larger set without looking at the request."""

_LIMIT: Final = 2**52


@dataclass(frozen=True, eq=False)
class Kind:
    """What is known of the judged records without any audited model.

    Args:
        difficulty: Margin of each record under the proxy, shape (records,).
        columns: Proxy margin, distance to the centre of the kept records of its class, and to the nearest of them, in
            whole millionths of standard units, one list of all records each.
        near: Positions of each record's nearest neighbours of its class among the judged records.
    """

    difficulty: FloatArray
    columns: tuple[list[int], ...]
    near: list[list[int]]


def describe(x: npt.ArrayLike, y: npt.ArrayLike, kept_x: npt.ArrayLike, kept_y: npt.ArrayLike) -> Kind:
    """Describe records by means of others that stay in training; nothing here looks at who is in the request.

    Args:
        x: Features of the judged records, request and never-trained ones, shape (records, features).
        y: Their classes, shape (records,).
        kept_x: Features of training records outside the request, shape (kept, features).
        kept_y: Their classes; every class of ``y`` occurs.

    Raises:
        AttackError: Shapes disagree, a value is not finite, or a class has no kept record.
    """
    judged, kept = matrix(x, "x"), matrix(kept_x, "kept_x")
    label, own = np.asarray(y, dtype=np.int64), np.asarray(kept_y, dtype=np.int64)
    if judged.shape[1] != kept.shape[1] or label.shape != judged.shape[:1] or own.shape != kept.shape[:1]:
        raise AttackError(
            f"x, y, kept_x, kept_y: shapes {judged.shape}, {label.shape}, {kept.shape}, {own.shape}; expected "
            "(records, features), (records,), (kept, features), (kept,)"
        )
    absent = sorted(set(label.tolist()) - set(own.tolist()))
    if absent:
        raise AttackError(f"kept_y: no record of class {absent[0]}; drop the records of classes that do not stay")
    scaler = StandardScaler().fit(kept)
    judged, kept = scaler.transform(judged), scaler.transform(kept)
    difficulty = _proxy_margin(judged, label, kept, own)
    centre, nearest = np.zeros(len(label)), np.zeros(len(label))
    near: list[list[int]] = [[] for _ in label]
    for one in np.unique(label):
        rows, there = np.flatnonzero(label == one), kept[own == one]
        centre[rows] = np.linalg.norm(judged[rows] - there.mean(axis=0), axis=1)
        nearest[rows] = NearestNeighbors(n_neighbors=1).fit(there).kneighbors(judged[rows])[0][:, 0]
        for row, found in zip(rows, _neighbours(judged[rows]), strict=True):
            near[row] = [int(rows[place]) for place in found]
    columns = tuple(whole(standardised(column)) for column in (difficulty, centre, nearest))
    return Kind(difficulty, columns, near)


def _proxy_margin(judged: FloatArray, label: IntArray, kept: FloatArray, own: IntArray) -> FloatArray:
    """Return ln(p_y / (1 - p_y)) under a logistic regression on the kept records; 0 where they are of one class."""
    if len(np.unique(own)) < 2:
        return np.zeros(len(label))
    # The tolerance is far below what matters for a proxy, so that it converges within its steps.
    model = LogisticRegression(C=1.0, max_iter=2000, tol=1e-3).fit(kept, own)
    values = model.decision_function(judged)
    if values.ndim == 1:
        margin: FloatArray = np.where(label == model.classes_[1], values, -values)
        return margin
    place = np.searchsorted(model.classes_, label)[:, None]
    others = values.copy()
    np.put_along_axis(others, place, -np.inf, axis=1)
    found: FloatArray = np.take_along_axis(values, place, axis=1)[:, 0] - special.logsumexp(others, axis=1)
    return found


def _neighbours(x: FloatArray) -> list[list[int]]:
    """Return the places of each record's nearest others, at most :data:`NEIGHBOURS`; copies of it come first."""
    count = min(NEIGHBOURS, len(x) - 1)
    if count < 1:
        return [[] for _ in x]
    places = NearestNeighbors(n_neighbors=count + 1).fit(x).kneighbors(x, return_distance=False)
    # A record need not be its own first neighbour where another one is its copy.
    return [[int(place) for place in found if place != row][:count] for row, found in enumerate(places)]


def standardised(values: npt.ArrayLike) -> FloatArray:
    """Return values with mean 0 and standard deviation 1; zeros where all are equal."""
    found = vector(values, "values")
    spread = float(found.std())
    centred: FloatArray = found - found.mean()
    return centred / spread if spread > 1e-12 * float(np.abs(found).max()) else np.zeros_like(found)


def calibrate(margin: npt.ArrayLike, difficulty: npt.ArrayLike, strata: npt.ArrayLike) -> list[int]:
    """Return what margins say beyond stratum and difficulty, in whole millionths of their standard deviation.

    Least squares with one intercept a stratum and one slope, over all records alike.

    Args:
        margin: ln(p_y / (1 - p_y)) of the one audited model, shape (records,).
        difficulty: Margins under a proxy that saw none of these records, shape (records,).
        strata: The stratum of each record, shape (records,).

    Returns:
        One integer a record; all 0 when class and difficulty explain every margin.

    Raises:
        AttackError: Shapes disagree or a value is not finite.
    """
    own, hard, group = vector(margin, "margin"), vector(difficulty, "difficulty"), np.asarray(strata)
    if not own.shape == hard.shape == group.shape:
        raise AttackError(
            f"margin, difficulty, strata: shapes {own.shape}, {hard.shape}, {group.shape}; expected one for each"
        )
    smallest = 1e-12 * float(np.abs(own).max())
    own, hard = own.copy(), hard.copy()
    for stratum in np.unique(group):
        rows = group == stratum
        own[rows] -= own[rows].mean()
        hard[rows] -= hard[rows].mean()
    spread = float(hard @ hard)
    slope = float(hard @ own) / spread if spread > 0 else 0.0
    rest = own - slope * hard
    return whole(standardised(np.where(np.abs(rest) > smallest, rest, 0.0)))


def whole(values: npt.ArrayLike) -> list[int]:
    """Return values in whole millionths."""
    return [int(value) for value in np.clip(np.rint(vector(values, "values") * SCALE), -_LIMIT, _LIMIT)]
