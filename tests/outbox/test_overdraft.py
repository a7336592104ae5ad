"""A request that was read has to be answered: answers may exceed their room, up to a bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from oda.outbox.committer import State
from oda.outbox.store import MemoryStore
from oda.settings import OutboxPolicy
from tests.outbox.fakes import Device, StepWorker, disk_full

MIB = 1024 * 1024

each_store = pytest.mark.parametrize("make_store", [None, MemoryStore], ids=["file", "memory"])


def is_refused(put: Deferred[int]) -> bool:
    failures: list[object] = []
    put.addErrback(failures.append)
    return bool(failures)


@pytest.mark.parametrize("policy", list(OutboxPolicy))
@each_store
def test_large_answers_on_their_way_leave_room_for_one_more(
    tmp_path: Path, policy: OutboxPolicy, make_store: Any
) -> None:
    """A message larger than a transaction has to fit twice; an answer is taken even when it does
    not, and those before it stay."""
    device = Device(tmp_path / "0.sqlite", max_bytes=4 * MIB, policy=policy, make_store=make_store)
    for _ in range(3):
        assert not is_refused(device.put(b"x" * MIB, response=True))
        device.turn()
        device.take()
    assert device.outbox.counts()["in_flight"] == 3
    assert device.counters["messages_refused"] == device.counters["messages_dropped"] == 0
    device.stop()


def fill(device: Device, payload: bytes, response: bool) -> int:
    """Put it until it is refused, at most 200 times; gives how many were taken."""
    for taken in range(200):
        if is_refused(device.put(payload, response=response)):
            return taken
        device.turn()
    return 200


def test_answers_may_fill_the_outbox_beside_telemetry(tmp_path: Path) -> None:
    """Where telemetry may not be dropped, answers exceed the room that it leaves; when those that
    wait would fill the outbox alone, and there is no disk for them, the next one is refused."""
    device = Device(
        tmp_path / "0.sqlite",
        make_store=MemoryStore,
        max_bytes=4 * MIB,
        policy=OutboxPolicy.REFUSE,
    )
    assert fill(device, b"t" * 65536, response=False) > 40
    taken = fill(device, b"a" * 65536, response=True)
    assert 3.5 * MIB < device.outbox.answer_bytes() < 4 * MIB + 65536
    assert device.outbox.counts()["waiting"] > taken
    device.stop()


def test_answers_are_not_dropped_for_one_another_before(tmp_path: Path) -> None:
    """With ``dropOldest`` an answer that waits goes only when they fill the outbox in memory."""
    device = Device(tmp_path / "0.sqlite", make_store=MemoryStore, max_bytes=4 * MIB)
    for _ in range(4):
        device.put(b"x" * (MIB - 4096), response=True)
        device.turn()
    assert device.counters["messages_dropped"] == 0
    device.put(b"x" * MIB, response=True)
    device.turn()
    assert device.counters["messages_dropped"] > 0
    device.stop()


@pytest.mark.parametrize("policy", list(OutboxPolicy))
def test_a_disk_takes_every_answer(tmp_path: Path, policy: OutboxPolicy) -> None:
    """As long as the disk works, an answer to a request that was read is neither refused nor
    dropped for another one; only the number of operations that run at once bounds them."""
    device = Device(tmp_path / "0.sqlite", max_bytes=4 * MIB, policy=policy)
    assert fill(device, b"a" * 65536, response=True) == 200
    assert len(device.take_all()) == 200
    assert device.counters["messages_dropped"] == device.counters["messages_refused"] == 0
    device.stop()


@each_store
def test_what_lingers_does_not_count(tmp_path: Path, make_store: Any) -> None:
    """``answer_bytes`` is what is pending or in flight; rewinding brings back what lingered."""
    device = Device(tmp_path / "0.sqlite", make_store=make_store)
    for payload in (b"a" * 1000, b"b" * 1000, b"c" * 1000):
        device.put(payload, response=True)
    device.put(b"t" * 5000)
    device.turn()
    all_three = device.outbox.answer_bytes()
    first, second = device.take(2)
    assert device.outbox.answer_bytes() == all_three >= 3000
    device.outbox.retire([first.row_id, second.row_id])
    assert device.outbox.answer_bytes() == all_three // 3
    device.outbox.rewind(True)
    assert device.outbox.answer_bytes() == all_three
    device.outbox.retire([row.row_id for row in device.take()])
    assert device.outbox.answer_bytes() == 0
    device.clock.advance(61)
    assert device.outbox.answer_bytes() == 0
    assert device.outbox.counts()["bytes"] == 0
    device.stop()


@each_store
def test_a_longer_time_of_lingering(tmp_path: Path, make_store: Any) -> None:
    """``retire`` may be told to keep rows longer than configured."""
    device = Device(tmp_path / "0.sqlite", make_store=make_store, linger_s=0.0)
    device.put(b"answer", response=True)
    device.turn()
    device.outbox.retire([row.row_id for row in device.take()], 60.0)
    device.clock.advance(59)
    assert device.outbox.counts()["lingering"] == 1
    device.outbox.rewind(True)
    assert [row.payload for row in device.take()] == [b"answer"]
    device.stop()


def test_answers_go_on_while_the_disk_fails(tmp_path: Path) -> None:
    """An answer larger than the memory that is allowed for a failing disk is taken, and accepted
    once the platform has it; acknowledged ones make room for the next without end."""
    device = Device(tmp_path / "0.sqlite", StepWorker, max_bytes=4 * MIB)
    device.put(b"x")
    device.turn()
    device.worker.fail(disk_full())
    assert device.outbox.state is State.TROUBLE
    for number in range(20):
        put = device.put(bytes([number]) * MIB, response=True)
        device.turn()
        rows = device.take()
        assert rows[0].payload[0] == number
        device.outbox.retire([row.row_id for row in rows])
        device.turn()
        assert put.called
        assert not is_refused(put)
        assert device.outbox.counts()["uncommitted_bytes"] <= 2 * MIB
    device.outbox.close()
    device.worker.finish()


def test_acknowledged_answers_leave_memory_while_the_disk_fails(tmp_path: Path) -> None:
    """The memory for a failing disk is bounded for small answers, too: those that the platform has
    go before anything that it has not."""
    device = Device(tmp_path / "0.sqlite", StepWorker, max_bytes=4 * MIB)
    device.put(b"telemetry")
    device.turn()
    device.worker.fail(disk_full())
    device.take()
    for _ in range(80):
        assert not is_refused(device.put(b"a" * 40_000, response=True))
        device.turn()
        device.outbox.retire([row.row_id for row in device.take()])
        assert device.outbox.counts()["uncommitted_bytes"] <= MIB // 4 + 40_000
    assert device.counters["messages_dropped"] == 0
    assert device.outbox.counts()["in_flight"] == 1
    device.outbox.close()
    device.worker.finish()
