"""One rule a claim type: re-derive the claim from evidence, or refuse it.

A rule returns (status, one line). It raises :class:`Rejected` when the claim does not follow and
:class:`MissingEvidence` when its file is not at hand. Lower bounds must be the *largest* value on the printed grid that
the evidence proves: a prover who wants a pass must not be able to understate a leak.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final

from .coins import right_guesses
from .context import Context
from .fields import Node, printed
from .result import Status
from .strict import Rejected
from .tables import Model, digests, rows
from .tails import (
    STEP,
    beta_binomial_tail,
    binomial_tail,
    coinflip_bound,
    cp_lower,
    cp_upper,
    enclose,
    exponential,
    floor_step,
    group_bound,
    guessing_tail,
    sigmoid,
)

Outcome = tuple[Status, str]

CONTROL_TAIL: Final = Fraction(1, 100)
"""A sound pipeline fails its negative control in at most this share of audits."""

POWER: Final = Fraction(4, 5)
"""The chance with which an audit must detect what it says it can detect."""


def model_digest(claim: Node, context: Context) -> Outcome:
    """The claim's digest is the certificate's subject."""
    digest = claim.digest()
    if digest != context.predicate.node("scope").node("model").digest():
        raise Rejected(f"{claim.path}.digest: not the digest of scope.model")
    if digest != context.subject.digest("model"):
        raise Rejected(f"{claim.path}.digest: not the model that the plan names")
    return "proved", "the certificate speaks of exactly these bytes"


def split(claim: Node, context: Context) -> Outcome:
    """The models that fitted the score are neither judged nor ranked."""
    fitted = digests(context.evidence(claim.text("fitted")), context.evidence_name(claim.text("fitted")))
    judged: set[str] = set()
    for identifier in claim.texts("judged"):
        judged |= digests(context.evidence(identifier), context.evidence_name(identifier))
    both = fitted & judged
    if both:
        raise Rejected(f"{claim.path}: {len(both)} models both fitted the score and are judged by it")
    return "proved", f"{len(fitted)} fitting models and {len(judged)} judged models have none in common"


def _planned_size(claim: Node, key: str, planned: int) -> int:
    size = claim.whole(key)
    if size != planned:
        raise Rejected(f"{claim.path}.{key}: {size}; the plan says {planned}")
    return size


def _alpha(claim: Node, context: Context, question: str) -> Fraction:
    alpha = claim.level("alpha")
    if alpha != context.share(question):
        raise Rejected(f"{claim.path}.alpha: {alpha}; the plan gives this question {context.share(question)}")
    return alpha


def _planned(claim: Node, planned: bool) -> None:
    if claim.flag("planned") is not planned:
        raise Rejected(f"{claim.path}.planned: {claim.flag('planned')}; expected {planned} for {claim.text('type')}")


def _exact_bound(claim: Node, derived: Fraction) -> Fraction:
    bound = claim.number("bound")
    if bound != derived:
        raise Rejected(f"{claim.path}.bound: {claim.text('bound')}; the evidence gives {printed(derived)}")
    return bound


def _guesses(claim: Node, context: Context, coins: Sequence[int], models: Sequence[Model]) -> tuple[int, int, int]:
    """Recount: (guesses that count, right with failures wrong, right with failures right)."""
    forward = context.plan.node("procedure").text("direction", "both", "forward") == "forward"
    guesses = claim.whole("guesses", 2)
    right = right_guesses(coins, [model.score for model in models], guesses, forward_only=forward)
    if claim.whole("right") != right:
        raise Rejected(f"{claim.path}.right: {claim.whole('right')}; the evidence gives {right}")
    counted = guesses // 2 if forward else guesses
    failed = sum(model.score is None for model in models)
    return counted, right, min(right + failed, counted)


def eps_coinflip(claim: Node, context: Context) -> Outcome:
    """Procedure question: recount the right guesses and redo the binomial bound."""
    question = claim.text("question", "procedure")
    procedure, table = context.plan.node("procedure"), context.slots
    slots = _planned_size(claim, "slots", procedure.whole("slots"))
    _planned_size(claim, "guesses", procedure.whole("guesses"))
    claim.text("direction", procedure.text("direction"))
    _planned(claim, True)
    alpha, delta = _alpha(claim, context, question), claim.number("delta", high=Fraction(1))
    if delta != context.tested_delta:
        raise Rejected(f"{claim.path}.delta: {delta}; the guarantee under test has {context.tested_delta}")
    counted, right, generous = _guesses(claim, context, table.coins, table.main)
    finding = context.finding(question)
    finding.bound = _exact_bound(claim, coinflip_bound(slots, counted, right, alpha, delta))
    finding.generous = coinflip_bound(slots, counted, generous, alpha, delta)
    finding.alpha, finding.claim = alpha, claim.text("id")
    return "proved", f"{right} of {counted} guesses right over {slots} slots: eps >= {printed(finding.bound)}"


def conformal_p(claim: Node, context: Context) -> Outcome:
    """Artifact question: recount the references that score at least as high as the audited model."""
    claim.text("question", "artifact")
    table = context.artifact
    references = _planned_size(claim, "references", len(table.references))
    above, failed = _at_least(table.references, table.subject)
    if claim.whole("atLeast") != above:
        raise Rejected(f"{claim.path}.atLeast: {claim.whole('atLeast')}; the evidence gives {above}")
    p = Fraction(1 + above + failed, references + 1)
    if claim.number("p", high=Fraction(1)) != p:
        raise Rejected(f"{claim.path}.p: {claim.text('p')}; the evidence gives {p}")
    context.proven[claim.text("id")] = p
    context.proven[claim.text("id") + "/generous"] = Fraction(1 + above, references + 1)
    return "proved", f"{above} of {references} retrained models score as high: p = {p}"


def _at_least(references: Sequence[Model], model: Model) -> tuple[int, int]:
    """(references that score at least as high, failed references)."""
    if model.score is None:
        raise Rejected("evidence/artifact: a judged model has no score")
    scores = [reference.score for reference in references if reference.score is not None]
    return sum(score >= model.score for score in scores), len(references) - len(scores)


def eps_group(claim: Node, context: Context) -> Outcome:
    """Turn an exact p-value about one model into a bound on eps for the whole request."""
    question = claim.text("question", "artifact")
    parent, p = context.parent(claim, "from", "conformal-p")
    _planned(claim, True)
    alpha, delta = _alpha(claim, context, question), claim.number("delta", high=Fraction(1))
    if delta != context.tested_delta:
        raise Rejected(f"{claim.path}.delta: {delta}; the guarantee under test has {context.tested_delta}")
    finding = context.finding(question)
    finding.bound = _exact_bound(claim, group_bound(p, alpha, delta))
    generous = context.proven[parent.text("id") + "/generous"]
    finding.generous = group_bound(generous, alpha, delta)
    finding.alpha, finding.claim = alpha, claim.text("id")
    return "proved", f"ln((alpha - delta)/p) gives eps >= {printed(finding.bound)}"


def control(claim: Node, context: Context) -> Outcome:
    """A positive control must be refuted by the same rule; a negative one must not alarm more than chance allows."""
    question = claim.text("question", "procedure", "artifact")
    finding = context.finding(question)
    if claim.text("sign", "positive", "negative") == "positive":
        bound = _positive_bound(claim, context, question)
        detected = bound > context.tested_eps
        finding.positive = detected
        claim.text("outcome", "detected" if detected else "missed")
        return "proved", f"the original model gives eps >= {printed(bound)}: {claim.text('outcome')}"
    if claim.level("tail") != CONTROL_TAIL:
        raise Rejected(f"{claim.path}.tail: {claim.text('tail')}; expected {CONTROL_TAIL}")
    sound, detail = _negative_outcome(claim, context, question)
    finding.negative = sound
    claim.text("outcome", "sound" if sound else "failed")
    return "proved", f"{detail}: {claim.text('outcome')}"


def _positive_bound(claim: Node, context: Context, question: str) -> Fraction:
    alpha = _alpha(claim, context, question)
    if question == "procedure":
        procedure, table = context.plan.node("procedure"), context.slots
        _planned_size(claim, "guesses", procedure.whole("guesses"))
        counted, right, _ = _guesses(claim, context, table.coins, table.positive)
        return _exact_bound(
            claim, coinflip_bound(procedure.whole("slots"), counted, right, alpha, context.tested_delta)
        )
    artifact = context.artifact
    above, failed = _at_least(artifact.references, artifact.positive[0])
    p = Fraction(1 + above + failed, len(artifact.references) + 1)
    if claim.number("p", high=Fraction(1)) != p:
        raise Rejected(f"{claim.path}.p: {claim.text('p')}; the evidence gives {p}")
    return _exact_bound(claim, group_bound(p, alpha, context.tested_delta))


def _negative_outcome(claim: Node, context: Context, question: str) -> tuple[bool, str]:
    if question == "procedure":
        procedure, table = context.plan.node("procedure"), context.slots
        _planned_size(claim, "guesses", procedure.whole("controlGuesses"))
        counted, right, generous = _guesses(claim, context, table.control_coins, table.negative)
        half = enclose(Fraction(1, 2))
        if not binomial_tail(counted, half, counted).at_most(CONTROL_TAIL):
            raise Rejected(f"{claim.path}.guesses: {counted}; a control this small can never fail")
        tail = binomial_tail(counted, half, generous)
        return tail.above(CONTROL_TAIL), f"{right} of {counted} guesses right on retrained models"
    artifact = context.artifact
    runs = _planned_size(claim, "runs", len(artifact.negative))
    alpha, references = _alpha(claim, context, question), len(artifact.references)
    rank = (alpha * (references + 1)).__floor__()
    alarms = 0
    for model in artifact.negative:
        if model.score is None:
            alarms += 1
            continue
        above, failed = _at_least(artifact.references, model)
        alarms += 1 + above + failed <= rank
    if claim.whole("alarms") != alarms:
        raise Rejected(f"{claim.path}.alarms: {claim.whole('alarms')}; the evidence gives {alarms}")
    if beta_binomial_tail(runs, rank, references, runs) > CONTROL_TAIL:
        raise Rejected(f"{claim.path}.runs: {runs}; a control this small can never fail")
    return beta_binomial_tail(
        runs, rank, references, alarms
    ) > CONTROL_TAIL, f"{alarms} alarms among {runs} retrained models"


def critical_guesses(slots: int, guesses: int, alpha: Fraction, eps: Fraction, delta: Fraction) -> int | None:
    """Return the fewest right guesses whose printed bound exceeds ``eps``; ``None`` when none does."""
    exceeded = floor_step(eps) + STEP
    for right in range(guesses + 1):
        if guessing_tail(slots, guesses, right, exceeded, delta).at_most(alpha):
            return right
    return None


def power_at(guesses: int, critical: int, accuracy: Fraction | None = None, eps: Fraction | None = None) -> bool:
    """Whether ``critical`` or more of ``guesses`` are right with probability 0.8 at an accuracy or at sigma(eps)."""
    chance = enclose(accuracy) if accuracy is not None else sigmoid(eps or Fraction(0))
    return not binomial_tail(guesses, chance, critical).low < POWER


def smallest_accuracy(guesses: int, critical: int) -> Fraction:
    """Return the smallest accuracy on the printed grid that is detected with probability 0.8."""
    low, high = 0, int(1 / STEP)
    while high - low > 1:
        middle = (low + high) // 2
        if power_at(guesses, critical, accuracy=middle * STEP):
            high = middle
        else:
            low = middle
    return high * STEP


def smallest_references(alpha: Fraction, eps: Fraction, delta: Fraction) -> int | None:
    """Return the smallest pool in which the most extreme model exceeds ``eps`` as printed; ``None`` when none does.

    ln((alpha - delta)(n + 1)) must reach the next printed step above eps, so n + 1 >= e^eps' / (alpha - delta).
    """
    if alpha <= delta:
        return None
    needed = Fraction(exponential(floor_step(eps) + STEP).high) / (alpha - delta)
    return max(needed.__ceil__() - 1, 1)


def power(claim: Node, context: Context) -> Outcome:
    """What the audit could have seen at its size."""
    question = claim.text("question", "procedure", "artifact")
    alpha, finding = _alpha(claim, context, question), context.finding(question)
    eps, delta = context.tested_eps, context.tested_delta
    if claim.number("testedEps") != eps:
        raise Rejected(f"{claim.path}.testedEps: {claim.text('testedEps')}; the plan says {eps}")
    if question == "artifact":
        references = _planned_size(claim, "references", context.plan.node("artifact").whole("references"))
        least = smallest_references(alpha, eps, delta)
        _same(claim, "smallest", least)
        _same(claim, "maxEps", printed(group_bound(Fraction(1, references + 1), alpha, delta)))
        finding.powered = least is not None and references >= least
    else:
        procedure = context.plan.node("procedure")
        guesses = _planned_size(claim, "guesses", procedure.whole("guesses"))
        counted = guesses // 2 if procedure.text("direction") == "forward" else guesses
        slots, detect = procedure.whole("slots"), claim.number("detectEps")
        if detect != context.plan.number("detectEps"):
            raise Rejected(f"{claim.path}.detectEps: {claim.text('detectEps')}; differs from the plan")
        critical = critical_guesses(slots, counted, alpha, eps, delta)
        _same(claim, "critical", critical)
        _same(claim, "accuracy", None if critical is None else printed(smallest_accuracy(counted, critical)))
        _same(claim, "maxEps", printed(coinflip_bound(slots, counted, counted, alpha, delta)))
        finding.powered = critical is not None and power_at(counted, critical, eps=detect)
    if claim.flag("reached") != finding.powered:
        raise Rejected(f"{claim.path}.reached: {claim.flag('reached')}; the sizes give {finding.powered}")
    return "proved", f"largest eps this size can show: {claim.text('maxEps')}"


def _same(claim: Node, key: str, derived: int | str | None) -> None:
    if claim.value.get(key, "absent") != derived:
        raise Rejected(f"{claim.path}.{key}: {claim.value.get(key)!r}; the sizes give {derived!r}")


def count(claim: Node, context: Context) -> Outcome:
    """Recount the rows of a group that reach a threshold; in the slots table a group is the role of a main slot."""
    group, threshold = claim.text("group"), claim.whole("threshold", -(2**53) + 1, 2**53 - 1)
    identifier = claim.text("evidence")
    name = context.evidence_name(identifier)
    scores = []
    for row in rows(context.evidence(identifier), name):
        if row.text("kind") == "record":
            found = row.text("group")
        elif row.text("kind") == "run" and row.text("group") == "main" and row.text("status") == "done":
            found = row.text("role")
        else:
            continue
        if found == group:
            scores.append(row.whole("score", -(2**53) + 1, 2**53 - 1))
    k, n = sum(score >= threshold for score in scores), len(scores)
    if (claim.whole("k"), claim.whole("n", 1)) != (k, n):
        raise Rejected(f"{claim.path}: {claim.whole('k')} of {claim.whole('n')}; the evidence gives {k} of {n}")
    context.proven[claim.text("id")] = Fraction(k, n)
    return "proved", f"{k} of {n} in {group}"


def cp(claim: Node, context: Context) -> Outcome:
    """A one-sided Clopper-Pearson bound on the rate behind a count."""
    counted, _ = context.parent(claim, "from", "count")
    k, n = counted.whole("k"), counted.whole("n", 1)
    alpha, side = claim.level("alpha"), claim.text("side", "lower", "upper")
    bound = _exact_bound(claim, (cp_lower if side == "lower" else cp_upper)(n, k, alpha))
    context.proven[claim.text("id")] = bound
    return "assumed", f"rate {'>=' if side == 'lower' else '<='} {printed(bound)}, if the rows are exchangeable (A1)"


def eps_lower(claim: Node, context: Context) -> Outcome:
    """Two Clopper-Pearson bounds as a bound on eps (Jagielski et al. 2020, arXiv 2006.07709); supports no verdict.

    e^eps >= max{(tpr - delta)/fpr, (1 - fpr - delta)/(1 - tpr)} with tpr bounded below and fpr above.
    """
    _planned(claim, False)
    _, tpr = context.parent(claim, "tpr", "cp", "lower")
    _, fpr = context.parent(claim, "fpr", "cp", "upper")
    delta = claim.number("delta", high=Fraction(1))
    ratios = [(tpr - delta, fpr), (1 - fpr - delta, 1 - tpr)]
    best = Fraction(0)
    for top, bottom in ratios:
        if top > bottom > 0:
            # ln(top / bottom) is the group bound with p = bottom and alpha - delta = top.
            best = max(best, group_bound(bottom, top, Fraction(0)))
    _exact_bound(claim, best)
    return "assumed", f"eps >= {printed(best)} by two pools; a cross-check that supports no verdict"


def utility(claim: Node, context: Context) -> Outcome:
    """An accuracy on a set of records, from a count and its lower bound."""
    bounded, least = context.parent(claim, "from", "cp", "lower")
    if claim.number("accuracyAtLeast", high=Fraction(1)) != least:
        raise Rejected(f"{claim.path}.accuracyAtLeast: differs from the bound of {bounded.text('id')}")
    counted = context.claims[bounded.text("from")]
    if counted.text("group") != claim.text("set"):
        raise Rejected(f"{claim.path}.set: {claim.text('set')!r}; the count is about {counted.text('group')!r}")
    return "assumed", f"accuracy on {claim.text('set')} >= {claim.text('accuracyAtLeast')}"


def metric(claim: Node, _context: Context) -> Outcome:
    """A descriptive number: shown, never re-derived, never behind a verdict."""
    claim.text("name")
    claim.text("value")
    return "unverified", "descriptive; supports no verdict"


RULES: Final[dict[str, Callable[[Node, Context], Outcome]]] = {
    "model-digest": model_digest,
    "split": split,
    "eps-coinflip": eps_coinflip,
    "conformal-p": conformal_p,
    "eps-group": eps_group,
    "control": control,
    "power": power,
    "count": count,
    "cp": cp,
    "eps-lower": eps_lower,
    "utility": utility,
    "metric": metric,
}
