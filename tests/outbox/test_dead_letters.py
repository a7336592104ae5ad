"""The dead letters by themselves: which are kept, and what they cost."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from oda.errors import OutboxFull
from oda.model import OutgoingMessage
from oda.outbox.committer import Committer, State
from oda.outbox.dead_letters import DeadLetters
from oda.outbox.ledger import Ledger
from oda.outbox.limits import Limits, row_cost, side_cost
from oda.outbox.queue import Row, RowState
from oda.outbox.store import Letter
from oda.outbox.transaction import TELEMETRY
from oda.settings import OutboxSettings
from tests.outbox.chosen import ChosenStore, NotingWorker, Owner
from tests.outbox.fakes import FakeCounters, disk_full


def row_of(row_id: int, size: int = 3) -> Row:
    return Row(row_id, b"x" * size, True, 2, 1000, row_cost(size))


class Bench:
    """Dead letters that together may cost ``side_bytes``."""

    def __init__(self, side_bytes: int = 1 << 30) -> None:
        self.store = ChosenStore([])
        self.committer = Committer(self.store, NotingWorker(), Clock(), Owner([]))
        self.collecting = self.committer.uncommitted.collecting
        self.counters = FakeCounters()
        self.limits = Limits(OutboxSettings())
        self.limits.side_bytes = side_bytes
        self.changes = 0
        self.letters = DeadLetters(
            self.committer, Ledger(self.counters), self.limits, self._changed
        )

    def retry(self) -> str:
        """Why nothing can be put once more."""

        def put(message: OutgoingMessage) -> Deferred[int]:
            raise AssertionError("there is nothing to put")

        with pytest.raises(OutboxFull) as refusal:
            self.letters.retry(put)
        return str(refusal.value)

    def _changed(self) -> None:
        self.changes += 1


def test_a_buried_row_is_a_dead_letter() -> None:
    """It is kept with its reason, counted, and a commit is due; the log names it."""
    bench = Bench()
    row = row_of(3)
    with capturedLogs() as logs:
        bench.letters.bury(TELEMETRY, row, "refused")
    assert (logs[0]["row_id"], logs[0]["reason"]) == (3, "refused")
    (burial,) = bench.collecting.burials
    assert (burial.row, burial.reason, burial.is_damaged) == (row, "refused", False)
    assert burial.message_class is TELEMETRY
    assert row.state is RowState.GONE
    assert bench.counters["messages_dead"] == 1
    assert bench.letters.ids() == [3]
    assert bench.changes == 1


def test_the_oldest_dead_letters_make_room() -> None:
    """There are 1,000 at the most: the oldest are deleted, and it is counted and said."""
    bench = Bench()
    for row_id in range(1, 1001):
        assert bench.letters.has_room(1)
        bench.letters.bury(TELEMETRY, row_of(row_id), "refused")
    assert not bench.letters.has_room(1)
    assert bench.counters["dead_letters_forgotten"] == 0
    with capturedLogs() as logs:
        bench.letters.bury(TELEMETRY, row_of(5000), "refused")
    assert bench.collecting.letters_gone == [1]
    assert bench.counters["dead_letters_forgotten"] == 1
    assert [one["count"] for one in logs if "oldest dead letters" in one["log_format"]] == [1]


def test_the_oldest_dead_letters_go() -> None:
    """By their number and by their size; at least the newest stays whatever its size, and one that
    is added again is the newest. What they cost is part of what does not fit any more."""
    cost = side_cost(50)
    bench = Bench(side_bytes=2 * cost)
    letters, gone = bench.letters, bench.collecting.letters_gone
    letters.learn([(1, 50), (2, 50)])
    assert (letters.cost, letters.has_room(0), letters.has_room(1)) == (2 * cost, True, False)
    letters.learn([(1, 50)])
    assert (letters.ids(), gone) == ([2, 1], [])
    assert letters.cost == bench.limits.side_cost == 2 * cost
    letters.learn([(3, 1)])
    assert (letters.ids(), gone) == ([1, 3], [2])
    letters.learn([(4, 100_000)])
    assert (letters.ids(), len(letters), gone) == ([4], 1, [2, 1, 3])
    assert letters.cost == bench.limits.side_cost == side_cost(100_000)
    assert letters.purge() == 1
    assert bench.changes == 1, "a commit is due"
    assert letters.purge() == 0
    assert (letters.ids(), gone) == ([], [2, 1, 3, 4])
    assert letters.cost == bench.limits.side_cost == 0


def test_a_store_that_can_not_be_read_is_not_asked() -> None:
    """While it is not open the dead letters stay as they are."""
    bench = Bench()
    bench.letters.learn([(1, 50)])
    assert bench.retry() == "the store can't be read now"
    bench.committer.open()
    bench.store.dead.clear()
    assert bench.letters.retry(lambda _: Deferred()) == 0, "nobody has it any more"
    assert bench.letters.ids() == [1]


def test_a_dead_letter_that_can_not_be_read_is_trouble_with_the_disk() -> None:
    """So the disk is tried again in a while, and the dead letter stays."""
    bench = Bench()
    bench.letters.learn([(1, 50)])
    bench.committer.open()

    def fails(row_id: int) -> Letter:
        raise disk_full()

    bench.store.letter = fails  # type: ignore[method-assign]
    assert "can't be read now: " in bench.retry()
    assert bench.committer.state is State.TROUBLE
    assert bench.letters.ids() == [1]
