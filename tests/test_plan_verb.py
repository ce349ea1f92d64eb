"""``cu-cert plan``: the plan is written and hashed, nothing is trained, and the audit then uses this plan."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from small_project import SMALLEST, predicate_of, store_of, write_project

from cu_cert.cli.main import run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_project(tmp_path / "project", **SMALLEST)
    monkeypatch.chdir(folder)
    assert run(["train", "-o", "model.pt"]) == 0
    return folder


def test_the_plan_of_a_project_is_the_one_that_its_audit_uses(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["plan", "model.pt", "--forget", "ids.txt", "--method", "npo", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sha256((project / "plan-out" / "plan.json").read_bytes()).hexdigest() == told["plan"]
    assert sorted(path.name for path in (project / "plan-out").iterdir()) == ["plan.json"]
    assert list(store_of(project).glob("??/*.pt")) == []
    assert run(["audit", "model.pt", "--forget", "ids.txt", "--method", "npo"]) == 0
    assert predicate_of(project / "audit-out")["plan"]["digest"]["sha256"] == told["plan"]


def test_a_table_of_its_own_replaces_that_of_the_project(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "small.toml").write_text("[audit]\nslots = 18\nreferences = 41\npilots = 4\ncontrols = 3\n")
    audit = ["audit", "model.pt", "--forget", "ids.txt", "--method", "npo", "--dry-run", "--json"]
    assert run([*audit, "--plan", "small.toml"]) == 2
    assert "an audit of this size cannot show enough" in capsys.readouterr().err
    (project / "other.toml").write_text("[audit]\n[training]\n")
    assert run([*audit, "--plan", "other.toml"]) == 2
    assert "expected the table [audit] alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("model.pt", "--forget", "ids.txt", "--model", "model.pt"), "--model: goes with PLAN.toml"),
        (("plan.toml", "--forget", "ids.txt", "--method", "npo"), "the plan file names the method"),
        (("absent.toml", "--forget", "ids.txt"), "cannot be read"),
        (("cu-cert.toml", "--forget", "ids.txt"), "unknown key 'data'"),
    ],
)
def test_bad_arguments(
    arguments: tuple[str, ...], expected: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", *arguments]) == 2
    assert expected in capsys.readouterr().err
    assert not (project / "plan-out").exists()
