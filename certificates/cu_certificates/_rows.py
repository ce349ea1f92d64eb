"""Claims in words: one table row for each claim of a certificate."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cu_certificates._fields import (
    NOT_STATED,
    anchor,
    confidence,
    exact,
    field,
    fixed,
    guess_share,
    percent,
    reached,
    short,
    text,
    word,
    words,
)
from cu_certificates._wording import QUESTIONS, VOID

BOUND_TYPES: Final = ("eps-coinflip", "eps-sequential", "eps-lower", "eps-group")
"""The claims whose bound can carry a verdict."""

METRIC_TYPES: Final = {
    "metric": "",
    "mu-lower": "extrapolation",
    "eps-fdp": "extrapolation",
    "eps-bayes": "extrapolation",
}
"""Claims that inform only, and the group in which the report shows them; a metric says itself what kind it is."""

_BASIS: Final = {
    "model-digest": "recounted",
    "split": "recounted",
    "eps-coinflip": "recounted",
    "eps-sequential": "recounted",
    "control": "recounted",
    "power": "derived",
    "conformal-p": "recounted",
    "label-p": "recounted",
    "eps-group": "derived",
    "eps-lower": "assumed",
    "count": "recounted",
    "cp": "assumed",
    "utility": "assumed",
    "metric": "descriptive",
    "band": "assumed",
    "mu-lower": "descriptive",
    "eps-fdp": "descriptive",
    "eps-bayes": "descriptive",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One claim as the report prints it.

    Args:
        id: The claim's id; the row's HTML id is ``claim-`` and ``anchor``.
        anchor: The id as it may stand in HTML.
        type: The claim's type.
        group: ``procedure``, ``artifact``, ``utility``, ``ground``, or a kind of metric: where the row stands.
        words: The claim in words.
        result: What was counted.
        bound: What follows from it, with its direction; empty when nothing does.
        note: Level, scope and everyday words of the bound, or another remark; may be empty.
        alpha: The level that the claim spends, or empty.
        basis: A key of ``BASES``.
        evidence: Ids of the evidence files that the claim names.
        sources: Id and anchor of the claims that it rests on.
        supports: Whether the verdict names it.
    """

    id: str
    anchor: str
    type: str
    group: str
    words: str
    result: str
    bound: str
    note: str
    alpha: str
    basis: str
    evidence: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]
    supports: bool


Claim = Mapping[str, Any]
_Cells = tuple[str, str, str, str]


def rows(claims: Iterable[Claim], *, method: str, model: str, supports: tuple[str, ...]) -> tuple[Row, ...]:
    """Return one row for each claim, in the order of the certificate.

    Args:
        claims: The claims of the predicate.
        method: The method's name in words.
        model: The audited file's name.
        supports: Ids of the claims that the verdict rests on.

    Raises:
        Rejected: A number in a claim is not one.
    """
    listed = list(claims)
    index = {text(claim, "id"): claim for claim in listed}
    groups, void = _groups(listed), void_bounds(listed)
    found = []
    for claim in listed:
        name, kind = text(claim, "id"), text(claim, "type")
        said, result, bound, note = _WRITERS.get(kind, _unknown)(claim, index, method, model)
        evidence = word(claim, "evidence")
        found.append(
            Row(
                id=name,
                anchor=anchor(name),
                type=kind,
                group=groups[name],
                words=said,
                result=result,
                bound=bound,
                note=VOID if name in void else note,
                alpha=text(claim, "alpha") if field(claim, "alpha") is not None else "",
                basis=_BASIS.get(kind, "unread"),
                evidence=(evidence,) if evidence else (),
                sources=tuple((parent, anchor(parent)) for parent in _parents(claim)),
                supports=name in supports and name not in void,
            )
        )
    return tuple(found)


def decides(claim: Claim) -> bool:
    """Whether a claim's bound can carry a verdict; two pools can only where the plan asked for them."""
    return word(claim, "type") in BOUND_TYPES and (
        word(claim, "type") != "eps-lower" or field(claim, "planned") is True
    )


def _parents(claim: Claim) -> list[str]:
    return [parent for key in ("from", "tpr", "fpr") if (parent := word(claim, key))]


def _groups(claims: list[Claim]) -> dict[str, str]:
    """Return where each claim stands; a count or its bound stands with the claim that rests on it."""
    groups: dict[str, str] = {}
    for claim in claims:
        question = word(claim, "question")
        kind = text(claim, "type")
        if kind in METRIC_TYPES:
            groups[text(claim, "id")] = METRIC_TYPES[kind] or word(claim, "kind") or "descriptive"
            continue
        own = "utility" if kind == "utility" else ""
        groups[text(claim, "id")] = question if question in QUESTIONS else own
    # Parents stand before their children, so one walk from the end reaches every ancestor.
    for claim in reversed(claims):
        for parent in _parents(claim):
            if groups.get(parent) == "":
                groups[parent] = groups[text(claim, "id")]
    return {name: group or "ground" for name, group in groups.items()}


def void_bounds(claims: Iterable[Claim]) -> frozenset[str]:
    """Return the ids of bounds that claim nothing: the negative control of their question is absent or failed."""
    listed = list(claims)
    sound = {
        word(claim, "question")
        for claim in listed
        if (word(claim, "type"), word(claim, "sign"), word(claim, "outcome")) == ("control", "negative", "sound")
    }
    return frozenset(text(claim, "id") for claim in listed if decides(claim) and word(claim, "question") not in sound)


def eps_value(claim: Claim) -> str:
    """Return a measured lower bound, with its delta where there is one."""
    delta = text(claim, "delta") if field(claim, "delta") is not None else "0"
    slack = "" if exact(delta, f"{text(claim, 'id')}.delta") == 0 else f" at delta = {delta}"
    return f"eps ≥ {text(claim, 'bound')}{slack}"


def eps_level(claim: Claim) -> str:
    """Return the level of a measured lower bound and for whom it holds."""
    level = confidence(field(claim, "alpha"), f"{text(claim, 'id')}.alpha")
    return f"at {level} (one-sided), whole request"


def eps_share(claim: Claim) -> str | None:
    """Return how often a guesser could be right at least, ``None`` when no better than a coin was shown."""
    value = exact(field(claim, "bound"), f"{text(claim, 'id')}.bound")
    return guess_share(value, "down") if value > 0 else None


def eps_plain(claim: Claim) -> str:
    """Return a measured lower bound in a few everyday words, without its level."""
    share = eps_share(claim)
    return (
        "nothing better than tossing a coin was shown"
        if share is None
        else f"right in at least {share} of chosen guesses"
    )


def guesses(claim: Claim) -> str:
    """Return "48 of 48 guesses right" and the number of slots, where there is one."""
    if field(claim, "opened") is not None:
        made = sum(exact(text(claim, key), f"{text(claim, 'id')}.{key}") for key in ("right", "wrong", "failed"))
        most = f" of at most {text(claim, 'slots')}" if field(claim, "slots") is not None else ""
        return f"{text(claim, 'right')} of {made} guesses right, {text(claim, 'opened')}{most} slots opened"
    counted = f"{text(claim, 'right')} of {text(claim, 'guesses')} guesses right"
    return counted + (f", {text(claim, 'slots')} slots" if field(claim, "slots") is not None else "")


def _digest(claim: Claim, _index: Mapping[str, Claim], _method: str, model: str) -> _Cells:
    digest = text(claim, "digest.sha256")
    return f"The audited bytes of {model} have this SHA-256 digest", digest, "", ""


def _split(claim: Claim, _index: Mapping[str, Claim], _method: str, _model: str) -> _Cells:
    judged = ", ".join(words(claim, "judged")) or NOT_STATED
    said = text(claim, "text")
    return said[:1].upper() + said[1:], f"fitted on {text(claim, 'fitted')}; judged: {judged}", "", ""


def _coinflip(claim: Claim, _index: Mapping[str, Claim], method: str, _model: str) -> _Cells:
    said = f"How well models treated with {method} can be told from retrained ones, at least"
    return said, guesses(claim), eps_value(claim), f"{eps_level(claim)}; {eps_plain(claim)}"


def _sequential(claim: Claim, index: Mapping[str, Claim], method: str, model: str) -> _Cells:
    said, counted, bound, note = _coinflip(claim, index, method, model)
    return f"{said}, judged slot by slot", f"{counted}; {_ENDED[text(claim, 'ended')]}", bound, note


_ENDED: Final = {
    "refuted": "ended because the guarantee under test was exceeded",
    "nothing": "ended because nothing was seen at the planned power",
    "budget": "ended with the last planned slot",
}


def _conformal(claim: Claim, _index: Mapping[str, Claim], _method: str, model: str) -> _Cells:
    above, total = text(claim, "atLeast"), text(claim, "references")
    value = exact(field(claim, "p"), f"{text(claim, 'id')}.p")
    printed = text(claim, "p")
    return (
        f"How unusual {model} is among models that never saw the request",
        f"{above} of {total} references score at least as high",
        f"p = {printed}",
        f"at most {fixed(value, 4, 'up')}" if "/" in printed else "",
    )


def _labels(claim: Claim, _index: Mapping[str, Claim], _method: str, model: str) -> _Cells:
    request, never, random = (text(claim, key) for key in ("request", "never", "permutations"))
    value = exact(field(claim, "p"), f"{text(claim, 'id')}.p")
    return (
        f"How unusual the request's {request} records look to {model} among {never} never-trained ones of the same "
        "classes, high and low side, mean and worst records",
        f"{text(claim, 'asUnusual')} of {random} random places and the true one look at least as unusual",
        f"p = {text(claim, 'p')}",
        f"at most {fixed(value, 4, 'up')}",
    )


def _group(claim: Claim, index: Mapping[str, Claim], _method: str, model: str) -> _Cells:
    said = f"How well {model} can be told from a retrained model, at least"
    parent = index.get(text(claim, "from"), {})
    source = f"from p = {text(parent, 'p')}" if parent else f"from {text(claim, 'from')}"
    return said, source, eps_value(claim), f"{eps_level(claim)}; {eps_plain(claim)}"


def pool_counts(claim: Claim, pool: str = "unlearned") -> str:
    """Return how many models of two pools reach the threshold."""
    ends = [f"{text(claim, 'true')} of {text(claim, pool)}", f"{text(claim, 'false')} of {text(claim, 'retrained')}"]
    return " against ".join(ends) + " models above the threshold"


def _two_pools(claim: Claim, index: Mapping[str, Claim], method: str, _model: str) -> _Cells:
    if field(claim, "planned") is True:
        said = f"How well models treated with {method} can be told from retrained ones, at least"
        return said, pool_counts(claim), eps_value(claim), f"{eps_level(claim)}; {eps_plain(claim)}"
    ends = [_counted(index, text(claim, key)) for key in ("tpr", "fpr")]
    bound, delta = f"eps ≥ {text(claim, 'bound')}", f"at delta = {text(claim, 'delta')}"
    return "Cross-check by two pools; supports no verdict", " against ".join(ends), bound, delta


def _counted(index: Mapping[str, Claim], name: str) -> str:
    """Return the count behind a binomial bound, or the bound's name when the count is not listed."""
    count = index.get(text(index.get(name, {}), "from"), {})
    return f"{text(count, 'k')} of {text(count, 'n')}" if count else f"from {name}"


def _control(claim: Claim, _index: Mapping[str, Claim], _method: str, _model: str) -> _Cells:
    positive = text(claim, "sign") == "positive"
    said = (
        "Positive control: the same test on the untreated model must be detected"
        if positive
        else "Negative control: the same test on retrained models in the method's place must find nothing"
    )
    if not positive and field(claim, "p") is not None:
        said = "Negative control: the same test on numbers that no audited model made must find nothing"
    if field(claim, "threshold") is not None:
        high, other = text(claim, "high"), text(claim, "referenceHigh")
        counted = (
            pool_counts(claim, "originals") if positive else f"{high} reruns, {other} retrains above the threshold"
        )
    elif field(claim, "runs") is not None:
        counted = f"{text(claim, 'alarms')} alarms in {text(claim, 'runs')} runs"
    elif field(claim, "right") is not None:
        counted = guesses(claim)
    else:
        counted = f"p = {text(claim, 'p')}"
    outcome = f"{text(claim, 'outcome')}: {counted}"
    if not positive:
        return (
            said,
            outcome,
            "",
            f"fails if chance alone gives this much with probability {text(claim, 'tail')} or less",
        )
    if field(claim, "bound") is None or field(claim, "alpha") is None:
        return said, outcome, "", ""
    return said, outcome, eps_value(claim), eps_level(claim)


def _power(claim: Claim, _index: Mapping[str, Claim], _method: str, _model: str) -> _Cells:
    seen = resolution(claim)
    said = "Resolution: what an audit of this size can show at all"
    return said, f"resolution wanted by the plan: {reached(claim)}", f"eps up to {text(claim, 'maxEps')}", seen


def resolution(claim: Claim) -> str:
    """Return what a power claim says about the smallest effect that this audit sees."""
    where = text(claim, "id")
    tested = short(exact(field(claim, "testedEps"), f"{where}.testedEps"))
    artifact = text(claim, "question") == "artifact"
    if field(claim, "unlearned") is not None:
        return f"{text(claim, 'unlearned')} unlearned against {text(claim, 'retrained')} retrained models are counted"
    if field(claim, "smallest" if artifact else "critical") is None:
        return f"no result of this size could exceed eps = {tested}"
    if artifact:
        unit = "references" if field(claim, "permutations") is None else "permutations"
        used, least = text(claim, unit), text(claim, "smallest")
        return f"{used} {unit}; at least {least} are needed to exceed eps = {tested}"
    if field(claim, "bets") is not None:
        row = f"{text(claim, 'critical')} right guesses in a row exceed eps = {tested}"
        return f"{row}; seen with 80\u00a0% power from {seen_from(claim)} over {text(claim, 'bets')} guesses"
    need = f"{text(claim, 'critical')} of {text(claim, 'guesses')} right guesses are needed to exceed eps = {tested}"
    return f"{need}; seen with 80\u00a0% power from {seen_from(claim)}"


def could_see(claim: Claim) -> str:
    """Return the same in words for the top of the page."""
    tested = short(exact(field(claim, "testedEps"), f"{text(claim, 'id')}.testedEps"))
    artifact = text(claim, "question") == "artifact"
    if field(claim, "unlearned") is not None:
        used, other = text(claim, "unlearned"), text(claim, "retrained")
        return f"{used} unlearned models that, as a group, stand out against {other} retrained ones"
    if field(claim, "smallest" if artifact else "critical") is None:
        return f"nothing, no result of this size could exceed eps = {tested}"
    if artifact and field(claim, "permutations") is not None:
        return "records of the request that stand out, as a group, among never-trained ones on this one file"
    if artifact:
        used, least = text(claim, "references"), text(claim, "smallest")
        return f"a file that stands out among {used} references, of which at least {least} are needed"
    return f"a guesser with {seen_from(claim)} or more, with a probability of at least 80\u00a0%"


def seen_from(claim: Claim) -> str:
    """Return the smallest share of right guesses that a power claim sees with 80 % power."""
    if field(claim, "accuracy") is None:
        return NOT_STATED
    share = exact(field(claim, "accuracy"), f"{text(claim, 'id')}.accuracy")
    return f"{percent(share, 'up')} right guesses"


def _count(claim: Claim, _index: Mapping[str, Claim], _method: str, _model: str) -> _Cells:
    return f"Counted in the evidence: {text(claim, 'group')}", f"{text(claim, 'k')} of {text(claim, 'n')}", "", ""


def _cp(claim: Claim, index: Mapping[str, Claim], _method: str, _model: str) -> _Cells:
    sign = "≤" if text(claim, "side") == "upper" else "≥"
    level = confidence(field(claim, "alpha"), f"{text(claim, 'id')}.alpha")
    source = index.get(text(claim, "from"), {})
    counted = f"{text(source, 'k')} of {text(source, 'n')}" if source else f"from {text(claim, 'from')}"
    return (
        "Exact binomial bound for that count",
        counted,
        f"share {sign} {text(claim, 'bound')}",
        f"at {level} (one-sided)",
    )


def _utility(claim: Claim, index: Mapping[str, Claim], _method: str, _model: str) -> _Cells:
    bound = index.get(text(claim, "from"), {})
    level = confidence(field(bound, "alpha"), "utility alpha") if field(bound, "alpha") is not None else NOT_STATED
    return (
        f"Accuracy on {text(claim, 'set')} records",
        f"{_counted(index, text(claim, 'from'))} right",
        f"accuracy ≥ {text(claim, 'accuracyAtLeast')}",
        f"at {level} (one-sided)",
    )


def _metric(claim: Claim, _index: Mapping[str, Claim], _method: str, _model: str) -> _Cells:
    ends = field(claim, "interval")
    between = f"{ends[0]} to {ends[1]}" if isinstance(ends, list) and len(ends) == 2 else ""
    note = text(claim, "note") if field(claim, "note") is not None else ""
    return text(claim, "name"), text(claim, "value"), between, note


def _band(claim: Claim, _index: Mapping[str, Claim], _method: str, _model: str) -> _Cells:
    eps, floor = text(claim, "eps"), text(claim, "floor")
    errors = "false positives" if eps == "0" else f"e^{eps} times the false positives"
    level = confidence(field(claim, "alpha"), text(claim, "id"))
    return (
        f"What an attacker who thresholds this score can gain beyond {errors}, at most",
        f"{text(claim, 'unlearned')} unlearned against {text(claim, 'retrained')} retrained models",
        f"delta ≤ {text(claim, 'bound')}",
        f"at eps = {eps} and {level}, for this score only; no less than {floor} could come out at this size",
    )


_EXTRAPOLATIONS: Final = {
    "mu-lower": "Gaussian extrapolation: mu",
    "eps-fdp": "f-DP extrapolation: eps",
    "eps-bayes": "Bayesian interval: eps",
}


def _extrapolation(claim: Claim, _index: Mapping[str, Claim], _method: str, _model: str) -> _Cells:
    ends = field(claim, "interval")
    between = f"{ends[0]} to {ends[1]}" if isinstance(ends, list) and len(ends) == 2 else ""
    also = (
        f"eps = {text(claim, 'eps')} at delta = {text(claim, 'delta')}" if field(claim, "eps") is not None else between
    )
    title = _EXTRAPOLATIONS[text(claim, "type")]
    return f"{title}, if {text(claim, 'assumption')}", text(claim, "value"), also, text(claim, "note")


def _unknown(claim: Claim, _index: Mapping[str, Claim], _method: str, _model: str) -> _Cells:
    return f"Claim of a type that this report cannot read: {text(claim, 'type')}", "", "", ""


_WRITERS: Final[dict[str, Callable[[Claim, Mapping[str, Claim], str, str], _Cells]]] = {
    "model-digest": _digest,
    "split": _split,
    "eps-coinflip": _coinflip,
    "eps-sequential": _sequential,
    "conformal-p": _conformal,
    "label-p": _labels,
    "eps-group": _group,
    "eps-lower": _two_pools,
    "control": _control,
    "power": _power,
    "count": _count,
    "cp": _cp,
    "utility": _utility,
    "metric": _metric,
    "band": _band,
    **dict.fromkeys(_EXTRAPOLATIONS, _extrapolation),
}


def deciding(claims: Iterable[Claim], supports: tuple[str, ...]) -> list[Claim]:
    """Return the standing bounds that the verdict rests on; all standing ones where it names none."""
    listed = list(claims)
    void = void_bounds(listed)
    bounds = [
        claim
        for claim in listed
        if decides(claim) and field(claim, "bound") is not None and text(claim, "id") not in void
    ]
    return [claim for claim in bounds if text(claim, "id") in supports] or bounds
