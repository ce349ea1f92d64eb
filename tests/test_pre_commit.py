"""``cu-cert-verify``, the program behind the pre-commit hook: each kind of file, and the worst exit code."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from gate_files import Made, made_in

from cu_cert.cli.main import run
from cu_cert.pre_commit import main
from cu_certificates.envelope import REVOCATION_TYPE, sign, statement
from cu_certificates.keys import load_private_key


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Made:
    return made_in(tmp_path_factory.getbasetemp(), tmp_path)


def looked_at(made: Made, *files: Path) -> int:
    return main([*map(str, files), "--trust", str(made.trust)])


def test_each_kind_of_file(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    decision = made.folder / "gate.sigstore.json"
    assert run(made.gate(made.clean, "--statement", str(decision), "--key", str(made.gate_key))) == 0
    bare = made.folder / "bare.sigstore.json"
    bare.write_bytes(made.leak.read_bytes())
    capsys.readouterr()
    assert looked_at(made, made.clean, made.clean.with_name("report.html"), bare, decision, made.policy) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.rpartition(": ")[2] for line in told] == [
        "signature valid, stated verdict NOT_REFUTED",
        "signature valid, stated verdict NOT_REFUTED",
        "signature valid, stated verdict REFUTED",
        "signature valid, 7 demands met",
        "policy readable; 2 demands, 0 exceptions",
    ]
    assert main([]) == 0


def test_the_worst_code_is_returned_and_every_file_is_looked_at(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    bad, cut, misspelt = (made.folder / name for name in ("bad.sigstore.json", "cut.sigstore.json", "cu-cert.toml"))
    bad.write_text("{}")
    cut.write_bytes(made.clean.read_bytes()[:-50])
    misspelt.write_text("schema = 1\n[policy.require]\nmax_ages = '9d'\n")
    assert looked_at(made, misspelt, made.clean) == 2
    assert looked_at(made, misspelt, bad, cut, made.clean, made.folder / "gone.sigstore.json") == 4
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1 + 4
    assert "stated verdict NOT_REFUTED" in said.out


def test_a_document_of_another_kind_needs_a_key_that_may_sign_it(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    payload = statement({"x": "0" * 64}, {"issuedAt": now}, predicate_type=REVOCATION_TYPE)
    file = made.folder / "revoked.sigstore.json"
    file.write_bytes(sign(payload, load_private_key(made.auditor_key)))
    assert looked_at(made, file) == 4
    assert f"this file needs {REVOCATION_TYPE}" in capsys.readouterr().err
    trusted = made.trust.read_text().replace('predicates = ["', f'predicates = ["{REVOCATION_TYPE}", "', 1)
    made.trust.write_text(trusted)
    assert looked_at(made, file) == 0
    assert f"signature valid, document {REVOCATION_TYPE}" in capsys.readouterr().out


def test_a_hostile_name_stays_on_its_line(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    file = made.folder / "a\n::error::b\x1b[2J.sigstore.json"
    file.write_bytes(made.clean.read_bytes())
    assert looked_at(made, file) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()
