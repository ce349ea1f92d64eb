"""What stands beside the verdict of the procedure question and never in it: upper statements and extrapolations.

The three numbers of a careful report are a lower bound, the largest bound that the size could show, and what an
attacker on this very score can gain at most. The last is no eps: another score may see more. Extrapolations assume the
shape of a curve, or a prior, and are of claim types of their own, so that no reader and no gate takes them for a bound.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from cu_attacks._extrapolations import gaussian_mu, joint_beta
from cu_attacks._types import AttackError
from cu_attacks._upper import attack_limited, equivalence
from cu_cert.claims import SIDE_ALPHA, Claim, decimal, metric_claim
from cu_certificates.check.fields import printed
from cu_certificates.check.pool_table import PoolTable
from cu_certificates.check.tables import Model, PilotTable, SlotTable

GAUSSIAN_DELTA: Final = 1e-5
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
    return _beside(pools[0], pools[1], pilots.middle(), "slots", pilots.centring)


def pools_beside(table: PoolTable, threshold: int) -> list[Claim]:
    """Return what stands beside two pools without coins; the calibration half fixes the margin of equivalence.

    Args:
        table: The pools.
        threshold: What the calibration halves chose.
    """
    return _beside(table.unlearned, table.retrained, threshold, "pools", table.calibrate_retrained)


def _beside(
    unlearned: Sequence[Model], retrained: Sequence[Model], threshold: int, evidence: str, reference: Sequence[Model]
) -> list[Claim]:
    scores, others, spread = (
        [model.score for model in pool if model.score is not None] for pool in (unlearned, retrained, reference)
    )
    if not scores or not others:
        return []
    counts = [sum(score >= threshold for score in pool) for pool in (scores, others)]
    # A failed model could have had any score, so nothing bounds from above what it would have shown.
    whole = len(scores) == len(unlearned) and len(others) == len(retrained)
    return [
        *(_bands(scores, others, evidence) if whole else []),
        *_extrapolations(counts[0], len(scores), counts[1], len(others)),
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


def _extrapolations(true: int, unlearned: int, false: int, retrained: int) -> list[Claim]:
    """Show what a Gaussian pair and a Bayesian would make of one operating point that was fixed beforehand.

    Args:
        true: Unlearned models above the threshold.
        unlearned: All unlearned models.
        false: Retrained models above the threshold.
        retrained: All retrained models.
    """
    gaussian = gaussian_mu(true, unlearned, false, retrained, alpha=SIDE_ALPHA, delta=GAUSSIAN_DELTA)
    bayes = joint_beta(true, unlearned, false, retrained, alpha=SIDE_ALPHA)
    common: Claim = {"question": "procedure", "planned": False}
    return [
        {
            "id": "x-mu",
            "type": "mu-lower",
            **common,
            "value": decimal(gaussian.mu),
            "eps": decimal(gaussian.eps),
            "delta": "1/100000",
            "assumption": gaussian.assumption,
            "note": f"{gaussian.method}; {gaussian.shows_not}",
        },
        {
            "id": "x-bayes",
            "type": "eps-bayes",
            **common,
            "value": decimal(bayes.low),
            "interval": [decimal(bayes.low), decimal(bayes.high)],
            "assumption": bayes.assumption,
            "note": f"{bayes.method}; {bayes.shows_not}",
        },
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
