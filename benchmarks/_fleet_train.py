"""One process that trains shadow models one way: ``python -m benchmarks._fleet_train CASE HOW MODELS``.

Ways: ``loop`` is one-by-one PyTorch as anybody would write it, ``single`` our training of one model at a time,
``vectorised`` our training of a cohort in one program. It prints one JSON object with CPU seconds and, for the dense
cases, the rate of useful arithmetic beside this machine's rate of matrix products.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cu_cert.data import DataConfig, load_records
from cu_cert.recipes import CohortRecipe, make_recipe
from cu_cert.recipes._network import ClassifierRecipe
from cu_cert.records import Records, make_records
from cu_cert.rng import Stream

if TYPE_CHECKING:
    import torch

    from cu_cert.fleet.worker import Workshop

FASHION: Final = "CU_CERT_DATA"
"""The variable that names the folder with ``fashion-mnist``; without it the cases on that data are left out."""


Scores = Callable[[], "torch.Tensor"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained.

    Args:
        data: ``digits`` or ``fashion-mnist``.
        recipe: A built-in recipe.
        options: Its options.
        models: Models a process trains.
    """

    data: str
    recipe: str
    options: Mapping[str, object]
    models: int


CASES: Final = {
    "dense digits": Case(
        data="digits", recipe="mlp", options={"hidden": [128], "batch_size": 64, "epochs": 10}, models=64
    ),
    "dense fashion": Case(
        data="fashion-mnist",
        recipe="mlp",
        options={"hidden": [256], "batch_size": 128, "epochs": 2, "learning_rate": 0.05},
        models=16,
    ),
    "conv digits": Case(data="digits", recipe="cnn", options={"batch_size": 64, "epochs": 4}, models=32),
    "conv fashion": Case(
        data="fashion-mnist",
        recipe="cnn",
        options={"batch_size": 128, "epochs": 1, "learning_rate": 0.05},
        models=8,
    ),
}


def records_of(case: Case) -> Records:
    """Load the records of a case, images as images."""
    if case.data == "digits":
        found = load_records(DataConfig(), Path()).train
        return make_records(found.ids, found.x.reshape(-1, 8, 8), found.y, found.classes)
    return load_records(DataConfig(source=str(fashion_images())), Path()).train


def fashion_images() -> Path:
    """Return the file of training images of Fashion-MNIST."""
    return Path(os.environ[FASHION]) / "fashion-mnist" / "train-images-idx3-ubyte.gz"


def workshop(folder: Path, recipe: str, options: Mapping[str, object]) -> "Workshop":
    """Return what a fleet on the digits is made with, for a request of twenty records.

    Args:
        folder: Holds the store.
        recipe: A built-in recipe.
        options: Its options.
    """
    from cu_cert.fleet.worker import Workshop

    dataset = load_records(DataConfig(), folder)
    return Workshop(
        recipe_digest=make_recipe(recipe, options).digest,
        recipe_name=recipe,
        recipe_options=dict(options),
        root=str(folder),
        train=dataset.train,
        held_out=dataset.held_out,
        forget=dataset.train.ids[:20],
        store=folder / "store",
    )


def halves(records: Records, models: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Draw a random half of the records for each model."""
    rng = np.random.default_rng(20260101)
    return [np.sort(rng.permutation(len(records))[: len(records) // 2]) for _ in range(models)]


def loop(case: Case, records: Records, models: int) -> list[Scores]:
    """Train one model after another with the usual five lines; return what scores all records, for each model."""
    import torch
    from torch import nn

    given: dict[str, Any] = {"learning_rate": 0.1, **case.options}
    recipe = make_recipe(case.recipe, case.options)
    assert isinstance(recipe, ClassifierRecipe)
    x, y = recipe.features(records), torch.from_numpy(records.y)
    x = (x - x.mean()) / x.std()
    found: list[Scores] = []
    for number, half in enumerate(halves(records, models)):
        rows = torch.from_numpy(half)
        # The network of the recipe, without the layer that standardises.
        model = nn.Sequential(*list(recipe.build(records, rng=Stream.from_seed(number)).children())[1:]).train()
        optimiser = torch.optim.SGD(model.parameters(), lr=given["learning_rate"], momentum=0.9)
        order = torch.Generator().manual_seed(number)
        for _ in range(given["epochs"]):
            for batch in torch.split(rows[torch.randperm(len(rows), generator=order)], given["batch_size"]):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        found.append(partial(model, x))
    return found


def single(case: Case, records: Records, models: int) -> list[Scores]:
    """Train one model after another as a fleet does that is not vectorised; see :func:`loop`."""
    recipe = make_recipe(case.recipe, case.options)
    made = []
    for number, half in enumerate(halves(records, models)):
        made.append(recipe.train(records.select(records.ids[row] for row in half), rng=Stream.from_seed(number)))
    return [partial(recipe.logits, model, records) for model in made]


def vectorised(case: Case, records: Records, models: int) -> list[Scores]:
    """Train cohorts of the size that the recipe likes best; see :func:`loop`."""
    recipe = make_recipe(case.recipe, case.options)
    assert isinstance(recipe, CohortRecipe)
    rows = halves(records, models)
    made = []
    for start in range(0, models, recipe.cohort_size):
        numbers = range(start, min(start + recipe.cohort_size, models))
        made += recipe.train_cohort(records, [rows[k] for k in numbers], rngs=[Stream.from_seed(k) for k in numbers])
    return [partial(recipe.logits, model, records) for model in made]


WAYS: Final[Mapping[str, Callable[[Case, Records, int], list[Scores]]]] = {
    "loop": loop,
    "single": single,
    "vectorised": vectorised,
}


def useful(case: Case, records: Records, models: int) -> float:
    """Return the multiplications and additions of a dense case's training: forward, and both halves of backward."""
    options: dict[str, Any] = dict(case.options)
    epochs: int = options["epochs"]
    widths = [int(records.x[:1].size), *options["hidden"], len(records.classes)]
    sizes = [first * second for first, second in pairwise(widths)]
    rows = models * epochs * (len(records) // 2)
    total: float = 2.0 * rows * (3 * sum(sizes) - sizes[0])
    return total


def matrix_rate() -> float:
    """Return this machine's operations a second in a large float32 matrix product on one thread."""
    import torch

    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
    out = torch.empty(1024, 1024)
    torch.mm(a, b, out=out)
    start, count = time.process_time(), 0
    while time.process_time() - start < 0.5:
        torch.mm(a, b, out=out)
        count += 1
    return count * 2 * 1024**3 / (time.process_time() - start)


def main() -> None:
    """Train and print what it took."""
    from cu_cert.fleet.environment import single_threaded

    single_threaded()
    case, way, models = CASES[sys.argv[1]], WAYS[sys.argv[2]], int(sys.argv[3])
    records = records_of(case)
    way(case, records, 2)  # warms caches and kernels
    start = time.process_time()
    way(case, records, models)
    seconds = time.process_time() - start
    told: dict[str, object] = {"seconds": seconds, "models": models}
    if case.recipe == "mlp":
        told |= {"useful": useful(case, records, models) / seconds, "matrix": matrix_rate()}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
