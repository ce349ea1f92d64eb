"""Artifact question on one given model: its scores tell the request's records from never-trained ones of the same kind.

No retrained model takes part, so this design may refute and never clears. What it assumes, that the two groups are
exchangeable (A12), is put to a test of its own: the same permutations on numbers that no audited model made.
"""

from fractions import Fraction
from typing import Final

from .common import (
    ASSUMED,
    CONTROL_TAIL,
    DesignRules,
    Outcome,
    alpha_of,
    attack_question,
    derived_value,
    exact_bound,
    planned_size,
)
from .context import Context
from .fields import Node, printed
from .label_table import LabelTable, arrangements
from .power import smallest_references
from .strict import Rejected
from .tails import group_bound

LABELS_ASSUMED: Final = (*(name for name in ASSUMED if name not in ("A3", "A10", "A11")), "A12")
"""Nothing is trained and no score is fitted on other models; instead the records must be exchangeable."""


def label_p(claim: Node, context: Context) -> Outcome:
    """Artifact question: redo every random assignment of the request's place among the records."""
    question = attack_question(claim, context, "artifact")
    table = context.labels
    _sizes(claim, table)
    p = _p_of(claim, table, "score")
    derived_value(claim, "asUnusual", int(p * (table.permutations + 1)))
    context.proven[claim.text("id")] = p
    # A fixed function of margins and of proxies that saw neither group: no other model fitted it (A12).
    context.finding(question).split = True
    total = table.permutations + 1
    return "proved", f"{int(p * total)} of {total} assignments look at least as unusual as the true one: p = {p}"


def _sizes(claim: Node, table: LabelTable) -> None:
    request, never = table.sizes
    for key, size in (("permutations", table.permutations), ("request", request), ("never", never)):
        planned_size(claim, key, size)


def _p_of(claim: Node, table: LabelTable, test: str) -> Fraction:
    p = table.judged[0][test]
    if claim.number("p", high=Fraction(1)) != p:
        raise Rejected(f"{claim.path}.p: {claim.text('p')}; the evidence gives {p}")
    return p


def positive_bound(claim: Node, context: Context) -> Fraction:
    """The same rule on the original model's scores of the same records, under the same assignments."""
    alpha, table = alpha_of(claim, context, "artifact"), context.labels
    if not table.originals:
        raise Rejected(f"{claim.path}: the evidence holds no scores of an original model")
    return exact_bound(claim, group_bound(_p_of(claim, table, "original"), alpha, context.tested_delta))


def negative_outcome(claim: Node, context: Context) -> tuple[bool, str]:
    """Numbers that no audited model made must not tell the two groups apart: then they are not of one kind."""
    table = context.labels
    p = _p_of(claim, table, "blind")
    least = min(table.permutations + 1, arrangements(table.strata, table.request))
    if Fraction(1, least) > CONTROL_TAIL or not table.judged[1]["blind"]:
        raise Rejected(f"{claim.path}: {least} different assignments; a control this small can never fail")
    return p > CONTROL_TAIL, f"numbers that no audited model made tell the two groups apart with p = {p}"


def power(claim: Node, context: Context) -> bool:
    """Whether the most unusual of all assignments refutes anything."""
    alpha, eps, delta = alpha_of(claim, context, "artifact"), context.tested_eps, context.tested_delta
    table = context.labels
    _sizes(claim, table)
    least = smallest_references(alpha, eps, delta)
    derived_value(claim, "smallest", least)
    derived_value(claim, "maxEps", printed(group_bound(Fraction(1, table.permutations + 1), alpha, delta)))
    return least is not None and min(table.permutations, arrangements(table.strata, table.request) - 1) >= least


LABELS = DesignRules(
    rules={"label-p": label_p},
    positive=positive_bound,
    negative=negative_outcome,
    power=power,
    assumed=LABELS_ASSUMED,
)
