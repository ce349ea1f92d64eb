"""The one set of scores that every peer gets: digits, shadow models, targets, fair coins; made once from fixed seeds.

Ten per cent of the labels are wrong, so that there is something to remember. 400 records are never trained on (the
population of RMIA). Shadow models come in pairs that train on complementary halves of the rest, so each record is
inside exactly half of them; each target trains on the records that its fair coins chose.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from cu_attacks.lira import lira_offline, lira_online
from cu_attacks.loss import negative_loss
from cu_attacks.rmia import rmia_offline
from cu_cert.recipes import Recipe, make_recipe
from cu_cert.records import Records, make_records
from cu_cert.rng import Stream
from cu_cert.signals import measure

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Arrays = dict[str, npt.NDArray[Any]]

POPULATION: Final = 400
NOISE: Final = 0.1
RACE_EPOCHS: Final = 10
RACE_BATCH: Final = 128
"""What :class:`ShadowModels` of ART trains with and offers no argument for; so everybody does."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is trained.

    Args:
        shadows: Shadow models, even.
        epochs: Passes of each model over its records.
        race_shadows: Shadow models that each racer trains.
        null_audits: Audits of nothing, for how often a bound is above 0 there.
        null_canaries: Canaries of each of them.
    """

    shadows: int = 24
    epochs: int = 40
    race_shadows: int = 32
    null_audits: int = 2000
    null_canaries: int = 300

    def __post_init__(self) -> None:
        if min(self.shadows, self.race_shadows) < 4 or self.shadows % 2 or self.race_shadows % 2:
            raise ValueError(f"{self.shadows} and {self.race_shadows} shadow models; expected even numbers from 4 on")
        if min(self.epochs, self.null_audits, self.null_canaries) < 1:
            raise ValueError("epochs, null_audits, null_canaries: expected at least 1 of each")


def digits(rng: np.random.Generator) -> Records:
    """Load the digits with a tenth of the labels replaced by another class."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    wrong = rng.random(len(labels)) < NOISE
    labels = np.where(wrong, (labels + rng.integers(1, 10, size=len(labels))) % 10, labels)
    return make_records([f"digit-{row:04d}" for row in range(len(labels))], pixels / 16, labels, list("0123456789"))


def recipe(epochs: int) -> Recipe:
    """Return the model that everybody trains: 64-128-10, SGD 0.1 with momentum 0.9, batches of 128."""
    return make_recipe(
        "mlp",
        {"epochs": epochs, "batch_size": RACE_BATCH, "learning_rate": 0.1, "momentum": 0.9, "standardize": False},
    )


def paired_masks(models: int, records: int, rng: np.random.Generator) -> BoolArray:
    """Draw which records each model trains on: pairs of complementary halves, shape (models, records)."""
    halves = []
    for _ in range(models // 2):
        inside = np.zeros(records, dtype=np.bool_)
        inside[rng.permutation(records)[: records // 2]] = True
        halves += [inside, ~inside]
    return np.array(halves)


def answers(trainer: Recipe, records: Records, audited: Records, mask: BoolArray, stream: Stream) -> Arrays:
    """Train one model on the audited records that ``mask`` names; ask it about all records.

    Returns:
        ``margin`` and ``correct``, shape (records,), and ``probability``, shape (records, classes).
    """
    chosen = audited.select(name for name, inside in zip(audited.ids, mask, strict=True) if inside)
    return asked(trainer, trainer.train(chosen, rng=stream), records)


def asked(trainer: Recipe, model: "torch.nn.Module", records: Records) -> Arrays:
    """Ask a model about all records; see :func:`answers`."""
    logits = trainer.logits(model, records).double().numpy()
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    signals = measure(trainer, model, records)
    return {
        "margin": signals.margin,
        "correct": signals.correct,
        "probability": raised / raised.sum(axis=1, keepdims=True),
    }


def outside_only(margins: FloatArray, mask: BoolArray) -> FloatArray:
    """Return for each record the margins of the models that never saw it, shape (models / 2, records).

    Each record must be outside the same number of models.
    """
    return np.stack([margins[~mask[:, record], record] for record in range(mask.shape[1])], axis=1)


def make(sizes: Sizes) -> Arrays:
    """Train shadow models and targets and score the first target's records.

    Args:
        sizes: How much is trained.

    Returns:
        Every array that a worker reads: ``score:NAME`` and ``member`` for the rates, ``canary``, ``coins`` and
        ``threshold`` for the bounds, ``null:*``, ``counts``, ``gaussian``, the shadow models' answers and the race's.
    """
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(20260101)
    records = digits(rng)
    rows = rng.permutation(len(records))
    outside, inside = np.sort(rows[:POPULATION]), np.sort(rows[POPULATION:])
    audited = records.select(records.ids[row] for row in inside)
    root, trainer = Stream.from_seed("benchmarks.peers"), recipe(sizes.epochs)
    masks = paired_masks(sizes.shadows, len(audited), rng)
    coins = rng.random((2, len(audited))) < 0.5
    shadows = [answers(trainer, records, audited, mask, root.child("shadow", k)) for k, mask in enumerate(masks)]
    targets = [answers(trainer, records, audited, mask, root.child("target", k)) for k, mask in enumerate(coins)]
    own = np.arange(len(records)), records.y
    found: Arrays = {
        "y": audited.y,
        "member": coins[0],
        "shadow_mask": masks,
        "shadow_probability": np.stack([one["probability"][inside] for one in shadows]),
        "target_probability": targets[0]["probability"][inside],
        "shadow_margin": np.stack([one["margin"][inside] for one in shadows]),
        "target_margin": targets[0]["margin"][inside],
        "target_correct": targets[0]["correct"][inside],
        "shadow_own": np.stack([one["probability"][own][inside] for one in shadows]),
        "target_own": targets[0]["probability"][own][inside],
        "shadow_own_population": np.stack([one["probability"][own][outside] for one in shadows]),
        "target_own_population": targets[0]["probability"][own][outside],
    }
    return (
        found
        | _scores(found)
        | _canaries(found, targets[1]["margin"][inside], coins)
        | _race(sizes, records, audited, outside, found, rng)
        | _null(sizes, rng)
    )


def _scores(found: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Score the target's records by our attacks; the last two sets are tied on purpose."""
    margin, shadows, mask = found["target_margin"], found["shadow_margin"], found["shadow_mask"]
    return {
        "score:lira online": lira_online(margin, shadows, mask),
        "score:lira offline": lira_offline(margin, outside_only(shadows, mask)),
        "score:loss": negative_loss(margin),
        "score:rmia offline": rmia_offline(
            found["target_own"],
            outside_only(found["shadow_own"], mask).mean(axis=0)[None],
            found["target_own_population"],
            found["shadow_own_population"].mean(axis=0)[None],
        ),
        "score:rounded margin": np.round(margin),
        "score:right answer": found["target_correct"].astype(np.float64),
    }


def _canaries(found: Mapping[str, npt.NDArray[Any]], pilot: FloatArray, coins: BoolArray) -> Arrays:
    """Return one run's scores, its coins, and a threshold from another model with coins of its own."""
    outside = outside_only(found["shadow_margin"], found["shadow_mask"])
    canary, threshold = lira_offline(found["target_margin"], outside), np.quantile(lira_offline(pilot, outside), 0.9)
    above = canary >= threshold
    return {
        "canary": canary,
        "coins": coins[0],
        "threshold": np.asarray(threshold),
        "counts": np.array([[(above & side).sum(), side.sum()] for side in (coins[0], ~coins[0])]),
        "gaussian": np.array([(mu, delta) for mu in (0.5, 1.0, 2.0, 4.0) for delta in (1e-5, 0.1)]),
    }


def _null(sizes: Sizes, rng: np.random.Generator) -> Arrays:
    """Return audits of models that remember nothing: normal scores and fair coins."""
    shape = sizes.null_audits, sizes.null_canaries
    return {"null:scores": rng.normal(size=shape), "null:coins": rng.random(shape) < 0.5}


def _race(
    sizes: Sizes,
    records: Records,
    audited: Records,
    outside: npt.NDArray[np.int64],
    found: Mapping[str, npt.NDArray[Any]],
    rng: np.random.Generator,
) -> Arrays:
    """Return what every racer starts from: records, one target's answers, and which records each shadow trains on."""
    return {
        "race_x": audited.x,
        "race_y": audited.y,
        "race_population_x": records.x[outside],
        "race_population_y": records.y[outside],
        "race_mask": paired_masks(sizes.race_shadows, len(audited), rng),
        "race_target_probability": found["target_probability"],
        "race_target_margin": found["target_margin"],
        "race_target_population": found["target_own_population"],
        "race_shadows": np.asarray(sizes.race_shadows),
        "race_epochs": np.asarray(RACE_EPOCHS),
        "race_batch": np.asarray(RACE_BATCH),
        "race_seed": np.asarray(1),
    }
