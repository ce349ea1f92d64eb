"""Audit by scores that were made elsewhere: no model is loaded or trained here, and torch is never imported.

With coins: ``cu-cert plan`` fixes the plan and hands out a work order; the scores of those models are then judged as if
they had been trained here. Without: the scores came first, so they go through two pools (design D1) or a rank among
references, and the certificate says that its plan was made after the fact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from cu_attacks._scores import Scores, read_scores
from cu_attacks._types import AttackError
from cu_cert._outside_evidence import Evidence
from cu_cert.beside import pools_beside, slots_beside
from cu_cert.claims import Claim, Plot, artifact_claims, model_claims, procedure_claims, two_pool_claims
from cu_cert.data._ids import read_ids
from cu_cert.declared import Declaration, load_declaration
from cu_cert.errors import ConfigError, DataError
from cu_cert.forget import listed_index
from cu_cert.issue import Findings, Scope, write_certificate
from cu_cert.naming_nobody import index_of, require_plan
from cu_cert.padding import withheld, without_size
from cu_cert.panel import artifact_plot, attack_panel, eps_plot, pools_plot, procedure_plot
from cu_cert.pool_claims import pool_claims
from cu_cert.secrets_store import FOLDER, Secrets, write_private
from cu_cert.signals import Signals
from cu_cert.workorder import Task, order_csv, work_order
from cu_certificates._files import make_folder
from cu_certificates.check.design import DESIGNS, FITTED
from cu_certificates.check.fields import Node
from cu_certificates.check.pool_table import HALVED, PoolTable, calibrating, read_pools
from cu_certificates.check.pools import threshold_of
from cu_certificates.check.strict import Rejected, canonical
from cu_certificates.check.tables import PilotTable, read_artifact, read_pilots, read_slots, rows
from cu_certificates.keys import SigningKey
from cu_certificates.plan import DEFAULT_DESIGNS, Plan, Sizes
from cu_certificates.request import ForgetRequest, commit
from cu_certificates.seal import Issued, write_changed

AFTER_THE_FACT: Final = "L15"
HANDED_IN: Final = "L16"


@dataclass(frozen=True, kw_only=True)
class Order:
    """A plan that was fixed and handed out.

    Args:
        plan: The plan.
        folder: Where plan and work order were written.
        models: How many models it asks for.
    """

    plan: Plan
    folder: Path
    models: int


@dataclass(frozen=True, kw_only=True)
class Judged:
    """An audit of scores from elsewhere.

    Args:
        plan: The plan.
        issued: The files of the certificate.
        coins: Whether the models were made by coins that had been handed out.
    """

    plan: Plan
    issued: Issued
    coins: bool


def _secrets(declared: Declaration) -> Secrets:
    return Secrets(declared.path.parent / FOLDER)


def _coin_sizes(declared: Declaration) -> Sizes:
    config = declared.audit
    return Sizes(
        slots=config.slots,
        guesses=config.guess_count,
        control_slots=config.slots,
        control_guesses=config.guess_count,
        references=config.references,
        negatives=config.controls,
        pilots=config.pilots,
    )


def _plan(declared: Declaration, ids: Sequence[str], model: Path | None, secrets: Secrets, sizes: Sizes) -> Plan:
    """Return the plan for coins, all but its seed commitment."""
    config, key = declared.audit, secrets.request_key(ids)
    if config.sequential:
        raise ConfigError(
            f"{declared.path}: [audit] sequential = true; models that are made elsewhere are handed in all at once, so "
            "leave it out"
        )
    public = commit(ids, key, pad_to=config.pad_request)
    if config.original == "fixed" or config.reference == "retrain+noop":
        raise ConfigError(
            f"{declared.path}: [audit] original = {config.original!r}, reference = {config.reference!r}; scores "
            "that are handed in need a fresh original for each slot and plain retrains ('redrawn', 'retrain')"
        )
    return Plan(
        subjects=(declared.subject(model),),
        questions=config.questions,
        alpha_total=config.alpha,
        detect_eps=config.detect_eps,
        sizes=sizes,
        request_root=public.root,
        request_size=public.size,
        request_least=public.least,
        recipe=declared.recipe_digest,
        data=declared.data_commitment(key),
        attempt=config.attempt,
        direction=config.direction,
        score=config.score,
    )


def hand_out(path: Path, forget: Path, *, model: Path | None = None, out: Path) -> Order:
    """Fix the plan of models that will be made elsewhere, and write their work order.

    Args:
        path: The plan file (:func:`cu_cert.declared.load_declaration`).
        forget: The list of ids; the scores must call the records so.
        model: The audited file, when there is one already.
        out: Folder for ``plan.json`` and ``models.csv``.

    Raises:
        CuCertError: The plan file or the list is wrong, or the sizes can refute nothing.
    """
    declared = load_declaration(path)
    listed = read_ids(forget)
    ids = sorted({entry.id for entry in listed.entries})
    secrets = _secrets(declared)
    plan, seed = secrets.commit(_plan(declared, ids, model, secrets, _coin_sizes(declared)))
    require_plan(listed_index(listed), plan, declared.signing, [out])
    problems = plan.problems() or plan.underpowered()
    if problems:
        raise ConfigError(f"{path}: an audit of this size cannot show enough: {'; '.join(problems)}")
    make_folder(out)
    secrets.register(plan.digest)
    write_changed(out / "plan.json", plan.to_bytes(), what="plan")
    order = order_csv(plan, seed)
    write_changed(out / "models.csv", order, what="work order")
    secrets.hand_out(plan.digest)
    return Order(plan=plan, folder=out, models=order.count(b"\n") - 1)


def audit_scores(
    scores: Path,
    path: Path,
    *,
    model: Path | None = None,
    out: Path,
    key: SigningKey | None,
    allow_underpowered: bool = False,
) -> Judged:
    """Judge models by scores that were made elsewhere, and write their certificate.

    Args:
        scores: The scores file.
        path: The plan file.
        model: The audited file; only its digest is taken.
        out: Folder of the certificate.
        key: The signing key; ``None`` for an unsigned draft.
        allow_underpowered: Go on with sizes that do not reach the planned power.

    Raises:
        CuCertError: A file is wrong, or does not fit the plan that was handed out.
    """
    declared = load_declaration(path)
    try:
        table = read_scores(scores, signal=declared.outside.signal)
    except AttackError as problem:
        raise DataError(str(problem)) from None
    ids = [name for name, asked in zip(table.records, table.request, strict=True) if asked]
    secrets = _secrets(declared)
    plan, seed = secrets.commit(_plan(declared, ids, model, secrets, _coin_sizes(declared)))
    tasks = list(work_order(plan, seed))
    named = bool({task.model for task in tasks} & set(table.models) - {"subject"})
    coins = named and plan.digest in secrets.handed_out()
    if not coins:
        if named:
            raise DataError(
                f"{scores}: its models have the names of a work order, but the plan of {path} with these "
                f"{len(ids)} records is not the one that was handed out (cu-cert plan); its [audit], [outside], "
                "request or audited file differs. Restore what was changed, or give the models names of their own: "
                "they are then judged after the fact"
            )
        plan, seed = secrets.commit(_after_the_fact(plan, table, path))
        tasks = _found(plan, seed, table)
    weak = plan.problems() or ([] if allow_underpowered else plan.underpowered())
    if weak:
        raise ConfigError(
            f"{path}: an audit of this size cannot show enough: {'; '.join(weak)}; or pass --allow-underpowered where "
            "only the power is short"
        )
    asked = index_of(ids, f"a record of {scores.name} in the request")
    require_plan(asked, plan, declared.signing, [out])
    try:
        findings = _findings(Evidence(plan, seed, table, tasks, scores), declared)
        make_folder(out)
        secrets.register(plan.digest)
        write_changed(out / "plan.json", plan.to_bytes(), what="plan")
        kept, padded = secrets.request_key_name(ids), plan.padded_to
        write_private(out / "private", ids, secrets.request_key(ids), seed, kept=kept, padded=padded)
        issued = write_certificate(
            out,
            findings,
            plan,
            _scope(declared, plan, coins),
            signing=declared.signing,
            key=key,
            secrets=secrets,
            forget=asked,
        )
    except (AttackError, Rejected) as problem:
        raise DataError(f"{scores}: nothing was signed: {problem}") from None
    return Judged(plan=plan, issued=issued, coins=coins)


def _after_the_fact(plan: Plan, table: Scores, path: Path) -> Plan:
    """Return the plan that the pools at hand allow: two pools instead of coins, and their sizes as they are."""
    sizes = {name: len(table.pool(name)) for name in set(table.pools)}
    have = {name: sizes.get(name, 0) for name in ("pilot-original", "pilot-retrained", "reference", "subject")}
    originals = sizes.get("original", 0) if sizes.get("original", 0) >= 4 else 0  # fewer cannot be halved
    pilots = min(have["pilot-original"], have["pilot-retrained"] // 2)
    if "procedure" in plan.questions and min(sizes.get("unlearned", 0), sizes.get("retrained", 0)) < 4:
        raise DataError(
            f"{path}: the procedure question needs at least 4 models in each of the pools unlearned and retrained; "
            f"found {sizes.get('unlearned', 0)} and {sizes.get('retrained', 0)}. For one model alone ask "
            '[audit] questions = ["artifact"]'
        )
    if "artifact" in plan.questions and (have["subject"] != 1 or not have["reference"] or pilots < 2):
        raise DataError(
            f"{path}: the artifact question needs one model in the pool subject, references, and pilots that fit the "
            f"score (2 or more pilot-original, twice as many pilot-retrained); found {have}"
        )
    return replace(
        plan,
        designs={**DEFAULT_DESIGNS, "procedure": "pools"},
        score=plan.score if pilots >= 2 else "calibrated",
        sizes=replace(
            plan.sizes,
            references=max(have["reference"], 1),
            negatives=max(sizes.get("reference-rerun", 0), 1),
            pilots=max(pilots, 2),
        ),
        extra={
            "procedure": {
                "unlearned": sizes.get("unlearned", 0),
                "retrained": sizes.get("retrained", 0),
                "originals": originals,
                "reruns": sizes.get("rerun", 0),
            }
        },
    )


def _found(plan: Plan, seed: bytes, table: Scores) -> list[Task]:
    """Return the models at hand as tasks, numbered in the order of their names."""
    calibrate = {pool: calibrating(seed, plan.digest, "", pool, len(table.pool(pool))) for pool, _, _ in HALVED}
    places = {
        "rerun": ("negative", "rerun"),
        "subject": ("subject", "subject"),
        "reference": ("reference", "retrained"),
        "reference-original": ("reference-positive", "original"),
        "reference-rerun": ("reference-negative", "rerun"),
        "pilot-original": ("pilots", "original"),
        "pilot-retrained": ("pilots", "retrained"),
    }
    tasks = []
    for pool in sorted(set(table.pools)):
        for slot, row in enumerate(table.pool(pool)):
            if pool in calibrate:
                if len(table.pool(pool)) < 4:
                    continue  # too few originals to be halved: there is no positive control then
                group = f"{'calibration' if slot in calibrate[pool] else 'main'} {pool}"
                tasks.append(Task(table.models[row], pool, group, slot, pool, ""))
            elif not pool.startswith("pilot-") or slot < plan.sizes.pilots * (1 + (pool == "pilot-retrained")):
                group, role = places[pool]
                tasks.append(Task(table.models[row], pool, group, slot, role, ""))
    return tasks


def _findings(evidence: Evidence, declared: Declaration) -> Findings:
    """Turn scores into evidence, claims and plots."""
    plan, subject = evidence.plan, evidence.plan.subjects[0]
    score = evidence.fit()
    files: dict[tuple[str, str, str, str], bytes] = {("plan", "plan", "plan.json", "public"): plan.to_bytes()}
    node, fitted = Node(plan.to_json(), "plan"), plan.score in FITTED
    judged = [DESIGNS[question][plan.designs[question]].evidence for question in plan.questions]
    # Where a half that is not counted fits the score, the table of the pools itself shows that no model does both.
    claims: list[Claim] = model_claims(subject, judged)[: 2 if fitted else 1]
    plots: dict[str, Plot | None] = {}
    pilots: PilotTable | None = None
    if fitted:
        lines = [canonical(evidence.line(score, task)) + b"\n" for task in evidence.of("pilots")]
        files["pilots", "pilots", "evidence/pilots.jsonl", "controlled"] = b"".join(lines)
        pilots = read_pilots(rows(b"".join(lines), "pilots.jsonl"), "pilots.jsonl", plan.sizes.pilots)
    if "procedure" in plan.questions:
        halves = [f"{half} {role}" for role, _, _ in HALVED for half in ("calibration", "main")]
        tasks = evidence.of("main", "positive", "negative", *halves)
        data = evidence.file([evidence.line(score, task) for task in tasks])
        name = DESIGNS["procedure"][plan.designs["procedure"]].evidence
        files[name, name, f"evidence/{name}.jsonl", "controlled"] = data
        if name == "pools":
            pools = read_pools(data, "pools.jsonl", plan=node, plan_digest=plan.digest)
            claims += pool_claims(pools, plan, subject)
            both = plan.direction == "both"
            claims += pools_beside(pools, threshold_of(pools, plan.share(), subject.tested_delta, both=both))
            plots["procedure"] = _pools_plot(pools, declared.outside.method)
        else:
            slots = read_slots(data, "slots.jsonl", plan=node, plan_digest=plan.digest, identity=False)
            claims += procedure_claims(slots, plan, subject)
            assert pilots is not None  # coins need pilots
            claims += [*two_pool_claims(slots, pilots.middle(), subject.tested_delta), *slots_beside(slots, pilots)]
            plots["procedure"] = procedure_plot(slots, declared.outside.method)
        claims += evidence.compare(files)
    if "artifact" in plan.questions:
        (own,) = evidence.of("subject")
        if not evidence.usable(own):
            raise DataError(
                f"{evidence.path}: the audited model (pool subject) is missing or has values that are not finite"
            )
        head = {"kind": "subject", "file": subject.model, **evidence.numbers(score, own)}
        tasks = evidence.of("reference", "reference-positive", "reference-negative")
        data = evidence.file([head, *(evidence.line(score, task) for task in tasks)])
        files["artifact", "artifact", "evidence/artifact.jsonl", "controlled"] = data
        artifact = read_artifact(data, "artifact.jsonl", plan=node)
        claims += artifact_claims(artifact, plan, subject)
        plots["artifact"] = artifact_plot(artifact, subject.name)
        panel, roc = _panel(evidence, own)
        claims += panel
        plots["roc"] = roc
    plots["eps"] = eps_plot(claims, f"{float(subject.tested_eps):.4f}")
    found = Findings(
        subject=subject,
        source="declared",
        claims=claims,
        plots={name: plot for name, plot in plots.items() if plot is not None},
        evidence=files,
    )
    return without_size(found, plan)


def _pools_plot(table: PoolTable, method: str) -> Plot | None:
    groups = (
        ("retrained without the request", "retrained", table.retrained),
        (f"unlearned by {method}", "unlearned", table.unlearned),
        ("original (positive control)", "original", table.original),
    )
    return pools_plot(
        "Scores of the models that are counted",
        [(label, role, [m.score for m in pool if m.score is not None]) for label, role, pool in groups],
    )


def _panel(evidence: Evidence, own: Task) -> tuple[list[Claim], Plot | None]:
    """Show the per-record attacks on the audited model, where the signal is what they are made for."""
    table = evidence.table
    shadows = [task for task in evidence.of("reference") if evidence.usable(task)]
    order = np.argsort(~table.request, kind="stable")  # request first
    size = int(table.request.sum())
    if table.signal != "margin" or len(shadows) < 2 or min(size, len(order) - size) < 2:
        return [], None

    def signals(task: Task) -> Signals:
        margin = table.values[evidence.row[task.model]][order]
        return Signals(margin, margin > 0)

    return attack_panel(signals(own), [signals(task) for task in shadows], size)


def _scope(declared: Declaration, plan: Plan, coins: bool) -> Scope:
    own = declared.outside
    return Scope(
        data={
            "source": own.data,
            "records": own.trained + own.held_out,
            "trained": own.trained,
            "heldOut": own.held_out,
            "digest": {"sha256": plan.data},
        },
        recipe={"name": own.recipe, "digest": {"sha256": plan.recipe}, "parameters": {}},
        request=ForgetRequest(
            scenario="sample", root=plan.request_root, size=plan.request_size, least=plan.request_least
        ),
        environment={"models": "made elsewhere"},
        access="black-box",
        limitations=[*([] if coins else [AFTER_THE_FACT]), HANDED_IN, *withheld(plan)],
    )
