"""Histograms of models: the groups of the procedure question, the references of the artifact question."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final

from markupsafe import Markup

from cu_certificates._fields import exact, field, objects, sequence, short, text, word
from cu_certificates._svg import (
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
    words_at,
)
from cu_certificates.check.strict import Rejected

MAX_BINS: Final = 200
MAX_MARKS: Final = 12

_NOTE: Final = (
    "Each group is a set of models, each model one score. Groups that lie apart can be told from one another; groups "
    "that cover each other cannot, by this score."
)
_NOTE_RECORDS: Final = (
    "Each group is a set of records, each record one score of the audited file alone. Where the groups cover each "
    "other, this score does not tell them apart. A bin holds no record of a group or at least five."
)
_NOTE_MARKS: Final = (
    "The filled shape shows retrained models that never saw the request. The further the marked file lies from it, the "
    "less it looks like one of them."
)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """One series: its label, its look (stroke, dashes, opacity) and the models in each bin."""

    label: str
    look: tuple[str, str, str]
    counts: list[int]

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def shares(self) -> list[Fraction]:
        return [Fraction(count, max(self.total, 1)) for count in self.counts]


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """One file among the models: its label, its look and its place."""

    label: str
    look: tuple[str, str, str]
    at: Fraction


def pools(key: str, plot: Mapping[str, Any]) -> Plot:
    """Draw the histograms of groups of models, and marks for single files.

    Raises:
        Rejected: Edges, counts or marks are malformed or too many.
    """
    where = f"plots.{key}"
    edges = _edges(plot, where)
    groups = [
        _Group(label=text(one, "label"), look=look(one, index), counts=_counts(one, len(edges) - 1, where))
        for index, one in enumerate(series(plot, where))
    ]
    marks = [
        _Mark(label=text(one, "label"), look=look(one, index + 1), at=exact(field(one, "at"), f"{where}.marks.at"))
        for index, one in enumerate(objects(plot, "marks"))
    ]
    if len(marks) > MAX_MARKS:
        raise Rejected(f"{where}.marks: {len(marks)} marks; expected at most {MAX_MARKS}")
    frame = _frame(edges, groups, marks)
    unit = "records" if any(word(one, "role") == "request" for one in series(plot, where)) else "models"
    parts = frame.axes(text(plot, "unit"), f"{unit} of each group, in %", wanted=9, scale=100)
    parts += [_outline(frame, edges, group) for group in groups]
    for index, mark in enumerate(marks):
        parts += _line_of(frame, index, mark)
    legend = [(swatch(*group.look), f"{group.label} ({group.total} {unit})") for group in groups]
    legend += [(swatch(*mark.look[:2], "0"), f"{mark.label}, at {short(mark.at)}") for mark in marks]
    title = text(plot, "title")
    return Plot(
        key=key,
        title=title,
        note=_NOTE_MARKS if marks else _NOTE if unit == "models" else _NOTE_RECORDS,
        svg=drawing(key, frame.top + 262, title, _describe(edges, groups, marks, unit), parts),
        legend=tuple(legend),
        table=_table(edges, groups, marks, unit),
    )


def _edges(plot: Mapping[str, Any], where: str) -> list[Fraction]:
    edges = [exact(edge, f"{where}.binEdges") for edge in sequence(plot, "binEdges")]
    if not 2 <= len(edges) <= MAX_BINS + 1 or any(right <= left for left, right in pairwise(edges)):
        raise Rejected(f"{where}.binEdges: {len(edges)} edges; expected 2 to {MAX_BINS + 1} in rising order")
    return edges


def _counts(one: Mapping[str, Any], bins: int, where: str) -> list[int]:
    counts = sequence(one, "counts")
    if len(counts) != bins or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
        raise Rejected(f"{where}.counts: expected {bins} counts, one for each bin, none negative")
    return counts


def _frame(edges: list[Fraction], groups: list[_Group], marks: list[_Mark]) -> Frame:
    places = [edges[0], edges[-1], *(mark.at for mark in marks)]
    pad = (max(places) - min(places)) / 40
    peak = max([Fraction(1, 20), *(share for group in groups for share in group.shares)])
    return Frame(
        left=48,
        top=34 + 18 * len(marks),
        width=576,
        height=210,
        x0=min(places) - pad,
        x1=max(places) + pad,
        y0=Fraction(0),
        y1=peak * 21 / 20,
    )


def _outline(frame: Frame, edges: list[Fraction], group: _Group) -> Markup:
    """Draw steps over the filled bins only: lines of several groups along zero would hide one another."""
    ground = coord(frame.y(Fraction(0)))
    steps: list[str] = []
    filled = False
    for (left, right), share in zip(pairwise(edges), group.shares, strict=True):
        if share and not filled:
            steps.append(f"M{coord(frame.x(left))} {ground}")
        elif filled and not share:
            steps.append(f"V{ground}")
        if share:
            steps.append(f"V{coord(frame.y(share))}H{coord(frame.x(right))}")
        filled = bool(share)
    if filled:
        steps.append(f"V{ground}")
    stroke, dash, opacity = group.look
    style = {"fill": stroke, "fill_opacity": opacity, "stroke": stroke, "stroke_width": "2.2"} | dashed(dash)
    return element("path", d="".join(steps), stroke_linejoin="round", **style)


def _line_of(frame: Frame, index: int, mark: _Mark) -> list[Markup]:
    x, y = frame.x(mark.at), Fraction(frame.top - 14 - 18 * index)
    late = x > frame.left + Fraction(frame.width, 2)
    stroke, dash, _ = mark.look
    bottom = Fraction(frame.top + frame.height)
    return [
        rule(x, y, x, bottom, stroke=stroke, stroke_width="2.4", **dashed(dash)),
        element("path", d=f"M{coord(x)} {coord(y - 5)}l5 5l-5 5l-5 -5z", fill=stroke),
        words_at(x - 10 if late else x + 10, y + 4, mark.label, "end" if late else "start", font_weight="600"),
    ]


def _describe(edges: list[Fraction], groups: list[_Group], marks: list[_Mark], unit: str) -> str:
    said = []
    for group in groups:
        filled = [index for index, count in enumerate(group.counts) if count]
        if filled:
            span = f"between {short(edges[filled[0]])} and {short(edges[filled[-1] + 1])}"
            said.append(f"{group.label}: {group.total} {unit} {span}.")
        else:
            said.append(f"{group.label}: no {unit}.")
    said += [f"{mark.label} lies at {short(mark.at)}." for mark in marks]
    return " ".join(said)


def _table(edges: list[Fraction], groups: list[_Group], marks: list[_Mark], unit: str) -> Table:
    body = [
        (f"{short(left)} to {short(right)}", *(str(group.counts[index]) for group in groups))
        for index, (left, right) in enumerate(pairwise(edges))
    ]
    body += [(f"mark at {short(mark.at)}", mark.label, *("" for _ in groups[1:])) for mark in marks]
    heads = ("score", *(group.label for group in groups))
    return Table(caption=f"{unit.capitalize()} in each bin", heads=heads, rows=tuple(body))
