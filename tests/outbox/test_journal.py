"""The durable journal: an operation runs once, whatever happens to the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from oda.errors import OutboxError, OutboxFull
from oda.model import ContentType, JournalEntry, OperationRequest
from oda.outbox.committer import RETRY_S
from oda.outbox.store import MemoryStore, StoreError
from tests.outbox.fakes import Device, StepWorker, disk_full

JSON, CBOR = ContentType.JSON, ContentType.CBOR


def outcome(result: Any) -> object:
    found: list[object] = []
    if not isinstance(result, Deferred):
        return result

    def look(value: Any) -> Any:
        found.append(value)
        return None if isinstance(value, Failure) else value

    result.addBoth(look)
    return getattr(found[0], "value", found[0]) if found else "nothing yet"


def answer(device: Device, number: object, payload: bytes) -> None:
    """Put the final answer to an operation into the outbox."""
    assert isinstance(number, int)
    device.put(payload, response=True, datapoints=0, record=number)


def test_what_acts_is_on_record_before_it_runs(tmp_path: Path) -> None:
    """``begin`` fires after the commit; what only reads need not wait and writes nothing."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    journal = device.outbox.journal
    begun = journal.begin("1", "REBOOT_EQUIPMENT", True)
    assert outcome(begun) == "nothing yet"
    assert isinstance(journal.begin("2", "REFRESH_INFO", False), int)
    assert journal.begin("1", "REBOOT_EQUIPMENT", True) == JournalEntry("REBOOT_EQUIPMENT")
    device.turn()
    device.worker.step()
    assert outcome(begun) == 1
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
    answer(device, interrupted.record, b"interrupted")
    assert journal.interrupted() == ()
    device.turn()
    device.crash()
    assert device.outbox.journal.interrupted() == ()
    assert outcome(device.outbox.journal.begin("op-1", request.name, True)) == JournalEntry(
        request.name, b"interrupted", CBOR, has_ended=True
    )
    device.stop()


def test_answer_and_response_share_a_commit(tmp_path: Path) -> None:
    """The end of the record and the answer's row are on disk both or neither."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    answer(device, device.outbox.journal.begin("1", "GET", False), b"answer")
    device.turn()
    assert len(device.worker.jobs) == 1
    device.crash()
    assert device.take_all() == []
    answer(device, device.outbox.journal.begin("1", "GET", False), b"answer")
    device.turn()
    device.worker.finish()
    device.crash()
    assert [row.payload for row in device.take_all()] == [b"answer"]
    assert outcome(device.outbox.journal.begin("1", "GET", False)) == JournalEntry(
        "GET", b"answer", JSON, has_ended=True
    )
    device.stop()


def test_an_answer_that_finds_no_room_is_on_record(tmp_path: Path) -> None:
    """A repetition of the request gets it although it could not be sent."""
    device = Device(tmp_path / "outbox.sqlite", make_store=MemoryStore, max_bytes=300 * 1024)
    device.put(bytes(400_000), response=True)
    assert len(device.take()) == 1
    number = device.outbox.journal.begin("1", "GET", False)
    large = bytes(300_000)
    put = device.put(large, response=True, record=number)
    assert isinstance(outcome(put), OutboxFull)
    device.turn()
    assert device.take_all() == []
    assert device.outbox.journal.begin("1", "GET", False) == JournalEntry(
        "GET", large, JSON, has_ended=True
    )
    device.stop()


def test_an_answer_is_known_before_it_is_written(tmp_path: Path) -> None:
    """A repetition that comes at once gets it."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    answer(device, device.outbox.journal.begin("1", "GET", False), b"answer")
    assert device.outbox.journal.begin("1", "GET", False) == JournalEntry(
        "GET", b"answer", JSON, has_ended=True
    )
    device.stop()


def test_an_answer_on_a_disk_that_fails_can_be_read_later(tmp_path: Path) -> None:
    """A repetition that comes meanwhile is told so, and not that the answer is gone."""
    device = Device(tmp_path / "outbox.sqlite")
    journal = device.outbox.journal
    answer(device, journal.begin("1", "GET", False), b"answer")
    device.turn()
    store = device.store
    read, store.answer = store.answer, broken
    assert journal.begin("1", "GET", False) == JournalEntry("GET", None, JSON, True, True)
    store.answer = read
    device.clock.pump([1.0] * 5)
    assert journal.begin("1", "GET", False) == JournalEntry("GET", b"answer", JSON, True)
    device.stop()


def broken(_number: int) -> bytes | None:
    """As ``IStore.answer`` on a disk that fails."""
    raise StoreError("disk I/O error")


def test_two_operations_with_one_id_have_records_of_their_own(tmp_path: Path) -> None:
    """Neither touches the other's, in this process and the next."""
    device = Device(tmp_path / "outbox.sqlite")
    journal = device.outbox.journal
    earlier = journal.begin("1", "UPDATE", True)
    begun = journal.begin("1", "SET", True)
    device.turn()
    answer(device, outcome(earlier), b"old")
    device.turn()
    assert outcome(begun) == 2
    assert journal.begin("1", "UPDATE", True) == JournalEntry(
        "UPDATE", b"old", JSON, has_ended=True
    )
    assert journal.begin("1", "SET", True) == JournalEntry("SET")
    device.crash()
    journal = device.outbox.journal
    assert [one.request.name for one in journal.interrupted()] == ["SET"]
    assert journal.begin("1", "UPDATE", True) == JournalEntry(
        "UPDATE", b"old", JSON, has_ended=True
    )
    assert len(journal) == 2
    device.stop()


def test_what_reads_is_read_again_where_its_id_is_not_its_own(tmp_path: Path) -> None:
    """A test suite with one id for everything reads, writes, and reads again: the second reading
    tells what was written. What acts is still not executed a second time, and an id that stands for
    one request gets the answer again."""
    device = Device(tmp_path / "outbox.sqlite")
    journal = device.outbox.journal
    answer(device, journal.begin("1", "GET", False), b"17")
    assert journal.begin("1", "GET", False) == JournalEntry("GET", b"17", JSON, has_ended=True)
    answer(device, outcome_now(device, asked(18)), b"set")
    again = journal.begin("1", "GET", False)
    assert again == 3
    assert journal.begin("1", "GET", False) == JournalEntry("GET")
    answer(device, again, b"18")
    device.turn()
    written = JournalEntry("SET", b"set", JSON, has_ended=True)
    assert journal.begin("1", "SET", True, asked(18)) == written
    device.crash()
    journal = device.outbox.journal
    assert journal.begin("1", "SET", True, asked(18)) == written
    assert journal.begin("1", "GET", False) == 4
    assert len(journal) == 2
    device.stop()


def asked(value: Any) -> OperationRequest:
    """A request to write ``value``."""
    parameters = {"variableList": [{"name": "q", "value": value}]}
    return OperationRequest("1", "SET", parameters=parameters)


@pytest.mark.parametrize(
    ("first", "second"),
    [(1, 1.0), (0, -0.0), ({"a": 1, "b": [2.0]}, {"b": [2], "a": 1.0}), (1e20, 10**20)],
    ids=repr,
)
def test_a_number_is_the_same_in_every_format(first: Any, second: Any, tmp_path: Path) -> None:
    """Formats and platforms write one number as 1 or as 1.0: the repeated request is not executed a
    second time, after a restart neither."""
    device = Device(tmp_path / "outbox.sqlite")
    answer(device, outcome_now(device, asked(first)), b"done")
    device.turn()
    done = JournalEntry("SET", b"done", JSON, has_ended=True)
    assert device.outbox.journal.begin("1", "SET", True, asked(second)) == done
    device.crash()
    assert device.outbox.journal.begin("1", "SET", True, asked(second)) == done
    device.stop()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (None, float("nan")),
        (float("inf"), float("nan")),
        (float("inf"), float("-inf")),
        (b"\x01", "AQ=="),
        (b"\x01", b"\x02"),
        (True, 1),
        ("1", 1),
        ("nan", float("nan")),
        (1, 1.5),
    ],
    ids=repr,
)
def test_what_json_can_not_tell_apart_is_another_request(
    first: Any, second: Any, tmp_path: Path
) -> None:
    """A request in MessagePack or CBOR may ask for what JSON has no form for: one that asks for
    something else is executed."""
    device = Device(tmp_path / "outbox.sqlite")
    answer(device, outcome_now(device, asked(first)), b"done")
    device.turn()
    assert outcome_now(device, asked(second)) == 2
    device.stop()


def outcome_now(device: Device, request: OperationRequest) -> object:
    """What ``begin`` gives for ``request`` once the turn is over."""
    begun = device.outbox.journal.begin("1", "SET", True, request)
    device.turn()
    return outcome(begun)


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
    answer(device, journal.begin("3", "GET", False), b"read")
    assert journal.begin("3", "GET", False) == JournalEntry("GET", b"read", JSON, has_ended=True)
    device.clock.advance(RETRY_S)
    device.worker.finish()
    again = journal.begin("1", "REBOOT", True)
    device.turn()
    device.worker.finish()
    assert isinstance(outcome(again), int)
    device.crash()
    assert [one.request.id for one in device.outbox.journal.interrupted()] == ["1"]
    assert len(device.outbox.journal) == 2
    device.stop()


def test_retention(tmp_path: Path) -> None:
    """By number and by age the oldest records go; what runs never does."""
    device = Device(tmp_path / "outbox.sqlite", journal_max_entries=10, journal_max_age_s=100.0)
    journal = device.outbox.journal
    journal.begin("running", "REBOOT", True)
    for number in range(30):
        answer(device, journal.begin(f"{number}", "GET", False), b"answer")
    device.turn()
    assert len(journal) == 11
    assert device.counters["journal_entries_forgotten"] == 20
    device.restart()
    journal = device.outbox.journal
    assert len(journal) == 11
    assert isinstance(journal.begin("29", "GET", False), JournalEntry)
    device.clock.advance(101.0)
    assert isinstance(journal.begin("new", "GET", False), int)
    device.turn()
    device.restart()
    assert [one.request.id for one in device.outbox.journal.interrupted()] == ["running"]
    assert len(device.outbox.journal) == 1
    device.stop()


@pytest.mark.parametrize("make_store", [None, MemoryStore], ids=["file", "memory"])
def test_answers_go_before_ids(make_store: Any, tmp_path: Path) -> None:
    """Answers that are too large together are forgotten, oldest first, counted and said once; an
    operation whose answer is gone is not run again, in this process and the next."""
    device = Device(
        tmp_path / "outbox.sqlite", make_store=make_store, max_bytes=2 << 20, linger_s=0.0
    )
    journal = device.outbox.journal
    with capturedLogs() as logs:
        for number in range(500):
            answer(device, journal.begin(f"{number}", "SET", False), bytes(3000))
            device.turn()
            device.outbox.retire([row.row_id for row in device.take()])
    assert sum("oldest answers to make room" in str(one.get("log_format")) for one in logs) == 1
    assert len(journal) == 500
    assert device.counters["journal_answers_forgotten"] > 400
    assert device.counters["journal_entries_forgotten"] == 0
    assert device.outbox.counts()["bytes"] < (2 << 20) // 4

    def check(device: Device) -> None:
        journal = device.outbox.journal
        gone = journal.begin("3", "SET", True)
        assert gone == JournalEntry("SET", None, JSON, has_ended=True)
        kept = journal.begin("499", "SET", True)
        assert kept == JournalEntry("SET", bytes(3000), JSON, has_ended=True)

    check(device)
    if make_store is None:
        device.crash()
        assert len(device.outbox.journal) == 500
        check(device)
    device.stop()


def test_ids_have_a_bound_in_bytes(tmp_path: Path) -> None:
    """Long ids can't fill the outbox: the oldest go, which is counted."""
    device = Device(tmp_path / "outbox.sqlite", max_bytes=1 << 20)
    journal = device.outbox.journal
    for number in range(100):
        answer(device, journal.begin(f"{number}" * 10_000, "GET", False), b"x")
        device.turn()
    assert 5 < len(journal) < 40
    assert device.counters["journal_entries_forgotten"] == 100 - len(journal)
    device.stop()


def test_what_a_late_store_left_interrupted_is_told(tmp_path: Path) -> None:
    """Operations that an earlier process did not end get their answer also when the store turns up
    after the start: whoever answers them is told, once."""
    place = tmp_path / "data"
    device = Device(place / "outbox.sqlite", StepWorker)
    device.outbox.journal.begin("1", "REBOOT_EQUIPMENT", True)
    device.turn()
    device.stop()
    place.rename(tmp_path / "unmounted")
    place.write_text("in the way")
    device.start()
    journal = device.outbox.journal
    told: list[list[str]] = []
    journal.subscribe(lambda: told.append([one.request.id for one in journal.interrupted()]))
    place.unlink()
    (tmp_path / "unmounted").rename(place)
    device.clock.advance(RETRY_S)
    device.worker.finish()
    assert told == [["1"]]
    device.turn()
    assert told == [["1"]]
    device.stop()


def test_the_oldest_end_is_forgotten_first_after_a_restart(tmp_path: Path) -> None:
    """What counts is when an operation ended, not when it began: after a restart an old end is not
    kept for longer because an operation before it took its time."""
    device = Device(tmp_path / "outbox.sqlite", journal_max_age_s=100.0)
    slow = device.outbox.journal.begin("slow", "GET", False)
    quick = device.outbox.journal.begin("quick", "GET", False)
    device.clock.advance(10)
    answer(device, quick, b"quick")
    device.clock.advance(50)
    answer(device, slow, b"slow")
    device.turn()
    device.restart()
    device.clock.advance(55)
    journal = device.outbox.journal
    assert isinstance(journal.begin("quick", "GET", False), int)
    assert journal.begin("slow", "GET", False) == JournalEntry("GET", b"slow", JSON, True)
    device.stop()
