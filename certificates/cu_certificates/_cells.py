"""Claims in words: what was asserted, what was counted, what follows from it, and at which level.

One function a type of claim. Each returns four cells: the claim in words, its result, its bound, and a note.
"""

from collections.abc import Mapping
from typing import Final

from cu_certificates import _cells_provenance, _cells_theorem
from cu_certificates._cell import Cells, Surroundings, Writer
from cu_certificates._fields import NOT_STATED, confidence, exact, field, fixed, text, truth, words
from cu_certificates._phrases import (
    Claim,
    eps_level,
    eps_plain,
    eps_value,
    guesses,
    level_of,
    reached,
    resolution,
)
from cu_certificates._wording import Wording


def cells(claim: Claim, around: Surroundings) -> Cells:
    """Return a claim in words, its result, its bound, and level and everyday words of the bound.

    Raises:
        Rejected: A number in the claim is not one.
    """
    return _WRITERS.get(text(claim, "type"), _unknown)(claim, around)


def _digest(claim: Claim, around: Surroundings) -> Cells:
    return around.t("cell.digest", model=around.model), text(claim, "digest.sha256"), "", ""


def _split(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    judged = ", ".join(words(claim, "judged")) or NOT_STATED
    said = t.told(text(claim, "text"))
    # The text of the certificate is a clause; as a cell it begins with a capital letter.
    said = said if hasattr(said, "__html__") else said[:1].upper() + said[1:]
    return said, t("cell.split", fitted=text(claim, "fitted"), judged=judged), "", ""


def _level_and_plain(claim: Claim, t: Wording) -> str:
    return t("cell.level_plain", level=eps_level(claim, t), plain=eps_plain(claim, t))


def _coinflip(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    said = t("cell.told_method", method=around.method)
    return said, guesses(claim, t), eps_value(claim, t), _level_and_plain(claim, t)


def _sequential(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    _, counted, bound, note = _coinflip(claim, around)
    ended = t.word("ended", text(claim, "ended"))
    return t("cell.told_slots", method=around.method), t("cell.sequential", counted=counted, ended=ended), bound, note


def _one_run(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    right, reversed_ = (exact(text(claim, key), f"{text(claim, 'id')}.{key}") for key in ("right", "reversed"))
    counts = {"guesses": text(claim, "guesses"), "candidates": text(claim, "candidates")}
    counted = (
        t("cell.run_reversed", right=text(claim, "reversed"), **counts)
        if reversed_ > right
        else t("cell.run_guesses", right=text(claim, "right"), **counts)
    )
    level = confidence(field(claim, "alpha"), f"{text(claim, 'id')}.alpha")
    said = t("cell.run_level", level=level, record=text(claim, "recordBound"))
    note = t("cell.level_plain", level=said, plain=eps_plain(claim, t))
    return t("cell.told_run", method=around.method), counted, eps_value(claim, t), note


def _conformal(claim: Claim, around: Surroundings) -> Cells:
    t, printed = around.t, text(claim, "p")
    value = exact(field(claim, "p"), f"{text(claim, 'id')}.p")
    return (
        t("cell.unusual", model=around.model),
        t("cell.as_high", above=text(claim, "atLeast"), references=text(claim, "references")),
        t("cell.p", p=printed),
        t("cell.at_most", value=fixed(value, 4, "up")) if "/" in printed else "",
    )


def _labels(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    request, never, random = (text(claim, key) for key in ("request", "never", "permutations"))
    value = exact(field(claim, "p"), f"{text(claim, 'id')}.p")
    return (
        t("cell.labels", request=request, model=around.model, never=never),
        t("cell.as_unusual", unusual=text(claim, "asUnusual"), random=random),
        t("cell.p", p=text(claim, "p")),
        t("cell.at_most", value=fixed(value, 4, "up")),
    )


def _group(claim: Claim, around: Surroundings) -> Cells:
    t, parent = around.t, around.index.get(text(claim, "from"), {})
    source = t("cell.from_p", p=text(parent, "p")) if parent else t("cell.from_claim", claim=text(claim, "from"))
    said = t("cell.told_model", model=around.model)
    return said, source, eps_value(claim, t), _level_and_plain(claim, t)


def _pool_counts(claim: Claim, t: Wording, pool: str = "unlearned") -> str:
    """Return how many models of two pools reach the threshold."""
    true, false = text(claim, "true"), text(claim, "false")
    return t("cell.pools", true=true, first=text(claim, pool), false=false, second=text(claim, "retrained"))


def _two_pools(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    if field(claim, "planned") is True:
        said = t("cell.told_method", method=around.method)
        return said, _pool_counts(claim, t), eps_value(claim, t), _level_and_plain(claim, t)
    first, second = (_counted(around, text(claim, key)) for key in ("tpr", "fpr"))
    bound, delta = t("cell.eps", bound=text(claim, "bound")), t("cell.at_delta", delta=text(claim, "delta"))
    return t("cell.cross_check"), t("cell.against", first=first, second=second), bound, delta


def _counted(around: Surroundings, name: str) -> str:
    """Return the count behind a binomial bound, or the bound's name when the count is not listed."""
    count = around.index.get(text(around.index.get(name, {}), "from"), {})
    return _share_of(count, around.t) if count else around.t("cell.from_claim", claim=name)


def _share_of(count: Claim, t: Wording) -> str:
    return t("cell.share_of", k=text(count, "k"), n=text(count, "n"))


def _control(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    outcome = t("cell.outcome", outcome=t.word("outcome", text(claim, "outcome")), counted=control_counted(claim, t))
    if text(claim, "sign") != "positive":
        said = t("cell.negative") if field(claim, "p") is None else t("cell.negative_records")
        if field(claim, "reversed") is not None:
            said = t("cell.run_negative")
        return said, outcome, "", t("cell.fails", tail=text(claim, "tail"))
    said = t("cell.positive")
    if field(claim, "bound") is None or field(claim, "alpha") is None:
        return said, outcome, "", ""
    return said, outcome, eps_value(claim, t), eps_level(claim, t)


def control_counted(claim: Claim, t: Wording) -> str:
    """Return what was counted for a control."""
    if field(claim, "threshold") is not None:
        if text(claim, "sign") == "positive":
            return _pool_counts(claim, t, "originals")
        return t("cell.reruns", high=text(claim, "high"), other=text(claim, "referenceHigh"))
    if field(claim, "runs") is not None:
        alarms, runs = text(claim, "alarms"), text(claim, "runs")
        return t("cell.alarms_one", runs=runs) if alarms == "1" else t("cell.alarms", alarms=alarms, runs=runs)
    if field(claim, "reversed") is not None:
        counts = {name: text(claim, name) for name in ("right", "guesses", "reversed")}
        return t("cell.run_exchanged", **counts)
    if field(claim, "right") is not None:
        return guesses(claim, t)
    return t("cell.p", p=text(claim, "p"))


def _power(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    told = t("cell.power_reached", reached=reached(truth(claim, "reached"), t))
    return t("cell.power"), told, t("cell.power_max", most=text(claim, "maxEps")), resolution(claim, t)


def _count(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    return t("cell.counted", group=t.word("group", text(claim, "group"))), _share_of(claim, t), "", ""


def _cp(claim: Claim, around: Surroundings) -> Cells:
    t, bound = around.t, text(claim, "bound")
    source = around.index.get(text(claim, "from"), {})
    counted = _share_of(source, t) if source else t("cell.from_claim", claim=text(claim, "from"))
    share = t("cell.share_up", bound=bound) if text(claim, "side") == "upper" else t("cell.share_down", bound=bound)
    return t("cell.binomial"), counted, share, level_of(claim, t)


def _utility(claim: Claim, around: Surroundings) -> Cells:
    t, bound = around.t, around.index.get(text(claim, "from"), {})
    level = confidence(field(bound, "alpha"), "utility alpha") if field(bound, "alpha") is not None else NOT_STATED
    return (
        t("cell.accuracy", set=t.word("set", text(claim, "set"))),
        t("cell.accuracy_right", counted=_counted(around, text(claim, "from"))),
        t("cell.accuracy_bound", bound=text(claim, "accuracyAtLeast")),
        t("cell.level", level=level),
    )


def _between(claim: Claim, t: Wording) -> str:
    ends = field(claim, "interval")
    return t("word.to", low=ends[0], high=ends[1]) if isinstance(ends, list) and len(ends) == 2 else ""


def _note(claim: Claim, t: Wording) -> str:
    return t.told(text(claim, "note")) if field(claim, "note") is not None else ""


def _metric(claim: Claim, around: Surroundings) -> Cells:
    t, value = around.t, text(claim, "value")
    # A number is a number in every language; "not measured" is not.
    value = value if value[:1] in "-0123456789" else t.told(value)
    return t.told(text(claim, "name")), value, _between(claim, t), _note(claim, t)


def _band(claim: Claim, around: Surroundings) -> Cells:
    t, eps = around.t, text(claim, "eps")
    errors = t("cell.band_false") if eps == "0" else t("cell.band_times", eps=eps)
    level = confidence(field(claim, "alpha"), text(claim, "id"))
    return (
        t("cell.band", errors=errors),
        t("cell.band_models", unlearned=text(claim, "unlearned"), retrained=text(claim, "retrained")),
        t("cell.band_bound", bound=text(claim, "bound")),
        t("cell.band_note", eps=eps, level=level, floor=text(claim, "floor")),
    )


def _extrapolation(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    also = _between(claim, t)
    if field(claim, "eps") is not None:
        also = t("cell.extrapolation_eps", eps=text(claim, "eps"), delta=text(claim, "delta"))
    title = t.word("extrapolated", text(claim, "type"))
    said = t("cell.extrapolation", title=title, assumption=t.told(text(claim, "assumption")))
    value, note = text(claim, "value"), _note(claim, t)
    if field(claim, "z1") is not None:
        value = t("cell.mu", mu=value)
        note = t("cell.quantiles", note=note, low=text(claim, "z1"), high=text(claim, "z2"))
    return said, value, also, note


def _unknown(claim: Claim, around: Surroundings) -> Cells:
    return around.t("cell.unknown", type=text(claim, "type")), "", "", ""


_WRITERS: Final[Mapping[str, Writer]] = {
    **_cells_provenance.WRITERS,
    **_cells_theorem.WRITERS,
    "model-digest": _digest,
    "split": _split,
    "eps-coinflip": _coinflip,
    "eps-sequential": _sequential,
    "eps-onerun": _one_run,
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
    "mu-lower": _extrapolation,
    "eps-fdp": _extrapolation,
    "eps-bayes": _extrapolation,
}

KINDS: Final = tuple(_WRITERS)
"""The types of claims that have cells of their own."""
