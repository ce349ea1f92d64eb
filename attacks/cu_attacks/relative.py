"""``relative``: are the unlearned models closer to the retrained ones than to the original ones?

The question of the three-sample test of Ribero, Schrab and Gretton 2026 (arXiv 2601.19755), which a difference between
two batch sizes does not upset; the test here is our own, exact at any size. A model x leans to the retrained side when

    c(x) = E|x - O| - E|x - R| - (E|O - O'| - E|R - R'|) / 2 > 0,

with means over the given retrained models R and originals O; its mean over the unlearned models is half the energy
distance to O less half that to R. The hypothesis that a small p-value speaks against has two parts, and either is
enough for it to hold:

(a) retrained and original models come from one law, so "closer" has no meaning;
(b) given these R and O, an unlearned model leans to the retrained side with chance at most 1/2.

Against (a): the labels of R and O are permuted, unlearned models left alone. Against (b): the unlearned models are
independent trials, so the count of those that lean is binomial. The larger of two valid p-values is valid for "(a) or
(b)".
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from cu_attacks._permute import ModelTest, binomial_p, block_sums, null_quantiles, permutation_p, relabelings, two_pools
from cu_attacks._types import Attack, BoolArray, FloatArray


@dataclass(frozen=True, kw_only=True)
class Relative(ModelTest):
    """The outcome; ``statistic`` is the energy distance to the originals less that to the retrained models.

    Args:
        leaning: Unlearned models on the retrained side.
        share_p: p-value against part (b), leaning at most half of the time.
        label_p: p-value against part (a), one law of retrained and original models.
    """

    leaning: int
    share_p: Fraction
    label_p: Fraction


def leaning(to_originals: FloatArray, to_retrained: FloatArray, offset: float) -> FloatArray:
    """Return c(x) of every unlearned model.

    Args:
        to_originals: Distances, shape (unlearned, originals).
        to_retrained: Distances, shape (unlearned, retrained).
        offset: (E|O - O'| - E|R - R'|) / 2.
    """
    found: FloatArray = to_originals.mean(axis=1) - to_retrained.mean(axis=1) - offset
    return found


def _statistics(across: FloatArray, within: FloatArray, rows: BoolArray) -> FloatArray:
    """Return twice the mean of c over the unlearned models for every relabeling of retrained against original."""
    one = int(rows[0].sum())
    two = rows.shape[1] - one
    towards = across.mean(axis=0)
    mine = rows.astype(np.float64) @ towards
    inside, outside, _ = block_sums(within, rows)
    found: FloatArray = 2 * ((towards.sum() - mine) / two - mine / one) - (outside / two**2 - inside / one**2)
    return found


def relative(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    original: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    permutations: int = 999,
) -> Relative:
    """Test whether unlearned models are closer to retrained than to original models.

    Args:
        unlearned: Signals, shape (models >= 2, records); made from originals other than those in ``original``.
        retrained: Signals, shape (models >= 2, records).
        original: Signals of models before unlearning, shape (models >= 2, records).
        rng: Source of the permutations.
        permutations: B, at least 1.

    Raises:
        AttackError: Shapes disagree, values are NaN or infinite, or there are no permutations.
    """
    mine, first = two_pools(unlearned, retrained, ("unlearned", "retrained"))
    second = two_pools(unlearned, original, ("unlearned", "original"))[1]
    rows = relabelings(len(first), len(second), rng=rng, permutations=permutations)
    rivals = np.concatenate([first, second])
    across, within = cdist(mine, rivals), cdist(rivals, rivals)
    values = _statistics(across, within, rows)
    low, median, high = null_quantiles(values)
    split = len(first)
    offset = float(within[split:, split:].mean() - within[:split, :split].mean()) / 2
    leans = leaning(across[:, split:], across[:, :split], offset)
    # Ties up to rounding do not count as leaning, which can only raise p.
    count = int((leans > 1e-9 * float(across.max())).sum())
    share_p, label_p = binomial_p(len(mine), count), permutation_p(values)
    return Relative(
        name="energy distance to the originals less that to the retrained models, in the signal's unit",
        statistic=float(values[0]),
        null_low=low,
        null_median=median,
        null_high=high,
        exact=max(share_p, label_p),
        n=(len(mine), len(first), len(second)),
        permutations=permutations,
        unlearned=None,
        method=f"larger of a binomial and a permutation p-value ({permutations} relabelings of retrained and original)",
        assumptions="the three sets are independent of each other, and models within a set come from one law",
        shows_not="closer to retrained models than to originals does not show that nothing is left; no eps follows",
        leaning=count,
        share_p=share_p,
        label_p=label_p,
    )


ATTACK = Attack(
    name="relative",
    kind="test",
    paper="question: Ribero, Schrab, Gretton 2026, arXiv 2601.19755; test: exact, ours",
    run=relative,
)
