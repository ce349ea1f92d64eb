"""Early finishers bias nobody: slots are judged in plan order, and what a judge by arrival would conclude is shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hostile import ORDERS, Hostile
from small_fleet import edited, trained, workshop

from cu_cert.fleet.plan import Member, fleet_plan
from cu_cert.fleet.train import train_fleet
from cu_certificates.check.betting import Ended, ending, mark_of, terms_of

SLOTS = 48
COINS = tuple(np.random.default_rng(2).integers(0, 2, SLOTS).tolist())
TERMS = terms_of(slots=SLOTS, round_=4, alpha=Fraction(1, 20), eps=Fraction(0), delta=Fraction(0), detect=Fraction(3))


def slots_of_a_perfect_method() -> list[Member]:
    """What judges each slot: a retrain that went through the method's code, or a plain one; they are alike."""
    return [
        edited(slot, trained(1000 + slot), "retrain") if coin else trained(5000 + slot, "retain")
        for slot, coin in enumerate(COINS)
    ]


def judged(order: list[int]) -> Ended | None:
    """Judge slots in an order by the coins that were opened before, which is all that a perfect method leaves to learn.

    Each slot is guessed to be what most slots before it were: with fair coins in an order that was fixed beforehand,
    as good as any other guess.
    """
    marks, heads = "", 0
    for opened, slot in enumerate(order):
        marks += mark_of(int(2 * heads > opened), COINS[slot])
        heads += COINS[slot]
    end = ending(marks, marks, TERMS)
    return None if end is None else end[1]


@contextmanager
def made(folder: Path, name: str) -> Iterator[list[int]]:
    """Make the slots' models and yield the slots in the order in which their models arrived."""
    shop, slots = workshop(folder), slots_of_a_perfect_method()
    with Hostile(shop, 24, ORDERS[name]) as executor:
        assert train_fleet(fleet_plan(slots), shop, executor=executor, quiet=True) == SLOTS + sum(COINS)
        at = {shop.identity.key(member): place for place, member in enumerate(executor.arrived)}
        yield sorted(range(SLOTS), key=lambda slot: at[shop.identity.key(slots[slot])])


def test_a_judge_by_arrival_would_refute_a_perfect_method(tmp_path: Path) -> None:
    # Plain retrains are there first, since edits wait for the models that they start from: the clock tells the coins.
    with made(tmp_path, "retrains-first") as order:
        assert sum(COINS[slot] for slot in order[:16]) <= 2
        assert judged(order) == "refuted"


def test_the_same_judge_in_plan_order_does_not() -> None:
    assert judged(list(range(SLOTS))) != "refuted"


@pytest.mark.parametrize("name", ["reversed", "stragglers", "random"])
def test_these_orders_are_none_of_the_plan(name: str, tmp_path: Path) -> None:
    # What the audit makes of them is in test_sequential_audit: the same bytes of evidence as in plan order.
    with made(tmp_path, name) as order:
        assert order != list(range(SLOTS))
