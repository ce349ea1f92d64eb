"""``unlearn``: run a method on a model and write the result with its sidecar."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cu_cert.data import load_records
from cu_cert.errors import ConfigError, MethodError
from cu_cert.fleet.environment import single_threaded
from cu_cert.forget import read_ids, resolve_request
from cu_cert.methods import get
from cu_cert.model_file import (
    Sidecar,
    file_digest,
    load_into,
    load_state,
    require_format,
    save_model,
    write_sidecar,
)
from cu_cert.project import Project
from cu_cert.rng import Stream
from cu_cert.signals import measure


@dataclass(frozen=True, kw_only=True)
class UnlearnedFile:
    """An unlearned model on disk.

    Args:
        model: The file.
        digest: SHA-256 (hex) of the file.
        method: The method that made it.
        parameters: Its effective parameters.
        request: Number of records in the request.
        request_accuracy: Share of right answers on the request, before and after.
        held_out_accuracy: Share of right answers on held-out records, before and after.
        seconds: What the method took.
    """

    model: Path
    digest: str
    method: str
    parameters: Mapping[str, object]
    request: int
    request_accuracy: tuple[float, float]
    held_out_accuracy: tuple[float, float]
    seconds: float


def unlearn_model(
    project: Project,
    model: Path,
    forget: Path,
    out: Path,
    *,
    method: str | None = None,
    options: Mapping[str, object] | None = None,
    allow_missing: bool = False,
) -> UnlearnedFile:
    """Run an unlearning method; nothing is written unless it succeeds.

    Args:
        project: Data, recipe and seed.
        model: The model before.
        forget: The list of ids.
        out: The model after.
        method: Name of the method; default the project's.
        options: Its options; default the project's, when the method is the project's.
        allow_missing: Count ids that are not in the data instead of refusing them.

    Raises:
        CuCertError: An input is wrong, or the method failed.
    """
    require_format(out)
    single_threaded()
    if model.exists() and out.exists() and out.samefile(model):
        raise ConfigError(f"--out {out}: is the model before, which the audit needs; expected another file")
    configured = project.unlearning
    name = method or configured.method
    if name is None:
        raise MethodError(
            f"no method: name one with --method, or set method in [unlearning] of {project.path}; "
            "`cu-cert methods` lists them"
        )
    found = get(name, root=str(project.root))
    if options is None:
        options = configured.parameters if name == configured.method else {}
    dataset, recipe = load_records(project.data, project.root), project.make_recipe()
    request = resolve_request(read_ids(forget), dataset, allow_missing=allow_missing)
    before = recipe.build(dataset.train, rng=Stream.from_seed("load"))
    load_into(before, load_state(model), model)
    before.eval()
    done = found.unlearn(
        before,
        request.ids,
        dataset.train,
        recipe=recipe,
        params=found.params(options),
        rng=Stream.from_seed(project.training.seed).child("unlearn", name),
    )
    save_model(out, done.model)
    write_sidecar(
        out,
        Sidecar(
            recipe_digest=recipe.digest,
            method=name,
            parameters=done.parameters,
            parent_digest=file_digest(model),
            seed=project.training.seed,
        ),
    )
    wanted = dataset.train.select(request.ids)
    rates = [
        tuple(float(measure(recipe, one, records).correct.mean()) for one in (before, done.model))
        for records in (wanted, dataset.held_out)
    ]
    return UnlearnedFile(
        model=out,
        digest=file_digest(out),
        method=name,
        parameters=done.parameters,
        request=len(request.ids),
        request_accuracy=(rates[0][0], rates[0][1]),
        held_out_accuracy=(rates[1][0], rates[1][1]),
        seconds=done.cost,
    )
