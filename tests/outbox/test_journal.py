"""The durable journal: an operation runs once, whatever happens to the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from oda.errors import OutboxError
from oda.model import ContentType, JournalEntry, OperationRequest
from oda.outbox.committer import RETRY_S
from tests.outbox.fakes import Device, StepWorker, disk_full

JSON, CBOR = ContentType.JSON, ContentType.CBOR


def outcome(result: Any) -> object:
    found: list[object] = []
    if not isinstance(result, Deferred):
        return result
    result.addBoth(found.append)
    return getattr(found[0], "value", found[0]) if found else "nothing yet"


def test_what_acts_is_on_record_before_it_runs(tmp_path: Path) -> None:
    """``begin`` fires after the commit; what only reads need not wait and writes nothing."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    journal = device.outbox.journal
    begun = journal.begin("1", "REBOOT_EQUIPMENT", True)
    assert outcome(begun) == "nothing yet"
    assert journal.begin("2", "REFRESH_INFO", False) is None
    assert journal.begin("1", "REBOOT_EQUIPMENT", True) == JournalEntry("REBOOT_EQUIPMENT")
    device.turn()
    device.worker.step()
    assert outcome(begun) is None
    device.crash()
    assert [one.request.id for one in device.outbox.journal.interrupted()] == ["1"]
    device.stop()


def test_a_crash_while_running_is_known(tmp_path: Path) -> None:
    """After the restart the id counts as running until it is answered, and what the answer has to
    echo is there; the parameters, which may be secret, are not in the file."""
    device = Device(tmp_path / "outbox.sqlite")
    request = OperationRequest(
        id="op-1",
        name="SET_DEVICE_PARAMETERS",
        device_id="child",
        requested_device_id="child",
        path=("gw", "gw-2"),
        parameters={"password": "hidden-7351"},
        timestamp_ms=17,
    )
    device.outbox.journal.begin("op-1", request.name, True, request, CBOR)
    device.turn()
    for suffix in ("", "-wal"):
        assert b"hidden-7351" not in Path(f"{device.settings.path}{suffix}").read_bytes()
    device.crash()
    (interrupted,) = device.outbox.journal.interrupted()
    assert interrupted.content_type is CBOR
    assert interrupted.request == OperationRequest(
        id="op-1",
        name="SET_DEVICE_PARAMETERS",
        device_id="child",
        requested_device_id="child",
        path=("gw", "gw-2"),
        timestamp_ms=17,
    )
    journal = device.outbox.journal
    assert journal.begin("op-1", request.name, True) == JournalEntry(request.name)
    journal.answered("op-1", b"interrupted", CBOR)
    device.turn()
    device.crash()
    assert device.outbox.journal.interrupted() == ()
    assert outcome(device.outbox.journal.begin("op-1", request.name, True)) == JournalEntry(
        request.name, b"interrupted", CBOR
    )
    device.stop()


def test_answer_and_response_share_a_commit(tmp_path: Path) -> None:
    """Made in one turn they are on disk both or neither."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    device.outbox.journal.begin("1", "GET", False)
    device.outbox.journal.answered("1", b"answer", JSON)
    device.put(b"answer", response=True, datapoints=0)
    device.turn()
    assert len(device.worker.jobs) == 1
    device.crash()
    assert device.take_all() == []
    assert device.outbox.journal.begin("1", "GET", False) is None
    device.outbox.journal.answered("1", b"answer", JSON)
    device.put(b"answer", response=True, datapoints=0)
    device.turn()
    device.worker.finish()
    device.crash()
    assert [row.payload for row in device.take_all()] == [b"answer"]
    assert outcome(device.outbox.journal.begin("1", "GET", False)) == JournalEntry(
        "GET", b"answer", JSON
    )
    device.stop()


def test_an_answer_is_known_before_it_is_written(tmp_path: Path) -> None:
    """A repetition that comes at once gets it."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    device.outbox.journal.begin("1", "GET", False)
    device.outbox.journal.answered("1", b"answer", JSON)
    assert device.outbox.journal.begin("1", "GET", False) == JournalEntry("GET", b"answer", JSON)
    device.stop()


def test_an_id_used_for_another_operation_is_new(tmp_path: Path) -> None:
    """The newer one takes its place, for good."""
    device = Device(tmp_path / "outbox.sqlite")
    journal = device.outbox.journal
    journal.begin("1", "GET", False)
    journal.answered("1", b"old", JSON)
    begun = journal.begin("1", "SET", True)
    device.turn()
    assert outcome(begun) is None
    device.crash()
    assert [one.request.name for one in device.outbox.journal.interrupted()] == ["SET"]
    assert len(device.outbox.journal) == 1
    device.stop()


def test_without_a_disk_nothing_acts(tmp_path: Path) -> None:
    """What could not be recorded must not run, now or when a commit that is under way fails; what
    only reads goes on, and its answer is recorded later."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    journal = device.outbox.journal
    first = journal.begin("1", "REBOOT", True)
    device.turn()
    device.worker.fail(disk_full())
    assert isinstance(outcome(first), OutboxError)
    assert isinstance(outcome(journal.begin("2", "REBOOT", True)), OutboxError)
    assert journal.begin("3", "GET", False) is None
    journal.answered("3", b"read", JSON)
    assert journal.begin("3", "GET", False) == JournalEntry("GET", b"read", JSON)
    device.clock.advance(RETRY_S)
    device.worker.finish()
    again = journal.begin("1", "REBOOT", True)
    device.turn()
    device.worker.finish()
    assert outcome(again) is None
    device.crash()
    assert [one.request.id for one in device.outbox.journal.interrupted()] == ["1"]
    assert len(device.outbox.journal) == 2
    device.stop()


def test_retention(tmp_path: Path) -> None:
    """By number, by age and by size the oldest answers go; what runs never does."""
    device = Device(
        tmp_path / "outbox.sqlite",
        journal_max_entries=10,
        journal_max_age_s=100.0,
        max_bytes=2 << 20,
    )
    journal = device.outbox.journal
    journal.begin("running", "REBOOT", True)
    for number in range(30):
        journal.begin(f"{number}", "GET", False)
        journal.answered(f"{number}", b"answer", JSON)
    device.turn()
    assert len(journal) == 11
    device.restart()
    journal = device.outbox.journal
    assert len(journal) == 11
    assert journal.begin("29", "GET", False) is not None
    for number in range(100, 108):
        journal.begin(f"{number}", "GET", False)
        journal.answered(f"{number}", bytes(30_000), JSON)
    assert len(journal) < 9
    device.turn()
    device.clock.advance(101.0)
    assert journal.begin("new", "GET", False) is None
    device.turn()
    device.restart()
    assert [one.request.id for one in device.outbox.journal.interrupted()] == ["running"]
    assert len(device.outbox.journal) == 1
    device.stop()
