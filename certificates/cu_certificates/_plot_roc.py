"""Curves of the attack panel: how often single records are found, against how often one is wrongly accused."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from markupsafe import Markup

from cu_certificates._fields import exact, field, fixed, mapping, percent, sequence, short, text
from cu_certificates._svg import BLUE, Frame, Plot, Table, coord, dashed, drawing, element, look, rule, series, swatch
from cu_certificates.check.strict import Rejected

MAX_POINTS: Final = 200

_READ_AT: Final = (1, 5, 10, 20, 50, 100, 200, 500)  # permille of false positives
_ROC_NOTE: Final = (
    "Left: the whole curve; the dotted diagonal is guessing. Right: the part with few false accusations, which matters "
    "most for a single person. Descriptive: no verdict rests on it."
)


def roc(key: str, plot: Mapping[str, Any]) -> Plot:
    """Draw the curves of per-record attacks, whole and where false positives are few.

    Raises:
        Rejected: Points are malformed or too many.
    """
    where = f"plots.{key}"
    attacks = series(plot, where)
    curves = [_points(one, where) for one in attacks]
    near = [tpr for curve in curves for fpr, tpr in curve if fpr <= 100]
    peak = max(Fraction(max([100, *near]), 1000) * 21 / 20, Fraction(1, 10))
    zero, one = Fraction(0), Fraction(1)
    whole = Frame(left=44, top=36, width=250, height=250, x0=zero, x1=one, y0=zero, y1=one)
    zoom = Frame(left=372, top=36, width=250, height=250, x0=zero, x1=one / 10, y0=zero, y1=min(peak, one))
    parts = whole.axes("false positive rate", "true positive rate", wanted=5)
    parts += zoom.axes("false positive rate, up to 0.1", "true positive rate", wanted=5)
    legend = []
    for frame in (whole, zoom):
        end = min(frame.x1, frame.y1)
        start, stop = frame.x(Fraction(0)), frame.x(end)
        parts.append(
            rule(start, frame.y(Fraction(0)), stop, frame.y(end), stroke_dasharray="1 4", stroke_opacity="0.8")
        )
    for index, (attack, curve) in enumerate(zip(attacks, curves, strict=True)):
        stroke, dash, _ = look({}, index)
        parts.extend(_curve(frame, curve, stroke, dash) for frame in (whole, zoom))
        legend.append((swatch(stroke, dash, "0"), text(attack, "label")))
    if field(plot, "band") is not None:
        band = mapping(plot, "band")
        for side in ("low", "high"):
            edge = _points({"points": field(band, side)}, f"{where}.band")
            parts.extend(_curve(frame, edge, BLUE, "1 3", width="1.1") for frame in (whole, zoom))
        share = exact(field(band, "level"), f"{where}.band.level")
        legend.append(
            (swatch(BLUE, "1 3", "0"), f"{text(band, 'label')}, {percent(share, 'down')} band of the whole curve")
        )
    labels = [text(attack, "label") for attack in attacks]
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
    good = all(isinstance(point, list) and len(point) == 2 and all(map(_permille, point)) for point in points)
    if not 1 <= len(points) <= MAX_POINTS or not good:
        raise Rejected(f"{where}.points: expected 1 to {MAX_POINTS} pairs of integers from 0 to 1000 (permille)")
    return sorted((p[0], p[1]) for p in points)


def _permille(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1000


def _reads(curve: list[tuple[int, int]], fpr: int) -> str:
    """Return the largest true positive rate that the curve reaches at this false positive rate or a smaller one."""
    return fixed(Fraction(max([0, *(tpr for x, tpr in curve if x <= fpr)]), 1000), 3)


def _curve(frame: Frame, curve: list[tuple[int, int]], stroke: str, dash: str, width: str = "2.2") -> Markup:
    inside = [(Fraction(x, 1000), Fraction(y, 1000)) for x, y in curve if Fraction(x, 1000) <= frame.x1]
    beyond = next(((Fraction(x, 1000), Fraction(y, 1000)) for x, y in curve if Fraction(x, 1000) > frame.x1), None)
    if inside and beyond and inside[-1][0] < frame.x1:
        (xa, ya), (xb, yb) = inside[-1], beyond
        inside.append((frame.x1, ya + (yb - ya) * (frame.x1 - xa) / (xb - xa)))
    drawn = " ".join(f"{coord(frame.x(x))},{coord(frame.y(min(y, frame.y1)))}" for x, y in inside)
    style = {"fill": "none", "stroke": stroke, "stroke_width": width, "stroke_linejoin": "round"} | dashed(dash)
    return element("polyline", points=drawn, **style)
