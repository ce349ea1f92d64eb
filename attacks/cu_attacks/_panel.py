"""What a per-record attack shows, in both directions, and which records show it.

A membership signal far *above* that of never-trained records says that a record is remembered. One far *below* gives
the record away just as well: a retrained model is not worse on it than on any other fresh record. So every result here
looks at both sides, and :func:`direction` is the one place that says which of them was seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from cu_attacks._gauss import fit_law, models_of, signals_of
from cu_attacks._multiplicity import benjamini_hochberg
from cu_attacks._roc import advantage, area, exact_rate_at, rate_at
from cu_attacks._types import AttackError, Estimate, FloatArray

Direction = Literal["remembered", "over-forgotten", "both", "none seen"]
"""What a panel result shows: ``remembered`` is the high side, ``over-forgotten`` the low side of the signal."""

FALSE_RATES: Final = (0.01, 0.001)
RECORDS_INDEPENDENT: Final = (
    "given the model, records of the request and never-trained records would be draws from one law had the request "
    "never been seen; a whole class or a group of outliers is not"
)


def direction(
    auc: Estimate, high: Sequence[tuple[float, Estimate]], low: Sequence[tuple[float, Estimate]]
) -> Direction:
    """Decide from intervals alone which side of chance was seen.

    The error of the answer is at most the sum of the intervals' errors, so they must share one level among them:
    :func:`judge` gives half of 5 % to the area and half to the rates.

    Args:
        auc: Area under the curve.
        high: (false positive rate, true positive rate there) of the score.
        low: The same of the flipped score.
    """
    remembered = auc.low > 0.5 or any(found.low > rate for rate, found in high)
    forgotten = auc.high < 0.5 or any(found.low > rate for rate, found in low)
    if remembered and forgotten:
        return "both"
    if remembered:
        return "remembered"
    return "over-forgotten" if forgotten else "none seen"


@dataclass(frozen=True, kw_only=True)
class PanelResult:
    """What one attack shows on one model.

    Args:
        name: The attack.
        auc: Area under the curve, 95 % interval; below 1/2 is the low side.
        rates: (false positive rate, true positive rate there) with exact intervals.
        given: The same with intervals that take the threshold as given.
        low_rates: Rates of the flipped score: the low side.
        advantage: Largest membership advantage over all thresholds.
        low_advantage: The same of the flipped score.
        direction: Which side was seen, at 5 % in all.
        assumptions: What the intervals rest on.
        shows_not: What a reader must not conclude.
    """

    name: str
    auc: Estimate
    rates: tuple[tuple[float, Estimate], ...]
    given: tuple[tuple[float, Estimate], ...]
    low_rates: tuple[tuple[float, Estimate], ...]
    advantage: Estimate
    low_advantage: Estimate
    direction: Direction
    assumptions: str
    shows_not: str


def judge(
    scores: npt.ArrayLike, member: npt.ArrayLike, *, name: str, false_rates: Sequence[float] = FALSE_RATES
) -> PanelResult:
    """Judge one attack's scores on both sides of chance.

    Args:
        scores: One number a record, higher means member.
        member: Whether the record is in the request, booleans of shape (records,); at least two of either kind.
        name: What the attack is called.
        false_rates: False positive rates to read the curve at, each in (0, 1), at least one.

    Raises:
        AttackError: Wrong shapes, a kind of record is missing, or a rate out of range.
    """
    if not false_rates:
        raise AttackError("false_rates: none; expected at least one rate in (0, 1)")
    values = np.asarray(scores, dtype=np.float64)

    def read(signed: FloatArray, words: str, level: float) -> tuple[tuple[float, Estimate], ...]:
        return tuple(
            (rate, exact_rate_at(signed, member, false_rate=rate, name=f"TPR at {rate:.1%} FPR, {words}", level=level))
            for rate in false_rates
        )

    low_words = f"{name}, low side"
    auc = area(values, member, name=f"AUC, {name}")
    # 5 % for the answer: half to the area, half to the lower ends of both sides' rates (half of each interval's error).
    shared = 1 - 0.05 / (2 * len(false_rates))
    side = direction(
        area(values, member, name=name, level=0.975), read(values, name, shared), read(-values, low_words, shared)
    )
    return PanelResult(
        name=name,
        auc=auc,
        rates=read(values, name, 0.95),
        given=tuple(
            (r, rate_at(values, member, false_rate=r, name=f"TPR at {r:.1%} FPR, {name}")) for r in false_rates
        ),
        low_rates=read(-values, low_words, 0.95),
        advantage=advantage(values, member, name=f"advantage, {name}"),
        low_advantage=advantage(-values, member, name=f"advantage, {low_words}"),
        direction=side,
        assumptions=RECORDS_INDEPENDENT,
        shows_not=auc.shows_not,
    )


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record among those that stand out most.

    Args:
        index: Its position.
        score: Distance from the never-in law in spreads, negative on the low side.
        p: Its conformal p-value against the never-in models, two-sided.
        side: Which side it lies on.
        leaks: Whether it is among the records reported at the false discovery rate.
    """

    index: int
    score: float
    p: float
    side: Literal["remembered", "over-forgotten"]
    leaks: bool


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """How many records leak, and the worst of them.

    Args:
        count: Records reported by Benjamini-Hochberg.
        remembered: Those on the high side.
        over_forgotten: Those on the low side.
        least: Fewest records that this many never-in models can report at all; more than there are records means none.
        worst: The records that stand out most, by p-value and then by distance.
        level: False discovery rate.
        n: Records and never-in models.
        method: How the records were found.
        assumptions: What the false discovery rate rests on.
        shows_not: What a reader must not conclude.
    """

    count: int
    remembered: int
    over_forgotten: int
    least: int
    worst: tuple[Record, ...]
    level: float
    n: tuple[int, int]
    method: str = "two-sided conformal p-values against never-in models, Benjamini-Hochberg"
    assumptions: str = (
        "a model that never saw a record is one more draw from its never-in models; p-values positively dependent over "
        "records"
    )
    shows_not: str = "a count of 0 does not show that no record leaks: read it with the fewest that could be reported"


def leaking_records(signals: npt.ArrayLike, shadows: npt.ArrayLike, *, level: float = 0.05, top: int = 5) -> Leaks:
    """Count the records that leak, each against its own never-in models, and name the worst.

    p = min(1, 2 min(p_high, p_low)) with p_high = (1 + #{j : phi_j >= phi}) / (n + 1) is exact for one record: under
    the null the audited model is one more of its n never-in models. Over records the share of false reports among the
    reported is held at ``level`` by Benjamini-Hochberg.

    Args:
        signals: Margins of the audited model, shape (records,) or (records, queries).
        shadows: Margins of models that never saw any of the records, shape (models >= 2, records[, queries]).
        level: False discovery rate, in (0, 1).
        top: How many of the worst records to name, at least 0.

    Raises:
        AttackError: Shapes disagree, a value is not finite, or a number is out of range.
    """
    out = models_of(shadows, "shadows", rows=2)
    phi = signals_of(signals, "signals", size=out.shape[1])
    if top < 0:
        raise AttackError(f"top: {top}; expected at least 0")
    models, records = out.shape
    above, below = (1 + (out >= phi).sum(axis=0)) / (models + 1), (1 + (out <= phi).sum(axis=0)) / (models + 1)
    p = np.minimum(1.0, 2 * np.minimum(above, below))
    found, _ = benjamini_hochberg(p, level)
    distance = fit_law(out, "pooled", "shadows").standardised(phi)
    high = above <= below
    order = np.lexsort((np.arange(records), -np.abs(distance), p))[:top]
    smallest = 2 / (models + 1)
    return Leaks(
        count=int(found.sum()),
        remembered=int((found & high).sum()),
        over_forgotten=int((found & ~high).sum()),
        least=int(np.ceil(smallest * records / level - 1e-9)),
        worst=tuple(
            Record(
                index=int(i),
                score=float(distance[i]),
                p=float(p[i]),
                side="remembered" if high[i] else "over-forgotten",
                leaks=bool(found[i]),
            )
            for i in order
        ),
        level=level,
        n=(records, models),
    )
