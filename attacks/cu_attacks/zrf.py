"""``zrf``: the zero-retrain-forgetting score of unlearned models, less that of the retrained ones.

Chundawat, Tarun, Mandal, Kankanhalli 2023 (AAAI, arXiv 2205.08096): ZRF(M) = 1 - mean over the request of JS(M(x),
T(x)), with a randomly initialised model T. Alone it means nothing: it is largest for a model that answers at random,
which is over-forgetting. So only its gap to the retrained models' own score is returned, beside its null band. JS is
in bits here, which puts the score in [0, 1].
"""

from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

from cu_attacks._outputs import jensen_shannon, probabilities, three_cubes
from cu_attacks._permute import Described
from cu_attacks._splits import described, retrain_splits
from cu_attacks._types import Attack, AttackError, FloatArray


@dataclass(frozen=True, kw_only=True)
class ZeroRetrain(Described):
    """The gap in ZRF; above the band is nearer to random answers than a retrain is, below is further away.

    Args:
        unlearned: Mean ZRF of the unlearned models, in [0, 1].
        retrained: Mean ZRF of the retrained models.
    """

    unlearned: float
    retrained: float


def scores(models: FloatArray, random: FloatArray) -> FloatArray:
    """Return the ZRF of every model, averaged over the random models.

    Args:
        models: Class probabilities, shape (models, records, classes).
        random: Class probabilities of randomly initialised models, shape (random models, records, classes).
    """
    found = [jensen_shannon(model[None], random).mean() for model in models]
    return 1 - np.array(found) / log(2)


def zrf(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    random: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    spare: npt.ArrayLike | None = None,
    draws: int = 200,
) -> ZeroRetrain:
    """Compute the gap in ZRF and its null band, which has two sides.

    Args:
        unlearned: Class probabilities on the request, shape (models, records, classes).
        retrained: The same, shape (models >= 2, records, classes).
        random: The same of randomly initialised models, shape (random models, records, classes).
        rng: Source of the splits behind the null band.
        spare: Further retrained models, for the null band only.
        draws: Splits behind the band.

    Raises:
        AttackError: Shapes disagree, values are no probabilities, or too few retrained models.
    """
    more = None if spare is None else probabilities(spare, "spare")
    values, sizes = three_cubes((probabilities(unlearned, "unlearned"), probabilities(retrained, "retrained"), more))
    lost = probabilities(random, "random")
    if lost.shape[1:] != values.shape[1:]:
        _, records, classes = values.shape
        raise AttackError(f"random: shape {lost.shape}; expected (models, {records}, {classes}) as in unlearned")
    each = scores(values, lost)
    splits = retrain_splits(sizes, rng=rng, draws=draws)
    found = described(
        "gap in ZRF, unlearned less retrained", lambda u, r: float(each[u].mean() - each[r].mean()), splits
    )
    mine, theirs = splits.everyone
    return ZeroRetrain(**vars(found), unlearned=float(each[mine].mean()), retrained=float(each[theirs].mean()))


ATTACK = Attack(name="zrf", kind="descriptive", paper="Chundawat et al. 2023, arXiv 2205.08096", run=zrf)
