"""adversarial-robustness-toolbox, in its own environment: its attacks on the same predictions, and its race."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from art.attacks.inference.membership_inference import (  # type: ignore[import-not-found]
    MembershipInferenceBlackBox,
    MembershipInferenceBlackBoxRuleBased,
    ShadowModels,
)
from art.estimators.classification import (  # type: ignore[import-not-found]
    BlackBoxClassifierNeuralNetwork,
    PyTorchClassifier,
)
from art.metrics.privacy.worst_case_mia_score import get_roc_for_fpr  # type: ignore[import-not-found]
from torch import nn

from benchmarks._peers_worker import FALSE_RATES, Arrays, run, scored, timed


def rates(arrays: Arrays) -> dict[str, Any]:
    """Return its true positive rates of every set of scores; it computes no area."""
    return {
        name: {
            f"tpr@{rate}": float(get_roc_for_fpr(scores, member.astype(int), targeted_fpr=rate)[0][1])
            for rate in FALSE_RATES
        }
        for name, scores, member in scored(arrays)
    }


def attack(arrays: Arrays) -> dict[str, Any]:
    """Return the scores of its rule and of its learned attack, from the same shadow predictions.

    The learned attack gets its cheapest classifier, logistic regression: the default, a neural network of 100 epochs,
    takes minutes on these sizes.
    """
    rows = np.arange(len(arrays["y"]), dtype=np.float32)[:, None]
    answers, labels = arrays["target_probability"], _one_hot(arrays["y"])
    target = BlackBoxClassifierNeuralNetwork(
        lambda asked: answers[asked[:, 0].astype(int)], input_shape=(1,), nb_classes=labels.shape[1]
    )
    rule = MembershipInferenceBlackBoxRuleBased(target)
    learned = MembershipInferenceBlackBox(target, attack_model_type="lr")
    seen, told = _pooled(arrays, labels, inside=True), _pooled(arrays, labels, inside=False)
    learned.fit(y=seen[1], test_y=told[1], pred=seen[0], test_pred=told[0])
    return {
        "rule": rule.infer(rows, labels),
        "shokri": learned.infer(None, labels, pred=answers, probabilities=True)[:, 0],
    }


def _one_hot(labels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = np.eye(10, dtype=np.float32)[labels]
    return found


def _pooled(
    arrays: Arrays, labels: npt.NDArray[np.float32], *, inside: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    chosen = arrays["shadow_mask"] == inside
    predictions = arrays["shadow_probability"][chosen].astype(np.float32)
    return predictions, np.broadcast_to(labels, (*chosen.shape, labels.shape[1]))[chosen]


def race(arrays: Arrays) -> dict[str, Any]:
    """Train shadow models as :class:`ShadowModels` does, fit its learned attack and score every record."""
    torch.set_num_threads(1)
    x, labels = arrays["race_x"], _one_hot(arrays["race_y"])
    kind = str(arrays["art_attack"])
    torch.manual_seed(int(arrays["race_seed"]))
    width = x.shape[1]
    model = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 10))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    template = PyTorchClassifier(model, nn.CrossEntropyLoss(), (width,), 10, optimizer=optimiser, device_type="cpu")

    def train() -> Any:
        shadows = ShadowModels(template, int(arrays["race_shadows"]), random_state=int(arrays["race_seed"]))
        return shadows.generate_shadow_dataset(x, labels)

    ((_, seen_y, seen), (_, other_y, other)), training = timed(train)
    answers = arrays["race_target_probability"].astype(np.float32)

    def attacked() -> Any:
        learned = MembershipInferenceBlackBox(template, attack_model_type=kind)
        learned.fit(y=seen_y, test_y=other_y, pred=_softmax(seen), test_pred=_softmax(other))
        return learned.infer(None, labels, pred=answers, probabilities=True)

    scores, attacking = timed(attacked)
    return {f"shokri ({kind})": {"train": training, "attack": attacking, "scores": np.asarray(scores)[:, 0]}}


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # The template ends in logits; the attacked model is asked for probabilities.
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: npt.NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
    return found


if __name__ == "__main__":
    run(
        {"rates": rates, "attack": attack, "race": race},
        distributions=("adversarial-robustness-toolbox", "torch", "scikit-learn", "numpy"),
    )
