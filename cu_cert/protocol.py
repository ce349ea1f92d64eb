"""The audit: plan, train, measure, claim, sign. The protocol, in the order in which it must happen.

1. The plan is written and hashed: subjects, guarantee under test, levels, sizes, seed commitment.
2. Only then do coins and training seeds exist, derived from the committed seed and the plan's digest.
3. The score is fitted on pilots, which are neither judged nor ranked, and frozen.
4. Slots, references and controls are trained, measured and scored.
5. Claims are built from the evidence, re-derived by the checker, and signed.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cu_attacks._combined import CombinedScore
from cu_attacks._model_scores import ModelScore
from cu_attacks._types import AttackError
from cu_cert.data import Dataset, load_records
from cu_cert.errors import ConfigError, DataError
from cu_cert.findings import findings_of
from cu_cert.fleet.engine import cohort_size, training_device
from cu_cert.fleet.environment import fingerprint, single_threaded
from cu_cert.fleet.executor import Executor
from cu_cert.fleet.executors import executor_spec, make_executor
from cu_cert.fleet.plan import Member, fleet_plan
from cu_cert.fleet.store import Store
from cu_cert.fleet.train import train_fleet
from cu_cert.fleet.worker import Workshop
from cu_cert.forecast import Forecast, forecast, planned_models, shrink, smallest_sizes
from cu_cert.forget import ResolvedRequest, listed_index, read_ids, resolve_request
from cu_cert.issue import Scope, signing_key, write_certificate
from cu_cert.naming_nobody import require_plan
from cu_cert.padding import withheld
from cu_cert.pools import Bench, Pools, Seeds
from cu_cert.project import Project, find_project, load_project
from cu_cert.secrets_store import FOLDER, Secrets, write_private
from cu_cert.sequential import SlotSequence, first_members, is_sequential, run_sequences
from cu_cert.shadows import read_shadows
from cu_cert.sharing import Borrowing, Sharing
from cu_cert.subjects import SubjectInput, draft_plan, measure_subject, name_method
from cu_certificates._files import make_folder
from cu_certificates.check.strict import Rejected
from cu_certificates.keys import LocalKey
from cu_certificates.plan import Plan
from cu_certificates.request import ForgetRequest
from cu_certificates.seal import Issued, write_changed

_UNASKED = (
    "the procedure question is not asked: no method is known or wanted; the certificate says so (--method names one)"
)

Say = Callable[[str], None]

DEFAULT_OUT = Path("audit-out")

SAMPLE_DATA = "L12"
"""The limitation of results on the built-in data."""

STOPPED_EARLY = "L14"
"""The limitation of slots that were judged one after another."""

ONE_LAW = "A19"
"""The assumption that models trained together follow the law of models trained alone."""


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What an audit ends with.

    Args:
        plan: The plan.
        forecast: What it was expected to take.
        issued: One set of files a subject; empty after a dry run.
        key: The signing key, ``None`` for drafts and dry runs.
        trained: Models that were trained now.
    """

    plan: Plan
    forecast: Forecast
    issued: tuple[Issued, ...]
    key: LocalKey | None
    trained: int


def audit(
    model: Path,
    forget: Path,
    *,
    project: Project | None = None,
    method: str | None = None,
    options: Mapping[str, object] | None = None,
    procedure: bool = True,
    original: Path | None = None,
    out: Path = DEFAULT_OUT,
    budget: int | None = None,
    key: Path | None = None,
    passphrase: bytes | None = None,
    sign: bool = True,
    dry_run: bool = False,
    plan_only: bool = False,
    allow_missing: bool = False,
    allow_underpowered: bool = False,
    executor: str | None = None,
    quiet: bool = False,
    say: Say = print,
) -> Audited:
    """Audit one model file against a request and write its certificate, report and evidence.

    Args:
        model: The model under audit.
        forget: The list of ids.
        project: Data, recipe, sizes and levels; default the ``cu-cert.toml`` of the working directory or above.
        method: The method said to have made the model; default what sidecar or project say.
        options: The method's options.
        procedure: Whether the procedure question may be asked.
        original: The model before unlearning, shown beside it in the attacks panel.
        out: Folder of the certificate.
        budget: Train at most this many models.
        key: Private key that signs.
        passphrase: The passphrase of a protected key.
        sign: Whether to sign; without, an unsigned draft is written.
        dry_run: Stop after plan and forecast.
        plan_only: Stop there, too, but write the plan, whose digest can then be made known before anything is trained.
        allow_missing: Count ids that are not in the data instead of refusing them.
        allow_underpowered: Go on with sizes that do not reach the planned power.
        executor: Who trains: ``local``, ``ray`` or ``ray:ADDRESS``; default what ``CU_CERT_EXECUTOR`` says, else
            ``local``. It changes nothing in the certificate.
        quiet: Show no progress.
        say: Receives the lines of plan and forecast.

    Returns:
        The certificate and how it came about.

    Raises:
        CuCertError: Something the user gave is wrong, or the run was interrupted.
        CertificateError: A key or the plan is wrong.
    """
    subject = SubjectInput(model=model, out=out, method=method, options=options, procedure=procedure, original=original)
    return audit_subjects(
        project or load_project(find_project(Path.cwd())),
        [subject],
        forget,
        budget=budget,
        key=key,
        passphrase=passphrase,
        sign=sign,
        dry_run=dry_run,
        plan_only=plan_only,
        allow_missing=allow_missing,
        allow_underpowered=allow_underpowered,
        executor=executor,
        quiet=quiet,
        say=say,
    )


def audit_subjects(
    project: Project,
    subjects: Sequence[SubjectInput],
    forget: Path,
    *,
    budget: int | None = None,
    key: Path | None = None,
    passphrase: bytes | None = None,
    sign: bool = True,
    dry_run: bool = False,
    plan_only: bool = False,
    allow_missing: bool = False,
    allow_underpowered: bool = False,
    executor: str | None = None,
    quiet: bool = False,
    say: Say = print,
) -> Audited:
    """Audit models against one request, under one plan and with one fleet.

    Args:
        project: Data, recipe, sizes and levels.
        subjects: The models; several share all models but those that their own methods make.
        forget: The list of ids.
        budget: Train at most this many models; sizes shrink to fit, never below what the plan needs.
        key: Private key that signs; default the project's, else the user's own.
        passphrase: The passphrase of a protected key.
        sign: Whether to sign; without, unsigned drafts are written.
        dry_run: Stop after plan and forecast.
        plan_only: Stop there, too, but write the plan, whose digest can then be made known before anything is trained.
        allow_missing: Count ids that are not in the data instead of refusing them.
        allow_underpowered: Go on with sizes that do not reach the planned power; the verdict is then at best
            INCONCLUSIVE.
        executor: Who trains: ``local``, ``ray`` or ``ray:ADDRESS``; default what ``CU_CERT_EXECUTOR`` says, else
            ``local``.
        quiet: Show no progress.
        say: Receives the lines of the plan and forecast.

    Returns:
        The certificates and how they came about.

    Raises:
        CuCertError: Something the user gave is wrong, or the run was interrupted.
        CertificateError: A key or the plan is wrong.
    """
    single_threaded()
    spec = executor_spec(executor)
    signer = signing_key(project.key_path(), key, passphrase) if sign and not (dry_run or plan_only) else None
    dataset = load_records(project.data, project.root)
    listed = read_ids(forget)
    request = resolve_request(listed, dataset, allow_missing=allow_missing)
    workshop = workshop_of(project, dataset, request)
    secrets = Secrets(project.root / FOLDER, keep=not dry_run)
    named = [name_method(project, subject) for subject in subjects]
    plan, request_key = draft_plan(project, subjects, named, workshop, request, secrets)
    cohort = cohort_size(workshop.recipe, project.audit.engine)
    if budget is not None:
        plan = fit_budget(plan, budget, project.audit.shadows, cohort if project.audit.share_originals else 1)
    _check_sizes(plan, allow_underpowered, project)
    for line in require_plan(listed_index(listed), plan, project.signing, [subject.out for subject in subjects]):
        say(line)
    plan, seed = secrets.commit(plan)
    loaded = [measure_subject(workshop, subject) for subject in subjects]
    pools = Pools(
        plan,
        Seeds(seed, plan.digest),
        Seeds(secrets.pilot_seed(plan), ""),
        {subject.name: one.way for subject, one in zip(plan.subjects, named, strict=True) if one.way is not None},
        cohort,
    )
    borrowing = Borrowing.of(
        pools, workshop, secrets, request.ids, share=project.audit.share_originals, shadows=project.audit.shadows
    )
    pools = borrowing.preview(pools)
    shadows = borrowing.release.shadows(project.audit.shadows)
    expected = forecast(plan, pools, workshop, project.audit.workers, shadows)
    for line in expected.lines(plan):
        say(line)
    if "procedure" in project.audit.questions and "procedure" not in plan.questions:
        say(_UNASKED)
    if dry_run:
        return Audited(plan=plan, forecast=expected, issued=(), key=None, trained=0)

    for subject in subjects:
        make_folder(subject.out)
    secrets.register(plan.digest)
    for subject in subjects:
        write_changed(subject.out / "plan.json", plan.to_bytes(), what="plan")
        if plan_only:
            continue
        kept, padded = secrets.request_key_name(request.ids), plan.padded_to
        write_private(subject.out / "private", request.ids, request_key, seed, kept=kept, padded=padded)
    if plan_only:
        return Audited(plan=plan, forecast=expected, issued=(), key=None, trained=0)
    pools, use = borrowing.enter(pools, workshop)
    bench = Bench(workshop)
    issued: list[Issued] = []
    try:
        with Store(workshop.store).hold("audit"):  # so that nothing is cleaned up before it was read
            with make_executor(spec, workshop, project.audit.workers) as crew:
                score, opened, trained = _make(pools, shadows, bench, crew, quiet=quiet, say=say)
            scope = with_engine(scope_of(project, dataset, workshop, request, plan), pools.cohort, workshop.device)
            halves = read_shadows(workshop, shadows) if shadows else None
            for line in halves.lines() if halves is not None else ():
                say(line)
            sharing = Sharing.of(pools, workshop, borrowing.release, use, borrowing.ledger.read())
            for given, planned, name, own in zip(subjects, plan.subjects, named, loaded, strict=True):
                findings = findings_of(bench, pools, score, planned, name.source, own, opened.get(planned.name), halves)
                issued.append(
                    write_certificate(
                        given.out,
                        findings,
                        plan,
                        scope,
                        signing=project.signing,
                        key=signer.key if signer else None,
                        secrets=secrets,
                        forget=listed_index(listed),
                        share=sharing.enter,
                    )
                )
    except (AttackError, Rejected) as problem:
        raise DataError(f"{subjects[len(issued)].model}: nothing was signed: {problem}") from None
    return Audited(plan=plan, forecast=expected, issued=tuple(issued), key=signer, trained=trained)


def _make(
    pools: Pools, shadows: Sequence[Member], bench: Bench, crew: Executor, *, quiet: bool, say: Say
) -> tuple[ModelScore, Mapping[str, SlotSequence], int]:
    """Train what a plan needs and fit the frozen score; where slots are judged one after another, judge them.

    Returns:
        The score, the sequences by subject name (none where all slots are judged at once), and how many models were
        trained now.
    """
    early = is_sequential(pools.plan)
    members = [*shadows, *(first_members(pools) if early else pools.members())]
    trained = train_fleet(fleet_plan(members), bench.workshop, executor=crew, what="training", quiet=quiet)
    score = bench.fit(pools)
    if not early:
        return score, {}, trained
    assert isinstance(score, CombinedScore)  # [audit] takes no other where slots are judged one by one
    opened, more = run_sequences(pools, bench, score, executor=crew, quiet=quiet, say=say)
    return score, opened, trained + more


def workshop_of(project: Project, dataset: Dataset, request: ResolvedRequest) -> Workshop:
    """Return what the fleet of a project and request is made with."""
    return Workshop(
        recipe_digest=project.make_recipe().digest,
        recipe_name=project.training.recipe,
        recipe_options=dict(project.training.options),
        root=str(project.root),
        train=dataset.train,
        held_out=dataset.held_out,
        forget=request.ids,
        store=project.store_path(os.environ),
        device=training_device(project.audit.device),
    )


def _check_sizes(plan: Plan, allow_underpowered: bool, project: Project) -> None:
    where = project.where("audit")
    problems, weak = plan.problems(), plan.underpowered()
    if not problems and (allow_underpowered or not weak):
        return
    least = ", ".join(f"{key} = {size}" for key, size in smallest_sizes(plan).items())
    enough = f"; the smallest sizes that do: {least}" if least else "; no size does"
    if problems:
        raise ConfigError(f"{where}: an audit of this size cannot show enough: {'; '.join(problems)}{enough}")
    raise ConfigError(
        f"{where}: {'; '.join(weak)}{enough}; or pass --allow-underpowered to go on (the verdict is then REFUTED or "
        "INCONCLUSIVE, never NOT_REFUTED)"
    )


def scope_of(project: Project, dataset: Dataset, workshop: Workshop, request: ResolvedRequest, plan: Plan) -> Scope:
    """Return what a certificate of this project and request speaks about besides its subject."""
    return Scope(
        data={
            "source": _source_name(project.data.source),
            "records": len(dataset.records),
            "trained": len(dataset.train),
            "heldOut": len(dataset.holdout),
            "digest": {"sha256": plan.data},
        },
        recipe={
            "name": workshop.recipe.name,
            "digest": {"sha256": workshop.recipe.digest},
            "parameters": dict(workshop.recipe.parameters),
        },
        request=ForgetRequest(
            scenario="sample",
            root=plan.request_root,
            size=plan.request_size,
            least=plan.request_least,
            allowed_missing=request.missing,
        ),
        asked=project.unlearning.dates(),
        environment=fingerprint(),
        limitations=(
            *((SAMPLE_DATA,) if project.data.source == "digits" else ()),
            *((STOPPED_EARLY,) if is_sequential(plan) else ()),
            *withheld(plan),
        ),
    )


def with_engine(scope: Scope, cohort: int, device: str) -> Scope:
    """Return the scope with a word on how the fleet was trained: no part of the plan, since it changes no law.

    Args:
        scope: What the certificate speaks about.
        cohort: Most models that were trained in one program; 1 where each was trained alone.
        device: Where cohorts were trained.
    """
    if cohort == 1:
        return replace(scope, environment={**scope.environment, "engine": "single"})
    engine = f"vectorised, up to {cohort} models in one program, {device}"
    assumptions = (*scope.assumptions, ONE_LAW)
    return replace(scope, environment={**scope.environment, "engine": engine}, assumptions=assumptions)


def _source_name(source: str) -> str:
    """Return the source without its folders, which may hold names of people or customers."""
    return source if source.startswith("python:") else Path(source).name


def fit_budget(plan: Plan, budget: int, shadows: int = 0, cohort: int = 1) -> Plan:
    """Shrink slots and references in equal parts until at most ``budget`` models are planned.

    Raises:
        ConfigError: The smallest audit that can refute needs more.
    """
    least = smallest_sizes(plan)
    while (needed := planned_models(plan, cohort) + shadows) > budget:
        smaller = shrink(plan, least)
        if smaller is None:
            raise ConfigError(
                f"--budget {budget}: the smallest audit that reaches its power needs up to {needed} models; raise the "
                "budget, or plan fewer pilots, controls or shadows in [audit]"
            )
        plan = smaller
    return plan
