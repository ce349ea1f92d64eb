"""Changed bytes and changed JSON: what a fuzzer feeds to the checker."""

import json
import random
from collections.abc import Iterator
from typing import Any, Final

Place = tuple[str | int, ...]

VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2, 7, 2**31, 2**53 - 1, -(2**53) + 1, "", "x", "0", "1", "1/2", "-1", "1/0", "1/3",
    "0.0000", "999999999999999999", "1/999999999999999999", "0.000000000000000001", "1" * 400, "0" * 64, "f" * 64,
    "\u2028", "../plan.json", "evidence/slots.jsonl", "c-eps-procedure", "procedure", "artifact", "retrained", [], {},
    [[]], [0], ["a", "a"], {"sha256": "0" * 64}, {"x": {"y": []}}, [1] * 50,
)  # fmt: skip
"""Values that somewhere mean something, or almost do."""

TOKENS: Final = (
    b"", b"\0", b"\n", b"\r\n", b"\\", b'"', b"{", b"}", b"[", b"]", b",", b":", b"-", b"0", b"1e9", b"NaN", b"null",
    b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b'{"a":1,"a":2}', b"[" * 100, b"9" * 40, b"<head>\n", b"</script>\n",
    b"=", b"==", b"//", b"--", b"\\ud800", b"true", b"-0", b"1.5",
)  # fmt: skip


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Yield the place of every value within a JSON value."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*at, key)
            yield from places(value[key], (*at, key))


def changed_value(value: Any, rng: random.Random) -> Any:
    """Return a copy of a JSON value in which one to three places were changed, deleted, copied or added."""
    found = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2, 3))):
        known = list(places(found))
        if not known:
            return _any(rng)
        place = rng.choice(known)
        parent: Any = _at(found, place[:-1])
        match rng.randrange(6):
            case 0:
                del parent[place[-1]]
            case 1:  # another value of the same document, of whatever kind
                parent[place[-1]] = json.loads(json.dumps(_at(found, rng.choice(known))))
            case 2:
                parent[place[-1]] = _near(parent[place[-1]], rng)
            case 3 if isinstance(parent, list):
                parent.insert(rng.randrange(len(parent) + 1), _at(parent, place[-1:]))
            case 4 if isinstance(parent, dict):
                parent[rng.choice(("planned", "evidence", "from", "x", "design", "status"))] = _any(rng)
            case _:
                parent[place[-1]] = _any(rng)
    return found


def _any(rng: random.Random) -> Any:
    """Return one of the values, as a copy: what is put into a document may be changed there."""
    return json.loads(json.dumps(rng.choice(VALUES)))


def _at(value: Any, place: Place) -> Any:
    for key in place:
        value = value[key]
    return value


def _near(value: Any, rng: random.Random) -> Any:
    """Return a value of the same kind that is not far away."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return max(min(value + rng.choice((-1, 1, -2, 1000, -1000, 10**9)), 2**53 - 1), -(2**53) + 1)
    if isinstance(value, str) and value:
        place = rng.randrange(len(value))
        return value[:place] + rng.choice("0123456789abcdefx/.-") + value[place + rng.randrange(2) :]
    return _any(rng)


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return a copy of some bytes with one to four edits: a bit, a byte, a piece gone, doubled, moved or put in."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(found) + 1)
        end = min(place + rng.choice((1, 1, 4, 40, 400)), len(found))
        match rng.randrange(6):
            case 0 if place < len(found):
                found[place] ^= 1 << rng.randrange(8)
            case 1 if place < len(found):
                found[place] = rng.randrange(256)
            case 2:
                del found[place:end]
            case 3:
                found[place:place] = found[place:end]
            case 4:
                found = found[:place] if rng.randrange(8) == 0 else found
            case _:
                found[place:place] = rng.choice(TOKENS)
    return bytes(found)
