"""One whole certificate for each kind of key, with the public key as other tools want it."""

import base64
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from drafts import NOW, issue

from cu_certificates._log_lines import instant
from cu_certificates.keys import ALGORITHMS, generate_key, load_private_key, public_path_of


@dataclass(frozen=True)
class Whole:
    """A certificate on disk.

    Args:
        folder: Holds certificate, report, plan and evidence; treat it as read-only.
        public: The public key, PEM.
        keyid: Its fingerprint.
        algorithm: ``ecdsa-p256-sha256`` or ``ed25519``.
    """

    folder: Path
    public: Path
    keyid: str
    algorithm: str

    @property
    def bundle(self) -> bytes:
        return (self.folder / "certificate.sigstore.json").read_bytes()

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def envelope(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.bundle)["dsseEnvelope"]
        return found

    @property
    def payload(self) -> bytes:
        return base64.b64decode(self.envelope["payload"])

    @property
    def signature(self) -> bytes:
        return base64.b64decode(self.envelope["signatures"][0]["sig"])

    @property
    def subjects(self) -> dict[str, str]:
        return {entry["name"]: entry["digest"]["sha256"] for entry in json.loads(self.payload)["subject"]}


@cache
def whole_certificate(base: Path, algorithm: str) -> Whole:
    """Return the certificate of a kind of key; the first caller makes it."""
    folder = base / f"whole-{algorithm}"
    key = folder / "key.pem"
    generate_key(key, passphrase=None, algorithm=algorithm)
    signer = load_private_key(key)
    issue(folder / "out", signer, issuedAt=instant(NOW))
    return Whole(folder / "out", public_path_of(key), signer.keyid, algorithm)


@pytest.fixture(params=ALGORITHMS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A certificate for each kind of key."""
    return whole_certificate(tmp_path_factory.getbasetemp(), request.param)
