"""The five parts of the engine and its loop: what may move, what may not, and in what order records are read."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from cu_cert.engine.edit import Edit, edit_method
from cu_cert.engine.region import Region, full, only
from cu_cert.engine.rule import Pull, sum_rule
from cu_cert.engine.schedule import Schedule, sgd
from cu_cert.engine.subject import Batch, Subject, make_subject
from cu_cert.engine.term import Reference, Term, cross_entropy
from cu_cert.errors import ConfigError, MethodError
from cu_cert.methods import Epoch, Task, Unlearned, UnlearningMethod
from cu_cert.methods._contract import same_bits, tensors
from cu_cert.methods._params import NoParams
from cu_cert.methods.npo import npo_loss
from cu_cert.recipes import Recipe, make_recipe
from cu_cert.records import Records, make_records
from cu_cert.rng import Stream


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


LABELS = np.arange(48) % 3
FEATURES = np.random.default_rng(5).normal(size=(48, 4)) + LABELS[:, None]
RECORDS = make_records([f"r{row:03d}" for row in range(48)], FEATURES, LABELS, ["a", "b", "c"])
FORGET = ("r004", "r011", "r030", "r041", "r047")
RECIPE = make_recipe("mlp", {"hidden": [8], "epochs": 3, "batch_size": 16})
RNG = Stream.from_seed("engine")
LAST = ("3.weight", "3.bias")


@dataclass(frozen=True)
class NormRecipe:
    """A user's recipe with batch normalisation, a buffer outside the state dict, and no ``features`` method."""

    name: str = "norm"
    digest: str = "0" * 64
    parameters: dict[str, object] = field(default_factory=dict)

    def build(self, records: Records, *, rng: Stream) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.integer(63))
            model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
        model.register_buffer("hidden", torch.zeros(2), persistent=False)
        return model

    def train(self, records: Records, *, rng: Stream) -> nn.Module:
        model = self.build(records, rng=rng).train()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            optimiser.zero_grad()
            scores = model(torch.from_numpy(records.x))
            torch.autograd.backward(functional.cross_entropy(scores, torch.from_numpy(records.y)))
            optimiser.step()
        return model.eval()

    def logits(self, model: nn.Module, records: Records) -> torch.Tensor:
        with torch.no_grad():
            scores: torch.Tensor = model(torch.from_numpy(records.x))
        return scores


class Untrained(NormRecipe):
    def train(self, records: Records, *, rng: Stream) -> nn.Module:
        return self.build(records, rng=rng)


def _schedule(epochs: int = 1, learning_rate: float = 0.05, stop: Callable[[Epoch], bool] | None = None) -> Schedule:
    return Schedule(epochs=epochs, batch_size=16, optimiser=sgd(learning_rate, 0.9), stop=stop)


def _method(function: Callable[[Subject, NoParams], Edit]) -> UnlearningMethod:
    return edit_method("tried", function, NoParams, needs={"forget", "retain"}, paper="none", summary="none")


def _both(subject: Subject, region: Region, schedule: Schedule) -> Edit:
    terms = (
        Term(stream="forget", loss=npo_loss(1.0), role="forget"),
        Term(stream="retain", loss=cross_entropy, role="retain"),
    )
    return Edit(terms=terms, region=region, schedule=schedule)


def _run(method: UnlearningMethod, recipe: Recipe = RECIPE, trained: nn.Module | None = None) -> Unlearned:
    model = recipe.train(RECORDS, rng=RNG.child("train")) if trained is None else trained
    return method.unlearn(model, FORGET, RECORDS, recipe=recipe, params=NoParams(), rng=RNG.child("run"))


def _subject() -> Subject:
    task = Task(
        method="tried",
        needs=frozenset({"original", "forget", "retain"}),
        params=NoParams(),
        rng=RNG,
        _original=RECIPE.train(RECORDS, rng=RNG.child("train")),
        _forget=RECORDS.select(FORGET),
        _retain=RECORDS.without(FORGET),
        _recipe=RECIPE,
    )
    return make_subject(task)


def _moved(old: nn.Module, new: nn.Module) -> set[str]:
    after = dict(tensors(new))
    return {name for name, tensor in tensors(old) if not same_bits(tensor, after[name])}


# Subject


def test_an_epoch_is_one_pass_over_the_longest_stream_and_shorter_ones_cycle() -> None:
    subject = _subject()
    steps = list(subject.steps(["retain", "forget", "retain"], 4, 1))
    assert len(steps) == 11
    assert [len(step["retain"].y) for step in steps] == [4] * 10 + [3]
    assert [len(step["forget"].y) for step in steps] == [4, 1] * 5 + [4]
    retained = torch.cat([step["retain"].x for step in steps])
    assert sorted(map(tuple, retained.tolist())) == sorted(map(tuple, subject.streams["retain"].batch.x.tolist()))
    passes = [torch.cat([steps[turn]["forget"].x, steps[turn + 1]["forget"].x]) for turn in range(0, 10, 2)]
    expected = sorted(map(tuple, subject.streams["forget"].batch.x.tolist()))
    assert all(sorted(map(tuple, rows.tolist())) == expected for rows in passes)
    assert any(not torch.equal(passes[0], rows) for rows in passes[1:])


def test_batches_keep_rows_and_labels_together_and_differ_by_epoch() -> None:
    subject = _subject()
    first = next(subject.steps(["retain"], 43, 1))["retain"]
    second = next(subject.steps(["retain"], 43, 2))["retain"]
    rows = {tuple(row): int(label) for row, label in zip(RECORDS.x.tolist(), RECORDS.y, strict=True)}
    assert all(rows[tuple(row)] == int(label) for row, label in zip(first.x.tolist(), first.y, strict=True))
    assert not torch.equal(first.x, second.x)


def test_an_undeclared_stream_is_refused() -> None:
    def reads_forget(subject: Subject, params: NoParams) -> Edit:
        return _both(subject, full(subject), _schedule())

    method = edit_method("tried", reads_forget, NoParams, needs={"retain"}, paper="none", summary="none")
    with pytest.raises(MethodError, match="reads the stream 'forget', but the method declares only retain"):
        _run(method)


def test_a_method_without_streams_is_refused() -> None:
    with pytest.raises(MethodError, match="declares no stream"):
        edit_method("tried", lambda subject, params: None, NoParams, needs={"recipe"}, paper="", summary="")  # type: ignore[arg-type,return-value]


def test_the_reference_is_the_frozen_original() -> None:
    seen: list[torch.Tensor] = []

    def watching(out: torch.Tensor, batch: Batch, reference: Reference) -> torch.Tensor:
        frozen = reference(batch)
        assert not frozen.requires_grad
        seen.append((frozen - out).detach().abs().max())
        return cross_entropy(out, batch, reference)

    trained = RECIPE.train(RECORDS, rng=RNG.child("train"))
    before = RECIPE.logits(trained, RECORDS)
    subjects: list[Subject] = []

    def watch(subject: Subject, params: NoParams) -> Edit:
        subjects.append(subject)
        terms = (Term(stream="retain", loss=watching, role="retain"),)
        return Edit(terms=terms, region=full(subject), schedule=_schedule(epochs=2))

    _run(_method(watch), trained=trained)
    assert float(seen[0]) == 0.0
    assert float(seen[-1]) > 0.0
    assert torch.equal(RECIPE.logits(subjects[0].theta0, RECORDS), before)


def test_scores_of_a_wrong_shape_name_what_was_expected() -> None:
    class Odd(Untrained):
        def build(self, records: Records, *, rng: Stream) -> nn.Module:
            return nn.Sequential(nn.Linear(4, 3), nn.Unflatten(1, (3, 1)))

        def logits(self, model: nn.Module, records: Records) -> torch.Tensor:
            return super().logits(model, records)[:, :, 0]

    method = _method(lambda subject, params: _both(subject, full(subject), _schedule()))
    with pytest.raises(MethodError, match=r"shape \(5, 3, 1\).*expected class scores of shape \(5, 3\)"):
        _run(method, recipe=Odd())


def test_a_model_that_does_not_take_the_raw_array_asks_for_a_features_method() -> None:
    class Narrow(Untrained):
        def build(self, records: Records, *, rng: Stream) -> nn.Module:
            return nn.Linear(2, 3)

        def logits(self, model: nn.Module, records: Records) -> torch.Tensor:
            return functional.linear(self.halved(records), *model.parameters()).detach()

        def halved(self, records: Records) -> torch.Tensor:
            return torch.from_numpy(records.x[:, :2])

    class Prepared(Narrow):
        def features(self, records: Records) -> torch.Tensor:
            return self.halved(records)

    method = _method(lambda subject, params: _both(subject, full(subject), _schedule()))
    with pytest.raises(ConfigError, match=r"features of shape \(5, 4\).*needs a method features\(records\)"):
        _run(method, recipe=Narrow())
    assert _run(method, recipe=Prepared()).log


# Region


def test_only_the_named_parameters_move() -> None:
    trained = RECIPE.train(RECORDS, rng=RNG.child("train"))
    result = _run(_method(lambda subject, params: _both(subject, only(subject, LAST), _schedule())), trained=trained)
    assert _moved(trained, result.model) == set(LAST)


def test_full_moves_every_parameter_and_no_buffer() -> None:
    recipe = NormRecipe()
    trained = recipe.train(RECORDS, rng=RNG.child("train"))
    method = _method(lambda subject, params: _both(subject, full(subject), _schedule(epochs=2)))
    moved = _moved(trained, _run(method, recipe=recipe, trained=trained).model)
    assert moved <= {name for name, _ in trained.named_parameters()}
    assert {"0.weight", "1.weight", "1.bias", "4.weight", "4.bias"} <= moved


def test_full_leaves_parameters_alone_that_the_recipe_froze() -> None:
    trained = RECIPE.train(RECORDS, rng=RNG.child("train"))
    dict(trained.named_parameters())["1.weight"].requires_grad_(False)
    method = _method(lambda subject, params: _both(subject, full(subject), _schedule()))
    assert _moved(trained, _run(method, trained=trained).model) == {"1.bias", *LAST}
    trained.requires_grad_(False)
    with pytest.raises(MethodError, match="the region is empty"):
        _run(method, trained=trained)


def test_an_unknown_parameter_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(MethodError, match=r"'3.weigth'.*nearest: 3.weight"):
        only(_subject(), ["3.weigth"])
    with pytest.raises(MethodError, match="the region is empty"):
        only(_subject(), [])


@pytest.mark.parametrize("victim", ["0.mean", "1.weight"])
def test_a_planted_write_outside_the_region_is_caught(victim: str) -> None:
    def planted(subject: Subject, params: NoParams) -> Edit:
        def leaky(out: torch.Tensor, batch: Batch, reference: Reference) -> torch.Tensor:
            with torch.no_grad():
                dict(tensors(subject.model))[victim].add_(1e-6)
            return functional.cross_entropy(subject.model(batch.x), batch.y)

        terms = (Term(stream="retain", loss=leaky, role="retain"),)
        return Edit(terms=terms, region=only(subject, LAST), schedule=_schedule())

    with pytest.raises(MethodError, match=f"changed {victim} outside its region"):
        _run(_method(planted))


def test_a_planted_write_to_an_unsaved_buffer_or_to_running_statistics_is_caught() -> None:
    def planted(victim: str) -> Callable[[Subject, NoParams], Edit]:
        def function(subject: Subject, params: NoParams) -> Edit:
            def leaky(out: torch.Tensor, batch: Batch, reference: Reference) -> torch.Tensor:
                if victim == "hidden":
                    subject.model.get_buffer("hidden").add_(1.0)
                else:
                    subject.model.train()(batch.x)
                    subject.model.eval()
                return cross_entropy(out, batch, reference)

            terms = (Term(stream="retain", loss=leaky, role="retain"),)
            return Edit(terms=terms, region=full(subject), schedule=_schedule())

        return function

    with pytest.raises(MethodError, match="changed hidden outside its region"):
        _run(_method(planted("hidden")), recipe=NormRecipe())
    with pytest.raises(MethodError, match=r"changed 1\.running_mean, 1\.running_var.* outside its region"):
        _run(_method(planted("statistics")), recipe=NormRecipe())


def test_a_changed_sign_of_zero_is_a_changed_bit() -> None:
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert same_bits(torch.tensor(float("nan")), torch.tensor(float("nan")))
    assert not same_bits(torch.zeros(2), torch.zeros(2, dtype=torch.float64))


# Term, rule, schedule


def test_bad_parts_are_refused() -> None:
    for weight in (-1.0, math.inf, math.nan):
        with pytest.raises(MethodError, match="a forget term has weight"):
            Term(stream="forget", loss=cross_entropy, weight=weight, role="forget")
    with pytest.raises(MethodError, match="no terms"):
        Edit(terms=(), region=Region(("a",)), schedule=_schedule())
    for epochs, size in ((0, 4), (1, 0)):
        with pytest.raises(MethodError, match="expected at least 1 of each"):
            Schedule(epochs=epochs, batch_size=size, optimiser=sgd(0.1, 0.0))


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=2), min_size=1, max_size=4))
def test_the_sum_rule_adds_gradients_in_order(values: list[list[float]]) -> None:
    pulls = [Pull(role="retain", gradient=[torch.tensor(row[:1]), torch.tensor(row[1:])]) for row in values]
    expected = np.zeros(2, dtype=np.float32)
    for row in values:
        expected = expected + np.array(row, dtype=np.float32)
    assert [float(part) for part in sum_rule(pulls)] == expected.tolist()


def test_the_loop_takes_the_steps_of_a_loop_written_by_hand() -> None:
    trained = RECIPE.train(RECORDS, rng=RNG.child("train"))
    method = _method(lambda subject, params: _both(subject, full(subject), _schedule(epochs=2)))
    result = _run(method, trained=trained)
    forget, retain = RECORDS.select(FORGET), RECORDS.without(FORGET)
    frozen, model = RECIPE.train(RECORDS, rng=RNG.child("train")), RECIPE.train(RECORDS, rng=RNG.child("train"))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in (1, 2):
        order = RNG.child("run").child("order", "retain", epoch, 0).arrange(retain.marks)
        for step in range(3):
            turn = RNG.child("run").child("order", "forget", epoch, step).arrange(forget.marks)
            x, y = torch.from_numpy(forget.x)[turn], torch.from_numpy(forget.y)[turn]
            new = functional.log_softmax(model(x), dim=1)[torch.arange(5), y]
            old = functional.log_softmax(frozen(x), dim=1)[torch.arange(5), y].detach()
            npo = 2 * functional.softplus(new - old).mean()
            rows = order[16 * step : 16 * step + 16]
            ce = functional.cross_entropy(model(torch.from_numpy(retain.x)[rows]), torch.from_numpy(retain.y)[rows])
            optimiser.zero_grad()
            torch.autograd.backward(npo + ce)
            optimiser.step()
    after = dict(tensors(result.model))
    assert all(torch.allclose(tensor, after[name], rtol=1e-5, atol=1e-6) for name, tensor in tensors(model))
    assert result.forget_reads == 2 * 3 * len(FORGET)


def test_the_stop_hook_ends_the_run_and_the_log_tells_what_happened() -> None:
    method = _method(lambda s, _: _both(s, full(s), _schedule(epochs=9, stop=lambda epoch: epoch.epoch == 2)))
    result = _run(method)
    assert [entry.epoch for entry in result.log] == [1, 2]
    last = result.log[-1]
    assert set(last.objective) == {"forget", "retain"}
    for value, records in ((last.forget_loss, RECORDS.select(FORGET)), (last.retain_loss, RECORDS.without(FORGET))):
        scores = RECIPE.logits(result.model, records)
        assert value == float(functional.cross_entropy(scores, torch.from_numpy(records.y)))


def test_the_logged_objective_at_the_start_is_the_closed_form() -> None:
    # One step of one epoch: the loss is taken at theta0, where NPO is (2 / beta) ln 2.
    def one_step(subject: Subject, params: NoParams) -> Edit:
        terms = (Term(stream="forget", loss=npo_loss(0.5), weight=3.0, role="forget"),)
        return Edit(terms=terms, region=full(subject), schedule=_schedule())

    assert _run(_method(one_step)).log[0].objective == {"forget": pytest.approx(3.0 * 4.0 * math.log(2), rel=1e-6)}


# Runs that did nothing, and runs that did too much


@pytest.mark.parametrize("rate", [1e-30, 1e-12])
def test_a_run_that_moved_nothing_is_failed(rate: float) -> None:
    method = _method(lambda subject, params: _both(subject, full(subject), _schedule(learning_rate=rate)))
    with pytest.raises(MethodError, match="FAILED: its first epoch moved neither"):
        _run(method)


def test_a_run_whose_terms_weigh_nothing_is_failed() -> None:
    def weightless(subject: Subject, params: NoParams) -> Edit:
        terms = (Term(stream="forget", loss=npo_loss(1.0), weight=0.0, role="forget"),)
        return Edit(terms=terms, region=full(subject), schedule=_schedule())

    with pytest.raises(MethodError, match="FAILED"):
        _run(_method(weightless))


def test_a_run_that_moved_a_little_is_a_result() -> None:
    method = _method(lambda subject, params: _both(subject, only(subject, ["3.bias"]), _schedule(learning_rate=1e-4)))
    assert _run(method).log


def test_a_diverged_run_is_refused_with_the_epoch() -> None:
    method = _method(lambda subject, params: _both(subject, full(subject), _schedule(learning_rate=1e30)))
    with pytest.raises(MethodError, match=r"is not finite \(epoch 1\); the run diverged"):
        _run(method)
