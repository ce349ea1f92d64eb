"""``lira``: the likelihood-ratio attack, offline form with pooled within-record variance.

Carlini et al. 2022 (arXiv 2112.03570, eq. 4): with only models that never saw a record, score it by
ln Phi((phi - mu_out) / sigma), one-sided. sigma is the *within-record* spread pooled over records: with few shadow
models a spread of its own for each record is noise, and one taken over all values mixes in the differences between
records.
"""

import numpy as np
import numpy.typing as npt
from scipy import special

from cu_attacks._types import Attack, FloatArray, matrix, vector


def lira_offline(signals: npt.ArrayLike, shadows: npt.ArrayLike) -> FloatArray:
    """Score each record; higher means "was trained on".

    Args:
        signals: Margins ln(p_y / (1 - p_y)) of the audited model, shape (records,).
        shadows: Margins of models that never saw any of these records, shape (models >= 2, records).

    Returns:
        ln Phi of the standardised margin, shape (records,), at most 0.

    Raises:
        AttackError: Shapes disagree or a value is not finite.
    """
    out = matrix(shadows, "shadows", rows=2)
    phi = vector(signals, "signals", size=out.shape[1])
    pooled = np.sqrt(out.var(axis=0, ddof=1).mean())
    standardised = (phi - out.mean(axis=0)) / (pooled if pooled > 0 else 1.0)
    scores: FloatArray = special.log_ndtr(standardised)
    return scores


ATTACK = Attack(name="lira", kind="panel", paper="Carlini et al. 2022, arXiv 2112.03570, eq. 4", run=lira_offline)
