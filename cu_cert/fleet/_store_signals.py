"""Signals of a model as bytes, bound to the model and to the records that it was asked about.

A line that names the format, 32 bytes of digest, the length and text of the query, the margins as little-endian
doubles, and one byte for each whether the answer was right. A zip archive takes ten times as long to read.
"""

import hashlib
import struct
from typing import Final

import numpy as np

from cu_cert.fleet._store_entry import Damaged
from cu_cert.signals import Signals

_HEAD: Final = b"cu-cert-signals/1\n"
_LENGTH: Final = struct.Struct("<H")
_DIGEST: Final = 32
_EACH: Final = 9


def signals_bytes(key: str, query: str, signals: Signals) -> bytes:
    """Write signals with a digest of them, their model and their query."""
    about = query.encode()
    body = _LENGTH.pack(len(about)) + about + signals.margin.astype("<f8").tobytes() + signals.correct.tobytes()
    return _HEAD + _seal(key, body) + body


def read_signals(data: bytes, key: str, query: str | None) -> Signals:
    """Read signals.

    Args:
        data: The content of their file.
        key: Address of the model.
        query: What it must have been asked; ``None`` for whatever the file says.

    Raises:
        Damaged: They are not the signals of this model on these records as they were written.
    """
    start = len(_HEAD) + _DIGEST
    body = memoryview(data)[start:]
    if not data.startswith(_HEAD) or len(body) < _LENGTH.size:
        raise Damaged("it does not begin as signals do")
    if data[len(_HEAD) : start] != _seal(key, body):
        raise Damaged("its digest does not fit: damaged, or of another model")
    at = _LENGTH.size + _LENGTH.unpack_from(body)[0]
    if query is not None and body[_LENGTH.size : at] != query.encode():
        raise Damaged("it answers another query")
    count, rest = divmod(len(body) - at, _EACH)
    if count < 0 or rest:
        raise Damaged("its length is not that of signals")
    margin = np.frombuffer(body, dtype="<f8", count=count, offset=at).astype(np.float64)
    return Signals(margin, np.frombuffer(body, dtype=np.uint8, offset=at + 8 * count) != 0)


def _seal(key: str, body: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(_HEAD + key.encode() + b"\n")
    digest.update(body)
    return digest.digest()
