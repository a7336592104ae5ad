"""What the status says, to programs and to people."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oda.model import LinkState
from oda.monitor.counters import Counters
from oda.monitor.status import build_status, duration, render_status, status_line
from tests.monitor.snapshots import NOW_MS, SNAPSHOT, URL, connection, snapshot


def screen(counters: Counters | None = None, **changes: Any) -> str:
    """The screen of an agent, as it comes out on the other side of the socket."""
    status = build_status(snapshot(**changes), counters or Counters())
    return render_status(json.loads(json.dumps(status)))


def test_it_can_be_sent_as_json() -> None:
    """Everything in it is plain data."""
    status = build_status(SNAPSHOT, Counters())
    assert json.loads(json.dumps(status)) == status


def test_counters_are_summed_over_their_labels() -> None:
    """An operator wants totals first."""
    counters = Counters()
    counters.increment("messages_sent", 3, message_class="telemetry")
    counters.increment("messages_sent", 2, message_class="response")
    counters.increment("operations", 5, operation="A", result="SUCCESSFUL")
    counters.increment("operations", 1, operation="B", result="NOT_SUPPORTED")
    status = build_status(SNAPSHOT, counters)
    assert status["messages"]["sent"] == 5
    assert (status["operations"]["answered"], status["operations"]["failed"]) == (6, 1)
    assert status["operations"]["running"] == 4


def test_the_screen_of_an_agent_that_is_well() -> None:
    """Who it is, that it is ready, where it is connected, what waits; on one screen."""
    counters = Counters()
    counters.observe("barrier_round_trip_seconds", 0.042)
    text = screen(counters)
    for words in ("version 1.2.3", "1 d 2 h", "dev-1", "open for 1 min 1 s", URL, "42 ms"):
        assert words in text
    assert "3 waiting, 2 on their way" in text
    assert text.count("acknowledged (with repeats)") == 2
    assert "trouble" not in text
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 100


def test_the_screen_says_why_it_is_not_ready() -> None:
    """The reason of the last end, and when it tries again."""
    text = screen(
        connection=connection(
            state=LinkState.WAITING,
            since_s=2.0,
            retry_in_s=7.25,
            last_end="refused by the platform",
        )
    )
    assert "NO: " in text
    assert "refused by the platform" in text
    assert "next attempt in 7.2 s" in text


def test_troubles_are_listed() -> None:
    """Losses, failures and certificates that end, each with its number."""
    counters = Counters()
    counters.increment("messages_dropped", 12, reason="full")
    counters.increment("readings_failed", 3)
    text = screen(
        counters, connection=connection(platform_certificate_ends_ms=NOW_MS + 3 * 86_400_000)
    )
    assert "12 messages dropped" in text
    assert "3 readings failed" in text
    assert "ends in 3 days" in text


def test_a_platform_without_pongs_is_named() -> None:
    """Otherwise nobody would know that nothing is acknowledged."""
    assert "answers no pings" in screen(connection=connection(peer_class="none"))


@pytest.mark.parametrize(
    ("changes", "pending", "line"),
    [
        ({}, 7, f"connected to {URL}"),
        ({"state": LinkState.CONNECTING}, 0, "not connected (connecting)"),
        (
            {"state": LinkState.WAITING, "last_end": "refused"},
            7,
            "not connected (waiting): refused; 7 messages waiting",
        ),
    ],
)
def test_the_line_for_systemd(changes: dict[str, Any], pending: int, line: str) -> None:
    """One line without anything that changes every second while all is well."""
    assert status_line(connection(**changes), pending) == line


def test_the_line_names_an_overdue_pong() -> None:
    """Connected, but not ready: both are said."""
    line = status_line(connection(ping_waits_s=31.0), 0)
    assert line.startswith(f"connected to {URL}, but ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "0 s"),
        (59.0, "59 s"),
        (60.0, "1 min 0 s"),
        (3599.0, "59 min 59 s"),
        (3600.0, "1 h 0 min"),
        (86_399.0, "23 h 59 min"),
        (1_483_200.0, "17 d 4 h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    """The larger ones are enough."""
    assert duration(seconds) == text


def test_readings_that_wait_for_the_clock_are_a_trouble() -> None:
    """An operator who misses readings learns that they are there, and why they wait."""
    assert "7 datapoints wait until the clock is right" in screen(undated=7)
