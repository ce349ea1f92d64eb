"""What a pipeline waits for: time on the wall of ``cu-cert gate`` over that of ``python -c pass``, beside ``verify``.

python -m benchmarks.gate [--json] [--runs N]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

from benchmarks._measure import LEAST_RUNS, Command, Ratios
from benchmarks.startup import make_certificate

CERTIFICATE: Final = "out/certificate.sigstore.json"

_PROGRAM: Final = (sys.executable, "-c", "from cu_cert.cli.main import main; main()")
_BOUND: Final = ("--trust", "trust.toml", "--model", "model.pt")
_POLICY: Final = """schema = 1
[policy.require]
eps_lower_max = { value = "9", delta = "0", alpha = "1/20" }
report = true
privacy_lint = true
on_inconclusive = "warn"
"""
_REPORTS: Final = ("json", "sarif", "junit", "gitlab", "markdown")


def measure(folder: Path, *, runs: int, environment: Mapping[str, str]) -> Ratios:
    """Time the gate on a certificate with all its evidence, against a bare interpreter and against verification.

    Args:
        folder: Holds ``out`` with a certificate, ``trust.toml`` and ``model.pt``; a policy is written there.
        runs: Runs of each program, at least :data:`LEAST_RUNS`.
        environment: Environment of the programs.

    Raises:
        ValueError: ``runs`` is too small for a median to mean anything.
        RuntimeError: A program ends with another exit code than expected.
    """
    if runs < LEAST_RUNS:
        raise ValueError(f"{runs} runs; expected at least {LEAST_RUNS}")
    (folder / "policy.toml").write_text(_POLICY, encoding="utf-8")
    gate = (*_PROGRAM, "gate", CERTIFICATE, "--policy", "policy.toml", *_BOUND, "--exit-zero")
    reports = tuple(part for name in _REPORTS for part in ("--format", f"{name}=gate.{name}"))
    commands = {
        "python -c pass": Command(arguments=(sys.executable, "-c", "pass")),
        "cu-cert verify": Command(arguments=(*_PROGRAM, "verify", CERTIFICATE, *_BOUND)),
        "cu-cert gate": Command(arguments=gate),
        "cu-cert gate, 5 reports": Command(arguments=(*gate, *reports)),
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):  # the first round warms the caches
        for name, command in commands.items():
            seconds = wall_seconds(command, folder=folder, environment=environment)
            if turn:
                found[name].append(seconds)
    return Ratios(name="gate", what="time on the wall of a fresh process, offline", seconds=found)


def wall_seconds(command: Command, *, folder: Path, environment: Mapping[str, str]) -> float:
    """Run a program and return the seconds until it ended.

    Args:
        command: The program.
        folder: Where it runs.
        environment: Its environment.

    Raises:
        RuntimeError: It ends with another exit code than expected.
    """
    start = perf_counter()
    ended = subprocess.run(command.arguments, cwd=folder, env=dict(environment), capture_output=True)
    seconds = perf_counter() - start
    if ended.returncode != command.exit_code:
        told = ended.stderr.decode("utf-8", "replace")
        raise RuntimeError(f"{' '.join(command.arguments)} ended with {ended.returncode}: {told}")
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print one table, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=15, help=f"runs of each program, at least {LEAST_RUNS}")
    options = parser.parse_args(arguments)
    if options.runs < LEAST_RUNS:
        parser.error(f"--runs {options.runs}: expected at least {LEAST_RUNS}")
    with tempfile.TemporaryDirectory(prefix="cu-cert-gate-") as folder:
        make_certificate(Path(folder))
        found = measure(Path(folder), runs=options.runs, environment=os.environ)
    print(found.to_json() if options.json else found.to_text())


if __name__ == "__main__":
    main()
