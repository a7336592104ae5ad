"""The window of what is on its way, as a rule of numbers."""

from __future__ import annotations

import pytest

from oda.connector.current import CurrentSettings
from oda.connector.window import FIRST_BYTES, LEAST_BYTES, PINGS, SendWindow
from oda.settings import ConnectorSettings

MAX = 1 << 20


def window_of(max_bytes: int, pong_timeout_s: float) -> SendWindow:
    """A window with this time limit of the pong."""
    settings = ConnectorSettings(host="h", path="/", pong_timeout_s=pong_timeout_s)
    return SendWindow(max_bytes, CurrentSettings(settings))


def full_round(window: SendWindow, now_s: float, round_trip_s: float, size: int) -> None:
    """A pong after ``round_trip_s`` proves ``size`` bytes of a window that was full."""
    window.filled()
    window.round_trip(round_trip_s)
    window.proven(now_s, size)


def test_it_begins_small_and_within_the_configured_limit() -> None:
    """A link is not known at first; a smaller limit holds from the beginning."""
    assert window_of(MAX, 30.0).size_bytes == FIRST_BYTES
    assert window_of(1500, 30.0).size_bytes == 1500
    assert not window_of(MAX, 30.0).is_narrow


@pytest.mark.parametrize(("round_trip_s", "factor"), [(0.1, 8), (0.11, 2)])
def test_it_grows_by_a_factor_at_most(round_trip_s: float, factor: int) -> None:
    """However quick the first pongs are: one sample says little."""
    window = window_of(MAX, 30.0)
    window.begins(0.0)
    full_round(window, round_trip_s, round_trip_s, FIRST_BYTES)
    assert window.size_bytes == factor * FIRST_BYTES
    assert window.is_narrow


def test_it_is_what_the_link_carries_in_the_time_of_a_round_trip_and_a_queue() -> None:
    """With 1,000 bytes a second and a round trip of 1 s: the queue is 3 s."""
    window = window_of(MAX, 30.0)
    window.begins(0.0)
    full_round(window, 1.0, 1.0, 1000)
    for second in range(2, 12):
        full_round(window, float(second), 4.0, 1000)
    assert window.size_bytes == 4000
    assert window.step_bytes == 4000 // PINGS


@pytest.mark.parametrize(("pong_timeout_s", "queue_s"), [(30.0, 3.0), (300.0, 3.0), (5.0, 0.5)])
def test_the_queue_is_a_tenth_of_the_time_limit(pong_timeout_s: float, queue_s: float) -> None:
    """So a ping behind it is answered long before the limit; never more than 3 s."""
    window = window_of(MAX, pong_timeout_s)
    window.begins(0.0)
    for second in range(1, 12):
        full_round(window, float(second), 1.0, 10_000)
    assert window.size_bytes == 10_000 * (1.0 + queue_s)


def test_a_long_round_trip_needs_a_longer_queue() -> None:
    """A quarter of the window comes back at once: without 0.4 of the round trip the link would
    stand still until then."""
    window = window_of(MAX, 30.0)
    window.begins(0.0)
    for number in range(1, 12):
        full_round(window, 10.0 * number, 10.0, 10_000)
    assert window.size_bytes == 1000 * (10.0 + 4.0)


def test_one_pong_that_was_held_up_says_nothing() -> None:
    """The best of three samples counts; three slow ones in a row are a slower link."""
    window = window_of(MAX, 30.0)
    window.begins(0.0)
    for second in range(1, 6):
        full_round(window, float(second), 1.0, 4000)
    before = window.size_bytes
    for number in range(1, 3):
        full_round(window, 5.0 + 20.0 * number, 20.0, 4000)
        assert window.size_bytes == before
    full_round(window, 65.0, 20.0, 4000)
    assert window.size_bytes < before / 5


def test_it_has_a_least_size() -> None:
    """Something has to be on its way."""
    window = window_of(MAX, 30.0)
    window.begins(0.0)
    for number in range(1, 10):
        full_round(window, 1000.0 * number, 0.2, 10)
    assert window.size_bytes == LEAST_BYTES


def test_what_is_not_used_shrinks() -> None:
    """By half with each pong, to four times what was on its way, and not below the beginning: the
    next backlog may meet another link."""
    window = window_of(MAX, 30.0)
    window.begins(0.0)
    for number in range(1, 9):
        full_round(window, 0.01 * number, 0.01, 100_000)
    assert window.size_bytes == MAX
    assert not window.is_narrow
    window.proven(1.0, 100_000)
    assert window.size_bytes == MAX // 2
    window.proven(2.0, 100_000)
    assert window.size_bytes == 400_000
    for second in range(3, 20):
        window.proven(float(second), 100)
    assert window.size_bytes == FIRST_BYTES
    window.proven(30.0, 0)
    assert window.size_bytes == FIRST_BYTES, "a pong that proves nothing changes nothing"


def test_a_time_without_reading_is_no_sample() -> None:
    """Pongs that the agent did not read say nothing about the link."""
    window = window_of(MAX, 30.0)
    window.begins(0.0)
    for number in range(1, 9):
        full_round(window, 0.01 * number, 0.01, 100_000)
    window.filled()
    window.interrupted()
    window.proven(500.0, 100_000)
    assert window.size_bytes >= MAX // 2


def test_pongs_at_once_are_one_sample_of_the_time_before() -> None:
    """Pongs that were held up and come in the same moment do not measure a rate without bound: what
    they prove has arrived in the time since the pong before them."""
    window = window_of(1 << 20, 30.0)
    window.round_trip(0.2)
    window.begins(0.0)
    for turn in range(1, 9):
        for _ in range(4):
            window.filled()
            window.proven(10.0 * turn, 2500)
    assert window.size_bytes <= 1000 * (0.2 + 3.0)
