"""How late the reactor is."""

from __future__ import annotations

from twisted.internet.task import Clock

from oda.monitor.counters import Counters
from oda.monitor.latency import INTERVAL_S, ReactorLatency


def test_a_punctual_reactor_has_no_latency() -> None:
    """Called on time, it measures nothing."""
    clock = Clock()
    latency = ReactorLatency(clock, Counters())
    latency.start()
    clock.pump([INTERVAL_S] * 5)
    assert (latency.last_s, latency.max_s) == (0.0, 0.0)


def test_a_blocked_reactor_shows_for_how_long() -> None:
    """A reactor that serves nothing for 3.5 s is 2.5 s late with what was due after 1 s; then it is
    punctual again, and the worst is remembered."""
    clock, counters = Clock(), Counters()
    latency = ReactorLatency(clock, counters)
    latency.start()
    clock.advance(3.5)
    assert latency.last_s == 2.5
    clock.advance(0.5)
    assert (latency.last_s, latency.max_s) == (0.0, 2.5)
    (summary,) = counters.summaries().values()
    assert (summary.count, summary.total) == (2, 2.5)


def test_the_worst_is_forgotten_after_five_minutes() -> None:
    """An agent that was slow once is not called slow for ever."""
    clock = Clock()
    latency = ReactorLatency(clock, Counters())
    latency.start()
    clock.advance(3.5)
    clock.advance(0.5)
    clock.pump([INTERVAL_S] * 300)
    assert latency.max_s == 0.0


def test_stopping_leaves_no_timer() -> None:
    """Nothing is left behind."""
    clock = Clock()
    latency = ReactorLatency(clock, Counters())
    latency.start()
    latency.stop()
    assert clock.getDelayedCalls() == []


def test_the_agents_of_a_process_share_one_timer() -> None:
    """However many they are; each counts the measurements while it runs, and the last that stops
    ends them."""
    clock, counters = Clock(), [Counters() for _ in range(3)]
    latencies = [ReactorLatency(clock, one) for one in counters]
    latencies[0].start()
    clock.advance(3.5)
    for latency in latencies[1:]:
        latency.start()
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0.5)
    latencies[0].stop()
    latencies[1].stop()
    clock.advance(1.0)
    counted = [one.summaries()["reactor_latency_seconds", ()].count for one in counters]
    assert counted == [2, 1, 2]
    assert latencies[0].max_s == 2.5
    latencies[2].stop()
    assert clock.getDelayedCalls() == []


def test_measuring_can_begin_again() -> None:
    """After a stop, and twice is once."""
    clock, counters = Clock(), Counters()
    latency = ReactorLatency(clock, counters)
    latency.start()
    clock.advance(1.5)
    latency.stop()
    latency.stop()
    clock.advance(10.0)
    latency.start()
    latency.start()
    clock.advance(1.0)
    assert latency.max_s == 0.5
    assert counters.summaries()["reactor_latency_seconds", ()].count == 2
    latency.stop()
    assert clock.getDelayedCalls() == []
