"""What the status says, to programs and to people."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock

from oda.model import LinkState
from oda.monitor.counters import Counters
from oda.monitor.status import build_status, duration, render_status, status_line
from oda.troubles import Trouble, TroubleKind
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
    assert "3 waiting, 2 in flight, 1 lingering" in text
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


def test_what_is_wrong_is_listed() -> None:
    """What is wrong now: its kind, what it is about, for how long. What happened since the start:
    how often, and when first."""
    seconds = Clock()
    counters = Counters(seconds.seconds)
    seconds.advance(40.0)
    counters.increment("messages_dropped", 12, reason="full")
    seconds.advance(60.0)
    counters.increment("messages_dropped", 1, reason="age")
    trouble = Trouble(
        kind=TroubleKind.READING, subject="t of the host", text="no such file", since_s=90.0
    )
    shown = {"now_s": 100.0, "troubles": (trouble,)}
    status = build_status(snapshot(**shown), counters)
    assert status["state"] == "troubled"
    assert status["troubles"] == [
        {
            "code": "reading",
            "subject": "t of the host",
            "text": "no such file",
            "since_ms": NOW_MS - 10_000,
            "for_s": 10.0,
        }
    ]
    assert status["incidents"] == [
        {
            "code": "messages_dropped",
            "count": 13,
            "text": "messages dropped",
            "since_ms": NOW_MS - 60_000,
        }
    ]
    text = screen(counters, **shown)
    assert "yes, but something is wrong" in text
    assert "reading: t of the host: no such file (for 10 s)" in text
    assert "13 messages dropped, the first 2023-11-14 22:12:20Z" in text


def test_a_thousand_troubles_are_one_screen() -> None:
    """The first ten, and how many more there are."""
    troubles = tuple(
        Trouble(kind=TroubleKind.READING, subject=str(number), text="bad", since_s=0.0)
        for number in range(1000)
    )
    text = screen(troubles=troubles)
    assert "and 990 more" in text
    assert text.count("reading: ") == 10


def test_the_line_of_systemd_names_kinds_of_trouble() -> None:
    """Each once, without anything that changes from second to second."""
    trouble = Trouble(kind=TroubleKind.DISK, subject="", text="full", since_s=0.0)
    line = status_line(connection(), 0, [trouble, trouble])
    assert line == f"connected to {URL}; trouble: disk"


def test_a_platform_without_pongs_is_named() -> None:
    """Otherwise nobody would know that nothing is acknowledged."""
    assert "answers no pings" in screen(connection=connection(peer_class="none"))


@pytest.mark.parametrize(
    ("changes", "waiting", "line"),
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
def test_the_line_for_systemd(changes: dict[str, Any], waiting: int, line: str) -> None:
    """One line without anything that changes every second while all is well."""
    assert status_line(connection(**changes), waiting) == line


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
