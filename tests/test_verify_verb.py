"""``cu-cert verify`` and ``cu-cert key`` as commands: what they print, and where a passphrase comes from."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from signed_folder import Folder, make_folder, payload_of, predicate, without_bound
from typer.testing import CliRunner

from cu_cert.cli import key as key_verb
from cu_cert.cli import verify as verify_verb
from cu_certificates import keys
from cu_certificates.envelope import sign
from cu_certificates.errors import MissingFileError, UntrustedError, UsageError
from cu_certificates.verify import load_unverified


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return make_folder(tmp_path / "out")


@pytest.fixture
def app() -> typer.Typer:
    found = typer.Typer()
    found.command("verify")(verify_verb.command)
    found.add_typer(key_verb.app, name="key")
    return found


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def issued(folder: Folder, config: Path) -> Folder:
    """A folder that the user's own trust file trusts today."""
    from cu_certificates.trust import write_trust

    local = keys.local_key()
    today = datetime.now(UTC).replace(microsecond=0)
    write_trust(config / "trust.toml", local.public_path, not_before=today - timedelta(days=1))
    content = predicate()
    content["auditor"]["keyid"] = local.key.keyid
    content["issuedAt"] = today.strftime("%Y-%m-%dT%H:%M:%SZ")
    content["expiresAt"] = (today + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    content["claims"][3]["name"] = "AUC\n::error::forged"
    folder.write(sign(payload_of(content), local.key))
    return folder


def test_the_command_prints_steps_claims_and_what_the_verdict_rests_on(issued: Folder, app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["verify", str(issued.report), "--model", str(issued.model)])
    assert result.exception is None
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[:9]] == [
        "carrier",
        "trust",
        "signature",
        "time",
        "report",
        "subject",
        "evidence",
        "claims",
        "verdict",
    ]
    assert lines[-1] == "INCONCLUSIVE: signature valid; claims re-derived; assumed: A1, A2"
    assert sum(line.startswith(("proved", "assumed", "unverified")) for line in lines) == 4
    assert not any(line.startswith("::") for line in lines)
    assert "\x1b" not in result.output


def test_the_command_says_what_was_not_checked(issued: Folder, app: typer.Typer) -> None:
    content = load_unverified(issued.bundle).predicate
    without_bound(content)
    issued.write(sign(payload_of(content), keys.local_key().key))
    (issued.path / "evidence/utility.jsonl").unlink()
    result = CliRunner().invoke(app, ["verify", str(issued.bundle), "--without-evidence"])
    last = result.output.splitlines()[-1]
    assert "claims not re-derived without evidence/utility.jsonl" in last
    assert "no model file compared" in last


def test_the_command_prints_the_steps_before_a_failure_and_raises(issued: Folder, app: typer.Typer) -> None:
    (issued.path / "plan.json").unlink()
    result = CliRunner().invoke(app, ["verify", str(issued.bundle)])
    assert isinstance(result.exception, UntrustedError)
    assert result.exception.step == "evidence"
    assert [line.split()[0] for line in result.output.splitlines()] == [
        "carrier",
        "trust",
        "signature",
        "time",
        "subject",
    ]


def test_the_command_prints_one_json_object(issued: Folder, app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["verify", str(issued.bundle), "--json"])
    found = json.loads(result.output)
    assert found["verdict"]["derived"] == found["verdict"]["stated"] == "INCONCLUSIVE"
    assert found["key"]["keyid"] == keys.local_key().key.keyid
    assert [claim["status"] for claim in found["claims"]] == ["proved", "proved", "assumed", "unverified"]
    assert found["assumptions"] == ["A1", "A2"]


def test_trust_never_comes_from_the_folder_of_the_certificate(issued: Folder, config: Path, app: typer.Typer) -> None:
    for found in config.iterdir():
        found.rename(issued.path / found.name)
    result = CliRunner().invoke(app, ["verify", str(issued.bundle)])
    assert isinstance(result.exception, MissingFileError)
    result = CliRunner().invoke(app, ["verify", str(issued.bundle), "--trust", str(issued.path / "trust.toml")])
    assert result.exception is None


def test_control_characters_cannot_forge_lines() -> None:
    assert verify_verb.plain("a\n::error::\x1b[31m\u202e\tb").isprintable()
    assert verify_verb.plain("claims re-derived: α ≥ 1/2") == "claims re-derived: α ≥ 1/2"


def test_the_key_command_makes_and_shows_a_key(config: Path, app: typer.Typer, tmp_path: Path) -> None:
    made = json.loads(CliRunner().invoke(app, ["key", "generate", "--json"]).output)
    assert made["private"] == str(config / "audit-key.pem")
    assert not made["protected"]
    shown = CliRunner().invoke(app, ["key", "show", made["public"]])
    assert shown.output.startswith(f"{made['keyid']}  ecdsa-p256-sha256  ")
    assert (
        json.loads(CliRunner().invoke(app, ["key", "show", made["public"], "--json"]).output)["keyid"] == made["keyid"]
    )
    again = CliRunner().invoke(app, ["key", "generate"])
    assert isinstance(again.exception, UsageError)
    text = CliRunner().invoke(app, ["key", "generate", str(tmp_path / "b.pem")]).output
    assert keys.load_private_key(tmp_path / "b.pem").keyid in text
    assert "not protected" in text


def with_pipe(content: bytes, use: Callable[[int], Any]) -> Any:
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    try:
        return use(reader)
    finally:
        os.close(reader)


def test_a_passphrase_comes_through_a_descriptor(config: Path, app: typer.Typer) -> None:
    def generate(descriptor: int) -> Any:
        return CliRunner().invoke(app, ["key", "generate", "--passphrase-fd", str(descriptor)])

    result = with_pipe(b"secret words\n", generate)
    assert result.exception is None
    assert "secret" not in result.output
    assert keys.local_key(b"secret words").key.keyid in result.output


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 5000])
def test_a_passphrase_that_is_empty_or_endless_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError, match="1 to 4096"):
        with_pipe(content, key_verb.read_passphrase)
    with pytest.raises(UsageError, match="cannot be read"):
        key_verb.read_passphrase(2**20)
