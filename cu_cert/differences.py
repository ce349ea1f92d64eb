"""How far unlearned models stand from retrained ones, as a whole: tests of a difference, and numbers of the literature.

Both inform and neither decides: a detected difference is no eps worth printing, and a bare number of the literature
means nothing before retrained models were compared with each other in the same way. So each test carries a valid
p-value, and each other number stands beside the band that retrained models give.
"""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Final

import numpy as np

from cu_attacks._permute import Described, ModelTest
from cu_attacks._types import AttackError, FloatArray
from cu_attacks.agreement import gap
from cu_attacks.c2st import c2st
from cu_attacks.challenge import challenge
from cu_attacks.divergence import divergence
from cu_attacks.energy import energy_test
from cu_attacks.klom import klom
from cu_attacks.ks import ks
from cu_attacks.mmd import mmd
from cu_attacks.relative import relative
from cu_attacks.wasserstein import wasserstein
from cu_cert.claims import Claim, metric_claim
from cu_cert.rng import Stream

DRAWS: Final = 60
"""Splits of retrained models behind each band."""

MOST_RECORDS: Final = 200
"""The challenge's score costs about a millisecond a record and draw; larger requests go without it."""


def difference_claims(
    unlearned: FloatArray,
    retrained: FloatArray,
    *,
    original: FloatArray | None,
    spare: FloatArray | None,
    accuracies: Mapping[str, tuple[FloatArray, FloatArray]],
    fair_coins: bool,
    energy: bool = True,
    rng: Stream,
) -> list[Claim]:
    """Compare unlearned with retrained models.

    Args:
        unlearned: Signals of unlearned models on the request, shape (models, records).
        retrained: Signals of retrained models.
        original: Signals of models before unlearning, other than those that were unlearned.
        spare: Signals of further retrained models; they only make the bands narrower.
        accuracies: By set of records, the accuracy of each unlearned and of each retrained model.
        fair_coins: Whether a fair coin decided for each model which of the two it is.
        energy: Whether the energy test is among them; not where a claim with evidence says the same.
        rng: Source of permutations and splits.

    Returns:
        Metric claims; none where a pool has fewer than two models.
    """
    if min(len(unlearned), len(retrained)) < 2:
        return []
    return [
        *_tests(unlearned, retrained, original, fair_coins, energy, rng),
        *_descriptions(unlearned, retrained, spare, accuracies, rng),
    ]


def _tests(
    unlearned: FloatArray,
    retrained: FloatArray,
    original: FloatArray | None,
    fair_coins: bool,
    energy: bool,
    rng: Stream,
) -> list[Claim]:
    tests: dict[str, tuple[str, Callable[[np.random.Generator], ModelTest]]] = {
        "energy": ("energy distance", lambda g: energy_test(unlearned, retrained, rng=g)),
        "mmd": ("maximum mean discrepancy over ten kernels", lambda g: mmd(unlearned, retrained, rng=g)),
        "ks": ("largest Kolmogorov-Smirnov distance of a record", lambda g: ks(unlearned, retrained, rng=g)),
        "c2st": ("classifier on held-out slots", lambda g: c2st(unlearned, retrained, rng=g, fair_coins=fair_coins)),
    }
    if original is not None and len(original) >= 2:
        tests["relative"] = (
            "nearer to retrained models than to originals",
            lambda g: relative(unlearned, retrained, original, rng=g),
        )
    if not energy:
        del tests["energy"]
    claims = []
    for name, (title, run) in tests.items():
        try:
            found = run(rng.child("test", name).numpy())
        except AttackError:
            continue  # too few models for this one
        note = (
            f"statistic {found.statistic:.4f}; alike sets give {found.null_low:.4f} to {found.null_high:.4f}; models: "
            f"{' and '.join(map(str, found.n))}; {found.method}; {found.shows_not}"
        )
        shown = ceil(found.p * 10_000) / 10_000  # a p-value is rounded up
        claims.append(metric_claim(f"test-{name}", f"{title}: p", shown, None, note, kind="test"))
    return claims


def _descriptions(
    unlearned: FloatArray,
    retrained: FloatArray,
    spare: FloatArray | None,
    accuracies: Mapping[str, tuple[FloatArray, FloatArray]],
    rng: Stream,
) -> list[Claim]:
    few = min(len(unlearned), len(retrained))
    numbers: dict[str, Callable[[np.random.Generator], Described]] = {
        "wasserstein": lambda g: wasserstein(unlearned, retrained, rng=g, spare=spare, draws=DRAWS),
        "klom": lambda g: klom(unlearned, retrained, rng=g, spare=spare, draws=DRAWS),
        "js": lambda g: divergence(
            _shares(unlearned),
            _shares(retrained),
            rng=g,
            measure="js",
            spare=None if spare is None else _shares(spare),
            draws=DRAWS,
        ),
    }
    if unlearned.shape[1] <= MOST_RECORDS:
        numbers["challenge"] = lambda g: challenge(
            unlearned[:few], retrained[:few], rng=g, spare=None if spare is None else spare[:few], draws=DRAWS
        )
    for name, (one, two) in accuracies.items():
        numbers[f"gap-{name}"] = lambda g, one=one, two=two, name=name: gap(  # type: ignore[misc]
            one, two, name=f"accuracy on {name} records", rng=g, draws=DRAWS
        )
    claims = []
    for name, run in numbers.items():
        try:
            found = run(rng.child("describe", name).numpy())
        except AttackError:
            continue  # too few models for this one
        band = (found.null_low, found.null_high)
        same = "" if found.matched == found.value else f"; {found.matched:.4f} at the sizes of the band"
        note = f"beside: retrained against retrained models, mean {found.null_mean:.4f}{same}; {found.shows_not}"
        claims.append(metric_claim(f"describe-{name}", found.name, found.value, band, note))
    return claims


def _shares(margin: FloatArray) -> FloatArray:
    """Return the probabilities of a record's own class and of all others, shape (models, records, 2)."""
    own = 1 / (1 + np.exp(-np.clip(margin, -500, 500)))
    return np.stack([own, 1 - own], axis=-1)
