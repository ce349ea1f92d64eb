"""A cost model of audits: predicted here and measured here, then extrapolated with its assumptions written beside it.

python -m benchmarks.scale [--json]

The model has four terms: models to train, arithmetic a model, the rate at which the hardware does such arithmetic, and
what is not arithmetic (starting, measuring, writing). It is checked on the digits recipe: the time of one cohort
predicts that of a whole plan, and sizes of tensors and signals predict the disk. ``docs/scale.md`` explains it.
"""

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks._fleet_train import CASES, matrix_rate, useful, workshop
from benchmarks._measure import machine

SMALL: Final = 32
LARGE: Final = 256
"""Models of the plan that predicts, and of the plan that is predicted."""

GIB: Final = 2**30


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The models of one audit, in the terms of ``[audit]``.

    Args:
        slots: Slots of the procedure question, half of them originals and edits, half retrained.
        references: Retrained models of the artifact question.
        pilots: Pilots; three times as many models, a third of them originals.
        controls: Retrained models of the artifact question's negative control.
        shadows: Models of halves.
        control_slots: Models that the procedure question's negative control trains: reruns of the retrains through the
            method's code path, for half of the slots; one by one, a fixed number of slots of its own.
        slot_share: Share of the slots that is trained: 1, or less when slots are judged one after another.
    """

    slots: int
    references: int
    pilots: int
    controls: int
    shadows: int
    control_slots: int
    slot_share: float = 1.0

    @property
    def shared(self) -> float:
        """Trainings that serve every request: originals and shadows."""
        return self.slots * self.slot_share / 2 + self.pilots + self.shadows + (1 if self.references else 0)

    @property
    def own(self) -> float:
        """Trainings for one request: slots and pilots without it, references, and the controls."""
        return self.slots * self.slot_share / 2 + self.control_slots + 2 * self.pilots + self.references + self.controls


STANDARD: Final = Sizes(slots=64, references=132, pilots=16, controls=8, shadows=64, control_slots=32)
EARLY: Final = Sizes(slots=64, references=0, pilots=8, controls=0, shadows=64, control_slots=16, slot_share=20 / 64)
"""One question, slots one by one, ended after 20 of 64."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a large model, in arithmetic and bytes.

    Args:
        name: What is trained.
        operations: Floating-point operations of one training.
        rate: Operations a second that one accelerator reaches on it.
        stored: Bytes that are kept of one model.
        why: Where the numbers come from.
    """

    name: str
    operations: float
    rate: float
    stored: float
    why: str

    @property
    def hours(self) -> float:
        """Accelerator hours of one training."""
        return self.operations / self.rate / 3600


RESNET: Final = Training(
    name="ResNet-50 on ImageNet, 90 epochs",
    operations=3 * 2 * 4.1e9 * 1.281e6 * 90,
    rate=0.35 * 312e12,
    stored=25.6e6 * 4,
    why="4.1 G multiply-adds an image forward, three times that with backward; 35 % of 312 Tflop/s (bf16)",
)
LORA: Final = Training(
    name="7-billion-parameter model, LoRA of rank 16, 30 million tokens",
    operations=4 * 7e9 * 30e6,
    rate=0.35 * 312e12,
    stored=40e6 * 2,
    why="2 N forward and 2 N back through the frozen weights a token; 40 million adapter weights in 16 bits",
)


def predict_time(seconds: float, models: int) -> float:
    """Return the CPU seconds of a plan from those of one cohort, per model."""
    return seconds * models


def disk_of(parameters: int, buffers: int, signals: int) -> float:
    """Return the bytes that one stored model takes: tensors, signals of 9 bytes a record, and three files of 4 KiB."""
    return 4.0 * (parameters + buffers) + 9.0 * signals + 3 * 4096


def measured(folder: Path) -> dict[str, Any]:
    """Predict a plan of :data:`LARGE` models from one of :data:`SMALL`, then train it.

    Args:
        folder: An empty folder.
    """
    from cu_cert.fleet.environment import single_threaded
    from cu_cert.fleet.plan import Member, fleet_plan, in_cohorts
    from cu_cert.fleet.train import train_fleet
    from cu_cert.recipes import CohortRecipe
    from cu_cert.rng import Stream

    single_threaded()
    case = CASES["dense digits"]
    shop = workshop(folder, case.recipe, case.options)
    recipe = shop.recipe
    assert isinstance(recipe, CohortRecipe)
    members = [
        Member(label=f"model {number}", records="retain", seed=Stream.from_seed(number).key.hex())
        for number in range(SMALL + LARGE)
    ]
    seated = (*in_cohorts(members[:SMALL], recipe.cohort_size), *in_cohorts(members[SMALL:], recipe.cohort_size))

    def seconds(part: Sequence[Member]) -> float:
        start = time.process_time()
        train_fleet(fleet_plan(part), shop, workers=1, quiet=True)
        return time.process_time() - start

    seconds(seated[: recipe.cohort_size])  # warms caches and kernels
    per_model = seconds(seated[recipe.cohort_size : SMALL]) / (SMALL - recipe.cohort_size)
    before = _bytes(folder / "store")
    took = seconds(seated[SMALL:])
    model = recipe.build(shop.train, rng=Stream.from_seed(0))
    weights = sum(one.numel() for one in model.parameters())
    buffers = sum(one.numel() for one in model.buffers())
    stored = disk_of(weights, buffers, len(shop.forget) + len(shop.held_out))
    rows = len(shop.retain)
    return {
        "models": LARGE,
        "seconds": {"predicted": round(predict_time(per_model, LARGE), 2), "measured": round(took, 2)},
        "megabytes": {
            "predicted": round(stored * LARGE / 1e6, 1),
            "measured": round((_bytes(folder / "store") - before) / 1e6, 1),
        },
        "shareOfMatrixRate": round(
            useful(case, shop.train, LARGE) * 2 * rows / len(shop.train) / took / matrix_rate(), 3
        ),
    }


def _bytes(folder: Path) -> int:
    """Return the disk blocks of a folder's files, which is what a full disk is full of."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def extrapolated() -> list[dict[str, Any]]:
    """Return what audits of large models cost by the cost model; nothing here was run."""
    rows = []
    for training in (RESNET, LORA):
        for name, sizes in (("standard", STANDARD), ("one by one, ended after 20 slots", EARLY)):
            first, later = sizes.shared + sizes.own, sizes.own
            rows.append(
                {
                    "training": training.name,
                    "audit": name,
                    "hoursPerModel": round(training.hours, 2),
                    "modelsFirst": round(first),
                    "modelsLater": round(later),
                    "acceleratorHoursFirst": round(first * training.hours),
                    "acceleratorHoursLater": round(later * training.hours),
                    "storedGiB": round(first * training.stored / GIB, 1),
                }
            )
    return rows


def requests_a_day(requests: int = 10_000) -> list[dict[str, Any]]:
    """Return what many requests a day cost when each is audited alone, and when a day's requests are one.

    Args:
        requests: Requests a day.
    """
    rows = []
    for training in (RESNET, LORA):
        alone, together = requests * EARLY.own * training.hours, STANDARD.own * training.hours
        rows.append(
            {
                "training": training.name,
                "requests": requests,
                "acceleratorsEachAlone": math.ceil(alone / 24),
                "acceleratorsOneBatchADay": math.ceil(together / 24),
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, extrapolate and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="cu-cert-scale-") as folder:
        document = {
            "schema": "cu-cert-benchmark/1",
            "benchmark": "scale",
            "measured": measured(Path(folder)),
            "extrapolated": extrapolated(),
            "requests": requests_a_day(),
            "machine": machine(),
        }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    for part in ("measured", "extrapolated", "requests"):
        found = document[part]
        print(part)
        for row in found if isinstance(found, list) else [found]:
            print(f"  {json.dumps(row)}")


if __name__ == "__main__":
    main()
