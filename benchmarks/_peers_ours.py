"""cu-cert as a racer, in a process of its own like every peer: cohorts in one program, then three attacks."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks._peers_scores import asked, outside_only, recipe
from benchmarks._peers_worker import Arrays, run, timed
from cu_attacks.lira import lira_offline, lira_online
from cu_attacks.shokri import shokri
from cu_cert.recipes import CohortRecipe
from cu_cert.records import make_records
from cu_cert.rng import Stream


def race(arrays: Arrays) -> dict[str, Any]:
    """Train shadow models as a fleet does, many in one program, and score every record."""
    import torch

    torch.set_num_threads(1)
    records = make_records(
        [f"record-{row:05d}" for row in range(len(arrays["race_y"]))],
        arrays["race_x"],
        arrays["race_y"],
        list("0123456789"),
    )
    trainer, root = recipe(int(arrays["race_epochs"])), Stream.from_seed(int(arrays["race_seed"]))
    masks = arrays["race_mask"]

    assert isinstance(trainer, CohortRecipe)

    def trained() -> Any:
        found = []
        for start in range(0, len(masks), trainer.cohort_size):
            part = masks[start : start + trainer.cohort_size]
            rngs = [root.child(start + k) for k in range(len(part))]
            models = trainer.train_cohort(records, [np.flatnonzero(mask) for mask in part], rngs=rngs)
            found += [asked(trainer, model, records) for model in models]
        return found

    shadows, training = timed(trained)
    margins = np.stack([one["margin"] for one in shadows])
    vectors = np.stack([one["probability"] for one in shadows])
    told, y = arrays["race_target_probability"], arrays["race_y"]
    attacks: dict[str, Callable[[], Any]] = {
        "shokri": lambda: shokri(told, y, vectors, y, masks),
        "lira offline": lambda: lira_offline(arrays["race_target_margin"], outside_only(margins, masks)),
        "lira online": lambda: lira_online(arrays["race_target_margin"], margins, masks),
    }
    found = {}
    for name, attack in attacks.items():
        scores, attacking = timed(attack)
        found[name] = {"train": training, "attack": attacking, "scores": scores}
    return found


if __name__ == "__main__":
    run({"race": race}, distributions=("torch", "scikit-learn", "numpy"))
