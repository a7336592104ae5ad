"""Times that seem to be no milliseconds are said once for each datastream."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from oda.codecs import JsonCodec, check_value
from oda.model import Event
from oda.settings import Schedule
from oda.telemetry.dispatcher import EventDispatcher
from oda.telemetry.validation import MAX_NAMES, TimeDoubts
from tests.telemetry.fakes import NOW_MS, FakeConnector, FakeCounters, FakeWallClock


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    lines: list[str] = []

    def observe(event: object) -> None:
        assert isinstance(event, dict)
        if event["log_level"] is LogLevel.warn:
            lines.append(str(formatEvent(event)))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize("way", ["one", "several", "collected", "from"])
def test_doubtful_times_are_said_once_and_sent(way: str, warnings: list[str]) -> None:
    """Whichever way events come: one warning for each datastream, and they are sent as they are."""
    connector = FakeConnector()
    lines = [Schedule(datastream_id="other", device_pattern="", first_s=1, period_s=1)]
    dispatcher = EventDispatcher(
        Clock(),
        connector,
        JsonCodec(),
        check_value,
        FakeWallClock(),
        FakeCounters(),
        host_id="dev-1",
        schedules=lines if way == "collected" else (),
    )
    doubtful = NOW_MS // 1000
    if way == "from":
        events = [Event("t", n, at_ms=NOW_MS, from_ms=doubtful + n) for n in range(3)]
    else:
        events = [Event("t", n, at_ms=doubtful + n) for n in range(3)]
    events.append(Event("fine", 1, at_ms=NOW_MS))
    if way == "one":
        for event in events:
            dispatcher.publish(event)
    else:
        dispatcher.publish(events)
    dispatcher.flush_all()
    assert len(warnings) == 1
    assert f"a datapoint of t has the time {doubtful}, which seems to be seconds" in warnings[0]
    assert str(doubtful + 2).encode() in connector.payloads[0]


def test_a_clock_that_was_never_set_is_no_doubt(warnings: list[str]) -> None:
    """Three weeks after a start in 1970 the machine's own time lies where seconds of ours do."""
    now_ms = 21 * 86_400_000
    doubts = TimeDoubts(lambda: now_ms)
    doubts.consider(Event("t", 1, at_ms=now_ms - 5))
    assert warnings == []
    doubts.consider(Event("t", 1, at_ms=1_700_000_000_000_000))
    assert len(warnings) == 1


def test_names_that_never_repeat_are_not_remembered_for_ever(warnings: list[str]) -> None:
    """What is remembered is bounded."""
    doubts = TimeDoubts(lambda: NOW_MS)
    for n in range(MAX_NAMES + 5):
        doubts.consider(Event(f"t{n}", 1, at_ms=20240203))
    assert len(warnings) == MAX_NAMES
