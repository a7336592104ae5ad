"""The order of a class, by itself: what is where, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable

from oda.outbox.queue import Amount, Queue, Row, Span, amount_of


def rows(ids: Iterable[int]) -> list[Row]:
    """Rows of three bytes and two datapoints each."""
    return [Row(row_id, b"abc", True, 2, 1000 + row_id, 10) for row_id in ids]


def filled(ids: Iterable[int], head_rows: int = 100) -> Queue:
    queue = Queue(head_rows)
    for row in rows(ids):
        queue.append(row)
    return queue


def retire(queue: Queue, ids: Iterable[int], expires_s: float = 10.0) -> None:
    queue.retire([queue.in_flight.pop(row_id) for row_id in ids], expires_s)


def test_a_replay_reads_everything_again_from_the_oldest() -> None:
    """What lingers, what was in flight and what was pending is unread, in order; the head, which is
    empty then, takes as many bytes as a new one."""
    queue = filled(range(1, 7))
    queue.take(4, 1 << 20, True)
    retire(queue, [1, 2])
    assert queue.replay()
    queue.check()
    assert list(queue.unread) == [Span(1, 6)]
    assert (queue.pending_rows, queue.lingering_rows) == (6, 0)
    assert queue.lowest_wanted() == 1


def test_rows_are_missing_until_each_of_them_is_recovered() -> None:
    """A range of rows that is being recovered becomes smaller by what was copied, down to a single
    row: as long as one is missing, no row from it on counts as acknowledged."""
    queue = Queue()
    everything = rows(range(1, 6))
    queue.begin_recovery([Span(1, 5)], amount_of(everything))
    queue.recovered(Span(2, 4), amount_of(everything[1:4]))
    assert queue.recovering == [Span(1, 1), Span(5, 5)]
    queue.recovered(Span(1, 1), amount_of(everything[:1]))
    queue.unread.clear()
    queue.discard_unread(amount_of(everything[:4]))
    assert queue.lowest_wanted() == 5
    assert queue.end_recovery() == Amount(1, 10, 2)
