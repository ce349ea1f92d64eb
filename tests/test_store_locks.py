"""Locks and claims of the store: a run loses nothing that it needs, and no two runs make the same model."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import SLOW
from small_fleet import run, several, trained, workshop
from small_project import environment

from cu_cert.errors import DataError, EnvironmentProblem, Interrupted
from cu_cert.fleet import _store_locks
from cu_cert.fleet.housekeeping import clean_store
from cu_cert.fleet.plan import Member
from cu_cert.fleet.store import Claims, Entry, Holder, Store
from cu_cert.fleet.worker import Workshop

KEYS = [hashlib.sha256(bytes([number])).hexdigest() for number in range(3)]
locks = pytest.mark.skipif(sys.platform == "win32", reason="this system has no such locks")


def old_model(store: Store) -> str:
    """A model that was last used long ago."""
    key = KEYS[0]
    store.finish(key, Entry(model="ab", seconds=1.0, engine="single", environment="e"))
    os.utime(store.entry_path(key), (10**9, 10**9))
    return key


# Locks


CHILD = """
import sys, time
from pathlib import Path
from cu_cert.fleet._store_locks import Claims, hold
root = Path(sys.argv[1])
if sys.argv[2] == "hold":
    with hold(root, "another audit", alone=sys.argv[3:] == ["alone"]):
        print("ready", flush=True)
        time.sleep(60)
claims = Claims(root)
print("ready" if claims.take(sys.argv[3]) else "busy", flush=True)
time.sleep(60)
"""


@contextmanager
def child(root: Path, *arguments: str, say: str = "ready") -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds something of the store."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), *arguments],
        env=environment(root),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == say
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something comes true within some seconds; the system drops the locks of the dead a moment later."""
    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


@locks
def test_runs_share_a_store_and_cleaning_up_has_it_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = old_model(store)
    with child(tmp_path, "hold") as process, store.hold("training"):
        found = store.holders()
        assert {one.purpose for one in found} == {"another audit", "training"}
        assert {one.process for one in found} == {process.pid, os.getpid()}
        with pytest.raises(
            EnvironmentProblem, match="a run may need any model; run this again when that has ended"
        ) as error:
            clean_store(tmp_path, older=1)
        for one in found:
            assert f"{one.purpose} (process {one.process} on {one.host}, since 20" in str(error.value)
        assert clean_store(tmp_path, older=1, dry_run=True).models == 1
        assert store.peek(key) is not None
    # The system gives back what a killed process held; its note is known to be stale, and goes.
    assert eventually(lambda: store.holders() == ())
    assert len(list((tmp_path / "locks").glob("run-*"))) == 1
    assert clean_store(tmp_path, older=1).models == 1
    assert store.peek(key) is None
    assert not list((tmp_path / "locks").glob("run-*"))


@locks
def test_a_run_waits_for_a_clean_up_and_not_for_ever(tmp_path: Path) -> None:
    with child(tmp_path, "hold", "alone") as process:
        with (
            pytest.raises(EnvironmentProblem, match=r"being cleaned up by another audit \(process \d+ on"),
            _store_locks.hold(tmp_path, "training", patience=0.1),
        ):
            pass
        threading.Timer(0.3, process.kill).start()
        with Store(tmp_path).hold("training"):
            assert [one.purpose for one in Store(tmp_path).holders()] == ["training"]


@pytest.mark.parametrize("note", [b"", b"[]", b'{"purpose": 1}', b"[" * 5000, b"\xff"])
@locks
def test_a_note_that_says_nothing_is_somebody(tmp_path: Path, note: bytes) -> None:
    import fcntl

    path = tmp_path / "locks" / "run-00"
    path.parent.mkdir()
    path.write_bytes(note)
    with path.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert Store(tmp_path).holders() == (Holder(purpose="a run", process=0, host="?", since="?"),)
    assert Store(tmp_path).holders() == ()


def test_without_locks_runs_go_on_and_cleaning_up_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_store_locks, "fcntl", None)
    store = Store(tmp_path)
    old_model(store)
    with store.hold("training"):
        assert [one.purpose for one in store.holders()] == ["training"]
        with pytest.raises(EnvironmentProblem, match=r"no locks, and the store may be in use by training \(process"):
            clean_store(tmp_path, older=1)
    assert Claims(tmp_path).take(KEYS[0])
    assert clean_store(tmp_path, older=1).models == 1


def test_a_store_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises((EnvironmentProblem, DataError), match="file"), Store(place).hold("training"):
            pass


# Claims


@locks
def test_what_another_process_makes_is_not_ours_until_it_dies(tmp_path: Path) -> None:
    ours = Claims(tmp_path)
    with child(tmp_path, "claim", KEYS[0]) as process:
        assert [ours.take(key) for key in KEYS[:3]] == [False, True, True]
        with child(tmp_path, "claim", KEYS[1], say="busy"):
            pass
        ours.release(KEYS[1])
        with child(tmp_path, "claim", KEYS[1]):
            assert not ours.take(KEYS[1])
            assert ours.take(KEYS[2])
        process.send_signal(signal.SIGKILL)
        assert eventually(lambda: ours.take(KEYS[0]))
    ours.close()
    with child(tmp_path, "claim", KEYS[2]):
        pass


def test_claims_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    first, second = Claims(tmp_path), Claims(tmp_path)
    assert first.take(KEYS[0])
    assert first.take(KEYS[0])
    assert not second.take(KEYS[0])
    assert second.take(KEYS[1])
    second.release(KEYS[0])  # not its own
    assert not second.take(KEYS[0])
    first.close()
    assert second.take(KEYS[0])
    # Who drops a claim without a word gives it back.
    del second
    assert first.take(KEYS[0])
    assert first.take(KEYS[1])
    first.close()
    assert not _store_locks._BOARDS


# Two runs at once


@locks
def test_a_run_makes_the_rest_and_waits_for_what_another_is_making(tmp_path: Path) -> None:
    shop, members = workshop(tmp_path), several()
    keys = [shop.identity.key(member) for member in members]
    other = Claims(tmp_path)
    assert other.take(keys[0])
    made: list[int] = []
    ours = threading.Thread(target=lambda: made.append(run(members, shop)))
    ours.start()
    # Whatever does not start from what the other is making is made meanwhile.
    free = [number for number, member in enumerate(members) if member.lineage()[0] is not members[0]]
    assert eventually(lambda: all(shop.finished(members[number]) for number in free))
    assert Store(tmp_path).entry(keys[0]) is None
    assert ours.is_alive()
    shop.make(members[0])
    other.close()
    ours.join(30)
    assert made == [len(members) - 1]
    assert all(shop.finished(member) for member in members)


@locks
def test_what_a_killed_run_was_making_is_made(tmp_path: Path) -> None:
    shop, members = workshop(tmp_path), [trained(1), trained(2)]
    made: list[int] = []
    with child(tmp_path, "claim", shop.identity.key(members[1])) as process:
        ours = threading.Thread(target=lambda: made.append(run(members, shop)))
        ours.start()
        assert eventually(lambda: shop.finished(members[0]))
        assert not shop.finished(members[1])
        process.kill()
        ours.join(30)
    assert made == [2]


def test_a_run_that_failed_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = workshop(tmp_path)

    def stops(*_: object) -> Entry:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Workshop, "_train", stops)
        with pytest.raises(Interrupted):
            run([trained(1)], shop)
    assert Claims(tmp_path).take(shop.identity.key(trained(1)))
    assert Store(tmp_path).holders() == ()


RUN = """
import sys
from pathlib import Path
import cu_cert.fleet.worker
from small_fleet import run, several, trained, workshop
train = cu_cert.fleet.worker.Workshop._train
def noted(shop, member, store, key):
    print(member.label, flush=True)
    return train(shop, member, store, key)
cu_cert.fleet.worker.Workshop._train = noted
run([*several(), *(trained(number) for number in range(10, 40))], workshop(Path(sys.argv[1])))
"""


def test_two_runs_in_one_process_train_no_model_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, members = workshop(tmp_path), [*several(), *(trained(number) for number in range(10, 20))]
    train, made, counted = Workshop._train, list[str](), list[int]()

    def noted(shop: Workshop, member: Member, *rest: Any) -> Entry:
        made.append(member.label)
        time.sleep(0.01)
        return train(shop, member, *rest)

    monkeypatch.setattr(Workshop, "_train", noted)
    both = [threading.Thread(target=lambda: counted.append(run(members, shop))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(60)
    assert len(made) == len(set(made)) == len(members)
    assert len(counted) == 2
    assert sum(counted) >= len(members)


@locks
@pytest.mark.slow
@pytest.mark.skipif(not SLOW, reason="two processes that start torch; CU_CERT_SLOW=1 runs it")
def test_two_runs_of_one_plan_train_no_model_twice(tmp_path: Path) -> None:
    own = environment(tmp_path)
    own["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
    both = [
        subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], env=own, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    made = [label for process in both for label in process.communicate(timeout=120)[0].splitlines()]
    assert [process.returncode for process in both] == [0, 0]
    assert len(made) == len(set(made)) == len(several()) + 30
