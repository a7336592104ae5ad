"""What the durable outbox has in stock: its queues, what leaves them, and what the store knows.

It accounts for each row that leaves and has it deleted from the store, and keeps in step with the
store when that is opened, written or replaced. Rows come back from the store through ``pager``;
which ones have to go is decided by ``shedding``. Nothing here waits or schedules; ``changed`` asks
for a commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from oda.errors import OutboxClosed, OutboxFull
from oda.model import MessageClass
from oda.outbox.accounts import Accounts
from oda.outbox.change import CLASSES, Burial, Change, Stored, Totals
from oda.outbox.committer import Committer, State
from oda.outbox.letters import DeadLetters
from oda.outbox.queue import Amount, Batch, ClassQueue, Kept, amount_of
from oda.outbox.room import Room, side_cost
from oda.outbox.takeup import Times, take_up
from oda.settings import OutboxSettings

_log = Logger()

#: Below this size a file's fixed pages say more about it than its rows do.
_MEASURABLE_BYTES = 1024 * 1024

RESPONSE, TELEMETRY = CLASSES


class Stock:
    """``changed`` is called when there is something new to commit or to send."""

    def __init__(
        self,
        settings: OutboxSettings,
        room: Room,
        accounts: Accounts,
        committer: Committer,
        changed: Callable[[], None],
        head_rows: int,
    ) -> None:
        self._settings = settings
        self._committer = committer
        self._uncommitted = committer.uncommitted
        self._changed = changed
        self.room = room
        self.accounts = accounts
        self.queues = {one: ClassQueue(head_rows, linger_s=settings.linger_s) for one in CLASSES}
        self.letters = DeadLetters(room.side_bytes)
        self.journal_cost = 0
        #: True while rows in the store were passed over because it could not be read.
        self.has_skipped = False
        self._expected: dict[MessageClass, Amount] = {}
        self._modelled = 0
        self._was_full = False

    @property
    def is_owing(self) -> bool:
        """True while rows have to be sent again that were acknowledged once."""
        return self.queues[RESPONSE].marks.is_owing or self.queues[TELEMETRY].marks.is_owing

    # -- letting go --------------------------------------------------------------------------

    def expire(self, now_s: float) -> None:
        """Forget the rows that have lingered long enough."""
        for message_class, queue in self.queues.items():
            if queue.lingering:
                self.deliver(message_class, queue.expire(now_s))

    def settle(self) -> None:
        """Forget all lingering rows."""
        for message_class, queue in self.queues.items():
            self.deliver(message_class, queue.evict(1 << 62))

    def deliver(self, message_class: MessageClass, batches: Sequence[Batch]) -> None:
        """Rows that left their queue were acknowledged, and are not kept any longer."""
        for batch in batches:
            unwritten = self._uncommitted.collecting.forget(message_class, batch.low, batch.high)
            for kept in unwritten:
                accept(kept)
            self.accounts.delivered(message_class, batch.amount)
        if batches:
            self._was_full = False
            self._changed()

    def lose(self, message_class: MessageClass, victims: list[Kept], reason: str) -> Amount:
        """Rows that left their queue will not be delivered; gives what they amount to."""
        amount = amount_of(victims)
        self.accounts.dropped(message_class, amount, reason)
        for kept in victims:
            ticket, kept.ticket = kept.ticket, None
            if ticket is not None:
                ticket.errback(OutboxFull(f"dropped before it was committed ({reason})"))
        if victims and reason == "full" and not self._was_full:
            _log.warn("the outbox is full: the oldest messages are dropped, and counted")
            self._was_full = True
        return amount

    def bury(
        self, message_class: MessageClass, kept: Kept, reason: str, is_damaged: bool = False
    ) -> None:
        """Set a row that left its queue aside as a dead letter."""
        change = self._uncommitted.collecting
        change.bury(Burial(message_class, kept, reason, is_damaged))
        self.accounts.died(message_class, amount_of((kept,)))
        change.dead_gone += self.letters.add(kept.row_id, side_cost(len(kept.payload)))
        self.side_changed()
        _log.error(
            "message {row_id} ({size} bytes) is set aside: {reason}",
            row_id=kept.row_id,
            size=len(kept.payload),
            reason=reason,
        )
        self._changed()

    def side_changed(self) -> None:
        """The dead letters or the journal take another room than before."""
        self.room.side_cost = self.letters.cost + self.journal_cost

    # -- passing over ------------------------------------------------------------------------

    def skip(self, queue: ClassQueue) -> None:
        """Rows of the store had to be passed over: newer ones are sent first."""
        self.has_skipped = queue.has_gaps = True

    def go_back(self) -> bool:
        """Begin again with the oldest row, now that the store can be read, once nothing is in
        flight any more. False while that has to be waited for."""
        if self._committer.state is not State.OPEN:
            return True
        if any(queue.in_flight for queue in self.queues.values()):
            return False
        for queue in self.queues.values():
            queue.restart()
        self.has_skipped = False
        return True

    # -- what the committer asks and tells (see ICommitOwner) ---------------------------------

    def totals(self, now_s: float) -> Totals:
        self.accounts.settle()
        totals = self.accounts.past
        self._modelled = 0
        for message_class, queue in self.queues.items():
            stored = Stored(*queue.stored.as_tuple())
            marks = queue.marks.stored(now_s, self._settings.linger_s)
            if message_class is RESPONSE:
                totals.response, totals.response_marks = stored, marks
            else:
                totals.telemetry, totals.telemetry_marks = stored, marks
            self._modelled += stored.cost
        return totals

    def adopt(self, totals: Totals, is_late: bool, off_ms: int, now_s: float) -> None:
        """Take up the rows of a store that was just opened; they are older than all others.
        ``off_ms`` is for how long no agent ran while the machine did."""
        self.accounts.join(totals)
        for message_class, queue in self.queues.items():
            stored = totals.stored(message_class)
            amount = Amount(stored.rows, stored.cost, stored.datapoints)
            if is_late:
                queue.stored.add(amount)
                if stored.rows > 0:
                    self.skip(queue)
            else:
                queue.spill(amount)
            gone = take_up(
                queue,
                message_class,
                totals.marks(message_class),
                self._committer.reader,
                Times(off_ms, int(self._settings.linger_s * 1000), now_s),
                is_late,
            )
            self.deliver(message_class, gone)
        reader = self._committer.reader
        if reader is not None:
            for row_id, length in reader.query("SELECT id, length(payload) FROM dead ORDER BY id"):
                pushed_out = self.letters.add(row_id, side_cost(length))
                self._uncommitted.collecting.dead_gone += pushed_out
        self.side_changed()

    def committed(self, change: Change, used_bytes: int) -> None:
        if used_bytes > _MEASURABLE_BYTES:
            self.room.measured(used_bytes, self._modelled)
        for message_class in CLASSES:
            for kept in change.rows[message_class].values():
                ticket = kept.ticket
                if ticket is not None:
                    kept.ticket = None
                    ticket.callback(kept.row_id)
        for burial in change.burials:
            accept(burial.kept)

    def close(self) -> None:
        """Nothing will be committed any more: what is only in memory is lost."""
        for message_class in CLASSES:
            left = list(self._uncommitted.collecting.rows[message_class].values())
            if not left:
                continue
            self.accounts.dropped(message_class, amount_of(left), "stopped")
            _log.error("{count} messages could not be written and are lost", count=len(left))
            for kept in left:
                ticket, kept.ticket = kept.ticket, None
                if ticket is not None:
                    ticket.errback(OutboxClosed("the agent is stopping"))

    def known_rows(
        self,
    ) -> tuple[Mapping[MessageClass, Sequence[Kept]], Mapping[MessageClass, int]]:
        known: dict[MessageClass, Sequence[Kept]] = {}
        borders: dict[MessageClass, int] = {}
        for message_class, queue in self.queues.items():
            newer = {kept.row_id for kept in self._uncommitted.rows(message_class)}
            known[message_class] = [
                kept
                for kept in (*queue.in_flight.values(), *queue.head)
                if kept.row_id not in newer
            ]
            borders[message_class] = queue.head_hi
            expected = queue.spilled.copy()
            expected.subtract(
                amount_of(
                    kept
                    for kept in self._uncommitted.rows(message_class)
                    if kept.row_id > queue.head_hi
                )
            )
            self._expected[message_class] = expected
        return known, borders

    def healed(self, amounts: Mapping[MessageClass, Amount]) -> None:
        for message_class, queue in self.queues.items():
            lost = self._expected[message_class]
            lost.subtract(amounts[message_class])
            queue.discard_spilled(lost)
            if lost.rows > 0:
                self.accounts.dropped(message_class, lost, "damaged")
            elif lost.rows < 0:
                self.accounts.found(Amount(-lost.rows, -lost.cost, -lost.datapoints))
        self._changed()


def accept(kept: Kept) -> None:
    """Tell the one who put this row that it is accepted, unless that was done."""
    ticket: Deferred[int] | None = kept.ticket
    if ticket is not None:
        kept.ticket = None
        ticket.callback(kept.row_id)
