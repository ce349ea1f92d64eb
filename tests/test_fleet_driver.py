"""The driver: order, portions, costs and time left; nothing is made twice."""

import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hostile import ORDERS, Hostile
from small_fleet import FORGET, bits, edited, several, trained, workshop

from cu_cert.errors import ConfigError
from cu_cert.fleet.costs import MEASURE, Costs
from cu_cert.fleet.executor import Done, Executor
from cu_cert.fleet.executors import executor_spec, make_executor
from cu_cert.fleet.plan import FleetPlan, Member, fleet_plan, in_cohorts
from cu_cert.fleet.progress import Progress
from cu_cert.fleet.train import Driver, train_fleet
from cu_cert.fleet.worker import Workshop
from cu_cert.forecast import outstanding

# Order


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("workers", [1, 5])
def test_whatever_order_tasks_end_in_the_models_are_the_same(name: str, workers: int, tmp_path: Path) -> None:
    members = several() + list(in_cohorts([trained(number) for number in range(20, 27)], 3))
    plain, shop = workshop(tmp_path / "plain"), workshop(tmp_path / "hostile")
    train_fleet(fleet_plan(members), plain, workers=1, quiet=True)
    with Hostile(shop, workers, ORDERS[name]) as executor:
        assert train_fleet(fleet_plan(members), shop, executor=executor, quiet=True) == len(members)
        made = Counter(shop.identity.key(member) for member in executor.arrived)
        assert set(made.values()) == {1}
        assert train_fleet(fleet_plan(members), shop, executor=executor, quiet=True) == 0
    assert bits(members, shop) == bits(members, plain)


def test_a_task_never_needs_what_another_task_is_still_making(tmp_path: Path) -> None:
    originals = [trained(number) for number in range(6)]
    members = [edited(number, parent) for number, parent in enumerate(originals)] + originals
    shop = workshop(tmp_path)

    class Watching(Hostile):
        def submit(self, groups: Any) -> int:
            own = {shop.identity.key(member) for group in groups for member in group}
            for group in groups:
                parent = group[0].parent
                assert parent is None or shop.finished(parent) or shop.identity.key(parent) in own
            return super().submit(groups)

    # The plan is wrong way round: edits stand before the models that they start from.
    plan = FleetPlan(tuple((member,) for member in members))
    with Watching(shop, 4, ORDERS["random"]) as executor:
        train_fleet(plan, shop, executor=executor, quiet=True)
    assert all(shop.finished(member) for member in members)


def test_one_address_is_one_model_whatever_it_is_called(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    twice = [trained(1), Member(label="again", records="all", seed=trained(1).seed)]
    assert train_fleet(FleetPlan(tuple((one,) for one in twice)), shop, workers=1, quiet=True) == 1


class Idle:
    """Takes tasks and says that they took as long as the test wants; makes nothing."""

    name = "idle"

    def __init__(self, workers: int, each: dict[str, float]) -> None:
        self.workers, self.each = workers, each
        self.waiting: list[tuple[int, tuple[tuple[Member, ...], ...]]] = []
        self.given: list[tuple[tuple[Member, ...], ...]] = []

    def __enter__(self) -> "Idle":
        return self

    def __exit__(self, *_: object) -> None:
        self.waiting.clear()

    def submit(self, groups: Any) -> int:
        self.given.append(tuple(groups))
        self.waiting.append((len(self.given), tuple(groups)))
        return len(self.given)

    def wait(self) -> list[Done]:
        ticket, groups = self.waiting.pop(0)
        took = [self.each["edit" if group[0].method else "model"] * len(group) for group in groups]
        return [Done(ticket, seconds=tuple(took))]


def seconds_of(task: tuple[tuple[Member, ...], ...], each: dict[str, float]) -> float:
    return sum(each["edit" if group[0].method else "model"] for group in task)


def test_tasks_hold_about_a_second_and_less_towards_the_end(tmp_path: Path) -> None:
    each = {"model": 0.02, "edit": 0.005}
    executor = Idle(2, each)
    members = [trained(number) for number in range(1000)]
    assert train_fleet(fleet_plan(members), workshop(tmp_path), executor=executor, quiet=True) == 1000
    sizes = [seconds_of(task, each) for task in executor.given]
    assert sum(map(len, executor.given)) == 1000
    assert sizes[:4] == [0.02] * 4  # nothing is known yet
    assert max(sizes) == pytest.approx(1.0, abs=0.021)
    later = sizes[4:]
    assert later[0] > 0.9
    assert all(after <= before + 0.021 for before, after in pairwise(later))
    assert max(sizes[-4:]) < 0.15  # so no worker waits long for another
    assert len(sizes) < 100


def test_models_that_take_long_are_handed_out_one_by_one(tmp_path: Path) -> None:
    executor = Idle(2, {"model": 30.0})
    train_fleet(fleet_plan([trained(n) for n in range(20)]), workshop(tmp_path), executor=executor, quiet=True)
    assert [len(task) for task in executor.given] == [1] * 20


def test_an_edit_goes_with_the_model_that_it_starts_from(tmp_path: Path) -> None:
    executor = Idle(1, {"model": 0.02, "edit": 0.005})
    parents = [trained(number) for number in range(200)]
    members = [one for number, parent in enumerate(parents) for one in (parent, edited(number, parent))]
    train_fleet(fleet_plan(members), workshop(tmp_path), executor=executor, quiet=True)
    at = {group[0].label: place for place, task in enumerate(executor.given) for group in task}
    together = sum(at[f"model {number}"] == at[f"edit {number}"] for number in range(200))
    assert together >= 180
    for task in executor.given:
        labels = [group[0].label for group in task]
        for number in range(200):
            if {f"model {number}", f"edit {number}"} <= set(labels):
                assert labels.index(f"model {number}") < labels.index(f"edit {number}")


def test_ten_thousand_groups_are_planned_in_no_time(tmp_path: Path) -> None:
    # Constant work a group: sixteen times the groups take sixteen times as long, not two hundred times.
    def took(count: int, folder: Path) -> float:
        parents = [trained(number) for number in range(count // 2)]
        members = [edited(number, parent) for number, parent in enumerate(parents)]
        plan, shop = fleet_plan(members), workshop(folder)
        started = time.process_time()
        train_fleet(plan, shop, executor=Idle(2, {"model": 2.0, "edit": 2.0}), quiet=True)
        return time.process_time() - started

    took(100, tmp_path / "warm")
    few, many = min(took(250, tmp_path / "few") for _ in range(3)), took(4000, tmp_path / "many")
    assert many < 50 * few


def test_ahead_of_their_turn_models_are_begun_by_idle_workers_only(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    now, later = fleet_plan([trained(n) for n in range(4)]), fleet_plan([trained(n) for n in range(4, 12)])
    with Hostile(shop, 1, ORDERS["random"]) as executor:
        driver = Driver(shop, executor, quiet=True)
        driver.finish(now, ahead=later)
        assert driver.made == 4
    shop = workshop(tmp_path / "wide")
    with Hostile(shop, 6, lambda tasks: 0) as executor:
        driver = Driver(shop, executor, quiet=True)
        driver.finish(now, ahead=later)
        assert [one.seed for one in executor.arrived[:4]] == [trained(n).seed for n in range(4)]
        assert driver.made == 4
        assert 0 < len(executor.tasks) <= 5  # begun by workers that had nothing else to do
        driver.finish(later)
        assert driver.made == 12
        assert Counter(one.seed for one in executor.arrived).most_common(1)[0][1] == 1


# Costs


def test_what_was_measured_is_kept_by_kind(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    costs = Costs(shop)
    assert costs.guessed("single") is None
    assert costs.total({"single": 2}) is None
    costs.add("single", 4, 2.0)
    costs.add("edit npo", 2, 0.2)
    costs.keep()
    again = Costs(shop)
    assert (again.each("single"), again.each("edit npo"), again.each(MEASURE)) == (0.5, 0.1, None)
    assert again.guessed("edit finetune") == 0.5  # dearer than most, never cheaper
    assert again.guessed("vectorised half") == 0.5
    assert again.total({"single": 2, "edit npo": 3, MEASURE: 0}) == pytest.approx(1.3)
    again.add("single", 1, 3.0)  # what happens now counts
    assert again.each("single") == 3.0
    assert Costs(workshop(tmp_path, options={"epochs": 3, "hidden": [5]})).guessed("single") is None


def test_a_forecast_knows_cohorts_edits_and_models_that_need_only_be_measured(tmp_path: Path) -> None:
    shop, other = workshop(tmp_path), workshop(tmp_path, forget=FORGET[1:])
    parent = trained(1)
    seated = in_cohorts([trained(number) for number in range(2, 6)], 4)
    members = [edited(1, parent), seated[0]]
    assert outstanding(members, shop).seconds is None
    costs = Costs(shop)
    for kind, seconds in (("single", 2.0), ("vectorised", 0.5), ("edit finetune", 0.25), (MEASURE, 0.125)):
        costs.add(kind, 1, seconds)
    costs.keep()
    found = outstanding(members, shop)
    assert (found.models, found.left, found.groups) == (6, 6, 3)  # a member of a cohort brings the whole of it
    assert found.work == {"single": 1, "vectorised": 4, "edit finetune": 1}
    assert found.seconds == 2.0 + 4 * 0.5 + 0.25
    train_fleet(fleet_plan([parent]), shop, workers=1, quiet=True)
    again, second = outstanding([parent], shop), outstanding([parent], other)
    assert (again.left, again.groups, again.seconds, again.bytes) == (0, 0, 0.0, 0)
    assert (second.left, second.groups, dict(second.work)) == (0, 1, {MEASURE: 1})
    assert second.seconds is not None
    assert second.seconds < 0.5
    assert 0 < second.bytes < found.bytes / 6


# Time left


class Wall:
    """A clock that work moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("workers", [1, 4])
def test_time_left_knows_that_edits_are_cheap(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Trained models first, then their edits: whoever took the mean of the models that are finished would promise far
    # more.
    each = {"model": 2.0, "edit": 0.2}
    parents = [trained(number) for number in range(120)]
    edits = [edited(number, parent) for number, parent in enumerate(parents)]
    plan = FleetPlan(tuple((one,) for one in (*parents, *edits)))
    shop, wall = workshop(tmp_path), Wall()
    costs = Costs(shop)
    costs.add("single", 1, each["model"])
    costs.add("edit finetune", 1, each["edit"])
    costs.keep()

    class Working(Idle):
        def wait(self) -> list[Done]:
            found = super().wait()
            wall.now += sum(found[0].seconds) / self.workers
            return found

    monkeypatch.setattr("cu_cert.fleet.train.time", wall)
    monkeypatch.setattr("cu_cert.fleet.progress.time", wall)
    said: list[tuple[int, float, float | None]] = []
    monkeypatch.setattr(Progress, "show", lambda _, done, left=None: said.append((done, wall.now, left)))
    train_fleet(plan, shop, executor=Working(workers, each))
    end = said[-1][1]
    assert said[-1][0] == 240
    for done, now, left in said[:-1]:
        assert left is not None
        assert left == pytest.approx(end - now, rel=0.1, abs=2.0), done
    naive = [(now - 1000.0) / done * (240 - done) for done, now, _ in said]
    truth = [end - now for _, now, _ in said]
    assert max(guess - true for guess, true in zip(naive, truth, strict=True)) > 0.5 * truth[0]


# Choosing an executor


def test_an_executor_is_chosen_for_the_run_and_never_in_the_project(tmp_path: Path) -> None:
    assert executor_spec(None, {}) == "local"
    assert executor_spec(None, {"CU_CERT_EXECUTOR": "ray:10.0.0.1:6379"}) == "ray:10.0.0.1:6379"
    assert executor_spec("local", {"CU_CERT_EXECUTOR": "ray"}) == "local"
    for bad in ("", "slurm", "local:2", "ray:", "Ray"):
        with pytest.raises(ConfigError, match=r"--executor .*: expected local, ray .* or ray:ADDRESS"):
            executor_spec(bad, {})
    with pytest.raises(ConfigError, match=r"CU_CERT_EXECUTOR 'slurm'"):
        executor_spec(None, {"CU_CERT_EXECUTOR": "slurm"})
    made: Executor = make_executor("local", workshop(tmp_path), 3)
    assert (made.name, made.workers) == ("local", 3)


def test_a_workshop_travels_without_what_it_worked_out(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    _ = shop.recipe, shop.universe, shop.retain, shop.identity
    assert set(shop.__getstate__()) == set(Workshop.__dataclass_fields__)
