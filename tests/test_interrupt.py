"""Stopped and killed runs: nothing is lost, nothing is made twice, nothing stays behind, and the result is the same."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_project import MLP, SMALLEST, files_below, fix_secrets, predicate_of, program, store_of, write_project

from cu_cert.cli.main import run
from cu_cert.fleet.local import _interrupts_held
from cu_cert.secrets_store import FOLDER

AUDIT = ("audit", "npo.pt", "--forget", "ids.txt", "--json")
PATIENCE = 120.0

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")


def living(session: int) -> list[int]:
    """Return the processes of a session, its leader first, those that ended and were not reaped yet left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = path.read_text().rpartition(")")[2]
        except OSError:
            continue  # it ended while we looked
        state, _parent, _group, its_session = rest.split()[:4]
        if int(its_session) == session and state != "Z":
            found.append(int(path.parent.name))
    return sorted(found, key=lambda process: (process != session, process))


def status_of(process: int) -> dict[str, str]:
    """Return the status of a process as the system shows it."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def wait_for(event: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not event():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of each file of the models that are finished."""
    found = {}
    for entry in store_of(folder).glob("*/*.json"):
        for path in entry.parent.glob(f"{entry.stem}*"):
            found[str(path.relative_to(folder))] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def claims(folder: Path) -> list[dict[str, Any]]:
    """Return all claims but the cost, which is a matter of the clock."""
    predicate = predicate_of(folder / "audit-out")
    return [claim for claim in predicate["claims"] if claim["id"] != "m-cost"] + [predicate["verdict"]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose fleet takes some seconds with two processes; an original and an edited model."""
    base = tmp_path_factory.mktemp("interrupt")
    folder = write_project(base / "project", **SMALLEST | {"training": MLP, "workers": 2})
    fix_secrets(folder, "interrupt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CU_CERT_CONFIG", str(base / "config"))
        patch.chdir(folder)
        assert run(["train"]) == 0
        assert run(["unlearn", "model.pt", "--forget", "ids.txt", "--method", "npo", "-o", "npo.pt"]) == 0
    shutil.rmtree(store_of(folder))
    return folder


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return program(*arguments, folder=folder, config=folder.parent / "config")


def test_ctrl_c_and_sudden_death_lose_nothing_and_change_nothing(project: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(project, tmp_path / "whole"))
    cut = Path(shutil.copytree(project, tmp_path / "cut"))
    assert files_below(whole / FOLDER) == files_below(cut / FOLDER)

    # Ctrl-C reaches every process of the terminal at once.
    process = start(cut, *AUDIT)
    wait_for(lambda: len(finished(cut)) > 12)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert out == ""
    assert err.startswith("cu-cert: stopped: ")
    assert err.endswith("models were finished and are kept; run the same command to go on\n")
    assert len(err.splitlines()) == 1
    wait_for(lambda: not living(process.pid), 2)
    kept = finished(cut)
    assert int(err.split()[2]) <= len(list(store_of(cut).glob("*/*.json"))) < 60
    assert not (cut / "audit-out" / "certificate.sigstore.json").exists()

    # A kill reaches the driver alone, which can tell no one.
    process = start(cut, *AUDIT)
    wait_for(lambda: len(finished(cut)) > len(kept) + 12)
    process.kill()
    process.communicate(timeout=PATIENCE)
    wait_for(lambda: not living(process.pid), 2)
    kept_later = finished(cut)
    assert kept_later.items() >= kept.items()

    process = start(cut, *AUDIT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    outcome = json.loads(out)
    assert finished(cut).items() >= kept_later.items()
    entries = list(store_of(cut).glob("*/*.json"))
    assert len(entries) == outcome["models"]
    assert outcome["trained"] <= outcome["models"] - sum(path.endswith(".sig") for path in kept_later)
    assert not living(process.pid)

    # The copy runs in this process, on one core, in one go.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CU_CERT_CONFIG", str(project.parent / "config"))
        patch.chdir(whole)
        toml = (whole / "cu-cert.toml").read_text()
        (whole / "cu-cert.toml").write_text(toml.replace("workers = 2", "workers = 1"))
        assert run([*AUDIT]) == 0
    assert files_below(whole / "audit-out" / "evidence") == files_below(cut / "audit-out" / "evidence")
    assert (whole / "audit-out" / "plan.json").read_bytes() == (cut / "audit-out" / "plan.json").read_bytes()
    assert claims(whole) == claims(cut)


def test_ctrl_c_while_the_processes_start_says_one_line(project: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(project, tmp_path / "early"))
    process = start(folder, *AUDIT)
    wait_for(lambda: len(living(process.pid)) >= 3)
    held = [int(status["SigBlk"], 16) | int(status["SigIgn"], 16) for status in map(status_of, living(process.pid)[1:])]
    assert all(signals & (1 << signal.SIGINT - 1) for signals in held)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.startswith("cu-cert: stopped: 0 of ")
    assert len(err.splitlines()) == 1
    wait_for(lambda: not living(process.pid), 2)


def pressed_half_way(reached: list[int]) -> None:
    with _interrupts_held():
        os.kill(os.getpid(), signal.SIGINT)
        for step in range(5):
            time.sleep(0.01)
            reached.append(step)


def test_ctrl_c_is_held_back_whichever_thread_takes_it() -> None:
    # A thread that was there before takes the signal; Python would raise here, in the middle of starting a process.
    over = threading.Event()
    reached: list[int] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a build server may have it ignored
    other = threading.Thread(target=over.wait)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            pressed_half_way(reached)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        over.set()
        other.join()
        signal.signal(signal.SIGINT, before)
    assert reached == [0, 1, 2, 3, 4]
