"""Keys, trust files, words and files that a signer or reader gets wrong: exit code 2 and one message, as everywhere."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import AUDIT, change, refused, snapshot
from small_project import write_project
from tiny_certificate import Tiny, tiny_certificate

from cu_cert.cli.main import run
from cu_certificates.keys import default_key_folder, generate_key, public_path_of


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a model, since keys and trust are looked at before anything is loaded."""
    folder = write_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path / "config"))
    return folder


@pytest.fixture
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return tiny_certificate(tmp_path_factory)


def own_key() -> Path:
    path = default_key_folder() / "audit-key.pem"
    generate_key(path, passphrase=None)
    return path


def test_a_damaged_key(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = own_key()
    text = path.read_text()
    path.write_text(f"{text[:60]}AAAA{text[64:]}")
    message = refused(AUDIT, project, capsys)
    assert message.startswith(f"cu-cert: private key '{path}': cannot be opened: damaged file")


@pytest.mark.parametrize("content", [None, "hello", ""], ids=["absent", "no key", "empty"])
def test_no_key_in_the_file(content: str | None, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (project / "k.pem").write_text(content)
    message = refused((*AUDIT, "--key", "k.pem"), project, capsys)
    assert "private key 'k.pem'" in message
    assert ("does not exist" if content is None else "cu-cert key generate") in message


def test_the_public_half_for_the_private_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = public_path_of(own_key())
    assert f"'{public}': no private key in PEM form" in refused((*AUDIT, "--key", str(public)), project, capsys)


def test_a_protected_key_without_its_passphrase(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate_key(project / "k.pem", passphrase=b"secret")
    message = refused((*AUDIT, "--key", "k.pem"), project, capsys)
    assert "'k.pem': is protected by a passphrase; give it with --passphrase-fd" in message


def test_the_public_half_of_another_key(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = own_key()
    generate_key(project / "other.pem", passphrase=None)
    shutil.copy(public_path_of(project / "other.pem"), public_path_of(own))
    assert "but the private key beside it is" in refused(AUDIT, project, capsys)


def test_a_folder_for_a_key(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'.' exists already" in refused(("key", "generate", "."), project, capsys)


@pytest.mark.parametrize("there", ["k.pem", "k.pub.pem"])
def test_a_key_is_never_overwritten(there: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / there).write_text("mine")
    message = refused(("key", "generate", "k.pem"), project, capsys)
    assert there in message
    assert "never overwritten" in message


def test_trusting_what_is_no_public_key(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private = own_key()
    assert "holds a private key" in refused(("key", "trust", str(private)), project, capsys)
    assert "no public key in PEM form" in refused(("key", "show", "ids.txt"), project, capsys)


TRUST_MISTAKES = {
    "not TOML": ("schema = 1", "schema 1", ("not TOML",)),
    "unknown key": ("roles = ", "rolez = ", ("trust.toml:8", "'rolez'", "'roles'")),
    "another fingerprint": ('keyid = "SHA256:', 'keyid = "SHA256:x', ("trust.toml:5", "fingerprint")),
    "no public key": ("audit.pub.pem", "none.pub.pem", ("none.pub.pem", "does not exist")),
    "unknown role": ('["auditor"]', '["friend"]', ("trust.toml:8", "friend", "auditor")),
    "no schema": ("schema = 1", "", ("trust.toml:1", "schema = 1")),
}


def with_trust(verb: str, tiny: Tiny) -> tuple[str, ...]:
    command = {
        "verify": ("verify", str(tiny.report)),
        "gate": ("gate", str(tiny.report), "--policy", "cu-cert.toml", "--model", str(tiny.model)),
        "audit": (*AUDIT, "--gate"),
    }[verb]
    return (*command, "--trust", "trust.toml")


@pytest.mark.parametrize("mistake", TRUST_MISTAKES)
@pytest.mark.parametrize("verb", ["verify", "gate", "audit"])
def test_a_damaged_trust_file(
    verb: str, mistake: str, tiny: Tiny, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, told = TRUST_MISTAKES[mistake]
    shutil.copytree(tiny.folder / "keys", project / "keys")
    shutil.copy(tiny.trust, project / "trust.toml")
    change(project / "trust.toml", old, new)
    message = refused(with_trust(verb, tiny), project, capsys)
    for needle in told:
        assert needle in message, message


Command = Callable[[Tiny], tuple[str, ...]]


def verifying(*more: str, file: str = "") -> Command:
    return lambda tiny: ("verify", file or str(tiny.report), "--trust", str(tiny.trust), *more)


def gating(*more: str, policy: str = "cu-cert.toml") -> Command:
    return lambda tiny: ("gate", str(tiny.report), "--policy", policy, "--trust", str(tiny.trust), *more)


READING: dict[str, tuple[Command, tuple[str, ...]]] = {
    "verify, no certificate": (verifying(file="none.html"), ("none.html", "does not exist")),
    "verify, no trust": (lambda tiny: ("verify", str(tiny.report)), ("trust.toml", "cu-cert key trust")),
    "verify, no evidence folder": (verifying("--evidence", "none"), ("'none'", "no folder")),
    "verify, no model": (verifying("--model", "none.pt"), ("none.pt", "does not exist")),
    "gate, no model": (gating(), ("--model", "--model-digest")),
    "gate, half a digest": (gating("--model-digest", "12ab"), ("12ab",)),
    "gate, no policy": (gating("--model-digest", "0" * 64, policy="none.toml"), ("none.toml", "does not exist")),
    "gate, no policy in the file": (gating("--model-digest", "0" * 64, policy="ids.txt"), ("ids.txt", "TOML")),
    "report, no certificate": (lambda tiny: ("report", "none.html"), ("none.html", "does not exist")),
    "report, a page is there": (
        lambda tiny: ("report", str(tiny.report), "-o", "ids.txt"),
        ("ids.txt", "never overwritten"),
    ),
}


@pytest.mark.parametrize("name", READING)
def test_mistakes_of_a_reader(name: str, tiny: Tiny, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, told = READING[name]
    message = refused(command(tiny), project, capsys)
    for needle in told:
        assert needle in message, message


def test_a_report_of_the_gate_that_cannot_be_kept(
    tiny: Tiny, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(project)
    assert run([*gating("--model", str(tiny.model), "-o", ".")(tiny)]) == 2
    printed = capsys.readouterr()
    assert "gate report '.': cannot be written" in printed.err
    assert "Checks: " in printed.out  # the decision is told all the same
    assert snapshot(project) == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("unlearn",), "Missing argument 'MODEL'"),
        ((*AUDIT, "--nope"), "No such option: --nope"),
        ((*AUDIT, "--budget", "0"), "'--budget'"),
        (("audti",), "Did you mean 'audit'?"),
        (("key", "destroy"), "No such command 'destroy'"),
    ],
)
def test_a_wrong_word_on_the_command_line(
    arguments: tuple[str, ...], told: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(arguments, project, capsys, lines=4)
    assert message.startswith("Usage: cu-cert ")
    assert told in message
