"""Tests that compare sets of models: the unit is the model, and models of one law must seldom be told apart."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import exp
from typing import Final

import numpy as np

from benchmarks.calibration._laws import RECORDS, SIGNALS, TIED, FloatArray, SignalLaw, factor
from benchmarks.calibration._slots import ABOVE
from benchmarks.calibration._study import ALPHA, Case, Curve, Rng, Trial
from cu_attacks._bounds import permutation_eps
from cu_attacks._permute import ModelTest
from cu_attacks.c2st import c2st
from cu_attacks.divergence import divergence_test
from cu_attacks.energy import energy_test
from cu_attacks.klom import klom_test
from cu_attacks.ks import ks
from cu_attacks.mmd import mmd
from cu_attacks.relative import relative
from cu_attacks.relearning import relearning
from cu_attacks.wasserstein import wasserstein_test

PERMUTATIONS: Final = 199
Test = Callable[[FloatArray, FloatArray, Rng], ModelTest]
"""Takes the signals of both sets, shape (models, records), and the source of the permutations."""


def _probabilities(signals: FloatArray) -> FloatArray:
    """Return two classes' probabilities from a margin, shape (models, records, 2)."""
    one = 1 / (1 + np.exp(-np.clip(signals, -30, 30)))
    return np.stack([one, 1 - one], axis=2)


def _curves(signals: FloatArray) -> FloatArray:
    """Return losses after each step of relearning: each depends on the one before."""
    return np.asarray(np.cumsum(signals, axis=1))


@dataclass(frozen=True, kw_only=True)
class _Member:
    """A test as the study runs it.

    Args:
        test: How it is called.
        runs: Synthetic audits a row.
        laws: Laws of the signals at 16 models a set.
        sizes: Sizes at which dependent signals are tried.
        sharp: Whether the level is met and not only kept, when there are no ties.
    """

    test: Test
    runs: int
    laws: tuple[str, ...] = tuple(SIGNALS)
    sizes: tuple[tuple[int, int], ...] = ((8, 8), (8, 32), (32, 32), (128, 128))
    sharp: bool = False


_FEW: Final = ("dependent", "whole numbers")
_TWO_SIZES: Final = ((8, 8), (8, 32))

MEMBERS: Final[Mapping[str, _Member]] = {
    "energy": _Member(
        test=lambda u, r, rng: energy_test(u, r, rng=rng, permutations=PERMUTATIONS), runs=4000, sharp=True
    ),
    "mmd": _Member(test=lambda u, r, rng: mmd(u, r, rng=rng, permutations=PERMUTATIONS), runs=2000, sharp=True),
    "mmd, one kernel": _Member(
        test=lambda u, r, rng: mmd(u, r, rng=rng, permutations=PERMUTATIONS, kernels=1),
        runs=2000,
        laws=_FEW,
        sizes=_TWO_SIZES,
        sharp=True,
    ),
    "ks": _Member(test=lambda u, r, rng: ks(u, r, rng=rng, permutations=PERMUTATIONS), runs=1000),
    "relearning": _Member(
        test=lambda u, r, rng: relearning(_curves(u), _curves(r), rng=rng, permutations=PERMUTATIONS),
        runs=4000,
        sharp=True,
    ),
    "c2st": _Member(test=lambda u, r, rng: c2st(u, r, rng=rng), runs=1000),
    "wasserstein": _Member(
        test=lambda u, r, rng: wasserstein_test(u, r, rng=rng, permutations=PERMUTATIONS),
        runs=1000,
        laws=_FEW,
        sizes=_TWO_SIZES,
        sharp=True,
    ),
    "divergence": _Member(
        test=lambda u, r, rng: divergence_test(
            _probabilities(u), _probabilities(r), rng=rng, permutations=PERMUTATIONS
        ),
        runs=1000,
        laws=_FEW,
        sizes=_TWO_SIZES,
        sharp=True,
    ),
    "klom": _Member(
        test=lambda u, r, rng: klom_test(u, r, rng=rng, permutations=99), runs=500, laws=_FEW, sizes=_TWO_SIZES
    ),
}


def _alike(test: Test, law: SignalLaw, sizes: tuple[int, int]) -> Trial:
    def trial(rng: Rng) -> bool:
        return test(law(rng, sizes[0], RECORDS), law(rng, sizes[1], RECORDS), rng).exact <= ALPHA

    return trial


def _case(
    name: str, test: str, words: str, trial: Trial, *, statement: str, runs: int, exact: float | None = None
) -> Case:
    return Case(
        name=f"{test}/{name}",
        test=test,
        statement=statement,
        setting=words,
        level=float(ALPHA),
        runs=runs,
        trial=trial,
        exact=exact,
    )


def differences() -> Iterator[Case]:
    """Yield the rows of the tests of two sets."""
    for name, member in MEMBERS.items():
        plans = [(law, (16, 16)) for law in member.laws] + [("dependent", sizes) for sizes in member.sizes]
        for law, sizes in plans:
            tight = member.sharp and law not in TIED
            yield _case(
                f"{law}/{sizes[0]} and {sizes[1]}",
                name,
                f"one law, {law}; {sizes[0]} and {sizes[1]} models, {RECORDS} records",
                _alike(member.test, SIGNALS[law], sizes),
                statement="p at most 1/20",
                runs=member.runs,
                exact=float(ALPHA) if tight else None,
            )


# --- Tests with a further statement ----------------------------------------------------------------------------------


def _named_wrongly(rng: Rng) -> bool:
    """Half of the records differ; Holm must not name one of the others."""
    found = ks(_half_shifted(rng), factor(rng, 16, RECORDS), rng=rng, permutations=1)
    return bool((found.holm[RECORDS // 2 :] <= float(ALPHA)).any())


def _half_shifted(rng: Rng) -> FloatArray:
    signals = factor(rng, 16, RECORDS)
    signals[:, : RECORDS // 2] += 2.0
    return signals


def _coined(law: SignalLaw, models: int) -> Trial:
    """A fair coin decided for every model which set it joined."""

    def trial(rng: Rng) -> bool:
        labels, values = rng.random(models) < 0.5, law(rng, models, RECORDS)
        return c2st(values[labels], values[~labels], rng=rng, fair_coins=True).exact <= ALPHA

    return trial


def _told_apart(coins: bool, of: str) -> Trial:
    """Laplace signals at distance 1 on one record: eps = 1, total variation 1 - e^(-1/2)."""

    def trial(rng: Rng) -> bool:
        labels = rng.random(64) < 0.5 if coins else np.arange(64) < 32
        values = rng.laplace(size=(64, 1)) + labels[:, None]
        found = c2st(values[labels], values[~labels], rng=rng, fair_coins=coins)
        if of == "eps":
            return found.eps_bound is not None and found.eps_bound > 1
        return float(found.tv_lower) > 1 - exp(-0.5)

    return trial


def _converted(models: int, eps: float) -> Trial:
    """Laplace signals at distance eps: the bound made of the p-value must not exceed it."""

    def trial(rng: Rng) -> bool:
        unlearned, retrained = rng.laplace(size=(models, 1)) + eps, rng.laplace(size=(16, 1))
        found = energy_test(unlearned, retrained, rng=rng, permutations=999)
        return found.eps_lower(alpha=ALPHA) > eps

    return trial


def _converted_shown(rng: Rng) -> bool:
    """One model in 100 gives itself away."""
    signals = rng.laplace(size=(18, 1))
    signals[:2][rng.random(2) < 0.01] = 1e6
    p = energy_test(signals[:2], signals[2:], rng=rng, permutations=999).exact
    return permutation_eps(p, 2, alpha=ALPHA, delta=Fraction(1, 100)).bound > 0


def _no_closer(law: SignalLaw, sizes: tuple[int, int, int]) -> Trial:
    """Part (a): retrained and original models have one law; the unlearned ones lie where they like."""

    def trial(rng: Rng) -> bool:
        pools = [law(rng, size, RECORDS) for size in sizes]
        return relative(pools[0] + 1, *pools[1:], rng=rng, permutations=PERMUTATIONS).exact <= ALPHA

    return trial


def _either_side(rng: Rng) -> bool:
    """Part (b): every unlearned model is like one of the two sets with chance one half."""
    side = rng.choice([-5.0, 5.0], (32, 1))
    pools = (factor(rng, 32, RECORDS) + side, factor(rng, 16, RECORDS) - 5, factor(rng, 16, RECORDS) + 5)
    return relative(*pools, rng=rng, permutations=PERMUTATIONS).exact <= ALPHA


def further() -> Iterator[Case]:
    """Yield the rows of what these tests state beside p."""
    yield _case(
        "Holm/16 and 16", "ks", "half of the dependent records shifted by 2; 16 and 16 models", _named_wrongly,
        statement="a record named that does not differ", runs=1000,
    )  # fmt: skip
    for law in ("dependent", "heavy tails", "whole numbers"):
        words = f"one law, {law}; 64 models, fair coins"
        yield _case(f"coins, {law}/64", "c2st", words, _coined(SIGNALS[law], 64), statement="p at most 1/20", runs=1000)
    for coins, of in ((True, "eps"), (True, "TV"), (False, "TV")):
        words = f"Laplace signals at distance 1; 64 models, {'fair coins' if coins else '32 of each'}"
        statement = ABOVE if of == "eps" else "bound above the true distance"
        name = f"{of} by {'coins' if coins else 'plan'}/64"
        yield _case(name, "c2st", words, _told_apart(coins, of), statement=statement, runs=1000)
    for models, eps in ((2, 1.0), (8, 0.1)):
        words = f"Laplace signals at distance {eps:g}; {models} and 16 models"
        yield _case(
            f"eps_lower/{models}",
            "energy",
            words,
            _converted(models, eps),
            statement="bound above the true eps",
            runs=4000,
        )
    words = "one law, 1 model in 100 gives itself away; 2 and 16 models"
    yield _case("delta/2", "permutation_eps", words, _converted_shown, statement="bound above the true eps", runs=4000)
    for law in ("dependent", "heavy tails", "whole numbers"):
        for sizes in ((16, 16, 16), (32, 8, 8)) if law == "dependent" else ((16, 16, 16),):
            yield _case(
                f"(a) {law}/{', '.join(map(str, sizes))}",
                "relative",
                f"retrained and original models of one law, {law}; {', '.join(map(str, sizes))} models",
                _no_closer(SIGNALS[law], sizes),
                statement="p at most 1/20",
                runs=4000,
            )
    yield _case(
        "(b)/32, 16, 16", "relative", "each unlearned model on either side with chance 1/2; 32, 16, 16 models",
        _either_side, statement="p at most 1/20", runs=4000,
    )  # fmt: skip


# --- Power -----------------------------------------------------------------------------------------------------------


def _apart(test: Test, rng: Rng, shift: float) -> bool:
    return test(factor(rng, 32, RECORDS) + shift, factor(rng, 32, RECORDS), rng).exact <= ALPHA


def _closer(rng: Rng, shift: float) -> bool:
    """Originals lie one standard deviation and more above retrained models, unlearned ones with the latter."""
    pools = (factor(rng, 32, RECORDS), factor(rng, 32, RECORDS), factor(rng, 32, RECORDS) + shift)
    return relative(*pools, rng=rng, permutations=PERMUTATIONS).exact <= ALPHA


def curves() -> Iterator[Curve]:
    """Yield the power curves."""
    points = (0, 0.25, 0.5, 0.75, 1, 1.5, 2)
    effect = "shift of every record in standard deviations, correlation 1/2"
    for name in ("energy", "mmd", "ks", "relearning", "c2st"):
        yield Curve(
            name=f"power/{name}/32 and 32",
            test=name,
            effect=effect,
            setting=f"32 and 32 models, {RECORDS} records",
            points=points,
            runs=500,
            trial=partial(_apart, MEMBERS[name].test),
        )
    yield Curve(
        name="power/relative/32, 32, 32",
        test="relative",
        effect="shift of the originals on every record in standard deviations, unlearned models like retrained ones",
        setting=f"32, 32, 32 models, {RECORDS} records",
        points=points,
        runs=500,
        trial=_closer,
    )
