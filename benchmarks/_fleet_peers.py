"""The end-to-end race of the fleet benchmark: shadow models and an attack with them, on digits and on Fashion-MNIST."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from benchmarks._fleet_train import CASES, FASHION, records_of
from benchmarks._peers_environments import PEERS, Environment, install, privacy_meter
from benchmarks._peers_race import Lap, race
from benchmarks._peers_scores import RACE_BATCH, RACE_EPOCHS, Arrays, asked, digits, paired_masks, recipe
from benchmarks.peers import OURS
from cu_cert.records import Records, make_records
from cu_cert.rng import Stream

SHADOWS: Final = 64
POPULATION: Final = 400
PART: Final = 2000
"""Records of Fashion-MNIST that take part: one-by-one trainers need minutes for more."""


def arrays(records: Records) -> Arrays:
    """Return what every racer starts from, as :mod:`benchmarks._peers_scores` makes it for the digits."""
    rng = np.random.default_rng(20260102)
    rows = rng.permutation(len(records))
    outside, inside = (np.sort(part) for part in (rows[:POPULATION], rows[POPULATION:]))
    audited = records.select(records.ids[row] for row in inside)
    coins = rng.random(len(audited)) < 0.5
    trainer = recipe(4 * RACE_EPOCHS)
    chosen = audited.select(name for name, bit in zip(audited.ids, coins, strict=True) if bit)
    told = asked(trainer, trainer.train(chosen, rng=Stream.from_seed("target")), records)
    own = told["probability"][np.arange(len(records)), records.y]
    return {
        "member": coins,
        "race_x": audited.x,
        "race_y": audited.y,
        "race_population_x": records.x[outside],
        "race_population_y": records.y[outside],
        "race_mask": paired_masks(SHADOWS, len(audited), rng),
        "race_target_probability": told["probability"][inside],
        "race_target_margin": told["margin"][inside],
        "race_target_population": own[outside],
        "race_shadows": np.asarray(SHADOWS),
        "race_epochs": np.asarray(RACE_EPOCHS),
        "race_batch": np.asarray(RACE_BATCH),
        "race_seed": np.asarray(1),
        "art_attack": np.asarray("lr"),
    }


def _fashion() -> Records:
    found = records_of(CASES["dense fashion"])
    kept = found.select(found.ids[row] for row in Stream.from_seed("part").order(found.ids)[:PART])
    return make_records(kept.ids, kept.x.reshape(len(kept), -1), kept.y, kept.classes)


def end_to_end(folder: Path, source: Path | None, *, runs: int) -> dict[str, Any]:
    """Let ours and every peer that trains run in turn.

    Args:
        folder: Where environments live.
        source: The source tree of Privacy Meter, or ``None``.
        runs: Of each racer.

    Returns:
        ``races``, by data set and peer: training, attack and both together over ours; ``failed``: why a peer is
        missing; ``laps``: every lap.
    """
    ours = Environment(peer=OURS, python=Path(sys.executable), status="installed")
    rivals = [install(peer, folder) for peer in PEERS if "race" in peer.tasks] + [privacy_meter(source, folder)]
    racers = {one.peer.name: one.call for one in (ours, *rivals) if one.status == "installed"}
    failed = {one.peer.name: one.reason for one in rivals if one.status != "installed"}
    data: dict[str, Callable[[], Records]] = {"digits": lambda: digits(np.random.default_rng(20260101))}
    if FASHION in os.environ:
        data["fashion"] = _fashion
    races: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for name, load in data.items():
        found = arrays(load())
        with tempfile.TemporaryDirectory(prefix="cu-cert-race-") as work:
            file = Path(work) / "race.npz"
            np.savez(file, **found)  # type: ignore[arg-type]
            laps, fell_out = race(racers, found, file, runs=runs)
        failed |= fell_out
        base = next(lap for lap in laps if (lap.who, lap.attack) == (OURS.name, "lira online"))
        details[name] = [lap.document(base) for lap in laps]
        races[name] = {_key(lap.who): _over(lap, base) for lap in laps if lap.who != OURS.name}
    return {"races": races, "failed": failed, "laps": details}


def _key(name: str) -> str:
    return {"adversarial-robustness-toolbox": "art", "ml_privacy_meter": "privacy_meter"}.get(name, name)


def _over(lap: Lap, base: Lap) -> dict[str, float]:
    return {
        "train": round(median(lap.train) / median(base.train), 2),
        "total": round(median(lap.total) / median(base.total), 2),
    }
