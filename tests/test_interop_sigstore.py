"""Whole certificates in the hands of sigstore's own tools: its Python types and its verifier for node."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from signed_certificates import Whole
from signed_certificates import whole as whole

from cu_certificates.check.carrier import MEDIA_TYPE

VERSIONS = (
    "@sigstore/verify@3.1.1",
    "@sigstore/bundle@4.0.0",
    "@sigstore/core@3.2.1",
    "@sigstore/protobuf-specs@0.5.2",
)

PROGRAM = """
const fs = require('fs');
const { createPublicKey } = require('crypto');
const { bundleFromJSON } = require('@sigstore/bundle');
const { Verifier, toSignedEntity, toTrustMaterial } = require('@sigstore/verify');
const [file, pem, hint] = process.argv.slice(2);
const none = { mediaType: '', tlogs: [], certificateAuthorities: [], ctlogs: [], timestampAuthorities: [] };
const key = createPublicKey(fs.readFileSync(pem));
const details = { ec: 5, ed25519: 7 }[key.asymmetricKeyType];
const rawBytes = key.export({ type: 'spki', format: 'der' });
const keys = { [hint]: { rawBytes, keyDetails: details, validFor: { start: new Date(0) } } };
const bundle = bundleFromJSON(JSON.parse(fs.readFileSync(file)));
const thresholds = { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 };
new Verifier(toTrustMaterial(none, keys), thresholds).verify(toSignedEntity(bundle));
console.log(JSON.stringify({ verified: true, hint: bundle.verificationMaterial.content.publicKey.hint }));
"""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program for node that verifies with sigstore's library, installed outside the repository."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.getbasetemp() / "sigstore-js"
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true}')
    (folder / "verify.js").write_text(PROGRAM)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--fetch-retries=0", "--fetch-timeout=10000"]
    try:
        done = subprocess.run(
            [npm, "install", *options, *VERSIONS], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm's registry does not answer")
    if done.returncode:
        pytest.skip(f"npm's registry offers none of these: {done.stderr.strip().splitlines()[-1:]}")
    return folder / "verify.js"


def by_node(program: Path, file: Path, whole: Whole, hint: str) -> "subprocess.CompletedProcess[str]":
    command = ["node", str(program), str(file), str(whole.public), hint]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_nodes_verifier_accepts_the_bundle_and_nothing_altered(program: Path, whole: Whole, tmp_path: Path) -> None:
    file = whole.folder / "certificate.sigstore.json"
    done = by_node(program, file, whole, whole.keyid)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"verified": True, "hint": whole.keyid}
    document = json.loads(whole.bundle)
    payload = whole.payload.replace(b"NOT_REFUTED", b"REFUTED")
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    (tmp_path / "altered.json").write_text(json.dumps(document))
    altered = by_node(program, tmp_path / "altered.json", whole, whole.keyid)
    assert altered.returncode == 1
    assert "signature verification failed" in altered.stderr
    unknown = by_node(program, file, whole, "another key")
    assert unknown.returncode == 1
    assert f"key not found: {whole.keyid}" in unknown.stderr


def test_sigstores_types_read_the_bundle(whole: Whole) -> None:
    bundles = pytest.importorskip("sigstore_models.bundle.v1")
    found = bundles.Bundle.from_json(whole.bundle)
    assert found.media_type == MEDIA_TYPE
    assert found.verification_material.public_key.hint == whole.keyid
    assert found.verification_material.tlog_entries == []
    assert found.dsse_envelope.payload == whole.payload
    assert [entry.sig for entry in found.dsse_envelope.signatures] == [whole.signature]
    extra = json.loads(whole.bundle) | {"extra": 1}
    with pytest.raises(ValueError, match="extra"):
        bundles.Bundle.from_json(json.dumps(extra))


def test_sigstore_for_python_verifies_the_signature_by_a_p256_key_alone(whole: Whole) -> None:
    """Its public interface takes no bare key; the function behind it does, and knows one kind of key."""
    dsse = pytest.importorskip("sigstore.dsse")
    errors = pytest.importorskip("sigstore.errors")
    envelope = dsse.Envelope._from_json(json.dumps(whole.envelope))
    key = serialization.load_pem_public_key(whole.public.read_bytes())
    if whole.algorithm == "ed25519":
        with pytest.raises((TypeError, errors.Error, AttributeError)):
            dsse._verify(key, envelope)
    else:
        assert dsse._verify(key, envelope) == whole.payload
    hashes = pytest.importorskip("sigstore.hashes")
    common = pytest.importorskip("sigstore_models.common.v1")
    for named, digest in [*whole.subjects.items(), ("", "00" * 32)]:
        hashed = hashes.Hashed(algorithm=common.HashAlgorithm.SHA2_256, digest=bytes.fromhex(digest))
        assert dsse.Statement(whole.payload)._matches_digest(hashed) is bool(named)
