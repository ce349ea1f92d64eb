"""Tables of ``cu-cert.toml`` as frozen dataclasses: one declaration gives the type, the check, the text and the line.

Each field of a table carries its reader and its sentence of documentation (:func:`option`). :func:`build` reads a table
strictly, and :func:`lines_of` writes the same table as commented text, so neither can lack an option.
"""

import json
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cu_cert.errors import ConfigError, CuCertError
from cu_certificates._toml import KeyPath, key_lines, nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
Reader = Callable[[object], object]

_EXACT = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][-+]?[0-9]{1,2})?|[0-9]{1,15}/[0-9]{1,15}")
_PLACE = re.compile(r"\[(\w+)\] ([^\s:=]+)")
_WIDTH = 100


def option(reader: Reader, doc: str, *, example: object = None) -> dict[str, object]:
    """Return the metadata of a field that is read from a table.

    Args:
        reader: Turns the parsed value into the field's; raises ``ValueError`` with what was expected.
        doc: What the option does, for the person who edits the file.
        example: Shown, commented out, where the option has no value.
    """
    return {"reader": reader, "doc": doc, "example": example}


def text(value: object) -> str:
    """Read a non-empty string."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a non-empty string in quotes")
    return value


def texts(value: object) -> tuple[str, ...]:
    """Read a list of distinct non-empty strings."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise ValueError('a list of non-empty strings, such as ["a", "b"]')
    twice = sorted({item for item in value if value.count(item) > 1})
    if twice:
        raise ValueError(f"each name once; {twice[0]!r} stands twice")
    return tuple(value)


def whole(value: object) -> int:
    """Read a whole number that fits any JSON reader."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**53:
        raise ValueError("a whole number without quotes, below 2^53")
    return value


def flag(value: object) -> bool:
    """Read ``true`` or ``false``."""
    if not isinstance(value, bool):
        raise ValueError("true or false, without quotes")
    return value


def table(value: object) -> dict[str, object]:
    """Read a table."""
    if not isinstance(value, dict):
        raise ValueError("a table, such as { epochs = 5 }")
    return value


def exact(value: object) -> Fraction:
    """Read a number that is at least 0 as an exact fraction; floats are refused.

    Certificates carry no floats, and 0.05 as a float is not one twentieth: two readers could round it apart.
    """
    if isinstance(value, float):
        raise ValueError(f'an exact number in quotes, since a float has no exact value: write "{value}"')
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Fraction(value)
    if not isinstance(value, str) or not _EXACT.fullmatch(value):
        raise ValueError('an exact decimal or fraction of at least 0 in quotes, such as "0.05" or "1/20"')
    try:
        return Fraction(value)
    except ZeroDivisionError:
        raise ValueError("a fraction that does not divide by 0") from None


def require(holds: bool, place: str, value: object, expected: str) -> None:
    """Raise a :class:`ConfigError` about ``[table] key`` unless ``holds``."""
    if not holds:
        raise ConfigError(f"{place} = {toml_value(value)}; expected {expected}")


def toml_value(value: object) -> str:
    """Return ``value`` as TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case Fraction():
            return f'"{value}"'
        case str():
            # JSON and TOML escape strings alike, but TOML wants DEL escaped as well.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
        case list() | tuple():
            return f"[{', '.join(toml_value(item) for item in value)}]"
        case Mapping():
            inner = ", ".join(f"{toml_key(str(key))} = {toml_value(item)}" for key, item in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case _:
            return str(value)


def toml_key(key: str) -> str:
    """Return ``key`` bare where TOML allows it, quoted elsewhere."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)


@dataclass(frozen=True, kw_only=True)
class Document:
    """A parsed TOML file that still knows its lines.

    Args:
        path: Where it was read.
        values: What ``tomllib`` parsed.
        lines: The line of each key, from 1.
    """

    path: Path
    values: Mapping[str, object]
    lines: Mapping[KeyPath, int]

    def where(self, *keys: str) -> str:
        """Return ``file:line`` of a key, or of the nearest table above it."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{self.path}:{self.lines.get(keys, 1)}"

    @contextmanager
    def located(self) -> Iterator[None]:
        """Put ``file:line`` before errors whose message starts with ``[table] key``."""
        try:
            yield
        except CuCertError as error:
            place = _PLACE.match(str(error))
            if place is None:
                raise
            raise type(error)(f"{self.where(place[1], place[2].strip(chr(34)))}: {error}") from error.__cause__


def read_document(path: Path) -> Document:
    """Read a TOML file.

    Raises:
        ConfigError: It cannot be read, is not UTF-8 or is not TOML.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a TOML file") from None
    try:
        content = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 (byte {error.start}); save the file as UTF-8") from None
    if content.startswith("\ufeff"):
        raise ConfigError(f"{path}:1: starts with a byte-order mark; save the file as UTF-8 without one")
    try:
        values = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
        line = int(found[1]) if found else content.count("\n") + 1
        what = message[: found.start()] + f" (column {found[2]})" if found else message
        raise ConfigError(f"{path}:{line}: not valid TOML: {what}; mend this line") from None
    except RecursionError:
        raise ConfigError(f"{path}:1: not valid TOML: nested too deeply") from None
    return Document(path=path, values=values, lines=key_lines(content))


def build(kind: type[T], name: str, values: Mapping[str, object], **extra: object) -> T:
    """Build the record of table ``[name]``; absent keys take their defaults.

    Args:
        kind: A frozen dataclass whose fields carry :func:`option` metadata.
        name: Name of the table, for messages.
        values: The table as parsed.
        extra: Fields that do not come from the table under their own names.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or lies out of range.
    """
    known = {field.name: field for field in fields(kind) if "reader" in field.metadata}
    found: dict[str, object] = dict(extra)
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"[{name}] {toml_key(key)}: unknown key; expected {nearest(key, list(known))}")
        reader: Reader = known[key].metadata["reader"]
        try:
            found[key] = reader(value)
        except ValueError as error:
            raise ConfigError(f"[{name}] {key} = {toml_value(value)}; expected {error}") from None
    return kind(**found)


def lines_of(record: "DataclassInstance") -> Iterator[str]:
    """Yield the lines of a table: each option with its documentation, commented out where it has no value.

    A line ``#key = value`` (no space) is an option that is switched off; ``# words`` is prose.
    """
    for field in fields(record):
        if "doc" not in field.metadata:
            continue
        value = getattr(record, field.name)
        unset = value is None or value == () or value == {}
        yield ""
        yield from comment(field.metadata["doc"] + _default(field.default, value))
        shown = field.metadata["example"] if unset else value
        yield f"{'#' if unset else ''}{field.name} = {toml_value(shown)}"


def comment(words: str) -> Iterator[str]:
    """Yield ``words`` as wrapped comment lines."""
    for line in textwrap.wrap(words, _WIDTH - 2, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"


def _default(default: object, value: object) -> str:
    if default is MISSING or default is None or default == () or default == value:
        return ""
    return f" Default: {toml_value(default)}."
