"""What was sent and is not yet proven to have arrived: counts in, rows out, in order of sending."""

from __future__ import annotations

from oda.connector.session import Flight, Sent
from oda.model import MessageClass

RESPONSE, TELEMETRY = MessageClass.RESPONSE, MessageClass.TELEMETRY


def flight_of(*messages: Sent) -> Flight:
    flight = Flight()
    flight.messages.extend(messages)
    flight.size_bytes = sum(size for _, size, _, _ in messages)
    return flight


def test_rows_are_found_by_their_order() -> None:
    """A count that grows proves the rows up to it, once; a message that is no row is none."""
    flight = flight_of((4, 10, TELEMETRY, 2), (None, 5, TELEMETRY, 0), (5, 20, RESPONSE, 0))
    assert flight.row_ids == [4, None, 5]
    assert flight.arrived(2) == ([4], [(TELEMETRY, 2)])
    assert flight.size_bytes == 20
    assert flight.arrived(2) == ([], [])
    assert flight.arrived(3) == ([5], [(RESPONSE, 0)])
    assert flight.acknowledged == {TELEMETRY: 4, RESPONSE: 5}
    assert flight.size_bytes == 0


def test_answers_let_go_are_not_retired_again() -> None:
    """They leave the window at once; their arrival still counts, but gives no row to retire."""
    flight = flight_of((0, 10, RESPONSE, 0), (7, 20, TELEMETRY, 1), (8, 30, RESPONSE, 0))
    assert flight.let_answers_go() == [0, 8]
    assert (flight.size_bytes, flight.let_go) == (20, {0, 8})
    assert flight.row_ids == [None, 7, None]
    assert flight.let_answers_go() == []
    assert flight.arrived(2) == ([7], [(RESPONSE, 0), (TELEMETRY, 1)])
    assert flight.let_go == {8}
    assert flight.arrived(3) == ([], [(RESPONSE, 0)])
    assert not flight.let_go
    assert flight.acknowledged == {RESPONSE: 8, TELEMETRY: 7}
