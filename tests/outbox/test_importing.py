"""A store is taken over into another outbox: whole, in order, and whatever happens meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from oda.errors import OutboxError
from oda.model import JournalEntry, MessageClass, OperationRequest, OutgoingMessage
from oda.outbox import inspection, maintenance
from oda.outbox.limits import row_cost
from oda.outbox.maintenance import TakenOver
from oda.outbox.store import MemoryStore
from oda.outbox.transaction import Totals
from oda.outbox.worker import InlineWorker
from oda.settings import OutboxPolicy, OutboxSettings
from tests.outbox.fakes import Device, FakeWallClock, StepWorker, copy_store


class Importing:
    """A take-over into ``device``, with a disk of the source that takes its time."""

    def __init__(self, device: Device, path: Path) -> None:
        self.device = device
        self.worker = StepWorker()
        self.results: list[Any] = []
        taking: Deferred[Any] = maintenance.take_over(
            path, device.settings, device.outbox, self.worker
        )
        taking.addBoth(self.results.append)

    def step(self) -> bool:
        """One job of either disk, or one turn; whether there may be more."""
        if self.worker.jobs:
            self.worker.step()
        self.device.turn()
        if isinstance(self.device.worker, StepWorker) and self.device.worker.jobs:
            self.device.worker.step()
        self.device.outbox.check_invariants()
        return not self.results

    def finish(self) -> TakenOver:
        while self.step():
            pass
        self.worker.finish()
        (result,) = self.results
        if isinstance(result, Failure):
            result.raiseException()
        assert isinstance(result, TakenOver)
        return result


def take_over(device: Device, path: Path) -> TakenOver:
    return Importing(device, path).finish()


def payloads(device: Device, message_class: MessageClass = MessageClass.TELEMETRY) -> list[bytes]:
    taken = []
    while rows := device.outbox.take(1 << 30, 1 << 30, message_class):
        taken += [row.payload for row in rows]
    return taken


def fill(path: Path, count: int = 5, **settings: Any) -> None:
    """Telemetry, an answer, a dead letter, and three operations: one that has ended, one that is
    interrupted, one whose answer is not kept."""
    device = Device(path, **settings)
    journal = device.outbox.journal
    recorded: list[Any] = []
    for name in ("ended", "running"):
        request = OperationRequest(id="1", name=name, device_id="me", requested_device_id="me")
        begun = journal.begin("1", name, True, request)
        begun.addCallback(recorded.append)
    device.turn()
    device.outbox.put(
        OutgoingMessage(
            payload=b"the answer", message_class=MessageClass.RESPONSE, record=recorded[0]
        )
    )
    device.put_all([b"refused", *(b"message %04d" % number for number in range(count))])
    refused = next(row for row in device.take_all() if row.payload == b"refused")
    device.outbox.bury([refused.row_id], "it was refused")
    device.outbox.rewind(False)
    device.stop()


def test_everything_is_taken_over_in_order(tmp_path: Path) -> None:
    """Messages come behind those that wait already; nothing stays but an empty store, and neither
    store's sums are wrong."""
    fill(tmp_path / "old.sqlite", 1500)
    device = Device(tmp_path / "own.sqlite")
    device.put_all([b"mine"])
    taken = take_over(device, tmp_path / "old.sqlite")
    assert (taken.messages, taken.letters, taken.operations) == (1501, 1, 2)
    assert taken.is_complete
    assert payloads(device, MessageClass.RESPONSE) == [b"the answer"]
    assert payloads(device) == [b"mine", *(b"message %04d" % number for number in range(1500))]
    assert device.outbox.counts()["dead"] == 1
    device.stop()
    assert inspection.verify(tmp_path / "own.sqlite") == []
    assert inspection.verify(tmp_path / "old.sqlite") == []
    found = inspection.read_status(tmp_path / "old.sqlite")
    assert (found.waiting, found.dead, found.operations) == (0, 0, 0)
    assert found.totals is not None
    assert found.totals.accepted == found.totals.delivered == Totals().accepted
    (letter,) = inspection.read_messages(tmp_path / "own.sqlite", "dead")
    assert (letter.payload, letter.reason) == (b"refused", "it was refused")


def test_an_operation_does_not_run_again_because_a_path_was_changed(tmp_path: Path) -> None:
    """Its answer is repeated from the journal; one that was interrupted is told, so that it is
    answered; what the target knows of an id stays."""
    fill(tmp_path / "old.sqlite")
    device = Device(tmp_path / "own.sqlite")
    told: list[int] = []
    device.outbox.journal.subscribe(lambda: told.append(1))
    assert take_over(device, tmp_path / "old.sqlite").operations == 2
    device.turn()
    entry = device.outbox.journal.begin("1", "ended", True)
    assert isinstance(entry, JournalEntry)
    assert (entry.has_ended, entry.payload) == (True, b"the answer")
    (interrupted,) = device.outbox.journal.interrupted()
    assert (interrupted.request.name, interrupted.request.device_id) == ("running", "me")
    assert told
    fill(tmp_path / "again.sqlite")
    assert take_over(device, tmp_path / "again.sqlite").operations == 0
    device.restart()
    entry = device.outbox.journal.begin("1", "ended", True)
    assert isinstance(entry, JournalEntry)
    assert entry.payload == b"the answer"
    assert len(device.outbox.journal.interrupted()) == 1


def test_a_kill_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """After each step of either disk both stores are copied, as a power failure would leave them:
    what is in one or the other is everything, and a second take-over ends with all of it in the
    target. At worst one batch is there twice."""
    importing_rows, maintenance.BATCH_ROWS = maintenance.BATCH_ROWS, 2
    try:
        fill(tmp_path / "old.sqlite")
        device = Device(tmp_path / "own.sqlite", worker=StepWorker)
        device.worker.finish()
        going = Importing(device, tmp_path / "old.sqlite")
        copies = 0
        while going.step():
            copies += 1
            place = tmp_path / f"copy{copies}"
            place.mkdir()
            for name in ("old.sqlite", "own.sqlite"):
                copy_store(tmp_path / name, place / name)
            again = Device(place / "own.sqlite")
            taken = take_over(again, place / "old.sqlite")
            assert taken.is_complete
            there = payloads(again)
            assert sorted(set(there)) == [b"message %04d" % number for number in range(5)]
            assert len(there) <= 5 + 2
            assert set(payloads(again, MessageClass.RESPONSE)) == {b"the answer"}
            assert 1 <= again.outbox.counts()["dead"] <= 2
            assert len(again.outbox.journal) == 2
            again.stop()
        assert copies > 8
    finally:
        maintenance.BATCH_ROWS = importing_rows
    device.worker.finish()
    device.stop()


@pytest.mark.parametrize("policy", list(OutboxPolicy))
def test_what_finds_no_room_stays(tmp_path: Path, policy: OutboxPolicy) -> None:
    """Whatever the policy is: nothing that waits in the target gives way to what is taken over.
    A second take-over goes on where there is room again."""
    source = Device(tmp_path / "old.sqlite")
    source.put_all([b"%04d" % number + bytes(1000) for number in range(300)])
    source.stop()
    device = Device(tmp_path / "own.sqlite", policy=policy, max_bytes=256 * 1024)
    device.put_all([b"mine"])
    taken = take_over(device, tmp_path / "old.sqlite")
    assert 0 < taken.messages < 300
    assert "no room" in taken.refusal
    assert device.counters["messages_dropped"] == 0
    first = payloads(device)
    assert first[0] == b"mine"
    assert [payload[:4] for payload in first[1:]] == [
        b"%04d" % one for one in range(taken.messages)
    ]
    left = inspection.look_into(tmp_path / "old.sqlite")
    assert left.messages == 300 - taken.messages
    rows = [*device.outbox.backlogs[MessageClass.TELEMETRY].queue.in_flight]
    device.outbox.retire(rows, 0.0)
    device.turn()
    more = take_over(device, tmp_path / "old.sqlite")
    assert more.messages > 0
    assert payloads(device)[0][:4] == b"%04d" % taken.messages
    device.stop()


def test_a_disk_that_fails_ends_it_and_nothing_is_lost(tmp_path: Path) -> None:
    """While the target's disk fails nothing more is taken over; what it did not accept stays."""
    fill(tmp_path / "old.sqlite")
    device = Device(tmp_path / "own.sqlite", worker=StepWorker)
    device.worker.finish()
    going = Importing(device, tmp_path / "old.sqlite")
    for _ in range(2):
        going.worker.step()
    device.turn()
    device.worker.fail(OSError("no space left on device"))
    taken = going.finish()
    assert taken.messages == 0
    assert "can't be written" in taken.refusal
    assert inspection.look_into(tmp_path / "old.sqlite").messages == 6
    device.worker.finish()
    device.stop()


def test_a_stop_ends_it_and_nothing_is_lost(tmp_path: Path) -> None:
    """The agent stops before the batch is committed: the source is closed, and has it still."""
    fill(tmp_path / "old.sqlite")
    device = Device(tmp_path / "own.sqlite", worker=StepWorker)
    device.worker.finish()
    going = Importing(device, tmp_path / "old.sqlite")
    going.worker.step()
    device.stop()
    taken = going.finish()
    assert taken.messages == 0
    assert taken.refusal
    assert inspection.look_into(tmp_path / "old.sqlite").messages == 6


def test_acknowledged_messages_are_not_sent_again_after_their_time(tmp_path: Path) -> None:
    """As at a start of the agent: those that have lingered are forgotten."""
    source = Device(tmp_path / "old.sqlite", linger_s=0.001)
    source.boot_id = maintenance.this_machine().boot_id
    source.restart()
    source.put_all([b"delivered", b"waiting"])
    first, _ = source.take_all()
    source.outbox.retire([first.row_id], 60.0)
    source.stop()
    device = Device(tmp_path / "own.sqlite", linger_s=0.001)
    assert take_over(device, tmp_path / "old.sqlite").messages == 1
    assert payloads(device) == [b"waiting"]
    device.stop()


@pytest.mark.parametrize("is_durable", [True, False])
def test_a_target_in_memory_is_told(is_durable: bool, tmp_path: Path) -> None:
    """What outlived any process until now does so no longer: the result says that."""
    path = tmp_path / "old.sqlite"
    fill(path)
    device = Device(tmp_path / "new.sqlite", make_store=None if is_durable else MemoryStore)
    told = take_over(device, path).describe(path)
    assert ("into memory: what is not delivered when the agent ends is lost" in told) is (
        not is_durable
    )
    assert "5 messages" in told or "6 messages" in told
    device.stop()


def test_a_damaged_row_becomes_a_dead_letter(tmp_path: Path) -> None:
    """It is not sent, and does not stay behind either."""
    source = Device(tmp_path / "old.sqlite")
    source.put_all([b"a", b"b", b"c"])
    source.store.writer.execute("UPDATE telemetry SET payload = ? WHERE id = 2", (b"x",))
    source.stop()
    device = Device(tmp_path / "own.sqlite")
    taken = take_over(device, tmp_path / "old.sqlite")
    assert (taken.messages, taken.letters, taken.is_complete) == (2, 1, True)
    assert payloads(device) == [b"a", b"c"]
    device.stop()
    (letter,) = inspection.read_messages(tmp_path / "own.sqlite", "dead")
    assert not letter.is_sound


def test_what_is_no_outbox_is_left_alone(tmp_path: Path) -> None:
    """A file of another program is not set aside as a damaged store would be; a store in use, or
    the target itself, is refused."""
    device = Device(tmp_path / "own.sqlite")
    other = tmp_path / "other"
    other.write_text("not an outbox")
    for path, problem in (
        (other, "not an outbox"),
        (tmp_path / "nowhere", "no such file"),
        (tmp_path / "own.sqlite", "this agent's own"),
    ):
        with pytest.raises(OutboxError, match=problem):
            take_over(device, path)
    assert other.read_text() == "not an outbox"
    assert device.put_all([b"still works"])[0].called
    device.stop()


def test_without_an_agent_the_file_is_changed(tmp_path: Path) -> None:
    """The target need not exist: the path was changed before the first start."""
    fill(tmp_path / "old.sqlite")
    target = tmp_path / "own.sqlite"
    device = Device(tmp_path / "another.sqlite")
    taken = maintenance.take_over_offline(
        tmp_path / "old.sqlite",
        target,
        OutboxSettings(path=target),
        FakeWallClock(device.clock),
    )
    assert taken.is_complete
    device.stop()
    after = Device(target)
    assert payloads(after) == [b"message %04d" % number for number in range(5)]
    after.stop()


def test_the_cost_of_what_is_taken_over_is_its_own(tmp_path: Path) -> None:
    """The bytes that the target counts are those of its rows."""
    source = Device(tmp_path / "old.sqlite")
    source.put_all([bytes(100), bytes(5000)])
    source.stop()
    device = Device(tmp_path / "own.sqlite")
    take_over(device, tmp_path / "old.sqlite")
    assert device.outbox.counts()["bytes"] == row_cost(100) + row_cost(5000)
    device.stop()


def test_the_inline_worker_does_it_in_one_go(tmp_path: Path) -> None:
    """The source's disk is as fast as the reactor's thread: the same comes out."""
    fill(tmp_path / "old.sqlite")
    device = Device(tmp_path / "own.sqlite")
    results: list[Any] = []
    maintenance.take_over(
        tmp_path / "old.sqlite", device.settings, device.outbox, InlineWorker()
    ).addBoth(results.append)
    while not results:
        device.turn()
    assert results[0].is_complete
    device.stop()
