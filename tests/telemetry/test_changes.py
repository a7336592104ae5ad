"""Deadband, change-only publishing and the maximum silence of a line of the poller."""

from __future__ import annotations

import re
from typing import Any

import pytest
from twisted.internet.defer import fail
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from oda.config.lines import read_poll, read_schedule
from oda.errors import OutboxFull
from oda.interfaces import IChangeFilter
from oda.model import DatastreamValue, ValueStatus
from oda.settings import OnChange, Schedule
from oda.telemetry.changes import ChangeFilter
from oda.telemetry.poller import Poller
from oda.telemetry.realtime import RealtimeStateManager
from tests.telemetry.fakes import NOW_MS, FakeAccess, FakeCounters, FakeDispatcher


def passed(values: list[Any], **settings: float) -> list[Any]:
    """Which of these values, read one a second, are published."""
    clock = Clock()
    changes = ChangeFilter(OnChange(**settings), clock.seconds)
    assert verifyObject(IChangeFilter, changes)
    found = []
    for value in values:
        if changes.passes(DatastreamValue("t", "", ValueStatus.OK, value, NOW_MS)):
            found.append(value)
        clock.advance(1)
    return found


@pytest.mark.parametrize(
    ("values", "published"),
    [
        ([1, 1, 2, 2, 1], [1, 2, 1]),
        (["a", "a", "b"], ["a", "b"]),
        ([{"x": 1}, {"x": 1}, {"x": 2}], [{"x": 1}, {"x": 2}]),
        ([True, 1, 1.0, False, 0], [True, 1, False, 0]),
        ([0, "0", 0], [0, "0", 0]),
    ],
)
def test_only_changes_are_published(values: list[Any], published: list[Any]) -> None:
    """Equal numbers are equal whatever their type; true is not 1, and a text is no number."""
    found = passed(values)
    assert [(type(one), one) for one in found] == [(type(one), one) for one in published]


def test_a_number_within_the_deadband_is_not_published() -> None:
    """It is compared with the last published one: a slow drift is published in the end."""
    assert passed([20.0, 20.25, 20.5, 20.75, 21.0, 21.25], deadband=0.5) == [20.0, 20.75]
    assert passed(["a", "b"], deadband=5) == ["a", "b"]


def test_after_the_maximum_silence_any_value_is_published() -> None:
    """Counted from the last published value; 0 is no limit."""
    assert len(passed([1] * 10, max_silence_s=4)) == 3
    assert len(passed([1] * 10, max_silence_s=0)) == 1


class Bench:
    """A poller with the realtime state manager on a clock, and what it publishes."""

    def __init__(self, *lines: Schedule) -> None:
        self.clock = Clock()
        self.access = FakeAccess({("", "t"): 1, ("d", "t"): 1})
        self.events = FakeDispatcher()
        clock: Any = self.clock
        self.poller = Poller(
            clock, RealtimeStateManager(self.access, self.events, clock), FakeCounters(), lines
        )
        self.poller.start()

    def published(self) -> list[tuple[str, Any]]:
        """What was published since the last call."""
        found = [(event.device_id, event.value) for event in self.events.events]
        self.events.events.clear()
        return found


def test_the_poller_publishes_changes_of_each_device() -> None:
    """The devices of a pattern are apart; a line without the option publishes every value."""
    bench = Bench(read_poll("t;*", "1;onChange"))
    bench.clock.pump([1, 1])
    assert sorted(bench.published()) == [("", 1), ("d", 1)]
    bench.access.values[("d", "t")] = 2
    bench.clock.pump([1, 1])
    assert bench.published() == [("d", 2)]
    bench.poller.set_schedules([read_poll("t", "1")])
    bench.clock.pump([1, 1])
    assert bench.published() == [("", 1), ("", 1)]


def test_a_line_that_stays_remembers_what_it_has_published() -> None:
    """A reload of other lines publishes nothing again; a line with other options begins anew."""
    line = read_poll("t", "1;onChange")
    bench = Bench(line)
    bench.clock.advance(1)
    bench.published()
    bench.poller.set_schedules([line, read_poll("other", "5")])
    bench.clock.advance(1)
    assert bench.published() == []
    bench.poller.set_schedules([read_poll("t", "1;onChange;deadband=2")])
    bench.clock.advance(1)
    assert bench.published() == [("", 1)]


def test_a_value_that_was_not_accepted_is_published_at_the_next_reading() -> None:
    """Nothing is lost silently: what the outbox refused does not count as published."""
    bench = Bench(read_poll("t", "1;onChange"))
    accept = bench.events.answer
    bench.events.answer = lambda event: fail(OutboxFull("full"))
    bench.clock.advance(1)
    bench.events.answer = accept
    bench.published()
    bench.clock.advance(1)
    assert bench.published() == [("", 1)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("30;onChange", OnChange()),
        ("5;30;ONCHANGE", OnChange()),
        ("30;deadband=0.5", OnChange(deadband=0.5)),
        ("30; onChange; deadband = 2; maxSilence=0;", OnChange(deadband=2, max_silence_s=0)),
        ("30", None),
        ("5;30;", None),
    ],
)
def test_the_options_of_a_line(text: str, wanted: OnChange | None) -> None:
    """They follow the period; a line without them means what it always did."""
    line = read_poll("t", text)
    assert line.on_change == wanted
    assert line.period_s == 30
    if wanted is None:
        assert line == read_schedule("t", text)


@pytest.mark.parametrize(
    "text",
    [
        *("30;onchange=1", "30;deadband", "30;deadband=x", "30;often", "onChange"),
        *("30;onChange;onChange", "30;maxSilence=-1", "30;deadband=1;60"),
    ],
)
def test_a_wrong_option_is_a_fault(text: str) -> None:
    """A misspelt option would publish everything, or nothing."""
    with pytest.raises(ValueError, match=r"option|number|schedule|twice|no value"):
        read_poll("t", text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("30;onChange=true", "onChange takes no value"),
        ("30;deadband", "deadband must be a number from 0 to 1000000000"),
        ("30;often", "'often' is not an option"),
    ],
)
def test_the_fault_says_what_is_wrong_with_the_option(text: str, fault: str) -> None:
    """An option that exists is never called unknown."""
    with pytest.raises(ValueError, match=f"^{re.escape(fault)}"):
        read_poll("t", text)
