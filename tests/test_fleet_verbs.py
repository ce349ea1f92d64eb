"""``cu-cert fleet status|gc``: what lies in the store of a project, and what may go."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from small_project import LOGISTIC, SMALLEST, fix_secrets, store_of, write_project

from cu_cert.cli.main import run
from cu_cert.fleet.store import Store

AUDIT = ["audit", "model.pt", "--forget", "ids.txt", "--method", "npo", "--no-sign", "--json"]
GC = ["fleet", "gc", "--json"]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after its first audit; tests work on copies."""
    folder = write_project(tmp_path_factory.mktemp("audited") / "project", **SMALLEST)
    fix_secrets(folder, "fleet verbs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["train"]) == 0
        assert run(AUDIT) == 0
    return folder


@pytest.fixture
def project(audited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(audited, tmp_path / "copy")
    monkeypatch.chdir(folder)
    return folder


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run(arguments) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run(arguments) == 0
    return capsys.readouterr().out


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_status_says_what_lies_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(project)
    found = told(["fleet", "status", "--verify", "--json"], capsys)
    assert found["schema"] == "cu-cert-fleet-status/1"
    assert found["store"] == str(store_of(project))
    assert set(found["models"]) == {"original", "retrained", "edit"}
    assert sum(one["models"] for one in found["models"].values()) == len(list(store_of(project).glob("??/*.json")))
    on_disk = sum(path.stat().st_size for path in store_of(project).glob("??/*"))
    assert sum(one["bytes"] for one in found["models"].values()) == found["bytes"] == on_disk
    assert (found["others"], found["failed"], found["inUseBy"]) == ({}, [], [])
    assert (found["verified"], found["damage"]) == (True, [])
    assert found["releaseProblem"] == ""
    assert found["release"]["models"] >= found["release"]["finished"]
    text = said(["fleet", "status"], capsys)
    for kind, one in found["models"].items():
        assert f"  {one['models']} {kind} (" in text
    assert f"release {found['release']['release'][:16]}" in text
    assert files(project) == before


def test_status_of_a_changed_recipe_and_of_another_machine(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = sum(one["models"] for one in told(["fleet", "status", "--json"], capsys)["models"].values())
    settings = (project / "cu-cert.toml").read_text()
    with monkeypatch.context() as patch:
        patch.setattr("cu_cert.fleet.environment.fingerprint_digest", lambda: "f" * 64)
        assert told(["fleet", "status", "--json"], capsys)["others"]["environment"]["models"] == models
        assert "of another machine or version of python or torch" in said(["fleet", "status"], capsys)
    (project / "cu-cert.toml").write_text(settings.replace(LOGISTIC, LOGISTIC.replace("epochs = 6", "epochs = 7")))
    found = told(["fleet", "status", "--json"], capsys)
    assert found["models"] == {}
    assert found["others"]["recipe"]["models"] == models
    # Without its data, a project still has a store.
    (project / "data.npz").unlink()
    found = told(["fleet", "status", "--json"], capsys)
    assert found["release"] is None
    assert "data.npz" in found["releaseProblem"]
    assert "release: cannot be told" in said(["fleet", "status"], capsys)


def test_status_tells_of_failed_runs_and_damage(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(store_of(project))
    key = sorted(store.known())[0]
    entry = store.entry(key)
    assert entry is not None
    from dataclasses import replace

    store.finish(key, replace(entry, model="", problem="it \x1b[31mdiverged", label="slots 7"))
    weights = sorted(store_of(project).glob("??/*.pt"))[-1]
    weights.write_bytes(b"cut")
    found = told(["fleet", "status", "--verify", "--json"], capsys)
    assert found["failed"] == [
        {
            "label": "slots 7",
            "problem": "it \x1b[31mdiverged",
            "entry": str(store.entry_path(key)),
            "usable": True,
        }
    ]
    assert [one["file"] for one in found["damage"]] == [str(weights)]
    text = said(["fleet", "status", "--verify"], capsys)
    assert "failed: slots 7: it \N{REPLACEMENT CHARACTER}[31mdiverged" in text
    assert f"to try it again, correct the cause and delete {store.entry_path(key)}" in text
    assert "read again: 1 files damaged" in text
    with store.hold("an audit"):
        assert "in use by an audit (process" in said(["fleet", "status"], capsys)
        assert told(["fleet", "status", "--json"], capsys)["inUseBy"][0]["purpose"] == "an audit"


def test_a_clean_up_keeps_what_a_second_audit_needs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = told(["fleet", "status", "--json"], capsys)["bytes"]
    weights = sum(path.stat().st_size for path in store_of(project).glob("??/*.pt"))
    then = time.time() - 100 * 86400
    for path in store_of(project).glob("??/*.json"):
        os.utime(path, (then, then))
    tried = told([*GC, "--limit", f"{size - weights}B", "--dry-run"], capsys)
    assert told(["fleet", "status", "--json"], capsys)["bytes"] == size
    done = told([*GC, "--limit", f"{size - weights}B"], capsys)
    assert done == tried | {"dryRun": False}
    assert done == {
        "schema": "cu-cert-fleet-gc/1",
        "store": str(store_of(project)),
        "dryRun": False,
        "models": 0,
        "weightsOnly": len(list(store_of(project).glob("??/*.json"))),
        "leftovers": 0,
        "freedBytes": weights,
        "leftBytes": size - weights,
    }
    assert told(AUDIT, capsys)["trained"] == 0
    # The audit used what is left, so it is young now.
    assert told([*GC, "--older", "50"], capsys)["models"] == 0
    text = said(["fleet", "gc", "--limit", "0 B"], capsys)
    assert "removed" in text
    assert "0 B left" in text
    assert told(AUDIT, capsys)["trained"] > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--limit", "2 gigs"], "size '2 gigs': expected a number with B, KB, MB"),
        (["--limit", "-1"], "size '-1': expected a number"),
        (["--older", "soon"], "Invalid value for '--older'"),
        (["--older", "-1"], "Invalid value for '--older'"),
        (["--older", "nan"], "Invalid value for '--older'"),
    ],
)
def test_bad_arguments(arguments: list[str], expected: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(project)
    assert run(["fleet", "gc", *arguments]) == 2
    assert expected in capsys.readouterr().err
    assert files(project) == before


def test_a_store_in_use_is_not_cleaned_up(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fcntl", reason="this system has no such locks")
    with Store(store_of(project)).hold("an audit"):
        assert run(["fleet", "gc", "--limit", "0"]) == 2
    error = capsys.readouterr().err
    assert f"store {store_of(project)}: in use by an audit (process {os.getpid()} on" in error
    assert "run this again when that has ended" in error


def test_the_store_of_a_cache_needs_no_project(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(store_of(project), cache, copy_function=shutil.copy)
    monkeypatch.setenv("CU_CERT_STORE", str(cache))
    shutil.rmtree(store_of(project))
    assert told(AUDIT, capsys)["trained"] == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    found = told(["fleet", "status", "--json"], capsys)
    assert found["store"] == str(cache)
    assert (found["release"], found["releaseProblem"]) == (None, "")
    assert set(found["models"]) >= {"original", "retrained"}
    assert told([*GC, "--limit", "0"], capsys)["leftBytes"] == 0
    monkeypatch.setenv("CU_CERT_STORE", str(tmp_path / "absent"))
    assert "not there yet" in said(["fleet", "status"], capsys)
    assert told([*GC, "--limit", "0"], capsys)["freedBytes"] == 0
    monkeypatch.setenv("CU_CERT_STORE", str(project))
    assert run(["fleet", "gc", "--limit", "0"]) == 2
    assert "is no store of cu-cert" in capsys.readouterr().err
    monkeypatch.delenv("CU_CERT_STORE")
    assert run(["fleet", "gc"]) == 2
    assert "no cu-cert.toml" in capsys.readouterr().err


def test_the_commands_of_the_page_run(project: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "store.md").read_text("utf-8")
    commands = [
        line.removeprefix("cu-cert ").split() for line in page.splitlines() if line.startswith("cu-cert fleet ")
    ]
    assert len(commands) >= 5
    for command in commands:
        assert run(command) == 0
