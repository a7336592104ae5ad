"""Sessions made of a platform's record."""

from __future__ import annotations

from oda.platform.recording import RecordedConnection, RecordedMessage
from oda.platform.tape.from_record import session_from_record
from oda.platform.tape.session_file import Side, What


def message(number: int, connection: int, at_ms: int, direction: str = "in") -> RecordedMessage:
    payload = b"%d" % number
    return RecordedMessage(number, connection, 1, "d", direction, at_ms, 1, None, False, payload)


def connection(
    number: int, opened_ms: int, closed_ms: int | None, code: int | None = 1000
) -> RecordedConnection:
    return RecordedConnection(number, "d", "p", opened_ms, closed_ms, code, "", 0, 0, 0, 0)


def test_messages_lie_between_opening_and_closing() -> None:
    """In the record's order, times from the first opening; the end without a frame has no code."""
    session = session_from_record(
        [message(1, 1, 105), message(2, 1, 110, "out"), message(3, 2, 130)],
        [connection(1, 100, 110), connection(2, 130, 140, 1006)],
    )
    assert session.started_ms == 100
    assert [
        (entry.at_ms, entry.connection, entry.what, entry.side) for entry in session.entries
    ] == [
        (0, 1, What.OPEN, None),
        (5, 1, What.MESSAGE, Side.DEVICE),
        (10, 1, What.MESSAGE, Side.PLATFORM),
        (10, 1, What.CLOSE, None),
        (30, 2, What.OPEN, None),
        (30, 2, What.MESSAGE, Side.DEVICE),
        (40, 2, What.CLOSE, None),
    ]
    assert [entry.code for entry in session.entries if entry.what is What.CLOSE] == [1000, None]


def test_a_clock_that_was_set_back_changes_no_order() -> None:
    """The numbers count: times that run backwards wait for the order."""
    session = session_from_record(
        [message(1, 1, 1000), message(2, 1, 10), message(3, 1, 20)], [connection(1, 990, 30)]
    )
    assert [entry.what for entry in session.entries] == [
        What.OPEN,
        *[What.MESSAGE] * 3,
        What.CLOSE,
    ]
    assert [entry.payload for entry in session.entries[1:4]] == [b"1", b"2", b"3"]
    assert [entry.at_ms for entry in session.entries] == [0, 10, 10, 10, 10]


def test_what_is_not_whole_is_left_out() -> None:
    """Messages of a connection that is no longer on record. An open connection has no end."""
    session = session_from_record([message(1, 1, 5), message(2, 2, 6)], [connection(2, 6, None)])
    assert [(entry.connection, entry.what) for entry in session.entries] == [
        (2, What.OPEN),
        (2, What.MESSAGE),
    ]
