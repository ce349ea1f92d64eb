"""The words of the report: one table of texts a language, read from ``cu_templates/strings``.

A text is named by a dotted key, for example ``verdict.REFUTED.headline``, and may hold names in braces. Numbers are
never localised: the page shows the digits that were signed. Sentences that the program itself wrote into a certificate
(reasons, names of metrics, notes) are English; the section ``known`` holds them as patterns, so that a page in another
language can say them in its own words. What fits no pattern is shown as it is and marked as English.
"""

import functools
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Final

from markupsafe import Markup, escape

from cu_certificates._fields import NOT_STATED, visible
from cu_certificates.check.strict import Rejected

LANGUAGES: Final = ("en", "de", "fr")
ENGLISH: Final = "en"

_TIME: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:T([0-9]{2}:[0-9]{2})(?::[0-9]{2})?Z)?")
_PERCENT: Final = re.compile(r"(?<=[0-9}]) (?=%)")
# French sets a blank before these; none of them may begin a line.
_FRENCH: Final = re.compile(r" (?=[:;?!»])|(?<=«) ")
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9 ,./-]")
_CODE: Final = re.compile(r"`([^`]+)`")
_STRONG: Final = re.compile(r"\*\*(.+?)\*\*")

# Where one clause of a note ends and the next begins.
_CLAUSES: Final = re.compile(r"(; |\. (?=Between: |Not shown: |p = ))")
_LONGEST: Final = 600
"""Characters of a text that is compared with the known ones; nothing of ours is longer."""
_NUMBER: Final = r"-?[0-9][0-9.,/e+-]{0,15}"
# What a name in a known text may stand for; others stand for a few words.
_STANDS_FOR: Final = {"question": r"[a-z]{1,20}", "claim": r"[A-Za-z0-9_.-]{1,60}", "said": r".{1,500}?"}
_NUMERIC: Final = re.compile(r"[nxp]|(?:n|x|p)_[a-z]+")


class Wording:
    """The texts of one language.

    Args:
        code: ``en``, ``de`` or ``fr``.
        texts: Text by key; lists of paragraphs have keys that end in ``.0``, ``.1`` and so on.
    """

    def __init__(self, code: str, texts: Mapping[str, str]) -> None:
        self.code = code
        self.texts = texts

    def __call__(self, key: str, /, **values: object) -> str:
        """Return a text with its names filled in; Markup where one of the values is."""
        return self._filled(self.texts[key], values)

    def html(self, key: str, /, **values: object) -> Markup:
        """Return a text for HTML: words between backticks as code, words between double asterisks in bold."""
        marked = _CODE.sub(r"<code>\1</code>", str(escape(self.texts[key])))
        return Markup(_STRONG.sub(r"<strong>\1</strong>", marked)).format_map(self._values(values))

    def css(self, key: str, /, **values: object) -> Markup:
        """Return a text for a string in a style sheet, where references of HTML mean nothing."""
        # The blank ends the escape; without it, one that belongs to the text would.
        return Markup(_NOT_PLAIN.sub(lambda found: f"\\{ord(found[0]):06x} ", self(key, **values)))

    def named(self, group: str, name: str, /, **values: object) -> str | None:
        """Return the text of a word of the format in its group, ``None`` for a word that has none."""
        found = self.texts.get(f"{group}.{name}")
        return None if found is None else self._filled(found, values)

    def word(self, group: str, name: str) -> str:
        """Return the text of a word of the format, or the word itself where it has none."""
        found = self.named(group, name)
        return name if found is None else found

    def paragraphs(self, group: str, name: str, /, **values: object) -> tuple[str, ...]:
        """Return the paragraphs of a list of texts."""
        return tuple(self._filled(said, values) for _, said in _numbered(self.texts, f"{group}.{name}"))

    def table(self, group: str) -> tuple[tuple[str, str], ...]:
        """Return name and text of every entry of a group, in the order of the file."""
        return tuple(
            (key[len(group) + 1 :], said) for key, said in self.texts.items() if key.rpartition(".")[0] == group
        )

    def glossary(self) -> tuple[tuple[str, str], ...]:
        """Return terms and meanings, by the alphabet."""
        terms = [(self.texts[key], self.texts[f"{key[:-5]}.text"]) for key in self.texts if _is_term(key)]
        return tuple(sorted(terms, key=lambda entry: _plain_letters(entry[0])))

    def date(self, value: str) -> str:
        """Return a date or an RFC 3339 time in words, for example ``20 November 2026, 18:00 UTC``; else the value."""
        found = _TIME.fullmatch(value)
        if not found or not 1 <= int(found[2]) <= 12:
            return value
        day = self("date.first") if found[3] == "01" else str(int(found[3]))
        parts = {"day": day, "month": self.texts[f"date.m{found[2]}"], "year": found[1]}
        return self("date.time", time=found[4], **parts) if found[4] else self("date.day", **parts)

    def shown(self, value: object) -> object:
        """Return what the page shows for a value of the predicate: a missing one is said in words."""
        if type(value) is str:
            return self.texts["word.not_stated"] if value == NOT_STATED else visible(value)
        return Markup(visible(value)) if isinstance(value, Markup) else value

    def known(self, said: str) -> str:
        """Return a sentence of ours in this language, without markup; one that is not known stays as it is."""
        if said == NOT_STATED:
            return self.texts["word.not_stated"]
        found = None if self.code == ENGLISH else self._known(said, plain=True)
        return said if found is None else found

    def told(self, said: str) -> str:
        """Return a sentence of ours in this language; what is not known is marked as English.

        Where the whole is not known, its clauses are looked up one by one.
        """
        if self.code == ENGLISH:
            return said
        whole = self._known(said)
        if whole is not None:
            return whole
        parts = _CLAUSES.split(said) if len(said) <= 10 * _LONGEST else [said]
        if len(parts) == 1:
            return self.foreign(said, ENGLISH)
        # Every other part is what stood between two clauses.
        joints = {"; ": self.texts["word.clauses"]}
        return Markup("").join(
            joints.get(part, part) if index % 2 else self._clause(part) for index, part in enumerate(parts)
        )

    def foreign(self, said: str, language: str) -> str:
        """Mark free text that is in another language than the page, so that it is read aloud as what it is."""
        if said == NOT_STATED or language == self.code:
            return said
        return Markup('<span lang="{}">{}</span>').format(language, visible(said))

    def free(self, said: str, language: str) -> str:
        """Return text that the issuer may have written: a sentence of ours is said in words, the rest is marked.

        Args:
            said: The text.
            language: The language in which the certificate was issued.
        """
        found = self._known(said)
        return self.foreign(said, language) if found is None else found

    def _clause(self, clause: str) -> str:
        found = self._known(clause)
        return self.foreign(clause, ENGLISH) if found is None else found

    def _known(self, said: str, *, plain: bool = False) -> str | None:
        if len(said) > _LONGEST:
            return None
        for key, pattern in _patterns():
            if found := pattern.fullmatch(said):
                values = {name: self._part(name, part, plain=plain) for name, part in found.groupdict().items()}
                return self._filled(self.texts[key], values)
        return None

    def _part(self, name: str, said: str, *, plain: bool) -> str:
        match name:
            case "question":
                return self.word("question_low", said)
            case "said":
                return self.known(said) if plain else self.told(said)
            case _:
                return said

    def _values(self, values: Mapping[str, object]) -> dict[str, object]:
        return {name: self.shown(value) for name, value in values.items()}

    def _filled(self, said: str, values: Mapping[str, object]) -> str:
        if any(isinstance(value, Markup) for value in values.values()):
            return escape(said).format_map(self._values(values))
        return said.format_map(self._values(values))


@functools.cache
def wording(code: str = ENGLISH) -> Wording:
    """Return the texts of a language.

    Args:
        code: One of :data:`LANGUAGES`.
    """
    source = resources.files("cu_templates") / "strings" / f"{code}.toml"
    read = tomllib.loads(source.read_text(encoding="utf-8"))
    return Wording(code, {key: _set_blanks(said, code) for key, said in flat(read)})


def language_of(predicate: Mapping[str, Any]) -> str:
    """Return the language in which a certificate was issued.

    Raises:
        Rejected: It is none that the report can be written in.
    """
    value = predicate.get("language")
    if value is None:
        return ENGLISH
    others = tuple(code for code in LANGUAGES if code != ENGLISH)
    if value not in others:
        raise Rejected(f"language: {value!r}; expected one of {', '.join(others)}, or no such field for English")
    return str(value)


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a table of tables with its dotted key; a list of texts gets the keys 0, 1 and so on."""
    for name, value in table.items():
        key = f"{prefix}{name}"
        match value:
            case str():
                yield key, value
            case dict():
                yield from flat(value, f"{key}.")
            case list():
                yield from ((f"{key}.{index}", said) for index, said in enumerate(value))
            case _:
                raise TypeError(f"strings: {key} is {type(value).__name__}; expected a text")


@functools.cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Return the English sentences of the program as patterns, the longest first: it says most."""
    known = wording(ENGLISH)
    entries = [(key, said) for key, said in known.texts.items() if key.startswith("known.")]
    entries.sort(key=lambda entry: -len(entry[1]))
    return tuple((key, re.compile(_pattern(said.replace("\u00a0", " ")), re.DOTALL)) for key, said in entries)


def _pattern(said: str) -> str:
    parts: list[str] = []
    for index, piece in enumerate(re.split(r"\{([a-z_]+)\}", said)):
        if index % 2 == 0:
            parts.append(re.escape(piece))
        else:
            what = _NUMBER if _NUMERIC.fullmatch(piece) else _STANDS_FOR.get(piece, r"[^;]{1,80}?")
            parts.append(f"(?P<{piece}>{what})")
    return "".join(parts)


def _numbered(texts: Mapping[str, str], key: str) -> Iterator[tuple[str, str]]:
    index = 0
    while (said := texts.get(f"{key}.{index}")) is not None:
        yield key, said
        index += 1


def _is_term(key: str) -> bool:
    return key.startswith("glossary.") and key.endswith(".term")


def _plain_letters(said: str) -> str:
    """Return letters without accents and case, for sorting."""
    return "".join(one for one in unicodedata.normalize("NFKD", said.casefold()) if not unicodedata.combining(one))


def _set_blanks(said: str, code: str) -> str:
    """Make the blanks unbreakable that must not end a line."""
    said = _PERCENT.sub("\u00a0", said)
    return _FRENCH.sub("\u00a0", said) if code == "fr" else said
