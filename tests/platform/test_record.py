"""The database, the recording and the store."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from oda.interfaces import IWallClock
from oda.platform.clock import SystemClock
from oda.platform.database import MAX_DEFERRED_ROWS, Database, DatabaseUnusable
from oda.platform.events import EventLog
from oda.platform.recording import Recording, Traffic
from oda.platform.records import Bounds, Records
from oda.platform.store import Store
from oda.platform.wire import Point, Telemetry

from .fakes import FixedClock


def test_the_clocks_are_clocks() -> None:
    """The system's clock and the fake provide what they stand for."""
    assert verifyObject(IWallClock, SystemClock())
    assert verifyObject(IWallClock, FixedClock())
    assert SystemClock().now_ms() > 1_600_000_000_000


def count(path: Path, table: str) -> int:
    with sqlite3.connect(path) as other:
        number: int = other.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return number


def test_deferred_rows_are_on_record_at_the_commit(tmp_path: Path) -> None:
    """Nothing is visible to others before ``commit``; everything in front of it is afterwards."""
    path = tmp_path / "record.db"
    database = Database(path, durable=True)
    recording = Recording(database, FixedClock())
    recording.connection_opened("d", "peer")
    recording.add(1, 1, "d", "in", b"{}", False, "JSON")
    assert count(path, "messages") == 0
    recording.commit()
    assert count(path, "messages") == 1
    database.close()


@pytest.mark.parametrize(("durable", "wait_s"), [(True, 0.0), (False, 0.25)])
def test_what_was_read_is_committed_in_time(tmp_path: Path, durable: bool, wait_s: float) -> None:
    """A durable record in the reactor's next turn, any other a quarter of a second later; closing
    commits what is left, and leaves no call behind."""
    path, clock = tmp_path / "record.db", Clock()
    records = Records(clock, FixedClock(), path, durable, Bounds())
    records.start()
    for number in (1, 2):
        records.recording.add(1, number, "d", "in", b"{}", False, "JSON")
        records.recording.add(1, number, "d", "out", b"{}", False, "JSON")
        assert count(path, "messages") == 2 * (number - 1)
        if wait_s:
            clock.advance(wait_s - 0.01)
            assert count(path, "messages") == 2 * (number - 1)
            clock.advance(0.01)
        clock.advance(0)
        assert count(path, "messages") == 2 * number
    records.recording.add(1, 3, "d", "in", b"{}", False, "JSON")
    records.close()
    assert count(path, "messages") == 5
    assert clock.getDelayedCalls() == []


def test_reading_the_record_commits_it_first(tmp_path: Path) -> None:
    """Nobody is told of a message that is not on record."""
    path = tmp_path / "record.db"
    database = Database(path)
    recording = Recording(database, FixedClock())
    recording.add(1, 1, "d", "in", b"{}", False, "JSON")
    assert len(recording.messages()) == count(path, "messages") == 1
    database.close()


def test_rows_do_not_pile_up_in_memory(tmp_path: Path) -> None:
    """Many rows, or few large ones, are written by themselves."""
    path = tmp_path / "record.db"
    database = Database(path)
    recording = Recording(database, FixedClock())
    for number in range(MAX_DEFERRED_ROWS):
        recording.add(1, number + 1, "d", "in", b"{}", False, "JSON")
    assert count(path, "messages") == MAX_DEFERRED_ROWS
    recording.add(1, 1, "d", "in", bytes(9 * 1024 * 1024), False, None)
    assert count(path, "messages") == MAX_DEFERRED_ROWS + 1
    database.close()


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """A database this program does not know is not touched, and named."""
    path = tmp_path / "record.db"
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(DatabaseUnusable, match=r"record\.db.*99"):
        Database(path)
    (tmp_path / "text").write_text("this is no database, but long enough to be looked at" * 100)
    with pytest.raises(DatabaseUnusable, match="text"):
        Database(tmp_path / "text")
    with pytest.raises(DatabaseUnusable):
        Database(tmp_path / "none" / "record.db")


def test_what_a_full_disk_refuses_is_written_later(tmp_path: Path) -> None:
    """A failed commit says so and loses nothing: the next one writes it all, in order."""
    database = Database(tmp_path / "record.db", durable=True)
    recording = Recording(database, FixedClock())
    database.execute("PRAGMA max_page_count = 30")
    payloads = [bytes([number]) * 50_000 for number in range(5)]
    for position, payload in enumerate(payloads, 1):
        recording.add(1, position, "d", "in", payload, False, None)
    with pytest.raises(sqlite3.Error, match="full"):
        recording.commit()
    recording.add(1, 6, "d", "in", b"last", False, None)
    database.execute("PRAGMA max_page_count = 100000")
    assert [one.payload for one in recording.messages()] == [*payloads, b"last"]
    database.close()


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    """A reopened record continues the numbers of connections and messages."""
    for turn in (1, 2):
        database = Database(tmp_path / "record.db", durable=True)
        recording = Recording(database, FixedClock())
        assert recording.connection_opened("d", "peer") == turn
        assert recording.add(turn, 1, "d", "in", b"", False, None) == turn
        database.close()


def test_a_connection_is_closed_on_record() -> None:
    """The row tells when and how it ended, and what passed."""
    clock = FixedClock(5)
    recording = Recording(Database(), clock)
    number = recording.connection_opened("d", "peer")
    clock.ms = 9
    recording.connection_closed(number, 1011, "why", Traffic(4, 3, 2, 1))
    (one,) = recording.connections()
    assert (one.opened_ms, one.closed_ms, one.close_code, one.close_reason) == (5, 9, 1011, "why")
    assert (one.messages_in, one.messages_out, one.pings_in, one.pongs_out) == (4, 3, 2, 1)


@given(st.lists(st.integers(0, 60), max_size=60))
def test_the_record_is_bounded_and_keeps_the_newest(sizes: list[int]) -> None:
    """Never more messages or bytes than allowed (but always the newest message), oldest out."""
    recording = Recording(Database(), FixedClock(), max_messages=10, max_bytes=100)
    for position, size in enumerate(sizes, 1):
        recording.add(1, position, "d", "in", bytes(size), False, None)
        if position % 3 == 0:
            recording.commit()
    kept = recording.messages()
    assert [one.number for one in kept] == list(range(len(sizes) - len(kept) + 1, len(sizes) + 1))
    assert len(kept) <= 10
    assert sum(one.size for one in kept) <= 100 or len(kept) == 1
    assert bool(kept) == bool(sizes)


def test_what_is_kept_is_not_less_than_it_could_be() -> None:
    """Messages within the bounds stay."""
    recording = Recording(Database(), FixedClock(), max_messages=10, max_bytes=100)
    for position in range(10):
        recording.add(1, position, "d", "in", bytes(10), False, None)
    assert len(recording.messages()) == 10
    recording.add(1, 11, "d", "in", bytes(1), False, None)
    assert [one.number for one in recording.messages()] == list(range(2, 12))


def telemetry(*points: Point, device: str | None = None) -> Telemetry:
    return Telemetry(device, (), points)


def test_resent_datapoints_are_copies() -> None:
    """The same datastream, feed and time is one datapoint, however often it comes; another value
    is a conflict and the one that is kept."""
    store = Store(Database(), FixedClock())
    for value in (1, 1, 2):
        store.received("d", telemetry(Point("t", value, "f", 5)))
    store.received("d", telemetry(Point("t", 1, "g", 5), Point("t", 1, "f", 6)))
    store.received("e", telemetry(Point("t", 9, "f", 5)))
    first, *others = store.datapoints("d", feed="f")
    assert (first.value, first.copies, first.conflicts) == (2, 3, 1)
    assert [(one.at_ms, one.copies) for one in others] == [(6, 1)]
    assert store.tally("d") == {"datapoints": 3, "copies": 2, "conflicts": 1}


def test_the_reduced_form_is_dated_by_its_arrival() -> None:
    """Datapoints without a time get that of their arrival, never the same twice."""
    clock = FixedClock(100)
    store = Store(Database(), clock)
    store.received("d", telemetry(Point("t", 1), Point("t", 2), Point("u", 3)))
    clock.ms = 101
    store.received("d", telemetry(Point("t", 4)))
    assert [(one.at_ms, one.value) for one in store.datapoints("d", "t")] == [
        (100, 1),
        (101, 2),
        (102, 4),
    ]
    assert [one.at_ms for one in store.datapoints("d", "u")] == [100]


def test_latest_survives_the_bound_on_datapoints() -> None:
    """The oldest arrivals go first; the latest values stay."""
    store = Store(Database(), FixedClock(), max_datapoints=3)
    store.received("d", telemetry(Point("rare", 7, "", 1)))
    for at_ms in range(10):
        store.received("d", telemetry(Point("t", at_ms, "", at_ms)))
    assert [one.value for one in store.datapoints("d")] == [7, 8, 9]
    assert [(one.datastream, one.value) for one in store.latest("d")] == [("rare", 7), ("t", 9)]


TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)


def test_datapoints_and_latest_values_are_bounded_in_bytes_and_number() -> None:
    """Large values make room for newer ones, and so do endless names of datastreams."""
    store = Store(Database(), FixedClock(), max_bytes=10_000_000)
    for at_ms in range(20):
        store.received("d", telemetry(Point("t", "x" * 1_000_000, "", at_ms)))
    kept = store.datapoints("d")
    assert 8 <= len(kept) <= 10
    assert kept[-1].at_ms == 19


VALUES: Any = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@given(VALUES)
def test_every_value_comes_back(value: Any) -> None:
    """A datapoint's value is kept exactly, type included."""
    store = Store(Database(), FixedClock())
    store.received("d", telemetry(Point("t", value, "", 1)))
    (one,) = store.latest("d")
    assert one.value == value
    assert type(one.value) is type(value)


def test_the_event_log_is_bounded_in_bytes_and_number() -> None:
    """Old events make room; what is lost is counted for those who come late."""
    log = EventLog(max_events=5, max_bytes=1000)
    for number in range(10):
        log.publish("x", {"n": number})
    lost, events = log.after(2, 3)
    assert lost == 3
    assert [event.number for event in events] == [6, 7, 8]
    assert log.after(10, 5) == (0, [])
    assert [event.number for event in log.after(99, 2)[1]] == [6, 7]
    log.publish("x", {"n": "x" * 990})
    assert [event.number for event in log.after(9, 5)[1]] == [11]


def test_readers_of_the_log_are_woken_until_they_leave() -> None:
    """Each event wakes every reader once."""
    log = EventLog()
    woken: list[int] = []
    leave = log.subscribe(lambda: woken.append(log.last_number))
    log.publish("x", {})
    leave()
    log.publish("x", {})
    assert woken == [1]
