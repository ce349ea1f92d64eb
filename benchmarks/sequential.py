"""What early stopping saves: models trained until the verdict, all 64 slots against slots judged one after another.

python -m benchmarks.sequential [--json] [--seeds N]

Both designs are played with the digits recipe, the same pilots and the same methods: the original presented as
unlearned, an exact retrain, and two methods that forget in part. ``rewind`` goes back to a checkpoint of the first
epochs, which have seen the request, and trains on without it. Nothing is signed; verdicts follow the checker's rule.

The slots of the first design are also judged one by one with less learning: by the pilots' frozen score, and by that
score with a threshold that moves half-way between the medians of the opened models.
"""

import argparse
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final

from benchmarks._measure import machine

if TYPE_CHECKING:
    from cu_cert.fleet.worker import Workshop
    from cu_cert.pools import Bench, Pools, Run
    from cu_cert.sequential import SlotSequence
    from cu_certificates.plan import Plan, Subject

SLOTS: Final = 64
PILOTS: Final = 8
REQUEST: Final = 50
CASES: Final[tuple[tuple[str, str, Mapping[str, object], str], ...]] = (
    ("original", "identity", {}, "a clear failure"),
    ("retrain", "retrain", {}, "a clear success"),
    ("rewind 3", "python:rewind:METHOD", {"epochs": 3}, "forgets in part"),
    ("rewind 2", "python:rewind:METHOD", {"epochs": 2}, "forgets most"),
)

_REWIND: Final = '''"""Go back to a checkpoint of the first epochs, which have seen the request, and train on without it."""

from dataclasses import dataclass

import numpy as np

from cu_cert.methods import Task, UnlearningMethod, Work, get
from cu_cert.recipes import make_recipe
from cu_cert.records import make_records


@dataclass(frozen=True, kw_only=True)
class Params:
    epochs: int = 3


def rewind(task):
    both = task.forget, task.retain
    everyone = make_records(
        [name for part in both for name in part.ids],
        np.concatenate([part.x for part in both]),
        np.concatenate([part.y for part in both]),
        task.retain.classes,
    )
    early = make_recipe("mlp", {"epochs": task.params.epochs}).train(everyone, rng=task.rng.child("early"))
    rest = get("finetune")
    params = rest.params({"epochs": 30 - task.params.epochs, "learning_rate": 0.1})
    late = rest.unlearn(
        early, task.forget.ids, everyone, recipe=task.recipe, params=params, rng=task.rng.child("late")
    )
    return Work(model=late.model)


METHOD = UnlearningMethod(
    name="rewind", kind="approximate", guarantee="none", level="EMPIRICAL", needs=frozenset({"forget", "retain", "recipe"}),
    paper="none; a method that forgets in part", summary="rewinds and trains on", params_type=Params, work=rewind,
)
'''  # noqa: E501


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One audit of one case.

    Args:
        verdict: REFUTED, NOT_REFUTED or INCONCLUSIVE.
        models: Models that the audit trained, pilots and negative control included.
        slots: Slots opened.
        needed: After how many slots eps* was refuted, by what was learned; ``None`` when it was not.
    """

    verdict: str
    models: int
    slots: int
    needed: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case under one design, over all seeds.

    Args:
        case: Its name.
        design: ``all slots`` or ``one by one``.
        outcomes: One a seed.
    """

    case: str
    design: str
    outcomes: Sequence[Outcome]

    def to_json(self) -> dict[str, Any]:
        """Return medians, quartiles and verdicts."""
        models = [outcome.models for outcome in self.outcomes]
        low, _, high = quantiles(models, n=4, method="inclusive") if len(models) > 1 else models * 3
        return {
            "case": self.case,
            "design": self.design,
            "models": median(models),
            "quartiles": [low, high],
            "slots": median(outcome.slots for outcome in self.outcomes),
            "verdicts": dict(sorted(Counter(outcome.verdict for outcome in self.outcomes).items())),
            "refutedAfter": {name: self._after(name) for name in (self.outcomes[0].needed if self.outcomes else ())},
        }

    def _after(self, name: str) -> dict[str, Any]:
        """Return how often one way of learning refuted, and after how many slots in the median over all seeds."""
        found = [outcome.needed[name] for outcome in self.outcomes]
        middle = median(10**9 if slots is None else slots for slots in found)
        return {"refuted": sum(slots is not None for slots in found), "slots": middle if middle < 10**9 else None}


def measure(folder: Path, *, seeds: int, slots: int = SLOTS, cases: Sequence[str] = (), workers: int = 0) -> list[Row]:
    """Play every case under both designs.

    Args:
        folder: An empty folder to work in.
        seeds: Audits of each case and design.
        slots: N of both designs.
        cases: Names of the cases; default all.
        workers: Processes; 0 for one a processor.
    """
    from cu_cert.fleet.environment import single_threaded

    single_threaded()
    (folder / "rewind.py").write_text(_REWIND, encoding="utf-8")
    chosen = [case for case in CASES if not cases or case[0] in cases]
    workshop = _workshop(folder)
    found: dict[tuple[str, str], list[Outcome]] = {}
    for seed in range(seeds):
        for design in ("coins", "sequential"):
            plan = _plan(workshop, chosen, design, seed, slots)
            for case, outcome in _play(plan, workshop, chosen, seed, workers).items():
                found.setdefault((case, "all slots" if design == "coins" else "one by one"), []).append(outcome)
    order = [(name, design) for name, *_ in chosen for design in ("all slots", "one by one")]
    return [Row(case=case, design=design, outcomes=found[case, design]) for case, design in order]


def _workshop(folder: Path) -> "Workshop":
    from cu_cert.data import load_records
    from cu_cert.fleet.worker import Workshop
    from cu_cert.project import init_project, load_project
    from cu_cert.rng import Stream

    init_project(folder)
    project = load_project(folder / "cu-cert.toml")
    dataset = load_records(project.data, folder)
    ids = dataset.train.ids
    return Workshop(
        recipe_digest=project.make_recipe().digest,
        recipe_name=project.training.recipe,
        recipe_options=dict(project.training.options),
        root=str(folder),
        train=dataset.train,
        held_out=dataset.held_out,
        forget=tuple(sorted(ids[row] for row in Stream.from_seed("benchmark request").order(ids)[:REQUEST])),
        store=folder / "store",
    )


def _plan(workshop: "Workshop", cases: Sequence[tuple[Any, ...]], design: str, seed: int, slots: int) -> "Plan":
    """Plan the procedure question alone, at alpha 1/20: the exact method at eps* = 0, the others at 1/2."""
    from cu_certificates._design_sequential import CONTROL_SIZES
    from cu_certificates.check.coins import seed_commitment
    from cu_certificates.plan import DEFAULT_DESIGNS, Plan, Sizes, Subject, default_guesses

    controls = CONTROL_SIZES["both"] if design == "sequential" else (slots, default_guesses(slots))
    subjects = tuple(
        Subject(
            name=name,
            model=hashlib.sha256(name.encode()).hexdigest(),
            method=method,
            parameters={key: str(value) for key, value in options.items()},
            guarantee="exact" if method == "retrain" else "none",
            level="EXACT_IN_LAW" if method == "retrain" else "EMPIRICAL",
            tested_eps=Fraction(0) if method == "retrain" else Fraction(1, 2),
            tested_delta=Fraction(0),
        )
        for name, method, options, _ in cases
    )
    return Plan(
        subjects=subjects,
        questions=("procedure",),
        alpha_total=Fraction(1, 20),
        detect_eps=Fraction(2),
        sizes=Sizes(
            slots=slots,
            guesses=default_guesses(slots),
            control_slots=controls[0],
            control_guesses=controls[1],
            references=1,
            negatives=1,
            pilots=PILOTS,
        ),
        request_root="00" * 32,
        request_size=len(workshop.forget),
        recipe=workshop.recipe.digest,
        data=workshop.train.digest,
        seed_commitment=seed_commitment(_seed(seed)),
        attempt=seed + 1,
        designs=DEFAULT_DESIGNS | {"procedure": design},
    )


def _seed(seed: int) -> bytes:
    return hashlib.sha256(f"benchmark {seed}".encode()).digest()


def _play(
    plan: "Plan", workshop: "Workshop", cases: Sequence[tuple[Any, ...]], seed: int, workers: int
) -> dict[str, Outcome]:
    """Train and judge what a plan needs; subjects share what they can, but each is charged for all its models."""
    from cu_cert.fleet.local import LocalExecutor
    from cu_cert.fleet.plan import fleet_plan
    from cu_cert.fleet.train import train_fleet
    from cu_cert.methods import get
    from cu_cert.pools import Bench, Pools, Seeds, Way
    from cu_cert.sequential import first_members, is_sequential, run_sequences

    ways = {
        name: Way(method, dict(options), get(method, root=workshop.root).sources) for name, method, options, _ in cases
    }
    pools = Pools(plan, Seeds(_seed(seed), plan.digest), Seeds(_seed(-1), ""), ways)
    early = is_sequential(plan)
    bench = Bench(workshop)
    with LocalExecutor(workshop, workers) as crew:
        first = fleet_plan(first_members(pools) if early else pools.members())
        train_fleet(first, workshop, executor=crew, quiet=True)
        if not early:
            return {subject.name: _all_slots(plan, pools, bench, subject) for subject in plan.subjects}
        ended, _ = run_sequences(pools, bench, bench.fit(pools), executor=crew, quiet=True, say=print)
    return {subject.name: _one_by_one(plan, pools, bench, subject, ended[subject.name]) for subject in plan.subjects}


def _one_by_one(plan: "Plan", pools: "Pools", bench: "Bench", subject: "Subject", result: "SlotSequence") -> Outcome:
    from cu_cert.sequential_claims import read_opened, sequential_claims

    threshold = next(row["threshold"] for row in map(json.loads, result.rows.splitlines()) if "threshold" in row)
    table = read_opened(_opening(pools) + result.rows, plan, subject, middle=threshold)
    return Outcome(
        verdict=_verdict(sequential_claims(table, plan, subject), subject),
        models=_count(pools, bench, result.runs),
        slots=len(table.main),
    )


def _all_slots(plan: "Plan", pools: "Pools", bench: "Bench", subject: "Subject") -> Outcome:
    from cu_cert.claims import procedure_claims
    from cu_certificates.check.fields import Node
    from cu_certificates.check.tables import read_slots

    runs, node, identity = pools.procedure(subject), Node(plan.to_json(), "plan"), subject.method == "identity"
    data = _opening(pools) + bench.rows(bench.fit(pools), runs)
    table = read_slots(data, "slots.jsonl", plan=node, plan_digest=plan.digest, identity=identity)
    return Outcome(
        verdict=_verdict(procedure_claims(table, plan, subject), subject),
        models=_count(pools, bench, runs),
        slots=plan.sizes.slots,
        needed=_needed(plan, pools, bench, subject),
    )


def _needed(plan: "Plan", pools: "Pools", bench: "Bench", subject: "Subject") -> dict[str, int | None]:
    """Judge all slots one by one in three ways, and return after how many each refutes."""
    from cu_attacks._relearned import Judge, first_judge, relearn
    from cu_certificates._design_sequential import betting_terms
    from cu_certificates.check.betting import guess_of, mark_of, wealth
    from cu_certificates.check.tails import STEP

    terms, frozen = betting_terms(plan, subject), bench.fit(pools)
    assert terms.wanted is not None
    pilots = tuple(bench.memory(bench.pool(pool)) for pool in pools.pilots)
    original, fitting, centring = pilots
    first = first_judge(frozen, original, centring)
    runs = {run.slot: run for run in pools.procedure(subject) if run.group == "main"}

    def moved(opened: Mapping[int, list[Any]]) -> Judge:
        if not opened[1]:
            return first
        middle = (median(frozen(opened[1])) + median(frozen([*centring, *opened[0]]))) / 2
        return Judge(score=frozen, threshold=int(middle), margin=0)

    ways: dict[str, Callable[[Mapping[int, list[Any]]], Judge]] = {
        "frozen score": lambda opened: first,
        "threshold learned": moved,
        "score learned": lambda opened: relearn(
            frozen, (original, fitting, centring), opened[1], opened[0], eps=terms.eps
        ),
    }
    found: dict[str, int | None] = {}
    for name, learn in ways.items():
        opened: dict[int, list[Any]] = {0: [], 1: []}
        marks, judge = "", first
        for slot in range(terms.slots):
            if slot % terms.round == 0:
                judge = learn(opened)
            signals = bench.result(runs[slot].member)[1]
            assert signals is not None
            memory, coin = bench.memory(signals), pools.coins[slot]
            marks += mark_of(guess_of(judge.score(memory)[0], judge.threshold, judge.margin), coin)
            opened[coin].append(memory[0])
        after = (place for place, value in enumerate(wealth(marks, terms.eps + STEP), 1) if value >= terms.wanted)
        found[name] = next(after, None)
    return found


def _opening(pools: "Pools") -> bytes:
    from cu_certificates.check.strict import canonical

    return canonical({"kind": "opening", "seed": pools.seeds.seed.hex(), "nonce": ""}) + b"\n"


def _verdict(claims: Sequence[Mapping[str, Any]], subject: "Subject") -> str:
    """Return what bound, positive control, negative control and power amount to."""
    bound, positive, negative, power = claims
    if negative["outcome"] != "sound":
        return "INCONCLUSIVE"
    if Fraction(bound["bound"]) > subject.tested_eps:
        return "REFUTED"
    return "NOT_REFUTED" if positive["outcome"] == "detected" and power["reached"] else "INCONCLUSIVE"


def _count(pools: "Pools", bench: "Bench", runs: "Iterable[Run]") -> int:
    """Return how many models runs and pilots are, with those that they start from."""
    members = [*(member for pool in pools.pilots for member in pool), *(run.member for run in runs)]
    return len({bench.workshop.identity.key(one) for member in members for one in member.lineage()})


def to_json(rows: Sequence[Row], seeds: int, slots: int) -> str:
    """Return one JSON object."""
    document = {
        "schema": "cu-cert-benchmark/1",
        "benchmark": "sequential",
        "what": "models trained until the verdict, pilots and negative control included",
        "seeds": seeds,
        "slots": slots,
        "pilots": 3 * PILOTS,
        "rows": [row.to_json() for row in rows],
        "machine": machine(),
    }
    return json.dumps(document, indent=2)


def to_text(rows: Sequence[Row], seeds: int, slots: int) -> str:
    """Return one table."""
    said = {name: words for name, _, _, words in CASES}
    lines = [
        f"models trained until the verdict, {3 * PILOTS} pilots included; at most {slots} slots; median (quartiles) of "
        f"{seeds} seeds"
    ]
    for row in rows:
        found = row.to_json()
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in found["verdicts"].items())
        low, high = found["quartiles"]
        lines.append(
            f"{row.case:9} {said[row.case]:16} {row.design:10}  {found['models']:5.0f} ({low:.0f} to {high:.0f})"
            f"  slots {found['slots']:3.0f}  {verdicts}"
        )
    lines.append("judged one by one, refuted after so many slots (in so many audits), by what is learned from them:")
    for row in rows:
        after = row.to_json()["refutedAfter"]
        if after:
            words = (f"{name} {_slots(way['slots'])} ({way['refuted']})" for name, way in after.items())
            lines.append(f"{row.case:9} {said[row.case]:16} {'; '.join(words)}")
    return "\n".join(lines)


def _slots(found: float | None) -> str:
    return "not within all" if found is None else f"{found:.0f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print one table, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sequential", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=11, help="audits of each case and design, at least 1")
    parser.add_argument("--slots", type=int, default=SLOTS, help="slots of both designs, at least 32")
    parser.add_argument("--case", action="append", default=[], choices=[name for name, *_ in CASES], help="only these")
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.slots < 32:
        parser.error("expected at least 1 seed and 32 slots")
    with tempfile.TemporaryDirectory(prefix="cu-cert-sequential-") as folder:
        rows = measure(Path(folder), seeds=options.seeds, slots=options.slots, cases=options.case)
    print((to_json if options.json else to_text)(rows, options.seeds, options.slots))


if __name__ == "__main__":
    main()
