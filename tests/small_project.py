"""Projects that train in milliseconds, audits of them, and the program as another process."""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

MLP: Final = 'recipe = "mlp"\nhidden = [24]\nepochs = 12\nbatch_size = 16\nlearning_rate = 0.2'
"""About 35 ms a model; it learns its records by heart."""

LOGISTIC: Final = 'recipe = "logistic"\nepochs = 6\nbatch_size = 60\nlearning_rate = 0.5'
"""About 10 ms a model."""

TOML: Final = """schema = 1
[data]
source = "data.npz"
[training]
{training}
[audit]
slots = {slots}
references = {references}
pilots = {pilots}
controls = {controls}
workers = {workers}
{more}
"""

SMALLEST: Final[dict[str, Any]] = {
    "training": LOGISTIC,
    "slots": 16,
    "references": 41,
    "pilots": 4,
    "controls": 3,
    "more": 'tested_eps = "0"\ndetect_eps = "3"',
}
"""Sizes of an audit that takes a second, and still can refute, fail its controls and reach its power."""

HOST: Final = "host-of-jane-0815"
"""What the machine of :func:`finished_audit` is called."""

ROOTS: Final = tuple(str(Path(__file__).parents[1] / name) for name in (".", "attacks", "certificates", "templates"))


def write_project(
    folder: Path,
    *,
    training: str = MLP,
    slots: int = 32,
    references: int = 70,
    pilots: int = 8,
    controls: int = 8,
    workers: int = 1,
    more: str = "",
    seed: int = 0,
    forget: int = 12,
) -> Path:
    """Write data, project file and id list: 150 noisy records of 3 classes; returns the folder.

    Args:
        folder: Made when absent.
        training: The keys of ``[training]``.
        slots: As in ``[audit]``, like the next four.
        references: See there.
        pilots: See there.
        controls: See there.
        workers: 1 trains in the test process.
        more: Further lines of ``[audit]``, or further tables.
        seed: Of the data and the request.
        forget: Number of ids in ``ids.txt``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    y = np.arange(150) % 3
    x = rng.normal(size=(150, 24)) + 0.6 * np.eye(3, 24)[y]
    ids = np.array([f"person-{row:03d}@example" for row in range(150)])
    np.savez(folder / "data.npz", x=x.astype(np.float32), y=y, ids=ids)
    text = TOML.format(
        training=training,
        slots=slots,
        references=references,
        pilots=pilots,
        controls=controls,
        workers=workers,
        more=more,
    )
    (folder / "cu-cert.toml").write_text(text)
    from cu_cert.data import load_records
    from cu_cert.project import load_project

    train = load_records(load_project(folder / "cu-cert.toml").data, folder).train
    chosen = sorted(rng.choice(train.ids, forget, replace=False))
    (folder / "ids.txt").write_text("\n".join(chosen) + "\n")
    return folder


def request_ids(folder: Path) -> tuple[str, ...]:
    """Return the ids of the project's request."""
    return tuple((folder / "ids.txt").read_text().split())


def fix_secrets(folder: Path, name: str) -> None:
    """Give a project the secrets that belong to ``name``, so that its coins and seeds are the same in every run.

    Coins also depend on the plan, and the plan on the bits of the audited models; so they differ between machines whose
    arithmetic differs.
    """
    from cu_cert.secrets_store import FOLDER, Secrets

    with pytest.MonkeyPatch.context() as patch:
        drawn = count()
        patch.setattr(
            "secrets.token_bytes", lambda size: hashlib.sha256(f"{name} {next(drawn)}".encode()).digest()[:size]
        )
        Secrets(folder / FOLDER).request_key(request_ids(folder))


def store_of(folder: Path) -> Path:
    """Return the folder of the project's trained models."""
    return folder / ".cu-cert" / "store"


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def predicate_of(out: Path) -> dict[str, Any]:
    """Return the content of the signed certificate in a folder."""
    bundle = json.loads((out / "certificate.sigstore.json").read_bytes())
    found: dict[str, Any] = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))["predicate"]
    return found


def environment(config: Path) -> dict[str, str]:
    """Return the environment of a process that runs this tree's code and keeps its keys in ``config``."""
    own = {"CU_CERT_CONFIG": str(config), "PYTHONPATH": os.pathsep.join(ROOTS)}
    return {key: value for key, value in os.environ.items() if not key.startswith("CU_CERT_")} | own


def program(*arguments: str, folder: Path, config: Path) -> "subprocess.Popen[str]":
    """Start ``python -m cu_cert`` in a folder, as the leader of a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cu_cert", *arguments],
        cwd=folder,
        env=environment(config),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test run in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@dataclass(frozen=True)
class Finished:
    """A finished audit whose files tests may read and copy, but never change.

    Args:
        project: Folder of the project.
        out: Folder of the certificate.
        model: The audited model.
        trust: A trust file that names the key that signed.
        home: What the user's home folder was.
    """

    project: Path
    out: Path
    model: Path
    trust: Path
    home: Path


@cache
def finished_audit(base: Path, *, verdict: str = "REFUTED") -> Finished:
    """Audit a model through the command line; once for each pair of arguments.

    Args:
        base: Where it happens; the same folder in the whole session.
        verdict: ``REFUTED`` for an original that is presented as unlearned by npo, ``NOT_REFUTED`` for a retrain.
    """
    from datetime import UTC, datetime, timedelta

    from cu_cert.cli.main import run
    from cu_certificates.trust import write_trust

    home = base / verdict / "home-of-jane-doe"
    project = write_project(home / "project-4711", **SMALLEST)
    fix_secrets(project, "finished audit")
    config, trust = base / verdict / "config", base / verdict / "trust.toml"
    settings = (project / "cu-cert.toml").read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CU_CERT_CONFIG", str(config))
        patch.setenv("HOME", str(home))
        patch.setattr("socket.gethostname", lambda: HOST)
        patch.setattr("platform.node", lambda: HOST)
        patch.chdir(project)
        if verdict == "REFUTED":
            method = "npo"
            assert run(["train", "-o", "model.pt"]) == 0
        else:
            method = "retrain"
            assert run(["train", "-o", "before.pt"]) == 0
            assert run(["unlearn", "before.pt", "--forget", "ids.txt", "--method", method, "-o", "model.pt"]) == 0
        # One audit in twenty may err, and where the bits differ from those of other machines, so do its coins.
        for attempt in (1, 2, 3):
            (project / "cu-cert.toml").write_text(f"{settings}attempt = {attempt}\n")
            assert run(["audit", "model.pt", "--forget", "ids.txt", "--method", method, "--json"]) == 0
            if predicate_of(project / "audit-out")["verdict"]["value"] == verdict:
                break
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    write_trust(trust, next(config.glob("*.pub.pem")), not_before=yesterday)
    return Finished(project, project / "audit-out", project / "model.pt", trust, home)
