"""The benchmarks run and count right; what they measure is asserted nowhere, since it depends on the machine."""

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks import startup
from benchmarks._measure import LEAST_RUNS, Command, Ratios, cpu_seconds, interleaved

BUSY = "n = 0\nfor i in range(3_000_000): n += i"


def test_cpu_time_counts_work_and_not_waiting(tmp_path: Path) -> None:
    def seconds(code: str) -> float:
        command = Command(arguments=(sys.executable, "-c", code))
        return cpu_seconds(command, folder=tmp_path, environment=os.environ)

    assert seconds(BUSY) > 2 * seconds("import time; time.sleep(1)")


def test_an_unexpected_exit_code_stops_the_benchmark(tmp_path: Path) -> None:
    arguments = (sys.executable, "-c", "raise SystemExit(3)")
    assert cpu_seconds(Command(arguments=arguments, exit_code=3), folder=tmp_path, environment=os.environ) > 0
    with pytest.raises(RuntimeError, match="ended with 3, not 0"):
        cpu_seconds(Command(arguments=arguments), folder=tmp_path, environment=os.environ)


def test_programs_run_in_turn_after_a_round_that_does_not_count(tmp_path: Path) -> None:
    def writes(letter: str) -> Command:
        return Command(arguments=(sys.executable, "-c", f"print('{letter}', end='', file=open('log', 'a'))"))

    commands = {"a": writes("a"), "b": writes("b")}
    found = interleaved(commands, runs=LEAST_RUNS, folder=tmp_path, environment=os.environ)
    assert (tmp_path / "log").read_text() == "ab" * (LEAST_RUNS + 1)
    assert {name: len(runs) for name, runs in found.items()} == {"a": LEAST_RUNS, "b": LEAST_RUNS}
    with pytest.raises(ValueError, match=f"at least {LEAST_RUNS}"):
        interleaved(commands, runs=LEAST_RUNS - 1, folder=tmp_path, environment=os.environ)


def test_ratios_are_of_medians_over_the_first() -> None:
    found = Ratios(name="n", what="w", seconds={"base": [2.0, 1.0, 90.0], "other": [5.0, 6.0, 7.0]})
    assert found.ratios == {"base": 1.0, "other": 3.0}
    document = json.loads(found.to_json())
    assert document["ratios"] == {"base": 1.0, "other": 3.0}
    assert document["medianSeconds"] == {"base": 2.0, "other": 6.0}
    assert {"python", "platform", "cores"} <= set(document["machine"])
    assert "other    6.0000     3.0" in found.to_text()


def test_startup_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    startup.main(["--json", "--runs", str(LEAST_RUNS)])
    document = json.loads(capsys.readouterr().out)
    assert set(document["ratios"]) == {"python -c pass", "cu-cert --help", "cu-cert verify"}
    assert document["runs"] == LEAST_RUNS
    assert all(value > 0 for value in document["ratios"].values())
    with pytest.raises(SystemExit):
        startup.main(["--runs", "2"])
    assert "at least 7" in capsys.readouterr().err
