"""Small data, and cohorts beside the same models trained one by one."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from cu_cert.recipes import CohortRecipe, make_recipe
from cu_cert.records import IntArray, Records, make_records
from cu_cert.rng import Stream

torch.set_num_threads(1)  # products this small wait for a second thread longer than they take

OPTIONS: dict[str, Mapping[str, object]] = {
    "logistic": {},
    "mlp": {"hidden": [9]},
    "cnn": {"filters": [3, 4], "hidden": [5]},
    "adapter": {"widths": [10, 7], "rank": 2, "scale": 0.7},
}
"""Small forms of all recipes that train cohorts."""


def some_records(n: int, shape: Sequence[int] = (6,), classes: int = 3, seed: int = 0) -> Records:
    """Noisy records, one feature constant, one far from 0, one that varies in a single record only."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, int(np.prod(shape))))
    y = rng.integers(classes, size=n)
    x[np.arange(n), y % x.shape[1]] += 1
    x[:, 0], x[:, -1] = 3.3, 1000 + x[:, -1]
    x[:, 1] = np.arange(n) == n // 2
    return make_records([f"r{row:03d}" for row in range(n)], x.reshape(n, *shape), y, [f"c{k}" for k in range(classes)])


def recipe_of(name: str, **options: object) -> CohortRecipe:
    """Make a recipe that trains cohorts."""
    found = make_recipe(name, {**OPTIONS[name], **options})
    assert isinstance(found, CohortRecipe)
    return found


def subsets(n: int, sizes: Sequence[int], seed: int = 1) -> list[IntArray]:
    """Draw ascending positions."""
    rng = np.random.default_rng(seed)
    return [np.sort(rng.permutation(n)[:size]) for size in sizes]


def streams(number: int, name: str = "cohort") -> list[Stream]:
    """Return streams that share nothing."""
    return [Stream.from_seed(f"{name} {k}") for k in range(number)]


def alone(
    recipe: CohortRecipe, records: Records, rows: Sequence[IntArray], rngs: Sequence[Stream]
) -> list[torch.nn.Module]:
    """Train one by one."""
    return [
        recipe.train(records.select([records.ids[row] for row in own]), rng=rng)
        for own, rng in zip(rows, rngs, strict=True)
    ]


def distance(first: torch.nn.Module, second: torch.nn.Module) -> float:
    """Return the largest difference between tensors of two models, against the largest entry of each."""
    one, two = first.state_dict(), second.state_dict()
    assert list(one) == list(two)
    return max(
        float((one[name] - two[name]).abs().max() / (1 + two[name].abs().max())) for name in one if two[name].numel()
    )
