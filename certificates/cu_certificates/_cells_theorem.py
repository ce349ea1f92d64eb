"""Claims about a stated guarantee and about differences of two sets of models, in words."""

from collections.abc import Mapping
from typing import Any, Final

from cu_certificates._cell import Cells, Surroundings, Writer
from cu_certificates._fields import exact, field, fixed, flatten, mapping, objects, text
from cu_certificates._phrases import Claim
from cu_certificates._wording import Wording

_MOST_SHOWN: Final = 300
"""Characters of constants in a cell; a composition may list a thousand releases, which stand in the raw data."""


def _bound(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    listed = objects(claim, "assumptions")
    enforced = sum(text(one, "kind") == "enforced" for one in listed)
    sampler = t.word("sampler", text(claim, "sampler"))
    return (
        t("cell.theorem", theorem=t.word("theorem", text(claim, "theorem"))),
        t("cell.theorem_from", constants=_constants(mapping(claim, "constants"), t)),
        t("cell.theorem_bound", eps=text(claim, "eps"), delta=text(claim, "delta")),
        t("cell.theorem_note", enforced=enforced, all=len(listed), sampler=sampler),
    )


def _constants(source: Mapping[str, Any], t: Wording) -> str:
    plain = {None: t("word.none"), True: t("word.yes"), False: t("word.no")}
    said = [f"{name} = {value}" for name, value in flatten(source, plain) if name not in ("unit", "records")]
    written = ", ".join(said)
    written = written if len(written) <= _MOST_SHOWN else f"{written[:_MOST_SHOWN]}…"
    if source.get("unit") == "record":
        return t("cell.theorem_record", constants=written, records=text(source, "records"))
    return t("cell.theorem_request", constants=written)


def rests_on(claim: Claim, t: Wording) -> tuple[str, ...]:
    """Return the assumptions of a theorem's claim in words, each with who stands for it."""
    told = []
    for one in objects(claim, "assumptions"):
        own = t.told(text(one, "text")) if field(one, "text") is not None else None
        said = own or t.word("theorem_needs", text(one, "id"))
        told.append(t("cell.theorem_rests", said=said, kind=t.word("kind", text(one, "kind"))))
    return tuple(told)


def _difference(claim: Claim, around: Surroundings) -> Cells:
    t = around.t
    ends = field(claim, "interval")
    value = text(claim, "value")
    if isinstance(ends, list) and len(ends) == 2:
        value = t("cell.difference_value", value=value, low=ends[0], high=ends[1])
    p = exact(field(claim, "p"), f"{text(claim, 'id')}.p")
    note = t(
        "cell.difference_note",
        above=text(claim, "asDifferent"),
        all=text(claim, "labellings"),
        unlearned=text(claim, "unlearned"),
        retrained=text(claim, "retrained"),
        note=t.told(text(claim, "note")),
    )
    return t("cell.difference", name=t.told(text(claim, "name"))), fixed(p, 4, "up"), value, note


WRITERS: Final[Mapping[str, Writer]] = {"dp-bound": _bound, "perm-p": _difference}
"""The writer of each type of claim."""
