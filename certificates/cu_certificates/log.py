"""The log of a project: one line for each plan that was fixed and each certificate that was signed, never taken back.

Each line is canonical JSON and holds digests only, so the file can be handed to anybody. The lines are the leaves of a
Merkle tree (RFC 9162), and each certificate states size and root of the tree before its own line
(``predicate.log``). Whoever holds a certificate can therefore tell later whether a line before it was changed, moved or
removed, and a plan without a certificate stays visible: a refutation that was dropped leaves its plan behind.

The log is kept by the one who is audited. It shows nothing about what was never entered, and its times are that
party's word; what binds it is that certificates with its roots are in other hands.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from cu_certificates._files import kind_of, locked, make_folder, read_bytes, write_atomic
from cu_certificates._log_lines import Entry, LoggedCertificate, read_line
from cu_certificates.check.strict import Rejected
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.merkle import MerkleTree

FILE: Final = "log.jsonl"
MAX_LOG: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class Log:
    """A log as it was read; its lines hang together.

    Args:
        entries: The lines, oldest first.

    Raises:
        Rejected: A digest stands twice, a certificate's plan does not stand before it, or a number is out of order.
    """

    entries: tuple[Entry, ...] = ()
    places: dict[str, int] = field(init=False, repr=False, compare=False)
    """The number of the line, from 0, by digest."""

    def __post_init__(self) -> None:
        places: dict[str, int] = {}
        last: int | None = None
        for at, entry in enumerate(self.entries):
            if entry.digest in places:
                raise Rejected(f"line {at + 1}: its digest stands on line {places[entry.digest] + 1} already")
            places[entry.digest] = at
            if entry.plan is None or entry.sequence is None:
                continue
            before = places.get(entry.plan)
            if before is None or self.entries[before].kind != "plan":
                raise Rejected(f"line {at + 1}: no line before it enters its plan {entry.plan}")
            if last is not None and entry.sequence != last + 1:
                raise Rejected(f"line {at + 1}: certificate {entry.sequence} follows {last}; expected {last + 1}")
            last = entry.sequence
        object.__setattr__(self, "places", places)

    @classmethod
    def read(cls, data: bytes, what: str = "log") -> "Log":
        """Read the bytes of a log.

        Args:
            data: The whole file.
            what: How it is called in messages.

        Raises:
            Rejected: A line is not what :meth:`Entry.to_line` writes, or the lines do not hang together.
        """
        if len(data) > MAX_LOG:
            raise Rejected(f"{what}: {len(data)} bytes; expected at most {MAX_LOG}")
        if data and not data.endswith(b"\n"):
            raise Rejected(f"{what}: its last line has no end; the file was cut")
        try:
            return cls(tuple(read_line(line, f"line {at}") for at, line in enumerate(data.split(b"\n")[:-1], 1)))
        except Rejected as problem:
            raise Rejected(f"{what}: {problem}") from None

    def to_bytes(self) -> bytes:
        """Return the bytes of the file."""
        return b"".join(line + b"\n" for line in self.lines)

    @cached_property
    def lines(self) -> tuple[bytes, ...]:
        """The leaves of the tree."""
        return tuple(entry.to_line() for entry in self.entries)

    @property
    def size(self) -> int:
        """Number of lines."""
        return len(self.entries)

    @cached_property
    def tree(self) -> MerkleTree:
        """The tree over all lines."""
        return MerkleTree(self.lines)

    def root(self, size: int | None = None) -> str:
        """Return the root of the first ``size`` lines in hexadecimal; of all by default."""
        return (self.tree if size in (None, self.size) else MerkleTree(self.lines[:size])).root.hex()

    def certificates(self) -> tuple[Entry, ...]:
        """Return the certificates, oldest first."""
        return tuple(entry for entry in self.entries if entry.kind == "certificate")

    def open_plans(self) -> tuple[Entry, ...]:
        """Return the plans that ended in no certificate, oldest first."""
        ended = {entry.plan for entry in self.certificates()}
        return tuple(entry for entry in self.entries if entry.kind == "plan" and entry.digest not in ended)

    def position(self) -> dict[str, object]:
        """Return what the next certificate states: ``sequence``, ``previous`` and ``log``."""
        last = next((entry for entry in reversed(self.entries) if entry.sequence is not None), None)
        place = {"size": self.size, "root": self.root()}
        if last is None or last.sequence is None:
            return {"sequence": 1, "log": place}
        return {"sequence": last.sequence + 1, "previous": {"sha256": last.digest}, "log": place}

    def with_plan(self, digest: str, time: str) -> "Log":
        """Return the log with a plan entered, itself when the plan stands there already."""
        if digest in self.places:
            return self
        return Log((*self.entries, Entry(kind="plan", digest=digest, time=time)))

    def with_certificate(self, found: LoggedCertificate) -> "Log":
        """Return the log with a certificate entered, itself when it stands there already.

        Raises:
            UntrustedError: The certificate does not continue this log.
        """
        if found.digest in self.places:
            return self
        try:
            longer = Log((*self.with_plan(found.plan, found.issued).entries, found.entry))
        except Rejected as problem:
            last = self.certificates()[-1:]
            told = f"; the last one here is {last[0].digest} with number {last[0].sequence}" if last else ""
            raise UntrustedError(
                "log", f"{found.name}: does not continue the log ({problem}{told}); sign its draft again with this log"
            ) from None
        longer.require(found)
        return longer

    def require(self, found: LoggedCertificate) -> int:
        """Demand that a certificate stands in this log, and that the log before it is the one that it states.

        Args:
            found: What of the certificate concerns the log.

        Returns:
            The number of its line, from 1.

        Raises:
            UntrustedError: It does not.
        """
        at = self.places.get(found.digest)
        if at is None:
            raise UntrustedError(
                "log",
                f"{found.name}: certificate sha256:{found.digest} does not stand in this log of {self.size} lines; ask "
                "for the whole log, or for the certificates that it lists",
            )
        if self.entries[at] != found.entry:
            raise UntrustedError("log", f"{found.name}: line {at + 1} states another number, plan or time than it")
        before = [entry.digest for entry in self.entries[:at] if entry.kind == "certificate"][-1:]
        # The first certificate of a log may follow one from before the log was kept.
        if before and before != [found.previous]:
            raise UntrustedError(
                "log",
                f"{found.name}: states {found.previous or 'no certificate'} as the one before it; the log has "
                f"{before[0]}; a certificate was left out or put in",
            )
        if found.size is None:
            return at + 1
        if found.size > at:
            raise UntrustedError(
                "log", f"{found.name}: states a log of {found.size} lines before it, but stands on line {at + 1}"
            )
        if (actual := self.root(found.size)) != found.root:
            raise UntrustedError(
                "log",
                f"{found.name}: states root {found.root} for the first {found.size} lines; they have {actual}; lines "
                "were changed, moved or removed since it was signed",
            )
        return at + 1


def load_log(path: Path) -> Log:
    """Read a log that somebody handed over.

    Args:
        path: Its file.

    Raises:
        MissingFileError: It cannot be read.
        UntrustedError: It is damaged or was altered.
    """
    data = read_bytes(path, what="log", max_bytes=MAX_LOG)
    try:
        return Log.read(data)
    except Rejected as problem:
        raise UntrustedError("log", f"{str(path)!r}: {problem}; ask for the log as it was written") from None


@dataclass(frozen=True, kw_only=True)
class LogFindings:
    """What a log shows about certificates.

    Args:
        shown: Name and line (from 1) of each certificate at hand.
        stating: How many of them state the log before them, which was compared.
        open_plans: Plans that ended in no certificate.
        unseen: Certificates of the log that are not at hand.
    """

    shown: tuple[tuple[str, int], ...]
    stating: int
    open_plans: tuple[Entry, ...]
    unseen: tuple[Entry, ...]


def verify_log(log: Log, certificates: Sequence[LoggedCertificate]) -> LogFindings:
    """Hold a log against certificates: each stands in it, in its order, and the log before it is unchanged.

    Args:
        log: The log.
        certificates: What of the certificates at hand concerns the log.

    Raises:
        UntrustedError: One does not stand in it, or states another log.
    """
    shown = tuple((found.name, log.require(found)) for found in certificates)
    seen = {found.digest for found in certificates}
    return LogFindings(
        shown=shown,
        stating=sum(found.size is not None for found in certificates),
        open_plans=log.open_plans(),
        unseen=tuple(entry for entry in log.certificates() if entry.digest not in seen),
    )


class OpenLog:
    """A log held for an addition; made by :func:`open_log` only.

    Args:
        path: Its file.
        log: What it holds.
    """

    def __init__(self, path: Path, log: Log) -> None:
        self.path, self.log = path, log

    def write(self, longer: Log) -> None:
        """Put a longer log in the place of the one that was read; a reader sees the one or the other, never half.

        Args:
            longer: The log with lines added behind those that it had.

        Raises:
            UsageError: A line that was there before is missing, or the file cannot be written.
        """
        if longer.lines[: self.log.size] != self.log.lines:
            raise UsageError(f"log {str(self.path)!r}: lines are only added; nothing was written")
        if longer.size > self.log.size:
            write_atomic(self.path, longer.to_bytes(), what="log")
            self.log = longer


@contextmanager
def open_log(path: Path) -> Iterator[OpenLog]:
    """Hold a log for an addition; whoever else wants to add waits.

    Args:
        path: Its file; its folder is made, and a file that does not exist is an empty log.

    Raises:
        UsageError: It is damaged, or cannot be read or written.
    """
    make_folder(path.parent)
    with locked(path.with_name(path.name + ".lock"), what="log"):
        try:
            data = read_bytes(path, what="log", max_bytes=MAX_LOG) if kind_of(path) != "absent" else b""
            found = Log.read(data)
        except Rejected as problem:
            raise UsageError(
                f"log {str(path)!r}: {problem}; restore it from a copy, since certificates name its root"
            ) from None
        yield OpenLog(path, found)


def nearest_log(start: Path) -> Path | None:
    """Return the log of the project in ``start`` or in the nearest folder above it, if there is one.

    Args:
        start: A folder.
    """
    folder = start.absolute()
    for candidate in (folder, *folder.parents):
        path = candidate / ".cu-cert" / FILE
        with suppress(UsageError):  # a folder above that may not be looked at holds no log of ours
            if kind_of(path) == "file":
                return path
    return None


def shorter(log: Log, size: int) -> Log:
    """Return the first ``size`` lines of a log.

    Args:
        log: The log.
        size: How many lines.

    Raises:
        UsageError: It has fewer.
    """
    if not 0 <= size <= log.size:
        raise UsageError(f"log: {size} lines asked for; it has {log.size}")
    return replace(log, entries=log.entries[:size])
