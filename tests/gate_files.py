"""Signed certificates on disk without a trained model, with a model file, a trust file and a policy beside them."""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from fake_certificate import fake
from fake_evidence import CLEAN, LEAK, Knobs

from cu_certificates._log_lines import instant
from cu_certificates.keys import generate_key, load_private_key, public_path_of
from cu_certificates.seal import seal, write_sealed
from cu_certificates.trust import add_key, predicates_for, write_trust

MODEL = b'["file"]'
"""The bytes of which the invented certificates speak."""

SIMPLE = """schema = 1
[policy.require]
verdict = ["NOT_REFUTED"]
eps_lower_max = { value = "0.50", delta = "0", alpha = "1/20" }
"""


@dataclass(frozen=True)
class Made:
    """A folder with everything that a gate needs.

    Args:
        folder: ``clean`` and ``leak`` are folders of certificates, beside ``model.pt``, ``trust.toml`` and others.
    """

    folder: Path

    @property
    def clean(self) -> Path:
        return self.folder / "clean" / "certificate.sigstore.json"

    @property
    def leak(self) -> Path:
        return self.folder / "leak" / "certificate.sigstore.json"

    @property
    def model(self) -> Path:
        return self.folder / "model.pt"

    @property
    def trust(self) -> Path:
        return self.folder / "trust.toml"

    @property
    def policy(self) -> Path:
        return self.folder / "cu-cert.toml"

    @property
    def gate_key(self) -> Path:
        return self.folder / "gate.pem"

    @property
    def auditor_key(self) -> Path:
        return self.folder / "auditor.pem"

    def gate(self, certificate: Path, *more: str) -> list[str]:
        """The arguments of a gate that is bound to the model and the trust file."""
        known = ("--policy", str(self.policy), "--trust", str(self.trust), "--model", str(self.model))
        return ["gate", str(certificate), *known, *more]

    def write(self, name: str, *, means: Any = CLEAN, root: str | None = None, **changes: Any) -> Path:
        """Issue one more certificate; returns its bundle."""
        return issue(self.folder / name, self.auditor_key, means=means, root=root, **changes)


def issue(folder: Path, key: Path, *, means: Any, root: str | None = None, **changes: Any) -> Path:
    """Issue a certificate that was measured three days ago and expires after 90 days."""

    def other_request(plan: dict[str, Any]) -> None:
        if root is not None:
            plan["request"]["root"] = root

    found = fake(Knobs(means=means, edit_plan=other_request))
    measured = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
    predicate = found.predicate | {
        "issuedAt": instant(measured),
        "expiresAt": instant(measured + timedelta(days=90)),
        "certificateId": "urn:uuid:5f0cbeef-cafe-4bad-8ace-decafbadface",
        "sequence": 1,
        "auditor": {"name": "Example Auditor", "independence": "internal"},
    }
    sealed = seal(predicate | changes, found.files.get, signer=load_private_key(key))
    return write_sealed(folder, sealed, found.files).certificate


@cache
def made_once(base: Path) -> Made:
    """Make the folder once in a session; use it through :func:`made_in`."""
    made = Made(Path(mkdtemp(prefix="gate-files-", dir=base)))
    made.model.write_bytes(MODEL)
    made.policy.write_text(SIMPLE)
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=4)
    for key in (made.auditor_key, made.gate_key):
        generate_key(key, passphrase=None)
    write_trust(made.trust, public_path_of(made.auditor_key), not_before=yesterday)
    gate = ("gate",)
    add_key(
        made.trust,
        public_path_of(made.gate_key),
        not_before=yesterday,
        roles=gate,
        predicates=predicates_for(gate),
    )
    made.write("clean")
    made.write("leak", means=LEAK)
    return made


def made_in(base: Path, folder: Path) -> Made:
    """Copy the folder to a place of the test's own."""
    shutil.copytree(made_once(base).folder, folder / "work")
    return Made(folder / "work")


def forged(made: Made) -> Path:
    """The clean certificate with one changed byte in its payload."""
    folder = made.folder / "forged"
    folder.mkdir(exist_ok=True)
    document = json.loads(made.clean.read_bytes())
    payload = document["dsseEnvelope"]["payload"]
    document["dsseEnvelope"]["payload"] = payload[:-8] + ("AAAA" if payload[-8:-4] != "AAAA" else "AAAB") + payload[-4:]
    file = folder / "certificate.sigstore.json"
    file.write_text(json.dumps(document, separators=(",", ":"), sort_keys=True))
    return file


def inconclusive(made: Made) -> Path:
    """The clean certificate without its evidence."""
    folder = made.folder / "bare"
    folder.mkdir(exist_ok=True)
    file = folder / "certificate.sigstore.json"
    file.write_bytes(made.clean.read_bytes())
    return file


def ending(made: Made, code: int) -> tuple[Path, str]:
    """A certificate and the text of a policy with which the gate ends in a code."""
    match code:
        case 0:
            return made.clean, SIMPLE
        case 1:
            return made.leak, SIMPLE
        case 2:
            return made.clean, SIMPLE + "max_ages = '9d'\n"
        case 3:
            return inconclusive(made), SIMPLE
        case _:
            return forged(made), SIMPLE
