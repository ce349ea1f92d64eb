"""How the probes run: nothing given is changed, equal arguments give equal results, and what cannot work says so."""

import copy
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from small_probes import RNG, noisy, original, probe, retrained, shop, workshop
from torch import nn

from cu_cert.errors import ConfigError, DataError
from cu_cert.methods._contract import fingerprint
from cu_cert.probes import ProbeResult, get, names, run_probes
from cu_cert.records import make_records
from cu_cert.rng import Stream


class Layered(nn.Module):
    """A network with layers that would change when it is only applied in training mode."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Linear(24, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.body(x)
        return scores


def test_no_model_is_changed_and_no_global_generator_moves() -> None:
    models = [Layered(seed).train() for seed in range(5)]
    models[0].body[0].weight.grad = torch.ones(8, 24)
    models[1].body[4].weight.requires_grad_(False)
    marks = [fingerprint(model) for model in models]
    original()  # the helper trains it on first use, which needs gradients
    torch.manual_seed(3)
    numbers, legacy = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    with torch.no_grad():
        found = probe(models[0], models[1:4], original=models[4])
    assert [fingerprint(model) for model in models] == marks
    assert models[0].body[0].weight.grad is not None
    assert torch.equal(torch.random.get_rng_state(), numbers)
    assert (np.random.get_state()[1] == legacy).all()  # type: ignore[index]
    assert all(result.value is not None for result in found.values())


def test_equal_arguments_give_equal_results_and_probes_do_not_disturb_each_other() -> None:
    first = probe(original(), retrained(5))
    again = probe(original(), retrained(5), [*reversed(names())])
    assert first == again
    other = probe(original(), retrained(5), rng=Stream.from_seed("another"))
    assert {name for name in first if first[name] != other[name]} == {"neighbours-perturbed"}


def test_controls_are_read_one_at_a_time() -> None:
    class Lazy:
        alive = 0

        def __len__(self) -> int:
            return 4

        def __getitem__(self, position: int) -> nn.Module:
            if position >= 4:
                raise IndexError
            return copy.deepcopy(retrained(4)[position])

    assert probe(original(), Lazy()) == probe(original(), retrained(4))  # type: ignore[arg-type]


def test_progress_names_each_number_once() -> None:
    said: list[str] = []
    probe(original(), retrained(3), ["pruning"], progress=said.append)
    assert said == [part.title for part in get("pruning").parts]


def skipped(result: ProbeResult) -> str:
    assert (result.value, result.null_low, result.null_high, result.null_mean, result.p) == (None,) * 5
    return result.note


def test_no_original_no_update_leakage() -> None:
    found = probe(retrained(1)[0], retrained(5)[1:], original=None)
    assert skipped(found.pop("update-leakage")) == "the model before unlearning was not given (--original)"
    assert all(result.value is not None for result in found.values())


def test_too_few_controls() -> None:
    found = probe(original(), retrained(2))
    assert len(found) == 13
    assert {skipped(result) for result in found.values()} == {"2 retrained models to compare with; expected at least 3"}


def test_one_record_in_the_request() -> None:
    found = probe(original(), retrained(3), shop=workshop(forget=1))
    assert "1 records in the request" in skipped(found.pop("update-leakage"))
    assert all(result.value is not None for result in found.values())


def test_whole_numbers_are_not_changed_slightly() -> None:
    records = noisy()
    whole = make_records(records.ids, np.rint(records.x), records.y, records.classes)
    found = probe(original(), retrained(3), ["neighbours"], shop=workshop(whole))
    assert "whole numbers" in skipped(found["neighbours-perturbed"])
    assert found["neighbours-retained"].value is not None


def test_a_class_that_goes_altogether_has_no_neighbours() -> None:
    place = workshop()
    request = tuple(np.array(place.train.ids)[place.train.y == 1])
    from dataclasses import replace

    found = probe(original(), retrained(3), ["neighbours"], shop=replace(place, forget=request))
    assert skipped(found["neighbours-retained"]) == "no retained record has a class of the request"
    nearly_all = replace(place, forget=place.train.ids[6:])
    found = probe(original(), retrained(3), ["neighbours"], shop=nearly_all)
    assert "none is left to compare with" in skipped(found["neighbours-retained"])


def test_models_without_weights() -> None:
    class Scale(nn.Module):
        def __init__(self, factor: float, *, trainable: bool = True) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.tensor([factor]), requires_grad=trainable)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :3] * self.factor

    found = probe(Scale(1.0), [Scale(1.1), Scale(1.2), Scale(1.3)], original=None)
    for name in ("quantisation-int8", "quantisation-int4", "pruning-30", "pruning-60", "pruning-90"):
        assert skipped(found[name]) == "the model has no real weight with two dimensions or more"
    assert found["relearning-area"].value is not None
    frozen = [Scale(factor, trainable=False) for factor in (1.0, 1.1, 1.2, 1.3)]
    found = probe(frozen[0], frozen[1:], ["relearning"], original=None)
    assert skipped(found["relearning-area"]) == "the model has no trainable weight"
    flat = [Scale(0.0) for _ in range(4)]

    class Silent(Scale):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0 * x[:, :3] * self.factor

    flat = [Silent(1.0) for _ in range(4)]
    found = probe(flat[0], flat[1:], ["relearning"], original=None)
    assert skipped(found["relearning-area"]) == "the loss on the request has no gradient to follow"


def test_what_the_users_code_says_stays_out_of_the_reason() -> None:
    class Fussy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.is_grad_enabled():
                raise RuntimeError("cannot train on record r001")
            return x[:, :3]

    with_weights = [nn.Sequential(Fussy(), nn.Linear(3, 3)) for _ in range(4)]
    said: list[str] = []
    found = probe(with_weights[0], with_weights[1:], ["relearning"], original=None, progress=said.append)
    assert skipped(found["relearning-left"]) == "the recipe's own code cannot do this (ConfigError)"
    assert any("record r001" in line for line in said)


def test_models_that_are_all_alike_are_not_extreme() -> None:
    found = probe(retrained(1)[0], [retrained(1)[0]] * 4, original=original())
    assert {result.p for result in found.values()} == {Fraction(1)}


@pytest.mark.parametrize("which", ["audited", "retrained", "original"])
def test_scores_that_are_not_finite_are_refused(which: str) -> None:
    broken = copy.deepcopy(retrained(1)[0])
    with torch.no_grad():
        broken[-1].bias.fill_(float("nan"))  # type: ignore[index,union-attr,operator]
    models: dict[str, Any] = {"audited": original(), "retrained": retrained(1)[0], "original": original()} | {
        which: broken
    }
    with pytest.raises(DataError, match=f"the {which}|{which} model 3 of 3"):
        probe(models["audited"], [*retrained(2), models["retrained"]], original=models["original"])


def test_treatments_that_overflow_are_left_out() -> None:
    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(24, 3)
            self.small = nn.Parameter(torch.full((1, 1), 1e-4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.inner(x) / self.small * 1e-4
            return scores

    models = [Fragile() for _ in range(4)]
    found = probe(models[0], models[1:], ["pruning"], original=None)
    assert skipped(found["pruning-30"]) == "a model gives scores that are not finite"


@pytest.mark.parametrize("weight", [np.ones(11), np.ones((12, 1)), np.zeros(12), np.full(12, np.nan)])
def test_weights_that_do_not_fit(weight: np.ndarray) -> None:
    with pytest.raises(DataError, match="one finite weight for each of the 12 records"):
        probe(original(), retrained(3), record_weights=weight)


def test_an_unknown_probe_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="'prune' is unknown"):
        run_probes(shop(), original(), [], original=None, rng=RNG, names=["prune"])
