"""Whole certificates in the hands of tools that know nothing of cu-cert: openssl, securesystemslib, in-toto."""

import copy
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from signed_certificates import Whole
from signed_certificates import whole as whole

from cu_certificates.envelope import PREDICATE_TYPE
from cu_certificates.keys import ephemeral_key

OPENSSL = shutil.which("openssl")
SHELL = shutil.which("bash")


def by_openssl(whole: Whole, payload: bytes, folder: Path) -> bool:
    """Verify as docs/verify.md does: signed bytes by hand, then one openssl command."""
    assert OPENSSL
    signed, signature = folder / "signed.bin", folder / "signature"
    signed.write_bytes(b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload)
    signature.write_bytes(whole.signature)
    if whole.algorithm == "ed25519":
        command = ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(whole.public), "-in", str(signed)]
        command += ["-sigfile", str(signature)]
    else:
        command = ["dgst", "-sha256", "-verify", str(whole.public), "-signature", str(signature), str(signed)]
    return subprocess.run([OPENSSL, *command], capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_openssl_verifies_the_signed_bytes(whole: Whole, tmp_path: Path) -> None:
    assert by_openssl(whole, whole.payload, tmp_path)
    assert not by_openssl(whole, whole.payload.replace(b"NOT_REFUTED", b"REFUTED"), tmp_path)


def test_securesystemslib_verifies_the_envelope(whole: Whole) -> None:
    dsse = pytest.importorskip("securesystemslib.dsse")
    signer = pytest.importorskip("securesystemslib.signer")
    errors = pytest.importorskip("securesystemslib.exceptions")
    key = signer.SSlibKey.from_crypto(load_pem_public_key(whole.public.read_bytes()), keyid=whole.keyid)
    envelope = dsse.Envelope.from_dict(copy.deepcopy(whole.envelope))
    assert list(envelope.verify([key], threshold=1)) == [whole.keyid]
    assert envelope.payload == whole.payload
    another = signer.SSlibKey.from_crypto(ephemeral_key().private.public_key(), keyid="SHA256:another")
    for keys, threshold in (([another], 1), ([key, another], 2)):
        with pytest.raises(errors.VerificationError):
            envelope.verify(keys, threshold=threshold)
    other = copy.deepcopy(whole.envelope) | {"payloadType": "application/json"}
    with pytest.raises(errors.VerificationError):
        dsse.Envelope.from_dict(other).verify([key], threshold=1)


def test_in_toto_attestation_reads_the_statement(whole: Whole) -> None:
    statements = pytest.importorskip("in_toto_attestation.v1.statement")
    messages = pytest.importorskip("in_toto_attestation.v1.statement_pb2")
    json_format = pytest.importorskip("google.protobuf.json_format")
    message = json_format.Parse(whole.payload, messages.Statement())
    statements.Statement.copy_from_pb(message).validate()
    assert message.predicate_type == PREDICATE_TYPE
    assert {entry.name: dict(entry.digest) for entry in message.subject} == {
        name: {"sha256": digest} for name, digest in whole.subjects.items()
    }
    # Why payloads are never written again: this reader knows no integers.
    assert json.loads(json_format.MessageToJson(message)) == json.loads(whole.payload)
    assert json_format.MessageToJson(message).encode() != whole.payload


# --- The report as a file --------------------------------------------------------------------------------------------


@pytest.mark.skipif(OPENSSL is None or SHELL is None, reason="openssl or bash is not installed")
def test_the_page_without_one_line_is_the_signed_subject(whole: Whole, tmp_path: Path) -> None:
    """grep takes the line out, sha256 is the one in the statement, and openssl verifies the statement in that line."""
    assert SHELL
    recipe = (
        'set -eu; grep -v \'^<script type="application/vnd.dev.sigstore.bundle\' "$1" > page.html; '
        'sed -n \'s/^<script type="application\\/vnd.dev.sigstore.bundle[^>]*>\\([^<]*\\)<.*/\\1/p\' "$1"'
        " | base64 -d > certificate.json"
    )
    subprocess.run([SHELL, "-c", recipe, "sh", str(whole.report)], cwd=tmp_path, timeout=60, check=True)
    page = (tmp_path / "page.html").read_bytes()
    assert hashlib.sha256(page).hexdigest() == whole.subjects["report.html"]
    assert (tmp_path / "certificate.json").read_bytes() == whole.bundle
    assert by_openssl(whole, whole.payload, tmp_path)
    assert len(page.splitlines()) == len(whole.report.read_bytes().splitlines()) - 1
    # What a person reads is what the machine reads, and one changed letter is another page.
    assert re.search(rb"NOT_REFUTED", page)
    assert hashlib.sha256(page.replace(b"NOT_REFUTED", b"not_refuted", 1)).hexdigest() not in whole.subjects.values()
