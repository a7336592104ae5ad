"""When the store is told of the sums and of what was acknowledged.

Acknowledgements and totals ride with commits that are made anyway. Rows that were only added since
the totals were written are counted at the start of the next process, so a commit that only adds
rows needs no totals. What was acknowledged can't be counted: after ``ackCommitDelay`` it gets a
commit of its own. It gets one at once where a start after a crash would repeat for ever what this
one has repeated, or would forget what this one has to send again.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from twisted.internet.interfaces import IReactorTime

from oda.model import MessageClass
from oda.outbox.backlog import Backlog
from oda.outbox.clock import OutboxClock
from oda.outbox.ledger import Ledger
from oda.outbox.queue import END
from oda.outbox.transaction import Totals, Transaction

#: While acknowledged rows have to be sent again, their acknowledgement is committed so soon, in
#: seconds.
_OWING_DELAY_S = 1.0
#: After this part of their delay, acknowledgements go with a commit that is made anyway.
_RIDE = 0.5
#: The totals are written at least once for so many rows: a start after a crash counts the others.
_UNCOUNTED_ROWS = 256


class Accounts:
    """``ack_delay_s`` is how long an acknowledgement waits for a commit.

    ``must_commit``: what was acknowledged has to be committed, even if there is nothing else.
    """

    def __init__(
        self,
        ack_delay_s: float,
        reactor: IReactorTime,
        clock: OutboxClock,
        ledger: Ledger,
        backlogs: Mapping[MessageClass, Backlog],
    ) -> None:
        self._ack_delay_s = ack_delay_s
        self._reactor = reactor
        self._clock = clock
        self._ledger = ledger
        self._backlogs = backlogs
        self._may_owe = True
        self._acknowledged_s: float | None = None  # the first time since the totals were written
        self._must_count = True
        self._uncounted = 0
        self.must_commit = False

    def totals(self) -> Totals:
        """The totals after everything so far."""
        self._ledger.settle()
        totals = self._ledger.past
        self._clock.enter_into(totals)
        for message_class, backlog in self._backlogs.items():
            backlog.enter_into(totals, self._clock.next_ids[message_class])
        return totals

    def totals_for(self, transaction: Transaction, is_last: bool) -> bytes | None:
        """As ``ICommitOwner.totals_for``."""
        self._ledger.settle()
        self._uncounted += sum(len(rows) for rows in transaction.rows.values())
        if not (
            is_last
            or self._must_count
            or self._uncounted > _UNCOUNTED_ROWS
            or not transaction.only_adds
            or self._waits_longer_than(0 if self.is_owing() else self._ack_delay_s * _RIDE)
        ):
            return None
        self._must_count = False
        self._uncounted = 0
        self._acknowledged_s = None
        return msgspec.json.encode(self.totals())

    def count_anew(self) -> None:
        """The next commit writes the totals: those of the store are not known to be right."""
        self._must_count = True

    def commit_soon(self) -> None:
        """What was acknowledged, or has to be sent again, is committed with the end of the turn."""
        self.must_commit = self._must_count = True

    def acknowledged(self, now_s: float) -> None:
        """Rows were acknowledged."""
        if self._acknowledged_s is None:
            self._acknowledged_s = now_s
        if self._may_owe and not self.is_owing():
            # Now, once in a life: agents that die soon after would repeat the same for ever.
            self.commit_soon()

    def replayed(self) -> None:
        """Acknowledged rows have to be sent again. Their time does not go on: a start after this
        one must not forget them."""
        self._may_owe = True
        self.commit_soon()

    def is_owing(self) -> bool:
        """Whether rows have to be sent again that were acknowledged once."""
        self._may_owe = self._may_owe and any(
            backlog.watermark.is_owing(backlog.resting(END)) for backlog in self._backlogs.values()
        )
        return self._may_owe

    def is_due(self) -> bool:
        """Whether acknowledgements have waited long enough for a commit."""
        return self._waits_longer_than(_OWING_DELAY_S if self.is_owing() else self._ack_delay_s)

    def _waits_longer_than(self, delay_s: float) -> bool:
        since_s = self._acknowledged_s
        return since_s is not None and self._reactor.seconds() - since_s >= delay_s
