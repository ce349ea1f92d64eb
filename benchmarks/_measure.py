"""What the benchmarks share: CPU time of child processes, interleaved runs, machine facts, one table or JSON object."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

LEAST_RUNS: Final = 7


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program to time.

    Args:
        arguments: The program and its arguments.
        exit_code: With which it must end; anything else stops the benchmark.
    """

    arguments: Sequence[str]
    exit_code: int = 0


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """The outcome of a benchmark.

    Args:
        name: Of the benchmark.
        what: What the numbers are, in one line.
        seconds: The runs of each candidate, by name, in the order of a table; the first is what the others are
            compared with.
    """

    name: str
    what: str
    seconds: Mapping[str, Sequence[float]]

    @property
    def medians(self) -> dict[str, float]:
        """The median of each candidate's runs, in seconds."""
        return {name: median(runs) for name, runs in self.seconds.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """Each median over that of the first candidate."""
        found = self.medians
        base = found[next(iter(found))]
        return {name: seconds / base for name, seconds in found.items()}

    @property
    def runs(self) -> int:
        """How often each candidate ran."""
        return min(map(len, self.seconds.values()))

    def to_json(self) -> str:
        """Return one JSON object."""
        document = {
            "schema": "cu-cert-benchmark/1",
            "benchmark": self.name,
            "what": self.what,
            "runs": self.runs,
            "ratios": {name: round(value, 2) for name, value in self.ratios.items()},
            "medianSeconds": {name: round(value, 4) for name, value in self.medians.items()},
            "machine": machine(),
        }
        return json.dumps(document, indent=2)

    def to_text(self) -> str:
        """Return one table."""
        width = max(map(len, self.seconds))
        lines = [f"{self.name}: {self.what}; median of {self.runs} interleaved runs"]
        lines.append(f"{'':{width}}  {'seconds':>8}  {'ratio':>6}")
        for name, seconds in self.medians.items():
            lines.append(f"{name:{width}}  {seconds:8.4f}  {self.ratios[name]:6.1f}")
        lines.append(", ".join(f"{key} {value}" for key, value in machine().items()))
        return "\n".join(lines)


def machine() -> dict[str, object]:
    """Return the facts without which a number means little."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(terse=True),
        "processor": platform.machine(),
        "cores": os.cpu_count() or 1,
    }


def cpu_seconds(command: Command, *, folder: Path, environment: Mapping[str, str]) -> float:
    """Run a program and return its CPU time, user and system, in seconds.

    The time counts what the program's own children took, as far as it waited for them. What else the machine does
    meanwhile hardly matters, unlike for time on the wall.

    Args:
        command: The program.
        folder: Where it runs.
        environment: Its environment.

    Raises:
        RuntimeError: It ends with another exit code than expected.
    """
    child = subprocess.Popen(
        command.arguments, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)  # Popen cannot know: somebody else waited for its child
    if child.returncode != command.exit_code:
        raise RuntimeError(f"{' '.join(command.arguments)} ended with {child.returncode}, not {command.exit_code}")
    return usage.ru_utime + usage.ru_stime


def interleaved(
    commands: Mapping[str, Command], *, runs: int, folder: Path, environment: Mapping[str, str]
) -> dict[str, list[float]]:
    """Time programs in turn, so that a slow minute of the machine hits all alike; a first round warms the caches.

    Args:
        commands: The programs by name.
        runs: How often each is timed, at least :data:`LEAST_RUNS`.
        folder: Where they run.
        environment: Their environment.

    Returns:
        CPU seconds of each run, by name.

    Raises:
        ValueError: ``runs`` is too small for a median to mean anything.
    """
    if runs < LEAST_RUNS:
        raise ValueError(f"{runs} runs; expected at least {LEAST_RUNS}")
    found: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            seconds = cpu_seconds(command, folder=folder, environment=environment)
            if turn:
                found[name].append(seconds)
    return found
