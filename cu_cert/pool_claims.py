"""Claims about two pools that were made without coins, written as the checker will re-derive them."""

from fractions import Fraction

from cu_attacks.pools import Scores, pool_control, pools_at
from cu_cert.claims import Claim
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.fields import printed
from cu_certificates.check.pool_table import PoolTable
from cu_certificates.check.pools import threshold_of
from cu_certificates.check.tables import Model
from cu_certificates.plan import Plan, Subject


def pool_claims(table: PoolTable, plan: Plan, subject: Subject) -> list[Claim]:
    """Return the bound, the controls that the pools allow, and the power.

    Args:
        table: The evidence.
        plan: The plan.
        subject: What is judged.
    """
    alpha, delta, both = plan.share(), subject.tested_delta, plan.direction == "both"
    threshold, own = threshold_of(table, alpha, delta, both=both), 0
    if table.original:
        own = threshold_of(table, alpha, delta, both=both, positive=True)
    unlearned, retrained = _scores(table.unlearned), _scores(table.retrained)
    halves = (len(table.calibrate_unlearned), len(table.calibrate_retrained))
    common: Claim = {"question": "procedure", "evidence": "pools"}

    def bound(pool: Scores, threshold: int) -> Claim:
        found = pools_at(
            pool,
            retrained,
            threshold=threshold,
            calibration=halves,
            alpha=alpha,
            delta=delta,
            direction="both" if both else "forward",
        )
        return {
            "threshold": threshold,
            "true": found.true,
            "false": found.false,
            "retrained": found.retrained,
            "bound": printed(found.bound),
        }

    claims: list[Claim] = [
        {
            "id": "c-eps-procedure",
            "type": "eps-lower",
            **common,
            "alpha": str(alpha),
            "delta": str(delta),
            "unlearned": len(unlearned),
            **bound(unlearned, threshold),
            "planned": True,
        }
    ]
    if table.original:
        positive = bound(_scores(table.original), own)
        detected = Fraction(str(positive["bound"])) > subject.tested_eps
        claims.append(
            {
                "id": "c-pos-procedure",
                "type": "control",
                **common,
                "sign": "positive",
                "alpha": str(alpha),
                "originals": len(table.original),
                **positive,
                "outcome": "detected" if detected else "missed",
            }
        )
    if any(model.score is not None for model in table.rerun):
        claims.append({**_negative(table, threshold), **common})
    seen = plan.resolution(subject, "procedure")
    return [
        *claims,
        {
            "id": "c-power-procedure",
            "type": "power",
            "question": "procedure",
            "alpha": str(alpha),
            "testedEps": str(subject.tested_eps),
            "detectEps": str(plan.detect_eps),
            "unlearned": len(unlearned),
            "retrained": len(retrained),
            "maxEps": printed(seen.max_eps),
            "reached": seen.reached,
        },
    ]


def _negative(table: PoolTable, threshold: int) -> Claim:
    reruns, retrained = _scores(table.rerun), _scores(table.retrained)
    # A rerun that failed may have hidden an alarm, so it counts as one.
    counted = [threshold if score is None else score for score in reruns]
    control = pool_control(counted, retrained, threshold=threshold)
    return {
        "id": "c-neg-procedure",
        "type": "control",
        "sign": "negative",
        "threshold": threshold,
        "runs": len(reruns),
        "high": control.high - reruns.count(None),
        "referenceHigh": control.reference_high,
        "tail": str(CONTROL_TAIL),
        "outcome": "failed" if control.failed else "sound",
    }


def _scores(models: tuple[Model, ...]) -> list[int | None]:
    return [model.score for model in models]
