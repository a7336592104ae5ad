"""What lingers is remembered as few ranges, however much it is."""

from __future__ import annotations

from oda.outbox.queue import Amount, Queue, Row, Span
from oda.outbox.transaction import TELEMETRY, Transaction


def retired(queue: Queue, ids: range, expires_s: float) -> None:
    """Rows with these ids come, are taken and are acknowledged."""
    for row_id in ids:
        queue.append(Row(row_id, b"x", False, 1, 0, 10))
    taken = queue.take(len(ids), 1 << 30, True)
    for row in taken:
        del queue.in_flight[row.row_id]
    queue.retire(taken, expires_s)


def test_rows_of_one_second_share_ranges() -> None:
    """A long drain must not take memory for each window of it; the sums are right all the same."""
    queue = Queue()
    for window in range(400):
        first = 1 + window * 256
        retired(queue, range(first, first + 256), 60.0 + window / 1000)
    assert len(queue.lingering) <= 400 * 256 / 1024 + 1
    assert queue.lingering_rows == 400 * 256
    assert queue.expire(60.0) == []
    gone = queue.expire(61.0)
    transaction = Transaction()
    total = Amount()
    for batch in gone:
        transaction.delete(TELEMETRY, Span(batch.low, batch.high))
        total.add(batch.amount)
    assert transaction.deleted[TELEMETRY] == [(1, 400 * 256)], "one statement"
    assert total == Amount(400 * 256, 400 * 256 * 10, 400 * 256)
    assert (queue.lingering_rows, queue.stored) == (0, Amount())


def test_nobody_lingers_shorter_or_a_second_longer() -> None:
    """A shared range goes with its youngest rows, and ends with the second."""
    queue = Queue()
    retired(queue, range(1, 3), 60.0)
    retired(queue, range(3, 5), 60.9)
    retired(queue, range(5, 7), 61.0)
    assert queue.expire(60.8) == []
    assert [(batch.low, batch.high) for batch in queue.expire(60.9)] == [(1, 4)]
    assert queue.lingering_rows == 2


def test_a_gap_is_not_covered() -> None:
    """A row in between that is not acknowledged must not go with its neighbours."""
    queue = Queue()
    retired(queue, range(1, 3), 60.0)
    retired(queue, range(4, 6), 60.1)
    assert [(batch.low, batch.high) for batch in queue.lingering] == [(1, 2), (4, 5)]


def test_room_is_made_in_small_portions() -> None:
    """Of what lingers no more goes than is needed, but for the rest of a range."""
    queue = Queue()
    for window in range(40):
        first = 1 + window * 256
        retired(queue, range(first, first + 256), 60.0)
    queue.evict(10)
    assert queue.lingering_rows >= 39 * 256 - 1024
