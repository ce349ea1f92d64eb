"""``labels``: do one model's scores tell the request from never-trained records of the same kind?

The test of whoever cannot retrain. If the records of the request are exchangeable with never-trained ones of the same
stratum, then a model that never saw the request gives scores that know nothing of who is in it, and the permutation
p-value is exact (Phipson and Smyth 2010, arXiv 1603.05766, for assignments drawn at random). It concerns one
model, so under (eps, delta)-unlearning P[p <= t] <= e^eps t + delta and eps >= ln((alpha - delta) / p), for the request
as a whole.

Five statistics share one p-value by Tippett's rule over the same assignments: the mean on both sides, the two tails
(Savage scores) and the single worst record on both sides. Ranks among the assignments, not standardised values, are
compared: a worst record, whose rank can never fall below the request's share of all records, then costs the others
nothing where it cannot decide, and decides where the request is small.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from cu_attacks._types import Attack, AttackError
from cu_certificates.check.label_table import assignments, p_values, score_statistics
from cu_certificates.check.strict import MAX_INT
from cu_certificates.check.tails import group_bound

KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The outcome of a permutation test on one model.

    Args:
        request: Records of the request.
        never: Never-trained records.
        permutations: B, random assignments of the request's place.
        as_unusual: Assignments, the true one included, that look at least as unusual as the true one.
        p: ``as_unusual`` / (B + 1), exact.
        alpha: Level of the bound.
        delta: Of the guarantee under test.
        bound: Lower bound on eps for the request as a whole, rounded down to four decimals.
        assumptions: What the p-value rests on.
        shows_not: What a reader must not conclude.
    """

    request: int
    never: int
    permutations: int
    as_unusual: int
    p: Fraction
    alpha: Fraction
    delta: Fraction
    bound: Fraction
    assumptions: str = (
        "within each stratum the request and the never-trained records are exchangeable, and the scores were made "
        "without looking at which is which; a class, one person's records or a cluster of outliers is not"
    )
    shows_not: str = (
        "a large p does not show that nothing is left: no retrained model was there to compare with, and what the "
        "model kept of all such records alike stays unseen"
    )


def labels(
    scores: Sequence[int],
    request: Sequence[bool],
    strata: Sequence[int],
    *,
    key: bytes,
    permutations: int = 9999,
    alpha: Fraction,
    delta: Fraction = Fraction(0),
) -> Labels:
    """Judge the true place of the request among random ones.

    Args:
        scores: One integer a record, of the one audited model; both large and small ones may be unusual.
        request: Whether each record is in the request.
        strata: The stratum of each record, for example its class; places are exchanged within strata only.
        key: 32 bytes that fix the random assignments, drawn without looking at ``request``.
        permutations: B, at least 1.
        alpha: Level, in (0, 1).
        delta: Of the guarantee under test, in [0, 1); from alpha upwards nothing can be shown.

    Raises:
        AttackError: Lengths disagree, a score is no integer below 2^53, a stratum lacks one of the two groups, or a
            level, size or key is out of range.
    """
    if not len(scores) == len(request) == len(strata) or not len(scores):
        raise AttackError(
            f"scores, request, strata: {len(scores)}, {len(request)} and {len(strata)} entries; expected one of each "
            "for every record"
        )
    if any(isinstance(score, bool) or not isinstance(score, int) or abs(score) > MAX_INT for score in scores):
        raise AttackError("scores: expected integers below 2^53; write a number in millionths and round it")
    if not 0 < alpha < 1 or not 0 <= delta < 1:
        raise AttackError(f"alpha {alpha}, delta {delta}; expected 0 < alpha < 1 and 0 <= delta < 1")
    if permutations < 1 or len(key) != KEY_BYTES:
        raise AttackError(
            f"permutations {permutations}, key of {len(key)} bytes; expected at least 1, and {KEY_BYTES} bytes"
        )
    inside = [bool(member) for member in request]
    _require_both(inside, strata)
    found, _ = p_values(
        {"score": score_statistics(scores, strata, inside)}, assignments(strata, inside, key, permutations)
    )
    p = found["score"]
    return Labels(
        request=sum(inside),
        never=len(inside) - sum(inside),
        permutations=permutations,
        as_unusual=int(p * (permutations + 1)),
        p=p,
        alpha=alpha,
        delta=delta,
        bound=group_bound(p, alpha, delta),
    )


def _require_both(inside: Sequence[bool], strata: Sequence[int]) -> None:
    groups: dict[int, set[bool]] = {}
    for member, stratum in zip(inside, strata, strict=True):
        groups.setdefault(stratum, set()).add(member)
    alone = sorted(stratum for stratum, found in groups.items() if len(found) < 2)
    if alone:
        raise AttackError(
            f"strata: stratum {alone[0]} holds {'only' if groups[alone[0]] == {True} else 'no'} records of the "
            "request; expected both kinds in each, so drop the records without a counterpart"
        )


ATTACK = Attack(
    name="labels",
    kind="question",
    paper="Phipson, Smyth 2010, arXiv 1603.05766; combination: Westfall, Young 1993; Pesarin, Salmaso 2010",
    run=labels,
)
