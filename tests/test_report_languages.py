"""The page in English, German and French: whole, honest about which one is signed, and as safe as the English one."""

import functools
import re
from typing import Any

import pytest
from html_page import Page, even
from sample_more import EVERY, bounded, described, drill, every_claim, exact
from sample_predicate import sample
from test_report_input import HOSTILE, spoil

from cu_certificates._forbidden import forbidden_in
from cu_certificates._wording import LANGUAGES, wording
from cu_certificates.check.carrier import join_report, split_report
from cu_certificates.check.strict import Rejected
from cu_certificates.errors import UsageError
from cu_certificates.report import render_skeleton

OTHERS = [code for code in LANGUAGES if code != "en"]


@functools.cache
def drawn(name: str, code: str) -> bytes:
    """Draw a sample as it would be issued in a language; each page once."""
    return render_skeleton(signed_in(code, EVERY[name]()))


@functools.cache
def read(name: str, code: str) -> Page:
    return Page(drawn(name, code))


def signed_in(code: str, predicate: dict[str, Any]) -> dict[str, Any]:
    return predicate if code == "en" else predicate | {"language": code}


# --- Which page is signed --------------------------------------------------------------------------------------------


def test_a_page_without_a_language_is_english() -> None:
    assert Page(render_skeleton(sample("refuted"))).named("html") == [{"lang": "en"}]
    assert render_skeleton(sample("refuted"), language="en") == render_skeleton(sample("refuted"))


@pytest.mark.parametrize("code", OTHERS)
def test_the_certificate_says_in_which_language_its_page_is(code: str) -> None:
    t, predicate = wording(code), signed_in(code, sample("refuted"))
    page = render_skeleton(predicate)
    found = Page(page)
    assert found.named("html") == [{"lang": code}]
    assert found.text.count(even(t("verdict.REFUTED.headline"))) == 1
    assert t("verdict.REFUTED.word") in found.text
    assert "cu-cert verify report.html --trust trust.toml --model model.pt" in found.text
    assert not found.named("div")[0].get("role"), "no banner"
    assert render_skeleton(predicate, language=code) == page
    assert split_report(join_report(page, b"{}")) == (page, b"{}")


@pytest.mark.parametrize("code", OTHERS)
def test_another_language_is_a_translation_that_says_so_and_points_to_the_signed_page(code: str) -> None:
    t, predicate = wording(code), sample("refuted")
    page = render_skeleton(predicate, language=code)
    assert render_skeleton(predicate, language=code, marked="translation") == page
    found = Page(page)
    assert even(t.html("banner.translation", language=t.word("language_name", "en")).striptags()) in found.text
    assert even(t("verify.translation")) in found.text
    assert "cu-cert verify certificate.sigstore.json" in found.text
    assert "report.html" not in found.text.split(even(t("section.verify")))[-1].split(t("section.glossary"))[0]
    back = Page(render_skeleton(signed_in(code, predicate), language="en"))
    assert f"Only the page in {wording().word('language_name', code)} is signed" in back.text
    assert page != render_skeleton(signed_in(code, predicate))


def test_an_unchecked_translation_carries_both_marks() -> None:
    found = Page(render_skeleton(sample("refuted"), marked="unverified", language="de"))
    assert "UNGEPRÜFT" in found.text[:600]
    assert "ÜBERSETZUNG" in found.text[:600]
    assert "Übersetzung eines signierten Zertifikats" not in found.text, "nobody looked at a signature"


@pytest.mark.parametrize("value", ["en", "it", "", "DE", 1, True, ["de"], {"de": 1}])
def test_other_languages_are_refused(value: object) -> None:
    with pytest.raises(Rejected, match=r"language: .*; expected one of de, fr, or no such field for English"):
        render_skeleton(sample("refuted") | {"language": value})


def test_a_reader_can_ask_for_no_other_language() -> None:
    with pytest.raises(UsageError, match="language: 'it'; expected one of en, de, fr"):
        render_skeleton(sample("refuted"), language="it")


# --- Every page in every language ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("name", EVERY)
def test_every_page_is_whole_in_every_language(name: str, code: str) -> None:
    page, found = drawn(name, code), read(name, code)
    assert page.isascii()
    assert len(page) < 300_000
    assert page.split(b"\n").count(b"<head>") == 1
    assert found.named("html") == [{"lang": code}]
    assert len(found.ids) == len(set(found.ids))
    for _, attributes in found.tags:
        assert (attributes.get("href") or "#main")[1:] in found.ids, attributes
    assert [tag for tag, _ in found.tags].count("table") == [tag for tag, _ in found.tags].count("caption")
    rows = {attributes["id"] for attributes in found.named("tr") if attributes.get("id")}
    assert {f"claim-{claim['id']}" for claim in EVERY[name]()["claims"]} <= rows
    assert not re.search(r"\{[a-z_]+\}|None |NOT_STATED|not stated" if code != "en" else r"\{[a-z_]+\}", found.text)


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("name", EVERY)
def test_no_page_says_too_much_in_any_language(name: str, code: str) -> None:
    found = read(name, code)
    spoken = {given[key] or "" for _, given in found.tags for key in ("aria-label", "content", "title") if key in given}
    # The JSON at the end repeats words of the certificate in English, whatever the language of the page.
    assert [place.words for place in forbidden_in(" | ".join([found.text, *sorted(spoken)]))] == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_mark_says_too_much(code: str) -> None:
    for marked in ("unverified", "translation"):
        found = Page(render_skeleton(sample("refuted"), marked=marked, language=code))  # type: ignore[arg-type]
        assert [place.words for place in forbidden_in(found.text)] == []


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("name", EVERY)
def test_the_easy_box_is_short_and_easy(name: str, code: str) -> None:
    t, text = wording(code), read(name, code).text
    plain = text.split(t("verdict.plain"), 1)[1].split(t("page.contents"))[0]
    words = plain.split()
    assert 35 <= len(words) <= 120
    assert len(words) / len(re.findall(r"[.!?:](?:\s|$)", plain)) < 17, "sentences are too long"
    assert not re.search(r"\b(eps|alpha|delta|conformal|conforme|Hypothese|hypothesis|hypothèse nulle)\b", plain)


@pytest.mark.parametrize("code", LANGUAGES)
def test_digits_are_those_that_were_signed(code: str) -> None:
    predicate = sample("refuted")
    signed = Page(render_skeleton(predicate)).text
    found = Page(render_skeleton(predicate, language=code)).text
    bound = next(claim["bound"] for claim in predicate["claims"] if claim["id"] == "c-eps-procedure")
    assert found.count(f"eps ≥ {bound}") >= signed.count(f"eps ≥ {bound}")
    assert "97.5 %" in found
    assert not re.search(r"[0-9],[0-9]{2,}", found.split(wording(code)("section.raw"))[0])


def test_dates_are_in_words() -> None:
    assert [wording(code).date("2027-03-01T06:05:00Z") for code in LANGUAGES] == [
        "1 March 2027, 06:05 UTC",
        "1. März 2027, 06:05 UTC",
        "1er mars 2027, 06:05 UTC",
    ]
    assert [wording(code).date("2026-12-24") for code in LANGUAGES] == [
        "24 December 2026",
        "24. Dezember 2026",
        "24 décembre 2026",
    ]
    for odd in ("soon", "2026-13-01", "2026-1-1", "24.12.2026"):
        assert wording("fr").date(odd) == odd


@pytest.mark.parametrize("code", LANGUAGES)
def test_paper_carries_its_footer_as_text(code: str) -> None:
    page = render_skeleton(sample("refuted"), language=code).decode("ascii")
    content = re.findall(r'content: "([^"]*)"; font', page)[0]
    read = re.sub(r"\\([0-9a-f]{6}) ?", lambda found: chr(int(found[1], 16)), content)
    assert read == wording(code)("page.paper", certificate="6f1d2b0c8a4e4c57")


# --- Who wrote what --------------------------------------------------------------------------------------------------


def test_sentences_of_the_program_are_said_in_the_language_of_the_page() -> None:
    found = Page(render_skeleton(every_claim() | {"language": "de"}))
    marked = [data for where, data in found.texts if where[-1] == "span" and ("span", {"lang": "en"}) in found.tags]
    assert "an assumption that nobody translated" in marked
    assert "Energiedistanz zwischen behandelten und neu trainierten Modellen: p" in found.text
    reasons = found.text.split("Gründe")[1].split("Beruht auf")[0]
    assert "bilden eine Kette" in reasons
    assert "Frage nach der Datei: Ihre Positivkontrolle fehlt" in reasons


def test_words_of_the_issuer_are_marked_with_the_language_of_the_certificate() -> None:
    own = render_skeleton(described("de"))
    assert b'lang="en">each new training' not in own
    assert b'<span lang="de">each new training</span>' in render_skeleton(described("de"), language="fr")
    assert b'<span lang="en">each new training</span>' in render_skeleton(described(), language="fr")
    assert b'<span lang="en">backups' not in render_skeleton(described(), language="fr")


def test_assumptions_and_missing_tests_stand_beside_a_conditional_verdict() -> None:
    for predicate, headline in ((exact(), "recorded training history"), (bounded(), "follows from its theorem")):
        top = Page(render_skeleton(predicate)).text.split("In plain words")[0]
        assert headline in top
        assert all(wording()(f"assumption.{name}") in top for name in predicate["assumptions"])
    assert "planned tests that are missing" in Page(render_skeleton(exact())).text
    assert "artifact: its positive control is missing" in Page(render_skeleton(exact())).text
    top = Page(render_skeleton(bounded())).text.split("In plain words")[0]
    assert "Every planned test was made" in top
    assert "the norm was measured at the released point: enforced by the program" in top
    assert "is fresh for each release and was kept secret: assumed" in top
    assert wording()("assumption.A1") not in Page(render_skeleton(sample("refuted"))).text.split("In plain words")[0]


def test_a_drill_says_that_nobody_asked() -> None:
    text = Page(render_skeleton(drill())).text
    assert "a drill on 50 drawn records" in text
    assert "not about anyone's request" in text
    assert "for one record: eps ≥ 3.0530" in text
    assert "220 of 224 guesses right about 300 drawn records, with the lowest scores" in text
    assert "If you think that yours are among them" not in text


# --- Safety and cost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("name", ["refuted", "described", "exact", "every claim", "drill"])
def test_no_value_can_leave_its_place_in_any_language(name: str, code: str) -> None:
    clean = read(name, code)
    hostile = render_skeleton(signed_in(code, spoil(EVERY[name]())))
    found = Page(hostile)
    assert hostile.count(b"<script") == 1
    assert hostile.split(b"\n").count(b"<head>") == 1
    assert HOSTILE.split("\n")[0] in found.text
    assert "49" not in re.findall(r"\"'&(\S+)", found.text)[0]
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in clean.tags} | {"span", "code"}
    assert [tag for tag, _ in found.tags].count("section") == [tag for tag, _ in clean.tags].count("section")
    assert len([data for where, data in found.texts if where[-1] == "style"]) == 1


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_page_with_hundreds_of_metrics_stays_small(code: str) -> None:
    predicate = every_claim()
    predicate["claims"] += [
        {"id": f"m-{n}", "type": "metric", "kind": "attack", "name": f"TPR at {n}% FPR, loss threshold of the model "
         "before, low side", "value": "0.5", "note": "DeLong, logit scale; of 50 records; an own word; a large p does "
         "not show that the two sets are alike"} for n in range(200)
    ]  # fmt: skip
    assert len(render_skeleton(predicate, language=code)) < 300_000


# --- Rows of the newer types of claims -------------------------------------------------------------------------------


def test_every_claim_is_told_with_its_result_and_its_bound() -> None:
    text = Page(render_skeleton(every_claim())).text
    for said in (
        "20 shards; trained anew: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 3 more; records fewer: 50",
        "0 of 50 commitments found in 2 manifests of 2000 records in all",
        "shown by the two commitments beside each gap, if the manifests are sorted (A15)",
        "210 of 210 drawn steps, of 400 in all, came out bit for bit the same",
        "at most 1 % of all steps are wrong up to error 1/20; drawn by drand, round 4242",
        "50 different commitments have the request's root",
        "rho = 1/100, for one record, counted 50 times",
        "eps ≤ 0.2760 at delta = 1/10000",
        "mu ≥ 2.6780",
        "from rates whose quantiles are 1.405073562342 and -1.272977342601",
        "0.0012 0.5312; alike sets give 0.0102 to 0.2931",
        "12 of 10000 ways to name the 36 unlearned and 28 retrained models look at least as different",
        "20 of 24 guesses right, 26 of at most 64 slots opened; ended because the guarantee under test was exceeded",
        "20 of 30 against 1 of 30 models above the threshold",
        "one alarm in 8 runs",
        "Claim of a type that this report cannot read: hologram",
    ):
        assert said in text, said
    against = Page(render_skeleton(EVERY["contradicted"]())).text
    assert "speaks against the claim: 2 of 50 commitments found" in against
    assert "speaks against the claim: 209 of 210 drawn steps" in against
    assert "at most 1 % of all steps" not in against
    assert "the records contradict each other" in against
    assert "drawn by a reader's nonce" in against
