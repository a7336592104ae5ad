"""The sums, and what is told of them."""

from __future__ import annotations

from twisted.logger import capturedLogs

from oda.model import MessageClass
from oda.outbox.ledger import Ledger
from oda.outbox.queue import Amount, Row
from oda.outbox.transaction import Tally, Totals
from tests.outbox.fakes import FakeCounters

TELEMETRY = MessageClass.TELEMETRY


def test_a_full_outbox_is_told_once_until_something_is_delivered() -> None:
    """A line for each message that is dropped would hide all others; a second time of being full is
    news again."""
    ledger = Ledger(FakeCounters())
    with capturedLogs() as logs:
        for expected in (1, 1):
            ledger.dropped(TELEMETRY, Amount(1, 10, 1), "full")
            assert len(logs) == expected
        for _ in range(2):
            ledger.dropped(TELEMETRY, Amount(1, 10, 1), "age")  # another reason, another line
            assert len(logs) == 2
        ledger.delivered(TELEMETRY, Amount(1, 10, 1))
        for _ in range(2):
            ledger.dropped(TELEMETRY, Amount(1, 10, 1), "full")
    assert len(logs) == 3


def test_a_store_that_turns_up_late_adds_its_past_to_the_present() -> None:
    """What happened while the store could not be opened counts as much as what it knows, whatever
    became of the message."""
    ledger = Ledger(FakeCounters())
    for _ in range(4):
        ledger.put(3)
    ledger.settle()
    ledger.delivered(TELEMETRY, Amount(1, 10, 3))
    ledger.dropped(TELEMETRY, Amount(1, 10, 3), "age")
    ledger.died(TELEMETRY, Row(1, b"abc", True, 3, 0, 10))
    past = Totals(
        accepted=Tally(40, 80), delivered=Tally(10, 20), dropped=Tally(11, 22), dead=Tally(12, 24)
    )
    ledger.join(past)
    assert ledger.past is past
    assert past.accepted == Tally(44, 92)
    assert (past.delivered, past.dropped, past.dead) == (
        Tally(11, 23),
        Tally(12, 25),
        Tally(13, 27),
    )
