"""How the audited model came about, as boxes and arrows: the chain before, the shards, the model, and what was checked.

Drawn from the claims of the types ``chain``, ``absent`` and ``replay``, and from nothing else.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from markupsafe import Markup

from cu_certificates._fields import exact, field, objects, sequence, text, word
from cu_certificates._phrases import Claim
from cu_certificates._svg import (
    BLUE,
    STEADY,
    VERMILLION,
    WIDTH,
    Plot,
    Table,
    coord,
    drawing,
    element,
    rule,
    sample,
    words_at,
)
from cu_certificates._wording import Wording
from cu_certificates.check.strict import Rejected

KEY: Final = "claim:chain"
"""Names the figure. No name in ``predicate.plots`` can clash with it: a colon never stands in an anchor."""

MAX_SHARDS: Final = 64
"""Shards that are drawn one by one; of more, those that were trained anew, as far as there is room."""

_ACROSS: Final = 8
_CELL: Final = 28
_TOP: Final = 34
_LEFT: Final = (8, 148)
_MIDDLE: Final = (192, 448)
_RIGHT: Final = (492, 632)
"""Left and right edge of the three columns."""
_TALLEST: Final = 84
_LONGEST: Final = 15
"""Letters of a name that fit into a box."""


@dataclass(frozen=True, kw_only=True)
class _Check:
    """Something that was checked about the chain.

    Args:
        title: What.
        told: What came out.
        against: Whether that speaks against the chain.
        end: Rest of a path: the end of the line that leads from the check to the shards when it does not.
    """

    title: str
    told: str
    against: bool
    end: str


@dataclass(frozen=True, kw_only=True)
class _Chain:
    """What the claims say.

    Args:
        earlier: Head of the chain before, ``None`` for a first one.
        head: Head of the chain.
        shards: How many there are.
        affected: Those that were trained anew for the request.
        removed: Records that are gone from them.
        broken: Whether the records contradict each other.
        checks: What was checked about it.
    """

    earlier: str | None
    head: str
    shards: int
    affected: tuple[int, ...]
    removed: str
    broken: bool
    checks: tuple[_Check, ...]

    @property
    def drawn(self) -> tuple[int, ...]:
        """The shards that are drawn one by one."""
        return tuple(range(self.shards)) if self.shards <= MAX_SHARDS else self.affected[:MAX_SHARDS]


def chain(claims: Iterable[Claim], model: str, t: Wording) -> Plot | None:
    """Draw the chain; ``None`` where no claim states one.

    Args:
        claims: The claims of the predicate.
        model: The audited file's name.
        t: The texts of the page's language.

    Raises:
        Rejected: A number in a claim is not one, or a shard is not among the shards.
    """
    by_type = {word(claim, "type"): claim for claim in claims}
    if "chain" not in by_type:
        return None
    found = _read(by_type["chain"], tuple(_checked(by_type, t)))
    rows = -(-len(found.drawn) // _ACROSS)
    tall = max(_TALLEST, 30 + _CELL * rows + (22 if len(found.drawn) < found.shards else 0))
    middle = Fraction(_TOP + tall // 2)
    parts = [*_before(found, middle, t), *_shards(found, tall, t), *_after(found, model, middle, t)]
    parts += [*_arrow(_LEFT[1], _MIDDLE[0], middle, broken=False), *_arrow(_MIDDLE[1], _RIGHT[0], middle, found.broken)]
    height = _TOP + tall + 12
    if found.checks:
        parts += _checks(found, height)
        height += 92
    title = t("plot_chain.title")
    return Plot(
        key=KEY,
        title=title,
        note=t("plot_chain.note_broken") if found.broken else t("plot_chain.note"),
        svg=drawing(KEY, height, title, _describe(found, model, t), parts),
        legend=tuple(
            (sample(_cell(1, 0, 26, 14, anew=anew)), t("plot_chain.anew" if anew else "plot_chain.unchanged"))
            for anew in (True, False)
            if anew in {number in found.affected for number in found.drawn}
        ),
        table=_table(found, model, t),
    )


def _checked(by_type: Mapping[str, Claim], t: Wording) -> Iterator[_Check]:
    """Yield what was looked for and not found, ending at a bar, and what was run again and alike, ending at a dot."""
    if (absent := by_type.get("absent")) is not None:
        yield _Check(
            title=t("plot_chain.request", items=text(absent, "items")),
            told=t("plot_chain.found", present=text(absent, "present"), trees=len(objects(absent, "trees"))),
            against=text(absent, "outcome") == "present",
            end="h-8v2h16v-2z",
        )
    if (replay := by_type.get("replay")) is not None:
        yield _Check(
            title=t("plot_chain.replay"),
            told=t("plot_chain.replayed", **{key: text(replay, key) for key in ("agree", "replayed", "steps")}),
            against=text(replay, "outcome") == "mismatched",
            end="a5 5 0 1 0 .1 0z",
        )


def _read(claim: Claim, checks: tuple[_Check, ...]) -> _Chain:
    where = text(claim, "id")
    shards = exact(field(claim, "shards"), f"{where}.shards")
    affected = [exact(number, f"{where}.affected") for number in sequence(claim, "affected")]
    if shards < 1 or any(number.denominator != 1 or not 0 <= number < shards for number in (*affected, shards - 1)):
        raise Rejected(f"{where}.affected: expected numbers of the {text(claim, 'shards')} shards, from 0 on")
    return _Chain(
        earlier=None if field(claim, "earlier") is None else text(claim, "earlier"),
        head=text(claim, "head"),
        shards=int(shards),
        affected=tuple(sorted({int(number) for number in affected})),
        removed=text(claim, "removed"),
        broken=text(claim, "outcome") == "broken",
        checks=checks,
    )


def _box(left: int, right: int, middle: Fraction, lines: Iterable[str], dash: str = "") -> list[Markup]:
    """Draw a frame with a bold line and plain ones in it, around the height ``middle``."""
    said = list(lines)
    high = 22 + 18 * len(said)
    top = middle - Fraction(high, 2)
    style = {"fill": "none", "stroke": "currentColor", "stroke_opacity": STEADY, "stroke_width": "1.4"}
    frame = element("rect", x=left, y=top, width=right - left, height=high, rx=3, **style, **_dashes(dash))
    at = Fraction(left + right, 2)
    return [frame] + [
        words_at(at, top + 24 + 18 * index, line, font_size="12", **({} if index else {"font_weight": "600"}))
        for index, line in enumerate(said)
    ]


def _dashes(dash: str) -> dict[str, str]:
    return {"stroke_dasharray": dash} if dash else {}


def _before(found: _Chain, middle: Fraction, t: Wording) -> list[Markup]:
    if found.earlier is None:
        return _box(*_LEFT, middle, [t("plot_chain.first"), t("plot_chain.none_before")], "4 3")
    return _box(*_LEFT, middle, [t("plot_chain.before"), t("plot_chain.ends_in"), _cut(found.earlier, t)])


def _after(found: _Chain, model: str, middle: Fraction, t: Wording) -> list[Markup]:
    return _box(*_RIGHT, middle, [t("plot_chain.model"), _cut(model, t), t("plot_chain.ends_in"), _cut(found.head, t)])


def _cut(value: str, t: Wording) -> str:
    # A name that hides or reorders letters is shown as the page shows it, and cut afterwards.
    said = str(t.shown(value))
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 1]}\u2026"


def _arrow(start: int, end: int, y: Fraction, broken: bool) -> list[Markup]:
    """Draw an arrow from one column to the next; a broken one has a gap with a cross in it."""
    stroke = VERMILLION if broken else "currentColor"
    first, last = Fraction(start + 5), Fraction(end - 5)
    parts = [element("path", d=f"M{coord(last)} {coord(y)}l-9 -5v10z", fill=stroke)]
    if not broken:
        return [rule(first, y, last - 8, y, stroke_width="1.8"), *parts]
    at = (first + last) / 2 - 3
    cross = f"M{coord(at - 5)} {coord(y - 5)}l10 10m0 -10l-10 10"
    return [
        rule(first, y, at - 7, y, stroke=stroke, stroke_width="1.8"),
        element("path", d=cross, fill="none", stroke=stroke, stroke_width="2.4"),
        *parts,
    ]


def _cell(x: int, y: int, width: int, height: int, *, anew: bool) -> Markup:
    """Draw one shard: trained anew with a thick filled frame, left as it was with a thin dashed one."""
    if anew:
        style = {"fill": BLUE, "fill_opacity": "0.20", "stroke": BLUE, "stroke_width": "2.4"}
    else:
        style = {"fill": "none", "stroke": "currentColor", "stroke_opacity": STEADY, "stroke_dasharray": "3 2"}
    return element("rect", x=x + 1, y=y + 1, width=width - 2, height=height - 2, rx=2, **style)


def _shards(found: _Chain, tall: int, t: Wording) -> list[Markup]:
    left, right = _MIDDLE
    frame = element(
        "rect", x=left, y=_TOP, width=right - left, height=tall, rx=3, fill="none", stroke="currentColor",
        stroke_opacity=STEADY, stroke_width="1.4",
    )  # fmt: skip
    parts = [frame, words_at(left, _TOP - 10, t("plot_chain.shards", shards=found.shards), "start", font_weight="600")]
    across = min(len(found.drawn), _ACROSS)
    first = (left + right - across * _CELL) // 2
    rows = -(-len(found.drawn) // _ACROSS)
    more = found.shards - len(found.drawn)
    top = _TOP + (tall - rows * _CELL - (22 if more else 0)) // 2
    for index, number in enumerate(found.drawn):
        x, y = first + index % _ACROSS * _CELL, top + index // _ACROSS * _CELL
        anew = number in found.affected
        parts.append(_cell(x + 1, y + 1, _CELL - 2, _CELL - 2, anew=anew))
        # Two digits fit; larger numbers stand in the table.
        if number < 100:
            weight = {"font_weight": "600"} if anew else {}
            parts.append(words_at(x + _CELL // 2, y + 18, str(number), font_size="11", **weight))
    if more:
        y = top + rows * _CELL + 16
        parts.append(words_at(Fraction(left + right, 2), y, t("plot_chain.more", more=more), font_size="12"))
    return parts


def _checks(found: _Chain, top: int) -> list[Markup]:
    """Draw what was checked in boxes below the shards."""
    wide = (WIDTH - 16 * (len(found.checks) + 1)) // len(found.checks)
    parts: list[Markup] = []
    for index, check in enumerate(found.checks):
        left = 16 + index * (wide + 16)
        at = Fraction(min(max(left + wide // 2, _MIDDLE[0] + 40), _MIDDLE[1] - 40))
        parts += _box(left, left + wide, Fraction(top + 56), [check.title, check.told])
        stroke = VERMILLION if check.against else "currentColor"
        parts.append(rule(at, Fraction(top + 27), at, Fraction(top - 8), stroke=stroke, stroke_width="1.8"))
        # What speaks against the chain runs into it as an arrow.
        end = f"{top - 12}l-5 9h10z" if check.against else f"{top - 9}{check.end}"
        parts.append(element("path", d=f"M{coord(at)} {end}", fill=stroke))
    return parts


def _describe(found: _Chain, model: str, t: Wording) -> str:
    before = t("plot_chain.none_before") if found.earlier is None else t("plot_chain.before")
    said = [t("plot_chain.desc", before=before, shards=found.shards, anew=len(found.affected), model=model)]
    said += [t("plot_chain.note_broken")] if found.broken else []
    said += [t("plot_chain.desc_check", title=check.title, told=check.told) for check in found.checks]
    return " ".join(said)


def _table(found: _Chain, model: str, t: Wording) -> Table:
    listed = ", ".join(map(str, found.affected[:MAX_SHARDS])) or t("word.none")
    more = len(found.affected) - MAX_SHARDS
    rows = (
        (t("plot_chain.before"), t("plot_chain.none_before") if found.earlier is None else found.earlier),
        (t("plot_chain.shards_head"), str(found.shards)),
        (t("plot_chain.anew"), t("cell.and_more", said=listed, more=more) if more > 0 else listed),
        (t("plot_chain.removed"), found.removed),
        *((check.title, check.told) for check in found.checks),
        (t("plot_chain.head"), found.head),
        (t("plot_chain.model"), model),
    )
    heads = (t("plot_chain.part"), t("plot_chain.states"))
    return Table(caption=t("plot_chain.caption"), heads=heads, rows=rows)
