"""The same scores into other libraries and ours, and time to the same attack result, in one run.

python -m benchmarks.peers [--json] [--install DIR] [--privacy-meter PATH] [--runs N] [--only NAME ...]

Every peer gets an environment of its own, made by pip and used by nothing else. One that does not install is reported
with the reason. Exit code 1 when a number differs that should not.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import _peers_attacks, _peers_compare, _peers_vectors
from benchmarks._peers_bayes import bayes
from benchmarks._peers_compare import Arrays, Results, Row
from benchmarks._peers_environments import (
    PEERS,
    PRIVACY_METER,
    Environment,
    Peer,
    cache_folder,
    install,
    outside_repository,
    privacy_meter,
)
from benchmarks._peers_race import LEAST_RUNS, race, wait_until_quiet
from benchmarks._peers_report import Report
from benchmarks._peers_scores import Sizes, make

OURS: Final = Peer(
    name="cu-cert", requirements=(), worker="_peers_ours", proof="import cu_attacks, cu_cert", tasks=("race",)
)
NAMES: Final = tuple(peer.name for peer in (*PEERS, PRIVACY_METER))
TABLES: Final[Mapping[str, Callable[[Arrays, Results], list[Row]]]] = {
    "rates": _peers_compare.rates,
    "bounds": _peers_compare.bounds,
    "attack": _peers_attacks.attacks,
    "vectors": lambda arrays, results: _peers_vectors.rows(results),
}
"""The comparisons by the task that the peers do for them."""


@contextmanager
def environments_folder(chosen: Path | None) -> Iterator[Path]:
    """Yield the folder for environments: the chosen one, which is kept, or one in the user's cache that is removed.

    Args:
        chosen: The user's folder, or ``None``.
    """
    if chosen is not None:
        yield outside_repository(chosen)
        return
    folder = Path(tempfile.mkdtemp(prefix="peers-", dir=cache_folder()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def prepare(folder: Path, source: Path | None, chosen: Sequence[str]) -> list[Environment]:
    """Install the chosen peers, one after another.

    Args:
        folder: Where environments live.
        source: The source tree of Privacy Meter, or ``None``.
        chosen: Names of peers.
    """
    found = [install(peer, folder) for peer in PEERS if peer.name in chosen]
    return found + ([privacy_meter(source, folder)] if PRIVACY_METER.name in chosen else [])


def compare(environments: Sequence[Environment], arrays: Arrays, file: Path) -> Report:
    """Send the same file to every peer and set the answers beside ours.

    Args:
        environments: The peers.
        arrays: What the file holds.
        file: The scores.
    """
    report = Report(peers={one.peer.name: _status(one) for one in environments})
    for task, build in TABLES.items():
        report.tables[task] = build(arrays, _ask(task, environments, report, file))
    report.null = _peers_compare.null(arrays, _ask("null", environments, report, file))
    return report


def _ask(task: str, environments: Sequence[Environment], report: Report, file: Path) -> Results:
    """Run one task in every environment that can; note versions and failures in the report."""
    results: dict[str, Mapping[str, Any] | None] = {}
    for one in environments:
        if task not in one.peer.tasks or one.status != "installed":
            continue
        answer = one.call(task, file)
        results[one.peer.name] = answer.result
        told = report.peers[one.peer.name]
        told["versions"].update(answer.versions)
        if answer.reason:
            told.update(status="failed", reason=answer.reason)
    return results


def _status(environment: Environment) -> dict[str, Any]:
    return {"status": environment.status, "reason": environment.reason, "versions": {}}


def run_race(
    report: Report, environments: Sequence[Environment], arrays: Arrays, file: Path, *, runs: int, patience: float
) -> None:
    """Let ours and every peer that can race run in turn; put laps, load and the Bayesian interval into the report.

    Args:
        report: To fill.
        environments: The peers.
        arrays: What the file holds.
        file: The scores and the race's records.
        runs: Of each racer.
        patience: Seconds to wait for a quiet machine.
    """
    ours = Environment(peer=OURS, python=Path(sys.executable), status="installed")
    racers = {
        one.peer.name: one.call
        for one in (ours, *environments)
        if "race" in one.peer.tasks and one.status == "installed"
    }
    quiet, before = wait_until_quiet(patience), os.getloadavg()
    report.laps, failed = race(racers, arrays, file, runs=runs)
    report.bayes = bayes(LEAST_RUNS)
    report.timing = {"quiet": quiet, "loadBefore": before, "loadAfter": os.getloadavg(), "runs": runs, "failed": failed}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--install",
        type=Path,
        metavar="DIR",
        help="keep the environments there; default: a temporary folder in the user's cache",
    )
    parser.add_argument(
        "--privacy-meter", type=Path, metavar="PATH", help="source tree of ml_privacy_meter, which is on no registry"
    )
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=f"peers: {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--runs", type=int, default=LEAST_RUNS, help=f"runs of each racer, at least {LEAST_RUNS}; 0 leaves the race out"
    )
    parser.add_argument(
        "--patience", type=float, default=300.0, help="seconds to wait for a quiet machine before the race"
    )
    parser.add_argument(
        "--art-attack",
        choices=("lr", "rf", "nn"),
        default="lr",
        help="classifier of ART's learned attack; nn is its default and takes minutes",
    )
    options = parser.parse_args(arguments)
    if options.runs and options.runs < LEAST_RUNS:
        parser.error(f"--runs {options.runs}: expected 0 or at least {LEAST_RUNS}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, race and print; return 1 when a number differs that should not, 2 for a folder that cannot be used."""
    options = parse(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    arrays: Mapping[str, Any] = make(Sizes()) | {"art_attack": np.asarray(options.art_attack)}
    try:
        with (
            environments_folder(options.install) as folder,
            tempfile.TemporaryDirectory(prefix="cu-cert-peers-") as work,
        ):
            file = Path(work) / "scores.npz"
            np.savez(file, **arrays)
            environments = prepare(folder, options.privacy_meter, options.only)
            report = compare(environments, arrays, file)
            if options.runs:
                run_race(report, environments, arrays, file, runs=options.runs, patience=options.patience)
    except ValueError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 2
    print(report.to_json() if options.json else report.to_text())
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
