"""Time stamps for files that lie there already: a certificate by its signature, a plan by its bytes.

The stamp lies beside the file, where verification looks for it: ``certificate.tsr``, ``plan.tsr``.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cu_certificates._files import kind_of, read_bytes, write_atomic, write_new
from cu_certificates._verify_time import CERTIFICATE_STAMP, stamp_places
from cu_certificates.check.carrier import MAX_REPORT, load_any
from cu_certificates.check.strict import Rejected, parse
from cu_certificates.envelope import read_statement
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.plan import KIND
from cu_certificates.timestamp import MAX_TOKEN, fetch, query, require_answer


@dataclass(frozen=True, kw_only=True)
class Stampable:
    """What a time stamp of a file covers, and where it lies.

    Args:
        what: ``certificate`` or ``plan``.
        data: The stamped bytes: the auditor's raw signature, or the plan.
        place: Where verification looks for the stamp.
    """

    what: str
    data: bytes = field(repr=False)
    place: Path

    def keep(self, token: bytes) -> datetime:
        """Write a stamp beside the file, once it speaks of its bytes; an earlier one over the same bytes stays.

        Args:
            token: The answer of the authority.

        Returns:
            The latest time by the authority's word; whether to believe it is each reader's question.

        Raises:
            UntrustedError: It is no stamp over these bytes.
            UsageError: There is one already, the library is not installed, or the folder cannot be written.
        """
        self.require_none()
        latest = require_answer(token, self.data)
        write_atomic(self.place, token, what="time stamp")
        return latest

    def require_none(self) -> None:
        """Refuse to replace a stamp over the same bytes: the earlier one shows more.

        Raises:
            UsageError: There is one.
        """
        if kind_of(self.place) != "file":
            return
        with suppress(UntrustedError):  # one over other bytes, or no stamp at all, is of no use to anybody
            found = require_answer(read_answer(self.place), self.data)
            raise UsageError(
                f"time stamp {str(self.place)!r}: states {found} for these bytes already, and an earlier stamp shows "
                "more; move it away if you want another"
            )

    def ask(self, url: str) -> datetime:
        """Ask an authority and keep its answer.

        Args:
            url: The authority's address.

        Raises:
            UsageError: It cannot be reached, or answers something else.
        """
        self.require_none()
        return self.keep(fetch(url, self.data))

    def write_query(self, path: Path) -> None:
        """Write the question for an authority, to be carried there.

        Args:
            path: The new file.

        Raises:
            UsageError: It exists, or cannot be written.
        """
        write_new(path, query(self.data), what="time-stamp query")


def require_query(path: Path) -> None:
    """Refuse a query that could not be written later, before anything is signed.

    Args:
        path: The new file.

    Raises:
        UsageError: It exists, or the library is not installed.
    """
    query(b"probe")
    if kind_of(path) != "absent":
        raise UsageError(f"time-stamp query {str(path)!r} exists already and is never overwritten; give another path")


def stampable(file: Path) -> Stampable:
    """Read what a stamp of a file covers. No signature is looked at: that is the reader's business.

    Args:
        file: A signed certificate (bundle, envelope or report), or ``plan.json``.

    Raises:
        MissingFileError: It cannot be read.
        UsageError: It is none of these.
    """
    data = read_bytes(file, what="file", max_bytes=MAX_REPORT)
    place = stamp_places(file)[0]
    try:
        document = None if data.startswith(b"<") else parse(data, "file")
        if isinstance(document, dict) and document.get("kind") == KIND:
            return Stampable(what="plan", data=data, place=place)
        carrier, skeleton = load_any(data)
    except Rejected as problem:
        raise UsageError(
            f"{str(file)!r}: {problem}; a time stamp needs a signed certificate or a plan.json (sign a draft first)"
        ) from None
    value = carrier.signatures[0].value
    if len(carrier.signatures) > 1:
        named = read_statement(carrier.payload).text("auditor", "keyid")
        value = next((one.value for one in carrier.signatures if one.keyid == named), b"")
        if not value:
            raise UsageError(f"{str(file)!r}: holds no signature of the auditor that it names, {named}")
    if skeleton is not None:  # the page carries the same signature as the certificate beside it
        place = file.parent / CERTIFICATE_STAMP
    return Stampable(what="certificate", data=value, place=place)


def read_answer(path: Path) -> bytes:
    """Read the answer of an authority that was carried here.

    Args:
        path: The ``.tsr`` file.

    Raises:
        MissingFileError: It cannot be read.
        UsageError: It is too large.
    """
    return read_bytes(path, what="answer of the authority", max_bytes=MAX_TOKEN)
