"""Curves of the attack panel: how often single records are found, against how often one is wrongly accused.

Drawn twice: on even axes, and on logarithmic ones, where an attack that finds few records but those surely can be seen
(Carlini et al. 2022, arXiv 2112.03570).
"""

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from fractions import Fraction
from functools import cache
from typing import Any, Final

from markupsafe import Markup

from cu_certificates._fields import exact, field, fixed, mapping, percent, sequence, short, text
from cu_certificates._svg import (
    BLUE,
    FAINT,
    GRID,
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
    strokes,
    swatch,
    words_at,
)
from cu_certificates._wording import Wording
from cu_certificates.check.strict import Rejected

MAX_POINTS: Final = 200

_READ_AT: Final = (1, 5, 10, 20, 50, 100, 200, 500)  # permille of false positives
_DECADES: Final = (1, 10, 100, 1000)  # permille
_LOGARITHM: Final = Context(prec=20)
_SEEN: Final = Fraction(3, 2)
"""Steps shorter than this are joined; a line is drawn 2.2 wide."""
_BAND: Final = "0.13"
"""Opacity of the band."""

Points = list[tuple[int, int]]
"""False and true positive rate in permille, in rising order of the first."""
Place = tuple[Fraction, Fraction]

_ONE: Final = Fraction(1)
_EVEN: Final = Frame(left=44, top=36, width=250, height=250, x0=Fraction(0), x1=_ONE, y0=Fraction(0), y1=_ONE)
_LOG: Final = Frame(left=372, top=36, width=250, height=250, x0=Fraction(-3), x1=Fraction(0), y0=Fraction(-3),
                    y1=Fraction(0))  # fmt: skip
"""Powers of ten, from a rate of 0.001 on: smaller ones lie between no two points of the signed curve."""


def roc(key: str, plot: Mapping[str, Any], t: Wording) -> Plot:
    """Draw the curves of per-record attacks on even and on logarithmic axes.

    Raises:
        Rejected: Points are malformed or too many.
    """
    where = f"plots.{key}"
    attacks = series(plot, where)
    labels = [t.known(text(attack, "label")) for attack in attacks]
    curves = [_points(one, where) for one in attacks]
    parts = [*_EVEN.axes(t("plot_roc.fpr"), t("plot_roc.tpr"), wanted=5), *_log_axes(t)]
    legend = []
    if field(plot, "band") is not None:
        drawn, label = _band(mapping(plot, "band"), f"{where}.band", t)
        parts += drawn
        legend.append((swatch(BLUE, "1 3", _BAND), label))
    parts += [_guessing(frame) for frame in (_EVEN, _LOG)]
    for index, curve in reversed(list(enumerate(curves))):
        stroke, dash, _ = look({}, index)
        parts += [_curve(places, stroke, dash) for places in (_even(curve), _steps(curve))]
    legend = [(swatch(*look({}, index)[:2], "0"), label) for index, label in enumerate(labels)] + legend
    title = t.known(text(plot, "title"))
    desc = " ".join(
        t("plot_roc.desc", label=label, few=_reads(curve, 10), more=_reads(curve, 100))
        for label, curve in zip(labels, curves, strict=True)
    )
    body = tuple((short(Fraction(fpr, 1000)), *(_reads(curve, fpr) for curve in curves)) for fpr in _READ_AT)
    return Plot(
        key=key,
        title=title,
        note=t("plot_roc.note"),
        svg=drawing(key, 336, title, desc, parts),
        legend=tuple(legend),
        table=Table(caption=t("plot_roc.caption"), heads=(t("plot_roc.head"), *labels), rows=body),
    )


def _points(one: Mapping[str, Any], where: str) -> Points:
    points = sequence(one, "points")
    good = all(isinstance(point, list) and len(point) == 2 and all(map(_permille, point)) for point in points)
    if not 1 <= len(points) <= MAX_POINTS or not good:
        raise Rejected(f"{where}.points: expected 1 to {MAX_POINTS} pairs of integers from 0 to 1000 (permille)")
    return sorted((p[0], p[1]) for p in points)


def _permille(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1000


def _reads(curve: Points, fpr: int) -> str:
    """Return the largest true positive rate that the curve reaches at this false positive rate or a smaller one."""
    return fixed(Fraction(max([0, *(tpr for x, tpr in curve if x <= fpr)]), 1000), 3)


@cache
def _power(rate: int) -> Fraction:
    """Return the power of ten of a rate in permille; what is smaller than the smallest drawn rate lies at the edge."""
    found = _LOGARITHM.log10(Decimal(max(rate, _DECADES[0]))) - 3
    return Fraction(found).limit_denominator(10_000)


def _even(curve: Points) -> list[Place]:
    return [(_EVEN.x(Fraction(x, 1000)), _EVEN.y(Fraction(y, 1000))) for x, y in curve]


def _steps(curve: Points, *, early: bool = False) -> list[Place]:
    """Return the curve on logarithmic axes, in steps: what is reached at a false positive rate or at a smaller one.

    Args:
        curve: Its points.
        early: Step up at the point before, for an upper edge, which must not lie too low between two points.
    """
    height, last = max([0, *(y for x, y in curve if x <= _DECADES[0])]), 0
    places = [(_LOG.x(_power(0)), _LOG.y(_power(height)))]
    for x, y in curve:
        if y > height:
            at = _LOG.x(_power(last if early else x))
            places += [(at, _LOG.y(_power(height))), (at, _LOG.y(_power(y)))]
            height = y
        last = x
    return [*places, (_LOG.x(Fraction(0)), _LOG.y(_power(height)))]


def _written(places: Iterable[Place]) -> str:
    """Write a line as a path; a place too near to the one before to be told apart is left out, but for the last.

    Most of a curve is stairs, so its path is half as long when each step says no more than how far it goes.
    """
    first, *listed = [(_tenth(x), _tenth(y)) for x, y in places]
    steps: list[Place] = []
    x, y = first
    for index, (to_x, to_y) in enumerate(listed, 1):
        across, down = to_x - x, to_y - y
        if max(abs(across), abs(down)) < _SEEN and index < len(listed):
            continue
        if steps and (across == steps[-1][0] == 0 or down == steps[-1][1] == 0):
            across, down = steps[-1][0] + across, steps[-1][1] + down
            steps.pop()
        steps.append((across, down))
        x, y = to_x, to_y
    return f"M{coord(first[0])} {coord(first[1])}" + "".join(_step(*step) for step in steps)


def _step(across: Fraction, down: Fraction) -> str:
    if across and down:
        return f"l{coord(across)} {coord(down)}"
    return f"v{coord(down)}" if down else f"h{coord(across)}"


def _tenth(value: Fraction) -> Fraction:
    """Return a coordinate as it is printed, so that printed steps add up."""
    return Fraction(coord(value))


def _curve(places: list[Place], stroke: str, dash: str) -> Markup:
    style = {"fill": "none", "stroke": stroke, "stroke_width": "2.2", "stroke_linejoin": "round"} | dashed(dash)
    return element("path", d=_written(places), **style)


def _band(band: Mapping[str, Any], where: str, t: Wording) -> tuple[list[Markup], str]:
    """Return the band as two filled shapes with dotted edges, and its name."""
    low, high = (_points({"points": field(band, side)}, where) for side in ("low", "high"))
    share = exact(field(band, "level"), f"{where}.level")
    drawn = []
    for under, over in ((_even(low), _even(high)), (_steps(low), _steps(high, early=True))):
        drawn.append(element("path", d=_written([*over, *reversed(under)]), fill=BLUE, fill_opacity=_BAND))
        edges = _written(under) + _written(over)
        style = {"fill": "none", "stroke": BLUE, "stroke_width": "1.1", "stroke_dasharray": "1 3"}
        drawn.append(element("path", d=edges, **style))
    return drawn, t("plot_roc.band", label=t.known(text(band, "label")), level=percent(share, "down"))


def _guessing(frame: Frame) -> Markup:
    """Return the line of an attack that guesses, where both rates are equal."""
    ends = frame.x(frame.x0), frame.y(frame.y0), frame.x(frame.x1), frame.y(frame.y1)
    return rule(*ends, stroke_dasharray="1 4", stroke_opacity=FAINT)


def _log_axes(t: Wording) -> list[Markup]:
    """Draw a grid with a line for each power of ten, and small marks between them."""
    frame = _LOG
    bottom, left = frame.top + frame.height, frame.left
    between = [step * decade for decade in _DECADES[:-1] for step in range(2, 10)]
    marks: list[tuple[Fraction | int, Fraction | int, str]] = [(left, bottom, f"h{frame.width}")]
    marks += [(frame.x(_power(rate)), bottom, "v6") for rate in _DECADES]
    marks += [(frame.x(_power(rate)), bottom, "v3") for rate in between]
    marks += [(left, frame.y(_power(rate)), "h-3") for rate in between]
    parts = [strokes([(left, frame.y(_power(rate)), f"h{frame.width}") for rate in _DECADES], GRID)]
    parts.append(strokes(marks, STEADY))
    for rate in _DECADES:
        x, y, said = frame.x(_power(rate)), frame.y(_power(rate)), short(Fraction(rate, 1000))
        parts.append(words_at(left - 7, y + 4, said, "end", font_size="12"))
        parts.append(words_at(x, bottom + 19, said, font_size="12"))
    parts.append(words_at(frame.left + Fraction(frame.width, 2), bottom + 38, t("plot_roc.fpr_log")))
    parts.append(
        words_at(frame.left, frame.top - 12, t("plot_roc.tpr_log"), "start", font_size="12", fill_opacity=FAINT)
    )
    return parts
