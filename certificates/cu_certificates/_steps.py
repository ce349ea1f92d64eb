"""The steps of a verification, as they are shown to a person while it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

StepState = Literal["ok", "not checked"]


@dataclass(frozen=True)
class Step:
    """One step of a verification that did not fail.

    Args:
        name: ``carrier``, ``trust``, ``signature``, ``threshold``, ``time``, ``revocation``, ``report``, ``subject``,
            ``evidence``, ``plan``, ``log``, ``claims`` or ``verdict``.
        state: Whether it was done, or could not be done with what was given.
        detail: One line for a person.
    """

    name: str
    state: StepState
    detail: str


class StepLog:
    """The steps so far; each is also told at once to whoever watches.

    Args:
        watch: Called with each step as soon as it is done.
    """

    def __init__(self, watch: Callable[[Step], None] | None) -> None:
        self.steps: list[Step] = []
        self.watch = watch

    def add(self, name: str, detail: str, state: StepState = "ok") -> None:
        """Note that a step is done.

        Args:
            name: The step.
            detail: One line for a person.
            state: Whether it was done, or could not be done with what was given.
        """
        step = Step(name, state, detail)
        self.steps.append(step)
        if self.watch is not None:
            self.watch(step)
