"""Fleets: the same bits wherever and in whatever order, a content address for each model, and nothing made twice."""

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cu_cert.errors import ConfigError, DataError, EnvironmentProblem, Interrupted
from cu_cert.fleet.local import train_fleet
from cu_cert.fleet.plan import FleetPlan, Member, single_plan
from cu_cert.fleet.store import Entry, Store
from cu_cert.fleet.worker import Workshop
from cu_cert.model_file import load_state, state_digest
from cu_cert.recipes import make_recipe
from cu_cert.records import Records, make_records
from cu_certificates.errors import UsageError

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
    return train_fleet(single_plan(members), shop, workers=workers, quiet=True)


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
    from cu_cert.rng import Stream

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
    for part in ("code", "environment", "engine"):
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
    plan = single_plan([edited(1, parent), edited(2, parent), parent])
    assert [group[0].label for group in plan.groups] == ["model 1", "edit 1", "edit 2"]
    with pytest.raises(ConfigError, match="groups of one model"):
        FleetPlan(((parent, trained(2)),))
    with pytest.raises(ConfigError, match="unknown; expected single"):
        FleetPlan(((parent,),), engine="vectorised")
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
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert len(before) == 9
    monkeypatch.setattr(Workshop, "_train", train)
    assert run(members, shop) == 5
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert run(members, shop) == 0


# Failed runs

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


def test_a_failed_run_is_kept_as_failed_and_never_tried_again(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(FAILS)
    shop = workshop(tmp_path / "store", root=str(tmp_path))
    member = replace(edited(1, trained(1)), method="python:fails:METHOD", options={})
    grandchild = edited(2, member)
    assert run([member, grandchild], shop) == 3
    assert run([member, grandchild], shop) == 0
    assert (tmp_path / "fails.py.calls").read_text() == "x"
    store = Store(tmp_path / "store")
    entry, after = (store.entry(shop.identity.key(one)) for one in (member, grandchild))
    assert entry is not None
    assert (entry.model, entry.problem) == ("", "refused, for a reason of its own")
    assert after is not None
    assert after.problem == "the model to start from failed: refused, for a reason of its own"
    assert not store.model_path(shop.identity.key(member)).exists()


def test_a_diverged_run_is_a_failed_run(tmp_path: Path) -> None:
    shop = workshop(tmp_path, options=OPTIONS | {"learning_rate": 1e30})
    assert run([trained(1)], shop) == 1
    entry = Store(tmp_path).entry(shop.identity.key(trained(1)))
    assert entry is not None
    assert "NaN or infinite after training: it diverged" in entry.problem
    assert run([trained(1)], shop) == 0


def test_changed_code_is_no_failed_run(tmp_path: Path) -> None:
    shop = workshop(tmp_path, recipe_digest="0" * 64)
    with pytest.raises(ConfigError, match="its code was changed while models were trained"):
        run([trained(1)], shop)
    assert not list(tmp_path.rglob("*.json"))


# Damage


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b'{"model":"ab"}', b"\xff\xfe", b'{"other":1}'])
def test_a_damaged_entry_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    shop, member = workshop(tmp_path), trained(1)
    run([member], shop)
    path = Store(tmp_path).entry_path(shop.identity.key(member))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged store entry .*; delete this file and run again") as error:
        run([member], shop)
    assert str(path) in str(error.value)
    path.unlink()
    assert run([member], shop) == 1


@pytest.mark.parametrize("cut", [0, 1, 100, -40])
def test_damaged_signals_are_one_clear_error(tmp_path: Path, cut: int) -> None:
    shop, member = workshop(tmp_path), trained(1)
    run([member], shop)
    (path,) = tmp_path.rglob("*.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    with pytest.raises(DataError, match=r"damaged signals .*; delete this file and run again"):
        run([member], shop)
    path.unlink()
    assert run([member], shop) == 1
    assert path.read_bytes()[:100] == whole[:100]


@pytest.mark.parametrize("how", ["missing", "cut", "exchanged"])
def test_a_damaged_model_stops_the_run_and_fails_no_other(tmp_path: Path, how: str) -> None:
    shop, parent = workshop(tmp_path), trained(1)
    run([parent, trained(2)], shop)
    store = Store(tmp_path)
    path, other = (store.model_path(shop.identity.key(one)) for one in (parent, trained(2)))
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-300] if how == "cut" else other.read_bytes())
    child = edited(1, parent)
    with pytest.raises(DataError, match=r"this model of the store is (missing|damaged); delete .*json and run"):
        run([child], shop)
    assert store.entry(shop.identity.key(child)) is None
    store.entry_path(shop.identity.key(parent)).unlink()
    assert run([child], shop) == 2
    assert load_state(path)


# A full disk


@pytest.mark.parametrize("call", ["replace", "open"])
def test_a_full_disk_stops_with_one_error_and_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    shop, members = workshop(tmp_path), several()
    original, left = getattr(os, call), [7]

    def full(path: Any, *rest: Any, **named: Any) -> Any:
        if str(path).startswith(str(tmp_path)):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, *rest, **named)

    monkeypatch.setattr(os, call, full)
    with pytest.raises((EnvironmentProblem, UsageError), match=r"the disk is full; free some space and run the same"):
        run(members, shop)
    monkeypatch.undo()
    # Seven files are two models and the weights of a third.
    entries = [Store(tmp_path).entry(path.stem) for path in tmp_path.rglob("*.json")]
    assert [entry.problem for entry in entries if entry] == ["", ""]
    assert not list(tmp_path.rglob(".*"))
    assert run(members, shop) == len(members) - 2
    fresh = workshop(tmp_path / "fresh")
    run(members, fresh)
    assert bits(members, shop) == bits(members, fresh)
