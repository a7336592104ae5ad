"""The backlog of a class by itself: which rows come back from the store, and what leaves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from oda.errors import OutboxClosed, OutboxFull
from oda.outbox.backlog import PAGE_BYTES, Backlog
from oda.outbox.committer import Committer, State
from oda.outbox.dead_letters import DeadLetters
from oda.outbox.ledger import Ledger
from oda.outbox.limits import Limits, row_cost
from oda.outbox.queue import END, Amount, Batch, Row, RowState, Span, amount_of
from oda.outbox.store import StoreError
from oda.outbox.transaction import ANSWER, TELEMETRY, Burial, Stored, Tally, Totals, Transaction
from oda.settings import OutboxSettings
from tests.outbox.chosen import ChosenStore, NotingWorker, Owner
from tests.outbox.fakes import FakeCounters, disk_full

COST = row_cost(3)


def row_of(row_id: int, size: int = 3) -> Row:
    return Row(row_id, b"x" * size, True, 2, 1000, row_cost(size))


class Bench:
    """A backlog of telemetry with a store that the test fills."""

    def __init__(self, ids: Iterable[int] = (), head_rows: int = 100, size: int = 3) -> None:
        self.events: list[str] = []
        self.store = ChosenStore(self.events)
        self.worker = NotingWorker()
        self.committer = Committer(self.store, self.worker, Clock(), Owner(self.events))
        self.uncommitted = self.committer.uncommitted
        self.counters = FakeCounters()
        self.ledger = Ledger(self.counters)
        self.changes = 0
        limits = Limits(OutboxSettings())
        limits.side_bytes = 1 << 30
        self.letters = DeadLetters(self.committer, self.ledger, limits, self._changed)
        self.backlog = Backlog(
            TELEMETRY,
            head_rows,
            self.committer,
            self.ledger,
            self.letters,
            self._changed,
        )
        self.queue = self.backlog.queue
        self.store_rows(ids, size)
        self.committer.open()

    def _changed(self) -> None:
        self.changes += 1

    def store_rows(self, ids: Iterable[int], size: int = 3) -> None:
        """These are on disk."""
        transaction = Transaction()
        for row_id in ids:
            transaction.insert(TELEMETRY, row_of(row_id, size))
        self.store.apply(transaction)

    def unread(self, low: int, high: int, rows: int) -> None:
        """The queue knows of so many rows of that range."""
        self.queue.add_unread(Span(low, high), Amount(rows, rows * COST, rows * 2))

    def collect(self, row_id: int, size: int = 3) -> Row:
        """A row that is not committed."""
        row = row_of(row_id, size)
        row.accepted = Deferred()
        self.uncommitted.collecting.insert(TELEMETRY, row)
        return row

    def head(self) -> list[int]:
        return [row.row_id for row in self.queue.head]

    def read_on(self) -> list[int]:
        """The rows that are read next; they are taken, and forgotten."""
        assert self.backlog.read_on() is bool(self.queue.head)
        found = self.head()
        for _ in found:
            self.queue.pop_oldest()
        return found

    def outcome(self, row: Row, waiting: Deferred[Any]) -> object:
        """What whoever put it is told."""
        self.ledger.tell()
        found: list[object] = []
        waiting.addBoth(found.append)
        return getattr(found[0], "value", found[0]) if found else None


# -- reading on ------------------------------------------------------------------------------


def test_rows_are_read_in_pages_that_fit_into_the_head() -> None:
    """The oldest first, only once the head is empty, and each once."""
    bench = Bench(range(1, 8), head_rows=3)
    bench.unread(1, 7, 7)
    assert bench.backlog.read_on()
    assert bench.head() == [1, 2, 3]
    assert bench.backlog.read_on()
    assert bench.head() == [1, 2, 3], "nothing is read while there are rows"
    assert list(bench.queue.unread) == [Span(4, 7)]
    assert [bench.read_on() for _ in range(4)] == [[1, 2, 3], [4, 5, 6], [7], []]
    assert list(bench.queue.unread) == []
    assert bench.queue.unread_amount == Amount()
    assert bench.store.pages == [Span(1, 7), Span(4, 7), Span(7, 7)]


def test_nothing_is_read_where_nothing_is_unread_or_the_store_is_on_its_way() -> None:
    """A store that is being moved is read later."""
    bench = Bench(range(1, 3))
    assert not bench.backlog.read_on()
    bench.unread(1, 2, 2)
    bench.committer.move(Path("/new"))
    bench.committer.submit()
    assert bench.committer.is_moving
    assert not bench.backlog.read_on()
    assert bench.store.pages == []
    assert list(bench.queue.unread) == [Span(1, 2)]
    bench.worker.step()
    assert bench.read_on() == [1, 2]


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        (Span(1, 1), [2, 3, 4, 5]),
        (Span(1, 3), [4, 5]),
        (Span(2, 4), [1, 5]),
        (Span(5, 5), [1, 2, 3, 4]),
        (Span(5, 9), [1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("is_running", [True, False])
def test_what_was_deleted_does_not_come_back(gone: Span, left: list[int], is_running: bool) -> None:
    """The store still has rows whose deletion is not committed: from the first to the last of a
    range they are not read, also while they are being deleted."""
    bench = Bench(range(1, 6))
    bench.unread(1, 5, len(left))
    bench.uncommitted.delete(TELEMETRY, gone)
    if is_running:
        bench.committer.submit()
    assert bench.read_on() == left
    assert bench.queue.unread_amount == Amount()


def test_a_page_without_a_wanted_row_is_no_end() -> None:
    """The next one is looked at."""
    bench = Bench(range(1, 10), head_rows=3)
    bench.unread(1, 9, 3)
    bench.uncommitted.delete(TELEMETRY, Span(1, 6))
    assert bench.read_on() == [7, 8, 9]
    assert bench.store.pages == [Span(1, 9), Span(4, 9), Span(7, 9)]


def test_a_dead_letter_that_is_not_committed_is_not_read() -> None:
    """Its row is still where it was."""
    bench = Bench(range(1, 4))
    bench.unread(1, 3, 2)
    bench.uncommitted.bury(Burial(TELEMETRY, row_of(2), "refused"))
    assert bench.read_on() == [1, 3]


def test_rows_of_the_store_are_those_in_memory() -> None:
    """A commit reported an error and worked: the rows are there, and somebody waits for their
    acceptance."""
    bench = Bench(range(1, 4))
    waiting = bench.collect(3)
    bench.unread(1, 3, 3)
    assert bench.backlog.read_on()
    assert [row is waiting for row in bench.queue.head] == [False, False, True]


def test_changed_rows_become_dead_letters() -> None:
    """They are not sent; what is sound beside them is."""
    bench = Bench(range(1, 5))
    bench.store.damaged = {1, 3}
    bench.unread(1, 4, 4)
    assert bench.read_on() == [2, 4]
    assert bench.letters.ids() == [1, 3]
    burials = bench.uncommitted.collecting.burials
    assert [(one.row.row_id, one.reason, one.is_damaged) for one in burials] == [
        (1, "damaged", True),
        (3, "damaged", True),
    ]
    assert bench.queue.stored == Amount()
    assert bench.queue.unread_amount == Amount()
    assert bench.ledger.past.dead == Tally(2, 4)


def test_a_page_of_changed_rows_is_no_end() -> None:
    """Nothing of it is left, and the next one is read."""
    bench = Bench(range(1, 4), head_rows=2)
    bench.store.damaged = {1, 2}
    bench.unread(1, 3, 3)
    assert bench.read_on() == [3]


def test_rows_that_are_not_committed_follow_those_of_the_store() -> None:
    """At the end of a range, from the first id that the store does not have."""
    bench = Bench(range(1, 4))
    for row_id in (4, 5):
        bench.collect(row_id)
    bench.unread(1, 5, 5)
    assert [bench.read_on(), bench.read_on()] == [[1, 2, 3], [4, 5]]
    bench.collect(6)
    bench.collect(7)
    bench.unread(7, 7, 1)
    assert bench.read_on() == [7], "only those of the range"
    assert list(bench.queue.unread) == []


def test_of_rows_in_memory_no_more_are_read_at_once_than_of_the_store() -> None:
    """So many rows, or so many bytes: the others stay unread."""
    bench = Bench(head_rows=3)
    for row_id in range(1, 6):
        bench.collect(row_id)
    bench.unread(1, 9, 5)
    assert bench.read_on() == [1, 2, 3]
    assert list(bench.queue.unread) == [Span(4, 9)]
    assert bench.read_on() == [4, 5]
    bench = Bench()
    for row_id, size in ((1, PAGE_BYTES // 2), (2, PAGE_BYTES // 2), (3, 5), (4, PAGE_BYTES - 5)):
        bench.collect(row_id, size)
    bench.unread(1, 9, 4)
    assert [bench.read_on(), bench.read_on()] == [[1, 2], [3, 4]]
    bench = Bench()
    for row_id, size in ((1, PAGE_BYTES // 2), (2, PAGE_BYTES // 2 - 1), (3, 5), (4, 5)):
        bench.collect(row_id, size)
    bench.unread(1, 9, 4)
    assert [bench.read_on(), bench.read_on()] == [[1, 2, 3], [4]]


def test_while_the_store_can_not_be_read_rows_in_memory_go_first() -> None:
    """The range before them stays unread, up to the row before the first of them; the range behind
    them too. Once the store can be read, it is read from the oldest."""
    bench = Bench(range(1, 4))
    for row_id in (4, 5):
        bench.collect(row_id)
    bench.unread(1, 9, 5)
    bench.store.fails_to_read = disk_full()
    assert bench.backlog.read_on()
    assert bench.committer.state is State.TROUBLE
    assert bench.head() == [4, 5]
    assert list(bench.queue.unread) == [Span(1, 3), Span(6, 9)]
    assert bench.read_on() == [4, 5]
    assert bench.read_on() == []
    assert list(bench.queue.unread) == [Span(1, 3), Span(6, 9)], "nothing is lost"
    assert bench.queue.unread_amount.rows == 3
    bench.store.fails_to_read = None
    assert bench.read_on() == [1, 2, 3]


def test_a_range_that_begins_in_memory_leaves_nothing_before_it() -> None:
    """Where the first row of a range is in memory, there is no range before it."""
    bench = Bench()
    bench.collect(4)
    bench.unread(4, 9, 2)
    bench.store.fails_to_read = disk_full()
    assert bench.read_on() == [4]
    assert list(bench.queue.unread) == [Span(5, 9)]


def test_ranges_that_can_not_be_read_keep_their_order() -> None:
    """All of them are tried, and stay where they were."""
    bench = Bench([1, 2, 5, 6, 9])
    bench.unread(1, 2, 2)
    bench.unread(5, 6, 2)
    bench.unread(9, 9, 1)
    bench.store.fails_to_read = disk_full()
    assert bench.read_on() == []
    assert list(bench.queue.unread) == [Span(1, 2), Span(5, 6), Span(9, 9)]
    bench.store.fails_to_read = None
    assert bench.read_on() == [1, 2]
    assert list(bench.queue.unread) == [Span(5, 6), Span(9, 9)], "nothing is left of the first"
    assert [bench.read_on(), bench.read_on()] == [[5, 6], [9]]


def test_a_range_without_rows_is_followed_by_the_next() -> None:
    """Its rows were deleted, and committed."""
    bench = Bench([5, 6])
    bench.unread(1, 2, 0)
    bench.queue.unread.insert(0, Span(1, 2))
    bench.unread(5, 6, 2)
    assert bench.read_on() == [5, 6]


def test_rows_that_nobody_finds_are_counted_as_lost() -> None:
    """All ranges were read, and some rows were not there: that is said, and the sums are right."""
    bench = Bench([1, 2])
    bench.unread(1, 5, 4)
    assert bench.read_on() == [1, 2]
    before = bench.changes
    with capturedLogs() as logs:
        assert bench.read_on() == []
    assert [one["rows"] for one in logs] == [2]
    assert bench.counters["messages_dropped:damaged"] == 2
    assert bench.queue.stored == bench.queue.unread_amount == Amount()
    assert bench.changes == before + 1
    assert bench.read_on() == []
    assert bench.counters["messages_dropped:damaged"] == 2


# -- leaving ---------------------------------------------------------------------------------


def linger(bench: Bench, ids: range, expires_s: float = 10.0) -> None:
    """These were put, taken and acknowledged."""
    for row_id in ids:
        bench.queue.append(row_of(row_id))
    taken = bench.queue.take(1000, 1 << 30, True)
    bench.queue.in_flight.clear()
    bench.queue.retire(taken, expires_s)


def test_acknowledged_rows_are_deleted_when_their_time_is_over() -> None:
    """Not before; they count as delivered then, and a commit is due."""
    bench = Bench()
    bench.backlog.expire(5.0)
    linger(bench, range(1, 4))
    bench.backlog.expire(9.9)
    assert bench.changes == 0
    bench.backlog.expire(10.0)
    assert bench.uncommitted.collecting.deleted[TELEMETRY] == [Span(1, 3)]
    assert bench.counters["messages_delivered"] == 3
    assert bench.counters["datapoints_delivered"] == 6
    assert bench.changes == 1
    bench.backlog.evict(1)
    assert bench.changes == 1


def test_who_waits_for_a_row_that_was_delivered_hears_that_it_is_accepted() -> None:
    """The platform has it, although it was never committed."""
    bench = Bench()
    row = bench.collect(7)
    waiting = row.accepted
    bench.backlog.deliver([Batch(7, 7, amount_of([row]))])
    assert bench.outcome(row, waiting) == 7
    assert bench.uncommitted.collecting.is_empty


def test_room_is_made_by_whole_batches() -> None:
    """The longest acknowledged first, until so many bytes are free."""
    bench = Bench()
    linger(bench, range(1, 3))
    linger(bench, range(4, 6), 20.0)
    bench.backlog.evict(1)
    assert bench.uncommitted.collecting.deleted[TELEMETRY] == [Span(1, 2)]


def test_dropped_rows_are_deleted_counted_and_told() -> None:
    """With their reason; who waits for one hears that it was not accepted."""
    bench = Bench()
    assert bench.backlog.drop([], "full") == Amount()
    assert bench.changes == 0
    rows = [row_of(1), row_of(2), bench.collect(5)]
    waiting = rows[-1].accepted
    assert bench.backlog.drop(rows, "full") == Amount(3, 3 * COST, 6)
    assert bench.uncommitted.collecting.deleted[TELEMETRY] == [Span(1, 2)]
    assert not bench.uncommitted.collecting.rows[TELEMETRY]
    assert bench.counters["messages_dropped:full"] == 3
    assert isinstance(error := bench.outcome(rows[-1], waiting), OutboxFull)
    assert "(full)" in str(error)
    assert bench.changes == 1


# -- the store -------------------------------------------------------------------------------


def totals_of(rows: int, last_id: int, watermark: list[int]) -> Totals:
    totals = Totals()
    totals.last_ids["telemetry"] = last_id
    totals.stored["telemetry"] = Stored(rows, rows * COST, rows * 2)
    totals.watermarks["telemetry"] = watermark
    return totals


def adopted(
    watermark: list[int], off_ms: int, ids: Iterable[int] = range(1, 11), fails: bool = False
) -> Bench:
    """A store with ten rows is taken up at 100 s; acknowledged rows linger for 30 s."""
    ids = list(ids)
    bench = Bench(ids)
    if fails:
        bench.store.fails_to_read = disk_full()
    bench.backlog.adopt(totals_of(len(ids), 10, watermark), off_ms, 30_000, 100.0)
    return bench


def resting_rows(bench: Bench) -> list[tuple[int, int, int, float]]:
    return [(one.low, one.high, one.amount.rows, one.expires_s) for one in bench.queue.lingering]


def test_a_start_finds_what_nobody_acknowledged() -> None:
    """Everything is unread, from the first row to the last."""
    bench = adopted([], 0)
    assert list(bench.queue.unread) == [Span(1, 10)]
    assert bench.queue.unread_amount.rows == 10
    assert resting_rows(bench) == []
    assert bench.changes == 0
    assert bench.read_on() == list(range(1, 11))


def test_an_empty_store_leaves_nothing_unread() -> None:
    """A new row goes to the head then."""
    bench = adopted([], 0, ids=())
    assert list(bench.queue.unread) == []


@pytest.mark.parametrize("off_ms", [30_000, 50_000])
def test_what_rested_long_enough_is_forgotten(off_ms: int) -> None:
    """The machine ran for as long as acknowledged rows linger, while no agent did: they are
    deleted, and count as delivered."""
    bench = adopted([4, 4, 0, 0, 0], off_ms)
    assert bench.uncommitted.collecting.deleted[TELEMETRY] == [Span(0, 4)]
    assert bench.counters["messages_delivered"] == 4
    assert list(bench.queue.unread) == [Span(5, 10)]
    assert bench.queue.stored.rows == 6
    assert resting_rows(bench) == []


def test_nothing_is_deleted_where_nothing_rested() -> None:
    """The rows that rested are gone already."""
    bench = adopted([4, 4, 0, 0, 0], 30_000, ids=range(5, 11))
    assert bench.uncommitted.collecting.is_empty
    assert bench.changes == 0
    assert list(bench.queue.unread) == [Span(5, 10)]


def test_a_short_stop_sends_again_what_rested() -> None:
    """A pong is no commit by the platform: until it has lingered long enough, a row is repeated."""
    bench = adopted([4, 4, 0, 0, 0], 29_999)
    assert bench.uncommitted.collecting.is_empty
    assert list(bench.queue.unread) == [Span(1, 10)]


def test_what_was_repeated_often_enough_goes_on_to_linger() -> None:
    """For what is left of its time, where it rested; the others are sent again."""
    bench = adopted([4, 4, 4, 4, 4], 20_000)
    assert resting_rows(bench) == [(0, 4, 4, 110.0)]
    assert list(bench.queue.unread) == [Span(5, 10)]
    assert bench.queue.stored.rows == 10


def test_what_was_to_be_sent_again_lingers_for_its_whole_time() -> None:
    """How long it rested is not known."""
    bench = adopted([2, 4, 4, 4, 4], 20_000)
    assert resting_rows(bench) == [(0, 4, 4, 130.0)]


def test_what_rested_goes_and_what_was_repeated_lingers_on() -> None:
    """Both in one store: the ranges meet, and cover no row of the other."""
    bench = adopted([2, 4, 4, 4, 4], 30_000)
    assert bench.uncommitted.collecting.deleted[TELEMETRY] == [Span(0, 2)]
    assert resting_rows(bench) == [(3, 4, 2, 130.0)]
    assert list(bench.queue.unread) == [Span(5, 10)]
    bench = adopted([3, 4, 4, 4, 4], 30_000)
    assert resting_rows(bench) == [(4, 4, 1, 130.0)]


def test_rows_that_are_not_there_do_not_linger() -> None:
    """A range without rows is not remembered."""
    bench = adopted([4, 4, 4, 4, 4], 0, ids=range(5, 11))
    assert resting_rows(bench) == []
    assert list(bench.queue.unread) == [Span(5, 10)]


def test_a_store_that_can_not_be_counted_is_sent_again() -> None:
    """Nothing is deleted or lingers whose amount is not known."""
    for off_ms in (0, 50_000):
        bench = adopted([4, 4, 4, 4, 4], off_ms, fails=True)
        assert list(bench.queue.unread) == [Span(0, 10)]
        assert bench.queue.stored.rows == 10
        assert bench.committer.state is State.TROUBLE
        assert resting_rows(bench) == []
        assert bench.uncommitted.collecting.is_empty


def test_rows_beyond_the_last_known_id_are_found() -> None:
    """All rows were acknowledged once, up to the last one, and another one is there."""
    bench = Bench([11])
    bench.backlog.adopt(totals_of(1, 10, [10, 10, 10, 10, 10]), 0, 30_000, 0.0)
    assert list(bench.queue.unread) == [Span(11, 11)]


def test_a_damaged_store_is_left_with_what_only_it_has() -> None:
    """What is in memory is written again, in order, before what was collected; what is unread or
    lingers is missing until it was copied."""
    bench = Bench()
    linger(bench, range(1, 3))
    bench.unread(5, 6, 2)
    bench.queue.fill([row_of(5), row_of(6)])
    bench.queue.unread.clear()
    bench.queue.take(1, 1 << 30, True)
    bench.unread(7, 8, 2)
    new = bench.collect(9)
    bench.queue.append(new)
    bench.ledger.past.accepted = Tally(7, 14)
    assert bench.backlog.detach(10) == [Span(1, 2), Span(7, 8)]
    assert list(bench.uncommitted.collecting.rows[TELEMETRY]) == [5, 6, 9]
    assert bench.uncommitted.collecting.rows[TELEMETRY][9] is new
    assert bench.queue.recovering == [Span(1, 2), Span(7, 8)]
    assert bench.queue.recovering_amount.rows == 4
    assert bench.ledger.past.accepted == Tally(3, 6)
    assert list(bench.queue.unread) == [Span(9, END)]
    bench.queue.check()
    bench.backlog.watermark.lower(100)
    bench.backlog.recovered(Span(1, 2), Amount(2, 2 * COST, 4))
    assert bench.ledger.past.accepted == Tally(5, 10)
    assert bench.backlog.give_up_recovery() == Amount(2, 2 * COST, 4)
    assert bench.ledger.past.accepted == Tally(7, 14)
    assert bench.ledger.past.dropped == Tally(2, 4)
    assert bench.counters["messages_dropped:damaged"] == 2
    assert bench.backlog.give_up_recovery() == Amount()
    assert bench.ledger.past.accepted == Tally(7, 14)


def test_without_new_rows_everything_up_to_the_next_id_is_the_old_store_s() -> None:
    """A second damage adds only what is missing since then."""
    bench = Bench()
    bench.unread(1, 3, 3)
    bench.ledger.past.accepted = Tally(3, 6)
    assert bench.backlog.detach(4) == [Span(1, 3)]
    assert bench.ledger.past.accepted == Tally(0, 0)
    assert bench.backlog.detach(4) == []
    assert bench.ledger.past.accepted == Tally(0, 0)


def test_an_older_row_that_was_recovered_lowers_the_watermark() -> None:
    """Nothing from it on counts as acknowledged."""
    bench = adopted([9, 9, 9, 9, 9], 0)
    bench.backlog.recovered(Span(4, 5), Amount(2, 2 * COST, 4))
    assert bench.backlog.watermark.exhausted == 3


def test_more_than_was_known_is_no_loss() -> None:
    """Nobody had counted what turned up: nothing is dropped."""
    bench = Bench()
    bench.backlog.recovered(Span(1, 2), Amount(2, 2 * COST, 4))
    assert bench.backlog.give_up_recovery() == Amount(-2, -2 * COST, -4)
    assert bench.ledger.past.dropped == Tally(0, 0)


def test_the_totals_say_what_the_class_has() -> None:
    """Every row below the oldest wanted one is acknowledged; with none wanted, every row up to the
    last."""
    bench = Bench()
    linger(bench, range(1, 4))
    totals = Totals()
    bench.backlog.enter_into(totals, 4)
    assert totals.stored["telemetry"] == Stored(3, 3 * COST, 6)
    assert totals.stored["response"] == Stored()
    assert totals.watermarks["telemetry"] == [3, 3, 0, 0, 0]
    bench.queue.append(row_of(4))
    assert bench.backlog.resting(5) == 3
    assert bench.backlog.resting(END) == 3


@pytest.mark.parametrize("is_told", [True, False])
def test_the_end_tells_what_is_lost(is_told: bool) -> None:
    """What was acknowledged is no loss, although it was never committed; the rest is dropped with
    the reason that the agent stopped, and said once. Without such rows nothing is said."""
    bench = Bench()
    with capturedLogs() as logs:
        bench.backlog.close("full")
    assert list(logs) == []
    acknowledged = bench.collect(1)
    acknowledged.state = RowState.LINGERING
    rows = [acknowledged, *((bench.collect(2), bench.collect(3)) if is_told else ())]
    waiting = [row.accepted for row in rows]
    with capturedLogs() as logs:
        bench.backlog.close("full")
    outcomes = [bench.outcome(*pair) for pair in zip(rows, waiting, strict=True)]
    assert outcomes[0] == 1
    assert all(isinstance(one, OutboxClosed) for one in outcomes[1:])
    assert bench.counters["messages_dropped:stopped"] == (2 if is_told else 0)
    assert [one["count"] for one in logs] == ([2] if is_told else [])


def test_answers_have_a_backlog_of_their_own() -> None:
    """What is deleted or buried in one class is still in the other."""
    bench = Bench([1, 2])
    bench.unread(1, 2, 2)
    bench.uncommitted.delete(ANSWER, Span(1, 2))
    bench.uncommitted.bury(Burial(ANSWER, row_of(1), "refused"))
    assert bench.read_on() == [1, 2]


def test_a_reader_that_fails_is_told_to_the_committer_once_for_each_range() -> None:
    """It is up to the committer what to make of it."""
    bench = Bench([1, 2])
    bench.unread(1, 2, 2)
    bench.store.fails_to_read = StoreError("no")
    assert bench.read_on() == []
    assert bench.events.count("close reader") == 1
