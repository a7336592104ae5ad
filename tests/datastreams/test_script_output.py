"""The output of scripts, typed."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.datastreams.script_output import parse_output
from oda.settings import ValueType


@pytest.mark.parametrize(
    ("output", "value_type", "value"),
    [
        ("hello world\n", "STRING", "hello world"),
        ("first\nsecond\n", "STRING", "first"),
        ("\n \nfirst \r\nsecond", "STRING", "first"),
        ("21.5\nof all sensors\n", "DOUBLE", 21.5),
        ('{"a":\n1}\n', "JSON", {"a": 1}),
        ('{"a":1}\n\n{"b":2}\n', "JSON", {"a": 1}),
        ("[1]\ndone\n", "JSON", [1]),
        # no other character ends a line: the value would be cut
        ("a\x0bb\x0cc\x85d\u2028e\n", "STRING", "a\x0bb\x0cc\x85d\u2028e"),
        ("a\rb", "STRING", "a"),
        ("café ☃\n", "STRING", "café ☃"),
        ("TRUE\n", "BOOLEAN", True),
        ("true\n0", "BOOLEAN", True),
        ("false", "BOOLEAN", False),
        ("1", "BOOLEAN", False),
        ("on", "BOOLEAN", False),
        (" -17 \n", "INTEGER", -17),
        ("2147483647", "INTEGER", 2**31 - 1),
        ("9223372036854775807", "LONG", 2**63 - 1),
        ("21.5\n", "FLOAT", 21.5),
        ("1e3", "DOUBLE", 1000.0),
        ("7", "DOUBLE", 7.0),
        ('{"a":[1,null]}\n', "JSON", {"a": [1, None]}),
        ("null", "JSON", None),
    ],
)
def test_values(output: str, value_type: str, value: Any) -> None:
    """Each type reads its texts; white space around them does not count, and of several lines the
    first, but for JSON. A BOOLEAN is true only for "true", as in the reference agent."""
    parsed = parse_output(output.encode(), ValueType(value_type))
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("output", "value_type", "value"),
    [(b"42\n23 \xb0C\n", "LONG", 42), (b"\n[1]\n\xe9\n", "JSON", [1])],
)
def test_what_follows_the_value_may_be_anything(output: bytes, value_type: str, value: Any) -> None:
    """A script that says more in another encoding has written its value all the same."""
    assert parse_output(output, ValueType(value_type)) == value


@pytest.mark.parametrize(
    ("output", "value_type", "reason"),
    [
        (b"", "INTEGER", "wrote nothing, INTEGER expected"),
        (b"", "STRING", "wrote nothing, STRING expected"),
        (b" \n", "BOOLEAN", "wrote nothing, BOOLEAN expected"),
        (b"21.5", "INTEGER", "'21.5' is not a valid INTEGER"),
        (b"1_000", "INTEGER", "is not a valid INTEGER"),
        ("\u0663".encode(), "LONG", "is not a valid LONG"),
        (b"2147483648", "INTEGER", "out of range for INTEGER"),
        (b"-9223372036854775809", "LONG", "out of range for LONG"),
        (b"9" * 50_000, "LONG", "out of range for LONG"),
        (b"nan", "DOUBLE", "'nan' is not a valid DOUBLE"),
        (b"inf", "FLOAT", "'inf' is not a valid FLOAT"),
        (b"1e999", "DOUBLE", "out of range for DOUBLE"),
        (b"{", "JSON", "not JSON"),
        (b"NaN", "JSON", "not JSON"),
        (b"[" * 60_000, "JSON", "JSON"),
        (b"\xff", "STRING", "not UTF-8"),
        (b"[1\n2]\nend", "JSON", "not JSON"),
    ],
)
def test_what_is_no_value(output: bytes, value_type: str, reason: str) -> None:
    """A text of another type is an error that says so and shows the start of the text only."""
    with pytest.raises(ValueError, match=reason) as caught:
        parse_output(output, ValueType(value_type))
    assert len(str(caught.value)) < 200


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_long_can_be_written(number: int) -> None:
    """Any 64-bit number survives."""
    assert parse_output(f"{number}\n".encode(), ValueType.LONG) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_can_be_written(number: float) -> None:
    """Any finite double survives, with its sign."""
    parsed = parse_output(repr(number).encode(), ValueType.DOUBLE)
    assert parsed == number
    assert math.copysign(1, parsed) == math.copysign(1, number)
