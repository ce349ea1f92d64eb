"""What a fleet saves: many models in one program, re-use over requests, early stopping, spreading; against peers.

python -m benchmarks.fleet [--json] [--runs N] [--only PART ...] [--install DIR] [--privacy-meter PATH]

Every number is a ratio within this run. Candidates run in turn, each in a process of its own on one thread.

- ``training``: CPU time of one-by-one PyTorch over ours, and the share of the machine's rate of matrix products that
  the useful arithmetic reaches;
- ``peers``: 64 shadow models and an attack with them, end to end, on digits and on part of Fashion-MNIST;
- ``second``: CPU time of the second audit against one release over that of the first;
- ``sequential``: models that slots one by one train, over those of 64 fixed slots;
- ``spread``: time on the wall with Ray over that with local processes.

The cases on Fashion-MNIST need ``CU_CERT_DATA`` and are left out without it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import sequential
from benchmarks._fleet_audits import SETTINGS
from benchmarks._fleet_peers import end_to_end
from benchmarks._fleet_train import CASES, FASHION, WAYS
from benchmarks._measure import machine
from benchmarks._peers_environments import last_line, one_thread
from benchmarks.peers import environments_folder

LEAST_RUNS: Final = 3
WORKERS: Final = (1, 2)

Part = Callable[[argparse.Namespace], dict[str, Any]]


def child(module: str, *arguments: str) -> Any:
    """Run one measurement in a process of its own, on one thread, and return what it printed.

    Raises:
        RuntimeError: It failed.
    """
    with tempfile.TemporaryDirectory(prefix="cu-cert-fleet-") as folder:
        given = [argument.format(folder=folder) for argument in arguments]
        settings = one_thread() | {"CU_CERT_CONFIG": str(Path(folder) / "config")}
        settings.pop("CU_CERT_STORE", None)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{module}", *given], env=settings, capture_output=True, text=True
        )
    if done.returncode:
        raise RuntimeError(f"benchmarks.{module} {' '.join(arguments)}: {last_line(done.stderr)}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def training(options: argparse.Namespace) -> dict[str, Any]:
    """Train each case in each way, in turn."""
    found: dict[str, Any] = {}
    for name, case in CASES.items():
        if case.data != "digits" and FASHION not in os.environ:
            continue
        runs: dict[str, list[Mapping[str, float]]] = {way: [] for way in WAYS}
        for _ in range(options.runs):
            for way in WAYS:
                runs[way].append(child("_fleet_train", name, way, str(case.models)))
        seconds = {way: median(run["seconds"] / run["models"] for run in told) for way, told in runs.items()}
        found[name] = {
            "models": case.models,
            "secondsPerModel": {way: round(value, 5) for way, value in seconds.items()},
            "loopOverVectorised": round(seconds["loop"] / seconds["vectorised"], 2),
            "singleOverVectorised": round(seconds["single"] / seconds["vectorised"], 2),
        }
        if case.recipe == "mlp":
            shares = [run["useful"] / run["matrix"] for run in runs["vectorised"]]
            found[name]["shareOfMatrixRate"] = round(median(shares), 3)
            found[name]["loopShareOfMatrixRate"] = round(
                median(run["useful"] / run["matrix"] for run in runs["loop"]), 3
            )
    return found


def peers(options: argparse.Namespace) -> dict[str, Any]:
    """Race the peers' trainers and attacks, each in its own environment."""
    with environments_folder(options.install) as folder:
        return end_to_end(folder, options.privacy_meter, runs=options.runs)


def second(options: argparse.Namespace) -> dict[str, Any]:
    """Audit two requests against one release under each setting."""
    found: dict[str, Any] = {}
    for name in SETTINGS:
        if "fashion" in name and FASHION not in os.environ:
            continue
        runs = [child("_fleet_audits", name, "{folder}") for _ in range(options.runs)]
        shares = [later["seconds"] / first["seconds"] for first, later in runs]
        found[name] = {
            "share": round(median(shares), 3),
            "trained": [runs[0][0]["trained"], runs[0][1]["trained"]],
        }
    return found


def one_by_one(options: argparse.Namespace) -> dict[str, Any]:
    """Count models until the verdict, fixed and one by one."""
    with tempfile.TemporaryDirectory(prefix="cu-cert-fleet-") as folder:
        rows = sequential.measure(Path(folder), seeds=options.runs, cases=("original", "retrain"))
    models = {(row.case, row.design): row.to_json()["models"] for row in rows}
    return {
        words: round(models[case, "one by one"] / models[case, "all slots"], 3)
        for case, words in (("original", "clear failure"), ("retrain", "clear success"))
    }


def spread(options: argparse.Namespace) -> dict[str, Any]:
    """Train the same small models with processes and with Ray."""
    try:
        import ray  # noqa: F401
    except ImportError:
        return {"skipped": "ray is not installed; pip install 'cu-cert[ray]'"}
    names = [(spec, workers) for workers in WORKERS for spec in ("local", "ray")]
    runs: dict[tuple[str, int], list[float]] = {name: [] for name in names}
    for _ in range(options.runs):
        for spec, workers in names:
            told = child("_fleet_spread", spec, str(workers), "{folder}")
            runs[spec, workers].append(told["seconds"] / told["models"])
    seconds = {name: median(told) for name, told in runs.items()}
    return {
        f"{workers} workers": {
            "rayOverLocal": round(seconds["ray", workers] / seconds["local", workers], 2),
            "millisecondsPerModel": {spec: round(1000 * seconds[spec, workers], 2) for spec in ("local", "ray")},
        }
        for workers in WORKERS
    }


PARTS: Final[Mapping[str, Part]] = {
    "training": training,
    "peers": peers,
    "second": second,
    "sequential": one_by_one,
    "spread": spread,
}


def headline(found: Mapping[str, Any]) -> dict[str, float]:
    """Return one number a question, by the names that a script may rely on."""
    named: dict[str, float] = {}
    if cases := found.get("training"):
        named["dense_vs_loop_cpu"] = cases["dense digits"]["loopOverVectorised"]
        named["conv_vs_loop_cpu"] = cases["conv digits"]["loopOverVectorised"]
        named["dense_share_of_matmul_rate"] = cases["dense digits"]["shareOfMatrixRate"]
    if settings := found.get("second"):
        named["second_audit_share"] = settings["single records"]["share"]
        named["second_audit_share_sequential"] = settings["sequential"]["share"]
        named["second_audit_share_everything"] = settings["everything"]["share"]
        if longer := settings.get("single records, fashion"):
            named["second_audit_share_fashion"] = longer["share"]
    if shares := found.get("sequential"):
        named["sequential_share_of_fixed"] = shares["clear failure"]
    for data, laps in found.get("peers", {}).get("races", {}).items():
        named |= {f"{who}_vs_ours_{data}": lap["total"] for who, lap in laps.items()}
    for workers, told in found.get("spread", {}).items():
        if isinstance(told, dict):
            named[f"ray_vs_local_{workers.replace(' ', '_')}"] = told["rayOverLocal"]
    return named


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=LEAST_RUNS, help=f"runs of each, at least {LEAST_RUNS}")
    parser.add_argument(
        "--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--install", type=Path, metavar="DIR", help="keep the peers' environments there")
    parser.add_argument(
        "--privacy-meter", type=Path, metavar="PATH", help="source tree of ml_privacy_meter, which is on no registry"
    )
    options = parser.parse_args(arguments)
    if options.runs < LEAST_RUNS:
        parser.error(f"--runs {options.runs}: expected at least {LEAST_RUNS}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print one table, or one JSON object."""
    options = parse(arguments)
    before = os.getloadavg()
    found = {name: PARTS[name](options) for name in options.only}
    document = {
        "schema": "cu-cert-benchmark/1",
        "benchmark": "fleet",
        "runs": options.runs,
        **headline(found),
        "parts": found,
        "load": [round(value, 2) for value in (*before[:1], *os.getloadavg()[:1])],
        "machine": machine(),
    }
    print(json.dumps(document, indent=2) if options.json else to_text(document))


def to_text(document: Mapping[str, Any]) -> str:
    """Return the headline numbers as a table, and the parts below it."""
    named = {name: value for name, value in document.items() if isinstance(value, float)}
    width = max(map(len, named), default=0)
    lines = [f"fleet: ratios of medians over {document['runs']} runs"]
    lines += [f"{name:{width}}  {value:7.3f}" for name, value in named.items()]
    for part, rows in document["parts"].items():
        lines += ["", part]
        lines += [f"  {name}: {json.dumps(row)}" for name, row in rows.items()]
    lines += ["", ", ".join(f"{key} {value}" for key, value in document["machine"].items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
