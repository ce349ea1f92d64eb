"""TOML read strictly: every refusal names the file, the line and the nearest valid word.

``tomllib`` keeps no line numbers, and a message without one sends the owner of a file searching. :func:`key_lines`
scans text that ``tomllib`` has already accepted, so it may assume that quotes and brackets are balanced.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cu_certificates.errors import PolicyError

KeyPath = tuple[str | int, ...]
"""Keys from the top of the file; an integer counts the tables of ``[[name]]`` from 0."""

_PART = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_DOTTED = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*[=\]]")


@dataclass(frozen=True)
class Table:
    """One table of a file. Each getter refuses an absent key and a value of another type.

    Args:
        file: The file, as the caller gave it.
        lines: Where each key stands, from :func:`key_lines`.
        path: Where the table stands in the file.
        values: What it holds.
    """

    file: Path
    lines: Mapping[KeyPath, int]
    path: KeyPath
    values: Mapping[str, Any]

    def has(self, key: str) -> bool:
        """Whether the key stands in the table."""
        return key in self.values

    def line(self, key: str = "") -> int:
        """Return the line of a key, or of the table itself."""
        path = (*self.path, key) if key else self.path
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def wrong(self, key: str, expected: str) -> PolicyError:
        """Return the error for a value that is not what was expected."""
        found = repr(self.values[key])
        shown = found if len(found) <= 60 else found[:59] + "…"
        return PolicyError(f"{self.file}:{self.line(key)}: {self._name(key)} = {shown}; expected {expected}")

    def only(self, known: Sequence[str]) -> None:
        """Refuse any key that is not in ``known``."""
        for key in self.values:
            if key not in known:
                place = f"[{self._name()}]" if self.path else "the file"
                raise PolicyError(
                    f"{self.file}:{self.line(key)}: unknown key {key!r} in {place}; expected {nearest(key, known)}"
                )

    def get(self, key: str) -> Any:
        """Return a value of any type."""
        if key not in self.values:
            raise PolicyError(f"{self.file}:{self.line()}: [{self._name()}] has no key {key!r}; add it there")
        return self.values[key]

    def table(self, key: str) -> "Table":
        """Return a table; an empty one when the key is absent."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "a table")
        return Table(self.file, self.lines, (*self.path, key), value)

    def tables(self, key: str) -> list["Table"]:
        """Return the tables of ``[[key]]``; none when the key is absent."""
        values = self.values.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise self.wrong(key, f"tables that each start with [[{self._name(key)}]]")
        return [Table(self.file, self.lines, (*self.path, key, at), value) for at, value in enumerate(values)]

    def text(self, key: str, allowed: Sequence[str] = ()) -> str:
        """Return a string that is not blank, one of ``allowed`` when these are given."""
        value = self.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "a string in quotation marks")
        if allowed and value not in allowed:
            raise self.wrong(key, nearest(value, allowed))
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of at least one string, none twice."""
        value = self.get(key)
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(item, str) and item.strip() for item in value)
            or len(set(value)) != len(value)
        ):
            raise self.wrong(key, "a list of different strings with at least one in it")
        return tuple(value)

    def _name(self, key: str = "") -> str:
        return ".".join(part for part in (*self.path, key) if isinstance(part, str) and part)


def nearest(word: str, known: Sequence[str]) -> str:
    """List the known words, the likeliest one first."""
    close = difflib.get_close_matches(word, known, n=1)
    listed = ", ".join(known)
    return f"{close[0]!r} (did you mean that?) or one of: {listed}" if close else f"one of: {listed}"


def key_lines(text: str) -> dict[KeyPath, int]:
    """Map every key and table of ``text`` to the line on which it first stands, counted from 1.

    Keys inside an inline table or an array are not listed; they share the line of the key that holds them.

    Args:
        text: TOML that ``tomllib`` accepts.
    """
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    depth, quote = 0, ""
    for number, line in enumerate(text.split("\n"), start=1):
        if depth == 0 and not quote:
            stripped = line.strip()
            header = stripped.startswith("[")
            match = _DOTTED.match(stripped.lstrip("[") if header else stripped)
            if match:
                keys = _split(match[1])
                if stripped.startswith("[["):
                    counts[keys] = counts.get(keys, -1) + 1
                    table = (*keys, counts[keys])
                elif header:
                    table = keys
                found = table if header else (*table, *keys)
                for length in range(1, len(found) + 1):
                    lines.setdefault(found[:length], number)
        depth, quote = _after(line, depth, quote)
    return lines


def _split(dotted: str) -> KeyPath:
    """Read ``a."b c".d`` as TOML does."""
    value: object = tomllib.loads(f"{dotted} = 0")
    keys: list[str | int] = []
    while isinstance(value, dict):
        key, value = next(iter(value.items()))
        keys.append(key)
    return tuple(keys)


def _after(line: str, depth: int, quote: str) -> tuple[int, str]:
    """Return the bracket depth and the open multi-line quote after a line."""
    at = 0
    while at < len(line):
        character = line[at]
        if quote:
            if character == "\\" and quote[0] == '"':
                at += 2
            elif line.startswith(quote, at):
                at += len(quote)
                # A long string may end in one or two quotation marks of its own, before the three that close it.
                while len(quote) == 3 and line.startswith(quote[0], at):
                    at += 1
                quote = ""
            else:
                at += 1
            continue
        if character == "#":
            break
        if character in "\"'":
            quote = character * 3 if line.startswith(character * 3, at) else character
            at += len(quote)
            continue
        depth += (character in "[{") - (character in "]}")
        at += 1
    return depth, quote if len(quote) == 3 else ""
