"""The driver of a fleet: what is made when, in which portions, and what becomes of trouble; where, an executor decides.

Groups that are not finished are made in the order of the plan, parents before children. A task holds as many of them as
take about a second, fewer towards the end, so that handing tasks over costs little and no worker is idle at last. None
of this can be seen in the models: their bits depend on the plan alone.
"""

import heapq
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cu_cert.errors import DataError, EnvironmentProblem, Interrupted
from cu_cert.fleet.costs import MEASURE, Costs, work_of
from cu_cert.fleet.executor import Done, Executor, Group
from cu_cert.fleet.local import LocalExecutor
from cu_cert.fleet.plan import FleetPlan, Member
from cu_cert.fleet.progress import Progress
from cu_cert.fleet.store import Claims, Store
from cu_cert.fleet.worker import Workshop
from cu_certificates.errors import UsageError

_LONGEST: Final = 1.0
"""Seconds of a task: a thousand times what handing one to a process takes, and a hundred times what a cluster takes."""

_SHORTEST: Final = 0.05
"""Seconds of a task at the end, when shorter ones would cost more than they balance."""

_AHEAD: Final = 2
"""Tasks that an executor is given for each of its workers: one to do, and one to go on with."""

_LOOK: Final = 0.2
"""Seconds between two looks at what another run is making, when nothing else is left to do."""


def train_fleet(
    plan: FleetPlan,
    workshop: Workshop,
    *,
    executor: Executor | None = None,
    workers: int = 0,
    what: str = "training",
    quiet: bool = False,
) -> int:
    """Make every member that is not finished yet.

    Args:
        plan: The members.
        workshop: What they are made with.
        executor: Who makes them, entered already; it stays for the next fleet. ``None`` for processes of this call's
            own.
        workers: Processes of its own; 0 for one a processor.
        what: What the models are for, in progress lines.
        quiet: Show no progress.

    Returns:
        The number of models that were made now.

    Raises:
        Interrupted: The user stopped the run; finished models are kept.
        EnvironmentProblem: Workers keep dying, or cannot be started.
        UsageError: The disk is full; finished models are kept.
        DataError: The store is damaged.
        ConfigError: The recipe's code was changed meanwhile.
    """
    if executor is not None:
        driver = Driver(workshop, executor, quiet=quiet)
        driver.finish(plan, what=what)
        return driver.made
    with LocalExecutor(workshop, workers) as own:
        driver = Driver(workshop, own, quiet=quiet)
        own.workers = min(own.workers, max(driver.groups_left(plan), 1))
        driver.finish(plan, what=what)
        return driver.made


@dataclass(eq=False)
class _Job:
    """A group that is not finished.

    Args:
        key: Address of its first member, by which it is claimed.
        group: Its members.
        models: How many of them are to be made or measured.
        kind: What kind of work that is.
        children: Jobs that start from it.
        parent: The job that it starts from, ``None`` when that is finished, or there is none.
        state: ``waiting``, ``running``, ``elsewhere`` (another run is making it) or ``done``.
    """

    key: str
    group: Group
    models: int
    kind: str
    children: "list[_Job]" = field(default_factory=list)
    parent: "_Job | None" = None
    state: str = "waiting"

    @property
    def ready(self) -> bool:
        return self.state == "waiting" and (self.parent is None or self.parent.state == "done")


class _Queue:
    """The jobs of one plan: which can be begun, in plan order, and what is left to do.

    Args:
        jobs: In plan order.
    """

    def __init__(self, jobs: Iterable[_Job]) -> None:
        self._jobs = list(jobs)
        self._place = {id(job): place for place, job in enumerate(self._jobs)}
        self._ready = [place for place, job in enumerate(self._jobs) if job.ready]  # ascending, so a heap
        self.work = Counter[str]()
        for job in self._jobs:
            self.work[job.kind] += job.models

    @property
    def left(self) -> int:
        """Models that are not finished."""
        return self.work.total()

    def first(self) -> _Job | None:
        """Return the first job that can be begun."""
        while self._ready and self._jobs[self._ready[0]].state != "waiting":
            heapq.heappop(self._ready)  # it was begun together with its parent
        return self._jobs[self._ready[0]] if self._ready else None

    def own(self, jobs: Iterable[_Job]) -> list[_Job]:
        """Return those of some jobs that are of this plan and not begun."""
        return [job for job in self.within(jobs) if job.state == "waiting"]

    def within(self, jobs: Iterable[_Job]) -> list[_Job]:
        """Return those of some jobs that are of this plan."""
        return [job for job in jobs if id(job) in self._place]

    def finished(self, job: _Job) -> None:
        """Note that a job, of this plan or another, is done."""
        if id(job) in self._place:
            self.work[job.kind] -= job.models
        self.again(job.children)

    def again(self, jobs: Iterable[_Job]) -> None:
        """Note that jobs, of this plan or another, can be begun."""
        for job in self.own(jobs):
            heapq.heappush(self._ready, self._place[id(job)])


class Driver:
    """Makes fleets one after another with one executor; tasks that were begun ahead of their turn go on meanwhile.

    Args:
        workshop: What members are made with.
        executor: Who makes them, entered already.
        quiet: Show no progress.

    Attributes:
        made: Models that were made.
    """

    def __init__(self, workshop: Workshop, executor: Executor, *, quiet: bool = False) -> None:
        self.workshop, self.executor, self.quiet = workshop, executor, quiet
        self.made = 0
        self._costs = Costs(workshop)
        self._known: dict[str, _Job | None] = {}
        self._running: dict[int, list[_Job]] = {}
        self._claims = Claims(workshop.store)
        self._elsewhere: list[_Job] = []
        self._queues: tuple[_Queue, ...] = ()

    def groups_left(self, plan: FleetPlan) -> int:
        """Return how many groups of a plan are not finished."""
        return len(self._open(plan))

    def finish(self, plan: FleetPlan, *, ahead: FleetPlan | None = None, what: str = "training") -> None:
        """Make every member of a plan that is not finished yet.

        Args:
            plan: The members.
            ahead: Members that will be wanted next; only workers that would be idle begin them, and nobody waits.
            what: What the models are for, in progress lines.

        Raises:
            Interrupted: The user stopped the run; finished models are kept.
            EnvironmentProblem: Workers keep dying, or cannot be started.
            UsageError: The disk is full; finished models are kept.
            DataError: The store is damaged.
            ConfigError: The recipe's code was changed meanwhile.
        """
        with Store(self.workshop.store).hold(what):
            self._finish(plan, ahead, what)

    def _finish(self, plan: FleetPlan, ahead: FleetPlan | None, what: str) -> None:
        queue = _Queue(self._open(plan))
        total = queue.left
        if not total:
            return
        spare = _Queue(self._open(ahead) if ahead is not None else ())
        self._queues = queue, spare
        progress, pace = Progress(total, what, quiet=self.quiet), _Pace(self.executor.workers)
        try:
            while queue.left:
                self._submit(queue, _AHEAD * self.executor.workers)
                if queue.first() is None:
                    self._submit(spare, self.executor.workers)
                if self._running:
                    self._take(self.executor.wait(), pace)
                elif queue.left:
                    time.sleep(_LOOK)  # all that is left is being made by another run
                self._look_elsewhere()
                progress.show(total - queue.left, pace.left(self._costs.total(queue.work)))
        except BaseException as problem:
            self._claims.close()  # what the executor has begun ends with it
            self._explain(problem, total, queue)
            raise
        self._costs.keep()

    def _explain(self, problem: BaseException, total: int, queue: _Queue) -> None:
        """Raise a problem that stopped a run with a word on what is kept, where that helps."""
        if isinstance(problem, KeyboardInterrupt):
            kept = total - queue.left + self._unreported(queue)
            raise Interrupted(
                f"stopped: {kept} of {total} models were finished and are kept; run the same command to go on"
            ) from None
        if isinstance(problem, EnvironmentProblem | UsageError):
            kept = total - queue.left + self._unreported(queue)
            raise type(problem)(f"{problem} ({kept} of {total} models are finished and kept)") from None

    def _open(self, plan: FleetPlan) -> list[_Job]:
        """Return the jobs of a plan in its order, each once, with their parents; what is finished is none."""
        found: dict[str, _Job] = {}
        keys: dict[str | int, str] = {}
        for group in plan.groups:
            key = self._key(group[0], keys)
            if key not in self._known:
                self._known[key] = self._job(key, group)
            job = self._known[key]
            if job is not None and job.state != "done":
                found[key] = job
        for job in found.values():
            if (parent := job.group[0].parent) is None:
                continue
            key = self._key(parent, keys)
            above = self._known.get(key)
            if above is None or above.state == "done" or (above.state == "waiting" and key not in found):
                job.parent = None  # it is there; if it is not, the worker will say so
            elif job.parent is not above:
                job.parent = above
                above.children.append(job)
        return list(found.values())

    def _key(self, member: Member, keys: dict[str | int, str]) -> str:
        """Return the address of the first member of a member's group."""
        name = id(member) if member.cohort is None else member.cohort.digest
        if name not in keys:
            first = member if member.cohort is None else member.cohort.members()[0]
            keys[name] = self.workshop.identity.key(first)
        return keys[name]

    def _job(self, key: str, group: Group) -> _Job | None:
        for kind, models in work_of(group, self.workshop).items():
            return _Job(key, group, models, kind)
        return None

    def _submit(self, queue: _Queue, most: int) -> None:
        """Give the executor tasks until it has so many, or no job can be begun."""
        while len(self._running) < most and (task := self._task(queue)):
            self._running[self.executor.submit([job.group for job in task])] = task

    def _task(self, queue: _Queue) -> list[_Job]:
        """Begin the next jobs: the first that can be, what starts from it, and those after it, as time allows."""
        while (first := queue.first()) is not None and not self._begin(first):
            pass
        if first is None:
            return []
        task, seconds = [first], self._seconds(first)
        if seconds is None:
            return task
        left = self._costs.total(queue.work) or 0.0
        most = min(_LONGEST, max(_SHORTEST, left / (2 * _AHEAD * self.executor.workers)))
        growing = deque(queue.own(first.children))
        while (job := growing.popleft() if growing else queue.first()) is not None:
            cost = self._seconds(job)
            if cost is None or seconds + cost > most:
                break
            if not self._begin(job):
                continue
            task.append(job)
            seconds += cost
            growing.extend(queue.own(job.children))
        return task

    def _begin(self, job: _Job) -> bool:
        """Claim a job, so that no other run makes it meanwhile; return whether it is ours to make."""
        if not self._claims.take(job.key):
            job.state = "elsewhere"
            self._elsewhere.append(job)
            return False
        # Another run may have made it since this one looked.
        if job.kind != MEASURE and Store(self.workshop.store).entry_path(job.key).exists() and self._is_finished(job):
            self._end(job)
            return False
        job.state = "running"
        return True

    def _is_finished(self, job: _Job) -> bool:
        return all(self.workshop.finished(member) for member in job.group)

    def _look_elsewhere(self) -> None:
        """See what became of jobs that another run has claimed: they are finished, or it has given them up."""
        free = [job for job in self._elsewhere if self._claims.take(job.key)]
        self._elsewhere = [job for job in self._elsewhere if job not in free]
        for job in free:
            if self._is_finished(job):
                self._end(job)
                continue
            self._claims.release(job.key)
            job.state = "waiting"
            for queue in self._queues:
                queue.again([job])

    def _end(self, job: _Job) -> None:
        """Note that a job is done, here or elsewhere, and what can be begun now."""
        self._claims.release(job.key)
        job.state = "done"
        for queue in self._queues:
            queue.finished(job)

    def _seconds(self, job: _Job) -> float | None:
        each = self._costs.each(job.kind)
        return None if each is None else each * job.models

    def _take(self, reports: Iterable[Done], pace: "_Pace") -> None:
        """Note what finished tasks brought, and what can be begun now.

        Raises:
            BaseException: The first of their problems.
        """
        problem = None
        for done in reports:
            if done.problem is not None:
                problem = problem or done.problem
                continue
            task = self._running.pop(done.ticket, [])
            for job, seconds in zip(task, done.seconds, strict=False):
                self._costs.add(job.kind, job.models, seconds)
            for job in task:
                self.made += job.models
                self._end(job)
            pace.add(sum(done.seconds))
        if problem is not None:
            raise problem

    def _unreported(self, queue: _Queue) -> int:
        """Return how many models of tasks that were not reported yet are finished all the same."""
        try:
            return sum(
                job.models - sum(not self.workshop.finished(member) for member in job.group)
                for task in self._running.values()
                for job in queue.within(task)
            )
        except DataError:
            return 0  # a damaged store is told about when it is needed


class _Pace:
    """How many seconds of work the workers do in a second.

    Args:
        workers: Their number, which is taken for it until some work was done; their start is not counted.
    """

    def __init__(self, workers: int) -> None:
        self._workers, self._tasks, self._work, self._since = workers, 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        """Note a finished task."""
        if self._tasks:
            self._work += seconds
        else:
            self._since = time.monotonic()
        self._tasks += 1

    def left(self, work: float | None) -> float | None:
        """Return the seconds that some work will take, ``None`` when its own are unknown."""
        if work is None:
            return None
        passed = time.monotonic() - self._since
        if self._tasks > 2 * self._workers and passed > 0 and self._work > 0:
            return work * passed / self._work
        return work / self._workers
