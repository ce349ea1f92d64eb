"""``cu-cert log show|verify|prove|add`` and ``verify --log``, over the log of a small project."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from drafts import NOW, issue, key_and_trust, predicate_and_files

from cu_cert.cli.main import run
from cu_certificates._log_lines import instant, logged
from cu_certificates.keys import ephemeral_key, load_private_key
from cu_certificates.log import Log, load_log

TIME = "2026-11-20T18:00:00Z"
DROPPED = hashlib.sha256(b"dropped").hexdigest()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two certificates of one plan, a plan without one, and the log of all."""
    folder = tmp_path_factory.mktemp("project")
    key, log = ephemeral_key(), Log().with_plan(DROPPED, TIME)
    plan = predicate_and_files()[0]["plan"]["digest"]["sha256"]
    for name in ("first", "second"):
        log = log.with_plan(plan, TIME)
        issued = issue(folder / name, key, **log.position())
        payload = json.loads(issued.certificate.read_bytes())["dsseEnvelope"]["payload"]
        own = hashlib.sha256(base64.b64decode(payload)).hexdigest()
        log = log.with_certificate(logged(name, own, issued.result.predicate))
    (folder / ".cu-cert").mkdir()
    (folder / ".cu-cert" / "log.jsonl").write_bytes(log.to_bytes())
    return folder


@pytest.fixture(autouse=True)
def _inside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "project" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("project"))


def test_show_lists_and_verify_names_what_is_open(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["log", "show"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in shown[:-1]] == ["plan", "plan", "certificate", "certificate"]
    assert shown[-1] == f"size 4, root {load_log(project / '.cu-cert' / 'log.jsonl').root()}"
    assert run(["log", "verify", "first/report.html"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("No signature was checked")
    assert "first/report.html stands on line 3" in said
    assert "not given    certificate 2" in said
    assert f"open plan    {TIME}, sha256:{DROPPED}: ended in no certificate" in said
    assert run(["log", "verify", "first/report.html", "second/certificate.sigstore.json", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["signatureChecked"], told["notGiven"]) == ("cu-cert-log/1", False, [])
    assert [entry["digest"] for entry in told["open"]] == [DROPPED]
    assert [entry["line"] for entry in told["certificates"]] == [3, 4]


def test_verify_takes_the_log_too(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, trust = key_and_trust(tmp_path)
    log = Log().with_plan(DROPPED, TIME)
    issued = issue(tmp_path / "out", load_private_key(key), issuedAt=instant(NOW), **log.position())
    (tmp_path / "log.jsonl").write_bytes(log.to_bytes())
    command = ["verify", str(issued.report), "--trust", str(trust), "--log", str(tmp_path / "log.jsonl")]
    assert run(command) == 4
    assert "does not stand in this log" in capsys.readouterr().err
    assert run(["log", "add", str(issued.report), "--log", str(tmp_path / "log.jsonl")]) == 0
    capsys.readouterr()
    assert run(command) == 0
    said = capsys.readouterr().out
    assert "certificate 1 stands on line 3 of 3" in said
    assert "the lines before it are those that it states" in said
    assert "1 plans ended in no certificate: ask what became of them" in said


def test_prove_and_verify_a_proof(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = str(tmp_path / "one.json"), str(tmp_path / "two.json")
    assert run(["log", "prove", "first/report.html", "-o", one, "--size", "3"]) == 0
    assert run(["log", "prove", "--from", "2", "-o", two, "--json"]) == 0
    capsys.readouterr()
    assert run(["log", "verify", "--path", one, "first/report.html", "second/report.html"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == [
        "first/report.html stands on line 3 of 3",
        "its root is the one that second/report.html states",
    ]
    assert run(["log", "verify", "--path", two, "--json", "first/report.html"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["shown"][1] == "its root is the one that first/report.html states"
    assert run(["log", "verify", "--path", one, "second/report.html"]) == 4
    assert "give that certificate" in capsys.readouterr().err


def test_wrong_use_is_told(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["prove"], "give a certificate, or --from N"),
        (["prove", "first/report.html", "--from", "1"], "not both"),
        (["verify", "--path", "x", "--log", "y"], "stands in the place of the log"),
        (["verify", "--path", "first/certificate.sigstore.json"], "give a file that 'cu-cert log prove' wrote"),
        (["show", "--log", "none.jsonl"], "does not exist"),
        (["add", "first/report.html", "--log", "none.jsonl"], "does not exist"),
    ):
        assert run(["log", *arguments]) == 2, arguments
        assert message in capsys.readouterr().err, arguments
    assert not (project / "none.jsonl").exists()


def test_outside_a_project_a_log_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["log", "show"]) == 2
    assert "name the one that you were given with --log" in capsys.readouterr().err
