"""Fleets: the same bits wherever and in whatever order, a content address for each model, and nothing made twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_fleet import (
    FORGET,
    OPTIONS,
    OUTSIDE,
    TRAIN,
    bits,
    edited,
    finished_at,
    run,
    seed,
    several,
    trained,
    workshop,
)

from cu_cert.errors import ConfigError, Interrupted
from cu_cert.fleet.plan import FleetPlan, Member, fleet_plan
from cu_cert.fleet.store import Entry, Store
from cu_cert.fleet.train import train_fleet
from cu_cert.fleet.worker import Workshop
from cu_cert.model_file import load_state, state_digest
from cu_cert.records import Records, make_records
from cu_cert.rng import Stream
from cu_cert.signals import relative

# Equal bits


def test_bits_do_not_depend_on_processes_their_number_or_the_order(tmp_path: Path) -> None:
    members = several()
    alone, backwards, two = (workshop(tmp_path / name) for name in ("alone", "backwards", "two"))
    assert run(members, alone) == run(members[::-1], backwards) == len(members)
    # Here edits stand before the models that they start from; processes take a member when its parent is there.
    plan = FleetPlan(tuple((member,) for member in members[::-1]))
    assert train_fleet(plan, two, workers=2, quiet=True) == len(members)
    assert bits(members, alone) == bits(members, backwards) == bits(members, two)
    assert len({model for model, _, _ in bits(members, alone)}) == len(members)
    for shop in (alone, backwards, two):
        for member in members:
            if member.parent is not None:
                assert finished_at(member.parent, shop) <= finished_at(member, shop)


def test_a_model_of_the_fleet_is_the_model_of_the_recipe_and_its_signals_are_margins(tmp_path: Path) -> None:
    shop, member, kept = workshop(tmp_path), trained(1), trained(1, "retain")
    rerun = Member(label="rerun", records="all", seed=seed(1), method="retrain", parent=trained(2))
    run([member, kept, rerun], shop)
    own = shop.recipe.train(TRAIN, rng=Stream(bytes.fromhex(seed(1))))
    without = shop.recipe.train(TRAIN.without(FORGET), rng=Stream(bytes.fromhex(seed(1))))
    digests = [digest for _, _, digest in bits([member, kept, rerun], shop)]
    # Retraining through a method's code path is training without the records, bit for bit.
    assert digests == [state_digest(own.state_dict()), *[state_digest(without.state_dict())] * 2]

    signals = Store(tmp_path).signals(shop.identity.key(member), shop.query)
    assert signals is not None
    asked: list[Records] = [TRAIN.select(FORGET), OUTSIDE]
    logits = np.concatenate([shop.recipe.logits(own, records).double().numpy() for records in asked])
    labels = np.concatenate([records.y for records in asked])
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    right = chance[np.arange(len(labels)), labels]
    np.testing.assert_allclose(signals.margin, np.log(right / (1 - right)), rtol=1e-9)
    np.testing.assert_array_equal(signals.correct, logits.argmax(axis=1) == labels)


def test_models_of_two_seeds_share_neither_start_nor_order(tmp_path: Path) -> None:
    still = workshop(tmp_path, options=OPTIONS | {"learning_rate": 1e-30})
    members = [trained(number) for number in range(4)]
    run(members, still)
    starts = [load_state(Store(tmp_path).model_path(still.identity.key(member))) for member in members]
    for name in starts[0]:
        if name.endswith("weight"):
            values = np.stack([start[name].numpy().ravel() for start in starts])
            assert len(np.unique(values)) == values.size
    orders = [tuple(Stream(bytes.fromhex(member.seed)).child("order", 0).arrange(TRAIN.marks)) for member in members]
    assert len(set(orders)) == len(orders)


def test_what_counts_is_the_distance_from_never_trained_records_of_the_same_class() -> None:
    forget, margin = TRAIN.select(FORGET), np.random.default_rng(1).normal(size=(2, len(FORGET) + len(OUTSIDE)))
    absent = OUTSIDE.select([name for name, label in zip(OUTSIDE.ids, OUTSIDE.y, strict=True) if label != forget.y[0]])
    for held_out in (OUTSIDE, absent):
        asked = margin[:, : len(FORGET) + len(held_out)]
        found = relative(asked, forget, held_out)
        for model, record in np.ndindex(2, len(FORGET)):
            outside = asked[model, len(FORGET) :]
            peers = outside[held_out.y == forget.y[record]]
            expected = margin[model, record] - (peers if len(peers) else outside).mean()
            assert found[model, record] == pytest.approx(expected, abs=1e-12)


# The content address


def test_the_address_changes_with_everything_that_may_change_the_bits(tmp_path: Path) -> None:
    shop, parent = workshop(tmp_path), trained(1)
    fewer = TRAIN.without(TRAIN.ids[:1])
    moved = make_records(TRAIN.ids, TRAIN.x + np.float32(1e-3), TRAIN.y, TRAIN.classes)
    keys = [
        workshop(tmp_path, **changes).identity.key(member)
        for changes, member in (
            ({}, parent),
            ({}, trained(2)),
            ({}, trained(1, "retain")),
            ({"options": OPTIONS | {"epochs": 3}}, parent),
            ({"recipe": "logistic", "options": {"epochs": 2, "batch_size": 16}}, parent),
            ({"train": fewer}, parent),
            ({"train": moved}, parent),
            ({}, edited(1, parent)),
            ({}, edited(2, parent)),
            ({}, edited(1, trained(2))),
            ({}, edited(1, parent, learning_rate=0.01)),
            ({}, edited(1, parent, epochs=2)),
            ({}, edited(1, parent, "npo")),
            ({}, replace(edited(1, parent), sources="ab")),
            ({"forget": FORGET[1:]}, edited(1, parent)),
            ({"forget": FORGET[1:]}, trained(1, "retain")),
        )
    ]
    assert len(set(keys)) == len(keys)
    for part in ("code", "environment"):
        other = replace(shop.identity, **{part: "other"})  # type: ignore[arg-type]
        assert other.key(parent) not in keys


def test_the_address_does_not_change_with_what_cannot_change_the_bits(tmp_path: Path) -> None:
    shop, member = workshop(tmp_path), edited(1, trained(1))
    key = shop.identity.key(member)
    assert workshop(tmp_path / "elsewhere", root="/").identity.key(member) == key
    assert shop.identity.key(replace(member, label="another purpose")) == key
    turned = make_records(TRAIN.ids[::-1], TRAIN.x[::-1], TRAIN.y[::-1], TRAIN.classes)
    assert workshop(tmp_path, train=turned, forget=FORGET[::-1]).identity.key(member) == key
    # A model of all records serves every request; what is measured on it is kept for each.
    other = workshop(tmp_path, forget=FORGET[1:])
    assert other.identity.key(trained(1)) == shop.identity.key(trained(1))
    assert other.query != shop.query


def test_another_request_measures_the_same_original_without_training_it(tmp_path: Path) -> None:
    first, second = workshop(tmp_path), workshop(tmp_path, forget=FORGET[1:])
    member = trained(1)
    run([member], first)
    path = Store(tmp_path).model_path(first.identity.key(member))
    before = path.stat()
    assert not second.finished(member)
    assert run([member], second) == 1
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert second.finished(member)


# Order and resumption


def test_parents_are_planned_once_and_first() -> None:
    parent = trained(1)
    plan = fleet_plan([edited(1, parent), edited(2, parent), parent])
    assert [group[0].label for group in plan.groups] == ["model 1", "edit 1", "edit 2"]
    with pytest.raises(ConfigError, match="a group is one model, or exactly the models of one cohort"):
        FleetPlan(((parent, trained(2)),))
    with pytest.raises(ConfigError, match="a method needs a parent"):
        Member(label="odd", records="all", seed=seed(1), method="npo")


def test_what_is_finished_is_never_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, members = workshop(tmp_path), several()
    made: list[str] = []
    train = Workshop._train

    def stops(shop: Workshop, member: Member, *rest: Any) -> Entry:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(member.label)
        return train(shop, member, *rest)

    monkeypatch.setattr(Workshop, "_train", stops)
    with pytest.raises(Interrupted, match=r"3 of 8 models were finished and are kept; run the same command to go on"):
        run(members, shop)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("??/*")}
    assert len(before) == 9
    monkeypatch.setattr(Workshop, "_train", train)
    assert run(members, shop) == 5
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert run(members, shop) == 0
