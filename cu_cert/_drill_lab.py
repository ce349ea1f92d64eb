"""What a drill does: draw candidates, make models, measure them. ``drilling.py`` judges them."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import process_time
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import numpy.typing as npt

from cu_cert._drill_design import Design
from cu_cert.canaries import Candidates, choose, joined, set_aside
from cu_cert.errors import DataError
from cu_cert.fleet.environment import code_digest, fingerprint_digest
from cu_cert.fleet.progress import Progress
from cu_cert.fleet.store import Entry, Store
from cu_cert.methods import UnlearningMethod
from cu_cert.methods._params import printable
from cu_cert.model_file import load_into, load_state, save_model, state_digest
from cu_cert.records import Records
from cu_cert.rng import Stream
from cu_cert.signals import Signals, measure
from cu_certificates.check.strict import canonical

if TYPE_CHECKING:
    import torch
    from _typeshed import DataclassInstance

    from cu_cert.recipes import Recipe

FloatArray = npt.NDArray[np.float64]
Value = TypeVar("Value", np.float64, np.bool_)

CONTROLS: Final = 3
"""Retrained models of the negative control; their scores are averaged, so a leak common to them stands out."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Seen:
    """What one model says, and which model it was.

    Args:
        signals: Margins of the candidates (or of the pool), then of the held-out records.
        asked: How many of them are candidates.
        tensors: Digest of the model's tensors.
        seconds: CPU-seconds that making it took.
        model: The model itself, where somebody needs it later.
    """

    signals: Signals
    asked: int
    tensors: str
    seconds: float
    model: "torch.nn.Module | None" = None

    @property
    def margins(self) -> FloatArray:
        """Margins of the candidates."""
        return self.signals.margin[: self.asked]

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Which held-out records are answered rightly."""
        return self.signals.correct[self.asked :]

    @property
    def accuracy(self) -> float:
        """Share of right answers on the held-out records."""
        return float(self.correct.mean())


@dataclass(frozen=True, eq=False, kw_only=True)
class Drawn:
    """Everything that stands before the coins.

    Args:
        candidates: Who gets a coin.
        margins: Margins that the reference models give them, shape (references, m), in the order of their ids.
        references: The reference models.
        order: The candidates' numbers: which of their records, in the order of ids, has number 0, 1, ..., m - 1.
    """

    candidates: Candidates
    margins: FloatArray
    references: Sequence[Seen]
    order: tuple[int, ...]

    def numbered(self, values: npt.NDArray[Value]) -> npt.NDArray[Value]:
        """Put values of the candidates, in the order of their ids, into the order of their numbers.

        Args:
            values: Shape (..., m).
        """
        return values[..., list(self.order)]

    def strata(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Return which numbers are of each kind."""
        return {kind: self.numbered(own) for kind, own in self.candidates.strata().items()}

    def by_id(self, coins: Sequence[int]) -> tuple[int, ...]:
        """Put one coin a number into the order of the candidates' ids."""
        return tuple(coin for _, coin in sorted(zip(self.order, coins, strict=True)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """Everything that is needed to guess.

    Args:
        drawn: Candidates and references.
        coins: The coin of each candidate, by number.
        subjects: ``method``, ``original`` and ``retrain``; the first with its model.
        controls: Retrained models of the negative control.
    """

    drawn: Drawn
    coins: tuple[int, ...]
    subjects: Mapping[str, Seen]
    controls: Sequence[Seen]


class Lab:
    """Makes models, one after the other, and says how far it is.

    Args:
        recipe: How models are trained.
        held_out: Records that no model is trained on.
        progress: Shows how far it is.
        store: Where what was trained is kept for another run; nowhere when ``None``.
    """

    def __init__(self, recipe: "Recipe", held_out: Records, progress: Progress, store: Store | None = None) -> None:
        self.recipe, self.held_out, self.store = recipe, held_out, store
        self.progress, self.done = progress, 0

    def made(
        self, make: "Callable[[], torch.nn.Module]", asked: Records, what: str, *names: str, keep: bool = False
    ) -> Seen:
        """Make and measure a model, or take both from the store.

        Args:
            make: Makes it.
            asked: The records that it is asked about, besides the held-out ones.
            what: How it is called in an error message.
            names: All that ``make`` depends on, besides recipe, program and machine; empty to keep nothing.
            keep: Whether the model itself is needed.

        Raises:
            DataError: Its scores are not finite, or the store is damaged.
        """
        key = self._key(names) if self.store is not None and names else ""
        seen = self._stored(key, asked, keep) or self._new(make, asked, what, key, keep)
        self.done += 1
        self.progress.show(self.done)
        return seen

    def _new(self, make: "Callable[[], torch.nn.Module]", asked: Records, what: str, key: str, keep: bool) -> Seen:
        started = process_time()
        model = make()
        seconds = process_time() - started
        parts = [measure(self.recipe, model, records) for records in (asked, self.held_out)]
        if not parts[0].usable:
            raise DataError(f"drill: {what} gives NaN or infinite scores; it diverged, so nothing can be measured")
        signals = Signals(*(np.concatenate([getattr(part, of) for part in parts]) for of in ("margin", "correct")))
        seen = Seen(
            signals=signals, asked=len(asked), tensors=state_digest(model.state_dict()), seconds=seconds, model=model
        )
        if key and self.store is not None:
            if keep:
                save_model(self.store.place(key), model)
            self.store.put_signals(key, self._query(asked), signals)
            entry = Entry(model=seen.tensors, seconds=seconds, engine="drill", environment=fingerprint_digest())
            self.store.finish(key, entry)
        return seen if keep else replace(seen, model=None)

    def _stored(self, key: str, asked: Records, keep: bool) -> Seen | None:
        if not key or self.store is None or (entry := self.store.entry(key)) is None:
            return None
        signals = self.store.signals(key, self._query(asked))
        if signals is None:
            return None
        model = None
        if keep:
            model = self._loaded(key, entry)
        return Seen(signals=signals, asked=len(asked), tensors=entry.model, seconds=entry.seconds, model=model)

    def _loaded(self, key: str, entry: Entry) -> "torch.nn.Module":
        assert self.store is not None  # the entry came from there
        path = self.store.model_path(key)
        model = self.recipe.build(self.held_out, rng=Stream.from_seed("load"))
        try:
            load_into(model, load_state(path), path)
            sound = state_digest(model.state_dict()) == entry.model
        except DataError:
            sound = False
        if not sound:
            raise DataError(
                f"{path}: this model of the store is missing or damaged; delete {self.store.entry_path(key)} "
                "and run again"
            )
        return model.eval()

    def _key(self, names: Sequence[str]) -> str:
        found = ["drill", self.recipe.digest, code_digest(), fingerprint_digest(), *names]
        return hashlib.sha256(canonical(found)).hexdigest()

    def _query(self, asked: Records) -> str:
        return Stream.from_seed(asked.digest + self.held_out.digest).key.hex()


def draw(design: Design, lab: Lab, train: Records, *, rng: Stream) -> Drawn:
    """Draw the candidates and train the reference models, which see none of them; the numbers follow the ids.

    Args:
        design: Sizes and kind.
        lab: Makes the models.
        train: D.
        rng: Randomness of all that stands before the coins.
    """
    pool = set_aside(train, design.canaries, design.candidates, rng=rng)

    def reference(number: int) -> Seen:
        stream = rng.child("reference", number)
        names = ("train", pool.rest.digest, stream.key.hex())
        return lab.made(lambda: lab.recipe.train(pool.rest, rng=stream), pool.records, "a reference model", *names)

    references = [reference(number) for number in range(design.references)]
    margins = np.stack([one.margins for one in references])
    candidates = choose(train, pool, design.canaries, design.candidates, margins)
    return Drawn(
        candidates=candidates,
        margins=margins[:, candidates.columns],
        references=references,
        order=tuple(range(len(candidates.records))),
    )


def rehearse(
    lab: Lab,
    drawn: Drawn,
    coins: tuple[int, ...],
    method: UnlearningMethod,
    params: "DataclassInstance",
    retrain: UnlearningMethod,
    *,
    rng: Stream,
) -> Measured:
    """Train the original on what the coins put in, unlearn exactly that, and make the models of the controls.

    Args:
        lab: Makes the models.
        drawn: Candidates and references.
        coins: The coin of each candidate, by number, not all alike.
        method: The method under rehearsal.
        params: Its parameters.
        retrain: The reference, which goes through the same code as the method.
        rng: Randomness of the models.
    """
    asked = drawn.candidates.records
    entered = drawn.by_id(coins)
    everything = joined(drawn.candidates.base, asked, entered)
    request = tuple(name for name, coin in zip(asked.ids, entered, strict=True) if coin)
    stream = rng.child("original")
    names = ("train", everything.digest, stream.key.hex())
    original = lab.made(lambda: lab.recipe.train(everything, rng=stream), asked, "the original", *names, keep=True)
    before = original.model
    assert before is not None  # it was kept

    def unlearned(way: UnlearningMethod, given: "DataclassInstance", *of: str | int, under_test: bool = False) -> Seen:
        own = rng.child(*of)
        asks = hashlib.sha256(canonical([list(request), printable(given)])).hexdigest()
        named = () if under_test else ("unlearn", way.name, original.tensors, everything.digest, asks, own.key.hex())
        return lab.made(
            lambda: way.unlearn(before, request, everything, recipe=lab.recipe, params=given, rng=own).model,
            asked,
            f"the model of {way.name}",
            *named,
            keep=under_test,
        )

    plain = retrain.params({})
    return Measured(
        drawn=drawn,
        coins=coins,
        subjects={
            "method": unlearned(method, params, "method", method.name, under_test=True),
            "original": replace(original, model=None),
            "retrain": unlearned(retrain, plain, "retrain"),
        },
        controls=[unlearned(retrain, plain, "control", number) for number in range(CONTROLS)],
    )
