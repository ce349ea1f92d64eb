"""Claims about how a model came about, and receipts, in words."""

from collections.abc import Mapping
from typing import Final

from markupsafe import Markup

from cu_certificates._cell import Cells, Surroundings, Writer
from cu_certificates._fields import NOT_STATED, exact, field, fixed, mapping, objects, percent, sequence, text
from cu_certificates._phrases import Claim
from cu_certificates._wording import Wording

_MOST_LISTED: Final = 12
"""Shards that are named one by one."""


def _chain(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    if text(claim, "outcome") == "broken":
        result = t("cell.chain_broken")
    elif field(claim, "earlier") is None:
        result = t("cell.chain_first", shards=text(claim, "shards"))
    else:
        result = t(
            "cell.chain_later",
            shards=text(claim, "shards"),
            affected=_listed(claim, t),
            removed=text(claim, "removed"),
        )
    return t("cell.chain", model=around.model), result, "", t("cell.chain_head", head=_digest(text(claim, "head")))


def _digest(said: str) -> str:
    """Set a digest so that it may break anywhere; a missing one stays a word."""
    return said if said == NOT_STATED else Markup('<code class="hash">{}</code>').format(said)


def _listed(claim: Claim, t: Wording) -> str:
    numbers = [str(number) for number in sequence(claim, "affected")]
    said = ", ".join(numbers[:_MOST_LISTED]) or t("word.none")
    more = len(numbers) - _MOST_LISTED
    return t("cell.and_more", said=said, more=more) if more > 0 else said


def _absent(claim: Claim, around: Surroundings) -> Cells:
    t, trees = around.t, objects(claim, "trees")
    records = sum(exact(text(tree, "size"), f"{text(claim, 'id')}.trees.size") for tree in trees)
    counts = {"present": text(claim, "present"), "items": text(claim, "items"), "trees": len(trees), "records": records}
    found = t("cell.absent_found", **counts)
    result = t("cell.against_it", said=found) if text(claim, "outcome") == "present" else found
    note = t("cell.absent_neighbours") if text(claim, "form") == "neighbours" else t("cell.absent_leaves")
    return t("cell.absent"), result, "", note


def _replay(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    counts = {"agree": text(claim, "agree"), "replayed": text(claim, "replayed"), "steps": text(claim, "steps")}
    result, bound = t("cell.replay_same", **counts), ""
    if text(claim, "outcome") == "mismatched":
        result = t("cell.against_it", said=result)
    else:
        bound = t("cell.replay_wrong", share=_share(claim))
    by = _drawn_by(claim, t)
    return t("cell.replay"), result, bound, t("cell.replay_note", alpha=text(claim, "alpha"), by=by)


def _share(claim: Claim) -> str:
    """Return a share as a percentage where that is exact, else as it was signed."""
    share = exact(field(claim, "q"), f"{text(claim, 'id')}.q")
    return percent(share, "up") if exact(fixed(share * 100, 2), "q") == share * 100 else text(claim, "q")


def _drawn_by(claim: Claim, t: Wording) -> str:
    beacon = mapping(claim, "beacon")
    source = text(beacon, "source")
    if source in ("reader", NOT_STATED):
        return t("cell.by_reader")
    return t("cell.by_beacon", source=source, round=text(beacon, "round"))


def _receipt(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    if field(claim, "evidence") is not None:
        counted = t("cell.receipt_all", size=text(claim, "size"))
        return t("cell.receipt_list"), counted, "", t("cell.receipt_root", root=_digest(text(claim, "root")))
    return t("cell.receipt_one"), t("cell.receipt_place", index=text(claim, "index")), "", ""


WRITERS: Final[Mapping[str, Writer]] = {
    "chain": _chain,
    "absent": _absent,
    "replay": _replay,
    "receipt": _receipt,
}
"""The writer of each type of claim."""
