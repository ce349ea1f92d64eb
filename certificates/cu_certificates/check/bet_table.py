"""The evidence of the sequential design: which slots were opened, in plan order, and what was guessed about each.

Every opened slot has two rows: ``main``, and ``positive`` with the original in place of the unlearned model. These are
two sequences: each has scores and thresholds that were learned on its own earlier slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .betting import LAMBDAS, guess_of, mark_of
from .coins import coin
from .design import MAX_SLOTS
from .fields import Node
from .strict import MAX_INT, Rejected
from .tables import FAILED, Model, Rows, index, opening_of, require_distinct, rows


@dataclass(frozen=True, kw_only=True)
class BettingSizes:
    """Sizes of the sequential design.

    Args:
        slots: N, the most slots that may be opened.
        round: Slots between two looks; score and threshold change only there.
        control_slots: N0 of the negative control.
        control_guesses: r0, as planned.
        control_counted: Guesses that are made there.
        forward: Whether the guarantee is stated in one direction only.
    """

    slots: int
    round: int
    control_slots: int
    control_guesses: int
    control_counted: int
    forward: bool

    @property
    def direction(self) -> str:
        """How the direction is written."""
        return "forward" if self.forward else "both"


def read_betting(plan: Node, entry: Node) -> BettingSizes:
    """Return the sizes of the procedure question's sequence of slots.

    Raises:
        Rejected: No audit of these sizes could be what it seems to be.
    """
    entry.text("method")
    procedure = plan.node("procedure")
    if plan.text("original", "redrawn", "fixed") != "redrawn":
        raise Rejected(f"{plan.path}.original: fixed; slots that share an original cannot be judged one after another")
    forward = procedure.text("direction", "both", "forward") == "forward"
    if forward and entry.text("guarantee") != "certified":
        raise Rejected(
            f"{procedure.path}.direction: forward, but only a certified guarantee can be stated in one direction"
        )
    if procedure.texts("lambdas") != list(LAMBDAS):
        raise Rejected(f"{procedure.path}.lambdas: {procedure.texts('lambdas')}; this checker knows {list(LAMBDAS)}")
    slots, controls = procedure.whole("slots", 2, MAX_SLOTS), procedure.whole("controlSlots", 2, MAX_SLOTS)
    guesses = procedure.whole("controlGuesses", 2)
    if guesses % 2 or guesses > controls:
        raise Rejected(
            f"{procedure.path}.controlGuesses: {guesses} over {controls} slots; expected an even number, at most that"
        )
    return BettingSizes(
        slots=slots,
        round=procedure.whole("round", 1, slots),
        control_slots=controls,
        control_guesses=guesses,
        control_counted=guesses // 2 if forward else guesses,
        forward=forward,
    )


@dataclass(frozen=True)
class Bet:
    """One slot of a sequence, as it was judged.

    Args:
        model: The model and its score; no score when the run failed.
        threshold: Between "retrained" and "unlearned", fixed before the slot's coin was opened.
        margin: Closer to the threshold than this nothing was guessed.
    """

    model: Model
    threshold: int
    margin: int


@dataclass(frozen=True)
class BetTable:
    """The opened slots of the sequential design, with both controls.

    Args:
        coins: Coins of the opened slots; 1 is unlearned.
        main: The unlearned (coin 1) or retrained (coin 0) model of each.
        positive: The same slots with the original model in place of the unlearned one.
        control_coins: Coins of the negative control.
        negative: A retrain through the method's code path (coin 1) or a plain retrain (coin 0) of each control slot.
    """

    coins: tuple[int, ...]
    main: tuple[Bet, ...]
    positive: tuple[Bet, ...]
    control_coins: tuple[int, ...]
    negative: tuple[Model, ...]

    def marks(self, bets: Sequence[Bet], *, forward: bool) -> str:
        """Return what became of each slot of ``main`` or ``positive``, one mark a slot."""
        found = []
        for bet, bit in zip(bets, self.coins, strict=True):
            score = bet.model.score
            guess = None if score is None else guess_of(score, bet.threshold, bet.margin, forward=forward)
            found.append("F" if score is None else mark_of(guess, bit))
        return "".join(found)


def read_bets(
    data: bytes, name: str, *, plan: Node, plan_digest: str, sizes: BettingSizes, middle: int, identity: bool
) -> BetTable:
    """Read ``slots.jsonl`` of the sequential design, re-derive every coin and demand slots 0 to T - 1, without a gap.

    Args:
        data: The bytes of the file, whose digest was compared already.
        name: Its name, for messages.
        plan: The parsed plan.
        plan_digest: P.
        sizes: The sizes of the design.
        middle: The threshold that the pilots fix, which the first round must use.
        identity: Whether the method under audit is said to return the original unchanged.

    Raises:
        Rejected: The seed is not the committed one, a role contradicts its coin, an opened slot is missing or stands
            twice, a slot beyond the plan was opened, threshold or margin change within a round, or one model stands for
            two independent runs.
    """
    found = index(rows(data, name), name)
    seed, nonce = opening_of(found, plan, name)
    opened = sum(group == "main" for group, _ in found.entries)
    if not 1 <= opened <= sizes.slots:
        raise Rejected(f"{name}: {opened} slots opened; the plan allows 1 to {sizes.slots}")
    coins = tuple(coin(seed, plan_digest, nonce, "slots", slot) for slot in range(opened))
    control_coins = tuple(coin(seed, plan_digest, nonce, "control", slot) for slot in range(sizes.control_slots))
    main = tuple(_take(found, "main", slot, "unlearned" if bit else "retrained") for slot, bit in enumerate(coins))
    positive = tuple(
        _take(found, "positive", slot, "original" if bit else "retrained") for slot, bit in enumerate(coins)
    )
    negative = tuple(
        found.take("negative", slot, "rerun" if bit else "retrained") for slot, bit in enumerate(control_coins)
    )
    found.finish(name)
    for group, bets in (("main", main), ("positive", positive)):
        _require_rounds(bets, sizes.round, middle, f"{name}: {group}")
    _require_models(coins, main, positive, negative, name, first=sizes.round, identity=identity)
    return BetTable(coins, main, positive, control_coins, negative)


def _take(found: Rows, group: str, slot: int, role: str) -> Bet:
    row = found.entries.get((group, slot))
    model = found.take(group, slot, role)
    if row is None or model.score is None:
        return Bet(FAILED, 0, 0)
    return Bet(model, row.whole("threshold", -MAX_INT, MAX_INT), row.whole("margin", 0, MAX_INT))


def _require_rounds(bets: Sequence[Bet], round_: int, middle: int, where: str) -> None:
    """Refuse a threshold or margin that changes within a round, or that the pilots did not fix in the first one."""
    for start in range(0, len(bets), round_):
        terms = (middle, 0) if start == 0 else None
        for slot, bet in enumerate(bets[start : start + round_], start):
            if bet.model.score is None:
                continue
            terms = terms or (bet.threshold, bet.margin)
            if (bet.threshold, bet.margin) != terms:
                raise Rejected(
                    f"{where} {slot}: guessed at {bet.threshold} with margin {bet.margin}; its round has {terms[0]} "
                    f"and {terms[1]}"
                )


def _require_models(
    coins: Sequence[int],
    main: Sequence[Bet],
    positive: Sequence[Bet],
    negative: Sequence[Model],
    name: str,
    *,
    first: int,
    identity: bool,
) -> None:
    """Refuse a model that stands for two runs, and a retrained model that differs between the two sequences.

    Args:
        coins: Of the opened slots.
        main: The main sequence.
        positive: The positive control's.
        negative: The negative control's models, all of them its own.
        name: Name of the file, for messages.
        first: Slots of the first round, in which one score judges both sequences.
        identity: Whether the method is said to return the original.
    """
    distinct = [bet.model.digest for bet in main] + [model.digest for model in negative]
    for slot, (bit, edited, original) in enumerate(zip(coins, main, positive, strict=True)):
        same = edited.model.digest == original.model.digest
        if same and slot < first and edited.model.score != original.model.score:
            raise Rejected(f"{name}: slot {slot} has two scores of one model in the first round; expected one")
        if same:
            continue  # a method that does nothing returns its own original; that is a finding
        if not bit:
            raise Rejected(f"{name}: slot {slot} was retrained, but its two rows name two models; expected one")
        if identity and None not in (edited.model.digest, original.model.digest):
            raise Rejected(f"{name}: main {slot} is not the original, though the method is said to change nothing")
        distinct.append(original.model.digest)
    require_distinct(distinct, name)
