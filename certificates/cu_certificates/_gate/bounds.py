"""The rules of the gate on what an audit could see and what else bounds a leak, CU107 to CU110."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Final

from cu_certificates._gate.case import SUPPORTED, Case, Fact, Finding, three_ways
from cu_certificates._gate.power import panel_power
from cu_certificates.check.fields import Node, printed
from cu_certificates.check.tails import floor_step

UTILITY_SET: Final = "held-out"
"""The records on which a loss of accuracy is judged: those that no model was trained on."""


def panel(case: Case) -> Finding | None:
    """CU107: the attacks on single records could have seen a leak of the size that the policy names.

    The panel's own numbers are descriptive, so the rule looks at the sizes alone, which the checker recounts.
    """
    demand = case.policy.power
    if demand is None:
        return None
    gaps: list[Fact] = []
    kept: list[Fact] = []
    if not any(claim.value.get("kind") == "attack" for claim in case.of("metric")):
        gaps.append(Fact("the certificate shows no attack on single records"))
    sizes = {name: _counted(case, name) for name in ("request", UTILITY_SET)}
    for name, counted in sizes.items():
        if counted is None:
            gaps.append(Fact(f"no re-derived count says how many records of the set {name} there are"))
    request, never = sizes["request"], sizes[UTILITY_SET]
    if request is not None and never is not None:
        n, m = request.whole("n", 1), never.whole("n", 1)
        found = panel_power(n, m, tpr=demand.tpr.value, at_fpr=demand.at_fpr.value, alpha=demand.alpha.value)
        text = f"{n} records of the request and {m} never trained: seen with probability {_below(found.power)} or more"
        if found.above:
            text += f" ({found.above} of them above the {found.rank}. highest of the others)"
        (kept if found.power >= demand.prob.value else gaps).append(case.fact(text, request))
    return three_ways(
        case,
        "CU107",
        "power",
        f"power = TPR {demand.tpr.text} at FPR {demand.at_fpr.text}, flagged at level {demand.alpha.text} with "
        f"probability {demand.prob.text}",
        gaps=gaps,
        kept=kept,
        titles=("", "the attacks panel could not have seen enough", "power of the attacks panel reached"),
        means=("", "single records could be given away at this rate and the attacks would rarely show it"),
        steps=("", "audit more records at once, hold out more, or ask for a leak that these sizes can show"),
    )


def _counted(case: Case, name: str) -> Node | None:
    """Return the re-derived count behind the accuracy on a set of records."""
    by_id = {claim.text("id"): claim for claim in case.claims}
    for claim in case.of("utility", set=name):
        bound = by_id.get(claim.text("from"))
        count = None if bound is None else by_id.get(bound.text("from"))
        if count is not None and case.status(claim) in SUPPORTED and case.status(count) in SUPPORTED:
            return count
    return None


def _below(value: Fraction) -> str:
    """Print a probability rounded down, so that a missed demand never looks met."""
    return printed(floor_step(value))


def utility_drop(case: Case) -> Finding | None:
    """CU108: unlearning cost no more accuracy than the policy allows.

    The certificate proves nothing about the accuracy of the model before, so it is taken to be as high as it can be:
    the loss is at most 1 minus the proven accuracy after.
    """
    limit = case.policy.utility_drop_max
    if limit is None:
        return None
    gaps: list[Fact] = []
    kept: list[Fact] = []
    for claim in case.of("utility", set=UTILITY_SET):
        after = claim.number("accuracyAtLeast", high=Fraction(1))
        text = (
            f"accuracy >= {claim.text('accuracyAtLeast')} on {UTILITY_SET} records, so at most {printed(1 - after)} "
            "was lost, however good the model before was"
        )
        good = 1 - after <= limit.value and case.status(claim) in SUPPORTED
        (kept if good else gaps).append(case.fact(text, claim))
    if not gaps and not kept:
        gaps.append(Fact(f"no accuracy is claimed on {UTILITY_SET} records"))
    if gaps and not kept:
        gaps.append(Fact("no re-derived claim speaks of the accuracy of the model before"))
    return three_ways(
        case,
        "CU108",
        "utility_drop_max",
        f"utility_drop_max = {limit.text} on {UTILITY_SET} records",
        gaps=[] if kept else gaps,
        kept=kept,
        titles=("", "the loss of accuracy cannot be judged", "loss of accuracy within policy"),
        means=("", "the certificate bounds the accuracy after unlearning, but not the one before"),
        steps=("", "demand an accuracy with utility_min instead; set it to the old accuracy minus the loss you allow"),
    )


def planned_tests(case: Case) -> Finding | None:
    """CU109: every planned question has its answer, whatever else the verdict rests on."""
    if not case.policy.planned_tests:
        return None
    gaps: list[Fact] = []
    kept: list[Fact] = []
    for question in case.questions:
        open_points = _open_points(case, question)
        gaps += [Fact(f"{question}: {point}") for point in open_points]
        if not open_points:
            kept.append(Fact(f"{question} answered, with both controls and the planned power"))
    if not case.questions:
        gaps.append(Fact("the plan asks no question"))
    return three_ways(
        case,
        "CU109",
        "planned_tests",
        "planned_tests = true",
        gaps=gaps,
        kept=kept,
        titles=("", "a planned test has no answer", "planned tests answered"),
        means=("", "the verdict rests on other grounds, and what was to be measured beside them was not"),
        steps=("", "complete the audit, give its evidence with --evidence, or plan it larger"),
    )


def _open_points(case: Case, question: str) -> list[str]:
    def there(claims: list[Node], key: str, good: object) -> bool:
        return any(claim.value.get(key) == good and case.status(claim) in SUPPORTED for claim in claims)

    deciding = [claim for claim in case.claims if claim.value.get("question") == question]
    checks = (
        (there(deciding, "planned", True), "no deciding bound was re-derived"),
        (there(case.of("control", question, sign="positive"), "outcome", "detected"), "positive control not detected"),
        (there(case.of("control", question, sign="negative"), "outcome", "sound"), "negative control not sound"),
        (there(case.of("power", question), "reached", True), "planned power not reached"),
    )
    return [told for good, told in checks if not good]


def theorem(case: Case) -> Finding | None:
    """CU110: a theorem bounds eps from above by no more than the policy allows.

    Beside a method that does not state (eps, delta) itself a theorem's number only informs.
    """
    limit = case.policy.theorem_eps_max
    if limit is None:
        return None
    over: list[Fact] = []
    gaps: list[Fact] = []
    kept: list[Fact] = []
    for claim in case.of("dp-bound"):
        carries = claim.value.get("planned") is True
        text = f"eps <= {claim.text('eps')} at delta {claim.text('delta')}"
        fact = case.fact(text if carries else f"{text}, beside a method that does not state it", claim)
        if case.status(claim) not in SUPPORTED or not carries:
            gaps.append(fact)
        elif claim.number("eps") <= limit.value.value and claim.number("delta") <= limit.delta.value:
            kept.append(fact)
        else:
            over.append(fact)
    if not (over or gaps or kept):
        gaps.append(Fact("no dp-bound claim: the method states no theorem"))
    return three_ways(
        case,
        "CU110",
        "theorem_eps_max",
        f"theorem_eps_max = {limit.value.text} at delta {limit.delta.text}",
        violated=[] if kept else over,
        gaps=[] if kept else gaps,
        kept=kept,
        titles=("the theorem's bound exceeds policy", "no theorem bounds the leak", "theorem's bound within policy"),
        means=(
            "the theorem allows a larger leak than the policy",
            "nothing in the certificate bounds the leak from above",
        ),
        steps=(
            "unlearn with more noise or fewer steps, or accept the larger bound in the policy",
            "use a method that states (eps, delta), or delete the demand",
        ),
    )


BOUNDS: Final[Mapping[str, Callable[[Case], Finding | None]]] = {
    "CU107": panel,
    "CU108": utility_drop,
    "CU109": planned_tests,
    "CU110": theorem,
}
"""The rules on power and further bounds by their ids."""
