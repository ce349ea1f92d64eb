"""Unlearning methods: one file a method, each ending in ``METHOD``; file name = name in the CLI and the certificate.

A method states one thing about itself, its guarantee, and declares what it needs. It is handed a :class:`Task` that
gives out what was declared and nothing else, and every run of every method ends in the same checks (``_contract.py``).
How to add one: ``docs/methods.md``.
"""

import difflib
import hashlib
import importlib
import json
import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Literal, final

from cu_cert.errors import ConfigError, MethodError
from cu_cert.methods._params import checked, printable

if TYPE_CHECKING:
    import torch
    from _typeshed import DataclassInstance

    from cu_cert.recipes import Recipe
    from cu_cert.records import Records
    from cu_cert.rng import Stream

Kind = Literal["exact", "certified", "approximate"]
Guarantee = Literal["exact", "certified", "none"]
Level = Literal["EXACT_BITWISE", "EXACT_IN_LAW", "NUMERIC_EXACT", "CERTIFIED", "EMPIRICAL"]
Need = Literal["forget", "retain", "recipe", "original"]

_GUARANTEES: Mapping[Kind, tuple[Guarantee, frozenset[Level]]] = {
    "exact": ("exact", frozenset({"EXACT_BITWISE", "EXACT_IN_LAW", "NUMERIC_EXACT"})),
    "certified": ("certified", frozenset({"CERTIFIED"})),
    "approximate": ("none", frozenset({"EMPIRICAL"})),
}


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch of an edit looked like.

    Args:
        epoch: Number of the epoch, from 1.
        objective: Weighted loss of the terms of each role, mean over the steps of the epoch.
        forget_loss: Mean cross-entropy on the records to forget after the epoch, in nats.
        retain_loss: Mean cross-entropy on all other training records after the epoch, in nats.
    """

    epoch: int
    objective: Mapping[str, float]
    forget_loss: float
    retain_loss: float


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a method returns: a model, its log, and how often a record to forget was read.

    Args:
        model: The model; never the caller's own.
        log: One entry for each epoch of an edit; empty for a method without epochs.
        forget_reads: Rows of the forget set that the method computed with, each use counted.
    """

    model: "torch.nn.Module"
    log: tuple[Epoch, ...] = ()
    forget_reads: int = 0


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """The outcome of a run.

    Args:
        model: The unlearned model, in evaluation mode.
        parameters: Effective values of all parameters, floats as strings.
        log: One entry for each epoch of an edit.
        cost: Seconds of wall time.
        forget_reads: Rows of the forget set that the method computed with, each use counted. The engine's own
            measurements for the log are not among them.
    """

    model: "torch.nn.Module"
    parameters: Mapping[str, object]
    log: tuple[Epoch, ...]
    cost: float
    forget_reads: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One run as a method sees it: it gets what the method declared; asking for more is a :class:`MethodError`.

    Args:
        method: Name of the method, for messages.
        needs: What the method declared.
        params: The method's checked parameters.
        rng: The method's randomness.
    """

    method: str
    needs: frozenset[Need]
    params: "DataclassInstance"
    rng: "Stream"
    _original: "torch.nn.Module" = field(repr=False)
    _forget: "Records" = field(repr=False)
    _retain: "Records" = field(repr=False)
    _recipe: "Recipe" = field(repr=False)

    @property
    def original(self) -> "torch.nn.Module":
        """A copy of the model before unlearning; the method may change and return it."""
        self._require("original")
        return self._original

    @property
    def forget(self) -> "Records":
        """The records to forget."""
        self._require("forget")
        return self._forget

    @property
    def retain(self) -> "Records":
        """All other training records."""
        self._require("retain")
        return self._retain

    @property
    def recipe(self) -> "Recipe":
        """The recipe that trained the original."""
        self._require("recipe")
        return self._recipe

    def features(self, records: "Records") -> "torch.Tensor":
        """Return the tensor to which a model of this recipe is applied, one row a record.

        It is ``recipe.features(records)`` where the recipe has such a method, else the raw float32 array.
        """
        import torch

        make = getattr(self._recipe, "features", None)
        rows: torch.Tensor = torch.from_numpy(records.x) if make is None else make(records)
        return rows

    def measure(self, model: "torch.nn.Module") -> tuple[float, float]:
        """Return the recipe's mean cross-entropy on the forget and the retain records, in nats, for the log."""
        import torch

        losses = [
            torch.nn.functional.cross_entropy(self._recipe.logits(model, records), torch.from_numpy(records.y))
            if len(records)
            else torch.zeros(())
            for records in (self._forget, self._retain)
        ]
        return float(losses[0]), float(losses[1])

    def _require(self, need: Need) -> None:
        if need not in self.needs:
            raise MethodError(
                f"method {self.method} asked for {need!r} but declares only "
                f"{', '.join(sorted(self.needs)) or 'nothing'}; add {need!r} to its needs"
            )


@final
@dataclass(frozen=True, kw_only=True)
class UnlearningMethod:
    """A method as a value; members never subclass members.

    Args:
        name: File name of the method, or ``python:module:NAME``.
        kind: ``exact``, ``certified`` or ``approximate``.
        guarantee: What the method states of its own: ``exact``, ``certified`` or ``none``.
        level: The strongest claim that the method may support (``EXACT_IN_LAW``, ``EMPIRICAL``, ...).
        needs: What it must be given.
        paper: Where it is described.
        summary: One line for a list.
        params_type: Frozen dataclass of its parameters; every field has a default.
        work: The method itself.
        sources: SHA-256 (hex) over the project files of a method outside the tree; empty for a built-in one.

    Raises:
        MethodError: Kind, guarantee and level do not belong together, or a need has no such name.
    """

    name: str
    kind: Kind
    guarantee: Guarantee
    level: Level
    needs: frozenset[Need]
    paper: str
    summary: str
    params_type: "type[DataclassInstance]"
    work: Callable[[Task], Work] = field(repr=False)
    sources: str = ""

    def __post_init__(self) -> None:
        stated = _GUARANTEES.get(self.kind)
        if stated is None or self.guarantee != stated[0] or self.level not in stated[1]:
            raise MethodError(
                f"method {self.name}: kind {self.kind!r} with guarantee {self.guarantee!r} and level {self.level!r}; "
                "expected exact/exact/EXACT_BITWISE, EXACT_IN_LAW or NUMERIC_EXACT, certified/certified/CERTIFIED, "
                "or approximate/none/EMPIRICAL"
            )
        unknown = self.needs - {"forget", "retain", "recipe", "original"}
        if unknown:
            raise MethodError(
                f"method {self.name} needs {', '.join(sorted(unknown))}; expected forget, retain, recipe or original"
            )

    def params(self, options: Mapping[str, object]) -> "DataclassInstance":
        """Build the method's parameters from options.

        Raises:
            MethodError: A key is unknown, or a value has the wrong type or lies out of range.
        """
        return checked(self.name, self.params_type, options)

    def unlearn(
        self,
        trained: "torch.nn.Module",
        request: Collection[str],
        records: "Records",
        *,
        recipe: "Recipe",
        params: "DataclassInstance",
        rng: "Stream",
        allow_empty: bool = False,
    ) -> Unlearned:
        """Run the method.

        Args:
            trained: The model before unlearning; it is left as it is, bit for bit.
            request: Ids of the records to forget; order and repetition mean nothing.
            records: All records on which ``trained`` was trained.
            recipe: The recipe that trained it.
            params: What :meth:`params` returned.
            rng: All randomness of the run. Equal arguments give equal bits on one machine with one thread.
            allow_empty: Whether the request may name nothing: what the method makes of a model that has nothing to
                forget is the reference of Sekhari et al. 2021 (arXiv:2103.03279).

        Raises:
            MethodError: The request is empty or names everything, the method asked for what it does not declare, did
                nothing, diverged, or touched what it must not touch.
            DataError: The request names an unknown id.
        """
        from cu_cert.methods._contract import fingerprint, require_result

        if type(params) is not self.params_type:
            raise MethodError(
                f"method {self.name}: params is a {type(params).__name__}; expected what METHOD.params(options) returns"
            )
        forget, retain = split(request, records, allow_empty=allow_empty)
        before = fingerprint(trained)
        start = perf_counter()
        task = Task(
            method=self.name,
            needs=self.needs,
            params=params,
            rng=rng,
            _original=_copy(trained),
            _forget=forget,
            _retain=retain,
            _recipe=recipe,
        )
        done = _isolated(self.work, task)
        cost = perf_counter() - start
        if fingerprint(trained) != before:
            raise MethodError(f"method {self.name} changed the caller's model; expected it to work on a copy")
        require_result(self.name, done.model, trained)
        done.model.zero_grad(set_to_none=True)  # the last gradient is a trace of the last batch
        return Unlearned(
            model=done.model.eval(),
            parameters=printable(params),
            log=done.log,
            cost=cost,
            forget_reads=done.forget_reads,
        )


def _copy(trained: "torch.nn.Module") -> "torch.nn.Module":
    """Return a copy in evaluation mode, without the gradients that may hang on the caller's model."""
    import copy

    copied = copy.deepcopy(trained).eval()
    copied.zero_grad(set_to_none=True)
    return copied


def _isolated(work: Callable[[Task], Work], task: Task) -> Work:
    """Run ``work`` with gradients on and with a global generator of its own.

    Layers with randomness of their own (a user's dropout) draw from the global generator; it comes from the run's
    stream, too, and is put back afterwards.
    """
    import torch

    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(task.rng.child("torch").integer(63))
        return work(task)


def split(request: Collection[str], records: "Records", *, allow_empty: bool = False) -> "tuple[Records, Records]":
    """Return the records to forget and the others, by id.

    Raises:
        MethodError: The request is a string, empty, or names all records.
        DataError: It names an unknown id.
    """
    if isinstance(request, str):
        raise MethodError(f"the request is the string {request!r}; expected a collection of ids")
    forget = records.select(request)
    if not len(forget) and not allow_empty:
        raise MethodError("the request names 0 records; expected at least 1 id of a record trained on")
    if len(forget) == len(records):
        raise MethodError(
            f"the request names all {len(records)} training records; nothing would remain to train on or to "
            "compare with. Delete the model instead"
        )
    return forget, records.without(request)


def names() -> list[str]:
    """List the built-in methods without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def get(name: str, *, root: str | None = None) -> UnlearningMethod:
    """Import one method.

    Args:
        name: A built-in name, or ``python:module:NAME`` for a method outside the tree.
        root: Folder of ``cu-cert.toml``, from which outside modules are imported.

    Raises:
        MethodError: There is no such method, or what the name leads to is none.
    """
    if name.startswith("python:"):
        return _outside(name, root)
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise MethodError(
            f"[unlearning] method = {name!r} is unknown; {hint}expected one of {', '.join(names())} "
            "or python:module:NAME"
        )
    found: UnlearningMethod = importlib.import_module(f"{__name__}.{name}").METHOD
    return found


def _outside(name: str, root: str | None) -> UnlearningMethod:
    """Import a method outside the tree. It is certified under its full name, whatever it calls itself."""
    from pathlib import Path

    from cu_cert._user_code import importable, load_object, told

    folder = None if root is None else Path(root)
    try:
        loaded = load_object(name, "[unlearning] method", root=folder)
    except ConfigError as error:
        raise MethodError(str(error)) from error
    found = loaded.target
    if not isinstance(found, UnlearningMethod):
        raise MethodError(
            f"[unlearning] method = {name!r} is of type {type(found).__name__}; expected an UnlearningMethod, such as "
            "edit_method(...) returns"
        )
    inner = found.work

    def work(task: Task) -> Work:
        with importable(folder), told(f"method {name}"):
            return inner(task)

    sources = hashlib.sha256(json.dumps(loaded.sources).encode()).hexdigest()
    return replace(found, name=name, work=work, sources=sources)
