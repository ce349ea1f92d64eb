"""Drafts and certificates on disk without a trained model: the claims of ``fake_certificate``, sealed by us."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from fake_certificate import fake
from fake_evidence import Knobs

from cu_certificates._log_lines import instant
from cu_certificates.keys import SigningKey, generate_key, public_path_of
from cu_certificates.seal import Issued, Sealed, seal, write_sealed
from cu_certificates.trust import write_trust

NOW = datetime.now(UTC).replace(microsecond=0)
MEASURED = NOW - timedelta(days=3)


def predicate_and_files(**changes: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The content of a draft that was measured three days ago, to expire after 90 days, and its evidence."""
    found = fake(Knobs())
    predicate = found.predicate | {
        "issuedAt": instant(MEASURED),
        "expiresAt": instant(MEASURED + timedelta(days=90)),
        "sequence": 1,
        "auditor": {"name": "project key", "independence": "internal"},
    }
    return predicate | changes, found.files


@cache
def _plain_draft() -> tuple[Sealed, dict[str, bytes]]:
    predicate, files = predicate_and_files()
    return seal(predicate, files.get, signer=None), files


def write_draft(folder: Path) -> Path:
    """Write a draft with its evidence and page, as ``cu-cert audit --no-sign`` does; returns the draft."""
    return write_sealed(folder, *_plain_draft()).certificate


def issue(folder: Path, key: SigningKey, **changes: Any) -> Issued:
    """Write a certificate signed by ``key``."""
    predicate, files = predicate_and_files(**changes)
    return write_sealed(folder, seal(predicate, files.get, signer=key), files)


def key_and_trust(folder: Path, name: str = "auditor", **more: Any) -> tuple[Path, Path]:
    """Make a key and a trust file that names it; returns both files."""
    key, trust = folder / f"{name}.pem", folder / f"{name}.toml"
    generate_key(key, passphrase=None)
    write_trust(trust, public_path_of(key), not_before=NOW - timedelta(days=2), **more)
    return key, trust


def with_time(trust: Path, lines: Mapping[str, str]) -> Path:
    """Add a table ``[time]`` to a trust file."""
    text = trust.read_text() + "\n[time]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())
    trust.write_text(text)
    return trust
