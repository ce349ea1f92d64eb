"""``conformal``: is this very file typical of models that never saw the request?

One model against n retrained references under a fixed score T: p = (1 + #{j : T_j >= T}) / (n + 1) is exact when the
model is one more draw from the references' law (Vovk, Gammerman, Shafer 2005, ch. 2). Under (eps, delta)-unlearning
P[p <= t] <= e^eps t + delta, so eps >= ln((alpha - delta) / p).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from cu_attacks._types import Attack, AttackError
from cu_certificates.check.tails import group_bound


@dataclass(frozen=True, kw_only=True)
class Conformal:
    """The outcome of an artifact test.

    Args:
        references: n, failed ones included.
        at_least: References that score at least as high as the model.
        p: Exact p-value; failed references count as scoring higher.
        alpha: Level of the bound.
        bound: Lower bound on eps for the whole request, rounded down to four decimals.
        assumptions: What the p-value rests on.
        shows_not: What a reader must not conclude.
    """

    references: int
    at_least: int
    p: Fraction
    alpha: Fraction
    bound: Fraction
    assumptions: str = "the score was fixed on other models; references are drawn as a retrain of this file would be"
    shows_not: str = "a large p does not show that nothing is left: the test sees only what the score sees"


def conformal(
    score: int, references: Sequence[int | None], *, alpha: Fraction, delta: Fraction = Fraction(0)
) -> Conformal:
    """Rank one model among retrained references.

    Args:
        score: The model's integer score, higher is less typical.
        references: Their integer scores; ``None`` for a failed reference.
        alpha: Level, in (0, 1).
        delta: Of the guarantee under test, in [0, 1); from alpha upwards nothing can be shown.

    Raises:
        AttackError: No references, or a level out of range.
    """
    if not references:
        raise AttackError("references: none; expected at least one retrained model")
    if not 0 < alpha < 1 or not 0 <= delta < 1:
        raise AttackError(f"alpha {alpha}, delta {delta}; expected 0 < alpha < 1 and 0 <= delta < 1")
    there = [other for other in references if other is not None]
    at_least = sum(other >= score for other in there)
    p = Fraction(1 + at_least + len(references) - len(there), len(references) + 1)
    return Conformal(
        references=len(references), at_least=at_least, p=p, alpha=alpha, bound=group_bound(p, alpha, delta)
    )


ATTACK = Attack(
    name="conformal",
    kind="question",
    paper="Vovk, Gammerman, Shafer 2005, Algorithmic Learning in a Random World, ch. 2",
    run=conformal,
)
