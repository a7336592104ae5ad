"""What became of each message: the sums of the store and the agent's counters, and who is told.

accepted = delivered + dropped + dead + stored, in messages and in datapoints, at any moment. A row
is *delivered* when it is let go after its acknowledgement, not before: until then it may have to be
sent again.

Nobody is told while state is being changed. Whatever happened is collected here, and ``tell`` tells
it when the state is settled: whoever hears of it may call the outbox in any way. What happens
meanwhile is told after it, by the same loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oda.interfaces import ICounters
from oda.model import MessageClass
from oda.outbox.queue import Amount, Row, RowState, amount_of
from oda.outbox.transaction import Tally, Totals, Transaction

_log = Logger()

#: What the log says of messages that are dropped; the other reasons are said where they arise.
_REASONS = {
    "full": "the outbox is full: the oldest messages are dropped, and counted",
    "age": "messages are older than outboxMaxAge: they are dropped, and counted",
    "disk": "the outbox can't be written and memory is full: the oldest messages are dropped, and"
    " counted",
}


class Ledger:
    """``past`` holds the sums over all time; its other members are not used."""

    def __init__(self, counters: ICounters) -> None:
        self._counters = counters
        self._accepted = Tally()
        self._news: deque[tuple[Deferred[Any], Any]] = deque()
        self._calls: dict[Callable[[], None], None] = {}
        self._is_telling = False
        self._holds = 0
        self._told: set[str] = set()
        self.past = Totals()

    # -- who is told -------------------------------------------------------------------------

    def accept(self, rows: Iterable[Row]) -> None:
        """Tell those who put these rows that they are accepted, unless that was done."""
        news = self._news
        for row in rows:
            waiting = row.accepted
            if waiting is not None:
                row.accepted = None
                news.append((waiting, row.row_id))

    def committed(self, transaction: Transaction) -> None:
        """The rows of ``transaction`` are on disk."""
        for rows in transaction.rows.values():
            if rows:
                self.accept(rows.values())
        if transaction.burials:
            self.accept([burial.row for burial in transaction.burials])

    def failed(self, transaction: Transaction, unwritten: Iterable[Row]) -> None:
        """``transaction`` is not on disk; ``unwritten`` were let go while it was under way."""
        # They were acknowledged or buried: what was dropped was told at once.
        self.accept(unwritten)
        # The platform has read these while the commit was under way.
        for rows in transaction.rows.values():
            self.accept([row for row in rows.values() if row.state is RowState.LINGERING])

    def refuse(self, rows: Sequence[Row], error: Exception) -> None:
        """Tell those who put these rows that they are not accepted, unless they were."""
        for row in rows:
            waiting, row.accepted = row.accepted, None
            if waiting is not None:
                self._news.append((waiting, Failure(error)))

    def fire(self, waiting: Deferred[Any], outcome: Any) -> None:
        """Fire ``waiting`` with ``outcome``."""
        self._news.append((waiting, outcome))

    def call(self, function: Callable[[], None]) -> None:
        """Call ``function``, once for however many times this is asked."""
        self._calls[function] = None

    def tell(self) -> None:
        """Tell everything that happened, unless that is being done or has to wait."""
        if self._is_telling or self._holds:
            return
        self._is_telling = True
        try:
            while self._news or self._calls:
                while self._news:
                    waiting, outcome = self._news.popleft()
                    # Whoever waited may have cancelled; Twisted forgives the one call then.
                    waiting.callback(outcome)
                calls, self._calls = self._calls, {}
                for function in calls:
                    function()
        finally:
            self._is_telling = False

    def hold(self) -> None:
        """Tell nobody before ``release``: a change of state is in the middle of its way."""
        self._holds += 1

    def release(self) -> None:
        """See ``hold``; somebody has to ``tell`` later."""
        self._holds -= 1

    # -- the sums ----------------------------------------------------------------------------

    def put(self, datapoints: int) -> None:
        """One message more; the sums show it after ``settle``."""
        self._accepted.messages += 1
        self._accepted.datapoints += datapoints

    def settle(self) -> None:
        """Enter what was put since the last time."""
        new = self._accepted
        if new.messages:
            self._accepted = Tally()
            self.past.accepted.add(new.messages, new.datapoints)
            self._counters.increment("messages_accepted", new.messages)
            if new.datapoints:
                self._counters.increment("datapoints_accepted", new.datapoints)

    def delivered(self, message_class: MessageClass, amount: Amount) -> None:
        """These were acknowledged and are not kept any longer."""
        self._told.clear()
        self.past.delivered.add(amount.rows, amount.datapoints)
        self._count("delivered", amount, message_class=message_class.text)

    def dropped(self, message_class: MessageClass, amount: Amount, reason: str) -> None:
        """These will not be delivered."""
        if amount.rows and reason in _REASONS and reason not in self._told:
            # Once, until something is delivered again.
            self._told.add(reason)
            _log.warn(_REASONS[reason])
        self.past.dropped.add(amount.rows, amount.datapoints)
        self._count("dropped", amount, message_class=message_class.text, reason=reason)

    def died(self, message_class: MessageClass, row: Row) -> None:
        """This is a dead letter now."""
        amount = amount_of((row,))
        self.past.dead.add(amount.rows, amount.datapoints)
        self._count("dead", amount, message_class=message_class.text)

    def revived(self, datapoints: int) -> None:
        """A dead letter was put once more: it is the same message, not another one."""
        self.past.accepted.add(-1, -datapoints)
        self.past.dead.add(-1, -datapoints)

    def missing(self, amount: Amount) -> None:
        """Rows are not in the store for now: it is damaged and being recovered."""
        self.past.accepted.add(-amount.rows, -amount.datapoints)

    def found(self, amount: Amount) -> None:
        """Rows have turned up in the store, or can be given up as known."""
        self.past.accepted.add(amount.rows, amount.datapoints)

    def refused(self, message_class: MessageClass) -> None:
        """A message was not accepted."""
        self._counters.increment("messages_refused", message_class=message_class.text)

    def counted(self, name: str, amount: int = 1, **labels: str) -> None:
        """Count something that is no message."""
        self._counters.increment(name, amount, **labels)

    def join(self, totals: Totals) -> None:
        """The store has a past of its own."""
        mine, self.past = self.past, totals
        totals.accepted.add(mine.accepted.messages, mine.accepted.datapoints)
        totals.delivered.add(mine.delivered.messages, mine.delivered.datapoints)
        totals.dropped.add(mine.dropped.messages, mine.dropped.datapoints)
        totals.dead.add(mine.dead.messages, mine.dead.datapoints)

    def _count(self, fate: str, amount: Amount, **labels: str) -> None:
        if amount.rows:
            self._counters.increment(f"messages_{fate}", amount.rows, **labels)
        if amount.datapoints:
            self._counters.increment(f"datapoints_{fate}", amount.datapoints, **labels)
