"""jax-privacy, in its own environment: rates, bounds at a threshold fixed beforehand, behaviour under the null."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats
from jax_privacy import auditing  # type: ignore[import-not-found]

from benchmarks._peers_worker import ALPHA, DELTAS, FALSE_RATES, Arrays, run, scored

LEAST_DELTA = 1e-12
"""``epsilon_one_run`` refuses delta = 0; at this one the two agree to far below the printed grid."""


def rates(arrays: Arrays) -> dict[str, Any]:
    """Area and true positive rates of every set of scores."""
    found: dict[str, Any] = {}
    for name, scores, member in scored(arrays):
        auditor = auditing.CanaryScoreAuditor(scores[member], scores[~member])
        found[name] = {"auc": float(auditor.attack_auroc())} | {
            f"tpr@{rate}": float(auditor.tpr_at_given_fpr(rate)) for rate in FALSE_RATES
        }
    return found


def bounds(arrays: Arrays) -> dict[str, Any]:
    """Bounds at the threshold that was fixed without these scores, and the point estimate from raw counts."""
    scores, coins, threshold = arrays["canary"], arrays["coins"], float(arrays["threshold"])
    auditor = auditing.CanaryScoreAuditor(scores[coins], scores[~coins])
    fixed = auditing.Explicit(threshold)
    found: dict[str, Any] = {"raw-counts": float(auditor.epsilon_raw_counts(min_count=10))}
    for delta in DELTAS:
        for sides, one_sided in (("forward", True), ("both", False)):
            found[f"clopper-pearson {sides} {delta}"] = float(
                auditor.epsilon_clopper_pearson(ALPHA, delta, one_sided, threshold_strategy=fixed)
            )
        found[f"one-run {delta}"] = float(
            auditor.epsilon_one_run(ALPHA, max(delta, LEAST_DELTA), threshold_strategy=fixed)
        )
    return found


def vectors(arrays: Arrays) -> dict[str, Any]:
    """The numbers that its own tests publish."""
    chances = [float(auditing._one_run_p_value(*case)) for case in ((1000, 100, 95, 2.0, 1e-5), (10, 10, 9, 1.0, 1e-3))]
    close = [auditing.CanaryScoreAuditor(_normal_scores(shift), _normal_scores(0)) for shift in (1, 2, 4)]
    exact = [
        float(auditing._epsilon_one_run(0.0, m, r, v, ALPHA, delta))
        for m, r, v, delta in ((1000, 100, 95, 1e-5), (100, 100, 80, 0.0))
    ]
    upper = [float(auditing._clopper_pearson_upper(k, n, a)) for k, n, a in ((0, 100, 0.05), (3, 10, 0.1))]
    return {
        "one-run p": chances,
        "one-run eps": exact,
        "one-run close": [float(auditor.epsilon_one_run(ALPHA, 1e-6)) for auditor in close],
        "one-run fdp close": [float(auditor.epsilon_one_run_fdp(ALPHA, 1e-6)) for auditor in close],
        "upper": upper,
    }


def _normal_scores(shift: float, n: int = 10_000) -> npt.NDArray[np.float64]:
    middles = (np.arange(n) + 0.5) / n
    quantiles: npt.NDArray[np.float64] = scipy.stats.norm.ppf(middles) + shift
    return quantiles


def null(arrays: Arrays) -> dict[str, Any]:
    """How often each estimate is above 0 when nothing was remembered, with its default arguments."""
    found: dict[str, list[float]] = {"one-run": [], "clopper-pearson": [], "gdp": [], "raw-counts": []}
    for scores, coins in zip(arrays["null:scores"], arrays["null:coins"], strict=True):
        auditor = auditing.CanaryScoreAuditor(scores[coins], scores[~coins])
        found["one-run"].append(float(auditor.epsilon_one_run(ALPHA, 1e-5)))
        found["clopper-pearson"].append(float(auditor.epsilon_clopper_pearson(ALPHA, one_sided=False)))
        found["raw-counts"].append(float(auditor.epsilon_raw_counts(min_count=5)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found["gdp"].append(float(auditor.epsilon_from_gdp(ALPHA, 1e-5)))
    return {
        name: {"above 0": float(np.mean(np.array(values) > 0)), "mean": float(np.mean(values))}
        for name, values in found.items()
    }


if __name__ == "__main__":
    run(
        {"rates": rates, "bounds": bounds, "vectors": vectors, "null": null},
        distributions=("jax-privacy", "jax", "dp-accounting", "scipy", "numpy"),
    )
