"""The local executor: processes of one thread each; one that dies is replaced, and its task is done again."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, cast

from cu_cert.errors import EnvironmentProblem
from cu_cert.fleet import worker
from cu_cert.fleet.environment import single_threaded
from cu_cert.fleet.executor import Done, Group
from cu_cert.fleet.parcel import Parcel
from cu_cert.fleet.worker import Workshop

TRIES: Final = 3
"""Workers that may die over one task, or in a row before they are ready, before the run is given up."""

_PATIENCE: Final = 10.0
"""Seconds that a worker without work has to end by itself."""


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(eq=False)
class _Task:
    """A task, and how many workers died over it."""

    ticket: int
    groups: tuple[Group, ...]
    deaths: int = 0


@dataclass(eq=False)
class _Worker:
    """A process, the line to it, whether it is ready, and what it works on."""

    process: BaseProcess
    line: Connection
    ready: bool = False
    task: _Task | None = None


class LocalExecutor:
    """Worker processes on this machine; with one worker, this process does the work itself and gives the same bits.

    Processes are started when there is work for them, and stay for the fleets after it.

    Args:
        workshop: What members are made with.
        workers: Processes; 0 for one a processor.
    """

    name: Final = "local"

    def __init__(self, workshop: Workshop, workers: int = 0) -> None:
        self.workshop, self.workers = workshop, workers or cores()
        self._tickets = 0
        self._waiting: deque[_Task] = deque()
        self._staff: list[_Worker] = []
        self._parcel: Parcel | None = None
        self._stillborn = 0

    def __enter__(self) -> "LocalExecutor":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for each in self._staff:
            if kind is not None or each.task is not None or not each.ready:
                _end(each.process)
            each.line.close()
        for each in self._staff:
            each.process.join(_PATIENCE)
            _end(each.process, at_once=True)
        self._staff.clear()
        self._waiting.clear()
        if self._parcel is not None:
            self._parcel.close()
            self._parcel = None

    def submit(self, groups: Sequence[Group]) -> int:
        """Accept a task; see :class:`~cu_cert.fleet.executor.Executor`.

        Raises:
            EnvironmentProblem: A process cannot be started.
        """
        self._tickets += 1
        self._waiting.append(_Task(self._tickets, tuple(groups)))
        if self.workers > 1:
            self._hand_out()
        return self._tickets

    def wait(self) -> list[Done]:
        """Wait until a task is finished; see :class:`~cu_cert.fleet.executor.Executor`.

        Raises:
            EnvironmentProblem: Workers keep dying, or cannot be started.
        """
        if self.workers == 1:
            return self._here()
        found: list[Done] = []
        while not found:
            self._hand_out()
            lines = {each.line: each for each in self._staff if not each.ready or each.task is not None}
            if not lines:
                raise RuntimeError("no task is waited for")
            for line in wait(list(lines)):
                found += self._heard(lines[cast(Connection, line)])
        self._hand_out()
        return found

    def _here(self) -> list[Done]:
        """Do the next task in this process."""
        task = self._waiting.popleft()
        single_threaded()
        try:
            return [Done(task.ticket, seconds=worker.work(self.workshop, task.groups))]
        except Exception as problem:
            return [Done(task.ticket, problem)]

    def _hand_out(self) -> None:
        """Give waiting tasks to workers that have none, and start workers for the others."""
        for each in list(self._staff):
            if self._waiting and each.ready and each.task is None:
                each.task = self._waiting.popleft()
                try:
                    each.line.send(each.task.groups)
                except OSError:
                    self._lost(each)
        coming = sum(not each.ready for each in self._staff)
        while coming < len(self._waiting) and len(self._staff) < self.workers:
            self._staff.append(self._start())
            coming += 1

    def _start(self) -> _Worker:
        if self._parcel is None:
            self._parcel = Parcel(self.workshop)
        context = multiprocessing.get_context("spawn")
        own, theirs = context.Pipe()
        process = context.Process(target=worker.serve, args=(self._parcel, theirs, os.getpid()))
        try:
            # Its start lets signals through that were held back, so it must not come with that of a worker.
            resource_tracker.ensure_running()
            with _interrupts_held():
                process.start()
        except OSError as error:
            raise EnvironmentProblem(
                f"a worker process cannot be started ({error.strerror}); lower [audit] workers and run the same "
                "command again"
            ) from None
        theirs.close()
        return _Worker(process, own)

    def _heard(self, each: _Worker) -> list[Done]:
        """Take what a worker says; one that can say nothing any more is dead."""
        try:
            answer = each.line.recv()
        except (EOFError, OSError):
            self._lost(each)
            return []
        if not each.ready:
            each.ready, self._stillborn = True, 0
            return []
        task, each.task = each.task, None
        assert task is not None
        if isinstance(answer, BaseException):
            return [Done(task.ticket, answer)]
        return [Done(task.ticket, seconds=answer)]

    def _lost(self, each: _Worker) -> None:
        """Forget a dead worker and have its task done again, unless this keeps happening.

        Raises:
            EnvironmentProblem: It does.
        """
        self._staff.remove(each)
        each.line.close()
        each.process.join(_PATIENCE)
        _end(each.process, at_once=True)
        if each.task is None:
            self._stillborn += not each.ready
            if self._stillborn >= TRIES:
                raise EnvironmentProblem(
                    f"a worker process died before it could start ({_cause(each.process)}), {TRIES} times in a row; if "
                    "memory ran out, lower [audit] workers; a script of your own must call this under "
                    "if __name__ == '__main__'"
                )
            return
        task = each.task
        task.deaths += 1
        if task.deaths >= TRIES:
            members = [member for group in task.groups for member in group]
            at = next((member.label for member in members if not self.workshop.finished(member)), members[-1].label)
            raise EnvironmentProblem(
                f"a worker process died ({_cause(each.process)}), {TRIES} times over the same task, at the model for "
                f"{at}; if memory ran out, lower [audit] workers"
            )
        self._waiting.appendleft(task)


def _cause(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _end(process: BaseProcess, *, at_once: bool = False) -> None:
    if process.is_alive():
        with suppress(OSError, ValueError):
            (process.kill if at_once else process.terminate)()


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
