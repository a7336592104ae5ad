"""Bad input: the exact answer to each, and none to what is no request."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import globalLogPublisher

from oda.model import ContentType, OperationResult

from .fakes import Bench, FakeOperation, request

NO_LIST = [{"name": "x", "value": {"array": {"no": "list"}}}]


def refusal(description: str, **echo: Any) -> dict[str, Any]:
    """An ERROR_IN_PARAM answer with what it could echo."""
    response = {
        **({"id": echo["id"]} if "id" in echo else {}),
        "deviceId": echo.get("deviceId", "dev-1"),
        "path": echo.get("path", []),
        **({"name": echo["name"]} if "name" in echo else {}),
        "resultCode": "ERROR_IN_PARAM",
        "resultDescription": description,
        "steps": [],
    }
    return {"version": "9.0", "operation": {"response": response}}


GET, SET = "GET_DEVICE_PARAMETERS", "SET_DEVICE_PARAMETERS"
CLOCK, SYNC = "SET_CLOCK_EQUIPMENT", "SYNCHRONIZE_CLOCK"


def clock(**members: Any) -> dict[str, Any]:
    """A SET_CLOCK request; the members of its ``datetime`` override good ones."""
    datetime = {"date": "2024-02-03", "time": "04:05:06", **members}
    return {"id": "1", "name": CLOCK, "parameters": {"datetime": datetime}}


ONE = {"id": "1"}
GOT = {"id": "1", "name": GET}
WROTE = {"id": "1", "name": SET}
CLOCKED = {"id": "1", "name": CLOCK}

REFUSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, refusal("id: missing")),
    ({"name": GET}, refusal("id: missing", name=GET)),
    ({"id": {}, "name": GET}, refusal("id: must be a text, not an object", name=GET)),
    (ONE, refusal("name: missing", id="1")),
    ({"id": 7, "name": 8}, refusal("name: must be a text, not a number", id="7")),
    (
        {**GOT, "deviceId": ["d"]},
        refusal("deviceId: must be a text, not a list", **GOT),
    ),
    (
        {**GOT, "deviceId": "d", "path": [1]},
        refusal("path[0]: must be a text, not a number", deviceId="d", **GOT),
    ),
    (
        {**GOT, "deviceId": "d", "path": ["g"], "parameters": 5},
        refusal(
            "parameters: must be an object or a list, not a number",
            deviceId="d",
            path=["g"],
            **GOT,
        ),
    ),
    ({**GOT, "parameters": ["q"]}, refusal("parameters[0]: must be an object, not a text", **GOT)),
    ({**GOT, "parameters": NO_LIST}, refusal("x: 'array' must not hold an object", **GOT)),
    (GOT, refusal("variableList: missing", **GOT)),
    (
        {**GOT, "parameters": {"variableList": "q"}},
        refusal("variableList: must be a list, not a text", **GOT),
    ),
    (
        {**GOT, "parameters": {"variableList": ["q", {}]}},
        refusal("variableList[1].name: missing", **GOT),
    ),
    (WROTE, refusal("variableList: missing", **WROTE)),
    (
        {**WROTE, "parameters": {"variableList": [{"name": "q", "value": 1}, {"value": 1}]}},
        refusal("variableList[1].name: missing", **WROTE),
    ),
    (
        {**WROTE, "parameters": {"variableList": [{"variableName": "q"}]}},
        refusal("variableList[0].value: missing", **WROTE),
    ),
    (
        {**CLOCKED, "parameters": {"datetime": "now"}},
        refusal("datetime: must be an object, not a text", **CLOCKED),
    ),
    (clock(date=None), refusal("datetime.date: missing", **CLOCKED)),
    (clock(date="3.2.2024"), refusal("datetime.date: must be YYYY-MM-DD", **CLOCKED)),
    (clock(date=20240203), refusal("datetime.date: must be a text, not a number", **CLOCKED)),
    (
        clock(date="\u0662\u0660\u0662\u0664-02-03"),
        refusal("datetime.date: must be YYYY-MM-DD", **CLOCKED),
    ),
    (clock(date="2023-02-29"), refusal("datetime.date: there is no 2023-02-29", **CLOCKED)),
    (clock(date="0000-01-01"), refusal("datetime.date: there is no 0000-01-01", **CLOCKED)),
    (clock(time=None), refusal("datetime.time: missing", **CLOCKED)),
    (clock(time="4:05"), refusal("datetime.time: must be HH:MM:SS", **CLOCKED)),
    (clock(time="24:00:00"), refusal("datetime.time: there is no 24:00:00", **CLOCKED)),
    (clock(time="\u0664\u0660:05:06"), refusal("datetime.time: must be HH:MM:SS", **CLOCKED)),
    (
        clock(timezone="1"),
        refusal("datetime.timezone: must be a number, not a text", **CLOCKED),
    ),
    (clock(dst=True), refusal("datetime.dst: must be a number, not a boolean", **CLOCKED)),
    (clock(timezone=19), refusal("datetime.timezone: must be within 18 hours", **CLOCKED)),
    (
        clock(timezone=18, dst=1),
        refusal("datetime.timezone: with dst it must be within 18 hours of UTC", **CLOCKED),
    ),
    (
        {**ONE, "name": SYNC, "parameters": {"source": 5}},
        refusal("source: must be a text, not a number", id="1", name=SYNC),
    ),
    (
        {**ONE, "name": SYNC, "parameters": {"source": "sundial"}},
        refusal(
            "source: is not named by timeSource or timeSources in the agent's configuration",
            id="1",
            name=SYNC,
        ),
    ),
]


@pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.name)
@pytest.mark.parametrize(("members", "answer"), REFUSED, ids=lambda value: repr(value)[:70])
def test_wrong_request_is_refused_naming_what_is_wrong(
    members: dict[str, Any], answer: dict[str, Any], content_type: ContentType
) -> None:
    """ERROR_IN_PARAM with the parameter's name, and nothing is written to the device."""
    bench = Bench()
    assert bench.answer({"operation": {"request": members}}, content_type) == answer
    assert bench.state.sets == []


def test_refused_requests_are_counted_without_names_from_the_wire() -> None:
    """A label is a known operation or ``unknown``: the wire can't fill the counters."""
    bench = Bench()
    bench.answer(request(name="GET_DEVICE_PARAMETERS", deviceId=5))
    bench.answer(request(name="ANYTHING"))
    bench.answer(request())
    counters = bench.counters
    assert counters.of("operations", operation="GET_DEVICE_PARAMETERS", result="ERROR_IN_PARAM")
    assert counters.of("operations", operation="unknown", result="NOT_SUPPORTED") == 1
    assert counters.of("operations", operation="unknown", result="ERROR_IN_PARAM") == 1


def test_unknown_operation_runs_once_somebody_handles_it() -> None:
    """Requests nobody could run are not kept: the same id runs when a handler has come."""
    bench = Bench()
    assert bench.response(name="NEW")["resultCode"] == "NOT_SUPPORTED"
    bench.dispatcher.add(FakeOperation("NEW", lambda request, progress: OperationResult()))
    assert bench.response(name="NEW")["resultCode"] == "SUCCESSFUL"


@pytest.mark.parametrize(
    ("payload", "content_type", "cause", "reason"),
    [
        (b"", None, "unknown_format", "its first byte begins no known format"),
        (b"hello s3cret", None, "unknown_format", "its first byte begins no known format"),
        (b'{"s3cret":', ContentType.JSON, "malformed", "Input data was truncated"),
        (b'{"s3cret":1}', ContentType.JSON, "no_request", "it holds no operation.request"),
        (b"\x80", ContentType.MESSAGE_PACK, "no_request", "it holds no operation.request"),
        (b"\xa0", ContentType.CBOR, "no_request", "it holds no operation.request"),
        (b"[]", ContentType.JSON, "no_request", "it holds no operation.request"),
    ],
    ids=repr,
)
def test_what_is_no_request_is_dropped_logged_and_counted(
    payload: bytes, content_type: ContentType | None, cause: str, reason: str
) -> None:
    """No answer; one log line with size and reason, without any of the content."""
    bench = Bench()
    events: list[dict[str, Any]] = []
    answers: list[bytes | None] = []
    globalLogPublisher.addObserver(events.append)
    try:
        bench.dispatcher.process(payload, content_type).addCallback(answers.append)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert answers == [None]
    (event,) = events
    assert (event["size_bytes"], event["reason"]) == (len(payload), reason)
    assert "s3cret" not in repr(event)
    assert bench.counters.counted == {("messages_ignored", (("cause", cause),)): 1}


def _defect(*args: Any, **labels: Any) -> Any:
    raise ValueError("a defect")


def test_a_fault_in_the_agent_itself_costs_only_that_message() -> None:
    """``process`` never fails, whatever breaks behind it; what nobody can tell to be a request is
    counted as ignored."""
    bench = Bench()
    bench.dispatcher._codecs = None
    assert bench.send(request(name="REFRESH_INFO")) == [None]
    assert bench.counters.of("messages_ignored", cause="fault") == 1


@pytest.mark.parametrize("broken", ["_host_id", "_handle"])
def test_a_request_is_answered_whatever_breaks_behind_it(broken: str) -> None:
    """Once a request was recognised, a defect of the agent costs it its success, not its
    answer."""
    bench = Bench()
    setattr(bench.dispatcher, broken, _defect)
    response = bench.response(id="7", name="REFRESH_INFO")
    assert (response["id"], response["resultCode"]) == ("7", "ERROR_PROCESSING")
