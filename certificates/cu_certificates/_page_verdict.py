"""The top of the report: the verdict, what it shows and does not show, and the box in plain words."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from cu_certificates._cells_theorem import rests_on
from cu_certificates._fields import NOT_STATED, anchor, exact, field, guess_share, percent, short, text, word, words
from cu_certificates._phrases import Claim, could_see, eps_level, eps_plain, eps_share, eps_value
from cu_certificates._rows import deciding
from cu_certificates._wording import Wording
from cu_certificates.check.result import VERDICTS
from cu_certificates.check.strict import Rejected

TONES: Final = {
    "REFUTED": "refuted",
    "NOT_REFUTED": "open",
    "INCONCLUSIVE": "undecided",
    "EXACT_BY_PROVENANCE": "provenance",
    "BOUNDED_BY_THEOREM": "provenance",
    "DRAFT": "draft",
}
"""Name of the colour and of the shape; the word itself always stands beside them."""

CONDITIONAL: Final = ("EXACT_BY_PROVENANCE", "BOUNDED_BY_THEOREM")
"""Verdicts that rest on what nobody measured: assumptions and missing tests are printed beside them."""

_BESIDE: Final = "beside it: "


def treated_by(predicate: Mapping[str, Any], t: Wording) -> str:
    """Return what was done to the model, in a few words."""
    method = text(predicate, "unlearning.method")
    if method == NOT_STATED:
        return t("plain.unknown")
    return t("plain.identity") if method == "identity" else t("plain.treated", method=method)


def verdict_box(predicate: Mapping[str, Any], claims: list[dict[str, Any]], t: Wording) -> dict[str, Any]:
    """Return what the top of the page says.

    Raises:
        Rejected: The verdict is none of the closed set, or a number is not one.
    """
    draft = field(predicate, "verdict") is None
    value = "DRAFT" if draft else text(predicate, "verdict.value")
    if value not in VERDICTS and not draft:
        raise Rejected(f"verdict.value: {value!r}; expected one of {', '.join(VERDICTS)}")
    basis = () if draft else words(predicate, "verdict.basis")
    reasons = () if draft else words(predicate, "verdict.reasons")
    bounds = deciding(claims, basis)
    planned = words(predicate, "plan.attacks")
    alone, drill = "label-p" in planned, "eps-onerun" in planned and not draft
    slots = {
        "guesses": _guesses(bounds, t),
        "allowed": _allowed(predicate, t),
        "resolution": _resolution(claims, t),
        "treated": treated_by(predicate, t),
        "compared": t("plain.compared_records") if alone else t("plain.compared"),
        "undecided": t("plain.undecided_records") if alone else t("plain.undecided"),
    }
    return {
        "value": t("verdict.draft_word") if draft else value,
        "word": "" if draft else t.word("verdict", f"{value}.word"),
        "tone": TONES[value],
        "headline": t.named("verdict", f"{value}.headline"),
        "bounds": tuple(_tile(claim, t) for claim in bounds),
        "tested": _tested_tile(predicate, t),
        "shows": (t.named("verdict", f"{value}.shows", **slots) or "").strip(),
        "not_shown": t.named("verdict", f"{value}.not_shown"),
        "sure": _sure(predicate, claims, t) if not draft else t("verdict.sure_draft"),
        "plain": t.paragraphs("verdict", f"{value}.drill" if drill else f"{value}.plain", **slots)
        or t.paragraphs("verdict", f"{value}.plain", **slots),
        "conditional": value in CONDITIONAL,
        "reasons": tuple(t.told(reason) for reason in reasons if not reason.startswith(_BESIDE)),
        "theorem": tuple(said for claim in claims if text(claim, "type") == "dp-bound" for said in rests_on(claim, t)),
        "beside": tuple(t.told(reason.removeprefix(_BESIDE)) for reason in reasons if reason.startswith(_BESIDE)),
        "basis": tuple((name, anchor(name)) for name in basis),
    }


def question_title(question: str, t: Wording) -> str:
    """Return the title of a question, or its own word where it has none."""
    return t.word("question", question)


def _tile(claim: Claim, t: Wording) -> dict[str, str]:
    return {
        "question": t("verdict.tile_question", question=question_title(text(claim, "question"), t)),
        "value": eps_value(claim, t),
        "level": t("cell.level_plain", level=eps_level(claim, t), plain=eps_plain(claim, t)),
        "anchor": anchor(text(claim, "id")),
    }


def _tested_tile(predicate: Mapping[str, Any], t: Wording) -> str:
    share = guess_share(exact(field(predicate, "plan.testedEps"), "plan.testedEps"), "up")
    said = t("verdict.tile_free") if share is None else t("verdict.tile_allowed", share=share)
    delta = short(exact(field(predicate, "plan.testedDelta") or "0", "plan.testedDelta"))
    return said if delta == "0" else t("verdict.tile_delta", delta=delta, said=said)


def _guesses(bounds: Iterable[Claim], t: Wording) -> str:
    told: list[str] = []
    for claim in bounds:
        share, question = eps_share(claim), t.word("question_low", text(claim, "question"))
        if share:
            told.append(
                t("verdict.guesses_next", share=share, question=question)
                if told
                else t("verdict.guesses_first", share=share, question=question)
            )
    if not told:
        return t("verdict.guesses_none")
    joined = told[0]
    for said in told[1:]:
        joined = t("word.and", first=joined, second=said)
    return t("verdict.guesses", shares=joined)


def _allowed(predicate: Mapping[str, Any], t: Wording) -> str:
    tested = exact(field(predicate, "plan.testedEps"), "plan.testedEps")
    share = guess_share(tested, "up")
    if share is None:
        return t("verdict.allowed_all", tested=short(tested))
    return t("verdict.allowed", tested=short(tested), share=share)


def _resolution(claims: Iterable[Claim], t: Wording) -> str:
    told = [
        t(
            "verdict.resolution_question",
            question=question_title(text(claim, "question"), t),
            seen=could_see(claim, t),
        )
        for claim in claims
        if word(claim, "type") == "power"
    ]
    return t("verdict.resolution", said=" ".join(told)) if told else ""


def _sure(predicate: Mapping[str, Any], claims: Iterable[Claim], t: Wording) -> str:
    alpha = percent(exact(field(predicate, "plan.alphaTotal"), "plan.alphaTotal"), "up")
    return t("verdict.sure_text", alpha=alpha, controls=_controls(claims, t))


def _controls(claims: Iterable[Claim], t: Wording) -> str:
    controls = [claim for claim in claims if word(claim, "type") == "control"]
    positive, negative = (
        [text(claim, "outcome") for claim in controls if text(claim, "sign") == sign]
        for sign in ("positive", "negative")
    )
    said = []
    if positive:
        said.append(t("verdict.controls_positive", good=positive.count("detected"), all=len(positive)))
    if negative:
        said.append(t("verdict.controls_negative", good=negative.count("sound"), all=len(negative)))
    return t("verdict.controls", said=", ".join(said)) if said else t("verdict.controls_none")
