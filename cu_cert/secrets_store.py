"""What the project must remember between runs and never hand on: audit seeds, request keys, the order of certificates.

Everything lies in ``.cu-cert/private`` beside ``cu-cert.toml``, readable by the owner only. The audit seed is derived
from one project secret and the plan, so the same plan always gets the same seed: an interrupted audit resumes, and
repeating an audit is no second throw of the coins. A new attempt is a new plan and says so.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cu_cert.errors import DataError
from cu_certificates._files import make_folder, write_atomic
from cu_certificates.check.coins import seed_commitment
from cu_certificates.check.strict import canonical
from cu_certificates.plan import Plan
from cu_certificates.request import commitment, opening

FOLDER: Final = Path(".cu-cert") / "private"


@dataclass(frozen=True)
class Secrets:
    """The private memory of a project.

    Args:
        folder: ``.cu-cert/private`` below the project's root.
        keep: Whether what is drawn is written down; a dry run draws for itself and leaves nothing behind.
    """

    folder: Path
    keep: bool = True
    _drawn: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def _remembered(self, name: str) -> bytes:
        """Return 32 bytes that are drawn once and kept."""
        if name in self._drawn:
            return self._drawn[name]
        path = self.folder / name
        try:
            found = bytes.fromhex(path.read_text("ascii").strip())
        except FileNotFoundError:
            found = secrets.token_bytes(32)
            if self.keep:
                make_folder(path.parent, private=True)
                write_atomic(path, found.hex().encode() + b"\n", what="private file", mode=0o600)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as 64 hexadecimal digits ({error}); restore it") from None
        if len(found) != 32:
            raise DataError(f"{path}: {len(found)} bytes; expected 32; restore it from a copy")
        self._drawn[name] = found
        return found

    def audit_seed(self, plan: Plan) -> bytes:
        """Return the 32-byte seed of a plan; the plan's own seed commitment plays no part in it."""
        body = replace(plan, seed_commitment="").to_bytes()
        return hmac.new(self._remembered("audit.key"), b"audit\0" + body, hashlib.sha256).digest()

    def commit(self, plan: Plan) -> tuple[Plan, bytes]:
        """Return the plan with its seed commitment filled in, and the seed."""
        seed = self.audit_seed(plan)
        return plan.with_seed(seed_commitment(seed)), seed

    def pilot_seed(self, plan: Plan) -> bytes:
        """Return the 32-byte seed of the pilots, the same for every plan of one recipe, data set and request."""
        common = canonical([plan.recipe, plan.data, plan.request_root])
        return hmac.new(self._remembered("audit.key"), b"pilots\0" + common, hashlib.sha256).digest()

    def request_key(self, ids: Sequence[str]) -> bytes:
        """Return K of a request: drawn when the request is first seen, kept for its later audits."""
        name = hmac.new(
            self._remembered("audit.key"), b"request\0" + canonical(sorted(ids)), hashlib.sha256
        ).hexdigest()
        return self._remembered(f"requests/{name}.key")

    def hand_out(self, plan: str) -> None:
        """Remember that the coins of a plan (its digest) were handed out, so that its models may be judged by them."""
        if plan not in (known := self.handed_out()):
            make_folder(self.folder, private=True)
            text = "".join(f"{digest}\n" for digest in (*known, plan))
            write_atomic(self.folder / "plans", text.encode(), what="private file", mode=0o600)

    def handed_out(self) -> tuple[str, ...]:
        """Return the digests of the plans whose coins were handed out, oldest first."""
        try:
            return tuple((self.folder / "plans").read_text("ascii").split())
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder / 'plans'}: cannot be read ({error}); restore it from a copy") from None

    def next_sequence(self) -> tuple[int, str | None]:
        """Return the number of the next certificate and the payload digest of the last one."""
        issued = self._issued()
        return len(issued) + 1, issued[-1]["payload"] if issued else None

    def record(self, payload: bytes, plan: str) -> None:
        """Remember that a certificate was issued; every registered plan ends in one."""
        line = canonical({"payload": hashlib.sha256(payload).hexdigest(), "plan": plan})
        path = self.folder / "issued.jsonl"
        make_folder(self.folder, private=True)
        before = path.read_bytes() if path.exists() else b""
        write_atomic(path, before + line + b"\n", what="private file", mode=0o600)

    def _issued(self) -> list[dict[str, Any]]:
        path = self.folder / "issued.jsonl"
        try:
            return [json.loads(line) for line in path.read_text("ascii").splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); restore it from a copy or move it away") from None


def write_private(folder: Path, ids: Sequence[str], key: bytes, seed: bytes) -> None:
    """Write what the controller keeps for later: the key, each id's opening and commitment, the audit seed.

    Args:
        folder: ``private/`` below the output folder; made with mode 0700.
        ids: The request's ids.
        key: K.
        seed: The audit seed.
    """
    make_folder(folder, private=True)
    os.chmod(folder, 0o700)  # it may have stood there already, open to others
    openings = {name: opening(key, name) for name in ids}
    document = {
        "kind": "cu-cert-private/1",
        "requestKey": key.hex(),
        "auditSeed": seed.hex(),
        "openings": [
            {"id": name, "opening": opened.hex(), "commitment": commitment(opened, name).hex()}
            for name, opened in sorted(openings.items())
        ],
    }
    text = json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"
    write_atomic(folder / "request.json", text, what="private file", mode=0o600)
