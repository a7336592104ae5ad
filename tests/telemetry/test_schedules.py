"""The timetable: when lines are due, what is left out, and what a change restarts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher

from oda.settings import Schedule
from oda.telemetry.schedules import Timetable


def line(name: str, first: float, period: float, device: str = "") -> Schedule:
    return Schedule(datastream_id=name, device_pattern=device, first_s=first, period_s=period)


class Rig:
    """A timetable whose action records ``(seconds, name)``."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.runs: list[tuple[float, str]] = []
        self.missed = 0
        self.answers: dict[str, Deferred[None]] = {}
        self.timetable = Timetable(self.clock, self.act, self.tick_ended)

    def act(self, line: Schedule) -> Deferred[None] | None:
        self.runs.append((round(self.clock.seconds(), 6), line.datastream_id))
        return self.answers.get(line.datastream_id)

    def tick_ended(self, missed: int) -> None:
        self.missed += missed

    def times(self, name: str) -> list[float]:
        return [seconds for seconds, other in self.runs if other == name]


def test_first_then_period() -> None:
    """A line is due after ``first``, and then every ``period``."""
    rig = Rig()
    rig.timetable.apply([line("a", 3, 10)])
    rig.clock.pump([0.5] * 50)
    assert rig.times("a") == [3, 13, 23]
    assert rig.missed == 0


def test_period_0_is_once() -> None:
    """A line with period 0 is due once, and applying the same lines again does not repeat it."""
    rig = Rig()
    rig.timetable.apply([line("a", 2, 0)])
    rig.clock.advance(100)
    rig.timetable.apply([line("a", 2, 0), line("b", 1, 0)])
    rig.clock.advance(100)
    assert [name for _, name in rig.runs] == ["a", "b"]
    assert rig.clock.getDelayedCalls() == []


@pytest.mark.parametrize("period", [1.0, 0.1, 0.7])
def test_it_does_not_drift(period: float) -> None:
    """However late each single tick comes, the next is due on the grid that the first began: in a
    thousand periods there are a thousand ticks, and none counts as missed."""
    rig = Rig()
    rig.timetable.apply([line("a", period, period)])
    step = period / 7
    while rig.clock.seconds() < 1001.5 * period:
        rig.clock.advance(step)
    times = rig.times("a")
    assert len(times) in (1000, 1001)
    for number, seconds in enumerate(times):
        assert -1e-6 <= seconds - times[0] - number * period <= step + 1e-5
    assert rig.missed == 0


def test_a_slow_action_is_not_begun_twice() -> None:
    """While the action of a line has not ended it is left out, alone, and that is counted; after
    it has ended it is due on the old grid."""
    rig = Rig()
    rig.answers["slow"] = Deferred()
    rig.timetable.apply([line("slow", 1, 1), line("quick", 1, 1)])
    rig.clock.pump([1] * 4)
    assert rig.times("slow") == [1]
    assert rig.times("quick") == [1, 2, 3, 4]
    assert rig.missed == 3
    rig.clock.advance(0.5)
    rig.answers.pop("slow").callback(None)
    rig.clock.advance(0.5)
    assert rig.times("slow") == [1, 5]
    assert rig.missed == 3


def test_a_blocked_reactor_is_counted() -> None:
    """Ticks that the reactor could not begin are not made up for, but counted for every line."""
    rig = Rig()
    rig.timetable.apply([line("a", 1, 1), line("b", 1, 1)])
    rig.clock.advance(1)
    rig.clock.advance(3.5)
    assert len(rig.times("a")) == 2
    assert rig.missed == 2 * 2
    rig.clock.advance(0.5)
    assert rig.times("a")[-1] == 5


def test_a_failing_action_does_not_stop_the_others() -> None:
    """An action that raises is logged, one whose Deferred fails is over; both are due again."""
    clock = Clock()
    begun: list[str] = []

    def act(line: Schedule) -> Deferred[Any] | None:
        begun.append(line.datastream_id)
        if line.datastream_id == "raises":
            raise ZeroDivisionError("a defect")
        return fail(ValueError("expected")) if line.datastream_id == "fails" else None

    logged: list[Any] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        timetable = Timetable(clock, act)
        timetable.apply([line("raises", 1, 1), line("fails", 1, 1), line("works", 1, 1)])
        clock.pump([1, 1])
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert begun == ["raises", "fails", "works"] * 2
    defects = [event for event in logged if event["log_level"] is LogLevel.critical]
    assert [event["datastream_id"] for event in defects] == ["raises", "raises"]


def test_only_what_changed_restarts() -> None:
    """After a change, lines that stay keep their rhythm, new ones wait for their ``first`` (also
    when an old line has the same times), changed ones begin anew, removed ones end."""
    rig = Rig()
    rig.timetable.apply([line("stays", 4, 4), line("changes", 4, 4), line("goes", 4, 4)])
    rig.clock.pump([1] * 6)
    rig.timetable.apply([line("stays", 4, 4), line("changes", 1, 4), line("new", 4, 4)])
    rig.clock.pump([1] * 8)
    assert rig.times("stays") == [4, 8, 12]
    assert rig.times("goes") == [4]
    assert rig.times("changes") == [4, 7, 11]
    assert rig.times("new") == [10, 14]


def test_lines_with_the_same_times_share_a_timer() -> None:
    """Thousands of lines cost as many delayed calls as there are different times."""
    rig = Rig()
    rig.timetable.apply(
        [line(f"d{number}", first, 1) for number in range(2000) for first in (1, 2)]
    )
    assert len(rig.clock.getDelayedCalls()) == 2
    rig.clock.advance(1)
    assert len(rig.runs) == 2000


def test_stop_leaves_nothing() -> None:
    """No delayed call is left, and nothing is due any more; it can begin again."""
    rig = Rig()
    lines = [line("a", 1, 1), line("b", 5, 5), line("c", 9, 0)]
    rig.timetable.apply(lines)
    rig.clock.advance(2)
    rig.timetable.stop()
    assert rig.clock.getDelayedCalls() == []
    rig.timetable.stop()
    rig.runs.clear()
    rig.timetable.apply(lines)
    rig.clock.advance(1)
    assert [name for _, name in rig.runs] == ["a"]


def test_an_action_may_change_the_lines() -> None:
    """Applying other lines from inside an action, or stopping, is safe."""
    clock = Clock()
    begun: list[str] = []

    def act(line_: Schedule) -> None:
        begun.append(line_.datastream_id)
        timetable.apply([line("b", 1, 1)])
        if line_.datastream_id == "b":
            timetable.stop()

    timetable = Timetable(clock, act)
    timetable.apply([line("a", 1, 1)])
    clock.pump([1] * 5)
    assert begun == ["a", "b"]
    assert clock.getDelayedCalls() == []


lines = st.builds(
    line,
    st.sampled_from("abc"),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([0, 1, 2]),
    st.sampled_from(["", "dev", "*"]),
)


@settings(max_examples=50)
@given(st.lists(st.lists(lines, max_size=6), min_size=1, max_size=6))
def test_any_changes_leave_as_many_timers_as_needed(steps: list[list[Schedule]]) -> None:
    """After any sequence of changes exactly the last lines are in force, no line has two timers,
    and removing all leaves no delayed call."""
    clock = Clock()
    begun: list[Schedule] = []

    def act(due: Schedule) -> None:
        begun.append(due)

    timetable = Timetable(clock, act)
    for wanted in steps:
        timetable.apply(wanted)
        assert timetable.lines == set(wanted)
        clock.advance(1)
    begun.clear()
    clock.pump([1] * 12)
    for wanted_line in set(steps[-1]):
        if wanted_line.period_s:
            number = begun.count(wanted_line)
            assert 12 / wanted_line.period_s - 2 <= number <= 12 / wanted_line.period_s
    assert set(begun) <= set(steps[-1])
    timetable.apply([])
    assert clock.getDelayedCalls() == []
