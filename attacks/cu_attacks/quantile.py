"""``quantile``: is a record's margin above what almost all never-trained records *like it* have?

Quantile-regression attack (Bertran et al. 2023, arXiv 2307.03694): regress a high conditional quantile of the signal on
features of the record, with the pinball loss, on never-trained records of the audited model itself. One model, no
shadow models, no knowledge of its architecture. The score is the signal minus that quantile.

The regression is gradient boosting (scikit-learn): it fits the pinball loss directly, needs no scaling and follows
interactions between features, where linear quantile regression would need them written out; it runs on one thread and
gives equal results everywhere. Its quantiles are not exact on small populations, so the score is *conformalised*
(Romano, Patterson, Candès 2019, arXiv 1905.03222): the regression is fitted on one half of the population, and the
threshold is the conformal quantile of the scores of the other half. The false positive rate then holds by construction,
however bad the regression.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import GradientBoostingRegressor

from cu_attacks._gauss import signals_of
from cu_attacks._types import Attack, AttackError, FloatArray, matrix
from cu_attacks.population import Threshold, population_scores, population_threshold


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantileScores:
    """Scores of records against never-trained records like them.

    Args:
        scores: Signal minus the fitted quantile, shape (records,); higher means "was trained on".
        p: Conformal p-value of each record, shape (records,): at most a with probability at most a, for a record like
            those of the population that was never trained on.
        flagged: Whether the score lies above the threshold, shape (records,).
        threshold: Conformal threshold at the wanted false positive rate.
        n: Records, population records fitted on, population records calibrated on.
        method: How the scores were found.
        assumptions: What p-values and threshold rest on.
        shows_not: What a reader must not conclude.
    """

    scores: FloatArray
    p: FloatArray
    flagged: npt.NDArray[np.bool_]
    threshold: Threshold
    n: tuple[int, int, int]
    method: str = "gradient boosting of the pinball loss, conformal threshold from the other half of the population"
    assumptions: str = "a never-trained record is one more draw from the population, features included"
    shows_not: str = (
        "records that are not flagged may still be remembered: the attack sees one model and these features"
    )


def quantile_regression(
    signals: npt.ArrayLike,
    features: npt.ArrayLike,
    population: npt.ArrayLike,
    population_features: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    false_rate: float = 0.01,
) -> QuantileScores:
    """Score each record by its margin minus the fitted 1 - ``false_rate`` quantile of records like it.

    Args:
        signals: Margins of the audited model on the records, shape (records,) or (records, queries).
        features: What the attacker knows of each record, label included, shape (records, features).
        population: Margins on never-trained records that are not among the records, shape (n >= 4,) or (n >= 4,
            queries).
        population_features: Their features, shape (n, features).
        rng: Splits the population.
        false_rate: Wanted false positive rate, in (0, 1).

    Raises:
        AttackError: Shapes disagree, a value is not finite, too small a population, or a rate out of range.
    """
    phi = signals_of(signals, "signals")
    x = matrix(features, "features")
    others = signals_of(population, "population")
    z = matrix(population_features, "population_features")
    if len(x) != len(phi):
        raise AttackError(f"features: {len(x)} rows; expected {len(phi)}, one a record")
    if z.shape != (len(others), x.shape[1]):
        raise AttackError(f"population_features: shape {z.shape}; expected ({len(others)}, {x.shape[1]})")
    if len(others) < 4:
        raise AttackError(f"population: {len(others)} records; expected at least 4, half to fit and half to calibrate")
    if not 0 < false_rate < 1:
        raise AttackError(f"false_rate: {false_rate}; expected a rate in (0, 1)")
    order = rng.permutation(len(others))
    fit, calibrate = order[: len(others) // 2], order[len(others) // 2 :]
    model = GradientBoostingRegressor(
        loss="quantile", alpha=1 - false_rate, min_samples_leaf=5, random_state=int(rng.integers(2**31))
    )
    model.fit(z[fit], others[fit])
    scores: FloatArray = phi - model.predict(x)
    calibration: FloatArray = others[calibrate] - model.predict(z[calibrate])
    threshold = population_threshold(calibration, false_rate=false_rate)
    return QuantileScores(
        scores=scores,
        p=1 - population_scores(scores, calibration),
        flagged=scores > threshold.value,
        threshold=threshold,
        n=(len(phi), len(fit), len(calibrate)),
    )


ATTACK = Attack(name="quantile", kind="panel", paper="Bertran et al. 2023, arXiv 2307.03694", run=quantile_regression)
