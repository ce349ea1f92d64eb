"""``ulira``: after unlearning, does a record look like one that was unlearned or like one that was never there?

U-LiRA (Hayes et al. 2024, arXiv 2403.01218): a likelihood-ratio attack whose IN law is that of models trained on the
record *and then made to unlearn it*, and whose OUT law is that of models that never saw it. Each record has laws of its
own, so nothing is averaged away, and the attacker knows the unlearning method. Target models must be disjoint from the
shadow models that the laws were fitted on.

A high score says "unlearned rather than never trained" whichever way the signal moved; which way it did is the second
number of :func:`ulira_pools`.
"""

from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt
from scipy import stats

from cu_attacks._gauss import Variance, fit_law, models_of
from cu_attacks._model_roc import model_area, model_rate_at
from cu_attacks._multiplicity import benjamini_hochberg
from cu_attacks._panel import FALSE_RATES, Direction, direction
from cu_attacks._types import Attack, Estimate, FloatArray


def ulira(
    signals: npt.ArrayLike, unlearned: npt.ArrayLike, retrained: npt.ArrayLike, *, variance: Variance = "pooled"
) -> FloatArray:
    """Score each record in each target model; higher means "was unlearned", lower "was never there".

    Args:
        signals: Margins of the target models, shape (targets, records) or (targets, records, queries).
        unlearned: Margins of shadow models that were trained on the records and then unlearned them,
            shape (models >= 2, records[, queries]).
        retrained: Margins of shadow models that never saw them, shape (models >= 2, records[, queries]).
        variance: How the spread of both laws is fitted.

    Returns:
        ln of the likelihood ratio, unlearned over never-in, shape (targets, records).

    Raises:
        AttackError: Shapes disagree, too few models, or a value is not finite.
    """
    targets = models_of(signals, "signals", rows=1)
    size = targets.shape[1]
    laws = [
        fit_law(models_of(value, name, rows=2, size=size), variance, name)
        for value, name in ((unlearned, "unlearned"), (retrained, "retrained"))
    ]
    scores: FloatArray = laws[0].log_density(targets) - laws[1].log_density(targets)
    return np.asarray(scores, dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class ULira:
    """What U-LiRA shows on two pools of models.

    Args:
        auc: How well unlearned and never-in target models are told apart, averaged over records; 1/2 is guessing.
        signal: Area under the curve of the signal itself, unlearned over never-in: below 1/2 is over-forgetting.
        rates: (false positive rate, true positive rate there) over pairs of model and record.
        direction: Which side was seen, at 5 % in all; ``both`` when the pools differ and the signal's area is near 1/2,
            so that some records lie high and others low, or the spread differs.
        record_auc: Area under the curve of each record's score, shape (records,).
        p: One-sided exact rank-sum p-value of each record's score, shape (records,).
        count: Records reported as leaking by Benjamini-Hochberg at ``level``.
        least: Fewest records that pools of this size can report at all; more than there are records means none.
        level: False discovery rate.
        unlearned: Scores of the unlearned target models, shape (targets, records).
        retrained: Scores of the never-in target models, shape (targets, records).
        n: Shadow models and target models, unlearned before never-in.
        assumptions: What the numbers rest on.
        shows_not: What a reader must not conclude.
    """

    auc: Estimate
    signal: Estimate
    rates: tuple[tuple[float, Estimate], ...]
    direction: Direction
    record_auc: FloatArray
    p: FloatArray
    count: int
    least: int
    level: float
    unlearned: FloatArray
    retrained: FloatArray
    n: tuple[int, int, int, int]
    assumptions: str = (
        "models of either pool are independent draws; given the shadow models, so the numbers are those of this "
        "attack, not of the best one"
    )
    shows_not: str = (
        "an area of 1/2 does not show that nothing is left: more shadow models, or another signal, may see it"
    )


def ulira_pools(
    unlearned: npt.ArrayLike, retrained: npt.ArrayLike, *, variance: Variance = "pooled", level: float = 0.05
) -> ULira:
    """Run U-LiRA on two pools: every other model is a shadow, the rest are targets.

    The split goes by position, so models must stand in an order that was fixed before they existed, such as their slot
    numbers. A record's p-value is the exact rank-sum test (Mann and Whitney 1947) between the scores of unlearned and
    never-in targets; ties are broken against a report, which keeps it valid.

    Args:
        unlearned: Margins of models that unlearned the records, shape (models >= 4, records[, queries]).
        retrained: Margins of models that never saw them, shape (models >= 4, records[, queries]).
        variance: How the spread of both laws is fitted.
        level: False discovery rate over records, in (0, 1).

    Raises:
        AttackError: Shapes disagree, too few models, or a value is not finite.
    """
    pools = [models_of(unlearned, "unlearned", rows=4)]
    pools.append(models_of(retrained, "retrained", rows=4, size=pools[0].shape[1]))
    shadows, targets = [pool[0::2] for pool in pools], [pool[1::2] for pool in pools]
    first, second = (ulira(pool, shadows[0], shadows[1], variance=variance) for pool in targets)
    auc = model_area(first, second, name="AUC, U-LiRA")
    signal = model_area(targets[0], targets[1], name="AUC of the signal, unlearned over never-in")
    # Scores see both sides; the signal says which. Half of 5 % for whether, half for which way.
    seen = model_area(first, second, name="AUC, U-LiRA", level=0.975)
    way = model_area(targets[0], targets[1], name="signal", level=0.975)
    side = direction(way, (), ())
    if side == "none seen" and seen.low > 0.5:
        side = "both"
    p = _rank_sum(first, second)
    found, _ = benjamini_hochberg(p, level)
    record_auc = np.stack([((row > second) + 0.5 * (row == second)).mean(axis=0) for row in first]).mean(axis=0)
    smallest = 1 / comb(len(first) + len(second), len(first))
    return ULira(
        auc=auc,
        signal=signal,
        rates=tuple(
            (rate, model_rate_at(first, second, false_rate=rate, name=f"TPR at {rate:.1%} FPR, U-LiRA"))
            for rate in FALSE_RATES
        ),
        direction=side,
        record_auc=record_auc,
        p=p,
        count=int(found.sum()),
        least=int(np.ceil(smallest * len(p) / level - 1e-9)),
        level=level,
        unlearned=first,
        retrained=second,
        n=(len(shadows[0]), len(shadows[1]), len(first), len(second)),
    )


def _rank_sum(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the exact one-sided rank-sum p-value of each record (column), ties broken against ``first``."""
    both = np.concatenate([first, second])
    own = np.arange(len(both)) < len(first)
    ranks = np.empty(both.shape)
    for column in range(both.shape[1]):
        # Of equal scores, those of the first set come first in rising order: they get the smaller ranks.
        ranks[np.lexsort((~own, both[:, column])), column] = np.arange(len(both))
    found = stats.mannwhitneyu(ranks[own], ranks[~own], alternative="greater", method="exact", axis=0)
    p: FloatArray = np.asarray(found.pvalue, dtype=np.float64)
    return p


ATTACK = Attack(name="ulira", kind="panel", paper="Hayes et al. 2024, arXiv 2403.01218", run=ulira_pools)
