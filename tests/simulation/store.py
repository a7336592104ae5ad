"""A store in memory that outlives the process, and the faults that a store in a file has.

``Image`` is what is on the disk. A ``SimulatedStore`` is one life's view of it: it brings whole
transactions there, and a crash leaves the image as it is. ``WeatheredStore`` stands before any
store and fails as the weather wants: opening and reading happen in the agent's own callbacks, not
in the worker, which fails by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zope.interface import implementer

from oda.model import MessageClass
from oda.outbox.limits import PAGE_BYTES
from oda.outbox.queue import END, Amount, Row, Span
from oda.outbox.store import (
    IStore,
    Letter,
    MemoryStore,
    Opened,
    Recovered,
    StoredRecord,
    StoreError,
    Table,
)
from oda.outbox.transaction import CLASSES, Transaction
from tests.simulation.worker import DiskWeather


class Image:
    """What is on the disk at one moment."""

    def __init__(self) -> None:
        self.tables: dict[MessageClass, Table] = {one: Table() for one in CLASSES}
        self.dead: dict[int, Any] = {}
        self.journal: dict[int, Any] = {}
        self.answers: dict[int, bytes] = {}
        self.totals = b"{}"

    def snapshot(self) -> Image:
        """A copy that later transactions leave alone."""
        kept = Image()
        for one in CLASSES:
            kept.tables[one] = copy.copy(self.tables[one])
            kept.tables[one].rows = dict(self.tables[one].rows)
            kept.tables[one]._ids = list(self.tables[one]._ids)
        kept.dead, kept.journal = dict(self.dead), dict(self.journal)
        kept.answers, kept.totals = dict(self.answers), self.totals
        return kept


class SimulatedStore(MemoryStore):
    """``committed(transaction)`` is called for each transaction that is on the disk."""

    is_durable = True

    def __init__(self, image: Image, name: str, committed: Callable[[Transaction], None]) -> None:
        self.tables = image.tables
        self.dead = image.dead
        self.journal = image.journal
        self.answers = image.answers
        self.name = name
        self._image = image
        self._committed = committed
        self.totals = image.totals

    def open(self) -> Opened:
        totals = super().open().totals
        for message_class, table in self.tables.items():
            # As the file does it: the totals are not written with each commit.
            key = message_class.value
            after = totals.last_ids[key]
            new = self.amount(message_class, Span(after + 1, END))
            totals.stored[key].add(new)
            totals.accepted.add(new.rows, new.datapoints)
            letters = [one for one, at in self.dead.items() if at.message_class is message_class]
            totals.last_ids[key] = max(after, *table.rows, *letters, 0)
        return Opened(totals)

    def apply(self, transaction: Transaction) -> int:
        # Either all of it or nothing: an id that is taken shows before anything is changed.
        for message_class, table in self.tables.items():
            gone = transaction.deleted[message_class]
            for row in transaction.rows[message_class].values():
                known = table.rows.get(row.row_id)
                is_gone = any(span.low <= row.row_id <= span.high for span in gone)
                if known is not None and not is_gone and known.payload != row.payload:
                    raise StoreError(f"the id {row.row_id} is taken by another message")
        super().apply(transaction)
        self._image.totals = self.totals
        self._committed(transaction)
        return PAGE_BYTES


@implementer(IStore)
class WeatheredStore:
    """Passes everything on to ``inner``, unless the weather is against it. ``failed(what)`` is
    called before it raises. What the code of a process that was killed still does reads no file any
    more (``is_over``): it would open one that belongs to the next process."""

    def __init__(self, inner: Any, weather: DiskWeather, failed: Callable[[str], None]) -> None:
        self._inner = inner
        self._weather = weather
        self._failed = failed
        self.is_over = False

    @property
    def name(self) -> str:
        return str(self._inner.name)

    @property
    def is_durable(self) -> bool:
        return bool(self._inner.is_durable)

    def open(self) -> Opened:
        if self._weather.state in ("full", "broken"):
            self._failed("opening")
            raise StoreError("disk I/O error")
        opened: Opened = self._inner.open()
        return opened

    def apply(self, transaction: Transaction) -> int:
        return int(self._inner.apply(transaction))

    def replace(self, fault: StoreError, wanted: Mapping[MessageClass, Sequence[Span]]) -> Opened:
        opened: Opened = self._inner.replace(fault, wanted)
        return opened

    def recover(self) -> Recovered:
        step: Recovered = self._inner.recover()
        return step

    def close(self) -> None:
        self._inner.close()

    def check(self) -> None:
        self._inner.check()

    def page(
        self, message_class: MessageClass, span: Span, max_rows: int, max_bytes: int
    ) -> tuple[list[Row], set[int]]:
        self._read()
        found: tuple[list[Row], set[int]] = self._inner.page(
            message_class, span, max_rows, max_bytes
        )
        return found

    def amount(self, message_class: MessageClass, span: Span) -> Amount:
        self._read()
        amount: Amount = self._inner.amount(message_class, span)
        return amount

    def letters(self) -> Sequence[tuple[int, int]]:
        self._read()
        letters: Sequence[tuple[int, int]] = self._inner.letters()
        return letters

    def letter(self, row_id: int) -> Letter | None:
        self._read()
        letter: Letter | None = self._inner.letter(row_id)
        return letter

    def records(self) -> Sequence[StoredRecord]:
        self._read()
        records: Sequence[StoredRecord] = self._inner.records()
        return records

    def answer(self, number: int) -> bytes | None:
        self._read()
        answer: bytes | None = self._inner.answer(number)
        return answer

    def close_reader(self) -> None:
        self._inner.close_reader()

    def _read(self) -> None:
        if self.is_over:
            raise StoreError("the process is over")
        if self._weather.state == "broken":
            self._failed("reading")
            raise StoreError("disk I/O error")
