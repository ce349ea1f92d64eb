"""The same scores and counts in both: our number beside the peer's, and ours again under the peer's definition."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks import _peers_definitions as definitions
from cu_attacks._bounds import pair_eps
from cu_attacks._extrapolations import gaussian_eps
from cu_attacks._roc import area, rate_at
from cu_attacks.onerun import one_run
from cu_certificates.check.onerun import onerun_bound
from cu_certificates.check.tails import STEP, cp_lower, cp_upper

ALPHA: Final = Fraction(1, 20)
FALSE_RATES: Final = (0.01, 0.001)
DELTAS: Final = (Fraction(0), Fraction(1, 100_000), Fraction(1, 1000))
EXACT: Final = 1e-9
GRID: Final = float(STEP)
SEARCH: Final = 1.1e-4
"""opake-auditing's search for eps ends within 1e-4."""

Arrays = Mapping[str, npt.NDArray[Any]]
Results = Mapping[str, Mapping[str, Any] | None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number, ours and a peer's.

    Args:
        peer: Whose.
        quantity: What.
        ours: Our number under our own definition.
        theirs: The peer's number.
        expected: Ours under the peer's definition; ``None`` when there is nothing to compare with.
        rounding: How far ``expected`` may lie below ``theirs``, because ours is rounded down.
        tolerance: How far the two may lie apart beyond that.
        definition: How the peer's differs; empty when it does not.
    """

    peer: str
    quantity: str
    ours: float | None
    theirs: float
    expected: float | None
    rounding: float = 0.0
    tolerance: float = EXACT
    definition: str = ""

    @property
    def agrees(self) -> bool | None:
        """Whether the two are the same number; ``None`` when the peer's has no counterpart."""
        if self.expected is None:
            return None
        return -self.tolerance <= self.theirs - self.expected <= self.rounding + self.tolerance

    def document(self) -> dict[str, object]:
        """Return the row for JSON."""
        return asdict(self) | {"agrees": self.agrees}


# --- Rates ------------------------------------------------------------------------------------------------------------

Rule = Callable[[definitions.Points, float], float]

RATES: Final[Mapping[str, tuple[Rule, str]]] = {
    "statsmodels": (definitions.step_rate, ""),
    "adversarial-robustness-toolbox": (definitions.step_rate, ""),
    "jax-privacy": (
        lambda points, rate: definitions.interpolated_rate(definitions.hull(points), rate),
        "the concave hull of the curve: the best that randomising between two thresholds reaches",
    ),
    "opake-auditing": (
        definitions.interpolated_rate,
        "straight lines between the points of the curve: randomising between neighbouring thresholds",
    ),
}
"""How each peer reads a rate off the curve; the first row stands for scikit-learn's ``roc_curve``."""

AREAS: Final[Mapping[str, tuple[Callable[[definitions.Points], float], str]]] = {
    "statsmodels": (definitions.area, ""),
    "jax-privacy": (lambda points: definitions.area(definitions.hull(points)), "the area under the concave hull"),
    "opake-auditing": (definitions.area, ""),
}


def rates(arrays: Arrays, results: Results) -> list[Row]:
    """Compare area and rates of every set of scores.

    Args:
        arrays: The scores that the peers got.
        results: What each peer answered, by its name; ``None`` for one that did not run.
    """
    rows = []
    member = arrays["member"]
    for key in sorted(name for name in arrays if name.startswith("score:")):
        scores, title = arrays[key], key.removeprefix("score:")
        points = definitions.roc_counts(scores, member)
        auc = area(scores, member, name="AUC").value
        ours = {rate: rate_at(scores, member, false_rate=rate, name="TPR").value for rate in FALSE_RATES}
        for peer, answer in results.items():
            told = (answer or {}).get(title, {})
            if "auc" in told:
                measure, text = AREAS[peer]
                rows.append(_rate_row(peer, f"AUC, {title}", auc, told["auc"], measure(points), text))
            for rate in FALSE_RATES:
                if f"tpr@{rate}" in told:
                    rule, text = RATES[peer]
                    quantity = f"TPR at {rate:.1%} FPR, {title}"
                    rows.append(_rate_row(peer, quantity, ours[rate], told[f"tpr@{rate}"], rule(points, rate), text))
    return rows


def _rate_row(peer: str, quantity: str, ours: float, theirs: float, expected: float, text: str) -> Row:
    # Without a difference of definition it is our own number that must be met.
    return Row(
        peer=peer,
        quantity=quantity,
        ours=ours,
        theirs=theirs,
        expected=expected if text else ours,
        definition=text,
    )


# --- Bounds -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a threshold that was fixed beforehand counts.

    Args:
        true: Included canaries at or above it.
        included: All included canaries.
        false: Excluded canaries at or above it.
        excluded: All excluded canaries.
    """

    true: int
    included: int
    false: int
    excluded: int

    @property
    def candidates(self) -> int:
        """All canaries, m."""
        return self.included + self.excluded

    @property
    def right(self) -> int:
        """Right guesses when every canary is guessed."""
        return self.true + self.excluded - self.false


def count(scores: npt.NDArray[Any], coins: npt.NDArray[np.bool_], threshold: float) -> Counts:
    """Count included and excluded canaries at or above a threshold."""
    above = scores >= threshold
    return Counts(
        true=int((above & coins).sum()),
        included=int(coins.sum()),
        false=int((above & ~coins).sum()),
        excluded=int((~coins).sum()),
    )


def _pair(counts: Counts, delta: Fraction, direction: Any) -> float:
    found = pair_eps(
        counts.true, counts.included, counts.false, counts.excluded, alpha=ALPHA, delta=delta, direction=direction
    )
    return float(found.bound)


def _pair_rounding(counts: Counts) -> float:
    """Return by how much rounding both rates to the grid can lower the logarithm of their ratio."""
    ends = (
        float(cp_lower(counts.included, counts.true, ALPHA / 2)),
        float(cp_upper(counts.excluded, counts.false, ALPHA / 2)),
    )
    return GRID + sum(GRID / max(end - GRID, GRID) for side in ends for end in (side, 1 - side))


def bounds(arrays: Arrays, results: Results) -> list[Row]:
    """Compare lower bounds on eps from the same counts.

    Args:
        arrays: The scores that the peers got.
        results: What each peer answered, by its name; ``None`` for one that did not run.
    """
    counts = count(arrays["canary"], arrays["coins"], float(arrays["threshold"]))
    rows = []
    if (jax := results.get("jax-privacy")) is not None:
        rows += _jax_bounds(counts, jax)
    if (opake := results.get("opake-auditing")) is not None:
        rows += _opake_bounds(counts, opake)
    if (accounting := results.get("dp-accounting")) is not None:
        for (mu, delta), theirs in zip(arrays["gaussian"].reshape(-1, 2), accounting["gaussian"], strict=True):
            value = gaussian_eps(float(mu), float(delta))
            quantity = f"Gaussian pair, mu {mu:g}, eps at delta {delta:g}"
            rows.append(
                Row(peer="dp-accounting", quantity=quantity, ours=value, theirs=theirs, expected=value, tolerance=1e-6)
            )
    if (statsmodels := results.get("statsmodels")) is not None:
        for (hits, trials), (low, high) in zip(
            arrays["counts"].reshape(-1, 2).tolist(), statsmodels["clopper-pearson"], strict=True
        ):
            lower, upper = float(cp_lower(trials, hits, ALPHA / 2)), float(cp_upper(trials, hits, ALPHA / 2))
            what = f"Clopper-Pearson, {hits} of {trials}"
            rows.append(_printed("statsmodels", f"{what}, lower end", lower, low))
            # Upper ends are rounded up, so what is rounded down is 1 minus them.
            rows.append(_printed("statsmodels", f"{what}, 1 - upper end", 1 - upper, 1 - high))
    return rows


def _printed(peer: str, quantity: str, ours: float, theirs: float) -> Row:
    return Row(peer=peer, quantity=quantity, ours=ours, theirs=theirs, expected=ours, rounding=GRID)


def _jax_bounds(counts: Counts, told: Mapping[str, Any]) -> list[Row]:
    peer, rows = "jax-privacy", []
    guesses = counts.true + counts.false
    for delta in DELTAS:
        key = float(delta)
        for direction in ("forward", "both"):
            value = _pair(counts, delta, direction)
            rows.append(
                Row(
                    peer=peer,
                    quantity=f"two Clopper-Pearson ends, {direction}, delta {key:g}",
                    ours=value,
                    theirs=told[f"clopper-pearson {direction} {key}"],
                    expected=value,
                    rounding=_pair_rounding(counts),
                )
            )
        value = float(onerun_bound(counts.candidates, guesses, counts.true, ALPHA, delta))
        rows.append(
            Row(
                peer=peer,
                quantity=f"one run, one record, guesses above the threshold only, delta {key:g}",
                ours=value,
                theirs=told[f"one-run {key}"],
                expected=value,
                rounding=GRID,
                tolerance=1e-5,
            )
        )
    rows.append(
        Row(
            peer=peer,
            quantity="epsilon_raw_counts, at least 10 false positives",
            ours=None,
            theirs=told["raw-counts"],
            expected=None,
            definition="ln(TPR / FPR) at the best threshold of these very scores: a point estimate, no bound",
        )
    )
    return rows


def _opake_bounds(counts: Counts, told: Mapping[str, Any]) -> list[Row]:
    rows = []
    for delta in DELTAS:
        ours = float(onerun_bound(counts.candidates, counts.candidates, counts.right, ALPHA, delta))
        theirs, text, expected = told[f"one-run {float(delta)}"], "", ours
        if delta:
            text = "takes round(r delta) guesses off r and none off the wrong ones; ours adds Steinke's term for delta"
            kept = counts.candidates - round(counts.candidates * delta)
            right = kept - (counts.candidates - counts.right)
            expected = float(onerun_bound(kept, kept, right, ALPHA, Fraction(0)))
        rows.append(
            Row(
                peer="opake-auditing",
                quantity=f"one run, one record, a guess for every canary, delta {float(delta):g}",
                ours=ours,
                theirs=theirs,
                expected=expected,
                rounding=GRID,
                tolerance=SEARCH,
                definition=text,
            )
        )
    rows.append(
        Row(
            peer="opake-auditing",
            quantity="one run with its default threshold",
            ours=None,
            theirs=told["one-run default threshold"],
            expected=None,
            definition="the threshold with the most right guesses on these very scores, uncorrected for the search",
        )
    )
    return rows


# --- Under the null ---------------------------------------------------------------------------------------------------


def null(arrays: Arrays, results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Tell how often each number is above 0 when nothing was remembered, ours first.

    Args:
        arrays: ``null:scores`` and ``null:coins``, shape (audits, canaries).
        results: What each peer answered.
    """
    found = []
    for scores, coins in zip(arrays["null:scores"], arrays["null:coins"], strict=True):
        audit = one_run(scores, coins, alpha=ALPHA)
        found.append((float(audit.record_bound), float(audit.request_bound)))
    values = np.array(found)
    ours = {
        name: {"above 0": float((values[:, column] > 0).mean()), "mean": float(values[:, column].mean())}
        for column, name in enumerate(("one run, one record", "one run, whole request"))
    }
    return {"cu-cert": ours} | {peer: dict(told) for peer, told in results.items() if told is not None}
