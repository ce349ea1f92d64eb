"""The report and what is put into it: hostile names, broken fields, numbers that must round the safe way."""

import contextlib
import copy
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from html_page import Page, page
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_predicate import sample

from cu_certificates._fields import exact, fixed, guess_share, percent, short
from cu_certificates._svg import ticks
from cu_certificates._wording import wording
from cu_certificates.check.carrier import join_report, split_report
from cu_certificates.check.strict import Rejected
from cu_certificates.report import render_skeleton

HOSTILE = "<script>alert(1)</script>\n<head>\n</style>\"'&{{ 7*7 }}{% raw %}"


# --- Hostile and broken input ----------------------------------------------------------------------------------------


def spoil(value: Any, path: str = "") -> Any:
    """Replace every string that is not a number or a word of the format by a hostile one."""
    fixed_words = re.compile(
        r".*\.(value|type|question|sign|kind|role|side|basis\.\d+|binEdges\.\d+|questions\.\d+|reached|outcome)"
    )
    match value:
        case dict():
            return {key: spoil(inner, f"{path}.{key}") for key, inner in value.items()}
        case list():
            return [spoil(inner, f"{path}.{index}") for index, inner in enumerate(value)]
        case str() if not fixed_words.fullmatch(path) and not re.fullmatch(r"-?[0-9]+([./][0-9]+)?", value):
            return value + HOSTILE
    return value


def test_no_value_can_leave_its_place() -> None:
    clean, hostile = Page(render_skeleton(sample("refuted"))), render_skeleton(spoil(sample("refuted")))
    found = Page(hostile)
    assert hostile.count(b"<script") == 1
    assert found.named("script") == [{"type": "application/ld+json"}]
    assert hostile.split(b"\n").count(b"<head>") == 1
    assert HOSTILE.split("\n")[0] in found.text
    assert "49" not in re.findall(r"\"'&(\S+)", found.text)[0]
    assert {tag for tag, _ in found.tags} == {tag for tag, _ in clean.tags}
    assert [tag for tag, _ in found.tags].count("section") == [tag for tag, _ in clean.tags].count("section")
    style = [data for where, data in found.texts if where[-1] == "style"]
    assert len(style) == 1
    assert "alert" not in style[0]


def test_the_marker_of_the_bundle_line_may_stand_in_a_name() -> None:
    name = '<script type="application/vnd.dev.sigstore.bundle.v0.3+json;base64" id="cu-cert-bundle">QQ==</script>'

    def change(predicate: dict[str, Any]) -> None:
        predicate["auditor"]["name"] = name

    predicate = sample("refuted")
    change(predicate)
    skeleton = render_skeleton(predicate)
    assert split_report(join_report(skeleton, b"{}")) == (skeleton, b"{}")
    assert name in page("refuted", change).text


def test_characters_that_hide_or_reorder_are_shown() -> None:
    def change(predicate: dict[str, Any]) -> None:
        predicate["auditor"]["name"] = "a\u202eb\u200bc\x07d\u00e4"

    found = page("refuted", change)
    assert "a\\u202eb\\u200bc\\u0007dä" in found.text
    assert not re.search("[\u202e\u200b\x07]", found.text)


def test_an_odd_model_name_is_quoted_in_the_command() -> None:
    def change(predicate: dict[str, Any]) -> None:
        predicate["scope"]["model"]["name"] = "my model;rm.pt"

    assert "--model 'my model;rm.pt'" in page("refuted", change).text


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("verdict.value", "PASSED", "expected one of REFUTED"),
        ("plan.testedEps", "half", "plan.testedEps: 'half'; expected an integer"),
        ("plan.testedEps", "1e999999999", "plan.testedEps"),
        ("plan.testedEps", None, "plan.testedEps: None"),
        ("plan.alphaTotal", "1/0", "divides by zero"),
        ("claims", "none", "claims: str; expected a list"),
        ("claims", [1], r"claims\[0\]: int; expected an object"),
        ("scope", [], "scope: list; expected an object"),
        ("scope.model.name", {}, "scope.model.name: dict; expected a string"),
        ("scope.excluded", [1], r"scope.excluded\[0\]: int"),
        ("sequence", 0.5, "float cannot stand in a cu-cert document"),
        ("plots.roc", 3, "plots.roc: int; expected an object"),
        ("plots.roc.series", [], "plots.roc.series: 0 series"),
        ("plots.roc.series", [{"label": "x", "points": [[0, 1001]]}], "pairs of integers from 0 to 1000"),
        ("plots.procedure.binEdges", ["1", "0"], "in rising order"),
        ("plots.procedure.series", [{"label": "x", "counts": [-1] * 12}], "none negative"),
        ("plots.eps.tested", [], "plots.eps.tested"),
        ("plots.eps.bars", [{}] * 13, "13 bars; expected at most 12"),
    ],
)
def test_wrong_values_are_refused_with_their_place(path: str, value: object, message: str) -> None:
    predicate = sample("refuted")
    *parents, last = path.split(".")
    place = predicate
    for name in parents:
        place = place[name]
    place[last] = value
    with pytest.raises(Rejected, match=message):
        render_skeleton(predicate)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


SMALL = {key: value for key, value in sample("refuted").items() if key != "plots"} | {
    "plots": {
        "procedure": {
            "kind": "pools", "title": "t", "unit": "u", "binEdges": ["0", "1"], "marks": [{"label": "m", "at": "1"}],
            "series": [{"label": "a", "role": "retrained", "counts": [1]}],
        },
        "roc": {"kind": "roc", "title": "t", "series": [{"label": "a", "points": [[0, 0], [1000, 1000]]}]},
        "eps": sample("refuted")["plots"]["eps"],
    }
}  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    place=st.sampled_from(sorted(places(SMALL), key=str)),
    value=st.sampled_from(
        [None, True, 7, -1, "x", "", "0", "-1/3", "9" * 40, [], {}, [{}], {"a": {}}, [[1]], "delete"]
    ),
)
def test_any_single_change_gives_a_page_or_a_refusal(place: tuple[str | int, ...], value: object) -> None:
    predicate = copy.deepcopy(SMALL)
    parent: Any = predicate
    for name in place[:-1]:
        parent = parent[name]
    if value == "delete":
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    with contextlib.suppress(Rejected):
        Page(render_skeleton(predicate))


# --- Numbers ---------------------------------------------------------------------------------------------------------


def test_shares_of_right_guesses_match_values_computed_elsewhere() -> None:
    # e^eps/(1 + e^eps): 0.5 -> 0.62245933, 1 -> 0.73105858, 2 -> 0.88079708, 2.5271 -> 0.92602.
    assert guess_share(Fraction(0), "down") == guess_share(Fraction(0), "up") == "50.0\u00a0%"
    assert (guess_share(Fraction(1, 2), "down"), guess_share(Fraction(1, 2), "up")) == ("62.2\u00a0%", "62.3\u00a0%")
    assert (guess_share(Fraction(1), "down"), guess_share(Fraction(1), "up")) == ("73.1\u00a0%", "73.2\u00a0%")
    assert guess_share(Fraction(2), "up") == "88.1\u00a0%"
    assert guess_share(Fraction(10**30), "down") == "99.9\u00a0%"
    assert guess_share(Fraction(10**30), "up") is None


@given(st.fractions(min_value=-1000, max_value=1000), st.integers(min_value=0, max_value=6))
def test_rounding_goes_the_way_it_says(value: Fraction, digits: int) -> None:
    down, near, up = (Fraction(fixed(value, digits, way)) for way in ("down", "near", "up"))
    assert down <= value <= up
    assert up - down <= Fraction(1, 10**digits)
    assert abs(near - value) <= Fraction(1, 2 * 10**digits)
    assert exact(short(value), "value") == value


def test_percentages_and_dates_read_well() -> None:
    date = wording().date
    assert percent(Fraction(39, 40), "down") == "97.5\u00a0%"
    assert percent(Fraction(59, 60), "down") == "98.33\u00a0%"
    assert percent(Fraction(1, 20), "up") == "5\u00a0%"
    assert date("2027-02-18T06:05:00Z") == "18 February 2027, 06:05 UTC"
    assert date("soon") == "soon"
    assert date("2027-13-18T06:05:00Z") == "2027-13-18T06:05:00Z"


@given(
    st.fractions(min_value=-(10**6), max_value=10**6),
    st.fractions(min_value=Fraction(1, 10**6), max_value=10**9),
    st.integers(min_value=4, max_value=9),
)
def test_ticks_are_round_few_and_inside(low: Fraction, span: Fraction, wanted: int) -> None:
    values, digits = ticks(low, low + span, wanted)
    assert 1 <= len(values) <= wanted + 1
    assert all(low <= value <= low + span for value in values)
    assert all(Fraction(fixed(value, digits)) == value for value in values)
