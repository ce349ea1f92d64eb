"""The strict parsers: one spelling for each value, and nothing that two readers could read differently."""

import base64
import json
from typing import Any

import pytest
from conftest import SLOW
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cu_certificates.check.fields import Node, printed, rational, shown
from cu_certificates.check.strict import MAX_DEPTH, MAX_INT, Rejected, canonical, decode_base64, parse

EXAMPLES = settings(deadline=None, max_examples=1000 if SLOW else 120)

KEYS = st.text(st.characters(max_codepoint=127), max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LEAVES = st.none() | st.booleans() | st.integers(-MAX_INT, MAX_INT) | TEXTS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@EXAMPLES
@given(VALUES)
@example({"\x7f": "\u2028\u00e9\U0001f600", "a": ['\x00\b\f\n\r\t"\\/\x1f']})
def test_canonical_bytes_come_back_and_are_canonical(value: Any) -> None:
    data = canonical(value)
    assert parse(data) == value
    assert canonical(parse(data)) == data
    assert b"\n" not in data
    assert canonical(json.loads(json.dumps(value))) == data  # spelling of the input does not matter


def test_canonical_is_rfc_8785() -> None:
    value = {
        "b": [True, False, None, 0, -7, MAX_INT],
        "a": {"z": '\u20ac$\u000f\nA\'B"\\"/', "": ""},
        "A": "\x7f\u0080",
    }
    assert (
        canonical(value)
        == (
            '{"A":"\x7f\u0080","a":{"":"","z":"\u20ac$\\u000f\\nA\'B\\"\\\\\\"/"},'
            '"b":[true,false,null,0,-7,9007199254740991]}'
        ).encode()
    )


@pytest.mark.parametrize(
    "value",
    [1.0, float("nan"), 2**53, -(2**53), b"x", (1,), {1: 2}, {"\u00e9": 1}, "\ud800", ["\udfff"], {"a": {"b": 0.5}}],
)
def test_canonical_refuses_what_no_document_may_hold(value: object) -> None:
    with pytest.raises(Rejected):
        canonical(value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a":1,"a":1}', "'a' stands twice"),
        (b'[{"x":{"a":1,"b":2,"a":3}}]', "'a' stands twice"),
        (b'{"a":1,"\\u0061":2}', "'a' stands twice"),
        (b"1.0", "number '1.0'"),
        (b'{"a":1e3}', "number '1e3'"),
        (b"[1E2]", "number '1E2'"),
        (b"-0", "number '-0'"),
        (b"[-0.0]", "number '-0.0'"),
        (b"NaN", "number 'NaN'"),
        (b"[Infinity]", "number 'Infinity'"),
        (b"-Infinity", "number '-Infinity'"),
        (b'\xef\xbb\xbf{"a":1}', "byte-order mark"),
        (b'{"a":"\xff"}', "byte 6 is not UTF-8"),
        (b'"\xed\xa0\x80"', "is not UTF-8"),
        (b'"\\ud800"', "lone surrogate"),
        (b'{"\\ud800":1}', "expected an ASCII string"),
        (b'{"\xc3\xa9":1}', "expected an ASCII string"),
        (b"9007199254740992", "2\\^53"),
        (b"-9007199254740992", "2\\^53"),
        (b"1" * 5000, "5000 digits"),
        (b"", "not JSON at line 1"),
        (b"{} {}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'"\t"', "not JSON"),
        (b"01", "not JSON"),
        (b"+1", "not JSON"),
        (b"tru", "not JSON"),
        (b"[" * 70 + b"]" * 70, "nested too deeply"),
        (b"[" * 100_000, "(nested too deeply|not JSON)"),
        (b'{"a":' * 200_000, "(nested too deeply|not JSON)"),
    ],
)
def test_parse_refuses(data: bytes, message: str) -> None:
    with pytest.raises(Rejected, match=message):
        parse(data, "document")


def test_the_limits_themselves_are_accepted() -> None:
    assert parse(b"9007199254740991") == MAX_INT
    assert parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) != []
    with pytest.raises(Rejected, match="nested too deeply"):
        parse(b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2))
    with pytest.raises(Rejected, match="5 bytes; expected at most 4"):
        parse(b"12345", max_bytes=4)
    assert parse(b'"\\ud83d\\ude00"') == "\U0001f600"


@EXAMPLES
@given(st.binary(max_size=80) | TEXTS.map(lambda text: text.encode()) | VALUES.map(lambda v: json.dumps(v).encode()))
def test_parse_gives_a_value_or_says_no(data: bytes) -> None:
    try:
        value = parse(data)
    except Rejected:
        return
    assert canonical(value) is not None


# --- Base64 ----------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.binary(max_size=40))
def test_base64_has_one_spelling_in_each_alphabet(data: bytes) -> None:
    for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        assert decode_base64(text) == data
        for spoiled in (text + "\n", " " + text, text + "=", text.rstrip("=") + "==="):
            with pytest.raises(Rejected):
                decode_base64(spoiled)
        if text.endswith("="):
            with pytest.raises(Rejected):
                decode_base64(text.rstrip("="))


@pytest.mark.parametrize("text", ["YR==", "YWJ=", "-+==", "ab+_", "a", "====", "YQ=\n=", "Y\u0430==", "YQ==YQ=="])
def test_base64_refuses_what_is_not_canonical(text: str) -> None:
    with pytest.raises(Rejected):
        decode_base64(text)


# --- Typed getters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1/0", "01", "1.", ".5", "1e3", "1/ 2", "0x1", "\u0661", "1" * 19, "1/02", "1.2/3"]
)
def test_a_number_has_one_form(text: str) -> None:
    with pytest.raises(Rejected, match="expected a decimal or fraction"):
        rational(text, "here")


def test_numbers_and_how_they_are_printed() -> None:
    assert rational("0.0125", "") == rational("1/80", "")
    assert printed(rational("2.5272", "")) == "2.5272"
    assert printed(rational("3", "")) == "3.0000"
    assert shown(rational("1/3", "")) == "1/3"
    assert shown(rational("1/2", "")) == "0.5000"
    for value in (rational("1/3", ""), -rational("1", "")):
        with pytest.raises(ValueError, match="does not lie on the grid"):
            printed(value)


NODE = Node(
    {
        "t": "x",
        "n": 3,
        "b": True,
        "f": "1/2",
        "l": ["a"],
        "o": {"sha256": "0" * 64},
        "m": [1],
        "z": None,
        "h": "A" * 64,
    },
    "here",
)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: NODE.text("gone"), "here.gone: missing"),
        (lambda: NODE.text("n"), "expected a string"),
        (lambda: NODE.text("t", "y", "z"), "expected y or z"),
        (lambda: NODE.whole("b"), "whole number"),
        (lambda: NODE.whole("n", 4), "from 4"),
        (lambda: NODE.whole("t"), "whole number"),
        (lambda: NODE.flag("n"), "true or false"),
        (lambda: NODE.number("n"), "decimal or fraction"),
        (lambda: NODE.level("z"), "decimal or fraction"),
        (lambda: Node({"f": "1"}, "here").level("f"), "strictly between"),
        (lambda: Node({"f": "2000"}, "here").number("f"), "expected 0 to 1000"),
        (lambda: NODE.node("l"), "expected an object"),
        (lambda: NODE.items("o"), "expected a list"),
        (lambda: NODE.texts("m"), "list of strings"),
        (lambda: NODE.nodes("l"), r"here.l\[0\]: str; expected an object"),
        (lambda: NODE.hex("h"), "64 lower-case"),
        (lambda: Node({"digest": {"sha256": "0" * 64, "sha512": "x"}}, "here").digest(), "sha256 alone"),
        (lambda: Node([], "here"), "expected an object"),
    ],
)
def test_getters_say_what_they_expect(read: Any, message: str) -> None:
    with pytest.raises(Rejected, match=message):
        read()
