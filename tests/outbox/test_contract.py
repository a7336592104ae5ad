"""The contract of the outbox, rule by rule, over each store; then against a model that fills it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from oda.errors import OutboxClosed, OutboxFull
from oda.interfaces import ICounters, IJournal, IOutbox
from oda.model import MessageClass, OutboxRow
from oda.outbox.limits import Limits, row_cost
from oda.outbox.store import IStore, MemoryStore
from oda.settings import OutboxSettings, OutboxSync
from tests.outbox.fakes import Device, quick_directory

#: Leaves 16 KiB for everything, 12 KiB of it for telemetry.
SMALL = 64 * 1024 + 16 * 1024 + 16 * 1024
#: A row of this length takes one KiB.
KIB_ROW = 900
STORES = {"file": None, "memory": MemoryStore}


def make(path: Path, store: str, **settings: Any) -> Device:
    """A device with a small outbox over a store of that kind."""
    settings = {"max_bytes": SMALL, "linger_s": 60.0, "sync": OutboxSync.NORMAL, **settings}
    return Device(path / "outbox.sqlite", make_store=STORES[store], **settings)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def device(store: str, tmp_path: Path) -> Iterator[Device]:
    device = make(tmp_path, store)
    yield device
    device.stop()


def put(device: Device, payload: bytes, response: bool = False, **more: Any) -> int:
    """Put a message in a turn of its own; gives its row, 0 if it was refused."""
    found: list[Any] = []
    waiting = device.put(payload, response, **more)
    waiting.addCallbacks(found.append, lambda failure: failure.trap(OutboxFull) and None)
    device.turn()
    return int(found[0]) if found else 0


def payloads(rows: Sequence[OutboxRow]) -> list[bytes]:
    return [row.payload for row in rows]


def take(device: Device, count: int = 100, size: int = 1 << 20, only: Any = None) -> list[bytes]:
    return payloads(device.outbox.take(count, size, only))


def test_the_sizes_of_these_tests() -> None:
    """What the numbers below are made of."""
    limits = Limits(OutboxSettings(max_bytes=SMALL))
    assert (limits.total, limits.telemetry) == (16 * 1024, 12 * 1024)
    assert row_cost(KIB_ROW) == 1024


def test_provides_its_contracts(device: Device) -> None:
    """It is an outbox with a journal, over a store, whichever that is."""
    assert verifyObject(IOutbox, device.outbox)
    assert verifyObject(IJournal, device.outbox.journal)
    assert verifyObject(ICounters, device.counters)
    assert verifyObject(IStore, device.store)


def test_order_within_a_class_and_responses_first(device: Device) -> None:
    """Responses go out before telemetry, each in the order of acceptance."""
    put(device, b"t1")
    put(device, b"r1", True)
    put(device, b"t2")
    put(device, b"r2", True)
    assert take(device) == [b"r1", b"r2", b"t1", b"t2"]


def test_take_is_bounded_but_never_stuck(device: Device) -> None:
    """At most so many rows and bytes, but one row however large it is."""
    for payload in (b"a" * 9, b"b" * 3, b"c" * 3, b"d" * 3):
        put(device, payload)
    assert take(device, size=5) == [b"a" * 9]
    assert take(device, size=7) == [b"b" * 3, b"c" * 3]
    assert take(device, count=0) == []
    assert take(device) == [b"d" * 3]


def test_take_of_one_class(device: Device) -> None:
    """The telemetry stays where it is when only responses are asked for."""
    put(device, b"t")
    put(device, b"r", True)
    assert take(device, only=MessageClass.RESPONSE) == [b"r"]
    assert take(device, only=MessageClass.RESPONSE) == []
    assert take(device) == [b"t"]


def test_rewind_restores_the_order(device: Device) -> None:
    """What was in flight is pending again in front of what was not, and counts a further
    attempt."""
    for payload in (b"1", b"2", b"3"):
        put(device, payload)
    take(device, count=2)
    device.outbox.rewind(replay_lingering=False)
    rows = device.outbox.take(10, 100)
    assert [(row.payload, row.attempts) for row in rows] == [(b"1", 2), (b"2", 2), (b"3", 1)]


def test_lingering_rows_come_back_only_when_replayed(device: Device) -> None:
    """Acknowledged rows are sent again after an abnormal end only, in their old place."""
    for payload in (b"1", b"2", b"3"):
        put(device, payload)
    rows = device.outbox.take(2, 100)
    device.outbox.retire([rows[0].row_id, rows[1].row_id])
    device.outbox.rewind(replay_lingering=False)
    assert take(device) == [b"3"]
    device.outbox.rewind(replay_lingering=True)
    assert take(device) == [b"1", b"2", b"3"]


def test_lingering_ends(device: Device) -> None:
    """Not before the linger time an acknowledged row is gone, a minute later at the latest, and
    its bytes are free. A rewind does not bring it back, even before that."""
    put(device, b"1")
    device.outbox.retire([row.row_id for row in device.take(1)])
    device.clock.pump([1.0] * 59)
    assert device.outbox.counts()["lingering"] == 1
    device.clock.advance(1.0)
    device.outbox.rewind(replay_lingering=True)
    assert take(device) == []
    device.turn()
    assert set(device.outbox.counts().values()) == {0}
    put(device, b"2")
    device.outbox.retire([row.row_id for row in device.take(1)])
    device.clock.pump([1.0] * 121)
    assert set(device.outbox.counts().values()) == {0}


def test_settled_rows_are_gone(device: Device) -> None:
    """After a connection that ended in good order nothing acknowledged is repeated."""
    put(device, b"1")
    put(device, b"2")
    device.outbox.retire([row.row_id for row in device.take(1)])
    device.outbox.settle()
    device.outbox.rewind(replay_lingering=True)
    assert take(device) == [b"2"]


def test_the_age_is_that_of_the_oldest_row_not_acknowledged(device: Device) -> None:
    """Rows in flight count, lingering ones don't, and an empty outbox has no age."""
    put(device, b"1")
    device.clock.advance(2)
    put(device, b"2", True)
    device.clock.advance(1)
    assert device.outbox.counts()["oldest_age_ms"] == 3000
    response, telemetry = device.outbox.take(2, 100)
    assert device.outbox.counts()["oldest_age_ms"] == 3000
    device.outbox.retire([telemetry.row_id])
    assert device.outbox.counts()["oldest_age_ms"] == 1000
    device.outbox.retire([response.row_id])
    assert device.outbox.counts()["oldest_age_ms"] == 0


def test_full_drops_the_oldest_telemetry(device: Device) -> None:
    """When the bytes are used up the oldest pending messages make room; each is counted, and the
    operator is told once."""
    with capturedLogs() as events:
        for number in range(20):
            put(device, bytes([number]) * KIB_ROW)
    kept = take(device)
    dropped = 20 - len(kept)
    assert kept == [bytes([number]) * KIB_ROW for number in range(dropped, 20)]
    assert 8 <= dropped <= 9
    assert device.counters["messages_dropped:full"] == dropped
    assert len([one for one in events if "is full" in str(one.get("log_format"))]) == 1


def test_rows_are_bounded(store: str, tmp_path: Path) -> None:
    """The number of rows is bounded, too."""
    device = make(tmp_path, store, max_rows=3)
    for payload in (b"1", b"2", b"3", b"4"):
        put(device, payload)
    assert take(device) == [b"2", b"3", b"4"]
    device.stop()


def test_acknowledged_rows_make_room_first(device: Device) -> None:
    """Nothing that was not delivered is dropped while something delivered lingers."""
    put(device, b"d" * 5000)
    device.outbox.retire([row.row_id for row in device.take(1)])
    put(device, b"p" * 4000)
    assert put(device, b"n" * 5000)
    assert take(device) == [b"p" * 4000, b"n" * 5000]
    assert device.counters["messages_dropped"] == 0
    assert device.counters["messages_delivered"] == 1


def test_what_can_not_fit_drops_nothing(device: Device) -> None:
    """A message that no dropping could make room for is refused, and the others stay."""
    put(device, b"flying" * 1000)
    take(device)
    put(device, b"1")
    assert put(device, b"x" * 20_000) == 0
    assert put(device, b"x" * 8000) == 0
    assert take(device) == [b"1"]
    assert device.counters["messages_dropped"] == 0
    assert device.counters["messages_refused"] == 2


def test_responses_have_room_of_their_own(device: Device) -> None:
    """Telemetry up to its bound leaves a quarter of the room."""
    for _ in range(12):
        assert put(device, b"t" * KIB_ROW)
    for _ in range(4):
        assert put(device, b"r" * KIB_ROW, True)
    assert device.outbox.counts()["waiting"] == 16
    assert device.counters["messages_dropped"] == 0


def test_dead_letters_are_never_sent(device: Device) -> None:
    """A buried row doesn't come back by itself; it is counted and said."""
    put(device, b"bad")
    row = device.take(1)[0]
    with capturedLogs() as events:
        device.outbox.bury([row.row_id], "refused")
    device.turn()
    device.outbox.rewind(replay_lingering=True)
    assert take(device) == []
    assert device.outbox.counts()["dead"] == 1
    assert device.outbox.counts()["waiting"] == 0
    assert device.counters["messages_dead"] == 1
    assert [event["reason"] for event in events] == ["refused"]


def test_dead_letters_are_a_trouble_while_there_are_any(device: Device) -> None:
    """An outbox without them has no trouble: it reports none, however often it looks."""

    def troubles() -> list[str]:
        return [one.kind.value for one in device.outbox.troubles.current()]

    put(device, b"good")
    device.turn()
    assert troubles() == []
    device.outbox.bury([device.take(1)[0].row_id], "refused")
    device.turn()
    assert troubles() == ["dead_letters"]
    device.outbox.retry_dead()
    device.turn()
    assert troubles() == []


def test_dead_letters_come_back_when_asked(device: Device) -> None:
    """Behind what waits, one message in the accounts."""
    for payload in (b"1", b"2"):
        put(device, payload)
    device.outbox.bury([device.take(1)[0].row_id], "refused")
    device.turn()
    assert device.outbox.retry_dead() == 1
    device.turn()
    assert take(device) == [b"2", b"1"]
    totals = device.outbox.totals()
    assert (totals.accepted.messages, totals.dead.messages) == (2, 0)


def test_purging_drops_what_waits(device: Device) -> None:
    """Pending rows and dead letters go, in flight and lingering ones stay."""
    for payload in (b"1", b"2", b"3", b"4"):
        put(device, payload)
    dead, flying, lingering = device.take(3)
    device.outbox.bury([dead.row_id], "refused")
    device.outbox.retire([lingering.row_id])
    assert device.outbox.purge() == 2
    device.turn()
    device.outbox.rewind(replay_lingering=True)
    assert take(device) == [flying.payload, lingering.payload]
    assert device.counters["messages_dropped:purged"] == 1


@pytest.mark.parametrize(
    ("wait_s", "attempts_before", "sent"),
    [(0.0, 0, b"fresh"), (3.0, 0, b"fresh"), (3.1, 0, b"full"), (0.0, 1, b"full")],
)
def test_fresh_form_only_at_once(
    wait_s: float, attempts_before: int, sent: bytes, device: Device
) -> None:
    """The form without a time goes out on the first attempt and within its time only."""
    put(device, b"full", fresh_payload=b"fresh", fresh_until_s=3.0)
    for _ in range(attempts_before):
        take(device)
        device.outbox.rewind(replay_lingering=False)
    device.clock.advance(wait_s)
    assert take(device) == [sent]


def test_the_connector_is_woken_once_a_turn(device: Device) -> None:
    """Any number of messages in one reactor turn are one call, later, and none after ``take``."""
    calls: list[int] = []
    device.outbox.subscribe(lambda: calls.append(device.outbox.counts()["waiting"]))
    device.put(b"1")
    device.put(b"2")
    assert calls == []
    device.turn()
    assert calls == [2]
    device.put(b"3")
    take(device)
    device.turn()
    assert calls == [2]
    device.outbox.rewind(replay_lingering=False)
    device.turn()
    assert calls == [2, 3]


def test_nobody_is_told_inside_a_call(device: Device) -> None:
    """Whatever is called: what happens by it is told at the end of the turn, not before. Only a
    refused ``put`` returns a Deferred that has failed already."""
    told: list[str] = []
    outbox = device.outbox
    outbox.subscribe(lambda: told.append("waiting"))

    def put_and_hear(payload: bytes) -> Deferred[int]:
        waiting = device.put(payload)
        waiting.addBoth(lambda _: told.append("put"))
        return waiting

    for payload in (b"1", b"2", b"3", b"4"):
        put_and_hear(payload)
    first, second, third = outbox.take(3, 100)
    outbox.retire([first.row_id])
    outbox.bury([second.row_id], "refused")
    outbox.rewind(True)
    outbox.settle()
    outbox.retry_dead()
    outbox.purge()
    assert told == []
    device.turn()
    assert told.count("put") == 4
    assert third.payload == b"3"


def test_telemetry_gets_a_share_beside_answers(device: Device) -> None:
    """While both wait, telemetry is at least a quarter of what is taken, in rows of one size, and
    answers are first when none is owed to it."""
    for number in range(12):
        put(device, b"t%02d" % number)
    sent: list[bytes] = []
    for number in range(40):
        put(device, b"a%02d" % number, True)
        sent += take(device, count=1)
    of_telemetry = [one for one in sent if one.startswith(b"t")]
    assert sent[0] == b"a00"
    assert of_telemetry == [b"t%02d" % number for number in range(len(of_telemetry))]
    assert 8 <= len(of_telemetry) <= 11


def test_a_flood_of_large_answers_leaves_telemetry_its_share(device: Device) -> None:
    """The share is counted in bytes, so that one large answer pays for many small messages."""
    for number in range(100):
        put(device, b"telemetry %02d" % number)
    sent: list[OutboxRow] = []
    for _ in range(6):
        put(device, b"a" * 3000, True)
        rows = device.outbox.take(8, 3500)
        sent += rows
        device.outbox.retire([row.row_id for row in rows])
        device.outbox.settle()
    of_telemetry = [row for row in sent if row.message_class is MessageClass.TELEMETRY]
    assert len(of_telemetry) >= 12
    assert [row.row_id for row in of_telemetry] == sorted(row.row_id for row in of_telemetry)


def test_without_answers_telemetry_collects_no_share(device: Device) -> None:
    """Answers that come after a long time of telemetry alone, or of answers alone, are first."""
    for number in range(20):
        put(device, b"a%d" % number, True)
        assert take(device, count=1) == [b"a%d" % number]
    put(device, b"t")
    put(device, b"answer", True)
    assert take(device, count=1) == [b"answer"]
    assert take(device, count=1) == [b"t"]


def test_close_refuses_more(device: Device) -> None:
    """Closing leaves no timer that calls, may be repeated, and later puts are refused."""
    calls: list[int] = []
    device.outbox.subscribe(lambda: calls.append(1))
    device.put(b"1")
    assert device.outbox.close().called
    assert device.outbox.close().called
    device.clock.advance(1)
    assert calls == []
    failures: list[Any] = []
    device.put(b"4").addErrback(failures.append)
    assert failures[0].check(OutboxClosed)


def test_closing_an_outbox_in_memory_says_what_is_lost(tmp_path: Path) -> None:
    """What was not delivered is counted and said; what was acknowledged is no loss."""
    device = make(tmp_path, "memory")
    for payload in (b"1", b"2", b"3"):
        put(device, payload)
    device.take(1)
    device.outbox.retire([row.row_id for row in device.take(1)])
    device.put(b"4")
    with capturedLogs() as events:
        assert device.outbox.close().called
    assert [event["count"] for event in events if "count" in event] == [3]
    assert device.counters["messages_dropped:stopped"] == 3


class SmallOutbox(RuleBasedStateMachine):
    """A small outbox beside a model made of plain lists.

    Every accepted row is in exactly one of the model's places; the order of what is taken follows
    from that.
    """

    MAX_ROWS = 12

    def __init__(self) -> None:
        super().__init__()
        self.directory = quick_directory()
        self.rows: dict[int, bytes] = {}
        self.pending: dict[bool, list[int]] = {True: [], False: []}
        self.flying: list[int] = []
        self.lingering: list[tuple[int, float]] = []
        self.gone: set[int] = set()

    @initialize(store=st.sampled_from(sorted(STORES)))
    def begin(self, store: str) -> None:
        self.device = make(self.directory, store, max_rows=self.MAX_ROWS, linger_s=10.0)

    def teardown(self) -> None:
        if hasattr(self, "device"):
            self.device.stop()
        shutil.rmtree(self.directory)

    @staticmethod
    def is_response(row_id: int) -> bool:
        return row_id > 1_000_000_000_000_000

    @rule(response=st.booleans(), size=st.sampled_from([1, 30, 900, 4000]))
    def put(self, response: bool, size: int) -> None:
        before = self.device.counters["messages_dropped"]
        payload = b"%d " % len(self.rows) * (size // 4 + 1)
        row_id = put(self.device, payload, response)
        dropped = self.device.counters["messages_dropped"] - before
        others = self.pending[False] if response else []
        for queue in (others, self.pending[response]):
            # Dropped are the oldest pending rows, of telemetry first.
            kept = {
                row.row_id for one in self.device.outbox.backlogs.values() for row in one.queue.head
            }
            while dropped and queue and queue[0] not in kept:
                self.gone.add(queue.pop(0))
                dropped -= 1
        assert dropped == 0
        if row_id:
            assert row_id not in self.rows
            assert row_id > max(
                (one for one in self.rows if self.is_response(one) == response), default=0
            )
            self.rows[row_id] = payload
            self.pending[response].append(row_id)
        self.forget_freed()

    def forget_freed(self) -> None:
        """To make room, acknowledged rows may be forgotten early: the oldest of a class."""
        left = {
            row_id
            for backlog in self.device.outbox.backlogs.values()
            for batch in backlog.queue.lingering
            for row_id in range(batch.low, batch.high + 1)
        }
        for response in (True, False):
            same = [one for one in self.lingering if self.is_response(one[0]) == response]
            forgotten = [one for one in same if one[0] not in left]
            assert forgotten == same[: len(forgotten)]
            for one in forgotten:
                self.lingering.remove(one)
                self.gone.add(one[0])

    @rule(count=st.integers(1, 8), size=st.sampled_from([10, 1000, 5000]), both=st.booleans())
    def take(self, count: int, size: int, both: bool) -> None:
        rows = self.device.outbox.take(count, size, None if both else MessageClass.RESPONSE)
        left = size - sum(len(row.payload) for row in rows)
        assert len(rows) <= count
        assert left >= 0 or len(rows) == 1
        for row in rows:
            response = row.message_class is MessageClass.RESPONSE
            assert row.payload == self.rows[row.row_id]
            assert self.pending[response].pop(0) == row.row_id
            self.flying.append(row.row_id)
        for response in (True, False) if both else (True,):
            queue = self.pending[response]
            if queue and len(rows) < count:
                assert rows, "something waits and nothing was given"
                assert len(self.rows[queue[0]]) > left, "there was room for more"

    @precondition(lambda self: self.flying)
    @rule(share=st.floats(0, 1))
    def retire(self, share: float) -> None:
        count = max(1, round(share * len(self.flying)))
        rows, self.flying = self.flying[:count], self.flying[count:]
        self.device.outbox.retire(rows)
        expires_s = self.device.clock.seconds() + 10.0
        for response in (True, False):
            self.lingering += [
                (one, expires_s) for one in rows if self.is_response(one) == response
            ]

    @precondition(lambda self: self.flying)
    @rule()
    def bury(self) -> None:
        row_id = self.flying.pop(0)
        self.device.outbox.bury([row_id], "test")
        self.gone.add(row_id)

    @rule(replay=st.booleans())
    def rewind(self, replay: bool) -> None:
        self.expire(self.device.clock.seconds())
        self.device.outbox.rewind(replay)
        back, self.flying = self.flying, []
        if replay:
            back += [row_id for row_id, _ in self.lingering]
            self.lingering = []
        for row_id in back:
            self.pending[self.is_response(row_id)].append(row_id)
        for queue in self.pending.values():
            queue.sort()

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds: float) -> None:
        self.device.clock.pump([1.0] * int(seconds))
        self.device.clock.advance(seconds % 1)
        for backlog in self.device.outbox.backlogs.values():
            backlog.expire(self.device.clock.seconds())
        self.expire(self.device.clock.seconds())

    def expire(self, now_s: float) -> None:
        """A row lingers no shorter than it has to; with later ones of its second a bit longer."""
        left = {
            row_id
            for backlog in self.device.outbox.backlogs.values()
            for batch in backlog.queue.lingering
            if batch.expires_s > now_s
            for row_id in range(batch.low, batch.high + 1)
        }
        for row_id, expires_s in list(self.lingering):
            assert expires_s <= now_s or row_id in left
            assert row_id not in left or expires_s + 1.0 > now_s
            if row_id not in left:
                self.lingering.remove((row_id, expires_s))
                self.gone.add(row_id)

    @invariant()
    def every_row_is_in_one_place(self) -> None:
        if not hasattr(self, "device"):
            return
        self.device.outbox.check_invariants()
        alive = [row_id for queue in self.pending.values() for row_id in queue]
        alive += self.flying + [row_id for row_id, _ in self.lingering]
        assert sorted([*alive, *self.gone]) == sorted(self.rows)
        counts = self.device.outbox.counts()
        assert counts["waiting"] == sum(map(len, self.pending.values()))
        assert counts["in_flight"] == len(self.flying)
        assert counts["lingering"] == len(self.lingering)
        cost = sum(row_cost(len(self.rows[row_id])) for row_id in alive)
        stored = sum(one.queue.stored.cost for one in self.device.outbox.backlogs.values())
        assert stored == cost
        assert sum(not self.is_response(one) for one in alive) <= self.MAX_ROWS


TestSmallOutbox = SmallOutbox.TestCase
TestSmallOutbox.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
