"""The two dialects of ``parameters``."""

from __future__ import annotations

from typing import Any

import pytest

from oda.errors import InvalidParameter
from oda.operations.parameters import normalise, read_variable_names, read_variables


@pytest.mark.parametrize(
    ("parameters", "normal"),
    [
        (None, {}),
        ([], {}),
        ({}, {}),
        ({"a": 1, "b": None}, {"a": 1, "b": None}),
        # wrappers belong to the list dialect only
        ({"a": {"number": 1}}, {"a": {"number": 1}}),
        ([{"name": "a", "value": {"string": "x"}}], {"a": "x"}),
        ([{"name": "a", "value": {"number": 1.5}}], {"a": 1.5}),
        ([{"name": "a", "value": {"boolean": True}}], {"a": True}),
        ([{"name": "a", "value": {"object": {"number": 1}}}], {"a": {"number": 1}}),
        ([{"name": "a", "value": {"array": [1, {"string": "x"}]}}], {"a": [1, {"string": "x"}]}),
        # all members written, those not used null
        ([{"name": "a", "value": {"string": None, "number": 3, "array": None}}], {"a": 3}),
        ([{"name": "a", "value": {"string": None}}], {"a": None}),
        # not wrapped
        ([{"name": "a", "value": 1}, {"name": "b", "value": [2]}], {"a": 1, "b": [2]}),
        ([{"name": "a", "value": {"number": 1, "unit": "m"}}], {"a": {"number": 1, "unit": "m"}}),
        ([{"name": "a", "value": {}}, {"name": "b"}], {"a": {}, "b": None}),
    ],
    ids=repr,
)
def test_both_dialects_have_one_normal_form(parameters: Any, normal: dict[str, Any]) -> None:
    """Whatever the dialect, operations see the object form."""
    assert normalise(parameters) == normal


@pytest.mark.parametrize(
    ("entry", "normal"),
    [
        ({"variableName": "q", "variableValue": 1}, {"name": "q", "value": 1}),
        ({"name": "q", "variableValue": None}, {"name": "q", "value": None}),
        ({"variableName": "q"}, {"name": "q"}),
        ({"name": "q", "value": 1, "unit": "m"}, {"name": "q", "value": 1, "unit": "m"}),
        ({"name": "same", "variableName": "same"}, {"name": "same"}),
        # what is not used may be written as null
        ({"name": "q", "variableName": None}, {"name": "q"}),
        (
            {"name": None, "value": None, "variableName": "q", "variableValue": 1},
            {"name": "q", "value": 1},
        ),
        (
            {"name": "short", "variableName": "long"},
            {"name": "short", "variableName": "long"},
        ),
        ("q", "q"),
        (7, 7),
    ],
    ids=repr,
)
def test_variable_entries_have_one_spelling(entry: Any, normal: Any) -> None:
    """``variableName`` is ``name`` and ``variableValue`` is ``value``, in both dialects."""
    assert normalise({"variableList": [entry]}) == {"variableList": [normal]}
    listed = [{"name": "variableList", "value": {"array": [entry]}}]
    assert normalise(listed) == {"variableList": [normal]}


def test_the_request_is_left_as_it_was() -> None:
    """Reading a request changes nothing in it."""
    request = {"variableList": [{"variableName": "q", "variableValue": 1}]}
    normalise(request)
    assert request == {"variableList": [{"variableName": "q", "variableValue": 1}]}


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ("x", "parameters: must be an object or a list, not a text"),
        (0, "parameters: must be an object or a list, not a number"),
        (False, "parameters: must be an object or a list, not a boolean"),
        ([{"name": "a", "value": 1}, 5], "parameters[1]: must be an object, not a number"),
        ([{"value": 1}], "parameters[0].name: missing"),
        ([{"name": ["a"]}], "parameters[0].name: must be a text, not a list"),
        ([{"name": "a"}, {"name": "a"}], "a: given twice"),
        # taken for null, the value would be ignored: a clock would be set to another time
        ([{"name": "a", "valeu": 1}], "parameters[0].value: missing; there is 'valeu'"),
        (
            [{"name": "a", "value": 0}, {"name": "b", "variableValue": 1, "type": "number"}],
            "parameters[1].value: missing; there is 'variableValue', 'type'",
        ),
        ([{"name": "a", "value": {"array": 5}}], "a: 'array' must not hold a number"),
        ([{"name": "a", "value": {"number": True}}], "a: 'number' must not hold a boolean"),
        ([{"name": "a", "value": {"string": 1}}], "a: 'string' must not hold a number"),
        (
            [{"name": "a", "value": {"string": "x", "number": 1}}],
            "a: is wrapped as 'string' and 'number' at once",
        ),
    ],
    ids=repr,
)
def test_wrong_parameters_are_named(parameters: Any, fault: str) -> None:
    """A fault says where it is and what it is."""
    with pytest.raises(InvalidParameter) as caught:
        normalise(parameters)
    assert str(caught.value) == fault


def test_variable_names_are_texts_or_objects_with_a_name() -> None:
    """GET takes its variables in every spelling, in their order."""
    parameters = normalise({"variableList": ["a", {"name": "b"}, {"variableName": "c"}]})
    assert read_variable_names(parameters) == ["a", "b", "c"]
    assert read_variable_names({"variableList": []}) == []


def test_variables_keep_order_repetition_and_null() -> None:
    """SET writes what the list says, in its order; null is a value."""
    entries = [{"name": "b", "value": None}, {"name": "a", "value": [1]}, {"name": "b", "value": 2}]
    assert read_variables({"variableList": entries}) == [("b", None), ("a", [1]), ("b", 2)]


NAME_FAULTS = [
    ({}, "variableList: missing"),
    ({"variableList": None}, "variableList: missing"),
    ({"variableList": "q"}, "variableList: must be a list, not a text"),
    ({"variableList": {"name": "q"}}, "variableList: must be a list, not an object"),
]


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        *NAME_FAULTS,
        ({"variableList": ["a", "b", {"nome": "c"}]}, "variableList[2].name: missing"),
        ({"variableList": [{"name": 1}]}, "variableList[0].name: must be a text, not a number"),
        ({"variableList": [1.5]}, "variableList[0]: must be a text, not a number"),
        ({"variableList": [None]}, "variableList[0]: must be a text, not null"),
        ({"variableList": [""]}, "variableList[0]: must not be empty"),
        ({"variableList": [{"name": ""}]}, "variableList[0].name: must not be empty"),
        ({"variableList": [b"q"]}, "variableList[0]: must be a text, not bytes"),
    ],
    ids=repr,
)
def test_wrong_variable_names_are_named(parameters: dict[str, Any], fault: str) -> None:
    """A wrong name is found by its place in the list."""
    with pytest.raises(InvalidParameter) as caught:
        read_variable_names(parameters)
    assert str(caught.value) == fault


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        *NAME_FAULTS,
        ({"variableList": ["q"]}, "variableList[0]: must be an object, not a text"),
        ({"variableList": [{"value": 1}]}, "variableList[0].name: missing"),
        ({"variableList": [{"name": "q"}]}, "variableList[0].value: missing"),
        # written and answered SUCCESSFUL, it would be the wrong one for half of those who ask
        (
            normalise({"variableList": [{"name": "q", "variableName": "r", "value": 1}]}),
            "variableList[0].variableName: is given beside another name",
        ),
        (
            normalise({"variableList": [{"name": "q", "value": 1, "variableValue": 2}]}),
            "variableList[0].variableValue: is given beside another value",
        ),
    ],
    ids=repr,
)
def test_wrong_variables_are_named(parameters: dict[str, Any], fault: str) -> None:
    """A variable without name or value is found by its place in the list."""
    with pytest.raises(InvalidParameter) as caught:
        read_variables(parameters)
    assert str(caught.value) == fault
