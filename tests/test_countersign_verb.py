"""``cu-cert countersign`` on a real certificate, and every reading verb on what it writes."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree

import pytest
from tiny_certificate import Tiny, tiny_certificate

from cu_cert.cli.main import run
from cu_certificates.check.carrier import parse_dsse
from cu_certificates.keys import generate_key, public_path_of
from cu_certificates.trust import add_key
from cu_certificates.verify import load_unverified


@pytest.fixture
def party(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> tuple[Tiny, Path, Path]:
    """A real certificate, a controller's key, and a trust file that asks for both signatures."""
    tiny = Tiny(Path(copytree(tiny_certificate(tmp_path_factory).folder, tmp_path / "tiny")))
    key = tmp_path / "controller.pem"
    generate_key(key, passphrase=None, algorithm="ed25519")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    add_key(tiny.trust, public_path_of(key), not_before=yesterday, roles=("controller",))
    strict = tiny.folder / "both.toml"
    strict.write_text(tiny.trust.read_text() + "\n[threshold]\ncontroller = 1\n")
    return tiny, key, strict


def test_every_reading_verb_takes_the_envelope(
    party: tuple[Tiny, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tiny, key, strict = party
    envelope = tiny.bundle.parent / "certificate.dsse.json"
    model, policy = ("--model", str(tiny.model)), ("--policy", str(tiny.policy))
    assert run(["verify", str(tiny.bundle), "--trust", str(strict), *model]) == 4
    assert "cu-cert: threshold: 1 of different keys" in capsys.readouterr().err
    assert run(["gate", str(tiny.bundle), "--trust", str(strict), *model, *policy]) == 4
    assert run(["countersign", str(tiny.report), "--key", str(key), "--trust", str(tiny.trust), *model]) == 0
    said = capsys.readouterr().out
    assert "You are about to sign, with your key and in your name:" in said
    assert f"{envelope}: 2 signatures over the same bytes" in said
    assert run(["verify", str(envelope), "--trust", str(strict), *model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["signatures"]) == 2
    assert found["timeStamp"] is None
    assert run(["gate", str(envelope), "--trust", str(strict), *model, *policy]) in (0, 1, 3)
    capsys.readouterr()
    assert run(["check", str(envelope)]) == 0
    page = tiny.folder / "again.html"
    assert run(["report", str(envelope), "--trust", str(strict), "-o", str(page)]) == 0
    assert page.read_bytes() == tiny.report.read_bytes()


def test_the_command_prints_one_object(party: tuple[Tiny, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    tiny, key, _ = party
    out = tiny.folder / "c.dsse.json"
    command = ["countersign", str(tiny.bundle), "--key", str(key), "--trust", str(tiny.trust), "-o", str(out), "--json"]
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "cu-cert-countersign/1"
    assert found["signatures"] == [entry.keyid for entry in parse_dsse(out.read_bytes()).signatures]
    assert found["payload"]["sha256"] == load_unverified(tiny.bundle).payload_sha256
    assert run(command) == 2
    assert "never overwritten" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "more", "code"), [("n\n", (), 130), ("y\n", (), 0), ("", ("--yes",), 0)])
def test_on_a_terminal_the_signer_is_asked(
    party: tuple[Tiny, Path, Path], monkeypatch: pytest.MonkeyPatch, answer: str, more: tuple[str, ...], code: int
) -> None:
    tiny, key, _ = party
    out = tiny.folder / "c.dsse.json"
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    command = ["countersign", str(tiny.bundle), "--key", str(key), "--trust", str(tiny.trust), "-o", str(out), *more]
    assert run(command) == code
    assert out.exists() == (code == 0)


def test_without_a_trust_file_nothing_is_signed(
    party: tuple[Tiny, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny, key, _ = party
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path / "empty"))
    assert run(["countersign", str(tiny.bundle), "--key", str(key)]) == 2
    assert "trust.toml" in capsys.readouterr().err
    assert not (tiny.bundle.parent / "certificate.dsse.json").exists()
