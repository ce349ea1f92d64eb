"""What a drill costs and what it sees: CPU time of ``cu-cert drill`` over that of one training, bounds by method.

python -m benchmarks.drill [--json] [--seeds N] [--project FOLDER]
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks._measure import machine

METHODS: Final[tuple[tuple[str, Mapping[str, object]], ...]] = (
    ("identity", {}),
    ("finetune", {}),
    ("npo", {}),
    ("retrain", {}),
)
"""No unlearning, two approximate methods, and the reference, all with their defaults."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method over all seeds, medians.

    Args:
        method: Its name.
        right: Share of right guesses.
        request: Lower bound on eps for the whole request.
        record: Lower bound on eps for one record.
        refuted: In how many drills it was refuted.
        seconds: CPU-seconds of a drill.
        ratio: The same over one training of the same recipe.
    """

    method: str
    right: float
    request: float
    record: float
    refuted: int
    seconds: float
    ratio: float


def measure(project: Path, *, seeds: int) -> list[Row]:
    """Drill each method once a seed, in turn, so that a slow minute of the machine hits all alike.

    Args:
        project: Folder of a ``cu-cert.toml``.
        seeds: Drills of each method.
    """
    from cu_cert.drilling import DrillResult, drill
    from cu_cert.project import load_project

    loaded = load_project(project / "cu-cert.toml")
    found: dict[str, list[DrillResult]] = {name: [] for name, _ in METHODS}
    for seed in range(seeds):
        for name, options in METHODS:
            found[name].append(drill(loaded, method=name, options=options, seed=f"benchmark {seed}", quiet=True))
    training = median(done.subjects[1].cpu_seconds for runs in found.values() for done in runs)
    return [
        Row(
            method=name,
            right=median(float(done.method.decisive.accuracy) for done in runs),
            request=median(float(done.method.decisive.request_bound) for done in runs),
            record=median(float(done.method.decisive.record_bound) for done in runs),
            refuted=sum(done.verdict == "REFUTED" for done in runs),
            seconds=median(done.total_cpu_seconds for done in runs),
            ratio=median(done.total_cpu_seconds for done in runs) / training,
        )
        for name, runs in found.items()
    ]


def to_json(rows: Sequence[Row], seeds: int) -> str:
    """Return one JSON object."""
    document = {
        "schema": "cu-cert-benchmark/1",
        "benchmark": "drill",
        "what": "one-run drills on mislabelled canaries; medians; ratios are CPU time of a drill over one training",
        "runs": seeds,
        "ratios": {row.method: round(row.ratio, 1) for row in rows},
        "medianSeconds": {row.method: round(row.seconds, 3) for row in rows},
        "accuracy": {row.method: round(row.right, 4) for row in rows},
        "epsRequestLower": {row.method: round(row.request, 4) for row in rows},
        "epsRecordLower": {row.method: round(row.record, 4) for row in rows},
        "refuted": {row.method: row.refuted for row in rows},
        "machine": machine(),
    }
    return json.dumps(document, indent=2)


def to_text(rows: Sequence[Row], seeds: int) -> str:
    """Return one table."""
    lines = [
        f"drill: one-run drills on mislabelled canaries; medians of {seeds} seeds; ratio to one training",
        f"{'method':10}{'accuracy':>9}{'eps request':>13}{'eps record':>12}{'refuted':>10}{'CPU s':>8}{'ratio':>7}",
    ]
    lines += [
        f"{row.method:10}{row.right:9.3f}{row.request:13.4f}{row.record:12.4f}{row.refuted:>6} of {seeds:<2}"
        f"{row.seconds:7.2f}{row.ratio:7.1f}"
        for row in rows
    ]
    lines.append(", ".join(f"{key} {value}" for key, value in machine().items()))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print one table, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drill", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=5, help="drills of each method, at least 1")
    parser.add_argument("--project", type=Path, help="folder of a cu-cert.toml; default: the built-in digits")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds {options.seeds}: expected at least 1")
    with tempfile.TemporaryDirectory(prefix="cu-cert-drill-") as folder:
        project = options.project
        if project is None:
            project = Path(folder)
            (project / "cu-cert.toml").write_text("schema = 1\n", encoding="utf-8")
        rows = measure(project, seeds=options.seeds)
    print(to_json(rows, options.seeds) if options.json else to_text(rows, options.seeds))


if __name__ == "__main__":
    main()
