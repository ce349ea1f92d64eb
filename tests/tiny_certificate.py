"""One real, signed certificate of a tiny project, made once a session, for tests of everything that only reads it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from small_project import fix_secrets, write_project


@dataclass(frozen=True)
class Tiny:
    """The files of a certificate and what a reader needs beside them.

    Args:
        folder: The project; treat it as read-only.
    """

    folder: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "audit-out" / "certificate.sigstore.json"

    @property
    def report(self) -> Path:
        return self.folder / "audit-out" / "report.html"

    @property
    def model(self) -> Path:
        return self.folder / "unlearned.pt"

    @property
    def policy(self) -> Path:
        return self.folder / "cu-cert.toml"

    @property
    def trust(self) -> Path:
        return self.folder / "trust.toml"


def tiny_certificate(factory: pytest.TempPathFactory) -> Tiny:
    """Return the session's certificate; the first caller makes it."""
    tiny = Tiny(factory.getbasetemp() / "tiny-certificate")
    if not tiny.trust.exists():
        _make(tiny)
    return tiny


def _make(tiny: Tiny) -> None:
    from datetime import UTC, datetime, timedelta

    from cu_cert.project import load_project
    from cu_cert.protocol import audit
    from cu_cert.training import train_model
    from cu_cert.unlearning import unlearn_model
    from cu_certificates.keys import generate_key, public_path_of
    from cu_certificates.trust import write_trust

    folder = write_project(tiny.folder)
    fix_secrets(folder, "tiny certificate")
    key = folder / "keys" / "audit.pem"
    generate_key(key, passphrase=None)
    project = load_project(tiny.policy)
    original, forget = folder / "model.pt", folder / "ids.txt"
    train_model(project, original)
    unlearn_model(project, original, forget, tiny.model, method="npo")
    audit(
        tiny.model,
        forget,
        project=project,
        original=original,
        key=key,
        out=tiny.bundle.parent,
        quiet=True,
        say=lambda line: None,
    )
    write_trust(tiny.trust, public_path_of(key), not_before=datetime.now(UTC) - timedelta(days=1))
