"""statsmodels and scikit-learn, in their own environment: Clopper-Pearson intervals, area under the curve."""

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve
from statsmodels.stats.proportion import proportion_confint

from benchmarks._peers_worker import ALPHA, FALSE_RATES, Arrays, run, scored


def rates(arrays: Arrays) -> dict[str, Any]:
    """Area and true positive rates of every set of scores."""
    found: dict[str, Any] = {}
    for name, scores, member in scored(arrays):
        false, true, _ = roc_curve(member, scores, drop_intermediate=False)
        found[name] = {"auc": float(roc_auc_score(member, scores))} | {
            f"tpr@{rate}": float(true[false <= rate].max()) for rate in FALSE_RATES
        }
    return found


def bounds(arrays: Arrays) -> dict[str, Any]:
    """One-sided Clopper-Pearson ends at alpha / 2 for each pair (hits, trials)."""
    pairs = arrays["counts"].reshape(-1, 2)
    return {
        "clopper-pearson": [
            [float(end) for end in proportion_confint(int(hits), int(trials), ALPHA, "beta")] for hits, trials in pairs
        ]
    }


def vectors(arrays: Arrays) -> dict[str, Any]:
    """The published intervals at 95 %: 0, 1 and 5 of 10; and one-sided upper ends."""
    both = [[float(end) for end in proportion_confint(hits, 10, 0.05, "beta")] for hits in (0, 1, 5)]
    upper = [float(proportion_confint(k, n, 2 * a, "beta")[1]) for k, n, a in ((0, 100, 0.05), (3, 10, 0.1))]
    return {"two-sided": np.array(both), "upper": upper}


if __name__ == "__main__":
    run(
        {"rates": rates, "bounds": bounds, "vectors": vectors},
        distributions=("statsmodels", "scikit-learn", "scipy", "numpy"),
    )
