"""Where every row of a message class is, and how it comes back from the store.

One ``Backlog`` for each class is the only one that knows which rows there are. ``queue`` keeps them
in order; this module reads on where the queue's memory ends, through one filter (``_read``): what
the store gives, less what was deleted and not committed yet, then what is not committed yet. Where
the store can't be read for now, the rows that are not committed yet go first, and the range before
them stays unread.

Every row that leaves is entered in the ledger and deleted from the store in the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from oda.errors import OutboxClosed, OutboxFull
from oda.model import MessageClass
from oda.outbox.clock import Watermark
from oda.outbox.committer import Committer
from oda.outbox.ledger import Ledger
from oda.outbox.limits import DeadLetters, Limits, side_cost
from oda.outbox.queue import Amount, Batch, Queue, Row, RowState, Span, amount_of, runs_of
from oda.outbox.store import StoreError
from oda.outbox.transaction import Burial, Stored, Totals, Uncommitted

_log = Logger()

#: How much is read at once.
PAGE_ROWS = 256
PAGE_BYTES = 1024 * 1024


class Backlog:
    """The rows of ``message_class``. ``changed`` asks for a commit at the end of the turn."""

    def __init__(
        self,
        message_class: MessageClass,
        head_rows: int,
        committer: Committer,
        ledger: Ledger,
        limits: Limits,
        letters: DeadLetters,
        changed: Callable[[], None],
    ) -> None:
        self.message_class = message_class
        self.queue = Queue(head_rows)
        self.watermark = Watermark()
        self._page_rows = min(PAGE_ROWS, head_rows)
        self._committer = committer
        self._uncommitted: Uncommitted = committer.uncommitted
        self._ledger = ledger
        self._limits = limits
        self._letters = letters
        self._changed = changed

    # -- reading on --------------------------------------------------------------------------

    def read_on(self) -> bool:
        """Bring the oldest unread rows into the head if it is empty; True when it has rows now."""
        queue = self.queue
        if queue.head or not queue.unread or self._committer.is_moving:
            return bool(queue.head)
        blocked: list[Span] = []
        rows: list[Row] = []
        while queue.unread and not rows:
            span = queue.unread.popleft()
            rows, before, after = self._read(span)
            if before is not None:
                blocked.append(before)
            if after is not None:
                queue.unread.appendleft(after)
        queue.unread.extendleft(reversed(blocked))
        queue.fill(rows)
        if not queue.unread and queue.unread_amount.rows:
            self._lose_missing()
        elif not queue.unread_amount.rows:
            queue.unread.clear()
        return bool(queue.head)

    def _read(self, span: Span) -> tuple[list[Row], Span | None, Span | None]:
        """The next rows of ``span``, and what stays unread of it before and after them."""
        committer = self._committer
        low = span.low
        while committer.can_read:
            try:
                page, damaged = committer.store.page(
                    self.message_class, Span(low, span.high), self._page_rows, PAGE_BYTES
                )
            except StoreError as error:
                committer.read_failed(error)
                break
            if not page:
                rows = self._from_memory(Span(low, span.high))
                return rows, None, Span(rows[-1].row_id + 1, span.high) if rows else None
            low = page[-1].row_id + 1
            rows = self._wanted(page, damaged)
            if rows:
                return rows, None, Span(low, span.high) if low <= span.high else None
        rows = self._from_memory(Span(low, span.high))
        if not rows:
            return [], Span(low, span.high), None
        before = Span(low, rows[0].row_id - 1) if low < rows[0].row_id else None
        return rows, before, Span(rows[-1].row_id + 1, span.high)

    def _wanted(self, page: list[Row], damaged: set[int]) -> list[Row]:
        """The rows of a page that are still in the outbox and as they were written."""
        gone = self._uncommitted.deleted(self.message_class, Span(page[0].row_id, page[-1].row_id))
        if gone:
            page = [row for row in page if not any(low <= row.row_id <= high for low, high in gone)]
        if damaged:
            for row in page:
                if row.row_id in damaged:
                    self.queue.discard_unread(amount_of((row,)))
                    self.bury(row, "damaged", is_damaged=True)
            page = [row for row in page if row.row_id not in damaged]
        return self._uncommitted.known(self.message_class, page) if page else page

    def _from_memory(self, span: Span) -> list[Row]:
        rows: list[Row] = []
        size = 0
        for row in self._uncommitted.rows(self.message_class):
            if span.low <= row.row_id <= span.high:
                rows.append(row)
                size += len(row.payload)
                if len(rows) >= self._page_rows or size >= PAGE_BYTES:
                    break
        return rows

    def _lose_missing(self) -> None:
        lost = self.queue.unread_amount.copy()
        self.queue.discard_unread(lost)
        self._ledger.dropped(self.message_class, lost, "damaged")
        _log.error("{rows} messages of the outbox can't be found any more", rows=lost.rows)
        self._changed()

    # -- leaving -----------------------------------------------------------------------------

    def expire(self, now_s: float) -> None:
        """Let the rows go that have lingered long enough."""
        if self.queue.lingering:
            self.deliver(self.queue.expire(now_s))

    def evict(self, cost: int) -> None:
        """Let acknowledged rows go until ``cost`` bytes are free or none is left."""
        self.deliver(self.queue.evict(cost))

    def deliver(self, batches: Sequence[Batch]) -> None:
        """Batches that left the queue were acknowledged, and are not kept any longer."""
        for batch in batches:
            unwritten = self._uncommitted.delete(self.message_class, Span(batch.low, batch.high))
            self._ledger.accept(unwritten)
            self._ledger.delivered(self.message_class, batch.amount)
        if batches:
            self._changed()

    def drop(self, rows: Sequence[Row], reason: str) -> Amount:
        """Rows that left the queue will not be delivered; gives what they amount to."""
        if not rows:
            return Amount()
        for run in runs_of(rows):
            self._uncommitted.delete(self.message_class, Span(run[0].row_id, run[-1].row_id))
        amount = amount_of(rows)
        self._ledger.dropped(self.message_class, amount, reason)
        self._ledger.refuse(rows, OutboxFull(f"dropped before it was committed ({reason})"))
        self._changed()
        return amount

    def bury(self, row: Row, reason: str, is_damaged: bool = False) -> None:
        """Set a row that left the queue aside as a dead letter."""
        _log.error(
            "message {row_id} ({size} bytes) is set aside: {reason}",
            row_id=row.row_id,
            size=len(row.payload),
            reason=reason,
        )
        self.keep_dead(row, reason, is_damaged)

    def keep_dead(self, row: Row, reason: str, is_damaged: bool) -> None:
        """Keep a row that is in no queue as a dead letter."""
        row.state = RowState.GONE
        self._uncommitted.bury(Burial(self.message_class, row, reason, is_damaged))
        self._ledger.died(self.message_class, row)
        gone = self._letters.add(row.row_id, side_cost(len(row.payload)))
        self._uncommitted.collecting.letters_gone += gone
        if gone:
            self._ledger.counted("dead_letters_forgotten", len(gone))
            _log.error(
                "{count} of the oldest dead letters are forgotten: there are too many",
                count=len(gone),
            )
        self._changed()

    # -- the store ---------------------------------------------------------------------------

    def adopt(self, totals: Totals, off_ms: int, linger_ms: int, now_s: float) -> None:
        """Take up the rows of a store that was just opened; they are older than all others.
        ``off_ms`` is for how long no agent ran while the machine did."""
        key = self.message_class.value
        amount, last_id = totals.stored_amount(self.message_class), totals.last_ids[key]
        self.watermark = watermark = Watermark(totals.watermarks[key])
        low = 0
        try:
            if watermark.resting > 0 and off_ms >= linger_ms:
                low = watermark.resting + 1
                gone = self._committer.store.amount(self.message_class, Span(0, low - 1))
                self.deliver([Batch(0, low - 1, gone)] if gone.rows else ())
                amount.subtract(gone)
            if watermark.exhausted >= low:
                resting = Span(low, watermark.exhausted)
                rest = self._committer.store.amount(self.message_class, resting)
                low = resting.high + 1
                if rest.rows:
                    # What was to be sent again has lingered for no known time.
                    left_ms = linger_ms - (off_ms if watermark.resting >= resting.high else 0)
                    self.queue.rest(resting, rest, now_s + left_ms / 1000)
                amount.subtract(rest)
        except StoreError as error:
            # Then they are sent again.
            low = 0
            self._committer.read_failed(error)
        if amount.rows:
            self.queue.add_unread(Span(low, max(low, last_id)), amount)

    def detach(self, next_id: int) -> list[Span]:
        """The store was found damaged. Write again what is in memory, and give the ranges of rows
        that only the damaged store has."""
        queue, collecting = self.queue, self._uncommitted.collecting
        new = collecting.rows[self.message_class]
        before_id = next(iter(new), next_id)
        in_memory = {row.row_id: row for row in (*queue.in_flight.values(), *queue.head)}
        unread = amount_of(row for row_id, row in new.items() if row_id not in in_memory)
        before = queue.recovering_amount.copy()
        spans = queue.move_to_recovery(before_id, unread)
        moved = queue.recovering_amount.copy()
        moved.subtract(before)
        self._ledger.missing(moved)
        older = [in_memory[row_id] for row_id in sorted(in_memory) if row_id not in new]
        collecting.insert_older(self.message_class, older)
        return spans

    def recovered(self, span: Span, amount: Amount) -> None:
        """Rows of a damaged store are in the present one."""
        self.queue.recovered(span, amount)
        self.watermark.lower(span.low)
        self._ledger.found(amount)

    def give_up_recovery(self) -> Amount:
        """What is still missing is lost; gives how much."""
        lost = self.queue.end_recovery()
        if lost.rows > 0:
            # Rows that nobody had counted may have had more datapoints than those that are missing.
            lost.datapoints = max(0, lost.datapoints)
            self._ledger.found(lost)
            self._ledger.dropped(self.message_class, lost, "damaged")
        return lost

    def enter_into(self, totals: Totals, next_id: int) -> None:
        """Say in ``totals`` what the class has now."""
        key = self.message_class.value
        totals.stored[key] = Stored(*self.queue.stored.as_tuple())
        totals.watermarks[key] = self.watermark.to_store(self.resting(next_id))

    def resting(self, next_id: int) -> int:
        """Every row up to this one is acknowledged or gone."""
        return min(self.queue.lowest_wanted(), next_id) - 1

    def close(self) -> None:
        """Nothing will be committed any more: what is only in memory is lost."""
        left = list(self._uncommitted.rows(self.message_class))
        if not left:
            return
        # The platform has read what was acknowledged: that is no loss.
        self._ledger.accept([row for row in left if row.state is RowState.LINGERING])
        lost = [row for row in left if row.state is not RowState.LINGERING]
        if lost:
            self._ledger.dropped(self.message_class, amount_of(lost), "stopped")
            self._ledger.refuse(lost, OutboxClosed("the agent is stopping"))
            _log.error("{count} messages could not be written and are lost", count=len(lost))
