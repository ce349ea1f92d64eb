"""``loss``: threshold the loss (Yeom et al. 2018, arXiv 1709.01604, adversary 1); a baseline that needs no shadows."""

import numpy as np
import numpy.typing as npt

from cu_attacks._types import Attack, FloatArray, vector


def negative_loss(signals: npt.ArrayLike) -> FloatArray:
    """Score each record by minus its cross-entropy; higher means "was trained on".

    Args:
        signals: Margins ln(p_y / (1 - p_y)), shape (records,).

    Returns:
        ln p_y = -ln(1 + e^-margin), shape (records,), at most 0.
    """
    return -np.logaddexp(0.0, -vector(signals, "signals"))


ATTACK = Attack(name="loss", kind="panel", paper="Yeom et al. 2018, arXiv 1709.01604", run=negative_loss)
