"""The fate of each message: the sums of the store, the agent's counters, and the notifications.

accepted = delivered + dropped + dead + stored, in messages and in datapoints, at any moment. A row
is *delivered* when it is let go after its acknowledgement, not before: until then it may have to be
sent again.

No caller is notified while state is being changed. The ledger collects notifications, and ``tell``
fires them when the state is settled, so a notified caller may call the outbox in any way. The same
loop fires the notifications that such calls cause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from oda.interfaces import ICounters
from oda.log import Logger
from oda.model import MessageClass
from oda.outbox.queue import Amount, Row, RowState, amount_of
from oda.outbox.transaction import Tally, Totals, Transaction

_log = Logger()

#: Log texts for dropped messages; other reasons are logged where they occur.
_REASONS = {
    "full": "the outbox is full; the agent drops and counts its oldest messages",
    "age": "messages are older than outboxMaxAge; the agent drops and counts them",
    "disk": "the outbox can't be written and memory is full; the agent drops and counts the oldest"
    " messages",
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

    # -- notifications -----------------------------------------------------------------------

    def accept(self, rows: Iterable[Row]) -> None:
        """Notify the callers who put these rows that they are accepted, each caller only once."""
        news = self._news
        for row in rows:
            waiting = row.accepted
            if waiting is not None:
                row.accepted = None
                news.append((waiting, row.row_id))

    def committed(self, transaction: Transaction) -> None:
        """The rows of ``transaction`` are on disk."""
        for rows in transaction.rows.values():
            self.accept(rows.values())
        self.accept(burial.row for burial in transaction.burials)

    def failed(self, transaction: Transaction, unwritten: Iterable[Row]) -> None:
        """``transaction`` is not on disk; ``unwritten`` were let go while it was running."""
        # These were acknowledged or buried: callers of dropped rows were notified at once.
        self.accept(unwritten)
        # The platform has read these during the commit.
        for rows in transaction.rows.values():
            self.accept([row for row in rows.values() if row.state is RowState.LINGERING])

    def refuse(self, rows: Sequence[Row], error: Exception) -> None:
        """Notify the callers who put these rows that they are not accepted, unless they were."""
        for row in rows:
            waiting, row.accepted = row.accepted, None
            if waiting is not None:
                self._news.append((waiting, Failure(error)))

    def fire(self, waiting: Deferred[Any], outcome: Any) -> None:
        """Fire ``waiting`` with ``outcome``."""
        self._news.append((waiting, outcome))

    def call(self, function: Callable[[], None]) -> None:
        """Call ``function``, once for however many requests."""
        self._calls[function] = None

    def tell(self) -> None:
        """Fire all notifications, unless that is already happening or is on hold."""
        if self._is_telling or self._holds:
            return
        self._is_telling = True
        try:
            while self._news or self._calls:
                while self._news:
                    waiting, outcome = self._news.popleft()
                    # The caller may have cancelled; Twisted then allows one more call.
                    waiting.callback(outcome)
                calls, self._calls = self._calls, {}
                for function in calls:
                    function()
        finally:
            self._is_telling = False

    def hold(self) -> None:
        """Hold notifications until ``release``: a change of state is incomplete."""
        self._holds += 1

    def release(self) -> None:
        """See ``hold``; the caller must see to a later ``tell``."""
        self._holds -= 1

    # -- the sums ----------------------------------------------------------------------------

    def put(self, datapoints: int) -> None:
        """One more message was put; the sums include it after ``settle``."""
        self._accepted.messages += 1
        self._accepted.datapoints += datapoints

    def settle(self) -> None:
        """Enter the messages that were put since the last call."""
        new = self._accepted
        if new.messages:
            self._accepted = Tally()
            self.past.accepted.add(new.messages, new.datapoints)
            self._counters.increment("messages_accepted", new.messages)
            if new.datapoints:
                self._counters.increment("datapoints_accepted", new.datapoints)

    def delivered(self, message_class: MessageClass, amount: Amount) -> None:
        """These rows were acknowledged and are no longer retained."""
        self._told.clear()
        self.past.delivered.add(amount.rows, amount.datapoints)
        self._count("delivered", amount, message_class=message_class.text)

    def dropped(self, message_class: MessageClass, amount: Amount, reason: str) -> None:
        """These rows will not be delivered."""
        if amount.rows and reason in _REASONS and reason not in self._told:
            # Log once, until a delivery succeeds again.
            self._told.add(reason)
            _log.warn(_REASONS[reason])
        self.past.dropped.add(amount.rows, amount.datapoints)
        self._count("dropped", amount, message_class=message_class.text, reason=reason)

    def died(self, message_class: MessageClass, row: Row) -> None:
        """This row is now a dead letter."""
        amount = amount_of((row,))
        self.past.dead.add(amount.rows, amount.datapoints)
        self._count("dead", amount, message_class=message_class.text)

    def revived(self, datapoints: int) -> None:
        """A dead letter was put again: it counts as the same message, not as another one."""
        self.past.accepted.add(-1, -datapoints)
        self.past.dead.add(-1, -datapoints)

    def missing(self, amount: Amount) -> None:
        """Rows are not in the store for now: it is damaged and being recovered."""
        self.past.accepted.add(-amount.rows, -amount.datapoints)

    def found(self, amount: Amount) -> None:
        """Rows were found in the store, or are known to be lost."""
        self.past.accepted.add(amount.rows, amount.datapoints)

    def refused(self, message_class: MessageClass) -> None:
        """A message was not accepted."""
        self._counters.increment("messages_refused", message_class=message_class.text)

    def counted(self, name: str, amount: int = 1, **labels: str) -> None:
        """Count an event that is not a message."""
        self._counters.increment(name, amount, **labels)

    def join(self, totals: Totals) -> None:
        """Add the past of a store that was opened."""
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
