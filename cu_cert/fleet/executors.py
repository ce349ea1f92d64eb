"""Which executor makes a fleet: chosen for a run, never in the project file, so that it changes no plan."""

import os
from collections.abc import Mapping
from typing import Final

from cu_cert.errors import ConfigError
from cu_cert.fleet.executor import Executor
from cu_cert.fleet.worker import Workshop

VARIABLE: Final = "CU_CERT_EXECUTOR"


def executor_spec(given: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return what ``--executor`` or the environment says, ``local`` where neither says anything.

    Args:
        given: The value of ``--executor``, ``None`` when it was left out.
        environ: The environment.

    Raises:
        ConfigError: It names no executor.
    """
    spec = given if given is not None else environ.get(VARIABLE) or "local"
    kind, colon, address = spec.partition(":")
    if kind not in ("local", "ray") or (colon and (kind == "local" or not address)):
        where = "--executor" if given is not None else VARIABLE
        raise ConfigError(f"{where} {spec!r}: expected local, ray (a cluster for this run alone) or ray:ADDRESS")
    return spec


def make_executor(spec: str | None, workshop: Workshop, workers: int = 0) -> Executor:
    """Return an executor, to be used within ``with``.

    Args:
        spec: ``local``, ``ray`` or ``ray:ADDRESS``; ``None`` for what ``CU_CERT_EXECUTOR`` says, else ``local``.
        workshop: What members are made with.
        workers: Tasks at a time; 0 for as many as there are processors.

    Raises:
        ConfigError: There is no such executor.
        EnvironmentProblem: It needs a part that is not installed.
    """
    kind, _, address = executor_spec(spec).partition(":")
    if kind == "local":
        from cu_cert.fleet.local import LocalExecutor

        return LocalExecutor(workshop, workers)
    from cu_cert.fleet.ray_executor import RayExecutor

    return RayExecutor(workshop, address, workers)
