"""What an executor is: somebody who makes groups of models, here or elsewhere, without a word about their order.

The driver (``cu_cert.fleet.train``) decides what is to be made and when, and an executor where. Whatever executor makes
them, the models have the same bits, and they end up in the same store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cu_cert.fleet.plan import Member

Group = tuple[Member, ...]


@dataclass(frozen=True)
class Done:
    """A finished task.

    Args:
        ticket: What :meth:`Executor.submit` returned for it.
        problem: Why it could not be done, ``None`` when all its models are in the store (some perhaps as failed runs).
        seconds: Seconds on the wall that each of its groups took, in order; empty where that is not known. The driver
            sizes tasks by them.
    """

    ticket: int
    problem: BaseException | None = None
    seconds: tuple[float, ...] = ()


class Executor(Protocol):
    """Makes groups of models and puts them into the store of the workshop that it was made for.

    An executor is used within ``with``; leaving it by an exception ends its work at once, and what is not finished then
    is not kept.

    Attributes:
        name: ``local`` or ``ray``.
        workers: Tasks that it works on at a time.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def workers(self) -> int: ...  # noqa: D102

    def __enter__(self) -> "Executor": ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...

    def submit(self, groups: Sequence[Group]) -> int:
        """Accept a task: groups to make one after another, whose parents are in the store or earlier in the task.

        Returns:
            The task's ticket, a number of its own.
        """
        ...

    def wait(self) -> list[Done]:
        """Wait until at least one task is finished and return those that are, in no particular order.

        A worker that died is no problem of its task: the executor has the task done again by another one, and only
        gives up, with a :class:`~cu_cert.errors.EnvironmentProblem`, when that keeps happening.
        """
        ...
