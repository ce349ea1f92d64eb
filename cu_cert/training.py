"""``train``: a model of the project's recipe on the project's training records."""

import os
from dataclasses import dataclass
from pathlib import Path
from time import process_time

from cu_cert.data import load_records
from cu_cert.fleet.environment import single_threaded
from cu_cert.fleet.store import Store
from cu_cert.model_file import Sidecar, file_digest, require_format, save_model, write_sidecar
from cu_cert.project import Project
from cu_cert.rng import Stream
from cu_cert.signals import measure


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model on disk.

    Args:
        model: The file.
        digest: SHA-256 (hex) of the file.
        held_out_accuracy: Share of right answers on the held-out records.
        train_ids: Ids of the records that it was trained on.
    """

    model: Path
    digest: str
    held_out_accuracy: float
    train_ids: tuple[str, ...]


def train_model(project: Project, out: Path) -> Trained:
    """Train the project's recipe and write ``out`` and its sidecar; the same project gives the same bytes.

    Args:
        project: Data, recipe and seed.
        out: The model file; its folder must exist.

    Raises:
        CuCertError: Data, recipe or output is wrong.
    """
    require_format(out)
    single_threaded()
    dataset, recipe = load_records(project.data, project.root), project.make_recipe()
    started = process_time()
    model = recipe.train(dataset.train, rng=Stream.from_seed(project.training.seed).child("train"))
    seconds = process_time() - started
    save_model(out, model)
    Store(project.store_path(os.environ)).note_seconds(recipe.digest, seconds)
    write_sidecar(out, Sidecar(recipe_digest=recipe.digest, seed=project.training.seed))
    accuracy = float(measure(recipe, model, dataset.held_out).correct.mean())
    return Trained(model=out, digest=file_digest(out), held_out_accuracy=accuracy, train_ids=dataset.train.ids)
