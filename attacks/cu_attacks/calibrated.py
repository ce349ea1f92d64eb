"""``calibrated``: is a record's margin higher than models without it would give it?

Difficulty calibration (Watson et al. 2022, arXiv 2111.08440) by reference models, the idea behind Attack-R of Ye et al.
2022 (arXiv 2111.09679): subtract from the margin what models that never saw the record say about it on average. With
models of both kinds the midpoint of the two means is subtracted, so that 0 is where a fair guess changes. It fits no
spread, so it works from one reference model on and is strong with two to four, where no spread can be estimated.
"""

import numpy as np
import numpy.typing as npt

from cu_attacks._gauss import mask_of, models_of, signals_of
from cu_attacks._types import Attack, AttackError, FloatArray


def calibrated(signals: npt.ArrayLike, shadows: npt.ArrayLike, member_mask: npt.ArrayLike | None = None) -> FloatArray:
    """Score each record by its margin minus what was to be expected; higher means "was trained on".

    Args:
        signals: Margins of the audited model, shape (records,) or (records, queries).
        shadows: Margins of the reference models, shape (models >= 1, records) or (models >= 1, records, queries).
        member_mask: Whether a reference model was trained on a record, booleans of shape (models, records). Without it
            no reference model saw any of the records.

    Returns:
        phi - mean_out, or phi - (mean_in + mean_out) / 2 with a mask, shape (records,).

    Raises:
        AttackError: Shapes disagree, a value is not finite, or a record lacks a kind of model.
    """
    models = models_of(shadows, "shadows", rows=1)
    phi = signals_of(signals, "signals", size=models.shape[1])
    if member_mask is None:
        return np.asarray(phi - models.mean(axis=0), dtype=np.float64)
    inside = mask_of(member_mask, "member_mask", models.shape)
    means = []
    for kind, chosen in (("in", inside), ("out", ~inside)):
        count = chosen.sum(axis=0)
        if count.min() < 1:
            raise AttackError(
                f"member_mask: {int((count < 1).sum())} records have no {kind} model; expected at least one"
            )
        means.append(np.where(chosen, models, 0.0).sum(axis=0) / count)
    return np.asarray(phi - (means[0] + means[1]) / 2, dtype=np.float64)


ATTACK = Attack(
    name="calibrated",
    kind="panel",
    paper="Watson et al. 2022, arXiv 2111.08440; Ye et al. 2022, arXiv 2111.09679 (Attack-R)",
    run=calibrated,
)
