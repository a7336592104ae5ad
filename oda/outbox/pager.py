"""Brings rows back into memory, a page at a time, as they are needed to be sent.

They come from the store, or from the changes on their way to it: uncommitted rows are always the
newest of their class. Rows found damaged are set aside; those the store can't give now are passed
over, or waited for while it is being replaced.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from oda.model import MessageClass
from oda.outbox.committer import Committer, State
from oda.outbox.queue import Kept, amount_of
from oda.outbox.stock import Stock
from oda.outbox.store import UNREADABLE, StoreDamaged

_log = Logger(namespace="oda.outbox.stock")  # what its lines are about

#: How much is read at once.
_PAGE_ROWS = 256
_PAGE_BYTES = 1024 * 1024


class Pager:
    """Fills the heads of the queues in ``stock``. ``changed`` is called when rows were lost."""

    def __init__(
        self, stock: Stock, committer: Committer, changed: Callable[[], None], head_rows: int
    ) -> None:
        self._stock = stock
        self._committer = committer
        self._uncommitted = committer.uncommitted
        self._changed = changed
        self._page_rows = min(_PAGE_ROWS, head_rows)

    def read_page(self, message_class: MessageClass) -> bool:
        """Fetch the oldest spilled rows into the head; True when the head has rows now."""
        queue, committer = self._stock.queues[message_class], self._committer
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
                        self._stock.skip(queue)
                    break
                page, damaged = reader.page(message_class, after_id, self._page_rows, _PAGE_BYTES)
            except (*UNREADABLE, StoreDamaged) as error:
                if committer.read_failed(error):
                    return bool(queue.head)
                self._stock.skip(queue)
                break
            if not page:
                break
            after_id = page[-1].row_id
            rows = self._wanted(message_class, page, damaged)
        if not rows:
            rows = self._from_memory(message_class, after_id)
        if rows:
            queue.add_page(rows)
        elif queue.spilled.rows and not self._stock.has_skipped:
            lost = queue.lose_spilled()
            self._stock.accounts.dropped(message_class, lost, "damaged")
            _log.error("{rows} messages of the outbox can't be found any more", rows=lost.rows)
            self._changed()
        return bool(queue.head)

    def _wanted(
        self, message_class: MessageClass, page: list[Kept], damaged: set[int]
    ) -> list[Kept]:
        gone = [
            span
            for span in self._uncommitted.gone(message_class)
            if span[1] >= page[0].row_id and span[0] <= page[-1].row_id
        ]
        if gone:
            page = [
                kept for kept in page if not any(low <= kept.row_id <= high for low, high in gone)
            ]
        if damaged:
            queue = self._stock.queues[message_class]
            for kept in page:
                if kept.row_id in damaged:
                    queue.discard_spilled(amount_of((kept,)))
                    self._stock.bury(message_class, kept, "damaged", is_damaged=True)
            page = [kept for kept in page if kept.row_id not in damaged]
        return page

    def _from_memory(self, message_class: MessageClass, after_id: int) -> list[Kept]:
        rows: list[Kept] = []
        size = 0
        for kept in self._uncommitted.rows(message_class):
            if kept.row_id > after_id:
                rows.append(kept)
                size += len(kept.payload)
                if len(rows) >= self._page_rows or size >= _PAGE_BYTES:
                    break
        return rows
