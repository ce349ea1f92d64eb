"""Making the models of a release before the first request comes: what there will be, what it takes, and making it.

Nothing here knows a request, so nothing here is entered in the ledger of uses; plans are lent the models later.
"""

import os
from dataclasses import dataclass, replace
from math import isqrt
from typing import Final

from cu_cert.data import load_records
from cu_cert.errors import ConfigError
from cu_cert.fleet.engine import cohort_size, training_device
from cu_cert.fleet.environment import single_threaded
from cu_cert.fleet.executors import executor_spec, make_executor
from cu_cert.fleet.local import cores
from cu_cert.fleet.plan import FleetPlan, fleet_plan
from cu_cert.fleet.progress import clock
from cu_cert.fleet.store import Store
from cu_cert.fleet.train import train_fleet
from cu_cert.fleet.worker import Workshop
from cu_cert.forecast import model_bytes
from cu_cert.project import Project
from cu_cert.release import Release
from cu_cert.secrets_store import FOLDER, Secrets

MOST: Final = 10**5


@dataclass(frozen=True, kw_only=True)
class ReleasePlan:
    """What the fleet of a release will hold, and what is left to make.

    Args:
        release: Name of the release; ``None`` while the project's secret, from which it derives, was not drawn.
        recipe: Name of the recipe.
        records: Training records.
        engine: ``vectorised`` or ``single``.
        device: Where cohorts are trained.
        cohort: Most models that are trained in one program.
        shadows: Models of random halves of all records.
        pilots: Originals on which scores will be fitted.
        judged: Originals that scores will judge.
        models: Models that will be there, those included that fill up cohorts.
        finished: How many of them are in the store.
        seconds: CPU-seconds for the others; ``None`` when no model of this recipe was ever timed.
        workers: Processes.
        megabytes: Disk for the others.
    """

    release: str | None
    recipe: str
    records: int
    engine: str
    device: str
    cohort: int
    shadows: int
    pilots: int
    judged: int
    models: int
    finished: int
    seconds: float | None
    workers: int
    megabytes: float

    @property
    def left(self) -> int:
        """Models that are left to make."""
        return self.models - self.finished

    @property
    def wall(self) -> float | None:
        """Seconds that the others take with all processes; ``None`` when no model was ever timed."""
        return None if self.seconds is None else self.seconds / self.workers

    def lines(self) -> list[str]:
        """Say what will be there and what it takes, one line each."""
        together = f"up to {self.cohort} in one program" if self.cohort > 1 else "one after another"
        name = "a new release" if self.release is None else f"release {self.release[:16]}"
        found = [
            f"{name}: recipe {self.recipe} on {self.records} records; engine {self.engine} "
            f"({together}), device {self.device}",
            f"{self.shadows} shadows, {self.pilots} originals that fit scores, {self.judged} that scores judge",
            f"{self.models} models, {self.finished} of them in the store, {self.left} to make",
        ]
        if self.left:
            time = "time unknown until the first model is done"
            if self.seconds is not None and self.wall is not None:
                processes = "1 process" if self.workers == 1 else f"{self.workers} processes"
                time = f"{clock(self.seconds)} of CPU, {clock(self.wall)} with {processes}"
            found.append(f"{time}; {self.megabytes:.0f} MB of disk")
        return found

    def to_json(self) -> dict[str, object]:
        """Return the same for a program; seconds are rounded up to whole ones."""
        return {
            "release": self.release,
            "recipe": self.recipe,
            "records": self.records,
            "engine": self.engine,
            "device": self.device,
            "cohort": self.cohort,
            "shadows": self.shadows,
            "originals": {"pilots": self.pilots, "judged": self.judged},
            "models": self.models,
            "finished": self.finished,
            "left": self.left,
            "cpuSeconds": None if self.seconds is None else -int(-self.seconds // 1),
            "wallSeconds": None if self.wall is None else -int(-self.wall // 1),
            "workers": self.workers,
            "megabytes": -int(-self.megabytes // 1),
        }


def usual_originals(project: Project) -> int:
    """Return how many judged originals one audit of the configured sizes takes, but for one audit in fifty.

    A fair coin for each slot decides whether it takes one: half of the slots and two standard deviations more. The
    artifact question takes another.
    """
    config = project.audit
    asked = 0
    if "procedure" in config.questions and config.original == "redrawn":
        asked = min(config.slots, config.slots // 2 + isqrt(config.slots) + 1)
    return asked + ("artifact" in config.questions)


@dataclass(frozen=True)
class _Stock:
    """The fleet of a release as the executor takes it."""

    workshop: Workshop
    release: Release
    plan: FleetPlan
    summary: ReleasePlan


def _stock(project: Project, *, originals: int | None, shadows: int | None, keep: bool) -> _Stock:
    config = project.audit
    for name, given in (("--originals", originals), ("--shadows", shadows)):
        if given is not None and not 0 <= given <= MOST:
            raise ConfigError(f"{name} {given}: expected 0 to {MOST}")
    halves = config.shadows if shadows is None else shadows
    if halves % 2:
        raise ConfigError(f"--shadows {halves}: expected an even number, since each half has its counterpart")
    share = config.share_originals
    if originals and not share:
        raise ConfigError(
            f"{project.where('audit', 'share_originals')}: share_originals = false, so no audit would use them; leave "
            "--originals out, or set it to true"
        )
    judged = (usual_originals(project) if originals is None else originals) if share else 0
    pilots = config.pilots if share else 0
    dataset = load_records(project.data, project.root)
    recipe = project.make_recipe()
    workshop = Workshop(
        recipe_digest=recipe.digest,
        recipe_name=project.training.recipe,
        recipe_options=dict(project.training.options),
        root=str(project.root),
        train=dataset.train,
        held_out=dataset.held_out,
        forget=(),
        store=project.store_path(os.environ),
        device=training_device(config.device),
    )
    cohort = cohort_size(recipe, config.engine)
    secrets = Secrets(project.root / FOLDER, keep=keep)
    named = keep or secrets.drawn
    release = Release.of(workshop, secrets, cohort)
    members = (*release.pilots(pilots), *release.judged(range(judged)), *release.shadows(halves))
    plan = fleet_plan(members)
    summary = ReleasePlan(
        release=release.name if named else None,
        recipe=recipe.name,
        records=len(dataset.train),
        engine="vectorised" if cohort > 1 else "single",
        device=workshop.device,
        cohort=cohort,
        shadows=halves,
        pilots=pilots,
        judged=judged,
        models=0,
        finished=0,
        seconds=None,
        workers=1,
        megabytes=0.0,
    )
    return _Stock(workshop, release, plan, _counted(summary, plan, workshop, config.workers))


def _counted(summary: ReleasePlan, plan: FleetPlan, workshop: Workshop, workers: int) -> ReleasePlan:
    """Return the summary with what is there and what is left to make."""
    store = Store(workshop.store)
    members = [member for group in plan.groups for member in group]
    entries = [store.peek(workshop.identity.key(member)) for member in members]
    timed = [entry.seconds for entry in entries if entry is not None and not entry.problem]
    each = sum(timed) / len(timed) if timed else store.typical_seconds(workshop.recipe.digest)
    left = entries.count(None)
    groups, at = 0, 0
    for group in plan.groups:
        groups += None in entries[at : at + len(group)]
        at += len(group)
    return replace(
        summary,
        models=len(members),
        finished=len(members) - left,
        seconds=0.0 if not left else None if each is None else left * each,
        workers=min(workers or cores(), max(groups, 1)),
        megabytes=left * model_bytes(workshop) / 1e6,
    )


def plan_release(project: Project, *, originals: int | None = None, shadows: int | None = None) -> ReleasePlan:
    """Say what the fleet of a project's release will hold and what is left to make; writes nothing.

    Args:
        project: Data, recipe and sizes.
        originals: Judged originals; default what one audit of the configured sizes takes.
        shadows: Shadows, even; default ``[audit] shadows``.

    Raises:
        ConfigError: A number is out of range.
    """
    return _stock(project, originals=originals, shadows=shadows, keep=False).summary


@dataclass(frozen=True, kw_only=True)
class StockedRelease:
    """What :func:`train_release` ends with.

    Args:
        plan: What is there now.
        trained: Models that were made now.
        failed: Models of the release whose training failed; plans that are lent them count them as failed.
    """

    plan: ReleasePlan
    trained: int
    failed: int


def train_release(
    project: Project,
    *,
    originals: int | None = None,
    shadows: int | None = None,
    executor: str | None = None,
    quiet: bool = False,
) -> StockedRelease:
    """Make the models of a project's release, so that the first request already finds them.

    Args:
        project: Data, recipe and sizes.
        originals: Judged originals; default what one audit of the configured sizes takes.
        shadows: Shadows, even; default ``[audit] shadows``.
        executor: ``local``, ``ray`` or ``ray:ADDRESS``; default what ``CU_CERT_EXECUTOR`` says, else ``local``.
        quiet: Show no progress.

    Raises:
        ConfigError: A number is out of range, or the executor is unknown.
        Interrupted: The run was stopped; finished models are kept, and the same command goes on.
    """
    single_threaded()
    stock = _stock(project, originals=originals, shadows=shadows, keep=True)
    workshop, workers = stock.workshop, project.audit.workers
    with make_executor(executor_spec(executor), workshop, workers) as crew:
        trained = train_fleet(stock.plan, workshop, executor=crew, what="training the release", quiet=quiet)
    store = Store(workshop.store)
    entries = [store.entry(workshop.identity.key(member)) for group in stock.plan.groups for member in group]
    timed = [entry.seconds for entry in entries if entry is not None and not entry.problem]
    if timed:
        store.note_seconds(workshop.recipe.digest, sum(timed) / len(timed))
    return StockedRelease(
        plan=_counted(stock.summary, stock.plan, workshop, workers),
        trained=trained,
        failed=sum(entry is not None and bool(entry.problem) for entry in entries),
    )
