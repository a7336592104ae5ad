"""What is not known to be on disk: nothing overtakes anything, and a failure loses nothing."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import pytest

from oda.model import MessageClass
from oda.outbox.queue import Amount, Row, RowState, Span
from oda.outbox.transaction import (
    ANSWER,
    TELEMETRY,
    Burial,
    Record,
    Tally,
    Totals,
    Transaction,
    Uncommitted,
    checksum,
)

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


def test_a_transaction_is_empty_until_it_changes_anything() -> None:
    """Any of its parts makes it worth a commit; only some of them change what was stored before:
    then the totals have to be written."""
    changes: list[tuple[bool, Callable[[Transaction], object]]] = [
        (True, lambda one: one.insert(TELEMETRY, Row(1, b"", True, 0, 0, 0))),
        (True, lambda one: one.insert(ANSWER, Row(1, b"", True, 0, 0, 0))),
        (True, lambda one: one.records.update({1: None})),
        (True, lambda one: one.answers_gone.append(1)),
        (False, lambda one: one.delete(TELEMETRY, Span(1, 1))),
        (False, lambda one: one.delete(ANSWER, Span(1, 1))),
        (False, lambda one: one.bury(Burial(TELEMETRY, Row(1, b"", True, 0, 0, 0), "refused"))),
        (False, lambda one: one.letters_gone.append(1)),
    ]
    transaction = Transaction()
    assert transaction.is_empty
    assert transaction.only_adds
    for only_adds, change in changes:
        transaction = Transaction()
        change(transaction)
        assert not transaction.is_empty
        assert transaction.only_adds is only_adds


def test_ranges_are_joined_only_where_they_meet() -> None:
    """In the order in which they come."""
    transaction = Transaction()
    for span in (Span(1, 2), Span(3, 3), Span(5, 6), Span(4, 4)):
        transaction.delete(TELEMETRY, span)
    assert transaction.deleted[TELEMETRY] == [Span(1, 3), Span(5, 6), Span(4, 4)]


def test_rows_that_were_tried_are_deleted_in_any_case() -> None:
    """The commit that reported an error may have worked: they may be on disk."""
    transaction = Transaction()
    transaction.was_tried = True
    row = Row(1, b"x", True, 0, 0, 10)
    transaction.insert(TELEMETRY, row)
    assert transaction.delete(TELEMETRY, Span(1, 1)) == [row]
    assert row.state is RowState.GONE
    assert transaction.deleted[TELEMETRY] == [Span(1, 1)]


def test_a_buried_row_is_written_only_as_a_dead_letter() -> None:
    """Its bytes don't count among the rows any more; one that was on disk already had none here."""
    transaction = Transaction()
    new, old = Row(1, b"abc", True, 0, 0, 10), Row(2, b"abcde", True, 0, 0, 10)
    transaction.insert(TELEMETRY, new)
    for row in (new, old):
        transaction.bury(Burial(TELEMETRY, row, "refused"))
    assert transaction.rows[TELEMETRY] == {}
    assert transaction.size_bytes == 0
    assert [one.row for one in transaction.burials] == [new, old]
    assert [one.is_damaged for one in transaction.burials] == [False, False]


def test_a_page_of_the_store_gives_way_to_what_is_in_memory() -> None:
    """Rows of both transactions, as soon as the page reaches the first of them; and only those."""
    uncommitted = Uncommitted()
    first = collect(uncommitted, 3)
    uncommitted.begin()
    second = collect(uncommitted, 5)
    stored = {row_id: Row(row_id, b"s", True, 0, 0, 10) for row_id in range(1, 7)}
    for ids, expected in (
        ([1, 2], [stored[1], stored[2]]),
        ([2, 3], [stored[2], first]),
        ([3, 4, 5, 6], [first, stored[4], second, stored[6]]),
        ([5], [second]),
    ):
        found = uncommitted.known(TELEMETRY, [stored[row_id] for row_id in ids])
        assert [id(row) for row in found] == [id(row) for row in expected]
    assert uncommitted.known(ANSWER, [stored[3]]) == [stored[3]]


def test_only_rows_of_the_range_are_gone() -> None:
    """While they are being committed, from the first to the last of it."""
    uncommitted = Uncommitted()
    rows = [collect(uncommitted, row_id) for row_id in range(1, 6)]
    uncommitted.begin()
    uncommitted.delete(TELEMETRY, Span(2, 4))
    assert [row.state is RowState.GONE for row in rows] == [False, True, True, True, False]
    assert uncommitted.collecting.deleted[TELEMETRY] == [Span(2, 4)]
    assert [row.row_id for row in uncommitted.rows(TELEMETRY)] == [1, 5]
    uncommitted.bury(Burial(TELEMETRY, rows[0], "refused"))
    assert rows[0].state is RowState.GONE


@pytest.mark.parametrize(("column", "change"), [(0, 1), (1, 1), (2, 1), (3, b"abd")])
def test_a_change_of_any_column_changes_the_checksum(column: int, change: Any) -> None:
    """The id, the kind, the datapoints or the payload."""
    values: list[Any] = [5, 0, 7, b"abc"]
    before = checksum(*values)
    values[column] = change if column == 3 else values[column] + change
    assert checksum(*values) != before


def test_the_checksum_is_that_of_stores_that_exist() -> None:
    """Another one would make every row of an older store a changed one."""
    assert checksum(5, 1, 7, b"abc") == zlib.crc32(
        b"abc", (5 * 0x9E3779B1 ^ 7 * 0x85EBCA6B ^ 1) & 0xFFFFFFFF
    )
    assert checksum(1 << 40, 0, 0, b"") == ((1 << 40) * 0x9E3779B1) & 0xFFFFFFFF


def test_totals_say_what_each_class_has() -> None:
    """New ones know both classes, and nothing else."""
    totals = Totals()
    assert totals.last_ids == {"telemetry": 0, "response": 0}
    assert totals.watermarks == {"telemetry": [], "response": []}
    assert (totals.clock_ms, totals.wall_ms, totals.uptime_ms) == (0, 0, 0)
    totals.stored["telemetry"].add(Amount(1, 2, 3))
    totals.stored["telemetry"].add(Amount(1, 2, 3))
    assert totals.stored_amount(TELEMETRY) == Amount(2, 4, 6)
    assert totals.stored_amount(ANSWER) == Amount()
    totals.accepted.add(2, 3)
    assert totals.accepted == Tally(2, 3)
    assert totals.delivered == totals.dropped == totals.dead == Tally(0, 0)
