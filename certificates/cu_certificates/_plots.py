"""The plots of the report, drawn from ``predicate.plots`` and nothing else.

Each kind of plot is one function from integers and decimal strings to a figure: a drawing with a title and a
description, a legend, a sentence on how to read it, and a table with its numbers. A kind that this version does not know
is named, not drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from markupsafe import Markup

from cu_certificates._fields import anchor, exact, field, fixed, objects, sequence, short, text
from cu_certificates._svg import (
    BLUE,
    GREEN,
    PURPLE,
    VERMILLION,
    Frame,
    coord,
    dashed,
    drawing,
    element,
    rule,
    swatch,
    ticks,
    words_at,
)
from cu_certificates._wording import QUESTIONS
from cu_certificates.check.strict import Rejected

MAX_BINS: Final = 200
MAX_POINTS: Final = 200
MAX_SERIES: Final = 12

# Role -> stroke, dash pattern, fill opacity. The reference is drawn in the colour of the text, as a filled ground.
_ROLES: Final = {
    "retrained": ("currentColor", "", "0.14"),
    "reference": ("currentColor", "", "0.14"),
    "unlearned": (BLUE, "", "0.20"),
    "original": (VERMILLION, "7 3", "0.06"),
    "subject": (VERMILLION, "5 3", "0"),
}
_OTHERS: Final = (
    (BLUE, "", "0"), (VERMILLION, "7 3", "0"), (GREEN, "2 3", "0"), (PURPLE, "9 3 2 3", "0"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Table:
    """The numbers of a plot: a caption, column heads and rows of text."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One figure of the report.

    Args:
        key: Name in ``predicate.plots``, as it may stand in HTML.
        title: Heading of the figure.
        note: How to read it, in one or two sentences.
        svg: The drawing; empty when this version cannot draw the kind.
        legend: Swatch and label of each series.
        table: The numbers behind it; ``None`` when nothing was drawn.
    """

    key: str
    title: str
    note: str
    svg: Markup = Markup("")
    legend: tuple[tuple[Markup, str], ...] = ()
    table: Table | None = None


def plots(found: Mapping[str, Any]) -> tuple[Plot, ...]:
    """Draw every plot of a predicate: the bounds first, then the questions, the attack panel, the rest by name.

    Raises:
        Rejected: A plot's numbers are missing, malformed or too many.
    """
    order = ("eps", "procedure", "artifact", "roc")
    names = [name for name in order if name in found] + sorted(set(found) - set(order))
    return tuple(_plot(name, found[name]) for name in names)


def _plot(name: str, plot: object) -> Plot:
    if not isinstance(plot, dict):
        raise Rejected(f"plots.{name}: {type(plot).__name__}; expected an object with the key 'kind'")
    key = anchor(name)
    match plot.get("kind"):
        case "pools":
            return _pools(key, plot)
        case "roc":
            return _roc(key, plot)
        case "eps":
            return _eps(key, plot)
        case kind:
            return Plot(key=key, title=name, note=f"Not drawn: this version of the report knows no plots of kind {kind!r}.")


# --- pools: histograms of models ------------------------------------------------------------------------------------


def _edges(plot: Mapping[str, Any], where: str) -> list[Fraction]:
    edges = [exact(edge, f"{where}.binEdges") for edge in sequence(plot, "binEdges")]
    if not 2 <= len(edges) <= MAX_BINS + 1 or any(b <= a for a, b in zip(edges, edges[1:], strict=False)):
        raise Rejected(f"{where}.binEdges: {len(edges)} edges; expected 2 to {MAX_BINS + 1} in rising order")
    return edges


def _counts(one: Mapping[str, Any], bins: int, where: str) -> list[int]:
    counts = sequence(one, "counts")
    if len(counts) != bins or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
        raise Rejected(f"{where}.counts: expected {bins} counts, one for each bin, none negative")
    return counts


def _series(plot: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    found = objects(plot, "series")
    if not 1 <= len(found) <= MAX_SERIES:
        raise Rejected(f"{where}.series: {len(found)} series; expected 1 to {MAX_SERIES}")
    return found


def _look(one: Mapping[str, Any], index: int) -> tuple[str, str, str]:
    return _ROLES.get(str(field(one, "role")), _OTHERS[index % len(_OTHERS)])


def _pools(key: str, plot: Mapping[str, Any]) -> Plot:
    where = f"plots.{key}"
    edges = _edges(plot, where)
    series = _series(plot, where)
    counted = [_counts(one, len(edges) - 1, where) for one in series]
    marks = [(text(mark, "label"), exact(field(mark, "at"), f"{where}.marks.at"), mark) for mark in objects(plot, "marks")]
    shares = [[Fraction(n, max(sum(counts), 1)) for n in counts] for counts in counted]
    low, high = min([edges[0], *(at for _, at, _ in marks)]), max([edges[-1], *(at for _, at, _ in marks)])
    pad = (high - low) / 40
    top = 34 + 18 * len(marks)
    peak = max([Fraction(1, 20), *(share for one in shares for share in one)])
    frame = Frame(left=48, top=top, width=576, height=210, x0=low - pad, x1=high + pad, y0=Fraction(0), y1=peak * 21 / 20)
    parts = frame.axes(text(plot, "unit"), "models of each group, in %", wanted=9, scale=100)
    legend = []
    for index, (one, share) in enumerate(zip(series, shares, strict=True)):
        stroke, dash, opacity = _look(one, index)
        parts.append(_outline(frame, edges, share, stroke, dash, opacity))
        legend.append((swatch(stroke, dash, opacity), f"{text(one, 'label')} ({sum(counted[index])} models)"))
    for index, (label, at, mark) in enumerate(marks):
        stroke, dash, _ = _look(mark, index + 1)
        parts.extend(_mark(frame, index, label, at, stroke, dash))
        legend.append((swatch(stroke, dash, "0"), f"{label}, at {short(at)}"))
    title = text(plot, "title")
    desc = _describe_pools(series, edges, counted, marks)
    return Plot(
        key=key,
        title=title,
        note=_POOLS_NOTE_MARKS if marks else _POOLS_NOTE,
        svg=drawing(key, top + 262, title, desc, parts),
        legend=tuple(legend),
        table=_pools_table(series, edges, counted, marks, text(plot, "unit")),
    )


_POOLS_NOTE: Final = (
    "Each group is a set of models, each model one score. Groups that lie apart can be told from one another; groups that "
    "cover each other cannot, by this score."
)
_POOLS_NOTE_MARKS: Final = (
    "The filled shape shows retrained models that never saw the request. The further the marked file lies from it, the "
    "less it looks like one of them."
)


def _outline(
    frame: Frame, edges: list[Fraction], shares: list[Fraction], stroke: str, dash: str, opacity: str
) -> Markup:
    """Draw steps over the filled bins only: lines of several groups along zero would hide one another."""
    ground = coord(frame.y(Fraction(0)))
    steps, open_ = [], False
    for left, right, share in zip(edges, edges[1:], shares, strict=False):
        if share and not open_:
            steps.append(f"M{coord(frame.x(left))} {ground}")
        elif open_ and not share:
            steps.append(f"V{ground}")
        if share:
            steps.append(f"V{coord(frame.y(share))}H{coord(frame.x(right))}")
        open_ = bool(share)
    if open_:
        steps.append(f"V{ground}")
    return element(
        "path", d="".join(steps), fill=stroke, fill_opacity=opacity, stroke=stroke, stroke_width="2.2",
        stroke_linejoin="round", **dashed(dash),
    )  # fmt: skip


def _mark(frame: Frame, index: int, label: str, at: Fraction, stroke: str, dash: str) -> list[Markup]:
    x, y = frame.x(at), Fraction(frame.top - 14 - 18 * index)
    late = x > frame.left + Fraction(frame.width, 2)
    bottom = Fraction(frame.top + frame.height)
    return [
        rule(x, y, x, bottom, stroke=stroke, stroke_width="2.4", **dashed(dash)),
        element("path", d=f"M{coord(x)} {coord(y - 5)}l5 5l-5 5l-5 -5z", fill=stroke),
        words_at(x - 10 if late else x + 10, y + 4, label, "end" if late else "start", font_weight="600"),
    ]


def _describe_pools(
    series: list[dict[str, Any]],
    edges: list[Fraction],
    counted: list[list[int]],
    marks: list[tuple[str, Fraction, dict[str, Any]]],
) -> str:
    said = []
    for one, counts in zip(series, counted, strict=True):
        filled = [index for index, count in enumerate(counts) if count]
        if filled:
            span = f"between {short(edges[filled[0]])} and {short(edges[filled[-1] + 1])}"
            said.append(f"{text(one, 'label')}: {sum(counts)} models {span}.")
        else:
            said.append(f"{text(one, 'label')}: no models.")
    said.extend(f"{label} lies at {short(at)}." for label, at, _ in marks)
    return " ".join(said)


def _pools_table(
    series: list[dict[str, Any]],
    edges: list[Fraction],
    counted: list[list[int]],
    marks: list[tuple[str, Fraction, dict[str, Any]]],
    unit: str,
) -> Table:
    body = [
        (f"{short(a)} to {short(b)}", *(str(counts[index]) for counts in counted))
        for index, (a, b) in enumerate(zip(edges, edges[1:], strict=False))
    ]
    body.extend((f"mark at {short(at)}", label, *("" for _ in counted[1:])) for label, at, _ in marks)
    return Table(
        caption=f"Models in each bin of the {unit}",
        heads=(unit, *(text(one, "label") for one in series)),
        rows=tuple(body),
    )


# --- roc ------------------------------------------------------------------------------------------------------------

_READ_AT: Final = (1, 5, 10, 20, 50, 100, 200, 500)  # permille of false positives
_ROC_NOTE: Final = (
    "Left: the whole curve; the dotted diagonal is guessing. Right: the part with few false accusations, which matters "
    "most for a single person. Descriptive: no verdict rests on it."
)


def _roc(key: str, plot: Mapping[str, Any]) -> Plot:
    where = f"plots.{key}"
    series = _series(plot, where)
    curves = [_points(one, where) for one in series]
    near = [tpr for curve in curves for fpr, tpr in curve if fpr <= 100]
    peak = max(Fraction(max([100, *near]), 1000) * 21 / 20, Fraction(1, 10))
    whole = Frame(left=44, top=36, width=250, height=250, x0=Fraction(0), x1=Fraction(1), y0=Fraction(0), y1=Fraction(1))
    zoom = Frame(
        left=372, top=36, width=250, height=250, x0=Fraction(0), x1=Fraction(1, 10), y0=Fraction(0), y1=min(peak, Fraction(1))
    )
    parts = whole.axes("false positive rate", "true positive rate", wanted=5)
    parts += zoom.axes("false positive rate, up to 0.1", "true positive rate", wanted=5)
    legend = []
    for frame in (whole, zoom):
        end = min(frame.x1, frame.y1)
        start, stop = frame.x(Fraction(0)), frame.x(end)
        parts.append(
            rule(start, frame.y(Fraction(0)), stop, frame.y(end), stroke_dasharray="1 4", stroke_opacity="0.8")
        )
    for index, (one, curve) in enumerate(zip(series, curves, strict=True)):
        stroke, dash, _ = _OTHERS[index % len(_OTHERS)]
        parts.extend(_curve(frame, curve, stroke, dash) for frame in (whole, zoom))
        legend.append((swatch(stroke, dash, "0"), text(one, "label")))
    labels = [text(one, "label") for one in series]
    title = text(plot, "title")
    desc = " ".join(
        f"{label}: true positive rate {_reads(curve, 10)} at false positive rate 0.01 and {_reads(curve, 100)} at 0.1."
        for label, curve in zip(labels, curves, strict=True)
    )
    body = tuple((short(Fraction(fpr, 1000)), *(_reads(curve, fpr) for curve in curves)) for fpr in _READ_AT)
    return Plot(
        key=key,
        title=title,
        note=_ROC_NOTE,
        svg=drawing(key, 336, title, desc, parts),
        legend=tuple(legend),
        table=Table(caption="True positive rate at fixed false positive rates", heads=("FPR", *labels), rows=body),
    )


def _points(one: Mapping[str, Any], where: str) -> list[tuple[int, int]]:
    points = sequence(one, "points")
    good = all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= 1000 for v in p)
        for p in points
    )
    if not 1 <= len(points) <= MAX_POINTS or not good:
        raise Rejected(f"{where}.points: expected 1 to {MAX_POINTS} pairs of integers from 0 to 1000 (permille)")
    return sorted((p[0], p[1]) for p in points)


def _reads(curve: list[tuple[int, int]], fpr: int) -> str:
    """Return the largest true positive rate that the curve reaches at this false positive rate or a smaller one."""
    return fixed(Fraction(max([0, *(tpr for x, tpr in curve if x <= fpr)]), 1000), 3)


def _curve(frame: Frame, curve: list[tuple[int, int]], stroke: str, dash: str) -> Markup:
    inside = [(Fraction(x, 1000), Fraction(y, 1000)) for x, y in curve if Fraction(x, 1000) <= frame.x1]
    beyond = next(((Fraction(x, 1000), Fraction(y, 1000)) for x, y in curve if Fraction(x, 1000) > frame.x1), None)
    if inside and beyond and inside[-1][0] < frame.x1:
        (xa, ya), (xb, yb) = inside[-1], beyond
        inside.append((frame.x1, ya + (yb - ya) * (frame.x1 - xa) / (xb - xa)))
    drawn = " ".join(f"{coord(frame.x(x))},{coord(frame.y(min(y, frame.y1)))}" for x, y in inside)
    return element(
        "polyline", points=drawn, fill="none", stroke=stroke, stroke_width="2.2", stroke_linejoin="round", **dashed(dash)
    )


# --- eps ------------------------------------------------------------------------------------------------------------

_EPS_NOTE: Final = (
    "Each bar ends at a lower bound, so the true value lies at the end of the bar or to the right of it. A bar that "
    "crosses the dashed line exceeds what the guarantee under test allows. No audit of this size could show more than "
    "the bracket."
)


def _eps(key: str, plot: Mapping[str, Any]) -> Plot:
    where = f"plots.{key}"
    bars = objects(plot, "bars")
    if not 1 <= len(bars) <= MAX_SERIES:
        raise Rejected(f"{where}.bars: {len(bars)} bars; expected 1 to {MAX_SERIES}")
    tested = exact(field(plot, "tested"), f"{where}.tested")
    lows = [max(exact(field(bar, "lower"), f"{where}.bars.lower"), Fraction(0)) for bar in bars]
    tops = [exact(field(bar, "max"), f"{where}.bars.max") if field(bar, "max") is not None else None for bar in bars]
    largest = max([tested, Fraction(1, 2), *lows, *(top for top in tops if top is not None)])
    height = 62 * len(bars)
    frame = Frame(
        left=24, top=44, width=592, height=height, x0=Fraction(0), x1=largest * 23 / 20, y0=Fraction(0), y1=Fraction(1)
    )
    parts = _eps_axis(frame)
    names = [_bar_name(bar) for bar in bars]
    for index, (name, low, top) in enumerate(zip(names, lows, tops, strict=True)):
        parts.extend(_bar(frame, frame.top + 62 * index, name, low, top, beyond=low > tested))
    x = frame.x(tested)
    # Broken at the rows of text, so that the line never runs through a label.
    for y in (Fraction(frame.top - 14), *(Fraction(frame.top + 62 * index + 23) for index in range(len(bars)))):
        end = y + (12 if y < frame.top else 34)
        parts.append(rule(x, y, x, end, stroke_width="2.2", stroke_dasharray="5 3"))
    late = x > frame.left + frame.width * Fraction(2, 3)
    said = f"guarantee under test: eps = {short(tested)}"
    parts.append(words_at(x, frame.top - 20, said, "end" if late else "start", font_weight="600"))
    title = text(plot, "title") if field(plot, "title") is not None else "Measured lower bounds against the guarantee under test"
    desc = f"The guarantee under test is eps = {short(tested)}. " + " ".join(
        f"{name}: at least {text(bar, 'lower')}" + ("" if top is None else f"; this size can show at most {text(bar, 'max')}") + "."
        for name, bar, top in zip(names, bars, tops, strict=True)
    )
    body = tuple(
        (name, f"≥ {text(bar, 'lower')}", text(bar, "max"), short(tested)) for name, bar in zip(names, bars, strict=True)
    )
    return Plot(
        key=key,
        title=title,
        note=_EPS_NOTE,
        svg=drawing(key, frame.top + height + 50, title, desc, parts),
        table=Table(
            caption="Lower bounds on eps for the whole request",
            heads=("question", "eps, lower bound", "largest eps this size can show", "eps under test"),
            rows=body,
        ),
    )


def _bar_name(bar: Mapping[str, Any]) -> str:
    label = text(bar, "label")
    return f"{QUESTIONS[label][0]} question" if label in QUESTIONS else label


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


def _bar(frame: Frame, top: int, name: str, low: Fraction, most: Fraction | None, *, beyond: bool) -> list[Markup]:
    """Draw one lower bound: a bar with an arrow that points on, its value, and the bracket of what could be shown."""
    start, end = frame.x(Fraction(0)), frame.x(low)
    y, middle = top + 26, Fraction(top + 36)
    stroke = VERMILLION if beyond else BLUE
    parts = [words_at(start + 6, top + 18, f"{name}: eps ≥ {short(low)}", "start", font_weight="600")]
    if low > 0:
        parts.append(element("rect", x=start, y=y, width=end - start, height=20, fill=stroke, fill_opacity="0.85"))
    tip = end + 18
    parts.append(rule(end, middle, tip, middle, stroke=stroke, stroke_width="3"))
    parts.append(element("path", d=f"M{coord(tip + 8)} {coord(middle)}l-10 -7v14z", fill=stroke))
    if most is not None:
        x = frame.x(most)
        parts.append(
            element("path", d=f"M{coord(x - 6)} {y - 4}H{coord(x)}V{y + 24}H{coord(x - 6)}", fill="none", stroke="currentColor",
                stroke_opacity="0.55", stroke_width="1.6")
        )  # fmt: skip
    return parts
