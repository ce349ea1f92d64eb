"""The NPO loss against its closed forms (arXiv:2404.05868)."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cu_cert.engine.subject import Batch
from cu_cert.methods.npo import npo_loss


def _npo(beta: float, out: Sequence[Sequence[float]], old: Sequence[Sequence[float]]) -> tuple[float, torch.Tensor]:
    scores = torch.tensor(out, dtype=torch.float64, requires_grad=True)
    batch = Batch(x=torch.zeros(len(out), 1), y=torch.arange(len(out)) % 3)
    value = npo_loss(beta)(scores, batch, lambda _: torch.tensor(old, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(value, [scores])
    return float(value.detach()), gradient


SCORES = st.lists(st.lists(st.floats(-8, 8), min_size=3, max_size=3), min_size=1, max_size=4)


@given(SCORES, st.floats(0.05, 8))
@settings(deadline=None)
def test_npo_at_the_original_is_two_over_beta_times_ln_2(scores: list[list[float]], beta: float) -> None:
    value, _ = _npo(beta, scores, scores)
    assert value == pytest.approx(2 / beta * math.log(2), rel=1e-12)


@given(SCORES, st.floats(0.05, 8), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_npo_has_the_gradient_of_weighted_ascent(scores: list[list[float]], beta: float, seed: int) -> None:
    new = np.array(scores)
    old = new + np.random.default_rng(seed).normal(size=new.shape)
    _, gradient = _npo(beta, scores, old.tolist())
    rows = np.arange(len(new))
    labels = rows % 3
    p_new = np.exp(new) / np.exp(new).sum(axis=1, keepdims=True)
    p_old = np.exp(old) / np.exp(old).sum(axis=1, keepdims=True)
    a, b = p_new[rows, labels] ** beta, p_old[rows, labels] ** beta
    weight = 2 * a / (a + b)
    expected = weight[:, None] * (np.eye(3)[labels] - p_new) / len(new)
    assert np.allclose(gradient.numpy(), expected, rtol=1e-8, atol=1e-12)
