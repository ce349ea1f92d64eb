"""Cohorts and one-by-one training give the same law of models, by a test that notices planted faults.

Models of one program with seeds of their own are compared with as many models trained one by one with other seeds: the
energy distance (Szekely and Rizzo 2013) of their margins on all records, and its permutation p-value, which is exact at
every level whatever the law.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
import torch
from small_cohort import OPTIONS, alone, recipe_of, some_records, streams

from cu_cert.recipes import CohortRecipe
from cu_cert.records import Records
from cu_cert.rng import Stream
from cu_cert.signals import measure

MODELS = 40
SHUFFLES = 999
SHAPES = {"cnn": (1, 4, 4)}
TRAINING = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05}


def margins(recipe: CohortRecipe, models: Sequence[torch.nn.Module], records: Records) -> npt.NDArray[np.float64]:
    return np.stack([measure(recipe, model, records).margin for model in models])


def p_value(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], seed: int = 0) -> float:
    """Permutation p-value of the energy distance between two samples of vectors of equal number."""
    values = np.concatenate([first, second])
    gap = np.sqrt(((values[:, None] - values) ** 2).sum(axis=2))
    signs = np.repeat([1.0, -1.0], len(first))
    rng = np.random.default_rng(seed)
    shuffled = np.stack([signs, *(rng.permutation(signs) for _ in range(SHUFFLES))])
    energy = -np.einsum("si,ij,sj->s", shuffled, gap, shuffled, optimize=True)
    return float((energy >= energy[0] - 1e-9 * abs(energy[0])).mean())


def data(name: str) -> Records:
    return some_records(60, SHAPES.get(name, (6,)), seed=3)


@cache
def one_by_one(name: str) -> npt.NDArray[np.float64]:
    recipe, records = recipe_of(name, **TRAINING), data(name)
    found = alone(recipe, records, [np.arange(60)] * MODELS, streams(MODELS, "alone"))
    return margins(recipe, found, records)


def together(name: str, rngs: Sequence[Stream], **changes: object) -> npt.NDArray[np.float64]:
    recipe, records = recipe_of(name, **{**TRAINING, **changes}), data(name)
    found = [
        model
        for start in range(0, MODELS, 8)
        for model in recipe.train_cohort(records, [np.arange(60)] * 8, rngs=rngs[start : start + 8])
    ]
    return margins(recipe, found, records)


@dataclass(frozen=True)
class SharedOrder(Stream):
    """The planted fault: every model reads the records in the same order."""

    def child(self, *names: str | int) -> Stream:
        return Stream.from_seed("shared").child(*names) if names[0] == "order" else super().child(*names)


@dataclass(frozen=True)
class SharedStart(Stream):
    """The planted fault: every model starts from the same weights."""

    def child(self, *names: str | int) -> Stream:
        return Stream.from_seed("shared").child(*names) if names[0] == "init" else super().child(*names)


@pytest.mark.parametrize("name", OPTIONS)
def test_cohorts_and_one_by_one_training_give_the_same_law(name: str) -> None:
    assert p_value(together(name, streams(MODELS, "together")), one_by_one(name)) > 0.01


@pytest.mark.parametrize("name", OPTIONS)
def test_the_test_would_notice_another_momentum(name: str) -> None:
    assert p_value(together(name, streams(MODELS, "together"), momentum=0.8), one_by_one(name)) < 0.01


@pytest.mark.parametrize("name", OPTIONS)
def test_the_test_would_notice_a_shared_start(name: str) -> None:
    rngs = [SharedStart(stream.key) for stream in streams(MODELS, "together")]
    assert p_value(together(name, rngs), one_by_one(name)) < 0.01


def test_the_test_would_notice_a_shared_order() -> None:
    # What order does shows most where the start does least: in a linear model.
    rngs = [SharedOrder(stream.key) for stream in streams(MODELS, "together")]
    assert p_value(together("logistic", rngs), one_by_one("logistic")) < 0.01


def test_the_test_keeps_its_level() -> None:
    # Splits of models of one law at random: p-values are uniform.
    values, rng = np.concatenate([one_by_one("logistic"), one_by_one("logistic")[:0]]), np.random.default_rng(1)
    found = []
    for seed in range(200):
        order = rng.permutation(len(values))
        found.append(p_value(values[order[:20]], values[order[20:]], seed))
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.065)  # three deviations
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.11)
