"""``cu-cert sign``: a draft is checked in full and becomes a certificate where the key is, or stays a draft."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from drafts import MEASURED, NOW, issue, key_and_trust, predicate_and_files, write_draft
from small_project import SMALLEST, environment, files_below, fix_secrets, write_project

from cu_cert.cli.main import run
from cu_certificates._log_lines import instant
from cu_certificates.check.strict import canonical, parse
from cu_certificates.envelope import statement
from cu_certificates.errors import UsageError
from cu_certificates.keys import ephemeral_key, generate_key, load_private_key
from cu_certificates.log import Log, load_log
from cu_certificates.report import render_skeleton
from cu_certificates.seal import seal
from cu_certificates.signing import sign_draft


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_draft(tmp_path / "project" / "out")
    return tmp_path / "project" / "out"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return key_and_trust(tmp_path)[0]


def sign(folder: Path, key: Path, *more: str) -> int:
    return run(["sign", str(folder / "certificate.draft.json"), "--key", str(key), *more])


def signed(folder: Path) -> dict[str, Any]:
    bundle = json.loads((folder / "certificate.sigstore.json").read_bytes())
    found: dict[str, Any] = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))["predicate"]
    return found


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the draft's statement, in canonical form, page and all else left alone."""
    file = folder / "certificate.draft.json"
    document = json.loads(file.read_bytes())
    change(document)
    file.write_bytes(canonical(document) + b"\n")


def redraw(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the draft's content as somebody does who also draws its page again."""
    predicate, _ = predicate_and_files()
    change(predicate)
    model = predicate["scope"]["model"]
    subjects = {model["name"]: model["digest"]["sha256"], "report.html": sha256(render_skeleton(predicate)).hexdigest()}
    (folder / "certificate.draft.json").write_bytes(statement(subjects, predicate) + b"\n")


def test_a_draft_becomes_a_certificate_that_a_reader_accepts(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, trust = key_and_trust(tmp_path)
    before = json.loads((out / "certificate.draft.json").read_bytes())["predicate"]
    assert sign(out, key, "--name", "Jane Doe, external") == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "verdict      NOT_REFUTED"
    assert "26 claims checked with their evidence" in said
    found = signed(out)
    assert found["auditor"] == {
        "name": "Jane Doe, external",
        "independence": "internal",
        "keyid": load_private_key(key).keyid,
    }
    assert found["verdict"]["value"] == "NOT_REFUTED"
    # Expiry counts from signing, and the time of the draft is kept.
    issued = datetime.strptime(found["issuedAt"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(issued - datetime.now(UTC)) < timedelta(minutes=5)
    assert found["expiresAt"] == instant(issued + timedelta(days=90))
    assert found["measuredAt"] == before["issuedAt"] == instant(MEASURED)
    set_at_signing = {"auditor", "verdict", "issuedAt", "expiresAt", "measuredAt"}
    assert {name: value for name, value in found.items() if name not in set_at_signing} == {
        name: value for name, value in before.items() if name not in set_at_signing
    }
    assert not (out / "certificate.draft.json").exists()
    for carrier in ("report.html", "certificate.sigstore.json"):
        assert run(["verify", str(out / carrier), "--trust", str(trust)]) == 0


def test_signing_needs_neither_torch_nor_numpy(out: Path, key: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from cu_cert.cli.main import run; code = run(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'sigstore', 'rfc3161_client'} & set(sys.modules); "
        "sys.exit(code or len(heavy))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, "sign", str(out / "certificate.draft.json"), "--key", str(key), "--json"],
        env=environment(tmp_path / "config"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    told = json.loads(found.stdout)
    assert (told["schema"], told["verdict"], told["log"]) == ("cu-cert-sign/1", "NOT_REFUTED", None)


# --- What is not signed ----------------------------------------------------------------------------------------------


def test_a_claim_that_does_not_follow_is_not_signed(out: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def better(predicate: dict[str, Any]) -> None:
        claim = next(claim for claim in predicate["claims"] if claim["id"] == "c-neg-procedure")
        claim["right"] = 0

    redraw(out, better)
    before = files_below(out)
    assert sign(out, key) == 4
    assert "nothing was signed: the checker rejects c-neg-procedure" in capsys.readouterr().err
    assert files_below(out) == before


def test_evidence_must_be_there_and_be_the_same(
    out: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slots = out / "evidence" / "slots.jsonl"
    data = slots.read_bytes()
    slots.unlink()
    before = files_below(out)
    assert sign(out, key) == 2
    assert "evidence file evidence/slots.jsonl is not at hand" in capsys.readouterr().err
    assert files_below(out) == before
    slots.write_bytes(data.replace(b'"score":', b'"score": ', 1))
    assert sign(out, key) == 4
    assert "the file was altered or exchanged" in capsys.readouterr().err
    slots.unlink()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "slots.jsonl").write_bytes(data)
    assert sign(out, key, "--evidence", str(tmp_path / "elsewhere")) == 0
    assert slots.read_bytes() == data  # the certificate's folder is complete


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda d: d["predicate"].update(verdict={"value": "NOT_REFUTED", "basis": [], "reasons": []}), 4, "a verdict"),
        (lambda d: d["predicate"]["auditor"].update(keyid="SHA256:abc"), 4, "states a verdict or a key"),
        (lambda d: d["predicate"]["tool"].update(version="9.9"), 2, "draws another page than the one .*'9.9'"),
        (lambda d: d["subject"].pop(), 2, "draws another page"),
        (lambda d: d.update(extra=1), 4, "fields"),
        (lambda d: d.update(predicateType="https://example.com/x"), 4, "predicateType"),
        (lambda d: d["predicate"].pop("auditor"), 4, "predicate.auditor"),
        (lambda d: d["predicate"].pop("scope"), 4, "scope.model.name"),
    ],
)
def test_a_draft_of_another_shape_is_not_signed(
    out: Path, key: Path, capsys: pytest.CaptureFixture[str], change: Any, code: int, message: str
) -> None:
    rewrite(out, change)
    before = files_below(out)
    assert sign(out, key) == code
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert files_below(out) == before


def test_a_draft_must_be_in_its_one_spelling(out: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = out / "certificate.draft.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()), indent=1))
    assert sign(out, key) == 4
    assert "not in canonical form" in capsys.readouterr().err
    file.write_bytes(b'{"_type":1,"_type":2}')
    assert sign(out, key) == 4
    assert "stands twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (MEASURED + timedelta(days=90), "audit again"),
        (MEASURED + timedelta(days=400), "audit again"),
        (MEASURED - timedelta(days=2), "check this computer's clock"),
    ],
)
def test_a_draft_is_signed_within_its_time(out: Path, now: datetime, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sign_draft(out / "certificate.draft.json", signer=ephemeral_key(), now=now)
    assert not (out / "certificate.sigstore.json").exists()


def test_the_last_moment_counts_and_doubles_a_life_at_most(out: Path) -> None:
    last = MEASURED + timedelta(days=90) - timedelta(seconds=1)
    sign_draft(out / "certificate.draft.json", signer=ephemeral_key(), now=last)
    found = signed(out)
    assert (found["issuedAt"], found["expiresAt"]) == (instant(last), instant(last + timedelta(days=90)))
    assert found["measuredAt"] == instant(MEASURED)


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "esc\x1b[0m", "x" * 201])
def test_a_name_is_a_line_of_text(out: Path, key: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sign(out, key, "--name", name) == 2
    assert "--name" in capsys.readouterr().err
    assert (out / "certificate.draft.json").exists()


def test_options_that_do_not_belong_are_refused(
    out: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = str(out / "certificate.draft.json")
    for arguments, message in (
        ([draft], "--key: name the private key"),
        ([draft, "--key", str(key), "--tsr", "a.tsr"], "--tsr: a draft has no signature yet"),
        ([draft, "--key", str(key), "--tsq", "q", "--tsa", "http://x"], "give one of them"),
        ([draft, "--key", str(key), "--log", str(tmp_path / "none.jsonl")], "none.jsonl' does not exist"),
        ([draft, "--key", str(key), "--evidence", str(key)], "is no folder"),
        ([draft, "--key", str(tmp_path / "none.pem")], "private key"),
        ([str(tmp_path / "none.json"), "--key", str(key)], "does not exist"),
        ([str(out / "plan.json")], "is no unsigned draft"),
        ([str(out / "plan.json"), "--key", str(key)], "--key: goes with an unsigned draft"),
    ):
        assert run(["sign", *arguments]) == 2, arguments
        assert message in capsys.readouterr().err, arguments
    assert not (tmp_path / "none.jsonl").exists()
    assert sign(out, key) == 0
    assert run(["sign", str(out / "certificate.sigstore.json"), "--key", str(key)]) == 2
    assert "countersign" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no unsigned statement"):
        sign_draft(out / "report.html", signer=ephemeral_key(), now=NOW)


def test_a_protected_key_signs_with_its_passphrase(out: Path, tmp_path: Path) -> None:
    key = tmp_path / "protected.pem"
    generate_key(key, passphrase=b"correct horse")
    assert sign(out, key) == 2
    reading, writing = os.pipe()
    os.write(writing, b"correct horse\n")
    os.close(writing)
    assert sign(out, key, "--passphrase-fd", str(reading)) == 0
    os.close(reading)


# --- Where it is written ---------------------------------------------------------------------------------------------


def test_another_folder_gets_everything_and_loses_nothing(
    out: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "signed"
    before = files_below(out)
    assert sign(out, key, "-o", str(elsewhere)) == 0
    assert files_below(out) == before
    assert set(files_below(elsewhere)) == {
        name for name in before if name not in ("certificate.draft.json", "report.html")
    } | {"certificate.sigstore.json", "report.html"}
    assert sign(out, key, "-o", str(elsewhere)) == 2
    assert "exists already and is never overwritten" in capsys.readouterr().err


def test_a_stamp_over_an_earlier_signature_goes(out: Path, key: Path) -> None:
    (out / "certificate.tsr").write_bytes(b"over another signature")
    assert sign(out, key) == 0
    assert not (out / "certificate.tsr").exists()


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_run_that_breaks_off_loses_nothing_and_can_be_repeated(
    out: Path, key: Path, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plan line, report, certificate and log line are put into place one after the other; each may be the last."""
    log = out.parent / ".cu-cert" / "log.jsonl"
    log.parent.mkdir()
    digest = json.loads((out / "certificate.draft.json").read_bytes())["predicate"]["plan"]["digest"]["sha256"]
    log.write_bytes(load_log_with_plan(digest))
    real, calls = os.replace, []

    def breaks(source: str, target: str) -> None:
        calls.append(target)
        if len(calls) == nth:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr("os.replace", breaks)
    code = sign(out, key)
    monkeypatch.undo()
    names = ["report.html", "certificate.sigstore.json", "log.jsonl"]
    assert [Path(target).name for target in calls] == names[: min(nth, 3)]
    assert code == (2 if nth <= 3 else 0)
    assert not list(out.parent.rglob(".*.????????????????"))  # no half-written file
    if code:
        if not (out / "certificate.draft.json").exists():  # all but the log: what log add is for
            assert run(["log", "add", str(out / "certificate.sigstore.json"), "--log", str(log)]) == 0
        else:
            assert sign(out, key) == 0
    assert signed(out)["sequence"] == 1
    found = load_log(log)
    assert [entry.kind for entry in found.entries] == ["plan", "certificate"]
    assert run(["log", "verify", "--log", str(log), str(out / "report.html")]) == 0


def load_log_with_plan(digest: str) -> bytes:
    return Log().with_plan(digest, "2026-01-01T00:00:00Z").to_bytes()


# --- The order of certificates ---------------------------------------------------------------------------------------


def test_a_draft_takes_its_number_when_it_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two drafts and two certificates of one project: numbers run without a gap, however late a draft is signed."""
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path / "config"))
    project = write_project(tmp_path / "project", **SMALLEST)
    fix_secrets(project, "numbers")
    monkeypatch.chdir(project)
    settings = (project / "cu-cert.toml").read_text()
    assert run(["train", "-o", "model.pt"]) == 0

    def audit(attempt: int, *more: str) -> Path:
        (project / "cu-cert.toml").write_text(f"{settings}attempt = {attempt}\n")
        command = ["audit", "model.pt", "--forget", "ids.txt", "--procedure", "none", "--out", f"out-{attempt}"]
        assert run([*command, *more, "--json"]) == 0
        return project / f"out-{attempt}"

    # A dry run leaves nothing behind; a plan is entered before anything is trained for it.
    assert run(["audit", "model.pt", "--forget", "ids.txt", "--procedure", "none", "--dry-run"]) == 0
    assert not (project / ".cu-cert" / "log.jsonl").exists()
    with monkeypatch.context() as patch:
        patch.setattr("cu_cert.protocol.train_fleet", lambda *arguments, **more: 1 / 0)
        assert run(["audit", "model.pt", "--forget", "ids.txt", "--procedure", "none", "--out", "stopped"]) == 70
    fixed = sha256((project / "stopped" / "plan.json").read_bytes()).hexdigest()
    assert [entry.digest for entry in load_log(project / ".cu-cert" / "log.jsonl").open_plans()] == [fixed]

    first, never, late, last = audit(1), audit(2, "--no-sign"), audit(3, "--no-sign"), audit(4)
    key = next((tmp_path / "config").glob("audit-key.pem"))
    assert sign(late, key) == 0
    found = [signed(folder) for folder in (first, last, late)]
    assert [one["sequence"] for one in found] == [1, 2, 3]
    log = load_log(project / ".cu-cert" / "log.jsonl")
    numbered = [entry.digest for entry in log.certificates()]
    assert "previous" not in found[0]
    assert [one["previous"]["sha256"] for one in found[1:]] == numbered[:2]
    assert [one["log"]["size"] for one in found] == [1, 5, 6]
    assert [one["log"]["root"] for one in found] == [log.root(size) for size in (1, 5, 6)]
    left = parse((never / "certificate.draft.json").read_bytes().rstrip(b"\n"))["predicate"]["plan"]["digest"]["sha256"]
    assert [entry.digest for entry in log.open_plans()] == [left]
    files = [str(folder / "report.html") for folder in (first, last, late)]
    assert run(["log", "verify", *files]) == 0


def test_away_from_the_project_the_drafts_own_number_stays(out: Path, key: Path, tmp_path: Path) -> None:
    assert sign(out, key, "--json") == 0
    assert signed(out)["sequence"] == 1
    assert not list(tmp_path.rglob("log.jsonl"))
    # A log that does not know the plan belongs to another project, even if it lies above.
    other = tmp_path / ".cu-cert" / "log.jsonl"
    other.parent.mkdir()
    other.write_bytes(load_log_with_plan("ab" * 32))
    before = other.read_bytes()
    write_draft(tmp_path / "second")
    assert sign(tmp_path / "second", key) == 0
    assert other.read_bytes() == before
    # Named, it is used.
    write_draft(tmp_path / "third")
    assert sign(tmp_path / "third", key, "--log", str(other)) == 0
    assert signed(tmp_path / "third")["log"]["size"] == 2
    assert len(load_log(other).entries) == 3


def test_a_certificate_from_elsewhere_is_entered_later(
    out: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"")
    assert sign(out, key) == 0
    certificate = str(out / "certificate.sigstore.json")
    assert run(["log", "add", certificate, "--log", str(log)]) == 0
    once = log.read_bytes()
    assert run(["log", "add", certificate, "--log", str(log), "--json"]) == 0
    assert log.read_bytes() == once
    capsys.readouterr()
    issue(tmp_path / "same-number", load_private_key(key), issuedAt=instant(NOW))
    assert run(["log", "add", str(tmp_path / "same-number" / "report.html"), "--log", str(log)]) == 4
    said = capsys.readouterr().err
    assert "does not continue the log" in said
    assert "sign its draft again with this log" in said
    assert log.read_bytes() == once
    write_draft(tmp_path / "draft")
    assert run(["log", "add", str(tmp_path / "draft" / "certificate.draft.json"), "--log", str(log)]) == 4
    assert "UNSIGNED" in capsys.readouterr().err


def test_what_is_sealed_shows_the_same_page_whoever_seals_it() -> None:
    predicate, files = predicate_and_files()
    first, second = (seal(predicate, files.get, signer=key) for key in (None, ephemeral_key()))
    assert first.bundle is None
    assert first.result.stated is None
    assert second.result.stated == first.result.derived == "NOT_REFUTED"
    assert b"UNSIGNED DRAFT" in first.report
    assert b"UNSIGNED DRAFT" not in second.report
