"""Signals of judged models -> their distances as evidence, and the permutation test that the checker redoes on them."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.spatial.distance import pdist, squareform

from cu_attacks._types import FloatArray
from cu_cert.claims import Claim
from cu_certificates.check.distances import (
    MOST_DISTANCE,
    SCALE,
    Labelled,
    distance_key,
    energy_test,
    require_sizes,
)
from cu_certificates.check.fields import printed
from cu_certificates.check.strict import Rejected, canonical
from cu_certificates.plan import Plan

DISTANCES: Final = ("distances", "distances", "evidence/distances.jsonl", "controlled")
"""Id, kind, name and access of the evidence file."""

TITLE: Final = "energy distance between unlearned and retrained models"
NOTE: Final = "a detected difference is not an eps; a large p does not show that the two sets are alike"


def energy_evidence(
    signals: FloatArray, digests: Sequence[str], unlearned: Sequence[bool], *, plan: Plan, seed: bytes
) -> tuple[Claim, bytes] | None:
    """Compare unlearned with retrained models as two sets.

    Args:
        signals: Of each judged model on the request, in the order of the judged table, shape (models, records).
        digests: Digest (hex) of each model.
        unlearned: Whether each is an unlearned one.
        plan: The plan.
        seed: The audit seed.

    Returns:
        The claim and the content of ``distances.jsonl``. ``None`` where there are too few or too many models, where
        they share one original and so are no independent draws, and where the request is padded: distances over
        records grow with their number.
    """
    if plan.original == "fixed" or plan.request_least is not None:
        return None
    try:
        require_sizes(unlearned, "models")
    except Rejected:
        return None
    whole = np.rint(np.minimum(squareform(pdist(signals)) * SCALE, MOST_DISTANCE)).astype(np.int64).tolist()
    rows = [row[:place] for place, row in enumerate(whole)]
    lines: list[dict[str, object]] = [{"kind": "opening", "seed": seed.hex(), "nonce": ""}]
    lines += [{"kind": "model", "model": digest, "distances": row} for digest, row in zip(digests, rows, strict=True)]
    models = Labelled(rows, list(unlearned), distance_key(seed, plan.digest, ""))
    found, (one, two) = energy_test(models), models.sizes
    claim: Claim = {
        "id": "t-energy",
        "type": "perm-p",
        "question": "procedure",
        "evidence": "distances",
        "statistic": "energy",
        "name": TITLE,
        "unlearned": one,
        "retrained": two,
        "labellings": found.labellings,
        "asDifferent": found.reached,
        "p": str(found.p),
        "value": printed(found.statistic),
        "interval": [printed(found.low), printed(found.high)],
        "note": NOTE,
        "planned": False,
    }
    return claim, b"".join(canonical(line) + b"\n" for line in lines)
