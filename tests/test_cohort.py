"""Cohorts: many models in one program are the models of one-by-one training but for the last bits."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cohort import OPTIONS, alone, distance, recipe_of, some_records, streams, subsets
from small_fleet import FORGET, TRAIN, trained, workshop
from small_project import environment

from cu_cert.errors import ConfigError
from cu_cert.fleet.plan import in_cohorts
from cu_cert.fleet.store import Store
from cu_cert.model_file import state_digest
from cu_cert.recipes import CohortRecipe
from cu_cert.recipes._classifier import Standardize
from cu_cert.recipes._cohort import constants
from cu_cert.records import make_records
from cu_cert.rng import Stream

CLOSE = 2e-5
"""Relative to the largest weight, after a few steps; a wrong order or momentum is 1000 times that."""

SHAPES = {"logistic": (6,), "mlp": (6,), "cnn": (2, 5, 4), "adapter": (6,)}

# The same models


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=12)
@given(
    sizes=st.lists(st.integers(1, 13), min_size=1, max_size=5),
    batch=st.integers(1, 14),
    epochs=st.integers(1, 3),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    decay=st.sampled_from([0.0, 0.1]),
    standardize=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_cohort_holds_the_models_of_one_by_one_training(
    name: str, sizes: list[int], batch: int, epochs: int, seed: int, **options: Any
) -> None:
    more = {"momentum": options["momentum"], "weight_decay": options["decay"], "standardize": options["standardize"]}
    recipe = recipe_of(name, batch_size=batch, epochs=epochs, learning_rate=0.05, **more)
    records = some_records(13, SHAPES[name], seed=seed)
    if not options["standardize"]:
        records.x.reshape(13, -1)[:, -1] -= 1000  # else every step is a jump
    rows, rngs = subsets(13, sizes, seed), streams(len(sizes))
    for one, two in zip(recipe.train_cohort(records, rows, rngs=rngs), alone(recipe, records, rows, rngs), strict=True):
        assert distance(one, two) < CLOSE
        assert not one.training


@pytest.mark.parametrize("name", OPTIONS)
def test_one_step_is_the_step_that_torch_takes(name: str) -> None:
    records = some_records(20, SHAPES[name])
    rows, rngs = subsets(20, [20, 20, 7]), streams(3)
    recipe = recipe_of(name, batch_size=20, epochs=1, weight_decay=0.01)
    for one, two in zip(recipe.train_cohort(records, rows, rngs=rngs), alone(recipe, records, rows, rngs), strict=True):
        assert distance(one, two) < 3e-6


@pytest.mark.parametrize("name", OPTIONS)
def test_a_model_that_takes_no_step_is_not_moved_by_momentum_or_decay(name: str) -> None:
    # Model 1 takes one step an epoch where model 0 takes five, the last of a single record.
    records, rngs = some_records(33, SHAPES[name]), streams(2)
    rows = [np.arange(33), np.array([4, 9, 30])]
    recipe = recipe_of(name, batch_size=8, epochs=4, weight_decay=0.1, momentum=0.9, learning_rate=0.02)
    for one, two in zip(recipe.train_cohort(records, rows, rngs=rngs), alone(recipe, records, rows, rngs), strict=True):
        assert distance(one, two) < CLOSE


@pytest.mark.parametrize("name", OPTIONS)
def test_a_class_that_a_subset_lacks_is_learned_away_as_alone(name: str) -> None:
    records, rngs = some_records(40, SHAPES[name]), streams(2)
    rows = [np.flatnonzero(records.y != 2), np.arange(40)]
    recipe = recipe_of(name, batch_size=16, epochs=3, learning_rate=0.05)
    found = recipe.train_cohort(records, rows, rngs=rngs)
    for one, two in zip(found, alone(recipe, records, rows, rngs), strict=True):
        assert distance(one, two) < CLOSE
    assert recipe.logits(found[0], records).shape == (40, 3)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(
    "fault", [{"momentum": 0.8}, {"weight_decay": 0.02}, {"learning_rate": 0.049}, {"batch_size": 7}]
)
def test_the_tolerance_would_notice_another_algorithm(name: str, fault: Mapping[str, object]) -> None:
    options = {"batch_size": 8, "epochs": 2, "learning_rate": 0.05}
    records, rows, rngs = some_records(33, SHAPES[name]), subsets(33, [33, 20]), streams(2)
    found = recipe_of(name, **options).train_cohort(records, rows, rngs=rngs)
    wrong = alone(recipe_of(name, **{**options, **fault}), records, rows, rngs)
    for one, two in zip(found, wrong, strict=True):
        assert distance(one, two) > 10 * CLOSE


# Standardisation


@settings(max_examples=40)
@given(n=st.integers(1, 12), shared=st.integers(1, 3), shift=st.sampled_from([0.0, 1.0, 1e4]), seed=st.integers(0, 99))
def test_constants_are_those_of_one_by_one_training(n: int, shared: int, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy((rng.normal(size=(12, 4, shared)) + shift).astype(np.float32))
    x[:, 0] = 0.1
    x[5, 1], x[:, 2] = 1e4, x[:, 2] * 1e-4
    rows = [np.sort(rng.permutation(12)[:n]), np.arange(12)]
    mean, scale = constants(x, rows, shared)
    for own, one_mean, one_scale in zip(rows, mean, scale, strict=True):
        values = x[own].double().numpy()
        spread = values.std(axis=(0, 2))
        exact = np.where(spread > Standardize.SMALLEST, spread, 1)
        np.testing.assert_allclose(one_mean.numpy(), values.mean(axis=(0, 2)), rtol=1e-6, atol=1e-6)
        clear = (spread > 1e-5) | (spread < 1e-7)  # near the border either answer will do
        np.testing.assert_allclose(one_scale.numpy()[clear], exact[clear], rtol=1e-4)


def test_what_is_constant_in_a_subset_alone_keeps_scale_1() -> None:
    x = torch.zeros(50, 2, 1)
    x[:25, 0], x[25:, 0] = 1e5, 7.0  # constant in either half, though far from the common mean
    x[:, 1, 0] = torch.arange(50)
    _, scale = constants(x, [np.arange(25), np.arange(25, 50), np.arange(50)], 1)
    assert scale[:2, 0].tolist() == [1, 1]
    assert scale[2, 0] == pytest.approx((1e5 - 7) / 2)


# Bits


def digests(recipe: CohortRecipe, name: str, members: int = 4) -> list[str]:
    records, rows = some_records(40, SHAPES[name]), subsets(40, [25, 20, 31, 20][:members])
    return [state_digest(model.state_dict()) for model in recipe.train_cohort(records, rows, rngs=streams(members))]


@pytest.mark.parametrize("name", OPTIONS)
def test_bits_depend_on_the_cohort_alone(name: str) -> None:
    recipe = recipe_of(name, epochs=2, batch_size=8)
    torch.manual_seed(1)
    first = digests(recipe, name)
    torch.manual_seed(2)
    assert digests(recipe, name) == first
    assert len(set(first)) == len(first)


@pytest.mark.slow
def test_another_process_gives_the_same_bits(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_cohort as t; from small_cohort import recipe_of\n"
        "from cu_cert.fleet.environment import single_threaded; single_threaded()\n"
        "for name in t.OPTIONS: print(*t.digests(recipe_of(name, epochs=2, batch_size=8), name))"
    )
    folder = str(Path(__file__).parent)
    there = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True, env=environment(tmp_path)
    )
    here = [digests(recipe_of(name, epochs=2, batch_size=8), name) for name in OPTIONS]
    assert [line.split() for line in there.stdout.splitlines()] == here


@pytest.mark.parametrize("name", OPTIONS)
def test_other_members_do_not_matter_but_for_the_last_bits(name: str) -> None:
    records, recipe = some_records(60, SHAPES[name]), recipe_of(name, epochs=3, batch_size=8, learning_rate=0.05)
    own, rng = np.arange(0, 60, 2), Stream.from_seed("own")
    cohorts = []
    for other in range(3):
        rows, rngs = subsets(60, [10, 55, 31, 30], other), streams(4, f"others {other}")
        rows.insert(other, own)
        rngs.insert(other, rng)
        cohorts.append(recipe.train_cohort(records, rows, rngs=rngs)[other])
    assert distance(cohorts[0], cohorts[1]) < CLOSE
    assert distance(cohorts[0], cohorts[2]) < CLOSE


# What goes wrong


@pytest.mark.parametrize("name", OPTIONS)
def test_a_model_that_diverges_does_so_alone(name: str) -> None:
    records = some_records(40, SHAPES[name])
    records.x.reshape(40, -1)[7] = 3e38  # one record whose scores overflow
    rows, rngs = [np.arange(0, 40), np.setdiff1d(np.arange(40), [7]), np.arange(0, 7)], streams(3)
    recipe = recipe_of(name, epochs=2, batch_size=8, standardize=False, learning_rate=1e-4)
    found = recipe.train_cohort(records, rows, rngs=rngs)
    finite = [all(bool(torch.isfinite(part).all()) for part in model.state_dict().values()) for model in found]
    assert finite == [False, True, True]
    for one, two in zip(found[1:], alone(recipe, records, rows[1:], rngs[1:]), strict=True):
        assert distance(one, two) < CLOSE


@pytest.mark.parametrize("name", OPTIONS)
def test_bad_rows_are_refused(name: str) -> None:
    records, recipe = some_records(10, SHAPES[name]), recipe_of(name, epochs=1)
    with pytest.raises(ConfigError, match=r"training on 0 records \(model 1 of its cohort\); expected at least 1"):
        recipe.train_cohort(records, [np.arange(3), np.arange(0)], rngs=streams(2))
    for bad in ([3, 2], [1, 1], [-1, 2], [9, 10]):
        with pytest.raises(ConfigError, match="model 0 of a cohort: expected ascending positions of the 10 records"):
            recipe.train_cohort(records, [np.array(bad)], rngs=streams(1))


def test_the_size_of_a_cohort_is_fixed_by_the_recipe() -> None:
    assert recipe_of("logistic").cohort_size == 32
    assert [recipe_of("mlp", hidden=hidden).cohort_size for hidden in ([24], [256], [512, 512], [4096])] == [
        16, 16, 4, 4,
    ]  # fmt: skip


# Accelerators


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no accelerator here")
@pytest.mark.parametrize("name", OPTIONS)
def test_an_accelerator_runs_the_same_program(name: str) -> None:
    records, rows, rngs = some_records(40, SHAPES[name]), subsets(40, [25, 20, 31]), streams(3)
    recipe = recipe_of(name, epochs=2, batch_size=8, learning_rate=0.05)
    found = recipe.train_cohort(records, rows, rngs=rngs, device="cuda")
    for one, two in zip(found, alone(recipe, records, rows, rngs), strict=True):
        assert {part.device.type for part in one.state_dict().values()} == {"cpu"}
        assert distance(one, two) < 10 * CLOSE


# In a fleet


def test_in_a_fleet_a_model_that_diverges_is_kept_as_failed_and_the_others_live(tmp_path: Path) -> None:
    x = TRAIN.x.copy()
    x[TRAIN.positions(FORGET)] = 3e38  # equal records of several labels, of which no model can get all right
    options = {"epochs": 3, "batch_size": 8, "standardize": False}
    shop = workshop(
        tmp_path, recipe="logistic", options=options, train=make_records(TRAIN.ids, x, TRAIN.y, TRAIN.classes)
    )
    members = in_cohorts([trained(1), trained(2, "retain"), trained(3, "retain")], 3)
    shop.make_group(members)
    entries = [Store(tmp_path).entry(shop.identity.key(member)) for member in members]
    assert [entry is not None and bool(entry.problem) for entry in entries] == [True, False, False]
    assert entries[0] is not None
    assert "is NaN or infinite after training: it diverged; lower the learning rate" in entries[0].problem
    for member in members[1:]:
        own = shop.recipe.train(shop.retain, rng=Stream(bytes.fromhex(member.seed)))
        assert distance(shop.load(shop.identity.key(member)), own) < CLOSE
