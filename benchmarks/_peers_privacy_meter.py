"""Privacy Meter from a source tree that the user gives, in an environment with torch and scikit-learn.

It is on no package registry in its present form. Two of its files are loaded by path, because the packages around them
import data sets and plots that nothing here needs.
"""

import contextlib
import importlib.util
import io
import os
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks._peers_environments import METER_FILES, METER_SOURCE
from benchmarks._peers_worker import Arrays, run, timed

OFFLINE: Final = 0.3
TRAINER, RMIA = METER_FILES


def load(path: str) -> ModuleType:
    """Import one file of the source tree by its path there."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, Path(os.environ[METER_SOURCE]) / path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def attack(arrays: Arrays) -> dict[str, Any]:
    """Return the scores of its RMIA (offline, a = 0.3) from the same probabilities of the true class."""
    scores = load(RMIA).run_rmia(
        arrays["target_own"],
        arrays["shadow_own"].T,
        arrays["shadow_mask"].T,
        arrays["target_own_population"],
        arrays["shadow_own_population"].T,
        OFFLINE,
    )
    return {"rmia": scores}


def race(arrays: Arrays) -> dict[str, Any]:
    """Train shadow models one by one with its ``train`` and score every record with its RMIA."""
    torch.set_num_threads(1)
    torch.manual_seed(int(arrays["race_seed"]))
    train, run_rmia = load(TRAINER).train, load(RMIA).run_rmia
    x, y = torch.from_numpy(arrays["race_x"]), torch.from_numpy(arrays["race_y"])
    masks, population = arrays["race_mask"], torch.from_numpy(arrays["race_population_x"])
    asked = torch.from_numpy(arrays["race_population_y"])[:, None]
    configs = {"epochs": int(arrays["race_epochs"]), "optimizer": "SGD", "learning_rate": 0.1, "momentum": 0.9}

    def trained() -> tuple[list[Any], list[Any]]:
        own, outside = [], []
        for mask in masks:
            rows = torch.from_numpy(np.flatnonzero(mask))
            loader = DataLoader(TensorDataset(x[rows], y[rows]), batch_size=int(arrays["race_batch"]), shuffle=True)
            model = train(nn.Sequential(nn.Linear(x.shape[1], 128), nn.ReLU(), nn.Linear(128, 10)), loader, configs)
            with torch.no_grad():
                own.append(torch.softmax(model(x), dim=1).gather(1, y[:, None])[:, 0].numpy())
                outside.append(torch.softmax(model(population), dim=1).gather(1, asked)[:, 0].numpy())
        return own, outside

    with contextlib.redirect_stdout(io.StringIO()):
        (own, outside), training = timed(trained)
    target = arrays["race_target_probability"][np.arange(len(y)), arrays["race_y"]]
    shadows, others = np.stack(own, axis=1), np.stack(outside, axis=1)
    scores, attacking = timed(
        lambda: run_rmia(target, shadows, masks.T, arrays["race_target_population"], others, OFFLINE)
    )
    return {"rmia": {"train": training, "attack": attacking, "scores": scores}}


if __name__ == "__main__":
    run({"attack": attack, "race": race}, distributions=("torch", "scikit-learn", "numpy"))
