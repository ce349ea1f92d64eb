"""A Ray cluster for the time of a run: one of our own on the loopback interface, or one that is there already.

Ray decides much of this by environment variables that it reads when it is imported or started, so they are set for the
time of the run and put back after it.
"""

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import cu_attacks
import cu_cert
import cu_certificates
from cu_cert.errors import EnvironmentProblem
from cu_cert.fleet._ray_scratch import Scratch, short_base
from cu_cert.fleet.local import _interrupts_held

LOOPBACK: Final = "127.0.0.1"
PREFIX: Final = "cu-ray-"  # short, since the names of sockets below it may have about 100 bytes
_PATIENCE: Final = 5.0
_SMALLEST_STORE: Final = 80 << 20  # Ray refuses less than 75 MiB
_HTTP2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS: Final = 4

_ALWAYS: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else workers install packages when the run was started by `uv run`
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leave the visible accelerators alone; Ray warns of its old default
}
_OWN: Final = {
    # Despite its name it is this that makes Ray use the loopback interface and no other on every system.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


def require_ray() -> None:
    """Make sure that Ray is installed.

    Raises:
        EnvironmentProblem: It is not.
    """
    if find_spec("ray") is None:
        raise EnvironmentProblem(
            "the ray executor needs the package ray, which is not installed; run: pip install 'cu-cert[ray]', or leave "
            "out --executor ray (CU_CERT_EXECUTOR)"
        )


@cache
def _token() -> str:
    """Return the password of our own clusters; one a process, since Ray keeps the first that it sees."""
    return secrets.token_hex(32)


@contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _guarded() -> dict[str, str | None]:
    """Return the variables that keep a cluster of our own to this machine and to whoever knows its password."""
    # Ray heeds its mode only when it is imported; afterwards newer versions demand a password by themselves, unless
    # the variable says otherwise.
    mode = None if "ray" in sys.modules else "token"
    return {**_OWN, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": _token(), "PYTHONPATH": _search_path()}


def _search_path() -> str | None:
    """Return a module search path by which workers find the code that runs here, and not another copy of it."""
    roots = [str(Path(str(package.__file__)).parents[1]) for package in (cu_cert, cu_attacks, cu_certificates)]
    ours = [root for root in dict.fromkeys(roots) if Path(root).name not in ("site-packages", "dist-packages")]
    return os.pathsep.join([*ours, *filter(None, [os.environ.get("PYTHONPATH")])]) or None


@contextmanager
def _terminations_kept() -> Iterator[None]:
    """Undo that Ray answers SIGTERM, and errors that nobody caught, in its own way."""
    ours = threading.current_thread() is threading.main_thread()
    before, hook = signal.getsignal(signal.SIGTERM), sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = hook
        if ours:
            signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


class Cluster:
    """A connection to a cluster; leaving it stops a cluster that was started here, and no other.

    Args:
        address: ``None`` or ``local`` to start one; ``auto``, ``host:port`` or ``ray://host:port`` for one that is
            there.
        processors: How many the started cluster has.
        accelerators: How many of those it has.
        data: Bytes of the data that each worker fetches; bounds the memory of the started cluster's object store.

    Raises:
        EnvironmentProblem: Ray is missing, nobody answers at the address, or a cluster cannot be started.
    """

    def __init__(self, address: str | None, *, processors: int = 1, accelerators: int = 0, data: int = 0) -> None:
        require_ray()
        self.own = address in (None, "local")
        if address is not None and address not in ("local", "auto"):
            _require_answer(address)
        self.base = ""
        self._used = False
        self._loud: Any = None
        self._scratch: Scratch | None = None
        with _environment({**_ALWAYS, **(_guarded() if self.own else {})}), _terminations_kept():
            import ray

            if ray.is_initialized() and address != "auto":
                raise EnvironmentProblem(
                    "this process uses Ray already; call ray.shutdown() before, or use its cluster: ray:auto"
                )
            if self.own:
                self._start(processors, accelerators, data)
            elif not ray.is_initialized():
                assert address is not None
                self._used = True
                self._hush()
                self._connect(address)

    def _start(self, processors: int, accelerators: int, data: int) -> None:
        import ray

        try:
            self._scratch = Scratch(short_base(), PREFIX)
        except OSError as error:
            raise EnvironmentProblem(f"ray: {error}; make room for temporary files (TMPDIR)") from None
        # Ray opens its folder to everybody, so it lies in one that only its owner can enter.
        self.base = str(self._scratch.path / "r")
        self._used = True
        self._hush()
        try:
            with _interrupts_held(), _loopback():
                ray.init(
                    address="local",
                    num_cpus=processors,
                    num_gpus=accelerators,
                    object_store_memory=max(_SMALLEST_STORE, 3 * data),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    _node_ip_address=LOOPBACK,
                    _temp_dir=self.base,
                )
                found = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        except (OSError, RuntimeError, ValueError, TimeoutError, SystemError) as error:
            self.close()
            raise EnvironmentProblem(
                f"ray: no cluster can be started here ({_first_line(error)}); use --executor local, or the address of "
                "a cluster: --executor ray:HOST:PORT"
            ) from None
        except BaseException:
            self.close()
            raise
        if found != LOOPBACK:
            self.close()
            raise EnvironmentProblem(
                f"ray: a cluster started here would listen on {found}; expected {LOOPBACK} alone, so it was stopped. "
                "Set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before Python starts, or use --executor local"
            )

    def _connect(self, address: str) -> None:
        import ray

        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            said = _first_line(error)
            if "requires pip package" in said:
                advice = "install what Ray's client needs: pip install 'ray[client]'"
            elif address == "auto":
                advice = "start one with `ray start --head`, name one as ray:HOST:PORT, or let one be started: ray"
            else:
                advice = (
                    "HOST:PORT is for a machine of the cluster, of the same versions of Ray and Python; from "
                    "elsewhere use ray://HOST:10001"
                )
            raise EnvironmentProblem(f"ray: cannot join the cluster at {address} ({said}); {advice}") from None
        except BaseException:
            self.close()
            raise

    def _hush(self) -> None:
        """Keep Ray from printing what happens to its processes, which it does to the standard output of ours."""
        from ray._private import worker

        self._loud = getattr(worker, "print_to_stdstream", None)
        if self._loud is not None:
            worker.print_to_stdstream = lambda *_, **__: None

    def close(self) -> None:
        """Stop a cluster that was started here; leave any other as it is."""
        if self._used:
            import ray

            self._used = False
            with suppress(Exception), _terminations_kept():
                ray.shutdown()
            if self._loud is not None:
                from ray._private import worker

                worker.print_to_stdstream = self._loud
        if self._scratch is not None:
            self._scratch.remove()
            shutil.rmtree(self._scratch.path, ignore_errors=True)  # Ray's processes write until they end
            self._scratch = None


@contextmanager
def _loopback() -> Iterator[None]:
    """Have Ray use the loopback interface even when it was imported before its environment variable was set."""
    from ray._private import ray_constants

    before = getattr(ray_constants, "ENABLE_RAY_CLUSTER", None)
    if before is not None:
        ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        if before is not None:
            ray_constants.ENABLE_RAY_CLUSTER = before


def _require_answer(address: str) -> None:
    """Make sure that a cluster may be at an address: Ray itself would try for minutes, and talk about it.

    Raises:
        EnvironmentProblem: Nobody answers, or what answers is no Ray.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise EnvironmentProblem(
            f"ray: {address!r} is no address; expected auto, HOST:PORT (often 6379) or ray://HOST:PORT (often 10001)"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE) as stream:
            # Ray speaks gRPC, whose server begins with a frame of settings; not so under TLS, where Ray must judge.
            if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
                stream.sendall(_HTTP2)
                head = b""
                while len(head) < 9 and (more := stream.recv(9 - len(head))):
                    head += more
                if len(head) < 9 or head[3] != _SETTINGS:
                    raise ConnectionError("what answers there is no Ray")
    except OSError as error:
        said = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise EnvironmentProblem(
            f"ray: no cluster at {address} ({said}); start one with `ray start --head`, or name another address"
        ) from None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
