"""What a platform has to repeat, and how answers are compared."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.platform.tape.script import (
    TIMES,
    addressed,
    as_then,
    compare_answers,
    differences,
    read_script,
    request_of,
)
from oda.platform.tape.session_file import Entry, Side, What

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def said(side: Side, document: Any, at_ms: int = 0) -> Entry:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Entry(at_ms=at_ms, connection=1, what=What.MESSAGE, side=side, payload=payload)


def request(request_id: Any, name: str = "A", **more: Any) -> dict[str, Any]:
    return {"operation": {"request": {"id": request_id, "name": name, **more}}}


def response(request_id: str, **more: Any) -> dict[str, Any]:
    return {"operation": {"response": {"id": request_id, **more}}}


def decode(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return None


def test_an_operation_waits_for_what_was_answered_before_it() -> None:
    """Not for what was still running; partial answers end nothing; telemetry is no answer."""
    script = read_script(
        [
            Entry(at_ms=4, connection=1, what=What.OPEN, device="d"),
            said(Side.PLATFORM, request("1"), 5),
            said(Side.DEVICE, response("1", steps=[])),
            said(Side.PLATFORM, request(2)),
            said(Side.DEVICE, response("1", resultCode="SUCCESSFUL")),
            said(Side.DEVICE, {"datastreams": []}),
            said(Side.PLATFORM, b"\xff rubbish"),
            said(Side.DEVICE, response("2", resultCode="SUCCESSFUL")),
            said(Side.DEVICE, response("2", resultCode="SUCCESSFUL")),
            said(Side.DEVICE, response("stranger", resultCode="SUCCESSFUL")),
        ],
        decode,
    )
    assert script.began_ms == 4
    assert [(step.request_id, sorted(step.after)) for step in script.steps] == [
        ("1", []),
        ("2", []),
        (None, ["1"]),
    ]
    assert [(key, len(answers)) for key, answers in script.answers.items()] == [("1", 2), ("2", 1)]


@pytest.mark.parametrize("document", [None, [], {"operation": 1}, request(""), request(True)])
def test_what_can_not_be_answered_is_no_operation(document: Any) -> None:
    """Without an id that is text or a number there is nothing to match an answer by."""
    assert request_of(document) is None


def test_a_request_is_readdressed_and_its_answer_put_back() -> None:
    """Another id and device go out; the answer is compared as if they had been the old ones."""
    out = addressed(request("1", deviceId="then", parameters={"x": 1}), "2", "then", "now")
    assert out["operation"]["request"] == {
        "id": "2",
        "name": "A",
        "deviceId": "now",
        "parameters": {"x": 1},
    }
    child = addressed(request("1", deviceId="child"), "2", "then", "now")
    assert child["operation"]["request"]["deviceId"] == "child"
    back = as_then({"id": "2", "deviceId": "now", "resultCode": "X"}, "1", "then", "now")
    assert back == {"id": "1", "deviceId": "then", "resultCode": "X"}


@given(JSON)
def test_nothing_differs_from_itself(document: Any) -> None:
    """A document has no difference from its like."""
    assert list(differences(document, json.loads(json.dumps(document)), frozenset())) == []


@given(JSON, JSON)
def test_what_differs_is_said(one: Any, other: Any) -> None:
    """Documents whose texts differ have a difference, at a place that begins at the top."""
    found = list(differences(one, other, frozenset()))
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (found == []) is same
    assert all(line.startswith("$") for line in found)


def test_differences_name_the_place() -> None:
    """What was recorded and what came, with the way to it; ignored members never."""
    then = {"a": [{"at": 1, "v": 1}], "b": 1, "c": True}
    now = {"a": [{"at": 2, "v": 2}, 3], "d": 1, "c": 1}
    assert list(differences(then, now, TIMES)) == [
        "$.a: recorded 1 entry, now 2",
        "$.a[0].v: recorded 1, now 2",
        "$.b: recorded 1, now missing",
        "$.c: recorded True, now 1",
        "$.d: not recorded, now 1",
    ]


def test_missing_answers_are_differences() -> None:
    """None, one, or several answers are told apart before their contents are looked at."""
    assert compare_answers([{}], [], TIMES) == ["recorded 1 answer, now no answer"]
    assert compare_answers([], [{}], TIMES) == ["recorded no answer, now 1 answer"]
    assert compare_answers([{}, {}], [{}], TIMES) == ["recorded 2 answers, now 1 answer"]
    assert compare_answers([], [], TIMES) == []
