"""docs/receipt.md and docs/privacy.md: their commands do what they say, and their words are plain and claim nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from small_project import Finished, finished_audit, request_ids

from cu_cert._tables import AuditConfig, SigningConfig, UnlearningConfig
from cu_cert.cli.main import run
from cu_certificates.check.receipt import SAYS
from cu_certificates.lint import lint_wording
from cu_certificates.privacy import kind_of_id

DOCS = Path(__file__).parents[1] / "docs"
CHECK = Path(__file__).parents[1] / "certificates" / "cu_certificates" / "check"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(name: str, kind: str) -> list[str]:
    return [body for found, body in FENCE.findall(page(name)) if found == kind]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished_audit(tmp_path_factory.getbasetemp())


@pytest.fixture
def controller(done: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A controller's folder, with the names of the page."""
    shutil.copytree(done.out, tmp_path / "audit-out")
    for public in done.trust.parent.glob("config/*.pub.pem"):
        shutil.copyfile(public, tmp_path / "audit-key.pub.pem")
    shutil.copyfile(done.project / "ids.txt", tmp_path / "ids.txt")
    (tmp_path / "one-id.txt").write_text(request_ids(done.project)[0] + "\n")
    monkeypatch.chdir(tmp_path)
    assert run(["key", "trust", "audit-key.pub.pem", "-o", "trust.toml"]) == 0
    return tmp_path


def test_the_controllers_commands(
    controller: Path, done: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [line for block in blocks("privacy.md", "sh") for line in block.splitlines()]
    assert len(commands) == 7
    for command in commands:
        assert run(command.split()[1:]) == 0, command
    assert len(list((controller / "receipts").iterdir())) == len(request_ids(done.project))
    assert {"README.txt", "plan.json", "report.html"} <= {path.name for path in (controller / "public").iterdir()}
    # An audit of the page's example of a padded request works with the table as it stands there.
    (table,) = blocks("privacy.md", "toml")
    assert AuditConfig(**tomllib.loads(table)["audit"]).pad_request == 32
    # Destroying K: no new receipt can be written, and those handed out keep working.
    kept = json.loads((controller / "audit-out" / "private" / "request.json").read_text())
    assert (done.project / ".cu-cert" / "private" / kept["requestKeyFile"]).is_file()
    shutil.rmtree(controller / "audit-out" / "private")
    assert run([*commands[0].split()[1:-1], "later.json"]) == 2
    theirs = ["--certificate", "audit-out/report.html", "--trust", "trust.toml"]
    assert run(["receipt", "verify", "receipt.json", "--id-file", "one-id.txt", *theirs]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == SAYS


def test_the_data_subjects_commands(controller: Path, capsys: pytest.CaptureFixture[str]) -> None:
    issue = ["receipt", "issue", "--certificate", "audit-out/report.html", "--private", "audit-out/private"]
    assert run([*issue, "--id-file", "one-id.txt", "-o", "receipt.json"]) == 0
    subject = controller / "subject"
    subject.mkdir()
    for name, new in (
        ("receipt.json",) * 2,
        ("audit-key.pub.pem",) * 2,
        ("one-id.txt", "my-id.txt"),
        ("audit-out/report.html", "report.html"),
    ):
        shutil.copyfile(controller / name, subject / new)
    os.chdir(subject)
    show, check, alone = blocks("receipt.md", "sh")
    for command in (show + check).splitlines():
        capsys.readouterr()
        assert run(command.split()[1:]) == 0, command
    (expected,) = blocks("receipt.md", "text")
    assert capsys.readouterr().out.endswith(expected)
    shutil.copytree(CHECK, subject / "check", ignore=shutil.ignore_patterns("__pycache__"))
    words = alone.split()
    assert words[0] == "python"
    found = subprocess.run([sys.executable, "-B", "-S", *words[1:]], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == SAYS


def test_every_answer_of_the_table_is_one_that_the_program_gives(
    controller: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    issue = ["receipt", "issue", "--certificate", "audit-out/report.html", "--private", "audit-out/private"]
    assert run([*issue, "--id-file", "one-id.txt", "-o", "receipt.json"]) == 0
    told = []

    def ask(*more: str) -> None:
        capsys.readouterr()
        assert run(["receipt", "verify", "receipt.json", *more]) == 4
        told.append(capsys.readouterr().err)

    theirs = ["--certificate", "audit-out/report.html", "--trust", "trust.toml"]
    ask("--id", "somebody else")
    good = json.loads(Path("receipt.json").read_text())
    named, path = good["certificate"] | {"payload": {"sha256": "00" * 32}}, ["00" * 32, *good["path"][1:]]
    for change in ({"certificate": named}, {"path": path}):
        Path("receipt.json").write_text(json.dumps(good | change))
        ask("--id-file", "one-id.txt", *theirs)
    Path("receipt.json").write_text(json.dumps(good))
    report = Path("audit-out/report.html")
    signed = report.read_bytes()
    report.write_bytes(signed.replace(b"<title>", b"<title>x", 1))
    ask("--id-file", "one-id.txt", *theirs)
    report.write_bytes(signed)
    Path("trust.toml").unlink()
    assert run(["key", "generate", "other.pem"]) == 0
    assert run(["key", "trust", "other.pub.pem", "-o", "trust.toml"]) == 0
    ask("--id-file", "one-id.txt", *theirs)
    rows = [line for line in page("receipt.md").split("## When it says no")[1].splitlines() if line.startswith("| `")]
    assert len(rows) == len(told) == 5
    for row, message in zip(rows, told, strict=True):
        quoted = re.findall("`([^`]+)`", row.split("|")[1])
        pieces = [[re.escape(piece.strip()) for piece in one.split("...") if piece.strip()] for one in quoted]
        assert any(re.search(".*".join(each), message) for each in pieces), (row, message)


@pytest.mark.parametrize("name", ["receipt.md", "privacy.md"])
def test_no_sentence_claims_too_much(name: str) -> None:
    assert lint_wording(DOCS / name).hits == ()


def test_the_page_for_data_subjects_is_easy_to_read() -> None:
    """The grade of Flesch and Kincaid (1975) is about a reader's age minus 5."""
    text = FENCE.sub("", page("receipt.md"))
    text = re.sub(r"`[^`]*`|\[([^]]*)\]\([^)]*\)|^\|.*$|^#.*$", r"\1", text, flags=re.MULTILINE)
    sentences = [part for part in re.split(r"[.!?:]\s|\n\s*\n|\n- ", text) if re.search("[a-z]", part)]
    words = re.findall(r"[A-Za-z']+", text)

    def syllables(word: str) -> int:
        groups = re.findall("[aeiouy]+", word.lower())
        silent = word.lower().endswith("e") and not word.lower().endswith("le") and len(groups) > 1
        return max(len(groups) - silent, 1)

    grade = 0.39 * len(words) / len(sentences) + 11.8 * sum(map(syllables, words)) / len(words) - 15.59
    assert len(words) > 300
    assert grade < 7


def test_every_key_of_the_page_exists() -> None:
    rows = [line for line in page("privacy.md").splitlines() if line.startswith(("| `[signing]`", "| `[unlearning]`"))]
    stated = {re.findall(r"`\[(\w+)\]`", row)[0]: set(re.findall(r"`(\w+)`", row)) for row in rows}
    assert stated["signing"] == {key for key in SigningConfig.__dataclass_fields__ if key != "key"}
    assert (
        stated["unlearning"] == {"regimes", "received", "executed", "due"} < set(UnlearningConfig.__dataclass_fields__)
    )


def test_the_kinds_of_ids_are_those_of_the_lint() -> None:
    rows = [
        line.split("|")
        for line in page("privacy.md").splitlines()
        if line.startswith(("| distinctive", "| plain", "| short"))
    ]
    kinds = {"distinctive": "distinctive", "plain word": "word", "short or numeric": "short"}
    assert len(rows) == 3
    for row in rows:
        for example in re.findall("`([^`]+)`", row[2]):
            assert kind_of_id(example) == kinds[row[1].strip()]
