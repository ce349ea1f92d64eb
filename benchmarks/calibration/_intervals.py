"""Upper statements, intervals, bands and false discovery rates: how often each is wrong."""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from math import exp
from typing import Final

import numpy as np
from scipy import stats

from benchmarks.calibration._laws import BoolArray, FloatArray, factor
from benchmarks.calibration._study import ALPHA, NONE, Basis, Case, Rng, Trial
from cu_attacks._model_roc import model_area
from cu_attacks._multiplicity import benjamini_hochberg
from cu_attacks._panel import judge, leaking_records
from cu_attacks._roc import advantage, area, exact_rate_at, roc_band
from cu_attacks._upper import Sides, attack_limited, equivalence
from cu_attacks.ulira import ulira_pools

NOMINAL: Final = float(ALPHA)
SLACK: Final = 1e-9
MISSES: Final = "interval misses the truth"
FALSE: Final = "a reported record, drawn at random, does not leak"

Law = Callable[[Rng, int], FloatArray]
LAWS: Final[Mapping[str, Law]] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy tails": lambda rng, size: rng.standard_t(5, size),
    "whole numbers": lambda rng, size: np.rint(2 * rng.normal(size=size)),
}


def _case(
    name: str,
    words: str,
    trial: Trial,
    *,
    statement: str = MISSES,
    runs: int = 4000,
    exact: float | None = None,
    basis: Basis = "exact",
) -> Case:
    return Case(
        name=name,
        test=name.split("/")[0],
        statement=statement,
        setting=words,
        level=NOMINAL,
        runs=runs,
        trial=trial,
        exact=exact,
        basis=basis,
    )


# --- One score of many models ----------------------------------------------------------------------------------------


def _limited(models: int, eps: Fraction, sides: Sides) -> Trial:
    """Laplace scores at distance 1: the largest P_U - e^eps P_R of any threshold is 1 - e^((eps - 1) / 2)."""
    truth = 1 - exp((float(eps) - 1) / 2)

    def trial(rng: Rng) -> bool:
        scores = rng.laplace(size=(2, models))
        return attack_limited(scores[0] + 1, scores[1], score="s", eps=eps, alpha=ALPHA, sides=sides).delta_up < truth

    return trial


def _limited_tied(rng: Rng) -> bool:
    """Two levels, so that there is one threshold: the gap of the two rates is 0.4."""
    scores = rng.random((2, 64)) < np.array([[0.75], [0.35]])
    found = attack_limited(*scores.astype(np.float64), score="s", eps=NONE, alpha=ALPHA, sides="one")
    return float(found.delta_up) < 0.4 - SLACK


def _at_margin(law: str, models: tuple[int, int], spread: float) -> Trial:
    """Means exactly one margin apart, on either side: calling them equivalent is wrong."""

    def trial(rng: Rng) -> bool:
        draw, reference = LAWS[law], LAWS[law](rng, 32)
        margin = 0.5 * float(reference.std(ddof=1)) * rng.choice([-1, 1])
        unlearned, retrained = spread * draw(rng, models[0]) + margin, draw(rng, models[1])
        return equivalence(unlearned, retrained, reference=reference, factor=0.5, alpha=ALPHA).equivalent

    return trial


def upper() -> Iterator[Case]:
    """Yield the rows of ``attack_limited`` and ``equivalence``."""
    statement = "delta_up below the true delta"
    plans: list[tuple[int, Fraction, Sides]] = [(models, NONE, "one") for models in (8, 32, 128)]
    plans += [(32, NONE, "both"), (128, NONE, "both"), (64, Fraction(1, 2), "both")]
    for models, eps, sides in plans:
        words = f"Laplace scores at distance 1; {models} models an arm, eps = {float(eps):g}, {sides} side(s)"
        name = f"attack_limited/{sides}, eps {float(eps):g}/{models}"
        yield _case(name, words, _limited(models, eps, sides), statement=statement)
    words = "two levels, rates 0.75 and 0.35; 64 models an arm, eps = 0, one side(s)"
    yield _case("attack_limited/two levels/64", words, _limited_tied, statement=statement, runs=10_000)
    for law, pools, spread in (
        ("normal", (16, 16), 1.0), ("normal", (64, 64), 1.0), ("normal", (128, 128), 1.0), ("normal", (64, 128), 0.5),
        ("heavy tails", (128, 128), 1.0), ("whole numbers", (128, 128), 1.0),
    ):  # fmt: skip
        sizes = f"{pools[0]} and {pools[1]}"
        wide = f", spreads {spread:g} and 1" if spread != 1 else ""
        yield _case(
            f"equivalence/{law}/{sizes}",
            f"{law}, means one margin apart{wide}; {sizes} models, margin from 32 others",
            _at_margin(law, pools, spread),
            statement="called equivalent at the margin",
            basis="approximate",
        )


# --- One model and its records ---------------------------------------------------------------------------------------


def _records(rng: Rng, sizes: tuple[int, int], shift: float) -> tuple[FloatArray, BoolArray]:
    member = np.arange(sum(sizes)) < sizes[0]
    return rng.normal(size=sum(sizes)) + shift * member, member


def _area(sizes: tuple[int, int], shift: float, *, rounded: bool = False) -> Trial:
    truth = _rounded_area(shift) if rounded else float(stats.norm.cdf(shift / 2**0.5))

    def trial(rng: Rng) -> bool:
        scores, member = _records(rng, sizes, shift)
        found = area(np.rint(scores) if rounded else scores, member, name="AUC")
        return not found.low <= truth <= found.high

    return trial


def _rounded_area(shift: float) -> float:
    """Return the area between two normal laws rounded to whole numbers, ties half."""
    steps = np.arange(-12, 13)
    first, second = (stats.norm.cdf(steps + 0.5 - mean) - stats.norm.cdf(steps - 0.5 - mean) for mean in (shift, 0.0))
    return float(first @ (np.cumsum(second) - second / 2))


def _band(sizes: tuple[int, int], shift: float) -> Trial:
    def trial(rng: Rng) -> bool:
        found = roc_band(*_records(rng, sizes, shift))
        ends = np.append(found.false[1:], 1.0)
        # A rising curve in a band of steps: nearest to the lower end at a step's left, to the upper one at its right.
        left, right = (stats.norm.sf(stats.norm.isf(at) - shift) for at in (found.false, ends))
        return bool((found.low > left + SLACK).any() or (right > found.high + SLACK).any())

    return trial


def _band_tied(rng: Rng) -> bool:
    """Rounded scores: the curve of thresholds is itself a step function, and changes where either of the two does."""
    scores, member = _records(rng, (40, 60), 1.0)
    found, steps = roc_band(np.rint(scores), member), np.arange(12.5, -13.5, -1.0)
    false, true = stats.norm.sf(steps), stats.norm.sf(steps - 1.0)
    at = np.union1d(found.false, false)
    curve = np.append(0.0, true)[np.searchsorted(false, at + 1e-12, side="right")]
    where = np.searchsorted(found.false, at + 1e-12, side="right") - 1
    return bool((curve < found.low[where] - SLACK).any() or (curve > found.high[where] + SLACK).any())


def _rate(sizes: tuple[int, int], shift: float, false_rate: float) -> Trial:
    truth = float(stats.norm.sf(stats.norm.isf(false_rate) - shift))

    def trial(rng: Rng) -> bool:
        found = exact_rate_at(*_records(rng, sizes, shift), false_rate=false_rate, name="TPR")
        return not found.low <= truth <= found.high

    return trial


def _advantage(sizes: tuple[int, int], shift: float) -> Trial:
    truth = 2 * float(stats.norm.cdf(shift / 2)) - 1

    def trial(rng: Rng) -> bool:
        found = advantage(*_records(rng, sizes, shift), name="advantage")
        return not found.low <= truth <= found.high

    return trial


def _side_seen(sizes: tuple[int, int]) -> Trial:
    return lambda rng: judge(*_records(rng, sizes, 0.0), name="a").direction != "none seen"


def curves_of_records() -> Iterator[Case]:
    """Yield the rows of areas, rates and bands of one model's records."""
    for sizes in ((8, 8), (16, 16), (64, 64), (8, 128), (128, 8)):
        for shift in (0.0, 1.0, 2.0, 3.0):
            words = f"normal, shift {shift:g}; {sizes[0]} members, {sizes[1]} others"
            name = f"area/shift {shift:g}/{sizes[0]} and {sizes[1]}"
            yield _case(name, words, _area(sizes, shift), basis="approximate")
    words = "normal, shift 1, whole numbers; 64 members, 64 others"
    yield _case("area/whole numbers/64 and 64", words, _area((64, 64), 1.0, rounded=True), basis="approximate")
    whole_curve = "the curve leaves the band anywhere"
    for sizes, shift in (((8, 8), 1.0), ((40, 60), 0.0), ((40, 60), 1.0), ((128, 128), 1.0)):
        words = f"normal, shift {shift:g}; {sizes[0]} members, {sizes[1]} others"
        name = f"roc_band/shift {shift:g}/{sizes[0]} and {sizes[1]}"
        yield _case(name, words, _band(sizes, shift), statement=whole_curve)
    words = "normal, shift 1, whole numbers; 40 members, 60 others"
    yield _case("roc_band/whole numbers/40 and 60", words, _band_tied, statement=whole_curve)
    for sizes, shift in (((30, 90), 0.0), ((30, 90), 1.0), ((128, 512), 1.0)):
        words = f"normal, shift {shift:g}; {sizes[0]} members, {sizes[1]} others, false positive rate 0.05"
        yield _case(f"exact_rate_at/shift {shift:g}/{sizes[0]} and {sizes[1]}", words, _rate(sizes, shift, 0.05))
    for shift in (0.0, 1.0):
        words = f"normal, shift {shift:g}; 50 members, 70 others"
        yield _case(f"advantage/shift {shift:g}/50 and 70", words, _advantage((50, 70), shift))
    for sizes in ((40, 120), (8, 128)):
        words = f"normal, no shift; {sizes[0]} members, {sizes[1]} others"
        name = f"panel direction/{sizes[0]} and {sizes[1]}"
        yield _case(name, words, _side_seen(sizes), statement="a side is reported", runs=2000)


# --- Models and records ----------------------------------------------------------------------------------------------


def _model_area(models: int, rho: float, shift: float) -> Trial:
    truth = float(stats.norm.cdf(shift / 2**0.5))

    def trial(rng: Rng) -> bool:
        found = model_area(factor(rng, models, 24, rho) + shift, factor(rng, models, 24, rho), name="AUC")
        return not found.low <= truth <= found.high

    return trial


def _one_of(found: BoolArray, leaks: int, rng: Rng) -> bool:
    """Whether one of the reported records, drawn at random, is none of the first ``leaks``: its chance is the FDR."""
    reported = np.flatnonzero(found)
    return bool(len(reported) and rng.choice(reported) >= leaks)


def _independent(leaks: int) -> Trial:
    """40 independent p-values; those of records that leak are small."""

    def trial(rng: Rng) -> bool:
        p = rng.random(40)
        p[:leaks] *= 0.01
        return _one_of(benjamini_hochberg(p, NOMINAL)[0], leaks, rng)

    return trial


def _one_sided(rho: float, leaks: int) -> Trial:
    """One-sided p-values of signals with one common factor: positively dependent."""

    def trial(rng: Rng) -> bool:
        signals = factor(rng, 1, 40, rho)[0]
        signals[:leaks] += 3
        return _one_of(benjamini_hochberg(stats.norm.sf(signals), NOMINAL)[0], leaks, rng)

    return trial


def _leaking(rho: float, models: int, leaks: int) -> Trial:
    """One model among its never-in models, two-sided conformal p-values of 20 records, the first ones remembered."""

    def trial(rng: Rng) -> bool:
        found = factor(rng, models + 1, 20, rho)
        found[0, :leaks] += 5
        named = leaking_records(found[0], found[1:], level=NOMINAL, top=20)
        reported = np.zeros(20, dtype=np.bool_)
        reported[[record.index for record in named.worst if record.leaks]] = True
        return _one_of(reported, leaks, rng)

    return trial


def _unlearned(rho: float, leaks: int) -> Trial:
    """U-LiRA on 24 and 24 models and 20 records, the first ones remembered."""

    def trial(rng: Rng) -> bool:
        pools = factor(rng, 24, 20, rho), factor(rng, 24, 20, rho)
        pools[0][:, :leaks] += 2
        found = ulira_pools(*pools, level=NOMINAL)
        return _one_of(benjamini_hochberg(found.p, NOMINAL)[0], leaks, rng)

    return trial


def records_of_models() -> Iterator[Case]:
    """Yield the rows of areas between sets of models and of false discovery rates."""
    for models in (8, 16, 64):
        for rho, shift in ((0.0, 0.7), (0.5, 0.7), (0.5, 2.0), (0.9, 2.0), (0.9, 3.0)):
            words = f"normal, shift {shift:g}, rho = {rho:g}; {models} and {models} models, 24 records"
            name = f"model_area/rho {rho:g}, shift {shift:g}/{models} and {models}"
            yield _case(name, words, _model_area(models, rho, shift), basis="approximate", runs=2000)
    for leaks in (0, 10):
        words = f"independent; 40 records, {leaks} of them leak"
        # With independent uniform p-values the rate is level times the share of records that do not leak.
        share = NOMINAL * (40 - leaks) / 40
        yield _case(
            f"benjamini_hochberg/independent/{leaks} of 40",
            words,
            _independent(leaks),
            statement=FALSE,
            runs=10_000,
            exact=share,
        )
    for rho, leaks in ((0.5, 0), (0.5, 10), (0.9, 10)):
        words = f"one factor, rho = {rho:g}, one side; 40 records, {leaks} of them leak"
        name = f"benjamini_hochberg/rho {rho:g}/{leaks} of 40"
        yield _case(name, words, _one_sided(rho, leaks), statement=FALSE, runs=10_000)
    for rho, leaks in ((0.0, 0), (0.0, 5), (0.5, 0), (0.5, 5), (0.9, 5)):
        words = f"rho = {rho:g}; one model among 400 never-in ones, 20 records, {leaks} of them leak"
        name = f"leaking_records/rho {rho:g}/{leaks} of 20"
        yield _case(name, words, _leaking(rho, 400, leaks), statement=FALSE)
    for rho, leaks in ((0.5, 0), (0.5, 5)):
        words = f"rho = {rho:g}; 24 and 24 models, 20 records, {leaks} of them leak"
        yield _case(f"ulira/rho {rho:g}/{leaks} of 20", words, _unlearned(rho, leaks), statement=FALSE, runs=1000)
