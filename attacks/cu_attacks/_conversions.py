"""Arithmetic between eps, the rates of a decision rule and the accuracy of a guess: identities, not estimates.

Applied to bounds they give bounds; applied to counted shares they give nothing that may be called one.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf, log

from cu_attacks._bounds import NONE, require_delta, require_eps
from cu_attacks._types import AttackError
from cu_certificates.check.bands import ceil_step
from cu_certificates.check.tails import group_bound, sigmoid


@dataclass(frozen=True, kw_only=True)
class Region:
    """What two *known* rates of one decision rule imply.

    Args:
        tpr: Chance that an unlearned model is called unlearned.
        fpr: Chance that a retrained one is.
        delta: In [0, 1).
        eps: Smallest eps that allows these rates; infinite when none does.
        supports_verdict: Always false.
        shows_not: What a reader must not conclude.
    """

    tpr: float
    fpr: float
    delta: float
    eps: float
    supports_verdict: bool = False
    shows_not: str = (
        "no bound when the rates were counted: the largest ratio over thresholds overstates eps at any size"
    )


def region_eps(tpr: float, fpr: float, *, delta: float = 0.0) -> Region:
    """Return the smallest eps at which known rates are possible, over both directions and both sides of the rule.

    max{ln((TPR - d) / FPR), ln((1 - FPR - d) / (1 - TPR)), ln((FPR - d) / TPR), ln((1 - TPR - d) / (1 - FPR)), 0}
    (Kairouz, Oh and Viswanath 2015, arXiv 1311.0776).

    Args:
        tpr: In [0, 1].
        fpr: In [0, 1].
        delta: In [0, 1).

    Raises:
        AttackError: A rate out of range.
    """
    for name, value in (("tpr", tpr), ("fpr", fpr)):
        if not 0 <= value <= 1:
            raise AttackError(f"{name}: {value}; expected a rate in [0, 1]")
    if not 0 <= delta < 1:
        raise AttackError(f"delta: {delta}; expected a number in [0, 1)")
    pairs = ((tpr, fpr), (1 - fpr, 1 - tpr), (fpr, tpr), (1 - tpr, 1 - fpr))
    ratios = [inf if bottom == 0 else log(top - delta) - log(bottom) for top, bottom in pairs if top > delta]
    return Region(tpr=float(tpr), fpr=float(fpr), delta=float(delta), eps=max([*ratios, 0.0]))


def largest_accuracy(eps: Fraction, delta: Fraction = NONE) -> Fraction:
    """Return how often a fair coin between unlearned and retrained can be guessed right under (eps, delta), rounded up.

    (e^eps + delta) / (e^eps + 1).

    Args:
        eps: From 0 to 1000.
        delta: In [0, 1].

    Raises:
        AttackError: A number out of range, or a float.
    """
    require_eps(eps, "eps")
    require_delta(delta, "delta", closed=True)
    share = Fraction(sigmoid(eps).high) if eps else Fraction(1, 2)
    return min(ceil_step(share + delta * (1 - share)), Fraction(1))


def largest_advantage(eps: Fraction, delta: Fraction = NONE) -> Fraction:
    """Return the largest TPR - FPR of any rule under (eps, delta), rounded up: (e^eps - 1 + 2 delta) / (e^eps + 1).

    Args:
        eps: From 0 to 1000.
        delta: In [0, 1].

    Raises:
        AttackError: A number out of range, or a float.
    """
    require_eps(eps, "eps")
    require_delta(delta, "delta", closed=True)
    share = Fraction(sigmoid(eps).high) if eps else Fraction(1, 2)
    return min(ceil_step(2 * (share + delta * (1 - share)) - 1), Fraction(1))


def eps_of_accuracy(accuracy: Fraction, delta: Fraction = NONE) -> Fraction:
    """Return the smallest eps that allows this accuracy on a fair coin, rounded down: ln((a - delta) / (1 - a)).

    Applied to a lower bound on the accuracy it is a lower bound on eps; applied to a counted share it is none.

    Args:
        accuracy: In [1/2, 1).
        delta: In [0, 1).

    Raises:
        AttackError: A number out of range, or a float.
    """
    require_delta(delta, "delta")
    if not isinstance(accuracy, Fraction) or not Fraction(1, 2) <= accuracy < 1:
        raise AttackError(f"accuracy: {accuracy!r}; expected a Fraction in [1/2, 1)")
    return group_bound(1 - accuracy, accuracy, delta)
