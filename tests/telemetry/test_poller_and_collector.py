"""Poller and collector: what they ask for, log and count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from oda.errors import OutboxFull
from oda.model import DatastreamValue, ValueStatus
from oda.settings import Schedule
from oda.telemetry.collector import Collector
from oda.telemetry.poller import Poller
from tests.telemetry.fakes import NOW_MS, FakeCounters, FakeStateManager


def line(name: str, device: str = "", period: float = 1) -> Schedule:
    return Schedule(datastream_id=name, device_pattern=device, first_s=period, period_s=period)


@pytest.fixture
def logged() -> Iterator[list[tuple[LogLevel, str]]]:
    lines: list[tuple[LogLevel, str]] = []

    def observe(event: Any) -> None:
        lines.append((event["log_level"], formatEvent(event)))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


class Rig:
    def __init__(self, kind: type[Poller] | type[Collector], *lines: Schedule) -> None:
        self.clock = Clock()
        self.state_manager = FakeStateManager()
        self.counters = FakeCounters()
        self.subject = kind(self.clock, self.state_manager, self.counters, lines)
        self.subject.start()


def answer(status: ValueStatus, *devices: str, error: str | None = None) -> Deferred[Any]:
    return succeed([DatastreamValue("t", d, status, 1, NOW_MS, None, error) for d in devices])


@pytest.mark.parametrize("kind", [Poller, Collector])
def test_lines_ask_the_state_manager(kind: Any) -> None:
    """Each line asks for its datastream and device pattern at its times, until it is stopped."""
    rig = Rig(kind, line("a"), line("b", "gw-*", 2))
    rig.state_manager.answer = lambda name, pattern: succeed([] if kind is Poller else 0)
    rig.clock.pump([1, 1])
    assert rig.state_manager.calls == [("a", ""), ("a", ""), ("b", "gw-*")] or (
        rig.state_manager.calls == [("a", ""), ("b", "gw-*"), ("a", "")]
    )
    rig.subject.set_schedules([line("c")])
    rig.clock.advance(1)
    assert rig.state_manager.calls[3:] == [("c", "")]
    rig.subject.stop()
    assert rig.clock.getDelayedCalls() == []


def test_a_failing_reading_is_logged_once_and_counted(logged: list[Any]) -> None:
    """One warning with the reason when a device's reading begins to fail, one line when it works
    again, however often it fails; each failure is counted, and other devices are apart."""
    rig = Rig(Poller, line("t", "*"))
    bad, good = ValueStatus.ERROR, ValueStatus.OK
    rig.state_manager.answer = lambda *_: answer(bad, "", "d2", error="wire cut")
    rig.clock.pump([1] * 5)
    warnings = [text for level, text in logged if level is LogLevel.warn]
    assert len(warnings) == 2
    assert all("t" in text and "wire cut" in text for text in warnings)
    assert "d2" in warnings[1]
    assert rig.counters.counts["readings_failed"] == 10
    assert rig.counters.counts["readings"] == 10
    rig.state_manager.answer = lambda *_: answer(good, "", "d2")
    logged.clear()
    rig.clock.pump([1] * 5)
    assert [level for level, _ in logged] == [LogLevel.info] * 2
    rig.state_manager.answer = lambda *_: answer(ValueStatus.NOT_FOUND, "d2")
    logged.clear()
    rig.clock.pump([1] * 2)
    assert [level for level, _ in logged] == [LogLevel.warn]
    assert rig.counters.counts["readings_failed"] == 12


def test_the_poller_counts_once_per_tick() -> None:
    """A hundred readings of one tick are one call of the counters; late ones come with the next,
    and with the end."""
    rig = Rig(Poller, *(line(f"d{number}") for number in range(100)), line("late"))
    late: Deferred[Any] = Deferred()
    ordinary = rig.state_manager.answer
    rig.state_manager.answer = lambda name, pattern: (
        late if name == "late" else ordinary(name, pattern)
    )
    rig.clock.advance(1)
    assert rig.counters.calls["readings"] == 1
    assert rig.counters.counts["readings"] == 100
    rig.clock.advance(1)
    assert rig.counters.counts["polls_missed"] == 1
    late.callback([DatastreamValue("late", "", ValueStatus.OK, 1, NOW_MS)])
    rig.subject.stop()
    assert rig.counters.counts["readings"] == 201


def test_a_reading_that_never_ends_silences_only_itself() -> None:
    """A thousand readings go on beside one that never answers."""
    rig = Rig(Poller, line("stuck"), *(line(f"d{number}") for number in range(1000)))
    ordinary = rig.state_manager.answer
    rig.state_manager.answer = lambda name, pattern: (
        Deferred() if name == "stuck" else ordinary(name, pattern)
    )
    rig.clock.pump([1] * 3)
    assert rig.counters.counts["readings"] == 3000
    assert rig.counters.counts["polls_missed"] == 2


def test_a_failing_collection_is_logged_once_and_tried_again(logged: list[Any]) -> None:
    """When publishing fails the collector says so once, counts each, and goes on; it says once
    when it works again."""
    rig = Rig(Collector, line("t"), line("u"))
    rig.state_manager.answer = lambda name, pattern: (
        fail(OutboxFull("no room")) if name == "t" else succeed(3)
    )
    rig.clock.pump([1] * 4)
    assert [level for level, _ in logged] == [LogLevel.warn]
    assert "no room" in logged[0][1]
    assert rig.counters.counts["collections_failed"] == 4
    assert rig.counters.counts["collections"] == 8
    rig.state_manager.answer = lambda name, pattern: succeed(0)
    logged.clear()
    rig.clock.pump([1] * 2)
    assert [level for level, _ in logged] == [LogLevel.info]


def test_a_collection_under_way_is_not_begun_again() -> None:
    """While the values of a line wait for acceptance it is left out, and that is counted."""
    rig = Rig(Collector, line("t"))
    waiting: Deferred[Any] = Deferred()
    rig.state_manager.answer = lambda name, pattern: waiting
    rig.clock.pump([1] * 3)
    assert len(rig.state_manager.calls) == 1
    assert rig.counters.counts["collections_missed"] == 2
    waiting.callback(1)
    rig.clock.advance(1)
    assert len(rig.state_manager.calls) == 2
