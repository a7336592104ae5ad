"""What an operation saves to continue after a restart: committed before it counts, kept until its
answer, and read by no version that does not know it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from oda.errors import OutboxError
from oda.model import JournalEntry, OperationRequest
from oda.outbox.committer import RETRY_S
from oda.outbox.store import MemoryStore
from tests.outbox.fakes import Device, StepWorker, disk_full

from .test_journal import answer, outcome

NAME = "REBOOT_EQUIPMENT"
REQUEST = OperationRequest(id="1", name=NAME, device_id="", parameters={"now": True})


def begun(device: Device, request_id: str = "1") -> int:
    """The record of an operation that runs."""
    number = device.outbox.journal.begin(request_id, NAME, True, REQUEST)
    device.turn()
    if isinstance(device.worker, StepWorker):
        device.worker.finish()
    found = outcome(number)
    assert isinstance(found, int)
    return found


def saved_of(device: Device) -> list[bytes | None]:
    """What the interrupted operations have saved."""
    return [one.saved for one in device.outbox.journal.interrupted()]


def in_files(device: Device, text: bytes) -> bool:
    """Whether the store's tables hold ``text``."""
    with closing(sqlite3.connect(device.settings.path)) as connection:
        (echo,) = connection.execute("SELECT group_concat(echo) FROM record").fetchone()
    return text.decode() in (echo or "")


def test_what_is_saved_comes_back_after_a_crash_and_goes_with_the_answer(tmp_path: Path) -> None:
    """The newest that was committed, byte for byte; once the record has ended nothing of it is
    kept."""
    device = Device(tmp_path / "outbox.sqlite")
    number = begun(device)
    for saved in (b"first", bytes(range(256))):
        waiting = device.outbox.journal.save(number, saved)
        assert outcome(waiting) == "nothing yet"
        device.turn()
        assert outcome(waiting) is None
    device.crash()
    assert saved_of(device) == [bytes(range(256))]
    (left,) = device.outbox.journal.interrupted()
    again = device.outbox.journal.save(left.record, b"third")
    device.turn()
    assert outcome(again) is None
    assert in_files(device, b"saved")
    device.crash()
    assert saved_of(device) == [b"third"]
    answer(device, left.record, b"done")
    device.turn()
    assert not in_files(device, b"saved")
    device.crash()
    assert saved_of(device) == []
    journal = device.outbox.journal
    assert outcome(journal.begin("1", NAME, True, REQUEST)) == JournalEntry(
        NAME, b"done", has_ended=True, content_type=left.content_type
    )
    device.stop()


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_what_was_saved_counts_from_its_commit_on(commits: int, tmp_path: Path) -> None:
    """A crash before leaves what was committed before, and nobody was told more than that."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    number = begun(device)
    told: list[str] = []
    for text in ("one", "two"):
        waiting = device.outbox.journal.save(number, text.encode())
        waiting.addCallback(lambda _, text=text: told.append(text))
        device.turn()
    for _ in range(commits):
        device.worker.step()
        device.turn()
    assert told == ["one", "two"][:commits]
    device.crash()
    assert saved_of(device) == [[None, b"one", b"two"][commits]]
    device.stop()


def test_two_saves_of_one_turn_are_one_commit(tmp_path: Path) -> None:
    """Both are told, and the newer one is kept."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    number = begun(device)
    both = [device.outbox.journal.save(number, saved) for saved in (b"one", b"two")]
    device.turn()
    assert len(device.worker.jobs) == 1
    device.worker.finish()
    assert [outcome(one) for one in both] == [None, None]
    device.crash()
    assert saved_of(device) == [b"two"]
    device.stop()


def test_a_partial_answer_is_committed_no_later_than_what_is_saved_after_it(tmp_path: Path) -> None:
    """So an operation that ends the process has told how far it is."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    number = begun(device)
    device.put(b"partial", response=True, datapoints=0)
    waiting = device.outbox.journal.save(number, b"state")
    device.turn()
    while outcome(waiting) == "nothing yet":
        device.worker.step()
    device.crash()
    assert [row.payload for row in device.take_all()] == [b"partial"]
    assert saved_of(device) == [b"state"]
    device.stop()


def test_an_answer_in_the_same_commit_tells_who_waits(tmp_path: Path) -> None:
    """The record has ended: what was saved is gone, and nothing waits for ever."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    number = begun(device)
    waiting = device.outbox.journal.save(number, b"state")
    answer(device, number, b"done")
    device.turn()
    device.worker.finish()
    assert outcome(waiting) is None
    device.crash()
    assert device.outbox.journal.interrupted() == ()
    device.stop()


def test_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    """At once to who waits, and to who saves while it fails; it may be on disk later all the
    same."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    number = begun(device)
    first = device.outbox.journal.save(number, b"first")
    device.turn()
    device.worker.fail(disk_full())
    device.turn()
    second = device.outbox.journal.save(number, b"second")
    for waiting in (first, second):
        problem = outcome(waiting)
        assert isinstance(problem, OutboxError)
        assert "can't be written now" in str(problem)
    device.clock.advance(RETRY_S)
    device.worker.finish()
    device.turn()
    third = device.outbox.journal.save(number, b"third")
    device.turn()
    device.worker.finish()
    assert outcome(third) is None
    device.crash()
    assert saved_of(device) == [b"third"]
    device.stop()


def test_the_end_of_the_outbox_is_told_and_keeps_what_was_saved(tmp_path: Path) -> None:
    """Its last commit has it."""
    device = Device(tmp_path / "outbox.sqlite")
    number = begun(device)
    waiting = device.outbox.journal.save(number, b"state")
    device.restart()
    assert outcome(waiting) is None or isinstance(outcome(waiting), OutboxError)
    assert saved_of(device) == [b"state"]
    device.stop()


def test_only_a_running_record_saves(tmp_path: Path) -> None:
    """Neither one that only reads, which is on record with its answer only, nor one that has
    ended."""
    device = Device(tmp_path / "outbox.sqlite")
    journal = device.outbox.journal
    reads = journal.begin("2", "GET", False)
    assert isinstance(reads, int)
    ended = begun(device)
    answer(device, ended, b"done")
    for number in (reads, ended, 99):
        problem = outcome(journal.save(number, b"state"))
        assert isinstance(problem, OutboxError)
        assert "not on record" in str(problem)
    device.stop()


def test_an_outbox_in_memory_saves_nothing(tmp_path: Path) -> None:
    """An operation that relied on it would never be answered; the reason names the key."""
    device = Device(tmp_path / "none", make_store=MemoryStore)
    problem = outcome(device.outbox.journal.save(begun(device), b"state"))
    assert isinstance(problem, OutboxError)
    assert "outbox=memory" in str(problem)
    device.stop()


def test_what_is_saved_costs_room_until_the_answer(tmp_path: Path) -> None:
    """The bounds of the outbox know of it, after a restart too."""
    device = Device(tmp_path / "outbox.sqlite")
    number = begun(device)
    before = device.outbox.journal.cost
    device.outbox.journal.save(number, bytes(1000))
    device.outbox.journal.save(number, bytes(700))
    device.turn()
    assert device.outbox.journal.cost == before + 700
    device.crash()
    assert device.outbox.journal.cost == before + 700
    answer(device, number, b"")
    answered = device.outbox.journal.cost
    assert answered < before + 700
    device.turn()
    device.crash()
    assert device.outbox.journal.cost == answered
    device.stop()


@pytest.mark.parametrize("change", ["saved", "saved_crc"])
def test_damage_costs_only_what_was_saved(change: str, tmp_path: Path) -> None:
    """The operation is still known: it is answered as one that was interrupted."""
    device = Device(tmp_path / "outbox.sqlite")
    device.outbox.journal.save(begun(device), b"state")
    device.turn()
    device.stop()
    with closing(sqlite3.connect(device.settings.path)) as connection:
        (echo,) = connection.execute("SELECT echo FROM record").fetchone()
        members: dict[str, Any] = msgspec.json.decode(echo)
        members[change] = "AAAA" if change == "saved" else 1
        connection.execute("UPDATE record SET echo = ?", (msgspec.json.encode(members).decode(),))
        connection.commit()
    with capturedLogs() as logs:
        device.start()
    assert saved_of(device) == [None]
    assert any("has saved is damaged" in one["log_format"] for one in logs)
    assert begun_again(device) == JournalEntry(NAME)
    device.stop()


def begun_again(device: Device) -> object:
    return outcome(device.outbox.journal.begin("1", NAME, True, REQUEST))


def test_a_store_that_is_replaced_keeps_what_was_saved(tmp_path: Path) -> None:
    """The records are written anew from memory."""
    device = Device(tmp_path / "outbox.sqlite")
    device.outbox.journal.save(begun(device), b"state")
    device.turn()
    device.crash()
    device.settings.path.unlink()
    for suffix in ("-wal", "-shm"):
        Path(f"{device.settings.path}{suffix}").unlink(missing_ok=True)
    device.put(b"makes it notice")
    device.turn()
    for _ in range(20):
        device.clock.advance(RETRY_S)
    device.crash()
    assert saved_of(device) == [b"state"]
    device.stop()


class _EarlierEcho(msgspec.Struct, omit_defaults=True):
    """The members that an agent knew before operations could continue."""

    device_id: str = ""
    requested_device_id: str = ""
    path: tuple[str, ...] = ()
    timestamp_ms: int | None = None
    fingerprint: str = ""


def test_an_earlier_version_reads_past_it(tmp_path: Path) -> None:
    """After a downgrade the store is the same one: the operation is answered "interrupted"."""
    device = Device(tmp_path / "outbox.sqlite")
    device.outbox.journal.save(begun(device), b"state")
    device.turn()
    device.stop()
    with closing(sqlite3.connect(device.settings.path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        (echo,) = connection.execute("SELECT echo FROM record").fetchone()
    assert msgspec.json.decode(echo, type=_EarlierEcho).fingerprint


def test_a_record_of_an_earlier_version_saves_as_any_other(tmp_path: Path) -> None:
    """It has no member for it, or no echo at all."""
    device = Device(tmp_path / "outbox.sqlite")
    begun(device, "1")
    begun(device, "2")
    device.stop()
    with closing(sqlite3.connect(device.settings.path)) as connection:
        connection.execute("UPDATE record SET echo = NULL WHERE request_id = '2'")
        connection.commit()
    device.start()
    assert saved_of(device) == [None, None]
    waiting: list[Deferred[None]] = [
        device.outbox.journal.save(one.record, b"now")
        for one in device.outbox.journal.interrupted()
    ]
    device.turn()
    assert [outcome(one) for one in waiting] == [None, None]
    device.crash()
    assert saved_of(device) == [b"now", b"now"]
    device.stop()
