"""Text as numbers that depend on the text alone: hashed words, hashed runs of characters, or hashed word numbers.

There is no vocabulary and there are no inverse document frequencies. Both are learned from all records, so words of a
deleted record would live on in the features of every later model; a hash depends on no record.

What a text means, fixed by :data:`VERSION`:

- It is split at white space, and pieces longer than :data:`PIECE` characters are cut. Each piece is brought to the form
  NFKC of Unicode, case folded, and brought to NFKC again. Format characters (soft hyphen, joiners) are dropped; every
  other character that is no letter, mark or number divides words. Markup is not known: ``<br />`` is the word ``br``.
- u(word) is BLAKE2b of its UTF-8, eight bytes, personalised by the version, the lowest byte first. Characters have a
  hash of the same kind; there the words stand joined by single spaces, with one at both ends.
- The hash of a run of units is h(u1) = u1, h(u1 ... uk) = mix(FACTOR h(u1 ... uk-1) + uk) modulo 2^64, where mix is the
  finaliser of SplitMix64 (Steele, Lea and Flood 2014).
- Bags: with s_b the sum of the signs (highest bit of h: set is -1) of all runs with h mod buckets = b, a feature is
  sign(s_b) sqrt(|s_b| / sum |s|): signed hashing (Weinberger et al. 2009, arXiv 0902.2206) and square-root scaling,
  each record of length 1. Square roots and quotients are rounded correctly by every machine, which logarithms are not,
  so the bits are the same everywhere.
- Tokens: 1 + u mod buckets for each word, cut or filled with 0 to a fixed length.

Unicode grows: a character that was given a meaning after this Python's tables were made counts as none of these. Texts
without such characters have the same features under every version of Python.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt

from cu_cert.data._text_options import TextFeatures

VERSION: Final = b"cu-cert/text/1"
"""Enters every hash: another meaning of a text needs another version, and gives other features."""

FACTOR: Final = 0x9E3779B97F4A7C15
PIECE: Final = 1024
"""Longest piece in characters that is normalised at once; the time that takes may grow with the square."""

_CACHED_LENGTH: Final = 64
_CACHED_PIECES: Final = 1 << 20
_CELLS: Final = 1 << 22
"""Numbers that are held in double precision at once."""

Hashes = npt.NDArray[np.uint64]


class _Table(dict[int, int | None]):
    """What :meth:`str.translate` makes of a character: letters, marks and numbers stay, all others divide words."""

    def __missing__(self, code: int) -> int | None:
        kind = unicodedata.category(chr(code))
        found = code if kind[0] in "LMN" else None if kind == "Cf" else 0x20
        self[code] = found
        return found


_TABLE: Final = _Table()


def words_of(text: str) -> Iterator[str]:
    """Yield the normalised words of a text."""
    for piece in _pieces(text):
        yield from _words(piece)


def _pieces(text: str) -> Iterator[str]:
    for piece in text.split():
        if len(piece) <= PIECE:
            yield piece
        else:
            yield from (piece[start : start + PIECE] for start in range(0, len(piece), PIECE))


def _words(piece: str) -> list[str]:
    if piece.isascii():
        return piece.lower().translate(_TABLE).split()
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", piece).casefold())
    return plain.translate(_TABLE).split()


def unit_hash(unit: str) -> int:
    """Return the hash of a word or of a character, below 2^64."""
    # What a piece was cut at may be half of something; a text may hold what no UTF-8 can.
    raw = unit.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(raw, digest_size=8, person=VERSION).digest(), "little")


class TextReader:
    """Turns texts into features; hashes of pieces that were met before are kept.

    Args:
        features: What is wanted.
    """

    def __init__(self, features: TextFeatures) -> None:
        self.features = features
        self._known: dict[str, tuple[int, ...]] = {}
        self._letters: dict[int, int] = {}

    def read(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the features of some texts, shape (n, width)."""
        width = self.features.width
        found = np.zeros((len(texts), width), dtype=np.float32)
        if self.features.kind == "tokens":
            for row, text in enumerate(texts):
                hashes = np.fromiter(self._first(text, width), dtype=np.uint64)
                found[row, : len(hashes)] = 1 + hashes % np.uint64(self.features.buckets)
            return found
        step = max(1, _CELLS // width)
        for start in range(0, len(texts), step):
            part = texts[start : start + step]
            found[start : start + len(part)] = self._bags([self._units(text) for text in part])
        return found

    def _first(self, text: str, most: int) -> list[int]:
        hashes: list[int] = []
        for piece in _pieces(text):
            hashes += self._hashes(piece)
            if len(hashes) >= most:
                break
        return hashes[:most]

    def _units(self, text: str) -> Hashes:
        if self.features.kind == "words":
            found = chain.from_iterable(self._hashes(piece) for piece in _pieces(text))
            return np.fromiter(found, dtype=np.uint64)
        joined = f" {' '.join(words_of(text))} "
        codes, places = np.unique(np.frombuffer(joined.encode("utf-32-le"), dtype="<u4"), return_inverse=True)
        return np.array([self._letter(int(code)) for code in codes], dtype=np.uint64)[places]

    def _letter(self, code: int) -> int:
        if code not in self._letters:
            self._letters[code] = unit_hash(chr(code))
        return self._letters[code]

    def _hashes(self, piece: str) -> tuple[int, ...]:
        known = self._known.get(piece)
        if known is None:
            known = tuple(unit_hash(word) for word in _words(piece))
            if len(piece) <= _CACHED_LENGTH:
                if len(self._known) >= _CACHED_PIECES:
                    self._known.clear()
                self._known[piece] = known
        return known

    def _bags(self, units: list[Hashes]) -> npt.NDArray[np.float32]:
        """Return one bag a text, shape (n, buckets)."""
        count, buckets = len(units), self.features.buckets
        row = np.repeat(np.arange(count), [len(each) for each in units])
        single = np.concatenate(units)
        sums = np.zeros(count * buckets)
        low, high = self.features.ngrams
        run = single
        for length in range(1, high + 1):
            if length > 1:
                run = mix(run[:-1] * np.uint64(FACTOR) + single[length - 1 :])
            if length >= low:
                within = row[: len(run)] == row[length - 1 :]
                place = row[: len(run)] * buckets + (run % np.uint64(buckets)).astype(np.int64)
                sign = np.where(run >> np.uint64(63), -1.0, 1.0)
                sums += np.bincount(place[within], weights=sign[within], minlength=len(sums))
        table = sums.reshape(count, buckets)
        total = np.abs(table).sum(axis=1, keepdims=True)
        found: npt.NDArray[np.float32] = (np.sign(table) * np.sqrt(np.abs(table) / np.maximum(total, 1))).astype("f4")
        return found


def mix(values: Hashes) -> Hashes:
    """Return the finaliser of SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
