"""The record of operations and of the events of each one, in SQLite."""

from __future__ import annotations

from typing import Any

import msgspec

from oda.interfaces import IWallClock
from oda.platform.database import Database
from oda.platform.naming import wire_name

_OPERATION = (
    "INSERT INTO operations (id, device, created_ms, document) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET document = excluded.document"
)
_TRANSCRIPT = "INSERT INTO transcripts VALUES (?, ?, ?, ?)"
_SIZE = (
    "length(CAST(document AS BLOB)) + (SELECT coalesce(sum(length(CAST(t.document AS BLOB))), 0)"
    " FROM transcripts t WHERE t.operation = operations.id)"
)


class TranscriptLine(msgspec.Struct, frozen=True, rename=wire_name):
    """An event of an operation: queued, sent, partial, answered, timed_out, extra; with the message
    that caused it."""

    at_ms: int
    event: str
    document: Any


class OperationLedger:
    """Keeps the newest operations as JSON documents, with their transcripts. Their number, and the
    bytes of both together (checked now and then), are bounded."""

    def __init__(
        self,
        database: Database,
        clock: IWallClock,
        max_operations: int = 10_000,
        max_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._database = database
        self._clock = clock
        self._max_operations = max_operations
        self._max_bytes = max_bytes
        self._unchecked_bytes = 0
        database.before_commit(self._trim)

    def note(
        self,
        operation_id: str,
        device: str,
        created_ms: int,
        operation: bytes,
        event: str | None,
        document: bytes | None,
    ) -> None:
        """Record an event of an operation, whose new state is ``operation``.

        ``event`` None leaves the transcript unchanged.
        """
        text = operation.decode()
        self._unchecked_bytes += len(text) + len(document or b"")
        self._database.defer(_OPERATION, (operation_id, device, created_ms, text), len(text))
        if event is None:
            return
        said = None if document is None else document.decode()
        self._database.defer(
            _TRANSCRIPT, (operation_id, self._clock.now_ms(), event, said), len(said or "")
        )

    def find(self, operation_id: str) -> bytes | None:
        """The document of an operation, None when there is none."""
        rows = self._database.query("SELECT document FROM operations WHERE id = ?", (operation_id,))
        return rows[0][0].encode() if rows else None

    def open_operations(self) -> list[bytes]:
        """The documents of operations that are neither answered nor timed out, oldest first."""
        rows = self._database.query(
            "SELECT document FROM operations"
            " WHERE json_extract(document, '$.state') IN ('queued', 'sent') ORDER BY number"
        )
        return [row[0].encode() for row in rows]

    def of_device(self, device: str | None, limit: int) -> list[bytes]:
        """The documents of a device's operations (None: of all), newest first."""
        rows = self._database.query(
            "SELECT document FROM operations WHERE ? IS NULL OR device = ?"
            " ORDER BY number DESC LIMIT ?",
            (device, device, limit),
        )
        return [row[0].encode() for row in rows]

    def transcript(self, operation_id: str) -> list[TranscriptLine]:
        """The events of an operation, in order."""
        rows = self._database.query(
            "SELECT at_ms, event, document FROM transcripts WHERE operation = ? ORDER BY rowid",
            (operation_id,),
        )
        return [
            TranscriptLine(at_ms, event, None if said is None else msgspec.json.decode(said))
            for at_ms, event, said in rows
        ]

    def _trim(self) -> None:
        newest = self._database.select("SELECT max(number) FROM operations")[0][0] or 0
        upto = newest - self._max_operations
        if upto > 0:
            self._database.execute(
                "DELETE FROM transcripts WHERE operation IN"
                " (SELECT id FROM operations WHERE number <= ?)",
                (upto,),
            )
            self._database.execute("DELETE FROM operations WHERE number <= ?", (upto,))
        if self._unchecked_bytes >= self._max_bytes // 16:
            self._unchecked_bytes = 0
            self._database.bound_bytes("operations", _SIZE, self._max_bytes)
            self._database.execute(
                "DELETE FROM transcripts WHERE operation NOT IN (SELECT id FROM operations)"
            )
