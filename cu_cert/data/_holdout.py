"""Which records are held out: by a keyed hash of the id, by the beginning of the id, or by a list of ids."""

import hashlib
from fractions import Fraction
from pathlib import Path

from cu_cert.data._config import DataConfig
from cu_cert.data._ids import read_ids
from cu_cert.errors import DataError
from cu_cert.records import Records


def choose(records: Records, config: DataConfig, root: Path) -> tuple[str, ...]:
    """Return the ids to hold out, ascending.

    Args:
        records: All records.
        config: The table ``[data]``.
        root: Folder of ``cu-cert.toml``.

    Raises:
        DataError: The list names an id that is not in the data, or no id has the beginning.
    """
    share = config.holdout_share
    if share is not None:
        return tuple(identifier for identifier in records.ids if is_held_out(identifier, share, config.holdout_seed))
    start = config.holdout_start
    if start is not None:
        chosen = tuple(identifier for identifier in records.ids if identifier.startswith(start))
        if not chosen:
            raise DataError(
                f"{config.source}: no id begins with {start!r}, as [data] holdout says; the first is "
                f'{records.ids[0]!r}. Correct the beginning, or hold out a share such as "1/5"'
            )
        return chosen
    listed = read_ids(root / config.holdout)
    for entry in listed.entries:
        if entry.id not in records:
            raise DataError(
                f"{listed.path}:{entry.line}: id {entry.id!r} is to be held out but is not in the data "
                f"({config.source}, {len(records)} records); correct the id or remove the line"
            )
    return listed.ids


def is_held_out(identifier: str, share: Fraction, seed: str) -> bool:
    """Return whether a share rule holds out this id; it depends on nothing but the arguments.

    Args:
        identifier: A record id.
        share: Share of all possible ids that is held out, in (0, 1).
        seed: Key of the hash.
    """
    key = hashlib.sha256(f"cu-cert/holdout/{seed}".encode()).digest()
    digest = hashlib.blake2b(identifier.encode(), key=key, digest_size=16).digest()
    return int.from_bytes(digest, "big") % share.denominator < share.numerator
