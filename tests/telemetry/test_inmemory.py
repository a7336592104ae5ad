"""The in-memory state manager: keeps, answers, collects, forgets, survives."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from zope.interface.verify import verifyObject

from oda.built import BUILT_MS
from oda.codecs.values import check_value
from oda.errors import EventRejected, OutboxClosed, OutboxError, OutboxFull
from oda.interfaces import IDating, IStateManager
from oda.model import Event, Moment, ValueStatus
from oda.settings import StateManagerSettings
from oda.telemetry.arrival import ArrivalClock
from oda.telemetry.dating import Dating
from oda.telemetry.history import History
from oda.telemetry.inmemory import InMemoryStateManager
from tests.telemetry.fakes import (
    NOW_MS,
    FakeAccess,
    FakeCounters,
    FakeDispatcher,
    FakeRegistry,
    FakeWallClock,
    has_fired,
    result_of,
)


class Rig:
    """A state manager with a real history; ``values`` is what the source reads."""

    def __init__(
        self,
        values: dict[tuple[str, str], Any] | None = None,
        path: Path | None = None,
        dating: IDating | None = None,
        **options: Any,
    ) -> None:
        self.clock = Clock()
        self.wall_clock = FakeWallClock()
        self.access = FakeAccess(values)
        self.registry = FakeRegistry(self.access.values)
        self.dispatcher = FakeDispatcher()
        self.counters = FakeCounters()
        settings = StateManagerSettings(database_path=path, **options)
        self.manager = InMemoryStateManager(
            self.clock,
            self.access,
            self.registry,
            self.dispatcher,
            settings,
            check_value,
            self.wall_clock,
            self.counters,
            dating=dating,
        )
        self.manager.start()

    @property
    def history(self) -> History:
        return self.manager._keeper._history

    def end_turn(self) -> None:
        self.clock.advance(0)

    def keep(self, *events: Event) -> None:
        received = self.manager.received(events)
        self.end_turn()
        result_of(received)

    def published(self) -> list[Any]:
        return [event.value for event in self.dispatcher.events]


def test_it_is_a_state_manager() -> None:
    """It keeps the contract of IStateManager."""
    verifyObject(IStateManager, Rig().manager)


def test_what_arrives_is_kept_and_not_published() -> None:
    """received() fires once the values are committed, at the end of the turn, and nothing is
    published by it."""
    rig = Rig()
    first, second = rig.manager.received([Event("t", 1)]), rig.manager.received([Event("u", 2)])
    assert not has_fired(first)
    rig.end_turn()
    assert result_of(first) is None
    assert result_of(second) is None
    assert rig.published() == []
    assert rig.access.asked == []


def test_collecting_publishes_what_was_not_published_yet() -> None:
    """collect() publishes each kept value once, in the order of arrival, with its own time, and
    fires with their number."""
    rig = Rig()
    rig.keep(Event("t", 2, at_ms=2), Event("t", 1, at_ms=1), Event("u", 9, at_ms=9))
    assert result_of(rig.manager.collect("t", "")) == 2
    assert [(event.value, event.at_ms) for event in rig.dispatcher.events] == [(2, 2), (1, 1)]
    rig.end_turn()
    assert result_of(rig.manager.collect("t", "")) == 0
    rig.keep(Event("t", 3, "child", 3, "f", ("gw",), 2))
    assert result_of(rig.manager.collect("t", "*")) == 1
    assert rig.dispatcher.events[-1] == Event("t", 3, "child", 3, "f", ("gw",), 2)


def test_a_value_is_marked_only_when_it_was_accepted(tmp_path: Path) -> None:
    """While acceptance is open a value is not sent again; after a crash before it, it is, with the
    same time; after acceptance, it is not."""
    path = tmp_path / "state.db"
    rig = Rig(path=path)
    rig.keep(Event("t", 1, at_ms=NOW_MS))
    waiting: Deferred[None] = Deferred()
    rig.dispatcher.answer = lambda event: waiting
    collecting = rig.manager.collect("t", "")
    assert result_of(rig.manager.collect("t", "")) == 0
    crashed = Rig(path=path)
    assert result_of(crashed.manager.collect("t", "")) == 1
    assert crashed.dispatcher.events == [Event("t", 1, at_ms=NOW_MS)]
    crashed.manager.stop()
    waiting.callback(None)
    assert result_of(collecting) == 1
    rig.manager.stop()
    assert result_of(Rig(path=path).manager.collect("t", "")) == 0


def test_a_refused_value_is_collected_again() -> None:
    """When the outbox refuses, the collection fails once all are answered; those accepted are not
    sent again, the others are."""
    rig = Rig()
    rig.keep(*(Event("t", n, at_ms=n) for n in range(4)))
    rig.dispatcher.answer = lambda event: (
        fail(OutboxFull("no room")) if event.value % 2 else succeed(None)
    )
    with pytest.raises(OutboxFull):
        result_of(rig.manager.collect("t", ""))
    rig.end_turn()
    rig.dispatcher.events.clear()
    rig.dispatcher.answer = lambda event: succeed(None)
    assert result_of(rig.manager.collect("t", "")) == 2
    assert rig.published() == [1, 3]


def test_a_value_that_can_never_be_sent_does_not_block_the_others() -> None:
    """A value the dispatcher rejects is given up: the others count, and the next collection asks
    for none of them again."""
    rig = Rig()
    rig.keep(*(Event("t", n, at_ms=n) for n in range(3)))
    rig.dispatcher.answer = lambda event: (
        fail(EventRejected("t", "too large")) if event.value == 1 else succeed(None)
    )
    assert result_of(rig.manager.collect("t", "")) == 2
    rig.end_turn()
    assert result_of(rig.manager.collect("t", "")) == 0
    assert rig.published() == [0, 1, 2]


def test_get_answers_from_what_is_kept_of_what_nobody_reads() -> None:
    """Where there is no getter, GET gives the kept value that arrived last, with its time and feed,
    and asks no source."""
    rig = Rig({("", "other"): "from the source"})
    rig.keep(Event("t", 1, at_ms=1, feed="f"), Event("t", 2, at_ms=9, feed="f"))
    (value,) = result_of(rig.manager.get("", ["t"]))
    assert (value.value, value.at_ms, value.feed, value.status) == (2, 9, "f", ValueStatus.OK)
    assert rig.access.asked == []


def test_get_sees_what_arrived_in_this_turn() -> None:
    """A value not yet committed is known already, and its Deferred fires."""
    rig = Rig()
    received = rig.manager.received([Event("t", 7)])
    (value,) = result_of(rig.manager.get("dev-1", ["t"]))
    assert value.value == 7
    assert result_of(received) is None


def test_get_reads_the_source() -> None:
    """GET reads the source at the moment at which it is received, whatever is kept. What it reads
    is kept, published once, and marked: a collection publishes only what GET did not."""
    rig = Rig({("", "t"): 5})
    rig.keep(Event("t", 4, at_ms=NOW_MS - 1))
    (value,) = result_of(rig.manager.get("", ["t"]))
    assert (value.value, value.at_ms) == (5, NOW_MS)
    rig.end_turn()
    rig.end_turn()
    assert [(event.value, event.at_ms) for event in rig.dispatcher.events] == [(5, NOW_MS)]
    rig.access.values["", "t"] = 6
    (again,) = result_of(rig.manager.get("", ["t"]))
    assert again.value == 6
    assert rig.access.asked == [("t", "")] * 2
    rig.end_turn()
    rig.end_turn()
    assert [item.event.value for item in rig.history.latest("t", "")] == [6]
    assert result_of(rig.manager.collect("t", "")) == 1
    assert rig.published() == [5, 6, 4]


def test_a_source_that_fails_is_the_answer() -> None:
    """A value that is kept does not hide that the datastream can't be read now; REFRESH leaves the
    datastream to the caller in the same way."""
    rig = Rig({("", "t"): ValueError("cut")})
    rig.keep(Event("t", 4))
    for names in (["t"], None):
        (value,) = result_of(rig.manager.get("", names))
        assert (value.status, value.error) == (ValueStatus.ERROR, "cut")


def test_what_a_request_reads_is_published_now() -> None:
    """GET and REFRESH, of one device and of a pattern, do not leave what they read, or answer with,
    to the line that collects the datastream; a poll and a collection do."""
    for pattern, names in (("", ["t"]), ("", None), ("*", ["t"]), ("*", None)):
        rig = Rig({("", "t"): 1, ("a", "t"): 2})
        rig.keep(Event("t", 3, "b"))
        result_of(rig.manager.read("t", "*"))
        rig.end_turn()
        result_of(rig.manager.collect("t", ""))
        assert rig.dispatcher.urgent == []
        values = result_of(rig.manager.get(pattern, names))
        rig.end_turn()
        assert sorted(event.value for event in rig.dispatcher.urgent) == sorted(
            value.value for value in values
        )
        assert len(values) == (3 if pattern else 1)


def test_what_is_read_is_published_now_where_it_can_not_be_kept() -> None:
    """A history that does not work, or a state manager that has retired, changes nothing of it."""
    rig, history = broken_rig({("", "t"): 5})
    history.error = sqlite3.OperationalError("database or disk is full")
    result_of(rig.manager.get("", ["t"]))
    rig.end_turn()
    assert [event.value for event in rig.dispatcher.urgent] == [5]
    rig.manager.retire()
    result_of(rig.manager.get("", None))
    assert [event.value for event in rig.dispatcher.urgent] == [5, 5]


def test_get_publishes_the_answer_that_was_never_published() -> None:
    """A kept value that GET answers with becomes telemetry, once; older ones stay for the
    collector."""
    rig = Rig()
    rig.keep(Event("t", 1, at_ms=1), Event("t", 2, at_ms=2))
    for _ in range(2):
        result_of(rig.manager.get("", ["t"]))
        rig.end_turn()
    assert rig.published() == [2]
    assert result_of(rig.manager.collect("t", "")) == 1
    assert rig.published() == [2, 1]


def test_get_mixes_devices_kept_and_read() -> None:
    """With a pattern, each device answers from the source, or from what is kept of it if nobody
    reads it; the host first, then by id, each once."""
    rig = Rig({("", "t"): "host", ("a", "t"): "a read", ("b", "t"): "b read"})
    rig.keep(Event("t", "b kept", "b", at_ms=1), Event("t", "c kept", "c", at_ms=1))
    values = result_of(rig.manager.get("*", ["t"]))
    assert [value.value for value in values] == ["host", "a read", "b read", "c kept"]


def test_get_keeps_order_and_tells_what_nobody_knows() -> None:
    """The order is that of the request; NOT_FOUND and ERROR come from the source, and nothing is
    kept or published of them."""
    rig = Rig({("", "bad"): ValueError("cut"), ("", "t"): 1})
    values = result_of(rig.manager.get("", ["nobody", "t", "bad"]))
    assert [value.status for value in values] == [
        ValueStatus.NOT_FOUND,
        ValueStatus.OK,
        ValueStatus.ERROR,
    ]
    assert values[2].error == "cut"
    rig.end_turn()
    assert rig.published() == [1]


def test_refresh_gives_all_there_is() -> None:
    """REFRESH knows what can be read and what is kept, each once, in the order of names."""
    rig = Rig({("", "a"): 1, ("", "b"): 2, ("d", "x"): 4})
    rig.keep(Event("b", "kept"), Event("c", 3))
    values = result_of(rig.manager.get("", None))
    assert [(value.datastream_id, value.value) for value in values] == [
        ("a", 1),
        ("b", 2),
        ("c", 3),
    ]
    rig.end_turn()
    assert sorted(rig.published()) == [1, 2, 3]


def test_a_poll_is_kept() -> None:
    """read() asks the source and keeps what came, also beside one that fails; nulls are no
    values."""
    rig = Rig({("", "t"): 1, ("d", "t"): ValueError("cut"), ("e", "t"): None})
    assert len(result_of(rig.manager.read("t", "*"))) == 3
    rig.end_turn()
    assert [item.event.value for item in rig.history.unpublished("t", "*")] == [1]
    assert rig.published() == []


def test_the_host_has_one_name() -> None:
    """Events and questions under the host's own id are the host's."""
    rig = Rig()
    rig.keep(Event("t", 1, "dev-1", at_ms=1), Event("t", 2, "", at_ms=2))
    (value,) = result_of(rig.manager.get("dev-1", ["t"]))
    assert (value.value, value.device_id) == (2, "")
    assert result_of(rig.manager.collect("t", "dev-1")) == 1


def test_a_bad_event_keeps_nothing_of_its_call() -> None:
    """received() rejects as publish does, before anything is kept."""
    rig = Rig()
    with pytest.raises(EventRejected, match="'bad'"):
        result_of(rig.manager.received([Event("t", 1), Event("bad", float("nan"))]))
    rig.end_turn()
    assert rig.history.datastream_ids("*") == set()
    assert rig.counters.counts["events_rejected"] == 2


def test_writing_refreshes_what_is_kept() -> None:
    """After a successful write the value is read anew, so that GET does not tell the old one."""
    rig = Rig({("", "q"): 17})
    rig.keep(Event("q", 3, at_ms=1))
    (outcome,) = result_of(rig.manager.set("", [("q", 17)]))
    assert outcome.status is ValueStatus.OK
    (value,) = result_of(rig.manager.get("", ["q"]))
    assert value.value == 17


def test_old_values_are_forgotten_in_time() -> None:
    """Every forget_period what arrived longer than forget_time ago goes; unpublished ones are
    counted; the timer ends with stop."""
    rig = Rig(forget_time_s=100, forget_period_s=10)
    rig.clock.advance(5)
    rig.keep(Event("t", 1, at_ms=NOW_MS))
    rig.clock.pump([10] * 9)
    rig.keep(Event("t", 2, at_ms=1))
    rig.clock.advance(10)
    assert len(rig.history.unpublished("t", "")) == 2
    rig.clock.advance(10)
    assert [item.event.value for item in rig.history.unpublished("t", "")] == [2]
    assert rig.counters.counts["values_forgotten_unpublished"] == 1
    rig.manager.stop()
    assert rig.clock.getDelayedCalls() == []


def test_stopping_commits(tmp_path: Path) -> None:
    """Values of the last turn are on disk after stop, and later ones are refused."""
    path = tmp_path / "state.db"
    rig = Rig(path=path)
    received = rig.manager.received([Event("t", 1)])
    rig.manager.stop()
    assert result_of(received) is None
    with pytest.raises(OutboxClosed):
        result_of(rig.manager.received([Event("t", 2)]))
    rig.manager.stop()
    assert rig.clock.getDelayedCalls() == []
    (value,) = result_of(Rig(path=path).manager.get("", ["t"]))
    assert value.value == 1


def test_acceptance_after_stop_is_harmless() -> None:
    """A late acceptance meets a closed history and does nothing."""
    rig = Rig()
    rig.keep(Event("t", 1))
    waiting: Deferred[None] = Deferred()
    rig.dispatcher.answer = lambda event: waiting
    collecting = rig.manager.collect("t", "")
    rig.manager.stop()
    waiting.callback(None)
    assert result_of(collecting) == 1
    assert rig.clock.getDelayedCalls() == []


class BrokenHistory(History):
    """A history whose disk is full, or whose file breaks, when told so."""

    error: sqlite3.Error | None = None
    afresh = 0

    def add(self, rows: Any) -> Any:
        if self.error is not None:
            raise self.error
        return super().add(rows)

    def start_afresh(self, reason: str) -> int:
        self.error = None
        self.afresh += 1
        return super().start_afresh(reason)


def broken_rig(values: dict[tuple[str, str], Any] | None = None) -> tuple[Rig, BrokenHistory]:
    rig = Rig(values)
    history = BrokenHistory(None, 10, ArrivalClock(rig.clock.seconds, rig.wall_clock))
    rig.manager._keeper._history = history
    return rig, history


def test_a_full_disk_refuses_and_live_data_flows() -> None:
    """received() fails with OutboxError, logged once; a GET still answers and its value is still
    published; when there is room again, values are kept again."""
    rig, history = broken_rig({("", "t"): 5})
    history.error = sqlite3.OperationalError("database or disk is full")
    lines: list[Any] = []
    globalLogPublisher.addObserver(lines.append)
    try:
        for _ in range(2):
            received = rig.manager.received([Event("u", 1)])
            rig.end_turn()
            with pytest.raises(OutboxError):
                result_of(received)
        (value,) = result_of(rig.manager.get("", ["t"]))
        rig.end_turn()
        assert value.value == 5
        assert rig.published() == [5]
        assert [e["log_level"] for e in lines if "full" in str(e.get("reason"))] == [LogLevel.error]
    finally:
        globalLogPublisher.removeObserver(lines.append)
    assert history.afresh == 0
    history.error = None
    rig.keep(Event("u", 2))
    assert result_of(rig.manager.collect("u", "")) == 1


def test_a_file_that_breaks_while_running_is_replaced() -> None:
    """Damage found while writing begins a fresh history, and the values at hand are kept in it;
    acceptances of values of the old one mark nothing of the new one."""
    rig, history = broken_rig()
    rig.keep(Event("t", 1, at_ms=1))
    waiting: Deferred[None] = Deferred()
    rig.dispatcher.answer = lambda event: waiting
    rig.manager.collect("t", "")
    history.error = sqlite3.DatabaseError("database disk image is malformed")
    rig.keep(Event("t", 2, at_ms=2))
    assert history.afresh == 1
    waiting.callback(None)
    rig.end_turn()
    assert [item.event.value for item in history.unpublished("t", "")] == [2]


def test_what_arrives_while_the_clock_is_wrong_keeps_its_moment(tmp_path: Path) -> None:
    """A value without a time is kept with the moment at which it came, over a restart too, and
    published with it: whoever sends it knows when that was."""
    dating = Dating(FakeWallClock(0), "boot", lambda: 77, BUILT_MS)
    rig = Rig(path=tmp_path / "history", dating=dating)
    rig.keep(Event("t", 1), Event("t", 2, taken=Moment("before", 5)), Event("t", 3, at_ms=9))
    rig.manager.stop()
    rig = Rig(path=tmp_path / "history", dating=dating)
    assert result_of(rig.manager.collect("t", "")) == 3
    assert [(event.at_ms, event.taken) for event in rig.dispatcher.events] == [
        (None, Moment("boot", 77)),
        (None, Moment("before", 5)),
        (9, None),
    ]
