"""One process that trains small models with one executor: ``python -m benchmarks._fleet_spread EXECUTOR WORKERS DIR``.

It prints the seconds on the wall as one JSON object; the executor and its workers are up and have made a few models
before the clock starts.
"""

import json
import sys
import time
from pathlib import Path
from typing import Final

MODELS: Final = 200
WARM: Final = 8


def main() -> None:
    """Train and print what it took."""
    spec, workers, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    from cu_cert.data import DataConfig, load_records
    from cu_cert.fleet.environment import single_threaded
    from cu_cert.fleet.executors import make_executor
    from cu_cert.fleet.plan import Member, fleet_plan
    from cu_cert.fleet.train import train_fleet
    from cu_cert.fleet.worker import Workshop
    from cu_cert.recipes import make_recipe
    from cu_cert.rng import Stream

    single_threaded()
    dataset, options = load_records(DataConfig(), folder), {"epochs": 5}
    workshop = Workshop(
        recipe_digest=make_recipe("logistic", options).digest,
        recipe_name="logistic",
        recipe_options=dict(options),
        root=str(folder),
        train=dataset.train,
        held_out=dataset.held_out,
        forget=dataset.train.ids[:20],
        store=folder / "store",
    )
    members = [
        Member(label=f"model {number}", records="retain", seed=Stream.from_seed(number).key.hex())
        for number in range(WARM + MODELS)
    ]
    with make_executor(spec, workshop, workers) as executor:
        train_fleet(fleet_plan(members[:WARM]), workshop, executor=executor, quiet=True)
        start = time.perf_counter()
        train_fleet(fleet_plan(members[WARM:]), workshop, executor=executor, quiet=True)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "models": MODELS}))


if __name__ == "__main__":
    main()
