"""One process that trains small models with one executor: ``python -m benchmarks._fleet_spread EXECUTOR WORKERS DIR``.

It prints the seconds on the wall as one JSON object; the executor and its workers are up and have made a few models
before the clock starts.
"""

import json
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks._fleet_train import workshop

MODELS: Final = 200
WARM: Final = 8


def main() -> None:
    """Train and print what it took."""
    spec, workers, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    from cu_cert.fleet.environment import single_threaded
    from cu_cert.fleet.executors import make_executor
    from cu_cert.fleet.plan import Member, fleet_plan
    from cu_cert.fleet.train import train_fleet
    from cu_cert.rng import Stream

    single_threaded()
    shop = workshop(folder, "logistic", {"epochs": 5})
    members = [
        Member(label=f"model {number}", records="retain", seed=Stream.from_seed(number).key.hex())
        for number in range(WARM + MODELS)
    ]
    with make_executor(spec, shop, workers) as executor:
        train_fleet(fleet_plan(members[:WARM]), shop, executor=executor, quiet=True)
        start = time.perf_counter()
        train_fleet(fleet_plan(members[WARM:]), shop, executor=executor, quiet=True)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "models": MODELS}))


if __name__ == "__main__":
    main()
