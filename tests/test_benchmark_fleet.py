"""The fleet's benchmarks run, count right and print what scripts rely on; what they measure is asserted nowhere."""

import json
import os
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import fleet, scale
from benchmarks._fleet_train import CASES, WAYS, Case, halves, records_of, useful
from cu_cert._tables import AuditConfig
from cu_cert.recipes import make_recipe
from cu_cert.rng import Stream
from cu_certificates._design_sequential import CONTROL_SIZES

TINY = Case(data="digits", recipe="mlp", options={"hidden": [5], "batch_size": 50, "epochs": 2}, models=3)


def test_useful_arithmetic_is_that_of_the_products_of_forward_and_backward() -> None:
    records, count = records_of(TINY), 0

    class Counted(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += len(x)
            return super().forward(x)

    model = nn.Sequential(nn.Flatten(), Counted(64, 5), nn.ReLU(), Counted(5, 10))
    for half in halves(records, 3):
        for _ in range(2):
            for start in range(0, len(half), 50):
                model(torch.from_numpy(records.x[half[start : start + 50]]))
    rows = count / 2
    # Per row and weight: one multiply-add forward, one for the weight's gradient, one for the input's but at the start.
    assert useful(TINY, records, 3) == rows * 2 * (2 * 64 * 5 + 3 * 5 * 10)


def test_each_half_is_half_of_the_records() -> None:
    records = records_of(TINY)
    for half in halves(records, 4):
        assert len(half) == len(records) // 2
        assert np.all(np.diff(half) > 0)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.data == "digits"])
@pytest.mark.parametrize("way", WAYS)
def test_each_way_trains_every_case(name: str, way: str) -> None:
    records = records_of(CASES[name])
    first, second = (score().detach().argmax(dim=1).numpy() for score in WAYS[way](CASES[name], records, 2))
    # The epochs of the convolutional case are few: what counts there is the time of a step.
    least = 0.9 if name.startswith("dense") else 0.15
    assert min((found == records.y).mean() for found in (first, second)) > least
    assert (first != second).any()


def test_a_measurement_says_what_it_took_or_why_it_failed() -> None:
    told = fleet.child("_fleet_train", "dense digits", "vectorised", "2")
    assert told["models"] == 2
    assert min(told["seconds"], told["useful"], told["matrix"]) > 0
    with pytest.raises(RuntimeError, match=r"_fleet_train dense digits sideways 2: KeyError: 'sideways'"):
        fleet.child("_fleet_train", "dense digits", "sideways", "2")


PARTS = {
    "training": {
        "dense digits": {"loopOverVectorised": 6.5, "shareOfMatrixRate": 0.25},
        "conv digits": {"loopOverVectorised": 4.5},
    },
    "peers": {
        "races": {"digits": {"art": {"train": 5.0, "total": 5.5}, "privacy_meter": {"train": 9.0, "total": 9.5}}}
    },
    "second": {
        "single records": {"share": 0.25, "trained": [64, 0]},
        "sequential": {"share": 0.75, "trained": [95, 62]},
        "everything": {"share": 0.85, "trained": [398, 271]},
    },
    "sequential": {"clear failure": 0.5, "clear success": 0.75},
    "spread": {"1 workers": {"rayOverLocal": 1.25}, "2 workers": {"rayOverLocal": 1.5}},
}


def test_the_names_that_scripts_rely_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def part(name: str) -> fleet.Part:
        def run(options: Namespace) -> dict[str, object]:
            seen.append(options.runs)
            return PARTS[name]  # type: ignore[return-value]

        return run

    monkeypatch.setattr(fleet, "PARTS", {name: part(name) for name in PARTS})
    fleet.main(["--json", "--runs", "4", "--only", *PARTS])
    document = json.loads(capsys.readouterr().out)
    assert seen == [4] * len(PARTS)
    expected = {
        "dense_vs_loop_cpu": 6.5,
        "conv_vs_loop_cpu": 4.5,
        "dense_share_of_matmul_rate": 0.25,
        "second_audit_share": 0.25,
        "sequential_share_of_fixed": 0.5,
        "art_vs_ours_digits": 5.5,
        "privacy_meter_vs_ours_digits": 9.5,
        "ray_vs_local_2_workers": 1.5,
    }
    assert {name: document[name] for name in expected} == expected
    fleet.main(["--runs", "4", "--only", "training"])
    assert "dense_vs_loop_cpu" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        fleet.main(["--runs", "1"])


def test_a_second_audit_on_the_same_release_trains_no_shadow() -> None:
    first, second = fleet.child("_fleet_audits", "single records", "{folder}")
    assert first["trained"] >= 64
    assert second["trained"] == 0


# The cost model


def test_the_cost_model_counts_the_models_that_an_audit_plans() -> None:
    config, sizes = AuditConfig(), scale.STANDARD
    assert (sizes.slots, sizes.references) == (config.slots, config.references)
    assert (sizes.pilots, sizes.controls) == (config.pilots, config.controls)
    # By hand: 32 originals and 16 pilots, one original of the artifact question, 64 shadows;
    # 32 retrained slots, 32 reruns of the negative control, 32 pilots, 132 references, 8 reruns.
    assert sizes.shared == 32 + 16 + 1 + 64
    assert sizes.own == 32 + 32 + 32 + 132 + 8
    assert scale.EARLY.control_slots == CONTROL_SIZES["both"][0]
    assert scale.EARLY.own == 10 + 16 + 16


def test_disk_is_predicted_from_tensors_and_signals(tmp_path: Path) -> None:
    records = records_of(TINY)
    model = make_recipe(TINY.recipe, TINY.options).build(records, rng=Stream.from_seed(0))
    tensors = sum(one.numel() for one in model.state_dict().values())
    assert scale.disk_of(tensors, 0, 100) == 4 * tensors + 900 + 3 * 4096


def test_extrapolations_follow_from_their_assumptions() -> None:
    rows = {(row["training"], row["audit"]): row for row in scale.extrapolated()}
    resnet = rows[scale.RESNET.name, "standard"]
    # 4.1 G multiply-adds, forward and twice that backward, 1.281 million images, 90 epochs, at 35 % of 312 Tflop/s.
    hours = 3 * 2 * 4.1e9 * 1.281e6 * 90 / (0.35 * 312e12) / 3600
    assert resnet["hoursPerModel"] == pytest.approx(hours, abs=0.01)
    assert resnet["acceleratorHoursLater"] == round(scale.STANDARD.own * scale.RESNET.hours)
    assert resnet["acceleratorHoursLater"] < resnet["acceleratorHoursFirst"]
    for row in scale.requests_a_day(10_000):
        assert row["acceleratorsOneBatchADay"] < row["acceleratorsEachAlone"]


@pytest.mark.skipif("CU_CERT_SLOW" not in os.environ, reason="trains 320 models of digits; set CU_CERT_SLOW=1")
def test_the_cost_model_is_near_what_it_predicts(tmp_path: Path) -> None:
    found = scale.measured(tmp_path)
    for what in ("seconds", "megabytes"):
        assert found[what]["predicted"] == pytest.approx(found[what]["measured"], rel=0.5)
