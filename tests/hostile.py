"""An executor that finishes tasks in whatever order would mislead whoever judges models as they arrive."""

import random
from collections.abc import Callable, Sequence
from typing import Final

from cu_cert.fleet.executor import Done, Group
from cu_cert.fleet.plan import Member
from cu_cert.fleet.worker import Workshop, work

Order = Callable[[Sequence[tuple[Group, ...]]], int]


def _members(task: tuple[Group, ...]) -> list[Member]:
    return [member for group in task for member in group]


def _last(tasks: Sequence[tuple[Group, ...]]) -> int:
    return len(tasks) - 1


def _retrains(tasks: Sequence[tuple[Group, ...]]) -> int:
    """Models that never saw the request first, so that a coin shows in the time of arrival."""
    return next((n for n, task in enumerate(tasks) if all(one.records == "retain" for one in _members(task))), 0)


def _edits(tasks: Sequence[tuple[Group, ...]]) -> int:
    """Unlearned models first, as soon as what they start from is there."""
    return next((n for n, task in enumerate(tasks) if any(one.method for one in _members(task))), 0)


def _straggler(tasks: Sequence[tuple[Group, ...]]) -> int:
    """The oldest task last, whatever waits for it."""
    return min(1, len(tasks) - 1)


def _random() -> Order:
    drawn = random.Random(4)
    return lambda tasks: drawn.randrange(len(tasks))


ORDERS: Final[dict[str, Order]] = {
    "retrains-first": _retrains,
    "edits-first": _edits,
    "reversed": _last,
    "stragglers": _straggler,
    "random": _random(),
}


class Hostile:
    """Does tasks in this process, in an order of its own.

    Args:
        workshop: What members are made with.
        workers: As many workers as it pretends to have.
        order: Says which of the tasks that wait is done next.
    """

    name = "hostile"

    def __init__(self, workshop: Workshop, workers: int, order: Order) -> None:
        self.workshop, self.workers, self.order = workshop, workers, order
        self.tasks: dict[int, tuple[Group, ...]] = {}
        self.arrived: list[Member] = []
        self.sizes: list[int] = []

    def __enter__(self) -> "Hostile":
        return self

    def __exit__(self, *_: object) -> None:
        self.tasks.clear()

    def submit(self, groups: Sequence[Group]) -> int:
        ticket = len(self.sizes)
        self.sizes.append(len(groups))
        self.tasks[ticket] = tuple(groups)
        return ticket

    def wait(self) -> list[Done]:
        waiting = list(self.tasks)
        ticket = waiting[self.order([self.tasks[one] for one in waiting])]
        task = self.tasks.pop(ticket)
        seconds = work(self.workshop, task)
        self.arrived += _members(task)
        return [Done(ticket, seconds=seconds)]
