"""docs/attacks.md, run from top to bottom: each block of code prints what the page shows behind it."""

import ast
import contextlib
import io
import re
from pathlib import Path

import pytest

import cu_attacks
from cu_certificates._forbidden import forbidden_in

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "attacks.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+\.\d+")


def blocks(text: str) -> list[tuple[str, str]]:
    """Return kind and content of each fenced block."""
    return [(found[1], found[2]) for found in FENCE.finditer(text)]


def same(shown: str, printed: str) -> bool:
    """Whether two outputs agree: all words and whole numbers, and decimals to one unit of their last place."""
    if NUMBER.split(shown) != NUMBER.split(printed):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(abs(float(one) - float(two)) <= 1.01 * 10.0 ** -len(one.partition(".")[2]) for one, two in pairs)


def test_every_block_prints_what_the_page_shows() -> None:
    found = blocks(PAGE.read_text(encoding="utf-8"))
    assert {kind for kind, _ in found} == {"python", "text"}
    names: dict[str, object] = {"__name__": "page"}
    shown = 0
    for number, (kind, code) in enumerate(found):
        if kind == "text":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"{PAGE.name}, block {number}", "exec"), names)
        behind, wanted = found[number + 1] if number + 1 < len(found) else ("", "")
        assert (behind == "text") == bool(printed.getvalue()), code
        if behind == "text":
            shown += 1
            assert same(wanted, printed.getvalue()), f"the page shows\n{wanted}\nbut it is\n{printed.getvalue()}"
    assert shown == sum(kind == "text" for kind, _ in found)


def test_the_comparison_of_outputs_can_fail() -> None:
    assert same("eps >= 1.0640 of 48\n", "eps >= 1.0641 of 48\n")
    for other in ("eps >= 1.0642 of 48\n", "eps >= 1.0640 of 47\n", "eps <= 1.0640 of 48\n", "eps >= 1 of 48\n"):
        assert not same("eps >= 1.0640 of 48\n", other)


def test_the_page_needs_numpy_and_nothing_more() -> None:
    used: set[str] = set()
    for kind, code in blocks(PAGE.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(code if kind == "python" else "")):
            if isinstance(node, ast.ImportFrom):
                used.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.Import):
                used |= {alias.name for alias in node.names}
    assert used == {"cu_attacks", "fractions", "numpy"}


def test_the_page_shows_every_question_and_test_of_the_front_door() -> None:
    code = "".join(code for kind, code in blocks(PAGE.read_text(encoding="utf-8")) if kind == "python")
    asked = [name for name in cu_attacks.__all__ if name.endswith(("_audit", "_test", "_score"))]
    assert len(asked) >= 12
    for name in (*asked, "one_run", "two_pools"):
        assert len(re.findall(rf"\b{name}\b", code)) >= 2, name  # imported and used


@pytest.mark.parametrize("name", ["attacks", "choosing", "scores"])
def test_links_lead_somewhere_and_no_word_claims_too_much(name: str) -> None:
    page = DOCS / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, heading = target.partition("#")
        there = DOCS / file if file else page
        assert there.exists(), target
        if heading:
            lines = there.read_text(encoding="utf-8").splitlines()
            heads = {re.sub(r"[^\w\- ]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in lines}
            assert heading in heads, target
    assert forbidden_in(text, ["en"]) == []
