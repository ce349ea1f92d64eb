"""Numbers that would be bounds if a law had an assumed shape: shown with that assumption, never behind a verdict.

The Gaussian one is re-derived all the same: its arithmetic can be wrong in ways that its assumption cannot excuse.
"""

import re
from fractions import Fraction
from typing import Final

from .common import Outcome, derived_value, planned, question_of
from .context import Context
from .fields import Node, printed
from .normal import WITNESS, implied_eps, is_lower_witness
from .rates import SIDE_ALPHA, slot_rates
from .strict import Rejected
from .tails import cp_lower, cp_upper, floor_step

GAUSSIAN: Final = "A17"
"""The trade-off between the two kinds of error is that of two normal laws with equal variance."""

PLACES: Final = 12

_SIGNED: Final = re.compile(rf"(-?)(0|[1-9][0-9]?)\.([0-9]{{{PLACES}}})")


def extrapolation(claim: Node, context: Context) -> Outcome:
    """A number that assumes the shape of a curve, or a prior: shown with its assumption, never behind a verdict."""
    planned(claim, False)
    question_of(claim, context, "procedure")
    claim.text("value")
    claim.text("assumption")
    return "unverified", f"an extrapolation that supports no verdict; it assumes: {claim.text('assumption')}"


def mu_lower(claim: Node, context: Context) -> Outcome:
    """Re-derive mu >= Phi^-1(tpr) - Phi^-1(fpr) from two rates and a witness for each quantile (Nasr et al. 2023).

    The rates are those of two ``cp`` claims about the slots (``tpr``, ``fpr``), or of the counts of a planned two-pool
    bound (``from``), at half of ``alpha`` each. ``z1`` is the largest number with twelve decimals and Phi(z1) <= tpr,
    ``z2`` the smallest with Phi(z2) >= fpr; ``value`` is their difference, and ``eps`` what a Gaussian pair at that
    distance cannot satisfy at ``delta``, both rounded down.
    """
    planned(claim, False)
    question_of(claim, context, "procedure")
    claim.text("assumption")
    tpr, fpr = _pool_rates(claim, context) if claim.has("from") else slot_rates(claim, context)
    low, high = witness(claim, "z1"), witness(claim, "z2")
    if not 0 < tpr < 1 or not is_lower_witness(low, tpr):
        raise Rejected(f"{claim.path}.z1: {claim.text('z1')}; not the last with Phi(z1) <= {printed(tpr)} on its grid")
    if not 0 < fpr < 1 or not is_lower_witness(-high, 1 - fpr):
        raise Rejected(f"{claim.path}.z2: {claim.text('z2')}; not the first with Phi(z2) >= {printed(fpr)} on its grid")
    mu = gaussian_distance(low, high)
    derived_value(claim, "value", printed(mu))
    derived_value(claim, "eps", printed(implied_eps(mu, claim.level("delta"))))
    context.assume(claim, "A1", GAUSSIAN)
    return "assumed", (
        f"mu >= {printed(mu)} if the trade-off is that of two normal laws with equal variance ({GAUSSIAN}); an "
        "extrapolation that supports no verdict"
    )


def gaussian_distance(low: Fraction, high: Fraction) -> Fraction:
    """Return the printed lower end of mu that two witnesses give, at least 0."""
    return max(floor_step(low - high), Fraction(0))


def witness(claim: Node, key: str) -> Fraction:
    """Return a number with a sign and twelve decimals, in its one accepted spelling."""
    text = claim.text(key)
    match = _SIGNED.fullmatch(text)
    if match is None or text == f"-{spelled(Fraction(0))}":
        raise Rejected(f"{claim.path}.{key}: {text!r:.80}; expected a number below 100 with {PLACES} decimals")
    sign, whole, decimals = match.groups()
    size = Fraction(int(whole)) + int(decimals) * WITNESS
    return -size if sign else size


def spelled(z: Fraction) -> str:
    """Write a witness."""
    return f"{'-' if z < 0 else ''}{printed(abs(z), PLACES)}"


def _pool_rates(claim: Node, context: Context) -> tuple[Fraction, Fraction]:
    bound, _ = context.parent(claim, "from", "eps-lower")
    if bound.value.get("planned") is not True:
        raise Rejected(f"{claim.path}.from: {bound.text('id')!r} is not the planned bound from two pools")
    alpha = claim.level("alpha")
    if alpha > SIDE_ALPHA:
        raise Rejected(f"{claim.path}.alpha: {alpha}; expected at most {SIDE_ALPHA}")
    tpr = cp_lower(bound.whole("unlearned"), bound.whole("true"), alpha / 2)
    return tpr, cp_upper(bound.whole("retrained"), bound.whole("false"), alpha / 2)
