"""What one Ray actor does: it gets the data once, makes groups in a store of its own, and hands over what is finished.

No shared file system is assumed. What must exist before, such as the model that a method starts from, comes with the
task and is fetched only where it is not at hand.
"""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from cu_cert.errors import CuCertError
from cu_cert.fleet._ray_scratch import Scratch
from cu_cert.fleet.environment import code_digest, fingerprint, single_threaded
from cu_cert.fleet.executor import Group
from cu_cert.fleet.plan import Identity
from cu_cert.fleet.store import Bundle, Store
from cu_cert.fleet.worker import Workshop, work
from cu_certificates.errors import CertificateError

if TYPE_CHECKING:
    from ray import ObjectRef

PREFIX: Final = "cu-cert-worker-"
_KEPT: Final = 16
"""Models that stay in the worker's own store, since the next task may start from them."""


@dataclass(frozen=True)
class Mismatch:
    """What a worker found to be other than where the run was started.

    Args:
        fact: Which fact.
        here: Its value on the worker.
        there: Its value where the run was started.
    """

    fact: str
    here: str
    there: str


@dataclass(frozen=True)
class Prepared:
    """What a worker says when it has the data.

    Args:
        node: Address of its node.
        place: Ray's name of the node, and the worker's folder there.
        mismatch: What keeps it from making the same models, if anything.
        problem: Kind and text of what went wrong, if anything.
    """

    node: str
    place: tuple[str, str] = ("", "")
    mismatch: Mismatch | None = None
    problem: tuple[str, str] | None = None

    @property
    def ok(self) -> bool:
        """Whether it can begin."""
        return self.mismatch is None and self.problem is None


@dataclass(frozen=True, eq=False)
class Delivery:
    """What comes back from a task.

    Args:
        made: The finished models by address, those of all its groups unless there is a problem.
        seconds: Seconds on the wall that each of its groups took.
        problem: Kind and text of what stopped the task, if anything.
    """

    made: Mapping[str, Bundle]
    seconds: tuple[float, ...]
    problem: tuple[str, str] | None = None


@dataclass(frozen=True)
class Conditions:
    """What a worker must have in common with where the run was started, or its models are other models.

    Args:
        facts: The environment fingerprint, and the digest of our code.
        identity: What all models have in common.
    """

    facts: Mapping[str, str]
    identity: Identity


def facts() -> dict[str, str]:
    """Return what the bits of models depend on besides recipe, data and seed."""
    return {"cu-cert": code_digest(), **fingerprint()}


def packed(workshop: Workshop) -> npt.NDArray[np.uint8]:
    """Return a workshop as one array of bytes, without what was derived from it in this process.

    A worker unpacks it into memory of its own: arrays that several processes share would be read-only to user code.
    """
    plain = replace(workshop, train=replace(workshop.train), held_out=replace(workshop.held_out))
    return np.frombuffer(pickle.dumps(plain), dtype=np.uint8)


def whole(store: Store, key: str, queries: Sequence[str]) -> Bundle:
    """Take a finished model out of a store, with its weights if they were kept.

    Args:
        store: The store.
        key: The model's address.
        queries: Queries whose signals go with it.

    Raises:
        DataError: It is missing or damaged.
    """
    return store.export(key, queries, weights=bool(store.loadable([key])))


class Maker:
    """An actor that makes groups of models.

    Args:
        base: Folder for its scratch files; empty for the node's own.
    """

    def __init__(self, base: str = "") -> None:
        import tempfile

        single_threaded()
        self._base = Path(base or tempfile.gettempdir())
        self._kept: dict[str, None] = {}
        self._scratch: Scratch | None = None
        self._shop: Workshop | None = None

    def prepare(self, data: npt.NDArray[np.uint8], wanted: Conditions) -> Prepared:
        """Unpack the data and say whether models made here are the models that are wanted.

        Args:
            data: What :func:`packed` returned.
            wanted: What must be the same here.
        """
        import ray

        node = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        own = facts()
        for fact, there in wanted.facts.items():
            if own.get(fact, "") != there:
                return Prepared(node, mismatch=Mismatch(fact, own.get(fact, ""), there))
        try:
            self._scratch = Scratch(self._base, PREFIX)
            self._shop = replace(pickle.loads(data.data), store=self._scratch.path / "store")
            assert self._shop is not None
            found = self._device(self._shop.device)
            if found != self._shop.device:
                return Prepared(node, mismatch=Mismatch("device", found, self._shop.device))
            if self._shop.identity != wanted.identity:
                return Prepared(node, problem=("ConfigError", "makes other models from the same data and recipe"))
        except OSError as error:
            return Prepared(node, problem=("EnvironmentProblem", f"no folder for temporary files ({error})"))
        except (CuCertError, CertificateError) as error:
            return Prepared(node, problem=(type(error).__name__, str(error)))
        name = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        return Prepared(node, (name, str(self._scratch.path)))

    @staticmethod
    def _device(wanted: str) -> str:
        from cu_cert.fleet.engine import training_device

        return training_device("cpu" if wanted == "cpu" else "auto")

    def make(self, groups: Sequence[Group], there: "Mapping[str, ObjectRef[Bundle]]") -> Delivery:
        """Make groups one after another and return their models.

        Args:
            groups: The groups.
            there: Where to fetch models that exist and are needed, by address.
        """
        import ray

        assert self._shop is not None
        store, made, seconds = Store(self._shop.store), dict[str, Bundle](), list[float]()
        try:
            for key, reference in there.items():
                if key not in self._kept:
                    store.ingest(key, ray.get(reference))
                self._keep(key)
            hollow = there.keys() - store.loadable(there)
            for group in groups:
                seconds += work(self._shop, [group])
                for member in group:
                    key = self._shop.identity.key(member)
                    made[key] = whole(store, key, [self._shop.query_of(member)])
                    self._keep(key)
            for key in hollow & store.loadable(hollow):  # made again on the way, since their weights were gone
                made.setdefault(key, whole(store, key, ()))
        except (CuCertError, CertificateError) as error:
            return Delivery(made, tuple(seconds), (type(error).__name__, str(error)))
        finally:
            self._forget(store)
        return Delivery(made, tuple(seconds))

    def _keep(self, key: str) -> None:
        self._kept.pop(key, None)
        self._kept[key] = None

    def _forget(self, store: Store) -> None:
        """Remove all but the models that were used last, so that the folder does not grow with the fleet."""
        while len(self._kept) > _KEPT:
            key = next(iter(self._kept))
            del self._kept[key]
            store.entry_path(key).unlink(missing_ok=True)  # first, so that no half of a model counts
            for path in store.entry_path(key).parent.glob(f"{key}*"):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the worker's files."""
        if self._scratch is not None:
            self._scratch.remove()
