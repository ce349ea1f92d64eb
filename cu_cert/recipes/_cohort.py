"""Many models of one recipe in one program: the loop, and the layers of which a program is made.

Layers work on fixed buffers with a leading axis of models, and their gradients are written out, so a step is a short
list of batched matrix products and passes over memory, whatever the number of models. What each model computes is what
:func:`cu_cert.recipes._classifier.fit` computes: the same start, the same records in the same order and batches, its
own constants of standardisation, cross-entropy, and SGD as ``torch.optim.SGD`` defines it (b <- momentum b + gradient +
weight_decay w; w <- w - learning_rate b). Only the order of additions inside a product differs, so results agree but
for the last bits.

Models may have different numbers of records. They stand by falling number, so those that take a step are always the
first ones, and a model that takes none is not touched, neither by momentum nor by decay. In a last batch of differing
sizes the short ones repeat a record of their own with weight 0.

Memory, in bytes: the records once; 4 for each record and model (orders); for each model twice its weights, and a batch
of features and two of every layer's outputs (:mod:`cu_cert.recipes._cohort_conv` says what a convolution adds).
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cu_cert.errors import ConfigError
from cu_cert.recipes._classifier import Standardize, TrainingParams
from cu_cert.recipes._cohort_conv import Convolutions, at_once, stages
from cu_cert.recipes._cohort_layers import Head, Hidden, Layer, Space, Tape
from cu_cert.recipes._lowrank import LowRank, LowRanks
from cu_cert.records import IntArray, Records
from cu_cert.rng import Stream

_FEW_DIGITS: Final = 1e-7
"""Below this share of the second moment, a variance taken as a difference has lost too many of its digits."""

_CHUNK: Final = 1 << 16
"""Numbers that the measuring of means and deviations holds in double precision at once; so many stay in a cache."""


@dataclass(frozen=True)
class Seats:
    """Who trains on what, by falling number of records.

    Args:
        rows: Positions of each model's records, ascending.
        rngs: The models' streams.
        batch_size: Most rows a step.
    """

    rows: Sequence[IntArray]
    rngs: Sequence[Stream]
    batch_size: int

    @property
    def steps(self) -> int:
        """Steps an epoch of the model with most records."""
        return -(-len(self.rows[0]) // self.batch_size)

    def sizes(self) -> list[npt.NDArray[np.int64]]:
        """Return, for each step of an epoch, the batch sizes of the models that take it."""
        left = np.array([len(rows) for rows in self.rows])
        found = []
        for step in range(self.steps):
            sizes = np.minimum(left - step * self.batch_size, self.batch_size)
            found.append(sizes[sizes > 0])
        return found

    def order(self, marks: Sequence[npt.NDArray[np.uint64]], epoch: int) -> npt.NDArray[np.int32]:
        """Return the positions that each model reads in each step, shape (steps, models, batch size).

        Args:
            marks: The marks of each model's records.
            epoch: Number of the epoch.
        """
        found = np.empty((len(self.rows), self.steps * self.batch_size), dtype=np.int32)
        for line, rows, mark, rng in zip(found, self.rows, marks, self.rngs, strict=True):
            line[: len(rows)] = rows[rng.child("order", epoch).arrange(mark)]
            line[len(rows) :] = rows[0]
        return np.ascontiguousarray(found.reshape(len(found), self.steps, -1).transpose(1, 0, 2))


def falling(rows: Sequence[IntArray], total: int) -> list[int]:
    """Return the models by falling number of records.

    Args:
        rows: Positions of each model's records.
        total: Number of all records.

    Raises:
        ConfigError: A model has no records, or positions are not ascending positions of records.
    """
    for number, found in enumerate(rows):
        if not len(found):
            raise ConfigError(
                f"training on 0 records (model {number} of its cohort); expected at least 1 (does the request remove "
                "all data?)"
            )
        if found[0] < 0 or found[-1] >= total or (np.diff(found) <= 0).any():
            raise ConfigError(f"model {number} of a cohort: expected ascending positions of the {total} records")
    return sorted(range(len(rows)), key=lambda number: -len(rows[number]))


def constants(x: Tensor, rows: Sequence[IntArray], shared: int) -> tuple[Tensor, Tensor]:
    """Return mean and scale of each model's records, as :meth:`Standardize.fit` measures them.

    All models are measured by two matrix products over all records, in double precision; where a deviation is so small
    beside its distance from the common mean that the difference of moments lost its digits, it is measured anew.

    Args:
        x: All features, shape (n, kinds, shared).
        rows: Positions of each model's records.
        shared: Numbers of a record that share their constants, 1 for dense features.

    Returns:
        Two float32 tensors of shape (models, kinds).
    """
    n, kinds, _ = x.shape
    member = torch.zeros(len(rows), n, dtype=torch.float64, device=x.device)
    for line, found in zip(member, rows, strict=True):
        line[torch.from_numpy(found).to(x.device)] = 1.0 / (len(found) * shared)
    centre = x.mean(dim=(0, 2)).double()  # any near number serves
    first, second = (torch.zeros(len(rows), kinds, dtype=torch.float64, device=x.device) for _ in range(2))
    size = max(1, _CHUNK // max(1, x[:1].numel()))
    buffer = torch.zeros(min(size, n), *x.shape[1:], dtype=torch.float64, device=x.device)
    for part, weight in zip(torch.split(x, size), torch.split(member, size, dim=1), strict=True):
        away = torch.sub(part, centre[:, None], out=buffer[: len(part)])
        first += weight @ _summed(away)
        second += weight @ _summed(away.square_())
    variance = (second - first.square()).clamp_min(0)
    mean, spread = (first + centre).float(), variance.sqrt().float()
    for model, kind in (variance <= _FEW_DIGITS * second).nonzero().tolist():
        spread[model, kind] = x[torch.from_numpy(rows[model]).to(x.device), kind].std(unbiased=False)
    return mean, torch.where(spread > Standardize.SMALLEST, spread, torch.ones_like(spread))


def _summed(values: Tensor) -> Tensor:
    """Return sums over the last of three axes; torch takes its time over axes of size 1."""
    return values[:, :, 0] if values.shape[2] == 1 else values.sum(dim=2)


@dataclass(frozen=True)
class Step:
    """A step of one size on fixed buffers.

    Args:
        tape: The layers' operations.
        x: Where the features go, shape (live models, rows, features).
        norm: Mean and scale of the live models, shape (live models, 1, features), or ``None``.
        labels: Where the labels go, shape (live models, 1, rows).
        chance: The class probabilities that the head leaves, shape (live models, classes, rows).
        weight: 1 / batch size for each row that counts, 0 for the others, shape (live models, 1, rows).
        minus: -1 for each row.
        moved: Weights and velocities of the live models.
    """

    tape: Tape
    x: Tensor
    norm: tuple[Tensor, Tensor] | None
    labels: Tensor
    chance: Tensor
    weight: Tensor
    minus: Tensor
    moved: Sequence[tuple[Tensor, Tensor]]

    def run(self, x: Tensor, y: Tensor, index: Tensor) -> None:
        """Compute the gradients of one batch and add them to the velocities.

        Args:
            x: Features of all records, shape (n, features).
            y: Their labels.
            index: The rows to read, model by model, shape (live models * rows,).
        """
        torch.index_select(x, 0, index, out=self.x.view(-1, x.shape[1]))
        torch.index_select(y, 0, index, out=self.labels.view(-1))
        if self.norm is not None:
            self.x.sub_(self.norm[0]).div_(self.norm[1])
        for op in self.tape.forward:
            op()
        # The gradient of the mean cross-entropy by the scores: (softmax - one-hot) / batch size.
        self.chance.scatter_add_(1, self.labels, self.minus).mul_(self.weight)
        for op in reversed(self.tape.backward):
            op()

    def move(self, params: TrainingParams) -> None:
        """Move the weights of the live models."""
        for weights, velocity in self.moved:
            if params.weight_decay:
                velocity.add_(weights, alpha=params.weight_decay)
            weights.add_(velocity, alpha=-params.learning_rate)


class Program:
    """Models that train together.

    Args:
        x: Features of all records, float32, shape (n, features).
        y: Labels of all records.
        norm: Mean and scale of each model, shape (models, 1, features), or ``None``.
        layers: The layers, the last a :class:`Head`.
        params: Parameters of the recipe.
    """

    def __init__(
        self, x: Tensor, y: Tensor, norm: tuple[Tensor, Tensor] | None, layers: Sequence[Layer], params: TrainingParams
    ) -> None:
        self.x, self.y, self.norm, self.layers, self.params = x, y, norm, layers, params
        self._space = Space(x.device)

    def train(self, seats: Seats, marks: npt.NDArray[np.uint64]) -> None:
        """Train all models and write their weights into them.

        Args:
            seats: The models, in the order of the leading axis.
            marks: The marks of all records.
        """
        own = [marks[rows] for rows in seats.rows]
        sizes = seats.sizes()
        known = {size.tobytes(): size for size in sizes}
        # The first is the largest, so it takes the buffers of which the others use parts.
        steps = {key: self._step(size) for key, size in known.items()}
        plan = [(steps[size.tobytes()], len(size), int(size[0])) for size in sizes]
        for epoch in range(self.params.epochs):
            order = torch.from_numpy(seats.order(own, epoch)).to(self.x.device)
            for (step, live, rows), index in zip(plan, order, strict=True):
                step.run(self.x, self.y, index[:live, :rows].reshape(-1))
                step.move(self.params)
        for layer in self.layers:
            layer.store()

    def _step(self, sizes: npt.NDArray[np.int64]) -> Step:
        """Return the program of a step; ``sizes`` are the batch sizes of the models that take it, falling."""
        live, rows = len(sizes), int(sizes[0])
        device, tape = self.x.device, Tape()
        x = self._space.take("x", live, rows, self.x.shape[1])
        out, grad = x, None
        for layer in self.layers:
            out, grad = layer.bind(tape, self._space, out, grad)
        weight = (np.arange(rows) < sizes[:, None]) / sizes[:, None]
        return Step(
            tape=tape,
            x=x,
            norm=None if self.norm is None else (self.norm[0][:live], self.norm[1][:live]),
            labels=torch.zeros(live, 1, rows, dtype=torch.int64, device=device),
            chance=out,
            weight=torch.from_numpy(weight).float()[:, None].to(device),
            minus=torch.full((live, 1, rows), -1.0, device=device),
            moved=[weights[live] for layer in self.layers for weights in layer.weights],
        )


def train_together(
    models: Sequence[nn.Sequential],
    inputs: Callable[[Records], Tensor],
    records: Records,
    rows: Sequence[IntArray],
    params: TrainingParams,
    *,
    rngs: Sequence[Stream],
    device: str,
) -> None:
    """Train models in place, as :func:`cu_cert.recipes._classifier.fit` trains each of them.

    Args:
        models: Fresh models of one kind; what is frozen is not among their parts.
        inputs: Returns what the models are applied to, one row a record.
        records: All records.
        rows: Positions of each model's records, ascending.
        params: The recipe's parameters.
        rngs: The models' streams, from which their orders derive.
        device: Where to compute.

    Raises:
        ConfigError: A model has no records, or positions are not ascending positions of records.
    """
    order = falling(rows, len(records))
    where = torch.device(device)
    if where.type == "cuda":
        # Without it, cuBLAS may add up in another order from run to run, and torch refuses when it was told to repeat.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    features, labels = inputs(records).to(where), torch.from_numpy(records.y).to(where)
    size = _at_once(models[0], features, params.batch_size)
    for start in range(0, len(order), size):
        seated = order[start : start + size]
        own, seats = (
            [models[k] for k in seated],
            Seats([rows[k] for k in seated], [rngs[k] for k in seated], params.batch_size),
        )
        norm = _standardise(own, features, seats.rows) if params.standardize else None
        layers = layers_of(own, features, params)
        program = Program(features.reshape(len(records), -1), labels, norm, layers, params)
        # Without tf32: an accelerator's convolutions would round features to 10 bits otherwise.
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            program.train(seats, records.marks)


def _at_once(model: nn.Sequential, x: Tensor, rows: int) -> int:
    """Return how many models train in one program at most."""
    if not any(isinstance(part, nn.Conv2d) for part in model):
        return sys.maxsize
    return at_once(model, (x.shape[-2], x.shape[-1]), rows)


def _standardise(models: Sequence[nn.Sequential], x: Tensor, rows: Sequence[IntArray]) -> tuple[Tensor, Tensor]:
    """Fit the models' :class:`Standardize` and return their constants for flat features, (models, 1, features)."""
    firsts = [next(part for part in model if isinstance(part, Standardize)) for model in models]
    shape = firsts[0].mean.shape
    shared = x[0].numel() // firsts[0].mean.numel()
    mean, scale = constants(x.reshape(len(x), -1, shared), rows, shared)
    for first, own_mean, own_scale in zip(firsts, mean.cpu(), scale.cpu(), strict=True):
        first.mean.copy_(own_mean.reshape(shape))
        first.scale.copy_(own_scale.reshape(shape))
    wide = [part.repeat_interleave(shared, dim=1)[:, None] for part in (mean, scale)]
    return wide[0], wide[1]


def layers_of(models: Sequence[nn.Sequential], x: Tensor, params: TrainingParams) -> list[Layer]:
    """Return the layers of models of one kind that are applied to ``x``."""
    found: list[Layer] = []
    device, momentum, last = x.device, params.momentum, len(models[0]) - 1
    if any(isinstance(part, nn.Conv2d) for part in models[0]):
        size = (x.shape[-2], x.shape[-1])
        found.append(Convolutions([stages(model, size) for model in models], device, momentum))
    for number, same in enumerate(zip(*models, strict=True)):
        linear = [part for part in same if isinstance(part, nn.Linear)]
        if adapters := [part for part in same if isinstance(part, LowRank)]:
            found.append(LowRanks(adapters, device, momentum))
        elif linear and number == last:
            found.append(Head(linear, device, momentum))
        elif linear:
            found.append(Hidden(f"hidden {number}", linear, device, momentum))
    return found
