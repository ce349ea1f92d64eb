"""Attacks from models of random halves: a naive second reading, calibration, dependence of pairs, planted faults."""

import hashlib
import math
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import pytest
from scipy import stats

from cu_attacks._types import BoolArray, FloatArray
from cu_cert._shadow_panel import LARGEST, _attacks, centred, never_in, shadow_panel, tried_areas
from cu_cert.errors import DataError
from cu_cert.fleet.plan import Half
from cu_cert.shadows import Shadows
from cu_cert.signals import Signals
from cu_certificates._wording import LANGUAGES, wording

SEED = "ab" * 32


def half_of(pair: int, name: str) -> bool:
    """Whether a record is in the first half of a pair, read off the definition."""
    key = bytes.fromhex(SEED) + pair.to_bytes(8, "big")
    return hashlib.blake2b(name.encode(), key=key, digest_size=1).digest()[0] % 2 == 0


@dataclass(frozen=True)
class World:
    """Models whose margins are drawn: hardness and memory of each record, what each lends every other, noise.

    The influence of other records makes the two models of a pair depend on one another, as training does: what one has
    seen, the other has not.
    """

    hardness: FloatArray
    memory: FloatArray
    influence: FloatArray

    @classmethod
    def drawn(cls, records: int, rng: np.random.Generator, *, memory: float = 1.0) -> "World":
        influence = rng.normal(size=(records, records)) / math.sqrt(records)
        np.fill_diagonal(influence, 0)
        return cls(rng.normal(2, 2, records), memory * rng.exponential(1, records), 1.5 * influence)

    def margins(self, seen: BoolArray, rng: np.random.Generator) -> FloatArray:
        """Margins of one model for each row of ``seen``; each is surer of everything by some amount."""
        sure = rng.normal(0, 0.5, (len(seen), 1))
        # 2 seen - 1: a model of many records differs in level from one of few, which centring must take off.
        shift = (2.0 * seen - 1) @ self.influence.T
        return self.hardness + self.memory * seen + shift + sure + rng.normal(0, 0.5, seen.shape)


def halves(records: int, pairs: int, rng: np.random.Generator) -> BoolArray:
    first = rng.random((pairs, records)) < 0.5
    return np.stack([first, ~first], axis=1).reshape(2 * pairs, records)


def fleet(world: World, pairs: int, rng: np.random.Generator) -> Shadows:
    inside = halves(len(world.hardness), pairs, rng)
    return shadows_of(world.margins(inside, rng), inside)


def shadows_of(margin: FloatArray, inside: BoolArray) -> Shadows:
    return Shadows(margin, inside, tuple(f"{number:064x}" for number in range(len(margin))), len(margin))


def signals(margin: FloatArray) -> Signals:
    return Signals(margin, margin > 0)


# --- A naive second reading ------------------------------------------------------------------------------------------


def naive(own: list[float], margin: list[list[float]], inside: list[list[bool]], forget: int) -> dict[str, list[float]]:
    """The attacks as their papers say them, in loops over records and models."""
    records, models = range(len(own)), range(len(margin))

    def clip(value: float) -> float:
        return max(-LARGEST, min(LARGEST, value))

    out = {x: [m for m in models if not inside[m][x]] for x in records}
    within = {x: [m for m in models if inside[m][x]] for x in records}
    usual = {x: fmean(clip(margin[m][x]) for m in out[x]) for x in records}
    never = {m: [x for x in records if x >= forget and not inside[m][x]] for m in models}
    above = {m: fmean(clip(margin[m][x]) - usual[x] for x in never[m]) for m in models}
    phi = [clip(one) for one in own]
    own_above = fmean(phi[x] - usual[x] for x in records if x >= forget)
    phi = [one - own_above for one in phi]

    def law(x: int, who: dict[int, list[int]]) -> tuple[float, float]:
        values = [clip(margin[m][x]) - above[m] for m in who[x]]
        middle = fmean(values)
        return middle, sum((value - middle) ** 2 for value in values)

    found: dict[str, list[float]] = {"lira-online": [], "lira-halves": []}
    spread = {}
    for name, who in (("in", within), ("out", out)):
        spread[name] = math.sqrt(sum(law(x, who)[1] for x in records) / sum(len(who[x]) - 1 for x in records))
    for x in records:
        densities = [stats.norm.logpdf(phi[x], law(x, who)[0], spread[name]) for name, who in
                     (("in", within), ("out", out))]  # fmt: skip
        found["lira-online"].append(float(densities[0] - densities[1]))
        found["lira-halves"].append(float(stats.norm.logcdf((phi[x] - law(x, out)[0]) / spread["out"])))

    def p(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    population = [x for x in records if x >= forget and (x - forget) % 2 == 0]
    scored = [x for x in records if x not in population]
    around = {z: fmean(p(margin[m][z]) for m in models) for z in population}

    def out_p(x: int) -> float:
        return fmean(p(margin[m][x]) for m in out[x])

    def both_p(x: int) -> float:
        return (fmean(p(margin[m][x]) for m in within[x]) + out_p(x)) / 2

    def offline_p(x: int) -> float:
        return (1.3 * out_p(x) + 0.7) / 2

    base = {"rmia-online": (both_p, around.__getitem__), "rmia-halves": (offline_p, offline_p)}
    for name, (bar, bar_z) in base.items():
        found[name] = [fmean(float(p(own[x]) / bar(x) > p(own[z]) / bar_z(z)) for z in population) for x in scored]
    return found


def close(one: list[float], other: FloatArray) -> bool:
    return len(one) == len(other) and bool(np.allclose(one, other, rtol=1e-9, atol=1e-9))


@pytest.mark.parametrize("seed", range(4))
def test_every_score_agrees_with_a_naive_reading(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"record {number}" for number in range(30)]
    world = World.drawn(30, rng)
    first = np.array([[half_of(pair, name) for name in names] for pair in range(5)])
    inside = np.stack([first, ~first], axis=1).reshape(10, 30)
    margin = world.margins(inside, rng)
    margin[3, 7], margin[8] = 2000.0, margin[8] * 30  # one that went astray
    own = world.margins(np.arange(30)[None] < 9, rng)[0]
    wanted = naive(own.tolist(), margin.tolist(), inside.tolist(), 9)
    found = {one.name: one.values for one in _attacks(own, shadows_of(margin, inside), 9)}
    assert set(found) == {*wanted, "lira-online-nig"}
    for name, values in wanted.items():
        assert close(values, found[name]), name
    mask = np.array([[Half(SEED, pair, side).holds(name) for name in names] for pair in range(5) for side in (0, 1)])
    assert (mask == inside).all()


# --- Faults that must not go unseen ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> tuple[World, Shadows, FloatArray, FloatArray]:
    """A world that remembers much, 32 shadows, a model that was trained on the request and one that was not."""
    rng = np.random.default_rng(5)
    world = World.drawn(400, rng, memory=3)
    shadows = fleet(world, 16, rng)
    seen = np.zeros((2, 400), dtype=bool)
    seen[0, :150] = True
    original, retrained = world.margins(seen, rng)
    return world, shadows, original, retrained


def area(own: FloatArray, shadows: Shadows, name: str = "lira-online") -> float:
    claims, _ = shadow_panel(signals(own), shadows, 150)
    return next(float(str(claim["value"])) for claim in claims if claim["id"] == f"m-auc-{name}")


def test_the_attacks_see_what_is_there_and_nothing_else(trained: tuple[World, Shadows, FloatArray, FloatArray]) -> None:
    _, shadows, original, retrained = trained
    for name in ("lira-online", "lira-online-nig", "lira-halves", "rmia-online", "rmia-halves"):
        assert area(original, shadows, name) > 0.75, name
        assert 0.4 < area(retrained, shadows, name) < 0.6, name
    assert fmean(tried_areas(shadows, 150)) > 0.75


def gap(shadows: Shadows) -> float:
    """How much surer of a record models that were trained on it are."""
    within, out = never_in(shadows.margin, ~shadows.inside), never_in(shadows.margin, shadows.inside)
    return float((within - out).mean())


def test_a_swapped_mask_is_seen(trained: tuple[World, Shadows, FloatArray, FloatArray]) -> None:
    _, shadows, original, _ = trained
    swapped = replace(shadows, inside=~shadows.inside)
    assert gap(shadows) > 1
    assert gap(swapped) == -gap(shadows)
    for name in ("lira-online", "lira-online-nig"):
        assert area(original, swapped, name) < 0.25
    # A swap of all is the same for the judge and the judged, so trying the attack out on shadows cannot show it.
    assert fmean(tried_areas(swapped, 150)) > 0.75


def test_shifted_columns_are_seen(trained: tuple[World, Shadows, FloatArray, FloatArray]) -> None:
    _, shadows, original, _ = trained
    shifted = replace(shadows, margin=np.roll(shadows.margin, 1, axis=1))
    assert abs(fmean(tried_areas(shifted, 150)) - 0.5) < 0.1
    assert area(original, shifted) < area(original, shadows) - 0.1


def test_halves_trained_on_the_wrong_side_are_seen(trained: tuple[World, Shadows, FloatArray, FloatArray]) -> None:
    world, shadows, original, _ = trained
    margin = world.margins(~shadows.inside, np.random.default_rng(6))
    wrong = replace(shadows, margin=margin)
    assert gap(wrong) < -1
    assert area(original, wrong) < 0.25
    one = replace(shadows, margin=np.concatenate([margin[:2], shadows.margin[2:]]))
    areas = tried_areas(one, 150)
    assert max(areas[:2]) < 0.3
    assert min(areas[2:]) > 0.7


def test_shadows_must_be_pairs_of_complementary_halves(trained: tuple[World, Shadows, FloatArray, FloatArray]) -> None:
    _, shadows, _, _ = trained
    inside = shadows.inside.copy()
    inside[4, 17] = ~inside[4, 17]
    with pytest.raises(DataError, match="a record is not in exactly one model of each pair"):
        replace(shadows, inside=inside)
    with pytest.raises(DataError, match="two of them are the same model"):
        replace(shadows, models=(shadows.models[1], *shadows.models[1:]))
    with pytest.raises(DataError, match="31 models; expected equal shapes and an even number"):
        replace(shadows, models=shadows.models[1:])


def test_one_model_that_went_astray_hides_nothing(trained: tuple[World, Shadows, FloatArray, FloatArray]) -> None:
    _, shadows, original, _ = trained
    margin = shadows.margin.copy()
    margin[3] *= 1000
    assert area(original, replace(shadows, margin=margin)) > area(original, shadows) - 0.03


# --- Who may judge, and how many there must be -----------------------------------------------------------------------


def test_a_model_that_fits_the_attack_is_not_judged_by_it(
    trained: tuple[World, Shadows, FloatArray, FloatArray],
) -> None:
    _, shadows, _, _ = trained
    others = shadows.without([shadows.models[5], "f" * 64])
    assert others.models == shadows.models[:4] + shadows.models[6:]
    assert (others.margin == np.delete(shadows.margin, (4, 5), axis=0)).all()
    assert (others.inside == np.delete(shadows.inside, (4, 5), axis=0)).all()
    assert (len(others), others.planned) == (30, 32)
    claims, _ = shadow_panel(signals(shadows.margin[5]), others, 150)
    assert "; of 32 planned ones, without the pairs of which" in str(claims[0]["note"])
    assert shadows.without(["f" * 64]) is shadows


def test_each_shadow_is_tried_by_the_other_pairs_alone(
    trained: tuple[World, Shadows, FloatArray, FloatArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cu_cert import _shadow_panel

    _, shadows, _, _ = trained
    pairs: list[tuple[int, Shadows]] = []

    def watched(own: FloatArray, seen: BoolArray, others: Shadows, forget: int) -> tuple[FloatArray, FloatArray]:
        row = next(row for row in range(32) if own is not None and (own == shadows.margin[row]).all())
        assert (seen == shadows.inside[row]).all()
        pairs.append((row, others))
        return centred(own, seen, others, forget)

    monkeypatch.setattr(_shadow_panel, "centred", watched)
    tried_areas(shadows, 150)
    assert [row for row, _ in pairs] == list(range(16))
    for row, others in pairs:
        own = shadows.models[row - row % 2 : row - row % 2 + 2]
        assert set(others.models) == set(shadows.models) - set(own)


@pytest.mark.parametrize("pairs", [0, 1])
def test_too_few_shadows_show_nothing(pairs: int, trained: tuple[World, Shadows, FloatArray, FloatArray]) -> None:
    _, shadows, original, _ = trained
    few = shadows.pairs(range(pairs))
    assert not few.enough
    assert shadow_panel(signals(original), few, 150) == ([], None)
    assert few.lines() == [
        f"{32 - 2 * pairs} of 32 shadows failed, or the other half of their pair did: the attacks that need them are "
        "left out"
    ]


def test_two_pairs_are_enough(trained: tuple[World, Shadows, FloatArray, FloatArray]) -> None:
    _, shadows, original, _ = trained
    claims, plot = shadow_panel(signals(original), shadows.pairs([0, 1]), 150)
    assert "m-auc-lira-online-shadows" not in {claim["id"] for claim in claims}  # one pair less is too few
    assert plot is not None
    assert shadows.pairs([0, 1]).lines() == [
        "28 of 32 shadows failed, or the other half of their pair did: 4 others serve the attacks"
    ]


# --- Statistics ------------------------------------------------------------------------------------------------------


def test_the_interval_covers_one_half_for_models_that_never_saw_the_request() -> None:
    """200 worlds, each with its request, its held-out records, its shadows and a model trained without the request."""
    missed = dict.fromkeys(("lira-online", "lira-online-nig", "lira-halves", "rmia-online", "rmia-halves"), 0)
    for seed in range(200):
        rng = np.random.default_rng(1000 + seed)
        world = World.drawn(150, rng)
        shadows = fleet(world, 6, rng)
        # Of 150 records the last 50 were trained on and are asked about by nobody.
        own = world.margins(np.arange(150)[None] >= 100, rng)[0, :100]
        asked = Shadows(shadows.margin[:, :100], shadows.inside[:, :100], shadows.models, 12)
        for claim in shadow_panel(signals(own), asked, 40)[0]:
            name = str(claim["id"]).removeprefix("m-auc-")
            if name in missed:
                low, high = (float(end) for end in claim["interval"])  # type: ignore[attr-defined]
                missed[name] += not low <= 0.5 <= high
    # 5 % of 200 and three standard deviations.
    assert max(missed.values()) <= 19, missed


def test_scores_of_a_fresh_half_model_are_calibrated() -> None:
    """What a fresh model of a random half says has the fitted laws: its own records the one, the others the other."""
    found: dict[str, list[float]] = {"in": [], "out": []}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        world = World.drawn(200, rng)
        shadows = fleet(world, 16, rng)
        known = rng.random(200) < 0.5
        phi, margins = centred(world.margins(known[None], rng)[0], known, shadows, 60)
        out = never_in(margins, shadows.inside)
        within = never_in(margins, ~shadows.inside)
        for kind, law, chosen in (("in", within, known), ("out", out, ~known)):
            spread = math.sqrt(float(law.var(axis=0, ddof=1).mean()))
            found[kind].append(float((((phi - law.mean(axis=0)) / spread)[chosen] ** 2).mean()))
    for values in found.values():
        # One more value differs from the mean of 16 by a variance of 1 + 1/16.
        assert fmean(values) == pytest.approx(17 / 16, abs=3 * float(np.std(values)) / math.sqrt(40) + 0.02)


def test_pairs_sharpen_the_midpoint_and_leave_spreads_unbiased() -> None:
    """Both models of a pair depend on one another; neither kind's variance does, and each record keeps its models."""
    rng = np.random.default_rng(3)
    world = World.drawn(150, rng)
    paired = fleet(world, 400, rng)
    lone = rng.random((800, 150)) < 0.5
    alone = world.margins(lone, rng)
    within, out = never_in(paired.margin, ~paired.inside), never_in(paired.margin, paired.inside)
    for values, chosen in ((within, lone), (out, ~lone)):
        other = np.array([alone[chosen[:, x], x].var(ddof=1) for x in range(150)])
        assert values.var(axis=0, ddof=1).mean() == pytest.approx(other.mean(), rel=0.05)
    a, b = within - within.mean(axis=0), out - out.mean(axis=0)
    assert float((a * b).sum() / math.sqrt((a**2).sum() * (b**2).sum())) < -0.3
    middle = ((within + out) / 2).var(axis=0, ddof=1).mean()
    assert middle < 0.7 * (within.var(axis=0, ddof=1) + out.var(axis=0, ddof=1)).mean() / 4


# --- What a page says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_word_of_the_claims_is_known_in_every_language(
    code: str, trained: tuple[World, Shadows, FloatArray, FloatArray]
) -> None:
    _, shadows, original, _ = trained
    t, said = wording(code), ""
    for suffix in ("", "-before"):
        claims, plot = shadow_panel(signals(original), replace(shadows, planned=34), 150, suffix=suffix)
        assert plot is not None
        said += "".join(str(t.told(str(claim[key]))) for claim in claims for key in ("name", "note"))
        assert len({claim["id"] for claim in claims}) == len(claims)
        labels = [str(one["label"]) for one in plot["series"]] + [str(plot["title"])]  # type: ignore[attr-defined]
        if code != "en":
            # "RMIA (online)" is the same in German; what is unknown comes back as it was.
            assert all(t.known(label) != label or label == "RMIA (online)" for label in labels)
    assert "lang=" not in said


def test_ids_are_no_others(trained: tuple[World, Shadows, FloatArray, FloatArray]) -> None:
    from cu_cert.panel import attack_panel

    _, shadows, original, _ = trained
    beside = attack_panel(signals(original), [signals(row) for row in shadows.margin[:8]], 150)[0]
    own = shadow_panel(signals(original), shadows, 150)[0]
    assert not {claim["id"] for claim in own} & {claim["id"] for claim in beside}
    assert not {claim["name"] for claim in own} & {claim["name"] for claim in beside}
    assert {claim["kind"] for claim in own} == {"attack"}
    notes = [note for claim in own if "fitted on" in (note := str(claim["note"]))]
    assert len(notes) == 5
    assert all("this is an attack's success and no eps" in note for note in notes)
    assert sum("looks like one that was trained on the record" in note for note in notes) == 3
