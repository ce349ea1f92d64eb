"""The contract that every method keeps, and what each member states."""

import copy
import dataclasses
import json
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cu_cert.errors import DataError, MethodError
from cu_cert.methods import Task, Unlearned, UnlearningMethod, Work, get, names, split
from cu_cert.methods._contract import fingerprint, tensors
from cu_cert.methods._params import NoParams
from cu_cert.recipes import Recipe, make_recipe
from cu_cert.records import Records, make_records
from cu_cert.rng import Stream


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


N = 40
GENERATOR = np.random.default_rng(3)
LABELS = np.arange(N) % 3
FEATURES = GENERATOR.normal(size=(N, 4)) + LABELS[:, None]
IDS = [f"r{row:03d}" for row in range(N)]
RECORDS = make_records(IDS, FEATURES, LABELS, ["a", "b", "c"])
RECIPE = make_recipe("mlp", {"hidden": [6], "epochs": 3, "batch_size": 16})
ROOT = Stream.from_seed("methods")
TRAINED = RECIPE.train(RECORDS, rng=ROOT.child("train"))
FORGET = ("r002", "r007", "r019", "r033")
MEMBERS = names()


def _run(
    name: str,
    request: tuple[str, ...] = FORGET,
    rng: Stream = ROOT,
    options: Mapping[str, object] | None = None,
    records: Records = RECORDS,
) -> Unlearned:
    method = get(name)
    params = method.params(options or {})
    return method.unlearn(TRAINED, request, records, recipe=RECIPE, params=params, rng=rng)


def _bits(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.detach().numpy().tobytes() for name, tensor in tensors(model)}


def _shape(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors(model)}


# The contract, over all members


def test_the_members_are_the_files() -> None:
    assert MEMBERS == ["finetune", "identity", "npo", "retrain"]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_states_itself(name: str) -> None:
    method = get(name)
    assert method.name == name
    assert method.params({}) == method.params_type()
    assert dataclasses.is_dataclass(method.params_type)
    assert method.params_type.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert method.summary
    assert method.paper
    assert "\n" not in method.summary + method.paper


@pytest.mark.parametrize("name", MEMBERS)
def test_the_callers_model_keeps_every_bit_and_flag(name: str) -> None:
    trained = copy.deepcopy(TRAINED).train()
    before, bits = fingerprint(trained), _bits(trained)
    method = get(name)
    result = method.unlearn(trained, FORGET, RECORDS, recipe=RECIPE, params=method.params({}), rng=ROOT)
    assert fingerprint(trained) == before
    assert _bits(trained) == bits
    own = {tensor.data_ptr() for _, tensor in tensors(result.model)}
    assert own.isdisjoint({tensor.data_ptr() for _, tensor in tensors(trained)})


@pytest.mark.parametrize("name", MEMBERS)
def test_the_result_is_finite_has_the_same_shapes_and_evaluates(name: str) -> None:
    result = _run(name)
    assert _shape(result.model) == _shape(TRAINED)
    assert all(bool(torch.isfinite(tensor).all()) for _, tensor in tensors(result.model))
    assert not any(module.training for module in result.model.modules())
    assert all(tensor.grad is None for tensor in result.model.parameters())
    assert result.cost > 0


@pytest.mark.parametrize("name", MEMBERS)
def test_equal_streams_give_equal_bits_and_others_do_not(name: str) -> None:
    first = _run(name, rng=ROOT.child("a"))
    torch.manual_seed(99)
    assert _bits(_run(name, rng=ROOT.child("a")).model) == _bits(first.model)
    same = _bits(_run(name, rng=ROOT.child("b")).model) == _bits(first.model)
    assert same == (name == "identity")


@pytest.mark.parametrize("name", MEMBERS)
def test_the_order_of_ids_and_of_rows_means_nothing(name: str) -> None:
    turned = make_records(IDS[::-1], FEATURES[::-1], LABELS[::-1], ["a", "b", "c"])
    first = _run(name)
    assert _bits(_run(name, request=(*FORGET[::-1], FORGET[0]), records=turned).model) == _bits(first.model)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_world_is_left_as_it_was(name: str) -> None:
    state, generator = torch.random.get_rng_state(), np.random.get_state()
    with torch.no_grad():
        _run(name)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert str(np.random.get_state()) == str(generator)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("name", MEMBERS)
def test_requests_of_every_size_are_served_or_refused(name: str) -> None:
    for size in (1, 17, N - 1):
        assert _run(name, request=tuple(IDS[:size])).model is not None
    everyone_of_a_class = tuple(identifier for identifier, label in zip(IDS, LABELS, strict=True) if label == 1)
    assert _run(name, request=everyone_of_a_class).model is not None
    with pytest.raises(MethodError, match="names 0 records"):
        _run(name, request=())
    with pytest.raises(MethodError, match="names all 40 training records"):
        _run(name, request=tuple(IDS))
    with pytest.raises(DataError, match="unknown id 'nobody'"):
        _run(name, request=("nobody",))
    with pytest.raises(MethodError, match="is the string"):
        _run(name, request="r002")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MEMBERS)
def test_parameters_are_strict(name: str) -> None:
    method = get(name)
    with pytest.raises(MethodError, match=f"epoch: method {name} does not know it; expected"):
        method.params({"epoch": 1})
    with pytest.raises(MethodError, match="expected what METHOD"):
        method.unlearn(TRAINED, FORGET, RECORDS, recipe=RECIPE, params=get("npo").params_type, rng=ROOT)  # type: ignore[arg-type]
    for field in dataclasses.fields(method.params_type):
        for bad in ("x", True, None, float("nan"), float("inf"), 10**400, -1, [1]):
            with pytest.raises(MethodError, match=rf"\[unlearning\] {field.name} = "):
                method.params({field.name: bad})


@pytest.mark.parametrize("name", MEMBERS)
def test_every_parameter_is_echoed_without_floats_and_changes_the_result(name: str) -> None:
    method = get(name)
    small = {"batch_size": 16} if hasattr(method.params({}), "batch_size") else {}  # the default takes all rows at once
    first = _run(name, options=small)
    assert set(first.parameters) == {field.name for field in dataclasses.fields(method.params_type)}
    assert all(isinstance(value, str | int) for value in first.parameters.values())
    json.dumps(dict(first.parameters))
    for field in dataclasses.fields(method.params_type):
        value = getattr(method.params(small), field.name)
        other = value + 1 if isinstance(value, int) else value * 0.75
        changed = _run(name, options={**small, field.name: other})
        assert changed.parameters[field.name] == (other if isinstance(other, int) else str(other))
        assert _bits(changed.model) != _bits(first.model), field.name


@pytest.mark.parametrize("name", MEMBERS)
def test_a_method_that_does_not_declare_the_forget_set_does_not_depend_on_it(name: str) -> None:
    """Other contents under the forgotten ids change nothing unless the method declares that it reads them."""
    other = FEATURES.copy()
    rows = [IDS.index(identifier) for identifier in FORGET]
    other[rows] += 5.0
    swapped = make_records(IDS, other, LABELS, ["a", "b", "c"])
    first, second = _run(name), _run(name, records=swapped)
    reads = "forget" in get(name).needs
    assert (_bits(first.model) == _bits(second.model)) != reads
    assert (first.forget_reads > 0) == reads


@given(st.sets(st.sampled_from(IDS), min_size=1, max_size=N - 1), st.randoms(use_true_random=False))
def test_forget_and_retain_partition_the_records(ids: set[str], shuffle: "object") -> None:
    forget, retain = split(sorted(ids, key=lambda _: shuffle.random()), RECORDS)  # type: ignore[attr-defined]
    assert set(forget.ids) == ids
    assert sorted((*forget.ids, *retain.ids)) == IDS
    assert forget.classes == retain.classes == RECORDS.classes


# retrain


@given(
    st.sets(st.sampled_from(IDS), min_size=1, max_size=N - 1),
    st.integers(0, 2**32),
    st.permutations(range(N)),
)
@settings(deadline=None, max_examples=25)
def test_retrain_is_training_without_the_request_bit_for_bit(ids: set[str], seed: int, rows: list[int]) -> None:
    torch.set_num_threads(1)
    shuffled = make_records([IDS[row] for row in rows], FEATURES[rows], LABELS[rows], ["a", "b", "c"])
    rng = Stream.from_seed(seed)
    left = [row for row in range(N) if IDS[row] not in ids]
    alone = make_records([IDS[row] for row in left], FEATURES[left], LABELS[left], ["a", "b", "c"])
    result = _run("retrain", request=tuple(ids), rng=rng, records=shuffled)
    assert _bits(result.model) == _bits(RECIPE.train(alone, rng=rng))
    assert result.forget_reads == 0


class _Cached:
    """A recipe that does not retrain: it hands out a model made before, or parts of it."""

    def __init__(self, base: Recipe, model: nn.Module) -> None:
        self.base, self.model = base, model
        self.name, self.parameters, self.digest = base.name, base.parameters, base.digest

    def build(self, records: Records, *, rng: Stream) -> nn.Module:
        return self.model

    def train(self, records: Records, *, rng: Stream) -> nn.Module:
        return self.model

    def logits(self, model: nn.Module, records: Records) -> torch.Tensor:
        return self.base.logits(model, records)


def test_a_retrain_that_is_none_is_caught() -> None:
    partly = RECIPE.train(RECORDS, rng=ROOT.child("other"))
    partly[1].weight = TRAINED[1].weight  # type: ignore[index]
    view = RECIPE.train(RECORDS, rng=ROOT.child("other"))
    view[3].bias = nn.Parameter(TRAINED[3].bias.detach()[:])  # type: ignore[index]
    for model, named in ((TRAINED, "1.weight, 1.bias"), (partly, r"\(1.weight\)"), (view, r"\(3.bias\)")):
        with pytest.raises(MethodError, match=f"shares memory with the model before it.*{named}"):
            get("retrain").unlearn(TRAINED, FORGET, RECORDS, recipe=_Cached(RECIPE, model), params=NoParams(), rng=ROOT)


def test_a_retrain_of_another_shape_or_with_nan_is_caught() -> None:
    wide = make_recipe("mlp", {"hidden": [7], "epochs": 1}).train(RECORDS, rng=ROOT)
    broken = copy.deepcopy(TRAINED)
    next(broken.parameters()).detach().view(-1)[0] = float("nan")
    for model, message in ((wide, "other tensors than the model before it"), (broken, "1.weight is not finite")):
        with pytest.raises(MethodError, match=message):
            get("retrain").unlearn(TRAINED, FORGET, RECORDS, recipe=_Cached(RECIPE, model), params=NoParams(), rng=ROOT)


class _Noisy(_Cached):
    """A recipe that takes its randomness from the global generator."""

    def train(self, records: Records, *, rng: Stream) -> nn.Module:
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.add_(torch.randn(tensor.shape))
        return model


def test_randomness_from_the_global_generator_comes_from_the_stream_too() -> None:
    recipe = _Noisy(RECIPE, TRAINED)
    results = []
    for seed, rng in ((1, ROOT), (2, ROOT), (1, ROOT.child("other"))):
        torch.manual_seed(seed)
        state = torch.random.get_rng_state()
        results.append(get("retrain").unlearn(TRAINED, FORGET, RECORDS, recipe=recipe, params=NoParams(), rng=rng))
        assert torch.equal(torch.random.get_rng_state(), state)
    first, second, third = (_bits(result.model) for result in results)
    assert first == second != third


# identity, finetune, npo


def test_identity_returns_the_same_bits() -> None:
    result = _run("identity")
    assert _bits(result.model) == _bits(TRAINED)
    assert result.log == ()


def test_npo_lowers_the_likelihood_of_the_request_and_finetune_does_not_read_it() -> None:
    npo = _run("npo", options={"epochs": 5, "learning_rate": 0.05})
    assert npo.log[-1].forget_loss > _loss(TRAINED, FORGET) + 0.1
    assert npo.log[-1].forget_loss == pytest.approx(_loss(npo.model, FORGET))
    assert _run("finetune").forget_reads == 0


def _loss(model: nn.Module, ids: tuple[str, ...]) -> float:
    records = RECORDS.select(ids)
    return float(nn.functional.cross_entropy(RECIPE.logits(model, records), torch.from_numpy(records.y)))


# Planted methods that break the contract


def _direct(work: "object", needs: frozenset[str] = frozenset({"original"})) -> UnlearningMethod:
    return dataclasses.replace(get("identity"), name="planted", work=work, needs=needs)  # type: ignore[arg-type]


def test_a_method_gets_what_it_declares_and_nothing_more() -> None:
    for need in ("forget", "retain", "recipe", "original"):
        with pytest.raises(MethodError, match=f"asked for '{need}' but declares only nothing; add '{need}'"):
            _direct(lambda task, need=need: Work(model=getattr(task, need)), frozenset()).unlearn(
                TRAINED, FORGET, RECORDS, recipe=RECIPE, params=NoParams(), rng=ROOT
            )


def test_a_method_that_returns_or_edits_the_callers_model_is_caught() -> None:
    trained = copy.deepcopy(TRAINED)

    def edits(task: Task) -> Work:
        with torch.no_grad():
            next(trained.parameters()).add_(1.0)
        return Work(model=task.original)

    for work, message in ((lambda task: Work(model=trained), "shares memory"), (edits, "changed the caller's model")):
        with pytest.raises(MethodError, match=message):
            _direct(work).unlearn(trained, FORGET, RECORDS, recipe=RECIPE, params=NoParams(), rng=ROOT)


def test_a_statement_must_fit_its_kind() -> None:
    for change in ({"guarantee": "exact"}, {"level": "EXACT_IN_LAW"}, {"kind": "exact"}, {"kind": "sure"}):
        with pytest.raises(MethodError, match="method npo: kind"):
            dataclasses.replace(get("npo"), **change)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match="needs luck; expected forget, retain"):
        dataclasses.replace(get("npo"), needs=frozenset({"luck"}))  # type: ignore[arg-type]
