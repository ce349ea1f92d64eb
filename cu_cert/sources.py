"""Which program made a certificate: a digest over its source files, computed without importing anything heavy."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import cu_attacks
import cu_cert
import cu_certificates
import cu_templates

_SUFFIXES: Final = (".py", ".j2", ".css")


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Return the SHA-256 (hex) over all source files and templates of the program."""
    state = hashlib.sha256()
    for package in (cu_cert, cu_attacks, cu_certificates, cu_templates):
        root = Path(str(package.__file__)).parent
        state.update(bytes.fromhex(digest_of(root, [root])))
    return state.hexdigest()


def digest_of(root: Path, places: Sequence[Path]) -> str:
    """Return the SHA-256 (hex) over the source files in some places.

    Args:
        root: Folder from which their names count.
        places: Files, or folders that are walked.
    """
    state = hashlib.sha256()
    for place in places:
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.suffix in _SUFFIXES:
                data = file.read_bytes()
                state.update(f"{file.relative_to(root).as_posix()}\0{len(data)}\0".encode() + data)
    return state.hexdigest()
