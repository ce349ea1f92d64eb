"""Large fleets: memory that does not grow with them, scores on disk with the same numbers, nothing left behind."""

import errno
import multiprocessing
import re
import resource
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from small_fleet import trained, workshop

from cu_cert.errors import DataError, EnvironmentProblem
from cu_cert.fleet import signal_matrix
from cu_cert.fleet.local import LocalExecutor
from cu_cert.fleet.parcel import Parcel
from cu_cert.fleet.plan import Member, fleet_plan
from cu_cert.fleet.signal_matrix import Pool, SignalMatrix, blocks, margins_of
from cu_cert.fleet.store import Entry, Store
from cu_cert.fleet.train import train_fleet
from cu_cert.fleet.worker import Workshop
from cu_cert.pools import Bench
from cu_cert.records import make_records
from cu_cert.signals import Signals, relative

on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is looked up in /proc")


def private(process: int | str = "self") -> float:
    """Return the megabytes of memory that a process shares with nobody and no file."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


def many_records(count: int, seed: int = 3) -> Any:
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    return make_records([f"s{row:05d}" for row in range(count)], rng.normal(size=(count, 6)), y, ["a", "b", "c"])


def filled(folder: Path, models: int, held_out: int) -> tuple[Workshop, list[Member]]:
    """A store of models that nobody trained, with signals on so many held-out records."""
    shop = workshop(folder, held_out=many_records(held_out))
    store, members = Store(folder), [trained(number) for number in range(models)]
    rng = np.random.default_rng(1)
    size = len(shop.forget) + held_out
    for member in members:
        key = shop.identity.key(member)
        store.put_signals(key, shop.query, Signals(rng.normal(size=size), rng.random(size) < 0.5))
        store.finish(key, Entry(model="ab" * 32, seconds=0.1, engine="single", environment="e"))
    return shop, members


# Signals on disk


def naive(shop: Workshop, members: list[Member]) -> np.ndarray[Any, Any]:
    """What the bench computes, all at once in memory."""
    store = Store(shop.store)
    signals = [store.signals(shop.identity.key(member), shop.query) for member in members]
    return relative(np.stack([one.margin for one in signals if one]), shop.forget_records, shop.held_out)


@pytest.mark.parametrize("block", [1, 1000, 4000, 1 << 24])
def test_scores_on_disk_are_the_same_numbers(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, members = filled(tmp_path, 301, 10)
    monkeypatch.setattr(signal_matrix, "BLOCK", block)
    bench = Bench(shop)
    pool = bench.pool(members[::-1])
    found = bench.memory(pool)
    assert found.tobytes() == np.ascontiguousarray(naive(shop, members[::-1])).tobytes()
    assert found.tobytes() == bench.memory([bench.result(one)[1] for one in members[::-1]]).tobytes()  # type: ignore[misc]
    assert margins_of(pool).tobytes() == np.stack([one.margin for one in pool]).tobytes()
    assert margins_of(pool[5:9]).tobytes() == np.stack([one.margin for one in list(pool)[5:9]]).tobytes()
    store = Store(tmp_path)
    for member in members[::50]:
        _, signals = bench.result(member)
        kept = store.signals(shop.identity.key(member), shop.query)
        assert kept is not None
        assert signals is not None
        assert (signals.digest, signals.correct.tolist()) == (kept.digest, kept.correct.tolist())
        assert signals.correct.dtype == np.bool_
        assert bench.memory(signals).shape == (1, len(shop.forget))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("cu-cert-")]


def test_no_block_is_a_single_model() -> None:
    # One row alone is added up in another order, so its last bits would depend on where the blocks were cut.
    many = [Signals(np.arange(5.0), np.ones(5, bool))] * 41
    for size in (2, 3, 4, 5, 8, 40, 41, 50):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(signal_matrix, "BLOCK", size * 40)
            parts = [len(part) for part in blocks(many)]
        assert sum(parts) == 41
        assert min(parts) >= 2
        assert max(parts) <= size + 1


@on_linux
def test_a_bench_holds_no_signals_in_memory(tmp_path: Path) -> None:
    shop, members = filled(tmp_path, 400, 8000)  # 29 MB
    bench = Bench(shop)
    bench.pool(members[:40])
    tracemalloc.start()  # knows numpy's arrays, and counts no memory maps
    try:
        pool = bench.pool(members)
        found = bench.memory(pool)
        assert found.shape == (400, len(shop.forget))
        assert tracemalloc.get_traced_memory()[0] < 6e6
        assert margins_of(pool)[399, 3] == pool[399].margin[3]
        held = [Store(tmp_path).signals(shop.identity.key(member), shop.query) for member in members]
        assert tracemalloc.get_traced_memory()[0] > 20e6  # so that this test can fail
        assert len(held) == 400
    finally:
        tracemalloc.stop()


def test_a_model_that_is_gone_is_no_failed_run(tmp_path: Path) -> None:
    shop, members = filled(tmp_path, 2, 5)
    store = Store(tmp_path)
    first = shop.identity.key(members[0])
    for path in (tmp_path / first[:2]).glob(f"{first}.*"):
        if path.suffix != ".json":
            path.unlink()
    store.entry_path(shop.identity.key(members[1])).unlink()
    for member in members:
        with pytest.raises(DataError, match=r"is gone; run again"):
            Bench(shop).result(member)


def test_a_full_disk_under_the_scores_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A write to a memory map of a full disk would end the process; files are written before they are mapped.
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    matrix = SignalMatrix(1000, tmp_path)
    signals = Signals(np.zeros(1000), np.ones(1000, bool))
    for _ in range(256):
        matrix.append(signals)
    with limited(1_000_000, hard), pytest.raises(EnvironmentProblem, match=r"cannot be written \(File too large\)"):
        matrix.append(signals)
    monkeypatch.setattr(signal_matrix, "BLOCK", 100)
    pool = Pool(matrix, range(len(matrix)))
    with limited(50_000, hard), pytest.raises(EnvironmentProblem, match="free some space and run the same command"):
        margins_of(pool)
    monkeypatch.setattr(
        "tempfile.TemporaryFile", lambda **_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device"))
    )
    with pytest.raises(EnvironmentProblem, match="compared, and the disk is full; free some space"):
        SignalMatrix(5, tmp_path).append(Signals(np.zeros(5), np.ones(5, bool)))


@contextmanager
def limited(size: int, hard: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes meanwhile."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_signals_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"signals of shape \(4,\); expected \(5,\)"):
        SignalMatrix(5, tmp_path).append(Signals(np.zeros(4), np.ones(4, bool)))
    with pytest.raises(IndexError):
        SignalMatrix(5, tmp_path)[0]


# Workers share the records


def test_what_workers_need_is_one_file_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shop = workshop(tmp_path / "store")
    parcel = Parcel(shop)
    assert not list(tmp_path.glob("cu-cert-*"))
    copy = parcel.open()
    assert copy.train.ids == shop.train.ids
    assert copy.identity == shop.identity
    copy.train.x[0, 0] = 7.0  # may be written to, and nobody else sees it
    assert parcel.open().train.x[0, 0] == shop.train.x[0, 0] != 7.0
    parcel.close()
    plain = Parcel("no array")
    assert plain.open() == "no array"
    plain.close()


# Fleets of many models


def watched(folder: Path, models: int) -> tuple[list[dict[str, float]], float]:
    """Make a fleet with two processes; return memory after each third, by process, and the seconds on the wall."""
    shop = workshop(folder, recipe="logistic", options={"epochs": 1, "batch_size": 64}, held_out=many_records(2000))
    members = [trained(number, "retain" if number % 2 else "all") for number in range(models)]
    plan, found = fleet_plan(members), []
    with LocalExecutor(shop, 2) as executor:
        done = threading.Event()

        def look() -> None:
            goals = [models * third // 3 for third in (1, 2)]
            while goals and not done.wait(0.02):
                if sum(1 for _ in folder.glob("*/*.json")) >= goals[0]:
                    goals.pop(0)
                    found.append(memory())

        other = threading.Thread(target=look)
        other.start()
        started = time.monotonic()
        try:
            assert train_fleet(plan, shop, executor=executor, quiet=True) == models
        finally:
            done.set()
            other.join()
        seconds = time.monotonic() - started
        found.append(memory())
    return found, seconds


def memory() -> dict[str, float]:
    workers = {f"worker {one.pid}": private(one.pid or 0) for one in multiprocessing.active_children()}
    return {"driver": private(), **workers}


@on_linux
def test_neither_driver_nor_workers_grow_with_the_fleet(tmp_path: Path) -> None:
    found, _ = watched(tmp_path, 450)
    assert len(found) == 3
    assert len(found[0]) == 3
    for name, before in found[0].items():
        # Held signals and models would be 300 x 22 kB.
        assert found[2][name] - before < 5, found


@pytest.mark.slow
@pytest.mark.skipif(not SLOW, reason="trains ten thousand models")
@on_linux
def test_ten_thousand_models_in_one_plan(tmp_path: Path) -> None:
    found, seconds = watched(tmp_path, 10_000)
    for name, before in found[0].items():
        assert found[-1][name] - before < 25, found
    assert len(Store(tmp_path).known()) == 10_000
    print(f"{seconds:.0f} s on the wall, memory {found[-1]}")
