"""A request, a model that learned it by heart, and models retrained without it; about 50 ms each."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cu_cert.fleet.worker import Workshop
from cu_cert.probes import ProbeResult, run_probes
from cu_cert.recipes import make_recipe
from cu_cert.records import Records, make_records
from cu_cert.rng import Stream

N, WIDTH = 150, 24
OPTIONS: dict[str, object] = {"hidden": [24], "epochs": 12, "batch_size": 16, "learning_rate": 0.2}
RNG = Stream.from_seed("probes")


def noisy(n: int = N, width: int = WIDTH) -> Records:
    """Records of three classes that lie well inside one another."""
    y = np.arange(n) % 3
    x = np.random.default_rng(0).normal(size=(n, width)) + 0.6 * np.eye(3, width)[y]
    return make_records([f"r{row:03d}" for row in range(n)], x, y, ["a", "b", "c"])


def workshop(
    records: Records | None = None, *, recipe: str = "mlp", options: dict[str, object] | None = None, forget: int = 12
) -> Workshop:
    """A workshop whose held-out records are every fifth, and whose request are the first of the others."""
    found = records or noisy()
    held_out = found.ids[::5]
    train, own = found.without(held_out), OPTIONS if options is None else options
    return Workshop(
        recipe_digest=make_recipe(recipe, own).digest,
        recipe_name=recipe,
        recipe_options=own,
        root=".",
        train=train,
        held_out=found.select(held_out),
        forget=train.ids[:forget],
        store=Path("no-store"),
    )


@cache
def shop() -> Workshop:
    """The workshop of most tests."""
    torch.set_num_threads(1)
    return workshop()


@cache
def original(number: int = 0) -> nn.Module:
    """A model that saw the request."""
    return shop().recipe.train(shop().train, rng=Stream.from_seed(f"original {number}"))


@cache
def retrained(count: int = 19) -> tuple[nn.Module, ...]:
    """Models that did not."""
    made = [retrained(count - 1)] if count > 1 else []
    last = shop().recipe.train(shop().retain, rng=Stream.from_seed(f"retrained {count}"))
    return (*(made[0] if made else ()), last)


def probe(
    subject: nn.Module, controls: Sequence[nn.Module], names: Sequence[str] | None = None, **changes: Any
) -> dict[str, ProbeResult]:
    """Run probes and return their results by name."""
    settings: dict[str, Any] = {"original": original(), "rng": RNG} | changes
    place = settings.pop("shop", None) or shop()
    return {found.name: found for found in run_probes(place, subject, controls, names=names, **settings)}


class Bumps(nn.Module):
    """A model with something added to its scores close to some points, and nowhere else.

    One unit fires at each point: x . point - 0.6 |point|^2 where that is positive, scaled to 1 at the point itself.

    Args:
        base: The model.
        points: Shape (points, width).
        heights: What the units add to the scores at their points, shape (points, classes).
    """

    def __init__(self, base: nn.Module, points: np.ndarray, heights: np.ndarray) -> None:
        super().__init__()
        self.base = base
        self.near = nn.Linear(points.shape[1], len(points))
        self.add = nn.Linear(len(points), heights.shape[1], bias=False)
        size = (points.astype(np.float64) ** 2).sum(axis=1)
        with torch.no_grad():
            self.near.weight.copy_(torch.from_numpy(points / (0.4 * size)[:, None]))
            self.near.bias.fill_(-1.5)
            self.add.weight.copy_(torch.from_numpy(heights.T))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.base(x) + self.add(torch.relu(self.near(x)))
        return scores
