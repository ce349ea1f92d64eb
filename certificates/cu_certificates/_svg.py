"""Figures of the report: what one is, and the SVG elements, axes and palette that they are drawn with.

Coordinates are exact fractions printed with one decimal, so that the same predicate gives the same bytes everywhere.
Colours are presentation attributes (they survive a strict content policy), from the palette of Okabe and Ito, and each
series differs in its dashes too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from markupsafe import Markup, escape

from cu_certificates._fields import exact, fixed, objects, short, word
from cu_certificates.check.strict import Rejected

BLUE: Final = "#0072B2"
VERMILLION: Final = "#D55E00"
GREEN: Final = "#009E73"
PURPLE: Final = "#CC79A7"
PALETTE: Final = (BLUE, VERMILLION, GREEN, PURPLE)

WIDTH: Final = 640
"""Width of every drawing in its own units; the page scales it."""
FAINT: Final = "0.8"
"""Opacity of words beside a drawing: less than the words in it, and still 4.5 : 1 on the page."""
GRID: Final = "0.16"
STEADY: Final = "0.6"
"""Opacity of axes, brackets and frames that a reader needs: 3 : 1 on the page. Grids are fainter."""
MAX_SERIES: Final = 12
SMALL: Final = "12"
"""Size of words in a drawing unless they say otherwise."""

# Role -> stroke, dash pattern, fill opacity. The reference is drawn in the colour of the text, as a filled ground.
_ROLES: Final = {
    "retrained": ("currentColor", "", "0.14"),
    "reference": ("currentColor", "", "0.14"),
    "unlearned": (BLUE, "", "0.20"),
    "original": (VERMILLION, "7 3", "0.06"),
    "subject": (VERMILLION, "5 3", "0"),
    "never": ("currentColor", "", "0.14"),
    "request": (BLUE, "", "0.20"),
}
_OTHERS: Final = (
    (BLUE, "", "0"),
    (VERMILLION, "7 3", "0"),
    (GREEN, "2 3", "0"),
    (PURPLE, "9 3 2 3", "0"),
    ("currentColor", "12 3", "0"),
    (BLUE, "4 2", "0"),
)


NOTHING: Final = Markup("")


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
    svg: Markup = NOTHING
    legend: tuple[tuple[Markup, str], ...] = ()
    table: Table | None = None


def element(tag: str, *children: Markup | str, **attributes: str | Fraction | int) -> Markup:
    """Return one element; text is escaped, ``stroke_width`` becomes ``stroke-width``, numbers get one decimal."""
    written = [
        f' {name.rstrip("_").replace("_", "-")}="{escape(value if isinstance(value, str) else coord(value))}"'
        for name, value in attributes.items()
    ]
    if not children:
        return Markup(f"<{tag}{''.join(written)}/>")
    inner = Markup("").join(escape(child) for child in children)
    return Markup(f"<{tag}{''.join(written)}>{inner}</{tag}>")


def coord(value: Fraction | int) -> str:
    """Return a coordinate with at most one decimal."""
    return short(exact(fixed(Fraction(value), 1), "coordinate"))


def drawing(key: str, height: int, title: str, desc: str, parts: Iterable[Markup]) -> Markup:
    """Return the whole drawing, named by its title and description for people who do not see it."""
    head = (
        element("title", title, id=f"plot-{key}-title"),
        element("desc", desc, id=f"plot-{key}-desc"),
    )
    return element(
        "svg",
        *head,
        *(Markup("\n") + part for part in parts),
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_labelledby=f"plot-{key}-title plot-{key}-desc",
        font_size=SMALL,
        text_anchor="middle",
        fill="currentColor",
    )


def rule(x1: Fraction, y1: Fraction, x2: Fraction, y2: Fraction, **style: str) -> Markup:
    """Return a straight line, in the colour of the text unless ``style`` says otherwise."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **({"stroke": "currentColor"} | style))


def strokes(lines: Iterable[tuple[Fraction | int, Fraction | int, str]], opacity: str) -> Markup:
    """Return many thin lines as one path; each has a start and goes on as its third part says, such as ``h20``."""
    drawn = "".join(f"M{coord(x)} {coord(y)}{way}" for x, y, way in lines)
    return element("path", d=drawn, stroke="currentColor", stroke_opacity=opacity)


def words_at(
    x: Fraction | int, y: Fraction | int, said: str, align: str = "middle", *, font_size: str = "13", **style: str
) -> Markup:
    """Return text at a point; ``align`` is ``start``, ``middle`` or ``end``. What the drawing says is left out."""
    own = {} if font_size == SMALL else {"font_size": font_size}
    own |= {} if align == "middle" else {"text_anchor": align}
    return element("text", said, x=x, y=y, **own, **style)


def swatch(stroke: str, dash: str, opacity: str) -> Markup:
    """Return the small sample of a series that stands in a legend."""
    box = element(
        "rect", x=1, y=2, width=26, height=10, fill=stroke if opacity != "0" else "none", fill_opacity=opacity
    )
    # A line without a ground stands in the middle, so that it is level with its words.
    y = Fraction(7 if opacity == "0" else 2)
    return sample(box, rule(Fraction(1), y, Fraction(27), y, stroke=stroke, stroke_width="3", **dashed(dash)))


def swatch_upright(stroke: str, dash: str) -> Markup:
    """Return the sample of a line that stands upright in the drawing."""
    x = Fraction(14)
    return sample(rule(x, Fraction(0), x, Fraction(14), stroke=stroke, stroke_width="3", **dashed(dash)))


def sample(*parts: Markup) -> Markup:
    """Return a small drawing of 28 by 14 that stands in a legend and is not read aloud."""
    return element("svg", *parts, width=28, height=14, viewBox="0 0 28 14", aria_hidden="true", focusable="false")


def dashed(dash: str) -> dict[str, str]:
    """Return the attribute of a dash pattern; an empty pattern is a full line."""
    return {"stroke_dasharray": dash} if dash else {}


def ticks(low: Fraction, high: Fraction, wanted: int = 6) -> tuple[list[Fraction], int]:
    """Return round values between ``low`` and ``high`` and the decimals that print them exactly."""
    span = high - low if high > low else Fraction(1)
    exponent = 45
    while exponent > -45 and Fraction(10) ** exponent * wanted >= span:
        exponent -= 1
    step = next(step for factor in (2, 5, 10) if (step := Fraction(10) ** exponent * factor) * wanted >= span)
    first = -((-low) // step)
    values = [step * index for index in range(int(first), int(high // step) + 1)]
    digits = next((d for d in range(20) if (step * 10**d).denominator == 1), 20)
    return values, digits


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A rectangle in the drawing and the data range that it shows."""

    left: int
    top: int
    width: int
    height: int
    x0: Fraction
    x1: Fraction
    y0: Fraction
    y1: Fraction

    def x(self, value: Fraction) -> Fraction:
        """Return the horizontal coordinate of a value."""
        return self.left + (value - self.x0) / (self.x1 - self.x0) * self.width

    def y(self, value: Fraction) -> Fraction:
        """Return the vertical coordinate of a value."""
        return self.top + self.height - (value - self.y0) / (self.y1 - self.y0) * self.height

    def axes(self, x_name: str, y_name: str, *, wanted: int = 6, scale: int = 1, x_scale: int = 1) -> list[Markup]:
        """Draw grid, ticks and names; a scale multiplies the printed values of y or x (100 for percent)."""
        bottom = self.top + self.height
        values, _ = ticks(self.y0, self.y1, 5)
        _, digits = ticks(self.y0 * scale, self.y1 * scale, 5)
        parts = [strokes([(self.left, self.y(value), f"h{self.width}") for value in values], GRID)]
        parts += [
            words_at(self.left - 7, self.y(value) + 4, fixed(value * scale, digits), "end", font_size=SMALL)
            for value in values
        ]
        values, _ = ticks(self.x0, self.x1, wanted)
        _, digits = ticks(self.x0 * x_scale, self.x1 * x_scale, wanted)
        marks = [(self.x(value), bottom, "v5") for value in values]
        parts.append(strokes([*marks, (self.left, bottom, f"h{self.width}")], STEADY))
        parts += [
            words_at(self.x(value), bottom + 19, fixed(value * x_scale, digits), font_size=SMALL) for value in values
        ]
        parts.append(words_at(self.left + Fraction(self.width, 2), bottom + 38, x_name))
        if y_name:
            parts.append(words_at(self.left, self.top - 12, y_name, "start", font_size=SMALL, fill_opacity=FAINT))
        return parts


def series(plot: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Return the series of a plot.

    Raises:
        Rejected: There is none, or more than can be told apart.
    """
    found = objects(plot, "series")
    if not 1 <= len(found) <= MAX_SERIES:
        raise Rejected(f"{where}.series: {len(found)} series; expected 1 to {MAX_SERIES}")
    return found


def look(one: Mapping[str, Any], index: int) -> tuple[str, str, str]:
    """Return stroke, dash pattern and fill opacity of a series or mark: by its role, else by its place."""
    return _ROLES.get(word(one, "role"), _OTHERS[index % len(_OTHERS)])
