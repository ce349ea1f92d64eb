"""The wealth of bets on the coins, slot by slot: what the sequential design decides by."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Final

from markupsafe import Markup

from cu_certificates._fields import exact, field, fixed, short, text
from cu_certificates._svg import (
    FAINT,
    STEADY,
    Frame,
    Plot,
    Table,
    coord,
    dashed,
    drawing,
    element,
    look,
    rule,
    series,
    swatch,
    ticks,
    words_at,
)
from cu_certificates._wording import Wording
from cu_certificates.check.betting import MARKS, wealth
from cu_certificates.check.design import MAX_SLOTS
from cu_certificates.check.strict import Rejected
from cu_certificates.check.tails import MAX_EPS

_LOWEST: Final = -3
_HIGHEST: Final = 4
"""Powers of ten beyond which wealth is drawn at the edge, where the wealth that refutes lies no higher."""
_MOST_ROWS: Final = 40
_LOGARITHM: Final = Context(prec=20)


@dataclass(frozen=True, kw_only=True)
class _Path:
    """One sequence: its label, its look, what became of its slots, and the wealth after each."""

    label: str
    look: tuple[str, str, str]
    marks: str
    values: list[Decimal]

    @property
    def heights(self) -> list[Fraction]:
        """Powers of ten of the wealth, from the start on."""
        powers = [Fraction(_LOGARITHM.log10(value)).limit_denominator(1000) for value in self.values]
        return [Fraction(0), *(max(power, Fraction(_LOWEST)) for power in powers)]


def bets(key: str, plot: Mapping[str, Any], t: Wording) -> Plot:
    """Draw the wealth after each slot on a logarithmic scale.

    Raises:
        Rejected: Marks or numbers are malformed or too many.
    """
    where = f"plots.{key}"
    tested = exact(field(plot, "tested"), f"{where}.tested")
    if not 0 <= tested <= MAX_EPS:
        raise Rejected(f"{where}.tested: {tested}; expected 0 to {MAX_EPS}")
    wanted = None if field(plot, "wanted") is None else exact(field(plot, "wanted"), f"{where}.wanted")
    paths = [_path(one, index, tested, where, t) for index, one in enumerate(series(plot, where))]
    goal = None if wanted is None or wanted <= 0 else _height(wanted)
    highest = max(Fraction(_HIGHEST), (goal or Fraction(0)) + 1)
    top = min(max([Fraction(1), goal or Fraction(0), *(max(path.heights) for path in paths)]), highest) + Fraction(1, 3)
    opened = max(len(path.marks) for path in paths)
    frame = Frame(
        left=56, top=40, width=568, height=230, x0=Fraction(0), x1=Fraction(opened), y0=Fraction(_LOWEST), y1=top
    )
    parts = _axes(frame, t)
    if goal is not None:
        y = frame.y(goal)
        right = Fraction(frame.left + frame.width)
        parts.append(rule(Fraction(frame.left), y, right, y, stroke_width="2", stroke_dasharray="5 3"))
        parts.append(
            words_at(frame.left + 6, y - 6, t("plot_bets.refutes", wealth=_decimal(wanted)), "start", font_weight="600")
        )
    parts += [_curve(frame, path) for path in paths]
    title = t.known(text(plot, "title"))
    return Plot(
        key=key,
        title=title,
        note=t("plot_bets.note"),
        svg=drawing(key, frame.top + frame.height + 50, title, _describe(paths, tested, t), parts),
        legend=tuple((swatch(path.look[0], path.look[1], "0"), path.label) for path in paths),
        table=_table(paths, t),
    )


def _path(one: Mapping[str, Any], index: int, tested: Fraction, where: str, t: Wording) -> _Path:
    marks = text(one, "marks")
    if not 1 <= len(marks) <= MAX_SLOTS or not set(marks) <= set(MARKS):
        raise Rejected(f"{where}.series.marks: expected 1 to {MAX_SLOTS} of {', '.join(MARKS)}")
    return _Path(label=t.known(text(one, "label")), look=look(one, index), marks=marks, values=wealth(marks, tested))


def _height(value: Fraction) -> Fraction:
    quotient = _LOGARITHM.divide(Decimal(value.numerator), Decimal(value.denominator))
    return Fraction(_LOGARITHM.log10(quotient)).limit_denominator(1000)


def _decimal(value: Fraction | None) -> str:
    return "" if value is None else short(Fraction(round(value * 100), 100))


def _axes(frame: Frame, t: Wording) -> list[Markup]:
    """Draw the grid: a line a power of ten, marks at round numbers of slots."""
    bottom, right = Fraction(frame.top + frame.height), Fraction(frame.left + frame.width)
    parts = []
    step = max(1, int(frame.y1 - frame.y0) // 8)
    for power in range(_LOWEST, int(frame.y1) + 1, step):
        y = frame.y(Fraction(power))
        parts.append(rule(Fraction(frame.left), y, right, y, stroke_opacity="0.16" if power else "0.5"))
        said = short(Fraction(10) ** power) if -4 < power < 7 else f"1e{power}"
        parts.append(words_at(frame.left - 7, y + 4, said, "end", font_size="12"))
    values, _ = ticks(frame.x0, frame.x1, 8)
    for value in values:
        if value.denominator == 1:
            x = frame.x(value)
            parts.append(rule(x, bottom, x, bottom + 5, stroke_opacity=STEADY))
            parts.append(words_at(x, bottom + 19, fixed(value, 0), font_size="12"))
    parts.append(rule(Fraction(frame.left), bottom, right, bottom, stroke_opacity=STEADY))
    parts.append(words_at(frame.left + Fraction(frame.width, 2), bottom + 38, t("plot_bets.slots")))
    parts.append(
        words_at(frame.left, frame.top - 16, t("plot_bets.wealth"), "start", font_size="12", fill_opacity=FAINT)
    )
    return parts


def _curve(frame: Frame, path: _Path) -> Markup:
    drawn = " ".join(
        f"{coord(frame.x(Fraction(slot)))},{coord(frame.y(min(height, frame.y1)))}"
        for slot, height in enumerate(path.heights)
    )
    stroke, dash, _ = path.look
    style = {"fill": "none", "stroke": stroke, "stroke_width": "2.2", "stroke_linejoin": "round"} | dashed(dash)
    return element("polyline", points=drawn, **style)


def _describe(paths: list[_Path], tested: Fraction, t: Wording) -> str:
    said = [
        t(
            "plot_bets.desc_path",
            label=path.label,
            right=path.marks.count("R"),
            lost=path.marks.count("W") + path.marks.count("F"),
            slots=len(path.marks),
            end=_shown(path.values[-1]),
            most=_shown(max(path.values)),
        )
        for path in paths
    ]
    return " ".join([t("plot_bets.desc", tested=short(tested)), *said])


def _shown(value: Decimal) -> str:
    """Return the wealth with three digits."""
    return f"{Context(prec=3).create_decimal(value):g}" if value else "0"


def _table(paths: list[_Path], t: Wording) -> Table:
    opened = max(len(path.marks) for path in paths)
    step = -(-opened // _MOST_ROWS)
    ends = [*range(step, opened, step), opened]
    body = []
    for end in ends:
        row = [str(end)]
        for path in paths:
            there = min(end, len(path.marks))
            row += [str(path.marks[:there].count("R")), _shown(path.values[there - 1])]
        body.append(tuple(row))
    heads = [t("plot_bets.slots")]
    for path in paths:
        heads += [t("plot_bets.head_right", label=path.label), t("plot_bets.head_wealth", label=path.label)]
    return Table(caption=t("plot_bets.caption"), heads=tuple(heads), rows=tuple(body))
