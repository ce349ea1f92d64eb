"""``neighbours``: does the model remember, or damage, what lies close to the request?

Retained records near the request show damage around it. Slightly changed copies of the request are not the records that
a method was told about, so a method that bends the model at the exact points only is seen there: "residual knowledge",
Hsu et al. 2026, arXiv 2601.22359, whose copies are adversarial; these are drawn at random.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from cu_cert.probes._case import Case, FloatArray, alone
from cu_cert.probes._types import Finding, Part, Probe, Skip
from cu_cert.records import Records
from cu_cert.signals import relative

NEAREST: Final = 3
COPIES: Final = 4
NOISE: Final = 0.1


def near_rows(forget: Records, retain: Records) -> npt.NDArray[np.bool_]:
    """Mark the retained records that are among the :data:`NEAREST` of their class to a record of the request.

    Args:
        forget: The request's records.
        retain: The records that stay.

    Returns:
        Shape (retained,). Distance is Euclidean over features divided by their standard deviation.
    """
    stay, gone = (records.x.reshape(len(records), -1).astype(np.float64) for records in (retain, forget))
    spread = stay.std(axis=0)
    spread[spread == 0] = 1
    near = np.zeros(len(retain), dtype=np.bool_)
    for label in np.unique(forget.y):
        rows = np.flatnonzero(retain.y == label)
        if len(rows):
            index = NearestNeighbors(n_neighbors=min(NEAREST, len(rows)), algorithm="brute").fit(stay[rows] / spread)
            near[rows[index.kneighbors(gone[forget.y == label] / spread, return_distance=False)]] = True
    return near


def near(case: Case) -> Finding:
    """Mean margin on the nearest retained records, relative to the other retained records of the same class.

    Raises:
        Skip: No retained record is near the request, or all are.
    """
    retain = case.workshop.retain
    close = near_rows(case.workshop.forget_records, retain)
    if not close.any():
        raise Skip("no retained record has a class of the request")
    if close.all():
        raise Skip("every retained record is among the nearest to the request; none is left to compare with")
    names = np.array(retain.ids)
    margins = np.hstack([case.retained[:, close], case.retained[:, ~close]])
    found = relative(margins, retain.select(names[close]), retain.select(names[~close]))
    note = (
        f"mean margin on the {int(close.sum())} retained records that are among the {NEAREST} nearest of their class to"
        " a record of the request, relative to the other retained records of the class"
    )
    return alone(found.mean(axis=1), note)


def changed(records: Records, train: Records, noise: FloatArray) -> Records:
    """Return records with some noise on every feature that can bear it, ids and labels as they were.

    Args:
        records: What to change.
        train: All training records; they fix each feature's unit and range.
        noise: In standard deviations of the feature, shape of ``records.x``.

    Raises:
        Skip: No feature can bear it.
    """
    x = train.x
    # Counts, categories, one-hot columns and tokens: half a category is no record.
    fine = (x != np.rint(x)).any(axis=0)
    if not fine.any():
        raise Skip("all features are whole numbers (counts, categories, tokens); a small change of them means nothing")
    moved = records.x + np.where(fine, x.std(axis=0, dtype=np.float64), 0.0) * noise
    inside = np.clip(moved, np.minimum(x.min(axis=0), records.x), np.maximum(x.max(axis=0), records.x))
    return Records(records.ids, inside.astype(np.float32), records.y, records.classes)


def perturbed(case: Case) -> Finding:
    """Mean margin on slightly changed copies of the request, relative to held-out records changed alike.

    Raises:
        Skip: No feature can be changed slightly.
    """
    shop = case.workshop
    total = np.zeros(1 + case.retrained)
    for number in range(COPIES):
        # The noise is the same for all models.
        request, held_out = (
            changed(records, shop.train, NOISE * case.rng.child(name, number).numpy().normal(size=records.x.shape))
            for name, records in (("perturbed request", shop.forget_records), ("perturbed held out", shop.held_out))
        )
        total += case.relative(case.margins(request, held_out))
    note = (
        f"{case.signal}; {COPIES} copies of each record, with normal noise of {NOISE} standard deviations on every "
        "feature that is not a whole number"
    )
    return alone(total / COPIES, note)


PROBE = Probe(
    name="neighbours",
    paper="Hsu et al. 2026, arXiv 2601.22359",
    parts=(
        Part(
            name="neighbours-retained",
            title="margin on retained records near the request, in nats",
            shows_not="near is meant in the features, not in what the model makes of them",
            run=near,
        ),
        Part(
            name="neighbours-perturbed",
            title="margin on slightly changed copies of the request, in nats",
            shows_not="copies that an adversary chooses may show more than random ones",
            run=perturbed,
        ),
    ),
)
