"""Reads the store beside the one who writes it: pages of rows, and what ranges amount to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from oda.model import MessageClass
from oda.outbox.costs import row_cost
from oda.outbox.queue import Amount, Kept
from oda.outbox.records import TABLES, read_row
from oda.outbox.store import CACHE, StoreDamaged, connect
from oda.settings import OutboxSettings


class Reader:
    """Reads pages of rows; never writes. Errors are those of ``sqlite3``."""

    def __init__(self, path: Path, settings: OutboxSettings) -> None:
        self._connection = connect(path, settings, timeout_s=0.5)
        self._connection.execute("PRAGMA query_only = ON")

    def page(
        self, message_class: MessageClass, after_id: int, max_rows: int, max_bytes: int
    ) -> tuple[list[Kept], set[int]]:
        """The rows after ``after_id``, in order, and the ids of those that were changed since they
        were written. At least one row whatever its size, if there is any."""
        rows: list[Kept] = []
        damaged: set[int] = set()
        self._connection.execute(CACHE)
        with closing(
            self._connection.execute(
                "SELECT id, is_text, datapoints, accepted_ms, crc, payload"
                f" FROM {TABLES[message_class]} WHERE id > ? ORDER BY id LIMIT ?",
                (after_id, max_rows),
            )
        ) as cursor:
            for row in cursor:
                kept, is_sound = read_row(row)
                if rows and kept.row_id <= rows[-1].row_id:
                    raise StoreDamaged("its rows are out of order")
                rows.append(kept)
                if not is_sound:
                    damaged.add(kept.row_id)
                max_bytes -= len(kept.payload)
                if max_bytes <= 0:
                    break
        return rows, damaged

    def amount(self, message_class: MessageClass, low: int, high: int) -> Amount:
        """What the rows from ``low`` to ``high`` amount to."""
        total = Amount()
        for length, rows, datapoints in self._connection.execute(
            "SELECT length(payload), count(*), CAST(sum(datapoints) AS INTEGER)"
            f" FROM {TABLES[message_class]} WHERE id BETWEEN ? AND ? GROUP BY 1",
            (low, high),
        ):
            total.add(Amount(rows, rows * row_cost(length), datapoints))
        return total

    def has_rows(self, message_class: MessageClass, after_id: int, before_id: int) -> bool:
        """Whether there is any row between these two."""
        found = self._connection.execute(
            f"SELECT 1 FROM {TABLES[message_class]} WHERE id > ? AND id < ? LIMIT 1",
            (after_id, before_id),
        )
        return found.fetchone() is not None

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query of one's own; text comes as bytes."""
        return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        self._connection.close()
