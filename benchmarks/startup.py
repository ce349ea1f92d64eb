"""What a reader waits for: CPU time of ``cu-cert --help`` and ``cu-cert verify`` over that of ``python -c pass``.

python -m benchmarks.startup [--json] [--runs N]
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from benchmarks._measure import LEAST_RUNS, Command, Ratios, interleaved

_PROGRAM: Final = (sys.executable, "-c", "from cu_cert.cli.main import main; main()")
"""What the installed ``cu-cert`` does, wherever it was installed to."""

_PROJECT: Final = """schema = 1
[data]
source = "data.npz"
[training]
recipe = "logistic"
epochs = 3
[audit]
slots = 32
references = 70
pilots = 8
workers = 1
"""


def make_certificate(folder: Path) -> None:
    """Audit a tiny model of random records, so that ``folder`` holds a real certificate and a trust file.

    Args:
        folder: An empty folder.
    """
    import numpy as np

    from cu_cert.project import load_project
    from cu_cert.protocol import audit
    from cu_cert.training import train_model
    from cu_certificates.keys import generate_key, public_path_of
    from cu_certificates.trust import write_trust

    rng = np.random.default_rng(0)
    names = np.array([f"record-{row:03d}" for row in range(120)])
    x = rng.normal(size=(120, 8)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, y=np.arange(120) % 2, ids=names)
    (folder / "cu-cert.toml").write_text(_PROJECT, encoding="utf-8")
    project = load_project(folder / "cu-cert.toml")
    trained = train_model(project, folder / "model.pt")
    (folder / "ids.txt").write_text("\n".join(trained.train_ids[:10]), encoding="utf-8")
    key = folder / "audit.pem"
    generate_key(key, passphrase=None)
    audit(
        folder / "model.pt",
        folder / "ids.txt",
        project=project,
        method="identity",
        key=key,
        out=folder / "out",
        quiet=True,
        say=lambda line: None,
    )
    write_trust(folder / "trust.toml", public_path_of(key), not_before=datetime.now(UTC) - timedelta(days=1))


def measure(folder: Path, *, runs: int, environment: Mapping[str, str]) -> Ratios:
    """Time help and verification against a bare interpreter.

    Args:
        folder: An empty folder to work in.
        runs: Runs of each program.
        environment: Environment of the programs.
    """
    make_certificate(folder)
    verify = ("verify", "out/report.html", "--trust", "trust.toml", "--model", "model.pt")
    commands = {
        "python -c pass": Command(arguments=(sys.executable, "-c", "pass")),
        "cu-cert --help": Command(arguments=(*_PROGRAM, "--help")),
        "cu-cert verify": Command(arguments=(*_PROGRAM, *verify)),
    }
    seconds = interleaved(commands, runs=runs, folder=folder, environment=environment)
    return Ratios(name="startup", what="CPU time of a fresh process, user and system", seconds=seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print one table, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=15, help=f"runs of each program, at least {LEAST_RUNS}")
    options = parser.parse_args(arguments)
    if options.runs < LEAST_RUNS:
        parser.error(f"--runs {options.runs}: expected at least {LEAST_RUNS}")
    with tempfile.TemporaryDirectory(prefix="cu-cert-startup-") as folder:
        found = measure(Path(folder), runs=options.runs, environment=os.environ)
    print(found.to_json() if options.json else found.to_text())


if __name__ == "__main__":
    main()
