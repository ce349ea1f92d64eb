"""``cu-cert revoke``: what it writes and says, and the mistakes of the one who revokes."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from signed_folder import KEY, make_folder, payload_of, predicate

from cu_cert.cli.main import run
from cu_certificates import keys
from cu_certificates.envelope import REVOCATION_TYPE
from cu_certificates.revocation import load_revocations
from cu_certificates.trust import load_trust, write_trust

PAYLOAD = hashlib.sha256(payload_of(predicate())).hexdigest()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a listing key, a certificate and a trust file that asks the list."""
    monkeypatch.chdir(tmp_path)
    keys.generate_key(tmp_path / "lister.pem", passphrase=None)
    keys.generate_key(tmp_path / "audit.pem", passphrase=None)
    make_folder(tmp_path / "out")
    start = datetime.now(UTC) - timedelta(days=1)
    write_trust(
        tmp_path / "trust.toml",
        tmp_path / "lister.pub.pem",
        not_before=start,
        predicates=(REVOCATION_TYPE,),
    )
    text = (tmp_path / "trust.toml").read_text()
    (tmp_path / "trust.toml").write_text(text + '\n[revocation]\nlist = "revoked.sigstore.json"\n')
    return tmp_path


def test_the_command_revokes_keys_and_certificates(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keyid = keys.fingerprint(keys.load_public_key(place / "audit.pub.pem"))
    assert run(["revoke", "--key", "lister.pem", "--keyid", keyid, "--reason", "key-compromise"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"revoked.sigstore.json: number 1, 1 entries; {keyid} (key-compromise, since ")
    assert "min_sequence = 1" in said
    command = ["revoke", "--key", "lister.pem", "--certificate", "out/report.html", "--reason", "superseded", "--json"]
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "cu-cert-revoke/1"
    assert (found["sequence"], found["entries"]) == (2, 2)
    assert found["revoked"]["payloadSha256"] == PAYLOAD
    assert run(["revoke", "--key", "lister.pem", "--refresh", "--trust", "trust.toml"]) == 0
    assert "number 3, 2 entries; nothing was added" in capsys.readouterr().out
    trust = load_trust(place / "trust.toml")
    found_list = load_revocations(trust, now=datetime.now(UTC))
    assert found_list is not None
    assert [entry.reason for entry in found_list.entries] == ["key-compromise", "superseded"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "give one of --certificate"),
        (("--refresh", "--keyid", KEY.keyid), "give one of --certificate"),
        (("--keyid", "audit"), "expected a fingerprint"),
        (("--keyid", KEY.keyid, "--since", "yesterday"), "--since is 'yesterday'; expected a time"),
        (("--keyid", KEY.keyid, "--since", "2999-01-01T00:00:00Z"), "after now"),
        (("--keyid", KEY.keyid, "--reason", "It was stolen"), "one lower-case word"),
        (("--certificate", "none.json"), "does not exist"),
    ],
)
def test_mistakes_of_the_one_who_revokes(
    place: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    assert run(["revoke", "--key", "lister.pem", *more]) == 2
    assert message in capsys.readouterr().err
    assert not (place / "revoked.sigstore.json").exists()


def test_a_file_that_is_no_certificate_is_not_revoked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["revoke", "--key", "lister.pem", "--certificate", "trust.toml"]) == 4
    assert "not JSON" in capsys.readouterr().err
    assert not (place / "revoked.sigstore.json").exists()
