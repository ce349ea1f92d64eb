"""The report in a real Chromium: accessible, silent, offline, readable on every width, without styles and on paper."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from browser import NARROW, OVERFLOW, SPACED, Shown, chromium
from sample_predicate import KINDS, draft, sample

from cu_certificates.errors import UsageError
from cu_certificates.pdf import BROWSER_VARIABLE, find_browser, print_pdf
from cu_certificates.report import render_skeleton

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": NARROW,
    "high contrast": {"forced_colors": "active"},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    drawn = {kind: render_skeleton(sample(kind)) for kind in KINDS}
    drawn["draft"] = render_skeleton(draft("refuted"))
    drawn["unverified"] = render_skeleton(sample("not refuted"), marked="unverified")
    drawn |= {
        language: render_skeleton(sample("refuted") | {"language": language})
        for language in ("de", "fr")
    }  # fmt: skip
    found = {name: folder / f"{name.replace(' ', '-')}.html" for name in drawn}
    for name, path in found.items():
        path.write_bytes(drawn[name])
    return found


PAGES = (*KINDS, "draft", "unverified", "de", "fr")


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_and_the_page_is_silent_and_asks_for_nothing(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    for look, options in LOOKS.items():
        if look != "light" and name not in ("refuted", "de"):
            continue
        with Shown(browser, pages[name], bypass_csp=True, **options) as shown:
            assert shown.violations() == [], look
            assert shown.messages == []
            assert shown.requests == [pages[name].as_uri()]


@pytest.mark.parametrize("name", PAGES)
def test_a_narrow_screen_scrolls_in_one_direction_only(browser: Any, pages: dict[str, Path], name: str) -> None:
    with Shown(browser, pages[name], **NARROW) as shown:
        assert shown.ask(OVERFLOW) == 0
        shown.page.add_style_tag(content=SPACED)
        assert shown.ask(OVERFLOW) == 0


def test_the_policy_of_the_page_stops_a_script(browser: Any, pages: dict[str, Path]) -> None:
    with Shown(browser, pages["refuted"]) as shown:
        shown.ask("""() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'ran'";
            document.body.append(script);
        }""")
        assert shown.page.title() != "ran"
        assert any("Content Security Policy" in message for message in shown.messages)


def test_all_is_there_without_scripts(browser: Any, pages: dict[str, Path]) -> None:
    with Shown(browser, pages["refuted"]) as usual, Shown(browser, pages["refuted"], java_script_enabled=False) as bare:
        assert bare.page.inner_text("body") == usual.page.inner_text("body")


def test_without_styles_the_page_reads_in_order_and_its_plots_keep_their_colours(
    browser: Any, pages: dict[str, Path]
) -> None:
    # Some archives and build servers hand out pages under a policy that blocks style sheets inside them.
    data = pages["refuted"].read_bytes()
    context = browser.new_context()
    page = context.new_page()
    page.route("**/*", lambda route: route.fulfill(
        body=data, headers={"content-type": "text/html", "content-security-policy": "default-src 'none'"}
    ))  # fmt: skip
    page.goto("http://blocked.example/report.html")
    plain = page.evaluate("getComputedStyle(document.body).margin")
    assert plain == "8px", "the style sheet was applied after all"
    order = page.evaluate("[...document.querySelectorAll('h1, h2')].map(heading => heading.textContent.trim())")
    with Shown(browser, pages["refuted"]) as styled:
        assert order == styled.ask("[...document.querySelectorAll('h1, h2')].map(one => one.textContent.trim())")
    hidden = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(one => one.getClientRects().length === 0 "
        "&& !one.closest('details, svg, datalist') && one.textContent.trim()).map(one => one.outerHTML.slice(0, 80))"
    )
    assert hidden == []
    painted = page.evaluate(
        "[...document.querySelectorAll('svg *')].map(one => getComputedStyle(one).fill + getComputedStyle(one).stroke)"
    )
    assert len(set(painted)) > 3, "the plots are drawn by the style sheet alone"
    context.close()


def test_every_link_within_the_page_has_its_target_and_every_claim_its_address(
    browser: Any, pages: dict[str, Path]
) -> None:
    with Shown(browser, pages["refuted"]) as shown:
        lost = shown.ask(
            "[...document.querySelectorAll('a[href]')].map(one => one.getAttribute('href'))"
            ".filter(link => !link.startsWith('#') || !document.getElementById(link.slice(1)))"
        )
        assert lost == []
        for claim in sample("refuted")["claims"]:
            shown.page.goto(f"{pages['refuted'].as_uri()}#claim-{claim['id']}")
            assert shown.ask("document.querySelector(':target') !== null"), claim["id"]


def test_the_keyboard_reaches_the_verdict_first_and_always_shows_where_it_is(
    browser: Any, pages: dict[str, Path]
) -> None:
    with Shown(browser, pages["refuted"], reduced_motion="reduce") as shown:
        shown.page.keyboard.press("Tab")
        assert shown.ask("document.activeElement.getAttribute('href')") == "#main"
        assert shown.ask("document.activeElement.getBoundingClientRect().top") >= 0
        seen = set()
        for _ in range(60):
            place = shown.ask(
                "(() => { const one = document.activeElement, box = one.getBoundingClientRect(), "
                "ring = getComputedStyle(one).outlineWidth; "
                "return [one.outerHTML.slice(0, 60), box.bottom > 0 && box.top < innerHeight, ring]; })()"
            )
            assert place[1], f"focus is out of sight: {place[0]}"
            assert place[2] != "0px", f"focus is not shown: {place[0]}"
            seen.add(place[0])
            shown.page.keyboard.press("Tab")
            if shown.ask("document.activeElement === document.body"):
                break
        assert len(seen) > 10


def test_the_reader_may_choose_light_or_dark_without_a_script(browser: Any, pages: dict[str, Path]) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with Shown(browser, pages["refuted"], color_scheme="dark") as shown:
        dark = shown.ask(ground)
        shown.page.check("#theme-light")
        light = shown.ask(ground)
        shown.page.check("#theme-dark")
        assert shown.ask(ground) == dark != light


@pytest.mark.parametrize("size", ["A4", "Letter"])
def test_on_paper_nothing_is_cut_off(browser: Any, pages: dict[str, Path], size: str) -> None:
    # 96 CSS pixels an inch, less the margins of the sheet.
    width = {"A4": 650, "Letter": 672}[size]
    with Shown(browser, pages["refuted"], viewport={"width": width, "height": 900}) as shown:
        shown.page.emulate_media(media="print", color_scheme="dark")
        assert shown.ask(OVERFLOW) == 0
        assert shown.ask("getComputedStyle(document.body).color") in ("rgb(0, 0, 0)", "rgb(28, 37, 48)")
        assert not shown.page.is_visible("fieldset")
        assert shown.page.pdf(format=size).startswith(b"%PDF-")


# Width and height of a sheet in points, 72 an inch.
@pytest.mark.parametrize(("paper", "box"), [("A4", (595, 842)), ("Letter", (612, 792))])
def test_a_report_becomes_a_pdf(
    pages: dict[str, Path], tmp_path: Path, browser: Any, paper: Literal["A4", "Letter"], box: tuple[int, int]
) -> None:
    assert browser.version  # skips where there is none
    out = tmp_path / "folder" / "report.pdf"
    print_pdf(pages["refuted"].read_bytes(), out, paper=paper)
    data = out.read_bytes()
    sheets = re.findall(rb"/MediaBox \[0 0 ([0-9.]+) ([0-9.]+)\]", data)
    assert sheets
    assert {(round(float(width)), round(float(height))) for width, height in sheets} == {box}
    assert data.startswith(b"%PDF-")
    assert b"/StructTreeRoot" in data, "the PDF carries no structure for a screen reader"
    assert [path.name for path in out.parent.iterdir()] == ["report.pdf"]


def test_without_a_browser_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BROWSER_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="a PDF needs an installed Chromium, and none was found"):
        find_browser()
    monkeypatch.setenv(BROWSER_VARIABLE, "/nowhere/browser")
    with pytest.raises(UsageError, match=r"CU_CERT_CHROMIUM='/nowhere/browser'"):
        find_browser()


def test_a_browser_that_fails_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, script, said in (
        ("fails", "echo no display >&2; exit 3", "it ended with 3: no display"),
        ("idle", "exit 0", "it ended without writing anything"),
    ):
        browser = tmp_path / name
        browser.write_text(f"#!/bin/sh\n{script}\n")
        browser.chmod(0o755)
        monkeypatch.setenv(BROWSER_VARIABLE, str(browser))
        with pytest.raises(UsageError, match=said):
            print_pdf(b"<!DOCTYPE html>", tmp_path / "out" / "report.pdf")
    assert list((tmp_path / "out").iterdir()) == []
