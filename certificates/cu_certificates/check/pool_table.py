"""Evidence of two pools that were made without coins: which half chooses the threshold, and which is counted."""

from dataclasses import dataclass
from typing import Final

from .coins import derive
from .design import MAX_SLOTS
from .fields import Node
from .strict import Rejected
from .tables import Model, index, opening_of, require_distinct, rows

HALVED: Final = (("unlearned", "unlearned", True), ("retrained", "retrained", True), ("original", "originals", False))
"""Role, planned size and whether it must be there, of each pool that is halved."""


def counted_half(models: int) -> int:
    """Return how many models of a pool are counted; the others, half of them rounded down, calibrate."""
    return models - models // 2


def calibrating(seed: bytes, plan_digest: str, nonce: str, role: str, models: int) -> frozenset[int]:
    """Return the slots of a pool that calibrate: those whose keyed hashes are the smallest.

    Args:
        seed: The audit seed that the plan commits to.
        plan_digest: P.
        nonce: The reader's nonce (hex), empty when there was none.
        role: ``unlearned`` or ``retrained``.
        models: Size of the pool.
    """
    order = sorted(range(models), key=lambda slot: derive(seed, "half", plan_digest, nonce, role, slot))
    return frozenset(order[: models // 2])


@dataclass(frozen=True)
class PoolTable:
    """The scores of two pools that were made without coins, and of their controls.

    Args:
        calibrate_unlearned: Unlearned models that chose the threshold.
        calibrate_retrained: Retrained models that did.
        calibrate_original: Models before unlearning that chose the positive control's threshold.
        unlearned: Unlearned models that are counted.
        retrained: Retrained models that are counted.
        original: Models before unlearning that are counted, in the positive control.
        rerun: Retrains through the method's code path, for the negative control.
    """

    calibrate_unlearned: tuple[Model, ...]
    calibrate_retrained: tuple[Model, ...]
    calibrate_original: tuple[Model, ...]
    unlearned: tuple[Model, ...]
    retrained: tuple[Model, ...]
    original: tuple[Model, ...]
    rerun: tuple[Model, ...]


def read_pools(data: bytes, name: str, *, plan: Node, plan_digest: str) -> PoolTable:
    """Read ``pools.jsonl`` and demand every planned model in its half.

    Args:
        data: The bytes of the file, whose digest was compared already.
        name: Its name, for messages.
        plan: The parsed plan.
        plan_digest: P.

    Raises:
        Rejected: The seed is not the committed one, a planned row is missing, stands twice or in the wrong half, or
            one model stands for two runs.
    """
    procedure = plan.node("procedure")
    found = index(rows(data, name), name)
    seed, nonce = opening_of(found, plan, name)
    parts: dict[tuple[str, bool], list[Model]] = {}
    for role, key, least in HALVED:
        size = procedure.whole(key, 0, MAX_SLOTS)
        if size < 4 and (size or least):
            raise Rejected(f"{procedure.path}.{key}: {size}; expected at least 4, so that either half has two")
        calibrate = calibrating(seed, plan_digest, nonce, role, size)
        for slot in range(size):
            group = f"{'calibration' if slot in calibrate else 'main'} {role}"
            parts.setdefault((role, slot in calibrate), []).append(found.take(group, slot, role))
    rerun = tuple(found.take("negative", slot, "rerun") for slot in range(procedure.whole("reruns", 0, MAX_SLOTS)))
    found.finish(name)
    pools = {key: tuple(models) for key, models in parts.items()}
    require_distinct([model.digest for pool in (*pools.values(), rerun) for model in pool], name)
    return PoolTable(
        pools["unlearned", True],
        pools["retrained", True],
        pools.get(("original", True), ()),
        pools["unlearned", False],
        pools["retrained", False],
        pools.get(("original", False), ()),
        rerun,
    )
