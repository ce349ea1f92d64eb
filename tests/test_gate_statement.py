"""The gate's statement: what it lists, when it lists nothing, who may sign it, and who else can read it."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from fake_evidence import LEAK
from gate_files import MODEL, SIMPLE, Made, ending, made_in

from cu_cert.cli.main import run


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    made = made_in(tmp_path_factory.getbasetemp(), tmp_path)
    monkeypatch.chdir(made.folder)
    return made


def stated(made: Made, certificate: Path, *more: str, code: int = 0) -> dict[str, Any]:
    """Write a statement; returns its payload."""
    file = made.folder / "gate.sigstore.json"
    assert run(made.gate(certificate, "--statement", str(file), "--key", str(made.gate_key), *more)) == code
    payload: dict[str, Any] = json.loads(base64.b64decode(json.loads(file.read_bytes())["dsseEnvelope"]["payload"]))
    return payload


def verify(made: Made, *more: str) -> int:
    return run(["verify", str(made.folder / "gate.sigstore.json"), "--trust", str(made.trust), *more])


def test_the_statement_lists_what_was_met(made: Made) -> None:
    import hashlib

    payload = stated(made, made.clean, "--policy-uri", "https://git.example/policy")
    assert payload["predicateType"] == "https://in-toto.io/attestation/svr/v0.2"
    digest = hashlib.sha256(MODEL).hexdigest()
    assert payload["subject"] == [{"name": "model.pt", "digest": {"sha256": digest}}]
    predicate = payload["predicate"]
    assert predicate["verifier"] == {
        "id": "https://cu-cert.example/gate/v1",
        "policies": [
            {
                "name": "cu-cert.toml",
                "uri": "https://git.example/policy",
                "digest": {"sha256": hashlib.sha256(made.policy.read_bytes()).hexdigest()},
            }
        ],
    }
    assert predicate["properties"][0] == "CU_CERT_POLICY_SATISFIED"
    assert "CU_CERT_CU101_EPS_LOWER_BOUND" in predicate["properties"]
    (certificate,) = predicate["cuCertGate"]["inputCertificates"]
    document = json.loads(made.clean.read_bytes())
    signed = base64.b64decode(document["dsseEnvelope"]["payload"])
    assert certificate["digest"] == {"sha256": hashlib.sha256(signed).hexdigest()}
    assert verify(made, "--model", str(made.model)) == 0


@pytest.mark.parametrize("code", [1, 3, 4])
def test_a_statement_of_a_gate_that_stays_shut_lists_nothing(
    made: Made, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    stated(made, made.clean)
    certificate, _ = ending(made, code)
    payload = stated(made, certificate, code=code)
    assert payload["predicate"]["properties"] == []
    assert verify(made) == 1
    assert "policy not satisfied" in capsys.readouterr().out
    stated(made, certificate, "--exit-zero")
    assert verify(made) == 1, "--exit-zero changes the exit code alone"


def test_what_an_exception_let_through_was_not_met(made: Made) -> None:
    made.policy.write_text(
        SIMPLE + 'max_age = "1d"\n[[policy.exception]]\nrule = "CU401"\nreason = "ticket 7"\napproved_by = "dpo"\n'
        "expires = 2999-12-31\n"
    )
    predicate = stated(made, made.clean)["predicate"]
    assert "CU_CERT_POLICY_SATISFIED" in predicate["properties"]
    assert "CU_CERT_CU401_AGE" not in predicate["properties"]
    assert predicate["cuCertGate"]["exceptions"] == [
        {"rule": "CU401", "reason": "ticket 7", "approvedBy": "dpo", "expires": "2999-12-31"}
    ]


def test_no_old_statement_outlives_a_gate_that_could_not_judge(made: Made) -> None:
    stated(made, made.clean)
    file = made.folder / "gate.sigstore.json"
    made.policy.write_text("schema = 1\n[policy.requires]\n")
    assert run(made.gate(made.clean, "--statement", str(file), "--key", str(made.gate_key))) == 2
    assert not file.exists()


def test_no_old_statement_outlives_a_decision_that_could_not_be_signed(made: Made) -> None:
    stated(made, made.clean)
    file = made.folder / "gate.sigstore.json"
    assert run(made.gate(made.leak, "--statement", str(file), "--key", "gone.pem")) == 2
    assert not file.exists()


def test_a_statement_never_takes_the_place_of_another_file(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (made.gate_key, made.clean, made.policy):
        before = file.read_bytes()
        assert run(made.gate(made.clean, "--statement", str(file), "--key", str(made.gate_key))) == 2
        assert "exists and is no gate statement" in capsys.readouterr().err
        assert file.read_bytes() == before
        if file == made.policy:
            continue
        assert run(made.gate(made.folder / "gone.json", "--statement", str(file), "--key", str(made.gate_key))) == 2
        assert file.read_bytes() == before, "not even a gate that could not judge removes it"


def test_an_auditor_s_key_signs_no_decision_and_a_gate_s_key_no_audit(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    file = made.folder / "gate.sigstore.json"
    assert run(made.gate(made.clean, "--statement", str(file), "--key", str(made.auditor_key))) == 2
    assert "expected a key with the role gate alone" in capsys.readouterr().err
    assert not file.exists()
    # A certificate that a gate's key signed: the reader's trust file refuses it.
    from gate_files import issue

    own = issue(made.folder / "own", made.gate_key, means=LEAK)
    assert run(made.gate(own)) == 4
    # A statement that an auditor's key signed, by other means: refused as well.
    from datetime import UTC, datetime

    from cu_certificates._gate.statement import write_statement
    from cu_certificates.gate import run_gate
    from cu_certificates.keys import load_private_key
    from cu_certificates.policy import load_policy

    report = run_gate(
        made.clean, policy=load_policy(made.policy), trust=made.trust, model=made.model, now=datetime.now(UTC)
    )
    write_statement(file, report, load_private_key(made.auditor_key))
    assert verify(made) == 4
    assert "a gate decision needs a key with 'gate'" in capsys.readouterr().err


def test_a_statement_about_another_model_an_altered_one_and_an_old_one(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    stated(made, made.clean)
    other = made.folder / "other.pt"
    other.write_bytes(b"other")
    assert verify(made, "--model", str(other)) == 4
    assert "the gate decided about sha256:" in capsys.readouterr().err
    assert verify(made, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["satisfied"], document["modelCompared"]) == (True, False)
    file = made.folder / "gate.sigstore.json"
    whole = json.loads(file.read_bytes())
    payload = whole["dsseEnvelope"]["payload"]
    whole["dsseEnvelope"]["payload"] = payload[:400] + ("A" if payload[400] != "A" else "B") + payload[401:]
    file.write_text(json.dumps(whole, separators=(",", ":"), sort_keys=True))
    assert verify(made) == 4


def test_others_read_the_statement(made: Made) -> None:
    from google.protobuf import json_format
    from in_toto_attestation.v1 import resource_descriptor, statement, statement_pb2
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    from cu_certificates.keys import load_public_key, public_path_of

    payload = stated(made, made.clean)
    parsed = json_format.ParseDict(payload, statement_pb2.Statement())
    found = statement.Statement.copy_from_pb(parsed)
    found.validate()
    for policy in payload["predicate"]["verifier"]["policies"]:
        resource_descriptor.ResourceDescriptor(**policy).validate()
    document = json.loads((made.folder / "gate.sigstore.json").read_bytes())["dsseEnvelope"]
    public = load_public_key(public_path_of(made.gate_key))
    keyid = document["signatures"][0]["keyid"]
    envelope = Envelope.from_dict(document)
    assert envelope.verify([SSlibKey.from_crypto(public, keyid=keyid)], threshold=1)
