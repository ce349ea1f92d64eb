"""Make the forests of a work order and write what they say about single records to a scores file.

python forests.py prepare                       writes forget.txt and the audited model, model.pickle
python forests.py scores plan-out/models.csv    makes the models of the work order and writes scores.npz
"""

import csv
import hashlib
import pickle
import sys
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import ExtraTreesClassifier

from cu_attacks import write_scores

TREES = 20
X, Y = load_breast_cancer(return_X_y=True)
IDS = [f"patient-{number:03d}" for number in range(len(Y))]
REQUEST, TRAINED = np.arange(40), np.arange(440)  # the others are held out: no model ever sees them
REST = np.setdiff1d(TRAINED, REQUEST)
JUDGED = np.concatenate([REQUEST, np.arange(440, len(Y))])


def train(rows: np.ndarray, seed: str) -> ExtraTreesClassifier:
    """All randomness of a forest comes from its own seed."""
    return ExtraTreesClassifier(TREES, random_state=int(seed, 16) % 2**32).fit(X[rows], Y[rows])


def unlearn(original: ExtraTreesClassifier, seed: str, *, by_retraining: bool = False) -> ExtraTreesClassifier:
    """The code under audit. Its negative control runs through the same code, with retraining in the method's place."""
    fresh = train(REST, seed)
    if not by_retraining:
        fresh.estimators_[TREES // 2 :] = original.estimators_[TREES // 2 :]  # half of the trees stay: a bad method
    return fresh


@cache
def original(seed: str) -> ExtraTreesClassifier:
    return train(TRAINED, seed)


def margins(model: ExtraTreesClassifier) -> np.ndarray:
    """ln(p / (1 - p)) of the true class, with half a vote to spare on either side; NaN would mark a failed model."""
    votes = model.predict_proba(X[JUDGED])[np.arange(len(JUDGED)), Y[JUDGED]] * TREES
    return np.log((votes + 0.5) / (TREES - votes + 0.5))


@cache
def audited() -> ExtraTreesClassifier:
    return unlearn(original(hashlib.sha256(b"our model").hexdigest()), hashlib.sha256(b"unlearned").hexdigest())


def prepare() -> None:
    Path("forget.txt").write_text("".join(f"{IDS[row]}\n" for row in REQUEST), encoding="utf-8")
    Path("model.pickle").write_bytes(pickle.dumps(audited()))  # cu-cert takes its bytes and never loads it


def make(pool: str, seed: str, seed_of_original: str) -> ExtraTreesClassifier:
    """Make one model; the pools are explained in docs/scores.md."""
    if pool == "subject":
        return audited()
    if pool == "unlearned":
        return unlearn(original(seed_of_original), seed)
    if pool in ("rerun", "reference-rerun"):
        return unlearn(original(seed_of_original), seed, by_retraining=True)
    if pool in ("original", "pilot-original", "reference-original"):
        return original(seed)
    assert pool in ("retrained", "pilot-retrained", "reference"), pool
    return train(REST, seed)


def fill(path: Path) -> None:
    with path.open(newline="", encoding="utf-8") as stream:
        order = list(csv.DictReader(stream))
    # The original of slot 7 is the model from which the unlearned one of slot 7 is made.
    originals = {row["model"].split("-")[1]: row["seed"] for row in order if row["pool"] == "original"}
    spare = next(iter(originals.values()))
    found = []
    for row in order:
        slot = row["model"].partition("-")[2].partition("-")[0]
        found.append(margins(make(row["pool"], row["seed"], originals.get(slot, spare))))
    write_scores(
        Path("scores.npz"),
        found,
        models=[row["model"] for row in order],
        pools=[row["pool"] for row in order],
        records=[IDS[row] for row in JUDGED],
        request=np.isin(JUDGED, REQUEST),
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["prepare"]:
        prepare()
    else:
        fill(Path(sys.argv[2]))
