"""Counts what becomes of messages: in the totals of the store, and in the agent's counters.

accepted = delivered + dropped + dead + stored, in messages and in datapoints, at any moment.
*Delivered* is counted when a row is let go after its acknowledgement, not before: until then it may
have to be sent again.
"""

from __future__ import annotations

from oda.interfaces import ICounters
from oda.model import MessageClass
from oda.outbox.change import Tally, Totals
from oda.outbox.queue import Amount


class Accounts:
    """``past`` is what the store's totals will say of the past; its other members are not used."""

    def __init__(self, counters: ICounters) -> None:
        self._counters = counters
        self._new = Tally()
        self.past = Totals()

    def accepted(self, datapoints: int) -> None:
        """One message more; it shows in ``past`` after ``settle``."""
        self._new.messages += 1
        self._new.datapoints += datapoints

    def settle(self) -> None:
        """Enter what was accepted since the last time."""
        new = self._new
        if new.messages:
            self._new = Tally()
            self.past.accepted.add(new.messages, new.datapoints)
            self._counters.increment("messages_accepted", new.messages)
            if new.datapoints:
                self._counters.increment("datapoints_accepted", new.datapoints)

    def delivered(self, message_class: MessageClass, amount: Amount) -> None:
        """These were acknowledged and need not be kept any longer."""
        self.past.delivered.add(amount.rows, amount.datapoints)
        self._count("delivered", amount, message_class=message_class.value)

    def dropped(self, message_class: MessageClass, amount: Amount, reason: str) -> None:
        """These will not be delivered."""
        self.past.dropped.add(amount.rows, amount.datapoints)
        self._count("dropped", amount, message_class=message_class.value, reason=reason)

    def died(self, message_class: MessageClass, amount: Amount) -> None:
        """These are dead letters now."""
        self.past.dead.add(amount.rows, amount.datapoints)
        self._count("dead", amount, message_class=message_class.value)

    def revived(self, datapoints: int) -> None:
        """A dead letter was accepted once more: it is the same message, not another one."""
        self.past.accepted.add(-1, -datapoints)
        self.past.dead.add(-1, -datapoints)

    def found(self, amount: Amount) -> None:
        """Rows have turned up that nobody had counted."""
        self.past.accepted.add(amount.rows, amount.datapoints)

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
