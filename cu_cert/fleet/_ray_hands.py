"""What the driver knows about its actors, how it ends them, and what it says when one of them is no good."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cu_cert import errors
from cu_cert.errors import CuCertError, EnvironmentProblem
from cu_cert.fleet._ray_scratch import clear
from cu_cert.fleet._ray_worker import Delivery, Prepared
from cu_cert.fleet.executor import Group

if TYPE_CHECKING:
    from ray import ObjectRef

_FAREWELL: Final = 5.0
"""Seconds that the nodes of a cluster have to remove our files when a run is stopped."""

_ADVICE: Final = {
    "cu-cert": "install the same cu-cert there and here",
    "python": "use the same Python there and here",
    "torch": "install the same torch there and here",
    "cpuCapability": "set ATEN_CPU_CAPABILITY to the lower of the two on every machine before Ray is started",
    "mklCbwr": "set MKL_CBWR to the same value on every machine before Ray is started",
    "device": 'give every worker the same accelerator, or set [audit] device = "cpu"',
}


@dataclass(eq=False)
class Task:
    """A task that was accepted and is not finished.

    Args:
        ticket: Its number.
        groups: What to make.
        tries: How often it was begun.
    """

    ticket: int
    groups: tuple[Group, ...]
    tries: int = 0


@dataclass(eq=False)
class Hand:
    """An actor and what it is doing.

    Args:
        actor: Handle of the actor.
        ready: Whether it has the data.
        node: Address of its node, once it is known.
        place: Ray's name of its node, and its folder there, once they are known.
        tasks: What it was given, by the reference to what will come back.
    """

    actor: Any
    ready: bool = False
    node: str = "a node that never answered"
    place: tuple[str, str] = ("", "")
    tasks: "dict[ObjectRef[Delivery], Task]" = field(default_factory=dict)


def require_same(said: Prepared, root: str) -> None:
    """Make sure that an actor can make the models that are wanted.

    Args:
        said: What it says about itself.
        root: Folder of the project.

    Raises:
        EnvironmentProblem: It cannot; the message names its node.
    """
    if said.mismatch is not None:
        fact = said.mismatch
        raise EnvironmentProblem(
            f"ray: node {said.node} would make other models: {fact.fact} is {fact.here or 'empty'!r} there and "
            f"{fact.there or 'empty'!r} here; {_ADVICE.get(fact.fact, 'use machines that agree in it')}"
        )
    if said.problem is not None:
        raise EnvironmentProblem(
            f"ray: node {said.node}: {said.problem[1]}; the project's folder {root} and what its code imports must be "
            "the same on every node"
        )


def dismiss(hands: list[Hand], *, graceful: bool) -> None:
    """End actors and remove their files.

    Args:
        hands: The actors.
        graceful: Let them do it themselves; else they are ended at once, and their nodes are asked.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ready = [hand for hand in hands if hand.ready]
    with suppress(Exception):
        if graceful:
            _await([hand.actor.close.remote() for hand in ready])
    for hand in hands:
        with suppress(Exception):
            ray.kill(hand.actor)
    with suppress(Exception):
        if not graceful:
            cleaner = ray.remote(num_cpus=0, max_retries=0)(clear)
            there = [(NodeAffinitySchedulingStrategy(hand.place[0], soft=False), hand.place[1]) for hand in ready]
            _await([cleaner.options(scheduling_strategy=node).remote(Path(one), _FAREWELL) for node, one in there])


def _await(references: "list[ObjectRef[Any]]") -> None:
    import ray

    if references:
        ray.wait(references, num_returns=len(references), timeout=_FAREWELL)


def rebuilt(node: str, kind: str, text: str) -> CuCertError:
    """Return an error of a worker, which names its node."""
    found = getattr(errors, kind, EnvironmentProblem)
    return (found if issubclass(found, CuCertError) else EnvironmentProblem)(f"ray: node {node}: {text}")


def telling(error: BaseException) -> str:
    """Return the line of a Ray error that says most: its last one, which names what was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]
