"""The report: deterministic, self-contained, readable without looks, honest in its words."""

import hashlib
import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from html_page import Page, claim, page
from sample_predicate import KINDS, Kind, draft, sample

from cu_certificates._fields import fixed
from cu_certificates._forbidden import forbidden_in
from cu_certificates._wording import wording
from cu_certificates.check.carrier import join_report, split_report
from cu_certificates.check.result import VERDICTS
from cu_certificates.check.strict import canonical, parse
from cu_certificates.report import render_skeleton, report_bytes

ROOT = Path(__file__).parent.parent
EN = wording()


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
    forbidden = {"link", "img", "iframe", "object", "embed", "form", "base", "audio", "video", "use", "image"}
    assert not forbidden & {tag for tag, _ in found.tags}
    for tag, attributes in found.tags:
        assert not {"src", "srcset", "action", "style", "ping"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert attributes.get("href", "#").startswith("#"), attributes  # type: ignore[union-attr]
    # One block of data that names the vocabulary of its fields, and no script.
    assert found.named("script") == [{"type": "application/ld+json"}]
    assert b"http:" not in skeleton
    assert skeleton.count(b"https:") == 1
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
    wanted += [
        "evidence",
        "assumptions",
        "limitations",
        "leakage",
        "verify",
        "governance",
        "checklist",
        "glossary",
        "raw",
    ]
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
    assert "1 of 2 against 1 of 2" in found.text
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
        *(EN(f"assumption.{name}") for name in predicate["assumptions"]),
        *(EN(f"limitation.{name}") for name in predicate["limitations"]),
        *predicate["verdict"]["reasons"],
    ):
        assert wanted in found.text, wanted
    raw = next(data for where, data in found.texts if where[-2:] == ("pre", "code") and data.startswith("{"))
    assert json.loads(raw) == predicate


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_has_its_sentence_and_an_easy_box(verdict: str) -> None:
    def change(predicate: dict[str, Any]) -> None:
        predicate["verdict"]["value"] = verdict

    found = page("refuted", change)
    assert found.text.count(EN(f"verdict.{verdict}.headline")) == 1
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
    assert EN("cell.void") in found.text
    assert "Procedure question, void: eps" in found.text
    assert "1 of 2 negative controls sound" in found.text


def test_a_draft_says_so_and_states_no_verdict() -> None:
    found = Page(render_skeleton(draft("refuted")))
    assert found.text.index("UNSIGNED DRAFT") < found.text.index(EN("page.title"), 60)
    assert EN("verdict.DRAFT.headline") in found.text
    assert "verdict rests on this" not in found.text
    for verdict in VERDICTS:
        assert not re.search(rf"\b{verdict}\b", found.text)
        assert EN(f"verdict.{verdict}.headline") not in found.text
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


@pytest.mark.parametrize("kind", KINDS)
def test_no_rendered_sentence_claims_too_much(kind: Kind) -> None:
    for found in (page(kind), page(kind, marked="unverified"), Page(render_skeleton(draft(kind)))):
        assert forbidden_in(found.text) == []
        for _, attributes in found.tags:
            assert forbidden_in(" ".join(value for value in attributes.values() if value)) == []
