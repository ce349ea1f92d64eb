"""Histograms of models: the groups of the procedure question, the references of the artifact question."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final

from markupsafe import Markup

from cu_certificates._fields import exact, field, objects, sequence, short, text, word
from cu_certificates._svg import (
    FAINT,
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
from cu_certificates._wording import Wording
from cu_certificates.check.strict import Rejected

MAX_BINS: Final = 200
MAX_MARKS: Final = 12
_ROUNDING: Final = Fraction(1, 50)
_MARK: Final = 18
"""Height of the label of a mark."""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """One series: its label, its look (stroke, dashes, opacity), the models in each bin and the scale of each bin."""

    label: str
    look: tuple[str, str, str]
    counts: list[int]
    scales: list[Fraction]

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def heights(self) -> list[Fraction]:
        """How high each bin is drawn: its share, over its width where bins are of several widths."""
        whole = max(self.total, 1)
        return [Fraction(count, whole) * scale for count, scale in zip(self.counts, self.scales, strict=True)]


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """One file among the models: its label, its look and its place."""

    label: str
    look: tuple[str, str, str]
    at: Fraction


@dataclass(frozen=True, kw_only=True)
class _Units:
    """What a drawing says of its groups, which are of models or of records."""

    axis: str
    axis_density: str
    note: str
    caption: str
    legend: Callable[[_Group], str]
    desc: Callable[[_Group, str, str], str]
    desc_none: Callable[[_Group], str]


def _of_models(t: Wording) -> _Units:
    return _Units(
        axis=t("plot_pools.axis_models"),
        axis_density=t("plot_pools.axis_models_density"),
        note=t("plot_pools.note"),
        caption=t("plot_pools.caption_models"),
        legend=lambda g: t("plot_pools.legend_models", label=g.label, total=g.total),
        desc=lambda g, low, high: t("plot_pools.desc_models", label=g.label, total=g.total, low=low, high=high),
        desc_none=lambda g: t("plot_pools.desc_none_models", label=g.label),
    )


def _of_records(t: Wording) -> _Units:
    return _Units(
        axis=t("plot_pools.axis_records"),
        axis_density=t("plot_pools.axis_records_density"),
        note=t("plot_pools.note_records"),
        caption=t("plot_pools.caption_records"),
        legend=lambda g: t("plot_pools.legend_records", label=g.label, total=g.total),
        desc=lambda g, low, high: t("plot_pools.desc_records", label=g.label, total=g.total, low=low, high=high),
        desc_none=lambda g: t("plot_pools.desc_none_records", label=g.label),
    )


def pools(key: str, plot: Mapping[str, Any], t: Wording) -> Plot:
    """Draw the histograms of groups of models, and marks for single files.

    Raises:
        Rejected: Edges, counts or marks are malformed or too many.
    """
    where = f"plots.{key}"
    edges = _edges(plot, where)
    scales = _scales(edges)
    groups = [
        _Group(
            label=t.known(text(one, "label")),
            look=look(one, index),
            counts=_counts(one, len(scales), where),
            scales=scales,
        )
        for index, one in enumerate(series(plot, where))
    ]
    marks = [
        _Mark(label=text(one, "label"), look=look(one, index + 1), at=exact(field(one, "at"), f"{where}.marks.at"))
        for index, one in enumerate(objects(plot, "marks"))
    ]
    if len(marks) > MAX_MARKS:
        raise Rejected(f"{where}.marks: {len(marks)} marks; expected at most {MAX_MARKS}")
    frame = _frame(edges, groups, marks)
    of = _of_records(t) if any(word(one, "role") == "request" for one in series(plot, where)) else _of_models(t)
    # The name of the axis stands above the marks, whose labels reach to the left as well.
    parts = frame.axes(t.known(text(plot, "unit")), "", wanted=9, scale=100)
    axis = of.axis if set(scales) == {Fraction(1)} else of.axis_density
    parts.append(words_at(frame.left, 22, axis, "start", font_size="12", fill_opacity=FAINT))
    parts += [_outline(frame, edges, group) for group in groups]
    for index, mark in enumerate(marks):
        parts += _line_of(frame, index, mark)
    legend = [(swatch(*group.look), of.legend(group)) for group in groups]
    legend += [
        (swatch(*mark.look[:2], "0"), t("plot_pools.legend_mark", label=mark.label, at=short(mark.at)))
        for mark in marks
    ]
    title = t.known(text(plot, "title"))
    return Plot(
        key=key,
        title=title,
        note=t("plot_pools.note_marks") if marks else of.note,
        svg=drawing(key, frame.top + 262, title, _describe(edges, groups, marks, of, t), parts),
        legend=tuple(legend),
        table=_table(edges, groups, marks, of, t),
    )


def _edges(plot: Mapping[str, Any], where: str) -> list[Fraction]:
    edges = [exact(edge, f"{where}.binEdges") for edge in sequence(plot, "binEdges")]
    if not 2 <= len(edges) <= MAX_BINS + 1 or any(right <= left for left, right in pairwise(edges)):
        raise Rejected(f"{where}.binEdges: {len(edges)} edges; expected 2 to {MAX_BINS + 1} in rising order")
    return edges


def _scales(edges: list[Fraction]) -> list[Fraction]:
    """Return by what each bin's share is multiplied: 1 over its width, so that its area is its share.

    Bins of one width, but for the rounding of their edges to hundredths, are not scaled: there the height is the share.
    """
    widths = [right - left for left, right in pairwise(edges)]
    if max(widths) - min(widths) <= _ROUNDING:
        return [Fraction(1)] * len(widths)
    return [1 / width for width in widths]


def _counts(one: Mapping[str, Any], bins: int, where: str) -> list[int]:
    counts = sequence(one, "counts")
    if len(counts) != bins or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
        raise Rejected(f"{where}.counts: expected {bins} counts, one for each bin, none negative")
    return counts


def _frame(edges: list[Fraction], groups: list[_Group], marks: list[_Mark]) -> Frame:
    places = [edges[0], edges[-1], *(mark.at for mark in marks)]
    pad = (max(places) - min(places)) / 40
    peak = max((height for group in groups for height in group.heights), default=Fraction(0)) or Fraction(1, 20)
    return Frame(
        left=48,
        top=34 + _MARK * len(marks) + (6 if marks else 0),
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
    for (left, right), height in zip(pairwise(edges), group.heights, strict=True):
        if height and not filled:
            steps.append(f"M{coord(frame.x(left))} {ground}")
        elif filled and not height:
            steps.append(f"V{ground}")
        if height:
            steps.append(f"V{coord(frame.y(height))}H{coord(frame.x(right))}")
        filled = bool(height)
    if filled:
        steps.append(f"V{ground}")
    stroke, dash, opacity = group.look
    style = {"fill": stroke, "fill_opacity": opacity, "stroke": stroke, "stroke_width": "2.2"} | dashed(dash)
    return element("path", d="".join(steps), stroke_linejoin="round", **style)


def _line_of(frame: Frame, index: int, mark: _Mark) -> list[Markup]:
    x, y = frame.x(mark.at), Fraction(frame.top - 14 - _MARK * index)
    late = x > frame.left + Fraction(frame.width, 2)
    stroke, dash, _ = mark.look
    bottom = Fraction(frame.top + frame.height)
    return [
        rule(x, y, x, bottom, stroke=stroke, stroke_width="2.4", **dashed(dash)),
        element("path", d=f"M{coord(x)} {coord(y - 5)}l5 5l-5 5l-5 -5z", fill=stroke),
        words_at(x - 10 if late else x + 10, y + 4, mark.label, "end" if late else "start", font_weight="600"),
    ]


def _describe(edges: list[Fraction], groups: list[_Group], marks: list[_Mark], of: _Units, t: Wording) -> str:
    said = []
    for group in groups:
        filled = [index for index, count in enumerate(group.counts) if count]
        if filled:
            said.append(of.desc(group, short(edges[filled[0]]), short(edges[filled[-1] + 1])))
        else:
            said.append(of.desc_none(group))
    said += [t("plot_pools.desc_mark", label=mark.label, at=short(mark.at)) for mark in marks]
    return " ".join(said)


def _table(edges: list[Fraction], groups: list[_Group], marks: list[_Mark], of: _Units, t: Wording) -> Table:
    body = [
        (t("word.to", low=short(left), high=short(right)), *(str(group.counts[index]) for group in groups))
        for index, (left, right) in enumerate(pairwise(edges))
    ]
    body += [(t("plot_pools.mark", at=short(mark.at)), mark.label, *("" for _ in groups[1:])) for mark in marks]
    heads = (t("plot_pools.score"), *(group.label for group in groups))
    return Table(caption=of.caption, heads=heads, rows=tuple(body))
