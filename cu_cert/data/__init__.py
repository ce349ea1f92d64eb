"""Data sources. One file a source, one line of ``_sources.py`` for each. Helpers start with an underscore.

A source turns a file (or a function of the user's) into :class:`~cu_cert.records.Records`; which of them are held out
is decided here, by id, in the same way for every source.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cu_cert.data._config import DataConfig
from cu_cert.errors import DataError

if TYPE_CHECKING:
    from cu_cert.records import Records

__all__ = ["DataConfig", "Dataset", "load_records"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """All records, and which of them are never trained on.

    Args:
        records: All records.
        holdout: Ids of the records that are held out, ascending.

    Raises:
        DataError: A held-out id is unknown, or no record is left on one of the two sides.
    """

    records: "Records"
    holdout: tuple[str, ...]

    def __post_init__(self) -> None:
        if list(self.holdout) != sorted(set(self.holdout)):
            raise DataError("holdout: ids are not strictly ascending; sort them and name each once")
        self.records.positions(self.holdout)
        if not self.holdout or len(self.holdout) == len(self.records):
            raise DataError(
                f"[data] holdout: {len(self.holdout)} of {len(self.records)} records are held out; expected at least 1 "
                "held out and 1 to train on. Add records, or choose another holdout or holdout_seed in cu-cert.toml"
            )

    @cached_property
    def train(self) -> "Records":
        """The records that models are trained on."""
        return self.records.without(self.holdout)

    @cached_property
    def held_out(self) -> "Records":
        """The records that no model is trained on."""
        return self.records.select(self.holdout)


def load_records(config: DataConfig, root: Path) -> Dataset:
    """Load the records of a project and split them by id.

    Args:
        config: The table ``[data]``.
        root: Folder of ``cu-cert.toml``; relative paths start there.

    Raises:
        DataError: The source or the holdout list is wrong.
        ConfigError: The user's module cannot be imported.
    """
    from cu_cert.data._holdout import choose

    load: Callable[[DataConfig, Path], Records] = importlib.import_module(f"cu_cert.data.{config.kind.module}").load
    records = load(config, root)
    return Dataset(records, choose(records, config, root))
