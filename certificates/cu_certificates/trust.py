"""The trust file: which keys may sign what, and for how long. It is the only root of trust.

Everything that decides whether a signature counts is read from here and never from a certificate: the key itself, its
algorithm, its role, the document types it may sign and the time it is good for. A key that this version does not
understand is refused, because a reader who wrote it relies on it.
"""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cu_certificates._files import kind_of, make_folder, read_bytes, write_atomic, write_new
from cu_certificates._trust_file import MAX_BYTES, parse_trust
from cu_certificates._trusted import (
    AUDIT_ROLES,
    ROLES,
    SCHEMA,
    RevocationRule,
    Threshold,
    Trust,
    TrustedIdentity,
    TrustedKey,
)
from cu_certificates.envelope import GATE_TYPE, PREDICATE_TYPE, REVOCATION_TYPE, ROTATION_TYPE
from cu_certificates.errors import MissingFileError, PolicyError, UsageError
from cu_certificates.keys import algorithm_of, default_key_folder, fingerprint, load_public_key

__all__ = [
    "AUDIT_ROLES",
    "DEFAULT_VALIDITY",
    "PREDICATES",
    "ROLES",
    "SCHEMA",
    "RevocationRule",
    "Threshold",
    "Trust",
    "TrustedIdentity",
    "TrustedKey",
    "add_key",
    "load_trust",
    "predicates_for",
    "reader_trust",
    "write_trust",
]

DEFAULT_VALIDITY: Final = timedelta(days=730)
PREDICATES: Final = {
    "audit": PREDICATE_TYPE,
    "gate": GATE_TYPE,
    "revocation": REVOCATION_TYPE,
    "rotation": ROTATION_TYPE,
}
"""A short word for each document type that a key may be trusted with."""


def load_trust(path: Path) -> Trust:
    """Read and check a trust file together with the public keys that it names.

    Args:
        path: A TOML file with ``schema = 1``, one or more tables ``[[key]]`` or ``[[identity]]`` and optionally
            ``[threshold]``, ``[time]`` and ``[revocation]``.

    Returns:
        The trusted keys and the reader's rules.

    Raises:
        MissingFileError: The file, or a file that it names, cannot be read.
        PolicyError: A key is unknown, absent or has a value that makes no sense; the message names the line.
        UsageError: A public key is of a kind that is not accepted.
    """
    return parse_trust(path, read_bytes(path, what="trust file", max_bytes=MAX_BYTES))


def reader_trust(given: Path | None) -> Trust:
    """Read the trust file that a reader names, else ``trust.toml`` in the user's own folder.

    It is never looked for beside a certificate, which could otherwise vouch for itself.

    Args:
        given: The file that the reader names.

    Raises:
        MissingFileError: There is none; the message tells how to make one.
        PolicyError: It does not say what it must.
    """
    path = default_key_folder() / "trust.toml" if given is None else given
    if kind_of(path) == "absent":
        raise MissingFileError(
            f"trust file {str(path)!r} does not exist; get the auditor's public key by a channel that you trust, make "
            "a trust file with 'cu-cert key trust KEY.pub.pem -o trust.toml', and name it with --trust"
        )
    return load_trust(path)


def predicates_for(roles: tuple[str, ...]) -> tuple[str, ...]:
    """Return the document types that a key of these roles usually signs: decisions for a gate alone, else audits.

    Args:
        roles: What the key's holder is.
    """
    return (GATE_TYPE,) if roles == ("gate",) else (PREDICATE_TYPE,)


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's as well; DEL is the one character that only TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _trusted(
    public_key_path: Path,
    not_before: datetime,
    not_after: datetime | None,
    roles: tuple[str, ...],
    predicates: tuple[str, ...],
) -> TrustedKey:
    public = load_public_key(public_key_path)
    return TrustedKey(
        keyid=fingerprint(public),
        public=public,
        algorithm=algorithm_of(public),
        roles=roles,
        predicates=predicates,
        not_before=not_before,
        not_after=not_before + DEFAULT_VALIDITY if not_after is None else not_after,
    )


def _key_table(key: TrustedKey, public_key_path: Path, folder: Path) -> list[str]:
    relative = Path(os.path.relpath(public_key_path.resolve(), folder.resolve())).as_posix()
    return [
        "[[key]]",
        f"keyid = {_quoted(key.keyid)}",
        f"public = {_quoted(relative)}",
        f"alg = {_quoted(key.algorithm)}",
        f"roles = [{', '.join(map(_quoted, key.roles))}]",
        f"predicates = [{', '.join(map(_quoted, key.predicates))}]",
        f"not_before = {key.not_before.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        f"not_after = {key.not_after.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    ]


def _encoded(lines: list[str], public_key_path: Path) -> bytes:
    try:
        return ("\n".join(lines) + "\n").encode()
    except UnicodeEncodeError:
        raise PolicyError(f"public key {str(public_key_path)!r}: its path is not UTF-8 text; rename it") from None


def write_trust(
    path: Path,
    public_key_path: Path,
    *,
    not_before: datetime,
    not_after: datetime | None = None,
    roles: tuple[str, ...] = ("auditor",),
    predicates: tuple[str, ...] = (PREDICATE_TYPE,),
    max_age_days: int | None = None,
    replace: bool = False,
) -> Trust:
    """Write a trust file for one key and return it as read back.

    Args:
        path: The new trust file.
        public_key_path: The key's PEM file; it is named relative to the trust file.
        not_before: Start of the key's validity.
        not_after: End of it; two years later when not given.
        roles: What the key's holder is.
        predicates: The document types that the key may sign.
        max_age_days: The oldest certificate that is accepted; ``None`` for no limit.
        replace: Overwrite an existing file. Off by default, because it may hold other keys.

    Raises:
        PolicyError: The arguments contradict each other.
        UsageError: The file exists and ``replace`` is off, the folder cannot be written, or the key is not accepted.
    """
    key = _trusted(public_key_path, not_before, not_after, roles, predicates)
    Trust(path=path, keys=(key,), max_age_days=max_age_days)  # refuse before anything is written
    lines = [
        "# Whom cu-cert believes. Compare each keyid with what the key's holder tells you by another channel.",
        f"schema = {SCHEMA}",
        "",
        *_key_table(key, public_key_path, path.parent),
    ]
    if max_age_days is not None:
        lines += ["", "[time]", f"max_age_days = {max_age_days}"]
    data = _encoded(lines, public_key_path)
    make_folder(path.parent)
    (write_atomic if replace else write_new)(path, data, what="trust file")
    return load_trust(path)


def add_key(
    path: Path,
    public_key_path: Path,
    *,
    not_before: datetime,
    not_after: datetime | None = None,
    roles: tuple[str, ...] = ("auditor",),
    predicates: tuple[str, ...] = (PREDICATE_TYPE,),
) -> TrustedKey:
    """Add one key to the end of an existing trust file; every line that stands there, comments too, is kept.

    Args:
        path: The trust file.
        public_key_path: The key's PEM file; it is named relative to the trust file.
        not_before: Start of the key's validity.
        not_after: End of it; two years later when not given.
        roles: What the key's holder is.
        predicates: The document types that the key may sign.

    Returns:
        The key as it is trusted now.

    Raises:
        PolicyError: The arguments contradict each other, or the file or the key in it does not say what it must.
        UsageError: The key is listed already, the file cannot be written, or the key is not accepted.
    """
    data = read_bytes(path, what="trust file", max_bytes=MAX_BYTES)
    listed = parse_trust(path, data)
    key = _trusted(public_key_path, not_before, not_after, roles, predicates)
    if listed.find(key.keyid) is not None:
        raise UsageError(f"trust file {str(path)!r} lists key {key.keyid} already; change its table there by hand")
    added = _encoded(_key_table(key, public_key_path, path.parent), public_key_path)
    longer = data.rstrip(b"\n") + b"\n\n" + added
    parse_trust(path, longer)  # refuse before the file is replaced
    write_atomic(path, longer, what="trust file", mode=path.stat().st_mode & 0o777)
    return key
