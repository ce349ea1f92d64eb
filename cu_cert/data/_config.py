"""The table ``[data]``: where the records come from and which of them are held out."""

import re
from dataclasses import dataclass, field
from fractions import Fraction

from cu_cert._toml import exact, option, require, text, texts, whole


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the records come from and which of them are held out.

    Args:
        source: ``digits``, a path that ends in .npz or .csv, or ``python:module:factory``.
        id_column: CSV only: column of the record ids.
        label_column: CSV only: column of the class names.
        numeric: CSV only: columns read as numbers.
        categorical: CSV only: columns hashed into ``buckets`` 0/1 features each.
        buckets: Width of one categorical column, 2 to 4096.
        classes: Declared class names, in the order of the model's outputs; empty = taken from the data.
        holdout: A share of the records in (0, 1), or the path of an id list.
        holdout_seed: Key of the hash that chooses a share.

    Raises:
        ConfigError: A value lies out of range, or the options do not belong together.
    """

    source: str = field(
        default="digits",
        metadata=option(
            text,
            'Where the records come from: "digits" (1797 small images, built in), a path to a .npz or .csv file, or '
            '"python:module:factory" for a function in a module beside this file that returns (ids, x, y, classes). '
            "Every record needs an id of its own that never changes: requests, splits and training orders go by id, "
            "never by row number.",
        ),
    )
    id_column: str | None = field(
        default=None, metadata=option(text, "CSV only: the column of the record ids.", example="id")
    )
    label_column: str | None = field(
        default=None, metadata=option(text, "CSV only: the column of the class names.", example="label")
    )
    numeric: tuple[str, ...] = field(
        default=(), metadata=option(texts, "CSV only: columns that are read as numbers.", example=["age", "hours"])
    )
    categorical: tuple[str, ...] = field(
        default=(),
        metadata=option(
            texts,
            "CSV only: columns of words. Each word is hashed to one of `buckets` 0/1 features. A vocabulary collected "
            "from the data would carry words of deleted records into every later model; a hash depends on no record.",
            example=["occupation"],
        ),
    )
    buckets: int = field(
        default=8,
        metadata=option(
            whole, "CSV only: 0/1 features for each categorical column. Words that meet in a bucket look alike."
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
            text,
            "Records that are never trained on, for accuracy and comparison: a share of the records, chosen by a "
            "keyed hash of the id so that adding or removing a record moves no other, or the path of a file with "
            "one id a line.",
        ),
    )
    holdout_seed: str = field(
        default="cu-cert", metadata=option(text, "Key of that hash; another key holds out other records.")
    )

    def __post_init__(self) -> None:
        require(
            self.source == "digits" or self.is_csv or self.is_npz or self.is_python,
            "[data] source",
            self.source,
            '"digits", a path that ends in .npz or .csv, or "python:module:factory"',
        )
        for key in ("id_column", "label_column", "numeric", "categorical"):
            value = getattr(self, key)
            require(self.is_csv or not value, f"[data] {key}", value, f"no {key}: the source is not a CSV file")
        for key in ("id_column", "label_column"):
            require(not self.is_csv or bool(getattr(self, key)), f"[data] {key}", "", "the name of a CSV column")
        taken: set[str | None] = set()
        roles = [("id_column", self.id_column), ("label_column", self.label_column)]
        roles += [("numeric", column) for column in self.numeric]
        roles += [("categorical", column) for column in self.categorical]
        for key, column in roles:
            require(column is None or column not in taken, f"[data] {key}", column, "a column that has no other role")
            taken.add(column)
        require(2 <= self.buckets <= 4096, "[data] buckets", self.buckets, "2 to 4096")
        require(len(self.classes) != 1, "[data] classes", self.classes, "at least 2 names, or none")
        share = self.holdout_share
        require(share is None or 0 < share < 1, "[data] holdout", self.holdout, "a share above 0 and below 1")

    @property
    def is_csv(self) -> bool:
        """Whether the source is a CSV file."""
        return not self.is_python and self.source.lower().endswith(".csv")

    @property
    def is_npz(self) -> bool:
        """Whether the source is a NumPy archive."""
        return not self.is_python and self.source.lower().endswith(".npz")

    @property
    def is_python(self) -> bool:
        """Whether the source is a function of the user's."""
        return self.source.startswith("python:")

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
