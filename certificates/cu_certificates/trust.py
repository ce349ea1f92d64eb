"""The trust file: which keys may sign what, and for how long. It is the only root of trust.

Everything that decides whether a signature counts is read from here and never from a certificate: the key itself, its
algorithm, its role, the document types it may sign and the time it is good for. A key that this version does not
understand is refused, because a reader who wrote it relies on it.
"""

import difflib
import json
import os
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec

from cu_certificates._files import kind_of, make_folder, read_bytes, write_atomic, write_new
from cu_certificates._toml import KeyPath, key_lines
from cu_certificates.envelope import PREDICATE_TYPE
from cu_certificates.errors import MissingFileError, PolicyError
from cu_certificates.keys import ALGORITHM, default_key_folder, fingerprint, load_public_key

SCHEMA: Final = 1
ROLES: Final = ("auditor", "controller", "gate")
DEFAULT_VALIDITY: Final = timedelta(days=730)

_MAX_BYTES: Final = 1024 * 1024
_MAX_AGE_DAYS: Final = 36_500
_TOP: Final = ("schema", "key", "time")
_KEY: Final = ("keyid", "public", "alg", "roles", "predicates", "not_before", "not_after")
_TIME: Final = ("max_age_days",)


@dataclass(frozen=True, kw_only=True)
class TrustedKey:
    """One key that the reader trusts.

    Args:
        keyid: Its OpenSSH fingerprint, recomputed from ``public``.
        public: The key.
        algorithm: The only algorithm that its signatures may use.
        roles: What its holder is: ``auditor``, ``controller``, ``gate``.
        predicates: The document types that it may sign, exact URIs.
        not_before: Start of its validity.
        not_after: End of its validity.

    Raises:
        PolicyError: The fields contradict each other.
    """

    keyid: str
    public: ec.EllipticCurvePublicKey = field(repr=False)
    algorithm: str
    roles: tuple[str, ...]
    predicates: tuple[str, ...]
    not_before: datetime
    not_after: datetime

    def __post_init__(self) -> None:
        if (actual := fingerprint(self.public)) != self.keyid:
            raise PolicyError(f"keyid is {self.keyid!r}, but the key's fingerprint is {actual!r}; correct one of them")
        if self.algorithm != ALGORITHM:
            raise PolicyError(f"alg is {self.algorithm!r}; expected {ALGORITHM!r}")
        if not self.roles or set(self.roles) - set(ROLES):
            raise PolicyError(f"roles are {list(self.roles)}; expected one or more of {', '.join(ROLES)}")
        if not self.predicates:
            raise PolicyError(f"predicates is empty; expected document types such as {PREDICATE_TYPE!r}")
        if self.not_before.tzinfo is None or self.not_after.tzinfo is None:
            raise PolicyError("not_before and not_after need a time zone, for example 2026-01-01T00:00:00Z")
        if self.not_after <= self.not_before:
            raise PolicyError(f"not_after {self.not_after} is not later than not_before {self.not_before}")


@dataclass(frozen=True, kw_only=True)
class Trust:
    """A checked trust file.

    Args:
        path: Where it stands, for messages.
        keys: The trusted keys.
        max_age_days: The oldest certificate that is accepted, counted from its ``issuedAt``; ``None`` for no limit.

    Raises:
        PolicyError: There is no key, one stands twice, or the limit makes no sense.
    """

    path: Path
    keys: tuple[TrustedKey, ...]
    max_age_days: int | None = None

    def __post_init__(self) -> None:
        if not self.keys:
            raise PolicyError("no key is trusted; expected at least one table [[key]]")
        names = [key.keyid for key in self.keys]
        for name in names:
            if names.count(name) > 1:
                raise PolicyError(f"keyid {name!r} stands in two tables [[key]]; keep one")
        days = self.max_age_days
        if days is not None and (type(days) is not int or not 1 <= days <= _MAX_AGE_DAYS):
            raise PolicyError(f"max_age_days is {days!r}; expected a whole number from 1 to {_MAX_AGE_DAYS}")

    def find(self, keyid: str) -> TrustedKey | None:
        """Return the trusted key of that name, if any.

        Args:
            keyid: An OpenSSH fingerprint.
        """
        return next((key for key in self.keys if key.keyid == keyid), None)


class _Source:
    """The text of a trust file, to say in which line a problem stands (``tomllib`` does not tell)."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = key_lines(text)

    def fail(self, message: str, key: str = "", *, table: str = "", index: int = 0) -> NoReturn:
        raise PolicyError(f"{self.path}:{self.line_of(key, table, index)}: {message}")

    def line_of(self, key: str, table: str, index: int) -> int:
        """Return the line of ``key`` in the ``index``-th ``table``, else of the table, else 1."""
        above: KeyPath = (table, index) if table == "key" else (table,) if table else ()
        path: KeyPath = (*above, key) if key else above
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def known(self, found: dict[str, Any], valid: tuple[str, ...], *, table: str = "", index: int = 0) -> None:
        for key in found:
            if key not in valid:
                nearest = difflib.get_close_matches(key, valid, n=1, cutoff=0.0)[0]
                self.fail(
                    f"unknown key {key!r}; the nearest valid key is {nearest!r} (valid here: {', '.join(valid)}); "
                    "correct or remove it, since a rule that is not understood is never skipped",
                    key,
                    table=table,
                    index=index,
                )


def _texts(source: _Source, entry: dict[str, Any], key: str, index: int) -> tuple[str, ...]:
    value = entry[key]
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        source.fail(f"{key} is {value!r}; expected a list of strings", key, table="key", index=index)
    if len(set(value)) != len(value):
        source.fail(f"{key} names an entry twice: {value!r}; name each once", key, table="key", index=index)
    return tuple(value)


def _read_key(source: _Source, entry: dict[str, Any], index: int) -> TrustedKey:
    source.known(entry, _KEY, table="key", index=index)
    for key in _KEY:
        if key not in entry:
            source.fail(f"[[key]] has no {key!r}; expected all of {', '.join(_KEY)}", table="key", index=index)
    for key in ("keyid", "public", "alg"):
        if not isinstance(entry[key], str) or not entry[key] or "\0" in entry[key]:
            source.fail(f"{key} is {entry[key]!r}; expected a string", key, table="key", index=index)
    for key in ("not_before", "not_after"):
        if not isinstance(entry[key], datetime) or entry[key].tzinfo is None:
            source.fail(
                f"{key} is {str(entry[key])!r}; expected a time with its zone, for example 2026-01-01T00:00:00Z",
                key,
                table="key",
                index=index,
            )
    roles, predicates = _texts(source, entry, "roles", index), _texts(source, entry, "predicates", index)
    public = load_public_key(source.path.parent / entry["public"])
    try:
        return TrustedKey(
            keyid=entry["keyid"],
            public=public,
            algorithm=entry["alg"],
            roles=roles,
            predicates=predicates,
            not_before=entry["not_before"].astimezone(UTC),
            not_after=entry["not_after"].astimezone(UTC),
        )
    except PolicyError as error:
        message = str(error)
        source.fail(message, message.split()[0], table="key", index=index)


def _read_time(source: _Source, table: object) -> Any:
    if not isinstance(table, dict):
        source.fail("time is no table; expected [time]", "time")
    source.known(table, _TIME, table="time")
    return table.get("max_age_days")


def load_trust(path: Path) -> Trust:
    """Read and check a trust file together with the public keys that it names.

    Args:
        path: A TOML file with ``schema = 1``, one or more tables ``[[key]]`` and optionally ``[time]``.

    Returns:
        The trusted keys.

    Raises:
        MissingFileError: The file, or a public key that it names, cannot be read.
        PolicyError: A key is unknown, absent or has a value that makes no sense; the message names the line.
        UsageError: A public key is of a kind that is not accepted.
    """
    data = read_bytes(path, what="trust file", max_bytes=_MAX_BYTES)
    try:
        text = data.decode("utf-8")
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"trust file {str(path)!r}: not TOML: {error}; correct it there") from None
    source = _Source(path, text)
    source.known(document, _TOP)
    if type(document.get("schema")) is not int or document["schema"] != SCHEMA:
        source.fail(f"schema is {document.get('schema', 'absent')!r}; expected schema = {SCHEMA}", "schema")
    entries = document.get("key")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        source.fail("no key is trusted; expected at least one table [[key]]", "key")
    keys = tuple(_read_key(source, entry, index) for index, entry in enumerate(entries))
    max_age_days = _read_time(source, document.get("time", {}))
    try:
        return Trust(path=path, keys=keys, max_age_days=max_age_days)
    except PolicyError as error:
        key = str(error).split()[0]
        source.fail(
            str(error), key, table="time" if key in _TIME else "key", index=len(keys) - 1 if key == "keyid" else 0
        )


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


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's as well; DEL is the one character that only TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


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
    public = load_public_key(public_key_path)
    key = TrustedKey(
        keyid=fingerprint(public),
        public=public,
        algorithm=ALGORITHM,
        roles=roles,
        predicates=predicates,
        not_before=not_before,
        not_after=not_before + DEFAULT_VALIDITY if not_after is None else not_after,
    )
    Trust(path=path, keys=(key,), max_age_days=max_age_days)  # refuse before anything is written
    relative = Path(os.path.relpath(public_key_path.resolve(), path.parent.resolve())).as_posix()
    lines = [
        "# Whom cu-cert believes. Compare each keyid with what the key's holder tells you by another channel.",
        f"schema = {SCHEMA}",
        "",
        "[[key]]",
        f"keyid = {_quoted(key.keyid)}",
        f"public = {_quoted(relative)}",
        f"alg = {_quoted(key.algorithm)}",
        f"roles = [{', '.join(map(_quoted, key.roles))}]",
        f"predicates = [{', '.join(map(_quoted, key.predicates))}]",
        f"not_before = {key.not_before.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        f"not_after = {key.not_after.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    ]
    if max_age_days is not None:
        lines += ["", "[time]", f"max_age_days = {max_age_days}"]
    try:
        data = ("\n".join(lines) + "\n").encode()
    except UnicodeEncodeError:
        raise PolicyError(f"public key {str(public_key_path)!r}: its path is not UTF-8 text; rename it") from None
    make_folder(path.parent)
    (write_atomic if replace else write_new)(path, data, what="trust file")
    return load_trust(path)
