"""Evidence of two pools that were made without coins: which half chooses the threshold, and which is counted."""

from dataclasses import dataclass

from .coins import derive
from .design import MAX_SLOTS
from .fields import Node
from .tables import Model, index, opening_of, require_distinct, rows


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
        unlearned: Unlearned models that are counted.
        retrained: Retrained models that are counted.
        original: Models before unlearning, for the positive control.
        rerun: Retrains through the method's code path, for the negative control.
    """

    calibrate_unlearned: tuple[Model, ...]
    calibrate_retrained: tuple[Model, ...]
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
    parts: dict[tuple[str, str], list[Model]] = {}
    for role in ("unlearned", "retrained"):
        size = procedure.whole(role, 4, MAX_SLOTS)
        calibrate = calibrating(seed, plan_digest, nonce, role, size)
        for slot in range(size):
            group = "calibration" if slot in calibrate else "main"
            parts.setdefault((role, group), []).append(found.take(f"{group} {role}", slot, role))
    controls = {
        role: tuple(found.take(group, slot, role) for slot in range(procedure.whole(key, 0, MAX_SLOTS)))
        for role, key, group in (("original", "originals", "positive"), ("rerun", "reruns", "negative"))
    }
    found.finish(name)
    pools = {key: tuple(models) for key, models in parts.items()}
    every = [model for pool in (*pools.values(), *controls.values()) for model in pool]
    require_distinct([model.digest for model in every], name)
    return PoolTable(
        pools["unlearned", "calibration"],
        pools["retrained", "calibration"],
        pools["unlearned", "main"],
        pools["retrained", "main"],
        controls["original"],
        controls["rerun"],
    )
