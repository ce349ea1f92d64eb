"""Time to the same result, side by side in one run: training shadow models and attacking."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from benchmarks._peers_compare import Arrays
from benchmarks._peers_environments import Answer
from cu_attacks._roc import area

LEAST_RUNS: Final = 3
QUIET: Final = 0.75
"""Load a core below which the machine counts as quiet."""

Racer = Callable[[str, Path], Answer]


@dataclass(frozen=True, kw_only=True)
class Lap:
    """One candidate of the race.

    Args:
        who: Whose.
        attack: Which attack.
        train: CPU seconds of training, one entry a run.
        score: CPU seconds of fitting and scoring alone.
        auc: Area under the curve that the attack reaches.
    """

    who: str
    attack: str
    train: Sequence[float]
    score: Sequence[float]
    auc: float

    @property
    def total(self) -> list[float]:
        """End to end, one entry a run."""
        return [first + second for first, second in zip(self.train, self.score, strict=True)]

    def document(self, base: "Lap") -> dict[str, object]:
        """Return medians, ranges and the medians' ratios to another candidate's."""
        parts = {
            "train": (self.train, base.train),
            "attack": (self.score, base.score),
            "total": (self.total, base.total),
        }
        return {
            "who": self.who,
            "attack": self.attack,
            "auc": round(self.auc, 4),
            "runs": len(self.train),
            "medianSeconds": {name: round(median(own), 6) for name, (own, _) in parts.items()},
            "rangeSeconds": {name: [round(min(own), 6), round(max(own), 6)] for name, (own, _) in parts.items()},
            "ratios": {name: round(median(own) / median(other), 3) for name, (own, other) in parts.items()},
        }


def race(racers: Mapping[str, Racer], arrays: Arrays, source: Path, *, runs: int) -> tuple[list[Lap], dict[str, str]]:
    """Let the racers run in turn, so that a slow minute hits all alike.

    Args:
        racers: By name, ours first; each runs one task on one file, in a process of its own.
        arrays: What the file holds.
        source: The file.
        runs: Of each racer, at least :data:`LEAST_RUNS`.

    Returns:
        The laps, and why a racer has none.

    Raises:
        ValueError: Too few runs.
    """
    if runs < LEAST_RUNS:
        raise ValueError(f"{runs} runs; expected at least {LEAST_RUNS}")
    told: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    failed: dict[str, str] = {}
    for _ in range(runs):
        for who, racer in racers.items():
            if who in failed:
                continue
            answer = racer("race", source)
            if answer.result is None:
                failed[who] = answer.reason
                continue
            for attack, lap in answer.result.items():
                told.setdefault((who, attack), []).append(lap)
    laps = [
        Lap(
            who=who,
            attack=attack,
            train=[lap["train"] for lap in found],
            score=[lap["attack"] for lap in found],
            auc=area(np.asarray(found[0]["scores"]), arrays["member"], name="AUC").value,
        )
        for (who, attack), found in told.items()
        if who not in failed
    ]
    return laps, failed


def wait_until_quiet(patience: float, *, load: Callable[[], float] = lambda: os.getloadavg()[0]) -> bool:
    """Wait until little else runs on the machine.

    Args:
        patience: Seconds after which the race starts anyway.
        load: Returns the number of running processes of the last minute.

    Returns:
        Whether the machine became quiet.
    """
    limit, start = QUIET * (os.cpu_count() or 1), time.monotonic()
    while load() > limit:
        if time.monotonic() - start >= patience:
            return False
        time.sleep(min(5.0, patience))
    return True
