"""``retained``: what did the deletion do to the records that stay?

An edit may harm records that nobody asked to delete: in the mean, in one class above all, or one by one. Their own
protection may fall, too (Hayes et al. 2024, arXiv 2403.01218), which shows as margins that are too high. Retrained
models differ on these records as well, from seed to seed; only what lies outside their range belongs to the deletion.
"""

from typing import Final

import numpy as np
from scipy import stats

from cu_attacks._multiplicity import benjamini_hochberg
from cu_cert.probes._case import Case, FloatArray, against_others, alone, together
from cu_cert.probes._types import Finding, Part, Probe

LEVEL: Final = 0.1
"""False discovery rate of the count of records."""

_LIMIT = "it says nothing about records unlike those trained on, and a better fit lies outside the range as harm does"


def mean_margin(case: Case) -> Finding:
    """Mean margin on the retained records."""
    note = f"mean margin over {case.retained.shape[1]} retained records; lower is worse"
    return alone(case.retained.mean(axis=1), note)


def lowest_slice(means: FloatArray) -> FloatArray:
    """Return how far below the other models each model's worst slice lies, in their standard deviations.

    Args:
        means: Mean margin of each slice, shape (models >= 3, slices).

    Returns:
        Shape (models,).
    """
    found: FloatArray = against_others(means).min(axis=1)
    return found


def worst_class(case: Case) -> Finding:
    """The class whose mean margin lies lowest, measured against the other models."""
    labels = case.workshop.retain.y
    means = np.stack([case.retained[:, labels == label].mean(axis=1) for label in np.unique(labels)], axis=1)
    # The harmed class may be that of the request, so it stays out of the note.
    note = (
        f"mean margin on the retained records of each of {means.shape[1]} classes, as a distance from the mean of the "
        "other models; the lowest counts, and is not named because it may point at the request"
    )
    return together(lowest_slice, means, note)


def outside_range(margins: FloatArray) -> FloatArray:
    """Count the records on which each model leaves the range of all others.

    A record's p-value is that of one more draw beside m others from one normal law, both sides: Student's t with m - 1
    degrees of freedom, of the distance from their mean over s sqrt(1 + 1/m). Benjamini and Hochberg's rule decides.

    Args:
        margins: Shape (models >= 3, records).

    Returns:
        Shape (models,).
    """
    others = len(margins) - 1
    far = np.abs(against_others(margins)) / np.sqrt(1 + 1 / others)
    p = 2 * stats.t.sf(far, others - 1)
    return np.array([benjamini_hochberg(row, LEVEL)[0].sum() for row in p], dtype=np.float64)


def records(case: Case) -> Finding:
    """Number of retained records outside the range of the other models."""
    note = (
        f"of {case.retained.shape[1]} retained records, each against a normal law fitted to the other models, both "
        f"sides, by Benjamini and Hochberg's rule at {LEVEL}; margins are not quite normal and depend on one another, "
        "so the retrained models' own counts are the measure"
    )
    return together(outside_range, case.retained, note)


PROBE = Probe(
    name="retained",
    paper="Hayes et al. 2024, arXiv 2403.01218",
    parts=(
        Part(
            name="retained-margin",
            title="mean margin on retained records, in nats",
            shows_not=_LIMIT,
            run=mean_margin,
        ),
        Part(
            name="retained-worst-class",
            title="worst class of the retained records, in standard deviations",
            shows_not=_LIMIT,
            run=worst_class,
        ),
        Part(
            name="retained-records",
            title="retained records outside the range of retrained models",
            shows_not=_LIMIT,
            run=records,
        ),
    ),
)
