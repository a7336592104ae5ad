"""The reactor's timers must not follow the wall clock."""

from __future__ import annotations

import pytest
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock

from oda.monotonic import install_monotonic_clock


@pytest.fixture
def reactor() -> SelectReactor:
    """A reactor of the default kind, that nobody runs."""
    return SelectReactor()


def test_stepping_the_wall_clock_fires_no_timer_and_stalls_none(
    reactor: SelectReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of the wall clock by an hour, either way, changes nothing about a 30 s timer."""
    now_s = [1000.0]
    install_monotonic_clock(reactor, lambda: now_s[0])
    fired: list[float] = []
    for step_s in (3600.0, -3600.0):
        fired.clear()
        monkeypatch.setattr("time.time", lambda step_s=step_s: 1_700_000_000.0 + step_s)
        reactor.callLater(30, lambda: fired.append(now_s[0]))
        start_s = now_s[0]
        reactor.runUntilCurrent()
        assert fired == [], "the step alone fired the timer"
        now_s[0] = start_s + 29.9
        reactor.runUntilCurrent()
        assert fired == []
        now_s[0] = start_s + 30.1
        reactor.runUntilCurrent()
        assert fired == [now_s[0]], "the timer did not fire when its 30 s were over"


def test_calls_scheduled_before_keep_their_remaining_time(reactor: SelectReactor) -> None:
    """An embedder may have scheduled calls before the agent was created."""
    fired: list[str] = []
    call = reactor.callLater(60, fired.append, "a")
    now_s = [5.0]
    install_monotonic_clock(reactor, lambda: now_s[0])
    assert call.getTime() == pytest.approx(65.0, abs=1.0)
    now_s[0] = 63.0
    reactor.runUntilCurrent()
    assert fired == []
    call.reset(10)
    now_s[0] = 73.5
    reactor.runUntilCurrent()
    assert fired == ["a"]


def test_installing_twice_changes_nothing(reactor: SelectReactor) -> None:
    """Several agents may share a reactor."""
    install_monotonic_clock(reactor, lambda: 7.0)
    call = reactor.callLater(1, lambda: None)
    install_monotonic_clock(reactor, lambda: 99.0)
    assert reactor.seconds() == 7.0
    assert call.getTime() == 8.0


def test_a_clock_of_its_own_is_left_alone() -> None:
    """A test's Clock decides its time itself."""
    clock = Clock()
    install_monotonic_clock(clock, lambda: 7.0)
    assert clock.seconds() == 0.0
