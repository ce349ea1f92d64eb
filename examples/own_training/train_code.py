"""Your own training code as a recipe for cu-cert: a class with build() and train()."""

import numpy as np
import torch
from torch import nn

FEATURES = 3 + 8  # age, income, debt, and 8 buckets for the job
CLASSES = 2


class Recipe:
    """The arguments are the options of [training] in cu-cert.toml."""

    def __init__(self, width: int = 64, epochs: int = 250, learning_rate: float = 0.02) -> None:
        self.width = width
        self.epochs = epochs
        self.learning_rate = learning_rate

    def build(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(FEATURES, self.width), nn.Tanh(), nn.Linear(self.width, CLASSES))

    def train(self, model: nn.Module, records, rng: np.random.Generator) -> nn.Module:  # records: cu_cert Records
        x, y = torch.from_numpy(records.x), torch.from_numpy(records.y)
        optimiser = torch.optim.Adam(model.parameters(), lr=self.learning_rate)
        for _ in range(self.epochs):
            for batch in torch.from_numpy(rng.permutation(len(records))).split(64):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimiser.step()
        return model

    # Without logits(model, records) the scores are model(records.x).
