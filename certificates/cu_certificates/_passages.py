"""Files taken apart into passages of text, each with its place: what the lints look at.

A bundle gives the strings of its payload, a report the text and attributes of its page, JSON and JSON lines their
strings and keys, any other text its lines. Numbers are no passages: a count is not an id.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

from cu_certificates._files import kind_of, read_bytes
from cu_certificates.check.carrier import load_any
from cu_certificates.check.strict import Rejected, parse
from cu_certificates.errors import UsageError

MAX_FILE: Final = 256 * 1024 * 1024
MAX_FILES: Final = 10_000

PRIVATE: Final = ("private", ".cu-cert")
"""Folders that are never handed on, and so never looked into."""

# Tags within a sentence; at any other tag a passage ends.
_INLINE: Final = frozenset((
    "a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn", "em", "i", "ins", "kbd", "mark", "q", "s",
    "samp", "small", "span", "strong", "sub", "sup", "time", "tspan", "u", "var", "wbr",
))  # fmt: skip
_SPOKEN: Final = frozenset(("alt", "aria-label", "aria-description", "content", "label", "placeholder", "title"))


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of text.

    Args:
        file: The file in which it stands, as the caller named it.
        place: Where it stands there: a JSON path, a line, or ``file name``.
        text: The text.
        shown: Whether a reader of a page gets to see or hear it.
    """

    file: str
    place: str
    text: str
    shown: bool = True


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file that was taken apart.

    Args:
        name: How the caller named it.
        passages: Its passages.
        predicate: The certificate in it, if it is one; nothing about it is verified.
        lines: Whether each passage is one line of running text, so that a sentence may go on in the next.
    """

    name: str
    passages: tuple[Passage, ...]
    predicate: dict[str, Any] | None = None
    lines: bool = False


def read_source(path: Path, name: str) -> Source | None:
    """Take a file apart.

    Args:
        path: The file.
        name: How it is called in findings.

    Returns:
        Its passages; ``None`` for a file that is no text, such as a model or a time stamp.

    Raises:
        MissingFileError: It cannot be read.
        UsageError: It is too large.
    """
    return take_apart(read_bytes(path, what="file", max_bytes=MAX_FILE), name)


def take_apart(data: bytes, name: str) -> Source | None:
    """Take the bytes of a file apart; the kind of file shows from its content.

    Args:
        data: The bytes.
        name: How the file is called in findings.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    if data.lstrip()[:1] == b"<":
        return _page(data, text, name)
    if data.lstrip()[:1] in (b"{", b"["):
        found = _json(data, text, name)
        if found is not None:
            return found
    return Source(name=name, passages=tuple(_lines(text, name)), lines=True)


def _lines(text: str, name: str) -> Iterator[Passage]:
    for at, line in enumerate(text.split("\n"), 1):
        yield Passage(file=name, place=f"line {at}", text=line)


def _json(data: bytes, text: str, name: str) -> Source | None:
    """Read one document, or one a line; ``None`` where it is neither, so that it is searched as text.

    Unlike a verifier, a lint reads whatever a reader could: floats, repeated keys, keys in any alphabet.
    """
    with suppress(Rejected):
        payload = load_any(data)[0].payload
        data, text = payload, payload.decode("utf-8")
    predicate: dict[str, Any] | None = None
    with suppress(Rejected):
        statement = parse(data, "payload")
        found = statement.get("predicate") if isinstance(statement, dict) else None
        predicate = found if isinstance(found, dict) else None
    try:
        value = json.loads(text, object_pairs_hook=_Pairs)
        return Source(name=name, passages=tuple(strings_of(value, name)), predicate=predicate)
    except (ValueError, RecursionError):
        return _json_lines(text, name)


class _Pairs(list[tuple[str, Any]]):
    """An object with every one of its keys, repeated ones too."""


def _json_lines(text: str, name: str) -> Source | None:
    """Read one document a line; a string that stands in many of them is looked at where it stands first."""
    passages: dict[str, Passage] = {}
    for at, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                for passage in strings_of(json.loads(line, object_pairs_hook=_Pairs), name, f"line {at}"):
                    passages.setdefault(passage.text, passage)
            except (ValueError, RecursionError):
                return None
    return Source(name=name, passages=tuple(passages.values()))


def strings_of(value: object, file: str, place: str = "", *, shown: bool = True) -> Iterator[Passage]:
    """Yield the strings and keys of a JSON value.

    Args:
        value: The parsed value.
        file: The file in which it stands.
        place: Its JSON path.
        shown: Whether a reader of a page gets to see them.
    """
    match value:
        case str():
            yield Passage(file=file, place=place or "$", text=value, shown=shown)
        case dict() | _Pairs():
            for key, inner in value.items() if isinstance(value, dict) else value:
                below = f"{place}.{key}" if place else key
                yield Passage(file=file, place=f"{place or '$'} (a key)", text=key, shown=shown)
                yield from strings_of(inner, file, below, shown=shown)
        case list():
            for index, inner in enumerate(value):
                yield from strings_of(inner, file, f"{place}[{index}]", shown=shown)


def _page(data: bytes, text: str, name: str) -> Source:
    predicate: dict[str, Any] | None = None
    passages: list[Passage] = []
    try:
        carrier, skeleton = load_any(data)
        statement = parse(carrier.payload, "payload")
        passages += strings_of(statement, name, shown=False)  # the page shows them in its own words
        found = statement.get("predicate") if isinstance(statement, dict) else None
        predicate = found if isinstance(found, dict) else None
        text = (skeleton or data).decode("utf-8")
    except Rejected:
        pass  # a page without a signed line, or one that nobody should rely on: its text is searched all the same
    reader = _Reader(name)
    try:
        reader.feed(text)
        reader.close()
    except AssertionError:  # what the parser raises for "<![" and an unknown word: no page of ours, so a text
        return Source(name=name, passages=(*passages, *_lines(text, name)), predicate=predicate)
    reader.end()
    return Source(name=name, passages=(*passages, *reader.passages), predicate=predicate)


class _Reader(HTMLParser):
    """Collects the text of a page, a passage for each block, and every attribute and comment."""

    def __init__(self, file: str) -> None:
        super().__init__(convert_charrefs=True)
        self.file = file
        self.passages: list[Passage] = []
        self._text: list[str] = []
        self._line = 1
        self._hidden = 0

    def end(self) -> None:
        """End a passage."""
        said = "".join(self._text)
        if said.strip():
            self.passages.append(Passage(file=self.file, place=f"line {self._line}", text=said, shown=not self._hidden))
        self._text = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _INLINE:
            self.end()
        for key, value in attrs:
            if value:
                place = f"line {self.getpos()[0]} ({tag} {key})"
                self.passages.append(Passage(file=self.file, place=place, text=value, shown=key in _SPOKEN))
        if tag in ("script", "style"):
            self._hidden += 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _INLINE:
            self.end()
        if tag in ("script", "style"):
            self._hidden = max(self._hidden - 1, 0)

    def handle_data(self, data: str) -> None:
        if not self._text:
            self._line = self.getpos()[0]
        self._text.append(data)

    def handle_comment(self, data: str) -> None:
        place = f"line {self.getpos()[0]} (comment)"
        self.passages.append(Passage(file=self.file, place=place, text=data, shown=False))


def files_below(path: Path) -> tuple[list[tuple[Path, str]], list[str]]:
    """Return the files to look at, with the name of each, and the folders that were left out.

    Args:
        path: A file, or a folder, which is walked without following links.

    Raises:
        UsageError: It is neither, or it holds too many files.
    """
    kind = kind_of(path)
    if kind == "file":
        return [(path, path.name)], []
    if kind != "folder":
        raise UsageError(f"{str(path)!r} is no file and no folder; give a certificate, a report or an output folder")
    found: list[tuple[Path, str]] = []
    left: list[str] = []
    waiting = [path]
    while waiting:
        for entry in _entries(waiting.pop()):
            name = entry.relative_to(path).as_posix()
            if entry.is_symlink():
                left.append(name)
            elif entry.is_dir():
                if entry.name in PRIVATE:
                    left.append(f"{name}/")
                else:
                    waiting.append(entry)
            elif entry.is_file():
                found.append((entry, name))
        if len(found) > MAX_FILES:
            raise UsageError(f"{str(path)!r} holds more than {MAX_FILES} files; give the folder of one certificate")
    return sorted(found, key=lambda one: one[1]), sorted(left)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"folder {str(folder)!r}: cannot be read ({error.strerror}); check its rights") from None
