"""The benchmark of the gate runs and counts right; what it measures depends on the machine and is asserted nowhere."""

import json
import os
import sys
from pathlib import Path

import pytest
from gate_files import made_in
from light_install import SOURCES

from benchmarks import gate
from benchmarks._measure import Command


def test_it_times_the_gate_beside_a_bare_interpreter(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_in(tmp_path_factory.getbasetemp(), tmp_path)
    (made.folder / "clean").rename(made.folder / "out")
    path = os.pathsep.join(SOURCES)
    monkeypatch.setattr(gate, "LEAST_RUNS", 1)  # a median of one run says nothing, and nothing here looks at it
    found = gate.measure(made.folder, runs=1, environment={**os.environ, "PYTHONPATH": path})
    document = json.loads(found.to_json())
    assert next(iter(document["ratios"])) == "python -c pass"
    assert document["ratios"]["python -c pass"] == 1
    assert set(document["ratios"]) == {"python -c pass", "cu-cert verify", "cu-cert gate", "cu-cert gate, 5 reports"}
    assert document["runs"] == 1
    assert (made.folder / "gate.sarif").is_file()


def test_an_unexpected_ending_stops_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing = Command(arguments=(sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(RuntimeError, match="ended with 3"):
        gate.wall_seconds(failing, folder=tmp_path, environment=os.environ)
    assert (
        gate.wall_seconds(Command(arguments=failing.arguments, exit_code=3), folder=tmp_path, environment=os.environ)
        > 0
    )
    with pytest.raises(ValueError, match="at least 7"):
        gate.measure(tmp_path, runs=1, environment=os.environ)
    with pytest.raises(SystemExit):
        gate.main(["--runs", "2"])
    assert "at least 7" in capsys.readouterr().err
