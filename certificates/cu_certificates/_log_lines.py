"""The lines of a project's log, and what a certificate must say to stand in one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cu_certificates.check.strict import Rejected, canonical, parse
from cu_certificates.errors import UntrustedError

MAX_LINE: Final = 1024

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_FIELDS: Final = {
    "plan": {"kind", "digest", "time"},
    "certificate": {"kind", "digest", "time", "sequence", "plan"},
}


def instant(moment: datetime) -> str:
    """Return a time as log and certificate write it, in UTC to the second.

    Args:
        moment: A time with a time zone.
    """
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a log.

    Args:
        kind: ``plan`` or ``certificate``.
        digest: SHA-256 of the plan's bytes, or of the certificate's payload, in hexadecimal.
        time: When the plan was entered; a certificate's ``issuedAt``.
        sequence: The certificate's number; ``None`` for a plan.
        plan: Digest of the certificate's plan; ``None`` for a plan.

    Raises:
        Rejected: A field is malformed.
    """

    kind: str
    digest: str
    time: str
    sequence: int | None = None
    plan: str | None = None

    def __post_init__(self) -> None:
        certificate = self.kind == "certificate"
        if self.kind not in _FIELDS:
            raise Rejected(f"kind is {self.kind!r:.80}; expected one of {', '.join(_FIELDS)}")
        for name, value in (("digest", self.digest), ("plan", self.plan if certificate else self.digest)):
            if not isinstance(value, str) or not _HEX.fullmatch(value):
                raise Rejected(f"{name} is {value!r:.80}; expected 64 lower-case hexadecimal digits")
        if not isinstance(self.time, str) or not _INSTANT.fullmatch(self.time):
            raise Rejected(f"time is {self.time!r:.80}; expected a time such as 2026-11-20T18:00:00Z")
        if certificate and (type(self.sequence) is not int or self.sequence < 1):
            raise Rejected(f"sequence is {self.sequence!r:.80}; expected a whole number from 1")

    def to_line(self) -> bytes:
        """Return the line without its line feed: a leaf of the tree."""
        return canonical({name: getattr(self, name) for name in _FIELDS[self.kind]})


@dataclass(frozen=True, kw_only=True)
class LoggedCertificate:
    """What of a certificate concerns the log.

    Args:
        name: How the certificate is called in messages, for example its file.
        digest: SHA-256 of its payload.
        sequence: Its number.
        plan: Digest of its plan.
        issued: Its ``issuedAt``.
        previous: Digest of the certificate before it; ``None`` for the first.
        size: Size of the log before it; ``None`` when it states none.
        root: Root of the log before it.
    """

    name: str
    digest: str
    sequence: int
    plan: str
    issued: str
    previous: str | None = None
    size: int | None = None
    root: str | None = None

    @property
    def entry(self) -> Entry:
        """The line that the log must have for it."""
        return Entry(kind="certificate", digest=self.digest, time=self.issued, sequence=self.sequence, plan=self.plan)


def logged(name: str, payload_sha256: str, predicate: Mapping[str, Any]) -> LoggedCertificate:
    """Take out of a certificate what concerns the log.

    Args:
        name: How the certificate is called in messages.
        payload_sha256: The identity of the certificate.
        predicate: What it says.

    Raises:
        UntrustedError: A field is absent or malformed.
    """

    def digest(value: object, where: str) -> str:
        found = value.get("sha256") if isinstance(value, dict) else None
        if not isinstance(found, str) or not _HEX.fullmatch(found):
            raise UntrustedError("log", f"{name}: predicate.{where}.sha256 is {found!r:.80}; expected 64 hex digits")
        return found

    plan, place = predicate.get("plan"), predicate.get("log")
    size = root = None
    if place is not None:
        size, root = (place.get("size"), place.get("root")) if isinstance(place, dict) else (None, None)
        if type(size) is not int or size < 0 or not isinstance(root, str) or not _HEX.fullmatch(root):
            raise UntrustedError("log", f"{name}: predicate.log is {place!r:.120}; expected a size and a root")
    found = LoggedCertificate(
        name=name,
        digest=payload_sha256,
        sequence=predicate.get("sequence", 0),
        plan=digest(plan.get("digest") if isinstance(plan, dict) else None, "plan.digest"),
        issued=predicate.get("issuedAt", ""),
        previous=digest(predicate["previous"], "previous") if "previous" in predicate else None,
        size=size,
        root=root,
    )
    try:
        _ = found.entry
    except Rejected as problem:
        raise UntrustedError("log", f"{name}: predicate: {problem}") from None
    return found


def read_line(line: bytes, where: str) -> Entry:
    """Read one line of a log, in its one spelling.

    Args:
        line: The line without its line feed.
        where: Its place, for messages.

    Raises:
        Rejected: It is anything else than :meth:`Entry.to_line` writes.
    """
    try:
        value = parse(line, where, max_bytes=MAX_LINE)
        fields = _FIELDS.get(str(value.get("kind"))) if isinstance(value, dict) else None
        if fields is None or set(value) != fields:
            raise Rejected(f"{where}: expected a plan or a certificate with exactly its fields")
        entry = Entry(**value)
    except Rejected as problem:
        told = str(problem)
        raise Rejected(told if told.startswith(where) else f"{where}: {told}") from None
    if entry.to_line() != line:
        raise Rejected(f"{where}: not canonical JSON")
    return entry
