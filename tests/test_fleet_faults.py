"""Fleets in trouble: killed workers, full disks, errors; nothing is lost, and one clear line says what happened."""

import errno
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from small_fleet import bits, several, trained, workshop
from small_project import ROOTS

from cu_cert.errors import EnvironmentProblem
from cu_cert.fleet.local import TRIES, LocalExecutor
from cu_cert.fleet.plan import fleet_plan
from cu_cert.fleet.store import Store
from cu_cert.fleet.train import train_fleet
from cu_cert.fleet.worker import Workshop
from cu_certificates.errors import UsageError

# Killed workers

SLOW = """
import os, time
import torch


class Slow:
    def build(self, seed):
        return torch.nn.Linear(6, 3)

    def train(self, model, records, rng):
        with open(__file__ + ".log", "a") as log:
            log.write(f"{os.getpid()}\\n")
        time.sleep(0.05)
        return model
"""


def test_a_killed_worker_loses_nothing_and_its_task_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    shop = workshop(tmp_path / "store", recipe="python:slow:Slow", options={}, root=str(tmp_path))
    members = [trained(number) for number in range(60)]
    log = tmp_path / "slow.py.log"
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not killed and not over.wait(0.005):
            lines = log.read_text().split() if log.exists() else []
            if len(lines) > 12:
                killed.append(int(lines[-1]))
                os.kill(killed[0], signal.SIGKILL)

    other = threading.Thread(target=kill)
    other.start()
    try:
        assert train_fleet(fleet_plan(members), shop, workers=2, quiet=True) == 60
    finally:
        over.set()
        other.join()
    assert all(shop.finished(member) for member in members)
    worked = log.read_text().split()
    assert len(killed) == 1
    assert len(set(worked) - {str(killed[0])}) >= 1
    assert len(worked) in (60, 61)  # at most the model that it was at was begun again
    assert not multiprocessing.active_children()
    assert not list(tmp_path.rglob(".*"))


def test_a_task_that_kills_its_workers_is_given_up_in_one_line(tmp_path: Path) -> None:
    deadly = SLOW.replace("time.sleep(0.05)", "os.kill(os.getpid(), 9) if len(records) < 34 else None")
    (tmp_path / "deadly.py").write_text(deadly)
    shop = workshop(tmp_path / "store", recipe="python:deadly:Slow", options={}, root=str(tmp_path))
    members = [*(trained(number) for number in range(4)), trained(7, "retain")]
    with pytest.raises(EnvironmentProblem) as found:
        train_fleet(fleet_plan(members), shop, workers=2, quiet=True)
    assert "\n" not in str(found.value)
    assert f"a worker process died (killed by signal 9), {TRIES} times over the same task" in str(found.value)
    assert "at the model for model 7; if memory ran out, lower [audit] workers (4 of 5 models" in str(found.value)
    assert all(shop.finished(member) for member in members[:4])
    assert not multiprocessing.active_children()


def test_a_worker_that_cannot_start_is_told_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSTARTUP", "")
    monkeypatch.setattr("cu_cert.fleet.worker.serve", os.abort)  # as a script without its own guard would
    with pytest.raises(EnvironmentProblem, match=r"died before it could start .* if __name__ == '__main__'"):
        train_fleet(fleet_plan([trained(1), trained(2)]), workshop(tmp_path), workers=2, quiet=True)
    assert not multiprocessing.active_children()


class Broken(Workshop):
    def make_group(self, members: object) -> None:
        raise RuntimeError("odd weather")


def test_an_error_in_a_worker_arrives_with_the_place_where_it_happened(tmp_path: Path) -> None:
    shop = Broken(**workshop(tmp_path).__getstate__())  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="odd weather") as found:
        train_fleet(fleet_plan([trained(1), trained(2)]), shop, workers=2, quiet=True)
    assert Path(__file__).name in "".join(found.value.__notes__)
    assert not multiprocessing.active_children()


def test_one_executor_serves_fleets_one_after_another(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    with LocalExecutor(shop, 2) as executor:
        assert not multiprocessing.active_children()  # nobody is started before there is work
        assert train_fleet(fleet_plan([trained(1), trained(2)]), shop, quiet=True, executor=executor) == 2
        first = {process.pid for process in multiprocessing.active_children()}
        assert len(first) == 2
        assert train_fleet(fleet_plan([trained(2), trained(3)]), shop, quiet=True, executor=executor) == 1
        assert {process.pid for process in multiprocessing.active_children()} == first
    assert not multiprocessing.active_children()
    alone = workshop(tmp_path / "alone")
    with LocalExecutor(alone, 1) as executor:
        assert train_fleet(fleet_plan([trained(1)]), alone, quiet=True, executor=executor) == 1
        assert not multiprocessing.active_children()
    assert bits([trained(1)], shop) == bits([trained(1)], alone)


# A full disk


def full_after(monkeypatch: pytest.MonkeyPatch, store: Path, count: int) -> None:
    original, left = os.replace, [count]

    def replace(source: Any, target: Any) -> None:
        left[0] -= str(target).startswith(str(store))
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("count", [0, 7, 8, 9, 10])
def test_a_full_disk_stops_a_run_with_one_error_and_the_next_goes_on(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, shop = several(), workshop(tmp_path / "store")
    Store(shop.store).place("00")
    with monkeypatch.context() as patch:
        full_after(patch, shop.store, count)
        with pytest.raises((UsageError, EnvironmentProblem)) as found:
            train_fleet(fleet_plan(members), shop, workers=1, quiet=True)
    assert found.value.exit_code == 2
    assert "the disk is full" in str(found.value)
    assert "of 8 models are finished and kept)" in str(found.value)
    kept = [member for member in members if shop.finished(member)]
    before = {path: path.stat().st_mtime_ns for path in shop.store.rglob("*.pt")}
    assert train_fleet(fleet_plan(members), shop, workers=1, quiet=True) == len(members) - len(kept)
    for member in kept:
        path = Store(shop.store).model_path(shop.identity.key(member))
        assert path.stat().st_mtime_ns == before[path]


FULL = """
import errno, os
import torch

_REPLACE = os.replace


def _full(source, target):
    if str(target).endswith(".pt") and os.path.exists(__file__ + ".full"):
        raise OSError(errno.ENOSPC, "No space left on device")
    _REPLACE(source, target)


os.replace = _full


class Slow:
    def build(self, seed):
        return torch.nn.Linear(6, 3)

    def train(self, model, records, rng):
        return model
"""


def test_a_disk_that_is_full_in_the_workers_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "full.py").write_text(FULL)
    flag = tmp_path / "full.py.full"
    shop = workshop(tmp_path / "store", recipe="python:full:Slow", options={}, root=str(tmp_path))
    members = [trained(number) for number in range(12)]
    original = os.replace
    try:
        assert train_fleet(fleet_plan(members[:5]), shop, workers=1, quiet=True) == 5
        flag.touch()
        with pytest.raises((UsageError, EnvironmentProblem), match=r"disk is full.*\(0 of 7 models are finished"):
            train_fleet(fleet_plan(members), shop, workers=2, quiet=True)
        flag.unlink()
        assert train_fleet(fleet_plan(members), shop, workers=1, quiet=True) == 7
    finally:
        os.replace = original
    assert not list(tmp_path.rglob(".*.pt.*"))


SMALL_DISK = """
import sys
from pathlib import Path
from small_fleet import several, workshop
from cu_cert.fleet.plan import fleet_plan
from cu_cert.fleet.train import train_fleet
from cu_certificates.errors import CertificateError
from cu_cert.errors import CuCertError

folder = Path(sys.argv[1])
shop, plan = workshop(folder / "store"), fleet_plan(several())
ballast = folder / "ballast"
ballast.write_bytes(bytes(4096 * int(sys.argv[2])))
try:
    train_fleet(plan, shop, workers=1, quiet=True)
except (CertificateError, CuCertError) as problem:
    print(problem.exit_code, problem)
ballast.unlink()
print(train_fleet(plan, shop, workers=1, quiet=True))
"""


def test_a_disk_that_really_is_full(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=256k,nr_inodes=400 tmpfs {tmp_path}"
    unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*unshare, mount], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    script = f"{mount} && exec {sys.executable} -c '{SMALL_DISK}' {tmp_path} 48"
    paths = os.pathsep.join([*ROOTS, str(Path(__file__).parent)])
    found = subprocess.run(
        [*unshare, script], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}, timeout=120
    )
    assert found.returncode == 0, found.stderr
    stopped, made = found.stdout.splitlines()
    assert stopped.startswith("2 ")
    assert "the disk is full; free some space" in stopped
    kept = int(re.search(r"\((\d) of 8 models are finished and kept\)$", stopped)[1])  # type: ignore[index]
    assert int(made) == 8 - kept
