"""Clusters of Ray: none, a wrong one, one of our own, one that loses a node; and the temporary folders of each."""

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from ray_cluster import (
    PATIENCE,
    calls,
    commands,
    debris,
    entries,
    listening,
    living,
    project,
    several_of,
    started,
    wait_for,
)
from small_fleet import bits, run, workshop

from cu_cert.errors import EnvironmentProblem
from cu_cert.fleet._ray_scratch import Scratch, short_base, sweep
from cu_cert.fleet.ray_executor import RayExecutor

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (cu-cert[ray])"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc"),
]


# Nobody there


def test_without_ray_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cu_cert.fleet import _ray_cluster

    monkeypatch.setattr(_ray_cluster, "find_spec", lambda name: None)
    with (
        pytest.raises(EnvironmentProblem, match=r"pip install 'cu-cert\[ray\]'") as caught,
        RayExecutor(workshop(tmp_path), "auto"),
    ):
        pass
    assert caught.value.exit_code == 2


@pytest.fixture
def silent() -> Iterator[str]:
    """An address at which somebody listens and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def chatty() -> Iterator[str]:
    """An address at which somebody speaks something else."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            line, _ = server.accept()
            line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            line.close()

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def refused(address: str, tmp_path: Path) -> str:
    begun = time.monotonic()
    with pytest.raises(EnvironmentProblem) as caught, RayExecutor(workshop(tmp_path), address):
        pass
    assert time.monotonic() - begun < 15
    return str(caught.value)


@pytest.mark.parametrize(
    "address", ["nonsense", "host:", ":6379", "host:0", "host:99999", "ray://host", "a:b", "host:-1"]
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    assert refused(address, tmp_path) == (
        f"ray: {address!r} is no address; expected auto, HOST:PORT (often 6379) or ray://HOST:PORT (often 10001)"
    )


def test_an_address_where_nobody_is_fails_within_seconds(tmp_path: Path, silent: str, chatty: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{free.getsockname()[1]}"
    for address in (closed, f"ray://{closed}"):
        assert refused(address, tmp_path) == (
            f"ray: no cluster at {address} (Connection refused); start one with `ray start --head`, or name another "
            "address"
        )
    assert f"ray: no cluster at {silent} (no answer)" in refused(silent, tmp_path)
    assert f"ray: no cluster at {chatty} (what answers there is no Ray)" in refused(chatty, tmp_path)


# A cluster of our own, in a process of its own


def folder_of(session: int) -> Path:
    """Return the temporary folder of a cluster of our own, as its processes name it."""
    (found,) = set(re.findall(r"/[\w/]*/cu-ray-\w+", commands(session)))
    return Path(found)


def test_a_cluster_of_our_own_is_alone_on_this_machine_and_ends_with_the_run(tmp_path: Path) -> None:
    project(tmp_path, "store", "stop")
    with started(tmp_path, 6) as process:
        wait_for(lambda: len(calls(tmp_path)) >= 2 or process.poll() is not None)
        assert "raylet" in commands(process.pid)
        addresses = listening(living(process.pid))
        assert addresses
        assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1"}
        folder = folder_of(process.pid)
        assert folder.stat().st_mode & 0o777 == 0o700
        (tmp_path / "stop").unlink()
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "6\n", "")
    wait_for(lambda: not living(process.pid), 20)
    assert not folder.exists()


def test_ctrl_c_stops_at_once_and_a_sudden_end_loses_nothing(tmp_path: Path) -> None:
    shop = project(tmp_path, "store", "stop")
    with started(tmp_path, 8) as process:
        wait_for(lambda: len(calls(tmp_path)) >= 2 or process.poll() is not None)
        pressed = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - pressed < 15
    assert (process.returncode, out) == (130, "")
    assert err == "stopped: 0 of 8 models were finished and are kept; run the same command to go on\n"
    wait_for(lambda: not living(process.pid), 20)

    (tmp_path / "stop").rename(tmp_path / "slow")
    with started(tmp_path, 60) as process:
        wait_for(lambda: len(entries(shop.store)) >= 4 or process.poll() is not None)
        folder = folder_of(process.pid)
        process.kill()
        process.communicate(timeout=PATIENCE)
    # Two of Ray's own helpers, which hold nothing of ours, wait a minute for the others to come back.
    wait_for(lambda: not re.sub(r"ray::\w+Agent", "", commands(process.pid)).strip("\0 "), 20)
    assert folder.exists()
    Scratch(short_base(), "cu-ray-").remove()
    assert not folder.exists()

    kept = {path: path.stat().st_mtime_ns for path in entries(shop.store)}
    assert len(kept) < 60
    for name in ("slow", "calls"):
        (tmp_path / name).unlink()
    members = several_of(60)
    missing = sum(not shop.finished(member) for member in members)
    assert run(members, shop) == missing == len(calls(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    local = project(tmp_path, "local")
    run(members, local)
    assert bits(members, shop) == bits(members, local)


# Temporary folders


def test_folders_of_processes_that_are_gone_are_removed_and_no_others(tmp_path: Path) -> None:
    mine = Scratch(tmp_path, "a-")
    (mine.path / "model").write_bytes(b"x")
    gone = tmp_path / "a-gone"
    gone.mkdir()
    (gone / ".lock").touch()
    (gone / "model").touch()
    (tmp_path / "a-unknown").mkdir()
    (tmp_path / "a-file").touch()
    (tmp_path / "a-link").symlink_to(gone)
    (tmp_path / "b-other").mkdir()
    (tmp_path / "b-other" / ".lock").touch()
    assert sweep(tmp_path, "a-") == 1
    assert not gone.exists()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {mine.path.name, "a-unknown", "a-file", "a-link", "b-other"}
    mine.remove()
    mine.remove()
    assert not mine.path.exists()


def test_a_long_temporary_folder_is_not_used_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert len(str(short_base())) <= 20
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OSError, match="no folder for temporary files with a path of at most 20 bytes"):
        short_base()


# Several nodes


@pytest.mark.slow
def test_a_node_that_is_lost_is_done_without(tmp_path: Path) -> None:
    shop = project(tmp_path, "store", "stop")
    with started(tmp_path, 8, 2, "nodes") as process:
        wait_for(lambda: len({line.split()[0] for line in calls(tmp_path)}) >= 2 or process.poll() is not None)
        (tmp_path / "lose").touch()
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "8\n"), err
    members = several_of(8)
    local = project(tmp_path, "local")
    run(members, local)
    assert bits(members, shop) == bits(members, local)
    assert not debris(shop.store)
