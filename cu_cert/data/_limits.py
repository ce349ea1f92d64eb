"""How much a data source may ask of memory before it is told no."""

from typing import Final

from cu_cert.errors import DataError

MOST_BYTES: Final = 2**34
"""Features of all records together, as float32. Records are held in memory, and so are the models' copies of them."""


def check_size(where: str, size: int) -> None:
    """Check a size before that much is allocated.

    Args:
        where: The source, for messages.
        size: Bytes that its records would take.

    Raises:
        DataError: It is too much.
    """
    if size > MOST_BYTES:
        raise DataError(
            f"{where}: its records would take {size / 2**30:.1f} GiB of memory; expected at most "
            f"{MOST_BYTES / 2**30:.0f} GiB. Is the file damaged? Otherwise cut it, or make its records smaller"
        )
