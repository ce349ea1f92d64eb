"""How a column of text becomes features: the options, checked. Nothing heavy is imported."""

from dataclasses import dataclass
from typing import Final

from cu_cert._toml import require

KINDS: Final = ("words", "characters", "tokens")
_NGRAMS: Final = {"words": (1, 1), "characters": (3, 5), "tokens": (1, 1)}
_MOST_NGRAMS: Final = {"words": 4, "characters": 8}
_BUCKETS: Final = {"words": 2048, "characters": 2048, "tokens": 4096}
_MOST_BUCKETS: Final = {"words": 2**16, "characters": 2**16, "tokens": 2**20}
_LENGTH: Final = 64
_MOST_LENGTH: Final = 4096


@dataclass(frozen=True, kw_only=True)
class TextFeatures:
    """What a text becomes.

    Args:
        kind: ``words`` or ``characters`` (a bag of hashed runs), or ``tokens`` (a sequence of hashed words).
        ngrams: Fewest and most units of a run.
        buckets: Features of a bag; different token numbers.
        length: Numbers of a sequence.
    """

    kind: str
    ngrams: tuple[int, int]
    buckets: int
    length: int

    @property
    def width(self) -> int:
        """Features of a record."""
        return self.length if self.kind == "tokens" else self.buckets


def text_features(
    kind: str | None, ngrams: tuple[int, int] | None, buckets: int | None, length: int | None
) -> TextFeatures:
    """Return what the keys ``text``, ``ngrams``, ``text_buckets`` and ``text_length`` of ``[data]`` ask for.

    Args:
        kind: ``None`` for words.
        ngrams: ``None`` for the kind's usual; tokens take none.
        buckets: ``None`` for the kind's usual.
        length: ``None`` for the usual; bags take none.

    Raises:
        ConfigError: A value is out of range, or does not belong to the kind.
    """
    what = kind or KINDS[0]
    require(what in KINDS, "[data] text", what, '"words", "characters" or "tokens"')
    if what == "tokens":
        require(ngrams is None, "[data] ngrams", ngrams, 'no ngrams: text = "tokens" is a sequence of single words')
    else:
        most = _MOST_NGRAMS[what]
        low, high = ngrams or _NGRAMS[what]
        expected = f'two whole numbers from 1 to {most}, the smaller first, for text = "{what}"'
        require(1 <= low <= high <= most, "[data] ngrams", (low, high), expected)
        require(length is None, "[data] text_length", length, f'no text_length: text = "{what}" is a bag')
    size, most = _BUCKETS[what] if buckets is None else buckets, _MOST_BUCKETS[what]
    require(2 <= size <= most, "[data] text_buckets", size, f'2 to {most} for text = "{what}"')
    words = _LENGTH if length is None else length
    require(1 <= words <= _MOST_LENGTH, "[data] text_length", words, f"1 to {_MOST_LENGTH}")
    return TextFeatures(kind=what, ngrams=ngrams or _NGRAMS[what], buckets=size, length=words)
