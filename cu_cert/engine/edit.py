"""Edit: the five choices of one method, and the only loop that trains an edit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from cu_cert.engine.region import Region
from cu_cert.engine.rule import Pull, Rule, sum_rule
from cu_cert.engine.schedule import Schedule
from cu_cert.engine.subject import Batch, Subject, make_subject
from cu_cert.engine.term import Role, Term
from cu_cert.errors import MethodError
from cu_cert.methods import Epoch, Need, Task, UnlearningMethod, Work

if TYPE_CHECKING:
    import torch
    from _typeshed import DataclassInstance

P = TypeVar("P", bound="DataclassInstance")

NOISE = 1e-6
"""Relative change below which float32 arithmetic, not the method, may be at work (eight units in the last place)."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What a method decides.

    Args:
        terms: What is wanted; at least one term.
        region: Where the edit may land.
        schedule: In what steps, until when.
        rule: How the terms' gradients become one step.
    """

    terms: tuple[Term, ...]
    region: Region
    schedule: Schedule
    rule: Rule = sum_rule

    def __post_init__(self) -> None:
        if not self.terms:
            raise MethodError("an edit has no terms; expected at least one Term")


def edit_method(
    name: str,
    function: Callable[[Subject, P], Edit],
    params: type[P],
    *,
    needs: set[Need],
    paper: str,
    summary: str,
) -> UnlearningMethod:
    """Make an unlearning method of a function that picks the five parts.

    Args:
        name: File name of the method.
        function: ``(subject, params) -> Edit``; draws what randomness it needs from ``subject.rng``.
        params: Frozen dataclass of its parameters, with a default for each.
        needs: The streams that its terms read: ``forget``, ``retain`` or both. An edit needs the original in any case.
        paper: Where the method is described.
        summary: One line for a list.

    Raises:
        MethodError: No stream is declared.
    """
    if not needs & {"forget", "retain"}:
        raise MethodError(f"method {name} declares no stream; expected 'forget', 'retain' or both among its needs")

    def work(task: Task) -> Work:
        subject = make_subject(task)
        if not isinstance(task.params, params):
            raise MethodError(f"method {name}: params is a {type(task.params).__name__}; expected {params.__name__}")
        return run(task, subject, function(subject, task.params))

    return UnlearningMethod(
        name=name,
        kind="approximate",
        guarantee="none",
        level="EMPIRICAL",
        needs=frozenset({"original", *needs}),
        paper=paper,
        summary=summary,
        params_type=params,
        work=work,
    )


def run(task: Task, subject: Subject, edit: Edit) -> Work:
    """Carry out an edit on ``subject.model``.

    Raises:
        MethodError: A term reads an undeclared stream; the first epoch moved neither a weight nor the cross-entropy on
            the forget records; a weight is no longer finite; a tensor outside the region changed.
    """
    from cu_cert.methods._contract import require_finite

    # An empty request has nothing for a forget term to read; what is left of the edit runs as it would.
    terms = tuple(term for term in edit.terms if term.stream not in subject.streams or subject.streams[term.stream].ids)
    if not terms:
        return Work(model=subject.model, log=(), forget_reads=0)
    edit = replace(edit, terms=terms)
    parameters = edit.region.parameters(subject.model)
    optimiser = edit.schedule.optimiser(parameters)
    forget_loss, _ = task.measure(subject.model)
    log: list[Epoch] = []
    reads = 0
    for number in range(1, edit.schedule.epochs + 1):
        objective = dict.fromkeys((term.role for term in edit.terms), 0.0)
        steps = 0
        for batches in subject.steps((term.stream for term in edit.terms), edit.schedule.batch_size, number):
            for role, value in _step(subject, edit, parameters, optimiser, batches):
                objective[role] += value
            reads += len(batches["forget"].y) if "forget" in batches else 0
            steps += 1
        require_finite(task.method, subject.model, f"epoch {number}")
        forget, retain = task.measure(subject.model)
        means = {str(role): total / steps for role, total in sorted(objective.items())}
        log.append(Epoch(epoch=number, objective=means, forget_loss=forget, retain_loss=retain))
        if number == 1 and abs(forget - forget_loss) <= NOISE * max(1.0, forget_loss):
            _require_moved(task.method, subject, edit.region)
        if edit.schedule.stop is not None and edit.schedule.stop(log[-1]):
            break
    edit.region.require_outside_kept(subject)
    return Work(model=subject.model, log=tuple(log), forget_reads=reads)


def _step(
    subject: Subject,
    edit: Edit,
    parameters: "list[torch.nn.Parameter]",
    optimiser: "torch.optim.Optimizer",
    batches: Mapping[str, Batch],
) -> list[tuple[Role, float]]:
    """Take one step; return the weighted loss of every term with its role."""
    import torch

    pulls: list[Pull] = []
    values: list[tuple[Role, float]] = []
    for term in edit.terms:
        batch = batches[term.stream]
        loss = term.weight * term.loss(subject.out(batch), batch, subject.reference)
        gradient = torch.autograd.grad(loss, parameters, materialize_grads=True)
        pulls.append(Pull(role=term.role, gradient=gradient))
        values.append((term.role, float(loss.detach())))
    for parameter, step in zip(parameters, edit.rule(pulls), strict=True):
        parameter.grad = step
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return values


def _require_moved(method: str, subject: Subject, region: Region) -> None:
    """Raise a :class:`MethodError` unless some weight of the region moved beyond float noise."""
    pairs = zip(region.parameters(subject.model), region.parameters(subject.theta0), strict=True)
    if not any(_moved(new.detach(), old.detach()) for new, old in pairs):
        raise MethodError(
            f"method {method} FAILED: its first epoch moved neither a weight of its region nor the cross-entropy on "
            "the records to forget beyond float noise; expected some change. Raise learning_rate or a term's weight"
        )


def _moved(new: "torch.Tensor", old: "torch.Tensor") -> bool:
    if not new.numel():
        return False
    return float((new - old).abs().max()) > NOISE * float(old.abs().max())
