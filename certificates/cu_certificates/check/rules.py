"""One rule a claim type: re-derive the claim from evidence, or refuse it.

A rule returns (status, one line). It raises :class:`Rejected` when the claim does not follow and
:class:`MissingEvidence` when its file is not at hand. Lower bounds must be the *largest* value on the printed grid that
the evidence proves: a prover who wants a pass must not be able to understate a leak.
"""

from typing import Final

from .candidates import ONERUN
from .coinflip import COINS
from .common import (
    CONTROL_TAIL,
    DesignRules,
    Outcome,
    Rule,
    exact_bound,
    level_of,
    once,
    planned,
    question_of,
)
from .conformal import REFERENCES
from .context import Context
from .design import planned_model
from .distances import perm_p
from .extrapolations import extrapolation, mu_lower
from .fields import Node, printed
from .labels import LABELS
from .pools import POOLS
from .pools import eps_lower as judged_pools
from .provenance import PROVENANCE, listed
from .rates import band, count, cp, metric, utility
from .rates import eps_lower as beside_slots
from .receipt import receipt as one_receipt
from .result import EXTRAPOLATIONS
from .sequential import SEQUENTIAL
from .strict import Rejected
from .tables import digests
from .tails import group_bound
from .theorems import dp_bound

DESIGN_RULES: Final[dict[str, dict[str, DesignRules]]] = {
    "procedure": {"coins": COINS, "sequential": SEQUENTIAL, "pools": POOLS, "onerun": ONERUN},
    "artifact": {"references": REFERENCES, "labels": LABELS},
}
"""The rules of each design of each question (``design.DESIGNS``)."""


def _rules_of(question: str, context: Context) -> DesignRules:
    return DESIGN_RULES[question][context.design_name(question)]


def model_digest(claim: Node, context: Context) -> Outcome:
    """The claim's digest is the certificate's subject."""
    digest = claim.digest()
    if digest != context.predicate.node("scope").node("model").digest():
        raise Rejected(f"{claim.path}.digest: not the digest of scope.model")
    named = planned_model(context.plan, context.subject)
    if digest != (context.candidates.file if named is None else named):
        raise Rejected(f"{claim.path}.digest: not the model that the plan names")
    return "proved", "the certificate speaks of exactly these bytes"


def split(claim: Node, context: Context) -> Outcome:
    """The models that fitted the score are neither judged nor ranked."""
    once(claim, context)
    claim.text("text")
    fitted = digests(context.rows(claim.text("fitted", "pilots")))
    _ = context.pilots  # all of them are there, and no other model is
    judged = claim.texts("judged")
    if sorted(judged) != sorted(context.judged()):
        raise Rejected(f"{claim.path}.judged: {judged}; the planned questions judge {context.judged()}")
    models: set[str] = set()
    for identifier in judged:
        models |= digests(context.rows(identifier))
    both = fitted & models
    if both:
        raise Rejected(f"{claim.path}: {len(both)} models both fitted the score and are judged by it")
    for question in context.questions():
        context.finding(question).split = True
    return "proved", f"{len(fitted)} fitting models and {len(models)} judged models have none in common"


def eps_group(claim: Node, context: Context) -> Outcome:
    """Turn an exact p-value about one model into a bound on eps for the whole request."""
    question = question_of(claim, context, "artifact")
    _, p = context.parent(claim, "from", context.design(question).attack)
    planned(claim, True)
    alpha, delta = level_of(claim, context, question)
    bound = exact_bound(claim, group_bound(p, alpha, delta))
    context.assume(claim, *_rules_of(question, context).assumed)
    finding = context.finding(question)
    finding.bound = bound
    finding.generous = group_bound(p if finding.least_p is None else finding.least_p, alpha, delta)
    return "assumed", f"ln((alpha - delta)/p) gives eps >= {printed(bound)}"


def eps_lower(claim: Node, context: Context) -> Outcome:
    """Two pools: planned, they answer the procedure question; else they stand beside coin-flip slots and inform."""
    return (judged_pools if claim.flag("planned") else beside_slots)(claim, context)


def receipt(claim: Node, context: Context) -> Outcome:
    """The request's commitments: all of them in a file, or one with its way to the root."""
    return (listed if claim.has("evidence") else one_receipt)(claim, context)


def control(claim: Node, context: Context) -> Outcome:
    """A positive control must be refuted by the same rule; a negative one must not alarm more than chance allows."""
    question = question_of(claim, context, "procedure", "artifact")
    claim.text("evidence", context.design(question).evidence)
    finding, rules = context.finding(question), _rules_of(question, context)
    if claim.text("sign", "positive", "negative") == "positive":
        bound = rules.positive(claim, context)
        detected = bound > context.tested_eps
        finding.positive = detected
        claim.text("outcome", "detected" if detected else "missed")
        return "proved", f"the original model gives eps >= {printed(bound)}: {claim.text('outcome')}"
    if claim.level("tail") != CONTROL_TAIL:
        raise Rejected(f"{claim.path}.tail: {claim.text('tail')}; expected {CONTROL_TAIL}")
    sound, detail = rules.negative(claim, context)
    finding.negative = sound
    claim.text("outcome", "sound" if sound else "failed")
    return "proved", f"{detail}: {claim.text('outcome')}"


def power(claim: Node, context: Context) -> Outcome:
    """What the audit could have seen at its size."""
    question = question_of(claim, context, "procedure", "artifact")
    if claim.number("testedEps") != context.tested_eps:
        raise Rejected(f"{claim.path}.testedEps: {claim.text('testedEps')}; the plan says {context.tested_eps}")
    reached = _rules_of(question, context).power(claim, context)
    if claim.flag("reached") != reached:
        raise Rejected(f"{claim.path}.reached: {claim.flag('reached')}; the sizes give {reached}")
    context.finding(question).powered = reached
    return "proved", f"largest eps this size can show: {claim.text('maxEps')}"


RULES: Final[dict[str, Rule]] = {
    "model-digest": model_digest,
    "split": split,
    "eps-group": eps_group,
    "control": control,
    "power": power,
    "count": count,
    "cp": cp,
    "eps-lower": eps_lower,
    "utility": utility,
    "receipt": receipt,
    "metric": metric,
    "band": band,
    **PROVENANCE,
    "mu-lower": mu_lower,
    "dp-bound": dp_bound,
    "perm-p": perm_p,
    **dict.fromkeys(EXTRAPOLATIONS, extrapolation),
    **{kind: rule for designs in DESIGN_RULES.values() for own in designs.values() for kind, rule in own.rules.items()},
}
