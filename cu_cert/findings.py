"""Finished models -> what the certificate says about one subject: evidence, claims and plots."""

from collections.abc import Sequence

import numpy as np

from cu_attacks._model_scores import ModelScore
from cu_attacks._types import FloatArray
from cu_cert._shadow_panel import shadow_findings
from cu_cert.beside import slots_beside
from cu_cert.claims import Claim, Plot, artifact_claims, model_claims, procedure_claims, two_pool_claims, utility_claims
from cu_cert.differences import difference_claims
from cu_cert.distances import DISTANCES, energy_evidence
from cu_cert.issue import Findings
from cu_cert.padding import utility_sets, without_size
from cu_cert.panel import (
    artifact_plot,
    attack_panel,
    cost_claims,
    eps_plot,
    procedure_plot,
    reference_utility,
    utility_rows,
)
from cu_cert.pools import Bench, Pools, Run
from cu_cert.probes import probe_claims, run_probes
from cu_cert.rng import Stream
from cu_cert.sequential import SlotSequence
from cu_cert.sequential_claims import read_opened, sequential_claims, wealth_plot
from cu_cert.shadows import Shadows
from cu_cert.signals import Signals
from cu_cert.subjects import Measured
from cu_certificates.check.design import DESIGNS
from cu_certificates.check.fields import Node
from cu_certificates.check.strict import canonical
from cu_certificates.check.tables import Model, PilotTable, read_artifact, read_slots
from cu_certificates.plan import Subject


def findings_of(
    bench: Bench,
    pools: Pools,
    score: ModelScore,
    subject: Subject,
    source: str,
    own: Measured,
    opened: SlotSequence | None,
    halves: Shadows | None = None,
) -> Findings:
    """Turn finished models into evidence, claims and plots about one subject.

    Args:
        bench: Measures the models.
        pools: The models of the plan.
        score: The pilots' score.
        subject: What is judged.
        source: Where the name of its method came from.
        own: What was measured on it.
        opened: Its slots, where they were judged one after another.
        halves: The release's models of random halves, where the project plans some.
    """
    plan, workshop = pools.plan, bench.workshop
    opening = canonical({"kind": "opening", "seed": pools.seeds.seed.hex(), "nonce": pools.seeds.nonce}) + b"\n"
    plan_bytes = plan.to_bytes()
    evidence = {("plan", "plan", "plan.json", "public"): plan_bytes}
    node, size = Node(plan.to_json(), "plan"), len(workshop.forget)
    claims: list[Claim] = []
    pilot_table = _pilot_scores(bench, pools, score)
    plots: dict[str, Plot | None] = {}
    judged = [DESIGNS[question][plan.designs[question]].evidence for question in plan.questions]
    claims += model_claims(subject, judged, learned=opened is not None)

    runs: Sequence[Run] = ()
    if opened is not None:
        runs = opened.runs
        data = opening + opened.rows
        evidence["slots", "slots", "evidence/slots.jsonl", "controlled"] = data
        bets = read_opened(data, plan, subject, middle=pilot_table.middle())
        claims += sequential_claims(bets, plan, subject)
        # A p-value needs a number of models that did not depend on them; these were counted until they had decided.
        claims += cost_claims(bench, opened.runs, str(subject.method))
        plots["procedure"] = wealth_plot(bets, plan, subject)
    elif "procedure" in plan.questions:
        runs = pools.procedure(subject)
        data = opening + bench.rows(score, runs)
        evidence["slots", "slots", "evidence/slots.jsonl", "controlled"] = data
        slots = read_slots(
            data, "slots.jsonl", plan=node, plan_digest=plan.digest, identity=subject.method == "identity"
        )
        claims += procedure_claims(slots, plan, subject)
        claims += two_pool_claims(slots, pilot_table.middle(), subject.tested_delta)
        claims += slots_beside(slots, pilot_table)
        compared = _compared(bench, pools, runs)
        if compared is not None:
            claims.append(compared[0])
            evidence[DISTANCES] = compared[1]
        claims += _differences(bench, pools, runs, energy=compared is None)
        claims += cost_claims(bench, runs, str(subject.method))
        plots["procedure"] = procedure_plot(slots, str(subject.method))
    if "artifact" in plan.questions:
        head = {
            "kind": "subject",
            "file": subject.model,
            "model": own.tensors,
            "signals": own.signals.digest,
            "score": score(bench.memory(own.signals))[0],
        }
        data = opening + canonical(head) + b"\n" + bench.rows(score, pools.artifact)
        evidence["artifact", "artifact", "evidence/artifact.jsonl", "controlled"] = data
        artifact = read_artifact(data, "artifact.jsonl", plan=node)
        claims += artifact_claims(artifact, plan, subject)
        plots["artifact"] = artifact_plot(artifact, subject.name)

    original, retrained, centring = pools.pilots
    pilots = [Run("pilots", slot, "original", member) for slot, member in enumerate(original)]
    pilots += [Run("pilots", slot, "retrained", member) for slot, member in enumerate((*retrained, *centring))]
    evidence["pilots", "pilots", "evidence/pilots.jsonl", "controlled"] = bench.rows(score, pilots)
    sets = utility_sets(
        own.signals.correct[size:],
        own.retained.correct,
        own.signals.correct[:size],
        plan=plan,
        trained=len(workshop.train),
        rng=Stream(pools.seeds.seed).child("retained sample"),
    )
    evidence["utility", "correct", "evidence/utility.jsonl", "controlled"] = utility_rows(sets)
    claims += utility_claims({name: (int(correct.sum()), len(correct)) for name, correct in sets.items()})

    shadows = _shadows(bench, pools, opened)
    # U-LiRA's p-values, too, need a number of models that did not depend on them.
    fixed = runs if opened is None else ()
    unlearned, others = (_pool(bench, fixed, role) for role in ("unlearned", "retrained"))
    panel, plots["roc"] = attack_panel(own.signals, shadows, size, unlearned=unlearned, retrained=others)
    claims += panel + reference_utility(own.signals, shadows, size)
    if own.original is not None:
        claims += attack_panel(own.original, shadows, size, suffix="-before")[0]
    panel, curves = shadow_findings(own, halves, size)
    claims += panel
    plots.update(curves)
    claims += _probes(bench, pools, own, score, opened)
    plots["eps"] = eps_plot(claims, f"{float(subject.tested_eps):.4f}")
    found = Findings(
        subject=subject,
        source=source,
        claims=claims,
        plots={name: plot for name, plot in plots.items() if plot is not None},
        evidence=evidence,
    )
    return without_size(found, plan)


def _shadows(bench: Bench, pools: Pools, opened: SlotSequence | None) -> Sequence[Signals]:
    """Return the models that the panel takes as never-in shadows: the references, else the slots' retrained models."""
    if "artifact" in pools.plan.questions:
        return bench.pool(run.member for run in pools.artifact if run.group == "reference")
    if opened is not None:
        return bench.pool(run.member for run in opened.runs if run.role == "retrained")
    return bench.pool(pools.retrained.values())


def _pool(bench: Bench, runs: Sequence[Run], role: str) -> Sequence[Signals]:
    """Return the signals of the judged models of a role."""
    return bench.pool(run.member for run in runs if (run.group, run.role) == ("main", role))


def _pilot_scores(bench: Bench, pools: Pools, score: ModelScore) -> PilotTable:
    """Return the pilots as the checker will read them."""
    tables = [tuple(Model(None, bench.score(score, member)) for member in pool) for pool in pools.pilots]
    return PilotTable(*tables)


def _compared(bench: Bench, pools: Pools, runs: Sequence[Run]) -> tuple[Claim, bytes] | None:
    """Compare the judged models as two sets, with their distances as evidence; ``None`` where that cannot be shown."""
    judged = sorted((run for run in runs if run.group == "main"), key=lambda run: run.slot)
    found = [bench.result(run.member) for run in judged]
    signals = [each for _, each in found if each is not None]
    if len(signals) < len(judged):
        return None  # a failed model could have stood anywhere
    return energy_evidence(
        bench.memory(signals),
        [str(entry.model) for entry, _ in found],
        [run.role == "unlearned" for run in judged],
        plan=pools.plan,
        seed=pools.seeds.seed,
    )


def _differences(bench: Bench, pools: Pools, runs: Sequence[Run], *, energy: bool) -> list[Claim]:
    """Compare the unlearned with the retrained models of the slots as a whole."""
    size = len(bench.workshop.forget)
    unlearned, retrained = (_pool(bench, runs, role) for role in ("unlearned", "retrained"))
    if min(len(unlearned), len(retrained)) < 2:
        return []
    spare = [run.member for run in pools.artifact if run.group == "reference"] if _asks(pools, "artifact") else []

    def accuracy(pool: Sequence[Signals], start: int | None, stop: int | None) -> FloatArray:
        return np.array([one.correct[start:stop].mean() for one in pool])

    return difference_claims(
        bench.memory(unlearned),
        bench.memory(retrained),
        original=bench.memory(bench.pool(pools.pilots[0])),
        spare=bench.memory(bench.pool(spare)) if spare else None,
        accuracies={
            name: (accuracy(unlearned, *part), accuracy(retrained, *part))
            for name, part in (("request", (None, size)), ("held-out", (size, None)))
        },
        fair_coins=True,
        energy=energy,
        rng=Stream(pools.seeds.seed).child("differences"),
    )


def _asks(pools: Pools, question: str) -> bool:
    return question in pools.plan.questions


MOST_PROBED = 32
"""Retrained models beside which the audited one is probed: more would only make the smallest p smaller."""


def _probes(bench: Bench, pools: Pools, own: Measured, score: ModelScore, opened: SlotSequence | None) -> list[Claim]:
    """Probe the audited model beside retrained ones that fitted nothing."""
    if _asks(pools, "artifact"):
        members = [run.member for run in pools.artifact if run.group == "reference"]
    elif opened is not None:
        members = [run.member for run in opened.runs if (run.group, run.role) == ("main", "retrained")]
    else:
        members = [member for member in pools.retrained.values() if not member.empty]
    results = run_probes(
        bench.workshop,
        own.model,
        bench.models(members[:MOST_PROBED]),
        original=own.before,
        rng=Stream(pools.seeds.seed).child("probes"),
        record_weights=score.weight,
    )
    return probe_claims(results)
