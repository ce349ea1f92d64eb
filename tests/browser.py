"""A real browser for tests of pages: Debian's Chromium, driven by playwright, with axe-core for accessibility."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cu_certificates.pdf import BROWSER_VARIABLE, BROWSERS

NARROW: dict[str, Any] = {"viewport": {"width": 320, "height": 640}}
# WCAG 1.4.12: nothing may be cut off when a reader spaces text like this.
SPACED = "* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important; } "
SPACED += "p { margin-bottom: 2em !important; }"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


@contextmanager
def chromium() -> Iterator[Any]:
    """Start the installed Chromium; skip where it, or what drives it, is absent."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the dev extra has it)")
    named = os.environ.get(BROWSER_VARIABLE)
    path = next((path for name in (named or "", *BROWSERS) if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no Chromium is installed (looked for {', '.join(BROWSERS)})")
    with playwright.sync_playwright() as driver:
        # The sandbox cannot start as root, and the pages are our own.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def axe_source() -> str:
    package = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed (the dev extra has it)")
    return (Path(package.__file__).parent / "axe.min.js").read_text("utf-8")


class Shown:
    """A page in a window of its own, with everything that it said and asked for."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def __enter__(self) -> "Shown":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def ask(self, script: str) -> Any:
        return self.page.evaluate(script)

    def violations(self) -> list[str]:
        """What axe-core objects to; the window must have been opened with ``bypass_csp``."""
        self.page.evaluate(axe_source())
        wanted = json.dumps({"runOnly": {"type": "tag", "values": RULES}})
        found = self.page.evaluate(f"() => axe.run(document, {wanted})")
        return [f"{rule['id']}: {node['html'][:120]}" for rule in found["violations"] for node in rule["nodes"]]
