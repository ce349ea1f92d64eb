"""Evidence -> claims: each number comes from the attack floor and is written as the checker will re-derive it."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from cu_attacks._roc import PANEL_LIMIT
from cu_attacks._types import Estimate
from cu_attacks.coinflip import coinflip
from cu_attacks.conformal import conformal
from cu_certificates.check.bands import rates_bound
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.fields import printed
from cu_certificates.check.tables import ArtifactTable, Model, SlotTable
from cu_certificates.check.tails import beta_binomial_tail, binomial_tail, cp_lower, cp_upper, enclose
from cu_certificates.plan import Plan, Subject

Claim = dict[str, object]
Plot = dict[str, object]

SIDE_ALPHA = Fraction(1, 20)
"""Level of utility and cross-check bounds; outside the verdict's alpha."""

POOL_NAMES = ("pool-unlearned", "pool-retrained")
"""How the counts of the cross-check by two pools are called."""


def model_claims(subject: Subject, judged: Sequence[str], *, learned: bool = False) -> list[Claim]:
    """Claim which bytes the certificate speaks of, and that the score was fitted on other models.

    Args:
        subject: The audited model, as planned.
        judged: Ids of the evidence files in which models are judged.
        learned: Whether the score went on learning from slots that were opened before the one it judged.
    """
    text = "the score was fitted on pilot models that are neither judged nor ranked"
    return [
        {"id": "c-model", "type": "model-digest", "digest": {"sha256": subject.model}},
        {
            "id": "c-split",
            "type": "split",
            "text": f"{text}; for each round of slots, on the slots of earlier rounds as well" if learned else text,
            "fitted": "pilots",
            "judged": list(judged),
        },
    ]


def _scores(models: Sequence[Model]) -> list[int | None]:
    return [model.score for model in models]


def _power(plan: Plan, subject: Subject, question: str) -> Claim:
    """Claim what an audit of the planned size can see."""
    seen = plan.resolution(subject, question)
    own: Claim = (
        {"references": plan.sizes.references, "smallest": seen.smallest}
        if question == "artifact"
        else {
            "guesses": plan.sizes.guesses,
            "detectEps": str(plan.detect_eps),
            "critical": seen.critical,
            "accuracy": None if seen.accuracy is None else printed(seen.accuracy),
        }
    )
    return own | {
        "id": f"c-power-{question}",
        "type": "power",
        "question": question,
        "alpha": str(plan.share()),
        "testedEps": str(subject.tested_eps),
        "maxEps": printed(seen.max_eps),
        "reached": seen.reached,
    }


def procedure_claims(table: SlotTable, plan: Plan, subject: Subject) -> list[Claim]:
    """Claims of the procedure question: the bound, both controls and the power."""
    alpha, delta, sizes = plan.share(), subject.tested_delta, plan.sizes
    forward = plan.direction == "forward"
    common = {"question": "procedure", "evidence": "slots"}
    main, positive = (
        coinflip(_scores(models), table.coins, alpha=alpha, guesses=sizes.guesses, delta=delta, forward_only=forward)
        for models in (table.main, table.positive)
    )
    control = coinflip(
        _scores(table.negative),
        table.control_coins,
        alpha=alpha,
        guesses=sizes.control_guesses,
        forward_only=forward,
    )
    failed = sum(model.score is None for model in table.negative)
    tail = binomial_tail(control.guesses, enclose(Fraction(1, 2)), min(control.right + failed, control.guesses))
    return [
        {
            "id": "c-eps-procedure",
            "type": "eps-coinflip",
            **common,
            "alpha": str(alpha),
            "delta": str(delta),
            "direction": plan.direction,
            "slots": sizes.slots,
            "guesses": sizes.guesses,
            "right": main.right,
            "bound": printed(main.bound),
            "planned": True,
        },
        {
            "id": "c-pos-procedure",
            "type": "control",
            **common,
            "sign": "positive",
            "alpha": str(alpha),
            "guesses": sizes.guesses,
            "right": positive.right,
            "bound": printed(positive.bound),
            "outcome": "detected" if positive.bound > subject.tested_eps else "missed",
        },
        {
            "id": "c-neg-procedure",
            "type": "control",
            **common,
            "sign": "negative",
            "guesses": sizes.control_guesses,
            "right": control.right,
            "tail": str(CONTROL_TAIL),
            "outcome": "sound" if tail.above(CONTROL_TAIL) else "failed",
        },
        _power(plan, subject, "procedure"),
    ]


def artifact_claims(table: ArtifactTable, plan: Plan, subject: Subject) -> list[Claim]:
    """Claims of the artifact question: the p-value, its bound, both controls and the power."""
    alpha, delta = plan.share(), subject.tested_delta
    scores = _scores(table.references)
    judged = table.subject.score
    assert judged is not None  # the audited model is measured before anything else
    found = conformal(judged, scores, alpha=alpha, delta=delta)
    common = {"question": "artifact", "evidence": "artifact"}
    claims: list[Claim] = [
        {
            "id": "c-p-artifact",
            "type": "conformal-p",
            **common,
            "references": found.references,
            "atLeast": found.at_least,
            "p": str(found.p),
        },
        {
            "id": "c-eps-artifact",
            "type": "eps-group",
            "question": "artifact",
            "from": "c-p-artifact",
            "alpha": str(alpha),
            "delta": str(delta),
            "bound": printed(found.bound),
            "planned": True,
        },
    ]
    original = table.positive[0].score
    if original is not None:
        positive = conformal(original, scores, alpha=alpha, delta=delta)
        claims.append(
            {
                "id": "c-pos-artifact",
                "type": "control",
                **common,
                "sign": "positive",
                "alpha": str(alpha),
                "p": str(positive.p),
                "bound": printed(positive.bound),
                "outcome": "detected" if positive.bound > subject.tested_eps else "missed",
            }
        )
    rank = (alpha * (len(scores) + 1)).__floor__()
    alarms = sum(
        score is None or conformal(score, scores, alpha=alpha).p * (len(scores) + 1) <= rank
        for score in _scores(table.negative)
    )
    tail = beta_binomial_tail(len(table.negative), rank, len(scores), alarms)
    return [
        *claims,
        {
            "id": "c-neg-artifact",
            "type": "control",
            **common,
            "sign": "negative",
            "alpha": str(alpha),
            "runs": len(table.negative),
            "alarms": alarms,
            "tail": str(CONTROL_TAIL),
            "outcome": "sound" if tail > CONTROL_TAIL else "failed",
        },
        _power(plan, subject, "artifact"),
    ]


def two_pool_claims(table: SlotTable, threshold: int, delta: Fraction) -> list[Claim]:
    """A cross-check by two pools and a threshold that was fixed on the pilots (Jagielski et al. 2020).

    It spends no alpha of the verdict and supports none: readers who know Clopper-Pearson pairs can compare.
    """
    claims: list[Claim] = []
    bounds: dict[str, Fraction] = {}
    for name, bit, side in (("tpr", 1, "lower"), ("fpr", 0, "upper")):
        scores = [
            model.score
            for model, coin in zip(table.main, table.coins, strict=True)
            if coin == bit and model.score is not None
        ]
        if not scores:
            return []
        k, n = sum(score >= threshold for score in scores), len(scores)
        group, own = ("unlearned", POOL_NAMES[0]) if bit else ("retrained", POOL_NAMES[1])
        claims += count_claims(own, "slots", group, threshold, k, n, side, SIDE_ALPHA / 2)
        bounds[name] = (cp_lower if side == "lower" else cp_upper)(n, k, SIDE_ALPHA / 2)
    best = rates_bound(bounds["tpr"], bounds["fpr"], delta, both=True)
    return [
        *claims,
        {
            "id": "c-eps-pools",
            "type": "eps-lower",
            "question": "procedure",
            "tpr": f"c-cp-{POOL_NAMES[0]}",
            "fpr": f"c-cp-{POOL_NAMES[1]}",
            "delta": str(delta),
            "bound": printed(best),
            "planned": False,
        },
    ]


def count_claims(
    name: str, evidence: str, group: str, threshold: int, k: int, n: int, side: str, alpha: Fraction
) -> list[Claim]:
    """Claim a count and the one-sided Clopper-Pearson bound on the rate behind it."""
    bound = (cp_lower if side == "lower" else cp_upper)(n, k, alpha)
    return [
        {
            "id": f"c-count-{name}",
            "type": "count",
            "evidence": evidence,
            "group": group,
            "threshold": threshold,
            "k": k,
            "n": n,
        },
        {
            "id": f"c-cp-{name}",
            "type": "cp",
            "from": f"c-count-{name}",
            "side": side,
            "alpha": str(alpha),
            "bound": printed(bound),
        },
    ]


def utility_claims(correct: dict[str, tuple[int, int]]) -> list[Claim]:
    """Claim accuracies from counts of right answers, by set of records.

    Args:
        correct: (right, all) of each set.
    """
    claims: list[Claim] = []
    for name, (right, size) in correct.items():
        pair = count_claims(name, "utility", name, 1, right, size, "lower", SIDE_ALPHA)
        claims += [
            *pair,
            {
                "id": f"c-utility-{name}",
                "type": "utility",
                "set": name,
                "from": f"c-cp-{name}",
                "accuracyAtLeast": pair[1]["bound"],
            },
        ]
    return claims


Kind = Literal["attack", "test", "descriptive", "probe"]


def metric_claim(
    name: str,
    title: str,
    value: float,
    interval: tuple[float, float] | None,
    note: str,
    *,
    kind: Kind = "descriptive",
) -> Claim:
    """Show a number that supports no verdict.

    Args:
        name: Its id, without the prefix.
        title: What was measured.
        value: The number.
        interval: Its interval, or the band of retrained models.
        note: How it came about, and what it does not show.
        kind: ``attack`` on single records, ``test`` with a valid p-value, ``descriptive`` without a confidence
            statement, or ``probe`` of something beyond the audited model.
    """
    claim: Claim = {"id": f"m-{name}", "type": "metric", "kind": kind, "name": title, "value": decimal(value)}
    claim["note"] = note
    if interval is not None:
        claim["interval"] = [decimal(interval[0]), decimal(interval[1])]
    return claim


def estimate_claim(name: str, estimate: Estimate) -> Claim:
    """Show an estimate of the attacks panel."""
    note = f"{estimate.method}; {estimate.level:.0%} interval"
    if estimate.shows_not != PANEL_LIMIT:  # limitation L10 says that one once, for all of them
        note += f"; {estimate.shows_not}"
    return metric_claim(name, estimate.name, estimate.value, (estimate.low, estimate.high), note, kind="attack")


def decimal(value: float) -> str:
    """Write a descriptive number with four decimals."""
    return f"{value:.4f}"
