"""When the store learns of the sums and of acknowledgements, by itself."""

from __future__ import annotations

import msgspec
import pytest
from twisted.internet.task import Clock

from oda.model import MessageClass
from oda.outbox.backlog import Accounts, Backlog
from oda.outbox.clock import OutboxClock, Uptime, Watermark
from oda.outbox.committer import Committer
from oda.outbox.dead_letters import DeadLetters
from oda.outbox.ledger import Ledger
from oda.outbox.limits import Limits
from oda.outbox.queue import Row, Span
from oda.outbox.transaction import ANSWER, CLASSES, TELEMETRY, Burial, Tally, Totals, Transaction
from oda.settings import OutboxSettings
from tests.outbox.chosen import ChosenStore, NotingWorker, Owner
from tests.outbox.fakes import START_MS, FakeCounters, FakeWallClock


class Bench:
    """Accounts of an outbox whose acknowledgements wait for 10 s."""

    def __init__(self, owes: MessageClass | None = None) -> None:
        self.reactor = Clock()
        self.clock = OutboxClock(
            self.reactor, FakeWallClock(self.reactor), Uptime("boot", self.reactor.seconds)
        )
        self.ledger = Ledger(FakeCounters())
        committer = Committer(ChosenStore([]), NotingWorker(), self.reactor, Owner([]))
        limits = Limits(OutboxSettings())
        letters = DeadLetters(committer, self.ledger, limits, lambda: None)
        self.backlogs = {
            one: Backlog(one, 100, committer, self.ledger, letters, lambda: None) for one in CLASSES
        }
        self.accounts = Accounts(10.0, self.reactor, self.clock, self.ledger, self.backlogs)
        if owes is not None:
            # Its first row was acknowledged once, and is wanted again.
            self.backlogs[owes].watermark = Watermark([0, 1])
            self.backlogs[owes].queue.append(row_of(1))
        assert self.is_written(), "the first commit of a life"

    def is_written(self, *rows: int, is_last: bool = False) -> bool:
        """Whether a commit of new rows writes the totals."""
        transaction = Transaction()
        for row_id in rows:
            transaction.insert(TELEMETRY, row_of(row_id))
        return self.accounts.totals_for(transaction, is_last) is not None


def row_of(row_id: int) -> Row:
    return Row(row_id, b"x", True, 2, 0, 10)


def test_most_commits_leave_the_totals_as_they_are() -> None:
    """New rows can be counted at the next start: up to 256 of them, in both classes together."""
    bench = Bench()
    assert not bench.is_written(*range(1, 201))
    assert not bench.is_written(*range(201, 257))
    assert bench.is_written(257)
    assert not bench.is_written(258)
    transaction = Transaction()
    for row_id in range(1, 200):
        transaction.insert(TELEMETRY, row_of(row_id))
        transaction.insert(ANSWER, row_of(row_id))
    assert bench.accounts.totals_for(transaction, False) is not None


def test_a_commit_that_takes_anything_away_writes_them() -> None:
    """What is gone can't be counted; and the last one of a life writes them."""
    bench = Bench()
    for change in (
        lambda one: one.delete(TELEMETRY, Span(1, 1)),
        lambda one: one.bury(Burial(TELEMETRY, row_of(1), "refused")),
        lambda one: one.letters_gone.append(1),
    ):
        transaction = Transaction()
        change(transaction)
        assert bench.accounts.totals_for(transaction, False) is not None
        assert not bench.is_written(1)
    assert bench.is_written(is_last=True)
    bench.accounts.count_anew()
    assert bench.is_written()
    assert not bench.is_written()


def test_they_say_everything_so_far() -> None:
    """The sums, the ids and the clocks, and what each class has."""
    bench = Bench()
    bench.ledger.put(2)
    bench.backlogs[TELEMETRY].queue.append(row_of(1))
    bench.clock.next_ids[TELEMETRY] = 2
    bench.reactor.advance(1.0)
    written = bench.accounts.totals_for(Transaction(), True)
    assert written is not None
    totals = msgspec.json.decode(written, type=Totals)
    assert totals.accepted == Tally(1, 2)
    assert totals.last_ids["telemetry"] == 1
    assert totals.clock_ms == START_MS + 1000
    assert totals.stored["telemetry"].rows == 1
    assert totals.watermarks["telemetry"] == [0, 0, 0, 0, 0]
    assert bench.accounts.totals() == totals


def test_an_acknowledgement_rides_with_a_commit_and_does_not_wait_for_ever() -> None:
    """It goes with one that is made anyway after half of its delay, and gets one of its own after
    the whole; the first one since the totals were written counts."""
    bench = Bench()
    assert not bench.is_written()
    bench.accounts.acknowledged(bench.reactor.seconds())
    bench.reactor.advance(4.0)
    bench.accounts.acknowledged(bench.reactor.seconds())
    assert not bench.is_written()
    bench.reactor.advance(0.99)
    assert not bench.is_written()
    bench.reactor.advance(0.01)
    assert not bench.accounts.is_due()
    assert bench.is_written()
    bench.reactor.advance(100.0)
    assert not bench.accounts.is_due()
    assert not bench.is_written()
    bench.accounts.acknowledged(bench.reactor.seconds())
    bench.reactor.advance(9.99)
    assert not bench.accounts.is_due()
    bench.reactor.advance(0.01)
    assert bench.accounts.is_due()
    assert not bench.accounts.must_commit


@pytest.mark.parametrize("message_class", CLASSES)
def test_what_has_to_be_sent_again_is_committed_soon(message_class: MessageClass) -> None:
    """As long as a row is owed in any class: with each commit, and after a second without one. The
    acknowledgement of the last of them is committed at once."""
    bench = Bench(owes=message_class)
    assert bench.accounts.is_owing()
    bench.accounts.acknowledged(bench.reactor.seconds())
    assert not bench.accounts.must_commit
    assert bench.is_written()
    bench.accounts.acknowledged(bench.reactor.seconds())
    bench.reactor.advance(0.99)
    assert not bench.accounts.is_due()
    bench.reactor.advance(0.01)
    assert bench.accounts.is_due()
    bench.backlogs[message_class].queue.pop_oldest()
    bench.accounts.acknowledged(bench.reactor.seconds())
    assert bench.accounts.must_commit
    assert not bench.accounts.is_owing()
    bench.accounts.must_commit = False
    bench.accounts.acknowledged(bench.reactor.seconds())
    assert not bench.accounts.must_commit, "once"


def test_a_replay_owes_again() -> None:
    """Rows that lingered are wanted once more, which a start after this one must know; a row beyond
    what was ever acknowledged is not owed."""
    bench = Bench(owes=TELEMETRY)
    row = bench.backlogs[TELEMETRY].queue.pop_oldest()
    assert not bench.accounts.is_owing()
    bench.backlogs[TELEMETRY].queue.append(row)
    assert not bench.accounts.is_owing(), "nobody looks again without a reason"
    bench.accounts.replayed()
    assert bench.accounts.must_commit
    assert bench.is_written()
    assert bench.accounts.is_owing()
    other = Bench()
    other.backlogs[TELEMETRY].queue.append(row_of(1))
    assert not other.accounts.is_owing()
