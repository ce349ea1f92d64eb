"""A small certificate, signed, with everything that a reader gets; shared by the tests of signatures and trust."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from cu_certificates import keys
from cu_certificates.check.carrier import join_report
from cu_certificates.check.coins import seed_commitment
from cu_certificates.check.fields import printed
from cu_certificates.check.strict import canonical
from cu_certificates.check.tails import cp_lower
from cu_certificates.envelope import PREDICATE_TYPE, sign, statement
from cu_certificates.errors import UntrustedError
from cu_certificates.trust import Trust, TrustedKey
from cu_certificates.verify import verify

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY, OTHER = keys.ephemeral_key(), keys.ephemeral_key()
CONTROLLER, SECOND = keys.ephemeral_key("ed25519"), keys.ephemeral_key()
MODEL = b"model bytes, never unpickled"
SKELETON = b"<!doctype html>\n<html lang='en'>\n<head>\n<title>Audit</title>\n</head>\n<body>\n</body>\n</html>\n"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def plan() -> bytes:
    return canonical(
        {
            "kind": "cu-cert-plan/1",
            "questions": ["artifact"],
            "attacks": ["conformal-p"],
            "alphaTotal": "1/20",
            "alphaSplit": {"artifact": "1/20"},
            "detectEps": "2",
            "seedCommitment": {"sha256": seed_commitment(bytes(32))},
            "attempt": 1,
            "request": {"root": "0c" * 32},
            "subjects": [
                {
                    "model": {"sha256": sha256(MODEL)},
                    "method": "npo",
                    "guarantee": "none",
                    "parameters": {},
                    "testedEps": "1/2",
                    "testedDelta": "0",
                }
            ],
        }
    )


def utility() -> bytes:
    lines = [canonical({"kind": "record", "group": "held-out", "score": int(row < 36)}) for row in range(40)]
    return b"\n".join(lines) + b"\n"


FILES = {"plan.json": plan(), "evidence/utility.jsonl": utility()}


def predicate() -> dict[str, Any]:
    """A small certificate whose claims all follow; nothing was measured about the planned question."""
    return {
        "schemaVersion": "1.0",
        "certificateId": "urn:uuid:00000000-0000-4000-8000-000000000000",
        "issuedAt": "2026-11-20T18:00:00Z",
        "expiresAt": "2027-02-18T18:00:00Z",
        "auditor": {"name": "Example Auditor", "independence": "internal", "keyid": KEY.keyid},
        "scope": {"model": {"name": "model.pt", "digest": {"sha256": sha256(MODEL)}, "access": "white-box"}},
        "request": {"commitment": {"scheme": "cu-cert-forget/1", "root": "0c" * 32, "size": 50}},
        "unlearning": {"method": "npo", "guarantee": "none", "parameters": {}},
        "plan": {
            "digest": {"sha256": sha256(FILES["plan.json"])},
            "questions": ["artifact"],
            "attacks": ["conformal-p"],
            "alphaTotal": "1/20",
            "alphaSplit": {"artifact": "1/20"},
            "testedEps": "1/2",
            "testedDelta": "0",
            "detectEps": "2",
            "seedCommitment": {"sha256": seed_commitment(bytes(32))},
            "attempt": 1,
        },
        "evidence": [
            {
                "id": Path(name).stem,
                "kind": "x",
                "name": name,
                "digest": {"sha256": sha256(data)},
                "access": "controlled",
            }
            for name, data in FILES.items()
        ],
        "claims": [
            {"id": "c-model", "type": "model-digest", "digest": {"sha256": sha256(MODEL)}},
            {
                "id": "c-count",
                "type": "count",
                "evidence": "utility",
                "group": "held-out",
                "threshold": 1,
                "k": 36,
                "n": 40,
            },
            {
                "id": "c-cp",
                "type": "cp",
                "from": "c-count",
                "side": "lower",
                "alpha": "1/20",
                "bound": printed(cp_lower(40, 36, Fraction(1, 20))),
            },
            {"id": "m-auc", "type": "metric", "name": "AUC", "value": "0.5312"},
        ],
        "verdict": {"value": "INCONCLUSIVE", "basis": [], "reasons": ["the planned question was not measured"]},
        "assumptions": ["A1", "A2"],
        "limitations": ["L1"],
    }


def payload_of(content: dict[str, Any]) -> bytes:
    return statement({"model.pt": sha256(MODEL), "report.html": sha256(SKELETON)}, content)


def trusted(key: keys.SigningKey = KEY, **changes: Any) -> TrustedKey:
    """A key as a reader's trust file lists it, by default for audits."""
    fields: dict[str, Any] = {
        "keyid": key.keyid,
        "public": key.public,
        "algorithm": key.algorithm,
        "roles": ("auditor",),
        "predicates": (PREDICATE_TYPE,),
        "not_before": datetime(2026, 1, 1, tzinfo=UTC),
        "not_after": datetime(2027, 12, 31, tzinfo=UTC),
    }
    return TrustedKey(**(fields | changes))


def trusting(
    *more: TrustedKey, max_age_days: int | None = None, rules: dict[str, Any] | None = None, **changes: Any
) -> Trust:
    """A trust file with KEY, changed as told, and further keys."""
    listed = (trusted(**changes), *more)
    return Trust(path=Path("trust.toml"), keys=listed, max_age_days=max_age_days, **(rules or {}))


TRUST = trusting()


@dataclass(frozen=True)
class Folder:
    """A folder as it is handed on: bundle, report, model, plan and evidence."""

    path: Path

    @property
    def bundle(self) -> Path:
        return self.path / "certificate.sigstore.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def model(self) -> Path:
        return self.path / "model.pt"

    def write(self, data: bytes) -> None:
        self.bundle.write_bytes(data)
        self.report.write_bytes(join_report(SKELETON, data))

    def issue(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Sign a certificate that says something else."""
        content = copy.deepcopy(predicate())
        change(content)
        self.write(sign(payload_of(content), KEY))

    def refused(self, step: str, message: str, *, file: Path | None = None, **options: Any) -> UntrustedError:
        """Demand that verification refuses at ``step``."""
        with pytest.raises(UntrustedError, match=message) as caught:
            verify(file or self.bundle, **{"trust": TRUST, "now": NOW, **options})
        assert caught.value.step == step
        assert caught.value.exit_code == 4
        return caught.value


def make_folder(path: Path) -> Folder:
    """Write a folder whose certificate is signed by KEY."""
    found = Folder(path)
    (found.path / "evidence").mkdir(parents=True)
    for name, data in FILES.items():
        (found.path / name).write_bytes(data)
    found.model.write_bytes(MODEL)
    found.write(sign(payload_of(predicate()), KEY))
    return found


def flipped(data: bytes, bit: int) -> bytes:
    spoiled = bytearray(data)
    spoiled[bit // 8] ^= 1 << bit % 8
    return bytes(spoiled)


def bits_of(data: bytes, dense: range) -> list[int]:
    """Every bit outside ``dense``, and inside it one bit of every fifth byte, each of the eight in turn."""
    outside = [byte * 8 + bit for byte in range(len(data)) if byte not in dense for bit in range(8)]
    return outside + [byte * 8 + number % 8 for number, byte in enumerate(dense[::5])]


def without_bound(content: dict[str, Any]) -> None:
    """Leave out the one claim that rests on another claim."""
    content["claims"] = [claim for claim in content["claims"] if "from" not in claim]
