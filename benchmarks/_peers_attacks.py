"""The peers' own attacks on the same predictions: their scores read by our curve, beside ours."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks._peers_compare import Arrays, Results, Row
from benchmarks._peers_scores import FloatArray, outside_only
from cu_attacks._roc import area, rate_at
from cu_attacks.rmia import rmia_offline
from cu_attacks.shokri import shokri

REFITTED: Final = 1e-3
"""A refitted logistic regression ranks as the peer's does but for the last digits of its coefficients."""


def art_learned(arrays: Arrays) -> FloatArray:
    """Fit what ART's learned attack fits with ``lr``: one logistic regression on probabilities and one-hot labels."""
    classes = arrays["target_probability"].shape[1]
    labels = np.eye(classes, dtype=np.float32)[arrays["y"]]
    mask, parts = arrays["shadow_mask"], []
    for inside in (True, False):
        chosen = mask == inside
        answers = arrays["shadow_probability"][chosen].astype(np.float32)
        parts.append(np.concatenate([answers, np.broadcast_to(labels, (*mask.shape, classes))[chosen]], axis=1))
    told = np.concatenate([arrays["target_probability"].astype(np.float32), labels], axis=1)
    scaler = StandardScaler().fit(np.concatenate(parts))
    known = np.repeat([1, 0], [len(part) for part in parts])
    model = LogisticRegression().fit(scaler.transform(np.concatenate(parts)), known)
    scores: FloatArray = model.predict_proba(scaler.transform(told))[:, 1]
    return scores


def privacy_meter_rmia(arrays: Arrays) -> FloatArray:
    """Score by RMIA with Privacy Meter's mean over the population: of the larger half of the reference values."""
    population = np.sort(arrays["shadow_own_population"], axis=0)
    larger = population[len(population) // 2 :]
    return rmia_offline(
        arrays["target_own"],
        outside_only(arrays["shadow_own"], arrays["shadow_mask"]).mean(axis=0)[None],
        arrays["target_own_population"],
        larger.mean(axis=0)[None],
    )


def attacks(arrays: Arrays, results: Results) -> list[Row]:
    """Compare area and rate of the peers' attacks with ours.

    Args:
        arrays: The scores that the peers got.
        results: What each peer answered to ``attack``, by its name; ``None`` for one that did not run.
    """
    rows: list[Row] = []
    member = arrays["member"]
    if (art := results.get("adversarial-robustness-toolbox")) is not None:
        own = shokri(
            arrays["target_probability"],
            arrays["y"],
            arrays["shadow_probability"],
            arrays["y"],
            arrays["shadow_mask"],
        )
        rows += _rows("adversarial-robustness-toolbox", "rule-based", arrays["score:right answer"], art["rule"], member)
        rows += _rows(
            "adversarial-robustness-toolbox",
            "shadow models, logistic regression",
            own,
            art["shokri"],
            member,
            expected=art_learned(arrays),
            definition="one classifier for all classes, on probabilities and a one-hot label; ours has one a class, on "
            "log-probabilities",
            tolerance=REFITTED,
        )
    if (meter := results.get("ml_privacy_meter")) is not None:
        rows += _rows(
            "ml_privacy_meter",
            "RMIA offline",
            arrays["score:rmia offline"],
            meter["rmia"],
            member,
            expected=privacy_meter_rmia(arrays),
            definition="a population record's mean is that of the larger half of its reference values; ours of all",
        )
    return rows


def _rows(
    peer: str,
    name: str,
    ours: npt.NDArray[Any],
    theirs: Any,
    member: npt.NDArray[np.bool_],
    *,
    expected: npt.NDArray[Any] | None = None,
    definition: str = "",
    tolerance: float = 1e-9,
) -> list[Row]:
    wanted = ours if expected is None else expected
    read: Mapping[str, Any] = {
        "AUC": lambda scores: area(scores, member, name="AUC").value,
        "TPR at 1.0% FPR": lambda scores: rate_at(scores, member, false_rate=0.01, name="TPR").value,
    }
    return [
        Row(
            peer=peer,
            quantity=f"{what}, {name}",
            ours=number(ours),
            theirs=number(np.asarray(theirs, dtype=np.float64)),
            expected=number(wanted),
            tolerance=tolerance,
            definition=definition,
        )
        for what, number in read.items()
    ]
