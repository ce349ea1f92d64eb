"""``cu-cert key``: both algorithms, passphrases that never stand in the arguments, trust files written and added to."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from signed_folder import NOW, make_folder, payload_of, predicate

from cu_cert.cli._passphrase import key_passphrase, new_passphrase
from cu_cert.cli.main import run
from cu_certificates import keys
from cu_certificates.envelope import GATE_TYPE, PREDICATE_TYPE, REVOCATION_TYPE, ROTATION_TYPE, sign
from cu_certificates.errors import UsageError
from cu_certificates.trust import load_trust
from cu_certificates.verify import verify


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CU_CERT_PASSPHRASE_FILE", raising=False)
    return tmp_path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A terminal on which the answers in the list are given, first come first served."""
    answers: list[str] = []
    monkeypatch.setattr("cu_cert.cli._passphrase._somebody_to_ask", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: answers.pop(0))
    yield answers
    assert answers == []


@pytest.mark.parametrize(
    ("word", "algorithm"),
    [("ecdsa-p256", "ecdsa-p256-sha256"), ("ecdsa-p256-sha256", "ecdsa-p256-sha256"), ("ed25519", "ed25519")],
)
def test_the_algorithm_is_chosen_by_name(
    place: Path, capsys: pytest.CaptureFixture[str], word: str, algorithm: str
) -> None:
    assert run(["key", "generate", "k.pem", "--alg", word, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["algorithm"] == algorithm
    assert run(["key", "show", "k.pub.pem"]) == 0
    keyid = keys.load_private_key(place / "k.pem").keyid
    assert capsys.readouterr().out == f"{keyid}  {algorithm}  k.pub.pem\n"


def test_an_unknown_algorithm_is_a_usage_error(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "generate", "k.pem", "--alg", "rsa"]) == 2
    assert "expected ecdsa-p256 or ed25519" in capsys.readouterr().err
    assert not list(place.iterdir())


# --- Passphrases -----------------------------------------------------------------------------------------------------


def test_a_new_key_asks_twice_on_a_terminal(place: Path, terminal: list[str]) -> None:
    terminal += ["two words", "two words"]
    assert run(["key", "generate", "k.pem", "--passphrase"]) == 0
    assert keys.load_private_key(place / "k.pem", b"two words").keyid.startswith("SHA256:")
    terminal += ["two words", "two word"]
    with pytest.raises(UsageError, match="the two passphrases differ"):
        new_passphrase(None, ask=True)
    terminal += [""]
    with pytest.raises(UsageError, match="1 to 4096"):
        new_passphrase(None, ask=True)


def test_nobody_is_asked_without_a_terminal(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "generate", "k.pem", "--passphrase"]) == 2
    assert "give --passphrase-fd N instead" in capsys.readouterr().err
    assert run(["key", "generate", "k.pem", "--passphrase", "--passphrase-fd", "9"]) == 2
    assert "give one of the two" in capsys.readouterr().err
    keys.generate_key(place / "k.pem", passphrase=b"secret")
    assert key_passphrase(place / "k.pem", None) is None
    assert run(["revoke", "--key", "k.pem", "--refresh"]) == 2
    assert "is protected by a passphrase; give it with --passphrase-fd" in capsys.readouterr().err


def test_a_protected_key_asks_once(place: Path, terminal: list[str]) -> None:
    keys.generate_key(place / "k.pem", passphrase=b"secret")
    keys.generate_key(place / "plain.pem", passphrase=None)
    terminal += ["secret"]
    assert run(["revoke", "--key", "k.pem", "--refresh"]) == 0
    assert key_passphrase(place / "plain.pem", None) is None  # nothing to ask for


def test_a_file_may_hold_the_passphrase(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.generate_key(place / "k.pem", passphrase=b"secret")
    keys.generate_key(place / "plain.pem", passphrase=None)
    (place / "secret.txt").write_text("secret\n")
    monkeypatch.setenv("CU_CERT_PASSPHRASE_FILE", str(place / "secret.txt"))
    assert key_passphrase(place / "k.pem", None) == b"secret"
    assert key_passphrase(place / "plain.pem", None) is None
    assert run(["revoke", "--key", "k.pem", "--refresh"]) == 0
    (place / "secret.txt").write_text("\n")
    assert run(["revoke", "--key", "k.pem", "--refresh"]) == 2
    assert "CU_CERT_PASSPHRASE_FILE" in capsys.readouterr().err
    (place / "secret.txt").unlink()
    assert run(["revoke", "--key", "k.pem", "--refresh"]) == 2
    assert "passphrase file" in capsys.readouterr().err


# --- Trust files -----------------------------------------------------------------------------------------------------


def test_a_trust_file_grows_key_by_key(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("auditor", "controller", "gate", "lister"):
        keys.generate_key(place / f"{name}.pem", passphrase=None)
    start = ["key", "trust"]
    twice = ["--predicate", "audit", "--predicate", "rotation"]
    assert run([*start, "auditor.pub.pem", *twice, "--max-age-days", "90"]) == 0
    assert "as auditor for audit, rotation" in capsys.readouterr().out
    add = ["--trust", "trust.toml"]
    assert run([*start, "controller.pub.pem", "--role", "controller", "--days", "30", *add]) == 0
    assert run([*start, "gate.pub.pem", "--role", "gate", *add]) == 0
    assert "as gate for gate" in capsys.readouterr().out
    uri = "https://example.com/own/v1"
    assert run([*start, "lister.pub.pem", "--predicate", "revocation", "--predicate", uri, *add, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predicates"] == [REVOCATION_TYPE, uri]
    trust = load_trust(place / "trust.toml")
    assert [(key.roles, key.predicates) for key in trust.keys] == [
        (("auditor",), (PREDICATE_TYPE, ROTATION_TYPE)),
        (("controller",), (PREDICATE_TYPE,)),
        (("gate",), (GATE_TYPE,)),
        (("auditor",), (REVOCATION_TYPE, uri)),
    ]
    assert trust.max_age_days == 90
    assert (trust.keys[1].not_after - trust.keys[1].not_before).days == 30


def test_a_usual_trust_file_is_told_in_few_words(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys.generate_key(place / "k.pem", passphrase=None)
    assert run(["key", "trust", "k.pub.pem"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"trust.toml trusts {keys.load_private_key(place / 'k.pem').keyid} for audits from 20")
    assert second.startswith("Compare this fingerprint")


def test_a_trust_file_of_an_ed25519_key_verifies_its_certificates(place: Path) -> None:
    folder = make_folder(place / "out")
    keys.generate_key(place / "k.pem", passphrase=None, algorithm="ed25519")
    key = keys.load_private_key(place / "k.pem")
    assert run(["key", "trust", "k.pub.pem"]) == 0
    content = predicate()
    content["auditor"]["keyid"] = key.keyid
    folder.write(sign(payload_of(content), key))
    listed = load_trust(place / "trust.toml").keys[0]
    trust = replace(load_trust(place / "trust.toml"), keys=(replace(listed, not_before=NOW.replace(year=2025)),))
    for file in (folder.bundle, folder.report):
        assert verify(file, trust=trust, now=NOW).keyid == key.keyid
