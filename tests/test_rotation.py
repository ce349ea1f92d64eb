"""Key rotation: who may name a successor, what the successor must show, and that nothing gets wider on the way."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from signed_folder import NOW

from cu_cert.cli.main import run
from cu_certificates import keys
from cu_certificates.check.carrier import Signature, parse_bundle
from cu_certificates.envelope import (
    PREDICATE_TYPE,
    REVOCATION_TYPE,
    ROTATION_TYPE,
    dsse,
    open_envelope,
    pae,
    sign,
    statement,
)
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.revocation import Entry, digest_of_keyid, revoke
from cu_certificates.rotation import POSSESSION_TYPE, public_name, read_rotation, rotate, trust_rotation
from cu_certificates.trust import RevocationRule, Trust, TrustedKey, load_trust, write_trust

OLD, NEW, STRANGER = keys.ephemeral_key(), keys.ephemeral_key("ed25519"), keys.ephemeral_key()
START = datetime(2026, 1, 1, tzinfo=UTC)
RIGHTS = (PREDICATE_TYPE, ROTATION_TYPE)


def listing(key: keys.SigningKey = OLD, **changes: Any) -> TrustedKey:
    fields: dict[str, Any] = {
        "keyid": key.keyid,
        "public": key.public,
        "algorithm": key.algorithm,
        "roles": ("auditor",),
        "predicates": RIGHTS,
        "not_before": START,
        "not_after": datetime(2027, 12, 31, tzinfo=UTC),
    }
    return TrustedKey(**(fields | changes))


def reader(*listed: TrustedKey, revocation: RevocationRule | None = None) -> Trust:
    return Trust(path=Path("trust.toml"), keys=listed or (listing(),), revocation=revocation)


def refused(data: bytes, step: str, message: str, trust: Trust | None = None, now: datetime = NOW) -> None:
    with pytest.raises(UntrustedError, match=message) as caught:
        read_rotation(data, trust or reader(), now=now)
    assert (caught.value.step, caught.value.exit_code) == (step, 4)


# --- The statement ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", ["ecdsa-p256-sha256", "ed25519"])
@pytest.mark.parametrize("new", ["ecdsa-p256-sha256", "ed25519"])
def test_a_key_names_its_successor(old: str, new: str) -> None:
    before, after = keys.ephemeral_key(old), keys.ephemeral_key(new)
    found = read_rotation(rotate(before, after, now=NOW), reader(listing(before)), now=NOW)
    assert found.keyid == after.keyid
    assert keys.algorithm_of(found.new) == new
    assert (found.old.keyid, found.rotated_at) == (before.keyid, NOW)


def test_the_subjects_are_the_new_key_and_its_file() -> None:
    document = json.loads(open_envelope(parse_bundle(rotate(OLD, NEW, now=NOW)), OLD.public))
    assert document["predicateType"] == ROTATION_TYPE
    found = {entry["name"]: entry["digest"]["sha256"] for entry in document["subject"]}
    pem = keys.public_pem(NEW.public)
    assert found == {NEW.keyid: digest_of_keyid(NEW.keyid), "new.pub.pem": hashlib.sha256(pem).hexdigest()}
    assert document["predicate"]["new"]["publicKey"].encode() == pem


def test_other_tools_verify_the_statement() -> None:
    library = pytest.importorskip("securesystemslib.dsse")
    signer = pytest.importorskip("securesystemslib.signer")
    module = pytest.importorskip("in_toto_attestation.v1.statement")
    messages = pytest.importorskip("in_toto_attestation.v1.statement_pb2")
    json_format = pytest.importorskip("google.protobuf.json_format")
    envelope = library.Envelope.from_dict(json.loads(rotate(OLD, NEW, now=NOW))["dsseEnvelope"])
    assert envelope.verify([signer.SSlibKey.from_crypto(OLD.public, keyid=OLD.keyid)], threshold=1)
    module.Statement.copy_from_pb(json_format.Parse(envelope.payload, messages.Statement())).validate()


def test_a_key_is_no_successor_of_its_own() -> None:
    with pytest.raises(UsageError, match="old and new key are both"):
        rotate(OLD, OLD, now=NOW)


# --- Who may name one ------------------------------------------------------------------------------------------------


def test_only_a_trusted_key_that_may_rotate_names_a_successor() -> None:
    refused(rotate(STRANGER, NEW, now=NOW), "trust", "does not list")
    refused(rotate(OLD, NEW, now=NOW), "trust", f"needs {ROTATION_TYPE}", reader(listing(predicates=(PREDICATE_TYPE,))))


def test_a_key_outside_its_time_names_nobody() -> None:
    data = rotate(OLD, NEW, now=NOW)
    refused(data, "time", "was valid until", reader(listing(not_after=NOW - timedelta(seconds=1))))
    refused(data, "time", "becomes valid on", reader(listing(not_before=NOW + timedelta(seconds=1))))
    refused(rotate(OLD, NEW, now=START - timedelta(days=1)), "time", "expected between")
    refused(rotate(OLD, NEW, now=NOW + timedelta(days=2)), "time", "expected between")


@pytest.mark.parametrize("gone", [OLD, NEW], ids=["old", "new"])
def test_a_revoked_key_neither_names_nor_is_named(tmp_path: Path, gone: keys.SigningKey) -> None:
    path = tmp_path / "revoked.sigstore.json"
    lister = listing(STRANGER, predicates=(REVOCATION_TYPE,))
    trust = reader(listing(), lister, revocation=RevocationRule(list=path))
    revoke(path, STRANGER, None, now=NOW)
    data = rotate(OLD, NEW, now=NOW)
    read_rotation(data, trust, now=NOW)
    revoke(path, STRANGER, Entry(keyid=gone.keyid, revoked_at=NOW, reason="key-compromise"), now=NOW)
    refused(data, "revocation", re.escape(gone.keyid), trust)


def test_two_signatures_are_not_a_rotation() -> None:
    payload = parse_bundle(rotate(OLD, NEW, now=NOW)).payload
    signed = [
        Signature(keyid=key.keyid, value=key.sign(pae("application/vnd.in-toto+json", payload)))
        for key in (OLD, STRANGER)
    ]
    refused(dsse(payload, signed), "carrier", "2 signatures; a rotation has one", reader(listing(), listing(STRANGER)))


# --- What the statement must hold ------------------------------------------------------------------------------------


def resigned(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A rotation that its signer changed after it was written."""
    document = json.loads(open_envelope(parse_bundle(rotate(OLD, NEW, now=NOW)), OLD.public))
    change(document["predicate"])
    subjects = {entry["name"]: entry["digest"]["sha256"] for entry in document["subject"]}
    return sign(statement(subjects, document["predicate"], predicate_type=ROTATION_TYPE), OLD)


def possession(signer: keys.SigningKey, old: str, new: str, when: str) -> str:
    text = json.dumps({"new": new, "old": old, "rotatedAt": when}, separators=(",", ":")).encode()
    return base64.b64encode(signer.sign(pae(POSSESSION_TYPE, text))).decode()


WHEN = "2026-11-21T12:00:00Z"


def other_key(found: dict[str, Any], key: keys.SigningKey) -> None:
    pem = keys.public_pem(key.public).decode()
    found["new"] = {"keyid": key.keyid, "alg": key.algorithm, "publicKey": pem}


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    "version": (lambda found: found.update(schemaVersion="2.0"), "carrier", "schemaVersion '2.0'"),
    "old key": (lambda found: found["old"].update(keyid=STRANGER.keyid), "trust", "predicate.old is"),
    "old algorithm": (lambda found: found["old"].update(alg="ed25519"), "trust", "predicate.old is"),
    "no new key": (lambda found: found.pop("new"), "carrier", "predicate.new is None"),
    "new key's name": (lambda found: found["new"].update(keyid=STRANGER.keyid), "trust", "its public key is"),
    "new key's algorithm": (lambda found: found["new"].update(alg="ecdsa-p256-sha256"), "trust", "its public key is"),
    "another new key": (lambda found: other_key(found, STRANGER), "subject", "are not the new key"),
    "text for a key": (lambda found: found["new"].update(publicKey="hello"), "trust", "no public key in PEM form"),
    "number for a key": (lambda found: found["new"].update(publicKey=7), "carrier", "publicKey is 7"),
    "two keys": (
        lambda found: found["new"].update(publicKey=found["new"]["publicKey"] * 2),
        "carrier",
        "more than one",
    ),
    "the old key as new": (lambda found: other_key(found, OLD), "subject", "are not the new key"),
    "no possession": (lambda found: found.pop("possession"), "carrier", "predicate.possession is None"),
    "no base64": (lambda found: found.update(possession="*"), "carrier", "not base64"),
    "possession by another": (
        lambda found: found.update(possession=possession(STRANGER, OLD.keyid, NEW.keyid, WHEN)),
        "signature",
        "does not hold the new key",
    ),
    "possession for another old key": (
        lambda found: found.update(possession=possession(NEW, STRANGER.keyid, NEW.keyid, WHEN)),
        "signature",
        "does not hold the new key",
    ),
    "possession at another time": (
        lambda found: found.update(possession=possession(NEW, OLD.keyid, NEW.keyid, "2026-11-20T12:00:00Z")),
        "signature",
        "does not hold the new key",
    ),
    "time": (lambda found: found.update(rotatedAt="today"), "time", "rotatedAt is 'today'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_rotation_that_does_not_hold_together_is_refused(name: str) -> None:
    change, step, message = CHANGES[name]
    refused(resigned(change), step, message)


def test_a_possession_is_written_in_one_way() -> None:
    data = resigned(lambda found: found.update(possession=possession(NEW, OLD.keyid, NEW.keyid, WHEN)))
    assert read_rotation(data, reader(), now=NOW).keyid == NEW.keyid


# --- Into the trust file ---------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An issuer's two keys and a reader's trust file with a remark of their own."""
    monkeypatch.chdir(tmp_path)
    keys.generate_key(tmp_path / "old.pem", passphrase=None)
    keys.generate_key(tmp_path / "new.pem", passphrase=None, algorithm="ed25519")
    start = datetime.now(UTC) - timedelta(days=1)
    write_trust(tmp_path / "trust.toml", tmp_path / "old.pub.pem", not_before=start, predicates=RIGHTS)
    with (tmp_path / "trust.toml").open("a") as stream:
        stream.write("\n[time] # the auditor's usual pace\nmax_age_days = 90\n")
    return tmp_path


def test_the_commands_carry_trust_over(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (place / "trust.toml").read_text()
    assert run(["key", "rotate", "old.pem", "new.pem"]) == 0
    assert "names" in capsys.readouterr().out
    assert run(["key", "trust", "--rotation", "rotation.sigstore.json", "--trust", "trust.toml"]) == 0
    said = capsys.readouterr().out
    assert "as auditor for audit, rotation from" in said
    assert "no more than that one may" in said
    trust = load_trust(place / "trust.toml")
    old, new = trust.keys
    assert new.keyid == keys.load_private_key(place / "new.pem").keyid
    assert (new.roles, new.predicates) == (old.roles, old.predicates)
    assert new.algorithm == "ed25519"
    assert trust.max_age_days == 90
    assert (place / "trust.toml").read_text().startswith(before.rstrip("\n"))
    assert (place / public_name(new.keyid)).exists()
    assert run(["key", "trust", "--rotation", "rotation.sigstore.json", "--trust", "trust.toml"]) == 2
    assert "lists key" in capsys.readouterr().err


def test_the_commands_speak_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "rotate", "old.pem", "new.pem", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "cu-cert-key/1"
    narrow = ["--predicate", "audit", "--json"]
    assert run(["key", "trust", "--rotation", "rotation.sigstore.json", "--trust", "trust.toml", *narrow]) == 0
    assert json.loads(capsys.readouterr().out)["predicates"] == [PREDICATE_TYPE]
    assert load_trust(place / "trust.toml").keys[1].keyid == found["new"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--role", "gate"), "roles gate: the old key"),
        (("--role", "auditor", "--role", "controller"), "roles controller: the old key"),
        (("--predicate", "revocation"), "cannot widen"),
        (("--predicate", "audit", "--predicate", "gate"), "cannot widen"),
    ],
)
def test_a_rotation_cannot_widen_what_a_key_may_do(
    place: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    run(["key", "rotate", "old.pem", "new.pem"])
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert run(["key", "trust", "--rotation", "rotation.sigstore.json", "--trust", "trust.toml", *more]) == 2
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_a_rotation_that_is_not_trusted_changes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["key", "rotate", "new.pem", "old.pem"])  # signed by the key that nobody trusts yet
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert run(["key", "trust", "--rotation", "rotation.sigstore.json", "--trust", "trust.toml"]) == 4
    assert "does not list" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_another_key_under_the_new_ones_name_is_not_taken(place: Path) -> None:
    run(["key", "rotate", "old.pem", "new.pem"])
    new = keys.load_private_key(place / "new.pem")
    (place / public_name(new.keyid)).write_bytes((place / "old.pub.pem").read_bytes())
    before = (place / "trust.toml").read_bytes()
    with pytest.raises(UsageError, match="is another one than"):
        trust_rotation(place / "trust.toml", place / "rotation.sigstore.json", now=datetime.now(UTC))
    assert (place / "trust.toml").read_bytes() == before
    (place / public_name(new.keyid)).write_bytes(keys.public_pem(new.public))
    assert (
        trust_rotation(place / "trust.toml", place / "rotation.sigstore.json", now=datetime.now(UTC)).keyid == new.keyid
    )


def test_nothing_is_left_when_the_trust_file_cannot_be_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(["key", "rotate", "old.pem", "new.pem"])
    before = {path.name: path.read_bytes() for path in place.iterdir()}

    def full(*arguments: object, **options: object) -> None:
        raise UsageError("the disk is full")

    monkeypatch.setattr("cu_certificates.trust.write_atomic", full)
    with pytest.raises(UsageError, match="disk is full"):
        trust_rotation(place / "trust.toml", place / "rotation.sigstore.json", now=datetime.now(UTC))
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("key", "trust"), "give a public key FILE, or --rotation"),
        (("key", "trust", "old.pub.pem", "--rotation", "r.json"), "one of the two"),
        (("key", "trust", "--rotation", "r.json"), "name the trust file that lists the old key"),
        (("key", "trust", "new.pub.pem", "--trust", "trust.toml", "-o", "t.toml"), "leave out --out"),
        (("key", "trust", "old.pub.pem", "--trust", "trust.toml"), "lists key"),
        (("key", "trust", "new.pub.pem", "--trust", "none.toml"), "does not exist"),
        (("key", "trust", "new.pub.pem", "--predicate", "audits"), "expected one of audit, gate"),
        (
            ("key", "trust", "new.pub.pem", "--predicate", "audit", "--predicate", "gate"),
            "give the gate a key of its own",
        ),
        (("key", "trust", "new.pub.pem", "--role", "king"), "expected one or more of auditor"),
        (("key", "rotate", "old.pem", "old.pem"), "old and new key are both"),
        (("key", "rotate", "old.pem", "new.pem", "-o", "trust.toml"), "never overwritten"),
        (("key", "rotate", "old.pub.pem", "new.pem"), "no private key"),
    ],
)
def test_mistakes_with_keys(place: Path, capsys: pytest.CaptureFixture[str], command: Any, message: str) -> None:
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert run(list(command)) == 2
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
