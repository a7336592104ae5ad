"""The outbox in memory: its rules one by one, then against a model."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oda.errors import OutboxClosed, OutboxFull
from oda.interfaces import ICounters, IOutbox
from oda.model import MessageClass, OutgoingMessage
from oda.outbox.memory import MemoryOutbox
from oda.settings import OutboxSettings

RESPONSE, TELEMETRY = MessageClass.RESPONSE, MessageClass.TELEMETRY


@implementer(ICounters)
class Counters:
    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()

    def increment(self, name: str, amount: int = 1, **labels: str) -> None:
        self.totals[name] += amount

    def observe(self, name: str, value: float, **labels: str) -> None:
        raise AssertionError("nothing to observe")


class Box:
    """An outbox with its clock and counters; sizes small enough to fill."""

    def __init__(self, max_message_bytes: int = 10, **settings: Any) -> None:
        self.clock = Clock()
        self.counters = Counters()
        self.outbox = MemoryOutbox(
            OutboxSettings(**{"max_bytes": 100, "linger_s": 60.0, **settings}),
            self.clock,
            self.counters,
            max_message_bytes,
        )

    def put(self, payload: bytes, message_class: MessageClass = TELEMETRY, **more: Any) -> int:
        """Accept a message and return its row."""
        rows: list[int] = []
        message = OutgoingMessage(payload=payload, message_class=message_class, **more)
        put = self.outbox.put(message)
        put.addCallback(rows.append)
        put.addErrback(lambda failure: failure.trap(OutboxFull))
        return rows[0] if rows else 0

    def take(self, messages: int = 100, octets: int = 10**6, only: Any = None) -> list[bytes]:
        return [row.payload for row in self.outbox.take(messages, octets, only)]


@pytest.fixture
def box() -> Box:
    return Box()


def test_provides_its_contract(box: Box) -> None:
    """It is an outbox like any other."""
    assert verifyObject(IOutbox, box.outbox)
    assert verifyObject(ICounters, box.counters)


def test_order_within_a_class_and_responses_first(box: Box) -> None:
    """Responses go out before telemetry, each in the order of acceptance."""
    box.put(b"t1")
    box.put(b"r1", RESPONSE)
    box.put(b"t2")
    box.put(b"r2", RESPONSE)
    assert box.take() == [b"r1", b"r2", b"t1", b"t2"]


def test_take_is_bounded_but_never_stuck(box: Box) -> None:
    """At most so many rows and bytes, but one row however large it is."""
    for payload in (b"a" * 9, b"b" * 3, b"c" * 3, b"d" * 3):
        box.put(payload)
    assert box.take(octets=5) == [b"a" * 9]
    assert box.take(octets=7) == [b"b" * 3, b"c" * 3]
    assert box.take(messages=0) == []
    assert box.take() == [b"d" * 3]


def test_take_of_one_class(box: Box) -> None:
    """The telemetry stays where it is when only responses are asked for."""
    box.put(b"t")
    box.put(b"r", RESPONSE)
    assert box.take(only=RESPONSE) == [b"r"]
    assert box.take(only=RESPONSE) == []
    assert box.take() == [b"t"]


def test_rewind_restores_the_order(box: Box) -> None:
    """What was in flight is pending again in front of what was not, and counts a further
    attempt."""
    for payload in (b"1", b"2", b"3"):
        box.put(payload)
    box.take(messages=2)
    box.outbox.rewind(replay_lingering=False)
    rows = box.outbox.take(10, 100)
    assert [(row.payload, row.attempts) for row in rows] == [(b"1", 2), (b"2", 2), (b"3", 1)]


def test_lingering_rows_come_back_only_when_replayed(box: Box) -> None:
    """Acknowledged rows are sent again after an abnormal end only, in their old place."""
    for payload in (b"1", b"2", b"3"):
        box.put(payload)
    rows = box.outbox.take(2, 100)
    box.outbox.retire([rows[0].row_id, rows[1].row_id])
    box.outbox.rewind(replay_lingering=False)
    assert box.take() == [b"3"]
    box.outbox.rewind(replay_lingering=True)
    assert box.take() == [b"1", b"2", b"3"]


def test_lingering_ends(box: Box) -> None:
    """After the linger time an acknowledged row is gone, and its bytes are free."""
    box.outbox.retire([box.put(b"1") and box.outbox.take(1, 1)[0].row_id])
    box.clock.advance(59.9)
    assert box.outbox.counts()["lingering"] == 1
    box.clock.advance(0.2)
    assert set(box.outbox.counts().values()) == {0}
    box.outbox.rewind(replay_lingering=True)
    assert box.take() == []


def test_the_age_is_that_of_the_oldest_row_not_acknowledged(box: Box) -> None:
    """Rows in flight count, lingering ones don't, and an empty outbox has no age."""
    box.put(b"1")
    box.clock.advance(2)
    box.put(b"2", RESPONSE)
    box.clock.advance(1)
    assert box.outbox.counts()["oldest_age_ms"] == 3000
    response, telemetry = box.outbox.take(2, 100)
    assert box.outbox.counts()["oldest_age_ms"] == 3000
    box.outbox.retire([telemetry.row_id])
    assert box.outbox.counts()["oldest_age_ms"] == 1000
    box.outbox.retire([response.row_id])
    assert box.outbox.counts()["oldest_age_ms"] == 0


def test_full_drops_the_oldest_telemetry(box: Box) -> None:
    """When the bytes are used up the oldest pending messages make room; each is counted, and the
    operator is told once."""
    with capturedLogs() as events:
        for number in range(12):
            box.put(bytes([number]) * 10)
    assert box.take() == [bytes([number]) * 10 for number in range(2, 12)]
    assert box.counters.totals["messages_dropped"] == 2
    assert len(events) == 1


def test_rows_are_bounded() -> None:
    """The number of rows is bounded, too."""
    box = Box(max_rows=3)
    for payload in (b"1", b"2", b"3", b"4"):
        box.put(payload)
    assert box.take() == [b"2", b"3", b"4"]


def test_acknowledged_rows_make_room_first(box: Box) -> None:
    """Nothing that was not delivered is dropped while something delivered lingers."""
    box.put(b"d" * 50)
    box.outbox.retire([row.row_id for row in box.outbox.take(1, 100)])
    box.put(b"p" * 40)
    assert box.put(b"n" * 60)
    assert box.take() == [b"p" * 40, b"n" * 60]
    assert box.counters.totals["messages_dropped"] == 0


def test_what_can_not_fit_drops_nothing(box: Box) -> None:
    """A message that no dropping could make room for is refused, and the others stay."""
    box.put(b"flying" * 10)
    box.take()
    box.put(b"1")
    assert box.put(b"x" * 101) == 0
    assert box.put(b"x" * 50) == 0
    assert box.take() == [b"1"]
    assert box.counters.totals["messages_dropped"] == 0


def test_responses_have_room_of_their_own(box: Box) -> None:
    """Telemetry up to the bound leaves room for two answers of the largest size."""
    for _ in range(10):
        box.put(b"t" * 10)
    assert box.put(b"r" * 10, RESPONSE)
    assert box.put(b"s" * 10, RESPONSE)
    assert box.outbox.counts()["pending"] == 12


def test_an_answer_may_exceed_its_room(box: Box) -> None:
    """While those that wait don't fill it one more is taken and none is dropped for it; what was
    acknowledged goes first, and doesn't count."""
    for payload in (b"1" * 10, b"2" * 10):
        assert box.put(payload, RESPONSE)
    box.outbox.retire([row.row_id for row in box.outbox.take(1, 100)])
    assert box.outbox.answer_bytes() == 10
    for payload in (b"3" * 10, b"4" * 4, b"5" * 10):
        assert box.put(payload, RESPONSE)
    assert box.outbox.answer_bytes() == 34
    assert box.counters.totals["messages_dropped"] == 0
    assert box.outbox.counts()["lingering"] == 0
    assert [payload[:1] for payload in box.take()] == [b"2", b"3", b"4", b"5"]
    assert box.put(b"6", RESPONSE) == 0
    box.outbox.rewind(True)
    assert box.outbox.answer_bytes() == 34


def test_dead_letters_are_never_sent(box: Box) -> None:
    """A buried row doesn't come back by itself; it is counted and frees its bytes."""
    box.put(b"bad")
    row = box.outbox.take(1, 100)[0]
    with capturedLogs() as events:
        box.outbox.bury([row.row_id], "refused")
    box.outbox.rewind(replay_lingering=True)
    assert box.take() == []
    assert box.outbox.counts()["dead"] == 1
    assert box.outbox.counts()["bytes"] == 0
    assert box.counters.totals["messages_dead"] == 1
    assert [event["reason"] for event in events] == ["refused"]


@pytest.mark.parametrize(
    ("wait_s", "attempts_before", "sent"),
    [(0.0, 0, b"fresh"), (3.0, 0, b"fresh"), (3.1, 0, b"full"), (0.0, 1, b"full")],
)
def test_fresh_form_only_at_once(wait_s: float, attempts_before: int, sent: bytes) -> None:
    """The form without a time goes out on the first attempt and within its time only."""
    box = Box()
    box.put(b"full", fresh_payload=b"fresh", fresh_until_s=3.0)
    for _ in range(attempts_before):
        box.take()
        box.outbox.rewind(replay_lingering=False)
    box.clock.advance(wait_s)
    assert box.take() == [sent]


def test_the_connector_is_woken_once_a_turn(box: Box) -> None:
    """Any number of messages in one reactor turn are one call, later, and none after ``take``."""
    calls: list[int] = []
    box.outbox.subscribe(lambda: calls.append(box.outbox.counts()["pending"]))
    box.put(b"1")
    box.put(b"2")
    assert calls == []
    box.clock.advance(0)
    assert calls == [2]
    box.put(b"3")
    box.take()
    box.clock.advance(0)
    assert calls == [2]
    box.outbox.rewind(replay_lingering=False)
    box.clock.advance(0)
    assert calls == [2, 3]


def test_close_says_what_is_lost(box: Box) -> None:
    """Closing counts what was not delivered, leaves no timer that calls, and refuses more."""
    calls: list[int] = []
    box.outbox.subscribe(lambda: calls.append(1))
    box.put(b"1")
    box.put(b"2")
    box.outbox.take(1, 100)
    box.put(b"3")
    with capturedLogs() as events:
        assert box.outbox.close().called
        assert box.outbox.close().called
    assert [event["count"] for event in events] == [3]
    assert box.counters.totals["messages_dropped"] == 3
    box.clock.advance(1)
    assert calls == []
    refused = box.outbox.put(OutgoingMessage(payload=b"4", message_class=TELEMETRY))
    failures: list[Any] = []
    refused.addErrback(failures.append)
    assert failures[0].check(OutboxClosed)


class OutboxMachine(RuleBasedStateMachine):
    """The outbox beside a model made of plain lists.

    Every accepted row is in exactly one of the model's places; ``bytes`` and the order of what is
    taken follow from that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.box = Box(max_message_bytes=20, max_bytes=200, max_rows=12, linger_s=10.0)
        self.payloads: dict[int, tuple[MessageClass, bytes]] = {}
        self.pending: dict[MessageClass, list[int]] = {RESPONSE: [], TELEMETRY: []}
        self.flying: list[int] = []
        self.lingering: list[tuple[int, float]] = []
        self.gone: set[int] = set()

    @rule(message_class=st.sampled_from(MessageClass), size=st.integers(0, 40))
    def put(self, message_class: MessageClass, size: int) -> None:
        dropped_before = self.box.counters.totals["messages_dropped"]
        row_id = self.box.put(bytes(size), message_class)
        self.settle_drops(
            message_class, self.box.counters.totals["messages_dropped"] - dropped_before
        )
        if row_id:
            assert row_id == max(self.payloads, default=0) + 1
            self.payloads[row_id] = (message_class, bytes(size))
            self.pending[message_class].append(row_id)
        self.forget_freed(message_class)

    def settle_drops(self, message_class: MessageClass, count: int) -> None:
        """Dropped are the oldest pending rows of the class."""
        self.gone.update(self.pending[message_class][:count])
        del self.pending[message_class][:count]

    def forget_freed(self, message_class: MessageClass) -> None:
        """To make room, acknowledged rows may be forgotten early: the oldest of that class."""
        freed = len(self.lingering) - self.box.outbox.counts()["lingering"]
        assert freed >= 0
        same = [entry for entry in self.lingering if self.payloads[entry[0]][0] is message_class]
        for entry in same[:freed]:
            self.lingering.remove(entry)
            self.gone.add(entry[0])

    @rule(messages=st.integers(1, 8), octets=st.integers(1, 100))
    def take(self, messages: int, octets: int) -> None:
        expected: list[int] = []
        total = 0
        for row_id in [*self.pending[RESPONSE], *self.pending[TELEMETRY]][:messages]:
            size = len(self.payloads[row_id][1])
            if expected and total + size > octets:
                break
            expected.append(row_id)
            total += size
        rows = self.box.outbox.take(messages, octets)
        assert [row.row_id for row in rows] == expected
        for row in rows:
            assert self.payloads[row.row_id] == (row.message_class, row.payload)
            self.pending[row.message_class].remove(row.row_id)
        self.flying.extend(expected)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(self.flying)))
        rows, self.flying = self.flying[:count], self.flying[count:]
        self.box.outbox.retire(rows)
        expires_s = self.box.clock.seconds() + 10.0
        self.lingering.extend((row_id, expires_s) for row_id in rows)

    @precondition(lambda self: self.flying)
    @rule()
    def bury(self) -> None:
        row_id = self.flying.pop(0)
        self.box.outbox.bury([row_id], "test")
        self.gone.add(row_id)

    @rule(replay=st.booleans())
    def rewind(self, replay: bool) -> None:
        self.box.outbox.rewind(replay)
        back, self.flying = self.flying, []
        if replay:
            back += [row_id for row_id, _ in self.lingering]
            self.lingering = []
        for row_id in back:
            self.pending[self.payloads[row_id][0]].append(row_id)
        for queue in self.pending.values():
            queue.sort()

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds: float) -> None:
        self.box.clock.advance(seconds)
        now_s = self.box.clock.seconds()
        self.gone.update(row_id for row_id, expires_s in self.lingering if expires_s <= now_s)
        self.lingering = [entry for entry in self.lingering if entry[1] > now_s]

    @invariant()
    def every_row_is_in_one_place(self) -> None:
        alive = [row_id for queue in self.pending.values() for row_id in queue]
        alive += self.flying + [row_id for row_id, _ in self.lingering]
        assert sorted([*alive, *self.gone]) == sorted(self.payloads)
        counts = self.box.outbox.counts()
        assert counts["pending"] == sum(map(len, self.pending.values()))
        assert counts["in_flight"] == len(self.flying)
        assert counts["lingering"] == len(self.lingering)
        assert counts["bytes"] == sum(len(self.payloads[row_id][1]) for row_id in alive)
        assert counts["bytes"] <= 200 + 50 + 40  # one answer may go beyond its room


TestOutboxMachine = OutboxMachine.TestCase
