"""Bounds, guesses and sizes of an audit in words: what the table of claims and the top of the report both say."""

from collections.abc import Mapping
from typing import Any

from cu_certificates._fields import NOT_STATED, confidence, exact, field, guess_share, percent, short, text
from cu_certificates._wording import Wording

Claim = Mapping[str, Any]


def eps_value(claim: Claim, t: Wording) -> str:
    """Return a measured lower bound, with its delta where there is one."""
    bound, delta = text(claim, "bound"), text(claim, "delta") if field(claim, "delta") is not None else "0"
    if exact(delta, f"{text(claim, 'id')}.delta") == 0:
        return t("cell.eps", bound=bound)
    return t("cell.eps_delta", bound=bound, delta=delta)


def eps_level(claim: Claim, t: Wording) -> str:
    """Return the level of a measured lower bound and for whom it holds."""
    return t("cell.level_request", level=_level(claim))


def level_of(claim: Claim, t: Wording) -> str:
    """Return the one-sided level of a bound."""
    return t("cell.level", level=_level(claim))


def _level(claim: Claim) -> str:
    return confidence(field(claim, "alpha"), f"{text(claim, 'id')}.alpha")


def eps_share(claim: Claim) -> str | None:
    """Return how often a guesser could be right at least, ``None`` when no better than a coin was shown."""
    value = exact(field(claim, "bound"), f"{text(claim, 'id')}.bound")
    return guess_share(value, "down") if value > 0 else None


def eps_plain(claim: Claim, t: Wording) -> str:
    """Return a measured lower bound in a few everyday words, without its level."""
    share = eps_share(claim)
    return t("cell.coin") if share is None else t("cell.right_in", share=share)


def guesses(claim: Claim, t: Wording) -> str:
    """Return "48 of 48 guesses right" and the number of slots, where there is one."""
    right = text(claim, "right")
    slots = text(claim, "slots") if field(claim, "slots") is not None else None
    if field(claim, "opened") is not None:
        made = sum(exact(text(claim, key), f"{text(claim, 'id')}.{key}") for key in ("right", "wrong", "failed"))
        opened = text(claim, "opened")
        if slots is None:
            return t("cell.guesses_opened", right=right, guesses=made, opened=opened)
        return t("cell.guesses_most", right=right, guesses=made, opened=opened, slots=slots)
    counted = text(claim, "guesses")
    if slots is None:
        return t("cell.guesses", right=right, guesses=counted)
    return t("cell.guesses_slots", right=right, guesses=counted, slots=slots)


def reached(value: bool | None, t: Wording) -> str:
    """Return whether a resolution is reached, in words."""
    if value is None:
        return NOT_STATED
    return t("seen.reached") if value else t("seen.not_reached")


def resolution(claim: Claim, t: Wording) -> str:
    """Return what a power claim says about the smallest effect that this audit sees."""
    tested = _tested(claim)
    artifact = text(claim, "question") == "artifact"
    if field(claim, "unlearned") is not None:
        return t("seen.pools", unlearned=text(claim, "unlearned"), retrained=text(claim, "retrained"))
    if field(claim, "smallest" if artifact else "critical") is None:
        return t("seen.nothing", tested=tested)
    if artifact:
        least = text(claim, "smallest")
        if field(claim, "permutations") is None:
            return t("seen.references", used=text(claim, "references"), least=least, tested=tested)
        return t("seen.permutations", used=text(claim, "permutations"), least=least, tested=tested)
    critical, share = text(claim, "critical"), seen_from(claim, t)
    if field(claim, "bets") is not None:
        return t("seen.row", critical=critical, tested=tested, share=share, bets=text(claim, "bets"))
    need = t("seen.need", critical=critical, guesses=text(claim, "guesses"), tested=tested, share=share)
    if field(claim, "maxRecordEps") is None:
        return need
    return t("seen.record_max", said=need, most=text(claim, "maxRecordEps"))


def could_see(claim: Claim, t: Wording) -> str:
    """Return the same in words for the top of the page."""
    tested = _tested(claim)
    artifact = text(claim, "question") == "artifact"
    if field(claim, "unlearned") is not None:
        return t("seen.pools_top", unlearned=text(claim, "unlearned"), retrained=text(claim, "retrained"))
    if field(claim, "smallest" if artifact else "critical") is None:
        return t("seen.nothing_top", tested=tested)
    if artifact and field(claim, "permutations") is not None:
        return t("seen.records_top")
    if artifact:
        return t("seen.references_top", used=text(claim, "references"), least=text(claim, "smallest"))
    return t("seen.guesser_top", share=seen_from(claim, t))


def _tested(claim: Claim) -> str:
    return short(exact(field(claim, "testedEps"), f"{text(claim, 'id')}.testedEps"))


def seen_from(claim: Claim, t: Wording) -> str:
    """Return the smallest share of right guesses that a power claim sees with 80 % power."""
    if field(claim, "accuracy") is None:
        return NOT_STATED
    share = exact(field(claim, "accuracy"), f"{text(claim, 'id')}.accuracy")
    return t("seen.share", share=percent(share, "up"))
