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
    VERMILLION,
    Frame,
    Plot,
    Table,
    coord,
    drawing,
    element,
    rule,
    ticks,
    words_at,
)
from cu_certificates._wording import QUESTIONS
from cu_certificates.check.strict import Rejected


def plots(found: Mapping[str, Any], *, void: frozenset[str] = frozenset()) -> tuple[Plot, ...]:
    """Draw every plot of a predicate: the bounds first, then the questions, the attack panel, the rest by name.

    Args:
        found: ``predicate.plots``.
        void: Ids of bounds that claim nothing, because the negative control of their question did not hold.

    Raises:
        Rejected: A plot's numbers are missing, malformed or too many.
    """
    order = ("eps", "procedure", "artifact", "roc")
    names = [name for name in order if name in found] + sorted(set(found) - set(order))
    return tuple(_plot(name, found[name], void) for name in names)


def _plot(name: str, plot: object, void: frozenset[str]) -> Plot:
    if not isinstance(plot, dict):
        raise Rejected(f"plots.{name}: {type(plot).__name__}; expected an object with the key 'kind'")
    key = anchor(name)
    match plot.get("kind"):
        case "pools":
            return pools(key, plot)
        case "bets":
            return bets(key, plot)
        case "roc":
            return roc(key, plot)
        case "eps":
            return _eps(key, plot, void)
        case kind:
            return Plot(
                key=key, title=name, note=f"Not drawn: this version of the report knows no plots of kind {kind!r}."
            )


ROW: Final = 62
"""Height of one bar with its label."""

_EPS_NOTE: Final = (
    "Each bar ends at a lower bound, so the true value lies at the end of the bar or to the right of it. A bar that "
    "crosses the dashed line exceeds what the guarantee under test allows. No audit of this size could show more than "
    "the bracket."
)


def _eps(key: str, plot: Mapping[str, Any], void: frozenset[str]) -> Plot:
    where = f"plots.{key}"
    bars = objects(plot, "bars")
    if not bars:
        return Plot(key=key, title="Lower bounds on eps", note="Not drawn: the certificate states no bound.")
    if len(bars) > MAX_SERIES:
        raise Rejected(f"{where}.bars: {len(bars)} bars; expected at most {MAX_SERIES}")
    tested = exact(field(plot, "tested"), f"{where}.tested")
    lows = [max(exact(field(bar, "lower"), f"{where}.bars.lower"), Fraction(0)) for bar in bars]
    tops = [exact(field(bar, "max"), f"{where}.bars.max") if field(bar, "max") is not None else None for bar in bars]
    largest = max([tested, Fraction(1, 2), *lows, *(top for top in tops if top is not None)])
    zero, one = Fraction(0), Fraction(1)
    frame = Frame(left=24, top=44, width=592, height=ROW * len(bars), x0=zero, x1=largest * 23 / 20, y0=zero, y1=one)
    parts = _eps_axis(frame)
    names = [_bar_name(bar, void) for bar in bars]
    for index, (name, low, top) in enumerate(zip(names, lows, tops, strict=True)):
        stroke = "currentColor" if word(bars[index], "claim") in void else VERMILLION if low > tested else BLUE
        said = f"{name}: eps ≥ {text(bars[index], 'lower')}"
        parts += _bar(frame, frame.top + ROW * index, said, low, top, stroke)
    parts += _tested_line(frame, tested, len(bars))
    title = text(plot, "title") if field(plot, "title") is not None else "Lower bounds on eps"
    body = tuple(
        (name, f"≥ {text(bar, 'lower')}", text(bar, "max"), short(tested))
        for name, bar in zip(names, bars, strict=True)
    )
    desc = f"The guarantee under test is eps = {short(tested)}. " + " ".join(
        f"{name}: at least {low[2:]}, of at most {most} that this size can show." for name, low, most, _ in body
    )
    heads = ("question", "eps, lower bound", "largest eps this size can show", "eps under test")
    return Plot(
        key=key,
        title=title,
        note=_EPS_NOTE,
        svg=drawing(key, frame.top + frame.height + 50, title, desc, parts),
        table=Table(caption="Lower bounds on eps for the whole request", heads=heads, rows=body),
    )


def _tested_line(frame: Frame, tested: Fraction, bars: int) -> list[Markup]:
    """Draw the guarantee under test, broken at the rows of text so that it never runs through a label."""
    x = frame.x(tested)
    late = x > frame.left + frame.width * Fraction(2, 3)
    said = f"guarantee under test: eps = {short(tested)}"
    pieces = [(frame.top - 14, 12), *((frame.top + ROW * index + 23, 34) for index in range(bars))]
    return [
        words_at(x, frame.top - 20, said, "end" if late else "start", font_weight="600"),
        *(
            rule(x, Fraction(y), x, Fraction(y + long), stroke_width="2.2", stroke_dasharray="5 3")
            for y, long in pieces
        ),
    ]


def _bar_name(bar: Mapping[str, Any], void: frozenset[str]) -> str:
    label = text(bar, "label")
    name = f"{QUESTIONS[label][0]} question" if label in QUESTIONS else label
    return f"{name}, void" if word(bar, "claim") in void else name


def _eps_axis(frame: Frame) -> list[Markup]:
    bottom = Fraction(frame.top + frame.height)
    values, digits = ticks(frame.x0, frame.x1, 7)
    parts = []
    for value in values:
        x = frame.x(value)
        parts.append(rule(x, Fraction(frame.top), x, bottom, stroke_opacity="0.13"))
        parts.append(words_at(x, bottom + 19, fixed(value, digits), font_size="12"))
    parts.append(rule(Fraction(frame.left), bottom, Fraction(frame.left + frame.width), bottom, stroke_opacity="0.6"))
    parts.append(words_at(frame.left + Fraction(frame.width, 2), bottom + 40, "eps for the whole request"))
    return parts


def _bar(frame: Frame, top: int, said: str, low: Fraction, most: Fraction | None, stroke: str) -> list[Markup]:
    """Draw one lower bound: a bar with an arrow that points on, its value, and the bracket of what could be shown."""
    start, end = frame.x(Fraction(0)), frame.x(low)
    y, middle = top + 26, Fraction(top + 36)
    parts = [words_at(start + 6, top + 18, said, "start", font_weight="600")]
    if low > 0:
        parts.append(element("rect", x=start, y=y, width=end - start, height=20, fill=stroke, fill_opacity="0.85"))
    tip = end + 18
    parts.append(rule(end, middle, tip, middle, stroke=stroke, stroke_width="3"))
    parts.append(element("path", d=f"M{coord(tip + 8)} {coord(middle)}l-10 -7v14z", fill=stroke))
    if most is not None:
        x = frame.x(most)
        bracket = f"M{coord(x - 6)} {y - 4}H{coord(x)}V{y + 24}H{coord(x - 6)}"
        style = {"fill": "none", "stroke": "currentColor", "stroke_opacity": "0.6", "stroke_width": "1.6"}
        parts.append(element("path", d=bracket, **style))
    return parts
