"""The environment fingerprint: what bits may depend on besides recipe, records and seed."""

import hashlib
import os
import platform
from functools import lru_cache
from pathlib import Path

import torch

import cu_attacks
import cu_cert
import cu_certificates
import cu_templates
from cu_certificates.check.strict import canonical

_TRAINING_CODE = ("recipes", "engine", "methods", "records.py", "rng.py", "signals.py")
_SOURCES = (".py", ".j2", ".css")


def single_threaded() -> None:
    """Make torch on this process reproducible: one thread, deterministic algorithms.

    One thread against two changes the bits of every model tried, so parallelism is by process.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


@lru_cache(maxsize=1)
def fingerprint() -> dict[str, str]:
    """Return the facts on which bitwise replay depends, as printable text."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpuCapability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": str(torch.backends.mkldnn.is_available()).lower(),  # type: ignore[no-untyped-call]
        "mklCbwr": os.environ.get("MKL_CBWR", ""),
        "threads": "1",
    }


def fingerprint_digest() -> str:
    """Return the SHA-256 (hex) of the fingerprint."""
    return hashlib.sha256(canonical(fingerprint())).hexdigest()


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return the SHA-256 (hex) over the source files that train, edit and measure models."""
    root = Path(cu_cert.__file__).parent
    return _digest(root, [root / name for name in _TRAINING_CODE])


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Return the SHA-256 (hex) over all source files and templates of the program."""
    state = hashlib.sha256()
    for package in (cu_cert, cu_attacks, cu_certificates, cu_templates):
        root = Path(str(package.__file__)).parent
        state.update(bytes.fromhex(_digest(root, [root])))
    return state.hexdigest()


def _digest(root: Path, places: list[Path]) -> str:
    state = hashlib.sha256()
    for place in places:
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.suffix in _SOURCES:
                data = file.read_bytes()
                state.update(f"{file.relative_to(root).as_posix()}\0{len(data)}\0".encode() + data)
    return state.hexdigest()
