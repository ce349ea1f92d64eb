"""How the design ``labels`` of the artifact question is planned: records of one model, no retrained one."""

from fractions import Fraction
from typing import TYPE_CHECKING

from cu_certificates._designs import Planner, Resolution
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.power import smallest_references
from cu_certificates.check.tails import group_bound

if TYPE_CHECKING:
    from cu_certificates.plan import Plan, Subject


def _permutations(plan: "Plan") -> int:
    found = plan.extra["artifact"]["permutations"]
    assert isinstance(found, int)  # whoever plans this design gives its sizes
    return found


def _resolution(plan: "Plan", subject: "Subject") -> Resolution:
    alpha, eps, delta, permutations = plan.share(), subject.tested_eps, subject.tested_delta, _permutations(plan)
    smallest = smallest_references(alpha, eps, delta)
    possible = smallest is not None and permutations >= smallest
    need = "more alpha" if smallest is None else f"records that can be assigned in at least {smallest + 1} ways"
    return Resolution(
        question="artifact",
        max_eps=group_bound(Fraction(1, permutations + 1), alpha, delta),
        smallest=smallest,
        reached=possible,
        possible=possible,
        why=f"artifact: {permutations} random assignments of the request among never-trained records cannot refute "
        f"eps* = {eps} at alpha {alpha}, whatever they show; expected {need}",
    )


def _problems(plan: "Plan") -> list[str]:
    permutations = _permutations(plan)
    if Fraction(1, permutations + 1) > CONTROL_TAIL:
        return [f"artifact: {permutations} random assignments; with so few the negative control can never fail"]
    return []


LABELS = Planner(node=lambda plan: {}, resolution=_resolution, problems=_problems)
