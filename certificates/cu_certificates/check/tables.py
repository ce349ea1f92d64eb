"""Evidence files: JSON lines of integers and digests, read strictly and indexed for the rules."""

from dataclasses import dataclass, field

from .coins import coin, seed_commitment
from .fields import Node
from .strict import Rejected, parse

MAX_ROWS = 2_000_000


@dataclass(frozen=True)
class Model:
    """One audited model: its digest and its integer score; no score when the run failed."""

    digest: str | None
    score: int | None


FAILED = Model(None, None)


def rows(data: bytes, name: str) -> list[Node]:
    """Parse JSON lines; every line ends in one newline, none is empty."""
    if not data.endswith(b"\n"):
        raise Rejected(f"{name}: the last line has no newline; the file is cut short")
    lines = data[:-1].split(b"\n")
    if len(lines) > MAX_ROWS:
        raise Rejected(f"{name}: {len(lines)} lines; expected at most {MAX_ROWS}")
    return [Node(parse(line, f"{name}:{number}"), f"{name}:{number}") for number, line in enumerate(lines, 1)]


def model_of(row: Node) -> Model:
    """Read the model and score of a row; a failed run has neither."""
    if row.text("status", "done", "failed") == "failed":
        return FAILED
    row.hex("signals")
    return Model(row.hex("model"), row.whole("score", -(2**53) + 1, 2**53 - 1))


@dataclass(frozen=True)
class SlotTable:
    """The coin-flip slots of the procedure question, with both controls.

    Args:
        coins: Coins of the main slots; 1 is unlearned.
        main: The unlearned (coin 1) or retrained (coin 0) model of each slot.
        positive: The same slots with the original model in place of the unlearned one.
        control_coins: Fresh coins of the negative control.
        negative: A retrain through the method's code path (coin 1) or a plain retrain (coin 0) of each control slot.
    """

    coins: tuple[int, ...]
    main: tuple[Model, ...]
    positive: tuple[Model, ...]
    control_coins: tuple[int, ...]
    negative: tuple[Model, ...]


def read_slots(data: bytes, name: str, *, plan: Node, plan_digest: str, identity: bool) -> SlotTable:
    """Read ``slots.jsonl``, re-derive every coin and demand every planned slot.

    Args:
        data: The bytes of the file, whose digest was compared already.
        name: Its name, for messages.
        plan: The parsed plan.
        plan_digest: P.
        identity: Whether the method under audit returns the original unchanged, so that both have one digest.

    Raises:
        Rejected: The seed is not the committed one, a role contradicts its coin, a slot is missing, stands twice or
            was not planned, or one model stands for two independent runs.
    """
    procedure = plan.node("procedure")
    slots, controls = procedure.whole("slots", 1), procedure.whole("controlSlots", 1)
    found = _index(rows(data, name), name)
    seed, nonce = _opening(found, plan, name)

    coins = tuple(coin(seed, plan_digest, nonce, "slots", slot) for slot in range(slots))
    control_coins = tuple(coin(seed, plan_digest, nonce, "control", slot) for slot in range(controls))
    main = tuple(found.take("main", slot, "unlearned" if bit else "retrained") for slot, bit in enumerate(coins))
    positive = tuple(found.take("positive", slot, "original") if bit else main[slot] for slot, bit in enumerate(coins))
    # The retrained models of the main run serve the control first, in slot order; further ones are its own.
    spare = [model for model, bit in zip(main, coins, strict=True) if not bit]
    negative: list[Model] = []
    for slot, bit in enumerate(control_coins):
        if bit:
            negative.append(found.take("negative", slot, "rerun"))
        else:
            negative.append(spare.pop(0) if spare else found.take("negative", slot, "retrained"))
    found.finish(name)

    pairs = {(slot, model.digest) for slot, model in enumerate(main) if coins[slot]} if identity else set()
    distinct = [
        model.digest
        for model in (
            *main,
            *(m for slot, m in enumerate(positive) if coins[slot] and (slot, m.digest) not in pairs),
            *(m for m in negative if m not in main),
        )
    ]
    require_distinct(distinct, name)
    return SlotTable(coins, main, positive, control_coins, tuple(negative))


@dataclass(frozen=True)
class ArtifactTable:
    """The scores of the artifact question.

    Args:
        file: SHA-256 of the audited file.
        subject: Score of the audited model.
        references: Retrained models that never saw the request.
        positive: Fresh models that did see it.
        negative: Retrained models judged as if each were the audited file.
    """

    file: str
    subject: Model
    references: tuple[Model, ...]
    positive: tuple[Model, ...]
    negative: tuple[Model, ...]


def read_artifact(data: bytes, name: str, *, plan: Node) -> ArtifactTable:
    """Read ``artifact.jsonl`` and demand every planned model.

    Raises:
        Rejected: A planned row is missing or stands twice, or one model stands for two independent runs.
    """
    artifact = plan.node("artifact")
    found = _index(rows(data, name), name)
    _opening(found, plan, name)
    header = found.header("subject", name)
    subject = Model(header.hex("model"), header.whole("score", -(2**53) + 1, 2**53 - 1))
    pools = {
        group: tuple(found.take(group, slot, role) for slot in range(artifact.whole(count, 1)))
        for group, count, role in (
            ("reference", "references", "retrained"),
            ("positive", "positives", "original"),
            ("negative", "negatives", "rerun"),
        )
    }
    found.finish(name)
    require_distinct([model.digest for pool in pools.values() for model in pool], name)
    return ArtifactTable(header.hex("file"), subject, pools["reference"], pools["positive"], pools["negative"])


def digests(data: bytes, name: str) -> set[str]:
    """Return every model digest that stands in an evidence file."""
    return {row.hex("model") for row in rows(data, name) if row.has("model")}


def require_distinct(found: list[str | None], name: str) -> None:
    """Refuse a table in which one model stands for two runs that must be independent."""
    there = [digest for digest in found if digest is not None]
    if len(set(there)) != len(there):
        raise Rejected(f"{name}: one model digest stands for two runs; every run must be a model of its own")


@dataclass
class _Rows:
    """Rows by (group, slot), each taken once."""

    name: str
    headers: dict[str, Node] = field(default_factory=dict)
    entries: dict[tuple[str, int], Node] = field(default_factory=dict)

    def header(self, kind: str, name: str) -> Node:
        if kind not in self.headers:
            raise Rejected(f"{name}: no line of kind {kind!r}")
        return self.headers[kind]

    def take(self, group: str, slot: int, role: str) -> Model:
        row = self.entries.pop((group, slot), None)
        if row is None:
            raise Rejected(f"{self.name}: planned run {group} {slot} ({role}) is missing")
        row.text("role", role)
        return model_of(row)

    def finish(self, name: str) -> None:
        if self.entries:
            group, slot = next(iter(self.entries))
            raise Rejected(f"{name}: run {group} {slot} was not planned, or contradicts its coin")


def _index(nodes: list[Node], name: str) -> _Rows:
    table = _Rows(name)
    for row in nodes:
        kind = row.text("kind", "opening", "subject", "run")
        if kind != "run":
            if kind in table.headers:
                raise Rejected(f"{row.path}: a second line of kind {kind!r}")
            table.headers[kind] = row
            continue
        key = (row.text("group"), row.whole("slot"))
        if key in table.entries:
            raise Rejected(f"{row.path}: run {key[0]} {key[1]} stands twice")
        table.entries[key] = row
    return table


def _opening(found: _Rows, plan: Node, name: str) -> tuple[bytes, str]:
    opening = found.header("opening", name)
    seed, nonce = bytes.fromhex(opening.hex("seed")), opening.text("nonce")
    if seed_commitment(seed) != plan.digest("seedCommitment"):
        raise Rejected(f"{opening.path}.seed: not the seed that the plan commits to")
    return seed, nonce
