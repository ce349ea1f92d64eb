"""``onerun``: does this method unlearn records drawn at random? One training, one unlearning, many fair coins.

Steinke, Nasr, Jagielski 2023 (arXiv 2305.08846), applied to unlearning: each of m candidate records enters the training
set by a fair coin, the method unlearns those that entered, and r coins are guessed from the one model that results. Two
bounds follow from the number v of right guesses (``cu_certificates.check.onerun`` has the formulas):

- *for the whole request* (all candidates that entered, unlearned against retrained);
- *for one record* (unlearning with and without it), which is at most twice the request's eps.

The request's bound decides: it is the eps of (eps, delta)-unlearning. Either bound is wrong only when v is at least so
large, so the two error events are nested and one level serves both.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt

from cu_attacks._types import Attack, AttackError, FloatArray, matrix, vector
from cu_certificates.check.coins import right_guesses
from cu_certificates.check.onerun import half_tail, onerun_bound, request_bound
from cu_certificates.plan import default_guesses

_LARGEST: Final = 1e100
"""Squares and sums of larger margins would overflow."""


@dataclass(frozen=True, kw_only=True)
class OneRun:
    """The outcome of a one-run audit.

    Args:
        candidates: m, all records that had a coin.
        guesses: r, those that were guessed.
        right: v.
        alpha: One-sided level of both bounds.
        delta: Of the guarantee under test.
        p: P[Bin(r, 1/2) >= v], the exact p-value for "the model does not depend on the coins".
        request_bound: Lower bound on eps for the whole request, rounded down to four decimals.
        record_bound: Lower bound on eps for one record, rounded down to four decimals.
        method: How the bounds were computed.
        assumptions: What they rest on.
        shows_not: What a reader must not conclude.
    """

    candidates: int
    guesses: int
    right: int
    alpha: Fraction
    delta: Fraction
    p: Fraction
    request_bound: Fraction
    record_bound: Fraction
    method: str = "exact binomial tails, rounded down"
    assumptions: str = (
        "a fair coin for each candidate, independent of all else; the score saw neither coins nor the original model"
    )
    shows_not: str = (
        "it speaks of requests drawn like these candidates and of no other request; a bound of 0 does not show that "
        "nothing is left: read it with the largest eps this size can show"
    )

    @property
    def accuracy(self) -> Fraction:
        """Share of right guesses, v / r."""
        return Fraction(self.right, self.guesses)

    def __str__(self) -> str:
        return (
            f"{self.right} of {self.guesses} guesses right: eps >= {float(self.request_bound):.4f} for the whole "
            f"request, eps >= {float(self.record_bound):.4f} for one record"
        )


def one_run(
    scores: npt.ArrayLike,
    included: npt.ArrayLike,
    *,
    guesses: int | None = None,
    alpha: Fraction,
    delta: Fraction = Fraction(0),
) -> OneRun:
    """Guess coins by rank, "was trained on" for the highest r/2 scores and "was not" for the lowest, and bound eps.

    Scores may be tied, all of them too: ties go to the lower index, which knows no coin, so the bounds hold.

    Args:
        scores: One score a candidate, higher looks more like a record that was trained on, shape (m,), m >= 2.
        included: Whether the candidate's fair coin put it into the training set, booleans or 0 and 1, shape (m,). A
            balanced split is *not* valid: its labels depend on each other.
        guesses: r, even, from 2 to m, fixed before the coins; default 2 floor(3m/8).
        alpha: One-sided level of both bounds, in (0, 1).
        delta: Of the guarantee under test, in [0, 1).

    Raises:
        AttackError: An array has the wrong shape or a value that is not finite, all coins are alike, or a number is out
            of range.
    """
    found = vector(scores, "scores")
    coins = np.asarray(included)
    if coins.shape != found.shape or not np.isin(coins, (0, 1)).all():
        raise AttackError(
            f"included: shape {coins.shape}; expected one boolean, 0 or 1 for each of {found.size} scores"
        )
    if not 0 < coins.sum() < coins.size:
        raise AttackError(f"included: all {coins.size} coins are alike; expected a fair coin for each candidate")
    planned = default_guesses(found.size) if guesses is None else guesses
    if planned % 2 or not 2 <= planned <= found.size:
        raise AttackError(f"guesses: {planned}; expected an even number from 2 to {found.size}")
    if not 0 < alpha < 1 or not 0 <= delta < 1:
        raise AttackError(f"alpha {alpha}, delta {delta}; expected 0 < alpha < 1 and 0 <= delta < 1")
    ranks = np.unique(found, return_inverse=True)[1]
    right = right_guesses([int(coin) for coin in coins], [int(rank) for rank in ranks], planned)
    return OneRun(
        candidates=found.size,
        guesses=planned,
        right=right,
        alpha=alpha,
        delta=delta,
        p=half_tail(planned, right),
        request_bound=request_bound(planned, right, alpha, delta),
        record_bound=onerun_bound(found.size, planned, right, alpha, delta),
    )


def candidate_scores(signals: npt.ArrayLike, references: npt.ArrayLike) -> FloatArray:
    """Score every candidate on one model, without a look at the coins; higher means "was trained on".

    The statistic of offline LiRA (Carlini et al. 2022, arXiv 2112.03570): how far a margin lies above what models that
    never saw the candidate give it, in units of a spread that is half the candidate's own and half the pooled one. An
    unlearned model is often bolder or more timid than the references, so their mean margins are first fitted to the
    model's by one straight line over all candidates; the line knows no coin.

    Args:
        signals: Margins ln(p_y / (1 - p_y)) of the audited model, shape (m,).
        references: Margins of models that never saw any candidate, shape (models >= 2, m).

    Returns:
        Shape (m,). Constant signals and references without spread give finite scores, too.

    Raises:
        AttackError: Shapes disagree, or a value is not finite or larger than 1e100.
    """
    out = matrix(references, "references", rows=2)
    phi = vector(signals, "signals", size=out.shape[1])
    largest = max(np.abs(out).max(), np.abs(phi).max())
    if largest > _LARGEST:
        raise AttackError(f"signals, references: a value of magnitude {largest:.3g}; expected at most {_LARGEST:.0g}")
    mean, variance = out.mean(axis=0), out.var(axis=0, ddof=1)
    offset = mean - mean.mean()
    width = float(offset @ offset)
    slope = float(offset @ phi) / width if width > 0 else 0.0
    pooled = float(variance.mean())
    spread = np.sqrt((variance + pooled) / 2) if pooled > 0 else 1.0
    scores: FloatArray = (phi - phi.mean() - slope * offset) / spread
    return scores


ATTACK = Attack(
    name="onerun",
    kind="question",
    paper="Steinke, Nasr, Jagielski 2023, arXiv 2305.08846, applied to unlearning",
    run=one_run,
)
