"""The order within a class: where each row is, and in what order rows leave.

A row of a message class that is in the outbox is in exactly one place::

    head        in memory, pending, to be taken next
    in flight   in memory, taken, not acknowledged
    lingering   acknowledged; remembered as ranges of ids
    unread      pending; remembered as ranges of ids, and read again when the head is empty
    recovering  in a damaged store that is being copied; remembered as ranges of ids

*Head* and *in flight* are bounded, so memory use does not depend on the length of the backlog. A
new row goes to the head if nothing is unread, else to the end of the unread ranges. Rows of a
recovered store, or of one that was opened late, return as unread ranges in front of the others.

Ranges of lingering rows hold consecutive ids only. No range covers a row that is in another place,
so a range can be deleted from the store whatever happened in between.

Pure: no clock, no store, no reactor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

#: The bounds of the head: rows beyond it stay in the store.
HEAD_ROWS = 1024
HEAD_BYTES = 4 * 1024 * 1024
#: A batch of lingering rows with this many rows accepts no more.
_SHARED_ROWS = 1024
#: Higher than any id.
END = 1 << 62


class RowState(IntEnum):
    """The place of a row in memory; GONE once it is no longer in the outbox."""

    PENDING = 0
    IN_FLIGHT = 1
    LINGERING = 2
    GONE = 3


class Row(msgspec.Struct, gc=False):
    """A row in memory. ``cost`` is bytes on disk; ``accepted_ms`` is on the outbox's own clock.

    ``accepted`` is the Deferred for the row's acceptance, None once the caller was notified.
    ``is_held``: the row must not be sent before it is committed.
    """

    row_id: int
    payload: bytes
    is_text: bool
    datapoints: int
    accepted_ms: int
    cost: int
    accepted: Any = None
    attempts: int = 0
    fresh_payload: bytes | None = None
    fresh_until_s: float = 0.0
    is_held: bool = False
    state: RowState = RowState.PENDING


class Amount:
    """A number of rows, their bytes on disk and their datapoints."""

    __slots__ = ("cost", "datapoints", "rows")

    def __init__(self, rows: int = 0, cost: int = 0, datapoints: int = 0) -> None:
        self.rows = rows
        self.cost = cost
        self.datapoints = datapoints

    def add(self, other: Amount) -> None:
        self.rows += other.rows
        self.cost += other.cost
        self.datapoints += other.datapoints

    def subtract(self, other: Amount) -> None:
        self.rows -= other.rows
        self.cost -= other.cost
        self.datapoints -= other.datapoints

    def add_row(self, row: Row) -> None:
        self.rows += 1
        self.cost += row.cost
        self.datapoints += row.datapoints

    def subtract_row(self, row: Row) -> None:
        self.rows -= 1
        self.cost -= row.cost
        self.datapoints -= row.datapoints

    def copy(self) -> Amount:
        return Amount(self.rows, self.cost, self.datapoints)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Amount) and self.as_tuple() == other.as_tuple()

    __hash__ = None  # type: ignore[assignment]

    def as_tuple(self) -> tuple[int, int, int]:
        return self.rows, self.cost, self.datapoints

    def __repr__(self) -> str:
        return f"Amount{self.as_tuple()}"


def amount_of(rows: Iterable[Row]) -> Amount:
    """The total of these rows."""
    count = cost = datapoints = 0
    for row in rows:
        count += 1
        cost += row.cost
        datapoints += row.datapoints
    return Amount(count, cost, datapoints)


class Span(NamedTuple):
    """The ids from ``low`` to ``high``, both included."""

    low: int
    high: int


class Batch(NamedTuple):
    """Lingering rows with consecutive ids, which are let go together."""

    low: int
    high: int
    amount: Amount
    expires_s: float = 0.0


def runs_of(rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
    """``rows`` cut where their ids are not consecutive."""
    runs: list[list[Row]] = []
    for row in rows:
        if runs and runs[-1][-1].row_id + 1 == row.row_id:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


class Queue:
    """The rows of one message class. ``stored`` is everything in it except recovering rows."""

    def __init__(self, head_rows: int = HEAD_ROWS, head_bytes: int = HEAD_BYTES) -> None:
        self._max_head_rows = head_rows
        self._max_head_bytes = head_bytes
        self.head: deque[Row] = deque()
        self._head_bytes = 0
        self.in_flight: dict[int, Row] = {}
        self.lingering: deque[Batch] = deque()
        self._lingering = Amount()
        self.unread: list[Span] = []
        self.unread_amount = Amount()
        self.recovering: list[Span] = []
        self.recovering_amount = Amount()
        self.stored = Amount()
        self._sent: dict[int, int] = {}  # attempts of rows that memory no longer holds
        self._sent_high = 0

    @property
    def pending_rows(self) -> int:
        return len(self.head) + self.unread_amount.rows

    @property
    def lingering_rows(self) -> int:
        return self._lingering.rows

    @property
    def waiting_cost(self) -> int:
        """The cost on disk of pending and in-flight rows."""
        return self.stored.cost - self._lingering.cost

    @property
    def pending_cost(self) -> int:
        """The cost on disk of pending rows."""
        return self.waiting_cost - sum(row.cost for row in self.in_flight.values())

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest pending or in-flight row in memory was accepted."""
        for row in self.in_flight.values():
            return row.accepted_ms
        return self.head[0].accepted_ms if self.head else None

    def lowest_wanted(self) -> int:
        """No row with a lower id is wanted: each is acknowledged, or does not exist."""
        return min(
            min(self.in_flight, default=END),
            min((row.row_id for row in self.head), default=END),
            min((span.low for span in self.unread), default=END),
            min((span.low for span in self.recovering), default=END),
        )

    # -- in ----------------------------------------------------------------------------------

    def append(self, row: Row) -> None:
        """Add a new row, with a higher id than all earlier ones."""
        stored = self.stored
        stored.rows += 1
        stored.cost += row.cost
        stored.datapoints += row.datapoints
        head, unread = self.head, self.unread
        if not unread and (
            not head
            or (len(head) < self._max_head_rows and self._head_bytes < self._max_head_bytes)
        ):
            head.append(row)
            self._head_bytes += len(row.payload)
            return
        self.unread_amount.add_row(row)
        if not unread or unread[-1].high != END:
            # Open at the end: later rows belong to it.
            unread.append(Span(row.row_id, END))

    def add_unread(self, span: Span, amount: Amount) -> None:
        """Rows were found in the store; they are sent before the other unread ones. No row of
        ``span`` is in memory."""
        self.stored.add(amount)
        self.unread_amount.add(amount)
        if amount.rows:
            self.unread = merged([span, *self.unread])

    def fill(self, rows: Sequence[Row]) -> None:
        """Add unread rows, read in order; the caller has updated the spans."""
        sent_high = self._sent_high
        size = 0
        for row in rows:
            row.state = RowState.PENDING
            if row.row_id <= sent_high and row.attempts == 0:
                row.attempts = self._sent.pop(row.row_id, 1)
            size += len(row.payload)
        self.head.extend(rows)
        self._head_bytes += size
        self.unread_amount.subtract(amount_of(rows))

    # -- out ---------------------------------------------------------------------------------

    def take(self, max_rows: int, max_bytes: int, at_least_one: bool) -> list[Row]:
        """The oldest rows of the head, now in flight; none if the head is empty or its first row is
        held."""
        head, in_flight, state = self.head, self.in_flight, RowState.IN_FLIGHT
        taken: list[Row] = []
        left = max_bytes
        while head and len(taken) < max_rows:
            row = head[0]
            if row.is_held:
                break
            size = len(row.payload)
            if size > left and (taken or not at_least_one):
                break
            left -= size
            head.popleft()
            row.attempts += 1
            row.state = state
            in_flight[row.row_id] = row
            taken.append(row)
        self._head_bytes -= max_bytes - left
        if taken and taken[-1].row_id > self._sent_high:
            self._sent_high = taken[-1].row_id
        return taken

    def retire(self, rows: Sequence[Row], expires_s: float) -> None:
        """Rows just removed from ``in_flight`` start to linger."""
        cost = datapoints = 0
        expected = rows[0].row_id
        is_one_run, state = True, RowState.LINGERING
        for row in rows:
            row.state = state
            cost += row.cost
            datapoints += row.datapoints
            if row.row_id != expected:
                is_one_run = False
            expected += 1
        if is_one_run:
            amount = Amount(len(rows), cost, datapoints)
            self._linger(Batch(rows[0].row_id, rows[-1].row_id, amount, expires_s))
            return
        for run in runs_of(rows):
            self._linger(Batch(run[0].row_id, run[-1].row_id, amount_of(run), expires_s))

    def rest(self, span: Span, amount: Amount, expires_s: float) -> None:
        """After a start: the oldest rows of the store continue to linger."""
        self.stored.add(amount)
        self._linger(Batch(span.low, span.high, amount, expires_s))

    def expire(self, now_s: float) -> list[Batch]:
        """Remove and return the lingering rows whose time has passed."""
        gone: list[Batch] = []
        while self.lingering and self.lingering[0].expires_s <= now_s:
            gone.append(self._let_go())
        return gone

    def evict(self, cost: int) -> list[Batch]:
        """Remove and return the rows acknowledged longest ago, until ``cost`` bytes are free."""
        gone: list[Batch] = []
        freed = 0
        while self.lingering and freed < cost:
            freed += self.lingering[0].amount.cost
            gone.append(self._let_go())
        return gone

    def pop_oldest(self) -> Row:
        """Remove the oldest pending row, which must be in the head."""
        row = self.head.popleft()
        self._head_bytes -= len(row.payload)
        row.state = RowState.GONE
        self.stored.subtract_row(row)
        return row

    def discard_pending(self, rows: Sequence[Row]) -> None:
        """Remove pending rows that are known, from the head or the unread ranges."""
        gone = {row.row_id for row in rows}
        kept = [row for row in self.head if row.row_id not in gone]
        in_head = {row.row_id for row in self.head} - {row.row_id for row in kept}
        self.head = deque(kept)
        self._head_bytes = sum(len(row.payload) for row in kept)
        for row in rows:
            row.state = RowState.GONE
            self.stored.subtract_row(row)
            if row.row_id not in in_head:
                self.unread_amount.subtract_row(row)

    def discard_unread(self, amount: Amount) -> None:
        """Unread rows turned out to be damaged or missing."""
        self.unread_amount.subtract(amount)
        self.stored.subtract(amount)

    def remove_in_flight(self, row_id: int) -> Row:
        """Remove a row from the queue for good. Raises ``KeyError`` if it is not in flight."""
        row = self.in_flight.pop(row_id)
        row.state = RowState.GONE
        self.stored.subtract_row(row)
        return row

    # -- back --------------------------------------------------------------------------------

    def rewind(self) -> bool:
        """Make in-flight rows pending again, in their old order; True if there were any."""
        back = sorted(self.in_flight.values(), key=lambda row: row.row_id)
        if not back:
            return False
        self.in_flight = {}
        for row in back:
            row.state = RowState.PENDING
        self.head.extendleft(reversed(back))
        self._head_bytes += sum(len(row.payload) for row in back)
        if len(self.head) > len(back) and self.head[len(back)].row_id < back[-1].row_id:
            # Rows of a store that was opened late were taken in between.
            self.head = deque(sorted(self.head, key=lambda row: row.row_id))
        return True

    def replay(self, max_cost: int | None = None) -> int:
        """Make lingering and in-flight rows pending again, to be read from the oldest row. Of the
        lingering rows, only the newest that cost at most ``max_cost``, but at least the last
        acknowledged ones. Returns their cost."""
        back: list[Batch] = []
        cost = 0
        while self.lingering:
            cost += self.lingering[-1].amount.cost
            if max_cost is not None and cost > max_cost and back:
                cost -= self.lingering[-1].amount.cost
                break
            back.append(self.lingering.pop())
        if not back:
            self.rewind()
            return 0
        spans = [Span(one.low, one.high) for one in back]
        for row in (*self.in_flight.values(), *self.head):
            if row.attempts:
                self._sent[row.row_id] = row.attempts
            row.state = RowState.PENDING
            spans.append(Span(row.row_id, row.row_id))
            self.unread_amount.add_row(row)
        for batch in back:
            self.unread_amount.add(batch.amount)
            self._lingering.subtract(batch.amount)
        self.in_flight = {}
        self.head.clear()
        self._head_bytes = 0
        self.unread = merged([*spans, *self.unread])
        return cost

    # -- recovery ----------------------------------------------------------------------------

    def begin_recovery(self, spans: Sequence[Span], amount: Amount) -> None:
        """The store with the rows of ``spans`` is damaged: they are not available for now."""
        self.recovering = list(spans)
        self.recovering_amount.add(amount)

    def move_to_recovery(self, before_id: int, uncommitted: Amount) -> list[Span]:
        """Nothing unread or lingering below ``before_id`` is available for now; returns the spans.
        ``uncommitted`` is the amount of unread rows from that id on."""
        spans = merged([*(Span(one.low, one.high) for one in self.lingering), *self.unread])
        amount = self.unread_amount.copy()
        amount.subtract(uncommitted)
        amount.add(self._lingering)
        self.lingering.clear()
        self._lingering = Amount()
        self.unread = [
            Span(max(span.low, before_id), span.high) for span in spans if span.high >= before_id
        ]
        if not uncommitted.rows:
            self.unread.clear()
        self.unread_amount = uncommitted.copy()
        self.stored.subtract(amount)
        wanted = [
            Span(span.low, min(span.high, before_id - 1)) for span in spans if span.low < before_id
        ]
        self.recovering = merged([*self.recovering, *wanted])
        self.recovering_amount.add(amount)
        return wanted

    def recovered(self, span: Span, amount: Amount) -> None:
        """Rows of the damaged store are in the new one."""
        self.recovering_amount.subtract(amount)
        self.recovering = _without(self.recovering, span)
        self.add_unread(span, amount)

    def end_recovery(self) -> Amount:
        """Nothing more can be recovered; returns the missing amount (negative: unknown rows)."""
        lost, self.recovering_amount = self.recovering_amount, Amount()
        self.recovering = []
        return lost

    def check(self) -> None:
        """Raise ``AssertionError`` if a row is in two places, or a sum is wrong."""
        in_memory = [*self.in_flight.values(), *self.head]
        ids = [row.row_id for row in in_memory]
        assert len(set(ids)) == len(ids), "a row is twice in memory"
        spans = sorted(
            [
                *(Span(one.low, one.high) for one in self.lingering),
                *self.unread,
                *self.recovering,
            ]
        )
        for one, next_one in pairwise(spans):
            assert one.high < next_one.low, f"{one} and {next_one} overlap"
        for low, high in spans:
            assert not any(low <= row_id <= high for row_id in ids), "a row is in two places"
        amount = amount_of(in_memory)
        amount.add(self.unread_amount)
        amount.add(self._lingering)
        assert amount == self.stored, f"{amount} are in the queue, {self.stored} are said to be"
        head_bytes = sum(len(row.payload) for row in self.head)
        assert head_bytes == self._head_bytes, "the size of the head is wrong"
        assert self.unread_amount.rows >= 0, "more rows were read than there are"
        assert self.unread or not self.unread_amount.rows, "unread rows are nowhere"
        lingering = Amount()
        for batch in self.lingering:
            lingering.add(batch.amount)
        assert lingering == self._lingering, "the sum of what lingers is wrong"

    # -- inside ------------------------------------------------------------------------------

    def _linger(self, batch: Batch) -> None:
        self._lingering.add(batch.amount)
        if self.lingering:
            last = self.lingering[-1]
            # Rows that follow within the same second share a batch: a long drain would make tens of
            # thousands of batches. A batch has limited size, because room is made batch by batch.
            if (
                last.high + 1 == batch.low
                and int(last.expires_s) == int(batch.expires_s)
                and last.amount.rows < _SHARED_ROWS
            ):
                together = last.amount.copy()
                together.add(batch.amount)
                self.lingering[-1] = Batch(last.low, batch.high, together, batch.expires_s)
                return
        self.lingering.append(batch)

    def _let_go(self) -> Batch:
        batch = self.lingering.popleft()
        self.stored.subtract(batch.amount)
        self._lingering.subtract(batch.amount)
        return batch


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same ids in as few spans as possible, in order."""
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.low <= merged[-1].high + 1:
            merged[-1] = Span(merged[-1].low, max(merged[-1].high, span.high))
        else:
            merged.append(span)
    return merged


def _without(spans: Iterable[Span], gone: Span) -> list[Span]:
    """The spans without the ids of ``gone``."""
    left: list[Span] = []
    for span in spans:
        parts = (
            Span(span.low, min(span.high, gone.low - 1)),
            Span(max(span.low, gone.high + 1), span.high),
        )
        left += [part for part in parts if part.low <= part.high]
    return left
