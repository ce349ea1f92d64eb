"""``loss``: threshold the loss (Yeom et al. 2018, arXiv 1709.01604, adversary 1); a baseline that needs no shadows."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from cu_attacks._roc import PANEL_LIMIT, members_and_others
from cu_attacks._types import Attack, AttackError, Estimate, FloatArray, vector
from cu_certificates.check.tails import cp_lower, cp_upper


def negative_loss(signals: npt.ArrayLike) -> FloatArray:
    """Score each record by minus its cross-entropy; higher means "was trained on".

    Args:
        signals: Margins ln(p_y / (1 - p_y)), shape (records,).

    Returns:
        ln p_y = -ln(1 + e^-margin), shape (records,), at most 0.
    """
    return -np.logaddexp(0.0, -vector(signals, "signals"))


def yeom_advantage(signals: npt.ArrayLike, member: npt.ArrayLike, *, training_loss: float) -> Estimate:
    """Membership advantage, TPR - FPR, of the rule "member when the loss is at most the mean training loss".

    The mean training loss is the one number that this attacker knows of the model. It must come from other records than
    those judged (say, retained ones), or the rule would have seen its answers.

    Args:
        signals: Margins, shape (records,).
        member: Whether the record is in the request, booleans of shape (records,); at least two of either kind.
        training_loss: Mean cross-entropy of the model on its training records, at least 0.

    Returns:
        The advantage, in [-1, 1], with a 95 % interval: the difference of two Clopper-Pearson intervals of level 97.5
        %.

    Raises:
        AttackError: Wrong shapes, a kind of record is missing, or the loss is negative or not finite.
    """
    if not (np.isfinite(training_loss) and training_loss >= 0):
        raise AttackError(f"training_loss: {training_loss}; expected a mean cross-entropy, at least 0")
    inside, outside = members_and_others(negative_loss(signals), member)
    share = Fraction(1, 80)  # four one-sided bounds at a fourth of 5 % each
    ends = []
    rates = []
    for scores in (inside, outside):
        hits, total = int((scores >= -training_loss).sum()), len(scores)
        rates.append(hits / total)
        ends.append((float(cp_lower(total, hits, share)), float(cp_upper(total, hits, share))))
    return Estimate(
        name="membership advantage at the mean training loss",
        value=rates[0] - rates[1],
        low=ends[0][0] - ends[1][1],
        high=ends[0][1] - ends[1][0],
        level=0.95,
        method="difference of two Clopper-Pearson intervals, level split evenly",
        n=(len(inside), len(outside)),
        shows_not=PANEL_LIMIT,
    )


ATTACK = Attack(name="loss", kind="panel", paper="Yeom et al. 2018, arXiv 1709.01604", run=negative_loss)
