"""opake-auditing, in its own environment: its one-run audit on the same coins and scores."""

from typing import Any

import numpy as np
import numpy.typing as npt
from opake import auditing  # type: ignore[import-not-found]
from opake.auditing.types import CoinFlip  # type: ignore[import-not-found]

from benchmarks._peers_worker import ALPHA, DELTAS, FALSE_RATES, Arrays, run, scored


def estimate(scores: npt.NDArray[Any], coins: npt.NDArray[np.bool_]) -> Any:
    """Return its estimate for coins that were drawn elsewhere."""
    every = np.arange(len(coins))
    flip = CoinFlip(
        num_canaries=len(coins),
        canary_indices=every,
        _in_mask=coins,
        in_indices=every[coins],
        out_indices=every[~coins],
    )
    return auditing.one_run(auditing.canary_scores(scores, canary_indices=every), coin_flip=flip)


def rates(arrays: Arrays) -> dict[str, Any]:
    """Area and true positive rates of every set of scores."""
    found: dict[str, Any] = {}
    for name, scores, member in scored(arrays):
        audit = estimate(scores, member)
        found[name] = {"auc": float(audit.attack_auc())} | {
            f"tpr@{rate}": float(1 - audit.attack_beta_at(alpha=rate)) for rate in FALSE_RATES
        }
    return found


def bounds(arrays: Arrays) -> dict[str, Any]:
    """Bounds at the threshold that was fixed without these scores, and with its default threshold."""
    audit, threshold = estimate(arrays["canary"], arrays["coins"]), float(arrays["threshold"])
    method = audit.eps_delta()
    found = {
        f"one-run {delta}": float(method.epsilon_at(delta=delta, significance=ALPHA, threshold=threshold))
        for delta in DELTAS
    }
    return found | {"one-run default threshold": float(method.epsilon_at(delta=0.0, significance=ALPHA))}


def null(arrays: Arrays) -> dict[str, Any]:
    """How often its bound is above 0 when nothing was remembered: default threshold, and one fixed beforehand."""
    found: dict[str, list[float]] = {"default threshold": [], "fixed threshold": []}
    for scores, coins in zip(arrays["null:scores"], arrays["null:coins"], strict=True):
        method = estimate(scores, coins).eps_delta()
        found["default threshold"].append(float(method.epsilon_at(significance=ALPHA)))
        found["fixed threshold"].append(float(method.epsilon_at(significance=ALPHA, threshold=0.0)))
    # Its search ends within 1e-4 of 0.
    return {
        name: {"above 0": float(np.mean(np.array(values) > 1e-3)), "mean": float(np.mean(values))}
        for name, values in found.items()
    }


if __name__ == "__main__":
    run(
        {"rates": rates, "bounds": bounds, "null": null},
        distributions=("opake-auditing", "torch", "scipy", "numpy"),
    )
