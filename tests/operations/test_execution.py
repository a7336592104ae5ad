"""Limits, cancellation and repetition: still exactly one answer for every request."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from oda.errors import OperationFailed
from oda.model import (
    ContentType,
    JournalEntry,
    OperationRequest,
    OperationResult,
    Step,
    StepResult,
)
from tests.foreign import Unseen

from .fake_outbox import FakeJournal
from .fakes import Bench, FakeOperation, Progress, request


class Gates:
    """An operation body that waits for the test, one gate per request."""

    def __init__(self) -> None:
        self.opened: dict[str, Deferred[OperationResult]] = {}

    def __call__(self, request: OperationRequest, progress: Progress) -> Deferred[OperationResult]:
        return self.opened.setdefault(request.id, Deferred())

    def open(self, request_id: str) -> None:
        self.opened[request_id].callback(OperationResult(description="done"))


class ScriptedJournal(FakeJournal):
    """Gives what the test put into ``outcomes``, in order; then it does what a journal does.
    Records its calls."""

    def __init__(self, *outcomes: Any) -> None:
        super().__init__()
        self.outcomes = list(outcomes)
        self.begun: list[tuple[str, str, bool]] = []

    def begin(
        self,
        request_id: str,
        name: str,
        acts: bool,
        request: OperationRequest | None = None,
        content_type: ContentType | None = None,
    ) -> Any:
        self.begun.append((request_id, name, acts))
        if not self.outcomes:
            return super().begin(request_id, name, acts, request, content_type)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def described(bench: Bench, answers: list[bytes | None]) -> str:
    """The ``resultDescription`` of the only answer."""
    (payload,) = answers
    description: str = bench.decoded(payload)["operation"]["response"]["resultDescription"]
    return description


# --- time limit -------------------------------------------------------------------------------


def test_the_time_limit_cancels_and_answers() -> None:
    """At the limit, not before: the handler is cancelled, the answer says why."""
    cancelled: list[Deferred[OperationResult]] = []
    pending: Deferred[OperationResult] = Deferred(cancelled.append)
    bench = Bench(FakeOperation("X", lambda request, progress: pending))
    answers = bench.send(request(name="X"))
    bench.clock.advance(79.9)
    assert answers == []
    bench.clock.advance(0.1)
    assert described(bench, answers) == "time limit of 80 s exceeded"
    response = bench.decoded(answers[0])["operation"]["response"]
    assert (response["resultCode"], response["steps"]) == ("ERROR_PROCESSING", [])
    assert cancelled == [pending]
    assert not bench.clock.getDelayedCalls()


@pytest.mark.parametrize("late", ["result", "failure", "never", "at once"])
def test_a_handler_that_ignores_its_cancellation_can_not_answer_twice(late: str) -> None:
    """Whatever it does afterwards, the answer of the time limit stays the only one, and its place
    is free for the next operation."""
    inner: Deferred[OperationResult] = Deferred()
    pending: Deferred[OperationResult] = Deferred()
    stubborn = pending.addErrback(lambda failure: OperationResult() if late == "at once" else inner)
    bench = Bench(
        FakeOperation("X", lambda request, progress: stubborn),
        FakeOperation("Y", lambda request, progress: OperationResult(description="mine")),
        max_concurrent=1,
    )
    answers = bench.send(request(name="X"))
    waiting = bench.send(request(id="2", name="Y"))
    bench.clock.advance(80)
    assert described(bench, answers) == "time limit of 80 s exceeded"
    if late == "result":
        inner.callback(OperationResult())
    elif late == "failure":
        inner.errback(ValueError("too late"))
    assert len(answers) == 1
    assert bench.response(id="3", name="Y")["resultDescription"] == "mine"
    assert len(waiting) == 1


def test_a_canceller_that_fails_does_not_cost_the_answer() -> None:
    """Foreign code may break anywhere."""

    def broken(deferred: Deferred[Any]) -> None:
        raise ValueError("can't")

    bench = Bench(FakeOperation("X", lambda request, progress: Deferred(broken)))
    answers = bench.send(request(name="X"))
    bench.clock.advance(80)
    assert described(bench, answers) == "time limit of 80 s exceeded"


@pytest.mark.parametrize(
    "error", [SystemExit("no bus"), asyncio.CancelledError("no bus"), GeneratorExit("no bus")]
)
@pytest.mark.parametrize("way", ["raised", "deferred", "coroutine", "cancelled"])
def test_an_operation_that_would_end_the_process_is_answered(
    error: BaseException, way: str
) -> None:
    """``sys.exit()`` and the like out of an operation are ERROR_PROCESSING with the reason, and the
    operation's place is free for the next one."""

    def end(*_: object) -> Any:
        raise error

    async def end_later(*_: object) -> OperationResult:
        raise error

    behaviour: Any = {
        "raised": end,
        "deferred": lambda *_: fail(error),
        "coroutine": end_later,
        "cancelled": lambda *_: Deferred(end),
    }[way]
    bench = Bench(
        FakeOperation("X", behaviour),
        FakeOperation("Y", lambda request, progress: OperationResult(description="mine")),
        max_concurrent=1,
    )
    answers = bench.send(request(name="X"))
    bench.clock.advance(80)
    text = described(bench, answers)
    limit = "time limit of 80 s exceeded"
    assert text == (limit if way == "cancelled" else f"{type(error).__name__}: no bus")
    response = bench.decoded(answers[0])["operation"]["response"]
    assert response["resultCode"] == "ERROR_PROCESSING"
    assert bench.response(id="3", name="Y")["resultDescription"] == "mine"


def test_the_answer_of_the_time_limit_tells_the_steps_done() -> None:
    """What was reported as progress is not taken back."""

    def run(request: OperationRequest, progress: Progress) -> Deferred[OperationResult]:
        progress([Step("S1", StepResult.SUCCESSFUL)])
        return Deferred()

    bench = Bench(FakeOperation("X", run))
    answers = bench.send(request(name="X"))
    bench.clock.advance(80)
    response = bench.decoded(answers[0])["operation"]["response"]
    assert response["steps"] == [{"name": "S1", "result": "SUCCESSFUL"}]


def test_the_time_limit_counts_from_the_arrival() -> None:
    """Waiting for a place is part of the time; who waited too long is never run."""
    gates = Gates()
    operation = FakeOperation("X", gates)
    bench = Bench(operation, max_concurrent=1, timeout_s=10)
    bench.send(request(id="1", name="X"))
    bench.clock.advance(6)
    second = bench.send(request(id="2", name="X"))
    third = bench.send(request(id="3", name="X"))
    bench.clock.advance(4)
    # The first is over its time, so the second runs; its time counts from second 6.
    bench.clock.advance(6)
    assert described(bench, second) == "time limit of 10 s exceeded"
    assert described(bench, third) == "time limit of 10 s exceeded"
    assert [seen.id for seen in operation.requests][:2] == ["1", "2"]
    assert not bench.clock.getDelayedCalls()


def test_who_waited_too_long_is_never_run() -> None:
    """An operation that was answered in the queue does not act on the device later."""
    gates = Gates()
    operation = FakeOperation("X", gates)
    bench = Bench(operation, max_concurrent=1, timeout_s=10)
    bench.send(request(id="1", name="X"))
    bench.dispatcher.configure(timeout_s=3, max_concurrent=1)
    second = bench.send(request(id="2", name="X"))
    bench.clock.advance(3)
    assert described(bench, second) == "time limit of 3 s exceeded"
    gates.open("1")
    assert [seen.id for seen in operation.requests] == ["1"]


# --- concurrency ------------------------------------------------------------------------------


def test_more_than_the_limit_wait_in_order_and_then_are_refused() -> None:
    """Only so many run, only so many wait; the rest gets its answer at once."""
    gates = Gates()
    operation = FakeOperation("X", gates)
    bench = Bench(operation, max_concurrent=2, max_waiting=2)
    answers = {number: bench.send(request(id=number, name="X")) for number in "12345"}
    assert [seen.id for seen in operation.requests] == ["1", "2"]
    assert described(bench, answers["5"]) == "too many operations at once; try again later"
    gates.open("2")
    assert [seen.id for seen in operation.requests] == ["1", "2", "3"]
    gates.open("1")
    gates.open("4")
    gates.open("3")
    assert [described(bench, answers[number]) for number in "1234"] == ["done"] * 4
    assert not bench.clock.getDelayedCalls()


def test_requests_are_let_go_when_they_are_answered() -> None:
    """``unanswered`` counts what runs and what waits, and nothing that has ended."""
    gates = Gates()
    bench = Bench(FakeOperation("X", gates), max_concurrent=1)
    bench.send(request(id="1", name="X"))
    bench.send(request(id="2", name="X"))
    bench.response(id="3", name="NOBODY")
    assert bench.dispatcher.unanswered == 2
    gates.open("1")
    assert bench.dispatcher.unanswered == 1
    bench.clock.advance(80)
    assert bench.dispatcher.unanswered == 0


def test_answers_may_overtake_each_other() -> None:
    """A slow operation holds up nobody."""
    gates = Gates()
    bench = Bench(FakeOperation("X", gates))
    slow = bench.send(request(id="1", name="X"))
    assert bench.response(id="2", name="REFRESH_INFO")["resultCode"] == "SUCCESSFUL"
    assert slow == []


def test_a_raised_limit_lets_the_waiting_in_at_once() -> None:
    """New settings apply while running."""
    gates = Gates()
    operation = FakeOperation("X", gates)
    bench = Bench(operation, max_concurrent=1)
    for number in "123":
        bench.send(request(id=number, name="X"))
    bench.dispatcher.configure(timeout_s=80, max_concurrent=2)
    assert [seen.id for seen in operation.requests] == ["1", "2"]


# --- stop -------------------------------------------------------------------------------------


def test_stop_answers_everything_and_leaves_no_timer() -> None:
    """What runs is cancelled, what waits is not run, what comes later is not begun."""
    gates = Gates()
    operation = FakeOperation("X", gates)
    bench = Bench(operation, max_concurrent=1)
    running = bench.send(request(id="1", name="X"))
    waiting = bench.send(request(id="2", name="X"))
    bench.dispatcher.stop()
    assert described(bench, running) == "the agent is stopping"
    assert described(bench, waiting) == "the agent is stopping"
    assert gates.opened["1"].called
    assert bench.response(id="3", name="X")["resultDescription"] == "the agent is stopping"
    assert [seen.id for seen in operation.requests] == ["1"]
    assert not bench.clock.getDelayedCalls()
    bench.dispatcher.stop()
    assert (len(running), len(waiting)) == (1, 1)


def test_stop_runs_nobody_that_waited_for_room() -> None:
    """Those that wait for room for their answers are answered and not run, even where there has
    been room for a moment when the agent stops."""
    operation = FakeOperation("X", Gates())
    bench = Bench(operation)
    bench.has_room = False
    waiting = [bench.send(request(id=str(number), name="X")) for number in range(3)]
    bench.has_room = True
    bench.dispatcher.stop()
    assert [described(bench, one) for one in waiting] == ["the agent is stopping"] * 3
    assert operation.requests == []
    assert not bench.clock.getDelayedCalls()


# --- repetition -------------------------------------------------------------------------------


def test_a_repeated_request_gets_its_answer_again_and_is_not_run_again() -> None:
    """The same bytes, as often as it is asked for."""
    operation = FakeOperation("X", lambda request, progress: OperationResult(description="once"))
    bench = Bench(operation)
    answers = [bench.send(request(name="X")) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert len(operation.requests) == 1
    assert bench.counters.of("operations_repeated", operation="X") == 2
    assert bench.counters.of("operations", operation="X", result="SUCCESSFUL") == 1


def test_a_repeated_request_is_answered_in_the_format_it_came_in() -> None:
    """The platform may ask again in another format."""
    operation = FakeOperation("X", lambda request, progress: OperationResult(description="once"))
    bench = Bench(operation)
    first = bench.answer(request(name="X"), ContentType.JSON)
    for content_type in ContentType:
        assert bench.answer(request(name="X"), content_type) == first
    assert len(operation.requests) == 1


def test_an_answer_that_does_not_fit_the_other_format_is_still_answered() -> None:
    """Bytes fit MessagePack and CBOR; asked again in JSON the answer says what can't be sent."""
    steps = (Step("S", StepResult.SUCCESSFUL, response=[b"raw"]),)
    bench = Bench(FakeOperation("X", lambda request, progress: OperationResult(steps=steps)))
    first = bench.answer(request(name="X"), ContentType.CBOR)
    assert first["operation"]["response"]["resultCode"] == "SUCCESSFUL"
    again = bench.answer(request(name="X"), ContentType.JSON)["operation"]["response"]
    assert again["resultCode"] == "ERROR_PROCESSING"
    assert "response[0]" in again["resultDescription"]


def test_a_request_repeated_while_it_runs_shares_the_one_answer() -> None:
    """The second gets no answer of its own and is not run: the first one's is on its way."""
    gates = Gates()
    operation = FakeOperation("X", gates)
    bench = Bench(operation)
    first = bench.send(request(name="X"))
    second = bench.send(request(name="X"))
    assert (first, second) == ([], [None])
    gates.open("1")
    assert described(bench, first) == "done"
    assert bench.send(request(name="X")) == first
    assert len(operation.requests) == 1


@pytest.mark.parametrize("reads_only", [True, False])
def test_the_journal_is_told_what_acts(reads_only: bool) -> None:
    """What acts has to be on record before it runs; the answer ends the record in any case."""
    journal = ScriptedJournal()
    operation = FakeOperation("X", lambda request, progress: OperationResult(), reads_only)
    bench = Bench(operation, journal=journal)
    bench.answer(request(id="7", name="X"), ContentType.CBOR)
    assert journal.begun == [("7", "X", not reads_only)]
    (row,) = bench.outbox.rows
    record = journal.records["7", "X"]
    assert (row.message.record, row.message.waits_for_commit) == (record.number, not reads_only)
    assert record.has_ended


def test_an_operation_runs_only_once_it_is_on_record() -> None:
    """A journal that writes to disk may take its time; the operation waits for it."""
    operation = FakeOperation("X", lambda request, progress: OperationResult(description="ran"))
    bench = Bench(operation)
    bench.commits = False
    answers = bench.send(request(name="X"))
    assert operation.requests == []
    bench.outbox.commit()
    assert described(bench, answers) == "ran"
    assert not bench.clock.getDelayedCalls()


def test_a_journal_that_answers_late_may_know_the_request() -> None:
    """An earlier answer found on disk is the answer, and nothing runs."""
    recording: Deferred[int | JournalEntry] = Deferred()
    operation = FakeOperation("X", lambda request, progress: OperationResult())
    bench = Bench(operation, journal=ScriptedJournal(recording))
    answers = bench.send(request(name="X"))
    recording.callback(JournalEntry("X", b"{}", ContentType.JSON, True))
    assert answers == [b"{}"]
    assert operation.requests == []
    assert not bench.clock.getDelayedCalls()


@pytest.mark.parametrize("late", ["record", "known"])
def test_a_journal_that_takes_too_long_costs_the_time_limit(late: str) -> None:
    """Then the operation never runs. The answer comes with the record that it ends, because a
    record that stayed open would be answered again, as interrupted; and an earlier answer found in
    the end is the answer."""
    recording: Deferred[int | JournalEntry] = Deferred()
    operation = FakeOperation("X", lambda request, progress: OperationResult())
    bench = Bench(operation, journal=ScriptedJournal(recording))
    answers = bench.send(request(name="X"))
    bench.clock.advance(80)
    assert answers == []
    assert not bench.clock.getDelayedCalls()
    if late == "known":
        recording.callback(JournalEntry("X", b"{}", ContentType.JSON, True))
        assert answers == [b"{}"]
    else:
        recording.callback(17)
        assert described(bench, answers) == "time limit of 80 s exceeded"
        assert bench.outbox.rows[0].message.record == 17
    assert operation.requests == []
    assert bench.dispatcher.unanswered == 0


def test_a_record_that_fails_too_late_is_told_as_such() -> None:
    """An operation whose time is up before its record has failed is not on record: the same request
    runs when it comes again. So its answer is the refusal that allows this, not the time limit,
    which would be followed by another answer. While the agent stops, that is the reason."""
    recordings: list[Deferred[int | JournalEntry]] = [Deferred(), Deferred()]
    operation = FakeOperation("X", lambda request, progress: OperationResult(description="ran"))
    bench = Bench(operation, journal=ScriptedJournal(*recordings))
    answers = bench.send(request(name="X"))
    bench.clock.advance(80)
    recordings[0].errback(ValueError("disk"))
    assert described(bench, answers) == "the operation could not be recorded: disk"
    assert bench.outbox.rows[0].message.record is None
    stopped = bench.send(request(name="X"))
    bench.dispatcher.stop()
    recordings[1].errback(ValueError("disk"))
    assert described(bench, stopped) == "the agent is stopping"
    assert operation.requests == []


@pytest.mark.parametrize("is_async", [True, False])
def test_what_can_not_be_recorded_does_not_act(is_async: bool) -> None:
    """Without a record it might run twice: it is refused with the reason. Reading is harmless."""
    error = OSError("disk is full")
    outcomes = [fail(error), fail(error)] if is_async else [error, error]
    acting = FakeOperation("A", lambda request, progress: OperationResult())
    reading = FakeOperation("R", lambda request, progress: OperationResult(), reads_only=True)
    bench = Bench(acting, reading, journal=ScriptedJournal(*outcomes))
    refused = bench.response(name="A")
    assert refused["resultCode"] == "ERROR_PROCESSING"
    assert refused["resultDescription"] == "the operation could not be recorded: disk is full"
    assert acting.requests == []
    assert bench.response(id="2", name="R")["resultCode"] == "SUCCESSFUL"


@pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.name)
@pytest.mark.parametrize("broken", ["write", "_host_id", "counters"])
def test_a_defect_while_answering_costs_neither_the_answer_nor_the_place(
    broken: str, content_type: ContentType
) -> None:
    """Whatever breaks in the agent between the operation's end and its answer, the platform gets
    ERROR_PROCESSING with the id, the record ends, and the next operation gets its turn."""
    gates = Gates()
    bench = Bench(FakeOperation("X", gates), max_concurrent=1)
    first = bench.send(request(id="1", name="X"), content_type)
    second = bench.send(request(id="2", name="X"), content_type)

    def defect(*args: Any, **labels: Any) -> Any:
        raise ValueError("a defect")

    writer = bench.dispatcher._writer
    owner, name = (bench.counters, "increment") if broken == "counters" else (writer, broken)
    whole = getattr(owner, name)
    setattr(owner, name, defect)
    gates.open("1")
    setattr(owner, name, whole)
    gates.open("2")
    (payload,) = first
    response = bench.decoded(payload, content_type)["operation"]["response"]
    assert (response["id"], response["name"]) == ("1", "X")
    assert response["resultCode"] == "ERROR_PROCESSING"
    assert bench.journal.records["1", "X"].payload == payload
    (payload,) = second
    response = bench.decoded(payload, content_type)["operation"]["response"]
    assert response["resultDescription"] == "done"


def test_a_repeated_request_leaves_no_timer() -> None:
    """It has its answer, or shares that of the one that runs: no time limit is left for it."""
    bench = Bench(FakeOperation("X", lambda request, progress: OperationResult()))
    for _ in range(2):
        bench.response(name="X")
        assert bench.clock.getDelayedCalls() == []


ERRORS = [SystemExit("no bus"), asyncio.CancelledError("no bus"), ValueError("no bus")]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_what_an_operation_returns_may_fail_when_it_is_looked_at(error: BaseException) -> None:
    """A proxy whose class can't be told, returned at once or later, alone or in a result, is
    answered ERROR_PROCESSING at once, and the next request finds its place free."""
    results: list[Any] = [
        Unseen(error),
        OperationResult(result_code=cast(Any, Unseen(error))),
        OperationResult(description=cast(Any, Unseen(error))),
        OperationResult(steps=cast(Any, Unseen(error))),
        OperationResult(steps=[cast(Any, Unseen(error))]),
    ]
    for number, result in enumerate([*results, *map(succeed, results)]):
        bench = Bench(
            FakeOperation("X", lambda request, progress, result=result: result),
            FakeOperation("Y", lambda request, progress: OperationResult()),
            max_concurrent=1,
        )
        response = bench.response(id=f"x-{number}", name="X")
        assert response["resultCode"] == "ERROR_PROCESSING"
        assert "no bus" in response["resultDescription"]
        assert bench.response(id=f"y-{number}", name="Y")["resultCode"] == "SUCCESSFUL"


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_operation_that_cannot_tell_whether_it_only_reads(error: BaseException) -> None:
    """It counts as one that acts: it is put on record, and answered."""

    class Property(FakeOperation):
        @property
        def reads_only(self) -> Any:
            raise error

        @reads_only.setter
        def reads_only(self, value: bool) -> None:
            pass

    bench = Bench(Property("X", lambda request, progress: OperationResult()))
    assert bench.response(id="1", name="X")["resultCode"] == "SUCCESSFUL"
    assert ("1", "X") in bench.journal.records


@pytest.mark.parametrize("code", [["a", "list"], 5, None, "NO_CODE"])
def test_an_error_with_an_odd_result_code_is_answered(code: Any) -> None:
    """ERROR_PROCESSING with the error's own reason, at once."""
    error = OperationFailed("the valve is stuck")
    error.result_code = code
    bench = Bench(FakeOperation("X", lambda request, progress: fail(error)))
    response = bench.response(name="X")
    assert response["resultCode"] == "ERROR_PROCESSING"
    assert response["resultDescription"] == "the valve is stuck"
