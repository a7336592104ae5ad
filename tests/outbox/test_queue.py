"""The order of a class, by itself: what is where, and what comes next."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from oda.outbox.queue import END, Amount, Batch, Queue, Row, RowState, Span, amount_of, runs_of


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


# -- in and out ------------------------------------------------------------------------------


def test_the_head_has_a_bound_in_rows_and_in_bytes() -> None:
    """The row that reaches a bound is the last one in the head; a row larger than the head is in it
    when it is alone. All later ones are unread, up to the end, as long as one is."""
    queue = filled(range(1, 5), head_rows=3)
    assert [row.row_id for row in queue.head] == [1, 2, 3]
    assert list(queue.unread) == [Span(4, END)]
    assert queue.unread_amount == Amount(1, 10, 2)
    queue.take(3, 1 << 20, True)
    for row in rows([5]):
        queue.append(row)
    assert list(queue.head) == []
    assert list(queue.unread) == [Span(4, END)]
    queue = Queue(head_rows=100, head_bytes=6)
    for row in rows(range(1, 4)):
        queue.append(row)
    assert [row.row_id for row in queue.head] == [1, 2]
    queue.check()
    queue = Queue(head_rows=100, head_bytes=2)
    for row in rows(range(1, 3)):
        queue.append(row)
    assert [row.row_id for row in queue.head] == [1]
    assert queue.pending_rows == 2


def test_a_range_that_is_closed_is_followed_by_an_open_one() -> None:
    """Rows of a store that turned up end somewhere; what comes now begins a range of its own."""
    queue = Queue()
    queue.add_unread(Span(1, 3), Amount(3, 30, 6))
    for row in rows([7, 8]):
        queue.append(row)
    assert list(queue.unread) == [Span(1, 3), Span(7, END)]
    assert queue.unread_amount == Amount(5, 50, 10)


def test_nothing_turned_up() -> None:
    """A range without rows is not remembered."""
    queue = Queue()
    queue.add_unread(Span(1, 3), Amount())
    assert list(queue.unread) == []


def test_rows_are_taken_in_order_within_the_bounds() -> None:
    """So many rows, and so many bytes as fit whole; one more than fits only where it would be the
    first of all."""
    for rows_bound, bytes_bound, at_least_one, expected in (
        (2, 100, True, [1, 2]),
        (9, 9, True, [1, 2, 3]),
        (9, 8, True, [1, 2]),
        (9, 3, False, [1]),
        (9, 2, True, [1]),
        (9, 2, False, []),
        (0, 100, True, []),
    ):
        queue = filled(range(1, 6))
        taken = queue.take(rows_bound, bytes_bound, at_least_one)
        assert [row.row_id for row in taken] == expected
        assert list(queue.in_flight) == expected
        assert {row.attempts for row in taken} <= {1}
        assert {row.state for row in taken} <= {RowState.IN_FLIGHT}
        queue.check()


def test_a_held_row_holds_up_those_behind_it() -> None:
    """Nothing overtakes an answer that waits for its commit."""
    queue = filled(range(1, 4))
    queue.head[1].is_held = True
    assert [row.row_id for row in queue.take(9, 1 << 20, True)] == [1]
    assert queue.take(9, 1 << 20, True) == []
    queue.head[0].is_held = False
    assert [row.row_id for row in queue.take(9, 1 << 20, True)] == [2, 3]


def test_acknowledged_rows_linger_in_runs() -> None:
    """A run of ids is one batch, a gap begins another; each has the sums of its rows."""
    queue = filled(range(1, 7))
    queue.take(6, 1 << 20, True)
    retire(queue, [1, 2, 4, 5], 10.0)
    assert list(queue.lingering) == [
        Batch(1, 2, Amount(2, 20, 4), 10.0),
        Batch(4, 5, Amount(2, 20, 4), 10.0),
    ]
    assert queue.lingering_rows == 4
    assert queue.waiting_cost == 20
    assert queue.pending_cost == 0
    queue.check()
    assert queue.expire(9.99) == []
    assert [one.low for one in queue.expire(10.0)] == [1, 4]
    assert queue.stored == Amount(2, 20, 4)
    queue.check()


def test_batches_are_joined_within_a_second_and_up_to_a_bound() -> None:
    """Only where the ids follow at once, and while the first has fewer than 1024 rows."""
    for second, expires_s, expected in (
        (range(1025, 1030), 10.9, [(1, 1024), (1025, 1029)]),
        (range(1024, 1030), 10.9, [(1, 1029)]),
        (range(1024, 1030), 11.0, [(1, 1023), (1024, 1029)]),
        (range(1026, 1030), 10.9, [(1, 1023), (1026, 1029)]),
    ):
        queue = Queue(5000)
        first = range(1, 1025 if second[0] == 1025 else 1024)
        for ids, at_s in ((first, 10.0), (second, expires_s)):
            for row in rows(ids):
                queue.append(row)
            queue.take(5000, 1 << 30, True)
            retire(queue, ids, at_s)
        assert [(one.low, one.high) for one in queue.lingering] == expected
        assert queue.lingering[-1].expires_s == expires_s
        queue.check()


def test_the_longest_acknowledged_rows_make_room() -> None:
    """Whole batches, until so many bytes are free: not one more."""
    queue = filled(range(1, 7))
    queue.take(6, 1 << 20, True)
    for ids in ([1, 2], [4], [6]):
        retire(queue, ids)
    assert [one.low for one in queue.evict(0)] == []
    assert [one.low for one in queue.evict(20)] == [1]
    assert [one.low for one in queue.evict(11)] == [4, 6]
    assert queue.evict(1) == []
    assert queue.stored == Amount(2, 20, 4)
    queue.check()


def test_after_a_start_the_oldest_rows_linger_on() -> None:
    """They are in the store, and count."""
    queue = Queue()
    queue.rest(Span(1, 4), Amount(4, 40, 8), 7.0)
    assert queue.stored == Amount(4, 40, 8)
    assert queue.waiting_cost == 0
    assert queue.expire(7.0) == [Batch(1, 4, Amount(4, 40, 8), 7.0)]
    assert queue.stored == Amount()


def test_rows_leave_for_good() -> None:
    """From the head, from flight, and from what is unread: the sums follow, and the row says that
    it is gone."""
    queue = filled(range(1, 7), head_rows=4)
    oldest = queue.pop_oldest()
    assert (oldest.row_id, oldest.state) == (1, RowState.GONE)
    queue.check()
    queue.take(1, 1 << 20, True)
    buried = queue.remove_in_flight(2)
    assert (buried.row_id, buried.state) == (2, RowState.GONE)
    with pytest.raises(KeyError):
        queue.remove_in_flight(2)
    queue.check()
    in_head, unread = queue.head[0], rows([6])[0]
    queue.discard_pending([in_head, unread])
    assert [row.row_id for row in queue.head] == [4]
    assert queue.unread_amount == Amount(1, 10, 2)
    assert queue.stored == Amount(2, 20, 4)
    assert in_head.state is unread.state is RowState.GONE
    queue.check()
    queue.discard_unread(Amount(1, 10, 2))
    assert queue.unread_amount == Amount()
    assert queue.stored == Amount(1, 10, 2)


# -- back ------------------------------------------------------------------------------------


def test_a_rewind_puts_back_what_was_in_flight() -> None:
    """In its old order, before the rest; with nothing in flight there is nothing to do."""
    queue = filled(range(1, 6))
    assert not queue.rewind()
    taken = queue.take(3, 1 << 20, True)
    queue.in_flight = dict(reversed(queue.in_flight.items()))
    assert queue.rewind()
    assert [row.row_id for row in queue.head] == [1, 2, 3, 4, 5]
    assert queue.in_flight == {}
    assert {row.state for row in taken} == {RowState.PENDING}
    queue.check()
    assert [row.attempts for row in queue.take(4, 1 << 20, True)] == [2, 2, 2, 1]


def test_a_rewind_sorts_in_rows_that_turned_up_late() -> None:
    """Older rows were read while newer ones were in flight."""
    queue = Queue()
    for row in rows([5, 7]):
        queue.append(row)
    queue.take(2, 1 << 20, True)
    queue.add_unread(Span(6, 6), Amount(1, 10, 2))
    queue.unread.clear()
    queue.fill(rows([6]))
    assert queue.rewind()
    assert [row.row_id for row in queue.head] == [5, 6, 7]


def test_a_replay_without_lingering_rows_is_a_rewind() -> None:
    """What is in memory need not be read again."""
    queue = filled(range(1, 4))
    assert queue.replay() == 0
    queue.take(1, 1 << 20, True)
    assert queue.replay() == 0
    assert queue.in_flight == {}
    assert [row.row_id for row in queue.head] == [1, 2, 3]
    assert list(queue.unread) == []


def test_rows_that_are_read_again_say_that_they_were_sent() -> None:
    """How often, where it is known; once, where a row lingered; never, where it was not sent. A row
    that comes from memory knows it itself."""
    queue = filled(range(1, 6))
    queue.take(3, 1 << 20, True)
    queue.rewind()
    queue.take(3, 1 << 20, True)
    retire(queue, [1])
    queue.replay()
    again = rows(range(1, 6))
    again[2].attempts = 7
    again[0].state = RowState.LINGERING  # it is in memory, and was acknowledged
    queue.unread.clear()
    queue.fill(again)
    assert [row.attempts for row in queue.head] == [1, 2, 7, 0, 0]
    assert [row.state for row in queue.head] == [RowState.PENDING] * 5
    queue.check()


@pytest.mark.parametrize(
    ("max_cost", "cost", "left"),
    [(0, 30, [1, 4]), (30, 30, [1, 4]), (49, 30, [1, 4]), (50, 50, [1])],
)
def test_a_replay_may_be_of_the_newest_only(max_cost: int, cost: int, left: list[int]) -> None:
    """Whole batches, the newest first, that cost no more together, and the newest whatever it
    costs: one message may be larger than any limit. The others linger on. What was in flight is
    pending again in any case."""
    queue = filled(range(1, 12))
    queue.take(10, 1 << 20, True)
    for ids in ([1, 2], [4, 5], [7, 8, 9]):
        retire(queue, ids, 10.0)
    assert queue.replay(max_cost) == cost
    assert [one.low for one in queue.lingering] == left
    assert queue.in_flight == {}
    assert queue.pending_rows == 4 + cost // 10
    queue.check()


def test_a_replay_frees_the_head() -> None:
    """It is empty, and counts no bytes: as many as before fit into it."""
    queue = filled(range(1, 5))
    taken = queue.take(2, 1 << 20, True)
    retire(queue, [1])
    assert queue.replay()
    assert {row.state for row in taken[1:]} == {RowState.PENDING}
    assert queue.in_flight == {}
    assert list(queue.head) == []
    assert list(queue.unread) == [Span(1, 4)]
    assert queue.unread_amount == Amount(4, 40, 8)
    queue.check()


def test_the_oldest_row_is_in_flight_or_at_the_head() -> None:
    """The age of the backlog is that of its oldest row in memory."""
    queue = Queue()
    assert queue.oldest_ms is None
    for row in rows([3, 4]):
        queue.append(row)
    assert queue.oldest_ms == 1003
    queue.take(1, 1 << 20, True)
    assert queue.oldest_ms == 1003
    queue.remove_in_flight(3)
    assert queue.oldest_ms == 1004


def test_the_lowest_wanted_row_may_be_anywhere() -> None:
    """In flight, in the head, unread or recovering; END where nothing is wanted."""
    queue = Queue()
    assert queue.lowest_wanted() == END
    queue.begin_recovery([Span(40, 41), Span(50, 51)], Amount(4, 40, 8))
    assert queue.lowest_wanted() == 40
    queue.add_unread(Span(30, 31), Amount(2, 20, 4))
    assert queue.lowest_wanted() == 30
    queue.unread.clear()
    queue.discard_unread(Amount(2, 20, 4))
    for row in rows([20, 21]):
        queue.append(row)
    assert queue.lowest_wanted() == 20
    queue.take(1, 1 << 20, True)
    assert queue.lowest_wanted() == 20
    retire(queue, [20])
    assert queue.lowest_wanted() == 21


# -- recovery --------------------------------------------------------------------------------


def test_a_damaged_store_takes_what_only_it_has() -> None:
    """What lingers and what is unread below the first row in memory; that row and those after it
    stay, and a range across is cut."""
    queue = Queue()
    queue.rest(Span(1, 2), Amount(2, 20, 4), 5.0)
    queue.add_unread(Span(4, 9), Amount(5, 50, 10))
    assert queue.move_to_recovery(8, Amount(2, 20, 4)) == [Span(1, 2), Span(4, 7)]
    assert queue.recovering == [Span(1, 2), Span(4, 7)]
    assert queue.recovering_amount == Amount(5, 50, 10)
    assert list(queue.unread) == [Span(8, 9)]
    assert queue.unread_amount == queue.stored == Amount(2, 20, 4)
    assert queue.lingering_rows == 0
    queue.check()
    queue.unread.clear()
    queue.add_unread(Span(3, 3), Amount(1, 10, 2))
    assert queue.move_to_recovery(8, Amount()) == [Span(3, 3)]
    assert queue.recovering == [Span(1, 7)]


def test_ranges_that_end_before_a_row_in_memory_go_as_a_whole() -> None:
    """Also where they end with the row just before it; without rows in memory nothing is unread."""
    queue = Queue()
    queue.add_unread(Span(1, 4), Amount(4, 40, 8))
    queue.add_unread(Span(5, END), Amount(2, 20, 4))
    assert queue.move_to_recovery(5, Amount(2, 20, 4)) == [Span(1, 4)]
    assert list(queue.unread) == [Span(5, END)]
    assert queue.move_to_recovery(5, Amount()) == []
    assert list(queue.unread) == []


def test_neighbouring_ranges_are_one() -> None:
    """Ranges that overlap or meet are joined; a gap of one id keeps them apart. A range within
    another one adds nothing."""
    queue = Queue()
    for span in (Span(1, 9), Span(3, 4), Span(10, 12), Span(14, 15)):
        queue.add_unread(span, Amount(1, 10, 2))
    assert list(queue.unread) == [Span(1, 12), Span(14, 15)]


def test_runs_are_cut_where_an_id_is_missing() -> None:
    """And nowhere else."""
    cut = runs_of(rows([1, 2, 3, 5, 7, 8]))
    assert [[row.row_id for row in run] for run in cut] == [[1, 2, 3], [5], [7, 8]]
    assert list(runs_of([])) == []


def test_amounts_are_equal_in_all_three_or_not_at_all() -> None:
    """Rows, bytes and datapoints; anything else is no amount."""
    amount = Amount(1, 2, 3)
    assert amount == Amount(1, 2, 3)
    assert amount not in (Amount(2, 2, 3), Amount(1, 3, 3), Amount(1, 2, 4), (1, 2, 3))
    copy = amount.copy()
    copy.add(Amount(10, 20, 30))
    copy.subtract(Amount(1, 1, 1))
    assert (copy.as_tuple(), amount.as_tuple()) == ((10, 21, 32), (1, 2, 3))


def test_what_is_wrong_is_found() -> None:
    """A row in two places, sums that are wrong, and rows that are nowhere: each is an error."""
    good = filled(range(1, 4))
    good.check()
    breakages = {
        "twice": lambda queue: queue.head.append(queue.head[0]),
        "overlap": lambda queue: queue.recovering.extend([Span(5, 6), Span(6, 7)]),
        "two places": lambda queue: queue.recovering.append(Span(3, 3)),
        "are in the queue": lambda queue: queue.stored.add(Amount(1, 0, 0)),
        "size of the head": lambda queue: setattr(queue, "_head_bytes", 1),
        "nowhere": lambda queue: [
            one.add(Amount(1, 0, 0)) for one in (queue.unread_amount, queue.stored)
        ],
        "more rows were read": lambda queue: [
            one.subtract(Amount(1, 0, 0)) for one in (queue.unread_amount, queue.stored)
        ],
        "what lingers": lambda queue: [
            one.add(Amount(1, 0, 0)) for one in (queue._lingering, queue.stored)
        ],
    }
    for text, breaks in breakages.items():
        queue = filled(range(1, 4))
        breaks(queue)
        with pytest.raises(AssertionError, match=text):
            queue.check()


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_steps_keeps_every_row_in_one_place(seed: int) -> None:
    """Rows leave in the order of their ids, each is pending, in flight, lingering or gone as a
    simple list says, and the sums are those of the list."""
    chance = random.Random(seed)
    queue = Queue(head_rows=chance.randint(1, 6), head_bytes=chance.choice([6, 1000]))
    pending: list[int] = []
    flying: list[int] = []
    resting: list[int] = []
    last = 0
    for _ in range(120):
        step = chance.choice(
            ["append", "append", "take", "take", "retire", "rewind", "replay", "expire", "drop"]
        )
        if step == "append":
            last += 1
            queue.append(rows([last])[0])
            pending.append(last)
        elif step == "take":
            if not queue.head and queue.unread:
                # As the backlog does: the next page, from the store.
                page = pending[: chance.randint(1, 3)]
                queue.unread = type(queue.unread)(
                    Span(max(one.low, page[-1] + 1), one.high)
                    for one in queue.unread
                    if one.high > page[-1]
                )
                queue.fill(rows(page))
                if not queue.unread_amount.rows:
                    queue.unread.clear()
            taken = [row.row_id for row in queue.take(chance.randint(1, 4), 1 << 20, True)]
            assert taken == pending[: len(taken)]
            del pending[: len(taken)]
            flying += taken
        elif step == "retire" and flying:
            done = flying[: chance.randint(1, len(flying))]
            retire(queue, done, chance.choice([10.0, 10.5, 20.0]) if not resting else 20.0)
            del flying[: len(done)]
            resting += done
        elif step in ("rewind", "replay"):
            if step == "replay" and resting:
                assert queue.replay() == 10 * len(resting)
                pending = sorted(resting + flying + pending)
                resting = []
            else:
                if step == "rewind":
                    assert queue.rewind() is bool(flying)
                else:
                    assert queue.replay() == 0
                pending = sorted(flying + pending)
            flying = []
        elif step == "expire":
            for batch in queue.expire(chance.choice([5.0, 15.0, 25.0])):
                span = range(batch.low, batch.high + 1)
                assert set(span) <= set(resting)
                resting = [one for one in resting if one not in span]
        elif step == "drop" and queue.head:
            assert queue.pop_oldest().row_id == pending.pop(0)
        queue.check()
        assert queue.pending_rows == len(pending)
        assert sorted(queue.in_flight) == sorted(flying)
        assert queue.lingering_rows == len(resting)
        assert queue.stored == amount_of(rows([*pending, *flying, *resting]))
        assert queue.waiting_cost == 10 * (len(pending) + len(flying))
        assert queue.pending_cost == 10 * len(pending)
        assert queue.lowest_wanted() == min([*pending, *flying], default=END)
