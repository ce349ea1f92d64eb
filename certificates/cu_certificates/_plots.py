"""The plots of the report, drawn from ``predicate.plots`` and nothing else.

Each kind of plot is one function from integers and decimal strings to a figure: a drawing with a title and a
description, a legend, a sentence on how to read it, and a table with its numbers. A kind that this version does not
know is named, not drawn.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from markupsafe import Markup

from cu_certificates._fields import anchor, exact, field, fixed, objects, short, text, word
from cu_certificates._plot_bets import bets
from cu_certificates._plot_pools import pools
from cu_certificates._plot_roc import roc
from cu_certificates._svg import (
    BLUE,
    MAX_SERIES,
    STEADY,
    VERMILLION,
    Frame,
    Plot,
    Table,
    coord,
    drawing,
    element,
    rule,
    sample,
    ticks,
    words_at,
)
from cu_certificates._wording import Wording, wording
from cu_certificates.check.strict import Rejected


def plots(
    found: Mapping[str, Any], *, void: frozenset[str] = frozenset(), t: Wording | None = None
) -> tuple[Plot, ...]:
    """Draw every plot of a predicate: the bounds first, then the questions, the attack panel, the rest by name.

    Args:
        found: ``predicate.plots``.
        void: Ids of bounds that claim nothing, because the negative control of their question did not hold.
        t: The texts of the page's language, English by default.

    Raises:
        Rejected: A plot's numbers are missing, malformed or too many.
    """
    order = ("eps", "procedure", "artifact", "roc")
    names = [name for name in order if name in found] + sorted(set(found) - set(order))
    return tuple(_plot(name, found[name], void, t or wording()) for name in names)


def _plot(name: str, plot: object, void: frozenset[str], t: Wording) -> Plot:
    if not isinstance(plot, dict):
        raise Rejected(f"plots.{name}: {type(plot).__name__}; expected an object with the key 'kind'")
    key = anchor(name)
    match plot.get("kind"):
        case "pools":
            return pools(key, plot, t)
        case "bets":
            return bets(key, plot, t)
        case "roc":
            return roc(key, plot, t)
        case "eps":
            return _eps(key, plot, void, t)
        case kind:
            return Plot(key=key, title=name, note=t("plots.unknown", kind=repr(kind)))


ROW: Final = 62
"""Height of one bar with its label."""
_FILLED: Final = "0.85"


def _eps(key: str, plot: Mapping[str, Any], void: frozenset[str], t: Wording) -> Plot:
    where = f"plots.{key}"
    bars = objects(plot, "bars")
    if not bars:
        return Plot(key=key, title=t("plot_eps.title"), note=t("plot_eps.none"))
    if len(bars) > MAX_SERIES:
        raise Rejected(f"{where}.bars: {len(bars)} bars; expected at most {MAX_SERIES}")
    tested = exact(field(plot, "tested"), f"{where}.tested")
    lows = [max(exact(field(bar, "lower"), f"{where}.bars.lower"), Fraction(0)) for bar in bars]
    tops = [exact(field(bar, "max"), f"{where}.bars.max") if field(bar, "max") is not None else None for bar in bars]
    largest = max([tested, Fraction(1, 2), *lows, *(top for top in tops if top is not None)])
    zero, one = Fraction(0), Fraction(1)
    frame = Frame(left=24, top=44, width=592, height=ROW * len(bars), x0=zero, x1=largest * 23 / 20, y0=zero, y1=one)
    parts = _eps_axis(frame, t)
    names = [_bar_name(bar, void, t) for bar in bars]
    for index, (name, low, top) in enumerate(zip(names, lows, tops, strict=True)):
        stroke = _stroke(bars[index], low, tested, void)
        said = t("plot_eps.bar", name=name, low=text(bars[index], "lower"))
        parts += _bar(frame, frame.top + ROW * index, said, low, top, stroke)
    parts += _tested_line(frame, tested, len(bars), t)
    title = t.known(text(plot, "title")) if field(plot, "title") is not None else t("plot_eps.title")
    body = tuple(
        (name, f"≥ {text(bar, 'lower')}", text(bar, "max"), short(tested))
        for name, bar in zip(names, bars, strict=True)
    )
    desc = [t("plot_eps.desc", tested=short(tested))]
    desc += [t("plot_eps.desc_bar", name=name, low=low[2:], most=most) for name, low, most, _ in body]
    heads = (t("plot_eps.question"), t("plot_eps.lower"), t("plot_eps.largest"), t("plot_eps.under_test"))
    return Plot(
        key=key,
        title=title,
        note=t("plot_eps.note"),
        svg=drawing(key, frame.top + frame.height + 50, title, " ".join(desc), parts),
        legend=_eps_legend([_stroke(bar, low, tested, void) for bar, low in zip(bars, lows, strict=True)], tops, t),
        table=Table(caption=t("plot_eps.caption"), heads=heads, rows=body),
    )


def _stroke(bar: Mapping[str, Any], low: Fraction, tested: Fraction, void: frozenset[str]) -> str:
    if word(bar, "claim") in void:
        return "currentColor"
    return VERMILLION if low > tested else BLUE


def _eps_legend(strokes: list[str], tops: list[Fraction | None], t: Wording) -> tuple[tuple[Markup, str], ...]:
    """Name the colours that occur and the bracket; the dashed line is named in the drawing."""
    said = {VERMILLION: t("plot_eps.above"), BLUE: t("plot_eps.below"), "currentColor": t("plot_eps.voided")}
    y = Fraction(7)
    found = [
        (
            sample(
                element("rect", x=0, y=3, width=14, height=8, fill=stroke, fill_opacity=_FILLED),
                rule(Fraction(14), y, Fraction(20), y, stroke=stroke, stroke_width="2.4"),
                element("path", d="M27 7l-8 -5v10z", fill=stroke),
            ),
            words,
        )
        for stroke, words in said.items()
        if stroke in strokes
    ]
    if any(top is not None for top in tops):
        found.append((sample(_bracket(Fraction(18), 0, 14)), t("plot_eps.bracket")))
    return tuple(found)


def _bracket(x: Fraction, top: int, height: int) -> Markup:
    drawn = f"M{coord(x - 6)} {top}H{coord(x)}V{top + height}H{coord(x - 6)}"
    return element("path", d=drawn, fill="none", stroke="currentColor", stroke_opacity=STEADY, stroke_width="1.6")


def _tested_line(frame: Frame, tested: Fraction, bars: int, t: Wording) -> list[Markup]:
    """Draw the guarantee under test, broken at the rows of text so that it never runs through a label."""
    x = frame.x(tested)
    late = x > frame.left + frame.width * Fraction(2, 3)
    said = t("plot_eps.tested", tested=short(tested))
    pieces = [(frame.top - 14, 12), *((frame.top + ROW * index + 23, 34) for index in range(bars))]
    return [
        words_at(x, frame.top - 20, said, "end" if late else "start", font_weight="600"),
        *(
            rule(x, Fraction(y), x, Fraction(y + long), stroke_width="2.2", stroke_dasharray="5 3")
            for y, long in pieces
        ),
    ]


def _bar_name(bar: Mapping[str, Any], void: frozenset[str], t: Wording) -> str:
    label = text(bar, "label")
    question = t.named("question", label)
    name = label if question is None else t("plot_eps.name", question=question)
    return t("plot_eps.void", name=name) if word(bar, "claim") in void else name


def _eps_axis(frame: Frame, t: Wording) -> list[Markup]:
    bottom = Fraction(frame.top + frame.height)
    values, digits = ticks(frame.x0, frame.x1, 7)
    parts = []
    for value in values:
        x = frame.x(value)
        parts.append(rule(x, Fraction(frame.top), x, bottom, stroke_opacity="0.13"))
        parts.append(words_at(x, bottom + 19, fixed(value, digits), font_size="12"))
    parts.append(rule(Fraction(frame.left), bottom, Fraction(frame.left + frame.width), bottom, stroke_opacity=STEADY))
    parts.append(words_at(frame.left + Fraction(frame.width, 2), bottom + 40, t("plot_eps.axis")))
    return parts


def _bar(frame: Frame, top: int, said: str, low: Fraction, most: Fraction | None, stroke: str) -> list[Markup]:
    """Draw one lower bound: a bar with an arrow that points on, its value, and the bracket of what could be shown."""
    start, end = frame.x(Fraction(0)), frame.x(low)
    y, middle = top + 26, Fraction(top + 36)
    parts = [words_at(start + 6, top + 18, said, "start", font_weight="600")]
    if low > 0:
        parts.append(element("rect", x=start, y=y, width=end - start, height=20, fill=stroke, fill_opacity=_FILLED))
    tip = end + 18
    parts.append(rule(end, middle, tip, middle, stroke=stroke, stroke_width="3"))
    parts.append(element("path", d=f"M{coord(tip + 8)} {coord(middle)}l-10 -7v14z", fill=stroke))
    if most is not None:
        parts.append(_bracket(frame.x(most), y - 4, 28))
    return parts
