"""Typed getters over parsed JSON: a certificate is hostile input, so each read says what it expects and where."""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from .strict import Rejected

_NUMBER = re.compile(r"(0|[1-9][0-9]{0,17})(?:/([1-9][0-9]{0,17})|\.([0-9]{1,18}))?")
_HEX = re.compile(r"[0-9a-f]{64}")


class Node:
    """A JSON object with the path at which it stands.

    Args:
        value: The parsed object.
        path: Where it stands, for messages.
    """

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise Rejected(f"{path}: {type(value).__name__}; expected an object")
        self.value: Mapping[str, Any] = value
        self.path = path

    def has(self, key: str) -> bool:
        """Whether the key stands in the object."""
        return key in self.value

    def _get(self, key: str) -> Any:
        if key not in self.value:
            raise Rejected(f"{self.path}.{key}: missing")
        return self.value[key]

    def node(self, key: str) -> "Node":
        """Return an object."""
        return Node(self._get(key), f"{self.path}.{key}")

    def nodes(self, key: str) -> list["Node"]:
        """Return a list of objects."""
        return [Node(item, f"{self.path}.{key}[{index}]") for index, item in enumerate(self.items(key))]

    def items(self, key: str) -> list[Any]:
        """Return a list."""
        value = self._get(key)
        if not isinstance(value, list):
            raise Rejected(f"{self.path}.{key}: {type(value).__name__}; expected a list")
        return value

    def texts(self, key: str) -> list[str]:
        """Return a list of strings."""
        values = self.items(key)
        if not all(isinstance(value, str) for value in values):
            raise Rejected(f"{self.path}.{key}: expected a list of strings")
        return values

    def text(self, key: str, *allowed: str) -> str:
        """Return a string, one of ``allowed`` when these are given."""
        value = self._get(key)
        if not isinstance(value, str) or (allowed and value not in allowed):
            raise Rejected(f"{self.path}.{key}: {value!r}; expected {' or '.join(allowed) or 'a string'}")
        return value

    def whole(self, key: str, low: int = 0, high: int = 10_000_000) -> int:
        """Return an integer in [low, high]."""
        value = self._get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Rejected(f"{self.path}.{key}: {value!r}; expected a whole number from {low} to {high}")
        return value

    def flag(self, key: str) -> bool:
        """Return a boolean."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise Rejected(f"{self.path}.{key}: {value!r}; expected true or false")
        return value

    def number(self, key: str, low: Fraction = Fraction(0), high: Fraction = Fraction(1000)) -> Fraction:
        """Return a rational in [low, high], written as ``"3"``, ``"1/40"`` or ``"0.0125"``."""
        value = rational(self._get(key), f"{self.path}.{key}")
        if not low <= value <= high:
            raise Rejected(f"{self.path}.{key}: {value}; expected {low} to {high}")
        return value

    def level(self, key: str) -> Fraction:
        """Return a rational strictly between 0 and 1."""
        value = self.number(key, high=Fraction(1))
        if not 0 < value < 1:
            raise Rejected(f"{self.path}.{key}: {value}; expected strictly between 0 and 1")
        return value

    def hex(self, key: str) -> str:
        """Return 64 lower-case hexadecimal digits."""
        value = self.text(key)
        if not _HEX.fullmatch(value):
            raise Rejected(f"{self.path}.{key}: {value[:80]!r}; expected 64 lower-case hexadecimal digits")
        return value

    def digest(self, key: str = "digest") -> str:
        """Return the hex of a ``{"sha256": hex}`` map with nothing else in it."""
        node = self.node(key)
        if set(node.value) != {"sha256"}:
            raise Rejected(f"{node.path}: keys {sorted(node.value)}; expected sha256 alone")
        return node.hex("sha256")


def rational(value: object, where: str) -> Fraction:
    """Read a non-negative rational from its one accepted spelling.

    Raises:
        Rejected: Not a string such as ``"3"``, ``"1/40"`` or ``"0.0125"``.
    """
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Rejected(f"{where}: {value!r}; expected a decimal or fraction in a string")
    whole, denominator, decimals = match.groups()
    if denominator:
        return Fraction(int(whole), int(denominator))
    return Fraction(int(whole)) + (Fraction(int(decimals), 10 ** len(decimals)) if decimals else 0)


def printed(value: Fraction, places: int = 4) -> str:
    """Write a rational that lies on the printed grid as a decimal string.

    Raises:
        ValueError: ``value`` is negative or has more than ``places`` decimals.
    """
    scaled = value * 10**places
    if scaled.denominator != 1 or scaled < 0:
        raise ValueError(f"{value} does not lie on the grid of {places} decimals")
    whole, rest = divmod(scaled.numerator, 10**places)
    return f"{whole}.{rest:0{places}d}"


def shown(value: Fraction) -> str:
    """Write a rational for a person: as a decimal when it lies on the grid, else as a fraction."""
    return printed(value) if value >= 0 and (value * 10**4).denominator == 1 else str(value)
