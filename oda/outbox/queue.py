"""The rules of one queue: which row is where, and in what order rows leave it.

A row of one message class is, in the order of ids::

    lingering  <  in flight  <  head  <  spilled
    ---- taken ------------     ---- pending ----

*Head* and *in flight* are in memory with their payloads; both are bounded. *Lingering* rows are
only remembered as ranges of ids, *spilled* ones only counted: their payloads are in the store (or
among what is being committed), and come back as pages once the head has been taken. So memory does
not depend on the length of the backlog. ``head_hi`` is the border: rows with a higher id are
spilled.

Rows are taken from the head, so what was taken is older than what is pending. ``restart`` makes
everything pending again, to be read again from the oldest row.

Pure: no clock, no store, no reactor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from oda.outbox.marks import SLOTS, Marks

#: The bounds of the head: rows beyond it are left in the store.
HEAD_ROWS = 1024
HEAD_BYTES = 4 * 1024 * 1024
#: A batch of lingering rows takes in no more of what follows once it has so many.
_SHARED_ROWS = 1024


class Kept(msgspec.Struct, gc=False):
    """A row in memory. ``cost`` is bytes on disk; ``accepted_ms`` is on the outbox's own clock.

    ``ticket`` is what waits for the row's acceptance, None once it was told. ``is_held``: it must
    not be sent before it is committed.
    """

    row_id: int
    payload: bytes
    is_text: bool
    datapoints: int
    accepted_ms: int
    cost: int
    ticket: Any = None
    attempts: int = 0
    fresh_payload: bytes | None = None
    fresh_until_s: float = 0.0
    is_held: bool = False


class Amount:
    """So many rows, so many bytes on disk, so many datapoints."""

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

    def copy(self) -> Amount:
        return Amount(self.rows, self.cost, self.datapoints)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Amount) and self.as_tuple() == other.as_tuple()

    __hash__ = None  # type: ignore[assignment]

    def as_tuple(self) -> tuple[int, int, int]:
        return self.rows, self.cost, self.datapoints

    def __repr__(self) -> str:
        return f"Amount{self.as_tuple()}"


def amount_of(rows: Iterable[Kept]) -> Amount:
    """What these rows amount to."""
    total = Amount()
    for kept in rows:
        total.rows += 1
        total.cost += kept.cost
        total.datapoints += kept.datapoints
    return total


class Batch(NamedTuple):
    """Rows that are let go together: all of the class from ``low`` to ``high``."""

    low: int
    high: int
    amount: Amount
    expires_s: float = 0.0


class ClassQueue:
    """The rows of one message class. ``stored`` is everything in it, wherever it is."""

    def __init__(
        self,
        head_rows: int = HEAD_ROWS,
        head_bytes: int = HEAD_BYTES,
        linger_s: float = 60.0,
    ) -> None:
        self.marks = Marks(linger_s / SLOTS)
        #: True while rows were passed over that are older than some that were taken.
        self.has_gaps = False
        self._max_head_rows = head_rows
        self._max_head_bytes = head_bytes
        self.head: deque[Kept] = deque()
        self._head_bytes = 0
        self.head_hi = 0
        self.spilled = Amount()
        self.in_flight: dict[int, Kept] = {}
        self.lingering: deque[Batch] = deque()
        self._resting = Amount()  # what lingers, all together
        self.stored = Amount()
        self._sent_hi = 0
        self._attempts: dict[int, int] = {}

    @property
    def pending_rows(self) -> int:
        return len(self.head) + self.spilled.rows

    @property
    def waiting_cost(self) -> int:
        """What is pending or in flight costs on disk."""
        return self.stored.cost - self._resting.cost

    @property
    def lingering_rows(self) -> int:
        return self._resting.rows

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest row in memory was accepted that is in flight or pending."""
        for kept in self.in_flight.values():
            return kept.accepted_ms
        return self.head[0].accepted_ms if self.head else None

    def append(self, kept: Kept) -> None:
        """A new row, with a higher id than all before it."""
        stored = self.stored
        stored.rows += 1
        stored.cost += kept.cost
        stored.datapoints += kept.datapoints
        head, spilled = self.head, self.spilled
        if not spilled.rows and (
            not head
            or (len(head) < self._max_head_rows and self._head_bytes < self._max_head_bytes)
        ):
            head.append(kept)
            self._head_bytes += len(kept.payload)
            self.head_hi = kept.row_id
        else:
            spilled.rows += 1
            spilled.cost += kept.cost
            spilled.datapoints += kept.datapoints

    def spill(self, amount: Amount) -> None:
        """Rows that the store has already (after a start)."""
        self.stored.add(amount)
        self.spilled.add(amount)

    def add_page(self, rows: Sequence[Kept]) -> None:
        """The oldest spilled rows, read from where they are."""
        for kept in rows:
            if kept.attempts == 0 and kept.row_id <= self._sent_hi:
                kept.attempts = self._attempts.pop(kept.row_id, 1)
            self.head.append(kept)
            self._head_bytes += len(kept.payload)
        if rows:
            self.head_hi = rows[-1].row_id
        self.spilled.subtract(amount_of(rows))

    def lose_spilled(self) -> Amount:
        """The spilled rows can't be found any more: forget them, and say what they were."""
        lost = self.spilled
        self.spilled = Amount()
        self.stored.subtract(lost)
        return lost

    def take(self, max_rows: int, max_bytes: int, at_least_one: bool) -> list[Kept]:
        """The oldest rows of the head, now in flight; none when it is empty or its first row is
        held."""
        head, in_flight = self.head, self.in_flight
        taken: list[Kept] = []
        left = max_bytes
        while head and len(taken) < max_rows:
            kept = head[0]
            if kept.is_held:
                break
            left -= len(kept.payload)
            if left < 0 and (taken or not at_least_one):
                break
            head.popleft()
            kept.attempts += 1
            in_flight[kept.row_id] = kept
            taken.append(kept)
        if taken:
            self._head_bytes -= sum([len(kept.payload) for kept in taken])
            self._sent_hi = max(self._sent_hi, taken[-1].row_id)
        return taken

    def retire(self, rows: Sequence[Kept], expires_s: float) -> None:
        """Rows just removed from ``in_flight`` begin to linger."""
        low, high = rows[0].row_id, rows[-1].row_id
        if self._wants_up_to(high):
            # It must not be covered by a range.
            for kept in rows:
                self._rest(kept.row_id, kept.row_id, amount_of((kept,)), expires_s)
            return
        marks = self.marks
        if high < marks.owed_from:
            self._rest(low, high, amount_of(rows), expires_s)
            marks.acknowledged(low, high, expires_s)
            return
        for start, end, repeats in marks.pay([kept.row_id for kept in rows]):
            run = rows[start:end]
            low, high = run[0].row_id, run[-1].row_id
            self._rest(low, high, amount_of(run), expires_s)
            marks.acknowledged(low, high, expires_s, repeats)

    def rest(self, low: int, high: int, repeats: int, amount: Amount, expires_s: float) -> None:
        """After a start: the oldest rows of the store, taken as spilled so far, go on to linger."""
        self.spilled.subtract(amount)
        self.head_hi = high
        self._rest(low, high, amount, expires_s)
        self.marks.acknowledged(low, high, expires_s, repeats)

    def expire(self, now_s: float) -> list[Batch]:
        """Lingering rows whose time is over, out of the queue now, in as few batches as can be."""
        gone: list[Batch] = []
        while self.lingering and self.lingering[0].expires_s <= now_s:
            self._let_go(gone)
        return gone

    def evict(self, cost: int) -> list[Batch]:
        """As ``expire``, for the longest acknowledged ones, until ``cost`` bytes are free."""
        gone: list[Batch] = []
        freed = 0
        while self.lingering and freed < cost:
            freed += self.lingering[0].amount.cost
            self._let_go(gone)
        return gone

    def _rest(self, low: int, high: int, amount: Amount, expires_s: float) -> None:
        self._resting.add(amount)
        if self.lingering:
            last = self.lingering[-1]
            # What follows at once, within the same second, shares a batch: a long drain would make
            # tens of thousands. Not too many rows, because room is made by whole batches.
            if (
                last.high + 1 == low
                and int(last.expires_s) == int(expires_s)
                and last.amount.rows < _SHARED_ROWS
            ):
                together = last.amount.copy()
                together.add(amount)
                self.lingering[-1] = Batch(last.low, high, together, expires_s)
                return
        self.lingering.append(Batch(low, high, amount, expires_s))

    def _let_go(self, gone: list[Batch]) -> None:
        batch = self.lingering.popleft()
        self.stored.subtract(batch.amount)
        self._resting.subtract(batch.amount)
        self.marks.let_go(batch.low, batch.high)
        if gone and gone[-1].high < batch.low and not self._wants_up_to(batch.high):
            # Nothing of this class that is still wanted lies between them.
            before = gone.pop()
            amount = before.amount.copy()
            amount.add(batch.amount)
            batch = Batch(before.low, batch.high, amount)
        gone.append(batch)

    def _wants_up_to(self, row_id: int) -> bool:
        """Whether a row up to this one may still have to be sent, or be acknowledged."""
        if self.has_gaps:
            return True
        oldest = next(iter(self.in_flight), None)
        if oldest is not None and oldest <= row_id:
            return True
        return bool(self.head) and self.head[0].row_id <= row_id

    def pop_oldest(self) -> Kept:
        """Remove the oldest pending row, which must be in the head."""
        kept = self.head.popleft()
        self._head_bytes -= len(kept.payload)
        self._subtract(kept)
        return kept

    def discard(self, row_ids: set[int]) -> None:
        """Remove pending rows wherever they are in the head; the others are taken as spilled."""
        found = [kept for kept in self.head if kept.row_id in row_ids]
        if found:
            self.head = deque(kept for kept in self.head if kept.row_id not in row_ids)
            self._head_bytes -= sum(len(kept.payload) for kept in found)
        for kept in found:
            self._subtract(kept)

    def discard_spilled(self, amount: Amount) -> None:
        """Spilled rows are gone."""
        self.spilled.subtract(amount)
        self.stored.subtract(amount)

    def remove_in_flight(self, row_id: int) -> Kept:
        """Take a row out of the queue for good. Raises ``KeyError`` when it isn't in flight."""
        kept = self.in_flight.pop(row_id)
        self._subtract(kept)
        return kept

    def rewind(self) -> bool:
        """What was in flight is pending again, in its old place; True if there was any."""
        back = self.in_flight
        if not back:
            return False
        self.in_flight = {}
        self.head.extendleft(reversed(back.values()))
        self._head_bytes += sum(len(kept.payload) for kept in back.values())
        return True

    def restart(self) -> None:
        """Everything is pending again and is read again, beginning with the oldest row."""
        self._attempts = {kept.row_id: kept.attempts for kept in self.in_flight.values()}
        self._attempts.update((kept.row_id, kept.attempts) for kept in self.head if kept.attempts)
        self.in_flight = {}
        self.lingering.clear()
        self._resting = Amount()
        self.marks.rewound()
        self.has_gaps = False
        self.head.clear()
        self._head_bytes = 0
        self.head_hi = 0
        self.spilled = self.stored.copy()

    def _subtract(self, kept: Kept) -> None:
        self.stored.rows -= 1
        self.stored.cost -= kept.cost
        self.stored.datapoints -= kept.datapoints
