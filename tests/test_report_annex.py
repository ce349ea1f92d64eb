"""The annex for a supervisory authority and the summary for machines: filled in from what the certificate holds."""

import copy
import json
import re
from typing import Any

import pytest
from html_page import Page, even
from sample_more import described, drill, exact, one_model
from sample_predicate import draft, sample

from cu_certificates._checklist import Point, checklist
from cu_certificates._wording import LANGUAGES, wording
from cu_certificates.report import render_skeleton

EN = wording()


def points(predicate: dict[str, Any]) -> dict[int, Point]:
    return {point.number: point for point in checklist(predicate, predicate["claims"], EN)}


def states(point: Point) -> dict[str, str]:
    return {part.name: part.state for part in point.parts}


def test_a_bare_certificate_holds_nothing_but_its_easy_words() -> None:
    found = points({"claims": []})
    assert len(found) == 15
    assert {number for number, point in found.items() if point.state != "absent"} == {15}
    assert states(found[15]) == {"box in plain words": "present", "receipts": "absent"}
    assert states(found[3])["deadline"] == "not_applicable"
    assert states(found[5])["assumptions of the guarantee"] == "not_applicable"


def test_a_fully_described_certificate_holds_nearly_everything() -> None:
    found = points(described())
    assert {number: point.state for number, point in found.items() if point.state != "present"} == {8: "partial"}
    assert states(found[8]) == {
        "attacks on single records": "present",
        "bound for one record, or worst records": "absent",
    }
    assert states(found[5])["assumptions of the guarantee"] == "not_applicable", "the method states no guarantee"
    assert states(points(exact())[5])["assumptions of the guarantee"] == "present"


@pytest.mark.parametrize(
    ("number", "path", "part"),
    [
        (1, "controller", "controller"),
        (1, "affirmation.role", "responsible person"),
        (1, "auditor.keyid", "signature"),
        (2, "scope.deployments", "where it is in use"),
        (2, "scope.excluded", "what is out of scope"),
        (3, "request.executedAt", "deadline"),
        (3, "request.dueAt", "deadline"),
        (4, "request.commitment.root", "commitment"),
        (6, "plan.detectEps", "power wanted"),
        (11, "limitations", "limitations"),
        (12, "log", "place in the auditor's log"),
        (13, "governance.suppression", "control of re-ingestion"),
        (14, "governance.dpia", "data protection impact assessment"),
    ],
)
def test_what_is_taken_out_is_absent(number: int, path: str, part: str) -> None:
    whole, cut = described(), copy.deepcopy(described())
    *parents, last = path.split(".")
    place: Any = cut
    for name in parents:
        place = place[name]
    del place[last]
    assert states(points(whole)[number])[part] == "present"
    assert states(points(cut)[number])[part] == "absent"
    assert points(cut)[number].state == "partial"


def test_claims_fill_the_points_about_results() -> None:
    assert points(sample("refuted"))[7].state == "present"
    assert points(drill())[8].parts[1].state == "present", "the bound for one record"
    assert points(one_model())[8].parts[1].state == "present", "the worst records"
    assert points(draft("refuted"))[1].parts[4].state == "absent", "nobody signed it"
    missing = sample("refuted")
    missing["claims"] = [claim for claim in missing["claims"] if claim["type"] != "conformal-p"]
    assert states(points(missing)[10])["a claim for every planned test"] == "absent"
    uncontrolled = sample("refuted")
    uncontrolled["claims"] = [claim for claim in uncontrolled["claims"] if claim["type"] != "control"]
    assert points(uncontrolled)[10].state == "partial"


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_annex_links_each_point_to_its_place_and_gives_no_advice(code: str) -> None:
    t = wording(code)
    found = Page(render_skeleton(described(), language=code))
    annex = found.text.split(t("annex.caption"))[1].split(t("section.glossary"))[0]
    for number in range(1, 16):
        assert f"point-{number}" in found.ids
        assert even(t(f"annex_source.{number}")) in annex
    assert even(t("annex.intro").split("**")[0]) in found.text
    advice = {"en": "no legal advice", "de": "keine Rechtsberatung", "fr": "ni un conseil juridique"}
    assert advice[code] in found.text
    assert not re.search(r"\b(compliance|complies|konform|conformité)\b", annex)


def test_what_the_owner_states_is_shown() -> None:
    text = Page(render_skeleton(described())).text
    for said in (
        "a request of 49 to 64 records",
        "the number is padded, so that the exact one stays closed",
        "Example Ltd; contact: privacy@example.org",
        "A. Person, head of models Carried out as described here.",
        "GDPR, Art. 17: right to erasure (right to be forgotten) our contract",
        "Request received 1 October 2026",
        "Due by 1 November 2026; by the stated dates in time",
        "support chat",
        "chat-small",
        "Evidence is kept until 31 December 2036",
        "DPIA 14",
        "entry 7; root of the log",
        "Root of its model signature (OMS)",
    ):
        assert said in text, said
    late = described()
    late["request"]["executedAt"] = "2026-11-02"
    assert "1 November 2026; by the stated dates too late" in Page(render_skeleton(late)).text
    bare = Page(render_skeleton(sample("refuted"))).text
    assert "Controller not stated" in bare
    assert "Request received" not in bare
    assert "a request of one record" in Page(render_skeleton(one_model())).text


# --- The summary for machines ----------------------------------------------------------------------------------------


def summary(page: bytes) -> dict[str, Any]:
    found = Page(page)
    data = [said for where, said in found.texts if where[-1] == "script"]
    assert found.named("script") == [{"type": "application/ld+json"}]
    assert len(data) == 1
    read: dict[str, Any] = json.loads(data[0])
    return read


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_summary_names_what_the_page_is_about(code: str) -> None:
    predicate = sample("refuted")
    found = summary(render_skeleton(predicate, language=code))
    assert (found["@context"], found["@type"], found["inLanguage"]) == ("https://schema.org", "Report", code)
    assert found["name"] == wording(code)("page.title")
    assert found["identifier"] == predicate["certificateId"]
    assert found["dateCreated"] == predicate["issuedAt"]
    assert found["about"]["identifier"] == f"sha256:{predicate['scope']['model']['digest']['sha256']}"
    based = [item["name"] for item in found["isBasedOn"]]
    assert based == [item["name"] for item in predicate["evidence"]]


def test_no_name_ends_the_data_or_begins_another_line() -> None:
    predicate = sample("refuted")
    evil = '</script><script type="application/vnd.dev.sigstore.bundle" id="cu-cert-bundle">&\u2028\n<!--'
    predicate["auditor"]["name"] = predicate["evidence"][0]["name"] = evil
    page = render_skeleton(predicate)
    line = next(line for line in page.split(b"\n") if b"ld+json" in line)
    assert line.count(b"<") == 2
    assert b"cu-cert-bundle" not in page
    assert b"vnd.dev.sigstore.bundle" not in page
    found = summary(page)
    assert found["author"]["name"] == found["isBasedOn"][0]["name"] == evil


def test_what_is_not_stated_is_left_out() -> None:
    predicate = sample("refuted")
    del predicate["expiresAt"], predicate["evidence"]
    found = summary(render_skeleton(predicate))
    assert "expires" not in found
    assert found["isBasedOn"] == []
