"""The table ``[data]``: where the records come from and which of them are held out."""

import re
from dataclasses import dataclass, field, fields
from fractions import Fraction

from cu_cert._toml import exact, option, require, texts, whole
from cu_cert._toml import text as word
from cu_cert.data._sources import SOURCES, Source, owners, shown_sources, source_of
from cu_cert.data._text_options import TextFeatures, text_features

_LISTED = frozenset(key for kind in SOURCES for key in kind.keys)


def size(value: object) -> tuple[int, int]:
    """Read ``[height, width]``."""
    match value:
        case [int(height), int(width)] if not isinstance(height, bool) and not isinstance(width, bool):
            return height, width
    raise ValueError("a height and a width in pixels, such as [28, 28]")


def lengths(value: object) -> tuple[int, int]:
    """Read ``[fewest, most]``."""
    match value:
        case [int(low), int(high)] if not isinstance(low, bool) and not isinstance(high, bool):
            return low, high
    raise ValueError("the fewest and the most units of a run, such as [1, 2]")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the records come from and which of them are held out.

    Args:
        source: ``digits``, a path whose end names its format, a prefix and a path, or ``python:module:factory``; the
            table :data:`~cu_cert.data._sources.SOURCES` lists all.
        ids: Names for records that have none of their own: ``content``, ``row``, or the path of a list.
        id_column: Tables: column of the record ids.
        label_column: Tables: column of the class names.
        numeric: Tables: columns read as numbers.
        categorical: Tables: columns hashed into ``buckets`` 0/1 features each.
        buckets: Width of one categorical column, 2 to 4096.
        missing: Tables: words that stand for no value; naming any allows cells without a value.
        text_column: Tables: the column of texts.
        text: What a text becomes: ``words``, ``characters`` or ``tokens``; see :mod:`cu_cert.data._text`.
        ngrams: Fewest and most words or characters of a run.
        text_buckets: Features of a bag, or different token numbers.
        text_length: Tokens of a record.
        columns: CSV: names of the columns of a file without a header.
        labels: idx: the file of labels, where its name is not that of the images.
        class_folder: Image folders: which folder of an image's path names its class.
        image_size: Image folders: height and width to which images are scaled, 1 to 4096 each.
        channels: Image folders: 1 or 3.
        classes: Declared class names, in the order of the model's outputs; empty = taken from the data.
        holdout: A share of the records in (0, 1), the beginning of ids with a slash at its end, or the path of an id
            list.
        holdout_seed: Key of the hash that chooses a share.

    Raises:
        ConfigError: A value lies out of range, or the options do not belong together.
    """

    source: str = field(
        default="digits",
        metadata=option(
            word,
            'Where the records come from: "digits" (1797 small images, built in), a path that ends in .npz, .csv, '
            '.parquet, .jsonl (also .gz) or ubyte (idx, also .gz), "images:FOLDER", or "python:module:factory" for a '
            "function in a module beside this file that returns (ids, x, y, classes). A prefix such as csv: names the "
            "format of a path with another end. Every record needs an id of its own that never changes: requests, "
            "splits and training orders go by id, never by row number.",
        ),
    )
    ids: str | None = field(
        default=None,
        metadata=option(
            word,
            'Tables, npz and idx without ids of their own: "content" names each record by a digest of what it holds '
            "(equal records get a counter), a path names a file with one id a line in the order of the records, and "
            '"row" numbers them. Row numbers change when a record is removed from the file: with "row", never edit '
            "the file again.",
            example="content",
        ),
    )
    id_column: str | None = field(
        default=None,
        metadata=option(word, "Tables (CSV, Parquet, JSON lines): the column of the record ids.", example="id"),
    )
    label_column: str | None = field(
        default=None, metadata=option(word, "Tables: the column of the class names.", example="label")
    )
    numeric: tuple[str, ...] = field(
        default=(),
        metadata=option(texts, "Tables: columns that are read as numbers.", example=["age", "hours"]),
    )
    categorical: tuple[str, ...] = field(
        default=(),
        metadata=option(
            texts,
            "Tables: columns of words. Each word is hashed to one of `buckets` 0/1 features. A vocabulary collected "
            "from the data would carry words of deleted records into every later model; a hash depends on no record.",
            example=["occupation"],
        ),
    )
    buckets: int = field(
        default=8,
        metadata=option(
            whole, "Tables: 0/1 features for each categorical column. Words that meet in a bucket look alike."
        ),
    )
    missing: tuple[str, ...] = field(
        default=(),
        metadata=option(
            texts,
            "Tables: words that stand for no value. With at least one, cells without a value are allowed (empty, NaN "
            "and null ones too), and every feature column gets one more 0/1 feature that says so; without it they "
            "are errors. Nothing is filled in from other records.",
            example=["?"],
        ),
    )
    text_column: str | None = field(
        default=None,
        metadata=option(
            word,
            "Tables: the column of texts. They are hashed without a vocabulary, so nothing is learned from any record.",
            example="review",
        ),
    )
    text: str | None = field(
        default=None,
        metadata=option(
            word,
            'What a text becomes: "words" (a bag of hashed words; the default), "characters" (a bag of hashed runs of '
            'characters, for writing without spaces), or "tokens" (a sequence of word numbers, for the recipe '
            '"transformer").',
            example="tokens",
        ),
    )
    ngrams: tuple[int, int] | None = field(
        default=None,
        metadata=option(
            lengths,
            "Bags: the fewest and the most words or characters of a run. Without it single words, and 3 to 5 "
            "characters.",
            example=[1, 2],
        ),
    )
    text_buckets: int | None = field(
        default=None,
        metadata=option(
            whole,
            "Features of a bag (2048), or different numbers of tokens (4096). More tell more words apart and take more "
            "memory: a bag takes 4 bytes a feature and record.",
            example=4096,
        ),
    )
    text_length: int | None = field(
        default=None,
        metadata=option(whole, "Tokens of a record (64): longer texts are cut, shorter ones filled up.", example=128),
    )
    columns: tuple[str, ...] = field(
        default=(),
        metadata=option(
            texts, "CSV: names for the columns of a file without a header line.", example=["age", "job", "label"]
        ),
    )
    labels: str | None = field(
        default=None,
        metadata=option(
            word,
            "idx: the file of labels. Without it, it stands beside the images under the name that MNIST gave it.",
            example="train-labels-idx1-ubyte",
        ),
    )
    class_folder: str | None = field(
        default=None,
        metadata=option(
            word,
            'Image folders: which folder names the class of an image: "first" (below the root; the default), "last" '
            '(the one the image lies in), or "path" (all of them, such as Greek/character01).',
            example="last",
        ),
    )
    image_size: tuple[int, int] | None = field(
        default=None,
        metadata=option(
            size,
            "Image folders: height and width to which every image is scaled. Without it all must have one size.",
            example=[32, 32],
        ),
    )
    channels: int | None = field(
        default=None,
        metadata=option(
            whole, "Image folders: 1 (grey) or 3 (colour). Without it all must be grey or all coloured.", example=3
        ),
    )
    classes: tuple[str, ...] = field(
        default=(),
        metadata=option(
            texts,
            "Class names in the order of the model's outputs. Without it they are taken from the data; declare them "
            "when a deletion could remove the last record of a class.",
            example=["no", "yes"],
        ),
    )
    holdout: str = field(
        default="1/5",
        metadata=option(
            word,
            "Records that are never trained on, for accuracy and comparison: a share of the records, chosen by a "
            "keyed hash of the id so that adding or removing a record moves no other; the beginning of their ids, "
            'such as "t10k/" or "test/"; or the path of a file with one id a line.',
        ),
    )
    holdout_seed: str = field(
        default="cu-cert", metadata=option(word, "Key of that hash; another key holds out other records.")
    )

    def __post_init__(self) -> None:
        require(source_of(self.source) is not None, "[data] source", self.source, shown_sources())
        require(2 <= self.buckets <= 4096, "[data] buckets", self.buckets, "2 to 4096")
        self._check_owners()
        self._check_columns()
        self._check_text()
        require(self.channels in (None, 1, 3), "[data] channels", self.channels, "1 or 3")
        sizes = self.image_size or (1, 1)
        require(all(1 <= side <= 4096 for side in sizes), "[data] image_size", sizes, "two sizes from 1 to 4096")
        levels = ("first", "last", "path")
        require(
            self.class_folder in (None, *levels), "[data] class_folder", self.class_folder, '"first", "last" or "path"'
        )
        require(len(self.classes) != 1, "[data] classes", self.classes, "at least 2 names, or none")
        share = self.holdout_share
        require(share is None or 0 < share < 1, "[data] holdout", self.holdout, "a share above 0 and below 1")
        start = self.holdout_start
        require(start != "/", "[data] holdout", self.holdout, 'the beginning of ids, such as "test/"')

    def _check_owners(self) -> None:
        """Refuse keys that say nothing about this source, and demand those without which it cannot be read."""
        kind = self.kind
        defaults = {entry.name: entry.default for entry in fields(self)}
        for key in sorted(_LISTED):
            value = getattr(self, key)
            require(
                key in kind.keys or value == defaults[key],
                f"[data] {key}",
                value,
                f"no {key}: the source is not {owners(key)}",
            )
        for group in kind.needed:
            given = [key for key in group if getattr(self, key)]
            wanted = " or ".join(group)
            require(bool(given), f"[data] {group[0]}", "", f"a value for {wanted}: the source is {kind.shown}")
            require(len(given) < 2, f"[data] {group[-1]}", getattr(self, group[-1]), f"only one of {wanted}")

    def _check_columns(self) -> None:
        taken: set[str | None] = set()
        roles = [("id_column", self.id_column), ("label_column", self.label_column)]
        roles += [("numeric", column) for column in self.numeric]
        roles += [("categorical", column) for column in self.categorical]
        roles.append(("text_column", self.text_column))
        for key, column in roles:
            require(column is None or column not in taken, f"[data] {key}", column, "a column that has no other role")
            taken.add(column)

    def _check_text(self) -> None:
        found = self.text_features
        for key in ("text", "ngrams", "text_buckets", "text_length"):
            value = getattr(self, key)
            require(bool(found) or value is None, f"[data] {key}", value, f"no {key}: text_column names no column")
        for key in ("numeric", "categorical"):
            value = getattr(self, key)
            alone = found is None or found.kind != "tokens" or not value
            require(alone, f"[data] {key}", value, f'no {key}: text = "tokens" makes sequences, which stand alone')

    @property
    def text_features(self) -> TextFeatures | None:
        """What a text becomes; ``None`` when there is no column of texts."""
        if self.text_column is None:
            return None
        return text_features(self.text, self.ngrams, self.text_buckets, self.text_length)

    @property
    def kind(self) -> Source:
        """The kind of the source."""
        found = source_of(self.source)
        assert found is not None  # __post_init__ refuses the others
        return found

    @property
    def path(self) -> str:
        """The source without its prefix: a path, for sources that have one."""
        return self.kind.path(self.source)

    @property
    def holdout_start(self) -> str | None:
        """The beginning of the ids to hold out, or ``None`` when ``holdout`` is something else."""
        return self.holdout if self.holdout.endswith("/") else None

    @property
    def holdout_share(self) -> Fraction | None:
        """The share to hold out, or ``None`` when ``holdout`` is a file."""
        if not re.fullmatch(r"[0-9]+(?:[./][0-9]+)?", self.holdout):
            return None
        try:
            share = exact(self.holdout)
        except ValueError as error:
            require(False, "[data] holdout", self.holdout, str(error))
        assert isinstance(share, Fraction)
        return share


def ordered(names: set[str]) -> tuple[str, ...]:
    """Return class names found in data in an order that a person expects: as numbers where all are numbers."""
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))
