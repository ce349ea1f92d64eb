"""Rules about rates of records and models: counts, bounds on the rate behind a count, what follows from two of them.

None of them decides a question: their levels lie outside the verdict's alpha.
"""

from fractions import Fraction
from typing import Final

from .bands import delta_up, delta_up_floor, rates_bound
from .common import Outcome, derived_value, exact_bound, planned, question_of
from .context import Context
from .fields import Node, printed, shown
from .request import padded_from
from .strict import MAX_INT, Rejected
from .tails import cp_lower, cp_upper

METRICS: Final = ("attack", "test", "descriptive", "probe")
"""What a metric may call itself; none of them supports a verdict."""

SIDE_ALPHA: Final = Fraction(1, 20)
"""The largest error level of a bound that is shown beside the verdict."""


def count(claim: Node, context: Context) -> Outcome:
    """Recount the rows of a group that reach a threshold; in the slots table a group is the role of a main slot."""
    group, threshold = claim.text("group"), claim.whole("threshold", -MAX_INT, MAX_INT)
    scores = []
    if claim.text("evidence", "slots", "utility") == "slots":
        if threshold != context.pilots.middle():
            # Chosen on the models that it counts, a threshold would make the bounds that build on it void.
            raise Rejected(f"{claim.path}.threshold: {threshold}; the pilots fix {context.pilots.middle()}")
        for model, bit in zip(context.slots.main, context.slots.coins, strict=True):
            if group == ("unlearned" if bit else "retrained") and model.score is not None:
                scores.append(model.score)
    else:
        for row in context.rows("utility"):
            row.text("kind", "record")
            score = row.whole("score", -MAX_INT, MAX_INT)
            if row.text("group") == group:
                scores.append(score)
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
    if alpha > SIDE_ALPHA:
        raise Rejected(f"{claim.path}.alpha: {alpha}; expected at most {SIDE_ALPHA}")
    bound = exact_bound(claim, (cp_lower if side == "lower" else cp_upper)(n, k, alpha))
    context.assume(claim, "A1")
    context.proven[claim.text("id")] = bound
    return "assumed", f"rate {'>=' if side == 'lower' else '<='} {printed(bound)}, if the rows are exchangeable (A1)"


def slot_rates(claim: Node, context: Context) -> tuple[Fraction, Fraction]:
    """Return a lower end for the unlearned and an upper end for the retrained models of the slots.

    They are what the claims named by ``tpr`` and ``fpr`` established.
    """
    rates = []
    for key, side, group in (("tpr", "lower", "unlearned"), ("fpr", "upper", "retrained")):
        bounded, rate = context.parent(claim, key, "cp", side)
        counted = context.claims[bounded.text("from")]
        if (counted.text("evidence"), counted.text("group")) != ("slots", group):
            raise Rejected(f"{claim.path}.{key}: {bounded.text('id')!r} is not about the {group} models of the slots")
        rates.append(rate)
    return rates[0], rates[1]


def eps_lower(claim: Node, context: Context) -> Outcome:
    """Two Clopper-Pearson bounds as a bound on eps (Jagielski et al. 2020, arXiv 2006.07709); supports no verdict.

    e^eps >= max{(tpr - delta)/fpr, (1 - fpr - delta)/(1 - tpr)} with tpr bounded below and fpr above.
    """
    planned(claim, False)
    claim.text("question", "procedure")
    tpr, fpr = slot_rates(claim, context)
    delta = claim.number("delta", high=Fraction(1))
    if delta != context.tested_delta:
        raise Rejected(f"{claim.path}.delta: {delta}; the guarantee under test has {context.tested_delta}")
    best = rates_bound(tpr, fpr, delta, both=True)
    context.proven[claim.text("id")] = exact_bound(claim, best)
    return "assumed", f"eps >= {printed(best)} by two pools; a cross-check that supports no verdict"


def utility(claim: Node, context: Context) -> Outcome:
    """An accuracy on a set of records, from the count of all its right answers and the lower bound on their rate.

    Where the request's size is padded, the retained records that are counted are a sample, as many as the padded size
    leaves: a whole number that says nothing about the true size. On the request itself there is no accuracy then.
    """
    bounded, least = context.parent(claim, "from", "cp", "lower")
    if claim.number("accuracyAtLeast", high=Fraction(1)) != least:
        raise Rejected(f"{claim.path}.accuracyAtLeast: differs from the bound of {bounded.text('id')}")
    counted = context.claims[bounded.text("from")]
    data, asked = context.predicate.node("scope").node("data"), context.predicate.node("request").node("commitment")
    sizes = {
        "held-out": data.whole("heldOut"),
        "retained": data.whole("trained") - asked.whole("size"),
        "request": asked.whole("size"),
    }
    if padded_from(asked) is not None:
        # A padded size is an upper one: that many of the retained records at least, and no exact number of the request.
        del sizes["request"]
    name = claim.text("set", *sizes)
    if (counted.text("evidence"), counted.text("group"), counted.whole("threshold", -MAX_INT, MAX_INT)) != (
        "utility",
        name,
        1,
    ):
        raise Rejected(f"{claim.path}.set: {name!r}; the count is not about its right answers (1) and wrong ones (0)")
    if any(row.whole("score", -MAX_INT, MAX_INT) not in (0, 1) for row in context.rows("utility")):
        raise Rejected(f"{claim.path}: the utility rows hold other scores than 0 and 1")
    if counted.whole("n") != sizes[name]:
        raise Rejected(
            f"{claim.path}: {counted.whole('n')} rows of the set {name!r}; the certificate says {sizes[name]}"
        )
    return "assumed", f"accuracy on {name} >= {claim.text('accuracyAtLeast')}"


def metric(claim: Node, _context: Context) -> Outcome:
    """A descriptive number: shown, never re-derived, never behind a verdict."""
    claim.text("name")
    claim.text("value")
    if claim.has("kind"):
        claim.text("kind", *METRICS)
    return "unverified", "descriptive; supports no verdict"


def band(claim: Node, context: Context) -> Outcome:
    """What any attacker who thresholds this score can gain (Dvoretzky-Kiefer-Wolfowitz); supports no verdict."""
    planned(claim, False)
    question_of(claim, context, "procedure", keys=("eps",))
    claim.text("quantity", "delta-up")
    design = context.design_name("procedure")
    if design not in ("coins", "pools"):
        raise Rejected(
            f"{claim.path}: a {design} design judges by several scores, so there is no one score to speak of"
        )
    claim.text("evidence", context.design("procedure").evidence)
    if design == "coins":
        models = list(zip(context.slots.coins, context.slots.main, strict=True))
    else:
        models = [(1, model) for model in context.pools.unlearned] + [(0, model) for model in context.pools.retrained]
    pools = [[model.score for coin, model in models if coin == bit] for bit in (1, 0)]
    scores = [[score for score in pool if score is not None] for pool in pools]
    if scores != pools or not all(scores):
        raise Rejected(f"{claim.path}: a model failed or a pool is empty, so nothing bounds what it would have shown")
    alpha, eps = claim.level("alpha"), claim.number("eps")
    if alpha > SIDE_ALPHA:
        raise Rejected(f"{claim.path}.alpha: {alpha}; expected at most {SIDE_ALPHA}")
    sizes = [len(pool) for pool in scores]
    for key, size in zip(("unlearned", "retrained"), sizes, strict=True):
        derived_value(claim, key, size)
    bound = exact_bound(claim, delta_up(scores[0], scores[1], eps, alpha, both=True))
    derived_value(claim, "floor", printed(delta_up_floor(sizes[0], sizes[1], eps, alpha, both=True)))
    context.assume(claim, "A1")
    return (
        "assumed",
        f"no threshold on this score gains more than {printed(bound)} beyond e^{shown(eps)} times its errors",
    )
