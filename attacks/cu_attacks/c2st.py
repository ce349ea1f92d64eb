"""``c2st``: can a classifier tell two sets of models apart on models that it has not seen?

Lopez-Paz and Oquab 2017 (ICLR, arXiv 1610.06545): fit a classifier on one half of the models, count right guesses on
the other. Its accuracy is at most (1 + TV) / 2, so a lower bound on it is one on the total variation distance. The law
of the count depends on how the labels came about. Labels by fair coins: binomial, and the count is a coin-flip audit
with r = N that bounds eps as well. Labels by plan, so many of each: hypergeometric, a permutation test over all
relabelings of the held-out models; calling such labels coins would void the bound.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cu_attacks._permute import EXCHANGE, ModelTest, binomial_p, hypergeometric_p, two_pools
from cu_attacks._types import Attack, AttackError, BoolArray, FloatArray
from cu_certificates.check.tails import coinflip_bound, cp_lower, cp_upper

PENALTIES = np.logspace(-1, 5, 7)
QUANTILES = (0.025, 0.5, 0.975)


@dataclass(frozen=True, kw_only=True)
class ClassifierTest(ModelTest):
    """The outcome of a classifier two-sample test; ``statistic`` is the accuracy on held-out models.

    Args:
        held_out: Held-out models of each set.
        right: Right guesses among them.
        fair_coins: Whether the labels were fair coins.
        alpha: One-sided level of each of the two bounds.
        tv_lower: Lower bound on the total variation distance of the two laws, rounded down to four decimals.
        eps_bound: Lower bound on eps by the coin-flip rule; ``None`` when the labels were not fair coins.
    """

    held_out: tuple[int, int]
    right: int
    fair_coins: bool
    alpha: Fraction
    tv_lower: Fraction
    eps_bound: Fraction | None


def guesses(train: FloatArray, labels: BoolArray, test: FloatArray) -> BoolArray:
    """Fit a ridge classifier on standardised signals, penalty by leave-one-out, and guess the held-out models.

    Args:
        train: Signals, shape (models, records).
        labels: Which set they belong to; both occur.
        test: Signals of the held-out models.
    """
    model = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=PENALTIES, class_weight="balanced"))
    found: BoolArray = np.asarray(model.fit(train, labels).predict(test), dtype=np.bool_)
    return found


def _halves(labels: BoolArray, fair_coins: bool, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], ...]:
    """Split the models into train and test: blind to the coins when there are coins, half of each set otherwise."""
    if fair_coins:
        order = rng.permutation(len(labels))
        train, test = order[: len(labels) // 2], order[len(labels) // 2 :]
        if len(np.unique(labels[train])) < 2:
            raise AttackError(f"first: the {len(train)} models to learn from are all of one set; use more slots")
        return train, test
    groups = [rng.permutation(np.flatnonzero(labels == side)) for side in (True, False)]
    return (
        np.concatenate([group[: len(group) // 2] for group in groups]),
        np.concatenate([group[len(group) // 2 :] for group in groups]),
    )


def c2st(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    fair_coins: bool = False,
    alpha: Fraction = Fraction(1, 20),
    delta: Fraction = Fraction(0),
) -> ClassifierTest:
    """Compare two sets of models by guessing held-out ones.

    Args:
        first: Signals of one set, the unlearned models, shape (models >= 2, records).
        second: Signals of the other, the retrained models, shape (models >= 2, records).
        rng: Source of the split into models to learn from and models to guess.
        fair_coins: Whether a fair coin, independent of everything else, decided for every model which set it joins.
            Not true of sets whose sizes were fixed.
        alpha: One-sided level of each bound, in (0, 1).
        delta: Of the guarantee under test, for the bound on eps, in [0, 1).

    Raises:
        AttackError: Shapes disagree, values are NaN or infinite, too few models, or a level out of range.
    """
    one, two = two_pools(first, second)
    if not 0 < alpha < 1 or not 0 <= delta < 1:
        raise AttackError(f"alpha {alpha}, delta {delta}; expected 0 < alpha < 1 and 0 <= delta < 1")
    values, labels = np.concatenate([one, two]), np.arange(len(one) + len(two)) < len(one)
    train, test = _halves(labels, fair_coins, rng)
    guessed, truth = guesses(values[train], labels[train], values[test]), labels[test]
    total, right, mine = len(test), int((guessed == truth).sum()), int(truth.sum())
    law = _coins(total, right, alpha, delta) if fair_coins else _labels(guessed, truth, alpha)
    low, median, high = (count / total for count in law.quantiles)
    return ClassifierTest(
        name="accuracy on held-out models",
        statistic=right / total,
        null_low=low,
        null_median=median,
        null_high=high,
        exact=law.exact,
        n=(len(one), len(two)),
        permutations=None,
        unlearned=None if fair_coins else mine,
        method="binomial, coins of held-out slots" if fair_coins else "hypergeometric, relabelings of held-out models",
        assumptions="a fair coin decided for every slot; slots share nothing random" if fair_coins else EXCHANGE,
        held_out=(mine, total - mine),
        right=right,
        fair_coins=fair_coins,
        alpha=alpha,
        tv_lower=law.tv,
        eps_bound=law.eps,
    )


class _Law(NamedTuple):
    """What follows from the law of the count of right guesses: its null quantiles, p, and the two bounds."""

    quantiles: list[float]
    exact: Fraction
    tv: Fraction
    eps: Fraction | None


def _coins(total: int, right: int, alpha: Fraction, delta: Fraction) -> _Law:
    """Labels by fair coins: every rule is right with chance at most (1 + TV) / 2, slot by slot."""
    return _Law(
        [float(stats.binom.ppf(q, total, 0.5)) for q in QUANTILES],
        binomial_p(total, right),
        max(2 * cp_lower(total, right, alpha) - 1, Fraction(0)),
        coinflip_bound(total, total, right, alpha, delta),
    )


def _labels(guessed: BoolArray, truth: BoolArray, alpha: Fraction) -> _Law:
    """Labels by plan: TV is at least the gap of the two rates, each bounded at half the level."""
    total, marked, mine = len(truth), int(guessed.sum()), int(truth.sum())
    hits = int((guessed & truth).sum())
    # Right guesses are the hits and the others that were left out: 2 hits + total - marked - mine.
    quantiles = [2 * float(stats.hypergeom.ppf(q, total, marked, mine)) + total - marked - mine for q in QUANTILES]
    rates = cp_lower(mine, hits, alpha / 2) - cp_upper(total - mine, marked - hits, alpha / 2)
    return _Law(quantiles, hypergeometric_p(total, marked, mine, hits), max(rates, Fraction(0)), None)


ATTACK = Attack(name="c2st", kind="test", paper="Lopez-Paz, Oquab 2017, arXiv 1610.06545", run=c2st)
