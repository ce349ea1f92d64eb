"""The local executor: processes of one thread each, progress with time left, resumable at every model."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress

from cu_cert.errors import EnvironmentProblem, Interrupted
from cu_cert.fleet import worker
from cu_cert.fleet.environment import single_threaded
from cu_cert.fleet.plan import FleetPlan, Member
from cu_cert.fleet.worker import Workshop


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Progress:
    """One line that says how far a fleet is; on a terminal it is rewritten, elsewhere printed once a minute.

    Args:
        total: Number of models to make.
        what: What they are for.
        quiet: Print nothing.
    """

    def __init__(self, total: int, what: str, *, quiet: bool = False) -> None:
        self.total, self.what, self.quiet = total, what, quiet
        self.live = sys.stderr.isatty()
        self.started = self.shown = time.monotonic()

    def show(self, done: int) -> None:
        """Show that ``done`` models are finished."""
        now = time.monotonic()
        if self.quiet or not done or (now - self.shown < (0.2 if self.live else 60) and done < self.total):
            return
        self.shown = now
        left = (now - self.started) / done * (self.total - done)
        line = f"{self.what}: {done} of {self.total} models, {clock(left)} left"
        if done == self.total:
            line = f"{self.what}: {done} models in {clock(now - self.started)}"
        print(
            f"\r\x1b[2K{line}" if self.live else line,
            end="\n" if done == self.total or not self.live else "",
            file=sys.stderr,
            flush=True,
        )


def clock(seconds: float) -> str:
    """Write a duration for a person."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    return f"{round(whole / 60)} min" if whole < 5400 else f"{whole / 3600:.1f} h"


class Crew:
    """Worker processes that serve several fleets one after another, so that none waits for new ones to start.

    Args:
        workshop: What they make members with.
        workers: Processes; 0 for one a processor.
    """

    def __init__(self, workshop: Workshop, workers: int = 0) -> None:
        self.workshop, self.count = workshop, workers or cores()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop(graceful=kind is None)

    def pool(self) -> ProcessPoolExecutor | None:
        """Return the processes, started when they are first asked for; ``None`` when one is enough."""
        if self._pool is None and self.count > 1:
            self._pool = _start(self.count, self.workshop)
        return self._pool

    def stop(self, *, graceful: bool) -> None:
        """End the processes; when not ``graceful``, at once."""
        if self._pool is not None:
            _stop(self._pool, graceful=graceful)
            self._pool = None


def _start(count: int, workshop: Workshop) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), worker.start, (workshop, os.getpid()))


def train_fleet(
    plan: FleetPlan,
    workshop: Workshop,
    *,
    workers: int = 0,
    what: str = "training",
    quiet: bool = False,
    crew: Crew | None = None,
) -> int:
    """Make every member that is not finished yet.

    Args:
        plan: The members.
        workshop: What they are made with.
        workers: Processes; 0 for one a processor.
        what: What the models are for, in progress lines.
        quiet: Show no progress.
        crew: Processes that stay for the next fleet; with them ``workers`` is not looked at.

    Returns:
        The number of models that were made now.

    Raises:
        Interrupted: The user stopped the run; finished models are kept.
        EnvironmentProblem: A worker process died.
    """
    todo: dict[str, tuple[Member, ...]] = {}
    left = 0
    for group in plan.groups:
        unfinished = sum(not workshop.finished(member) for member in group)
        if unfinished and (key := workshop.identity.key(group[0])) not in todo:
            todo[key] = group
            left += unfinished
    if not todo:
        return 0
    progress = Progress(left, what, quiet=quiet)
    done = 0
    count = crew.count if crew is not None else min(workers or cores(), len(todo))
    pool = crew.pool() if crew is not None else None if count == 1 else _start(count, workshop)
    try:
        for made in _alone(todo, workshop) if pool is None else _spread(pool, todo, workshop, count):
            done += made
            progress.show(done)
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped: {done} of {left} models were finished and are kept; run the same command to go on"
        ) from None
    except BrokenProcessPool:
        raise EnvironmentProblem(
            f"a worker process died ({done} of {left} models are finished and kept); if memory ran out, lower "
            "[audit] workers and run the same command to go on; a script of your own must call this under "
            "if __name__ == '__main__'"
        ) from None
    finally:
        if crew is not None and done < left:
            crew.stop(graceful=False)
        elif crew is None and pool is not None:
            _stop(pool, graceful=done == left)
    return left


def _alone(todo: dict[str, tuple[Member, ...]], workshop: Workshop) -> Iterator[int]:
    """Make all groups in this process, which gives the same bits as a worker."""
    single_threaded()
    for group in todo.values():
        unfinished = sum(not workshop.finished(member) for member in group)
        workshop.make_group(group)
        yield unfinished


def _spread(
    pool: ProcessPoolExecutor, todo: dict[str, tuple[Member, ...]], workshop: Workshop, count: int
) -> Iterator[int]:
    """Yield the number of models of each finished group; a group waits until its parent is there."""
    waiting = dict(todo)
    running: dict[Future[None], tuple[str, int]] = {}
    done: set[str] = set()
    while waiting or running:
        for key in _ready(waiting, todo.keys() - done, workshop, 2 * count - len(running)):
            group = waiting.pop(key)
            unfinished = sum(not workshop.finished(member) for member in group)
            with _interrupts_held():
                future = pool.submit(worker.make, group)
            running[future] = key, unfinished
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            key, unfinished = running.pop(future)
            done.add(key)
            future.result()
            yield unfinished


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while a process may be started: it inherits this, and so cannot die of Ctrl-C half-way up.

    The mask is for the new process. Here it is not enough: another thread, of a numerical library say, may take the
    signal, and Python would raise in this one, between the start of a process and the words that it waits for.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    pressed: list[int] = []
    usual = signal.getsignal(signal.SIGINT)
    ours = callable(usual) and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if ours:
            signal.signal(signal.SIGINT, usual)
    if pressed and callable(usual):
        usual(pressed[0], None)


def _ready(
    waiting: dict[str, tuple[Member, ...]], unfinished: Set[str], workshop: Workshop, most: int
) -> Sequence[str]:
    """Return the keys of at most ``most`` groups whose parents are finished, in plan order."""
    ready: list[str] = []
    for key, group in waiting.items():
        if len(ready) >= most:
            break
        parent = group[0].parent
        if parent is not None and parent.cohort is not None:
            parent = parent.cohort.members()[0]
        if parent is None or workshop.identity.key(parent) not in unfinished:
            ready.append(key)
    return ready


def _stop(pool: ProcessPoolExecutor, *, graceful: bool) -> None:
    if not graceful:
        for process in list((pool._processes or {}).values()):
            with suppress(OSError, ValueError):
                process.terminate()
    pool.shutdown(wait=graceful, cancel_futures=True)
