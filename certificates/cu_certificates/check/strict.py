"""Strict JSON and base64: the only parsers that touch bytes from outside.

A certificate is hostile input until proved otherwise, and two parsers that read the same bytes differently are an
attack. So one spelling is accepted for each value: no duplicate keys, no floats, no NaN, no byte-order mark, no
integer of 2^53 or more, no lone surrogate, bounded size and depth, canonical base64.
"""

import base64
import json
from typing import Any, Final, NoReturn

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_INT: Final = 2**53 - 1


class Rejected(Exception):
    """The checker does not accept this input; the message names the place and what was expected."""


def canonical(value: object) -> bytes:
    """Return the canonical JSON bytes of ``value`` (RFC 8785 restricted to what cu-cert writes).

    With ASCII keys, no floats and integers below 2^53, sorted keys and no white space are exactly RFC 8785, so no
    dependency is needed.

    Args:
        value: Dictionaries with string keys, lists, strings, integers, booleans and ``None``.

    Returns:
        UTF-8 bytes without a final newline.

    Raises:
        Rejected: ``value`` holds something else, for example a float.
    """
    _walk(value, "$", 0)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse(data: bytes, what: str = "document", *, max_bytes: int = MAX_BYTES) -> Any:
    """Parse JSON bytes and refuse everything that two readers could read differently.

    Args:
        data: The bytes as they were received.
        what: How the input is called in an error message.
        max_bytes: The largest size that is read.

    Returns:
        The parsed value.

    Raises:
        Rejected: The bytes are too long, are not strict UTF-8, or are not the JSON that cu-cert writes.
    """
    if len(data) > max_bytes:
        raise Rejected(f"{what}: {len(data)} bytes; expected at most {max_bytes}")
    if data.startswith(b"\xef\xbb\xbf"):
        raise Rejected(f"{what}: starts with a byte-order mark; expected plain UTF-8")
    try:
        text = data.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        raise Rejected(f"{what}: byte {error.start} is not UTF-8") from None

    def no_float(literal: str) -> NoReturn:
        raise Rejected(f"{what}: number {literal!r}; expected an integer, or a decimal or fraction in a string")

    def bounded_int(literal: str) -> int:
        if len(literal) > 17:
            raise Rejected(f"{what}: integer of {len(literal)} digits; expected less than 2^53 in magnitude")
        if literal == "-0":
            raise Rejected(f"{what}: number '-0'; expected 0")
        return int(literal)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise Rejected(f"{what}: key {key!r} stands twice in one object")
            found[key] = value
        return found

    try:
        value = json.loads(
            text, object_pairs_hook=unique, parse_float=no_float, parse_constant=no_float, parse_int=bounded_int
        )
    except json.JSONDecodeError as error:
        raise Rejected(f"{what}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise Rejected(f"{what}: nested too deeply; expected at most {MAX_DEPTH} levels") from None
    _walk(value, what, 0)
    return value


def _walk(value: object, where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Rejected(f"{where}: nested too deeply; expected at most {MAX_DEPTH} levels")
    match value:
        case None | bool():
            return
        case int():
            if abs(value) > MAX_INT:
                raise Rejected(f"{where}: integer {value}; expected less than 2^53 in magnitude")
        case str():
            if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
                raise Rejected(f"{where}: a lone surrogate in a string")
        case list():
            for index, item in enumerate(value):
                _walk(item, f"{where}[{index}]", depth + 1)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str) or not key.isascii():
                    raise Rejected(f"{where}: key {key!r}; expected an ASCII string")
                _walk(item, f"{where}.{key}", depth + 1)
        case _:
            raise Rejected(f"{where}: {type(value).__name__} cannot stand in a cu-cert document")


def decode_base64(text: str, what: str = "base64") -> bytes:
    """Decode canonical base64: one alphabet, right padding, no white space, no stray bits.

    Both the standard and the URL-safe alphabet are accepted, as DSSE demands, but never mixed. The decoded bytes are
    encoded again and compared, because ``b64decode(validate=True)`` ignores the spare bits of the last character
    (``YQ==`` and ``YR==`` both give ``a``) and a flipped bit would otherwise pass.

    Args:
        text: The encoded text.
        what: How the input is called in an error message.

    Raises:
        Rejected: ``text`` is not the one canonical encoding of any bytes.
    """
    try:
        raw = text.encode("ascii")
        urlsafe = b"-" in raw or b"_" in raw
        decoded = base64.b64decode(raw, altchars=b"-_" if urlsafe else None, validate=True)
    except ValueError:
        raise Rejected(f"{what}: not base64") from None
    again = base64.urlsafe_b64encode(decoded) if urlsafe else base64.b64encode(decoded)
    if again != raw:
        raise Rejected(f"{what}: not canonical base64 (mixed alphabets, or unused bits are set)")
    return decoded
