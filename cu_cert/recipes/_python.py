"""``python:module:NAME``: training code of the user's as a recipe.

The object has

- ``build(seed)``: a fresh model, a ``torch.nn.Module``;
- ``train(model, records, rng)``: trains it in place or returns the trained one; ``rng`` is a numpy Generator;
- ``features(records)``, if wanted: the tensor to which the model is applied, instead of ``records.x`` as it is;
- ``logits(model, records)``, if wanted: class scores, instead of the model applied to the features.

It may be an instance, a class (made with the options as keyword arguments) or the module itself. A class is made anew
for every model and every scoring, so what a model has learned must lie in its tensors: a model file holds nothing else.
"""

import hashlib
import inspect
import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cu_cert._toml import toml_key
from cu_cert._user_code import UserObject, importable, load_object, told
from cu_cert.errors import ConfigError
from cu_cert.records import Records
from cu_cert.rng import Stream

_PLACE = "[training] recipe"
_FIXED = Stream.from_seed("cu-cert/scoring")
"""Scoring is a function of model and records; should user code draw numbers there, they are always the same."""

_CALLS = {
    "build": ("seed",),
    "train": ("model", "records", "rng"),
    "features": ("records",),
    "logits": ("model", "records"),
}


@dataclass(frozen=True, eq=False)
class UserRecipe:
    """A recipe whose training code the user wrote.

    Args:
        name: ``python:module:NAME``.
        options: Values of the table ``[training]`` but recipe and seed.
        root: Folder of ``cu-cert.toml``.
        found: What the name led to.
    """

    name: str
    options: Mapping[str, object]
    root: Path | None
    found: UserObject = field(repr=False)

    def __reduce__(self) -> tuple[Callable[..., "UserRecipe"], tuple[object, ...]]:
        # Another process imports the code anew; the object itself may not be picklable.
        return _again, (self.name, dict(self.options), None if self.root is None else str(self.root))

    @property
    def parameters(self) -> Mapping[str, object]:
        """All options as printable values."""
        return {key: _printable(value) for key, value in self.options.items()}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of name, options and the bytes of all project files that the module imports."""
        # Not canonical(): options may hold floats, and 0.5 and "0.5" are different options.
        document = {"recipe": self.name, "version": 1, "options": dict(self.options), "sources": self.found.sources}
        return hashlib.sha256(json.dumps(document, sort_keys=True, default=repr).encode()).hexdigest()

    def build(self, records: Records, *, rng: Stream) -> nn.Module:  # records: the protocol offers their shape
        """Return a fresh model. The user's ``build`` gets a seed below 2^32, which every library takes."""
        return self._build(self._instance(), rng)

    def train(self, records: Records, *, rng: Stream) -> nn.Module:
        """Train from a fresh initialisation."""
        if not len(records):
            raise ConfigError("training on 0 records; expected at least 1 (does the request remove all data?)")
        subject = self._instance()
        model = self._build(subject, rng).train()
        trained = self._call(subject, "train", rng.child("train"), model, records, rng.child("rng").numpy())
        if trained is None:
            return model.eval()
        if not isinstance(trained, nn.Module):
            raise ConfigError(
                f"{self.name}: train returned a {type(trained).__name__}; expected the trained torch.nn.Module, or "
                "None when it changed the given model in place"
            )
        return trained.eval()

    def features(self, records: Records) -> torch.Tensor:
        """Return the tensor to which the model is applied, one row a record."""
        subject = self._instance()
        if not hasattr(subject, "features"):
            return torch.from_numpy(records.x)
        rows = self._call(subject, "features", _FIXED, records)
        if not isinstance(rows, torch.Tensor) or rows.shape[:1] != (len(records),):
            raise ConfigError(
                f"{self.name}: features gave {_shape(rows)}; expected a tensor with one row for each of the "
                f"{len(records)} records"
            )
        return rows

    def logits(self, model: nn.Module, records: Records) -> torch.Tensor:
        """Return float32 class scores, shape (n, classes); the model is left as it was.

        Raises:
            ConfigError: The user's code fails, or its result has another shape.
        """
        subject = self._instance()
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            with torch.no_grad():
                if hasattr(subject, "logits"):
                    scores = self._call(subject, "logits", _FIXED, model, records)
                else:
                    rows = self.features(records)
                    with importable(self.root), seeded(_FIXED), told(f"{self.name}: applying the model"):
                        scores = model(rows)
        finally:
            for module, training in modes.items():
                module.training = training
        expected = (len(records), len(records.classes))
        if not isinstance(scores, torch.Tensor) or tuple(scores.shape) != expected:
            raise ConfigError(
                f"{self.name}: logits gave {_shape(scores)}; expected a tensor of shape {expected}: for each record a "
                "score for each class. Let build() make that many outputs, or add logits(model, records)"
            )
        return scores.detach().to(torch.float32)

    def _build(self, subject: object, rng: Stream) -> nn.Module:
        model = self._call(subject, "build", rng.child("build"), rng.child("init").integer(32))
        if not isinstance(model, nn.Module):
            raise ConfigError(f"{self.name}: build returned a {type(model).__name__}; expected a torch.nn.Module")
        return model.eval()

    def _instance(self) -> object:
        with importable(self.root):
            return _instance(self.name, self.found.target, self.options)

    def _call(self, subject: object, name: str, rng: Stream, *values: object) -> object:
        with importable(self.root), seeded(rng), told(f"{self.name}: {name}({', '.join(_CALLS[name])})"):
            result: object = getattr(subject, name)(*values)
            return result


def _shape(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"


def load_user_recipe(name: str, options: Mapping[str, object], *, root: str | None) -> UserRecipe:
    """Make the recipe that ``python:module:NAME`` names.

    Args:
        name: The full name; without ``:NAME`` the module itself is the object.
        options: Keyword arguments for a class; must be empty for anything else.
        root: Folder of ``cu-cert.toml``.

    Raises:
        ConfigError: The code cannot be imported, an option is wrong, or the object lacks ``build`` or ``train``.
    """
    for key in options:
        if not (key.isascii() and key.isidentifier()):
            raise ConfigError(f"[training] {toml_key(key)}: expected a key of letters a to z, digits and underscores")
    folder = None if root is None else Path(root)
    found = load_object(name, _PLACE, root=folder)
    with importable(folder):
        subject = _instance(name, found.target, options)
    for needed in ("build", "train"):
        if not callable(getattr(subject, needed, None)):
            raise ConfigError(
                f"{_PLACE} = {name!r}: has no {needed}({', '.join(_CALLS[needed])}); expected an object with "
                "build(seed) and train(model, records, rng)"
            )
    for needed, arguments in _CALLS.items():
        if hasattr(subject, needed):
            _require_signature(name, needed, getattr(subject, needed), arguments)
    return UserRecipe(name, dict(options), folder, found)


def _again(name: str, options: Mapping[str, object], root: str | None) -> UserRecipe:
    return load_user_recipe(name, options, root=root)


def _instance(name: str, target: object, options: Mapping[str, object]) -> object:
    """Return the object to call. A class is made anew each time, so no model inherits state from the one before."""
    if not isinstance(target, type):
        if options:
            key = next(iter(options))
            raise ConfigError(
                f"[training] {key}: {name} is not a class, so it takes no options; name a class, whose __init__ takes "
                "them as keyword arguments, or remove the key"
            )
        return target
    signature = inspect.signature(target)
    takes_any = any(part.kind is part.VAR_KEYWORD for part in signature.parameters.values())
    known = [
        key for key, part in signature.parameters.items() if part.kind not in (part.VAR_KEYWORD, part.VAR_POSITIONAL)
    ]
    for key in options:
        if key not in known and not takes_any:
            raise ConfigError(f"[training] {key}: unknown to {name}; expected {', '.join(known) or 'no option'}")
    for key in known:
        if key not in options and signature.parameters[key].default is inspect.Parameter.empty:
            raise ConfigError(f"{_PLACE} = {name!r}: needs the option {key}; add a line '{key} = ...' to [training]")
    with told(f"{_PLACE} = {name!r}: making it with the options of [training]"):
        return target(**options)


def _require_signature(name: str, method: str, function: Callable[..., object], arguments: tuple[str, ...]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a builtin that does not tell; calling it will
    try:
        signature.bind(*arguments)
    except TypeError:
        raise ConfigError(
            f"{_PLACE} = {name!r}: {method}{signature} cannot be called as {method}({', '.join(arguments)}); change "
            "its parameters"
        ) from None


@contextmanager
def seeded(rng: Stream) -> Iterator[None]:
    """Seed the global generators of random, numpy and torch for a while, and restore them.

    cu-cert itself never draws from them. But user code may (``nn.Linear`` initialises from torch's), and then a model
    would depend on what happened before in the process: the audit needs models that share nothing random, and the same
    seed must give the same bits in any worker.
    """
    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(rng.child("random").integer(63))
        np.random.seed(rng.child("numpy").integer(32))
        torch.default_generator.manual_seed(rng.child("torch").integer(63))
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)


def _printable(value: object) -> object:
    """Return an option as a certificate holds it: whole numbers as they are, other numbers and dates as strings."""
    match value:
        case None | bool() | str():
            return value
        case int() if abs(value) < 2**53:
            return value
        case list() | tuple():
            return [_printable(item) for item in value]
        case dict():
            return {str(key): _printable(item) for key, item in value.items()}
        case _:
            return str(value)
