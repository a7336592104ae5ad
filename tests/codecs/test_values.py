"""The rule what a datapoint's value may be."""

from __future__ import annotations

import math
from collections import OrderedDict
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.codecs import check_value, is_plain
from oda.codecs.limits import MAX_VALUE_DEPTH
from oda.errors import EncodeError
from oda.model import Reading
from tests.codecs.strategies import binary_values, values


class Colour(IntEnum):
    RED = 1


class Text(str):
    pass


def nested(levels: int) -> list[Any]:
    """So many lists, one in the other."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@given(values)
def test_values_pass(value: Any) -> None:
    """Everything that JSON can carry passes."""
    check_value(value, "$")


@given(binary_values)
def test_bytes_pass_where_they_are_allowed(value: Any) -> None:
    """With ``binary`` bytes pass too, at any place."""
    check_value(value, "$", binary=True)


def test_bytes_are_refused_by_default() -> None:
    """Without ``binary`` bytes are refused: JSON has no form for them."""
    with pytest.raises(EncodeError, match="bytes"):
        check_value([b"x"], "$")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (math.nan, "value"),
        ([1, [2, math.inf]], "value[1][1]"),
        ({"a": {"b": [0, {"c": -math.inf}]}}, "value.a.b[1].c"),
        ({"not a name": math.nan}, "value['not a name']"),
        ({'quote"`': math.nan}, "value['quote\"`']"),
        ({"line\nbreak": math.nan}, "value['line\\nbreak']"),
        ({"é": {"a": 1, "b": math.nan}}, "value.é.b"),
        ({"k" * 1000: math.nan}, "value['" + "k" * 40 + "'...]"),
        ((1, (math.nan,)), "value[1][0]"),
    ],
)
def test_the_path_leads_to_the_culprit(value: Any, path: str) -> None:
    """The error's path starts with the one given, and is readable whatever the keys are."""
    with pytest.raises(EncodeError) as caught:
        check_value(value, "value")
    assert caught.value.path == path


@pytest.mark.parametrize(
    "value",
    [Colour.RED, Text("x"), OrderedDict(a=1), Reading(1), range(3), frozenset(), iter(())],
    ids=lambda v: type(v).__name__,
)
def test_other_types_are_named(value: Any) -> None:
    """Subclasses and foreign types are refused by name: libraries differ in what they make of
    them."""
    with pytest.raises(EncodeError, match=rf"{type(value).__qualname__} is not a value"):
        check_value(value, "$")


def test_no_address_or_content_in_the_text() -> None:
    """The error says the type of a value that is refused, never what is in it."""
    with pytest.raises(EncodeError) as caught:
        check_value({"a": Text("secret")}, "$")
    assert "secret" not in str(caught.value)


def test_a_value_may_nest_less_than_a_message() -> None:
    """A value of the greatest depth still fits into the deepest document around it."""
    value: Any = 1
    for _ in range(MAX_VALUE_DEPTH):
        value = [value]
    check_value(value, "$")
    with pytest.raises(EncodeError, match="nested too deeply"):
        check_value([value], "$")


def test_floats_at_the_edge_pass() -> None:
    """The finite check doesn't take the largest or the smallest numbers for infinite ones."""
    for number in (1.7976931348623157e308, -1.7976931348623157e308, 5e-324, -0.0):
        check_value(number, "$")


@given(st.lists(values) | st.dictionaries(st.text(), values))
def test_a_plain_value_is_a_right_one(value: Any) -> None:
    """Every container of values that JSON can carry is plain."""
    assert is_plain(value)


@pytest.mark.parametrize(
    "culprit",
    [
        math.nan,
        -math.inf,
        2**64,
        -(2**63) - 1,
        b"x",
        Text("x"),
        Colour.RED,
        OrderedDict(a=1),
        {1: "a"},
        {Text("a"): 1},
        {None: 1},
        {1, 2},
        Reading(1),
        object(),
        nested(MAX_VALUE_DEPTH + 1),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0],
)
@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"a": [1, (x,)]}, lambda x: ("a", x)])
def test_what_needs_a_closer_look_is_not_plain(culprit: Any, wrap: Any) -> None:
    """Whatever some encoder would refuse, or write differently from another, at any place."""
    assert not is_plain(wrap(culprit))


@pytest.mark.parametrize("value", [1, "text", None, 1.5, b"x", object()])
def test_only_containers_are_plain(value: Any) -> None:
    """What is asked about is a step's ``response``."""
    assert not is_plain(value)
