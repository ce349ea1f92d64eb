"""Fleets of models that train in a millisecond, and what was made of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cu_cert.fleet.plan import Member, fleet_plan
from cu_cert.fleet.store import Store
from cu_cert.fleet.train import train_fleet
from cu_cert.fleet.worker import Workshop
from cu_cert.recipes import make_recipe
from cu_cert.records import make_records

N = 45
CENTRES = np.eye(3, 6)[np.arange(N) % 3]
RECORDS = make_records(
    [f"r{row:02d}" for row in range(N)],
    np.random.default_rng(5).normal(size=(N, 6)) + CENTRES,
    np.arange(N) % 3,
    ["a", "b", "c"],
)
HELD_OUT = tuple(RECORDS.ids[::5])
TRAIN, OUTSIDE = RECORDS.without(HELD_OUT), RECORDS.select(HELD_OUT)
FORGET = TRAIN.ids[3:9]
OPTIONS: dict[str, object] = {"hidden": [5], "epochs": 2, "batch_size": 16}

FAILS = """
from dataclasses import dataclass

from cu_cert.errors import MethodError
from cu_cert.methods import UnlearningMethod, Work


@dataclass(frozen=True)
class Params:
    pass


def work(task):
    with open(__file__ + ".calls", "a") as calls:
        calls.write("x")
    raise MethodError("refused, for a reason of its own")


METHOD = UnlearningMethod(
    name="fails", kind="approximate", guarantee="none", level="EMPIRICAL", needs=frozenset({"original"}),
    paper="none", summary="always refuses", params_type=Params, work=work,
)
"""
"""A method that refuses; it leaves a mark in fails.py.calls each time."""


def workshop(store: Path, **changes: Any) -> Workshop:
    options = changes.pop("options", OPTIONS)
    name = changes.pop("recipe", "mlp")
    root = changes.pop("root", str(store))
    made = Workshop(
        recipe_digest=make_recipe(name, options, root=root).digest,
        recipe_name=name,
        recipe_options=options,
        root=root,
        train=TRAIN,
        held_out=OUTSIDE,
        forget=FORGET,
        store=store,
    )
    return replace(made, **changes)


def seed(number: int) -> str:
    return f"{number:064x}"


def trained(number: int, records: str = "all") -> Member:
    return Member(label=f"model {number}", records=records, seed=seed(number))  # type: ignore[arg-type]


def edited(number: int, parent: Member, method: str = "finetune", **options: object) -> Member:
    return Member(
        label=f"edit {number}",
        records="all",
        seed=seed(100 + number),
        method=method,
        options={"epochs": 1, **options} if method != "retrain" else options,
        parent=parent,
    )


def several() -> list[Member]:
    originals = [trained(number) for number in range(3)]
    return [
        *originals,
        trained(7, "retain"),
        *(edited(number, parent) for number, parent in enumerate(originals)),
        edited(9, originals[0], "retrain"),
    ]


def run(members: Sequence[Member], shop: Workshop, workers: int = 1) -> int:
    return train_fleet(fleet_plan(members), shop, workers=workers, quiet=True)


def bits(members: Sequence[Member], shop: Workshop) -> list[tuple[bytes, bytes, str]]:
    """Model file, signals and digest of each member."""
    found, store = [], Store(shop.store)
    for member in members:
        key = shop.identity.key(member)
        entry, signals = store.entry(key), store.signals(key, shop.query)
        assert entry is not None
        assert signals is not None
        content = signals.margin.tobytes() + signals.correct.tobytes()
        found.append((store.model_path(key).read_bytes(), content, entry.model))
    return found


def finished_at(member: Member, shop: Workshop) -> int:
    return Store(shop.store).entry_path(shop.identity.key(member)).stat().st_mtime_ns
