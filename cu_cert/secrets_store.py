"""What the project must remember between runs and never hand on: audit seeds, request keys, plans handed out.

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
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cu_cert.errors import DataError
from cu_certificates._files import make_folder, write_atomic
from cu_certificates._log_lines import instant
from cu_certificates.check.coins import seed_commitment
from cu_certificates.check.strict import canonical
from cu_certificates.log import FILE, open_log
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

    @property
    def drawn(self) -> bool:
        """Whether the project's secret was drawn already."""
        return (self.folder / "audit.key").exists()

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

    def release_seed(self, recipe: str, data: str) -> bytes:
        """Return the 32-byte seed of the models that serve every request, the same for one recipe and all records.

        Args:
            recipe: Digest of the recipe.
            data: Digest of all records.
        """
        return hmac.new(
            self._remembered("audit.key"), b"release\0" + canonical([recipe, data]), hashlib.sha256
        ).digest()

    def use_tokens(self, ids: Sequence[str]) -> tuple[str, ...]:
        """Return a keyed hash (16 hexadecimal digits) of each id, ascending, by which requests that overlap are found.

        Who has no key cannot test a guess at an id. Were two ids to share a token, originals would be trained anew.
        """
        key = self._remembered("audit.key")
        return tuple(sorted(hmac.new(key, b"use\0" + name.encode(), hashlib.sha256).hexdigest()[:16] for name in ids))

    def drill_seed(self, recipe: str, data: str, canaries: str, candidates: int) -> bytes:
        """Return the 32-byte seed of a drill's candidates and reference models, the same for every method and attempt.

        Args:
            recipe: Digest of the recipe.
            data: Digest of the training records.
            canaries: Kind of the candidates.
            candidates: Their number.
        """
        common = canonical([recipe, data, canaries, candidates])
        return hmac.new(self._remembered("audit.key"), b"drill\0" + common, hashlib.sha256).digest()

    def numbers_key(self, plan: Plan) -> bytes:
        """Return the 32 bytes that number a drill's candidates; unlike the audit seed they are never opened.

        Args:
            plan: The plan before the numbers are committed to, so that no two certificates share them.
        """
        body = replace(plan, seed_commitment="").to_bytes()
        return hmac.new(self._remembered("audit.key"), b"numbers\0" + body, hashlib.sha256).digest()

    def request_key(self, ids: Sequence[str]) -> bytes:
        """Return K of a request: drawn when the request is first seen, kept for its later audits."""
        return self._remembered(self.request_key_name(ids))

    def request_key_name(self, ids: Sequence[str]) -> str:
        """Return the file below the folder in which K of a request is kept; deleting it is half of destroying K."""
        name = hmac.new(
            self._remembered("audit.key"), b"request\0" + canonical(sorted(ids)), hashlib.sha256
        ).hexdigest()
        return f"requests/{name}.key"

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

    @property
    def log(self) -> Path:
        """The project's log, which holds no secret and therefore lies beside the private folder."""
        return self.folder.parent / FILE

    def register(self, plan: str) -> None:
        """Enter a plan (its digest) in the project's log, before anything is trained for it."""
        if self.keep:
            with open_log(self.log) as held:
                held.write(held.log.with_plan(plan, instant(datetime.now(UTC))))


def write_private(
    folder: Path, ids: Sequence[str], key: bytes, seed: bytes, *, kept: str = "", padded: int | None = None
) -> None:
    """Write what the controller keeps for later: the key, each id's opening and commitment, the audit seed.

    Args:
        folder: ``private/`` below the output folder; made with mode 0700.
        ids: The request's ids.
        key: K.
        seed: The audit seed.
        kept: Where the project keeps its own copy of K, below ``.cu-cert/private``.
        padded: Number of leaves of a padded request; ``None`` where it is not padded.
    """
    make_folder(folder, private=True)
    os.chmod(folder, 0o700)  # it may have stood there already, open to others
    openings = {name: opening(key, name) for name in ids}
    document = {
        "kind": "cu-cert-private/1",
        "requestKey": key.hex(),
        **({"requestKeyFile": kept} if kept else {}),
        **({"padded": padded} if padded is not None else {}),
        "auditSeed": seed.hex(),
        "openings": [
            {"id": name, "opening": opened.hex(), "commitment": commitment(opened, name).hex()}
            for name, opened in sorted(openings.items())
        ],
    }
    text = json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"
    write_atomic(folder / "request.json", text, what="private file", mode=0o600)
