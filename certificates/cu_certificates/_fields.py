"""Reading a predicate for the report, and writing its numbers in words.

The report is drawn from a predicate that the checker has accepted, but also, marked as such, from one that nobody has
checked. So every field is read here: a missing one reads "not stated", one of the wrong kind is refused with its
place, and a number keeps the digits it was signed with. No float appears anywhere.
"""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Any, Final, Literal

from cu_certificates.check.strict import Rejected

NOT_STATED: Final = "not stated"
"""What a missing text reads as; the page says it in its own language."""

# Exponents are left out on purpose: "1e999999999" would be a cheap way to fill the reader's memory.
_NUMBER: Final = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40}|/[0-9]{1,40})?")
_PRECISE: Final = Context(prec=60, Emax=999_999, Emin=-999_999)
# Characters that a reader cannot see, or that reorder the text around them, are shown as escapes.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def visible(said: str) -> str:
    """Show invisible and reordering characters as JSON escapes, so that no name can fake what stands around it."""
    return _INVISIBLE.sub(lambda found: json.dumps(found[0])[1:-1], said)


def field(source: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted ``path``, or ``None`` when a part of it is absent.

    Raises:
        Rejected: A part of the path is present but is not an object.
    """
    value: Any = source
    for depth, key in enumerate(path.split(".")):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            where = ".".join(path.split(".")[:depth])
            raise Rejected(f"{where}: {type(value).__name__}; expected an object with the key {key!r}")
        value = value.get(key)
    return value


def text(source: Mapping[str, Any], path: str) -> str:
    """Return the value at ``path`` as text; a missing one reads "not stated".

    Raises:
        Rejected: The value is an object or a list.
    """
    value = field(source, path)
    if value is None or value == "":
        return NOT_STATED
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (str, int)):
        return str(value)
    raise Rejected(f"{path}: {type(value).__name__}; expected a string or an integer")


def word(source: Mapping[str, Any], path: str) -> str:
    """Return the string at ``path``, empty when absent: for words of the format that the report looks up.

    Raises:
        Rejected: The value is not a string.
    """
    value = field(source, path)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Rejected(f"{path}: {type(value).__name__}; expected a string")
    return value


def truth(source: Mapping[str, Any], path: str) -> bool | None:
    """Return the boolean at ``path``, ``None`` when absent.

    Raises:
        Rejected: The value is neither true nor false.
    """
    value = field(source, path)
    if value is None or isinstance(value, bool):
        return value
    raise Rejected(f"{path}: {type(value).__name__}; expected true or false")


def mapping(source: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the object at ``path``, empty when absent.

    Raises:
        Rejected: The value is not an object.
    """
    value = field(source, path)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Rejected(f"{path}: {type(value).__name__}; expected an object")
    return value


def objects(source: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    """Return the list of objects at ``path``, empty when absent.

    Raises:
        Rejected: The value is not a list of objects.
    """
    value = sequence(source, path)
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise Rejected(f"{path}[{index}]: {type(item).__name__}; expected an object")
    return value


def sequence(source: Mapping[str, Any], path: str) -> list[Any]:
    """Return the list at ``path``, empty when absent.

    Raises:
        Rejected: The value is not a list.
    """
    value = field(source, path)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Rejected(f"{path}: {type(value).__name__}; expected a list")
    return value


def words(source: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """Return the list of strings at ``path``, empty when absent.

    Raises:
        Rejected: The value is not a list of strings.
    """
    value = sequence(source, path)
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise Rejected(f"{path}[{index}]: {type(item).__name__}; expected a string")
    return tuple(value)


def flatten(source: Mapping[str, Any], plain: Mapping[bool | None, str]) -> Iterator[tuple[str, str]]:
    """Yield the leaves of an object as ("a.b", "text"), sorted by name, for a table of parameters.

    Args:
        source: The object.
        plain: The words for true, false and nothing.
    """
    for key in sorted(source):
        value = source[key]
        match value:
            case dict() if value:
                for inner, leaf in flatten(value, plain):
                    yield f"{key}.{inner}", leaf
            case list():
                yield key, ", ".join(_leaf(item, plain) for item in value) or plain[None]
            case _:
                yield key, _leaf(value, plain)


def _leaf(value: object, plain: Mapping[bool | None, str]) -> str:
    match value:
        case None | bool():
            return plain[value]
        case dict():
            return "{" + ", ".join(f"{key}: {leaf}" for key, leaf in flatten(value, plain)) + "}"
        case list():
            return "[" + ", ".join(_leaf(item, plain) for item in value) + "]"
        case _:
            return str(value)


def exact(value: object, where: str) -> Fraction:
    """Return an integer, a decimal string or a fraction string as an exact number.

    Raises:
        Rejected: ``value`` is none of these.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return Fraction(value)
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise Rejected(f"{where}: {value!r}; expected an integer, a decimal such as '0.25' or a fraction such as '1/4'")
    try:
        return Fraction(value)
    except ZeroDivisionError:
        raise Rejected(f"{where}: {value!r} divides by zero") from None


def fixed(value: Fraction, digits: int, way: Literal["down", "up", "near"] = "near") -> str:
    """Return ``value`` with exactly ``digits`` decimals; a lower bound goes down, an upper bound goes up."""
    scaled = value * 10**digits
    match way:
        case "down":
            units = scaled.numerator // scaled.denominator
        case "up":
            units = -(-scaled.numerator // scaled.denominator)
        case "near":
            units = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    sign, units = ("-" if units < 0 else ""), abs(units)
    if digits == 0:
        return f"{sign}{units}"
    return f"{sign}{units // 10**digits}.{units % 10**digits:0{digits}d}"


def short(value: Fraction, digits: int = 6) -> str:
    """Return ``value`` as the shortest exact decimal of at most ``digits`` places, else as a fraction."""
    for places in range(digits + 1):
        if (10**places) % value.denominator == 0:
            return fixed(value, places)
    return f"{value.numerator}/{value.denominator}"


def percent(value: Fraction, way: Literal["down", "up"], digits: int = 2) -> str:
    """Return a share as a percentage without needless zeros, for example ``97.5 %``; the space does not break."""
    rounded = exact(fixed(value * 100, digits, way), "percentage")
    return f"{short(rounded)}\u00a0%"


def confidence(alpha: object, where: str) -> str:
    """Return the one-sided level that belongs to ``alpha``, rounded down: ``1/40`` gives ``97.5 %``."""
    return percent(1 - exact(alpha, where), "down")


def guess_share(eps: Fraction, way: Literal["down", "up"]) -> str | None:
    """Return e^eps/(1 + e^eps) as a percentage with one decimal: how often a guesser can be right.

    Args:
        eps: At least 0.
        way: ``down`` for a measured lower bound, ``up`` for what a guarantee allows.

    Returns:
        For example ``92.6 %``; ``None`` where one decimal cannot tell the upper end from certainty.
    """
    # From 40 on one decimal says the same and a huge eps would overflow the exponent.
    bounded = min(max(eps, Fraction(0)), Fraction(40))
    ratio = _PRECISE.divide(Decimal(bounded.numerator), Decimal(bounded.denominator))
    odds = _PRECISE.exp(ratio)
    share = _PRECISE.multiply(_PRECISE.divide(odds, _PRECISE.add(odds, Decimal(1))), Decimal(100))
    rounded = share.quantize(Decimal("0.1"), rounding=ROUND_FLOOR if way == "down" else ROUND_CEILING)
    return f"{rounded}\u00a0%" if rounded < 100 else None


def anchor(identifier: str) -> str:
    """Return ``identifier`` as it may stand in an HTML id and in a link to it."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", identifier)
