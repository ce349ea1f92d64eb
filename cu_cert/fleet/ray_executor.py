"""The Ray executor: the groups of a fleet are made by actors of a cluster, and their files come back here.

Nothing but this process writes to the store, each model whole or not at all, so a worker, a node or this process may
die at any time: what is in the store is finished, and everything else is made again.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cu_cert.errors import CuCertError, DataError, EnvironmentProblem
from cu_cert.fleet import _ray_worker
from cu_cert.fleet._ray_cluster import Cluster, require_ray
from cu_cert.fleet._ray_hands import Hand, Task, dismiss, rebuilt, require_same, telling
from cu_cert.fleet._ray_worker import Conditions, Delivery, Maker, Prepared, whole
from cu_cert.fleet.executor import Done, Group
from cu_cert.fleet.local import cores
from cu_cert.fleet.store import Bundle, Store
from cu_cert.fleet.worker import Workshop
from cu_certificates.errors import CertificateError

if TYPE_CHECKING:
    from ray import ObjectRef

_AHEAD: Final = 2
"""Tasks that a worker has at a time: while the files of one are written here, it works on the next."""

_TRIES: Final = 4
"""How often a task is begun before it counts as one that kills its workers."""

_PATIENCE: Final = 300.0
"""Seconds in which the first worker must be ready; a cluster may need minutes to start a machine."""

_SHIPPED: Final = 32
"""Models kept ready for several edits of the same one."""


class RayExecutor:
    """Makes groups of models by actors of a Ray cluster; see :class:`~cu_cert.fleet.executor.Executor`.

    Args:
        workshop: What models are made with; its store is the one that they come to.
        address: ``None``, empty or ``local`` for a cluster of this machine that lasts as long as the run; ``auto``,
            ``host:port`` or ``ray://host:port`` for one that is there.
        workers: Actors, each with one processor; 0 for one a processor of the cluster.
    """

    def __init__(self, workshop: Workshop, address: str | None, workers: int = 0) -> None:
        self._workshop, self._wanted = workshop, workers
        self._address = None if address in (None, "", "local") else address
        self._own = self._address is None
        self._store = Store(workshop.store)
        self._cluster: Cluster | None = None
        self._data: Any = None
        self._kind: Any = None
        self._queue: deque[Task] = deque()
        self._team: list[Hand] = []
        self._starting: dict[ObjectRef[Prepared], Hand] = {}
        self._shipped: OrderedDict[str, ObjectRef[Bundle]] = OrderedDict()
        self._done: list[Done] = []
        self._tickets = 0
        self._bad_starts = 0
        self._idle_since = 0.0

    @property
    def name(self) -> str:
        """``ray``."""
        return "ray"

    @property
    def workers(self) -> int:
        """Tasks that it works on at a time."""
        if self._wanted:
            return self._wanted
        if self._own:
            return cores()
        self._join()
        import ray

        found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return max(1, int(found.get("CPU" if self._workshop.device == "cpu" else "GPU", 1)))

    def __enter__(self) -> "RayExecutor":
        """Join the cluster; one of our own is started only when there is something to make.

        Raises:
            EnvironmentProblem: Ray is missing, or there is no cluster at the address.
        """
        require_ray()
        if not self._own:
            self._join()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the workers, at once when leaving by an exception, and stop the cluster if it was started here."""
        if self._cluster is None:
            return
        try:
            if not self._cluster.own:
                dismiss(self._team, graceful=kind is None)
        finally:
            self._cluster.close()
            self._cluster, self._data = None, None
            self._team, self._starting = [], {}
            self._shipped.clear()

    def submit(self, groups: Sequence[Group]) -> int:
        """Accept a task and return its ticket.

        Args:
            groups: Groups to make one after another, whose parents are in the store or earlier in the task.

        Raises:
            EnvironmentProblem: No cluster can be started.
            DataError: A model to start from is damaged.
        """
        self._tickets += 1
        self._queue.append(Task(self._tickets, tuple(groups)))
        self._give_out()
        return self._tickets

    def wait(self) -> list[Done]:
        """Wait for finished tasks and return them; at once and empty when there is no task.

        Raises:
            EnvironmentProblem: No worker can be started, or one that was would make other models.
        """
        import ray

        while not self._done and (self._queue or any(worker.tasks for worker in self._team)):
            asked = [*self._starting, *(reference for worker in self._team for reference in worker.tasks)]
            found, _ = ray.wait(asked, num_returns=1, timeout=0.5)
            if found:
                found, _ = ray.wait(asked, num_returns=len(asked), timeout=0)
            for reference in found:
                if reference in self._starting:
                    self._welcome(reference)
                else:
                    self._receive(reference)
            self._give_out()
            self._require_progress()
        done, self._done = self._done, []
        return done

    def _join(self) -> None:
        """Connect to the cluster, or start it, and put the data where workers find them."""
        if self._cluster is not None:
            return
        data = _ray_worker.packed(self._workshop)
        count = self._wanted or cores()
        accelerators = 0 if self._workshop.device == "cpu" else count
        self._cluster = Cluster(self._address, processors=count, accelerators=accelerators, data=data.nbytes)
        import ray  # not before: Ray reads its environment variables when it is imported

        self._data = ray.put(data)
        gpus = 0 if self._workshop.device == "cpu" else 1
        self._kind = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0)(Maker)
        self._conditions = Conditions(_ray_worker.facts(), self._workshop.identity)
        self._idle_since = time.monotonic()

    def _hire(self) -> None:
        """Start workers until there is one for each task, or as many as there may be."""
        self._join()
        assert self._cluster is not None
        wanted = len(self._queue) + sum(len(worker.tasks) for worker in self._team)
        while len(self._team) < min(self.workers, wanted):
            worker = Hand(self._kind.remote(self._cluster.base))
            self._team.append(worker)
            self._starting[worker.actor.prepare.remote(self._data, self._conditions)] = worker

    def _welcome(self, reference: "ObjectRef[Prepared]") -> None:
        """Hear what a worker says that was given the data."""
        import ray

        worker = self._starting.pop(reference)
        try:
            said: Prepared = ray.get(reference)
        except ray.exceptions.RayError as error:
            self._lose(worker)
            self._bad_starts += 1
            if "No module named" in str(error):
                raise EnvironmentProblem(
                    f"ray: a node cannot run cu-cert ({telling(error)}); install the same cu-cert on every node"
                ) from None
            if self._bad_starts >= _TRIES:
                raise EnvironmentProblem(
                    f"ray: {self._bad_starts} workers died while they started ({telling(error)}); is there enough "
                    "memory for one a processor? Else pass fewer workers"
                ) from None
            return
        worker.node, worker.place = said.node, said.place
        require_same(said, self._workshop.root)
        worker.ready, self._bad_starts = True, 0

    def _give_out(self) -> None:
        """Give waiting tasks to workers: first to those that have none, among them to one that has the parents."""
        if self._queue:
            self._hire()
        while self._queue:
            free = [worker for worker in self._team if worker.ready and len(worker.tasks) < _AHEAD]
            if not free:
                return
            task, worker = self._queue.popleft(), min(free, key=lambda one: len(one.tasks))
            try:
                there = {key: self._ship(key) for key in self._needed(task)}
            except CuCertError as problem:
                self._done.append(Done(task.ticket, problem))
                continue
            task.tries += 1
            worker.tasks[worker.actor.make.remote(task.groups, there)] = task

    def _needed(self, task: Task) -> Iterator[str]:
        """Yield the addresses of models in the store that a task builds on or completes."""
        key, made = self._workshop.identity.key, set[str]()
        for group in task.groups:
            for member in group:
                own = key(member)
                for address in ([] if member.parent is None else [key(member.parent)]) + [own]:
                    if address not in made and self._store.entry(address) is not None:
                        made.add(address)
                        yield address
                made.add(own)

    def _ship(self, key: str) -> "ObjectRef[Bundle]":
        """Return where workers find a model of the store; without weights that are gone, which they make again.

        Raises:
            DataError: It is damaged, and cannot be moved aside.
        """
        import ray

        if key not in self._shipped:
            try:
                bundle = whole(self._store, key, ())
            except DataError as why:
                self._store.drop_model(key, str(why))
                bundle = whole(self._store, key, ())
            self._shipped[key] = ray.put(bundle)
            if len(self._shipped) > _SHIPPED:
                self._shipped.popitem(last=False)
        self._shipped.move_to_end(key)
        return self._shipped[key]

    def _receive(self, reference: "ObjectRef[Delivery]") -> None:
        """Keep what a worker delivers, or have its task done by another one."""
        import ray

        worker = next((one for one in self._team if reference in one.tasks), None)
        if worker is None:
            return  # it was lost in the meantime, and its tasks wait again
        try:
            found: Delivery = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            task = worker.tasks.pop(reference)
            self._done.append(Done(task.ticket, error.cause if isinstance(error.cause, Exception) else error))
            return
        except ray.exceptions.RayError:
            self._lose(worker)
            return
        task = worker.tasks.pop(reference)
        problem: BaseException | None = None
        try:
            for key, bundle in found.made.items():
                self._store.ingest(key, bundle)
            if found.problem is not None:
                problem = rebuilt(worker.node, *found.problem)
        except (CuCertError, CertificateError) as error:
            problem = error
        self._done.append(Done(task.ticket, problem, found.seconds))

    def _lose(self, worker: Hand) -> None:
        """Give up a worker; its tasks wait again, unless one was begun too often."""
        import ray

        with suppress(Exception):
            ray.kill(worker.actor)
        self._team.remove(worker)
        self._starting = {one: who for one, who in self._starting.items() if who is not worker}
        self._idle_since = time.monotonic()
        for task in reversed(worker.tasks.values()):
            if task.tries < _TRIES:
                self._queue.appendleft(task)
                continue
            label = task.groups[0][0].label
            self._done.append(
                Done(
                    task.ticket,
                    EnvironmentProblem(
                        f"ray: the task of {label!r} was begun {task.tries} times and each time its worker died, last "
                        f"on node {worker.node}; if memory ran out there, use fewer workers. What is finished is kept; "
                        "run the same command to go on"
                    ),
                )
            )

    def _require_progress(self) -> None:
        if any(worker.ready for worker in self._team) or not self._queue:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > _PATIENCE:
            what = "processor" if self._workshop.device == "cpu" else "processor and accelerator"
            raise EnvironmentProblem(
                f"ray: the cluster at {self._address} had no free {what} for {_PATIENCE:.0f} s; wait until other work "
                "is done there, or use --executor local"
            )
