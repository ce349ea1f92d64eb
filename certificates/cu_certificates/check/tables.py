"""Evidence files: JSON lines of integers and digests, read strictly and indexed for the rules."""

from dataclasses import dataclass, field
from fractions import Fraction

from .coins import coin, seed_commitment
from .fields import Node
from .strict import Rejected, parse

MAX_ROWS = 2_000_000

MAX_POOL = 20_000
"""More references or controls than this are refused: each is a trained model, and many would only cost time."""


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
        identity: Whether the method under audit is said to return the original unchanged.

    Raises:
        Rejected: The seed is not the committed one, a role contradicts its coin, a slot is missing, stands twice or
            was not planned, or one model stands for two independent runs.
    """
    procedure = plan.node("procedure")
    slots, controls = procedure.whole("slots", 1), procedure.whole("controlSlots", 1)
    found = index(rows(data, name), name)
    seed, nonce = opening_of(found, plan, name)
    if slots > len(found.entries):
        raise Rejected(f"{name}: {len(found.entries)} runs; the plan has {slots} slots")

    coins = tuple(coin(seed, plan_digest, nonce, "slots", slot) for slot in range(slots))
    control_coins = tuple(coin(seed, plan_digest, nonce, "control", slot) for slot in range(controls))
    main = tuple(found.take("main", slot, "unlearned" if bit else "retrained") for slot, bit in enumerate(coins))
    fixed = plan.text("original", "redrawn", "fixed") == "fixed"
    shared = found.take("positive", 0, "original") if fixed else FAILED
    positive = tuple(
        main[slot] if not bit else shared if fixed else found.take("positive", slot, "original")
        for slot, bit in enumerate(coins)
    )
    # The retrained models of the main run serve the control first, in slot order; further ones are its own. After
    # "retrain+noop" they are no plain retrains, so the control has none of them.
    plain = plan.text("reference", "retrain", "retrain+noop") == "retrain"
    spare = [model for model, bit in zip(main, coins, strict=True) if plain and not bit]
    negative: list[Model] = []
    own: list[Model] = []
    for slot, bit in enumerate(control_coins):
        if not bit and spare:
            negative.append(spare.pop(0))
            continue
        own.append(found.take("negative", slot, "rerun" if bit else "retrained"))
        negative.append(own[-1])
    found.finish(name)

    table = SlotTable(coins, main, positive, control_coins, tuple(negative))
    _require_independent(table, own, name, identity=identity, fixed=fixed)
    return table


def _require_independent(table: SlotTable, own: list[Model], name: str, *, identity: bool, fixed: bool) -> None:
    """Refuse a model that stands for two runs, but for a slot's own original that the method returned as it was.

    Args:
        table: The slots.
        own: The control's models that are not the main run's.
        name: Name of the file, for messages.
        identity: Whether the method is said to return the original.
        fixed: Whether all slots share one original; then a deterministic method returns one model for all of them.
    """
    if fixed:
        retrained = [model for model, bit in zip(table.main, table.coins, strict=True) if not bit]
        require_distinct([model.digest for model in (*retrained, *own)], name)
        return
    distinct = [model.digest for model in (*table.main, *own)]
    for slot, (edited, original) in enumerate(zip(table.main, table.positive, strict=True)):
        # A method that does nothing returns its own original; that is a finding, not a model that stands twice.
        if not table.coins[slot] or edited.digest == original.digest:
            continue
        distinct.append(original.digest)
        if identity and None not in (edited.digest, original.digest):
            raise Rejected(f"{name}: main {slot} is not the original, though the method is said to change nothing")
    require_distinct(distinct, name)


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
    artifact.whole("positives", 1, 1)
    found = index(rows(data, name), name)
    opening_of(found, plan, name)
    header = found.header("subject", name)
    header.hex("signals")
    subject = Model(header.hex("model"), header.whole("score", -(2**53) + 1, 2**53 - 1))
    pools = {
        group: tuple(found.take(group, slot, role) for slot in range(artifact.whole(count, 1, MAX_POOL)))
        for group, count, role in (
            ("reference", "references", "retrained"),
            ("positive", "positives", "original"),
            ("negative", "negatives", "rerun"),
        )
    }
    found.finish(name)
    require_distinct([subject.digest, *(model.digest for pool in pools.values() for model in pool)], name)
    return ArtifactTable(header.hex("file"), subject, pools["reference"], pools["positive"], pools["negative"])


@dataclass(frozen=True)
class PilotTable:
    """The scores of the models that fitted the score; a pilot that failed would have stopped the audit.

    Args:
        original: Models trained on the request.
        retrained: Models that never saw it.
        centring: Further ones, on which the score was centred.
    """

    original: tuple[Model, ...]
    retrained: tuple[Model, ...]
    centring: tuple[Model, ...]

    def middle(self) -> int:
        """Return the threshold that the pilots fix: half-way between the medians of original and centring models."""
        half = Fraction(_twice_median(self.original) + _twice_median(self.centring), 4)
        return int(half)


def _twice_median(models: tuple[Model, ...]) -> int:
    scores = sorted(model.score for model in models if model.score is not None)
    return scores[(len(scores) - 1) // 2] + scores[len(scores) // 2]


def read_pilots(lines: list[Node], name: str, pilots: int) -> PilotTable:
    """Read ``pilots.jsonl`` and demand every planned pilot.

    Args:
        lines: Its parsed lines.
        name: Its name, for messages.
        pilots: Originals k; there are 2 k retrained models.

    Raises:
        Rejected: A pilot is missing, failed, stands twice or was not planned, or one model stands for two.
    """
    found: dict[tuple[str, int], Model] = {}
    for row in lines:
        row.text("kind", "run")
        row.text("group", "pilots")
        key = (row.text("role", "original", "retrained"), row.whole("slot"))
        if key in found:
            raise Rejected(f"{row.path}: pilot {key[0]} {key[1]} stands twice")
        found[key] = model_of(row)
        if found[key].score is None:
            raise Rejected(f"{row.path}: pilot {key[0]} {key[1]} failed; a score cannot be fitted on it")
    planned = [("original", slot) for slot in range(pilots)] + [("retrained", slot) for slot in range(2 * pilots)]
    if set(found) != set(planned):
        raise Rejected(f"{name}: {len(found)} pilots; the plan has {pilots} original and {2 * pilots} retrained ones")
    require_distinct([model.digest for model in found.values()], name)
    ordered = [found[key] for key in planned]
    return PilotTable(tuple(ordered[:pilots]), tuple(ordered[pilots : 2 * pilots]), tuple(ordered[2 * pilots :]))


def digests(lines: list[Node]) -> set[str]:
    """Return every model digest that stands in an evidence file."""
    return {row.hex("model") for row in lines if row.has("model")}


def require_distinct(found: list[str | None], name: str) -> None:
    """Refuse a table in which one model stands for two runs that must be independent."""
    there = [digest for digest in found if digest is not None]
    if len(set(there)) != len(there):
        raise Rejected(f"{name}: one model digest stands for two runs; every run must be a model of its own")


@dataclass
class Rows:
    """Rows by (group, slot), each taken once."""

    name: str
    headers: dict[str, Node] = field(default_factory=dict)
    entries: dict[tuple[str, int], Node] = field(default_factory=dict)

    def header(self, kind: str, name: str) -> Node:
        """Return the one line of a kind that is no run."""
        if kind not in self.headers:
            raise Rejected(f"{name}: no line of kind {kind!r}")
        return self.headers[kind]

    def take(self, group: str, slot: int, role: str) -> Model:
        """Take a planned run out of the table, which must hold it in this role."""
        row = self.entries.pop((group, slot), None)
        if row is None:
            raise Rejected(f"{self.name}: planned run {group} {slot} ({role}) is missing")
        row.text("role", role)
        return model_of(row)

    def finish(self, name: str) -> None:
        """Demand that every run was taken."""
        if self.entries:
            group, slot = next(iter(self.entries))
            raise Rejected(f"{name}: run {group} {slot} was not planned, or contradicts its coin")


def index(nodes: list[Node], name: str) -> Rows:
    """Order the lines of an evidence file by group and slot; none may stand twice."""
    table = Rows(name)
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


def opening_of(found: Rows, plan: Node, name: str) -> tuple[bytes, str]:
    """Return the opened seed and the nonce of an evidence file; see :func:`opened`."""
    return opened(found.header("opening", name), plan)


def opened(opening: Node, plan: Node) -> tuple[bytes, str]:
    """Return seed and nonce of an opening line; the seed must be the one that the plan commits to."""
    seed, nonce = bytes.fromhex(opening.hex("seed")), opening.text("nonce")
    if nonce:
        # Nobody vouches for a nonce yet: a prover who picks it could search for coins under a plan already shown.
        raise Rejected(
            f"{opening.path}.nonce: {nonce!r:.80}; this version takes no challenge, expected an empty string"
        )
    if seed_commitment(seed) != plan.digest("seedCommitment"):
        raise Rejected(f"{opening.path}.seed: not the seed that the plan commits to")
    return seed, nonce
