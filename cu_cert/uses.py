"""The ledger of uses: which plan was lent which models of a release, so that coins are opened once.

Originals know no request, so one original may serve the audits of many. But an original that was judged in an audit of
a request serves no other plan whose request shares a record with it: not a second attempt, not another method or score
in a plan of its own, not a request that overlaps. Such a plan gets the next originals, and the release grows.

Who gets which is a function of the ledger, the plan and its coins; nobody chooses, and nothing about the models is
looked at. A plan is entered before anything is trained for it, and afterwards always gets what it was lent then, so an
interrupted audit goes on with the same models, whatever was entered meanwhile.

The ledger lies in ``.cu-cert/private/uses.jsonl``, readable by its owner only. It knows requests by keyed hashes of
their ids. A padded request leaves none: which earlier requests it overlaps would tell how large it is at least. So it
is lent originals that served nobody, and nobody is lent them after it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Final

from cu_cert.errors import DataError
from cu_cert.release import Lent, Release
from cu_cert.secrets_store import Secrets
from cu_certificates._files import kind_of, locked, make_folder, read_bytes, write_atomic
from cu_certificates.check.fields import Node
from cu_certificates.check.strict import Rejected, canonical, parse
from cu_certificates.plan import Plan

FILE: Final = "uses.jsonl"
MAX_LEDGER: Final = 64 * 1024 * 1024
MAX_NUMBER: Final = 10**7

_FIELDS: Final = frozenset(
    ("kind", "plan", "release", "own", "fitted", "pilots", "judged", "artifact", "shadows", "older", "tokens")
)


@dataclass(frozen=True, kw_only=True)
class Use:
    """What one plan uses that other plans may use as well.

    Args:
        plan: Digest of the plan.
        release: Name of the release.
        own: Whether the plan's originals are its own, made from its own seed.
        fitted: What plans have in common whose scores are fitted on the same retrained models.
        pilots: How many originals, and half as many retrained models, fit the score.
        judged: Places of the release's judged originals, in the order in which the plan takes them.
        artifact: Whether the first of them serves the artifact question.
        shadows: How many shadows of the release serve it.
        older: Whether some model of the release was there before the plan was entered.
        tokens: Keyed hashes of the request's ids; ``None`` where nobody may know which requests overlap it.
    """

    plan: str
    release: str
    fitted: str
    pilots: int
    own: bool = False
    judged: tuple[int, ...] = ()
    artifact: bool = False
    shadows: int = 0
    older: bool = False
    tokens: tuple[str, ...] | None = None

    @property
    def closed(self) -> bool:
        """Whether its originals serve no other plan, whatever its request."""
        return self.tokens is None

    def lent(self, release: Release) -> Lent | None:
        """Return its originals as models; ``None`` where they are the plan's own."""
        return Lent(release, self.judged, self.artifact) if not self.own else None

    def to_line(self) -> bytes:
        """Return its line in the ledger, without the line feed."""
        return canonical(
            {
                "kind": "use",
                "plan": self.plan,
                "release": self.release,
                "own": self.own,
                "fitted": self.fitted,
                "pilots": self.pilots,
                "judged": _ranges(self.judged),
                "artifact": self.artifact,
                "shadows": self.shadows,
                "older": self.older,
                "tokens": None if self.tokens is None else list(self.tokens),
            }
        )


def _ranges(numbers: Sequence[int]) -> list[list[int]]:
    """Return ascending numbers as [first, one after the last]."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1][1] = number + 1
        else:
            found.append([number, number + 1])
    return found


def _read(line: bytes, where: str) -> Use:
    """Read one line in its one spelling.

    Raises:
        Rejected: It is anything else than :meth:`Use.to_line` writes.
    """
    node = Node(parse(line, where, max_bytes=MAX_LEDGER), where)
    if set(node.value) != _FIELDS:
        raise Rejected(f"{where}: fields {sorted(node.value)}; expected {sorted(_FIELDS)}")
    node.text("kind", "use")
    judged: list[int] = []
    for pair in node.items("judged"):
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(end) is int for end in pair)):
            raise Rejected(f"{where}.judged: {pair!r:.80}; expected pairs of whole numbers")
        first, stop = pair
        if not (judged[-1] + 1 if judged else 0) <= first < stop <= MAX_NUMBER:
            raise Rejected(f"{where}.judged: {pair!r:.80}; expected ascending ranges below {MAX_NUMBER}")
        judged += range(first, stop)
    found = Use(
        plan=node.hex("plan"),
        release=node.hex("release"),
        own=node.flag("own"),
        fitted=node.hex("fitted"),
        pilots=node.whole("pilots"),
        judged=tuple(judged),
        artifact=node.flag("artifact"),
        shadows=node.whole("shadows"),
        older=node.flag("older"),
        tokens=None if node.value["tokens"] is None else tuple(node.texts("tokens")),
    )
    if found.to_line() != line:
        raise Rejected(f"{where}: not canonical JSON")
    return found


def originals_needed(plan: Plan, coins: Iterable[int]) -> int:
    """Return how many judged originals a plan takes; one for all slots is the plan's own (``original: fixed``)."""
    slots = sum(coins) if "procedure" in plan.questions and plan.original == "redrawn" else 0
    return slots + ("artifact" in plan.questions)


def next_originals(uses: Iterable[Use], release: str, tokens: Sequence[str] | None, needed: int) -> tuple[int, ...]:
    """Return the first judged originals that may serve a request.

    Args:
        uses: What was lent so far.
        release: Name of the release.
        tokens: Of the request's ids; ``None`` for a padded request, which is lent only what served nobody.
        needed: How many.
    """
    asked = set(tokens or ())
    taken: set[int] = set()
    for use in uses:
        if use.release == release and (tokens is None or use.tokens is None or not asked.isdisjoint(use.tokens)):
            taken |= set(use.judged)
    return tuple(islice((number for number in count() if number not in taken), needed))


@dataclass(frozen=True)
class Ledger:
    """The ledger of a project.

    Args:
        secrets: The project's memory; where it keeps nothing, as in a dry run, nothing is entered either.
    """

    secrets: Secrets

    @property
    def path(self) -> Path:
        """Its file."""
        return self.secrets.folder / FILE

    def read(self) -> tuple[Use, ...]:
        """Return all entries, oldest first.

        Raises:
            DataError: The file is damaged.
        """
        if kind_of(self.path) == "absent":
            return ()
        data = read_bytes(self.path, what="ledger of uses", max_bytes=MAX_LEDGER)
        try:
            if data and not data.endswith(b"\n"):
                raise Rejected("its last line has no end; the file was cut")
            found = tuple(_read(line, f"line {at}") for at, line in enumerate(data.split(b"\n")[:-1], 1))
            if len({(use.plan, use.release) for use in found}) != len(found):
                raise Rejected("a plan stands twice")
        except Rejected as problem:
            raise DataError(
                f"{self.path}: {problem}; restore it from a copy: without it originals could be judged twice for one "
                "request"
            ) from None
        return found

    def preview(self, wanted: Use, needed: int) -> Use:
        """Return what a plan would be lent now; enters nothing.

        Args:
            wanted: The plan's use, without originals.
            needed: How many judged originals it takes, unless its originals are its own.
        """
        return _assigned(self.read(), wanted, needed)

    def enter(self, wanted: Use, needed: int, older: Callable[[Use], bool]) -> Use:
        """Return what a plan is lent, and enter it unless it stands there already.

        The ledger is held meanwhile, so that no two audits at once are lent what only one may have.

        Args:
            wanted: The plan's use, without originals.
            needed: How many judged originals it takes, unless its originals are its own.
            older: Whether some model of the release that is lent was made before.

        Raises:
            DataError: The ledger is damaged.
            UsageError: It cannot be written; nothing is trained then.
        """
        if not self.secrets.keep:
            return self.preview(wanted, needed)
        with self._held():
            uses = self.read()
            found = _assigned(uses, wanted, needed)
            if found in uses:
                return found
            known = next((at for at, use in enumerate(uses) if _same(use, found)), None)
            if known is None:
                found = replace(found, older=older(found))
                self._write((*uses, found))
            else:
                self._write((*uses[:known], found, *uses[known + 1 :]))
            return found

    def forget(self, tokens: Sequence[str]) -> int:
        """Take the hashes of a request out, and those of every request that overlaps it.

        What these plans were lent then serves nobody else, since nobody can tell any more whom it may serve.

        Args:
            tokens: Of the request's ids; see :meth:`~cu_cert.secrets_store.Secrets.use_tokens`.

        Returns:
            The number of entries from which hashes were taken.
        """
        gone = set(tokens)
        if kind_of(self.path) == "absent":
            return 0
        with self._held():
            uses = self.read()
            changed = [replace(use, tokens=None) if gone & set(use.tokens or ()) else use for use in uses]
            found = sum(old != new for old, new in zip(uses, changed, strict=True))
            if found:
                self._write(changed)
            return found

    @contextmanager
    def _held(self) -> Iterator[None]:
        make_folder(self.path.parent, private=True)
        with locked(self.path.with_name(f"{FILE}.lock"), what="ledger of uses", mode=0o600):
            yield

    def _write(self, uses: Iterable[Use]) -> None:
        lines = [(use, len(use.to_line()) + 1) for use in uses]
        total = sum(size for _, size in lines)
        kept = []
        for use, size in lines:
            # A ledger that outgrows its limit forgets its oldest requests; what they were lent then serves nobody else.
            old = total > MAX_LEDGER and not use.closed
            kept.append(replace(use, tokens=None) if old else use)
            total -= size - len(kept[-1].to_line()) - 1
        data = b"".join(use.to_line() + b"\n" for use in kept)
        write_atomic(self.path, data, what="ledger of uses", mode=0o600)


def _same(first: Use, second: Use) -> bool:
    return (first.plan, first.release) == (second.plan, second.release)


def _assigned(uses: Sequence[Use], wanted: Use, needed: int) -> Use:
    known = next((use for use in uses if _same(use, wanted)), None)
    if known is not None:
        return replace(known, shadows=max(known.shadows, wanted.shadows))
    judged = () if wanted.own else next_originals(uses, wanted.release, wanted.tokens, needed)
    return replace(wanted, judged=judged)
