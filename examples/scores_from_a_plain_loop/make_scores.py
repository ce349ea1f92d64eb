"""Train models in a plain torch loop and write what they say about single records to a scores file.

python make_scores.py plan-out/models.csv    makes the models of a work order and writes scores.npz
python make_scores.py                        makes two pools of models, without coins, and writes pools.npz
"""

import csv
import hashlib
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cu_attacks import write_scores

EPOCHS = 60
IDS = [f"record-{number:03d}" for number in range(400)]
REQUEST, TRAINED = np.arange(20), np.arange(300)  # the others are held out: no model ever sees them
REST = np.setdiff1d(TRAINED, REQUEST)
JUDGED = np.concatenate([REQUEST, np.arange(300, 400)])

draw = torch.Generator().manual_seed(0)
X = torch.randn(400, 20, generator=draw)
Y = ((X @ torch.randn(20, generator=draw) > 0) ^ (torch.rand(400, generator=draw) < 1 / 7)).long()


def learn(model: nn.Module, rows: np.ndarray, epochs: int) -> nn.Module:
    """The plain loop."""
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(epochs):
        for batch in torch.from_numpy(rows)[torch.randperm(len(rows))].split(150):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(X[batch]), Y[batch]).backward()
            optimiser.step()
    return model


def train(rows: np.ndarray, seed: str) -> nn.Module:
    torch.manual_seed(int(seed, 16) % 2**63)  # all randomness of a model comes from its own seed
    return learn(nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2)), rows, EPOCHS)


def unlearn(original: nn.Module, seed: str, *, by_retraining: bool = False) -> nn.Module:
    """The code under audit. Its negative control runs through the same code, with retraining in the method's place."""
    if by_retraining:
        return train(REST, seed)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2))
    model.load_state_dict(original.state_dict())
    torch.manual_seed(int(seed, 16) % 2**63)
    return learn(model, REST, epochs=5)


@cache
def original(seed: str) -> nn.Module:
    return train(TRAINED, seed)


def margins(model: nn.Module) -> np.ndarray:
    """ln(p / (1 - p)) of the true class on the records that are judged; NaN would mark a failed model."""
    with torch.no_grad():
        logp = nn.functional.log_softmax(model(X[JUDGED]).double(), dim=1)
    own = logp[torch.arange(len(JUDGED)), Y[JUDGED]]
    return (own - torch.log1p(-own.exp())).clamp(-30, 30).numpy()


def make(pool: str, seed: str, seed_of_original: str) -> nn.Module:
    """Make one model; the pools are explained in docs/scores.md."""
    if pool == "unlearned":
        return unlearn(original(seed_of_original), seed)
    if pool == "rerun":
        return unlearn(original(seed_of_original), seed, by_retraining=True)
    if pool in ("original", "pilot-original"):
        return original(seed)
    assert pool in ("retrained", "pilot-retrained"), pool
    return train(REST, seed)


def of_a_work_order(path: Path) -> list[tuple[str, str, str, str]]:
    """Name, pool, seed and seed of its original for each model."""
    with path.open(newline="", encoding="utf-8") as stream:
        order = list(csv.DictReader(stream))
    # The original of slot 7 is the model from which the unlearned one of slot 7 is made.
    originals = {row["model"].split("-")[1]: row["seed"] for row in order if row["pool"] == "original"}
    spare = next(iter(originals.values()))
    return [(row["model"], row["pool"], row["seed"], originals.get(row["model"].split("-")[1], spare)) for row in order]


def without_a_work_order() -> list[tuple[str, str, str, str]]:
    def seed(name: str) -> str:
        return hashlib.sha256(name.encode()).hexdigest()

    sizes = {"unlearned": 48, "retrained": 48, "original": 48, "rerun": 16}
    found = [(f"{pool} {number:02d}", pool, number) for pool, size in sizes.items() for number in range(size)]
    return [(name, pool, seed(name), seed(f"original {number:02d}")) for name, pool, number in found]


def main(order: Path | None) -> None:
    torch.set_num_threads(1)
    models = without_a_work_order() if order is None else of_a_work_order(order)
    write_scores(
        Path("pools.npz" if order is None else "scores.npz"),
        [margins(make(pool, seed, of)) for _, pool, seed, of in models],
        models=[name for name, *_ in models],
        pools=[pool for _, pool, *_ in models],
        records=[IDS[row] for row in JUDGED],
        request=np.isin(JUDGED, REQUEST),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
