"""Reading a trust file: strict TOML, every problem named with its line."""

import difflib
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from cu_certificates._files import kind_of
from cu_certificates._toml import KeyPath, key_lines
from cu_certificates._trusted import (
    SCHEMA,
    RevocationRule,
    Threshold,
    Trust,
    TrustedIdentity,
    TrustedKey,
)
from cu_certificates.errors import MissingFileError, PolicyError
from cu_certificates.keys import load_public_key

MAX_BYTES: Final = 1024 * 1024

_TOP: Final = ("schema", "key", "identity", "threshold", "time", "revocation")
_KEY: Final = ("keyid", "public", "alg", "roles", "predicates", "not_before", "not_after")
_IDENTITY: Final = ("issuer", "identity", "roles", "predicates")
_THRESHOLD: Final = ("auditor", "controller")
_TIME: Final = ("require_timestamp", "tsa_roots", "max_age_days")
_REVOCATION: Final = ("list", "max_list_age_days", "min_sequence")
_REPEATED: Final = ("key", "identity")


class _Source:
    """The text of a trust file, to say in which line a problem stands (``tomllib`` does not tell)."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = key_lines(text)

    def fail(self, message: str, key: str = "", *, table: str = "", index: int = 0) -> NoReturn:
        raise PolicyError(f"{self.path}:{self.line_of(key, table, index)}: {message}")

    def line_of(self, key: str, table: str, index: int) -> int:
        """Return the line of ``key`` in the ``index``-th ``table``, else of the table, else 1."""
        above: KeyPath = (table, index) if table in _REPEATED else (table,) if table else ()
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

    def near(self, error: PolicyError, *, table: str, index: int = 0) -> NoReturn:
        """Tell the line of an error whose message starts with the key that is wrong."""
        self.fail(str(error), str(error).split()[0], table=table, index=index)

    def beside(self, name: str) -> Path:
        """Return a file that is named relative to the trust file."""
        return self.path.parent / name


def _texts(source: _Source, entry: dict[str, Any], key: str, table: str, index: int = 0) -> tuple[str, ...]:
    value = entry[key]
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        source.fail(f"{key} is {value!r}; expected a list of strings", key, table=table, index=index)
    if len(set(value)) != len(value):
        source.fail(f"{key} names an entry twice: {value!r}; name each once", key, table=table, index=index)
    return tuple(value)


def _plain(source: _Source, entry: dict[str, Any], key: str, table: str, index: int = 0) -> str:
    value = entry[key]
    if not isinstance(value, str) or not value or "\0" in value:
        source.fail(f"{key} is {value!r}; expected a string", key, table=table, index=index)
    return value


def _complete(source: _Source, entry: dict[str, Any], names: tuple[str, ...], table: str, index: int) -> None:
    source.known(entry, names, table=table, index=index)
    for key in names:
        if key not in entry:
            source.fail(f"[[{table}]] has no {key!r}; expected all of {', '.join(names)}", table=table, index=index)


def _read_key(source: _Source, entry: dict[str, Any], index: int) -> TrustedKey:
    _complete(source, entry, _KEY, "key", index)
    keyid, public_name, algorithm = (_plain(source, entry, key, "key", index) for key in ("keyid", "public", "alg"))
    for key in ("not_before", "not_after"):
        if not isinstance(entry[key], datetime) or entry[key].tzinfo is None:
            source.fail(
                f"{key} is {str(entry[key])!r}; expected a time with its zone, for example 2026-01-01T00:00:00Z",
                key,
                table="key",
                index=index,
            )
    roles, predicates = (_texts(source, entry, key, "key", index) for key in ("roles", "predicates"))
    public = load_public_key(source.beside(public_name))
    try:
        return TrustedKey(
            keyid=keyid,
            public=public,
            algorithm=algorithm,
            roles=roles,
            predicates=predicates,
            not_before=entry["not_before"].astimezone(UTC),
            not_after=entry["not_after"].astimezone(UTC),
        )
    except PolicyError as error:
        source.near(error, table="key", index=index)


def _read_identity(source: _Source, entry: dict[str, Any], index: int) -> TrustedIdentity:
    _complete(source, entry, _IDENTITY, "identity", index)
    issuer, identity = (_plain(source, entry, key, "identity", index) for key in ("issuer", "identity"))
    roles, predicates = (_texts(source, entry, key, "identity", index) for key in ("roles", "predicates"))
    try:
        return TrustedIdentity(issuer=issuer, identity=identity, roles=roles, predicates=predicates)
    except PolicyError as error:
        source.near(error, table="identity", index=index)


def _table(source: _Source, document: dict[str, Any], name: str, valid: tuple[str, ...]) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        source.fail(f"{name} is no table; expected [{name}]", name)
    source.known(table, valid, table=name)
    return table


def _read_threshold(source: _Source, document: dict[str, Any]) -> Threshold:
    table = _table(source, document, "threshold", _THRESHOLD)
    try:
        return Threshold(**table)
    except PolicyError as error:
        source.near(error, table="threshold")


def _read_time(source: _Source, document: dict[str, Any]) -> dict[str, Any]:
    table = _table(source, document, "time", _TIME)
    required = table.get("require_timestamp", False)
    if type(required) is not bool:
        source.fail(f"require_timestamp is {required!r}; expected true or false", "require_timestamp", table="time")
    roots: tuple[Path, ...] = ()
    if "tsa_roots" in table:
        roots = tuple(source.beside(name) for name in _texts(source, table, "tsa_roots", "time"))
    for root in roots:
        if "\0" in str(root) or kind_of(root) != "file":
            line = source.line_of("tsa_roots", "time", 0)
            raise MissingFileError(
                f"{source.path}:{line}: tsa_roots names {str(root)!r}, which is no file; expected the root certificate "
                "of a time-stamping authority in PEM form"
            )
    return {"require_timestamp": required, "tsa_roots": roots, "max_age_days": table.get("max_age_days")}


def _read_revocation(source: _Source, document: dict[str, Any]) -> RevocationRule | None:
    if "revocation" not in document:
        return None
    table = _table(source, document, "revocation", _REVOCATION)
    if "list" not in table:
        source.fail("[revocation] has no 'list'; expected the file that 'cu-cert revoke' writes", table="revocation")
    name = _plain(source, table, "list", "revocation")
    try:
        return RevocationRule(
            list=source.beside(name),
            max_age_days=table.get("max_list_age_days"),
            min_sequence=table.get("min_sequence", 1),
        )
    except PolicyError as error:
        source.near(error, table="revocation")


def _entries(source: _Source, document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = document.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        told = "no key is trusted" if name == "key" else f"{name} is no table"
        source.fail(f"{told}; expected tables that each start with [[{name}]]", name)
    return entries


def parse_trust(path: Path, data: bytes) -> Trust:
    """Read and check the bytes of a trust file together with the public keys that it names.

    Args:
        path: Where the file stands or is to stand; what it names is looked for beside it.
        data: The content.

    Raises:
        MissingFileError: A file that it names cannot be read.
        PolicyError: A key is unknown, absent or has a value that makes no sense; the message names the line.
        UsageError: A public key is of a kind that is not accepted.
    """
    try:
        text = data.decode("utf-8")
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"trust file {str(path)!r}: not TOML: {error}; correct it there") from None
    source = _Source(path, text)
    source.known(document, _TOP)
    if type(document.get("schema")) is not int or document["schema"] != SCHEMA:
        source.fail(f"schema is {document.get('schema', 'absent')!r}; expected schema = {SCHEMA}", "schema")
    key_tables, identity_tables = _entries(source, document, "key"), _entries(source, document, "identity")
    if not key_tables and not identity_tables:
        source.fail("no key is trusted; expected at least one table [[key]]", "key")
    keys = tuple(_read_key(source, entry, index) for index, entry in enumerate(key_tables))
    identities = tuple(_read_identity(source, entry, index) for index, entry in enumerate(identity_tables))
    threshold, time = _read_threshold(source, document), _read_time(source, document)
    revocation = _read_revocation(source, document)
    try:
        trust = Trust(path=path, keys=keys, identities=identities, threshold=threshold, revocation=revocation, **time)
        trust.require_enough_signers()
    except PolicyError as error:
        match str(error).split()[0]:
            case "keyid":
                source.near(error, table="key", index=len(keys) - 1)
            case "identity":
                source.near(error, table="identity", index=len(identities) - 1)
            case "threshold":
                source.fail(str(error), table="threshold")
            case _:
                source.near(error, table="time")
    return trust
