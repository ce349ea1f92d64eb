"""What the probes see of models that are no retrains, and that they let retrains be."""

import copy
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from small_probes import Bumps, original, probe, retrained, shop
from torch import nn

MEMORY = ("neighbours-perturbed", "quantisation-int8", "quantisation-int4", "pruning-30", "relearning-area")
"""Probes that ask what the model remembers of the request."""


def typical() -> tuple[nn.Module, list[nn.Module]]:
    """Return the retrained model in the middle of 19 by its mean margin on the request, and the others."""
    models, size = retrained(19), len(shop().forget_records)
    middle = int(np.argsort([shop().measure(model).margin[:size].mean() for model in models])[9])
    return models[middle], [model for place, model in enumerate(models) if place != middle]


def test_the_original_looks_extreme_wherever_memory_shows() -> None:
    found = probe(original(1), retrained(19), original=original())
    for name in MEMORY:
        assert found[name].p == Fraction(1, 20), name
    for name in MEMORY[:-1]:
        assert found[name].value > found[name].null_high, name  # type: ignore[operator]
    assert found["relearning-area"].value < found["relearning-area"].null_low  # type: ignore[operator]


def test_a_retrained_model_does_not() -> None:
    found = probe(retrained(19)[-1], retrained(18))
    assert sum(result.p <= Fraction(1, 19) for result in found.values() if result.p is not None) <= 2


def test_an_exact_retrain_leaks_to_an_observer_of_both_models() -> None:
    leak = probe(retrained(19)[-1], retrained(18), ["update_leakage"])["update-leakage"]
    assert leak.null_low is not None
    assert leak.null_low > 0.6
    assert leak.p is not None
    assert leak.p > Fraction(1, 19)
    assert "what an exact retrain leaks" in leak.note
    assert "no failure to unlearn" in leak.shows_not
    assert re.search(r"95 % interval over records 0\.\d{4} to [01]\.\d{4}", leak.note)


def test_nothing_leaks_where_nothing_was_changed() -> None:
    leak = probe(original(), retrained(19), ["update_leakage"])["update-leakage"]
    assert leak.value == 0.5
    assert leak.p == Fraction(1, 20)


def test_damage_to_retained_records_is_seen() -> None:
    harmed = copy.deepcopy(retrained(1)[0])
    with torch.no_grad():
        harmed[-1].bias[2] -= 40  # type: ignore[index,union-attr,operator]
    found = probe(harmed, retrained(19)[1:], ["retained"])
    for name in ("retained-margin", "retained-worst-class"):
        assert found[name].value < found[name].null_low, name  # type: ignore[operator]
        assert found[name].p == Fraction(1, 19), name
    assert found["retained-records"].value > (shop().retain.y == 2).sum() / 2
    assert found["retained-records"].p == Fraction(1, 19)
    for result in found.values():
        assert "class c" not in result.note, "the harmed class may be that of the request"


def test_damage_around_the_request_is_seen() -> None:
    from cu_cert.probes.neighbours import near_rows

    retain = shop().retain
    near = near_rows(shop().forget_records, retain)
    heights = -8 * np.eye(3)[retain.y[near]]
    found = probe(Bumps(retrained(1)[0], retain.x[near], heights), retrained(19)[1:], ["neighbours"])
    assert found["neighbours-retained"].value < found["neighbours-retained"].null_low  # type: ignore[operator]
    assert found["neighbours-retained"].p == Fraction(1, 19)


def test_memory_that_four_bits_bring_back_is_seen_there_only() -> None:
    # Units that fire on the request raise the score of its classes, and sixty small ones for each take that back. A
    # step of the 4-bit grid is a seventh of the largest weight, so a sixtieth becomes 0; the 8-bit grid keeps it.
    request, (middle, others) = shop().forget_records, typical()
    raised = 12 * np.eye(3)[request.y]
    heights = np.vstack([raised, *[-raised / 60] * 60])
    hidden = Bumps(middle, np.vstack([request.x] * 61), heights)
    found = probe(hidden, others, ["quantisation"])
    assert found["quantisation-int4"].p == Fraction(1, 19)
    assert found["quantisation-int4"].value > found["quantisation-int4"].null_high + 5  # type: ignore[operator]
    assert found["quantisation-int8"].p > Fraction(1, 19)  # type: ignore[operator]
    # Full precision shows nothing either: the note tells what the model had before.
    before = re.search(
        r"the audited model has (-?[\d.]+) and retrained models (-?[\d.]+) to (-?[\d.]+)",
        found["quantisation-int4"].note,
    )
    assert before is not None
    own, low, high = map(float, before.groups())
    assert low <= own <= high


def test_memory_that_covers_the_exact_points_only_is_seen_beside_them() -> None:
    # A dip at each point of the request, so narrow that a copy with a little noise lies outside.
    request, kept = shop().forget_records, original()

    class Dented(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            there = torch.cdist(x, torch.from_numpy(request.x)) < 1e-3
            dent = 7 * there.float() @ torch.eye(3)[torch.from_numpy(request.y)]
            scores: torch.Tensor = kept(x) - dent
            return scores

    found = probe(Dented(), retrained(19), ["neighbours", "quantisation"])
    assert found["neighbours-perturbed"].p == Fraction(1, 20)
    assert found["neighbours-perturbed"].value > found["neighbours-perturbed"].null_high  # type: ignore[operator]
    assert found["quantisation-int8"].value is None, "it has no weights of its own"


def test_weights_of_the_records_sharpen_the_signal() -> None:
    request, weight = shop().forget_records, np.zeros(12)
    weight[4] = 3.0
    middle, others = typical()
    bump = Bumps(middle, request.x[4:5], 25 * np.eye(3)[request.y[4:5]])
    plain, sharp = (
        probe(bump, others, ["quantisation"], record_weights=chosen)["quantisation-int8"] for chosen in (None, weight)
    )
    assert sharp.p == Fraction(1, 19)
    assert plain.p is not None
    assert plain.p > Fraction(1, 19)
    assert "weighted as in the audit's score" in sharp.note
    assert "weighted" not in plain.note
    even = probe(bump, others, ["quantisation"], record_weights=np.full(12, 0.3))["quantisation-int8"]
    assert even.value == pytest.approx(plain.value)
