"""The work order: which models somebody else must make, so that their scores can be judged by coins nobody chose.

Coins and training seeds derive from the audit's seed and the plan, as for models that are trained here.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cu_certificates.check.coins import coin, derive
from cu_certificates.plan import Plan

HEADER: Final = ("model", "pool", "how", "seed")

_HOW: Final = {
    "unlearned": "train on all records with the seed of this slot's positive-...-original, then run the method",
    "original": "keep the model of the same slot as it is before the method runs",
    "retrained": "train without the request",
    "rerun": "call your unlearning code with retraining in the method's place",
    "reference": "train without the request",
    "reference-original": "train on all records",
    "reference-rerun": "call your unlearning code with retraining in the method's place",
    "pilot-original": "train on all records",
    "pilot-retrained": "train without the request",
    "subject": "score the audited model",
}


@dataclass(frozen=True)
class Task:
    """One model of the order.

    Args:
        model: Its name, which the scores file must use.
        pool: What it is, one of ``cu_attacks.POOLS``.
        group: Its group in the evidence.
        slot: Its number in the group.
        role: Its role in the evidence.
        seed: 64 hexadecimal digits, from which its randomness shall derive.
    """

    model: str
    pool: str
    group: str
    slot: int
    role: str
    seed: str

    @property
    def how(self) -> str:
        """How the model is made, in a few words."""
        return _HOW[self.pool]


def work_order(plan: Plan, seed: bytes) -> Iterator[Task]:
    """Yield every model of a plan, in a fixed order, pilots first.

    Args:
        plan: The plan, seed commitment included.
        seed: The audit seed that it commits to.
    """
    digest, sizes = plan.digest, plan.sizes

    def task(group: str, slot: int, role: str, pool: str = "") -> Task:
        name = f"{group}-{slot:04d}-{role}"
        own = derive(seed, "train", digest, "", group, slot, role).hex()
        return Task(name, pool or role, group, slot, role, own)

    for slot in range(sizes.pilots):
        yield task("pilots", slot, "original", "pilot-original")
    for slot in range(2 * sizes.pilots):
        yield task("pilots", slot, "retrained", "pilot-retrained")
    if "procedure" in plan.questions:
        coins = [coin(seed, digest, "", "slots", slot) for slot in range(sizes.slots)]
        for slot, bit in enumerate(coins):
            if bit:
                yield task("main", slot, "unlearned")
                yield task("positive", slot, "original")
            else:
                yield task("main", slot, "retrained")
        spare = coins.count(0)
        for slot in range(sizes.control_slots):
            if coin(seed, digest, "", "control", slot):
                yield task("negative", slot, "rerun")
            elif spare:
                spare -= 1  # a retrained model of the main run serves here too
            else:
                yield task("negative", slot, "retrained")
    if "artifact" in plan.questions:
        yield Task("subject", "subject", "subject", 0, "subject", "")
        for slot in range(sizes.references):
            yield task("reference", slot, "retrained", "reference")
        yield task("reference-positive", 0, "original", "reference-original")
        for slot in range(sizes.negatives):
            yield task("reference-negative", slot, "rerun", "reference-rerun")


def order_csv(plan: Plan, seed: bytes) -> bytes:
    """Return the work order as a CSV file."""
    out = io.StringIO(newline="")
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(HEADER)
    for task in work_order(plan, seed):
        rows.writerow((task.model, task.pool, task.how, task.seed))
    return out.getvalue().encode()
