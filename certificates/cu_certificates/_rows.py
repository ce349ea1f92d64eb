"""The table of claims: one row for each claim of a certificate, and where it stands."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cu_certificates._cell import Surroundings
from cu_certificates._cells import cells
from cu_certificates._fields import anchor, field, text, word
from cu_certificates._phrases import Claim
from cu_certificates._wording import Wording, wording

QUESTIONS: Final = ("procedure", "artifact")

SECTIONS: Final = {
    "chain": "provenance",
    "absent": "provenance",
    "replay": "provenance",
    "dp-bound": "theorem",
    "receipt": "receipts",
}
"""Claims that answer no question, and the group in which the report shows them."""

BOUND_TYPES: Final = ("eps-coinflip", "eps-sequential", "eps-onerun", "eps-lower", "eps-group")
"""The claims whose bound can carry a verdict."""

METRIC_TYPES: Final = {
    "metric": "",
    "perm-p": "test",
    "mu-lower": "extrapolation",
    "eps-fdp": "extrapolation",
    "eps-bayes": "extrapolation",
}
"""Claims that inform only, and the group in which the report shows them; a metric says itself what kind it is."""

BASIS: Final = {
    "model-digest": "recounted",
    "split": "recounted",
    "eps-coinflip": "recounted",
    "eps-sequential": "recounted",
    "eps-onerun": "recounted",
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
    "chain": "assumed",
    "absent": "recounted",
    "replay": "replayed",
    "receipt": "recounted",
    "dp-bound": "assumed",
    "perm-p": "assumed",
    "mu-lower": "assumed",
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
        basis: A word of the group ``basis`` in the table of texts.
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


def rows(
    claims: Iterable[Claim], *, method: str, model: str, supports: tuple[str, ...], t: Wording | None = None
) -> tuple[Row, ...]:
    """Return one row for each claim, in the order of the certificate.

    Args:
        claims: The claims of the predicate.
        method: The method's name in words.
        model: The audited file's name.
        supports: Ids of the claims that the verdict rests on.
        t: The texts of the page's language, English by default.

    Raises:
        Rejected: A number in a claim is not one.
    """
    listed = list(claims)
    t = t or wording()
    around = Surroundings(index={text(claim, "id"): claim for claim in listed}, method=method, model=model, t=t)
    groups, void = _groups(listed), void_bounds(listed)
    found = []
    for claim in listed:
        name, kind = text(claim, "id"), text(claim, "type")
        said, result, bound, note = cells(claim, around)
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
                note=t("cell.void") if name in void else note,
                alpha=text(claim, "alpha") if field(claim, "alpha") is not None else "",
                basis=_basis(claim),
                evidence=(evidence,) if evidence else (),
                sources=tuple((parent, anchor(parent)) for parent in _parents(claim)),
                supports=name in supports and name not in void,
            )
        )
    return tuple(found)


def _basis(claim: Claim) -> str:
    kind = text(claim, "type")
    sorted_ = kind == "absent" and field(claim, "form") == "neighbours"
    if sorted_ or (kind == "receipt" and field(claim, "evidence") is None):
        return "assumed"
    return BASIS.get(kind, "unread")


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
        own = "utility" if kind == "utility" else SECTIONS.get(kind, "")
        groups[text(claim, "id")] = question if question in QUESTIONS else own
    # Parents stand before their children, so one walk from the end reaches every ancestor.
    for claim in reversed(claims):
        for parent in _parents(claim) if text(claim, "type") not in METRIC_TYPES else ():
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
