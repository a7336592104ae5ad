"""The history: what is kept, for how long, and what a damaged file does."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from oda.model import Event, Moment
from oda.telemetry import history as module
from oda.telemetry.arrival import ArrivalClock
from oda.telemetry.history import Dropped, History, encode_event
from tests.telemetry import strategies
from tests.telemetry.fakes import FakeWallClock

HISTORY_SQL = Path(module.__file__).with_name("history.sql")


class Machine:
    """The clocks of a machine, and the histories of agents on it."""

    def __init__(self, boot_id: str = "first") -> None:
        self.monotonic = Clock()
        self.wall_clock = FakeWallClock()
        self.boot_id = boot_id

    def pass_s(self, seconds: float) -> None:
        self.monotonic.advance(seconds)
        self.wall_clock.time_ms += int(seconds * 1000)

    def reboot(self, off_s: float) -> None:
        """Off for so long, with a clock that runs on."""
        self.monotonic = Clock()
        self.wall_clock.time_ms += int(off_s * 1000)
        self.boot_id += "+"

    def history(self, path: Path | None = None, most: int = 10) -> History:
        return History(
            path, most, ArrivalClock(self.monotonic.seconds, self.wall_clock, self.boot_id)
        )


def history_of(path: Path | None, most: int) -> History:
    return Machine().history(path, most)


def add(history: History, *events: Event) -> tuple[list[int], int]:
    """The ids, and how many were dropped that were not published."""
    row_ids, dropped = history.add([encode_event(event) for event in events])
    return row_ids, len(dropped)


def values_of(history: History, name: str = "t", pattern: str = "*") -> list[Any]:
    return [item.event.value for item in history.unpublished(name, pattern)]


@pytest.mark.parametrize(
    "value",
    [
        *[0, 1, 1.0, True, False, None, "", "é☃", -(2**63), 2**64 - 1, 1e-300],
        *[[], {}, [1, 1.0, None, "x"], {"a": {"b": [True, 2.0]}}, b"\x00\xff"],
    ],
    ids=repr,
)
def test_values_come_back_with_their_type(value: Any) -> None:
    """1 stays an integer, 1.0 a float, True a boolean; null, unicode and nesting survive."""
    history = history_of(None, 10)
    event = Event("t", value, "d", 5, "f", ("gw", "x"), 3)
    add(history, event)
    (kept,) = history.latest("t", "d")
    assert kept.event == event
    assert repr(kept.event.value) == repr(value)


def test_it_survives_a_restart(tmp_path: Path) -> None:
    """What was added and marked is there after reopening; directories are made."""
    path = tmp_path / "deep" / "state.db"
    history = history_of(path, 10)
    (first, _), _ = add(history, Event("t", 1, at_ms=1), Event("t", 2, at_ms=2))
    history.mark_published([first])
    history.close()
    again = history_of(path, 10)
    assert values_of(again) == [2]
    assert again.latest("t", "")[0].event.value == 2
    assert again.datastream_ids("") == {"t"}


def test_the_last_to_arrive_is_the_latest() -> None:
    """The order is that of arrival, whatever time a value carries: a clock that was ahead must not
    keep its values in front for years. Feeds are apart."""
    history = history_of(None, 10)
    add(history, Event("t", "ahead", at_ms=2_000_000_000_000), Event("t", "right", at_ms=9))
    assert [item.event.value for item in history.latest("t", "")] == ["right"]
    add(history, Event("t", "fed", at_ms=1, feed="f"), Event("t", "1970", at_ms=1))
    assert [item.event.value for item in history.latest("t", "")] == ["1970", "fed"]
    assert values_of(history) == ["ahead", "right", "fed", "1970"]


def test_only_max_data_values_are_kept_of_each_place() -> None:
    """The last to arrive stay, per datastream and device, whatever time they carry; which of those
    dropped were never published is told."""
    history = history_of(None, 3)
    (first, *_), lost = add(history, *(Event("t", n, at_ms=99 - n) for n in (1, 2, 3)))
    assert lost == 0
    history.mark_published([first])
    _, lost = add(history, Event("t", 4, at_ms=4), Event("t", 5, "d", 5), Event("u", 6, at_ms=6))
    assert lost == 0  # the one dropped had been published
    _, lost = add(history, Event("t", 7, at_ms=0), Event("t", 8, at_ms=7))
    assert lost == 2
    assert values_of(history, pattern="") == [4, 7, 8]
    assert values_of(history, pattern="d") == [5]
    assert values_of(history, "u") == [6]


def test_another_max_data_holds_at_once() -> None:
    """What is too much under the new limit goes, the first to arrive of each place; what of it was
    not published is told."""
    history = history_of(None, 10)
    row_ids, _ = add(history, *(Event("t", n, at_ms=n) for n in range(4)))
    add(history, Event("u", 9, at_ms=9))
    history.mark_published(row_ids[:1])
    assert history.set_max_data(2) == [Dropped(row_ids[1], "t", "")]
    assert values_of(history) == [2, 3]
    assert values_of(history, "u") == [9]
    assert history.number_unpublished == 3
    assert add(history, Event("t", 4, at_ms=4))[1] == 1


def test_old_values_are_forgotten() -> None:
    """forget() drops what arrived longer ago, whatever time it carries, and tells which of it were
    never published."""
    machine = Machine()
    history = machine.history()
    (first, second, _), _ = add(
        history, Event("t", 1, at_ms=9), Event("t", 2, at_ms=8), Event("u", 1, "d", 1)
    )
    history.mark_published([first])
    machine.pass_s(10)
    add(history, Event("t", 3, at_ms=1))
    assert history.forget(10_000) == []
    machine.pass_s(1)
    assert history.forget(10_000) == [Dropped(second, "t", ""), Dropped(second + 1, "u", "d")]
    assert values_of(history) == [3]
    assert history.datastream_ids("*") == {"t"}
    assert history.forget(10_000) == []


@pytest.mark.parametrize("step_ms", [10 * 365 * 86_400_000, -40 * 365 * 86_400_000])
def test_a_step_of_the_clock_ages_nothing(tmp_path: Path, step_ms: int) -> None:
    """Setting the time of day by years, forward or back, neither ages a value nor makes it
    younger; nor does it after a restart of the agent."""
    machine = Machine()
    history = machine.history(tmp_path / "state.db")
    add(history, Event("t", 1, at_ms=1))
    machine.wall_clock.time_ms += step_ms
    machine.pass_s(5)
    assert history.forget(6_000) == []
    history.close()
    machine.wall_clock.time_ms -= step_ms
    machine.pass_s(5)
    history = machine.history(tmp_path / "state.db")
    assert history.forget(10_000) == []
    machine.pass_s(1)
    assert len(history.forget(10_000)) == 1


def test_the_time_without_an_agent_counts(tmp_path: Path) -> None:
    """While the machine was on, its uptime says how long no agent ran; while it was off, the time
    of day, also after an end without close()."""
    machine = Machine()
    add(machine.history(tmp_path / "state.db"), Event("t", 1, at_ms=1))
    machine.pass_s(100)
    history = machine.history(tmp_path / "state.db")
    assert history.forget(100_000) == []
    machine.reboot(50)
    history = machine.history(tmp_path / "state.db")
    assert history.forget(150_000) == []
    machine.pass_s(1)
    assert len(history.forget(150_000)) == 1


@pytest.mark.parametrize(("before", "after"), [("1970", "now"), ("now", "1970"), ("2040", "now")])
def test_a_time_of_day_that_is_not_believed_ages_nothing(
    tmp_path: Path, before: str, after: str
) -> None:
    """Over a reboot the clock of arrivals goes on from where it stood when the time of day before
    or after can't be right. The arrivals stay in order."""
    times = {"1970": 5_000, "now": 1_700_000_000_000, "2040": 2_200_000_000_000}
    machine = Machine()
    machine.wall_clock.time_ms = times[before]
    history = machine.history(tmp_path / "state.db")
    add(history, Event("t", 1, at_ms=1))
    machine.pass_s(20)
    add(history, Event("t", 2, at_ms=2))
    machine.reboot(0)
    machine.wall_clock.time_ms = times[after]
    history = machine.history(tmp_path / "state.db")
    assert history.forget(20_000) == []
    machine.pass_s(1)
    assert len(history.forget(20_000)) == 1
    assert values_of(history) == [2]


def test_the_saved_clock_follows_a_step(tmp_path: Path) -> None:
    """A device that boots in 1970 and is set right later is off for an hour, without a close: the
    hour counts, because the clock is saved again with the first value after the step."""
    machine = Machine()
    machine.wall_clock.time_ms = 5_000
    history = machine.history(tmp_path / "state.db")
    add(history, Event("t", 1, at_ms=1))
    machine.wall_clock.time_ms = 1_700_000_000_000
    add(history, Event("t", 2, at_ms=2))
    machine.reboot(3600)
    history = machine.history(tmp_path / "state.db")
    assert history.forget(3_600_000) == []
    machine.pass_s(1)
    assert len(history.forget(3_600_000)) == 2


def test_a_history_is_taken_over(tmp_path: Path) -> None:
    """Values, marks, order and ages move; what is more than the new limit goes and is told; the
    ids are known."""
    machine = Machine()
    old = machine.history()
    old_ids, _ = add(old, *(Event("t", n, at_ms=n) for n in range(4)))
    old.mark_published(old_ids[1:2])
    machine.pass_s(10)
    new = machine.history(tmp_path / "state.db", 3)
    new_ids, dropped = new.take_over(old)
    assert dropped == [Dropped(new_ids[old_ids[0]], "t", "")]
    assert values_of(new) == [2, 3]
    assert [item.row_id for item in new.unpublished("t", "")] == [new_ids[i] for i in old_ids[2:]]
    assert new.number_unpublished == 2
    assert new.forget(10_000) == []
    machine.pass_s(1)
    assert len(new.forget(10_000)) == 2
    old.clear()
    assert old.datastream_ids("*") == set()


def test_a_file_of_schema_1_is_taken_over(tmp_path: Path) -> None:
    """A history of before arrivals were kept goes on with all its values and marks."""
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE kept (id INTEGER PRIMARY KEY AUTOINCREMENT, datastream_id TEXT NOT NULL,"
            " device_id TEXT NOT NULL, feed TEXT, at_ms INTEGER NOT NULL, from_ms INTEGER,"
            " path BLOB NOT NULL, value BLOB NOT NULL, published INTEGER NOT NULL DEFAULT 0);"
            "CREATE INDEX kept_by_place ON kept (datastream_id, device_id, at_ms, id);"
            "CREATE INDEX kept_by_age ON kept (at_ms);"
            "CREATE INDEX kept_to_publish ON kept (datastream_id, device_id, at_ms, id)"
            " WHERE published = 0;"
            "PRAGMA user_version = 1"
        )
        db.executemany(
            "INSERT INTO kept VALUES (?, 't', '', NULL, ?, NULL, X'90', ?, ?)",
            [(1, 9, b"\x01", 1), (2, 8, b"\x02", 0), (7, 1, b"\x03", 0)],
        )
    db.close()
    machine = Machine()
    history = machine.history(path)
    assert values_of(history) == [2, 3]
    assert history.latest("t", "")[0].event == Event("t", 3, at_ms=1)
    assert add(history, Event("t", 4, at_ms=4))[0] == [8]
    assert history.forget(0) == []
    machine.pass_s(1)
    assert len(history.forget(500)) == 3


def test_a_file_of_schema_2_is_taken_over(tmp_path: Path) -> None:
    """A history of before values could be without a time goes on, and takes such values."""
    path = tmp_path / "state.db"
    schema = HISTORY_SQL.read_text().replace(",\n    taken_boot TEXT,\n    taken_ms INTEGER", "")
    with sqlite3.connect(path) as db:
        db.executescript(f"{schema}; PRAGMA user_version = 2")
        db.execute("INSERT INTO kept VALUES (5, 0, 0, 't', '', NULL, 9, NULL, X'90', X'01')")
    db.close()
    history = Machine().history(path)
    add(history, Event("t", 2, taken=Moment("boot", 7)))
    assert [item.event for item in history.unpublished("t", "")] == [
        Event("t", 1, at_ms=9),
        Event("t", 2, taken=Moment("boot", 7)),
    ]


def test_devices_are_chosen_by_pattern() -> None:
    """ "" is the host only, an id that device, ``*`` all with the host first."""
    history = history_of(None, 10)
    add(history, *(Event("t", d, d, 1) for d in ("b", "a", "", "ab")))
    assert values_of(history, pattern="") == [""]
    assert values_of(history, pattern="a") == ["a"]
    assert values_of(history, pattern="a*") == ["a", "ab"]
    assert values_of(history, pattern="*b") == ["ab", "b"]
    assert values_of(history, pattern="*") == ["", "a", "ab", "b"]


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.lists(strategies.events, min_size=1, max_size=8), st.integers(0, 50)),
        max_size=6,
    ),
    st.integers(1, 6),
    st.integers(0, 100),
)
def test_against_a_model(batches: list[tuple[list[Event], int]], most: int, age_s: int) -> None:
    """For any events: what is kept is the last of each place to arrive, those too old left out; and
    the numbers told are right."""
    machine = Machine()
    history = machine.history(None, most)
    model: dict[tuple[str, str], list[tuple[float, Any]]] = {}
    gone = 0
    for batch, pause_s in batches:
        machine.pass_s(pause_s)
        gone += add(history, *batch)[1]
        for event in batch:
            items = model.setdefault((event.datastream_id, event.device_id), [])
            items.append((machine.monotonic.seconds(), event.value))
            del items[:-most]
    gone += len(history.forget(age_s * 1000))
    left = 0
    for (name, device), items in model.items():
        expected = [v for at, v in items if at >= machine.monotonic.seconds() - age_s]
        assert values_of(history, name, device) == expected
        assert (name in history.datastream_ids(device)) == bool(expected)
        left += len(expected)
    assert left == history.number_unpublished == len(history)
    assert gone + left == sum(len(batch) for batch, _ in batches)


@pytest.mark.parametrize("how", ["text", "page", "header", "schema"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, how: str) -> None:
    """A file that is no database, is damaged inside, or of an unknown schema is renamed, and a
    fresh history begun in its place."""
    path = tmp_path / "state.db"
    history = history_of(path, 1000)
    add(history, *(Event("t", "x" * 100, at_ms=n) for n in range(500)))
    history.close()
    content = bytearray(path.read_bytes())
    if how == "text":
        content[:] = b"this is no database at all. " * 100
    elif how == "page":
        for start in range(4096, len(content) - 4096, 4096):
            content[start : start + 64] = b"\xff" * 64
    elif how == "header":  # the number of free pages, which no query looks at
        content[36:40] = (7).to_bytes(4, "big")
    path.write_bytes(content)
    if how == "schema":
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        content = bytearray(path.read_bytes())
    history = history_of(path, 1000)
    assert values_of(history) == []
    add(history, Event("t", 1, at_ms=1))
    assert values_of(history) == [1]
    assert Path(f"{path}.damaged").read_bytes() == bytes(content)


def test_starting_afresh_forgets_what_was_counted(tmp_path: Path) -> None:
    """After a file was set aside while running, nothing of it is known any more, and the bound
    counts from nothing."""
    history = history_of(tmp_path / "state.db", 2)
    add(history, Event("t", 1, at_ms=1), Event("t", 2, at_ms=2))
    assert history.start_afresh("for a test") == 2
    assert history.datastream_ids("*") == set()
    assert history.number_unpublished == 0
    assert add(history, Event("t", 3, at_ms=3), Event("t", 4, at_ms=4))[1] == 0
    assert values_of(history) == [3, 4]


def test_a_place_without_permission_is_an_error(tmp_path: Path) -> None:
    """A path that can't be a file is no damage: nothing is renamed, the caller hears of it."""
    with pytest.raises(sqlite3.Error):
        history_of(tmp_path, 10)
    assert tmp_path.is_dir()
