"""Whoever is told may call the outbox in any way, and a commit that takes its time changes nothing.

The disk is slow: the test chooses when each job of the worker is done.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from oda.errors import OutboxClosed, OutboxFull
from oda.model import JournalEntry, MessageClass
from oda.outbox import inspection
from oda.outbox.clock import FIRST_IDS
from oda.outbox.committer import RETRY_S, State
from tests.outbox.fakes import Device, StepWorker, disk_full, quick_directory


def on_disk(device: Device, table: str, payload: bytes) -> bool:
    """Whether a row with that payload is committed."""
    with closing(sqlite3.connect(device.settings.path)) as connection:
        found = connection.execute(f"SELECT 1 FROM {table} WHERE payload = ?", (payload,))
        return found.fetchone() is not None


def ids(rows: Any) -> list[int]:
    return [row.row_id for row in rows]


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """A directory for many small commits."""
    path = quick_directory()
    yield path
    shutil.rmtree(path)


def let_go_on(device: Device, times: int = 400) -> None:
    """Turns and jobs, one after the other, until nothing is left to do."""
    for _ in range(times):
        device.turn()
        if device.worker.jobs:
            device.worker.step()


def test_acting_operations_are_answered_once_each(tmp_path: Path) -> None:
    """A hundred operations that act, each answered when its record is committed: every answer is
    accepted, and on disk in that moment; all are sent."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    accepted: list[int] = []
    early: list[int] = []

    def run(record: int, number: int) -> None:
        payload = b"%03d" % number + b"x" * 65536
        put = device.put(payload, response=True, datapoints=0, record=record, waits_for_commit=True)
        put.addCallback(told, number, payload)

    def told(row_id: int, number: int, payload: bytes) -> None:
        accepted.append(number)
        if not on_disk(device, "response", payload):
            early.append(number)

    for number in range(100):
        begun = device.outbox.journal.begin(f"{number}", "SET", True)
        assert isinstance(begun, Deferred)
        begun.addCallback(run, number)
    let_go_on(device)
    assert sorted(accepted) == list(range(100))
    assert early == []
    assert len(device.take_all()) == 100
    assert device.outbox.counts()["uncommitted_bytes"] == 0
    device.stop()


def test_telemetry_that_follows_telemetry_is_on_disk(tmp_path: Path) -> None:
    """Every acceptance puts the next message: four hundred are accepted, each when it is on
    disk."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    accepted: list[int] = []
    early: list[int] = []
    count = 0

    def put_next() -> None:
        nonlocal count
        if count < 400:
            payload = b"event %d" % count
            count += 1
            device.put(payload).addCallback(told, payload)

    def told(row_id: int, payload: bytes) -> None:
        accepted.append(row_id)
        if not on_disk(device, "telemetry", payload):
            early.append(row_id)
        put_next()
        put_next()

    put_next()
    let_go_on(device, 1000)
    assert accepted == list(range(1, 401))
    assert early == []
    device.stop()


def test_a_row_buried_during_its_commit_is_not_sent(tmp_path: Path) -> None:
    """Neither does it come back after a rewind, nor does it hide another one."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, head_rows=1, linger_s=10.0)
    device.put(b"one", response=True)
    device.put(b"two", response=True)
    device.turn()
    (one,), (two,) = device.take(1), device.take(1)
    device.put(b"three")
    device.put(b"four", response=True)
    device.outbox.retire([one.row_id])
    device.outbox.bury([two.row_id], "refused")
    device.outbox.rewind(True)
    device.outbox.check_invariants()
    found = [row.payload for row in device.take_all()]
    assert sorted(found) == [b"four", b"one", b"three"]
    let_go_on(device)
    assert device.outbox.counts()["dead"] == 1
    in_flight = [
        row_id for one in device.outbox.backlogs.values() for row_id in one.queue.in_flight
    ]
    device.outbox.retire(in_flight)
    device.clock.pump([1.0] * 130)
    device.worker.finish()
    let_go_on(device)
    assert inspection.read_status(device.settings.path).stored == {"response": 0, "telemetry": 0}
    assert inspection.verify(device.settings.path) == []
    device.stop()


def test_rows_purged_during_their_commit_are_not_sent(tmp_path: Path) -> None:
    """They are refused and dropped, whatever a rewind brings back; those put after it are sent."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, linger_s=60.0)
    old = device.put_all([b"old %d" % number for number in range(4)])
    (first,) = device.take(1)
    device.outbox.retire([first.row_id])
    assert device.outbox.purge() == 3
    for number in range(3):
        device.put(b"new %d" % number)
    device.outbox.rewind(True)
    device.outbox.check_invariants()
    rows = device.take_all(1)
    assert [row.payload for row in rows] == [b"old 0", b"new 0", b"new 1", b"new 2"]
    failures: list[Failure] = []
    for put in old[1:]:
        put.addErrback(failures.append)
    let_go_on(device)
    assert len(failures) == 3
    device.outbox.retire(ids(rows))
    device.clock.pump([1.0] * 130)
    device.worker.finish()
    let_go_on(device)
    assert inspection.read_status(device.settings.path).stored["telemetry"] == 0
    assert device.counters["messages_delivered"] == 4
    assert device.counters["messages_dropped:purged"] == 3
    device.stop()


def test_a_row_acknowledged_while_its_commit_fails_is_accepted(tmp_path: Path) -> None:
    """The platform has it: nobody waits for a disk that fails."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    first, second = device.put_all([b"one", b"two"])
    device.outbox.retire(ids(device.take(1)))
    assert not first.called
    device.worker.fail(disk_full())
    assert first.called
    assert not second.called
    device.clock.advance(RETRY_S)
    let_go_on(device)
    assert second.called
    device.stop()


def test_a_row_set_aside_while_the_disk_fails_is_accepted(tmp_path: Path) -> None:
    """The platform has read and refused it. Nobody waits for a commit that may never be tried."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    (first,) = device.put_all([b"one"])
    device.worker.fail(disk_full())
    (second,) = device.put_all([b"two"])
    device.outbox.bury(ids(device.take_all()), "refused")
    device.turn()
    assert device.worker.jobs == deque()
    assert first.called
    assert second.called
    assert device.counters["messages_dead"] == 2
    device.clock.advance(RETRY_S)
    let_go_on(device)
    device.crash()
    assert device.outbox.counts()["dead"] == 2
    device.stop()


@pytest.mark.parametrize("max_bytes", [None, 1])
def test_a_row_replayed_while_its_commit_fails_is_not_accepted(
    tmp_path: Path, max_bytes: int | None
) -> None:
    """The platform may have lost what it had acknowledged: until it has read the row again, or the
    disk has it, nobody is told. A stop that can't write it says that it was not accepted."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    (put,) = device.put_all([b"one"])
    told: list[object] = []
    put.addBoth(told.append)
    device.outbox.retire(ids(device.take(1)))
    device.outbox.rewind(True, max_bytes)
    device.worker.fail(disk_full())
    assert told == []
    (row,) = device.take(1)
    assert row.payload == b"one"
    device.outbox.rewind(False)
    device.outbox.close()
    while device.worker.jobs:
        device.worker.fail(disk_full())
    (failure,) = told
    assert isinstance(failure, Failure)
    assert failure.check(OutboxClosed)


def test_what_still_lingers_counts_as_read_after_a_replay_of_the_rest(tmp_path: Path) -> None:
    """A replay with a bound leaves the older rows acknowledged: they are accepted though their
    commit fails; what is sent again is not."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    first, second = device.put_all([b"one" * 100, b"two" * 100])
    device.outbox.retire(ids(device.take(1)))
    device.clock.advance(1.0)
    device.outbox.retire(ids(device.take(1)))
    device.outbox.rewind(True, 1)
    device.worker.fail(disk_full())
    assert first.called
    assert not second.called
    device.clock.advance(RETRY_S)
    let_go_on(device)
    assert second.called
    device.stop()


def test_a_commit_that_worked_although_it_failed_keeps_nothing_back(tmp_path: Path) -> None:
    """Rows that are let go or purged after it are deleted all the same, and come back at no
    start."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, linger_s=0.0)
    puts = device.put_all([b"acknowledged", b"purged", b"late"])
    device.worker.work()
    device.outbox.retire(ids(device.take(1)))
    late = device.take(1, 1 << 20)
    device.worker.fail(disk_full())
    device.outbox.rewind(False)
    assert [row.payload for row in late] == [b"purged"]
    assert device.outbox.purge() == 2
    failures: list[Failure] = []
    for put in puts[1:]:
        put.addErrback(failures.append)
    let_go_on(device)
    device.clock.advance(RETRY_S)
    let_go_on(device)
    assert puts[0].called
    assert len(failures) == 2
    device.crash()
    assert device.take_all() == []
    assert inspection.verify(device.settings.path) == []
    device.stop()


def test_a_row_read_from_disk_before_its_commit_is_told_is_the_same_row(tmp_path: Path) -> None:
    """Whoever waits for its acceptance is told, also when it is read, dropped, and the commit that
    wrote it reports an error."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, head_rows=1)
    puts = device.put_all([b"%d" % number for number in range(4)])
    device.worker.work()
    assert [row.payload for row in device.take(3)] == [b"0", b"1", b"2"]  # two are read from disk
    device.worker.fail(disk_full())
    device.outbox.rewind(False)
    told: list[Any] = []
    for put in puts:
        put.addBoth(told.append)
    assert device.outbox.purge() == 4
    device.turn()
    assert len(told) == 4
    device.stop()


def test_a_callback_that_closes_ends_in_good_order(tmp_path: Path) -> None:
    """What was put before is on disk when ``close`` fires, whoever calls it, and from where."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    closed: list[Any] = []

    def close(_: object) -> None:
        device.put(b"late but in time")
        device.outbox.close().addBoth(closed.append)

    device.put(b"one").addCallback(close)
    device.turn()
    device.worker.finish()
    assert closed == [None]
    assert not device.clock.getDelayedCalls()
    device.start()
    assert [row.payload for row in device.take_all()] == [b"one", b"late but in time"]
    device.stop()


class Fuzz:
    """Calls the outbox in any way from every callback, and remembers what was promised."""

    def __init__(self, device: Device, chance: random.Random) -> None:
        self.device = device
        self.chance = chance
        self.count = 0
        self.depth = 0
        self.flying: list[int] = []
        self.accepted: dict[int, bytes] = {}
        self.proven: set[int] = set()  # acknowledged, buried or purged at some time
        self.told: dict[bytes, int] = {}
        self.records: list[bytes] = []
        self.puts = 0
        self.closing: list[Any] = []
        self.is_closed = False
        #: What should never be. An assertion in a callback would be lost in its Deferred.
        self.broken: list[str] = []

    def promise(self, is_kept: bool, text: str) -> None:
        """Remember ``text`` where it is not."""
        if not is_kept:
            self.broken.append(text)

    def act(self) -> None:
        """One call, or none."""
        acts: list[Callable[[], None]] = [
            *[self.put] * 6,
            *[self.begin] * 2,
            *[self.take] * 4,
            *[self.retire] * 3,
            self.rewind,
            self.bury,
        ]
        rare = [self.purge, self.retry, self.settle, self.check]
        self.chance.choice(rare if self.chance.random() < 0.04 else acts)()

    def put(self, record: int | None = None) -> None:
        self.count += 1
        response = record is not None or self.chance.random() < 0.3
        payload = b"message %d " % self.count * self.chance.choice([1, 1, 30])
        put = self.device.put(
            payload,
            response,
            record=record,
            waits_for_commit=record is not None or self.chance.random() < 0.2,
        )
        self.puts += 1
        if put.called:
            self.was_refused_at_once(put, payload)
            return
        put.addCallbacks(self.was_accepted, self.was_refused, [payload, response], None, [payload])

    def was_accepted(self, row_id: int, payload: bytes, response: bool) -> None:
        self.hear(payload)
        table = "response" if response else "telemetry"
        is_there = on_disk(self.device, table, payload) or on_disk(self.device, "dead", payload)
        self.promise(is_there or row_id in self.proven, f"{row_id} accepted, and not on disk")
        self.accepted[row_id] = payload
        self.go_on()

    def was_refused(self, failure: Failure, payload: bytes) -> None:
        self.hear(payload)
        self.go_on()

    def was_refused_at_once(self, waiting: Deferred[Any], what: bytes) -> None:
        """The call itself says no: nothing else is told at once."""
        self.promise(isinstance(waiting.result, Failure), f"{what!r} accepted at once")
        waiting.addErrback(lambda _: None)
        self.hear(what)

    def begin(self) -> None:
        self.count += 1
        begun = self.device.outbox.journal.begin(f"{self.count}", "SET", True)
        assert isinstance(begun, Deferred)
        self.puts += 1
        name = b"record %d" % self.count
        if begun.called:
            self.was_refused_at_once(begun, name)
            return
        begun.addCallbacks(self.was_recorded, self.was_refused, [name], None, [name])

    def was_recorded(self, record: JournalEntry | int, name: bytes) -> None:
        self.hear(name)
        self.promise(isinstance(record, int), f"{record!r} is no number")
        self.put(record if isinstance(record, int) else None)
        self.go_on()

    def hear(self, what: bytes) -> None:
        self.told[what] = self.told.get(what, 0) + 1
        self.promise(self.told[what] == 1, f"{what!r} told twice")

    def go_on(self) -> None:
        self.promise(self.depth == 0, "told inside a call")
        while self.chance.random() < 0.5 and self.count < 400:
            self.call()

    def call(self) -> None:
        """Call the outbox, which must tell nobody meanwhile."""
        self.depth += 1
        try:
            self.act()
        except Exception as error:
            self.promise(False, f"{error!r}")
        finally:
            self.depth -= 1

    def take(self) -> None:
        only = self.chance.choice([None, None, MessageClass.RESPONSE])
        rows = self.device.outbox.take(self.chance.randrange(8), 2000, only)
        self.flying += ids(rows)

    def retire(self) -> None:
        count = self.chance.randrange(len(self.flying) + 1)
        rows, self.flying = self.flying[:count], self.flying[count:]
        self.proven.update(rows)
        self.device.outbox.retire(rows)

    def rewind(self) -> None:
        self.flying.clear()
        self.device.outbox.rewind(self.chance.random() < 0.5)

    def bury(self) -> None:
        if self.flying:
            row_id = self.flying.pop(self.chance.randrange(len(self.flying)))
            self.proven.add(row_id)
            self.device.outbox.bury([row_id], "a test")

    def purge(self) -> None:
        # Also rows that are committed already and not told yet.
        for message_class, first in FIRST_IDS.items():
            last = self.device.last_id(message_class is MessageClass.RESPONSE)
            self.proven.update(set(range(first, last + 1)) - set(self.flying))
        self.device.outbox.purge()

    def retry(self) -> None:
        with suppress(OutboxFull):
            self.device.outbox.retry_dead()

    def settle(self) -> None:
        self.device.outbox.settle()

    def check(self) -> None:
        self.device.outbox.check_disk()
        self.device.outbox.check_invariants()


@pytest.mark.parametrize("seed", range(40))
def test_any_call_from_any_callback(seed: int, quick_path: Path) -> None:
    """Accepted means on disk, in that moment; everybody is told exactly once and never inside a
    call; after a crash every accepted message that was not acknowledged, buried or purged is
    there."""
    chance = random.Random(seed)
    device = Device(
        quick_path / "outbox.sqlite",
        StepWorker,
        head_rows=chance.choice([1, 3, 1024]),
        linger_s=chance.choice([0.0, 5.0, 60.0]),
    )
    fuzz = Fuzz(device, chance)
    device.outbox.subscribe(fuzz.go_on)
    fails = chance.random() < 0.5
    for _ in range(300):
        step = chance.random()
        if step < 0.3:
            fuzz.call()
        elif step < 0.6:
            device.turn()
        elif step < 0.9 and device.worker.jobs:
            if fails and chance.random() < 0.15:
                device.worker.fail(disk_full())
            elif chance.random() < 0.3:
                device.worker.work()  # on disk, and nobody knows
            else:
                device.worker.step()
        elif step > 0.97:
            device.clock.advance(1.0)
        device.outbox.check_invariants()
    for _ in range(4):
        device.clock.advance(RETRY_S)
        let_go_on(device)
    assert device.outbox.state is State.OPEN
    assert fuzz.broken == []
    assert fuzz.puts == len(fuzz.told), "somebody was never told"
    wanted = {row_id: one for row_id, one in fuzz.accepted.items() if row_id not in fuzz.proven}
    device.crash()
    found = {row.row_id: row.payload for row in device.take_all()}
    let_go_on(device)
    assert {row_id: found.get(row_id) for row_id in wanted} == wanted
    assert inspection.verify(device.settings.path) == []
    device.stop()


@pytest.mark.parametrize("seed", range(10))
def test_closing_in_the_middle_of_anything(seed: int, quick_path: Path) -> None:
    """However busy the outbox is, also with a disk that fails: ``close`` fires once, everybody was
    told before, and what was accepted is there afterwards."""
    chance = random.Random(seed)
    device = Device(quick_path / "outbox.sqlite", StepWorker, head_rows=3, linger_s=60.0)
    fuzz = Fuzz(device, chance)
    for _ in range(chance.randrange(60)):
        fuzz.call()
        if chance.random() < 0.4:
            device.turn()
        if device.worker.jobs and chance.random() < 0.3:
            device.worker.step()
    if device.worker.jobs and chance.random() < 0.5:
        device.worker.fail(disk_full())
    closed: list[Any] = []
    device.outbox.close().addBoth(closed.append)
    device.worker.finish()
    assert closed == [None]
    assert fuzz.broken == []
    assert fuzz.puts == len(fuzz.told)
    assert not device.clock.getDelayedCalls()
    wanted = {row_id: one for row_id, one in fuzz.accepted.items() if row_id not in fuzz.proven}
    device.start()
    device.worker.finish()
    found = {row.row_id: row.payload for row in device.take_all()}
    assert {row_id: found.get(row_id) for row_id in wanted} == wanted
    device.stop()
