"""Ray clusters on the loopback interface for tests, recipes that misbehave in them, and a run as another process.

Run as a program, this file makes the models of :func:`several_of` with a cluster of its own.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from small_fleet import edited, trained, workshop
from small_project import ROOTS

from cu_cert.errors import CuCertError
from cu_cert.fleet.plan import Member, fleet_plan
from cu_cert.fleet.train import train_fleet
from cu_cert.fleet.worker import Workshop

PATIENCE: Final = 120.0

RECIPE: Final = '''
"""Counts its calls, and where a file says so does something else than training."""

import errno
import os
import signal
import time
from pathlib import Path

import torch
from helper import trained_by

HERE = Path(__file__).parent


def once(name):
    """Whether a file is there; it is gone afterwards, whatever becomes of this process."""
    try:
        (HERE / name).unlink()
    except FileNotFoundError:
        return False
    return True


class Mine:
    def build(self, seed):
        return torch.nn.Linear(6, 3)

    def train(self, model, records, rng):
        with open(HERE / "calls", "a") as calls:
            calls.write(f"{os.getpid()} {len(records)}\\n")
        if once("die") or (HERE / "die-always").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if (HERE / "full").exists() and len((HERE / "calls").read_text().splitlines()) > 2:
            real = os.open

            def full(path, *rest, **named):
                if "cu-cert-worker-" in str(path):
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real(path, *rest, **named)

            os.open = full
        while (HERE / "stop").exists():
            time.sleep(0.02)
        if (HERE / "slow").exists():
            time.sleep(0.1)
        return trained_by(model, records)
'''

HELPER: Final = """
import torch


def trained_by(model, records):
    with torch.no_grad():
        model.bias += float(records.y.mean())
    return model
"""


def project(folder: Path, store: str = "store", *files: str, **changes: Any) -> Workshop:
    """Write a recipe, its helper and marker files, and return a workshop that uses them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(RECIPE)
    (folder / "helper.py").write_text(HELPER)
    for name in files:
        (folder / name).touch()
    return workshop(folder / store, recipe="python:mine:Mine", options={}, root=str(folder), **changes)


def calls(folder: Path) -> list[str]:
    """Return a line for each time that the recipe trained."""
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def several_of(count: int) -> list[Member]:
    """Return trained models, every fourth without the request."""
    return [trained(number, "retain" if number % 4 == 3 else "all") for number in range(count)]


def families(count: int) -> list[Member]:
    """Return models with two edits each."""
    found = []
    for number in range(count):
        parent = trained(number)
        found += [parent, edited(2 * number, parent), edited(2 * number + 1, parent, "retrain")]
    return found


def living(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def commands(session: int) -> str:
    """Return the command lines of the processes of a session, one after another."""
    found = []
    for process in living(session):
        try:
            found.append(Path(f"/proc/{process}/cmdline").read_text())
        except OSError:
            continue  # it ended while we looked
    return "\0".join(found)


def listening(processes: Sequence[int]) -> set[str]:
    """Return the addresses at which processes listen, as the system writes them."""
    sockets = set()
    for process in processes:
        for link in Path(f"/proc/{process}/fd").glob("*"):
            try:
                sockets.add(os.readlink(link))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            part = line.split()
            if part[3] == "0A" and f"socket:[{part[9]}]" in sockets:
                raw = bytes.fromhex(part[1].partition(":")[0])
                words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
                found.add(socket.inet_ntop(socket.AF_INET if table == "tcp" else socket.AF_INET6, words))
    return found


def wait_for(event: Callable[[], Any], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not event():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def entries(store: Path) -> list[Path]:
    return list(store.glob("??/*.json"))


def debris(store: Path) -> list[Path]:
    """Return temporary files, and models without an entry."""
    known = {path.stem for path in entries(store)}
    files = [path for path in store.glob("??/*") if path.is_file()]
    return [path for path in files if path.name.startswith(".") or path.name[:64] not in known]


@contextmanager
def started(folder: Path, count: int, workers: int = 2, how: str = "own") -> Iterator["subprocess.Popen[str]"]:
    """Start this file as a program, the leader of a session of its own, and end it at last."""
    with subprocess.Popen(
        [sys.executable, __file__, str(folder), str(count), str(workers), how],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*ROOTS, str(Path(__file__).parent)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def nodes(folder: Path) -> Iterator[str]:
    """Start a cluster of a node without processors and two with one, and lose a node when a file ``lose`` says so."""
    with TemporaryDirectory(prefix="cu-t-", dir="/tmp") as base:
        os.environ |= {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "disabled",
            "RAY_TMPDIR": base,
            "TMPDIR": base,
        }
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        from ray.cluster_utils import Cluster

        own: dict[str, Any] = {"temp_dir": f"{base}/ray", "include_dashboard": False, "node_ip_address": "127.0.0.1"}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **own})
        cluster.add_node(num_cpus=1, **own)
        other = cluster.add_node(num_cpus=1, **own)

        def lose() -> None:
            while not (folder / "lose").exists():
                time.sleep(0.05)
            cluster.remove_node(other, allow_graceful=False)
            (folder / "stop").unlink()

        thread = threading.Thread(target=lose, daemon=True)
        thread.start()
        try:
            yield cluster.address
        finally:
            cluster.shutdown()  # type: ignore[no-untyped-call]


def main(folder: Path, count: int, workers: int, how: str) -> int:
    """Make models of a project that is there, and say how many."""
    from cu_cert.fleet.ray_executor import RayExecutor

    shop = workshop(folder / "store", recipe="python:mine:Mine", options={}, root=str(folder))
    try:
        with (
            nodes(folder) if how == "nodes" else nullcontext() as address,
            RayExecutor(shop, address, workers) as executor,
        ):
            made = train_fleet(fleet_plan(several_of(count)), shop, executor=executor, quiet=True)
    except CuCertError as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
    print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
