"""Where every row of a message class is, and how rows return from the store.

Each class has one ``Backlog``, the only object that knows which of its rows exist. ``queue`` keeps
them in order. Where the memory of the queue ends, this module reads on through one filter
(``_read``): the rows of the store, without those whose deletion is not yet committed, then the rows
not yet committed. While the store can't be read, the uncommitted rows go first, and the range
before them stays unread.

``Shares`` decides in what order the rows of both classes leave. ``Accounts`` decides what the store
records about them, and when.

Every row that leaves is entered in the ledger and deleted from the store in the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from twisted.internet.interfaces import IReactorTime

from oda.errors import OutboxClosed, OutboxFull
from oda.log import Logger
from oda.model import MessageClass, OutboxRow
from oda.outbox.clock import OutboxClock, Watermark
from oda.outbox.committer import Committer
from oda.outbox.dead_letters import DeadLetters
from oda.outbox.ledger import Ledger
from oda.outbox.queue import END, Amount, Batch, Queue, Row, RowState, Span, amount_of, runs_of
from oda.outbox.store import Recovered, StoreError
from oda.outbox.transaction import Stored, Totals, Transaction, Uncommitted
from oda.wording import counted

_log = Logger()

#: How many rows are read at once.
PAGE_ROWS = 256
PAGE_BYTES = 1024 * 1024
#: While telemetry is waiting too, answers get this many bytes for each byte of telemetry.
_ANSWER_SHARE = 3
#: The cost of sending a message besides its bytes, and the most that telemetry may fall behind.
_MESSAGE_BYTES = 256
_MAX_DEFICIT = 1024 * 1024
#: While acknowledged rows must be sent again, their acknowledgement is committed within this time,
#: in seconds.
_OWING_DELAY_S = 1.0
#: After this part of their delay, acknowledgements join any other commit.
_RIDE = 0.5
#: The totals are written at least once per this many rows: a start after a crash counts the rest.
_UNCOUNTED_ROWS = 256


class Backlog:
    """The rows of ``message_class``. ``changed`` requests a commit at the end of the turn."""

    def __init__(
        self,
        message_class: MessageClass,
        head_rows: int,
        committer: Committer,
        ledger: Ledger,
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
        self._letters = letters
        self._changed = changed

    # -- taking ------------------------------------------------------------------------------

    def take(self, max_messages: int, max_bytes: int, rows: list[OutboxRow], now_s: float) -> int:
        """Append the oldest pending rows to ``rows``, up to ``max_messages`` in total. Returns
        their bytes: at most ``max_bytes``, except for a row that is the first of ``rows``."""
        queue, message_class = self.queue, self.message_class
        taken_bytes = 0
        while len(rows) < max_messages and (queue.head or self.read_on()):
            taken = queue.take(max_messages - len(rows), max_bytes - taken_bytes, not rows)
            if not taken:
                break
            for row in taken:
                payload = row.payload
                taken_bytes += len(payload)
                if (
                    row.fresh_payload is not None
                    and row.attempts == 1
                    and now_s <= row.fresh_until_s
                ):
                    payload = row.fresh_payload
                rows.append(
                    OutboxRow(
                        row.row_id,
                        payload,
                        message_class,
                        row.is_text,
                        row.datapoints,
                        row.attempts,
                    )
                )
        return taken_bytes

    # -- reading on --------------------------------------------------------------------------

    def read_on(self) -> bool:
        """Read the oldest unread rows into the head if it is empty; True if it now has rows."""
        queue = self.queue
        if queue.head or not queue.unread or self._committer.is_moving:
            return bool(queue.head)
        blocked: list[Span] = []
        rows: list[Row] = []
        while queue.unread and not rows:
            span = queue.unread.pop(0)
            rows, before, after = self._read(span)
            if before is not None:
                blocked.append(before)
            if after is not None:
                queue.unread.insert(0, after)
        queue.unread[:0] = blocked
        queue.fill(rows)
        if not queue.unread and queue.unread_amount.rows:
            self._lose_missing()
        elif not queue.unread_amount.rows:
            queue.unread.clear()
        return bool(queue.head)

    def _read(self, span: Span) -> tuple[list[Row], Span | None, Span | None]:
        """The next rows of ``span``, and what stays unread before and after them."""
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
        """The rows of a page that are still in the outbox and undamaged."""
        gone = self._uncommitted.deleted(self.message_class, Span(page[0].row_id, page[-1].row_id))
        if gone:
            page = [row for row in page if not any(low <= row.row_id <= high for low, high in gone)]
        if damaged:
            for row in page:
                if row.row_id in damaged:
                    self.queue.discard_unread(amount_of((row,)))
                    self._letters.bury(self.message_class, row, "damaged", is_damaged=True)
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
        _log.error(
            "lost {messages}, which are missing from the outbox",
            messages=counted(lost.rows, "message"),
            rows=lost.rows,
        )
        self._changed()

    # -- leaving -----------------------------------------------------------------------------

    def expire(self, now_s: float) -> None:
        """Let go of the rows whose linger time has passed."""
        if self.queue.lingering:
            self.deliver(self.queue.expire(now_s))

    def evict(self, cost: int) -> None:
        """Let go of acknowledged rows until ``cost`` bytes are free or none is left."""
        self.deliver(self.queue.evict(cost))

    def deliver(self, batches: Sequence[Batch]) -> None:
        """These batches have left the queue: acknowledged, and no longer retained."""
        for batch in batches:
            unwritten = self._uncommitted.delete(self.message_class, Span(batch.low, batch.high))
            self._ledger.accept(unwritten)
            self._ledger.delivered(self.message_class, batch.amount)
        if batches:
            self._changed()

    def drop(self, rows: Sequence[Row], reason: str) -> Amount:
        """These rows have left the queue and will not be delivered; returns their amount."""
        if not rows:
            return Amount()
        for run in runs_of(rows):
            self._uncommitted.delete(self.message_class, Span(run[0].row_id, run[-1].row_id))
        amount = amount_of(rows)
        self._ledger.dropped(self.message_class, amount, reason)
        self._ledger.refuse(rows, OutboxFull(f"dropped before it was committed ({reason})"))
        self._changed()
        return amount

    def replay(self, max_cost: int | None) -> int:
        """See ``Queue.replay``. Rows that are pending again count as not read by the platform: if
        their commit fails now, the outbox does not report them as accepted."""
        cost = self.queue.replay(max_cost)
        lingering = self.queue.lingering
        still_up_to = lingering[-1].high if lingering else 0
        for row in self._uncommitted.rows(self.message_class):
            if row.state is RowState.LINGERING and row.row_id > still_up_to:
                row.state = RowState.PENDING
        return cost

    # -- the store ---------------------------------------------------------------------------

    def adopt(self, totals: Totals, off_ms: int, linger_ms: int, now_s: float) -> None:
        """Take up the rows of a store that was just opened; they are older than all others.
        ``off_ms`` is how long the machine ran without an agent."""
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
                    # Nobody knows how long the rows to be sent again have lingered.
                    left_ms = linger_ms - (off_ms if watermark.resting >= resting.high else 0)
                    self.queue.rest(resting, rest, now_s + left_ms / 1000)
                amount.subtract(rest)
        except StoreError as error:
            # So they are sent again.
            low = 0
            self._committer.read_failed(error)
        if amount.rows:
            self.queue.add_unread(Span(low, max(low, last_id)), amount)

    def detach(self, next_id: int) -> list[Span]:
        """The store is damaged: collect what is in memory for a new one. Returns the ranges of rows
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
        """These rows of a damaged store are now in the present one."""
        self.queue.recovered(span, amount)
        self.watermark.lower(span.low)
        self._ledger.found(amount)

    def give_up_recovery(self) -> Amount:
        """The rows still missing are lost; returns their amount."""
        lost = self.queue.end_recovery()
        if lost.rows > 0:
            # Uncounted rows may have had more datapoints than the missing ones.
            lost.datapoints = max(0, lost.datapoints)
            self._ledger.found(lost)
            self._ledger.dropped(self.message_class, lost, "damaged")
        return lost

    def enter_into(self, totals: Totals, next_id: int) -> None:
        """Enter the present state of the class in ``totals``."""
        key = self.message_class.value
        totals.stored[key] = Stored(*self.queue.stored.as_tuple())
        totals.watermarks[key] = self.watermark.to_store(self.resting(next_id))

    def resting(self, next_id: int) -> int:
        """The id up to which every row is acknowledged or gone."""
        return min(self.queue.lowest_wanted(), next_id) - 1

    def close(self, problem: str) -> None:
        """No commit will follow: rows that are only in memory are lost, because of the
        ``problem``."""
        left = list(self._uncommitted.rows(self.message_class))
        if not left:
            return
        # The platform has read the acknowledged rows, so these are no loss.
        self._ledger.accept([row for row in left if row.state is RowState.LINGERING])
        lost = [row for row in left if row.state is not RowState.LINGERING]
        if lost:
            amount = amount_of(lost)
            self._ledger.dropped(self.message_class, amount, "stopped")
            self._ledger.refuse(lost, OutboxClosed("the agent is stopping"))
            _log.error(
                "lost {messages} ({class_} with {points}), which could not be written: {problem}",
                messages=counted(amount.rows, "message"),
                class_=self.message_class.text,
                points=counted(amount.datapoints, "datapoint"),
                count=amount.rows,
                datapoints=amount.datapoints,
                problem=problem or "the disk does not answer",
            )


class Shares:
    """Takes rows of both classes. Answers go first; while telemetry is waiting too, they get
    ``_ANSWER_SHARE`` bytes for each byte of telemetry."""

    def __init__(self, answers: Backlog, telemetry: Backlog) -> None:
        self._answers = answers
        self._telemetry = telemetry
        self._deficit = 0  # how many bytes telemetry is behind

    def take(self, max_messages: int, max_bytes: int, now_s: float) -> list[OutboxRow]:
        """At most ``max_messages`` with ``max_bytes`` in total, or one message of any size."""
        rows: list[OutboxRow] = []
        answers, telemetry = self._answers, self._telemetry
        of_telemetry = of_answers = 0
        if self._deficit >= _MESSAGE_BYTES and telemetry.read_on():
            # Answers had more than their share, so telemetry catches up first.
            of_telemetry = telemetry.take(max_messages, min(max_bytes, self._deficit), rows, now_s)
        sent = len(rows)
        if answers.read_on():
            of_answers = answers.take(max_messages, max_bytes - of_telemetry, rows, now_s)
        answered = len(rows) - sent
        left_bytes = max_bytes - of_telemetry - of_answers
        of_telemetry += telemetry.take(max_messages, left_bytes, rows, now_s)
        if answered and telemetry.queue.pending_rows:
            deficit = (of_answers + answered * _MESSAGE_BYTES) // _ANSWER_SHARE
            deficit -= of_telemetry + (len(rows) - answered) * _MESSAGE_BYTES
            self._deficit = min(_MAX_DEFICIT, max(0, self._deficit + deficit))
        else:
            self._deficit = 0
        return rows


class Accounts:
    """Decides when the store records the sums and the acknowledgements of all classes.

    Acknowledgements and totals join commits that happen anyway. The next process counts the rows
    that were added after the totals were written, so a commit that only adds rows needs no totals.
    Acknowledgements can't be counted: after ``ackCommitDelay`` they get a commit of their own. They
    get one at once where a start after a crash would otherwise repeat the same rows for ever, or
    forget rows that this process must send again.

    ``ack_delay_s`` is how long an acknowledgement waits for a commit.

    ``must_commit``: acknowledgements must be committed, even if there is nothing else to commit.
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
        self._acknowledged_s: float | None = None  # the first since the totals were written
        self._must_count = True
        self._uncounted = 0
        self.must_commit = False

    def totals(self) -> Totals:
        """The totals at this moment."""
        self._ledger.settle()
        totals = self._ledger.past
        self._clock.enter_into(totals)
        for message_class, backlog in self._backlogs.items():
            backlog.enter_into(totals, self._clock.next_ids[message_class])
        return totals

    def totals_for(self, transaction: Transaction, is_last: bool) -> bytes | None:
        """See ``ICommitOwner.totals_for``."""
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
        """Write the totals with the next commit: those of the store may be wrong."""
        self._must_count = True

    def commit_soon(self) -> None:
        """Commit acknowledgements and replays at the end of this turn."""
        self.must_commit = self._must_count = True

    def acknowledged(self, now_s: float) -> None:
        """Rows were acknowledged."""
        if self._acknowledged_s is None:
            self._acknowledged_s = now_s
        if self._may_owe and not self.is_owing():
            # At once, but only once per process: agents that die soon after would repeat for ever.
            self.commit_soon()

    def replayed(self) -> None:
        """Acknowledged rows must be sent again. Their linger time stops: the next start must not
        forget them."""
        self._may_owe = True
        self.commit_soon()

    def is_owing(self) -> bool:
        """Whether rows that were once acknowledged must be sent again."""
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

    # -- a damaged store -----------------------------------------------------------------------

    def recovered(self, step: Recovered) -> None:
        """A step of copying from a damaged store has ended."""
        for message_class, span, amount in step.restored:
            self._backlogs[message_class].recovered(span, amount)
        for what in step.incomplete:
            _log.error(
                "some {what} of the damaged outbox {set_aside} can't be read and are lost",
                what=what,
                set_aside=step.set_aside,
            )
        if step.is_done:
            before = f"damaged outbox {step.set_aside}" if step.set_aside else "former outbox"
            _log.info(
                "took over {messages} from the {before}",
                messages=counted(step.rows, "message"),
                rows=step.rows,
                before=before,
            )
            self.end_recovery()
            if not step.is_counted:
                _log.error(
                    "messages of the {before} may be lost; their number is unknown",
                    before=before,
                )

    def end_recovery(self) -> None:
        """Nothing is left to copy: the rows still missing are lost."""
        lost = Amount()
        for backlog in self._backlogs.values():
            lost.add(backlog.give_up_recovery())
        if lost.rows > 0:
            self.count_anew()
            _log.error(
                "lost {messages} of the damaged outbox",
                messages=counted(lost.rows, "message"),
                rows=lost.rows,
            )
