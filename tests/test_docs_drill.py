"""docs/drill.md: its commands, run from top to bottom on a small project, and its table of files."""

import re
import shlex
from pathlib import Path

import pytest
from small_project import fix_secrets, write_project
from test_drill_certificate import TRAINING

from cu_cert.cli.main import run
from cu_certificates._forbidden import forbidden_in

PAGE = (Path(__file__).parents[1] / "docs" / "drill.md").read_text(encoding="utf-8")


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path / "keys"))
    project = write_project(tmp_path / "project", training=TRAINING)
    fix_secrets(project, "docs drill")
    monkeypatch.chdir(project)
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 4
    seen = {}
    for command in commands:
        program, verb, *arguments = shlex.split(command)
        assert program == "cu-cert"
        if verb == "verify":
            assert run(["key", "trust", str(next((tmp_path / "keys").glob("*.pub.pem"))), "--out", "trust.toml"]) == 0
        code = run([verb, *arguments])
        assert code in ((0,) if verb != "gate" else (0, 1, 3)), capsys.readouterr().err
        seen[verb] = capsys.readouterr().out
    verdict = seen["drill"].splitlines()[-1].split()[-1]
    assert verdict in seen["verify"].splitlines()[-1]
    assert {0: "policy satisfied", 1: "policy violated", 3: "inconclusive"}[code] in seen["gate"]
    assert code == {"REFUTED": 1, "INCONCLUSIVE": 3, "NOT_REFUTED": 0}[verdict]
    listed = set(re.findall(r"`([\w.-]+/?)`", PAGE.partition("| in `drill-out/` | |")[2].partition("\n\n")[0]))
    there = {path.name + "/" * path.is_dir() for path in (project / "drill-out").iterdir()}
    assert listed == there


def test_the_page_claims_no_more_than_a_drill_shows() -> None:
    assert not forbidden_in(PAGE, ["en"])
