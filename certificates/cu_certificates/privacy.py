"""What must not stand in anything that is handed on: ids of a forget request, and what points to a person or machine.

Ids are compared with the list itself, as whole words: letter case, Unicode form and white space at the ends do not
matter. What is compared depends on the id, because a search that always hits is as useless as one that never does:

* a *distinctive* id (an e-mail address, a code of letters and digits, two words, nine digits or more) is looked for in
  every text, and so are its plain SHA-256, SHA-1 and MD5 hashes, which anyone can recompute from a list of guesses;
* a *plain word* ("smith") is looked for in the names that people chose (model, data, method, controller, files), not in
  our own sentences, which hold thousands of words;
* a *short or numeric* id ("7", "0042") must be the whole of such a name, or of a file's name, to count.

Numbers in JSON are never taken for ids. An id that is cut, joined to other letters, encoded or encrypted is not found.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Final

from cu_certificates._passages import Passage, Source
from cu_certificates.check.main import plain as clean
from cu_certificates.errors import UsageError

FORGET_ID: Final = "forget-id"
FORGET_HASH: Final = "forget-id-hash"
COVERED: Final = "(a name that holds an id)"

_RUN: Final = re.compile(r"[^\W_]+")
_HEX: Final = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})(?![0-9a-f])")
_WORD: Final = re.compile(r"[^\W\d_]+(?:[-_.'’ ]?[^\W\d_]+)?")
_DIGITS: Final = re.compile(r"[0-9][0-9 ./_-]*")
_SUFFIX: Final = re.compile(r"(?:\.[a-z][a-z0-9]{0,9})+$")  # of a file's name; "0.5" has none

# The digits of a decimal or a fraction are a number, not an id: "0.123456789" does not name customer 123456789.
_JOINED: Final = ".,/"

CHOSEN: Final = (
    "predicate.auditor.name",
    "predicate.controller.*",
    "predicate.affirmation.*",
    "predicate.governance.*",
    "predicate.scope.model.name",
    "predicate.scope.data.source",
    "predicate.scope.recipe.name",
    "predicate.scope.recipe.parameters*",
    "predicate.scope.deployments*",
    "predicate.scope.derivatives*",
    "signing.excluded*",
    "predicate.request.regimes*",
    "predicate.unlearning.method",
    "predicate.unlearning.parameters*",
    "subject[[]*].name",
    "subjects[[]*].name",
    "subjects[[]*].method",
    "subjects[[]*].parameters*",
    "file name",
)
"""Places of names that people chose, as patterns of JSON paths of a statement or a plan."""

DECLARED: Final = ("auditor.name", "controller", "affirmation", "governance", "certificateId")
"""What a certificate says of named people and offices on purpose, and its own id: no lint by patterns looks there."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A place that gives something away.

    Args:
        kind: ``forget-id``, ``forget-id-hash``, or a key of :data:`PATTERNS`.
        file: The file.
        place: Where it stands there.
        hint: What was found, so that the owner finds it and nobody else learns it: for an id, where it is listed.
    """

    kind: str
    file: str
    place: str
    hint: str

    def __str__(self) -> str:
        return clean(f"{self.file}: {self.place}: {self.kind}: {self.hint}")


def even(text: str) -> str:
    """Return a text as ids are compared: compatible Unicode form, letter case folded, no white space at the ends."""
    return unicodedata.normalize("NFKC", text).casefold().strip()


@dataclass(frozen=True)
class IdIndex:
    """The ids of a request, ready to be looked for.

    Args:
        listed: Where each id is listed, by id; what stands there is printed, the id never.
    """

    listed: Mapping[str, str]

    @cached_property
    def _sorted(self) -> tuple[dict[str, list[tuple[str, int, str]]], dict[str, str], dict[str, str]]:
        """Distinctive ids by their first run of letters and digits, plain words, and short ones, by compared form."""
        distinct: dict[str, list[tuple[str, int, str]]] = {}
        words: dict[str, str] = {}
        short: dict[str, str] = {}
        for name, where in self.listed.items():
            plain = even(name)
            match kind_of_id(name):
                case "distinctive":
                    run = _RUN.search(plain)
                    assert run is not None  # it has letters or digits
                    distinct.setdefault(run[0], []).append((plain, run.start(), where))
                case "word":
                    words[plain] = where
                case _:
                    short[plain] = where
        return distinct, words, short

    @cached_property
    def _hashes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, where in self.listed.items():
            if kind_of_id(name) == "distinctive":
                for spelling in {name, name.strip(), name.strip().lower(), even(name)}:
                    raw = spelling.encode("utf-8", "replace")
                    for digest in (hashlib.sha256(raw), hashlib.sha1(raw), hashlib.md5(raw)):
                        found[digest.hexdigest()] = where
        return found

    @property
    def weak(self) -> int:
        """How many ids are plain words, short or numeric, and so not looked for in every text."""
        _, words, short = self._sorted
        return len(words) + len(short)

    def hits(self, passage: Passage) -> Iterator[Hit]:
        """Yield where a passage holds an id."""
        text = even(passage.text)
        distinct, words, short = self._sorted
        found = set(_distinct(text, distinct))
        if words or short:
            found |= set(_names(text, words, short, passage.place))
        hashed = {self._hashes[token] for token in _HEX.findall(text) if token in self._hashes}
        if not found and not hashed:
            return
        # A key may be the id itself, and the path to it must not tell.
        file, place = (self.covered(name) for name in (passage.file, passage.place))
        for where in sorted(found):
            yield Hit(kind=FORGET_ID, file=file, place=place, hint=f"the id listed at {where}")
        for where in sorted(hashed):
            yield Hit(kind=FORGET_HASH, file=file, place=place, hint=f"a plain hash of the id listed at {where}")

    def covered(self, name: str) -> str:
        """Return a name or path as it may be printed: not where it holds an id."""
        text = even(name)
        hashed = any(token in self._hashes for token in _HEX.findall(text))
        return COVERED if hashed or any(_distinct(text, self._sorted[0])) else name


def kind_of_id(name: str) -> str:
    """Return ``distinctive``, ``word`` or ``short``: where an id can be looked for (see this module)."""
    plain = even(name)
    if not _RUN.search(plain):
        return "short"
    if _DIGITS.fullmatch(plain):
        return "distinctive" if sum(character.isdigit() for character in plain) >= 9 else "short"
    if _WORD.fullmatch(plain) and not any(character.isspace() for character in plain):
        return "word" if len(plain) >= 3 else "short"
    return "distinctive" if len(plain) >= 5 else "short"


def _distinct(text: str, ids: Mapping[str, list[tuple[str, int, str]]]) -> Iterator[str]:
    if not ids:
        return
    for run in _RUN.finditer(text):
        for plain, offset, where in ids.get(run[0], ()):
            start = run.start() - offset
            if start >= 0 and text.startswith(plain, start) and _alone(text, start, start + len(plain)):
                yield where


def _alone(text: str, start: int, end: int) -> bool:
    """Whether no letter or digit touches the piece, and it is not part of a longer number."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if before.isalnum() or after.isalnum():
        return False
    if not text[start:end].isdigit():
        return True
    joined_before = start >= 2 and before in _JOINED and text[start - 2].isdigit()
    joined_after = end + 1 < len(text) and after in _JOINED and text[end + 1].isdigit()
    return not joined_before and not joined_after


def _names(text: str, words: Mapping[str, str], short: Mapping[str, str], place: str) -> Iterator[str]:
    if not any(fnmatchcase(place, pattern) for pattern in CHOSEN):
        return
    name = text.rsplit("/", 1)[-1]
    for whole in {text, name, _SUFFIX.sub("", name)}:
        if whole in short:
            yield short[whole]
        if whole in words:
            yield words[whole]
    for run in _RUN.findall(text):
        if run in words:
            yield words[run]


def require_no_ids(index: IdIndex, sources: Iterable[Source], *, done: str) -> None:
    """Refuse to go on when an id of the request stands in what would be handed on.

    Args:
        index: The ids.
        sources: What would be written, signed or copied.
        done: What was not done because of it, such as ``nothing was signed or written``.

    Raises:
        UsageError: An id, or a plain hash of one, was found.
    """
    hits = [hit for source in sources for passage in source.passages for hit in index.hits(passage)]
    if hits:
        more = f", and in {len(hits) - 1} further places" if len(hits) > 1 else ""
        first = hits[0]
        raise UsageError(
            f"{done}: {clean(first.file)} would hold {first.hint}, at {clean(first.place)}{more}; a certificate must "
            "name nobody of the request: give the model, data, method or folder another name, or take the name out of "
            "cu-cert.toml"
        )


def file_name(name: str) -> Source:
    """Return the name of a file or folder as something to look at."""
    return Source(name=name, passages=(Passage(file="an output", place="file name", text=name),))


# --- What points to a person or a machine, whoever it is -------------------------------------------------------------

_TOP: Final = (
    "com|org|net|edu|gov|mil|int|eu|de|fr|uk|ch|at|it|es|nl|io|dev|ai|app|cloud|local|internal|corp|lan|intranet"
)
_LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"

# Each begins only where a word begins, so that a long run of letters is read once and not once from each letter.
PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    kind: re.compile(pattern, re.IGNORECASE)
    for kind, pattern in {
        "e-mail": r"(?<![\w.%+-])[\w.%+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}",
        "phone": r"(?<![\w.+-])(?:\+[1-9]|00[1-9]|\(0[0-9]+\)|0[1-9][0-9]{1,4}[ /-])[0-9 ()/.-]{6,16}[0-9](?![\w-])",
        "digits": r"(?<![\w./,:-])(?:[0-9]{9,}|[0-9]{2,6}(?:[ -][0-9]{2,6}){2,6})(?![\w/:-]|[.,][0-9])",
        "uuid": r"(?<![\w-])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![\w-])",
        "path": r"(?:/home/|/Users/|/root/|/mnt/|/media/|file://|[a-z]:[\\/]Users[\\/]|\\\\)[^\s\"'<>]+",
        "host": rf"(?<![\w.@/-])(?:(?:{_LABEL}\.)+(?:{_TOP})|(?:[0-9]{{1,3}}\.){{3}}[0-9]{{1,3}})(?![\w-]|\.\w)",
    }.items()
}
"""What a lint by patterns looks for, by the name of the finding."""

_KNOWN_HOSTS: Final = ("in-toto.io", "schema.org", "cu-cert.example", "www.w3.org", "github.com")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_GEOMETRY: Final = re.compile(
    r"\((?:[a-z]+ (?:[dxyr]|[cxyr][xy12]|points|viewbox|transform|width|height|stroke-dasharray))\)$"
)
_FEWEST_DIGITS: Final = 9


def patterns_in(
    source: Source,
    *,
    hostnames: Iterable[str] = (),
    kinds: Iterable[str] = tuple(PATTERNS),
    predicate: Mapping[str, Any] | None = None,
) -> list[Hit]:
    """Find what may point to a person or a machine; a person must look at each.

    Args:
        source: A file.
        hostnames: Names of machines that must not stand in it.
        kinds: What to look for.
        predicate: The certificate to which the file belongs, where the file does not hold one itself.

    Returns:
        The hits in order. What a certificate says on purpose of its auditor, its controller and who answers for it is
        left out, wherever it is repeated.
    """
    declared = _declared(source.predicate or predicate or {})
    names = [name.casefold() for name in hostnames if len(name) > 5 and not name.isalpha()]
    found: list[Hit] = []
    for passage in source.passages:
        if _DIGEST.fullmatch(passage.text) or _GEOMETRY.search(passage.place):
            continue
        text = passage.text
        for value in declared:
            text = text.replace(value, " ")
        for kind in kinds:
            for match in PATTERNS[kind].finditer(text):
                if _telling(kind, match[0]):
                    place = masked(passage.place) if PATTERNS[kind].search(passage.place) else passage.place
                    found.append(Hit(kind=kind, file=passage.file, place=place, hint=masked(match[0])))
        if any(name in text.casefold() for name in names):
            found.append(Hit(kind="host", file=passage.file, place=passage.place, hint="the name of this machine"))
    return found


def _telling(kind: str, text: str) -> bool:
    if kind == "host":
        return text.casefold() not in _KNOWN_HOSTS
    if kind == "digits":
        day = re.fullmatch(r"(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}", text)
        return not day and sum(character.isdigit() for character in text) >= _FEWEST_DIGITS
    return True


def masked(text: str) -> str:
    """Return enough of a text to find it, and not the text."""
    return f"{text[:2]}... ({len(text)} characters)"


def _declared(predicate: Mapping[str, Any]) -> list[str]:
    """Return the strings that a certificate states on purpose, longest first."""
    found: set[str] = set()

    def collect(value: object) -> None:
        match value:
            case str() if value:
                found.add(value)
            case dict():
                for inner in value.values():
                    collect(inner)

    for path in DECLARED:
        value: Any = predicate
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        collect(value)
    return sorted(found | {name.removeprefix("urn:uuid:") for name in found}, key=len, reverse=True)
