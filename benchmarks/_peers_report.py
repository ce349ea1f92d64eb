"""The report of the comparison: one JSON object, or Markdown tables."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks._measure import machine
from benchmarks._peers_compare import Row
from benchmarks._peers_race import Lap


@dataclass(kw_only=True)
class Report:
    """What was found.

    Args:
        peers: Each peer's status, reason and versions.
        tables: Rows of each comparison.
        null: How often a number is above 0 when nothing was remembered.
        laps: The race.
        timing: Load before and after, whether the machine was quiet, and why a racer is missing.
        bayes: The Bayesian interval.
    """

    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    tables: dict[str, list[Row]] = field(default_factory=dict)
    null: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    laps: list[Lap] = field(default_factory=list)
    timing: dict[str, Any] = field(default_factory=dict)
    bayes: dict[str, object] = field(default_factory=dict)

    @property
    def differences(self) -> list[Row]:
        """Rows whose numbers should be the same and are not."""
        return [row for rows in self.tables.values() for row in rows if row.agrees is False]

    def to_json(self) -> str:
        """Return one JSON object."""
        document = {
            "schema": "cu-cert-benchmark-peers/1",
            "benchmark": "peers",
            "machine": machine(),
            "peers": self.peers,
            **{name: [row.document() for row in rows] for name, rows in self.tables.items()},
            "null": self.null,
            "race": [lap.document(self.laps[0]) for lap in self.laps],
            "timing": self.timing,
            "bayes": self.bayes,
            "differences": len(self.differences),
        }
        return json.dumps(document, indent=2)

    def to_text(self) -> str:
        """Return Markdown tables."""
        lines = ["## Peers", "", "| peer | status | versions or reason |", "|---|---|---|"]
        for name, peer in self.peers.items():
            versions = ", ".join(f"{key} {value}" for key, value in peer["versions"].items())
            lines.append(f"| {name} | {peer['status']} | {peer['reason'] or versions} |")
        for title, rows in self.tables.items():
            lines += [
                "",
                f"## {title}",
                "",
                "| peer | number | ours | theirs | ours, their way | same |",
                "|---|---|---|---|---|---|",
            ]
            lines += [_line(row) for row in rows]
        lines += ["", "## null", "", "| number | share above 0 | mean |", "|---|---|---|"]
        for who, numbers in self.null.items():
            lines += [
                f"| {who}, {name} | {told['above 0']:.3f} | {told['mean']:.3f} |" for name, told in numbers.items()
            ]
        lines += [
            "",
            "## race",
            "",
            "| who | attack | AUC | train | attack alone | end to end |",
            "|---|---|---|---|---|---|",
        ]
        for lap in self.laps:
            told = lap.document(self.laps[0])
            lines.append(f"| {lap.who} | {lap.attack} | {told['auc']} | " + " | ".join(_times(told)) + " |")
        lines += [
            "",
            f"timing: {self.timing}",
            f"bayes: {self.bayes}",
            ", ".join(f"{k} {v}" for k, v in machine().items()),
        ]
        return "\n".join(lines)


def _line(row: Row) -> str:
    numbers = ("" if value is None else f"{value:.6g}" for value in (row.ours, row.theirs, row.expected))
    same = {True: "yes", False: "**no**", None: "no counterpart"}[row.agrees]
    return f"| {row.peer} | {row.quantity} | {' | '.join(numbers)} | {same} |"


def _times(told: Mapping[str, Any]) -> list[str]:
    return [f"{told['medianSeconds'][part]:.4f} s ({told['ratios'][part]:g})" for part in ("train", "attack", "total")]
