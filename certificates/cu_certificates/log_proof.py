"""Proofs about a log for readers who do not have it: that a certificate stands in it, that it was only added to.

A proof holds hashes and one line, so it can be handed on where the log cannot. It is not signed: what it leads to is a
root, and a root counts when a signed certificate states it (``predicate.log``).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cu_certificates._files import read_bytes
from cu_certificates._log_lines import Entry, LoggedCertificate, read_line
from cu_certificates.check.merkle import require_consistency, require_inclusion
from cu_certificates.check.strict import MAX_INT, Rejected, canonical, parse
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.log import Log, shorter

KIND: Final = "cu-cert-log-path/1"
MAX_PROOF: Final = 64 * 1024

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_FIELDS: Final = {"inclusion": {"index", "line"}, "consistency": {"from"}}


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Size and root of a log.

    Args:
        size: Number of lines.
        root: The root in hexadecimal.
    """

    size: int
    root: str


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A proof that was read; nothing is shown until :meth:`require` was called.

    Args:
        tree: The log that it speaks of.
        path: The hashes.
        index: The place of the line, from 0; ``None`` for a proof of consistency.
        entry: The line.
        earlier: The shorter log that ``tree`` begins with; ``None`` for a proof of inclusion.
    """

    tree: Tree
    path: tuple[str, ...]
    index: int | None = None
    entry: Entry | None = None
    earlier: Tree | None = None

    def require(self, certificates: Sequence[LoggedCertificate]) -> list[str]:
        """Demand that the hashes lead where they must, and that the certificates at hand fit.

        Args:
            certificates: For inclusion: the certificate that stands in the log, and optionally later ones. For
                consistency: certificates that state one of the two logs, if any.

        Returns:
            What was shown, one line each.

        Raises:
            UntrustedError: Something does not fit.
        """
        path = [bytes.fromhex(text) for text in self.path]
        try:
            if self.earlier is not None:
                first, second = self.earlier, self.tree
                require_consistency(
                    first.size, bytes.fromhex(first.root), second.size, bytes.fromhex(second.root), path
                )
                shown = [f"the log of {second.size} lines begins with the log of {first.size} lines, unchanged"]
            else:
                assert self.entry is not None
                assert self.index is not None
                leaf, root = self.entry.to_line(), bytes.fromhex(self.tree.root)
                require_inclusion(leaf, self.index, self.tree.size, path, root)
                shown = [f"{self._included(certificates)} stands on line {self.index + 1} of {self.tree.size}"]
        except Rejected as problem:
            raise UntrustedError("log", f"{problem}; ask for a path made from the log as it is") from None
        known = {(tree.size, tree.root) for tree in (self.tree, self.earlier) if tree is not None}
        stated = [one.name for one in certificates if (one.size, one.root) in known]
        if stated:
            shown.append(f"its root is the one that {', '.join(stated)} states")
        else:
            shown.append(f"root {self.tree.root}: no certificate at hand states it, so compare it with one that does")
        return shown

    def _included(self, certificates: Sequence[LoggedCertificate]) -> str:
        found = next((one for one in certificates if one.entry == self.entry), None)
        if found is None:
            assert self.entry is not None
            names = ", ".join(one.name for one in certificates) or "none is given"
            raise UntrustedError(
                "log",
                f"the path is that of certificate sha256:{self.entry.digest}, number {self.entry.sequence}; at hand: "
                f"{names}; give that certificate",
            )
        return found.name


def _document(tree: Log, kind: str, path: list[bytes], **more: object) -> bytes:
    return (
        canonical(
            {
                "kind": KIND,
                "shows": kind,
                "tree": {"size": tree.size, "root": tree.root()},
                "path": [entry.hex() for entry in path],
                **more,
            }
        )
        + b"\n"
    )


def prove_inclusion(log: Log, found: LoggedCertificate, *, size: int | None = None) -> bytes:
    """Return the proof that a certificate stands in a log.

    Args:
        log: The log.
        found: The certificate.
        size: Prove it for the first ``size`` lines, for example those that a later certificate states.

    Raises:
        UntrustedError: It does not stand there.
        UsageError: The log is shorter, or the certificate came later.
    """
    line = log.require(found)
    part = log if size is None else shorter(log, size)
    if line > part.size:
        raise UsageError(f"{found.name}: stands on line {line}; the first {part.size} lines do not hold it")
    return _document(part, "inclusion", part.tree.inclusion(line - 1), index=line - 1, line=_line(log, line - 1))


def _line(log: Log, index: int) -> Any:
    return parse(log.lines[index], "line")


def prove_consistency(log: Log, first: int, *, size: int | None = None) -> bytes:
    """Return the proof that a log begins with its first lines as they were.

    Args:
        log: The log.
        first: Number of lines of the earlier log.
        size: Number of lines of the later one; all by default.

    Raises:
        UsageError: The log is shorter, or the later one is.
    """
    part = log if size is None else shorter(log, size)
    before = shorter(part, first)
    earlier = {"size": before.size, "root": before.root()}
    return _document(part, "consistency", part.tree.consistency(first), **{"from": earlier})


def _tree(value: object, where: str) -> Tree:
    if not isinstance(value, dict) or set(value) != {"size", "root"}:
        raise Rejected(f"{where}: expected size and root")
    size, root = value["size"], value["root"]
    if type(size) is not int or not 0 <= size <= MAX_INT or not isinstance(root, str) or not _HEX.fullmatch(root):
        raise Rejected(f"{where}: expected a whole number and 64 hexadecimal digits")
    return Tree(size=size, root=root)


def read_proof(path: Path) -> Proof:
    """Read a proof that somebody handed over.

    Args:
        path: Its file.

    Raises:
        MissingFileError: It cannot be read.
        UsageError: It is no proof.
    """
    data = read_bytes(path, what="path file", max_bytes=MAX_PROOF)
    try:
        return _proof(parse(data.removesuffix(b"\n"), "path file"))
    except Rejected as problem:
        raise UsageError(f"path file {str(path)!r}: {problem}; give a file that 'cu-cert log prove' wrote") from None


def _proof(value: object) -> Proof:
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise Rejected(f"expected the kind {KIND!r}")
    own = _FIELDS.get(str(value.get("shows")))
    if own is None or set(value) != {"kind", "shows", "tree", "path"} | own:
        raise Rejected("expected a path of inclusion or consistency with exactly its fields")
    path = value["path"]
    if not isinstance(path, list) or not all(isinstance(one, str) and _HEX.fullmatch(one) for one in path):
        raise Rejected("path: expected a list of hashes")
    tree = _tree(value["tree"], "tree")
    if "from" in own:
        return Proof(tree=tree, path=tuple(path), earlier=_tree(value["from"], "from"))
    index = value["index"]
    if type(index) is not int or not 0 <= index <= MAX_INT:
        raise Rejected(f"index is {index!r:.40}; expected a whole number from 0")
    return Proof(tree=tree, path=tuple(path), index=index, entry=read_line(canonical(value["line"]), "line"))
