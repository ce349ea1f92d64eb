"""From the constants of a theorem to the claim that it makes: what a certified method hands to its certificate.

A constant is written so that rounding can only weaken the bound: sensitivities, distances and divergences up, the scale
of the noise down. The checker derives eps again from what is written (``check/theorems.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Final, Literal

from cu_certificates.check.fields import Node, printed
from cu_certificates.check.strict import Rejected
from cu_certificates.check.theorems import SAMPLERS, THEOREMS, upper_eps
from cu_certificates.errors import UsageError

Number = int | float | Decimal | Fraction

DOWNWARDS: Final = ("sigma", "scale")
"""Constants of which a smaller value gives a larger eps."""

PLACES: Final = 18


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """What a theorem rests on, beside its arithmetic.

    Args:
        id: Lower-case name; those that a theorem needs are listed in ``check.theorems.THEOREMS``.
        kind: ``enforced`` where the program sees to it, ``assumed`` where nobody does.
        text: What it says, at most 400 characters; may be empty for an id that the theorem needs.
    """

    id: str
    kind: Literal["enforced", "assumed"]
    text: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the assumption as a claim holds it."""
        found: dict[str, object] = {"id": self.id, "kind": self.kind}
        return {**found, "text": self.text} if self.text else found


def proven_eps(
    theorem: str,
    constants: Mapping[str, Number | Sequence[Number]],
    *,
    delta: Fraction,
    records: int | None = None,
) -> Fraction:
    """Return the smallest printed eps that a theorem proves for a whole request; a method states no smaller one.

    Args:
        theorem: A key of ``check.theorems.THEOREMS``.
        constants: Its constants, all above 0.
        delta: In (0, 1); 0 for ``laplace``.
        records: For constants about one record: how many records the request has. ``None`` where the constants are
            about the whole request.

    Raises:
        UsageError: The theorem is unknown, a constant is absent or out of range, or no eps up to 1000 follows.
    """
    return _eps(theorem, _written(theorem, constants, records), delta, records)


def dp_bound_claim(
    theorem: str,
    constants: Mapping[str, Number | Sequence[Number]],
    *,
    delta: Fraction,
    sampler: str,
    assumptions: Sequence[Assumption],
    records: int | None = None,
    certified: bool = True,
    name: str = "c-theorem",
) -> dict[str, object]:
    """Return the claim ``dp-bound``.

    Args:
        theorem: As in :func:`proven_eps`, like the next two.
        constants: See there.
        delta: See there.
        sampler: What drew the noise: ``float``, ``opendp`` or ``sampcert``.
        assumptions: On what the theorem rests; those that it needs must be among them.
        records: As in :func:`proven_eps`.
        certified: Whether the method states this guarantee; then a verdict may rest on the claim.
        name: The claim's id.

    Raises:
        UsageError: As :func:`proven_eps`; or the sampler is unknown, or an assumption is missing.
    """
    written = _written(theorem, constants, records)
    eps = _eps(theorem, written, delta, records)
    if sampler not in SAMPLERS:
        raise UsageError(f"dp-bound: sampler {sampler!r}; expected {', '.join(SAMPLERS)}")
    if absent := set(THEOREMS[theorem].needed) - {one.id for one in assumptions}:
        raise UsageError(f"dp-bound: {theorem} rests on {', '.join(sorted(absent))}; list each as enforced or assumed")
    return {
        "id": name,
        "type": "dp-bound",
        "theorem": theorem,
        "constants": written,
        "eps": printed(eps),
        "delta": str(delta),
        "sampler": sampler,
        "assumptions": [one.to_json() for one in assumptions],
        "planned": certified,
    }


def _eps(theorem: str, written: dict[str, object], delta: Fraction, records: int | None) -> Fraction:
    try:
        return upper_eps(theorem, Node(written, "constants"), 1 if records is None else records, delta)
    except Rejected as problem:
        raise UsageError(f"dp-bound: {theorem}: {problem}") from None


def _written(
    theorem: str, constants: Mapping[str, Number | Sequence[Number]], records: int | None
) -> dict[str, object]:
    """Return the constants as a claim holds them."""
    if theorem not in THEOREMS:
        raise UsageError(f"dp-bound: theorem {theorem!r}; expected {', '.join(THEOREMS)}")
    expected = THEOREMS[theorem].constants
    if set(constants) != set(expected):
        raise UsageError(f"dp-bound: {theorem} takes {', '.join(expected)}; got {', '.join(sorted(constants))}")
    if records is not None and records < 1:
        raise UsageError(f"dp-bound: {records} records; expected at least 1, or none where the constants are about all")
    found: dict[str, object] = {
        key: [_spelled(key, one) for one in value] if isinstance(value, Sequence) else _spelled(key, value)
        for key, value in constants.items()
    }
    return {**found, "unit": "request"} if records is None else {**found, "unit": "record", "records": records}


def _spelled(key: str, value: Number) -> str:
    """Write a constant: a short fraction as it is, any other number with 18 decimals, rounded to the weaker side."""
    finite = not isinstance(value, (float, Decimal)) or isfinite(value)
    if not finite or not 0 < value < 10**PLACES:
        raise UsageError(f"dp-bound: {key} = {value}; expected a number above 0 and below 10^{PLACES}")
    exact = Fraction(value)
    if not isinstance(value, float) and max(exact.numerator, exact.denominator) < 10**PLACES:
        return str(exact)
    steps = exact * 10**PLACES
    rounded = steps.__floor__() if key in DOWNWARDS else steps.__ceil__()
    if not rounded:
        raise UsageError(f"dp-bound: {key} = {value}; expected at least 10^-{PLACES}")
    whole, rest = divmod(rounded, 10**PLACES)
    return f"{whole}.{rest:0{PLACES}d}".rstrip("0").rstrip(".")
