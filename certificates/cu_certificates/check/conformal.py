"""Artifact question by rank among retrained references."""

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

from .common import (
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
from .power import smallest_references
from .strict import Rejected
from .tables import Model
from .tails import beta_binomial_tail, group_bound


def conformal_p(claim: Node, context: Context) -> Outcome:
    """Artifact question: recount the references that score at least as high as the audited model."""
    attack_question(claim, context, "artifact")
    table = context.artifact
    references = planned_size(claim, "references", len(table.references))
    above, failed = _at_least(table.references, table.subject)
    if claim.whole("atLeast") != above:
        raise Rejected(f"{claim.path}.atLeast: {claim.whole('atLeast')}; the evidence gives {above}")
    p = Fraction(1 + above + failed, references + 1)
    if claim.number("p", high=Fraction(1)) != p:
        raise Rejected(f"{claim.path}.p: {claim.text('p')}; the evidence gives {p}")
    context.proven[claim.text("id")] = p
    context.finding("artifact").least_p = Fraction(1 + above, references + 1)
    return "proved", f"{above} of {references} retrained models score as high: p = {p}"


def _at_least(references: Sequence[Model], model: Model) -> tuple[int, int]:
    """(references that score at least as high, failed references)."""
    if model.score is None:
        raise Rejected("evidence/artifact: a judged model has no score")
    scores = [reference.score for reference in references if reference.score is not None]
    return sum(score >= model.score for score in scores), len(references) - len(scores)


def positive_bound(claim: Node, context: Context) -> Fraction:
    """The same rule, with a fresh original as the audited model."""
    alpha, artifact = alpha_of(claim, context, "artifact"), context.artifact
    above, failed = _at_least(artifact.references, artifact.positive[0])
    p = Fraction(1 + above + failed, len(artifact.references) + 1)
    if claim.number("p", high=Fraction(1)) != p:
        raise Rejected(f"{claim.path}.p: {claim.text('p')}; the evidence gives {p}")
    return exact_bound(claim, group_bound(p, alpha, context.tested_delta))


def negative_outcome(claim: Node, context: Context) -> tuple[bool, str]:
    """Retrained models, judged like the audited file, alarm no more often than one shared pool allows."""
    artifact = context.artifact
    runs = planned_size(claim, "runs", len(artifact.negative))
    alpha, references = alpha_of(claim, context, "artifact"), len(artifact.references)
    rank = (alpha * (references + 1)).__floor__()
    scores = sorted(reference.score for reference in artifact.references if reference.score is not None)
    # An alarm: at most ``rank`` of the references + 1 models score at least as high, failed references among them.
    alarms = sum(
        model.score is None or 1 + references - bisect_left(scores, model.score) <= rank for model in artifact.negative
    )
    if claim.whole("alarms") != alarms:
        raise Rejected(f"{claim.path}.alarms: {claim.whole('alarms')}; the evidence gives {alarms}")
    if beta_binomial_tail(runs, rank, references, runs) > CONTROL_TAIL:
        raise Rejected(f"{claim.path}.runs: {runs}; a control this small can never fail")
    tail = beta_binomial_tail(runs, rank, references, alarms)
    return tail > CONTROL_TAIL, f"{alarms} alarms among {runs} retrained models"


def power(claim: Node, context: Context) -> bool:
    """Whether the most extreme rank among the references refutes anything."""
    alpha, eps, delta = alpha_of(claim, context, "artifact"), context.tested_eps, context.tested_delta
    references = planned_size(claim, "references", context.plan.node("artifact").whole("references", 1))
    least = smallest_references(alpha, eps, delta)
    derived_value(claim, "smallest", least)
    derived_value(claim, "maxEps", printed(group_bound(Fraction(1, references + 1), alpha, delta)))
    return least is not None and references >= least


REFERENCES = DesignRules(
    rules={"conformal-p": conformal_p}, positive=positive_bound, negative=negative_outcome, power=power
)
