"""One answer for each request, through crashes, stops, late stores and calls out of callbacks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from oda.assembly import Parts
from oda.codecs import default_registry
from oda.connector.service import ConnectorService
from oda.errors import OutboxError
from oda.model import Answer, ContentType, OperationRequest, OperationResult, Step, StepResult
from oda.settings import ConnectorSettings, OutboxSettings

from .fakes import Bench, FakeCounters, FakeOperation, Progress, request


def acting(description: str = "done") -> FakeOperation:
    """An operation X that is done at once."""
    return FakeOperation("X", lambda request, progress: OperationResult(description=description))


def descriptions(bench: Bench, payloads: list[bytes]) -> list[str]:
    """The ``resultDescription`` of each."""
    return [
        bench.decoded(payload)["operation"]["response"]["resultDescription"] for payload in payloads
    ]


# --- repetition -------------------------------------------------------------------------------


def test_two_operations_that_share_an_id_keep_their_own_answers() -> None:
    """Overlapping under one id, each ends its own record, and each repetition gets its own."""
    gates: dict[str, Deferred[OperationResult]] = {"X": Deferred(), "Y": Deferred()}
    operations = [
        FakeOperation(name, lambda request, progress: gates[request.name]) for name in gates
    ]
    bench = Bench(*operations)
    x, y = bench.send(request(name="X")), bench.send(request(name="Y"))
    gates["X"].callback(OperationResult(description="of X"))
    assert bench.send(request(name="Y")) == [None]
    gates["Y"].callback(OperationResult(description="of Y"))
    assert bench.send(request(name="X")) == x
    assert bench.send(request(name="Y")) == y
    assert descriptions(bench, bench.outbox.payloads) == ["of X", "of Y", "of X", "of Y"]
    assert [len(operation.requests) for operation in operations] == [1, 1]


def test_an_operation_whose_answer_is_no_longer_kept_is_not_run_again() -> None:
    """The id is remembered longer than the answer."""
    operation = acting()
    bench = Bench(operation)
    bench.send(request(name="X"))
    bench.journal.forget_answers()
    response = bench.response(name="X")
    assert response["resultCode"] == "ERROR_PROCESSING"
    assert response["resultDescription"] == "already executed; the answer is no longer kept"
    assert len(operation.requests) == 1
    assert bench.outbox.rows[-1].message.record is None


def test_an_answer_that_can_not_be_read_now_is_told_from_one_that_is_not_kept() -> None:
    """Whoever asks again later gets it."""
    operation = acting()
    bench = Bench(operation)
    (first,) = bench.send(request(name="X"))
    bench.journal.is_unreadable = True
    response = bench.response(name="X")
    assert response["resultCode"] == "ERROR_PROCESSING"
    assert response["resultDescription"] == "already executed; the answer can't be read now"
    bench.journal.is_unreadable = False
    assert bench.send(request(name="X")) == [first]
    assert len(operation.requests) == 1


def test_the_repeated_answer_of_an_operation_that_acts_waits_for_the_commit_too() -> None:
    """Sent before the end is on disk, it could be contradicted by "interrupted" after a crash."""
    bench = Bench(acting())
    bench.commits = False
    bench.send(request(name="X"))
    bench.outbox.commit()
    bench.send(request(name="X"))
    assert len(bench.outbox.payloads) == 2
    assert bench.outbox.take(10, 10_000) == []
    bench.outbox.commit()
    assert len(bench.outbox.take(10, 10_000)) == 2


def test_a_partial_answer_goes_before_the_final_one() -> None:
    """It ends no record and waits for nothing, and stands before the final answer."""
    bench: Bench

    def run(request: OperationRequest, progress: Progress) -> OperationResult:
        progress([Step("S1", StepResult.SUCCESSFUL)])
        return OperationResult(description="done")

    bench = Bench(FakeOperation("X", run))
    bench.send_partial = lambda payload, content_type: bench.put(Answer(payload))
    bench.commits = False
    bench.send(request(name="X"))
    bench.outbox.commit()
    partial, final = (row.message for row in bench.outbox.rows)
    assert (partial.record, partial.waits_for_commit) == (None, False)
    assert (final.record, final.waits_for_commit) == (1, True)
    assert [row.payload for row in bench.outbox.take(10, 10_000)] == [partial.payload]
    bench.outbox.commit()
    assert [row.payload for row in bench.outbox.take(10, 10_000)] == [final.payload]


# --- stopping ---------------------------------------------------------------------------------


def test_a_known_request_gets_its_own_answer_while_stopping() -> None:
    """ "The agent is stopping" is for what was not run: another answer for one id would
    contradict the first."""
    bench = Bench(acting())
    first = bench.send(request(name="X"))
    bench.dispatcher.stop()
    assert bench.send(request(name="X")) == first


def test_what_ended_and_waits_for_its_commit_is_not_stopped() -> None:
    """The end stands; a repetition while stopping gets it as well."""
    bench = Bench(acting())
    bench.commits = False
    first = bench.send(request(name="X"))
    bench.outbox.commit()
    bench.dispatcher.stop()
    assert bench.send(request(name="X")) == first
    assert set(descriptions(bench, bench.outbox.payloads)) == {"done"}


def test_a_request_that_is_being_recorded_is_stopped_with_its_record() -> None:
    """Its record is on its way to the disk: an answer that does not end it would be followed by
    "interrupted" after the restart."""
    operation = acting()
    bench = Bench(operation)
    bench.commits = False
    answers = bench.send(request(name="X"))
    bench.dispatcher.stop()
    assert answers == []
    bench.outbox.commit_all()
    assert descriptions(bench, bench.outbox.payloads) == ["the agent is stopping"]
    assert operation.requests == []
    assert bench.outbox.crash().journal.interrupted() == []
    assert not bench.clock.getDelayedCalls()


def test_a_stop_answers_in_the_order_of_the_requests() -> None:
    """What runs is interrupted in the order in which it came, not in one of chance."""
    operation = FakeOperation("X", lambda request, progress: Deferred())
    bench = Bench(operation)
    ids = [str(number) for number in range(8)]
    for one in ids:
        bench.send(request(name="X", id=one))
    bench.dispatcher.stop()
    told = [bench.decoded(one)["operation"]["response"]["id"] for one in bench.outbox.payloads]
    assert told == ids


def test_what_was_answered_while_stopping_is_not_run_after_the_restart() -> None:
    """One id, one answer: also for a request that came only when the agent was stopping."""
    bench = Bench(acting())
    bench.dispatcher.stop()
    first = bench.send(request(name="X"))
    assert descriptions(bench, bench.outbox.payloads) == ["the agent is stopping"]
    operation = acting()
    after = Bench(operation, outbox=bench.outbox.crash())
    assert after.send(request(name="X")) == first
    assert operation.requests == []


def test_reading_is_not_begun_while_stopping_without_a_record() -> None:
    """A journal that fails does not make the agent run something at its end."""
    operation = FakeOperation("X", lambda request, progress: OperationResult(), reads_only=True)
    bench = Bench(operation)
    bench.dispatcher.stop()

    def broken(*args: Any) -> Any:
        raise OutboxError("closed")

    bench.journal.begin = broken
    assert bench.response(name="X")["resultDescription"] == "the agent is stopping"
    assert operation.requests == []


# --- interrupted operations -------------------------------------------------------------------


class StubRegistry:
    host_id = ""


class StubHost:
    registry = StubRegistry()


class StubEvents:
    def set_host_id(self, host_id: str) -> None:
        """Told who the device is."""


class StubDeviceInfo:
    def device_id(self) -> Deferred[str]:
        return succeed("dev-1")


def parts_of(bench: Bench) -> Parts:
    """The parts of an agent around ``bench``, with the real connector, not yet identified."""
    counters = FakeCounters()
    connector = ConnectorService(
        ConnectorSettings(host="192.0.2.1", port=9955, path="/"),
        OutboxSettings(),
        bench.outbox,
        StubDeviceInfo(),
        bench.dispatcher,
        default_registry(),
        counters,
        Clock(),
        lambda: 0.5,
        bytes,
    )
    rest: Any = None
    stubs: dict[str, Any] = {"host": StubHost(), "events": StubEvents()}
    return Parts(
        settings=rest,
        reactor=rest,
        wall_clock=rest,
        counters=counters,
        codecs=default_registry(),
        outbox=bench.outbox,
        connector=connector,
        state=rest,
        poller=rest,
        collector=rest,
        operations=bench.dispatcher,
        undated=rest,
        scripts=rest,
        troubles=rest,
        **stubs,
    )


INTERRUPTED = "interrupted: the agent was restarted while the operation was running"


def restarted() -> Bench:
    """An agent whose earlier process was killed while operations 1 and 2 ran."""
    before = Bench(FakeOperation("X", lambda request, progress: Deferred()))
    for request_id in "12":
        before.send(request(id=request_id, name="X"))
    return Bench(acting(), outbox=before.outbox.crash())


def test_interrupted_operations_are_answered_once() -> None:
    """However often the device is identified: at each reload, at each connection."""
    bench = restarted()
    parts = parts_of(bench)
    for _ in range(6):
        parts.identified("dev-1")
        bench.outbox.commit_all()
    assert descriptions(bench, bench.outbox.payloads) == [INTERRUPTED] * 2
    assert all(row.message.waits_for_commit for row in bench.outbox.rows)
    assert bench.outbox.crash().journal.interrupted() == []


def test_a_kill_before_the_commit_leaves_the_answer_to_the_next_process() -> None:
    """The answer and the end of the record are one: neither is known without the other."""
    bench = restarted()
    parts_of(bench).identified("dev-1")
    assert bench.outbox.take(10, 10_000) == []
    after = Bench(acting(), outbox=bench.outbox.crash())
    assert after.outbox.payloads == []
    parts_of(after).identified("dev-1")
    assert descriptions(after, after.outbox.payloads) == [INTERRUPTED] * 2


def test_a_store_that_is_opened_late_tells_of_interrupted_operations() -> None:
    """They are answered as soon as they are known; but only once it is known who the device is."""
    for is_identified_first in (True, False):
        bench = restarted()
        bench.journal.is_known = False
        parts = parts_of(bench)
        bench.journal.subscribe(parts.take_up_interrupted)
        steps: list[Callable[[], None]] = [
            lambda parts=parts: parts.identified("dev-1"),
            bench.journal.store_opened,
        ]
        for step in steps if is_identified_first else reversed(steps):
            assert bench.outbox.payloads == []
            step()
        assert descriptions(bench, bench.outbox.payloads) == [INTERRUPTED] * 2
        assert bench.decoded(bench.outbox.payloads[0])["operation"]["response"]["deviceId"]


def test_an_interrupted_operation_that_is_asked_for_again_gets_one_answer() -> None:
    """Before its answer the request counts as running; after it the answer is repeated."""
    bench = restarted()
    assert bench.send(request(name="X")) == [None]
    parts_of(bench).identified("dev-1")
    (again,) = bench.send(request(name="X"))
    assert again == bench.outbox.payloads[0]
    assert again is not None
    assert descriptions(bench, [again]) == [INTERRUPTED]


def test_an_answer_to_an_interrupted_operation_that_is_refused_is_counted() -> None:
    """There is no room for its row, but its record has the answer: who asks again gets it."""
    bench = restarted()
    parts = parts_of(bench)
    bench.outbox.is_full = True
    parts.identified("dev-1")
    parts.identified("dev-1")
    assert parts.counters.of("answers_lost") == 2
    bench.outbox.is_full = False
    (again,) = bench.send(request(name="X"))
    assert again is not None
    assert descriptions(bench, [again]) == [INTERRUPTED]


# --- calls out of callbacks -------------------------------------------------------------------


def test_an_operation_may_stop_the_dispatcher() -> None:
    """Called from ``execute``, ``stop`` ends that operation like any other: one answer, no place
    taken, and what it returns in the end is cancelled."""
    cancelled: list[Any] = []

    def run(request: OperationRequest, progress: Progress) -> Deferred[OperationResult]:
        bench.dispatcher.stop()
        return Deferred(cancelled.append)

    bench = Bench(FakeOperation("X", run))
    answers = bench.send(request(name="X"))
    (payload,) = answers
    assert payload is not None
    assert descriptions(bench, [payload]) == ["the agent is stopping"]
    assert len(cancelled) == 1
    assert bench.dispatcher.unanswered == 0
    assert not bench.clock.getDelayedCalls()


def test_a_coroutine_is_not_begun_once_its_operation_has_ended() -> None:
    """Its body acts on the device: it must not run after the answer said that it did not."""
    ran: list[str] = []

    async def body() -> OperationResult:
        ran.append("ran")
        return OperationResult()

    def run(request: OperationRequest, progress: Progress) -> Any:
        bench.dispatcher.stop()
        begun.append(body())
        return begun[0]

    begun: list[Coroutine[Any, Any, OperationResult]] = []
    bench = Bench(FakeOperation("X", run))
    bench.send(request(name="X"))
    assert descriptions(bench, bench.outbox.payloads) == ["the agent is stopping"]
    assert ran == []
    assert inspect.getcoroutinestate(begun[0]) == inspect.CORO_CLOSED


def test_an_operation_may_send_requests_itself() -> None:
    """Its own id counts as running; another one runs, inside, within the limits."""
    inner: list[Any] = []

    def run(own: OperationRequest, progress: Progress) -> OperationResult:
        if own.id == "1":
            inner.append(bench.send(request(id="1", name="X")))
            inner.append(bench.send(request(id="2", name="X")))
        return OperationResult(description=f"ran {own.id}")

    bench = Bench(FakeOperation("X", run), max_concurrent=1)
    answers = bench.send(request(id="1", name="X"))
    assert inner[0] == [None]
    assert descriptions(bench, [*answers, *inner[1]]) == ["ran 1", "ran 2"]
    assert bench.dispatcher.unanswered == 0


def test_the_receiver_of_an_answer_may_call_again() -> None:
    """When an answer is told, its operation no longer counts: neither for the limit, nor as
    unanswered, and who waited longest comes first."""
    gates: dict[str, Deferred[OperationResult]] = {}
    ran: list[str] = []

    def run(own: OperationRequest, progress: Progress) -> Deferred[OperationResult]:
        ran.append(own.id)
        return gates.setdefault(own.id, Deferred())

    bench = Bench(FakeOperation("X", run, reads_only=True), max_concurrent=1)
    seen: list[Any] = []

    def answered(answer: Answer) -> None:
        seen.append(bench.dispatcher.unanswered)
        bench.put(answer)
        seen.append(bench.send(request(id="1", name="X")))
        bench.send(request(id="3", name="X"))
        seen.append(list(ran))

    payload = bench.codecs.codec(ContentType.JSON).encode(request(id="1", name="X"))
    bench.dispatcher.process(payload, ContentType.JSON).addCallback(answered)
    bench.send(request(id="2", name="X"))
    gates["1"].callback(OperationResult(description="one"))
    first = bench.outbox.payloads[0]
    assert seen == [1, [first], ["1", "2"]]
    gates["2"].callback(OperationResult())
    assert ran == ["1", "2", "3"]


def test_the_receiver_of_an_answer_may_stop_the_dispatcher() -> None:
    """What waits is answered once and never run."""
    gate: Deferred[OperationResult] = Deferred()
    operation = FakeOperation("X", lambda request, progress: gate, reads_only=True)
    bench = Bench(operation, max_concurrent=1)
    payload = bench.codecs.codec(ContentType.JSON).encode(request(id="1", name="X"))
    first = bench.dispatcher.process(payload, ContentType.JSON)
    first.addCallback(lambda _: bench.dispatcher.stop())
    second = bench.send(request(id="2", name="X"))
    gate.callback(OperationResult())
    (answer,) = second
    assert answer is not None
    assert descriptions(bench, [answer]) == ["the agent is stopping"]
    assert [one.id for one in operation.requests] == ["1"]
    assert bench.dispatcher.unanswered == 0


def test_a_partial_answer_may_end_its_operation() -> None:
    """Its receiver stops the dispatcher: the final answer tells that step, and nothing follows."""
    done: Deferred[OperationResult] = Deferred()

    def run(request: OperationRequest, progress: Progress) -> Deferred[OperationResult]:
        progress([Step("S1", StepResult.SUCCESSFUL)])
        progress([Step("S1", StepResult.SUCCESSFUL), Step("S2", StepResult.SUCCESSFUL)])
        return done

    bench = Bench(FakeOperation("X", run))
    sent: list[bytes] = []

    def send_partial(payload: bytes, content_type: ContentType) -> None:
        sent.append(payload)
        bench.dispatcher.stop()

    bench.send_partial = send_partial
    (payload,) = bench.send(request(name="X"))
    response = bench.decoded(payload)["operation"]["response"]
    assert response["steps"] == [{"name": "S1", "result": "SUCCESSFUL"}]
    assert len(sent) == 1


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_crash_at_any_step_gives_one_answer(steps: int) -> None:
    """Whatever was committed when the process was killed, what the platform has read before and
    after the restart is one answer."""
    bench = Bench(acting())
    bench.commits = False
    read: list[bytes] = []
    for step in range(steps):
        if step == 0:
            bench.send(request(name="X"))
        else:
            bench.outbox.commit()
        read += [row.payload for row in bench.outbox.take(10, 10_000)]
    after = Bench(acting(), outbox=bench.outbox.crash())
    parts_of(after).identified("dev-1")
    after.outbox.commit_all()
    after.send(request(name="X"))
    read += [row.payload for row in after.outbox.take(10, 10_000)]
    assert len(set(read)) == 1
