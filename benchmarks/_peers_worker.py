"""What the peers' workers share. Runs in a peer's environment, so it needs the standard library and numpy alone.

``python -m benchmarks._peers_NAME TASK INPUT.npz OUTPUT.json`` runs one task of one peer in a process of its own.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]
Task = Callable[[Arrays], dict[str, Any]]
Result = TypeVar("Result")

ALPHA = 0.05
FALSE_RATES = (0.01, 0.001)
DELTAS = (0.0, 1e-5, 1e-3)


def run(tasks: Mapping[str, Task], *, distributions: tuple[str, ...]) -> None:
    """Run the task that the command line names and write its result.

    Args:
        tasks: The peer's tasks by name; each takes the arrays of the input file.
        distributions: Whose versions are told with the result.
    """
    name, source, target = sys.argv[1:4]
    with np.load(source, allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    result = tasks[name](arrays)
    versions = {distribution: version(distribution) for distribution in distributions}
    Path(target).write_text(json.dumps({"versions": versions, "result": result}, default=_plain), encoding="utf-8")


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def scored(arrays: Arrays) -> Iterator[tuple[str, npt.NDArray[Any], npt.NDArray[np.bool_]]]:
    """Yield (name, scores, member) of every set of scores in the input file."""
    for key in sorted(arrays):
        if key.startswith("score:"):
            yield key.removeprefix("score:"), arrays[key], arrays["member"]


def timed(work: Callable[[], Result], *, short: float = 1.0, least: float = 0.1) -> tuple[Result, float]:
    """Run some work; return its result and the CPU seconds of one call.

    Args:
        work: What is timed.
        short: Work that takes less than so many seconds is run again, warm, and its mean time counts.
        least: For how many seconds it is run again.
    """
    start = time.process_time()
    result = work()
    taken = time.process_time() - start
    if taken >= short:
        return result, taken
    calls, start = 0, time.process_time()
    while (taken := time.process_time() - start) < least:
        work()
        calls += 1
    return result, taken / calls
