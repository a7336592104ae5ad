"""Whoever speaks for the platform sends texts of megabytes, and texts that act on a terminal."""

from __future__ import annotations

import gc
import json
import tracemalloc
from typing import Any

import pytest

from oda.logs.lines import LogFormat
from oda.logs.observer import AgentLog
from oda.logs.repetition import RepetitionLimit
from oda.model import ContentType, OperationResult
from oda.operations.parameters import MAX_VARIABLES
from oda.operations.request import MAX_PATH, MAX_TEXT_BYTES
from tests.logs.events import event, failure
from tests.operations.fakes import Bench, FakeOperation, request

FORMATS = pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.name)
WIDE = "\U0001f600"


@FORMATS
@pytest.mark.parametrize("member", ["id", "name", "deviceId", "path"])
@pytest.mark.parametrize("letter", ["x", "\xe4", WIDE])
def test_a_request_with_an_id_of_megabytes(
    content_type: ContentType, member: str, letter: str
) -> None:
    """An id, a name, a device or a gateway over 1 KiB is ERROR_IN_PARAM, and the answer repeats as
    much of it as 1 KiB holds; one of 1 KiB is served."""
    operation = FakeOperation("X", lambda *_: OperationResult())
    bench = Bench(operation)
    long = letter * (1 << 18)
    members: dict[str, Any] = {member: [long] if member == "path" else long}
    response = bench.answer(request(**{"name": "X", **members}), content_type)["operation"][
        "response"
    ]
    assert response["resultCode"] == "ERROR_IN_PARAM"
    name = "path[0]" if member == "path" else member
    assert response["resultDescription"] == f"{name}: is longer than 1024 bytes"
    echoed = response[member][0] if member == "path" else response[member]
    assert echoed == letter * (MAX_TEXT_BYTES // len(letter.encode()))
    assert operation.requests == []
    if member != "name":
        fits = letter * (MAX_TEXT_BYTES // len(letter.encode()))
        members = {"name": "X", member: [fits, "dev-1"] if member == "path" else fits}
        response = bench.answer(request(**members), content_type)["operation"]["response"]
        assert response["resultCode"] == "SUCCESSFUL"


def test_a_request_with_a_path_of_many_gateways() -> None:
    """A path of more than a hundred gateways is ERROR_IN_PARAM."""
    bench = Bench(FakeOperation("X", lambda *_: OperationResult()))
    response = bench.response(name="X", path=["g"] * 100_000)
    assert response["resultDescription"] == "path: has 100000 entries; at most 100 are allowed"
    assert len(response["path"]) == MAX_PATH


@pytest.mark.parametrize(
    "parameters",
    [
        {"variableList": ["q"] * (MAX_VARIABLES + 1)},
        {"variableList": [{"name": "q", "value": 1}] * (MAX_VARIABLES + 1)},
        [{"name": "variableList", "value": {"array": ["q"] * (MAX_VARIABLES + 1)}}],
        [{"name": f"p{number}", "value": None} for number in range(MAX_VARIABLES + 1)],
    ],
)
@pytest.mark.parametrize("name", ["GET_DEVICE_PARAMETERS", "SET_DEVICE_PARAMETERS"])
def test_a_request_for_endless_variables(name: str, parameters: object) -> None:
    """A list of more than a thousand variables or parameters is ERROR_IN_PARAM, and nothing of it
    is read or written."""
    bench = Bench()
    response = bench.response(name=name, parameters=parameters)
    assert response["resultCode"] == "ERROR_IN_PARAM"
    assert "has 1001 entries; at most 1000 are allowed" in response["resultDescription"]
    assert (bench.state.gets, bench.state.sets) == ([], [])


def test_a_request_for_one_variable_a_thousand_times() -> None:
    """A variable that is named again and again is read once and answered once."""
    bench = Bench()
    names = ["q", "r"] * (MAX_VARIABLES // 2)
    response = bench.response(name="GET_DEVICE_PARAMETERS", parameters={"variableList": [*names]})
    assert bench.state.gets == [("", ["q", "r"])]
    assert [entry["variableName"] for entry in response["steps"][0]["response"]] == ["q", "r"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"variableList": ["y" * 5_000_000]},
        [{"name": "y" * 5_000_000, "value": {"string": 1}}],
        [{"name": "y" * 5_000_000, "value": 1}] * 2,
    ],
)
def test_the_reason_repeats_a_name_of_megabytes(parameters: object) -> None:
    """What is wrong with a request is said in a few words, however long what is wrong with it."""
    response = Bench().response(name="GET_DEVICE_PARAMETERS", parameters=parameters)
    assert response["resultCode"] == "ERROR_IN_PARAM"
    assert len(response["resultDescription"]) < 300


def test_the_log_keeps_what_it_counts() -> None:
    """Watching a thousand lines for repetitions costs less than 10 MiB, whatever they hold, and
    holds on to nothing that the lines are about."""
    limit = RepetitionLimit(allowed=0)
    source = object()
    tracemalloc.start()
    try:
        for number in range(1000):
            text = f"{number}" + WIDE * 100_000
            broken = failure(ValueError(text)) if number % 10 == 0 else None
            limit.due(0.0)
            limit.admit(event(reason=text, items=[text], log_source=source, log_failure=broken), 0)
        del text, broken
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 10 << 20
    assert all("log_source" not in repeated.event for repeated in limit.due(0.0, everything=True))


class Stream:
    """Where the log goes."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        """Nothing waits."""


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_a_line_of_the_log_without_end(log_format: LogFormat) -> None:
    """No line is longer than 60,000 characters, whatever was to be said, and none is lost."""
    stream = Stream()
    log = AgentLog(stream, log_format, lambda: 0.0)
    log(event("{reason}", reason="x" * 5_000_000))
    log(event("{reason}", reason=["x" * 5_000_000]))
    log(event("broken", log_failure=failure(ValueError("x" * 5_000_000))))
    assert "ValueError" in stream.text
    assert all(len(line) < 60_000 for line in stream.text.splitlines())


@pytest.mark.parametrize("log_format", list(LogFormat))
@pytest.mark.parametrize(
    "control", ["\x1b", "\x00", "\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\r"]
)
def test_the_log_acts_on_the_terminal(log_format: LogFormat, control: str) -> None:
    """No control character of a message, a field or a traceback reaches the log, in any format, and
    none begins another line."""
    stream = Stream()
    log = AgentLog(stream, log_format, lambda: 0.0)
    text = f"a{control}]0;b"
    log(event("{reason}", reason=text, log_failure=failure(ValueError(text))))
    assert control not in stream.text
    assert all(
        code >= 32 and not 127 <= code < 160 for code in map(ord, stream.text.replace("\n", ""))
    )
    if log_format is LogFormat.JSON:
        (line,) = stream.text.splitlines()
        assert json.loads(line)["fields"]["reason"] == text
