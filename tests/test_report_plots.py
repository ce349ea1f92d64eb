"""The plots of the report and its colours."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from html_page import claim, page
from sample_predicate import sample

from cu_certificates._plots import plots
from cu_certificates._svg import FAINT, PALETTE, STEADY

ROOT = Path(__file__).parent.parent
STYLE = (ROOT / "templates/cu_templates/style.css").read_text(encoding="utf-8")


# --- Plots -----------------------------------------------------------------------------------------------------------


def test_every_drawing_has_a_name_a_description_and_its_numbers() -> None:
    found = plots(sample("refuted")["plots"])
    assert [plot.key for plot in found] == ["eps", "procedure", "artifact", "roc"]
    for plot in found:
        assert 'role="img"' in plot.svg
        assert f'aria-labelledby="plot-{plot.key}-title plot-{plot.key}-desc"' in plot.svg
        assert f'<desc id="plot-{plot.key}-desc">' in plot.svg
        assert plot.table is not None
        assert all(len(row) == len(plot.table.heads) for row in plot.table.rows)
        for number in re.findall(
            r"-?[0-9]+\.[0-9]+", re.sub(r">[^<]*<|opacity=\"[^\"]*\"|width=\"[^\"]*\"", "", plot.svg)
        ):
            assert re.fullmatch(r"-?[0-9]+\.[0-9]", number), "a coordinate has more than one decimal"


def test_a_lower_bound_is_a_bar_that_points_on_and_the_limits_are_drawn() -> None:
    predicate = sample("refuted")
    eps = plots(predicate["plots"])[0]
    bound = claim(predicate, "c-eps-procedure")["bound"]
    assert f"Procedure question: eps ≥ {bound}" in eps.svg
    assert eps.svg.count('l-10 -7v14z"') == 2
    assert eps.svg.count("<rect") == 2
    assert "guarantee under test: eps = 0.5" in eps.svg
    assert eps.table is not None
    assert eps.table.rows[0] == (
        "Procedure question",
        f"≥ {bound}",
        claim(predicate, "c-power-procedure")["maxEps"],
        "0.5",
    )


def test_a_bound_of_zero_has_an_arrow_and_no_bar() -> None:
    eps = plots(sample("not refuted")["plots"])[0]
    assert eps.svg.count("<rect") == 0
    assert eps.svg.count('l-10 -7v14z"') == 2


def test_series_differ_by_more_than_colour() -> None:
    found = {plot.key: plot for plot in plots(sample("refuted")["plots"])}
    looks = re.findall(r'<path [^>]*d="M[^"]*V[^"]*"[^>]*>', found["procedure"].svg)
    assert len(looks) == 3
    assert len({re.sub(r' (d|stroke)="[^"]*"', "", look) for look in looks}) == 3
    # Each attack is drawn twice, the first one last, so that it lies on top.
    curves = re.findall(r'<path [^>]*stroke-width="2.2"[^>]*>', found["roc"].svg)
    assert [("stroke-dasharray" in line) for line in curves] == [True] * 2 + [False] * 2


def test_rates_are_read_from_the_curve_at_or_below() -> None:
    roc = {
        "kind": "roc",
        "title": "t",
        "series": [{"label": "a", "points": [[0, 20], [7, 90], [30, 400], [1000, 1000]]}],
    }
    table = plots({"roc": roc})[0].table
    assert table is not None
    read = dict(table.rows)  # type: ignore[arg-type]
    assert (read["0.001"], read["0.005"], read["0.01"], read["0.05"]) == ("0.020", "0.020", "0.090", "0.400")


def test_a_mark_outside_the_bins_is_drawn_inside_the_frame() -> None:
    plot = sample("refuted")["plots"]["artifact"]
    drawn = plots({"artifact": plot | {"marks": [{"label": "far", "role": "subject", "at": "1000"}]}})[0]
    assert "far lies at 1000." in drawn.svg
    assert all(0 <= Fraction(x) <= 640 for x in re.findall(r'x[12]?="(-?[0-9.]+)"', drawn.svg))


def test_an_unknown_kind_is_named_and_not_drawn() -> None:
    def change(predicate: dict[str, Any]) -> None:
        predicate["plots"]["hologram"] = {"kind": "3d"}

    found = page("refuted", change)
    assert "Not drawn: this version of the report knows no plots of kind '3d'." in found.text


def test_a_certificate_without_plots_says_so() -> None:
    assert "The certificate holds no plots." in page("refuted", lambda predicate: predicate.pop("plots")).text


# --- Colours ---------------------------------------------------------------------------------------------------------

PAIRS = (
    dict(re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), ", STYLE)),
    dict(re.findall(r"--([a-z-]+): light-dark\(#[0-9a-f]{6}, (#[0-9a-f]{6})\)", STYLE)),
)
TEXT = [(text, ground) for text in ("ink", "soft", "link") for ground in ("paper", "card", "well")]
TONES = ("refuted", "open", "undecided", "provenance", "draft")
TEXT += [(text, f"{tone}-ground") for tone in TONES for text in (tone, "ink", "soft", "link")]
GRAPHICS = [(line, ground) for line in ("focus", "strong-line") for ground in ("paper", "card")]


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""

    def light(colour: str) -> float:
        parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_is_high_enough_in_both_themes(theme: int) -> None:
    colours = PAIRS[theme]
    assert len(colours) > 15
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for text, ground in TEXT:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for line, ground in GRAPHICS:
        assert contrast(colours[line], colours[ground]) >= 3, (line, ground)
    for colour in PALETTE:
        assert contrast(colour, colours["card"]) >= 3, colour
    # Curves lie on a card, and so do their samples in the legend.
    for place in ("plot", "legend"):
        assert re.search(rf"^\.{place} {{[^}}]* background: var\(--card\);", STYLE, re.MULTILINE), place


def blend(over: str, under: str, opacity: str) -> str:
    parts = ((int(one[index : index + 2], 16) for one in (over, under)) for index in (1, 3, 5))
    share = float(opacity)
    return "#" + "".join(f"{round(top * share + below * (1 - share)):02x}" for top, below in parts)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_what_is_drawn_fainter_than_text_keeps_its_contrast(theme: int) -> None:
    colours = PAIRS[theme]
    assert blend("#ffffff", "#000000", "0.6") == "#999999"
    ground = colours["card"]
    assert contrast(blend(colours["ink"], ground, FAINT), ground) >= 4.5
    assert contrast(blend(colours["ink"], ground, STEADY), ground) >= 3
    # No drawing states an opacity of its own between that of a grid and these.
    drawn = plots(sample("refuted")["plots"])
    stated = {value for plot in drawn for value in re.findall(r' (?:fill|stroke)-opacity="([^"]*)"', plot.svg)}
    assert all(float(value) >= float(STEADY) or float(value) <= 0.2 for value in stated), stated


def test_not_refuted_is_blue_grey_and_no_tone_is_green() -> None:
    for colours in PAIRS:
        for tone in TONES:
            red, green, blue = (int(colours[tone][index : index + 2], 16) for index in (1, 3, 5))
            assert not (green > red and green > blue), tone
        red, green, blue = (int(colours["open"][index : index + 2], 16) for index in (1, 3, 5))
        assert blue > green > red
        assert blue - red < 64, "grey rather than blue"


def test_the_style_sheet_keeps_its_promises() -> None:
    assert STYLE.isascii()
    promises = (
        "color-scheme: light dark|:focus-visible|@page|break-inside: avoid|prefers-reduced-motion|overflow-x: auto"
    )
    for promise in (promises + "|max-width: 72rem|system-ui|forced-colors").split("|"):
        assert promise in STYLE, promise
    assert "outline: none" not in STYLE
    # A colour outside the table of pairs would escape the contrast test.
    assert len(re.findall(r"#[0-9a-f]{6}", STYLE)) == 2 * len(PAIRS[0])
