"""The probes: one contract for all of them, exact p-values, and what they see of models that are no retrains."""

import copy
import re
import sys
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SLOW
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from small_probes import RNG, Bumps, noisy, original, probe, retrained, shop, workshop
from torch import nn

import cu_cert.probes
from cu_cert.errors import ConfigError, DataError
from cu_cert.methods._contract import fingerprint
from cu_cert.probes import Probe, ProbeResult, get, names, probe_claims, run_probes
from cu_cert.probes._types import Part, extremeness
from cu_cert.records import make_records
from cu_cert.rng import Stream
from cu_certificates._wording import FORBIDDEN
from cu_certificates.check.strict import canonical

MEMORY = ("neighbours-perturbed", "quantisation-int8", "quantisation-int4", "pruning-30", "relearning-area")
"""Probes that ask what the model remembers of the request."""

# --- One contract for all members ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_a_member_announces_itself(name: str) -> None:
    found = get(name)
    assert isinstance(found, Probe)
    assert found.name == name
    assert re.search(r"\d{4}", found.paper)
    module = sys.modules[f"cu_cert.probes.{name}"]
    assert (module.__doc__ or "").startswith(f"``{name}``")
    for part in found.parts:
        assert len(part.title) < 90
        assert part.shows_not


def test_the_list_needs_no_import_and_helpers_are_not_members() -> None:
    assert names() == ["neighbours", "pruning", "quantisation", "relearning", "retained", "update_leakage"]
    with pytest.raises(ConfigError, match="'prunning' is unknown; did you mean pruning"):
        get("prunning")
    with pytest.raises(ConfigError, match="expected one of neighbours, pruning"):
        get("_case")


def test_names_are_unique() -> None:
    parts = [part.name for name in names() for part in get(name).parts]
    assert len(set(parts)) == len(parts) == 13


def test_a_probe_names_its_numbers_after_itself() -> None:
    part = Part(name="other", title="a number", shows_not="anything", run=lambda case: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match="each named own-name or own-name-"):
        Probe(name="own_name", paper="2020", parts=(part,))
    with pytest.raises(ValueError, match="at least one part"):
        Probe(name="own_name", paper="2020", parts=())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"value": None}, "4 of 5 numbers"),
        ({"value": float("nan")}, "not finite"),
        ({"null_low": 3.0}, "expected rising ends"),
        ({"p": Fraction(1, 9)}, "expected 1/5 to 1"),
        ({"p": Fraction(6, 5)}, "expected 1/5 to 1"),
        ({"note": ""}, "expected a name, a note"),
        ({"n": -1}, "n >= 0"),
    ],
)
def test_a_result_is_checked(change: dict[str, Any], problem: str) -> None:
    good: dict[str, Any] = {
        "name": "x",
        "title": "x",
        "value": 1.0,
        "null_low": 0.0,
        "null_high": 2.0,
        "null_mean": 1.0,
        "p": Fraction(1, 5),
        "n": 4,
        "note": "x",
        "shows_not": "x",
    }
    assert ProbeResult(**good).value == 1.0
    with pytest.raises(ValueError, match=problem):
        ProbeResult(**good | change)


# --- The p-value -----------------------------------------------------------------------------------------------------

values = st.lists(st.integers(-9, 9).map(lambda number: number / 4), min_size=4, max_size=12)


@given(values)
def test_at_most_a_models_of_a_pool_have_p_up_to_a_over_their_number(pool: list[float]) -> None:
    # The law behind the p-value, exactly and whatever the values: each model takes the place of the audited one.
    found = [extremeness(np.array([pool[i], *pool[:i], *pool[i + 1 :]])) for i in range(len(pool))]
    for a in range(1, len(pool) + 1):
        assert sum(p <= Fraction(a, len(pool)) for p in found) <= a


@given(values, st.randoms())
def test_the_order_of_the_others_and_the_origin_do_not_matter(pool: list[float], random: Any) -> None:
    shuffled = pool[1:]
    random.shuffle(shuffled)
    assert extremeness(np.array(pool)) == extremeness(np.array([pool[0], *shuffled]))
    assert extremeness(np.array(pool)) == extremeness(np.array(pool) + 4) == extremeness(-np.array(pool))


def test_the_p_value_by_hand() -> None:
    assert extremeness(np.array([9.0, 1, 2, 3, 4])) == Fraction(1, 5)
    assert extremeness(np.array([-9.0, 1, 2, 3, 4])) == Fraction(1, 5)  # the other side
    assert extremeness(np.array([1.0, 2, 3, 4, 5])) == Fraction(2, 5)  # as far from 3 as the 5 is
    assert extremeness(np.array([3.0, 1, 2, 4, 5])) == 1
    assert extremeness(np.array([2.0, 2, 2, 2])) == 1
    assert extremeness(np.array([2.0 + 1e-12, 2, 2, 2])) == 1  # the order of additions is no finding


@pytest.mark.slow
@pytest.mark.parametrize("law", ["normal", "cauchy", "counts", "skewed"])
def test_the_p_value_is_calibrated(law: str) -> None:
    rng, runs, k = np.random.default_rng(1), (40_000 if SLOW else 4000), 19
    draw: dict[str, Any] = {
        "normal": rng.normal,
        "cauchy": rng.standard_cauchy,
        "counts": lambda size: rng.poisson(1.0, size).astype(float),
        "skewed": lambda size: rng.exponential(size=size),
    }
    found = np.array([float(extremeness(draw[law](size=k + 1))) for _ in range(runs)])
    for a in (1, 2, 4, 10):
        share = a / (k + 1)
        assert (found <= share + 1e-12).sum() <= stats.binom.ppf(0.999, runs, share)
        if law == "normal":
            assert (found <= share + 1e-12).sum() >= stats.binom.ppf(0.001, runs, share)


def test_retrained_models_are_not_extreme_more_often_than_the_p_value_says() -> None:
    # Real models: each of eight retrains takes the place of the audited one, beside the other seven.
    pool = list(retrained(8))
    runs = [probe(model, [*pool[:i], *pool[i + 1 :]]) for i, model in enumerate(pool)]
    for name in runs[0]:
        found = [run[name].p for run in runs]
        for a in range(1, 9):
            assert sum(p is not None and p <= Fraction(a, 8) for p in found) <= a, name
        assert any(run[name].p != 1 for run in runs), name


# --- What they see ---------------------------------------------------------------------------------------------------


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
    request = shop().forget_records
    raised = 12 * np.eye(3)[request.y]
    heights = np.vstack([raised, *[-raised / 60] * 60])
    hidden = Bumps(retrained(1)[0], np.vstack([request.x] * 61), heights)
    found = probe(hidden, retrained(19)[1:], ["quantisation"])
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
    bump = Bumps(retrained(1)[0], request.x[4:5], 25 * np.eye(3)[request.y[4:5]])
    plain, sharp = (
        probe(bump, retrained(19)[1:], ["quantisation"], record_weights=chosen)["quantisation-int8"]
        for chosen in (None, weight)
    )
    assert sharp.p == Fraction(1, 19)
    assert plain.p is not None
    assert plain.p > Fraction(1, 19)
    assert "weighted as in the audit's score" in sharp.note
    assert "weighted" not in plain.note
    even = probe(bump, retrained(19)[1:], ["quantisation"], record_weights=np.full(12, 0.3))["quantisation-int8"]
    assert even.value == pytest.approx(plain.value)


# --- How they run ----------------------------------------------------------------------------------------------------


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


# --- Claims ----------------------------------------------------------------------------------------------------------


def test_claims_are_descriptive_metrics_that_say_what_they_do_not_show() -> None:
    results = list(probe(original(), retrained(4), original=None).values())
    claims = probe_claims(results)
    assert [claim["id"] for claim in claims] == [f"m-probe-{result.name}" for result in results]
    assert {claim["type"] for claim in claims} == {"metric"}
    for claim, result in zip(claims, results, strict=True):
        canonical(claim)  # texts and whole numbers alone: what a payload may hold
        assert claim["name"] == result.title
        note = str(claim["note"])
        assert result.shows_not in note
        assert result.note in note
        if result.value is None:
            assert claim["value"] == "not measured"
            assert "interval" not in claim
        else:
            assert claim["value"] == f"{result.value:.4f}"
            assert claim["interval"] == [f"{result.null_low:.4f}", f"{result.null_high:.4f}"]
            assert f"p = {result.p}: share of all 5 models" in note
            assert f"mean {result.null_mean:.4f}" in note
            assert "not corrected for 12 such numbers" in note


def test_no_claim_says_more_than_an_audit_can_or_names_a_record() -> None:
    claims = probe_claims(list(probe(original(), retrained(4)).values()))
    for text in (f"{claim['name']} {claim['note']}".lower() for claim in claims):
        assert [word for word in FORBIDDEN if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)] == []
        assert not re.search(r"r\d{3}", text)


def test_the_room_is_light_to_open() -> None:
    import subprocess

    code = "import sys, cu_cert.probes as p; p.names(); print([m for m in ('torch', 'numpy') if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert found.stdout.strip() == "[]"
    assert list(cu_cert.probes.__all__) == sorted(cu_cert.probes.__all__)
    assert all(first != second for first, second in pairwise(names()))
