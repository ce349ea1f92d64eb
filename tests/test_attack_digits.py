"""The head-to-head on digits: small networks, 8 shadow models, which attack finds records at 1 % false accusations?"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from cu_attacks._roc import rate_at
from cu_attacks.calibrated import calibrated
from cu_attacks.lira import lira_offline, lira_online
from cu_attacks.loss import negative_loss
from cu_attacks.rmia import rmia_online

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, Any]
RECORDS, SHADOWS, TARGETS = 600, 8, 6


@dataclass(frozen=True)
class Fleet:
    """Margins of shadow and target models, and who was trained on what; of the rest none was trained on anything."""

    shadows: Array
    inside: Array
    targets: Array
    member: Array


def margins(model: MLPClassifier, x: Array, y: Array) -> Array:
    hidden = np.maximum(x @ model.coefs_[0] + model.intercepts_[0], 0)
    z = hidden @ model.coefs_[1] + model.intercepts_[1]
    rows = np.arange(len(y))
    own = z[rows, y].copy()
    z[rows, y] = -np.inf
    found: Array = own - np.logaddexp.reduce(z, axis=1)
    return found


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    """Paired halves of 600 digits, a tenth of them mislabelled; the other digits stay out of every model."""
    rng = np.random.default_rng(0)
    x, y = load_digits(return_X_y=True)
    order = rng.permutation(len(y))
    x, y = x[order] / 16, y[order]
    wrong = rng.random(len(y)) < 0.1
    y = np.where(wrong, (y + rng.integers(1, 10, len(y))) % 10, y)

    def halves(pairs: int) -> Array:
        chosen = []
        for _ in range(pairs):
            half = np.zeros(RECORDS, dtype=bool)
            half[rng.permutation(RECORDS)[: RECORDS // 2]] = True
            chosen += [half, ~half]
        return np.array(chosen)

    def train(member: Array, seed: int) -> Array:
        model = MLPClassifier(
            (128,),
            solver="sgd",
            learning_rate_init=0.1,
            batch_size=64,
            alpha=0,
            max_iter=40,
            tol=0,
            n_iter_no_change=40,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 40 epochs is what is wanted
            model.fit(x[:RECORDS][member], y[:RECORDS][member])
        return margins(model, x, y)

    inside, member = halves(SHADOWS // 2), halves(TARGETS // 2)
    return Fleet(
        shadows=np.array([train(half, seed) for seed, half in enumerate(inside)]),
        inside=inside,
        targets=np.array([train(half, 100 + seed) for seed, half in enumerate(member)]),
        member=member,
    )


def shown(fleet: Fleet, score: Any) -> tuple[float, float]:
    """Mean true positive rate at 1 % false positives and mean area, over target models."""
    found = []
    for phi, member in zip(fleet.targets, fleet.member, strict=True):
        scores = score(phi)
        rate = rate_at(scores, member, false_rate=0.01, name="TPR").value
        found.append((rate, roc_auc_score(member, scores)))
    rates, areas = np.mean(found, axis=0)
    return float(rates), float(areas)


def never_in(fleet: Fleet) -> Array:
    """For each record the margins of the models that did not see it, shape (models, records)."""
    columns = [fleet.shadows[~fleet.inside[:, i], i] for i in range(RECORDS)]
    return np.array(columns).T


def test_with_eight_shadows_pooled_lira_finds_many_times_what_the_loss_finds(fleet: Fleet) -> None:
    shadows = fleet.shadows[:, :RECORDS]
    online = {
        way: shown(fleet, lambda phi, way=way: lira_online(phi[:RECORDS], shadows, fleet.inside, variance=way))
        for way in ("pooled", "record", "nig")
    }
    loss = shown(fleet, lambda phi: negative_loss(phi[:RECORDS]))
    assert online["pooled"][0] >= 5 * loss[0]
    assert online["pooled"][0] > 1.5 * online["record"][0], "four models a side are too few for a spread of their own"
    assert online["nig"][0] > 1.5 * online["record"][0]
    assert min(online["pooled"][1], online["nig"][1]) > loss[1] + 0.05


def test_one_sided_offline_lira_beats_the_two_sided_form(fleet: Fleet) -> None:
    out = never_in(fleet)
    one = shown(fleet, lambda phi: lira_offline(phi[:RECORDS], out))
    two = shown(fleet, lambda phi: np.abs(phi[:RECORDS] - out.mean(axis=0)))
    middle = shown(fleet, lambda phi: calibrated(phi[:RECORDS], fleet.shadows[:, :RECORDS], fleet.inside))
    assert one[1] > two[1] + 0.05
    assert one[0] >= two[0]
    assert middle[1] > one[1] - 0.05


def test_rmia_needs_few_shadows_too(fleet: Fleet) -> None:
    p = expit(fleet.shadows)

    def score(phi: Array) -> Array:
        own = expit(phi)
        return rmia_online(own[:RECORDS], p[:, :RECORDS], fleet.inside, own[RECORDS:], p[:, RECORDS:])

    rmia = shown(fleet, score)
    loss = shown(fleet, lambda phi: negative_loss(phi[:RECORDS]))
    assert rmia[1] > loss[1] + 0.05
    assert rmia[0] >= 5 * loss[0]
