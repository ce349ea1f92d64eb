"""The probes' numbers against second implementations, closed forms and values worked out by hand."""

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from small_probes import RNG, original, probe, retrained, shop, workshop
from torch import nn

from cu_attacks._roc import area
from cu_cert.probes._case import Case, against_others
from cu_cert.probes._weights import weights
from cu_cert.probes.neighbours import NEAREST, changed, near_rows
from cu_cert.probes.pruning import prune
from cu_cert.probes.quantisation import round_weights
from cu_cert.probes.relearning import MOST, STEPS, chosen, curves, shares
from cu_cert.probes.retained import lowest_slice, outside_range
from cu_cert.probes.update_leakage import centred, difference_scores
from cu_cert.records import Records, make_records
from cu_cert.rng import Stream


def phi(model: nn.Module, records: Records) -> np.ndarray:
    """Margins, record by record."""
    with torch.no_grad():
        scores = model(torch.from_numpy(records.x)).double().numpy()
    found = []
    for row, label in zip(scores, records.y, strict=True):
        others = [score for number, score in enumerate(row) if number != label]
        top = max(others)
        found.append(row[label] - top - np.log(sum(np.exp(score - top) for score in others)))
    return np.array(found)


def memory(model: nn.Module) -> float:
    """Mean margin on the request less that of held-out records of the class, record by record."""
    request, outside = shop().forget_records, shop().held_out
    inside, fresh = phi(model, request), phi(model, outside)
    return float(np.mean([inside[i] - fresh[outside.y == label].mean() for i, label in enumerate(request.y)]))


# --- Rounding and pruning --------------------------------------------------------------------------------------------


def test_rounding_by_hand() -> None:
    found = torch.tensor([[7.0, -6.6, 3.4], [2.5, -0.5, 0.2]])
    round_weights([found], 4)  # steps of 1; halves go to the even one
    assert found.tolist() == [[7.0, -7.0, 3.0], [2.0, -0.0, 0.0]]
    two = [torch.tensor([[1.27, 0.014]]), torch.tensor([[0.127, 0.014]])]
    round_weights(two, 8)  # each tensor has a grid of its own
    assert two[0].tolist() == [[pytest.approx(1.27), pytest.approx(0.01)]]
    assert two[1].tolist() == [[pytest.approx(0.127), pytest.approx(0.014)]]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_moves_by_half_a_step_at_most_and_only_once(bits: int) -> None:
    start = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    once = start.clone()
    round_weights([once], bits)
    step = float(start.abs().max()) / (2 ** (bits - 1) - 1)
    assert float((once - start).abs().max()) <= step / 2 + 1e-6
    assert len(torch.unique(once)) <= 2**bits - 1
    again = once.clone()
    round_weights([again], bits)
    assert torch.allclose(again, once, atol=1e-6)


def test_rounding_nothing() -> None:
    nothing = [torch.zeros(2, 2), torch.zeros(0, 3)]
    round_weights(nothing, 4)
    assert nothing[0].tolist() == [[0, 0], [0, 0]]


def test_pruning_by_hand() -> None:
    found = [torch.tensor([[0.1, -0.5], [2.0, 0.3]]), torch.tensor([[-0.2, 0.2, 1.0]])]
    prune(found, 50)  # 3 of 7: 0.1 and the two of 0.2
    assert found[0].tolist() == [[0, pytest.approx(-0.5)], [2.0, pytest.approx(0.3)]]
    assert found[1].tolist() == [[0, 0, 1.0]]
    ties = [torch.ones(1, 4)]
    prune(ties, 50)
    assert ties[0].tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("percent", [0, 30, 60, 90, 100])
def test_pruning_takes_that_share_and_the_smallest(percent: int) -> None:
    start = [torch.randn(13, 7, generator=torch.Generator().manual_seed(1)), torch.randn(5, 4, 3)]
    after = [tensor.clone() for tensor in start]
    prune(after, percent)
    before, left = (torch.cat([tensor.reshape(-1) for tensor in tensors]) for tensors in (start, after))
    gone = left == 0
    assert int(gone.sum()) == 151 * percent // 100
    assert torch.equal(left[~gone], before[~gone])
    if 0 < percent < 100:
        assert float(before[gone].abs().max()) <= float(before[~gone].abs().min())


def test_weights_are_what_has_two_dimensions_and_shared_ones_count_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = nn.Embedding(5, 4), nn.Linear(4, 5)
            self.out.weight = self.table.weight
            self.norm = nn.LayerNorm(4)
            self.codes = nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)
            self.register_buffer("mean", torch.ones(2, 2))

    model = Tied()
    assert [tuple(tensor.shape) for tensor in weights(model)] == [(5, 4)]
    with torch.no_grad():
        prune(weights(model), 50)
    assert model.out.weight is model.table.weight


@pytest.mark.parametrize("name", ["int8", "int4", "30", "90"])
def test_treated_models_by_a_second_implementation(name: str) -> None:
    def treat(model: nn.Module) -> nn.Module:
        found = copy.deepcopy(model)
        tensors = [found[1].weight.data, found[3].weight.data]  # type: ignore[index,union-attr]
        if name.startswith("int"):
            top = 127 if name == "int8" else 7
            for tensor in tensors:
                grid = np.linspace(-1, 1, 2 * top + 1) * float(tensor.abs().max())
                rows = tensor.double().numpy()
                nearest = grid[np.abs(rows[..., None] - grid).argmin(axis=-1)]
                tensor.copy_(torch.from_numpy(nearest))
        else:
            sizes = np.sort(np.concatenate([tensor.abs().numpy().ravel() for tensor in tensors]))
            for tensor in tensors:
                tensor[tensor.abs() < float(sizes[len(sizes) * int(name) // 100])] = 0
        return found

    probed = "quantisation" if name.startswith("int") else "pruning"
    found = probe(original(), retrained(4), [probed])[f"{probed}-{name}"]
    assert found.value == pytest.approx(memory(treat(original())), abs=1e-4)
    null = [memory(treat(model)) for model in retrained(4)]
    assert found.null_mean == pytest.approx(np.mean(null), abs=1e-4)
    assert found.null_low == pytest.approx(np.quantile(null, 0.025), abs=1e-4)
    assert found.null_high == pytest.approx(np.quantile(null, 0.975), abs=1e-4)
    assert f"the audited model has {memory(original()):.4f}" in found.note


# --- Neighbours ------------------------------------------------------------------------------------------------------


def test_neighbours_by_hand() -> None:
    retain = make_records(
        [f"n{row}" for row in range(7)],
        [[0.0, 0], [1, 0], [2, 0], [3, 0], [9, 0], [0.1, 0], [0.2, 0]],
        [0, 0, 0, 0, 0, 1, 1],
        ["a", "b"],
    )
    request = make_records(["f0", "f1"], [[0.4, 5.0], [8.0, 5.0]], [0, 0], ["a", "b"])
    # The second feature is constant among those that stay: it must not be divided by 0. Class 1 is no neighbour.
    assert near_rows(request, retain).tolist() == [True, True, True, True, True, False, False]
    assert near_rows(request.select(["f0"]), retain).tolist() == [True, True, True, False, False, False, False]


def test_features_count_in_their_own_spread() -> None:
    # By plain distance r0 is nearest; in spreads, the large feature counts for little.
    x = [[0.0, 1.0], [900.0, 0.0], [2000.0, 0.0], [-2000.0, 1.0], [1500.0, 1.0]]
    retain = make_records([f"n{row}" for row in range(5)], x, [0] * 5, ["a"])
    near = near_rows(make_records(["f0"], [[100.0, 0.0]], [0], ["a"]), retain)
    scaled = np.array(x) / np.std(x, axis=0)
    order = np.argsort(((scaled - np.array([100.0, 0.0]) / np.std(x, axis=0)) ** 2).sum(axis=1))
    assert set(np.flatnonzero(near)) == set(order[:NEAREST])
    assert near[1]


def test_neighbours_by_a_second_implementation() -> None:
    request, retain = shop().forget_records, shop().retain
    spread = retain.x.astype(np.float64).std(axis=0)
    near = set()
    for x, label in zip(request.x, request.y, strict=True):
        rows = [row for row in range(len(retain)) if retain.y[row] == label]
        near |= set(sorted(rows, key=lambda row: float((((retain.x[row] - x) / spread) ** 2).sum()))[:3])
    values = []
    for model in (original(), *retrained(4)):
        margins = phi(model, retain)
        far = [row for row in range(len(retain)) if row not in near]
        base = {label: np.mean([margins[row] for row in far if retain.y[row] == label]) for label in range(3)}
        values.append(np.mean([margins[row] - base[retain.y[row]] for row in near]))
    found = probe(original(), retrained(4), ["neighbours"])["neighbours-retained"]
    assert found.value == pytest.approx(values[0], abs=1e-5)
    assert found.null_mean == pytest.approx(np.mean(values[1:]), abs=1e-5)
    assert f"on the {len(near)} retained records" in found.note


def test_changed_records() -> None:
    train = make_records(
        ["a", "b", "c", "d"], [[0.5, 1, 3.25], [1.5, 0, 3.25], [2.5, 1, 3.25], [3.5, 0, 3.25]], [0] * 4, ["k"]
    )
    noise = np.array([[1.0, 1, 1], [0.1, 1, 1], [-9, 1, 1], [9, 1, 1]])
    found = changed(train, train, noise)
    spread = np.std([0.5, 1.5, 2.5, 3.5])
    # Column 0 moves in its spread and stays in its range; column 1 is whole, column 2 never varies.
    assert found.x[:, 0] == pytest.approx([0.5 + spread, 1.5 + 0.1 * spread, 0.5, 3.5])
    assert (found.x[:, 1:] == train.x[:, 1:]).all()
    assert (found.ids, found.y.tolist()) == (train.ids, [0] * 4)
    # A record beyond the range of those trained on is not pulled back into it.
    far = make_records(["z"], [[7.5, 1, 3.25]], [0], ["k"])
    assert changed(far, train, np.zeros((1, 3))).x[0, 0] == 7.5


def test_copies_are_a_little_like_their_records() -> None:
    found = probe(original(), retrained(4), ["neighbours"])["neighbours-perturbed"]
    assert found.value == pytest.approx(memory(original()), rel=0.1)
    assert found.value != pytest.approx(memory(original()), abs=1e-9)


# --- Retained records ------------------------------------------------------------------------------------------------


def test_distance_from_the_others() -> None:
    numbers = np.array([[5.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    found = against_others(numbers)
    assert found[0, 0] == pytest.approx((5 - 2) / 1)
    assert found[1, 0] == pytest.approx((1 - 10 / 3) / np.std([5, 2, 3], ddof=1))
    assert (found[:, 1] == 0).all()  # models that a recipe trains to the same bits


def test_the_worst_slice() -> None:
    means = np.array([[5.0, -4.0], [1.0, 0.0], [2.0, 1.0], [3.0, 2.0]])
    assert lowest_slice(means)[0] == pytest.approx((-4 - 1) / 1)


def test_records_outside_by_a_second_implementation() -> None:
    rng = np.random.default_rng(4)
    margins = rng.normal(size=(9, 60)) * rng.uniform(0.5, 3, 60)
    margins[0, :7] -= 30
    margins[3, 8] += 60
    expected = []
    for i, row in enumerate(margins):
        others = np.delete(margins, i, axis=0)
        p = np.array(
            [
                2 * stats.t.sf(abs(row[r] - others[:, r].mean()) / (others[:, r].std(ddof=1) * (1 + 1 / 8) ** 0.5), 7)
                for r in range(60)
            ]
        )
        expected.append(max((k for k in range(1, 61) if np.sort(p)[k - 1] <= 0.1 * k / 60), default=0))
    assert outside_range(margins).tolist() == expected
    assert expected[0] >= 7
    assert expected[3] >= 1


def test_records_outside_are_rare_among_equal_models() -> None:
    # Under the null, Benjamini and Hochberg report anything at all in at most 10 % of models (independent records).
    rng = np.random.default_rng(5)
    alarms = sum(int(outside_range(rng.normal(size=(9, 40)))[0] > 0) for _ in range(400))
    assert alarms <= stats.binom.ppf(0.999, 400, 0.1)
    assert alarms >= stats.binom.ppf(0.001, 400, 0.1)


def test_retained_margins_by_a_second_implementation() -> None:
    found = probe(original(), retrained(4), ["retained"])
    retain = shop().retain
    margins = [phi(model, retain) for model in (original(), *retrained(4))]
    assert found["retained-margin"].value == pytest.approx(margins[0].mean(), abs=1e-5)
    assert found["retained-margin"].null_mean == pytest.approx(np.mean([row.mean() for row in margins[1:]]), abs=1e-5)
    slices = np.array([[row[retain.y == label].mean() for label in range(3)] for row in margins])
    worst = ((slices[0] - slices[1:].mean(axis=0)) / slices[1:].std(axis=0, ddof=1)).min()
    assert found["retained-worst-class"].value == pytest.approx(worst, abs=1e-3)
    # The range comes from the retrained models alone, so the audited model cannot widen or narrow it.
    same = probe(retrained(5)[-1], retrained(4), ["retained"])
    for name, result in found.items():
        assert (same[name].null_low, same[name].null_high) == (result.null_low, result.null_high)


# --- Update leakage --------------------------------------------------------------------------------------------------


def test_difference_scores_see_what_went_down() -> None:
    rng = np.random.default_rng(2)
    after = rng.normal(size=(6, 40))
    member = np.arange(40) < 10
    before = after[0] + 5 * member
    scores = difference_scores(before, after)
    assert scores.shape == (6, 40)
    assert area(scores[0], member, name="AUC").value == 1.0
    unchanged = difference_scores(after[0], after)[0]
    assert len(set(unchanged)) == 1
    assert unchanged[0] == pytest.approx(np.log(0.5))


def test_difference_scores_rank_as_the_difference_in_spreads() -> None:
    # With one spread for all records the attack ranks by the difference alone.
    after = np.tile(np.array([[-1.0], [0.0], [1.0]]), 8)
    before = np.array([3.0, -2, 0.5, 9, -7, 0.1, 4, 2])
    assert np.argsort(difference_scores(before, after)[1]).tolist() == np.argsort(before).tolist()
    # A record on which models differ much needs a larger difference.
    wide = np.column_stack([np.linspace(-1, 1, 20), np.linspace(-9, 9, 20)])
    scores = difference_scores(np.array([2.0, 2.0]), np.vstack([wide, [[0.0, 0.0]]]))[-1]
    assert scores[0] > scores[1]


def test_margins_are_centred_by_class_on_both_sides() -> None:
    classes = ["a", "b", "c"]
    request = make_records(["f0", "f1"], np.zeros((2, 1)), [0, 1], classes)
    fresh = make_records(["h0", "h1", "h2"], np.zeros((3, 1)), [0, 0, 2], classes)
    found = centred(np.array([[10.0, 20.0, 1.0, 3.0, 5.0]]), request, fresh)
    # Class 1 has no held-out record: the mean of all three stands in.
    assert found.tolist() == [[10 - 2, 20 - 3, 1 - 2, 3 - 2, 5 - 5]]


# --- Relearning ------------------------------------------------------------------------------------------------------


def test_relearning_by_a_second_implementation() -> None:
    place = workshop(recipe="logistic", options={"epochs": 3, "batch_size": 30, "learning_rate": 0.1})
    models = [place.recipe.train(place.retain, rng=Stream.from_seed(number)) for number in range(5)]
    x, y = place.forget_records.x.astype(np.float64), place.forget_records.y

    def state(model: nn.Module) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        standard, layer = model[0], model[1]  # type: ignore[index]
        rows = (x - standard.mean.numpy()) / standard.scale.numpy()  # type: ignore[union-attr,operator]
        return rows, layer.weight.detach().double().numpy().copy(), layer.bias.detach().double().numpy().copy()  # type: ignore[union-attr,operator]

    def loss(rows: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        scores = rows @ w.T + b
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        share = odds / odds.sum(axis=1, keepdims=True)
        pull = (share - np.eye(3)[y]) / len(y)
        return float(-np.log(share[np.arange(len(y)), y]).mean()), pull.T @ rows, pull.sum(axis=0)

    lengths = []
    for model in models:
        value, over_w, over_b = loss(*state(model))
        lengths.append(value / ((over_w**2).sum() + (over_b**2).sum()))
    length = 0.1 * np.median(lengths)
    expected = []
    for model in models:
        rows, w, b = state(model)
        curve = []
        for _ in range(STEPS):
            value, over_w, over_b = loss(rows, w, b)
            curve.append(value)
            w, b = w - length * over_w, b - length * over_b
        expected.append([*curve, loss(rows, w, b)[0]])
    case = Case(place, models[0], models[1:], None, RNG)
    assert curves(case) == pytest.approx(np.array(expected), rel=1e-4)
    found = probe(models[0], models[1:], ["relearning"], shop=place)
    assert found["relearning-area"].value == pytest.approx(np.mean(expected[0]), rel=1e-4)
    assert found["relearning-left"].value == pytest.approx(np.mean(expected[0][1:]) / expected[0][0], rel=1e-4)
    assert (np.diff(expected, axis=1) < 0).all(), "the common step length makes every model learn"


def test_shares_of_the_first_loss() -> None:
    found = shares(np.array([[4.0, 3.0, 1.0], [0.0, 0.0, 0.0], [1e-30, 90.0, 90.0]]))
    assert found.tolist() == [0.5, 1.0, 100.0]


def test_a_run_that_diverges_stays_at_the_cap() -> None:
    class Steep(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.tensor([[factor]]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.exp(100 * self.factor) * x[:, :3]

    models = [Steep(factor) for factor in (0.6, -0.5, -0.5, -0.5)]
    found = curves(Case(shop(), models[0], models[1:], None, RNG))
    assert np.isfinite(found).all()
    assert found.max() == 100.0


def test_a_large_request_is_relearned_in_part() -> None:
    n = MOST + 60
    rng = np.random.default_rng(0)
    records = make_records(
        [f"q{row:04d}" for row in range(2 * n)], rng.normal(size=(2 * n, 24)), np.arange(2 * n) % 3, ["a", "b", "c"]
    )
    case = Case(workshop(records, forget=n), original(), retrained(3), None, RNG)
    part = chosen(case)
    assert len(part) == MOST
    assert set(part.ids) <= set(case.workshop.forget)
    other = Case(case.workshop, original(), retrained(3), None, Stream.from_seed("another"))
    assert set(chosen(other).ids) != set(part.ids)
