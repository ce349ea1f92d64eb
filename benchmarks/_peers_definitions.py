"""The peers' definitions of a ROC curve, its area and its rates, where they differ from ours.

Each is written from its description, so that a difference between a peer's number and ours is computed, not asserted.
"""

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.int64]


def roc_counts(scores: npt.ArrayLike, member: npt.ArrayLike) -> Points:
    """Return false and true positives of "score >= c" for every c, from none to all, shape (thresholds + 1, 2)."""
    values, inside = np.asarray(scores, dtype=np.float64), np.asarray(member, dtype=np.bool_)
    thresholds = np.append(np.unique(values), np.inf)[::-1]
    counts = [
        len(kind) - np.searchsorted(np.sort(kind), thresholds, side="left")
        for kind in (values[~inside], values[inside])
    ]
    return np.stack(counts, axis=1).astype(np.int64)


def hull(points: Points) -> Points:
    """Return the corners of the smallest concave curve above the points: what randomising between rules can reach."""
    kept: list[tuple[int, int]] = []
    for x, y in points.tolist():
        while len(kept) >= 2:
            (x0, y0), (x1, y1) = kept[-2], kept[-1]
            if (x1 - x0) * (y - y0) < (x - x0) * (y1 - y0):
                break
            kept.pop()
        kept.append((x, y))
    return np.array(kept, dtype=np.int64)


def area(points: Points) -> float:
    """Return the area under straight lines between the points, as a share of the square."""
    false, true = points.astype(np.float64).T
    return float((np.diff(false) * (true[:-1] + true[1:]) / 2).sum() / (false[-1] * true[-1]))


def interpolated_rate(points: Points, false_rate: float) -> float:
    """Return the true positive rate on the straight line between the points, at exactly this false positive rate."""
    false, true = points.astype(np.float64).T
    wanted = false_rate * false[-1]
    if wanted >= false[-1]:
        return 1.0
    left = int(np.flatnonzero(false <= wanted)[-1])  # of several points above one another, the highest
    share = (wanted - false[left]) / (false[left + 1] - false[left])
    return float((true[left] + share * (true[left + 1] - true[left])) / true[-1])


def step_rate(points: Points, false_rate: float) -> float:
    """Return the largest true positive rate of a rule whose false positive rate is at most this."""
    false, true = points.T
    return float(true[false <= false_rate * false[-1] + 1e-9].max() / true[-1])
