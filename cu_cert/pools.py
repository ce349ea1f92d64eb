"""Which models an audit trains, and what becomes of them: members by role, signals, scores, evidence rows.

Every seed derives from the committed audit seed and the plan's digest, so nothing is left to choose once the plan is
fixed (``cu_certificates.check.coins``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from cu_attacks._model_scores import ModelScore, fit_score
from cu_attacks._types import FloatArray
from cu_cert.errors import DataError
from cu_cert.fleet.plan import Member, in_cohorts
from cu_cert.fleet.signal_matrix import Pool, SignalMatrix, blocks, spooled
from cu_cert.fleet.store import Entry, Store
from cu_cert.fleet.worker import Workshop
from cu_cert.release import Lent
from cu_cert.signals import Signals, relative
from cu_certificates.check.coins import coin, derive
from cu_certificates.check.strict import canonical
from cu_certificates.plan import Plan, Subject

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Run:
    """One planned model and where it stands in the evidence.

    Args:
        group: ``main``, ``positive``, ``negative`` or ``reference``.
        slot: Its number in the group.
        role: How it was made: ``unlearned``, ``retrained``, ``original`` or ``rerun``.
        member: The model.
    """

    group: str
    slot: int
    role: str
    member: Member


@dataclass(frozen=True)
class Way:
    """How a method is called.

    Args:
        method: Its name.
        options: Its options, as the user gave them.
        sources: Digest of its sources when it stands outside the tree.
    """

    method: str
    options: Mapping[str, object]
    sources: str = ""


TOGETHER: Final = 16
"""Slots of a sequence whose models train together: few enough that a clear failure trains hardly more than it opens."""

RETRAIN = Way("retrain", {})
"""What the negative controls put in the place of every method."""


@dataclass(frozen=True)
class Seeds:
    """Seeds and coins of one plan.

    Args:
        seed: The committed audit seed.
        plan: P.
        nonce: The reader's nonce (hex); empty when there was none.
    """

    seed: bytes
    plan: str
    nonce: str = ""

    def of(self, group: str, slot: int, role: str) -> str:
        """Return the training seed (hex) of a run."""
        return derive(self.seed, "train", self.plan, self.nonce, group, slot, role).hex()

    def coins(self, group: str, count: int) -> tuple[int, ...]:
        """Return the fair coins of a group of slots."""
        return tuple(coin(self.seed, self.plan, self.nonce, group, slot) for slot in range(count))

    def original(self, group: str, slot: int) -> Member:
        """A fresh model trained on all of D."""
        return Member(label=f"{group} {slot}, original", records="all", seed=self.of(group, slot, "original"))

    def retrained(self, group: str, slot: int) -> Member:
        """A fresh model that never saw the request."""
        return Member(label=f"{group} {slot}, retrained", records="retain", seed=self.of(group, slot, "retrained"))

    def edited(self, group: str, slot: int, role: str, parent: Member, way: "Way") -> Member:
        """What a method makes of a parent."""
        return Member(
            label=f"{group} {slot}, {role}",
            records="all",
            seed=self.of(group, slot, role),
            method=way.method,
            options=way.options,
            sources=way.sources,
            parent=parent,
        )


@dataclass(frozen=True)
class Pools:
    """All models of one plan.

    Args:
        plan: The plan.
        seeds: Its seeds and coins.
        pilot_seeds: Seeds of the pilots, which may be older than the plan and serve later audits of the request.
        ways: How each subject's method is called, by subject name; none for an unknown method.
        cohort: Most models that are trained in one program; 1 trains each alone.
        lent: Originals of the release's fleet, which know no request and may serve other plans, too; ``None`` where
            every original is the plan's own.
    """

    plan: Plan
    seeds: Seeds
    pilot_seeds: Seeds
    ways: Mapping[str, Way]
    cohort: int = 1
    lent: Lent | None = None

    @cached_property
    def pilots(self) -> tuple[tuple[Member, ...], tuple[Member, ...], tuple[Member, ...]]:
        """Originals and retrained models that fit the score, and further retrained ones that centre it."""
        count, seeds = self.plan.sizes.pilots, self.pilot_seeds
        own = [seeds.original("pilots", slot) for slot in range(count)]
        return (
            in_cohorts(own, self.cohort) if self.lent is None else self.lent.release.pilots(count),
            in_cohorts([seeds.retrained("pilots", slot) for slot in range(count)], self.cohort),
            in_cohorts([seeds.retrained("pilots", slot) for slot in range(count, 2 * count)], self.cohort),
        )

    @cached_property
    def coins(self) -> tuple[int, ...]:
        """The coins of the procedure question; 1 is unlearned."""
        return self.seeds.coins("slots", self.plan.sizes.slots)

    @cached_property
    def _trained(self) -> dict[int, Member]:
        """The model that is trained for each slot: its original, or a retrained one, as its coin says.

        The slots that are opened together train together, so that a sequence that ends early has trained few others.
        """
        fixed = self.plan.original == "fixed"
        part = TOGETHER if self.plan.designs["procedure"] == "sequential" else len(self.coins)
        found: dict[int, Member] = {}
        for start in range(0, len(self.coins), part):
            slots = range(start, min(start + part, len(self.coins)))
            for bit in (1, 0):
                of = self.seeds.original if bit else self.seeds.retrained
                elsewhere = fixed or self.lent is not None
                chosen = [slot for slot in slots if self.coins[slot] == bit and not (bit and elsewhere)]
                members = in_cohorts([of("slots", slot) for slot in chosen], self.cohort)
                found |= dict(zip(chosen, members, strict=True))
        return found

    @cached_property
    def originals(self) -> dict[int, Member]:
        """The original of each slot whose coin says "unlearned"; one for all of them where the plan fixes it."""
        slots = [slot for slot, bit in enumerate(self.coins) if bit]
        if self.plan.original == "fixed":
            return dict.fromkeys(slots, self.seeds.original("slots", 0))
        if self.lent is not None:
            return dict(zip(slots, self.lent.slots, strict=True))
        return {slot: self._trained[slot] for slot in slots}

    @cached_property
    def retrained(self) -> dict[int, Member]:
        """The retrained model of each slot whose coin says "retrained"."""
        return {slot: self._trained[slot] for slot, bit in enumerate(self.coins) if not bit}

    @cached_property
    def parent(self) -> Member:
        """The original from which reruns start where the slots have none."""
        if self.lent is not None and self.lent.judged:
            return self.lent.members[0]
        return self.seeds.original("control", 0)

    @cached_property
    def control(self) -> tuple[Run, ...]:
        """The negative control's slots: retraining through the method's code path, under fresh coins.

        Retrained models of the main run serve first, unless the method with an empty request followed them; the frozen
        score has seen none of them and the fresh coins know nothing of them, so the guesses stay exactly fair. A rerun
        starts from an original of the main run, which the method code loads, is handed and must leave alone.
        """
        spare = list(self.retrained.values()) if self.plan.reference == "retrain" else []
        parents = list(self.originals.values()) or [self.parent]
        coins = self.seeds.coins("control", self.plan.sizes.control_slots)
        tails = [slot for slot, bit in enumerate(coins) if not bit]
        own = [self.seeds.retrained("control", slot) for slot in tails[len(spare) :]]
        shared = {slot: Run("negative", slot, "shared", one) for slot, one in zip(tails, spare, strict=False)}
        more = zip(tails[len(spare) :], in_cohorts(own, self.cohort), strict=True)
        found = shared | {slot: Run("negative", slot, "retrained", member) for slot, member in more}
        for slot, bit in enumerate(coins):
            if bit:
                member = self.seeds.edited("control", slot, "rerun", parents[slot % len(parents)], RETRAIN)
                found[slot] = Run("negative", slot, "rerun", member)
        return tuple(found[slot] for slot in range(len(coins)))

    def procedure(self, subject: Subject) -> tuple[Run, ...]:
        """The runs of the procedure question about one subject's method, controls included."""
        if subject.name not in self.ways:
            raise DataError(f"subject {subject.name}: its method is unknown, so the procedure question cannot be asked")
        way, fixed = self.ways[subject.name], self.plan.original == "fixed"
        runs = [Run("positive", 0, "original", self.seeds.original("slots", 0))] if fixed else []
        for slot, bit in enumerate(self.coins):
            if bit:
                parent = self.originals[slot]
                runs.append(Run("main", slot, "unlearned", self.seeds.edited("slots", slot, "unlearned", parent, way)))
                if not fixed:
                    runs.append(Run("positive", slot, "original", parent))
            else:
                retrained = self.retrained[slot]
                if self.plan.reference == "retrain+noop":
                    noop = self.seeds.edited("slots", slot, "noop", retrained, way)
                    retrained = replace(noop, records="retain", empty=True)
                runs.append(Run("main", slot, "retrained", retrained))
        return (*runs, *self.control)

    @cached_property
    def artifact(self) -> tuple[Run, ...]:
        """The runs of the artifact question, which all subjects share."""
        sizes = self.plan.sizes
        original = self.seeds.original("artifact", 0) if self.lent is None else self.lent.control
        retrained = [self.seeds.retrained("artifact", slot) for slot in range(sizes.references)]
        references = [
            Run("reference", slot, "retrained", member)
            for slot, member in enumerate(in_cohorts(retrained, self.cohort))
        ]
        reruns = [
            Run("negative", slot, "rerun", self.seeds.edited("artifact", slot, "rerun", original, RETRAIN))
            for slot in range(sizes.negatives)
        ]
        return (*references, Run("positive", 0, "original", original), *reruns)

    def members(self) -> list[Member]:
        """Every model of the plan, in a fixed order, pilots first."""
        found = [member for pool in self.pilots for member in pool]
        for subject in self.plan.subjects:
            if "procedure" in self.plan.questions:
                found += [run.member for run in self.procedure(subject)]
        if "artifact" in self.plan.questions:
            found += [run.member for run in self.artifact]
        return found


class Bench:
    """Finished models as numbers. Their signals lie in a file that is mapped, so memory does not grow with the fleet.

    Args:
        workshop: What the models were made with.

    Raises:
        EnvironmentProblem: The file cannot be written.
    """

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self._store = Store(workshop.store)
        self._signals = SignalMatrix(len(workshop.forget) + len(workshop.held_out), workshop.store)
        self._known: dict[str, tuple[Entry, int | None]] = {}

    def _row(self, member: Member) -> tuple[Entry, int | None]:
        """Return a member's entry and its row of the matrix; none when the run failed or signals are not finite."""
        key = self.workshop.identity.key(member)
        if key not in self._known:
            entry = self._store.entry(key)
            signals = None
            if entry is not None and not entry.problem:
                signals = self._store.signals(key, self.workshop.query)
            if entry is None or (signals is None and not entry.problem):
                raise DataError(f"store {self.workshop.store}: model {key[:12]} ({member.label}) is gone; run again")
            usable = signals is not None and signals.usable
            self._known[key] = (entry, self._signals.append(signals) if usable and signals is not None else None)
        return self._known[key]

    def result(self, member: Member) -> tuple[Entry, Signals | None]:
        """Return a finished member's entry and signals; no signals when the run failed or they are not finite."""
        entry, row = self._row(member)
        return entry, None if row is None else self._signals[row]

    def memory(self, signals: Signals | Sequence[Signals]) -> FloatArray:
        """Return membership signals on the request, relative to held-out records of the same class.

        Args:
            signals: One model's signals, or those of several.

        Returns:
            Shape (models, request); a memory map when they are many.
        """
        many = [signals] if isinstance(signals, Signals) else signals
        forget, held_out = self.workshop.forget_records, self.workshop.held_out
        return spooled((relative(margins, forget, held_out) for margins in blocks(many)), many)

    def pool(self, members: Iterable[Member]) -> Sequence[Signals]:
        """Return the signals of those members that did not fail."""
        rows = (self._row(member)[1] for member in members)
        return Pool(self._signals, [row for row in rows if row is not None])

    def models(self, members: Iterable[Member]) -> "list[torch.nn.Module]":
        """Load the models of those members that did not fail."""
        sound = [member for member in members if self._row(member)[1] is not None]
        return [self.workshop.model(member) for member in sound]

    def fit(self, pools: Pools) -> ModelScore:
        """Fit the frozen score on the pilots.

        Raises:
            DataError: A pilot failed.
        """
        for pool in pools.pilots:
            for member in pool:
                entry, row = self._row(member)
                if row is None:
                    problem = entry.problem or "its scores are not finite"
                    raise DataError(
                        f"pilot model failed ({member.label}): {problem}; correct the cause, delete "
                        f"{self._store.entry_path(self.workshop.identity.key(member))} and run again"
                    )
        original, retrained, centring = (self.memory(self.pool(pool)) for pool in pools.pilots)
        return fit_score(pools.plan.score, original, retrained, centring)

    def score(self, score: ModelScore, member: Member) -> int | None:
        """Return the integer score of a finished member, ``None`` when it failed."""
        signals = self.result(member)[1]
        return None if signals is None else score(self.memory(signals))[0]

    def rows(self, score: ModelScore, runs: Iterable[Run]) -> bytes:
        """Write runs as evidence: one line of integers and digests each; shared models are not repeated."""
        lines = []
        for run in runs:
            if run.role == "shared":
                continue
            entry, signals = self.result(run.member)
            line: dict[str, object] = {"kind": "run", "group": run.group, "slot": run.slot, "role": run.role}
            if signals is None:
                line["status"] = "failed"
            else:
                line |= {
                    "status": "done",
                    "model": entry.model,
                    "signals": signals.digest,
                    "score": score(self.memory(signals))[0],
                }
            lines.append(canonical(line) + b"\n")
        return b"".join(lines)

    def seconds(self, members: Iterable[Member]) -> list[float]:
        """Return the CPU-seconds of members that did not fail, each without its parent."""
        found = (self._row(member)[0] for member in members)
        return [entry.seconds for entry in found if not entry.problem]
