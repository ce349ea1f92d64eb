"""``lira``: does a record's margin fit models that were trained on it better than models that were not?

The likelihood-ratio attack of Carlini et al. 2022 (arXiv 2112.03570). Online (shadow models of both kinds): ln of the
likelihood ratio of the two laws. Offline (only models that never saw the record; eq. 4): ln Phi((phi - mu_out) /
sigma), one-sided, because a margin far *below* the never-in law is no sign of membership; scores on the other side are
read by flipping them.

sigma is by default the *within-record* spread pooled over records: with few shadow models a spread of its own for each
record is noise, and one taken over all values mixes in the differences between records. ``variance="nig"`` gives each
record a spread that is shrunk towards the others, which makes the law a Student t: BaVarIA's t form (Brännvall 2026,
arXiv 2603.11799) with a prior fitted to the records at hand, so that attack has no file of its own. With few shadow
models it is close to pooling; with many it follows records whose spreads truly differ.

The code released with the paper (``plot.py``) differs: it centres on medians; its fixed variance is taken over all
values of all records and, for the OUT law too, from the IN values; its offline form is the OUT density itself, which is
two-sided; and it averages log-likelihoods over augmented queries, where the paper fits one multivariate normal law.
Here margins are averaged over queries before any law is fitted. ``variance="global"`` keeps medians and one overall
spread, each side its own.
"""

import numpy as np
import numpy.typing as npt

from cu_attacks._gauss import Variance, fit_law, mask_of, models_of, signals_of
from cu_attacks._types import Attack, AttackError, FloatArray


def lira_offline(signals: npt.ArrayLike, shadows: npt.ArrayLike, *, variance: Variance = "pooled") -> FloatArray:
    """Score each record from models that never saw it; higher means "was trained on".

    Args:
        signals: Margins ln(p_y / (1 - p_y)) of the audited model, shape (records,) or (records, queries).
        shadows: Margins of models that never saw any of these records, shape (models >= 2, records) or
            (models >= 2, records, queries).
        variance: How the never-in law's spread is fitted.

    Returns:
        ln P[X <= phi] under the never-in law, shape (records,), at most 0. Minus the score ranks records from the low
        side, for over-forgetting.

    Raises:
        AttackError: Shapes disagree, too few models, or a value is not finite.
    """
    out = models_of(shadows, "shadows", rows=2)
    phi = signals_of(signals, "signals", size=out.shape[1])
    return fit_law(out, variance, "shadows").log_below(phi)


def lira_online(
    signals: npt.ArrayLike, shadows: npt.ArrayLike, member_mask: npt.ArrayLike, *, variance: Variance = "pooled"
) -> FloatArray:
    """Score each record from models that saw it and models that did not; higher means "was trained on".

    Args:
        signals: Margins of the audited model, shape (records,) or (records, queries).
        shadows: Margins of the shadow models, shape (models, records) or (models, records, queries).
        member_mask: Whether a shadow model was trained on a record, booleans of shape (models, records). Each record
            has its own in and out models: at least one of either kind, two with ``variance="record"``.
        variance: How the spread of both laws is fitted.

    Returns:
        ln of the likelihood ratio, in over out, shape (records,).

    Raises:
        AttackError: Shapes disagree, a record lacks a kind of model, or a value is not finite.
    """
    seen = models_of(shadows, "shadows", rows=2)
    inside = mask_of(member_mask, "member_mask", seen.shape)
    for kind, chosen in (("in", inside), ("out", ~inside)):
        without = int((~chosen.any(axis=0)).sum())
        if without:
            raise AttackError(
                f"member_mask: {without} records have no {kind} model; expected at least one of each kind"
            )
    phi = signals_of(signals, "signals", size=seen.shape[1])
    law_in, law_out = (
        fit_law(seen, variance, f"shadows ({kind})", use) for kind, use in (("in", inside), ("out", ~inside))
    )
    scores: FloatArray = law_in.log_density(phi) - law_out.log_density(phi)
    return np.asarray(scores, dtype=np.float64)


ATTACK = Attack(name="lira", kind="panel", paper="Carlini et al. 2022, arXiv 2112.03570, eq. 4", run=lira_offline)
