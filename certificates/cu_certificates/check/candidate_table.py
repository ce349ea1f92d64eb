"""Evidence of one run on drawn records: a fair coin for each candidate, one audited model, one guess a coin."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from .coins import coin
from .design import MAX_SLOTS
from .fields import Node
from .strict import MAX_INT, Rejected
from .tables import opened, require_distinct, rows

MAX_CONTROLS: Final = 64
"""Retrained models of the negative control; their scores are added up, so a few suffice."""

ROLES: Final = ("out", "in")
"""What a candidate's coin decides: 0 stays out of training, 1 is trained on and then unlearned."""


@dataclass(frozen=True, kw_only=True)
class RunSizes:
    """Sizes of the procedure question by one run.

    Args:
        candidates: m, all records that have a coin.
        guesses: r, even, at most m.
        controls: Retrained models of the negative control.
        references: Models that never saw a candidate and fix the score.
        references_file: SHA-256 (hex) of the file that names them, fixed in the plan and so before the coins.
    """

    candidates: int
    guesses: int
    controls: int
    references: int
    references_file: str


def read_run(plan: Node, entry: Node) -> RunSizes:
    """Return the planned sizes of one run.

    Args:
        plan: The parsed plan.
        entry: The subject's entry in it.

    Raises:
        Rejected: No run of these sizes could be what it seems to be.
    """
    entry.text("method")
    plan.text("reference", "retrain")
    plan.text("original", "redrawn")
    procedure = plan.node("procedure")
    procedure.text("canaries")
    procedure.digest("records")
    candidates, guesses = procedure.whole("candidates", 2, MAX_SLOTS), procedure.whole("guesses", 2)
    if guesses % 2 or guesses > candidates:
        raise Rejected(
            f"{procedure.path}.guesses: {guesses} about {candidates} candidates; expected an even number up to "
            f"{candidates}"
        )
    if plan.node("request").whole("size", 1) != candidates:
        raise Rejected(f"{procedure.path}.candidates: {candidates}; the request commits to another number of records")
    return RunSizes(
        candidates=candidates,
        guesses=guesses,
        controls=procedure.whole("controls", 1, MAX_CONTROLS),
        references=procedure.whole("references", 2, MAX_SLOTS),
        references_file=procedure.digest("referencesFile"),
    )


@dataclass(frozen=True)
class CandidateTable:
    """The candidates of one run, by index; a score is ``None`` where there is none.

    Args:
        file: SHA-256 of the audited file.
        coins: The coin of each candidate; 1 was trained on and unlearned.
        scores: What the audited model says of each.
        originals: What the model before unlearning says.
        reruns: What the retrained models of the negative control say, added up.
    """

    file: str
    coins: tuple[int, ...]
    scores: tuple[int | None, ...]
    originals: tuple[int | None, ...]
    reruns: tuple[int | None, ...]


def read_references(data: bytes, name: str, sizes: RunSizes) -> tuple[str, ...]:
    """Read ``references.jsonl``, which must be the file that the plan named before there was any coin.

    Args:
        data: Its bytes.
        name: Its name, for messages.
        sizes: What was planned.

    Returns:
        The digest of each reference model.

    Raises:
        Rejected: It is another file, or does not hold every planned reference once.
    """
    if sha256(data).hexdigest() != sizes.references_file:
        raise Rejected(f"{name}: not the file that the plan names; a score fixed later could have seen the coins")
    found = []
    for slot, row in enumerate(rows(data, name)):
        row.text("kind", "reference")
        if row.whole("slot") != slot:
            raise Rejected(f"{row.path}.slot: {row.whole('slot')}; expected {slot}, one line for each reference")
        row.hex("signals")
        found.append(row.hex("model"))
    if len(found) != sizes.references:
        raise Rejected(f"{name}: {len(found)} references; the plan has {sizes.references}")
    return tuple(found)


def read_candidates(
    lines: Sequence[Node],
    name: str,
    *,
    plan: Node,
    plan_digest: str,
    sizes: RunSizes,
    references: Sequence[str],
    identity: bool,
) -> CandidateTable:
    """Read ``onerun.jsonl``, derive every coin again and demand every candidate.

    Args:
        lines: Its parsed lines: ``opening``, ``subject``, ``original``, each ``rerun``, each ``candidate``.
        name: Its name, for messages.
        plan: The parsed plan.
        plan_digest: P.
        sizes: What was planned.
        references: The digest of each reference model.
        identity: Whether the method under audit is said to return the original unchanged.

    Raises:
        Rejected: The seed is not the committed one, a role contradicts its coin, a line is missing, stands twice or
            was not planned, or one model stands for two.
    """
    found: dict[tuple[str, int], Node] = {}
    for row in lines:
        kind = row.text("kind", "opening", "subject", "original", "rerun", "candidate")
        key = (kind, row.whole({"rerun": "slot", "candidate": "index"}[kind]) if kind in ("rerun", "candidate") else 0)
        if key in found:
            raise Rejected(f"{row.path}: {kind} {key[1]} stands twice")
        found[key] = row

    def take(kind: str, number: int = 0) -> Node:
        if (kind, number) not in found:
            raise Rejected(f"{name}: {kind} {number} is missing")
        return found.pop((kind, number))

    seed, nonce = opened(take("opening"), plan)
    subject, original = take("subject"), take("original")
    models = [subject, original, *(take("rerun", slot) for slot in range(sizes.controls))]
    for row in models:
        row.hex("signals")
    digests = [row.hex("model") for row in models]
    same = digests[0] == digests[1]
    if identity and not same:
        raise Rejected(f"{name}: the audited model is not the original, though the method is said to change nothing")
    require_distinct([*digests[same:], *references], name)

    coins, values = [], []
    for number in range(sizes.candidates):
        row = take("candidate", number)
        coins.append(coin(seed, plan_digest, nonce, "candidates", number))
        row.text("role", ROLES[coins[-1]])
        values.append(_values(row, sizes.controls))
    if found:
        kind, number = next(iter(found))
        raise Rejected(f"{name}: {kind} {number} was not planned")
    scores, originals, reruns = zip(*values, strict=True)
    return CandidateTable(subject.hex("file"), tuple(coins), scores, originals, reruns)


def _values(row: Node, controls: int) -> tuple[int | None, int | None, int | None]:
    """Return a candidate's score in the audited model, in the original, and its sum over the retrained models."""
    own, before = (
        row.whole(key, -MAX_INT, MAX_INT) if row.has(key) else None for key in ("score", "original")
    )  # an absent one failed
    again = row.items("reruns")
    if len(again) != controls or not all(value is None or type(value) is int for value in again):
        raise Rejected(f"{row.path}.reruns: expected {controls} whole numbers, or null for one that failed")
    return own, before, None if None in again else sum(again)
