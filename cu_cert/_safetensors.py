"""``.safetensors``: tensors behind a JSON header; the format holds no code at all.

The header comes from outside, so it is checked here in full before the library reads a tensor: its length, its names,
types and shapes, and that the tensors fill the file without gap or overlap. The library refuses most of this too, but
takes the last of two equal names and says little about where.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cu_cert.errors import DataError, EnvironmentProblem

if TYPE_CHECKING:
    import torch

SUFFIX: Final = ".safetensors"

_MOST_HEADER: Final = 2**24
_MOST_TENSORS: Final = 100_000
_MOST_DIMENSIONS: Final = 32
_KINDS: Final = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
    "C64": ("complex64", 8),
}
"""Types of the format: what torch calls them, and bytes of a number."""

_AGAIN: Final = "write or fetch it again"


@dataclass(frozen=True)
class _Part:
    """Which bytes behind the header a tensor takes."""

    name: str
    begin: int
    end: int


def is_safetensors(path: Path) -> bool:
    """Return whether the end of a name says that a file is in this format."""
    return path.suffix.lower() == SUFFIX


def looks_like_safetensors(path: Path) -> bool:
    """Return whether a file begins as this format does, whatever it is called."""
    with path.open("rb") as stream:
        head = stream.read(9)
    return len(head) == 9 and head[8:] == b"{" and struct.unpack("<Q", head[:8])[0] <= _MOST_HEADER


def require_library(path: Path) -> None:
    """Check that files of this format can be read and written.

    Raises:
        EnvironmentProblem: safetensors is not installed.
    """
    try:
        import safetensors  # noqa: F401
    except ImportError:
        raise EnvironmentProblem(
            f"{path}: this format needs safetensors, which is not installed; pip install 'cu-cert[safetensors]'"
        ) from None


def read_tensors(path: Path) -> "dict[str, torch.Tensor]":
    """Read the tensors of a file onto the CPU.

    Args:
        path: A regular file.

    Raises:
        DataError: The file is damaged, or is in another format.
        EnvironmentProblem: safetensors is not installed.
    """
    require_library(path)
    import torch
    from safetensors import SafetensorError, safe_open

    _check(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            found: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: is not a safetensors file, or is damaged ({error}); {_AGAIN}") from None
    for name, tensor in found.items():
        if tensor.dtype == torch.bool and tensor.numel() and int(tensor.view(torch.uint8).max()) > 1:
            raise DataError(f"{path}: tensor {name!r} holds truth values other than 0 and 1; {_AGAIN}")
    return found


def tensors_bytes(path: Path, state: "Mapping[str, torch.Tensor]") -> bytes:
    """Return tensors in this format; equal tensors give equal bytes.

    Args:
        path: The file that is to be written, for messages.
        state: Contiguous tensors on the CPU that share no memory.

    Raises:
        DataError: A tensor has a type that the format lacks, or there is none.
        EnvironmentProblem: safetensors is not installed.
    """
    require_library(path)
    from safetensors.torch import save

    for name, tensor in state.items():
        kind = str(tensor.dtype).removeprefix("torch.")
        if kind not in {name for name, _ in _KINDS.values()}:
            raise DataError(f"{path}: tensor {name!r} has type {kind}, which safetensors lacks; write a .pt file")
    # With more than one entry, the order of the metadata would differ from run to run.
    return save(dict(state), metadata={"format": "pt"})


def _check(path: Path) -> None:
    """Check everything that stands before the tensors, and that these fill the rest of the file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if len(head) < 8 or length < 2:
                raise DataError(f"{path}: has no safetensors header; {_AGAIN}")
            if length > _MOST_HEADER and head.startswith((b"PK", b"\x80")):
                raise DataError(
                    f"{path}: is a PyTorch file under the name of another format; rename it so that it ends in .pt"
                )
            if length > _MOST_HEADER or length > size - 8:
                raise DataError(
                    f"{path}: states a header of {length} bytes; expected at most {min(_MOST_HEADER, size - 8)}. It is "
                    f"no safetensors file, or was cut off; {_AGAIN}"
                )
            raw = stream.read(length)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a model file") from None
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        reason = "it nests too deep" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{path}: its safetensors header is no good JSON ({reason[:160]}); {_AGAIN}") from None
    if not isinstance(header, dict):
        raise DataError(f"{path}: its safetensors header is a {type(header).__name__}; expected an object; {_AGAIN}")
    header.pop("__metadata__", None)
    if len(header) > _MOST_TENSORS:
        raise DataError(f"{path}: names {len(header)} tensors; expected at most {_MOST_TENSORS}")
    _check_filled(path, (_part(path, name, entry) for name, entry in header.items()), size - 8 - length)


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice[:100]!r} stands twice")
    return found


def _part(path: Path, name: str, entry: object) -> _Part:
    def no_good(what: str) -> DataError:
        return DataError(f"{path}: tensor {name[:100]!r} {what}; {_AGAIN}")

    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(begin), int(end)], **rest} if not rest:
            pass
        case _:
            raise no_good("is not described by dtype, shape and data_offsets")
    if kind not in _KINDS:
        raise no_good(f"has type {kind[:20]!r}; expected one of {', '.join(_KINDS)}")
    if len(shape) > _MOST_DIMENSIONS or any(type(side) is not int or not 0 <= side < 2**48 for side in shape):
        raise no_good(f"has a shape that is none; expected at most {_MOST_DIMENSIONS} sizes from 0")
    if not 0 <= begin <= end or end - begin != prod(shape) * _KINDS[kind][1]:
        wide = "x".join(str(side) for side in shape) or "scalar"
        raise no_good(f"takes bytes {begin} to {end}, which does not fit {wide} of {kind}")
    return _Part(name, begin, end)


def _check_filled(path: Path, parts: Iterable[_Part], size: int) -> None:
    at, last = 0, ""
    for part in sorted(parts, key=lambda part: (part.begin, part.end)):
        if part.begin < at:
            raise DataError(f"{path}: tensors {last[:100]!r} and {part.name[:100]!r} overlap; {_AGAIN}")
        if part.begin > at:
            raise DataError(f"{path}: bytes {at} to {part.begin} belong to no tensor; {_AGAIN}")
        at, last = part.end, part.name
    if at > size:
        raise DataError(f"{path}: ends {at - size} bytes too early; it was cut off; {_AGAIN}")
    if at < size:
        raise DataError(f"{path}: holds {size - at} bytes after the last tensor; {_AGAIN}")
