"""dp-accounting, in its own environment: the Gaussian mechanism's eps(delta)."""

from typing import Any

import dp_accounting  # type: ignore[import-not-found]

from benchmarks._peers_worker import Arrays, run


def bounds(arrays: Arrays) -> dict[str, Any]:
    """The eps of a mu-GDP mechanism for each pair (mu, delta)."""
    return {
        "gaussian": [
            float(dp_accounting.get_epsilon_gaussian(1 / float(mu), float(delta)))
            for mu, delta in arrays["gaussian"].reshape(-1, 2)
        ]
    }


def vectors(arrays: Arrays) -> dict[str, Any]:
    """The eps of mu = 1 at delta = 1e-5 and 0.1."""
    return {"gaussian": [float(dp_accounting.get_epsilon_gaussian(1.0, delta)) for delta in (1e-5, 0.1)]}


if __name__ == "__main__":
    run({"bounds": bounds, "vectors": vectors}, distributions=("dp-accounting", "scipy", "numpy"))
