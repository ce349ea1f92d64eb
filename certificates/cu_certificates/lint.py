"""The two lints over files that are there already: what gives a person away, and what claims too much."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from cu_certificates._forbidden import LANGUAGES, forbidden_in
from cu_certificates._passages import Passage, Source, files_below, read_source
from cu_certificates.errors import UsageError
from cu_certificates.privacy import PATTERNS, Hit, IdIndex, file_name, patterns_in
from cu_certificates.seal import CERTIFICATE, DRAFT, REPORT

CARRIERS: Final = (CERTIFICATE, DRAFT, REPORT)


@dataclass(frozen=True, kw_only=True)
class Linted:
    """What a lint looked at and found.

    Args:
        hits: What was found, in the order of the files.
        files: Names of the files that were searched.
        not_text: Names of files that are no text; only their names were looked at.
        left_out: Folders for the owner alone, and links: not looked at.
        weak: Ids that are plain words, short or numeric: looked for in names only.
        ids: Ids that were looked for; ``None`` where no list was given.
    """

    hits: tuple[Hit, ...]
    files: tuple[str, ...]
    not_text: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    weak: int = 0
    ids: int | None = None


def lint_privacy(
    path: Path, *, ids: IdIndex | None = None, hostnames: Iterable[str] = (), accepted: Collection[str] = ()
) -> Linted:
    """Look for ids of a request, and for what may point to a person or a machine.

    Args:
        path: A file, or the folder of a certificate; folders named ``private`` in it are not looked into.
        ids: The request's ids; without them only patterns are looked for.
        hostnames: Names of machines that must not appear.
        accepted: Kinds of :data:`~cu_certificates.privacy.PATTERNS` that somebody has looked at already.

    Raises:
        UsageError: A file cannot be read, or ``accepted`` names an unknown kind.
    """
    if unknown := sorted(set(accepted) - set(PATTERNS)):
        raise UsageError(f"accepted kind {unknown[0]!r}; expected {', '.join(PATTERNS)}; ids are never accepted")
    kinds, names = [kind for kind in PATTERNS if kind not in accepted], tuple(hostnames)
    files, left_out = files_below(path)
    predicate = _certificate_in(files)
    hits: list[Hit] = []
    searched: list[str] = []
    not_text: list[str] = []
    for file, name in files:
        own, told = file_name(name), name if ids is None else ids.covered(name)
        source = read_source(file, told)
        (not_text if source is None else searched).append(told)
        for found in (own, source):
            if found is not None:
                hits += _ids_in(found, ids) + patterns_in(found, hostnames=names, kinds=kinds, predicate=predicate)
    return Linted(
        hits=tuple(hits),
        files=tuple(searched),
        not_text=tuple(not_text),
        left_out=tuple(left_out),
        weak=0 if ids is None else ids.weak,
        ids=None if ids is None else len(ids.listed),
    )


def _ids_in(source: Source, ids: IdIndex | None) -> list[Hit]:
    return [] if ids is None else [hit for passage in source.passages for hit in ids.hits(passage)]


def _certificate_in(files: list[tuple[Path, str]]) -> dict[str, Any] | None:
    """Return what a folder's certificate says, so that what it states on purpose is known in every file."""
    for file, name in files:
        if Path(name).name in CARRIERS and (found := read_source(file, name)) is not None and found.predicate:
            return found.predicate
    return None


def _paragraphs(lines: Iterable[Passage]) -> Iterator[Passage]:
    """Yield lines of running text joined into paragraphs, each at the place of its first line."""
    for empty, found in groupby(lines, key=lambda line: not line.text.strip()):
        if not empty:
            paragraph = list(found)
            yield replace(paragraph[0], text="\n".join(line.text for line in paragraph))


def lint_wording(path: Path, *, languages: Iterable[str] = LANGUAGES) -> Linted:
    """Look for phrases that claim more than an audit can show, in what a reader of the file sees.

    Args:
        path: A page of HTML, or any text file.
        languages: Whose lists are held against it.

    Raises:
        UsageError: The file cannot be read or is no text, or a language is unknown.
    """
    chosen = tuple(languages)
    if unknown := sorted(set(chosen) - set(LANGUAGES)):
        raise UsageError(f"language {unknown[0]!r}; expected {', '.join(LANGUAGES)}")
    source = read_source(path, path.name)
    if source is None:
        raise UsageError(f"{str(path)!r}: is no text; give a page, a document or a certificate")
    hits = [
        Hit(kind="wording", file=path.name, place=passage.place, hint=f"{said.words!r}; say: {said.instead}")
        for passage in (_paragraphs(source.passages) if source.lines else source.passages)
        if passage.shown
        for said in forbidden_in(passage.text, chosen)
    ]
    return Linted(hits=tuple(hits), files=(path.name,))
