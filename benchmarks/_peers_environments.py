"""Benchmark-only environments: one for each peer, made with venv and pip outside the repository, never a dependency."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

ROOT: Final = Path(__file__).resolve().parent.parent
CONSTRAINTS: Final = ROOT / "constraints.txt"
PATIENCE: Final = 1800
"""Seconds after which an installation or a task counts as hung."""

_PIP: Final = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", str(CONSTRAINTS))

Status = Literal["installed", "not installed", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A library to compare with.

    Args:
        name: How it is called in tables.
        requirements: What pip installs; the first is the peer itself.
        worker: The module of this package that runs in its environment.
        proof: An import that must work in it.
        tasks: What the worker can do.
        environment: Variables that the worker needs.
    """

    name: str
    requirements: tuple[str, ...]
    worker: str
    proof: str
    tasks: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


PEERS: Final = (
    Peer(
        name="statsmodels",
        requirements=("statsmodels", "scikit-learn"),
        worker="_peers_statsmodels",
        proof="import statsmodels, sklearn",
        tasks=("rates", "bounds", "vectors"),
    ),
    Peer(
        name="dp-accounting",
        requirements=("dp-accounting==0.6.0",),
        worker="_peers_dp_accounting",
        proof="import dp_accounting",
        tasks=("bounds", "vectors"),
    ),
    Peer(
        name="jax-privacy",
        requirements=("jax-privacy==2.0.0",),
        worker="_peers_jax_privacy",
        proof="from jax_privacy import auditing",
        tasks=("rates", "bounds", "vectors", "null"),
    ),
    Peer(
        name="opake-auditing",
        requirements=("opake-auditing==0.16.1",),
        worker="_peers_opake",
        proof="from opake import auditing",
        tasks=("rates", "bounds", "null"),
    ),
    Peer(
        name="adversarial-robustness-toolbox",
        # It imports packaging and does not declare it; torch is its own optional extra.
        requirements=("adversarial-robustness-toolbox==1.20.1", "packaging", "torch"),
        worker="_peers_art",
        proof="import art.attacks.inference.membership_inference",
        tasks=("rates", "attack", "race"),
    ),
)

PRIVACY_METER: Final = Peer(
    name="ml_privacy_meter",
    requirements=("torch", "scikit-learn"),
    worker="_peers_privacy_meter",
    proof="import torch, sklearn",
    tasks=("attack", "race"),
)


METER_FILES: Final = ("trainers/default_trainer.py", "modules/mia/attacks/rmia.py")
"""What is loaded from the source tree of Privacy Meter: its trainer and its attack."""

METER_SOURCE: Final = "CU_CERT_PRIVACY_METER"
"""The variable that tells the worker where the tree is."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one task of one peer came to.

    Args:
        result: The worker's result; ``None`` when it failed.
        versions: Of the distributions that it used.
        reason: Why it failed; empty when it did not.
    """

    result: dict[str, Any] | None
    versions: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A peer and the environment that it runs in.

    Args:
        peer: The peer.
        python: The interpreter of its environment.
        status: Whether it can run.
        reason: Why not; empty when it can.
    """

    peer: Peer
    python: Path
    status: Status
    reason: str = ""

    def call(self, task: str, source: Path) -> Answer:
        """Run one task in a process of its own, on one thread.

        Args:
            task: One of the peer's tasks.
            source: The npz file with the scores.
        """
        if self.status != "installed":
            return Answer(result=None, reason=self.reason)
        with tempfile.TemporaryDirectory(prefix="cu-cert-peer-") as folder:
            target = Path(folder) / "result.json"
            command = [str(self.python), "-m", f"benchmarks.{self.peer.worker}", task, str(source), str(target)]
            try:
                done = subprocess.run(
                    command,
                    cwd=folder,
                    env=one_thread() | dict(self.peer.environment),
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return Answer(result=None, reason=f"{task}: no end after {PATIENCE} s")
            if done.returncode:
                return Answer(result=None, reason=f"{task}: {last_line(done.stderr)}")
            document = json.loads(target.read_text(encoding="utf-8"))
        return Answer(result=document["result"], versions=document["versions"])


def one_thread() -> dict[str, str]:
    """Return this process's environment with every numerical library on one thread and this package importable."""
    single = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
        "1",
    )
    quiet = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "JAX_PLATFORMS": "cpu"}
    return os.environ | single | quiet


def last_line(text: str) -> str:
    """Return the last line of a program's complaint that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it gave no reason"])[-1][:300]


def install(peer: Peer, folder: Path) -> Environment:
    """Make a peer's environment, or find the one that an earlier run made.

    Args:
        peer: The peer.
        folder: Where environments live.

    Returns:
        The environment; with the reason when pip or the peer's own import fails.
    """
    home = folder / peer.name
    python, stamp = home / "bin" / "python", home / ".cu-cert-peer"
    recipe = hashlib.sha256(repr((peer.requirements, CONSTRAINTS.read_text(encoding="utf-8"))).encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != recipe:
        reason = _command([sys.executable, "-m", "venv", "--clear", str(home)]) or _command(
            [str(python), *_PIP, *peer.requirements]
        )
        if reason:
            return Environment(peer=peer, python=python, status="not installed", reason=reason)
        stamp.write_text(recipe, encoding="utf-8")
    reason = _command([str(python), "-c", peer.proof])
    return Environment(peer=peer, python=python, status="not installed" if reason else "installed", reason=reason)


def _command(arguments: Sequence[str]) -> str:
    """Run a program; return why it failed, or nothing."""
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:300]
    return last_line(done.stderr) if done.returncode else ""


def privacy_meter(source: Path | None, folder: Path) -> Environment:
    """Make the environment of Privacy Meter, when the user gave its source tree.

    Args:
        source: The tree, or ``None``.
        folder: Where environments live.
    """
    python = folder / PRIVACY_METER.name / "bin" / "python"
    if source is None:
        reason = "on no package registry; give its source tree with --privacy-meter PATH"
        return Environment(peer=PRIVACY_METER, python=python, status="skipped", reason=reason)
    missing = [name for name in METER_FILES if not (source / name).is_file()]
    if missing:
        reason = f"{source} holds no {', '.join(missing)}"
        return Environment(peer=PRIVACY_METER, python=python, status="not installed", reason=reason)
    variables = {METER_SOURCE: str(source.resolve())}
    return install(replace(PRIVACY_METER, environment=variables), folder)


def outside_repository(folder: Path) -> Path:
    """Return the folder for environments, made if absent.

    Raises:
        ValueError: It lies in the repository.
    """
    resolved = folder.expanduser().resolve()
    if resolved.is_relative_to(ROOT):
        raise ValueError(f"{folder} lies in the repository; expected a folder outside it")
    resolved.mkdir(parents=True, exist_ok=True)
    return resolved


def cache_folder() -> Path:
    """Return the user's cache folder for this benchmark, made if absent."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cu-cert"
    base.mkdir(parents=True, exist_ok=True)
    return base
