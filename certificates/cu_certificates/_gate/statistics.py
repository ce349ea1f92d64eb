"""The rules of the gate on statistics, CU101 to CU106.

Numbers are compared as the exact values of the *printed* strings, so that a message and a decision cannot disagree. A
fact that is missing is never in favour of the certificate: deleting a claim may turn "violated" into "inconclusive",
never into "ok".
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from cu_certificates._gate.case import SUPPORTED, Case, Fact, Finding, Outcome, some, three_ways
from cu_certificates.check.fields import Node

EPS_TYPES: Final = ("eps-coinflip", "eps-sequential", "eps-onerun", "eps-group")
"""Lower bounds that decide a question, whatever their ``planned`` flag says: the flag is the prover's own word."""


def eps_lower_bound(case: Case) -> Finding | None:
    """CU101: no lower bound on eps exceeds the policy, and the audit could have seen one that does.

    A bound at a delta above the policy's holds at the policy's too, so it counts when it exceeds; when it does not
    exceed, it leaves open what the policy asks. A bound at a smaller delta is at least as large as the same data give
    at the policy's delta, so it settles the matter when it does not exceed, and errs on the safe side when it does.
    """
    limit = case.policy.eps_lower_max
    if limit is None:
        return None
    over, gaps, kept = _no_facts()
    tested = case.plan.number("testedEps")
    if tested > limit.value.value:
        gaps.append(
            Fact(f"plan.testedEps = {case.plan.text('testedEps')}: power and controls were judged at a looser eps")
        )
    bounds = _deciding_bounds(case)
    for question in case.questions:
        if not any(claim.value.get("question") == question for claim in bounds):
            gaps.append(Fact(f"{question}: no lower bound on eps, though the question was planned"))
    for claim in bounds:
        bound, question = claim.number("bound"), claim.text("question") if claim.has("question") else ""
        fact = case.fact(_bound_text(claim), claim)
        gap = _eps_gap(case, claim, question)
        if case.voided(question):
            gaps.append(replace(fact, text=f"{fact.text}: void, its negative control failed"))
        elif bound > limit.value.value:
            over.append(fact)
        elif gap:
            gaps.append(replace(fact, text=f"{fact.text}: {gap}"))
        else:
            kept.append(fact)
    allowed = f"eps_lower_max = {limit.value.text} at delta {limit.delta.text}"
    return three_ways(
        case,
        "CU101",
        "eps_lower_max",
        allowed,
        violated=over,
        gaps=gaps,
        kept=kept,
        titles=(
            "eps lower bound exceeds policy",
            "eps lower bound cannot be judged",
            "eps lower bound within policy",
        ),
        means=(
            "the outcome can be told apart from retraining without the request by more than the policy allows",
            "the certificate does not answer what the policy asks of it",
        ),
        steps=(
            "unlearn again with another method or retrain, then audit anew",
            "audit anew with tested_eps and tested_delta at most the policy's, and every planned question answered",
        ),
    )


def _deciding_bounds(case: Case) -> list[Node]:
    return [
        claim
        for claim in case.claims
        if claim.text("type") in EPS_TYPES
        or (claim.text("type").startswith("eps-") and claim.value.get("planned") is True)
    ]


def _bound_text(claim: Node) -> str:
    details = [claim.text("type"), f"delta {claim.text('delta')}", f"alpha {claim.text('alpha')}"]
    if claim.has("right") and claim.has("guesses"):
        details.append(f"{claim.whole('right')} of {claim.whole('guesses')} guesses right")
    elif claim.has("opened"):
        details.append(f"{claim.whole('right')} guesses right over {claim.whole('opened')} slots")
    return f"eps >= {claim.text('bound')}  ({', '.join(details)})"


def _eps_gap(case: Case, claim: Node, question: str) -> str:
    """Why a bound within the limit does not settle the matter; empty when it does."""
    limit = case.policy.eps_lower_max
    if limit is None or case.status(claim) not in SUPPORTED:
        return "not re-derived"
    if claim.number("delta") > limit.delta.value:
        return "measured at a larger delta than the policy's"
    powers = [power for power in case.of("power", question) if case.status(power) in SUPPORTED]
    if not powers:
        return "nothing says how much this audit could have shown"
    if all(power.number("maxEps") <= limit.value.value for power in powers):
        return f"this audit could not have shown more than {powers[0].text('maxEps')}"
    return ""


def verdict(case: Case) -> Finding:
    """CU102: the verdict, as stated and as derived, is one that the policy accepts."""
    stated, derived = case.result.stated, case.result.derived
    words = {derived} if stated is None else {stated, derived}
    outcome: Outcome = "ok"
    title, means = "verdict accepted", ""
    step = "read the reasons in the report; audit anew once they are settled"
    if "REFUTED" in words:
        outcome, title = "violated", "the unlearning claim is refuted"
        means = "the outcome can be told apart from retraining by more than the guarantee under test allows"
        step = "unlearn again with another method or retrain, then audit anew; no exception covers a refutation"
    elif "INCONCLUSIVE" in words:
        outcome, title = "inconclusive", "the audit cannot decide"
        means = "nothing was shown for or against the guarantee under test"
    elif not words <= set(case.policy.verdict):
        outcome, title = "violated", "verdict not accepted"
        means = "the policy asks for evidence of another kind"
        step = "use a method whose guarantee gives an accepted verdict, or accept this one in the policy"
    told = derived if stated in (None, derived) else f"{derived}, though the signer states {stated}"
    return Finding(
        rule="CU102",
        outcome=outcome,
        title=title,
        found=some([Fact(f"verdict {told}"), *(Fact(reason) for reason in case.result.reasons)]),
        allowed=f"verdict = {', '.join(case.policy.verdict)}",
        where=case.where("verdict"),
        means=means,
        next_step=step,
        final="REFUTED" in words,
    )


def power(case: Case) -> Finding | None:
    """CU103: the audit was large enough to see the leak that the policy names, and saw it in the original model."""
    limit = case.policy.detect_eps_max
    if limit is None:
        return None
    _, gaps, kept = _no_facts()
    for question in case.questions:
        claims = case.of("power", question)
        if case.voided(question):
            gaps.append(Fact(f"{question}: its negative control failed, so it makes no claim"))
        if not claims:
            gaps.append(Fact(f"{question}: no statement of power"))
        for claim in claims:
            reached = claim.flag("reached") and case.status(claim) in SUPPORTED
            stated = claim.text("detectEps") if claim.has("detectEps") else None
            text = f"{question}: power {'reached' if reached else 'not reached'}"
            text += f" at detectEps = {stated}" if stated is not None else f", largest eps {claim.text('maxEps')}"
            wide = stated is not None and claim.number("detectEps") > limit.value
            (kept if reached and not wide else gaps).append(case.fact(text, claim))
        positive = case.of("control", question, sign="positive")
        for claim in positive:
            seen = claim.value.get("outcome") == "detected" and case.status(claim) in SUPPORTED
            text = f"{question}: positive control {'detected' if seen else 'not detected'}"
            (kept if seen else gaps).append(case.fact(text, claim))
        if not positive:
            gaps.append(Fact(f"{question}: no positive control"))
    return three_ways(
        case,
        "CU103",
        "detect_eps_max",
        f"detect_eps_max = {limit.text} (seen with probability 0.8)",
        gaps=gaps,
        kept=kept,
        titles=("", "the audit could not have seen enough", "power reached"),
        means=("", "a leak of the size that the policy names could have stayed unseen"),
        steps=("", "audit anew with more slots or references (`cu-cert audit --dry-run` prints the sizes)"),
    )


def attacks(case: Case) -> Finding | None:
    """CU104: the demanded tests were planned and carried out."""
    wanted = case.policy.attacks
    if not wanted:
        return None
    planned = case.plan.texts("attacks")
    absent, gaps, kept = _no_facts()
    for name in wanted:
        done = [claim for claim in case.claims if name in (claim.text("type"), claim.value.get("attack"))]
        if name not in planned:
            absent.append(Fact(f"{name} is not in plan.attacks ({', '.join(planned) or 'empty'})"))
        elif not any(case.status(claim) in SUPPORTED for claim in done):
            gaps.append(Fact(f"{name} was planned, but no claim of it was re-derived"))
        else:
            kept.append(Fact(f"{name} planned and re-derived"))
    return three_ways(
        case,
        "CU104",
        "attacks",
        f"attacks = {', '.join(wanted)}",
        violated=absent,
        gaps=gaps,
        kept=kept,
        titles=("a demanded attack was not planned", "a planned attack has no result", "demanded attacks carried out"),
        means=("the audit did not look where the policy asks", "the audit did not finish what it planned"),
        steps=("add the attack to the plan and audit anew", "complete the audit, or give its evidence with --evidence"),
    )


def utility(case: Case) -> Finding | None:
    """CU105: the model is still useful."""
    limit = case.policy.utility_min
    if limit is None:
        return None
    under, gaps, kept = _no_facts()
    claims = case.of("utility", set=limit.set)
    for claim in claims:
        fact = case.fact(f"accuracy >= {claim.text('accuracyAtLeast')} on {limit.set}", claim)
        if claim.number("accuracyAtLeast") < limit.accuracy.value:
            under.append(fact)
        else:
            (kept if case.status(claim) in SUPPORTED else gaps).append(fact)
    if not claims:
        sets = sorted({claim.text("set") for claim in case.of("utility")})
        gaps.append(Fact(f"no utility claim for the set {limit.set}; found {', '.join(sets) or 'none'}"))
    return three_ways(
        case,
        "CU105",
        "utility_min",
        f"utility_min = {limit.accuracy.text} on {limit.set}",
        violated=under,
        gaps=gaps,
        kept=kept,
        titles=("utility below policy", "utility cannot be judged", "utility within policy"),
        means=("the certificate shows less accuracy than the policy demands", "no re-derived claim speaks of this set"),
        steps=(
            "choose a method or parameters that cost less accuracy, or evaluate on more records",
            "name a set that the certificate evaluates, and give its evidence with --evidence",
        ),
    )


def alpha(case: Case) -> Finding | None:
    """CU106: the bounds err no more often than the policy allows."""
    limit = case.policy.eps_lower_max
    if limit is None:
        return None
    high = case.plan.number("alphaTotal") > limit.alpha.value
    return Finding(
        rule="CU106",
        outcome="violated" if high else "ok",
        title="error level above policy" if high else "error level within policy",
        found=(Fact(f"plan.alphaTotal = {case.plan.text('alphaTotal')}"),),
        allowed=f"eps_lower_max.alpha = {limit.alpha.text}",
        where=case.where("eps_lower_max"),
        means="the bounds may all hold with less confidence than the policy asks for",
        next_step="audit anew with an alpha that is at most the policy's",
    )


def _no_facts() -> tuple[list[Fact], list[Fact], list[Fact]]:
    return [], [], []


STATISTICS: Final[Mapping[str, Callable[[Case], Finding | None]]] = {
    "CU101": eps_lower_bound,
    "CU102": verdict,
    "CU103": power,
    "CU104": attacks,
    "CU105": utility,
    "CU106": alpha,
}
"""The rules on statistics by their ids."""
