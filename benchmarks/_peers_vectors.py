"""Published numbers for bounds on eps, ours for the same input, and what the peers give.

From the documentation and tests of statsmodels, dp-accounting and jax-privacy; recomputed by those libraries in the
benchmark and by ours in ``tests/test_peers.py``.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np
from scipy import special

from benchmarks import _peers_definitions as definitions
from benchmarks._peers_compare import Results, Row
from cu_attacks._extrapolations import fdp_one_run, gaussian_eps
from cu_certificates.check.onerun import onerun_bound, onerun_tail
from cu_certificates.check.tails import STEP, cp_lower, cp_upper

ALPHA: Final = Fraction(1, 20)

INTERVALS: Final = {0: (0.0, 0.3084971078), 1: (0.0025285785, 0.4450161170), 5: (0.1870860284, 0.8129139716)}
"""95 % Clopper-Pearson intervals of so many hits in 10 (statsmodels)."""

UPPER: Final = {(0, 100, Fraction(1, 20)): 0.0295130496, (3, 10, Fraction(1, 10)): 0.5517308324}
"""One-sided upper ends of (hits, trials, alpha)."""

ONE_RUN_P: Final = {
    (1000, 100, 95, Fraction(2), Fraction(1, 100_000)): 0.0178246346,
    (10, 10, 9, Fraction(1), Fraction(1, 1000)): 0.2093230004,
}
"""p-values of (candidates, guesses, right, eps, delta)."""

ONE_RUN_EPS: Final = {(1000, 100, 95, Fraction(1, 100_000)): 2.1652, (100, 100, 80, Fraction(0)): 0.9584}
"""Bounds for one record at alpha 0.05 of (candidates, guesses, right, delta), to four decimals."""

GAUSSIAN: Final = {1e-5: 4.377178095681, 0.1: 1.160334}
"""eps of a Gaussian pair with mu = 1, by delta (dp-accounting)."""

CLOSE: Final = {1: 1.13346, 2: 2.311945, 4: 4.395568}
"""``epsilon_one_run`` in jax-privacy's own test: 10 000 normal quantiles a side, by the shift between them."""

CLOSE_AT: Final = {1: (569, 2807), 2: (167, 4499), 4: (10, 8223)}
"""False and true positives of the corner of the hull where it is reached."""

CLOSE_FDP: Final = {1: 2.164749, 2: 4.7218075, 4: 9.133752}
"""``epsilon_one_run_fdp`` on the same scores: an extrapolation along Gaussian curves, no bound."""

CLOSE_DELTA: Final = Fraction(1, 1_000_000)
_SIDE: Final = 10_000


def normal_curve(shift: int) -> definitions.Points:
    """Return the corners of the concave hull for normal quantiles against the same, shifted."""
    quantiles = special.ndtri((np.arange(_SIDE) + 0.5) / _SIDE)
    scores = np.concatenate([quantiles, quantiles + shift])
    return definitions.hull(definitions.roc_counts(scores, np.arange(2 * _SIDE) >= _SIDE))


def close_eps(shift: int) -> float:
    """Return our bound at the corner of the hull where jax-privacy's is reached, rounded down to the printed grid.

    jax-privacy divides alpha by the number of corners, of which it then takes the best. That number depends on the
    scores, so the correction is unproved (``docs/peers.md``); the arithmetic at a corner is the same.
    """
    false, true = CLOSE_AT[shift]
    level = ALPHA / len(normal_curve(shift))

    def refuted(steps: int) -> bool:
        return onerun_tail(2 * _SIDE, false + true, true, steps * STEP, CLOSE_DELTA)[1] <= level

    # The sums are long, so the search starts where the answer should be: two of them when it is there.
    steps = int(CLOSE[shift] / STEP)
    while not refuted(steps):
        steps -= 1
    while refuted(steps + 1):
        steps += 1
    return float(steps * STEP)


def close_fdp(shift: int) -> float:
    """Return our Gaussian-curve number at the corner where it is largest."""
    corners = normal_curve(shift)
    level = ALPHA / len(corners)
    values = [
        fdp_one_run(2 * _SIDE, int(false + true), int(true), alpha=level, delta=float(CLOSE_DELTA)).eps
        for false, true in corners
        if true > false
    ]
    return max(values)


def one_run_p(case: tuple[int, int, int, Fraction, Fraction]) -> float:
    """Return our p-value of a published case: the upper end of its enclosure."""
    return float(onerun_tail(*case)[1])


def one_run_eps(case: tuple[int, int, int, Fraction]) -> float:
    """Return our bound for one record of a published case."""
    candidates, guesses, right, delta = case
    return float(onerun_bound(candidates, guesses, right, ALPHA, delta))


def rows(results: Results) -> list[Row]:
    """Set ours and the peers' numbers beside the published ones.

    Args:
        results: What each peer answered, by its name; ``None`` for one that did not run.
    """
    found: list[Row] = []

    def add(peer: str, quantity: str, ours: float, theirs: float, published: float, tolerance: float) -> None:
        row = Row(peer=peer, quantity=quantity, ours=ours, theirs=theirs, expected=published, tolerance=tolerance)
        found.append(row)

    if (told := results.get("statsmodels")) is not None:
        for (hits, ends), theirs in zip(INTERVALS.items(), told["two-sided"], strict=True):
            ours = float(cp_lower(10, hits, ALPHA / 2)), float(cp_upper(10, hits, ALPHA / 2))
            for side, own, given, published in zip(("lower", "upper"), ours, theirs, ends, strict=True):
                add("statsmodels", f"Clopper-Pearson, {hits} of 10, {side} end", own, given, published, 1e-9)
    for peer in ("statsmodels", "jax-privacy"):
        if (told := results.get(peer)) is not None:
            for ((hits, trials, alpha), published), end in zip(UPPER.items(), told["upper"], strict=True):
                quantity = f"upper end, {hits} of {trials}, alpha {float(alpha):g}"
                add(peer, quantity, float(cp_upper(trials, hits, alpha)), end, published, 1e-9)
    if (told := results.get("jax-privacy")) is not None:
        _one_run_rows(told, add)
    if (told := results.get("dp-accounting")) is not None:
        for (delta, published), eps in zip(GAUSSIAN.items(), told["gaussian"], strict=True):
            quantity = f"Gaussian pair, mu 1, eps at delta {delta:g}"
            add("dp-accounting", quantity, gaussian_eps(1.0, delta), eps, published, 1e-6)
    return found


def _one_run_rows(told: Mapping[str, Any], add: Callable[[str, str, float, float, float, float], None]) -> None:
    peer = "jax-privacy"
    for (case, published), chance in zip(ONE_RUN_P.items(), told["one-run p"], strict=True):
        add(peer, f"one-run p-value {_told(case)}", one_run_p(case), chance, published, 1e-9)
    for (bound, published), eps in zip(ONE_RUN_EPS.items(), told["one-run eps"], strict=True):
        add(peer, f"one-run eps {_told(bound)}", one_run_eps(bound), eps, published, 1e-4)
    for (shift, published), eps in zip(CLOSE.items(), told["one-run close"], strict=True):
        add(peer, f"epsilon_one_run, normal scores, shift {shift}", close_eps(shift), eps, published, 1e-4)
    for (shift, published), eps in zip(CLOSE_FDP.items(), told["one-run fdp close"], strict=True):
        add(peer, f"epsilon_one_run_fdp, normal scores, shift {shift}", close_fdp(shift), eps, published, 1e-4)


def _told(case: tuple[Fraction | int, ...]) -> str:
    return "(" + ", ".join(f"{float(number):g}" for number in case) + ")"
