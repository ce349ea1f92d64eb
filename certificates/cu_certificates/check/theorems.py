"""Upper bounds on eps from theorems: the arithmetic redone, every constant in the open, every assumption named.

No attack that failed bounds eps from above; only a theorem about the program that ran does. The checker redoes the last
step, from constants to (eps, delta). That the constants are those of the program, and that its noise is what it is said
to be, are assumptions, so such a claim is never more than ``assumed``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import isqrt
from types import MappingProxyType
from typing import Final

from .common import Outcome, once, planned
from .context import Context
from .fields import Node, printed, rational, shown
from .normal import gaussian_delta
from .strict import Rejected
from .tails import MAX_EPS, STEP, UP, enclose, smallest_step

UNPROVEN: Final = "A18"
"""The theorem's assumptions and constants are those of the program that ran, and its noise is what it is said to be."""

SAMPLERS: Final = MappingProxyType(
    {
        "float": "the noise was drawn in floating point by a sampler that nobody examined",
        "opendp": "the noise is said to come from OpenDP's sampler",
        "sampcert": "the noise is said to come from SampCert's sampler",
    }
)

MOST_RELEASES: Final = 1000
MOST_ASSUMPTIONS: Final = 40
MOST_TEXT: Final = 400
MOST_RECORDS: Final = 10_000_000

_LARGEST: Final = Fraction(10**18)
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
_DECIMAL: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?(e[+-]?[0-9]{1,2})?")

Curve = Callable[[Node, int], "Holds"]
"""Takes the constants and a group size; returns what says at which eps the guarantee holds at a delta."""

Holds = Callable[[Fraction, Fraction], bool]
"""Takes eps and delta: whether the theorem proves (eps, delta). True from some eps on."""


@dataclass(frozen=True, kw_only=True)
class Theorem:
    """One theorem: what it needs, and what follows.

    Args:
        source: Who proved it.
        constants: Names of its constants.
        needed: Ids of the assumptions without which nothing follows.
        curve: See :data:`Curve`.
        pure: Whether it gives delta = 0, and nothing else.
    """

    source: str
    constants: tuple[str, ...]
    needed: tuple[str, ...]
    curve: Curve
    pure: bool = False


def _positive(node: Node, key: str) -> Fraction:
    value = node.number(key, high=_LARGEST)
    if not value:
        raise Rejected(f"{node.path}.{key}: 0; expected a number above 0, rounded to the unfavourable side")
    return value


def _root_up(square: Fraction) -> Fraction:
    """Return the square root: itself where it is rational, else rounded up in the 60th digit."""
    top, bottom = isqrt(square.numerator), isqrt(square.denominator)
    if (top * top, bottom * bottom) == (square.numerator, square.denominator):
        return Fraction(top, bottom)
    # sqrt rounds half-even whatever the context says, so one unit upwards makes it an upper end.
    return Fraction(UP.next_plus(UP.sqrt(enclose(square).high)))


def _gaussian_curve(mu: Fraction) -> Holds:
    return lambda eps, delta: gaussian_delta(mu, eps).at_most(delta)


def _gaussian(constants: Node, records: int) -> Holds:
    return _gaussian_curve(records * _positive(constants, "sensitivity") / _positive(constants, "sigma"))


def _composed(constants: Node, records: int) -> Holds:
    parts, where = constants.items("mu"), f"{constants.path}.mu"
    if not 1 <= len(parts) <= MOST_RELEASES:
        raise Rejected(f"{where}: {len(parts)} releases; expected 1 to {MOST_RELEASES}")
    found = [rational(part, f"{where}[{index}]") for index, part in enumerate(parts)]
    if not all(0 < part <= _LARGEST for part in found):
        raise Rejected(f"{where}: expected numbers above 0 and at most {_LARGEST}")
    square = Decimal(0)
    for part in found:
        # Added as decimals, each rounded up: a sum of fractions could be made long enough to cost the reader minutes.
        square = UP.add(square, enclose(part * part).high)
    return _gaussian_curve(records * _root_up(Fraction(square)))


def _concentrated(constants: Node, records: int) -> Holds:
    rho = records * records * _positive(constants, "rho")

    def holds(eps: Fraction, delta: Fraction) -> bool:
        # eps >= rho + 2 sqrt(rho ln(1/delta)); ln rounds half-even, so one unit upwards makes it an upper end.
        logarithm = Fraction(UP.next_plus(UP.ln(enclose(1 / delta).high)))
        return eps >= rho and (eps - rho) ** 2 >= 4 * rho * logarithm

    return holds


def _laplace(constants: Node, records: int) -> Holds:
    whole = records * _positive(constants, "sensitivity") / _positive(constants, "scale")
    return lambda eps, _delta: eps >= whole


THEOREMS: Final[Mapping[str, Theorem]] = MappingProxyType(
    {
        "gaussian": Theorem(
            source="Balle and Wang 2018",
            constants=("sensitivity", "sigma"),
            needed=("sensitivity", "noise", "release"),
            curve=_gaussian,
        ),
        "gaussian-composed": Theorem(
            source="Dong, Roth and Su 2019",
            constants=("mu",),
            needed=("mechanisms", "noise", "release"),
            curve=_composed,
        ),
        "zcdp": Theorem(
            source="Bun and Steinke 2016",
            constants=("rho",),
            needed=("accounting", "noise", "release"),
            curve=_concentrated,
        ),
        "laplace": Theorem(
            source="Dwork, McSherry, Nissim and Smith 2006",
            constants=("sensitivity", "scale"),
            needed=("sensitivity", "noise", "release"),
            curve=_laplace,
            pure=True,
        ),
    }
)
"""The theorems that this checker knows, by id."""


def upper_eps(name: str, constants: Node, records: int, delta: Fraction) -> Fraction:
    """Return the smallest printed eps that a theorem proves at ``delta``.

    Args:
        name: A key of :data:`THEOREMS`.
        constants: Its constants; exactly those, beside ``unit`` and ``records``.
        records: How often a guarantee for one record counts; 1 where the constants are those of the whole request.
        delta: In (0, 1); 0 for a theorem that gives delta = 0.

    Raises:
        Rejected: A constant is absent, unknown or out of range, delta is, or no eps up to 1000 follows.
    """
    theorem = THEOREMS[name]
    if theorem.pure != (delta == 0) or not 0 <= delta < 1:
        expected = "0" if theorem.pure else "strictly between 0 and 1"
        raise Rejected(f"{constants.path}: delta {delta}; the theorem {name!r} is about delta {expected}")
    holds = theorem.curve(constants, records)
    found = smallest_step(lambda steps: holds(steps * STEP, delta))
    if found is None:
        raise Rejected(f"{constants.path}: with these constants no eps up to {MAX_EPS} follows at delta {delta}")
    return found


def group_size(name: str, constants: Node, request: int) -> int:
    """Return how often a theorem's guarantee for one unit counts, after demanding that its constants are complete.

    Args:
        name: A key of :data:`THEOREMS`.
        constants: The claim's constants.
        request: Records of the request.

    Raises:
        Rejected: A constant is unknown, or fewer records are counted than the request has.
    """
    per_record = constants.text("unit", "record", "request") == "record"
    expected = {"unit", *THEOREMS[name].constants, *(["records"] if per_record else [])}
    if set(constants.value) != expected:
        raise Rejected(f"{constants.path}: {sorted(constants.value)}; expected exactly {sorted(expected)}")
    if not per_record:
        return 1
    records = constants.whole("records", 1, MOST_RECORDS)
    if records < request:
        raise Rejected(f"{constants.path}.records: {records}; the request has {request}, and all of them must go")
    return records


def dp_bound(claim: Node, context: Context) -> Outcome:
    """A theorem's (eps, delta) for the whole request, in both directions; for a certified method it must cover it."""
    once(claim, context)
    certified = context.subject.text("guarantee") == "certified"
    planned(claim, certified)
    name, constants = claim.text("theorem", *THEOREMS), claim.node("constants")
    theorem, sampler = THEOREMS[name], claim.text("sampler", *SAMPLERS)
    # The setting is compared as well, so the size is the planned one.
    request = context.setting.node("request").whole("size", 1)
    records = group_size(name, constants, request)
    _require_parameters(constants, context)
    enforced, listed = _assumptions(claim, theorem)
    delta = claim.number("delta", high=Fraction(1))
    eps = upper_eps(name, constants, records, delta)
    if claim.number("eps", high=MAX_EPS) != eps:
        raise Rejected(f"{claim.path}.eps: {claim.text('eps')}; the theorem gives {printed(eps)}")
    context.assume(claim, UNPROVEN)
    line = (
        f"eps <= {printed(eps)} at delta {delta} for the whole request, by the theorem {name!r} ({theorem.source}); "
        f"{enforced} of its {listed} assumptions are enforced by the program, the others assumed; {SAMPLERS[sampler]}"
    )
    if certified:
        _require_cover(claim, context, eps, delta)
        context.theorems.append(line)
    return "assumed", line


def _require_cover(claim: Node, context: Context, eps: Fraction, delta: Fraction) -> None:
    """Demand that what the method states is no stronger than what the theorem gives."""
    stated = f"the method states eps {shown(context.tested_eps)} at delta {context.tested_delta}"
    if delta > context.tested_delta:
        raise Rejected(f"{claim.path}.delta: {delta}; {stated}, so the bound is about another guarantee")
    if eps > context.tested_eps:
        raise Rejected(f"{claim.path}.eps: {printed(eps)}; {stated}, which the theorem does not give")


def _require_parameters(constants: Node, context: Context) -> None:
    """Refuse a constant that differs from the method's planned parameter of the same name."""
    parameters = context.subject.node("parameters").value
    for key in constants.value:
        planned_value = _number_of(parameters.get(key))
        if planned_value is None or key in ("unit", "mu"):
            continue
        stated = Fraction(constants.whole(key)) if key == "records" else constants.number(key, high=_LARGEST)
        if stated != planned_value:
            raise Rejected(f"{constants.path}.{key}: {stated}; the plan's parameters of the method say {planned_value}")


def _number_of(value: object) -> Fraction | None:
    """Read a method's parameter as a number; ``None`` where it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Fraction(value)
    return Fraction(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else None


def _assumptions(claim: Node, theorem: Theorem) -> tuple[int, int]:
    """Return how many assumptions are enforced, and how many there are.

    Raises:
        Rejected: One has no name or no kind, or one is left out on which the theorem rests.
    """
    listed = claim.nodes("assumptions")
    if len(listed) > MOST_ASSUMPTIONS:
        raise Rejected(f"{claim.path}.assumptions: {len(listed)}; expected at most {MOST_ASSUMPTIONS}")
    kinds: dict[str, str] = {}
    for one in listed:
        name = one.text("id")
        if set(one.value) - {"id", "text", "kind"} or not _NAME.fullmatch(name) or name in kinds:
            raise Rejected(f"{one.path}: {name!r:.80}; expected id, kind and text, each assumption once")
        kinds[name] = one.text("kind", "enforced", "assumed")
        if one.has("text") or name not in theorem.needed:
            length = len(one.text("text"))
            if not 1 <= length <= MOST_TEXT:
                raise Rejected(f"{one.path}.text: {length} characters; expected 1 to {MOST_TEXT}")
    if absent := [name for name in theorem.needed if name not in kinds]:
        raise Rejected(f"{claim.path}.assumptions: {', '.join(absent)} left out; the theorem rests on it")
    return sum(kind == "enforced" for kind in kinds.values()), len(kinds)
