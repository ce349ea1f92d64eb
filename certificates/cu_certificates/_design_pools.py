"""How two pools of models that were made without coins are planned."""

from typing import TYPE_CHECKING

from cu_certificates._designs import Planner, Resolution
from cu_certificates.check.bands import pools_differ
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.fields import Node
from cu_certificates.check.pools import PoolSizes, most_eps, reaches_power, read_sizes

if TYPE_CHECKING:
    from cu_certificates.plan import Plan, Subject


def _sizes(plan: "Plan") -> PoolSizes:
    return read_sizes(Node(plan.to_json(), "plan"))


def _resolution(plan: "Plan", subject: "Subject") -> Resolution:
    alpha, eps, delta, sizes = plan.share(), subject.tested_eps, subject.tested_delta, _sizes(plan)
    best = most_eps(sizes, alpha, delta)
    return Resolution(
        question="procedure",
        max_eps=best,
        reached=best > eps and reaches_power(sizes, alpha, eps, delta, plan.detect_eps),
        possible=best > eps,
        why=f"procedure: {sizes.unlearned} unlearned against {sizes.retrained} retrained models, after halving, cannot "
        f"refute eps* = {eps} at alpha {alpha}, whatever they show; hand in more models",
    )


def _problems(plan: "Plan") -> list[str]:
    reruns, retrained = plan.extra["procedure"]["reruns"], _sizes(plan).retrained
    if isinstance(reruns, int) and reruns and pools_differ(reruns, reruns, 0, retrained) > CONTROL_TAIL:
        return [f"procedure: {reruns} reruns in the negative control; so few can never fail"]
    return []


POOLS = Planner(node=lambda plan: {"direction": plan.direction}, resolution=_resolution, problems=_problems)
