"""The contract of the store behind the outbox, and a store in memory, lost with the process."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from zope.interface import Attribute, Interface, implementer

from oda.errors import OdaError
from oda.model import MessageClass
from oda.outbox.limits import row_cost
from oda.outbox.queue import Amount, Row, Span
from oda.outbox.transaction import CLASSES, Burial, Record, Totals, Transaction

#: A list of ids is cleaned up once it is longer than this, and longer than twice its live ids.
_SLACK = 256


class StoreError(OdaError):
    """The store can't be used now."""


class StoreDamaged(StoreError):  # noqa: N818 - named like those of oda.errors
    """The file is damaged, belongs to another program, or has a newer version."""


class StoreMoved(StoreError):  # noqa: N818 - named like those of oda.errors
    """The open file is no longer the one at its path: deleted, moved or mounted over."""


class Letter(NamedTuple):
    """A stored dead letter; only an undamaged one may be sent again."""

    row: Row
    table: str
    reason: str
    is_sound: bool


class Opened(NamedTuple):
    """The result of opening a store. ``reason`` says why a new one had to be started, "" if none
    was; ``set_aside`` is the path of the damaged one, "" if its file was gone. While rows of it are
    still to be copied, ``missing`` says which and, as far as known, how many, for each class."""

    totals: Totals
    reason: str = ""
    set_aside: str = ""
    missing: Mapping[MessageClass, tuple[Sequence[Span], Amount]] = {}

    @property
    def is_recovering(self) -> bool:
        return bool(self.missing)


class Recovered(NamedTuple):
    """The result of a recovery step: rows that are now in the store; ``rows`` is how many were
    copied so far. ``is_counted``: the number of rows in the damaged store is known. ``incomplete``
    names what else could not be read completely, once for each damaged store."""

    restored: Sequence[tuple[MessageClass, Span, Amount]]
    is_done: bool
    rows: int
    set_aside: str
    is_counted: bool
    incomplete: Sequence[str] = ()


class StoredRecord(NamedTuple):
    """A journal record of the store, with texts as written; ``answer_bytes`` is None if there is no
    answer."""

    number: int
    request_id: object
    name: object
    content_type: object
    echo: object
    at_ms: int
    has_ended: bool
    answer_bytes: int | None


class IStore(Interface):
    """Keeps transactions. Methods raise ``StoreError`` (``StoreDamaged``, ``StoreMoved``) or
    ``OSError``. One thread at a time calls the first group; the reactor's thread calls the second,
    even while the first is at work."""

    name: str = Attribute("The store's name in the log: the file's path.")
    path: Path | None = Attribute("The file; None where there is none. Absolute once it is open.")
    is_durable: bool = Attribute("False where nothing outlives the process.")

    def open() -> Opened:
        """Open the store, or start to replace it if it is damaged. Raises ``OutboxError`` when
        another process uses it."""

    def apply(transaction: Transaction) -> int:
        """Commit the transaction, all or nothing; returns how many bytes the store uses."""

    def replace(fault: StoreError, wanted: Mapping[MessageClass, Sequence[Span]]) -> Opened:
        """Set aside a store that can't be used because of ``fault``, and start a new one;
        ``wanted`` are the rows that must be copied into it."""

    def recover() -> Recovered:
        """Copy some more rows of a damaged store into this one."""

    def move(path: Path) -> None:
        """Move the store to ``path``, where no file may exist. If that fails, the store stays at
        its place and in use."""

    def close() -> None:
        """Close everything; may be called again."""

    def check() -> None:
        """Raise ``StoreMoved`` if the store is no longer at its place."""

    def page(
        message_class: MessageClass, span: Span, max_rows: int, max_bytes: int
    ) -> tuple[list[Row], set[int]]:
        """The first rows of ``span``, in order, and the ids of the damaged ones. At least one row
        of any size, if there is one."""

    def amount(message_class: MessageClass, span: Span) -> Amount:
        """The amount of the rows of ``span``."""

    def letters() -> Sequence[tuple[int, int]]:
        """The ids of the dead letters and the sizes of their payloads, oldest first."""

    def letter(row_id: int) -> Letter | None:
        """One dead letter."""

    def records() -> Sequence[StoredRecord]:
        """The records of the journal, oldest first."""

    def answer(number: int) -> bytes | None:
        """The answer of a record, None if there is none or it is damaged."""

    def close_reader() -> None:
        """Reopen the store for the next reading."""


class Table:
    """Rows by id, read in the order of their ids."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self._ids: list[int] = []

    def add(self, row: Row) -> None:
        """Raises ``StoreError`` when the id is taken by another message."""
        known = self.rows.get(row.row_id)
        if known is not None:
            if known.payload != row.payload:
                raise StoreError(f"the id {row.row_id} is taken by another message")
            return
        self.rows[row.row_id] = row
        if not self._ids or row.row_id > self._ids[-1]:
            self._ids.append(row.row_id)
        elif self._ids[bisect_left(self._ids, row.row_id)] != row.row_id:
            insort(self._ids, row.row_id)

    def delete(self, span: Span) -> None:
        for row_id in list(self._within(span)):
            del self.rows[row_id]
        if len(self._ids) > 2 * len(self.rows) + _SLACK:
            self._ids = [row_id for row_id in self._ids if row_id in self.rows]

    def read(self, span: Span) -> Iterator[Row]:
        """The rows of ``span``, in order."""
        return (self.rows[row_id] for row_id in self._within(span))

    def _within(self, span: Span) -> Iterator[int]:
        ids = self._ids
        for at in range(bisect_left(ids, span.low), len(ids)):
            row_id = ids[at]
            if row_id > span.high:
                return
            if row_id in self.rows:
                yield row_id


@implementer(IStore)
class MemoryStore:
    """The contract of ``IStore`` without a file: commits can't fail, and nothing is damaged."""

    name = "memory"
    path = None
    is_durable = False

    def __init__(self) -> None:
        self.tables: dict[MessageClass, Table] = {one: Table() for one in CLASSES}
        self.dead: dict[int, Burial] = {}
        self.journal: dict[int, Record] = {}
        self.answers: dict[int, bytes] = {}
        self.totals = b"{}"

    def open(self) -> Opened:
        return Opened(msgspec.json.decode(self.totals, type=Totals))

    def apply(self, transaction: Transaction) -> int:
        for message_class, table in self.tables.items():
            for span in transaction.deleted[message_class]:
                table.delete(span)
        for burial in transaction.burials:
            row_id = burial.row.row_id
            self.tables[burial.message_class].delete(Span(row_id, row_id))
            self.dead[row_id] = burial
        for row_id in transaction.letters_gone:
            self.dead.pop(row_id, None)
        for number in transaction.answers_gone:
            self.answers.pop(number, None)
        for message_class, table in self.tables.items():
            for row in transaction.rows[message_class].values():
                table.add(_as_stored(row))
        for number, record in transaction.records.items():
            if record is None:
                self.journal.pop(number, None)
                self.answers.pop(number, None)
                continue
            self.journal[number] = msgspec.structs.replace(record, payload=None)
            if record.payload is not None:
                self.answers[number] = record.payload
        if transaction.totals is not None:
            self.totals = transaction.totals
        return 0

    def replace(self, fault: StoreError, wanted: Mapping[MessageClass, Sequence[Span]]) -> Opened:
        raise fault

    def recover(self) -> Recovered:
        return Recovered((), True, 0, "", True)

    def move(self, path: Path) -> None:
        raise StoreError("it is in memory")

    def check(self) -> None:
        """Never moved."""

    def close(self) -> None:
        """Nothing to close."""

    def page(
        self, message_class: MessageClass, span: Span, max_rows: int, max_bytes: int
    ) -> tuple[list[Row], set[int]]:
        rows: list[Row] = []
        for row in self.tables[message_class].read(span):
            rows.append(_as_stored(row))
            max_bytes -= len(row.payload)
            if len(rows) >= max_rows or max_bytes <= 0:
                break
        return rows, set()

    def amount(self, message_class: MessageClass, span: Span) -> Amount:
        total = Amount()
        for row in self.tables[message_class].read(span):
            total.add(Amount(1, row_cost(len(row.payload)), row.datapoints))
        return total

    def letters(self) -> Sequence[tuple[int, int]]:
        return [(row_id, len(one.row.payload)) for row_id, one in self.dead.items()]

    def letter(self, row_id: int) -> Letter | None:
        burial = self.dead.get(row_id)
        if burial is None:
            return None
        row = _as_stored(burial.row)
        return Letter(row, burial.message_class.value, burial.reason, not burial.is_damaged)

    def records(self) -> Sequence[StoredRecord]:
        return [
            StoredRecord(
                number,
                one.request_id.encode(),
                one.name.encode(),
                one.content_type.encode(),
                one.echo,
                one.at_ms,
                one.has_ended,
                len(self.answers[number]) if number in self.answers else None,
            )
            for number, one in self.journal.items()
        ]

    def answer(self, number: int) -> bytes | None:
        return self.answers.get(number)

    def close_reader(self) -> None:
        """Nothing to close."""


def _as_stored(row: Row) -> Row:
    """The parts of a row that a store keeps."""
    return Row(
        row.row_id,
        row.payload,
        row.is_text,
        row.datapoints,
        row.accepted_ms,
        row_cost(len(row.payload)),
    )
