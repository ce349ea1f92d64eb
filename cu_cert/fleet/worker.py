"""What one worker process does: make a member, measure it, keep both; one thread, nothing shared with its siblings."""

import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from cu_cert.errors import ConfigError, DataError, MethodError
from cu_cert.fleet.environment import code_digest, fingerprint_digest, single_threaded
from cu_cert.fleet.executor import Group
from cu_cert.fleet.parcel import Parcel
from cu_cert.fleet.plan import Cohort, Half, Identity, Member
from cu_cert.fleet.store import Entry, Store, described
from cu_cert.model_file import load_into, load_state, state_digest
from cu_cert.recipes import CohortRecipe
from cu_cert.records import Records, make_records
from cu_cert.rng import Stream
from cu_cert.signals import Signals, measure

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    import torch

    from cu_cert.recipes import Recipe


Standing = Literal["make", "measure", "finished"]


@dataclass(frozen=True)
class Workshop:
    """Everything that making a member needs; sent to each worker once.

    Args:
        recipe_digest: Digest that the recipe must have.
        recipe_name: Name of the recipe.
        recipe_options: Its options.
        root: Folder of the project, from which user code is imported.
        train: D, the training records.
        held_out: Records that are never trained on.
        forget: Ids of the request.
        store: Folder of the store.
        device: Where cohorts are trained: ``cpu``, or the name of an accelerator.
    """

    recipe_digest: str
    recipe_name: str
    recipe_options: dict[str, object]
    root: str
    train: Records
    held_out: Records
    forget: tuple[str, ...]
    store: Path
    device: str = "cpu"

    def __getstate__(self) -> dict[str, object]:
        """Return what another process is given: what was worked out here is worked out there again."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @cached_property
    def recipe(self) -> "Recipe":
        """The recipe, made anew in each process so that user code need not be picklable."""
        from cu_cert.recipes import make_recipe

        found = make_recipe(self.recipe_name, self.recipe_options, root=self.root)
        if found.digest != self.recipe_digest:
            raise ConfigError(
                f"recipe {self.recipe_name}: its code was changed while models were trained; run the command again"
            )
        return found

    @cached_property
    def retain(self) -> Records:
        """D without the request."""
        return self.train.without(self.forget)

    @cached_property
    def forget_records(self) -> Records:
        """The request's records."""
        return self.train.select(self.forget)

    @cached_property
    def universe(self) -> Records:
        """All records, held-out ones included, of which halves are drawn."""
        parts = (self.train, self.held_out)
        return make_records(
            [name for part in parts for name in part.ids],
            np.concatenate([part.x for part in parts]),
            np.concatenate([part.y for part in parts]),
            self.train.classes,
        )

    def ids_of(self, name: str) -> Sequence[str]:
        """Return the ids of the records that a member's ``records`` names."""
        if (half := Half.parse(name)) is not None:
            return [one for one in self.universe.ids if half.holds(one)]
        return self.train.ids if name == "all" else self.retain.ids

    def records_of(self, name: str) -> Records:
        """Return the records that a member's ``records`` names."""
        if Half.parse(name) is not None:
            return self.universe.select(self.ids_of(name))
        return self.train if name == "all" else self.retain

    @cached_property
    def identity(self) -> Identity:
        """What all members have in common."""
        return Identity(
            recipe=self.recipe.digest,
            records={"all": self.train.digest, "retain": self.retain.digest, "universe": self.universe.digest},
            request=self.forget_records.digest,
            code=code_digest(),
            environment=fingerprint_digest(),
            device=self.device,
        )

    @cached_property
    def query(self) -> str:
        """Digest of what is measured on every model but halves: the request's and the held-out records."""
        return Stream.from_seed(self.forget_records.digest + self.held_out.digest).key.hex()

    def query_of(self, member: Member) -> str:
        """Digest of what is measured on a member; on a half it is all records, so that it serves every request."""
        return self.query if Half.parse(member.records) is None else Stream.from_seed(self.universe.digest).key.hex()

    def standing(self, member: Member) -> Standing:
        """Return what is left to do for a member; nothing where it is known to fail."""
        store, key = Store(self.store), self.identity.key(member)
        entry = store.entry(key)
        if entry is None:
            return "make"
        return "finished" if entry.problem or store.signals(key, self.query_of(member)) is not None else "measure"

    def finished(self, member: Member) -> bool:
        """Whether a member is made and measured, or is known to fail."""
        return self.standing(member) == "finished"

    def make_group(self, members: Sequence[Member]) -> None:
        """Make and measure the members of a group of the fleet plan, one after another; see :meth:`make`."""
        for member in members:
            self.make(member)

    def make(self, member: Member) -> None:
        """Make and measure a member unless that was done already; its parent must be finished.

        If it is missing from its cohort, the whole cohort is trained again; models that are there are not replaced.
        A run that fails for a reason of its own (it diverged, the method refused) is kept as failed: a planned slot
        that failed is counted, never trained again until it works.

        Raises:
            DataError: The store is damaged.
            CuCertError: The disk is full, or the recipe's code was changed; nothing is kept then.
        """
        store, key, query = Store(self.store), self.identity.key(member), self.query_of(member)
        entry = store.entry(key)
        if entry is None:
            entry = self._train(member, store, key) if member.cohort is None else self._train_cohort(member.cohort)[key]
        if not entry.problem and store.signals(key, query) is None:
            whole = Half.parse(member.records) is not None
            store.put_signals(key, query, self.measure(self.model(member), whole=whole))

    def load(self, key: str) -> "torch.nn.Module":
        """Return a finished model of the store; weights that are damaged are moved aside.

        Raises:
            DataError: It is missing or damaged.
        """
        store = Store(self.store)
        path, entry = store.model_path(key), store.entry(key)
        model = self.recipe.build(self.train, rng=Stream.from_seed("load"))
        try:
            load_into(model, load_state(path), path)
            sound = entry is not None and state_digest(model.state_dict()) == entry.model
        except DataError:
            sound = False
        if not sound:
            found = "damaged" if path.exists() else "missing"
            if entry is not None and found == "damaged":
                store.drop_model(key, "its tensors do not fit its entry")
            raise DataError(f"{path}: this model of the store is {found}; delete {store.entry_path(key)} and run again")
        return model.eval()

    def model(self, member: Member) -> "torch.nn.Module":
        """Return a finished member's model; it is made again when its weights were damaged, or removed to save room.

        Raises:
            DataError: Made again, it is another model.
        """
        key, store = self.identity.key(member), Store(self.store)
        try:
            return self.load(key)
        except DataError:
            if store.entry(key) is None:
                raise
        if member.cohort is None:
            self._train(member, store, key)
        else:
            self._train_cohort(member.cohort)
        return self.load(key)

    def _train(self, member: Member, store: Store, key: str) -> Entry:
        # A damaged parent or a full disk is no failure of this run, so neither is met inside the try.
        parent = None if member.parent is None else self._parent(member.parent)
        started = time.process_time()
        model = _attempt(lambda: self._model(member, parent))
        return self._keep(member, model, time.process_time() - started, "single")

    def _train_cohort(self, cohort: Cohort) -> dict[str, Entry]:
        """Train all models of a cohort in one program, keep those that are not there yet, and return all entries."""
        recipe = self.recipe
        if not isinstance(recipe, CohortRecipe):
            raise ConfigError(f"recipe {self.recipe_name}: cannot train several models in one program; engine = single")
        rows = {seat.records: self.universe.positions(self.ids_of(seat.records)) for seat in cohort.seats}
        clock = time.process_time if self.device == "cpu" else time.perf_counter  # here the processor only waits
        started = clock()
        models = _attempt(
            lambda: recipe.train_cohort(
                self.universe,
                [rows[seat.records] for seat in cohort.seats],
                rngs=[Stream(bytes.fromhex(seat.seed)) for seat in cohort.seats],
                device=self.device.split(":")[0],
            )
        )
        seconds = (clock() - started) / len(cohort.seats)
        found = {}
        for position, member in enumerate(cohort.members()):
            key = self.identity.key(member)
            model = models if isinstance(models, str) else models[position]
            found[key] = self._keep(member, model, seconds, "vectorised")
        return found

    def _keep(self, member: Member, model: "torch.nn.Module | str", seconds: float, engine: str) -> Entry:
        """Store a model, or why there is none, and return its entry; what is there already stays as it is."""
        store, key, digest = Store(self.store), self.identity.key(member), ""
        known = store.entry(key)
        if known is not None and (known.problem or store.model_path(key).exists()):
            return known
        sound = model if isinstance(model, str) else _attempt(lambda: _require_finite(model))
        if not isinstance(sound, str):
            digest = state_digest(sound.state_dict())
        if known is not None and known.model != digest:
            raise DataError(
                f"model {key[:12]} ({member.label}): its weights were gone, and made again they have other bits; the "
                f"recipe does not repeat itself here; delete {store.entry_path(key)} and the files beside it whose "
                "names begin alike, and run again"
            )
        if not isinstance(sound, str):
            store.put_model(key, sound)
        entry = Entry(
            model=digest,
            seconds=round(seconds, 6),
            engine=engine,
            environment=self.identity.environment,
            problem=sound if isinstance(sound, str) else "",
            **described(member, self.identity),
        )
        return store.finish(key, entry) if known is None else known

    def _parent(self, member: Member) -> "torch.nn.Module | str":
        """Return the model that a method starts from, or why there is none."""
        key = self.identity.key(member)
        entry = Store(self.store).entry(key)
        return f"the model to start from failed: {entry.problem}" if entry and entry.problem else self.model(member)

    def _model(self, member: Member, parent: "torch.nn.Module | str | None") -> "torch.nn.Module":
        rng = Stream(bytes.fromhex(member.seed))
        if isinstance(parent, str):
            raise MethodError(parent)
        if parent is None or member.method is None:
            return self.recipe.train(self.records_of(member.records), rng=rng)
        from cu_cert.methods import get

        method = get(member.method, root=self.root)
        params = method.params(member.options)
        request, records = ((), self.retain) if member.empty else (self.forget, self.train)
        return method.unlearn(
            parent, request, records, recipe=self.recipe, params=params, rng=rng, allow_empty=member.empty
        ).model

    def measure(self, model: "torch.nn.Module", *, whole: bool = False) -> Signals:
        """Return a model's signals on the request's and the held-out records, in this order.

        Args:
            model: The model.
            whole: Whether to measure all records of the project instead, in the order of their ids.
        """
        asked = (self.universe,) if whole else (self.forget_records, self.held_out)
        parts = [measure(self.recipe, model, records) for records in asked]
        return Signals(
            np.concatenate([part.margin for part in parts]), np.concatenate([part.correct for part in parts])
        )


T = TypeVar("T")


def _attempt(work: Callable[[], T]) -> T | str:
    """Return what ``work`` returns, or why it failed when the reason is its own and would come again."""
    try:
        return work()
    except (ConfigError, DataError, MethodError) as problem:
        return str(problem)


def _require_finite(model: "torch.nn.Module") -> "torch.nn.Module":
    """Return a model all of whose tensors are finite.

    Raises:
        DataError: Training diverged.
    """
    import torch

    from cu_cert.methods._contract import tensors

    for name, tensor in tensors(model):
        # torch cannot test types of one byte for NaN.
        if not bool(torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor).all()):
            raise DataError(f"{name} is NaN or infinite after training: it diverged; lower the learning rate")
    return model


def work(workshop: Workshop, groups: Sequence[Group]) -> tuple[float, ...]:
    """Do a task: make groups one after another, and return the seconds on the wall that each took."""
    found = []
    for group in groups:
        started = time.perf_counter()
        workshop.make_group(group)
        found.append(time.perf_counter() - started)
    return tuple(found)


def serve(parcel: Parcel, connection: "Connection", parent: int) -> None:
    """Do tasks in a process of its own until there are no more.

    Args:
        parcel: Holds what this process makes members with.
        connection: Where tasks come from, as groups, and answers go to: the seconds of each group, or an error. The
            first answer, ``None``, says that this process is ready.
        parent: Process id of the driver; the worker ends when the driver is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides; a worker finishes nothing it did not start
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    single_threaded()
    workshop: Workshop = parcel.open()
    try:
        connection.send(None)
        while True:
            groups = connection.recv()
            answer: tuple[float, ...] | BaseException
            try:
                answer = work(workshop, groups)
            except Exception as problem:
                answer = _portable(problem)
            connection.send(answer)
    except (EOFError, OSError):
        return  # the driver wants nothing more


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)  # an orphan would wait for work for ever


def _portable(problem: Exception) -> Exception:
    """Return an error that survives the way to another process, with the lines where it happened."""
    if not hasattr(problem, "exit_code"):  # a bug, of ours or in user code; the others say all there is to say
        problem.add_note("".join(traceback.format_exception(problem)))
    try:
        again = pickle.loads(pickle.dumps(problem))
    except Exception:
        again = None
    return problem if isinstance(again, type(problem)) else RuntimeError(f"{type(problem).__name__}: {problem}")
