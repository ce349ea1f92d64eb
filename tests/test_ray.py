"""The Ray executor: the bits of the local one; no fault loses anything; nothing is open to others or stays behind."""

import errno
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ray_cluster import (
    calls,
    debris,
    entries,
    families,
    project,
    several_of,
    wait_for,
)
from small_fleet import FORGET, OPTIONS, bits, edited, run, trained, workshop

from cu_cert.errors import CuCertError, EnvironmentProblem, Interrupted
from cu_cert.fleet import _ray_worker
from cu_cert.fleet.plan import Member, fleet_plan, in_cohorts
from cu_cert.fleet.ray_executor import RayExecutor
from cu_cert.fleet.store import Store
from cu_cert.fleet.train import train_fleet
from cu_cert.fleet.worker import Workshop

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (cu-cert[ray])"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of this process, which each test finds as ``auto``; starting one takes seconds."""
    from cu_cert.fleet._ray_cluster import Cluster

    found = Cluster(None, processors=4)
    yield
    found.close()


def spread(members: list[Member], shop: Workshop, workers: int = 2) -> int:
    with RayExecutor(shop, "auto", workers) as executor:
        return train_fleet(fleet_plan(members), shop, executor=executor, quiet=True)


# The same models


def test_models_are_those_of_the_local_executor_bit_for_bit(tmp_path: Path, cluster: None) -> None:
    together = in_cohorts([trained(50 + number, "retain" if number % 2 else "all") for number in range(6)], 3)
    members = [*families(4), *together, edited(60, together[1])]
    here, there = workshop(tmp_path / "here"), workshop(tmp_path / "there")
    assert run(members, here) == spread(members[::-1], there) == len(members) == 19
    assert bits(members, here) == bits(members, there)
    assert spread(members, there) == 0
    assert not debris(there.store)


def test_failed_runs_come_back_as_failed(tmp_path: Path, cluster: None) -> None:
    shop = workshop(tmp_path, options=OPTIONS | {"learning_rate": 1e30})
    members = [trained(1), edited(1, trained(1))]
    assert spread(members, shop, 1) == 2
    found = [Store(tmp_path).entry(shop.identity.key(member)) for member in members]
    assert ["diverged" in entry.problem for entry in found if entry] == [True, True]
    assert spread(members, shop, 1) == 0


def test_user_code_of_the_project_is_found_and_another_request_trains_no_original_again(
    tmp_path: Path, cluster: None
) -> None:
    shop = project(tmp_path)
    members = several_of(5)
    assert spread(members, shop) == 5
    assert len(calls(tmp_path)) == 5
    local = project(tmp_path, "local")
    assert run(members, local) == 5
    assert bits(members, shop) == bits(members, local)
    # What was trained on all records serves another request; it is only asked about other records.
    other = replace(shop, forget=FORGET[1:])
    before = len(calls(tmp_path))
    assert spread(members, other, 1) == 5
    assert len(calls(tmp_path)) == before + 1


def test_weights_that_are_gone_or_damaged_are_made_again_where_they_are_needed(
    tmp_path: Path, cluster: None, caplog: pytest.LogCaptureFixture
) -> None:
    shop, parent = workshop(tmp_path), trained(1)
    run([parent, trained(2)], shop)
    before = bits([parent, trained(2)], shop)
    for number, member in enumerate((parent, trained(2))):
        path = Store(tmp_path).model_path(shop.identity.key(member))
        path.unlink() if number else path.write_bytes(path.read_bytes()[:-300])
    assert spread([edited(1, parent), edited(2, trained(2))], shop, 1) == 2
    assert "and what it held is made again" in caplog.text
    assert bits([parent, trained(2)], shop) == before


# A worker that would make other models


def prepared(shop: Workshop, folder: Path, **facts: str) -> _ray_worker.Prepared:
    wanted = _ray_worker.Conditions(_ray_worker.facts() | facts, shop.identity)
    return _ray_worker.Maker(str(folder)).prepare(_ray_worker.packed(shop), wanted)


@pytest.mark.parametrize("fact", ["cu-cert", "python", "torch", "platform", "cpuCapability", "mklCbwr"])
def test_each_fact_on_which_bits_depend_is_compared(tmp_path: Path, fact: str) -> None:
    said = prepared(workshop(tmp_path), tmp_path, **{fact: "other"})
    assert said.mismatch == _ray_worker.Mismatch(fact, _ray_worker.facts()[fact], "other")


def test_a_worker_that_would_make_other_models_is_refused(
    tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = _ray_worker.facts() | {"torch": "9.9.9"}
    monkeypatch.setattr(_ray_worker, "facts", lambda: own)
    with pytest.raises(EnvironmentProblem) as caught:
        spread([trained(1)], workshop(tmp_path), 1)
    import torch

    assert str(caught.value) == (
        f"ray: node 127.0.0.1 would make other models: torch is '{torch.__version__}' there and '9.9.9' here; install "
        "the same torch there and here (0 of 1 models are finished and kept)"
    )
    assert not entries(tmp_path)


def test_a_node_without_the_folder_of_the_project_is_named(
    tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = project(tmp_path / "project")
    assert shop.identity
    packed = _ray_worker.packed
    monkeypatch.setattr(_ray_worker, "packed", lambda one: packed(replace(one, root=str(tmp_path / "elsewhere"))))
    with pytest.raises(EnvironmentProblem) as caught:
        spread([trained(1)], shop, 1)
    said = str(caught.value)
    assert said.startswith("ray: node 127.0.0.1: [training] recipe = 'python:mine:Mine': there is no module mine in")
    assert f"the project's folder {shop.root} and what its code imports must be the same on every node" in said


def test_a_worker_whose_recipe_or_device_is_another_says_so(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    wanted = _ray_worker.Conditions(_ray_worker.facts(), shop.identity)
    changed = _ray_worker.packed(replace(shop, recipe_digest="0" * 64))
    said = _ray_worker.Maker(str(tmp_path)).prepare(changed, wanted)
    assert said.problem is not None
    assert "its code was changed" in said.problem[1]
    elsewhere = _ray_worker.packed(replace(shop, device="cuda:Imaginary 9"))
    said = _ray_worker.Maker(str(tmp_path)).prepare(elsewhere, wanted)
    assert said.mismatch is not None
    assert (said.mismatch.fact, said.mismatch.there) == ("device", "cuda:Imaginary 9")


def test_a_worker_gets_only_what_cannot_be_worked_out_and_its_folder_does_not_grow(tmp_path: Path) -> None:
    shop = workshop(tmp_path / "store")
    size = len(_ray_worker.packed(shop))
    assert shop.identity
    assert shop.universe.marks.size
    assert len(_ray_worker.packed(shop)) == size
    maker = _ray_worker.Maker(str(tmp_path))
    assert maker.prepare(_ray_worker.packed(shop), _ray_worker.Conditions(_ray_worker.facts(), shop.identity)).ok
    members = several_of(40)
    for member in members:
        made = maker.make([(member,)], {})
        assert list(made.made) == [shop.identity.key(member)]
    (folder,) = tmp_path.glob("cu-cert-worker-*")
    assert len(entries(folder / "store")) == len(list(folder.glob("store/??/*.pt"))) == 16
    maker.close()
    assert not folder.exists()
    assert not list(tmp_path.glob("store/??/*"))


# Workers that die


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_made_twice(tmp_path: Path, cluster: None) -> None:
    shop = project(tmp_path, "store", "die")
    members = several_of(6)
    assert spread(members, shop) == 6
    assert len({line.split()[0] for line in calls(tmp_path)}) >= 2
    assert len(calls(tmp_path)) <= 6 + 2  # the one that was cut off, and at most one that was handed out with it
    local = project(tmp_path, "local")
    run(members, local)
    assert bits(members, shop) == bits(members, local)


def test_an_actor_that_is_ended_from_outside_is_replaced(tmp_path: Path, cluster: None) -> None:
    import ray

    shop = workshop(tmp_path / "there")
    members = families(6)
    with RayExecutor(shop, "auto", 2) as executor:
        for member in members[::3]:
            executor.submit([(member,)])
        assert executor.wait()
        ray.kill(executor._team[0].actor)
        assert train_fleet(fleet_plan(members), shop, executor=executor, quiet=True) >= 12
    here = workshop(tmp_path / "here")
    run(members, here)
    assert bits(members, here) == bits(members, shop)


def test_a_task_that_kills_every_worker_ends_the_run_with_one_error(tmp_path: Path, cluster: None) -> None:
    shop = project(tmp_path)
    assert run(several_of(2), shop) == 2
    (tmp_path / "die-always").touch()
    with pytest.raises(EnvironmentProblem) as caught:
        spread(several_of(3), shop, 1)
    assert str(caught.value) == (
        "ray: the task of 'model 2' was begun 4 times and each time its worker died, last on node 127.0.0.1; if memory "
        "ran out there, use fewer workers. What is finished is kept; run the same command to go on (0 of 1 models are "
        "finished and kept)"
    )
    assert len(calls(tmp_path)) == 2 + 4
    assert not debris(shop.store)


# A full disk


def test_a_full_disk_on_a_node_is_one_error_that_names_it(tmp_path: Path, cluster: None) -> None:
    shop = project(tmp_path, "store", "full")
    with pytest.raises(EnvironmentProblem, match=r"^ray: node 127\.0\.0\.1: .* the disk is full; free some space"):
        spread(several_of(4), shop, 1)
    assert 1 <= len(entries(shop.store)) < 4  # what the worker had finished before
    assert not debris(shop.store)


def test_a_full_disk_here_keeps_what_is_finished(
    tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, members = workshop(tmp_path / "there"), families(3)
    original, left = os.replace, [7]

    def full(source: Any, target: Any) -> None:
        if str(target).startswith(str(shop.store / "")):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        original(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CuCertError, match="the disk is full; free some space and run the same"):
        spread(members, shop, 1)
    monkeypatch.undo()
    kept = len(entries(shop.store))
    assert 1 <= kept <= 2
    assert spread(members, shop, 1) == len(members) - kept
    assert not debris(shop.store)
    here = workshop(tmp_path / "here")
    run(members, here)
    assert bits(members, here) == bits(members, shop)


# A cluster that is not ours stays as it is


def test_a_cluster_that_was_there_is_left_as_it_was(tmp_path: Path, cluster: None) -> None:
    import ray

    before = ray.nodes()
    own = RayExecutor(workshop(tmp_path / "a"), None, 1)
    with (
        own,
        pytest.raises(EnvironmentProblem, match=r"uses Ray already; call ray\.shutdown\(\) before, or .* ray:auto"),
    ):
        own.submit([(trained(1),)])
    assert spread([trained(1)], workshop(tmp_path / "b"), 1) == 1
    assert ray.is_initialized()
    assert [node["NodeID"] for node in ray.nodes()] == [node["NodeID"] for node in before]
    wait_for(lambda: ray.available_resources().get("CPU") == 4, 20)


def test_stopping_at_once_leaves_no_files_on_a_node(tmp_path: Path, cluster: None) -> None:
    shop, hands = project(tmp_path, "store", "stop"), list[Path]()
    members = several_of(4)

    def press() -> None:
        wait_for(lambda: len(calls(tmp_path)) >= 2)
        hands.extend(Path(hand.place[1]) for hand in executor._team)
        assert all(folder.exists() for folder in hands)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a build server may have it ignored
    executor = RayExecutor(shop, "auto", 2)
    thread = threading.Thread(target=press)
    thread.start()
    try:
        with pytest.raises(Interrupted, match="0 of 4 models"), executor:
            train_fleet(fleet_plan(members), shop, executor=executor, quiet=True)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert len(hands) == 2
    assert not any(folder.exists() for folder in hands)
