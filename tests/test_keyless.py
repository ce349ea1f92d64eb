"""Keyless signatures: a bundle from the public log, verified offline; whose it is, and why it is no audit of ours."""

import base64
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from drafts import MEASURED, key_and_trust, predicate_and_files

from cu_cert.cli.main import run
from cu_certificates import _verify_keyless, keyless, verify
from cu_certificates.check.carrier import join_report
from cu_certificates.check.checker import check_payload
from cu_certificates.check.strict import canonical
from cu_certificates.envelope import PREDICATE_TYPE, statement
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.keyless import Keyless, is_keyless, packaged_roots, verify_keyless
from cu_certificates.trust import load_trust

pytest.importorskip("sigstore", reason="the extra sigstore is not installed")

ASSETS = Path(__file__).parent / "assets"
STORED = ASSETS / "pypi_attestation_models-0.0.4a2.tar.gz.sigstore.json"
ISSUER = "https://token.actions.githubusercontent.com"
IDENTITY = "https://github.com/trailofbits/pypi-attestation-models/.github/workflows/release.yml@refs/tags/v0.0.4a2"
PUBLISH = "https://docs.pypi.org/attestations/publish/v1"
DATA = STORED.read_bytes()


@pytest.fixture(autouse=True)
def _no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library must not be given a chance to read or fill a cache, nor to ask the network."""
    monkeypatch.setenv("HOME", str(tmp_path / "no-home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-home"))

    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("verification asked the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


def test_a_stored_bundle_is_verified_offline(tmp_path: Path) -> None:
    found = verify_keyless(DATA, issuer=ISSUER, identity=IDENTITY)
    assert found.payload_type == "application/vnd.in-toto+json"
    document = json.loads(found.payload)
    assert document["predicateType"] == PUBLISH
    assert document["subject"][0]["name"] == "pypi_attestation_models-0.0.4a2.tar.gz"
    envelope = json.loads(DATA)["dsseEnvelope"]
    assert base64.b64decode(envelope["payload"]) == found.payload
    assert base64.b64decode(envelope["signatures"][0]["sig"]) == found.signature
    assert found.logged == datetime(2024, 6, 10, 19, 47, 25, tzinfo=UTC)
    assert not (tmp_path / "no-home").exists()


@pytest.mark.parametrize(
    ("issuer", "identity"),
    [
        (ISSUER, IDENTITY.replace("v0.0.4a2", "v0.0.4a3")),
        (ISSUER, IDENTITY[:-1]),
        (ISSUER, IDENTITY.upper()),
        (ISSUER, "jane@example.com"),
        ("https://accounts.google.com", IDENTITY),
        (ISSUER + "/", IDENTITY),
    ],
)
def test_another_identity_is_refused(issuer: str, identity: str) -> None:
    with pytest.raises(UntrustedError, match="not valid for") as caught:
        verify_keyless(DATA, issuer=issuer, identity=identity)
    assert (caught.value.step, caught.value.exit_code) == ("signature", 4)


def test_other_roots_are_refused(tmp_path: Path) -> None:
    document = json.loads(packaged_roots().read_bytes())
    staging = packaged_roots().parent.parent / "https%3A%2F%2Ftuf-repo-cdn.sigstage.dev" / "trusted_root.json"
    with pytest.raises(UntrustedError, match="not valid for"):
        verify_keyless(DATA, issuer=ISSUER, identity=IDENTITY, roots=staging)
    assert verify_keyless(DATA, issuer=ISSUER, identity=IDENTITY, roots=packaged_roots())
    for content in ("{}", "no JSON", json.dumps(document | {"tlogs": []})):
        (tmp_path / "roots.json").write_text(content)
        with pytest.raises(UsageError, match=r"give sigstore's trusted_root\.json"):
            verify_keyless(DATA, issuer=ISSUER, identity=IDENTITY, roots=tmp_path / "roots.json")


def changed(change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(DATA)
    change(document)
    return json.dumps(document).encode()


def entry(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["verificationMaterial"]["tlogEntries"][0]
    return found


OTHER_PAYLOAD = base64.b64encode(base64.b64decode(json.loads(DATA)["dsseEnvelope"]["payload"]) + b" ").decode()


@pytest.mark.parametrize(
    ("change", "step"),
    [
        (lambda d: d["dsseEnvelope"].update(payload=OTHER_PAYLOAD), "signature"),
        (lambda d: d["dsseEnvelope"].update(payloadType="application/json"), "signature"),
        (lambda d: d["dsseEnvelope"].update(extra=1), "carrier"),
        (lambda d: d["dsseEnvelope"].update(payload="e30=\n"), "carrier"),
        (lambda d: d["dsseEnvelope"].update(payload=7), "carrier"),
        (lambda d: d["dsseEnvelope"]["signatures"].append(d["dsseEnvelope"]["signatures"][0]), "carrier"),
        (lambda d: d["dsseEnvelope"]["signatures"].clear(), "carrier"),
        (lambda d: d.pop("dsseEnvelope"), "carrier"),
        (lambda d: d.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"), "carrier"),
        (lambda d: d["verificationMaterial"].update(publicKey={"hint": "x"}), "carrier"),
        (lambda d: d["verificationMaterial"]["tlogEntries"].clear(), "carrier"),
        (lambda d: d["verificationMaterial"]["tlogEntries"].append(entry(d)), "carrier"),
        (lambda d: d["verificationMaterial"]["certificate"].update(rawBytes="MAA="), "signature"),
        (lambda d: entry(d).update(integratedTime=str(int(entry(d)["integratedTime"]) + 60)), "signature"),
        (lambda d: entry(d).pop("inclusionPromise"), "signature"),
        (lambda d: entry(d).pop("inclusionProof"), "signature"),
        (lambda d: entry(d)["inclusionProof"]["hashes"].pop(), "signature"),
        (lambda d: entry(d)["inclusionProof"].update(logIndex="1"), "signature"),
        (lambda d: entry(d).update(logIndex="1"), "signature"),
        (lambda d: entry(d)["kindVersion"].update(kind="intoto"), "signature"),
        (lambda d: entry(d).update(canonicalizedBody="e30="), "signature"),
    ],
)
def test_an_altered_bundle_is_refused(change: Callable[[dict[str, Any]], None], step: str) -> None:
    with pytest.raises(UntrustedError) as caught:
        verify_keyless(changed(change), issuer=ISSUER, identity=IDENTITY)
    assert caught.value.step == step


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b'{"a":1,"a":2}', b"\xff", b"{" * 200, b"x" * 100])
def test_bytes_that_are_no_bundle_are_refused(data: bytes) -> None:
    with pytest.raises(UntrustedError, match=r"^carrier"):
        verify_keyless(data, issuer=ISSUER, identity=IDENTITY)


def test_what_two_parsers_read_differently_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = keyless._read

    def differs(data: bytes) -> Any:
        found = real(data)
        return type(found)(b"another payload", found.signature, found.logged)

    monkeypatch.setattr(keyless, "_read", differs)
    with pytest.raises(UntrustedError, match="two parsers"):
        verify_keyless(DATA, issuer=ISSUER, identity=IDENTITY)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sigstore", None)
    with pytest.raises(UsageError, match=r"pip install 'cu-cert\[sigstore\]'"):
        verify_keyless(DATA, issuer=ISSUER, identity=IDENTITY)


# --- As a certificate ------------------------------------------------------------------------------------------------


def trust_file(
    folder: Path, *, identity: str = IDENTITY, roles: str = '"auditor"', kind: str = PREDICATE_TYPE, more: str = ""
) -> Path:
    text = f"""schema = 1
[[identity]]
issuer = "{ISSUER}"
identity = "{identity}"
roles = [{roles}]
predicates = ["{kind}"]
{more}"""
    (folder / "trust.toml").write_text(text)
    return folder / "trust.toml"


def test_a_bundle_about_something_else_is_no_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["verify", str(STORED), "--trust"]
    assert run([*command, str(trust_file(tmp_path))]) == 4
    said = capsys.readouterr()
    assert f"account {IDENTITY}, vouched for by {ISSUER}, role auditor" in said.out
    assert f"predicateType is '{PUBLISH}'; expected exactly '{PREDICATE_TYPE}'" in said.err


OTHER = f'[[identity]]\nissuer = "{ISSUER}"\nidentity = "jane"\nroles = ["auditor"]\npredicates = ["{PREDICATE_TYPE}"]'


@pytest.mark.parametrize(
    ("trust", "message"),
    [
        ({"identity": "jane@example.com"}, "not valid for 'jane@example.com'"),
        ({"roles": '"gate"'}, "has the roles gate; an audit needs one with 'auditor'"),
        ({"kind": PUBLISH}, f"may sign {PUBLISH}"),
        ({"identity": "joe", "more": OTHER}, "none of the 2 identities"),
    ],
)
def test_who_may_sign_audits_is_the_readers_word(
    trust: dict[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", str(STORED), "--trust", str(trust_file(tmp_path, **trust))]) == 4
    assert message in capsys.readouterr().err


def test_a_trust_file_of_keys_alone_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, keys = key_and_trust(tmp_path)
    assert run(["verify", str(STORED), "--trust", str(keys)]) == 4
    assert "lists no [[identity]]" in capsys.readouterr().err


def test_an_audit_by_an_account_goes_through_every_other_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stored bundle holds an audit of ours, so the verified payload is put in the place of the library's."""
    predicate, files = predicate_and_files()
    predicate["auditor"] = {"name": "workflow", "independence": "external", "issuer": ISSUER, "identity": IDENTITY}
    subjects = {"model.pt": predicate["scope"]["model"]["digest"]["sha256"]}
    result = check_payload(statement(subjects, predicate), files.get)
    basis = [claim["id"] for claim in predicate["claims"] if claim.get("planned")]
    predicate["verdict"] = {"value": result.derived, "basis": basis, "reasons": list(result.reasons)}
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    file = tmp_path / "certificate.sigstore.json"
    file.write_bytes(DATA)
    trust = load_trust(trust_file(tmp_path))

    def opened(payload: bytes) -> None:
        found = Keyless(
            payload_type="application/vnd.in-toto+json",
            payload=payload,
            signature=b"s",
            issuer=ISSUER,
            identity=IDENTITY,
            logged=MEASURED,
        )
        monkeypatch.setattr(_verify_keyless, "verify_keyless", lambda *a, **more: found)

    opened(statement(subjects, predicate))
    certificate = verify.verify(file, trust=trust, now=MEASURED)
    assert (certificate.keyid, certificate.verdict) == (IDENTITY, "NOT_REFUTED")
    assert certificate.stamped == MEASURED
    page = tmp_path / "report.html"
    page.write_bytes(join_report(b"<!doctype html>\n<head>\n<body>\n", DATA))
    with pytest.raises(UntrustedError, match="no report"):
        verify.verify(page, trust=trust, now=MEASURED)
    for auditor, message in (
        ({"keyid": "SHA256:abc"}, "names the auditor"),
        ({"identity": "jane"}, "names the auditor"),
        ({"issuer": "https://accounts.google.com"}, "names the auditor"),
    ):
        opened(statement(subjects, predicate | {"auditor": predicate["auditor"] | auditor}))
        with pytest.raises(UntrustedError, match=message):
            verify.verify(file, trust=trust, now=MEASURED)


def test_what_an_unverified_bundle_says_can_be_read() -> None:
    with pytest.raises(UntrustedError, match="predicateType"):
        verify.load_unverified(STORED)
    assert keyless.payload_of(DATA).startswith(b'{"_type":"https://in-toto.io/Statement/v1"')


def test_a_bundle_by_a_key_is_not_taken_for_a_keyless_one(tmp_path: Path) -> None:
    assert is_keyless(json.loads(DATA))
    for value in (None, [], {}, {"verificationMaterial": []}, {"verificationMaterial": {"publicKey": {"hint": "x"}}}):
        assert not is_keyless(value)
        assert _verify_keyless.keyless_in(canonical(value)) is None
    assert _verify_keyless.keyless_in(b"<html>") is None
    assert _verify_keyless.keyless_in(b"\xff") is None
