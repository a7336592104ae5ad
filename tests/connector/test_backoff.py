"""The rules of reconnection."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.connector.current import CurrentSettings
from oda.connector.outcome import Lane, Outcome, parse_retry_after
from oda.connector.reconnect import Backoff
from oda.settings import ConnectorSettings

CHANCE = st.floats(0, 1, exclude_max=True)
ALMOST_ONE = 1 - 2**-53
LOST = Outcome(reason="lost")


def backoff_of(max_delay_s: float, random: Callable[[], float], spread_s: float = 0.0) -> Backoff:
    """The delays with these settings."""
    settings = ConnectorSettings(
        host="h", path="/", reconnect_max_delay_s=max_delay_s, reconnect_spread_s=spread_s
    )
    return Backoff(CurrentSettings(settings), random)


def refused(status: int, retry_after_s: float | None = None) -> Outcome:
    return Outcome(reason="refused", http_status=status, retry_after_s=retry_after_s)


DROPPED = Outcome(reason="dropped", was_open=True)
OWN = Outcome(reason="no pong", was_open=True, by_us=True)


@given(st.lists(CHANCE, min_size=1, max_size=80), st.floats(1, 3600))
def test_windows_follow_each_other(chances: list[float], max_delay_s: float) -> None:
    """The n-th attempt in a row comes within the n-th of windows that double and don't overlap, as
    long as two of them fit into the maximum; no pause is longer than that."""
    draws = iter(chances)
    backoff = backoff_of(max_delay_s, lambda: next(draws))
    waited_s = 0.0
    for failures in range(len(chances)):
        delay_s = backoff.next_delay_s(LOST)
        waited_s += delay_s
        assert 0 <= delay_s <= max_delay_s * (1 + 1e-9)
        if 1.5 * 2.0**failures <= max_delay_s:
            begin_s, end_s = 2.0**failures - 1, 2.0 ** (failures + 1) - 1
            assert begin_s - 1e-6 <= waited_s <= end_s + 1e-6


@given(CHANCE)
def test_jitter_is_full(chance: float) -> None:
    """Every moment of a window is as likely: a pause is what was left of the window before, and
    chance times the window."""
    backoff = backoff_of(300, lambda: chance)
    left = 1 - chance
    assert [backoff.next_delay_s(LOST) for _ in range(4)] == [
        pytest.approx(left * before + chance * window)
        for before, window in ((0, 1), (1, 2), (2, 4), (4, 8))
    ]


def test_the_window_doubles_up_to_the_maximum() -> None:
    """The windows are 1, 2, 4 ... seconds, then the maximum for ever."""
    backoff = backoff_of(300, lambda: ALMOST_ONE)
    delays = [backoff.next_delay_s(LOST) for _ in range(2000)]
    assert [round(delay) for delay in delays[:11]] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert set(map(round, delays[9:])) == {300}


@given(st.lists(CHANCE, min_size=12, max_size=12))
def test_at_the_maximum_nothing_is_left_over(chances: list[float]) -> None:
    """Once the windows are as wide as the maximum, a pause is chance times the maximum."""
    draws = iter(chances)
    backoff = backoff_of(300, lambda: next(draws))
    delays = [backoff.next_delay_s(LOST) for _ in range(12)]
    assert delays[9:] == [pytest.approx(300 * chance) for chance in chances[9:]]


def test_only_beginning_anew_resets() -> None:
    """A connection that opens does not make the windows small again; beginning anew does."""
    backoff = backoff_of(300, lambda: ALMOST_ONE)
    for _ in range(5):
        backoff.next_delay_s(LOST)
    backoff.connection_opened()
    assert round(backoff.next_delay_s(OWN)) == 32
    backoff.begin_anew()
    assert round(backoff.next_delay_s(LOST)) == 1


def test_an_open_connection_ends_the_window_before() -> None:
    """What chance had left over of a window says nothing about a connection that came after."""
    backoff = backoff_of(300, lambda: 0.0)
    backoff.next_delay_s(LOST)
    backoff.connection_opened()
    assert backoff.next_delay_s(OWN) == 0
    backoff.begin_anew()
    assert backoff.next_delay_s(OWN) == 0


@given(CHANCE)
def test_a_fault_of_ones_own_is_tried_again_at_once(chance: float) -> None:
    """Nobody else has the same reason: within a second whatever the spread is, then backing off."""
    backoff = backoff_of(300, lambda: chance, spread_s=100)
    assert backoff.next_delay_s(OWN) == pytest.approx(chance)
    assert backoff.next_delay_s(LOST) == pytest.approx(1 - chance + 2 * chance)


@given(CHANCE)
def test_an_end_without_a_word_is_spread(chance: float) -> None:
    """What the platform may have done to all its devices is spread from the first window on, and
    doubles from there; by no more than the maximum."""
    backoff = backoff_of(300, lambda: chance, spread_s=100)
    left = 1 - chance
    assert [backoff.next_delay_s(end) for end in (DROPPED, LOST)] == [
        pytest.approx(100 * chance),
        pytest.approx(100 * left + 200 * chance),
    ]
    backoff.connection_opened()
    assert backoff.next_delay_s(DROPPED) == pytest.approx(300 * chance)
    backoff.begin_anew()
    assert backoff.next_delay_s(DROPPED) == pytest.approx(100 * chance)
    small = backoff_of(10, lambda: chance, spread_s=100)
    assert small.next_delay_s(DROPPED) == pytest.approx(chance * 10)
    none = backoff_of(300, lambda: chance)
    assert none.next_delay_s(DROPPED) == pytest.approx(chance)


def test_a_second_crash_within_a_minute_is_spread_wider() -> None:
    """A platform that collapses under those that come back gets them back more slowly each time,
    however short the connections were."""
    backoff = backoff_of(300, lambda: ALMOST_ONE, spread_s=10)
    delays = []
    for _ in range(4):
        backoff.connection_opened()
        delays.append(round(backoff.next_delay_s(DROPPED)))
    assert delays == [10, 20, 40, 80]


SLOW = [refused(status) for status in (401, 403, 429, 503)] + [
    Outcome(reason="later", was_open=True, close_code=1013),
    Outcome(reason="policy", was_open=True, close_code=1008),
]


@given(st.sampled_from(SLOW), CHANCE)
def test_refusals_take_the_slow_lane(outcome: Outcome, chance: float) -> None:
    """Refused credentials and overload wait at least a third of a minute from the first time on,
    and are spread over a minute and a half."""
    assert outcome.lane is Lane.SLOW
    delay_s = backoff_of(300, lambda: chance).next_delay_s(outcome)
    assert delay_s == pytest.approx(22.5 + chance * 90)


@pytest.mark.parametrize("code", [1001, 1012])
def test_a_platform_that_goes_away_is_not_stormed(code: int) -> None:
    """All its devices hear it at once: the first window is a minute and a half, and doubles from
    there, also when the platform then refuses."""
    lost = Outcome(reason="restart", was_open=True, close_code=code)
    assert lost.lane is Lane.CROWD
    backoff = backoff_of(300, lambda: 0.5)
    assert [backoff.next_delay_s(end) for end in (lost, LOST, LOST, LOST)] == [45, 135, 150, 150]


@pytest.mark.parametrize(
    ("status", "lane"),
    [(403, Lane.SLOW), (407, Lane.SLOW), (503, Lane.SLOW), (502, Lane.PROMPT)],
)
def test_a_refusing_proxy(status: int, lane: Lane) -> None:
    """Haste does not help with a proxy that refuses the device, either."""
    assert Outcome(reason="refused", proxy_status=status).lane is lane


def test_the_slow_lane_keeps_to_the_maximum() -> None:
    """A small reconnectMaxDelay holds for refusals, too."""
    assert backoff_of(10, lambda: ALMOST_ONE).next_delay_s(refused(401)) == pytest.approx(10)
    assert backoff_of(10, lambda: 0.0).next_delay_s(refused(401)) == pytest.approx(2)


@given(CHANCE, st.floats(0, 3600), st.sampled_from([429, 503, 404]))
def test_retry_after_is_a_minimum(chance: float, wish_s: float, status: int) -> None:
    """The platform's wish is never undercut; chance comes on top of it, because every device was
    given the same."""
    delay_s = backoff_of(300, lambda: chance).next_delay_s(refused(status, wish_s))
    window_s = 1 if status == 404 else 90
    least_s = max(wish_s, 0 if status == 404 else 22.5)
    assert delay_s == pytest.approx(least_s + chance * window_s)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("99999999999999999999", 3600.0),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_read(text: str | None, seconds: float | None) -> None:
    """Seconds are read, up to an hour; nonsense is no wish, nor is a date where nobody says what
    time it is."""
    assert parse_retry_after(text) == seconds


@pytest.mark.parametrize(
    ("until", "now", "seconds"),
    [
        ("Sat, 01 Jan 2000 00:00:40 GMT", "Fri, 31 Dec 1999 23:59:00 GMT", 100.0),
        ("Saturday, 01-Jan-00 00:00:40 GMT", "Fri Dec 31 23:59:00 1999", 100.0),
        ("Fri, 31 Dec 1999 23:58:00 GMT", "Fri, 31 Dec 1999 23:59:00 GMT", 0.0),
        ("Fri, 31 Dec 2099 23:58:00 GMT", "Fri, 31 Dec 1999 23:59:00 GMT", 3600.0),
        ("Sat, 01 Jan 2000 00:00:40 GMT", "", None),
        ("Sat, 01 Jan 2000 00:00:40 GMT", "now", None),
        ("Sat, 99 Jan 2000 00:00:40 GMT", "Fri, 31 Dec 1999 23:59:00 GMT", None),
        ("Sat, 01 Jan 99999999999 00:00:40 GMT", "Fri, 31 Dec 1999 23:59:00 GMT", None),
        (",", "Fri, 31 Dec 1999 23:59:00 GMT", None),
    ],
)
def test_retry_after_as_a_date(until: str, now: str, seconds: float | None) -> None:
    """It is read against the Date of the same answer, in each of the three forms of HTTP (RFC 9110,
    section 5.6.7), up to an hour; a date that has passed is no wait."""
    assert parse_retry_after(until, now) == seconds


@given(st.text(), st.text())
def test_whatever_retry_after_says(text: str, date: str) -> None:
    """No words break it."""
    wait_s = parse_retry_after(text, date)
    assert wait_s is None or 0 <= wait_s <= 3600


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1005, 1006, 1008, 1009, 1011, 1012, 1013, 1014, 4000]
)
def test_what_is_replayed(code: int) -> None:
    """Acknowledged messages are replayed after the end of an open connection, but for one that the
    platform ended in good order."""
    assert Outcome(reason="", was_open=True, close_code=code).replay is (code not in (1000, 1001))
    assert Outcome(reason="", was_open=False, close_code=code).replay is False


def test_labels_are_few() -> None:
    """A counter's label holds no words of the platform."""
    assert refused(401).label == "http_401"
    assert Outcome(reason="x", proxy_status=407).label == "proxy_407"
    assert LOST.label == "connect_failed"
    assert Outcome(reason="x", was_open=True, by_us=True).label == "closed_by_agent"
    assert Outcome(reason="x", was_open=True, close_code=1001).label == "close_1001"
