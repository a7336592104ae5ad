"""The changes of one commit, the totals it leaves behind, and what is not yet on disk.

While one transaction is being committed, the next one collects; they never overtake each other. So
uncommitted rows are always the newest of their class. A failed transaction absorbs what was
collected in the meantime, and goes on collecting.

Pure data.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import msgspec

from oda.model import MessageClass
from oda.outbox.queue import Amount, Row, RowState, Span

ANSWER, TELEMETRY = MessageClass.RESPONSE, MessageClass.TELEMETRY
#: The message classes in the order of sending.
CLASSES = (ANSWER, TELEMETRY)


class Tally(msgspec.Struct):
    """A number of messages and of their datapoints."""

    messages: int = 0
    datapoints: int = 0

    def add(self, messages: int, datapoints: int) -> None:
        self.messages += messages
        self.datapoints += datapoints


class Stored(msgspec.Struct):
    """The content of a table; ``cost`` is bytes on disk."""

    rows: int = 0
    cost: int = 0
    datapoints: int = 0

    def add(self, amount: Amount) -> None:
        self.rows += amount.rows
        self.cost += amount.cost
        self.datapoints += amount.datapoints


class Totals(msgspec.Struct):
    """The sums over the tables, so that rows need no counting, and over all time.

    accepted = delivered + dropped + dead + stored, in messages and in datapoints. Members with a
    key for each class use the class's value. ``clock_ms`` and ``wall_ms`` are the readings of the
    age clock and of the time of day; ``uptime_ms`` is how long the machine had been running since
    the boot that ``boot_id`` names. The watermarks show which rows linger, see ``clock``.

    Not every commit writes them: the next start counts rows that were only added since.
    """

    last_ids: dict[str, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys((one.value for one in CLASSES), 0)
    )
    clock_ms: int = 0
    wall_ms: int = 0
    stored: dict[str, Stored] = msgspec.field(
        default_factory=lambda: {one.value: Stored() for one in CLASSES}
    )
    accepted: Tally = msgspec.field(default_factory=Tally)
    delivered: Tally = msgspec.field(default_factory=Tally)
    dropped: Tally = msgspec.field(default_factory=Tally)
    dead: Tally = msgspec.field(default_factory=Tally)
    boot_id: str = ""
    uptime_ms: int = 0
    watermarks: dict[str, list[int]] = msgspec.field(
        default_factory=lambda: {one.value: [] for one in CLASSES}
    )

    def check(self) -> None:
        """Raise ``AssertionError`` where the sums do not balance."""
        gone = (self.delivered, self.dropped, self.dead)
        messages = sum(one.messages for one in gone)
        datapoints = sum(one.datapoints for one in gone)
        for stored in self.stored.values():
            messages += stored.rows
            datapoints += stored.datapoints
        assert self.accepted == Tally(messages, datapoints), f"the sums do not balance: {self}"

    def stored_amount(self, message_class: MessageClass) -> Amount:
        stored = self.stored[message_class.value]
        return Amount(stored.rows, stored.cost, stored.datapoints)


class Burial(msgspec.Struct, gc=False):
    """A row that becomes a dead letter."""

    message_class: MessageClass
    row: Row
    reason: str
    is_damaged: bool = False


class Record(msgspec.Struct, gc=False):
    """An operation in the journal. ``payload`` is its answer; None while it is running, and if it
    ``has_ended`` but the answer is not kept. ``echo`` is what an answer repeats of the request, as
    JSON."""

    number: int
    request_id: str
    name: str
    content_type: str
    echo: bytes | None
    at_ms: int
    has_ended: bool = False
    payload: bytes | None = None


class Transaction:
    """``rows`` are new, ``deleted`` are ranges of ids, in each class.

    ``was_tried``: a commit of it reported an error, but may have worked. ``records`` holds the
    newest state of operations by number, None to delete one; ``answers_gone`` are the numbers of
    records that lose only their answer. ``size_bytes`` is the memory that the new rows use.
    ``totals`` are JSON; None leaves those of the store unchanged.
    """

    __slots__ = (
        "answers_gone",
        "burials",
        "deleted",
        "letters_gone",
        "records",
        "rows",
        "size_bytes",
        "totals",
        "was_tried",
    )

    def __init__(self) -> None:
        self.was_tried = False
        self.rows: dict[MessageClass, dict[int, Row]] = {one: {} for one in CLASSES}
        self.deleted: dict[MessageClass, list[Span]] = {one: [] for one in CLASSES}
        self.burials: list[Burial] = []
        self.letters_gone: list[int] = []
        self.records: dict[int, Record | None] = {}
        self.answers_gone: list[int] = []
        self.size_bytes = 0
        self.totals: bytes | None = None

    @property
    def is_empty(self) -> bool:
        rows, deleted = self.rows, self.deleted
        return not (
            rows[TELEMETRY]
            or rows[ANSWER]
            or deleted[TELEMETRY]
            or deleted[ANSWER]
            or self.burials
            or self.records
            or self.letters_gone
            or self.answers_gone
        )

    @property
    def only_adds(self) -> bool:
        """Whether it only adds rows and records: counting these rows is then enough to bring the
        store's totals up to date."""
        deleted = self.deleted
        return not (deleted[TELEMETRY] or deleted[ANSWER] or self.burials or self.letters_gone)

    @property
    def is_overtaken(self) -> bool:
        """Whether answers in it are sent without waiting for the commit, so that the next requests
        arrive during the commit."""
        return any(not row.is_held for row in self.rows[ANSWER].values())

    def insert(self, message_class: MessageClass, row: Row) -> None:
        """Add a new row."""
        self.rows[message_class][row.row_id] = row
        self.size_bytes += len(row.payload)

    def insert_older(self, message_class: MessageClass, rows: list[Row]) -> None:
        """Add rows that are older than those collected so far and must be written again."""
        together = {row.row_id: row for row in rows}
        together.update(self.rows[message_class])
        self.rows[message_class] = together
        self.size_bytes += sum(len(row.payload) for row in rows)

    def delete(self, message_class: MessageClass, span: Span) -> list[Row]:
        """The rows of ``span`` left the outbox. Returns those of this transaction: they need not be
        written nor, if it was not yet tried, deleted."""
        rows = self.rows[message_class]
        unwritten: list[Row] = []
        if rows and span.high >= next(iter(rows)):
            unwritten = [
                rows.pop(row_id) for row_id in [one for one in rows if span.low <= one <= span.high]
            ]
            for row in unwritten:
                row.state = RowState.GONE
                self.size_bytes -= len(row.payload)
            if len(unwritten) == span.high - span.low + 1 and not self.was_tried:
                return unwritten
        deleted = self.deleted[message_class]
        if deleted and deleted[-1].high + 1 == span.low:
            deleted[-1] = Span(deleted[-1].low, span.high)
        else:
            deleted.append(span)
        return unwritten

    def bury(self, burial: Burial) -> None:
        """A row becomes a dead letter; if it is new here, only the letter is written."""
        row = self.rows[burial.message_class].pop(burial.row.row_id, None)
        if row is not None:
            self.size_bytes -= len(row.payload)
        self.burials.append(burial)

    def absorb(self, later: Transaction) -> list[Row]:
        """Absorb everything of a later transaction. Returns the rows of this one that the later one
        deletes: they need not be written."""
        unwritten: list[Row] = []
        for message_class in CLASSES:
            for span in later.deleted[message_class]:
                unwritten += self.delete(message_class, span)
            self.rows[message_class].update(later.rows[message_class])
        self.size_bytes += later.size_bytes
        for burial in later.burials:
            self.bury(burial)
        self.letters_gone += later.letters_gone
        self.records.update(later.records)
        self.answers_gone += later.answers_gone
        self.totals = None
        return unwritten


class Uncommitted:
    """``collecting`` receives all changes; ``running`` is being committed, None if none is."""

    def __init__(self) -> None:
        self.collecting = Transaction()
        self.running: Transaction | None = None
        self._running_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Payload bytes of rows that are not known to be on disk."""
        return self.collecting.size_bytes + self._running_bytes

    def rows(self, message_class: MessageClass) -> Iterator[Row]:
        """The wanted rows that are not known to be on disk, oldest first."""
        for one in (self.running, self.collecting):
            if one is not None:
                for row in one.rows[message_class].values():
                    if row.state is not RowState.GONE:
                        yield row

    def known(self, message_class: MessageClass, page: list[Row]) -> list[Row]:
        """The rows of a page of the store, replaced by those in memory where there are any: a
        caller may still wait for their acceptance."""
        for one in (self.running, self.collecting):
            rows = one.rows[message_class] if one is not None else None
            if rows and page[-1].row_id >= next(iter(rows)):
                page = [rows.get(row.row_id, row) for row in page]
        return page

    def deleted(self, message_class: MessageClass, span: Span) -> list[Span]:
        """The ranges of ids within ``span`` that the store may still have but that are gone."""
        spans: list[Span] = []
        for one in (self.running, self.collecting):
            if one is not None:
                spans += one.deleted[message_class]
                spans += [
                    Span(burial.row.row_id, burial.row.row_id)
                    for burial in one.burials
                    if burial.message_class is message_class
                ]
        return [one for one in spans if one.high >= span.low and one.low <= span.high]

    def delete(self, message_class: MessageClass, span: Span) -> list[Row]:
        """See ``Transaction.delete``, for ``collecting``. Rows being committed at this moment are
        marked as gone: nothing reads them any more."""
        self._mark(message_class, span)
        return self.collecting.delete(message_class, span)

    def bury(self, burial: Burial) -> None:
        """See ``Transaction.bury``, for ``collecting``."""
        row_id = burial.row.row_id
        self._mark(burial.message_class, Span(row_id, row_id))
        self.collecting.bury(burial)

    def _mark(self, message_class: MessageClass, span: Span) -> None:
        rows = self.running.rows[message_class] if self.running is not None else None
        if rows and span.high >= next(iter(rows)):
            for row_id, row in rows.items():
                if span.low <= row_id <= span.high:
                    row.state = RowState.GONE

    def begin(self) -> Transaction:
        """Start to commit what was collected; allowed only while nothing is ``running``."""
        assert self.running is None, "a transaction is being committed"
        transaction, self.collecting = self.collecting, Transaction()
        self.running = transaction
        self._running_bytes = transaction.size_bytes
        return transaction

    def committed(self) -> Transaction:
        """The running transaction is on disk."""
        transaction, self.running = self.running, None
        self._running_bytes = 0
        assert transaction is not None
        return transaction

    def failed(self) -> tuple[Transaction, list[Row]]:
        """The running transaction is not on disk: it goes on collecting, with what came after it.
        Returns its rows that were let go in the meantime and need not be written."""
        transaction = self.committed()
        transaction.was_tried = True
        unwritten = transaction.absorb(self.collecting)
        self.collecting = transaction
        return transaction, unwritten


def checksum(row_id: int, is_text: int, datapoints: int, payload: bytes) -> int:
    """A checksum of everything in a row that must not change unnoticed.

    The short columns are the start value of the payload's CRC, so a change in either shows.
    """
    seed = (row_id * 0x9E3779B1 ^ datapoints * 0x85EBCA6B ^ is_text) & 0xFFFFFFFF
    return zlib.crc32(payload, seed)
