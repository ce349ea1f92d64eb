"""Ids for records that bring none: by content, from a list, or (when asked for in words) by row.

An id by content is a digest of what the record holds, so it does not depend on the order of the file, and removing a
record renames no other. Equal records get a counter: ``d``, ``d/2``, ``d/3``. They cannot be told apart, so which of
them is meant is immaterial; a request names the highest counters, because after the rows are gone from the file the
others are counted again from the first.

An id by content names the record to everyone who holds the record. Like all ids it appears in no certificate.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cu_cert.data._config import DataConfig
from cu_cert.data._ids import read_ids
from cu_cert.errors import DataError

BY_CONTENT: Final = "content"
BY_ROW: Final = "row"

NO_ROW_NUMBERS: Final = (
    'A row number is no id: it changes when a record is removed. Set ids = "content" under [data] to name each record '
    "by a digest of what it holds, or ids to the path of a file with one id a line"
)
"""What to do about records without ids, for messages."""


class Names:
    """Gives out ids, record by record in the order of the file.

    Args:
        config: The table ``[data]``, whose ``ids`` says how records are named.
        root: Folder of ``cu-cert.toml``.
        prefix: Put before ids by content and by row.

    Raises:
        DataError: The list of ids cannot be read, or names an id twice.
    """

    def __init__(self, config: DataConfig, root: Path, *, prefix: str = "") -> None:
        self._how = config.ids or BY_CONTENT
        self._prefix = prefix
        self._given = 0
        self._seen: Counter[bytes] = Counter()
        self._listed = None if self._how in (BY_CONTENT, BY_ROW) else read_ids(root / self._how)

    def name(self, content: Callable[[], bytes]) -> str:
        """Return the id of the next record.

        Args:
            content: Returns the bytes that the record consists of; called only when ids go by content.

        Raises:
            DataError: The list has no further id.
        """
        self._given += 1
        if self._listed is not None:
            if self._given > len(self._listed.entries):
                raise DataError(
                    f"{self._listed.path}: names {len(self._listed.entries)} ids, but the data hold more records; "
                    "expected one id a line for each record, in their order"
                )
            return self._listed.entries[self._given - 1].id
        if self._how == BY_ROW:
            return f"{self._prefix}row-{self._given - 1}"
        digest = hashlib.blake2b(content(), digest_size=16).digest()
        self._seen[digest] += 1
        count = self._seen[digest]
        return f"{self._prefix}{digest.hex()}" + (f"/{count}" if count > 1 else "")

    def finish(self) -> None:
        """Check that no id is left over.

        Raises:
            DataError: The list names more ids than there are records.
        """
        if self._listed is not None and self._given < len(self._listed.entries):
            entry = self._listed.entries[self._given]
            raise DataError(
                f"{self._listed.path}:{entry.line}: id {entry.id!r} is one too many: the data hold {self._given} "
                "records; expected one id a line for each record, in their order"
            )

    @property
    def repeated(self) -> int:
        """How many records were equal to an earlier one."""
        return sum(count - 1 for count in self._seen.values())
