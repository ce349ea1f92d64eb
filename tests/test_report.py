"""The report: deterministic, self-contained, readable, honest in its words, and closed to what a name may hold."""

import contextlib
import copy
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from fractions import Fraction
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_predicate import KINDS, Kind, digest, draft, sample
from typer.testing import CliRunner

from cu_cert.cli import report as report_verb
from cu_certificates import _wording, keys
from cu_certificates._fields import date, exact, fixed, guess_share, percent, short
from cu_certificates._plots import plots
from cu_certificates._svg import PALETTE, ticks
from cu_certificates.check.carrier import join_report, split_report
from cu_certificates.check.strict import Rejected, canonical, parse
from cu_certificates.envelope import sign, statement
from cu_certificates.errors import MissingFileError, UntrustedError, UsageError
from cu_certificates.report import render_skeleton, report_bytes
from cu_certificates.trust import write_trust

ROOT = Path(__file__).parent.parent
STYLE = (ROOT / "templates/cu_templates/style.css").read_text(encoding="utf-8")
VOID_TAGS = {"meta", "input", "br", "hr", "link", "img", "col"}
HOSTILE = "<script>alert(1)</script>\n<head>\n</style>\"'&{{ 7*7 }}{% raw %}"


class Page(HTMLParser):
    """A strict reading of a page: every tag that opens closes, in order."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(page.decode("ascii"))
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag}: an attribute stands twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((tuple(self.open), data))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get("id"))]

    @property
    def text(self) -> str:
        """What a person reads: everything but the style sheet, white space made even."""
        said = " ".join(data for where, data in self.texts if "style" not in where)
        return re.sub(r"\s+", " ", said)


def page(kind: Kind = "refuted", change: Callable[[dict[str, Any]], None] | None = None, **marked: Any) -> Page:
    predicate = sample(kind)
    if change is not None:
        change(predicate)
    return Page(render_skeleton(predicate, **marked))


def claim(predicate: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in predicate["claims"] if one["id"] == name)


# --- Bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_two_renders_are_equal_also_from_another_order_of_keys(kind: Kind) -> None:
    first = render_skeleton(sample(kind))
    assert render_skeleton(sample(kind)) == first
    assert render_skeleton(parse(canonical(sample(kind)))) == first


def test_another_process_with_other_surroundings_gives_the_same_bytes() -> None:
    program = (
        "import hashlib; from sample_predicate import KINDS, sample\n"
        "from cu_certificates.report import render_skeleton\n"
        "print([hashlib.sha256(render_skeleton(sample(kind))).hexdigest() for kind in KINDS])"
    )
    here = str([hashlib.sha256(render_skeleton(sample(kind))).hexdigest() for kind in KINDS])
    folders = os.pathsep.join(str(ROOT / name) for name in ("", "attacks", "certificates", "templates", "tests"))
    surroundings = {"PYTHONPATH": folders, "PYTHONHASHSEED": "4711", "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | surroundings, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == here


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_carries_exactly_one_line_head_and_no_bundle_marker(kind: Kind) -> None:
    skeleton = render_skeleton(sample(kind))
    assert skeleton.split(b"\n").count(b"<head>") == 1
    assert b"cu-cert-bundle" not in skeleton
    assert b"vnd.dev.sigstore.bundle" not in skeleton
    assert skeleton.isascii()
    assert skeleton.endswith(b"</html>\n")
    assert b"\r" not in skeleton
    assert len(skeleton) < 300_000
    assert split_report(join_report(skeleton, b"{}")) == (skeleton, b"{}")


def test_report_bytes_is_the_page_with_the_bundle_in_its_line() -> None:
    predicate = sample("refuted")
    assert split_report(report_bytes(predicate, b'{"a":1}')) == (render_skeleton(predicate), b'{"a":1}')


def test_a_full_panel_stays_below_the_size_limit() -> None:
    def fill(predicate: dict[str, Any]) -> None:
        points = [[x * 5, min(1000, x * 7)] for x in range(200)]
        predicate["plots"]["roc"]["series"] = [{"label": f"attack {n}", "points": points} for n in range(8)]
        predicate["claims"] += [
            {"id": f"m-{n}", "type": "metric", "name": f"metric {n}", "value": "0.5", "note": "descriptive"}
            for n in range(100)
        ]

    predicate = sample("refuted")
    fill(predicate)
    assert len(render_skeleton(predicate)) < 300_000


# --- Structure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_loaded_and_nothing_runs(kind: Kind) -> None:
    skeleton = render_skeleton(sample(kind))
    found = Page(skeleton)
    forbidden = {"script", "link", "img", "iframe", "object", "embed", "form", "base", "audio", "video", "use", "image"}
    assert not forbidden & {tag for tag, _ in found.tags}
    for tag, attributes in found.tags:
        assert not {"src", "srcset", "action", "style", "ping"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert attributes.get("href", "#").startswith("#"), attributes  # type: ignore[union-attr]
    assert b"http:" not in skeleton
    assert b"https:" not in skeleton
    assert b"url(" not in skeleton
    assert b"@import" not in skeleton
    policy = [meta["content"] for meta in found.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    expected = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    assert policy == [expected]


@pytest.mark.parametrize("kind", KINDS)
def test_headings_landmarks_and_links_are_in_order(kind: Kind) -> None:
    found = page(kind)
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert [len(found.named(tag)) for tag in ("header", "main", "nav", "footer")] == [1, 1, 1, 1]
    assert found.named("html") == [{"lang": "en"}]
    assert len(found.ids) == len(set(found.ids))
    for _, attributes in found.tags:
        if (target := attributes.get("href")) is not None:
            assert target[1:] in found.ids, target
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= set(found.ids), attributes
    assert found.tags[[tag for tag, _ in found.tags].index("body") + 1] == ("a", {"class": "skip", "href": "#main"})


@pytest.mark.parametrize("kind", KINDS)
def test_tables_have_captions_and_scopes_and_scroll_in_boxes_of_their_own(kind: Kind) -> None:
    found = page(kind)
    tags = [tag for tag, _ in found.tags]
    assert tags.count("table") == tags.count("caption") > 5
    assert all(attributes.get("scope") in ("col", "row", "rowgroup") for attributes in found.named("th"))
    for index, tag in enumerate(tags):
        if tag == "table":
            box = found.tags[index - 1][1]
            assert (box["class"], box["role"], box["tabindex"]) == ("box", "region", "0")


def test_the_page_is_in_the_promised_order() -> None:
    found = page()
    wanted = ["verdict-title", "plain-title", "scope", "results", "plots", "plan", "controls", "attacks", "method"]
    wanted += ["evidence", "assumptions", "limitations", "leakage", "verify", "glossary", "raw"]
    assert [name for name in found.ids if name in wanted] == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_every_claim_stands_in_exactly_one_row(kind: Kind) -> None:
    found = page(kind)
    rows = [attributes["id"] for attributes in found.named("tr") if (attributes.get("id") or "").startswith("claim-")]
    assert sorted(rows) == sorted(f"claim-{one['id']}" for one in sample(kind)["claims"])  # type: ignore[type-var]


def test_counts_stand_with_the_claims_that_rest_on_them() -> None:
    def cross_check(predicate: dict[str, Any]) -> None:
        for group, side in (("unlearned", "lower"), ("retrained", "upper")):
            predicate["claims"] += [
                {"id": f"c-count-{group}", "type": "count", "evidence": "slots", "group": group, "threshold": 3, "k": 1,
                 "n": 2},
                {"id": f"c-cp-{group}", "type": "cp", "from": f"c-count-{group}", "side": side, "alpha": "1/40",
                 "bound": "0.5"},
            ]  # fmt: skip
        predicate["claims"].append(
            {"id": "c-eps-pools", "type": "eps-lower", "question": "procedure", "tpr": "c-cp-unlearned",
             "fpr": "c-cp-retrained", "delta": "0", "bound": "1.9000", "planned": False}
        )  # fmt: skip

    found = page("refuted", cross_check)
    assert "Cross-check by two pools; supports no verdict" in found.text
    order = [name for name in found.ids if name.startswith("claim-")]
    assert order.index("claim-c-count-unlearned") < order.index("claim-c-p-artifact")
    assert order.index("claim-c-count-heldout") > order.index("claim-c-model")
    # The cross-check is no bound that a verdict may rest on, so it is not told at the top.
    assert "1.9000" not in found.text[: found.text.index("In plain words")]


# --- What it says ----------------------------------------------------------------------------------------------------


def test_numbers_are_printed_as_they_were_signed_and_said_in_words() -> None:
    predicate = sample("refuted")
    bound = claim(predicate, "c-eps-procedure")["bound"]
    found = page()
    assert (
        f"eps ≥ {bound} at 97.5 % (one-sided), whole request; right in at least 92.6 % of chosen guesses" in found.text
    )
    assert "lets a guesser be right at most 62.3 % of the time" in found.text
    assert f"eps ≥ {bound}" in found.text
    assert "p = 1/121 at most 0.0083" in found.text
    limit = claim(predicate, "c-power-procedure")
    assert f"{limit['critical']} right guesses" in found.text
    assert f"{fixed(Fraction(limit['accuracy']) * 100, 2)} % right guesses" in found.text
    assert "at most 5 % of all runs" in found.text
    assert "20 November 2026, 18:00 UTC" in found.text
    assert "2 of 2 positive controls detected, 2 of 2 negative controls sound" in found.text


@pytest.mark.parametrize("kind", KINDS)
def test_the_reader_can_check_what_the_page_names(kind: Kind) -> None:
    predicate = sample(kind)
    found = page(kind)
    for wanted in (
        "cu-cert verify report.html --trust trust.toml --model model.pt",
        hashlib.sha256(canonical(predicate)).hexdigest(),
        predicate["auditor"]["keyid"],
        predicate["certificateId"],
        predicate["plan"]["digest"]["sha256"],
        "Printed copies prove nothing; verify the file.",
        "no outside party took part",
        "even after exact retraining",
        *(item["digest"]["sha256"] for item in predicate["evidence"]),
        *(_wording.ASSUMPTIONS[name] for name in predicate["assumptions"]),
        *(_wording.LIMITATIONS[name] for name in predicate["limitations"]),
        *predicate["verdict"]["reasons"],
    ):
        assert wanted in found.text, wanted
    raw = next(data for where, data in found.texts if where[-2:] == ("pre", "code") and data.startswith("{"))
    assert json.loads(raw) == predicate


@pytest.mark.parametrize("verdict", _wording.VERDICTS)
def test_each_verdict_has_its_sentence_and_an_easy_box(verdict: str) -> None:
    def change(predicate: dict[str, Any]) -> None:
        predicate["verdict"]["value"] = verdict

    found = page("refuted", change)
    said = _wording.VERDICTS[verdict]
    assert found.text.count(said.headline) == 1
    plain = found.text[found.text.index("In plain words") : found.text.index("On this page")]
    words = plain.removeprefix("In plain words").split()
    assert 40 <= len(words) <= 120
    assert len(words) / len(re.findall(r"[.!?](?:\s|$)", plain)) < 18, "sentences are too long"
    assert "{" not in plain
    assert not re.search(r"\b(eps|alpha|delta|conformal|hypothesis)\b", plain)


def test_a_question_without_a_sound_negative_control_claims_nothing() -> None:
    def fail(predicate: dict[str, Any]) -> None:
        claim(predicate, "c-neg-procedure")["outcome"] = "failed"

    found, bound = page("refuted", fail), claim(sample("refuted"), "c-eps-procedure")["bound"]
    assert bound in page().text[: page().text.index("In plain words")].split("Reasons")[0]
    assert bound not in found.text[: found.text.index("In plain words")].split("Reasons")[0]
    assert _wording.VOID in found.text
    assert "Procedure question, void: eps" in found.text
    assert "1 of 2 negative controls sound" in found.text


def test_a_draft_says_so_and_states_no_verdict() -> None:
    found = Page(render_skeleton(draft("refuted")))
    assert found.text.index("UNSIGNED DRAFT") < found.text.index(_wording.TITLE, 60)
    assert _wording.DRAFT.headline in found.text
    assert "verdict rests on this" not in found.text
    for verdict, said in _wording.VERDICTS.items():
        assert not re.search(rf"\b{verdict}\b", found.text)
        assert said.headline not in found.text
    assert "cu-cert verify" not in found.text


def test_an_unchecked_page_is_marked_and_differs() -> None:
    found = page("refuted", marked="unverified")
    assert "not checked against any trusted key" in found.text[:400]
    assert "REFUTED stated by the file, not checked" in found.text
    assert "Printed copies prove nothing; verify the file. The signed certificate" not in found.text
    assert "not checked against any trusted key" not in page("refuted").text


def test_an_unknown_method_and_an_untreated_model_are_called_so() -> None:
    assert "model.pt, treated with an unknown method; a request of 50 records" in page("inconclusive").text

    def untreated(predicate: dict[str, Any]) -> None:
        predicate["unlearning"]["method"] = "identity"

    assert "model.pt, left as it was (method identity)" in page("refuted", untreated).text


def test_sizes_that_can_never_refute_are_said_so() -> None:
    def shrink(predicate: dict[str, Any]) -> None:
        claim(predicate, "c-power-procedure").update(critical=None, accuracy=None, reached=False)
        claim(predicate, "c-power-artifact").update(smallest=None, reached=False)

    found = page("not refuted", shrink)
    assert found.text.count("nothing, no result of this size could exceed eps = 0.5") == 2
    assert found.text.count("out of reach") == 2
    assert "None" not in found.text.replace("None </code>", "")


# --- Wording ---------------------------------------------------------------------------------------------------------


def forbidden_in(said: str) -> list[str]:
    even = re.sub(r"\s+", " ", said)
    return [word for word in _wording.FORBIDDEN if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", even, re.IGNORECASE)]


def test_the_lint_finds_what_it_must_and_nothing_else() -> None:
    assert forbidden_in("It was Verified.") == ["verified"]
    assert forbidden_in("100\u00a0% of cases") == ["100 %"]
    assert forbidden_in("unverified; proofread; 2100 %") == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_rendered_sentence_claims_too_much(kind: Kind) -> None:
    for found in (page(kind), page(kind, marked="unverified"), Page(render_skeleton(draft(kind)))):
        assert forbidden_in(found.text) == []
        for _, attributes in found.tags:
            assert forbidden_in(" ".join(value for value in attributes.values() if value)) == []


def strings(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from strings(inner)
        case tuple():
            for inner in value:
                yield from strings(inner)
        case _wording.VerdictText():
            yield from strings(tuple(vars(value).values()))


def test_no_sentence_of_the_table_claims_too_much() -> None:
    table = {name: value for name, value in vars(_wording).items() if name.isupper() and name != "FORBIDDEN"}
    assert len(list(strings(table))) > 80
    for said in strings(table):
        assert forbidden_in(said) == [], said


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
    assert hostile.count(b"<script") == 0
    assert hostile.split(b"\n").count(b"<head>") == 1
    assert HOSTILE.split("\n")[0] in found.text
    assert "49" not in re.findall(r"\"'&(\S+)", found.text)[0]
    assert {tag for tag, _ in found.tags} == {tag for tag, _ in clean.tags}
    assert [tag for tag, _ in found.tags].count("section") == [tag for tag, _ in clean.tags].count("section")
    style = [data for where, data in found.texts if where[-1] == "style"]
    assert len(style) == 1
    assert "script" not in style[0]


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
    assert [("stroke-dasharray" in line) for line in re.findall("<polyline[^>]*>", found["roc"].svg)] == [False] * 2 + [
        True
    ] * 2


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


# --- The verb --------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 21, tzinfo=UTC)
app = typer.Typer(pretty_exceptions_enable=False)
app.command("report")(report_verb.command)
app.command("other")(lambda: None)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificate.sigstore.json, report.html and, elsewhere, trust.toml; evidence is absent."""
    folder = tmp_path_factory.mktemp("signed")
    key = keys.generate_key(folder / "audit.pem", passphrase=None)
    write_trust(
        folder / "trust.toml", keys.public_path_of(folder / "audit.pem"), not_before=datetime(2026, 1, 1, tzinfo=UTC)
    )
    predicate = sample("refuted")
    predicate["auditor"]["keyid"] = key.keyid
    skeleton = render_skeleton(predicate)
    subjects = {"model.pt": digest("model")["sha256"], "report.html": hashlib.sha256(skeleton).hexdigest()}
    bundle = sign(statement(subjects, predicate), key)
    (folder / "certificate.sigstore.json").write_bytes(bundle)
    (folder / "report.html").write_bytes(report_bytes(predicate, bundle))
    subjects["report.html"] = "0" * 64
    (folder / "foreign.json").write_bytes(sign(statement(subjects, predicate), key))
    return folder


@pytest.mark.parametrize("name", ["certificate.sigstore.json", "report.html"])
def test_a_trusted_certificate_is_drawn_again_byte_for_byte(signed: Path, name: str) -> None:
    found = report_verb.draw(signed / name, trust=signed / "trust.toml", now=NOW)
    assert found.data == (signed / "report.html").read_bytes()
    assert (found.status, found.verdict) == ("signature valid", "REFUTED")
    assert "evidence/slots.jsonl" in found.missing


def test_without_trust_the_page_is_marked_and_carries_no_bundle(signed: Path) -> None:
    found = report_verb.draw(signed / "report.html", trust=None, now=NOW)
    assert (found.status, found.verdict) == ("unverified", "REFUTED")
    assert "not checked against any trusted key" in Page(found.data).text
    assert b"cu-cert-bundle" not in found.data


def test_a_page_that_this_version_draws_differently_is_refused(signed: Path) -> None:
    with pytest.raises(UntrustedError, match="draw it with the version that issued the certificate") as caught:
        report_verb.draw(signed / "foreign.json", trust=signed / "trust.toml", now=NOW)
    assert caught.value.step == "report"


def test_what_cannot_be_read_or_drawn_is_refused(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        report_verb.draw(tmp_path / "none.json", trust=None, now=NOW)
    broken = sample("refuted")
    broken["plots"]["roc"]["series"] = []
    (tmp_path / "draft.json").write_bytes(statement({"model.pt": digest("model")["sha256"]}, broken))
    with pytest.raises(UntrustedError, match=r"cannot be drawn: plots\.roc\.series"):
        report_verb.draw(tmp_path / "draft.json", trust=None, now=NOW)


def test_the_verb_writes_the_page_and_says_what_it_is(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unsigned = statement({"model.pt": digest("model")["sha256"]}, draft("inconclusive"))
    (tmp_path / "certificate.draft.json").write_bytes(unsigned + b"\n")
    result = CliRunner().invoke(app, ["report", "certificate.draft.json"], catch_exceptions=False)
    assert result.stdout == "report.html: unverified; states no verdict (draft)\n"
    assert "UNSIGNED DRAFT" in Page(Path("report.html").read_bytes()).text
    result = CliRunner().invoke(app, ["report", str(signed / "report.html"), "-o", "two.html", "--json"])
    document = json.loads(result.stdout)
    assert (document["status"], document["verdict"]) == ("unverified", {"stated": "REFUTED"})
    assert Path("two.html").read_bytes() == report_verb.draw(signed / "report.html", trust=None, now=NOW).data


def test_an_unchecked_page_never_takes_the_place_of_a_file(signed: Path) -> None:
    before = (signed / "report.html").read_bytes()
    result = CliRunner().invoke(app, ["report", str(signed / "report.html"), "-o", str(signed / "report.html")])
    assert isinstance(result.exception, UsageError)
    assert "never overwritten" in str(result.exception)
    assert (signed / "report.html").read_bytes() == before


def test_the_verb_loads_nothing_heavy() -> None:
    program = (
        "import sys; import cu_cert.cli.report; import cu_certificates.report; "
        "print(sorted({'torch', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    folders = os.pathsep.join(str(ROOT / name) for name in ("", "attacks", "certificates", "templates"))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": folders},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
