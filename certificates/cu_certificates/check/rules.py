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
from .design import EVIDENCE_OF, Coins, same
from .fields import Node, printed
from .power import critical_guesses, power_at, smallest_accuracy, smallest_references
from .rates import Outcome, count, cp, eps_lower, exact_bound, metric, planned, utility
from .strict import Rejected
from .tables import Model, digests
from .tails import beta_binomial_tail, binomial_tail, coinflip_bound, enclose, group_bound

CONTROL_TAIL: Final = Fraction(1, 100)
"""A sound pipeline fails its negative control in at most this share of audits."""

ASSUMED: Final = tuple(f"A{number}" for number in range(1, 12))
"""The trusted base, stated wherever a bound on eps stands; A9, because nobody but the prover drew the seed."""


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
    _once(claim, context)
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


def _once(claim: Node, context: Context, *keys: str) -> None:
    """Refuse a second claim of one kind: a reader must not have to ask which of two counts."""
    named = ("type", *keys)
    for other in context.claims.values():
        if other is not claim and all(other.value.get(key) == claim.value.get(key) for key in named):
            raise Rejected(f"{claim.path}: says again what {other.text('id')!r} says; expected one claim of its kind")


def _question(claim: Node, context: Context, *allowed: str) -> str:
    """Return the claim's question, which must be a planned one with one claim of this kind."""
    question = claim.text("question", *allowed)
    if question not in context.questions():
        raise Rejected(f"{claim.path}.question: {question!r} was not planned")
    _once(claim, context, "question", "sign")
    return question


def _planned_size(claim: Node, key: str, expected: int) -> int:
    size = claim.whole(key)
    if size != expected:
        raise Rejected(f"{claim.path}.{key}: {size}; the plan says {expected}")
    return size


def _alpha(claim: Node, context: Context, question: str) -> Fraction:
    alpha = claim.level("alpha")
    if alpha != context.share(question):
        raise Rejected(f"{claim.path}.alpha: {alpha}; the plan gives this question {context.share(question)}")
    return alpha


def _guesses(
    claim: Node, coins: Coins, guesses: int, bits: Sequence[int], models: Sequence[Model]
) -> tuple[int, list[int | None]]:
    """Recount the right guesses, failed runs counted as wrong; returns them and the scores."""
    _planned_size(claim, "guesses", guesses)
    scores = [model.score for model in models]
    right = right_guesses(bits, scores, guesses, forward_only=coins.forward)
    if claim.whole("right") != right:
        raise Rejected(f"{claim.path}.right: {claim.whole('right')}; the evidence gives {right}")
    return right, scores


def most_right(bits: Sequence[int], scores: Sequence[int | None], right: int, coins: Coins) -> int:
    """Return the most guesses that could be right had no run failed.

    That is the larger of two counts: each failed run is a right guess, and each failed run has the score that helps
    most. The second can be larger: failed runs at the top would have pushed wrong guesses out of it.
    """
    filled = [(2**53 if bit else -(2**53)) if score is None else score for bit, score in zip(bits, scores, strict=True)]
    moved = right_guesses(bits, filled, coins.guesses, forward_only=coins.forward)
    return max(moved, min(right + scores.count(None), coins.counted))


def eps_coinflip(claim: Node, context: Context) -> Outcome:
    """Procedure question: recount the right guesses and redo the binomial bound."""
    question = _question(claim, context, "procedure")
    claim.text("evidence", "slots")
    coins, table = context.coins, context.slots
    _planned_size(claim, "slots", coins.slots)
    claim.text("direction", coins.direction)
    planned(claim, True)
    alpha, delta = _level(claim, context, question)
    right, scores = _guesses(claim, coins, coins.guesses, table.coins, table.main)
    bound = exact_bound(claim, coinflip_bound(coins.slots, coins.counted, right, alpha, delta))
    context.assume(claim, *ASSUMED)
    finding, most = context.finding(question), most_right(table.coins, scores, right, coins)
    finding.bound = bound
    finding.generous = coinflip_bound(coins.slots, coins.counted, most, alpha, delta)
    return "assumed", f"{right} of {coins.counted} guesses right over {coins.slots} slots: eps >= {printed(bound)}"


def _level(claim: Node, context: Context, question: str) -> tuple[Fraction, Fraction]:
    """Return the planned share of alpha and the delta under test, as the claim states them."""
    alpha, delta = _alpha(claim, context, question), claim.number("delta", high=Fraction(1))
    if delta != context.tested_delta:
        raise Rejected(f"{claim.path}.delta: {delta}; the guarantee under test has {context.tested_delta}")
    return alpha, delta


def conformal_p(claim: Node, context: Context) -> Outcome:
    """Artifact question: recount the references that score at least as high as the audited model."""
    _question(claim, context, "artifact")
    claim.text("evidence", "artifact")
    table = context.artifact
    references = _planned_size(claim, "references", len(table.references))
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


def eps_group(claim: Node, context: Context) -> Outcome:
    """Turn an exact p-value about one model into a bound on eps for the whole request."""
    question = _question(claim, context, "artifact")
    _, p = context.parent(claim, "from", "conformal-p")
    planned(claim, True)
    alpha, delta = _level(claim, context, question)
    bound = exact_bound(claim, group_bound(p, alpha, delta))
    context.assume(claim, *ASSUMED)
    finding = context.finding(question)
    finding.bound = bound
    finding.generous = group_bound(p if finding.least_p is None else finding.least_p, alpha, delta)
    return "assumed", f"ln((alpha - delta)/p) gives eps >= {printed(bound)}"


def control(claim: Node, context: Context) -> Outcome:
    """A positive control must be refuted by the same rule; a negative one must not alarm more than chance allows."""
    question = _question(claim, context, "procedure", "artifact")
    claim.text("evidence", EVIDENCE_OF[question])
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
        coins, table = context.coins, context.slots
        right, _ = _guesses(claim, coins, coins.guesses, table.coins, table.positive)
        return exact_bound(claim, coinflip_bound(coins.slots, coins.counted, right, alpha, context.tested_delta))
    artifact = context.artifact
    above, failed = _at_least(artifact.references, artifact.positive[0])
    p = Fraction(1 + above + failed, len(artifact.references) + 1)
    if claim.number("p", high=Fraction(1)) != p:
        raise Rejected(f"{claim.path}.p: {claim.text('p')}; the evidence gives {p}")
    return exact_bound(claim, group_bound(p, alpha, context.tested_delta))


def _negative_outcome(claim: Node, context: Context, question: str) -> tuple[bool, str]:
    if question == "procedure":
        coins, table = context.coins, context.slots
        right, scores = _guesses(claim, coins, coins.control_guesses, table.control_coins, table.negative)
        counted, half = coins.control_counted, enclose(Fraction(1, 2))
        if not binomial_tail(counted, half, counted).at_most(CONTROL_TAIL):
            raise Rejected(f"{claim.path}.guesses: {counted}; a control this small can never fail")
        tail = binomial_tail(counted, half, min(right + scores.count(None), counted))
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


def power(claim: Node, context: Context) -> Outcome:
    """What the audit could have seen at its size."""
    question = _question(claim, context, "procedure", "artifact")
    alpha, finding = _alpha(claim, context, question), context.finding(question)
    eps, delta = context.tested_eps, context.tested_delta
    if claim.number("testedEps") != eps:
        raise Rejected(f"{claim.path}.testedEps: {claim.text('testedEps')}; the plan says {eps}")
    if question == "artifact":
        references = _planned_size(claim, "references", context.plan.node("artifact").whole("references", 1))
        least = smallest_references(alpha, eps, delta)
        _same(claim, "smallest", least)
        _same(claim, "maxEps", printed(group_bound(Fraction(1, references + 1), alpha, delta)))
        reached = least is not None and references >= least
    else:
        coins, detect = context.coins, claim.number("detectEps")
        _planned_size(claim, "guesses", coins.guesses)
        if detect != context.plan.number("detectEps"):
            raise Rejected(f"{claim.path}.detectEps: {claim.text('detectEps')}; differs from the plan")
        critical = critical_guesses(coins.slots, coins.counted, alpha, eps, delta)
        _same(claim, "critical", critical)
        _same(claim, "accuracy", None if critical is None else printed(smallest_accuracy(coins.counted, critical)))
        _same(claim, "maxEps", printed(coinflip_bound(coins.slots, coins.counted, coins.counted, alpha, delta)))
        reached = critical is not None and power_at(coins.counted, critical, eps=detect)
    if claim.flag("reached") != reached:
        raise Rejected(f"{claim.path}.reached: {claim.flag('reached')}; the sizes give {reached}")
    finding.powered = reached
    return "proved", f"largest eps this size can show: {claim.text('maxEps')}"


def _same(claim: Node, key: str, derived: int | str | None) -> None:
    if not same(claim.value.get(key, "absent"), derived):
        raise Rejected(f"{claim.path}.{key}: {claim.value.get(key)!r}; the sizes give {derived!r}")


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
