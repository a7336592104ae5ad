"""Every kind of end leads to the lane that the table says."""

from __future__ import annotations

import errno

import pytest
from twisted.internet.error import (
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    UserError,
)
from twisted.python.failure import Failure

from oda.connector.outcome import LANES, Cause, Lane, Outcome, describe_connect_failure


def by_code(close_code: int) -> Outcome:
    return Outcome(reason="", was_open=True, close_code=close_code)


def by_status(http_status: int) -> Outcome:
    return Outcome(reason="", http_status=http_status)


def by_proxy(proxy_status: int) -> Outcome:
    return Outcome(reason="", proxy_status=proxy_status)


#: For each row of the table: ends that it stands for.
ENDS = {
    (Cause.AGENT, Lane.PROMPT): [
        Outcome(reason="no pong", was_open=True, by_us=True),
        Outcome(reason="the answer to our close", was_open=True, by_us=True, close_code=1001),
    ],
    (Cause.NETWORK, Lane.PROMPT): [Outcome(reason="timed out", was_open=True, by_network=True)],
    (Cause.FAILED, Lane.PROMPT): [Outcome(reason="can't find the address of x")],
    (Cause.DROPPED, Lane.SPREAD): [Outcome(reason="reset", was_open=True)],
    (Cause.BREACH, Lane.SPREAD): [
        Outcome(reason="a masked frame", was_open=True, by_us=True, close_code=1002)
    ],
    (Cause.CLOSED, Lane.CROWD): [by_code(1001), by_code(1012)],
    (Cause.CLOSED, Lane.SLOW): [by_code(1008), by_code(1013)],
    (Cause.CLOSED, Lane.PROMPT): [by_code(code) for code in (1002, 1003, 1007, 1009, 1010)],
    (Cause.CLOSED, Lane.SPREAD): [by_code(code) for code in (1000, 1005, 1011, 1014, 3000, 4999)],
    (Cause.REFUSED, Lane.SLOW): [by_status(status) for status in (401, 403, 429, 503)],
    (Cause.PROXY, Lane.SLOW): [by_proxy(status) for status in (403, 407, 429, 503)],
    (Cause.PROXY, Lane.PROMPT): [by_proxy(status) for status in (400, 502, 504)],
    (Cause.REFUSED, Lane.PROMPT): [by_status(status) for status in (200, 302, 404, 500, 502, 504)],
}


@pytest.mark.parametrize("row", LANES, ids=lambda row: f"{row[0].name}-{row[2].name}")
def test_each_row_of_the_table(row: tuple[Cause, frozenset[int], Lane]) -> None:
    """A row gives its lane to the ends of its cause, and the examples name each of its numbers."""
    cause, numbers, lane = row
    ends = ENDS[cause, lane]
    assert {end.cause for end in ends} == {cause}
    assert {end.lane for end in ends} == {lane}
    if numbers:
        assert numbers == {end.proxy_status or end.http_status or end.close_code for end in ends}


def test_the_table_has_a_row_for_everything() -> None:
    """Each cause has one last row for all numbers, so that no end is without a lane."""
    for cause in Cause:
        rows = [numbers for row, numbers, _ in LANES if row is cause]
        assert [not numbers for numbers in rows] == [False] * (len(rows) - 1) + [True]


def test_a_close_frame_says_more_than_the_network() -> None:
    """Once the platform has said why it closes, the state of the network changes nothing."""
    end = Outcome(reason="", was_open=True, close_code=1012, by_network=True)
    assert end.lane is Lane.CROWD


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "whatever"), "Connection refused"),
        (NoRouteError(errno.EHOSTUNREACH), "No route to host"),
        (UserError(), "User aborted connection"),
        (DNSLookupError("no results for hostname lookup: x"), "DNS lookup failed: no results"),
    ],
)
def test_why_no_connection_could_be_made_is_said_once(error: Exception, text: str) -> None:
    """The system's reason stands alone; Twisted's stands where the system gave none."""
    said = describe_connect_failure(Failure(error))
    assert said.startswith(text)
    assert said.count("efused") <= 1
