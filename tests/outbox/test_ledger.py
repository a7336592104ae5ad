"""The sums, and what is told of them."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from oda.errors import OutboxFull
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


def waiting_row(row_id: int = 1) -> tuple[Row, list[Any]]:
    """A row for whose acceptance somebody waits, and what that one hears."""
    heard: list[Any] = []
    row = Row(row_id, b"abc", True, 3, 0, 10, Deferred())
    row.accepted.addBoth(heard.append)
    return row, heard


def test_nobody_is_told_before_the_state_is_settled() -> None:
    """Each is told once, in order: that a row is accepted, with its id, or that it is not."""
    ledger = Ledger(FakeCounters())
    (first, heard), (second, refusal) = waiting_row(7), waiting_row(8)
    other: Deferred[Any] = Deferred()
    other.addBoth(heard.append)
    calls: list[str] = []
    ledger.accept([first])
    ledger.refuse([second], OutboxFull("no room"))
    ledger.fire(other, "moved")
    ledger.accept([first, second])
    ledger.refuse([first, second], OutboxFull("too late"))

    def call() -> None:
        calls.append("call")

    ledger.call(call)
    ledger.call(call)
    assert (heard, refusal, calls) == ([], [], [])
    ledger.tell()
    assert heard == [7, "moved"]
    assert isinstance(refusal[0], Failure)
    assert refusal[0].value.args == ("no room",)
    assert len(refusal) == 1
    assert calls == ["call"]
    ledger.tell()
    assert calls == ["call"]


def test_who_is_told_may_cause_more_news() -> None:
    """They are told after it, by the same loop: not inside of it, and not later than it."""
    ledger = Ledger(FakeCounters())
    order: list[str] = []
    first, second, third = Deferred[Any](), Deferred[Any](), Deferred[Any]()

    def on_first(_: object) -> None:
        ledger.fire(third, None)
        ledger.call(lambda: order.append("call"))
        ledger.tell()
        order.append("first")

    first.addCallback(on_first)
    second.addCallback(lambda _: order.append("second"))
    third.addCallback(lambda _: order.append("third"))
    ledger.fire(first, None)
    ledger.fire(second, None)
    ledger.tell()
    assert order == ["first", "second", "third", "call"]


def test_a_call_that_fails_does_not_silence_the_next_news() -> None:
    """The defect goes up; whatever comes after it is told."""
    ledger = Ledger(FakeCounters())
    row, heard = waiting_row(7)
    ledger.call(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(ZeroDivisionError):
        ledger.tell()
    ledger.accept([row])
    ledger.tell()
    assert heard == [7]


def test_a_change_in_the_middle_of_its_way_holds_up_the_news() -> None:
    """As long as one holds it up."""
    ledger = Ledger(FakeCounters())
    row, heard = waiting_row(7)
    ledger.hold()
    ledger.hold()
    ledger.accept([row])
    ledger.tell()
    ledger.release()
    ledger.tell()
    assert heard == []
    ledger.release()
    ledger.tell()
    assert heard == [7]


def test_the_sums_and_the_counters_say_the_same() -> None:
    """Each fate is counted in messages and in datapoints, with its class and its reason; what has
    no datapoints counts none."""
    counters = FakeCounters()
    ledger = Ledger(counters)
    ledger.settle()
    assert counters.sums == {}
    for datapoints in (3, 0, 4):
        ledger.put(datapoints)
    assert ledger.past.accepted == Tally()
    ledger.settle()
    ledger.settle()
    assert ledger.past.accepted == Tally(3, 7)
    ledger.delivered(TELEMETRY, Amount(1, 10, 3))
    ledger.dropped(TELEMETRY, Amount(2, 20, 4), "purged")
    ledger.died(TELEMETRY, Row(1, b"abc", True, 5, 0, 10))
    ledger.refused(TELEMETRY)
    ledger.counted("journal_entries_forgotten", 2)
    ledger.counted("journal_answers_forgotten")
    assert counters.sums == {
        "messages_accepted": 3,
        "datapoints_accepted": 7,
        "messages_delivered": 1,
        "datapoints_delivered": 3,
        "messages_dropped": 2,
        "datapoints_dropped": 4,
        "messages_dropped:purged": 2,
        "datapoints_dropped:purged": 4,
        "messages_dead": 1,
        "datapoints_dead": 5,
        "messages_refused": 1,
        "journal_entries_forgotten": 2,
        "journal_answers_forgotten": 1,
    }
    assert (ledger.past.delivered, ledger.past.dropped, ledger.past.dead) == (
        Tally(1, 3),
        Tally(2, 4),
        Tally(1, 5),
    )


def test_what_is_missing_is_not_accepted_until_it_is_found() -> None:
    """Rows of a damaged store; and a dead letter that is put once more is the same message."""
    ledger = Ledger(FakeCounters())
    ledger.past.accepted, ledger.past.dead = Tally(10, 30), Tally(2, 6)
    ledger.missing(Amount(4, 40, 12))
    assert ledger.past.accepted == Tally(6, 18)
    ledger.found(Amount(3, 30, 9))
    assert ledger.past.accepted == Tally(9, 27)
    ledger.revived(3)
    assert (ledger.past.accepted, ledger.past.dead) == (Tally(8, 24), Tally(1, 3))


def test_only_some_reasons_are_said_here_and_only_of_something() -> None:
    """The other reasons are said where they arise."""
    ledger = Ledger(FakeCounters())
    with capturedLogs() as logs:
        ledger.dropped(TELEMETRY, Amount(), "full")
        ledger.dropped(TELEMETRY, Amount(1, 1, 1), "purged")
    assert list(logs) == []
