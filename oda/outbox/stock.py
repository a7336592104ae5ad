"""What the durable outbox has in stock: the queues, their bounds, and their way to and from disk.

It moves rows between the queues, the changes that are to be committed, and the store, and accounts
for each that leaves. Nothing here waits or schedules; ``changed`` asks for a commit.
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
from oda.outbox.store import UNREADABLE, StoreDamaged
from oda.outbox.takeup import Times, take_up
from oda.settings import OutboxPolicy, OutboxSettings

_log = Logger()

#: How much is read at once.
_PAGE_ROWS = 256
_PAGE_BYTES = 1024 * 1024
#: So many rows too old are dropped before others get their turn.
_AGED_ROWS = 4096
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
        self._changed = changed
        self.room = room
        self.accounts = accounts
        self.queues = {one: ClassQueue(head_rows, linger_s=settings.linger_s) for one in CLASSES}
        self._page_rows = min(_PAGE_ROWS, head_rows)
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

    # -- making room -------------------------------------------------------------------------

    def make_room(self, message_class: MessageClass, cost: int, now_s: float) -> bool:
        """Let acknowledged rows go, then drop the oldest pending ones where the policy is to do
        so. False when there is still no room for a row of ``cost`` bytes."""
        room = self.room
        is_response = message_class is RESPONSE
        if not room.can_ever_hold(cost, is_response):
            return False
        queue = self.queues[message_class]
        others = self.queues[TELEMETRY if is_response else RESPONSE]

        def missing() -> tuple[int, int]:
            return room.missing(queue, others, cost, is_response)

        self.expire(now_s)
        for lingering in (queue, others):
            over, rows = missing()
            while (over > 0 or (rows > 0 and lingering is queue)) and lingering.lingering:
                gone_class = message_class if lingering is queue else _other(message_class)
                self._deliver(gone_class, lingering.evict(max(1, room.chunk(over, rows)[0])))
                over, rows = missing()
        over, rows = missing()
        if self._settings.policy is OutboxPolicy.DROP_OLDEST:
            drops_answers = is_response and not self.may_overdraw()
            victims = (TELEMETRY, RESPONSE) if drops_answers else (TELEMETRY,)
            for victim in victims:
                if over > 0:
                    self.drop(victim, *room.chunk(over, 0), "full")
                over, rows = missing()
            if rows > 0:
                self.drop(message_class, *room.chunk(0, rows), "full")
                over, rows = missing()
        return over <= 0 and rows <= 0

    def may_overdraw(self) -> bool:
        """Whether one more answer is taken even where there is no room for it: a request that was
        read has to be answered. The answers that wait may fill the outbox once."""
        waiting = self.queues[RESPONSE].waiting_cost
        return waiting + self.room.side_cost < self.room.limit

    def release_memory(self, size: int) -> bool:
        """Let acknowledged rows go that may be nowhere but in memory, until ``size`` bytes are
        free. False when that can't be."""
        chunk = max(size, self.room.memory_bytes // 16)
        for message_class, queue in self.queues.items():
            while queue.lingering and not self._has_memory(size):
                self._deliver(message_class, queue.evict(chunk))
        return self._has_memory(size)

    def make_memory(self, size: int) -> bool:
        """Drop the oldest telemetry that is nowhere but in memory and was not sent yet, until
        ``size`` bytes are free. False when that can't be."""
        if self._settings.policy is OutboxPolicy.REFUSE:
            return False
        change, queue = self._committer.collecting, self.queues[TELEMETRY]
        goal = size + self.room.memory_bytes // 16
        victims: list[Kept] = []
        freed = 0
        for kept in change.rows[TELEMETRY].values():
            if kept.attempts == 0:
                victims.append(kept)
                freed += len(kept.payload)
                if freed >= goal:
                    break
        in_head = {kept.row_id for kept in victims if kept.row_id <= queue.head_hi}
        queue.discard(in_head)
        queue.discard_spilled(amount_of(kept for kept in victims if kept.row_id not in in_head))
        for kept in victims:
            change.forget(TELEMETRY, kept.row_id, kept.row_id)
        self._lose(TELEMETRY, victims, "disk")
        return freed >= size

    def _has_memory(self, size: int) -> bool:
        return self._committer.uncommitted_bytes + size <= self.room.memory_bytes

    def drop(self, message_class: MessageClass, over: int, rows: int, reason: str) -> Amount:
        """Drop the oldest pending rows until ``over`` bytes and ``rows`` rows are free, or none is
        left that could be dropped."""
        queue = self.queues[message_class]
        victims: list[Kept] = []
        freed = 0
        while freed < over or len(victims) < rows:
            if not queue.head and not self.read_page(message_class):
                break
            kept = queue.pop_oldest()
            victims.append(kept)
            freed += kept.cost
        return self._drop(message_class, victims, reason)

    def drop_aged(self, before_ms: int) -> bool:
        """Drop pending rows accepted before ``before_ms``; True if there may be more of them."""
        more = False
        for message_class, queue in self.queues.items():
            victims: list[Kept] = []
            while len(victims) < _AGED_ROWS:
                if not queue.head and not self.read_page(message_class):
                    break
                if queue.head[0].accepted_ms >= before_ms:
                    break
                victims.append(queue.pop_oldest())
            self._drop(message_class, victims, "age")
            more = more or len(victims) == _AGED_ROWS
        return more

    def _drop(self, message_class: MessageClass, victims: list[Kept], reason: str) -> Amount:
        if not victims:
            return Amount()
        forget = self._committer.collecting.forget
        if self.queues[message_class].has_gaps:
            for kept in victims:
                forget(message_class, kept.row_id, kept.row_id)
        else:
            # They were the oldest pending rows, so nothing that is wanted lies between them.
            forget(message_class, victims[0].row_id, victims[-1].row_id)
        return self._lose(message_class, victims, reason)

    def _lose(self, message_class: MessageClass, victims: list[Kept], reason: str) -> Amount:
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

    # -- letting go --------------------------------------------------------------------------

    def expire(self, now_s: float) -> None:
        """Forget the rows that have lingered long enough."""
        for message_class, queue in self.queues.items():
            if queue.lingering:
                self._deliver(message_class, queue.expire(now_s))

    def settle(self) -> None:
        """Forget all lingering rows."""
        for message_class, queue in self.queues.items():
            self._deliver(message_class, queue.evict(1 << 62))

    def _deliver(self, message_class: MessageClass, batches: Sequence[Batch]) -> None:
        for batch in batches:
            unwritten = self._committer.collecting.forget(message_class, batch.low, batch.high)
            for kept in unwritten:
                accept(kept)
            self.accounts.delivered(message_class, batch.amount)
        if batches:
            self._was_full = False
            self._changed()

    def bury(
        self, message_class: MessageClass, kept: Kept, reason: str, is_damaged: bool = False
    ) -> None:
        """Set a row that left its queue aside as a dead letter."""
        change = self._committer.collecting
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

    # -- reading -----------------------------------------------------------------------------

    def read_page(self, message_class: MessageClass) -> bool:
        """Fetch the oldest spilled rows into the head; True when the head has rows now."""
        queue, committer = self.queues[message_class], self._committer
        if not queue.spilled.rows or committer.is_healing:
            return bool(queue.head)
        after_id = queue.head_hi
        rows: list[Kept] = []
        while not rows:
            try:
                reader = committer.reader
                if reader is None:
                    if committer.state is State.HEALING:
                        return bool(queue.head)  # opening it has shown that it is damaged
                    if committer.is_adopted:
                        self._skip(queue)
                    break
                page, damaged = reader.page(message_class, after_id, self._page_rows, _PAGE_BYTES)
            except (*UNREADABLE, StoreDamaged) as error:
                if committer.read_failed(error):
                    return bool(queue.head)
                self._skip(queue)
                break
            if not page:
                break
            after_id = page[-1].row_id
            rows = self._wanted(message_class, page, damaged)
        if not rows:
            rows = self._from_memory(message_class, after_id)
        if rows:
            queue.add_page(rows)
        elif queue.spilled.rows and not self.has_skipped:
            lost = queue.lose_spilled()
            self.accounts.dropped(message_class, lost, "damaged")
            _log.error("{rows} messages of the outbox can't be found any more", rows=lost.rows)
            self._changed()
        return bool(queue.head)

    def _skip(self, queue: ClassQueue) -> None:
        self.has_skipped = queue.has_gaps = True

    def _wanted(
        self, message_class: MessageClass, page: list[Kept], damaged: set[int]
    ) -> list[Kept]:
        gone = [
            span
            for span in self._committer.gone(message_class)
            if span[1] >= page[0].row_id and span[0] <= page[-1].row_id
        ]
        if gone:
            page = [
                kept for kept in page if not any(low <= kept.row_id <= high for low, high in gone)
            ]
        if damaged:
            queue = self.queues[message_class]
            for kept in page:
                if kept.row_id in damaged:
                    queue.discard_spilled(amount_of((kept,)))
                    self.bury(message_class, kept, "damaged", is_damaged=True)
            page = [kept for kept in page if kept.row_id not in damaged]
        return page

    def _from_memory(self, message_class: MessageClass, after_id: int) -> list[Kept]:
        rows: list[Kept] = []
        size = 0
        for kept in self._committer.uncommitted(message_class):
            if kept.row_id > after_id:
                rows.append(kept)
                size += len(kept.payload)
                if len(rows) >= self._page_rows or size >= _PAGE_BYTES:
                    break
        return rows

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
                    self._skip(queue)
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
            self._deliver(message_class, gone)
        reader = self._committer.reader
        if reader is not None:
            for row_id, length in reader.query("SELECT id, length(payload) FROM dead ORDER BY id"):
                pushed_out = self.letters.add(row_id, side_cost(length))
                self._committer.collecting.dead_gone += pushed_out
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
            left = list(self._committer.collecting.rows[message_class].values())
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
            newer = {kept.row_id for kept in self._committer.uncommitted(message_class)}
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
                    for kept in self._committer.uncommitted(message_class)
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


def _other(message_class: MessageClass) -> MessageClass:
    return TELEMETRY if message_class is RESPONSE else RESPONSE
