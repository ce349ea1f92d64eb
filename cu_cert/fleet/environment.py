"""The environment fingerprint: what bits may depend on besides recipe, records and seed."""

import hashlib
import os
import platform
from functools import lru_cache
from pathlib import Path

import torch

import cu_cert
from cu_cert.sources import digest_of
from cu_certificates.check.strict import canonical

_TRAINING_CODE = ("recipes", "engine", "methods", "records.py", "rng.py", "signals.py")


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
    return digest_of(root, [root / name for name in _TRAINING_CODE])
