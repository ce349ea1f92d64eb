"""Subject: the model under edit, its frozen reference, and its streams of records."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from cu_cert._user_code import told
from cu_cert.errors import MethodError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from cu_cert.methods import Task
    from cu_cert.records import Records
    from cu_cert.rng import Stream


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Some rows of one stream.

    Args:
        x: What the model is applied to, shape (n, ...).
        y: Class indices, int64, shape (n,).
    """

    x: "torch.Tensor"
    y: "torch.Tensor"


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """All rows of one stream with their ids, and the marks by which they are ordered (``Records.marks``)."""

    ids: tuple[str, ...]
    marks: "npt.NDArray[np.uint64]"
    batch: Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A model with its data.

    Both models stay in evaluation mode: the edit works on the function that will be released, so dropout is off and
    batch normalisation uses, and keeps, its stored statistics.

    Args:
        model: The model under edit, a copy of the original.
        theta0: The original, frozen; the only reference there is.
        streams: Rows by stream name; only streams that the method declared.
        classes: Width of the model's output.
        rng: The run's randomness; a method draws its own under names of its own.
    """

    model: "torch.nn.Module"
    theta0: "torch.nn.Module"
    streams: Mapping[str, Rows]
    classes: int
    rng: "Stream"

    def out(self, batch: Batch) -> "torch.Tensor":
        """Return the class scores of the model under edit, shape (n, classes)."""
        return self._scores(self.model, batch)

    def reference(self, batch: Batch) -> "torch.Tensor":
        """Return the class scores of the frozen original, shape (n, classes), without a gradient."""
        import torch

        with torch.no_grad():
            return self._scores(self.theta0, batch)

    def steps(self, streams: Iterable[str], batch_size: int, epoch: int) -> Iterator[Mapping[str, Batch]]:
        """Yield the batches of one epoch, one of each stream a step.

        An epoch is one pass over the stream with the most batches. Shorter streams cycle along it: each is read in
        passes of its own, every pass in a fresh order. The order of a pass comes from the run's stream and the ids
        alone (:meth:`cu_cert.rng.Stream.order`), so it does not depend on how a file listed the records.

        Raises:
            MethodError: A stream is read that the method did not declare.
        """
        wanted = sorted(set(streams))
        missing = [name for name in wanted if name not in self.streams]
        if missing:
            raise MethodError(
                f"a term reads the stream {missing[0]!r}, but the method declares only "
                f"{', '.join(sorted(self.streams)) or 'no stream'}; add it to the method's needs"
            )
        length = max(-(-len(self.streams[name].ids) // batch_size) for name in wanted)
        endless = {name: self._cycle(name, batch_size, epoch) for name in wanted}
        for _ in range(length):
            yield {name: next(batches) for name, batches in endless.items()}

    def _cycle(self, name: str, batch_size: int, epoch: int) -> Iterator[Batch]:
        import torch

        rows = self.streams[name]
        for turn in count():
            order = torch.from_numpy(self.rng.child("order", name, epoch, turn).arrange(rows.marks))
            for part in torch.split(order, batch_size):
                yield Batch(x=rows.batch.x[part], y=rows.batch.y[part])

    def _scores(self, model: "torch.nn.Module", batch: Batch) -> "torch.Tensor":
        import torch

        hint = "a recipe that prepares its features needs a method features(records) -> Tensor"
        with told(f"applying the model to features of shape {tuple(batch.x.shape)} ({hint})"):
            scores = model(batch.x)
        expected = (len(batch.y), self.classes)
        if not isinstance(scores, torch.Tensor) or tuple(scores.shape) != expected:
            got = f"shape {tuple(scores.shape)}" if isinstance(scores, torch.Tensor) else f"a {type(scores).__name__}"
            raise MethodError(
                f"the model returned {got} for features of shape {tuple(batch.x.shape)}; expected class scores of "
                f"shape {expected}. If the recipe prepares its features, give it a method features(records) -> Tensor"
            )
        return scores


def make_subject(task: "Task") -> Subject:
    """Build the subject of a run; it holds the streams that the method declared and no others."""
    import copy

    import torch

    sources: dict[str, Records] = {}
    if "forget" in task.needs:
        sources["forget"] = task.forget
    if "retain" in task.needs:
        sources["retain"] = task.retain
    streams = {
        name: Rows(
            ids=records.ids,
            marks=records.marks,
            batch=Batch(
                # A recipe need not know what to make of no record at all.
                x=task.features(records) if len(records) else torch.from_numpy(records.x),
                y=torch.from_numpy(records.y),
            ),
        )
        for name, records in sources.items()
    }
    return Subject(
        model=task.original,
        theta0=copy.deepcopy(task.original).requires_grad_(False),
        streams=streams,
        classes=max(len(records.classes) for records in sources.values()),
        rng=task.rng,
    )
