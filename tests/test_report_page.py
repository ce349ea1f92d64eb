"""The page as people use it: on a telephone, by keyboard, with large or spaced text, read aloud, on paper."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import NARROW, OVERFLOW, SPACED, Shown, chromium
from sample_more import bounded, contradicted, described, drill, every_claim, exact
from sample_predicate import draft, sample

from cu_certificates._wording import LANGUAGES, wording
from cu_certificates.report import render_skeleton


def marked(at: str) -> dict[str, Any]:
    """A described audit whose file lies elsewhere among the retrained models."""
    found = described()
    found["plots"]["artifact"]["marks"][0]["at"] = at
    return found


MAKERS = {
    "refuted": lambda: sample("refuted"),
    "described": lambda: marked("-1.7000"),
    "exact": exact,
    "contradicted": contradicted,
    "bounded": bounded,
    "drill": drill,
    "every claim": every_claim,
    "draft": lambda: draft("refuted"),
}
NAMES = tuple(f"{name} {language}" for name in MAKERS for language in LANGUAGES)
# German has the longest words; the other languages are tried where the page holds most.
LONG = tuple(name for name in NAMES if name.endswith(" de") or name.startswith(("every claim", "described")))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, make in MAKERS.items():
        for language in LANGUAGES:
            predicate = make() if language == "en" else make() | {"language": language}
            path = found[f"{name} {language}"] = folder / f"{name}-{language}.html".replace(" ", "-")
            path.write_bytes(render_skeleton(predicate))
    return found


# --- Narrow, large and spaced ----------------------------------------------------------------------------------------

CLIPPED = """[...document.querySelectorAll('body *')].filter(one => {
    const style = getComputedStyle(one);
    return style.overflowX === 'hidden' && one.scrollWidth > one.clientWidth + 1
        && !one.closest('.hidden, thead, svg');
}).map(one => one.outerHTML.slice(0, 80))"""

# A word that runs out of its cell or its line would lie over what stands beside it.
OUTSIDE = """[...document.querySelectorAll('td, th, dd, dt, li, p, h1, h2, h3')].filter(one =>
    one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1 && !one.closest('thead')
    && !one.querySelector('svg, pre')
).map(one => one.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("name", LONG)
def test_text_reflows_in_a_narrow_window_however_letters_are_spaced(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    with Shown(browser, pages[name], **NARROW) as shown:
        for change in ("/* as it is */", SPACED):
            shown.page.add_style_tag(content=change)
            assert shown.ask(OVERFLOW) == 0, change
            assert shown.ask(CLIPPED) == [], change
            assert shown.ask(OUTSIDE) == [], change


def roles(shown: Shown) -> dict[str, int]:
    session = shown.context.new_cdp_session(shown.page)
    counted: dict[str, int] = {}
    for node in session.send("Accessibility.getFullAXTree")["nodes"]:
        role = node.get("role", {}).get("value", "")
        if not node.get("ignored") and role in ("table", "row", "cell", "rowheader", "columnheader", "caption"):
            counted[role] = counted.get(role, 0) + 1
    return counted


def test_a_table_whose_rows_are_stacked_is_still_read_as_a_table(browser: Any, pages: dict[str, Path]) -> None:
    page = pages["every claim en"]
    with Shown(browser, page) as wide, Shown(browser, page, **NARROW) as narrow:
        before, after = roles(wide), roles(narrow)
        assert before["table"] == after["table"] > 5
        assert before["columnheader"] == after["columnheader"]
        assert before["rowheader"] == after["rowheader"]
        # Cells that hold nothing are left out of a stack.
        assert before["row"] == after["row"]
        assert before["cell"] - after["cell"] == narrow.ask("document.querySelectorAll('.stack td:empty').length")
        assert narrow.ask("getComputedStyle(document.querySelector('.claims td')).display") == "block"
        assert wide.ask("getComputedStyle(document.querySelector('.claims td')).display") == "table-cell"


NAMED = """[...document.querySelectorAll('.stack')].flatMap(table => {
    const heads = [...table.querySelectorAll('thead th')].map(one => one.textContent);
    return [...table.querySelectorAll('tbody tr')].flatMap(row => {
        let column = 0;
        return [...row.cells].flatMap(cell => {
            const head = heads[column], said = getComputedStyle(cell, '::before').content;
            column += cell.colSpan;
            return cell.tagName === 'TD' && cell.clientHeight && said !== JSON.stringify(head)
                ? [`${said} for ${head}: ${cell.outerHTML.slice(0, 60)}`] : [];
        });
    });
})"""


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_stacked_cell_says_to_which_column_it_belongs(browser: Any, pages: dict[str, Path], language: str) -> None:
    with Shown(browser, pages[f"every claim {language}"], **NARROW) as shown:
        assert shown.ask(NAMED) == []
        assert shown.ask("document.querySelectorAll('.stack').length") >= 5


# --- Wide, with large letters, and what is drawn ---------------------------------------------------------------------

LABELS = """[...document.querySelectorAll('.plot > svg')].map(svg => [svg.getAttribute('aria-labelledby'),
    svg.viewBox.baseVal.height, [...svg.querySelectorAll('text')].map(one => {
        const box = one.getBBox();
        return [one.textContent, box.x, box.y, box.x + box.width, box.y + box.height];
    })])"""


def check_labels(drawing: str, height: float, labels: list[tuple[str, float, float, float, float]]) -> None:
    for said, left, top, right, bottom in labels:
        assert left >= 0, (drawing, said)
        assert right <= 640, (drawing, said)
        assert top >= 0, (drawing, said)
        assert bottom <= height, (drawing, said)
    for (said, left, top, right, bottom), (other, x, y, to_x, to_y) in combinations(labels, 2):
        # The box of a text is taller than its letters: a line of 13 has about 3 to spare.
        assert to_x <= left or right <= x or to_y <= top + 3 or bottom <= y + 3, (drawing, said, other)


@pytest.mark.parametrize("name", NAMES)
def test_no_word_runs_over_another_in_tables_drawings_and_with_large_letters(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    with Shown(browser, pages[name]) as shown:
        assert shown.ask(OUTSIDE) == []
        drawings = shown.ask(LABELS)
        assert drawings
        for drawing in drawings:
            check_labels(*drawing)
        shown.page.add_style_tag(content="html { font-size: 200%; }")
        assert shown.ask(OVERFLOW) == 0
        assert shown.ask(CLIPPED) == []


# --- By keyboard and read aloud --------------------------------------------------------------------------------------

HIDDEN_FOCUS = """(() => {
    const one = document.activeElement, box = one.getBoundingClientRect();
    const inside = ([x, y]) => {
        const top = document.elementFromPoint(x, y);
        return !!top && (one.contains(top) || top.contains(one));
    };
    const within = (value, end) => Math.min(Math.max(value, 1), end - 2);
    const left = within(box.left + 3, innerWidth), right = within(box.right - 3, innerWidth);
    const top = within(box.top + 3, innerHeight), bottom = within(box.bottom - 3, innerHeight);
    const free = [[left, top], [right, top], [left, bottom], [right, bottom]].filter(inside).length;
    return [one.outerHTML.slice(0, 70), free];
})()"""


@pytest.mark.parametrize("options", [{}, NARROW], ids=["wide", "narrow"])
def test_what_has_the_focus_is_never_hidden_behind_something_else(
    browser: Any, pages: dict[str, Path], options: dict[str, Any]
) -> None:
    # WCAG 2.4.11. The list of contents stays in view while the page scrolls, and must not lie over anything.
    with Shown(browser, pages["exact de"], reduced_motion="reduce", **options) as shown:
        seen = set()
        for _ in range(200):
            shown.page.keyboard.press("Tab")
            if shown.ask("document.activeElement === document.body"):
                break
            place, free = shown.ask(HIDDEN_FOCUS)
            assert free > 0, f"focus is covered: {place}"
            seen.add(place)
        assert len(seen) > 60


SMALL_TARGETS = """(() => {
    const all = [...document.querySelectorAll('a[href], summary, label, input')];
    const shown = all.filter(one => one.offsetWidth || one.offsetHeight);
    const boxes = shown.map(one => one.getBoundingClientRect());
    return shown.filter((one, index) => {
        const box = boxes[index];
        if (one.closest('.skip') || one.matches('label input') || Math.min(box.width, box.height) >= 24) return false;
        // Exempt: a link in a sentence, whose size follows from the line of text.
        const words = [...one.parentElement.childNodes].filter(node => node.nodeType === 3);
        if (words.some(node => node.textContent.trim().length > 1)) return false;
        // Exempt: a circle of 24 around its centre meets no other target.
        const x = box.left + box.width / 2, y = box.top + box.height / 2;
        return boxes.some((other, place) => {
            if (place === index || one.contains(shown[place]) || shown[place].contains(one)) return false;
            const across = x - Math.min(Math.max(x, other.left), other.right);
            const down = y - Math.min(Math.max(y, other.top), other.bottom);
            return Math.hypot(across, down) < 12;
        });
    }).map(one => one.outerHTML.slice(0, 80));
})()"""


@pytest.mark.parametrize("name", ["every claim de", "described fr", "refuted en"])
def test_targets_are_large_enough_or_far_enough_apart(browser: Any, pages: dict[str, Path], name: str) -> None:
    for options in ({}, NARROW):
        with Shown(browser, pages[name], **options) as shown:
            assert shown.ask(SMALL_TARGETS) == []


def test_shapes_beside_words_are_seen_and_not_read_aloud(browser: Any, pages: dict[str, Path]) -> None:
    with Shown(browser, pages["every claim en"]) as shown:
        shapes = shown.ask(
            "[...document.querySelectorAll('.mark')]"
            ".map(one => [one.textContent, getComputedStyle(one, '::before').content])"
        )
        drawn = dict(shapes)
        assert drawn["recounted"] != drawn["assumed"] != drawn["descriptive"] != drawn["recounted"]
        assert drawn["present"] != drawn["in part"] != drawn["absent"] != drawn["present"]
        assert all(re.fullmatch(r'"[^"]" / ""', shape) for shape in drawn.values()), drawn
        session = shown.context.new_cdp_session(shown.page)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        names = {node.get("name", {}).get("value", "") for node in nodes if not node.get("ignored")}
        assert {"recounted", "in part"} <= names
        assert not [name for name in names if set(name) & set("\u25cf\u25d0\u25cb")]


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_the_word_of_the_verdict_is_marked_as_english(browser: Any, pages: dict[str, Path], language: str) -> None:
    with Shown(browser, pages[f"exact {language}"]) as shown:
        assert shown.ask("document.documentElement.lang") == language
        assert shown.ask("document.querySelector('#verdict-title [lang=en]').textContent") == "EXACT_BY_PROVENANCE"


def test_the_page_moves_by_itself_for_nobody_who_does_not_want_it(browser: Any, pages: dict[str, Path]) -> None:
    scroll = "getComputedStyle(document.documentElement).scrollBehavior"
    moving = "document.getAnimations().length"
    with Shown(browser, pages["refuted en"], reduced_motion="reduce") as still:
        assert (still.ask(scroll), still.ask(moving)) == ("auto", 0)
    with Shown(browser, pages["refuted en"], reduced_motion="no-preference") as usual:
        assert (usual.ask(scroll), usual.ask(moving)) == ("smooth", 0)


@pytest.mark.parametrize("name", ["exact de", "bounded fr", "contradicted en", "drill fr", "every claim de"])
def test_axe_finds_nothing_in_the_pages_of_other_verdicts(browser: Any, pages: dict[str, Path], name: str) -> None:
    with Shown(browser, pages[name], bypass_csp=True) as shown:
        shown.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert shown.violations() == []


# --- On paper --------------------------------------------------------------------------------------------------------

# Something to find again in the PDF at the start and at the end of what must not be torn apart.
TOKENS = """() => {
    let number = 0;
    const put = (one, said) => { one.prepend(said + 'a '); one.append(' ' + said + 'z'); };
    for (const row of document.querySelectorAll('tr[id^=claim-], tr[id^=point-], tr[id^=evidence-]')) {
        const said = `q${number++}q`;
        for (const cell of row.cells) put(cell, said);
    }
    for (const one of document.querySelectorAll('.control p.small, .facts dd, .entries dd, .plain')) {
        put(one, `q${number++}q`);
    }
    for (const one of document.querySelectorAll('.sections h2, .sections h3')) {
        const next = one.nextElementSibling || one.parentElement.nextElementSibling;
        const first = next.matches('dl, ul, .box, .check') ? next.querySelector('dt, li, caption, p') : next;
        const said = `q${number++}q`;
        one.append(' ' + said + 'a'); first.prepend(said + 'z ');
    }
    for (const caption of document.querySelectorAll('.sections > section > .box caption')) {
        const said = `q${number++}q`;
        caption.prepend(said + 'a '); caption.closest('table').querySelector('tbody tr th').prepend(said + 'z ');
    }
    for (const group of document.querySelectorAll('th.group')) {
        const said = `q${number++}q`;
        group.append(' ' + said + 'a'); group.parentElement.nextElementSibling.cells[0].prepend(said + 'z ');
    }
    return number;
}"""


def printed(shown: Shown, size: str, folder: Path) -> list[str]:
    """The text of each sheet."""
    file = folder / "page.pdf"
    file.write_bytes(shown.page.pdf(format=size, prefer_css_page_size=True))
    told = subprocess.run(["pdfinfo", str(file)], capture_output=True, text=True, check=True).stdout
    wide, high = map(float, re.search(r"Page size:\s+([0-9.]+) x ([0-9.]+)", told).groups())  # type: ignore[union-attr]
    assert (wide, high) == pytest.approx({"A4": (595.3, 841.9), "Letter": (612, 792)}[size], abs=1)
    read = subprocess.run(["pdftotext", "-layout", str(file), "-"], capture_output=True, text=True, check=True).stdout
    return read.split("\f")[:-1]


@pytest.fixture
def poppler() -> None:
    if shutil.which("pdftotext") is None or shutil.which("pdfinfo") is None:
        pytest.skip("pdftotext and pdfinfo (poppler) are not installed")


@pytest.mark.usefixtures("poppler")
@pytest.mark.parametrize(("name", "size"), [("every claim de", "A4"), ("every claim en", "Letter"), ("exact fr", "A4")])
def test_no_claim_is_torn_apart_and_no_heading_stands_alone(
    browser: Any, pages: dict[str, Path], tmp_path: Path, name: str, size: str
) -> None:
    with Shown(browser, pages[name]) as shown:
        count = shown.ask(TOKENS)
        # The page is moved down a little each time, so that sheets end at other places.
        for shift in (0, 120, 240, 360, 480) if name == "every claim de" else (0,):
            shown.page.add_style_tag(content=f"#attacks {{ margin-top: {shift}px; }}")
            where: dict[str, set[int]] = {}
            for number, sheet in enumerate(printed(shown, size, tmp_path), 1):
                for token in re.findall(r"q([0-9]+)q[az]", sheet):
                    where.setdefault(token, set()).add(number)
            assert len(where) > 0.9 * count > 80, "tokens got lost"
            torn = {token: found for token, found in where.items() if len(found) > 1}
            assert torn == {}, shift


@pytest.mark.usefixtures("poppler")
@pytest.mark.parametrize("size", ["A4", "Letter"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_sheet_says_what_it_is_and_that_it_is_unsigned(
    browser: Any, pages: dict[str, Path], tmp_path: Path, language: str, size: str
) -> None:
    t = wording(language)
    with Shown(browser, pages[f"refuted {language}"]) as shown:
        sheets = printed(shown, size, tmp_path)
    foot = t("page.paper", certificate="6f1d2b0c8a4e4c57")
    for number, sheet in enumerate(sheets, 1):
        last = [line for line in sheet.split("\n") if line.strip()][-1]
        assert re.sub(r"\s+", " ", last).strip() == f"{foot} {number} / {len(sheets)}".replace("\u00a0", " ")
    whole = re.sub(r"\s+", " ", " ".join(sheets))
    # What nobody can press on paper is left out; parameters, closed on the screen, are printed.
    for key in ("page.numbers", "page.skip", "page.contents", "method.parameters", "verify.predicate"):
        assert t(key) not in whole, key
    assert "learning_rate" in whole
    assert "retain_weight" in whole


@pytest.mark.usefixtures("poppler")
def test_a_drawing_s_numbers_are_printed_when_a_reader_opens_them(
    browser: Any, pages: dict[str, Path], tmp_path: Path
) -> None:
    with Shown(browser, pages["refuted en"]) as shown:
        caption = wording()("plot_power.caption")
        assert caption not in " ".join(printed(shown, "A4", tmp_path))
        shown.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert caption in " ".join(printed(shown, "A4", tmp_path))


def test_links_are_not_spelled_out_on_paper(browser: Any, pages: dict[str, Path]) -> None:
    # The page links to itself alone; an address that is needed, to check the file, stands in the text of its box.
    with Shown(browser, pages["refuted en"]) as shown:
        shown.page.emulate_media(media="print")
        added = shown.ask(
            "[...document.querySelectorAll('a')].flatMap(one => ['::before', '::after']"
            ".map(place => getComputedStyle(one, place).content))"
        )
        assert set(added) == {"none"}


def test_dark_pages_are_printed_dark_on_white(browser: Any, pages: dict[str, Path]) -> None:
    with Shown(browser, pages["exact en"], color_scheme="dark") as shown:
        shown.page.check("#theme-dark")
        shown.page.emulate_media(media="print", color_scheme="dark")
        colours = shown.ask(
            "[...document.querySelectorAll('h2, p, td, th, dd, .mark, text')].map(one => getComputedStyle(one).color)"
        )
        light = {colour for colour in colours if min(map(int, re.findall(r"[0-9]+", colour)[:3])) > 140}
        assert light == set()


def test_sections_follow_one_another_in_the_order_of_the_contents(browser: Any, pages: dict[str, Path]) -> None:
    with Shown(browser, pages["exact en"]) as shown:
        tops = shown.ask(
            "[...document.querySelectorAll('.contents a')]"
            ".map(one => document.querySelector(one.getAttribute('href')).getBoundingClientRect().top)"
        )
        assert len(tops) > 10
        assert all(above < below for above, below in pairwise(tops))
