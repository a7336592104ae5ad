"""The life of an operation, on a clock."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from oda.codecs import default_registry
from oda.model import ContentType
from oda.platform.database import Database
from oda.platform.delivery import OperationDelivery
from oda.platform.faults import NORMAL, Fault, OperationsMode, PongMode
from oda.platform.ledger import OperationLedger
from oda.platform.operation import OperationState, OperationTimedOut, Order
from oda.platform.recording import Recording
from oda.platform.requests import Requests
from oda.platform.sessions import Session, Sessions
from oda.platform.wire import Answer, WrongParameter

from .fakes import FixedClock, RecordingPipe


class Inbox:
    """An ``Inbox`` that only keeps the sessions."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.read: list[bytes] = []

    def session_opened(self, session: Session) -> None:
        self.sessions.opened(session)

    def message_read(self, session: Session, number: int, payload: bytes, kind: Any) -> None:
        self.read.append(payload)

    def session_closed(self, session: Session, code: int | None) -> None:
        self.sessions.closed(session)


class Desk:
    """Requests with everything around them in memory, on a clock."""

    def __init__(self, database: Database | None = None) -> None:
        self.clock = Clock()
        self.wall = FixedClock()
        self.database = database or Database()
        self.ledger = OperationLedger(self.database, self.wall, max_operations=5)
        self.sessions = Sessions()
        self.inbox = Inbox(self.sessions)
        self.recording = Recording(self.database, self.wall)
        self.mode = OperationsMode.NORMAL
        self.states: list[OperationState] = []
        ids = iter(range(1, 1000))
        self.requests = Requests(
            self.clock,
            self.wall,
            default_registry(),
            self.ledger,
            self.sessions.get,
            lambda device: self.mode,
            lambda: f"op-{next(ids)}",
            lambda operation: self.states.append(operation.state),
        )

    def connect(self, device: str = "d") -> tuple[Session, RecordingPipe]:
        pipe = RecordingPipe()
        codecs = default_registry()
        session = Session(
            self.clock, device, "peer", pipe, self.recording, codecs, self.inbox, 1000
        )
        session.open(NORMAL)
        self.requests.device_connected(session)
        return session, pipe

    def post(self, name: str = "A", **more: Any) -> Any:
        return self.requests.post(Order(session_device="d", name=name, **more))

    def answer(self, operation_id: str, code: str | None = "SUCCESSFUL", **more: Any) -> None:
        response = {"id": operation_id, **more}
        self.requests.answer_read("d", Answer(operation_id, response, code is not None))


def sent(pipe: RecordingPipe) -> list[str]:
    names = []
    for what in pipe.done:
        if what[0] == "message" and isinstance(what[1], bytes):
            names.append(json.loads(what[1])["operation"]["request"]["name"])
    return names


def outcome(deferred: Deferred[Any]) -> list[Any]:
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results


def test_a_queued_operation_is_sent_when_its_device_connects() -> None:
    """Only to its device, in order, once."""
    desk = Desk()
    first = desk.post("A")
    desk.post("B")
    _, other = desk.connect("other")
    assert sent(other) == []
    _, pipe = desk.connect()
    assert sent(pipe) == ["A", "B"]
    assert first.state is OperationState.SENT
    _, again = desk.connect()
    assert sent(again) == []


def test_the_life_of_an_operation() -> None:
    """Queued, sent, partly answered, answered; who waits gets it, and the transcript tells."""
    desk = Desk()
    operation = desk.post()
    waiting = outcome(desk.requests.wait(operation.id))
    desk.connect()
    desk.answer(operation.id, None, steps=["S1"])
    assert waiting == []
    desk.wall.ms += 25
    desk.answer(operation.id, "SUCCESSFUL", done=True)
    assert waiting[0].answer == {"id": operation.id, "done": True}
    assert waiting[0].duration_ms == 25
    assert outcome(desk.requests.wait(operation.id))[0].state is OperationState.ANSWERED
    events = [line.event for line in desk.ledger.transcript(operation.id)]
    assert events == ["queued", "sent", "partial", "answered"]
    assert desk.states[0] is OperationState.QUEUED
    assert desk.states[-1] is OperationState.ANSWERED
    assert desk.clock.getDelayedCalls() == []


def test_a_late_answer_is_still_recorded() -> None:
    """After the timeout the waiting ones have failed; an answer that comes then is marked late."""
    desk = Desk()
    operation = desk.post(timeout_s=10)
    waiting = outcome(desk.requests.wait(operation.id))
    desk.connect()
    desk.clock.advance(10)
    assert waiting[0].check(OperationTimedOut)
    assert outcome(desk.requests.wait(operation.id))[0].check(OperationTimedOut)
    desk.answer(operation.id)
    found = desk.requests.find(operation.id)
    assert found is not None
    assert (found.state, found.is_late) == (OperationState.ANSWERED, True)
    assert found.extra_answers == 0


def test_a_timed_out_operation_is_not_sent_any_more() -> None:
    """What nobody waits for stays away from a device that comes too late."""
    desk = Desk()
    desk.post(timeout_s=10)
    desk.clock.advance(10)
    _, pipe = desk.connect()
    assert sent(pipe) == []


def test_extra_answers_are_counted() -> None:
    """A second answer is a violation on record; the first one stays."""
    desk = Desk()
    operation = desk.post()
    desk.connect()
    desk.answer(operation.id, n=1)
    desk.answer(operation.id, n=1)
    desk.answer(operation.id, n=2)
    desk.answer("unknown")
    found = desk.requests.find(operation.id)
    assert found is not None
    assert (found.extra_answers, found.differing_answers) == (2, 1)
    assert found.answer == {"id": operation.id, "n": 1}
    assert desk.ledger.transcript(operation.id)[-1].event == "extra"


def test_ids_are_not_used_twice() -> None:
    """Neither one that is waiting nor one that is over."""
    desk = Desk()
    desk.post(operation_id="mine", timeout_s=1)
    for _ in range(2):
        with pytest.raises(WrongParameter, match="id"):
            desk.post(operation_id="mine")
        desk.clock.advance(1)


def test_who_stops_waiting_is_forgotten() -> None:
    """Cancelling a wait does not touch the operation."""
    desk = Desk()
    operation = desk.post()
    waiting = desk.requests.wait(operation.id)
    results = outcome(waiting)
    waiting.cancel()
    assert results[0].check(CancelledError)
    desk.connect()
    desk.answer(operation.id)
    assert operation.state is OperationState.ANSWERED
    with pytest.raises(WrongParameter):
        desk.requests.wait("unknown")


def test_open_operations_go_on_after_a_restart() -> None:
    """Another run with the same database sends what was queued, in its format, matches the answers
    of what was sent, and times out what is over."""
    before = Desk()
    sent_one = before.post("SENT", timeout_s=100)
    unanswered_one = before.post("SENT TOO", timeout_s=60)
    before.connect()
    before.sessions.closed(before.sessions.all()[0])
    before.post("OVER", timeout_s=1)
    packed = before.post("QUEUED", timeout_s=100, content_type=ContentType.CBOR)
    before.requests.close()
    after = Desk(before.database)
    after.wall.ms += 50_000
    after.requests.restore()
    after.clock.advance(0)
    _, pipe = after.connect()
    (message,) = [what for what in pipe.done if what[0] == "message"]
    assert isinstance(message[1], bytes)
    request = default_registry().codec(ContentType.CBOR).decode(message[1])["operation"]["request"]
    assert (request["name"], request["id"], message[2]) == ("QUEUED", packed.id, False)
    unanswered = after.requests.find(unanswered_one.id)
    assert unanswered is not None
    assert unanswered.state is OperationState.SENT
    after.answer(sent_one.id)
    found = after.requests.find(sent_one.id)
    assert found is not None
    assert found.state is OperationState.ANSWERED
    over = [one for one in after.ledger.of_device("d", 10) if b'"OVER"' in one]
    assert b"timed_out" in over[0]
    after.clock.advance(49)
    unanswered = after.requests.find(unanswered_one.id)
    assert unanswered is not None
    assert unanswered.state is OperationState.TIMED_OUT
    assert request["id"] == packed.id
    assert after.requests.find(packed.id).state is OperationState.SENT
    after.clock.advance(1)
    assert after.requests.find(packed.id).state is OperationState.TIMED_OUT


def test_the_ledger_is_bounded() -> None:
    """Only the newest operations are kept, with their transcripts."""
    desk = Desk()
    ids = []
    for _ in range(8):
        ids.append(desk.post(timeout_s=1).id)
        desk.clock.advance(1)
    assert len(desk.ledger.of_device(None, 100)) == 5
    assert desk.ledger.transcript(ids[0]) == []
    assert [line.event for line in desk.ledger.transcript(ids[7])] == ["queued", "timed_out"]


def test_large_answers_make_room_for_newer_ones() -> None:
    """The bytes of operations and transcripts are bounded, the newest operation stays."""
    desk = Desk()
    desk.ledger = OperationLedger(desk.database, desk.wall, max_bytes=100_000)
    for number in range(50):
        document = b'{"state":"answered","x":"%s"}' % (b"x" * 10_000)
        desk.ledger.note(f"big-{number}", "d", 1, document, "answered", document)
        desk.ledger.of_device(None, 1)
    kept = desk.ledger.of_device(None, 100)
    assert 1 <= len(kept) <= 6
    assert desk.ledger.find("big-49") is not None
    assert desk.ledger.transcript("big-0") == []
    assert len(desk.ledger.transcript("big-49")) == 1


def test_endless_answers_do_not_make_an_endless_transcript() -> None:
    """Partial and extra answers are noted up to a bound, and counted beyond it."""
    desk = Desk()
    operation = desk.post()
    desk.connect()
    for _ in range(1100):
        desk.answer(operation.id, None)
    desk.answer(operation.id)
    for _ in range(1100):
        desk.answer(operation.id)
    found = desk.requests.find(operation.id)
    assert found is not None
    assert found.extra_answers == 1100
    assert len(found.partials) == 100
    assert len(desk.ledger.transcript(operation.id)) <= 2100


def test_a_reordered_operation_goes_out_alone_in_the_end() -> None:
    """Without another one to overtake it, it is only late."""
    desk = Desk()
    desk.mode = OperationsMode.REORDER
    _, pipe = desk.connect()
    desk.post("A")
    assert sent(pipe) == []
    desk.clock.advance(1)
    assert sent(pipe) == ["A"]
    desk.post("B")
    desk.mode = OperationsMode.NORMAL
    desk.post("C")
    assert sent(pipe) == ["A", "B", "C"]


def test_a_gone_connection_leaves_no_timer() -> None:
    """Late and coalesced pongs, and messages that were to be read later, end with it."""
    for mode in (PongMode.LATE, PongMode.COALESCE, PongMode.EARLY):
        desk = Desk()
        session, _ = desk.connect()
        session.apply(Fault(pong=mode, pong_delay_s=5))
        session.message_received(b"{}", True)
        session.ping_received(b"1")
        session.closed(1006, None)
        assert desk.clock.getDelayedCalls() == []


def test_what_was_held_back_is_read_before_what_comes_later() -> None:
    """When early pongs end, the messages keep their order."""
    desk = Desk()
    session, _ = desk.connect()
    session.apply(Fault(pong=PongMode.EARLY, pong_delay_s=5))
    session.message_received(b"1", True)
    session.message_received(b"2", True)
    assert desk.inbox.read == []
    session.apply(NORMAL)
    session.message_received(b"3", True)
    assert desk.inbox.read == [b"1", b"2", b"3"]
    assert desk.clock.getDelayedCalls() == []


def test_what_waits_to_be_overtaken_is_not_sent_on_a_dead_connection() -> None:
    """When the connection ends first, the request is lost with it."""
    desk = Desk()
    session, pipe = desk.connect()
    delivery = OperationDelivery(desk.clock)
    delivery.send(session, b"{}", True, OperationsMode.REORDER)
    session.closed(1006, None)
    desk.clock.advance(1)
    assert [what for what in pipe.done if what[0] == "message"] == []
    delivery.send(session, b"{}", True, OperationsMode.REORDER)
    delivery.close()
    assert desk.clock.getDelayedCalls() == []
