"""What attacks on single records could have seen, from the sizes alone: a lower bound on their power.

The attacks panel scores n records of the request and m that were never trained. A threshold at the j-th highest
never-trained score flags the request when k or more of its records lie above. Were all n + m records alike, the number
above would be negative hypergeometric whatever the score, so k is fixed by n, m, j and alpha without looking at a
score. Were there instead an attack with true positive rate ``tpr`` at false positive rate ``at_fpr``, then

    P[flagged] >= P[the threshold's false positive rate is at least at_fpr] * P[Bin(n, tpr) >= k],

because the curve of an attack does not fall and, given the threshold, records of the request are independent; the first
factor is P[Bin(m, at_fpr) <= j - 1]. Any j gives a valid bound; the largest of several is taken. Scores without ties
are assumed. Every operation is rounded against the certificate.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from math import isqrt
from typing import Final

from cu_certificates.check.tails import DIGITS, binomial_tail, enclose

MOST_RECORDS: Final = 5_000
MOST_CONTROLS: Final = 50_000
"""More records than this are left out: that can only lower the bound, and it bounds the reader's time."""

_CANDIDATES: Final = 12
_CERTAIN: Final = Decimal("0.9999")
_DOWN: Final = Context(prec=DIGITS, rounding=ROUND_FLOOR)
_UP: Final = Context(prec=DIGITS, rounding=ROUND_CEILING)


@dataclass(frozen=True, kw_only=True)
class PanelPower:
    """What a panel of given sizes could have seen.

    Args:
        power: Lower bound on the chance with which the leak is flagged.
        above: k: so many records of the request must lie above the threshold; 0 when no threshold serves.
        rank: j: the threshold is the j-th highest never-trained score; 0 when no threshold serves.
    """

    power: Fraction
    above: int
    rank: int


def panel_power(records: int, controls: int, *, tpr: Fraction, at_fpr: Fraction, alpha: Fraction) -> PanelPower:
    """Bound from below the chance that a leak of a given size is flagged.

    Args:
        records: n, records of the request, at least 1.
        controls: m, never-trained records, at least 1.
        tpr: True positive rate of the leak, in (at_fpr, 1).
        at_fpr: Its false positive rate, in (0, 1).
        alpha: The chance with which a panel without any leak may be flagged, in (0, 1).
    """
    records, controls = min(records, MOST_RECORDS), min(controls, MOST_CONTROLS)
    best = PanelPower(power=Fraction(0), above=0, rank=0)
    for rank, wide in _ranks(controls, at_fpr):
        above = _critical(records, controls, rank, alpha)
        if above is None:
            continue
        seen = binomial_tail(records, enclose(tpr), above).low
        power = Fraction(_DOWN.multiply(wide, seen))
        if power > best.power:
            best = PanelPower(power=power, above=above, rank=rank)
    return best


def _ranks(controls: int, at_fpr: Fraction) -> list[tuple[int, Decimal]]:
    """Return some ranks j with P[Bin(m, at_fpr) <= j - 1], rounded down, from about a half to about one."""
    expected = int(controls * at_fpr)
    least, spread = max(expected, 1), max(isqrt(expected) // 2, 1)
    found = []
    for step in range(_CANDIDATES):
        rank = least + step * spread
        if rank > controls:
            break
        wide = _DOWN.subtract(Decimal(1), binomial_tail(controls, enclose(at_fpr), rank).high)
        found.append((rank, wide))
        if wide > _CERTAIN:
            break
    return found


def _critical(records: int, controls: int, rank: int, alpha: Fraction) -> int | None:
    """Return the fewest of n records above the j-th highest control that n + m like records exceed at most with alpha.

    P[K = 0] is the product of (m - i) / (n + m - i) for i < j, and P[K = k + 1] / P[K = k] is
    (k + j) / (k + 1) * (n - k) / (n - k + m - j); ``None`` when even K = n is too likely.
    """
    term = Decimal(1)
    for place in range(rank):
        term = _DOWN.divide(_DOWN.multiply(term, Decimal(controls - place)), Decimal(records + controls - place))
    below, limit = Decimal(0), 1 - alpha
    for above in range(records):
        below = _DOWN.add(below, term)
        if Fraction(below) >= limit:  # then P[K >= above + 1] <= alpha
            return above + 1
        term = _DOWN.divide(
            _DOWN.multiply(term, Decimal((above + rank) * (records - above))),
            Decimal((above + 1) * (records - above + controls - rank)),
        )
    return None
