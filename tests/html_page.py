"""A strict reader of rendered pages, for tests."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

from sample_predicate import Kind, sample

from cu_certificates.report import render_skeleton

VOID_TAGS = {"meta", "input", "br", "hr", "link", "img", "col"}


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
        """What a person reads: everything but the style sheet and the data blocks, white space made even."""
        said = " ".join(data for where, data in self.texts if not {"style", "script"} & set(where))
        return re.sub(r"\s+", " ", said)


def even(said: str) -> str:
    """A text as :attr:`Page.text` shows it: white space made even, unbreakable blanks too."""
    return re.sub(r"\s+", " ", said)


def page(kind: Kind = "refuted", change: Callable[[dict[str, Any]], None] | None = None, **marked: Any) -> Page:
    predicate = sample(kind)
    if change is not None:
        change(predicate)
    return Page(render_skeleton(predicate, **marked))


def claim(predicate: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in predicate["claims"] if one["id"] == name)
