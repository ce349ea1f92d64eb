"""Slots judged one after another: train a round, judge it in the plan's order, learn from it, and stop when decided.

What is trained at a time depends on the machine; what is judged, and when it is looked at, on the plan alone. A round
is judged when all its models are finished, in the order of its slots and never in that in which models arrive: edits
and retrains take different times, and whoever judged the first to arrive would learn the coins from the clock. Models
that were trained ahead of their turn are looked at by nobody before it, so the evidence has the same bytes with any
number of processes. Every model comes from the store if it is there, so an interrupted run goes on where it was.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from cu_attacks._model_scores import ModelScore
from cu_attacks._relearned import Judge, relearn
from cu_attacks._types import FloatArray
from cu_cert.fleet.executor import Executor
from cu_cert.fleet.plan import Member, fleet_plan, in_cohorts
from cu_cert.fleet.train import Driver
from cu_cert.pools import RETRAIN, TOGETHER, Bench, Pools, Run
from cu_certificates._design_sequential import betting_terms
from cu_certificates.check.betting import Ended, Terms, betting_bound, ending, guess_of, mark_of
from cu_certificates.check.fields import printed
from cu_certificates.check.strict import canonical
from cu_certificates.plan import Plan, Subject

Say = Callable[[str], None]
Pilots = tuple[FloatArray, FloatArray, FloatArray]


@dataclass(frozen=True, kw_only=True)
class SlotSequence:
    """How the sequence of one subject came out.

    Args:
        runs: The runs of its opened slots, and of the negative control.
        rows: The lines of its evidence, without the opening.
        ended: Why it ended.
    """

    runs: tuple[Run, ...]
    rows: bytes
    ended: Ended


def is_sequential(plan: Plan) -> bool:
    """Whether the procedure question of a plan is answered by slots one after another."""
    return "procedure" in plan.questions and plan.designs["procedure"] == "sequential"


def first_members(pools: Pools) -> list[Member]:
    """Return the models that are needed whatever the slots show: pilots, and those of the artifact question."""
    found = [member for pool in pools.pilots for member in pool]
    return found + ([run.member for run in pools.artifact] if "artifact" in pools.plan.questions else [])


def members_until(pools: Pools, opened: Mapping[str, int]) -> list[Member]:
    """Return every model that is needed when so many slots are opened, pilots first.

    Args:
        pools: The models of the plan.
        opened: Slots by subject name.
    """
    found = first_members(pools)
    for subject in pools.plan.subjects:
        slots = _slots(pools, subject)
        found += [run.member for slot in range(opened[subject.name]) for run in slots[slot]]
    return found + [run.member for run in controls(pools)]


def expected_slots(plan: Plan) -> dict[str, int]:
    """Return after how many slots each sequence ends when there is nothing to see and no guess is withheld."""
    found = {}
    for subject in plan.subjects:
        terms = betting_terms(plan, subject)
        found[subject.name] = next((look for look in terms.looks if look >= (terms.needed or look + 1)), terms.slots)
    return found


def _slots(pools: Pools, subject: Subject) -> list[tuple[Run, Run]]:
    """Return what judges each slot: its run in the main sequence, and in that of the positive control."""
    planned = {(run.group, run.slot): run for run in pools.procedure(subject)}
    found = []
    for slot in range(pools.plan.sizes.slots):
        main = planned["main", slot]
        original = planned.get(("positive", slot), Run("positive", slot, "retrained", main.member))
        found.append((main, original))
    return found


def controls(pools: Pools) -> tuple[Run, ...]:
    """Return the negative control's slots, all of them models of its own.

    The last score has seen the retrained models of the opened slots, so none of these can serve here. A rerun starts
    from an original of the first round, which the method code loads, is handed and must leave alone.
    """
    seeds, plan = pools.seeds, pools.plan
    first = betting_terms(plan, plan.subjects[0]).round
    parents = [original for slot, original in pools.originals.items() if slot < first] or [pools.parent]
    coins = seeds.coins("control", plan.sizes.control_slots)
    tails = [slot for slot, bit in enumerate(coins) if not bit]
    retrained = in_cohorts([seeds.retrained("control", slot) for slot in tails], pools.cohort)
    found = {slot: Run("negative", slot, "retrained", member) for slot, member in zip(tails, retrained, strict=True)}
    for slot, bit in enumerate(coins):
        if bit:
            member = seeds.edited("control", slot, "rerun", parents[slot % len(parents)], RETRAIN)
            found[slot] = Run("negative", slot, "rerun", member)
    return tuple(found[slot] for slot in range(len(coins)))


class _Learner:
    """One sequence of slots: what was opened so far, and what was learned from it.

    Args:
        bench: Measures models.
        frozen: The pilots' score.
        pilots: Their signals.
        eps: eps* of the guarantee under test.
        forward: Whether the guarantee is stated in one direction only.
    """

    def __init__(self, bench: Bench, frozen: ModelScore, pilots: Pilots, *, eps: Fraction, forward: bool) -> None:
        self.bench, self.frozen, self.pilots, self.eps, self.forward = bench, frozen, pilots, eps, forward
        self.marks = ""
        self.opened: dict[int, list[FloatArray]] = {0: [], 1: []}

    def learn(self) -> Judge:
        """Return how the next slots are judged."""
        unlearned, retrained = (np.array(self.opened[bit]) for bit in (1, 0))
        return relearn(self.frozen, self.pilots, unlearned, retrained, eps=self.eps)

    def open(self, run: Run, coin: int, judge: Judge) -> bytes:
        """Judge one slot, open its coin, and return its line of evidence."""
        line, signals = _line(self.bench, run)
        if signals is None:
            self.marks += "F"
            return canonical(line) + b"\n"
        score = judge.score(signals)[0]
        self.marks += mark_of(guess_of(score, judge.threshold, judge.margin, forward=self.forward), coin)
        self.opened[coin].append(signals[0])
        line |= {"score": score, "threshold": judge.threshold, "margin": judge.margin}
        return canonical(line) + b"\n"


def _line(bench: Bench, run: Run) -> tuple[dict[str, object], FloatArray | None]:
    """Return what the evidence says of a run besides its score, and its signals, shape (1, request)."""
    entry, signals = bench.result(run.member)
    line: dict[str, object] = {"kind": "run", "group": run.group, "slot": run.slot, "role": run.role}
    if signals is None:
        return line | {"status": "failed"}, None
    return line | {"status": "done", "model": entry.model, "signals": signals.digest}, bench.memory(signals)


class _Trial:
    """The sequence of one subject while it goes on.

    Args:
        pools: The models of the plan.
        bench: Measures them.
        frozen: The pilots' score.
        pilots: Their signals.
        subject: Whose method is judged.
    """

    def __init__(self, pools: Pools, bench: Bench, frozen: ModelScore, pilots: Pilots, subject: Subject) -> None:
        forward = pools.plan.direction == "forward"
        self.subject, self.bench, self.coins = subject, bench, pools.coins
        self.terms: Terms = betting_terms(pools.plan, subject)
        self.slots = _slots(pools, subject)
        self.main, self.positive = (
            _Learner(bench, frozen, pilots, eps=subject.tested_eps, forward=forward) for _ in range(2)
        )
        self.judge: Judge | None = None
        self.lines: list[bytes] = []
        self.ended: Ended | None = None

    @property
    def opened(self) -> int:
        """Slots opened so far."""
        return len(self.main.marks)

    def members(self, slots: Iterable[int]) -> list[Member]:
        """Return the models that judge these slots."""
        return [run.member for slot in slots if slot < self.terms.slots for run in self.slots[slot]]

    def open_round(self) -> str:
        """Judge the next round, whose models must be finished, and return a line that says how things stand."""
        start = self.opened
        self.judge, other = self.main.learn(), self.positive.learn()
        for slot in range(start, min(start + self.terms.round, self.terms.slots)):
            main, positive = self.slots[slot]
            self.lines.append(self.main.open(main, self.coins[slot], self.judge))
            self.lines.append(self.positive.open(positive, self.coins[slot], other))
        end = ending(self.main.marks, self.positive.marks, self.terms)
        self.ended = None if end is None else end[1]
        marks = self.main.marks
        bound = betting_bound(marks, self.terms.wanted)
        return (
            f"{self.subject.name}, round {-(-self.opened // self.terms.round)}: {self.opened} of at most "
            f"{self.terms.slots} slots opened, {marks.count('R')} of {self.opened - marks.count('A')} guesses right, "
            f"eps >= {printed(bound)}{'' if self.ended is None else f'; {_WHY[self.ended]}'}"
        )

    def result(self, control: Sequence[Run]) -> SlotSequence:
        """Return the sequence with its negative control, ranked by the last score."""
        assert self.judge is not None
        assert self.ended is not None  # a sequence ends with its budget at the latest
        lines = list(self.lines)
        for run in control:
            line, signals = _line(self.bench, run)
            scored = {} if signals is None else {"score": self.judge.score(signals)[0]}
            lines.append(canonical(line | scored) + b"\n")
        # The positive control's row of a retrained slot names the main sequence's model again.
        runs = [run for pair in self.slots[: self.opened] for run in pair if (run.group, run.role) != _REPEATED]
        return SlotSequence(runs=(*runs, *control), rows=b"".join(lines), ended=self.ended)


_REPEATED = ("positive", "retrained")

_WHY = {
    "refuted": "refuted, no more slots are needed",
    "nothing": "nothing to see at the planned power, no more slots are needed",
    "budget": "all planned slots are opened",
}


def run_sequences(
    pools: Pools, bench: Bench, frozen: ModelScore, *, executor: Executor, quiet: bool, say: Say
) -> tuple[dict[str, SlotSequence], int]:
    """Train and judge slots round by round until the sequence of every subject has ended, then the negative control.

    Args:
        pools: The models of the plan; pilots must be finished.
        bench: Measures them.
        frozen: The pilots' score.
        executor: Who trains, entered already.
        quiet: Show no progress.
        say: Receives one line a round and subject.

    Returns:
        The sequences by subject name, and the number of models that were trained now.

    Raises:
        Interrupted: The user stopped the run; finished models are kept.
        AttackError: The models' signals cannot be learned from.
    """
    pilots = tuple(bench.memory(bench.pool(pool)) for pool in pools.pilots)
    assert len(pilots) == 3
    trials = [_Trial(pools, bench, frozen, pilots, subject) for subject in pools.plan.subjects]
    driver = Driver(bench.workshop, executor, quiet=quiet)
    while going := [trial for trial in trials if trial.ended is None]:
        start, round_, most = going[0].opened, going[0].terms.round, going[0].terms.slots
        end = min(start + round_, most)
        wanted, next_ = (
            fleet_plan(member for trial in going for member in trial.members(slots))
            for slots in (range(start, end), range(end, min(_sight(pools, executor, end, round_), most)))
        )
        driver.finish(wanted, ahead=next_, what=f"training slots {start} to {end - 1}")
        for trial in going:
            line = trial.open_round()
            if not quiet:
                say(line)
    control = controls(pools)
    driver.finish(fleet_plan(run.member for run in control), what="training the negative control")
    return {trial.subject.name: trial.result(control) for trial in trials}, driver.made


def _sight(pools: Pools, executor: Executor, end: int, round_: int) -> int:
    """Return the slot up to which idle workers may train ahead: enough for each, never into cohorts not begun yet."""
    ahead = end + round_ * -(-executor.workers // round_)
    return ahead if pools.cohort < 2 else min(ahead, TOGETHER * -(-end // TOGETHER))
