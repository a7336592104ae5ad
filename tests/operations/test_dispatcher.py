"""The dispatcher: handlers of every kind, each with exactly one answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from math import nan
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import LogLevel, globalLogPublisher

from oda.errors import (
    InvalidParameter,
    OperationFailed,
    OperationNotSupported,
    PluginError,
)
from oda.model import (
    ContentType,
    OperationRequest,
    OperationResult,
    ResultCode,
    Step,
    StepResult,
)
from oda.operations import OperationDispatcher

from .fakes import Bench, FakeOperation, Progress, request


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """What was logged during the test."""
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def returning(result: Any) -> Bench:
    """A bench with an operation X that returns ``result``."""
    return Bench(FakeOperation("X", lambda request, progress: result))


def raising(error: BaseException) -> list[Bench]:
    """Benches with an operation X that fails with ``error``: at once, and through a Deferred."""

    def run(request: OperationRequest, progress: Progress) -> Any:
        raise error

    return [
        Bench(FakeOperation("X", run)),
        Bench(FakeOperation("X", lambda request, progress: fail(error))),
    ]


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "code", "description"),
    [
        (OperationFailed("it broke"), "ERROR_PROCESSING", "it broke"),
        (OperationFailed(), "ERROR_PROCESSING", "OperationFailed"),
        (InvalidParameter("speed", "too high"), "ERROR_IN_PARAM", "speed: too high"),
        (OperationNotSupported("not on Sundays"), "NOT_SUPPORTED", "not on Sundays"),
        (OperationNotSupported(), "NOT_SUPPORTED", "Operation not supported by the device"),
        (ValueError("surprise"), "ERROR_PROCESSING", "surprise"),
        (ValueError(), "ERROR_PROCESSING", "ValueError"),
        (CancelledError(), "ERROR_PROCESSING", "the operation was cancelled"),
        (UnprintableError(), "ERROR_PROCESSING", "UnprintableError"),
        (ValueError("file \udcff"), "ERROR_PROCESSING", "file ?"),
        (ValueError("x" * 5000), "ERROR_PROCESSING", "x" * 1000),
    ],
    ids=lambda value: (
        repr(value)[:50] if not isinstance(value, UnprintableError) else "unprintable"
    ),
)
def test_a_failing_handler_is_answered_with_its_reason(
    error: Exception, code: str, description: str
) -> None:
    """Raised at once or later, an error becomes the answer's code and description."""
    for bench in raising(error):
        response = bench.response(name="X")
        assert response["resultCode"] == code
        assert response["resultDescription"] == description
        assert response["steps"] == []
        assert bench.counters.of("operations", operation="X", result=code) == 1


def test_only_surprises_are_logged_with_their_traceback(logged: list[dict[str, Any]]) -> None:
    """An error raised on purpose is an expected event; anything else shows where it came from."""
    for bench in raising(OperationFailed("on purpose")):
        bench.response(name="X")
    assert not [event for event in logged if "log_failure" in event]
    for bench in raising(ValueError("surprise")):
        bench.response(name="X")
    failures = [event["log_failure"].value for event in logged if "log_failure" in event]
    assert [str(value) for value in failures] == ["surprise", "surprise"]


@pytest.mark.parametrize(
    ("result", "description"),
    [
        (None, "the operation returned NoneType instead of OperationResult"),
        ("done", "the operation returned str instead of OperationResult"),
        (OperationResult("SUCCESSFUL"), "the operation's result code is 'SUCCESSFUL'"),
        (OperationResult(description=5), "the operation's description is int"),
        (OperationResult(steps="abc"), "the operation's steps are str, not a list"),
        (OperationResult(steps=["S1"]), "steps[0] is str instead of Step"),
        (
            OperationResult(steps=[Step("S1", "SUCCESSFUL")]),
            "steps[0].result is 'SUCCESSFUL', not a StepResult",
        ),
        (
            OperationResult(steps=[Step(1, StepResult.ERROR)]),
            "steps[0].name is int, not a text",
        ),
        (
            OperationResult(steps=[Step("S1", StepResult.ERROR, 5)]),
            "steps[0].description is not a text",
        ),
        (
            OperationResult(steps=[Step("S1", StepResult.ERROR, response="r")]),
            "steps[0].response is not a list",
        ),
        (
            OperationResult(steps=[Step("S1", StepResult.ERROR, timestamp_ms=1.5)]),
            "steps[0].timestamp_ms is not a whole number",
        ),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_rubbish_from_a_handler_is_answered_by_naming_it(result: Any, description: str) -> None:
    """Whatever a handler returns, at once or later, there is one answer saying what is wrong."""
    for outcome in (result, succeed(result)):
        response = returning(outcome).response(name="X")
        assert response["resultCode"] == "ERROR_PROCESSING"
        assert response["resultDescription"] == f"the answer can't be sent: {description}"
        assert response["steps"] == []


def test_an_answer_that_no_connection_carries_becomes_an_error() -> None:
    """Longer than the largest message, it would be lost: the request gets an answer all the same,
    one that says why; an answer of just the largest size goes out as it is."""
    operation = FakeOperation("X", lambda request, progress: OperationResult(description="d" * 500))
    (whole,) = Bench(operation).send(request(name="X"))
    assert whole is not None
    for limit, result_code in ((len(whole), "SUCCESSFUL"), (len(whole) - 1, "ERROR_PROCESSING")):
        response = Bench(operation, max_answer_bytes=limit).response(name="X")
        assert response["resultCode"] == result_code
    assert response["resultDescription"] == (
        f"the answer can't be sent: it has {len(whole)} bytes; maxMessageSize is {len(whole) - 1}"
    )


class Hostile:
    """An object that nobody can look at."""

    def __repr__(self) -> str:
        raise ValueError("hands off")


@pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.name)
@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 2**80, "\ud800", {1: 2}, object(), Hostile(), {"a": [set()]}],
    ids=["nan", "inf", "2**80", "surrogate", "key", "object", "hostile", "set"],
)
def test_an_answer_the_format_can_not_carry_is_replaced(
    value: Any, content_type: ContentType
) -> None:
    """The replacement says ERROR_PROCESSING and names the member."""
    steps = [Step("S", StepResult.SUCCESSFUL, response=["fine", value])]
    bench = returning(OperationResult(steps=steps))
    response = bench.answer(request(name="X"), content_type)["operation"]["response"]
    assert response["resultCode"] == "ERROR_PROCESSING"
    assert "steps[0].response[1]" in response["resultDescription"]
    assert response["steps"] == []
    assert bench.counters.of("operations", operation="X", result="ERROR_PROCESSING") == 1


def test_an_async_handler_may_be_a_coroutine() -> None:
    """``async def execute`` works, and waits for Deferreds."""
    gate: Deferred[str] = Deferred()

    async def run(request: OperationRequest, progress: Progress) -> OperationResult:
        return OperationResult(description=await gate)

    bench = Bench(FakeOperation("X", run))
    answers = bench.send(request(name="X"))
    assert answers == []
    gate.callback("waited")
    assert bench.decoded(answers[0])["operation"]["response"]["resultDescription"] == "waited"
    assert not bench.clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("code", "steps"),
    [
        (ResultCode.SUCCESSFUL, [{"name": "X", "result": "SUCCESSFUL", "description": "d"}]),
        (ResultCode.ERROR_PROCESSING, []),
        (ResultCode.ERROR_IN_PARAM, []),
    ],
)
def test_success_without_steps_has_one_step(code: ResultCode, steps: list[Any]) -> None:
    """As recorded: success implies a step named like the operation, failure an empty list."""
    response = returning(OperationResult(code, "d")).response(name="X")
    assert (response["resultCode"], response["steps"]) == (code.value, steps)


def test_a_handler_sees_the_request_in_its_normal_form() -> None:
    """Device, path and parameters arrive the way ``OperationRequest`` says."""
    operation = FakeOperation("X", lambda request, progress: OperationResult())
    bench = Bench(operation)
    bench.response(
        name="X",
        deviceId="dev-1",
        path=["gw"],
        parameters=[{"name": "a", "value": {"number": 1}}],
    )
    assert operation.requests == [OperationRequest("1", "X", "", "dev-1", ("gw",), {"a": 1})]


def test_two_handlers_of_one_name_are_an_error() -> None:
    """Which of them would answer must not be a matter of chance."""
    other = FakeOperation("REFRESH_INFO", lambda request, progress: None)
    with pytest.raises(PluginError, match="REFRESH_INFO is handled twice"):
        Bench(other)
    with pytest.raises(PluginError, match="has no name"):
        Bench(FakeOperation("", lambda request, progress: None))


def test_a_stand_in_handles_what_nobody_else_does() -> None:
    """An operation of a component or script has precedence over the agent's own of that name,
    which is listed only while it is allowed."""
    allowed = [False]

    def saying(text: str) -> FakeOperation:
        return FakeOperation("Y", lambda request, progress: OperationResult(description=text))

    bench = returning(OperationResult())
    other = saying("component")
    bench.dispatcher.stand_in(saying("stand-in"), lambda: allowed[0])
    assert bench.response(id="1", name="Y")["resultDescription"] == "stand-in"
    assert "Y" not in bench.dispatcher.operation_names
    allowed[0] = True
    assert "Y" in bench.dispatcher.operation_names
    bench.dispatcher.add(other)
    assert bench.response(id="2", name="Y")["resultDescription"] == "component"
    bench.dispatcher.remove_handler(other)
    assert bench.response(id="3", name="Y")["resultDescription"] == "stand-in"


def test_handlers_come_and_go_while_running() -> None:
    """Another handler can take the place of a removed one; what runs already goes on."""
    gate: Deferred[OperationResult] = Deferred()
    bench = returning(gate)
    answers = bench.send(request(name="X"))
    bench.dispatcher.remove("X")
    assert "X" not in bench.dispatcher.operation_names
    assert bench.response(id="2", name="X")["resultCode"] == "NOT_SUPPORTED"
    with pytest.raises(PluginError, match="the operation X has no handler"):
        bench.dispatcher.remove("X")
    bench.dispatcher.add(
        FakeOperation("X", lambda request, progress: OperationResult(description="new"))
    )
    assert bench.response(id="3", name="X")["resultDescription"] == "new"
    gate.callback(OperationResult(description="old"))
    assert bench.decoded(answers[0])["operation"]["response"]["resultDescription"] == "old"


@pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.name)
def test_partial_answers_precede_the_final_one(content_type: ContentType) -> None:
    """Each has the envelope and the steps so far, none a ``resultCode``, all the format of the
    request; the final one has its code."""
    done: Deferred[OperationResult] = Deferred()
    one = Step("S1", StepResult.SUCCESSFUL, "one", [1])
    two = Step("S2", StepResult.SKIPPED)

    def run(request: OperationRequest, progress: Progress) -> Deferred[OperationResult]:
        progress([one])
        progress((one, two))
        return done

    bench = Bench(FakeOperation("X", run))
    answers = bench.send(request(name="X", deviceId="d", path=["g", "dev-1"]), content_type)
    done.callback(OperationResult(steps=(one, two)))
    echo = {"id": "1", "deviceId": "d", "path": ["g", "dev-1"], "name": "X"}
    first = {"name": "S1", "result": "SUCCESSFUL", "description": "one", "response": [1]}
    second = {"name": "S2", "result": "SKIPPED"}
    messages = [bench.decoded(payload, kind) for payload, kind in bench.partials]
    assert [kind for _, kind in bench.partials] == [content_type] * 2
    assert [message["operation"]["response"] for message in messages] == [
        {**echo, "steps": [first]},
        {**echo, "steps": [first, second]},
    ]
    assert {message["version"] for message in messages} == {"9.0"}
    final = bench.decoded(answers[0], content_type)["operation"]["response"]
    assert final == {**echo, "resultCode": "SUCCESSFUL", "steps": [first, second]}


def test_progress_after_the_end_is_ignored() -> None:
    """Nothing follows the final answer."""
    kept: list[Progress] = []

    def run(request: OperationRequest, progress: Progress) -> OperationResult:
        kept.append(progress)
        return OperationResult()

    bench = Bench(FakeOperation("X", run))
    bench.response(name="X")
    kept[0]([Step("late", StepResult.SUCCESSFUL)])
    assert bench.partials == []


@pytest.mark.parametrize("steps", [[Step("S", StepResult.ERROR, response=[object()])], ["S"], 5])
def test_progress_that_can_not_be_sent_fails_in_the_handler(steps: Any) -> None:
    """The author of the rubbish gets the error; the answer tells the platform."""

    def run(request: OperationRequest, progress: Progress) -> OperationResult:
        progress(steps)
        return OperationResult()

    bench = Bench(FakeOperation("X", run))
    response = bench.response(name="X")
    assert response["resultCode"] == "ERROR_PROCESSING"
    assert "steps" in response["resultDescription"]
    assert bench.partials == []


def _raise(payload: bytes, content_type: ContentType) -> Any:
    raise RuntimeError("outbox is full")


@pytest.mark.parametrize(
    "send_partial",
    [_raise, lambda payload, content_type: fail(RuntimeError("outbox is full"))],
    ids=["raises", "fails"],
)
def test_a_lost_partial_answer_does_not_fail_the_operation(
    send_partial: Callable[[bytes, ContentType], Any], logged: list[dict[str, Any]]
) -> None:
    """It is logged with its reason; the final answer is what counts."""

    def run(request: OperationRequest, progress: Progress) -> OperationResult:
        progress([])
        return OperationResult()

    bench = Bench(FakeOperation("X", run))
    bench.send_partial = send_partial
    assert bench.response(name="X")["resultCode"] == "SUCCESSFUL"
    warnings = [event for event in logged if event["log_level"] is LogLevel.warn]
    assert [event["reason"] for event in warnings] == ["outbox is full"]


def test_what_acts_leaves_one_line_in_the_log(logged: list[dict[str, Any]]) -> None:
    """An operation that changes the device is an event that matters; a mere reading is none."""
    bench = Bench()
    bench.response(name="REFRESH_INFO")
    assert logged == []
    bench.response(id="2", name="SET_CLOCK_EQUIPMENT")
    (event,) = logged
    assert (event["operation"], event["request_id"]) == ("SET_CLOCK_EQUIPMENT", "2")
    assert event["result_code"] == "SUCCESSFUL"


def test_what_fails_is_a_warning_with_its_reason(logged: list[dict[str, Any]]) -> None:
    """Whoever reads the log at WARN learns which operation failed, and why: one that was refused,
    one that raised, and one whose step failed."""
    step = Step("S", StepResult.ERROR, description="the valve is stuck")
    failed = OperationResult(ResultCode.ERROR_PROCESSING, steps=[step])
    bench = returning(failed)
    bench.response(id="1", name="X")
    bench.response(id="2", name="NOBODY_KNOWS_IT")
    raising = Bench()
    raising.response(id="3", name="SET_DEVICE_PARAMETERS", parameters={})
    shown = [
        (event["log_level"].name, event["request_id"], event["result_code"], event["reason"])
        for event in logged
    ]
    assert shown == [
        ("warn", "1", "ERROR_PROCESSING", "the valve is stuck"),
        ("warn", "2", "NOT_SUPPORTED", "Operation not supported by the device"),
        ("warn", "3", "ERROR_IN_PARAM", "variableList: missing"),
    ]


def test_a_stop_leaves_no_timer_of_the_admission() -> None:
    """An operation waited for room for its answer, and began when another request came, before the
    next look whether there is room: after a stop, nothing looks any more."""
    bench = returning(Deferred())
    bench.has_room = False
    first = bench.send(request(id="1", name="X"))
    bench.has_room = True
    second = bench.send(request(id="2", name="X"))
    assert first == second == []
    bench.dispatcher.stop()
    assert len(first) == len(second) == 1
    assert not bench.clock.getDelayedCalls()


def test_progress_is_counted_by_its_operation() -> None:
    """Each partial answer; those that are not sent are none."""

    def run(request: OperationRequest, progress: Progress) -> OperationResult:
        progress([])
        progress([Step("S", StepResult.SUCCESSFUL)])
        with contextlib.suppress(OperationFailed):
            progress([5])  # type: ignore[list-item]
        return OperationResult()

    bench = Bench(FakeOperation("X", run))
    bench.response(name="X")
    assert bench.counters.of("operation_partial_answers", operation="X") == 2


@pytest.mark.parametrize(
    ("error", "lines"),
    [(ValueError("late"), 1), (OperationFailed("late"), 0), (CancelledError(), 0)],
)
def test_a_failure_after_the_answer_is_logged_where_it_is_a_surprise(
    error: Exception, lines: int, logged: list[dict[str, Any]]
) -> None:
    """A handler that was cancelled may say so in its own way; a defect is one at any time."""
    inner: Deferred[Any] = Deferred()
    pending: Deferred[Any] = Deferred()
    pending.addErrback(lambda _: inner)
    bench = returning(pending)
    bench.send(request(name="X"))
    bench.clock.advance(80)
    logged.clear()
    inner.errback(error)
    assert [event["operation"] for event in logged if "log_failure" in event] == ["X"] * lines


def test_the_time_of_an_operation_is_measured_from_its_arrival() -> None:
    """The waiting included."""
    gate: Deferred[OperationResult] = Deferred()
    bench = returning(gate)
    bench.clock.advance(3.0)
    bench.send(request(name="X"))
    bench.clock.advance(7.5)
    gate.callback(OperationResult())
    assert bench.counters.observed == [("operation_seconds", 7.5)]


def test_steps_that_are_too_large_are_the_handler_s_matter() -> None:
    """It gets the error, with both sizes; steps of just the largest size are sent."""
    seen: list[str] = []

    def run(request: OperationRequest, progress: Progress) -> OperationResult:
        for _ in range(2):
            try:
                progress([Step("S" * 300, StepResult.SUCCESSFUL)])
            except OperationFailed as error:
                seen.append(str(error))
            if bench.partials:
                bench.max_answer_bytes = len(bench.partials[0][0])
        bench.max_answer_bytes -= 1
        progress([Step("S" * 300, StepResult.SUCCESSFUL)])
        return OperationResult()

    bench = Bench(FakeOperation("X", run))
    bench.send(request(name="X"))
    size = len(bench.partials[0][0])
    assert seen == []
    assert len(bench.partials) == 2
    bench.max_answer_bytes = 1 << 20
    assert bench.counters.of("operations", operation="X", result="ERROR_PROCESSING") == 1
    assert size > 300


def test_what_nobody_says_otherwise() -> None:
    """80 s for an operation, 100 at once and 1000 that wait; 16 MiB for an answer; and a value that
    no format can carry is looked for in every answer."""

    def run(request: OperationRequest, progress: Progress) -> Any:
        if request.parameters.get("kind") == "nan":
            return OperationResult(steps=[Step("S", StepResult.SUCCESSFUL, response=[nan])])
        if request.parameters.get("kind") == "large":
            return OperationResult(description="d" * request.parameters["size"], steps=[])
        return Deferred()

    bench = Bench()
    dispatcher = OperationDispatcher(
        bench.codecs,
        lambda: "dev-1",
        [FakeOperation("X", run, reads_only=True)],
        bench.journal,
        lambda payload, content_type: None,
        bench.clock,
        bench.counters,
    )
    answers: list[Any] = []

    def ask(request_id: object, **parameters: Any) -> None:
        message = request(id=str(request_id), name="X", parameters=parameters)
        dispatcher.process(
            bench.codecs.codec(ContentType.JSON).encode(message), ContentType.JSON
        ).addCallback(answers.append)

    def last() -> dict[str, Any]:
        return dict(bench.decoded(answers[-1].payload)["operation"]["response"])

    ask("nan", kind="nan")
    assert "steps[0].response[0]" in last()["resultDescription"]
    ask("probe", kind="large", size=1)
    rest = len(answers[-1].payload) - 1
    for size, code in ((2**24 - rest, "SUCCESSFUL"), (2**24 - rest + 1, "ERROR_PROCESSING")):
        ask(f"{size % 100_000:05d}", kind="large", size=size)
        assert last()["resultCode"] == code
    answers.clear()
    for number in range(1101):
        ask(number)
    assert len(answers) == 1
    assert "too many operations" in last()["resultDescription"]
    assert len(dispatcher._admission._waiting) == 1000
    bench.clock.advance(79.9)
    assert len(answers) == 1
    bench.clock.advance(0.1)
    assert len(answers) == 1101


def test_where_nothing_can_be_answered_there_is_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A defect in every way to answer: whoever waits for the answer hears that there is none, and
    the place is free for the next request."""
    bench = Bench(FakeOperation("X", lambda request, progress: OperationResult()), max_concurrent=1)

    def broken(*_: object) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        for name in ("write", "write_bare"):
            patched.setattr(bench.dispatcher._writer, name, broken)
        assert bench.send(request(name="X")) == [None]
    assert bench.response(id="2", name="X")["resultCode"] == "SUCCESSFUL"
    assert bench.dispatcher.unanswered == 0
