"""The fingerprint of a request: stores on disk hold it, so it never changes."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.model import OperationRequest
from oda.outbox.fingerprint import _distinct, _encode_asked, _is_distinct, fingerprint_of

LEAVES = (
    st.text()
    | st.integers(-(2**63), 2**64 - 1)
    | st.booleans()
    | st.none()
    | st.floats()
    | st.binary(max_size=8)
    | st.just(datetime(2026, 1, 2, tzinfo=UTC))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=12,
)


def in_general(request: OperationRequest) -> str:
    """The fingerprint without its quick way."""
    parameters = _distinct(request.parameters)
    text = _encode_asked((request.device_id, request.path, parameters))
    return blake2b(text, digest_size=8).hexdigest()


@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=4), st.text(max_size=3))
def test_the_quick_way_gives_the_same_fingerprint(parameters: Any, device_id: str) -> None:
    """Whatever the parameters are."""
    request = OperationRequest("1", "SET", device_id, path=("gateway",), parameters=parameters)
    assert fingerprint_of(request) == in_general(request)


@given(VALUES)
def test_what_takes_the_quick_way_is_left_as_it_is(value: Any) -> None:
    """Otherwise the two ways could give different values."""
    if _is_distinct(value):
        assert _encode_asked(_distinct(value)) == _encode_asked(value)


@pytest.mark.parametrize(
    ("value", "is_distinct"),
    [
        ({"a": "b", "c": [1, True, None, {"d": []}]}, True),
        ({"a": [{"b": 1.0}]}, False),
        ({"a": b"b"}, False),
        ([(1,)], False),
    ],
)
def test_which_parameters_take_the_quick_way(value: Any, is_distinct: bool) -> None:
    """Texts, whole numbers, booleans and nulls, at any depth, and nothing else."""
    assert _is_distinct(value) is is_distinct


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "d0832e995024e61d"),
        ({"parameters": [{"parameterName": "device.name"}]}, "8027752cdc776634"),
        ({"a": 1, "b": [True, None, "ü"]}, "a8958fc7e4ebf8d8"),
        ({"a": 1.0, "b": [True, None, "ü"]}, "a8958fc7e4ebf8d8"),
        ({"a": 1.5, "b": b"c"}, "3955f2abccdb538f"),
    ],
)
def test_the_fingerprints_of_earlier_versions(parameters: Any, expected: str) -> None:
    """A store of an earlier version holds these: the same request must be recognised after an
    update of the agent."""
    request = OperationRequest("1", "SET", "sensor", path=("gateway",), parameters=parameters)
    assert fingerprint_of(request) == expected
