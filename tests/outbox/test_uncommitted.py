"""What is not known to be on disk: nothing overtakes anything, and a failure loses nothing."""

from __future__ import annotations

from oda.model import MessageClass
from oda.outbox.change import Burial
from oda.outbox.queue import Kept
from oda.outbox.uncommitted import Uncommitted

TELEMETRY = MessageClass.TELEMETRY


def collect(uncommitted: Uncommitted, row_id: int, size: int = 10) -> Kept:
    kept = Kept(row_id, bytes(size), True, 0, 0, size)
    uncommitted.collecting.rows[TELEMETRY][row_id] = kept
    uncommitted.collecting.size_bytes += size
    return kept


def test_rows_stay_in_order_while_a_change_is_being_committed() -> None:
    """The rows under way are older than those that collect; both are only in memory until the
    commit has ended."""
    uncommitted = Uncommitted()
    first = collect(uncommitted, 1)
    change = uncommitted.begin()
    second = collect(uncommitted, 2, 5)
    assert uncommitted.running is change
    assert list(uncommitted.rows(TELEMETRY)) == [first, second]
    assert uncommitted.size_bytes == 15
    assert uncommitted.end() is change
    assert list(uncommitted.rows(TELEMETRY)) == [second]
    assert uncommitted.size_bytes == 5


def test_a_change_that_failed_collects_on() -> None:
    """It has everything that came after it, without what was let go meanwhile; what comes next
    goes there, too."""
    uncommitted = Uncommitted()
    first, second = collect(uncommitted, 1), collect(uncommitted, 2)
    change = uncommitted.begin()
    third = collect(uncommitted, 3)
    uncommitted.collecting.forget(TELEMETRY, 1, 1)
    assert uncommitted.take_back(uncommitted.end()) == [first]
    assert uncommitted.running is None
    assert uncommitted.collecting is change
    fourth = collect(uncommitted, 4)
    assert list(uncommitted.rows(TELEMETRY)) == [second, third, fourth]
    assert uncommitted.size_bytes == 30


def test_rows_to_be_deleted_are_known_until_they_are() -> None:
    """They are those of both changes, deleted or set aside as dead letters."""
    uncommitted = Uncommitted()
    uncommitted.collecting.forget(TELEMETRY, 1, 4)
    uncommitted.begin()
    buried = Kept(7, b"", True, 0, 0, 0)
    uncommitted.collecting.bury(Burial(TELEMETRY, buried, "it was refused"))
    assert uncommitted.gone(TELEMETRY) == [(1, 4), (7, 7)]
    assert uncommitted.gone(MessageClass.RESPONSE) == []
    uncommitted.end()
    assert uncommitted.gone(TELEMETRY) == [(7, 7)]
    assert uncommitted.has_last_words
