"""What messages mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.platform.wire import (
    Answer,
    Dialect,
    Point,
    Telemetry,
    Unreadable,
    WrongParameter,
    read_message,
    request_document,
    to_list_dialect,
)


def test_complete_telemetry() -> None:
    """Every member of the complete form is read."""
    document = {
        "version": "9.0",
        "device": "d",
        "path": ["gw"],
        "datastreams": [
            {"id": "t", "feed": "f", "datapoints": [{"at": 5, "from": 4, "value": 1}, {"at": 6}]},
            {"id": "u", "datapoints": []},
        ],
    }
    points = [Point("t", 1, "f", 5, 4), Point("t", None, "f", 6)]
    assert read_message(document) == Telemetry("d", ("gw",), points)


def test_reduced_and_null_members() -> None:
    """Members that are missing or null mean the same (the reference agent's CBOR has nulls)."""
    datapoints = [{"at": None, "from": None, "value": None}]
    stream = {"id": "t", "feed": None, "datapoints": datapoints}
    document = {"device": None, "path": None, "datastreams": [stream]}
    assert read_message(document) == Telemetry(None, (), [Point("t", None)])


def test_answers() -> None:
    """A response with a result code is final, without it is partial."""
    final = {"id": "1", "resultCode": "SUCCESSFUL"}
    assert read_message({"operation": {"response": final}}) == Answer("1", final, True)
    partial = {"id": "1", "resultCode": None, "steps": []}
    assert read_message({"operation": {"response": partial}}) == Answer("1", partial, False)


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], "not a map"),
        ({}, "neither"),
        ({"operation": {"request": {}}}, "neither"),
        ({"operation": {"response": {}}}, "$.operation.response.id"),
        ({"operation": {"response": {"id": 7}}}, "$.operation.response.id"),
        ({"device": 1, "datastreams": []}, "$.device"),
        ({"path": "x", "datastreams": []}, "$.path"),
        ({"datastreams": {}}, "$.datastreams"),
        ({"datastreams": [1]}, "$.datastreams[0]"),
        ({"datastreams": [{}]}, "$.datastreams[0].id"),
        ({"datastreams": [{"id": "t", "feed": 1}]}, "$.datastreams[0].feed"),
        ({"datastreams": [{"id": "t"}]}, "$.datastreams[0].datapoints"),
        ({"datastreams": [{"id": "t", "datapoints": [1]}]}, "$.datastreams[0].datapoints[0]"),
        ({"datastreams": [{"id": "t", "datapoints": [{"at": "1"}]}]}, "datapoints[0].at"),
        ({"datastreams": [{"id": "t", "datapoints": [{"at": True}]}]}, "datapoints[0].at"),
        ({"datastreams": [{"id": "t", "datapoints": [{"from": 2**63}]}]}, "datapoints[0].from"),
    ],
)
def test_what_is_wrong_is_named(document: Any, place: str) -> None:
    """A message that is neither is described, with the member that is wrong."""
    message = read_message(document)
    assert isinstance(message, Unreadable)
    assert place in message.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
ALMOST = st.fixed_dictionaries(
    {},
    optional={
        "operation": JSON | st.fixed_dictionaries({"response": JSON}),
        "datastreams": JSON | st.lists(st.fixed_dictionaries({"id": JSON, "datapoints": JSON})),
        "device": JSON,
        "path": JSON,
    },
)


@given(JSON | ALMOST)
def test_no_message_is_a_surprise(document: Any) -> None:
    """Whatever a device sends is read or described; nothing raises."""
    assert isinstance(read_message(document), (Telemetry, Answer, Unreadable))


def test_requests() -> None:
    """A request holds what was asked, and leaves out what was not."""
    full = request_document("1", "A", {"a": 1}, "d", ["gw"], 5, Dialect.OBJECT)
    assert full == {
        "operation": {
            "request": {
                "id": "1",
                "timestamp": 5,
                "deviceId": "d",
                "path": ["gw"],
                "name": "A",
                "parameters": {"a": 1},
            }
        }
    }
    bare = request_document("1", "A", None, None, (), 5, Dialect.LIST)
    assert bare == {"operation": {"request": {"id": "1", "timestamp": 5, "name": "A"}}}
    listed = request_document("1", "A", [], None, (), 5, Dialect.LIST)
    assert listed["operation"]["request"]["parameters"] == []


def test_the_list_dialect() -> None:
    """Values are wrapped by their kind; variables are called variableName and variableValue."""
    parameters = {
        "variableList": ["a", {"name": "q", "value": 17}, {"name": "r"}],
        "datetime": {"date": "2024-02-03"},
        "source": "ntp",
        "n": 1.5,
        "plain": ["x"],
    }
    assert to_list_dialect(parameters) == [
        {
            "name": "variableList",
            "value": {
                "array": [
                    {"variableName": "a"},
                    {"variableName": "q", "variableValue": 17},
                    {"variableName": "r"},
                ]
            },
        },
        {"name": "datetime", "value": {"object": {"date": "2024-02-03"}}},
        {"name": "source", "value": {"string": "ntp"}},
        {"name": "n", "value": {"number": 1.5}},
        {"name": "plain", "value": {"array": ["x"]}},
    ]


@pytest.mark.parametrize("value", [None, True])
def test_what_the_list_dialect_cannot_say(value: Any) -> None:
    """Values without a wrapper are refused by name."""
    with pytest.raises(WrongParameter, match=r"parameters\.x"):
        to_list_dialect({"x": value})
