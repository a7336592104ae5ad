"""The in-memory state manager loses nothing without a word: clocks, limits, disks, reloads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from oda.errors import OutboxError, OutboxFull
from oda.model import Event
from oda.settings import StateManagerSettings
from tests.telemetry.fakes import NOW_MS, has_fired, result_of
from tests.telemetry.test_inmemory import Rig, broken_rig

YEARS_MS = 10 * 365 * 86_400_000


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The warnings and errors of the log meanwhile."""
    lines: list[str] = []

    def observe(event: Any) -> None:
        if event.get("log_level") in (LogLevel.warn, LogLevel.error):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def lost(rig: Rig) -> int:
    return rig.counters.counts["values_forgotten_unpublished"]


@pytest.mark.parametrize("wrong_ms", [YEARS_MS, -NOW_MS], ids=["ahead", "1970"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_corrected_clock_loses_no_reading(tmp_path: Path, wrong_ms: int, on_disk: bool) -> None:
    """Eight readings with a clock that is wrong by years, then twenty with the right one, in a
    history that is nearly full: all are published, in the order in which they were read, and
    GET gives the last one of what nobody reads at the source."""
    path = tmp_path / "state.db" if on_disk else None
    rig = Rig(path=path, max_data=30, forget_time_s=3600.0, forget_period_s=1.0)
    rig.wall_clock.time_ms += wrong_ms
    for number in range(28):
        if number == 8:
            rig.wall_clock.time_ms -= wrong_ms
        rig.keep(Event("t", number))
        rig.clock.advance(1)
        rig.wall_clock.time_ms += 1000
    (value,) = result_of(rig.manager.get("", ["t"]))
    assert value.value == 27
    rig.dispatcher.events.clear()
    assert result_of(rig.manager.collect("t", "")) == 27
    assert rig.published() == list(range(27))
    assert lost(rig) == 0


def test_each_loss_is_counted_and_an_episode_said_once(warnings: list[str]) -> None:
    """What maxData pushes out and what forgetTime ends, unpublished, is counted each time and said
    once for each datastream; after a value of it was published, the next loss is said again."""
    rig = Rig(max_data=2, forget_time_s=100.0, forget_period_s=10.0)
    for number in range(5):
        rig.keep(Event("t", number))
    assert lost(rig) == 3
    (line,) = warnings
    assert "maxData" in line
    assert "t of the host" in line
    rig.keep(*(Event("u", n, "d") for n in range(4)))
    assert lost(rig) == 5
    assert "u of d" in warnings[1]
    rig.clock.pump([10] * 11)
    assert lost(rig) == 9
    assert len(warnings) == 2
    rig.keep(Event("t", 9))
    assert result_of(rig.manager.collect("t", "")) == 1
    rig.keep(Event("t", 10))
    rig.clock.pump([10] * 11)
    assert lost(rig) == 10
    assert len(warnings) == 3
    assert "forgetTime" in warnings[2]


def test_a_value_pushed_out_on_its_way_is_lost_only_when_refused() -> None:
    """A value that leaves the history while its acceptance is open, or before that is marked, is
    no loss; it becomes one when it is refused."""
    rig = Rig(max_data=2)
    answers: list[Deferred[None]] = []

    def answer(event: Event) -> Deferred[None]:
        answers.append(Deferred())
        return answers[-1]

    rig.dispatcher.answer = answer
    rig.keep(Event("t", 1), Event("t", 2))
    collecting = rig.manager.collect("t", "")
    rig.keep(Event("t", 3), Event("t", 4))
    assert lost(rig) == 0
    answers[0].callback(None)
    assert lost(rig) == 0
    answers[1].errback(OutboxFull("no room"))
    assert lost(rig) == 1
    with pytest.raises(OutboxFull):
        result_of(collecting)
    rig.dispatcher.answer = lambda event: succeed(None)
    assert result_of(rig.manager.collect("t", "")) == 2


def test_what_can_not_be_stored_is_counted() -> None:
    """Values that a full disk refuses are counted, those of a poll as well as those received."""
    rig, history = broken_rig({("", "t"): 5})
    history.error = sqlite3.OperationalError("database or disk is full")
    received = rig.manager.received([Event("u", 1), Event("u", 2)])
    result_of(rig.manager.read("t", ""))
    rig.end_turn()
    with pytest.raises(OutboxError):
        result_of(received)
    assert rig.counters.counts["values_not_kept"] == 3


def test_a_damaged_file_costs_what_was_not_published(warnings: list[str]) -> None:
    """Of a file that breaks, the values that were neither published nor on their way are counted
    as lost, and said."""
    rig, history = broken_rig()
    rig.keep(Event("t", 1), Event("t", 2), Event("u", 3))
    waiting: Deferred[None] = Deferred()
    rig.dispatcher.answer = lambda event: waiting
    rig.manager.collect("u", "").addErrback(lambda _: None)
    history.error = sqlite3.DatabaseError("database disk image is malformed")
    rig.keep(Event("t", 4))
    assert lost(rig) == 2
    assert any("2 values" in line for line in warnings)
    waiting.errback(OutboxFull("no room"))
    assert lost(rig) == 3


def test_what_only_memory_keeps_is_lost_with_the_end_and_said(warnings: list[str]) -> None:
    """Without a database the end of the agent costs what was not published: counted and said. With
    one it costs nothing."""
    rig = Rig()
    rig.keep(Event("t", 1), Event("t", 2))
    rig.manager.stop()
    assert lost(rig) == 2
    assert "databasePath" in warnings[0]


def test_a_file_that_is_gone_is_said(tmp_path: Path, warnings: list[str]) -> None:
    """A database deleted while the agent runs is noticed at the next look, said once, and what is
    lost with it at the end is counted."""
    path = tmp_path / "state.db"
    rig = Rig(path=path, forget_period_s=10.0)
    rig.keep(Event("t", 1))
    path.unlink()
    rig.clock.pump([10, 10])
    (line,) = warnings
    assert str(path) in line
    rig.manager.stop()
    assert lost(rig) == 1


def test_an_acceptance_that_can_not_be_marked_is_not_published_again() -> None:
    """While the disk refuses the mark, a value that was accepted is not sent with every collection;
    the mark is written once there is room."""
    rig, history = broken_rig()
    rig.keep(Event("t", 1))
    mark = history.mark_published

    def refuse(row_ids: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    history.mark_published = refuse  # type: ignore[method-assign]
    for _ in range(3):
        result_of(rig.manager.collect("t", ""))
        rig.end_turn()
    assert rig.published() == [1]
    history.mark_published = mark  # type: ignore[method-assign]
    rig.keep(Event("t", 2))
    assert [item.event.value for item in history.unpublished("t", "")] == [2]


def test_callbacks_come_after_the_state_is_settled() -> None:
    """Who hears that a value is kept may call anything. A value that comes while the manager stops
    is refused at once, and no delayed call is left."""
    rig = Rig()
    late: list[Deferred[None]] = []
    kept = rig.manager.received([Event("t", 1)])
    kept.addCallback(lambda _: late.append(rig.manager.received([Event("t", 2)])))
    rig.manager.stop()
    with pytest.raises(OutboxError):
        result_of(late[0])
    assert rig.clock.getDelayedCalls() == []


@pytest.mark.parametrize("value", [{"a": [1]}, [[1]], ([1],)])
def test_a_value_changed_after_it_arrived_is_kept_as_it_was(value: Any) -> None:
    """Neither the kept value, nor the one published from GET, follows what the publisher or the
    getter does with its dict or list."""
    inner = value["a"] if isinstance(value, dict) else value[0]
    rig = Rig({("", "read"): value})
    expected = {"a": [1]} if isinstance(value, dict) else [[1]]
    received = rig.manager.received([Event("t", value)])
    result_of(rig.manager.get("", ["read"]))
    inner.append(float("nan"))
    rig.end_turn()
    assert result_of(received) is None
    assert list(rig.published()) in ([expected], [tuple(expected)])
    assert result_of(rig.manager.collect("t", "")) == 1
    assert rig.published()[1] == expected


@pytest.mark.parametrize("old", [None, "old.db"])
@pytest.mark.parametrize("new", [None, "new.db", "old.db"])
def test_other_settings_keep_what_is_kept(tmp_path: Path, old: str | None, new: str | None) -> None:
    """From memory or a file, to memory or a file: values, marks, order, and what is on its way
    stay; of the values of the new limit the first to arrive are lost, and counted."""
    rig = Rig(path=old and tmp_path / old)
    rig.keep(*(Event("t", n) for n in range(10)))
    rig.dispatcher.answer = lambda event: succeed(None) if event.value < 4 else waiting
    waiting: Deferred[None] = Deferred()
    collecting = rig.manager.collect("t", "")
    rig.keep(Event("t", 10), Event("t", 11), Event("u", 12))
    received = rig.manager.received([Event("t", 13)])
    settings = StateManagerSettings(database_path=new and tmp_path / new, max_data=3)
    rig.manager.reconfigure(settings)
    assert result_of(received) is None
    rig.dispatcher.events.clear()
    waiting.callback(None)
    assert result_of(collecting) == 10
    assert lost(rig) == 0
    rig.dispatcher.answer = lambda event: succeed(None)
    assert result_of(rig.manager.collect("t", "")) == 3
    assert result_of(rig.manager.collect("u", "")) == 1
    assert rig.published() == [10, 11, 13, 12]
    rig.keep(*(Event("v", n) for n in range(5)))
    assert lost(rig) == 2
    rig.manager.stop()
    assert rig.clock.getDelayedCalls() == []
    if old and new and old != new:
        again = Rig(path=tmp_path / old)
        assert len(again.history) == 0
        again.manager.stop()
    if new:
        again = Rig(path=tmp_path / new)
        assert len(again.history) == 7
        assert again.history.number_unpublished == 3


def test_a_new_path_that_can_not_be_used_changes_nothing(tmp_path: Path) -> None:
    """The manager goes on with what it has, when the new database can't be opened."""
    rig = Rig(forget_time_s=100.0)
    rig.keep(Event("t", 1))
    with pytest.raises(sqlite3.Error):
        rig.manager.reconfigure(StateManagerSettings(database_path=Path("/dev/null"), max_data=1))
    (tmp_path / "file").touch()
    below = StateManagerSettings(database_path=tmp_path / "file" / "state.db", max_data=1)
    with pytest.raises(OSError, match="is not a directory"):
        rig.manager.reconfigure(below)
    rig.keep(Event("t", 2))
    assert result_of(rig.manager.collect("t", "")) == 2


def test_another_forget_time_holds_at_once() -> None:
    """forgetTime and forgetPeriod of a reload are followed by the running manager."""
    rig = Rig(forget_time_s=1000.0, forget_period_s=500.0)
    rig.keep(Event("t", 1))
    rig.clock.advance(20)
    rig.manager.reconfigure(StateManagerSettings(forget_time_s=30.0, forget_period_s=5.0))
    rig.clock.advance(5)
    assert lost(rig) == 0
    rig.clock.pump([5, 5])
    assert lost(rig) == 1


def test_the_realtime_manager_takes_over() -> None:
    """Retired, the manager publishes everything that was not published, once, in the order of
    arrival; what still comes to it goes straight on; then its history is closed."""
    rig = Rig({("", "t"): 7})
    rig.keep(Event("t", 1), Event("u", 2), Event("t", 3))
    result_of(rig.manager.get("", ["u"]))
    waiting: Deferred[None] = Deferred()
    rig.dispatcher.answer = lambda event: waiting
    pending = rig.manager.received([Event("t", 4)])
    rig.manager.retire()
    assert result_of(pending) is None
    assert rig.published() == [2, 1, 3, 4]
    result_of(rig.manager.read("t", ""))
    late = rig.manager.received([Event("u", 5)])
    assert rig.published()[4:] == [7, 5]
    assert not has_fired(late)
    waiting.callback(None)
    rig.end_turn()
    assert lost(rig) == 0
    assert result_of(late) is None
    (value,) = result_of(rig.manager.get("", ["t"]))
    assert value.value == 7
    assert rig.clock.getDelayedCalls() == []


def test_what_the_outbox_refuses_of_it_stays_in_the_file(
    tmp_path: Path, warnings: list[str]
) -> None:
    """A retired manager whose values are refused leaves them in its file, and says so; in memory
    they are lost, counted and said."""
    for path in (tmp_path / "state.db", None):
        rig = Rig(path=path)
        rig.keep(Event("t", 1), Event("t", 2))
        rig.dispatcher.answer = lambda event: (
            fail(OutboxFull("no room")) if event.value == 2 else succeed(None)
        )
        rig.manager.retire()
        assert lost(rig) == (0 if path else 1)
    assert str(tmp_path / "state.db") in warnings[0]
    assert "databasePath" in warnings[1]
    assert Rig(path=tmp_path / "state.db").history.number_unpublished == 1


def test_a_database_that_opens_late_takes_what_came_before(
    tmp_path: Path, warnings: list[str]
) -> None:
    """A place that can't be opened at the start is said once; values are kept in memory, and move
    to the file, behind those of an earlier process, once it can be opened."""
    directory = tmp_path / "disk"
    path = directory / "state.db"
    before = Rig(path=path)
    before.keep(Event("t", 1))
    before.manager.stop()
    directory.rename(tmp_path / "away")
    directory.write_text("not mounted yet")
    rig = Rig(path=path, forget_period_s=10.0)
    rig.keep(Event("t", 2))
    rig.clock.pump([10, 10])
    (line,) = warnings
    assert str(path) in line
    directory.unlink()
    (tmp_path / "away").rename(directory)
    rig.clock.advance(10)
    rig.manager.stop()
    assert lost(rig) == 0
    again = Rig(path=path)
    assert result_of(again.manager.collect("t", "")) == 2
    assert again.published() == [1, 2]
