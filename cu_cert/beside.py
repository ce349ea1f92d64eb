"""What stands beside the verdict of the procedure question and never in it: upper statements and extrapolations.

The three numbers of a careful report are a lower bound, the largest bound that the size could show, and what an
attacker on this very score can gain at most. The last is no eps: another score may see more. Extrapolations assume the
shape of a curve, or a prior, and are of claim types of their own, so that no reader and no gate takes them for a bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from cu_attacks._extrapolations import gaussian_mu, joint_beta
from cu_attacks._types import AttackError
from cu_attacks._upper import attack_limited, equivalence
from cu_cert.claims import POOL_NAMES, SIDE_ALPHA, Claim, decimal, metric_claim
from cu_certificates.check.extrapolations import gaussian_distance, spelled
from cu_certificates.check.fields import printed
from cu_certificates.check.normal import implied_eps, lower_witness
from cu_certificates.check.pool_table import PoolTable
from cu_certificates.check.pools import counts
from cu_certificates.check.tables import Model, PilotTable, SlotTable

GAUSSIAN_DELTA: Final = Fraction(1, 100_000)
"""Where the Gaussian extrapolation states its eps."""

FACTOR: Final = 1.0
"""Margin of the equivalence test, in standard deviations of retrained models' scores."""

BAND_EPS: Final = (Fraction(0), Fraction(1))

SCORE: Final = "the planned score"


def slots_beside(table: SlotTable, pilots: PilotTable) -> list[Claim]:
    """Return what stands beside coin-flip slots; the pilots fix the threshold and the margin of equivalence.

    Args:
        table: The slots.
        pilots: The models that fitted the score.
    """
    pools = [[model for model, coin in zip(table.main, table.coins, strict=True) if coin == bit] for bit in (1, 0)]
    counted = _Counted(*_above(pools[0], pilots.middle()), *_above(pools[1], pilots.middle()))
    parents: Claim = {"tpr": f"c-cp-{POOL_NAMES[0]}", "fpr": f"c-cp-{POOL_NAMES[1]}"}
    return _beside(pools[0], pools[1], counted, parents, "slots", pilots.centring)


def pools_beside(table: PoolTable, threshold: int) -> list[Claim]:
    """Return what stands beside two pools without coins; the calibration half fixes the margin of equivalence.

    Args:
        table: The pools.
        threshold: What the calibration halves chose.
    """
    true, false = counts(table.unlearned, table.retrained, threshold, worst=True)
    counted = _Counted(true, len(table.unlearned), false, len(table.retrained))
    parents: Claim = {"from": "c-eps-procedure", "alpha": str(SIDE_ALPHA)}
    return _beside(table.unlearned, table.retrained, counted, parents, "pools", table.calibrate_retrained)


@dataclass(frozen=True)
class _Counted:
    """Models of either pool that reach a threshold which was fixed without them."""

    true: int
    unlearned: int
    false: int
    retrained: int


def _above(pool: Sequence[Model], threshold: int) -> tuple[int, int]:
    """Return how many models reach the threshold, of those that did not fail."""
    scores = [model.score for model in pool if model.score is not None]
    return sum(score >= threshold for score in scores), len(scores)


def _beside(
    unlearned: Sequence[Model],
    retrained: Sequence[Model],
    counted: _Counted,
    parents: Claim,
    evidence: str,
    reference: Sequence[Model],
) -> list[Claim]:
    scores, others, spread = (
        [model.score for model in pool if model.score is not None] for pool in (unlearned, retrained, reference)
    )
    if not scores or not others:
        return []
    # A failed model could have had any score, so nothing bounds from above what it would have shown.
    whole = len(scores) == len(unlearned) and len(others) == len(retrained)
    return [
        *(_bands(scores, others, evidence) if whole else []),
        *_gaussian(counted, parents),
        *_bayes(counted),
        *_equivalence(scores, others, spread),
    ]


def _bands(unlearned: Sequence[int], retrained: Sequence[int], evidence: str) -> list[Claim]:
    """Bound what any attacker who thresholds the score gains, at eps 0 and 1.

    Args:
        unlearned: Scores of the unlearned models that are counted, none failed.
        retrained: Scores of the retrained models that are counted, none failed.
        evidence: Id of the evidence file that holds them.
    """
    claims: list[Claim] = []
    for eps in BAND_EPS:
        found = attack_limited(unlearned, retrained, score=SCORE, eps=eps, alpha=SIDE_ALPHA)
        claims.append(
            {
                "id": f"c-band-{eps}",
                "type": "band",
                "question": "procedure",
                "evidence": evidence,
                "quantity": "delta-up",
                "eps": str(eps),
                "alpha": str(SIDE_ALPHA),
                "unlearned": len(unlearned),
                "retrained": len(retrained),
                "bound": printed(found.delta_up),
                "floor": printed(found.floor),
                "planned": False,
            }
        )
    return claims


def _gaussian(counted: _Counted, parents: Claim) -> list[Claim]:
    """Show what a Gaussian pair would make of one operating point; nothing where an end is trivial.

    Args:
        counted: The operating point.
        parents: The claims from which the checker takes the two rates.
    """
    found = gaussian_mu(
        counted.true,
        counted.unlearned,
        counted.false,
        counted.retrained,
        alpha=SIDE_ALPHA,
        delta=float(GAUSSIAN_DELTA),
    )
    if found.tpr == 0 or found.fpr == 1:
        return []  # the distance is minus infinity, which says nothing
    low, high = lower_witness(found.tpr), -lower_witness(1 - found.fpr)
    mu = gaussian_distance(low, high)
    return [
        {
            "id": "x-mu",
            "type": "mu-lower",
            "question": "procedure",
            **parents,
            "z1": spelled(low),
            "z2": spelled(high),
            "value": printed(mu),
            "eps": printed(implied_eps(mu, GAUSSIAN_DELTA)),
            "delta": str(GAUSSIAN_DELTA),
            "assumption": found.assumption,
            "note": f"{found.method}; {found.shows_not}",
            "planned": False,
        }
    ]


def _bayes(counted: _Counted) -> list[Claim]:
    """Show what a Bayesian would make of one operating point that was fixed beforehand."""
    found = joint_beta(counted.true, counted.unlearned, counted.false, counted.retrained, alpha=SIDE_ALPHA)
    return [
        {
            "id": "x-bayes",
            "type": "eps-bayes",
            "question": "procedure",
            "planned": False,
            "value": decimal(found.low),
            "interval": [decimal(found.low), decimal(found.high)],
            "assumption": found.assumption,
            "note": f"{found.method}; {found.shows_not}",
        }
    ]


def _equivalence(unlearned: Sequence[int], retrained: Sequence[int], reference: Sequence[int]) -> list[Claim]:
    """Show whether the mean score lies within the spread of retrained models; nothing when there is no spread.

    Args:
        unlearned: Scores of unlearned models.
        retrained: Scores of retrained models.
        reference: Scores of further retrained models, whose spread is the margin.
    """
    try:
        found = equivalence(unlearned, retrained, reference=reference, factor=FACTOR, alpha=SIDE_ALPHA)
    except AttackError:
        return []  # too few models, or all scores equal
    outcome = "within" if found.equivalent else "not shown to lie within"
    note = (
        f"{found.level:.0%} interval; {outcome} {FACTOR:g} standard deviation ({found.margin:.0f}) of retrained models "
        f"(p = {found.p:.4f}, {found.method}); {found.shows_not}"
    )
    title = "mean score of unlearned minus retrained models, in millionths"
    return [metric_claim("equivalence", title, found.difference, (found.low, found.high), note)]
