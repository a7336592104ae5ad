"""Operations that continue after a restart: still exactly one final answer, whenever the process
ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oda.errors import OperationFailed
from oda.interfaces import IOperation, IProgress, IResumableOperation
from oda.model import ContentType, OperationRequest, OperationResult, Step, StepResult
from oda.operations.continuation import MAX_RESUMES, MAX_SAVED_BYTES, Progress

from .fakes import Bench, FakeOperation, request
from .test_one_answer import INTERRUPTED, descriptions, parts_of

DONE = Step("began", StepResult.SUCCESSFUL)


@implementer(IOperation, IResumableOperation)
class Restarting:
    """X saves ``state`` at once and waits; resumed, it returns what the test gives it."""

    name = "X"
    reads_only = True  # does not count: what continues acts

    def __init__(
        self,
        state: Any = None,
        resumed: Callable[[OperationRequest, Any, IProgress], Any] | None = None,
        time_limit_s: float | None = None,
    ) -> None:
        self.state = state
        self.time_limit_s = time_limit_s
        self.waiting: Deferred[Any] = Deferred(self._cancelled)
        self.saved: list[Any] = []
        self.resumed: list[tuple[OperationRequest, Any]] = []
        self.cancelled = 0
        self.progress: Any = None
        self._resume = resumed

    def _cancelled(self, _: object) -> None:
        self.cancelled += 1

    def execute(self, request: OperationRequest, progress: IProgress) -> Deferred[Any]:
        self.progress = progress
        progress([DONE])
        if self.state is not None:
            progress.save(self.state).addBoth(self.saved.append)
        return self.waiting

    def resume(self, request: OperationRequest, state: Any, progress: IProgress) -> Any:
        self.progress = progress
        self.resumed.append((request, state))
        if self._resume is None:
            return OperationResult(description=f"went on from {state}")
        return self._resume(request, state, progress)


def begun(state: Any = "s1", **members: Any) -> tuple[Bench, Restarting]:
    """A process in which X has begun and saved ``state``."""
    operation = Restarting(state)
    bench = Bench(operation)
    bench.send(request(**{"name": "X", **members}))
    return bench, operation


def after_restart(before: Bench, operation: Any = None) -> tuple[Bench, Restarting, Any]:
    """The next process, before its agent runs."""
    operation = Restarting() if operation is None else operation
    bench = Bench(operation, outbox=before.outbox.crash())
    return bench, operation, parts_of(bench)


def started(parts: Any, bench: Bench) -> None:
    """The agent runs, and the device is known."""
    parts.started()
    bench.outbox.commit_all()
    parts.identified("dev-1")
    bench.outbox.commit_all()


def test_the_fakes_and_the_progress_keep_their_contracts() -> None:
    """What the operations are given, and what the tests give, is what the interfaces say."""
    assert verifyObject(IResumableOperation, Restarting())
    assert verifyObject(IOperation, Restarting())
    bench, operation = begun()
    assert type(operation.progress) is Progress
    assert verifyObject(IProgress, operation.progress)
    assert bench.dispatcher.unanswered == 1


def test_an_operation_that_saved_its_state_is_resumed_with_it() -> None:
    """With the request as it came, parameters included; its answer is the only one and ends the
    record."""
    members = {"id": "7", "deviceId": "child", "path": ["gw"], "parameters": {"a": [1, None]}}
    operation = Restarting({"step": 3})
    before = Bench(operation)
    before.send({"operation": {"request": {**members, "deviceId": "dev-1", "name": "X"}}})
    assert operation.saved == [None]
    bench, after, parts = after_restart(before)
    started(parts, bench)
    ((resumed, state),) = after.resumed
    assert state == {"step": 3}
    assert (resumed.id, resumed.parameters, resumed.path) == ("7", {"a": [1, None]}, ("gw",))
    assert descriptions(bench, bench.outbox.payloads) == ["went on from {'step': 3}"]
    assert bench.outbox.crash().journal.interrupted() == []
    assert after_restart(bench)[1].resumed == []


def test_what_is_not_committed_is_interrupted() -> None:
    """A state counts from its commit on; before, the operation is one that was interrupted."""
    operation = Restarting()
    before = Bench(operation)
    before.send(request(name="X"))
    operation.progress.save("lost").addBoth(operation.saved.append)
    assert operation.saved == []
    bench, after, parts = after_restart(before)
    started(parts, bench)
    assert after.resumed == []
    assert descriptions(bench, bench.outbox.payloads) == [INTERRUPTED]


def test_the_last_state_counts() -> None:
    """Each one replaces the one before."""
    before, operation = begun("s1")
    operation.progress.save("s2")
    before.outbox.commit_all()
    bench, after, parts = after_restart(before)
    started(parts, bench)
    assert [state for _, state in after.resumed] == ["s2"]


def test_it_is_resumed_once_the_agent_runs_whether_or_not_the_device_is_known() -> None:
    """It may be what the identity waits for. The answer repeats the id that the first process
    knew."""
    before, _ = begun()
    bench, after, parts = after_restart(before)
    parts.identified("dev-1")
    bench.outbox.commit_all()
    assert after.resumed == []
    assert bench.outbox.payloads == []
    parts.host_id = ""
    parts.started()
    bench.outbox.commit_all()
    (answer,) = bench.outbox.payloads
    assert bench.decoded(answer)["operation"]["response"]["deviceId"] == "dev-1"


def test_it_is_resumed_once() -> None:
    """However often the device is identified while it runs."""
    before, _ = begun()
    waiting: Deferred[Any] = Deferred()
    bench, after, parts = after_restart(before, Restarting(resumed=lambda *_: waiting))
    for _ in range(3):
        started(parts, bench)
    assert len(after.resumed) == 1
    assert bench.dispatcher.unanswered == 1
    waiting.callback(OperationResult(description="at last"))
    bench.outbox.commit_all()
    started(parts, bench)
    assert descriptions(bench, bench.outbox.payloads) == ["at last"]


def test_a_repeated_request_gets_no_answer_of_its_own_meanwhile() -> None:
    """The answer that is on its way is the answer to both, over the restart too."""
    before, _ = begun()
    waiting: Deferred[Any] = Deferred()
    bench, after, parts = after_restart(before, Restarting(resumed=lambda *_: waiting))
    assert bench.send(request(name="X")) == [None]
    started(parts, bench)
    assert bench.send(request(name="X")) == [None]
    waiting.callback(OperationResult(description="once"))
    bench.outbox.commit_all()
    (again,) = bench.send(request(name="X"))
    assert again == bench.outbox.payloads[0]
    assert len(after.resumed) == 1


def test_the_end_of_the_agent_leaves_it_to_the_next_process() -> None:
    """It is cancelled and not answered; what has saved nothing is answered as ever."""
    operation, other = Restarting("s1"), FakeOperation("Y", lambda request, progress: Deferred())
    before = Bench(operation, other)
    left, answered = before.send(request(name="X")), before.send(request(id="2", name="Y"))
    before.dispatcher.stop()
    assert left == [None]
    assert descriptions(before, [payload for payload in answered if payload is not None]) == [
        "the agent is stopping"
    ]
    assert operation.cancelled == 1
    assert before.dispatcher.unanswered == 0
    assert not before.clock.getDelayedCalls()
    operation.progress([DONE, DONE])
    late: list[Any] = []
    operation.progress.save("s2").addErrback(lambda failure: late.append(failure.value))
    assert isinstance(late[0], OperationFailed)
    before.outbox.commit_all()
    bench, after, parts = after_restart(before)
    started(parts, bench)
    assert [state for _, state in after.resumed] == ["s1"]


def test_it_may_go_through_several_restarts() -> None:
    """Each with the state of the one before."""
    before, _ = begun(1)
    for count in (1, 2, 3):

        def resumed(request: OperationRequest, state: Any, progress: IProgress) -> Any:
            progress.save(state + 1)
            return Deferred(lambda _: None)

        bench, after, parts = after_restart(before, Restarting(resumed=resumed))
        started(parts, bench)
        assert [state for _, state in after.resumed] == [count]
        bench.dispatcher.stop()
        before = bench
    bench, after, parts = after_restart(before)
    started(parts, bench)
    assert descriptions(bench, bench.outbox.payloads) == ["went on from 4"]


@pytest.mark.parametrize("saves_again", [False, True])
def test_one_that_ends_the_process_each_time_is_given_up(saves_again: bool) -> None:
    """Without a new state, saved or not, it is resumed so often and no more."""
    before, _ = begun("same")
    resumes = 0
    for _ in range(MAX_RESUMES + 2):

        def resumed(request: OperationRequest, state: Any, progress: IProgress) -> Any:
            if saves_again:
                progress.save(state)
            return Deferred(lambda _: None)

        bench, after, parts = after_restart(before, Restarting(resumed=resumed))
        started(parts, bench)
        resumes += len(after.resumed)
        before = bench
    assert resumes == MAX_RESUMES
    assert descriptions(bench, bench.outbox.payloads) == [INTERRUPTED]


def test_the_time_limit_counts_anew_and_its_answer_has_the_steps_of_the_first_process() -> None:
    """The operation's own limit, where it has one."""
    before, _ = begun()
    operation = Restarting(resumed=lambda *_: Deferred(lambda _: None), time_limit_s=300.0)
    bench, _, parts = after_restart(before, operation)
    started(parts, bench)
    bench.clock.advance(299)
    assert bench.dispatcher.unanswered == 1
    bench.clock.advance(1)
    bench.outbox.commit_all()
    response = bench.decoded(bench.outbox.payloads[0])["operation"]["response"]
    assert response["resultDescription"] == "time limit of 300 s exceeded"
    assert response["resultCode"] == "ERROR_PROCESSING"


def test_steps_told_before_the_state_was_saved_are_kept() -> None:
    """The final answer of a resumed operation that fails has them."""

    def resumed(request: OperationRequest, state: Any, progress: IProgress) -> Any:
        raise OperationFailed("no")

    before, _ = begun()
    bench, _, parts = after_restart(before, Restarting(resumed=resumed))
    started(parts, bench)
    response = bench.decoded(bench.outbox.payloads[0])["operation"]["response"]
    assert response["resultDescription"] == "no"
    assert response["steps"] == [{"name": "began", "result": "SUCCESSFUL"}]


@pytest.mark.parametrize("limit", [None, 0, -1, float("nan"), float("inf"), "soon"])
def test_what_is_no_time_limit_does_not_count(limit: Any) -> None:
    """The attribute is foreign: the configured limit is there always."""
    bench = Bench(Restarting("s1", time_limit_s=limit))
    answers = bench.send(request(name="X"))
    bench.clock.advance(80)
    assert descriptions(bench, [one for one in answers if one is not None]) == [
        "time limit of 80 s exceeded"
    ]


def test_without_its_handler_it_is_interrupted() -> None:
    """The plugin is gone, or says no longer that it continues."""
    for operation in (FakeOperation("X", lambda request, progress: None), Restarting()):
        before, _ = begun()
        bench, _, parts = after_restart(before, operation)
        if isinstance(operation, Restarting):
            bench.dispatcher.remove("X")
        started(parts, bench)
        assert descriptions(bench, bench.outbox.payloads) == [INTERRUPTED]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (object(), "can't be saved"),
        ({1: object()}, "can't be saved"),
        (1 << 70, "can't be saved"),
        ("x" * MAX_SAVED_BYTES, "allowed are 262144"),
    ],
)
def test_a_state_that_can_not_be_kept_is_refused(state: Any, reason: str) -> None:
    """And changes nothing: the operation counts as one that saved nothing."""
    before, operation = begun(state)
    (problem,) = operation.saved
    assert isinstance(problem.value, OperationFailed)
    assert reason in str(problem.value)
    bench, _, parts = after_restart(before)
    started(parts, bench)
    assert descriptions(bench, bench.outbox.payloads) == [INTERRUPTED]


def test_only_a_resumable_operation_may_save() -> None:
    """Saved by another one, nobody would go on with it."""
    outcomes: list[Any] = []

    def run(request: OperationRequest, progress: Any) -> OperationResult:
        progress.save("s").addErrback(lambda failure: outcomes.append(failure.value))
        return OperationResult()

    Bench(FakeOperation("X", run)).send(request(name="X"))
    assert [type(one) for one in outcomes] == [OperationFailed]


def test_damage_in_what_was_saved_is_answered_as_interrupted() -> None:
    """There is an answer all the same."""
    before, _ = begun()
    (record,) = before.journal.records.values()
    for damaged in (b"", b"\xc1", b"\x81\xa1\xff\x01", msgspec.msgpack.encode({"state": 1})):
        record.saved = record.saved_on_disk = damaged
        bench, after, parts = after_restart(before)
        started(parts, bench)
        assert after.resumed == []
        assert descriptions(bench, bench.outbox.payloads) == [INTERRUPTED]
        record.has_ended = False


def test_a_count_that_can_not_be_written_does_not_keep_it_from_going_on() -> None:
    """It is on record: the count only bounds how often."""
    before, _ = begun()
    bench, after, parts = after_restart(before)
    bench.journal.is_broken = True
    started(parts, bench)
    assert len(after.resumed) == 1


def test_the_end_of_the_agent_while_it_is_counted_leaves_it_too() -> None:
    """It has not been resumed, and the next process does."""
    before, _ = begun()
    bench, after, parts = after_restart(before)
    parts.started()
    bench.dispatcher.stop()
    bench.outbox.commit_all()
    assert after.resumed == []
    assert bench.dispatcher.unanswered == 0
    last, again, parts = after_restart(bench)
    started(parts, last)
    assert len(again.resumed) == 1


def test_parameters_of_every_format_come_back() -> None:
    """Bytes too, which the binary formats carry."""
    operation = Restarting("s1")
    before = Bench(operation)
    parameters = {"raw": b"\x00\xff", "number": 1.5, "text": "ü"}
    before.send(request(name="X", parameters=parameters), ContentType.CBOR)
    bench, after, parts = after_restart(before)
    started(parts, bench)
    assert after.resumed[0][0].parameters == parameters
    assert bench.decoded(bench.outbox.payloads[0], ContentType.CBOR)
