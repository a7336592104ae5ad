"""What is not known to be on disk: nothing overtakes anything, and a failure loses nothing."""

from __future__ import annotations

import pytest

from oda.model import MessageClass
from oda.outbox.queue import Row, RowState, Span
from oda.outbox.transaction import ANSWER, TELEMETRY, Burial, Record, Transaction, Uncommitted

ALL = Span(0, 1 << 62)


def collect(uncommitted: Uncommitted, row_id: int, size: int = 10) -> Row:
    row = Row(row_id, bytes(size), True, 0, 0, size)
    uncommitted.collecting.insert(TELEMETRY, row)
    return row


def test_rows_stay_in_order_while_a_transaction_is_being_committed() -> None:
    """The rows under way are older than those that collect; both are only in memory until the
    commit has ended."""
    uncommitted = Uncommitted()
    first = collect(uncommitted, 1)
    transaction = uncommitted.begin()
    second = collect(uncommitted, 2, 5)
    assert uncommitted.running is transaction
    assert list(uncommitted.rows(TELEMETRY)) == [first, second]
    assert uncommitted.size_bytes == 15
    assert uncommitted.committed() is transaction
    assert list(uncommitted.rows(TELEMETRY)) == [second]
    assert uncommitted.size_bytes == 5


def test_a_second_commit_can_not_begin_while_one_is_under_way() -> None:
    """It would make the first one forgotten."""
    uncommitted = Uncommitted()
    collect(uncommitted, 1)
    uncommitted.begin()
    collect(uncommitted, 2)
    with pytest.raises(AssertionError):
        uncommitted.begin()


def test_a_transaction_that_failed_collects_on() -> None:
    """It has everything that came after it, without what was let go meanwhile; what comes next
    goes there, too."""
    uncommitted = Uncommitted()
    first, second = collect(uncommitted, 1), collect(uncommitted, 2)
    transaction = uncommitted.begin()
    third = collect(uncommitted, 3)
    assert uncommitted.delete(TELEMETRY, Span(1, 1)) == []
    assert first.state is RowState.GONE
    assert list(uncommitted.rows(TELEMETRY)) == [second, third]
    assert uncommitted.failed() == (transaction, [first])
    assert uncommitted.running is None
    assert uncommitted.collecting is transaction
    fourth = collect(uncommitted, 4)
    assert list(uncommitted.rows(TELEMETRY)) == [second, third, fourth]
    assert uncommitted.size_bytes == 30


@pytest.mark.parametrize("ends_well", [True, False])
def test_rows_that_were_buried_while_they_are_committed_are_read_by_nobody(ends_well: bool) -> None:
    """They are dead letters, also when the commit fails: then that is all that is written."""
    uncommitted = Uncommitted()
    buried, kept = collect(uncommitted, 1), collect(uncommitted, 2)
    uncommitted.begin()
    uncommitted.bury(Burial(TELEMETRY, buried, "refused"))
    assert list(uncommitted.rows(TELEMETRY)) == [kept]
    if ends_well:
        uncommitted.committed()
        assert list(uncommitted.rows(TELEMETRY)) == []
    else:
        uncommitted.failed()
        assert list(uncommitted.rows(TELEMETRY)) == [kept]
        assert uncommitted.size_bytes == 10
    assert [one.row for one in uncommitted.collecting.burials] == [buried]
    assert uncommitted.deleted(TELEMETRY, ALL) == [(1, 1)]


def test_rows_to_be_deleted_are_known_until_they_are() -> None:
    """They are those of both transactions, deleted or set aside as dead letters."""
    uncommitted = Uncommitted()
    uncommitted.delete(TELEMETRY, Span(1, 4))
    uncommitted.begin()
    buried = Row(7, b"", True, 0, 0, 0)
    uncommitted.bury(Burial(TELEMETRY, buried, "it was refused"))
    assert uncommitted.deleted(TELEMETRY, ALL) == [(1, 4), (7, 7)]
    assert uncommitted.deleted(TELEMETRY, Span(4, 6)) == [(1, 4)]
    assert uncommitted.deleted(ANSWER, ALL) == []
    uncommitted.committed()
    assert uncommitted.deleted(TELEMETRY, ALL) == [(7, 7)]
    assert not uncommitted.collecting.is_empty


def test_what_never_reached_the_disk_need_not_be_deleted() -> None:
    """A range of rows that are all in this transaction vanishes; one that begins before it is
    deleted as a whole, and consecutive ranges are one."""
    transaction = Transaction()
    rows = [Row(row_id, b"x", True, 0, 0, 10) for row_id in range(5, 9)]
    for row in rows:
        transaction.insert(TELEMETRY, row)
    assert transaction.delete(TELEMETRY, Span(5, 6)) == rows[:2]
    assert transaction.deleted[TELEMETRY] == []
    assert transaction.delete(TELEMETRY, Span(1, 4)) == []
    assert transaction.delete(TELEMETRY, Span(5, 7)) == [rows[2]]
    assert transaction.deleted[TELEMETRY] == [(1, 7)]
    assert transaction.size_bytes == 1
    assert list(transaction.rows[TELEMETRY]) == [8]


def test_older_rows_are_written_in_their_place() -> None:
    """What is written again for a new store comes before what was collected."""
    transaction = Transaction()
    new, old = Row(9, b"new", True, 0, 0, 10), Row(2, b"old", True, 0, 0, 10)
    transaction.insert(TELEMETRY, new)
    transaction.insert_older(TELEMETRY, [old])
    assert list(transaction.rows[TELEMETRY].values()) == [old, new]
    assert transaction.size_bytes == 6


def test_a_failed_transaction_takes_over_everything() -> None:
    """Letters, records and answers of the later one are in it; the newest state of a record counts,
    and its totals are made anew."""
    uncommitted = Uncommitted()
    uncommitted.collecting.records[1] = Record(1, "1", "SET", "JSON", None, 0)
    uncommitted.collecting.letters_gone.append(3)
    uncommitted.begin().totals = b"{}"
    ended = Record(1, "1", "SET", "JSON", None, 5, True, b"answer")
    uncommitted.collecting.records[1] = ended
    uncommitted.collecting.records[2] = None
    uncommitted.collecting.letters_gone.append(4)
    uncommitted.collecting.answers_gone.append(7)
    transaction, _ = uncommitted.failed()
    assert transaction.records == {1: ended, 2: None}
    assert transaction.letters_gone == [3, 4]
    assert transaction.answers_gone == [7]
    assert transaction.totals is None


def test_what_only_adds_needs_no_totals() -> None:
    """Rows and records are counted at a start; whatever takes away has to say what is left."""
    uncommitted = Uncommitted()
    collect(uncommitted, 1)
    uncommitted.collecting.records[1] = None
    assert uncommitted.collecting.only_adds
    assert not uncommitted.collecting.is_overtaken
    uncommitted.delete(MessageClass.RESPONSE, Span(1, 2))
    assert not uncommitted.collecting.only_adds
    uncommitted.collecting.insert(ANSWER, Row(5, b"free", True, 0, 0, 10))
    assert uncommitted.collecting.is_overtaken
