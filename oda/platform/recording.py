"""The record of what the platform's application read and wrote, in order, by connection.

A message is recorded when its transaction is committed. With a durable database, ``commit`` happens
before a ping is answered (see ``sessions``). So every message that a pong acknowledges is recorded,
even if this process is killed right after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from oda.interfaces import IWallClock
from oda.platform.database import Database
from oda.platform.naming import wire_name

_INSERT_CONNECTION = "INSERT INTO connections (number, device, peer, opened_ms) VALUES (?, ?, ?, ?)"
_CLOSE_CONNECTION = (
    "UPDATE connections SET closed_ms = ?, close_code = ?, close_reason = ?, messages_in = ?,"
    " messages_out = ?, pings_in = ?, pongs_out = ? WHERE number = ?"
)
_INSERT_MESSAGE = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class RecordedMessage(msgspec.Struct, frozen=True, rename=wire_name):
    """One recorded message. ``number`` is the order over all connections, from 1; ``position`` the
    order within its connection and ``direction`` ("in": read from the device), from 1. ``format``
    is a ``ContentType`` value, or None if the first byte announces no format."""

    number: int
    connection: int
    position: int
    device: str
    direction: str
    at_ms: int
    size: int
    format: str | None
    is_text: bool
    payload: bytes


class RecordedConnection(msgspec.Struct, frozen=True, rename=wire_name):
    """One recorded WebSocket connection. ``closed_ms`` None: open, or the platform was killed."""

    number: int
    device: str
    peer: str
    opened_ms: int
    closed_ms: int | None
    close_code: int | None
    close_reason: str | None
    messages_in: int
    messages_out: int
    pings_in: int
    pongs_out: int


class Traffic(msgspec.Struct, rename=wire_name):
    """The traffic of one connection so far."""

    messages_in: int = 0
    messages_out: int = 0
    pings_in: int = 0
    pongs_out: int = 0


class Recording:
    """Writes and reads the record, whose size is bounded: the oldest entries go first."""

    def __init__(
        self,
        database: Database,
        clock: IWallClock,
        max_messages: int = 100_000,
        max_bytes: int = 64 * 1024 * 1024,
        max_connections: int = 10_000,
    ) -> None:
        self._database = database
        self._clock = clock
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._max_connections = max_connections
        self._connection_number = self._last("connections")
        self._message_number = self._last("messages")
        self._bytes: int = database.select("SELECT coalesce(sum(size), 0) FROM messages")[0][0]
        database.before_commit(self._trim)

    def _last(self, table: str) -> int:
        number: int = self._database.select(f"SELECT coalesce(max(number), 0) FROM {table}")[0][0]
        return number

    @property
    def is_durable(self) -> bool:
        """Whether committed data survives the death of this process."""
        return self._database.durable

    def connection_opened(self, device: str, peer: str) -> int:
        """A device's WebSocket is open; returns the connection's number, never used before."""
        self._connection_number += 1
        row = (self._connection_number, device, peer, self._clock.now_ms())
        self._database.defer(_INSERT_CONNECTION, row)
        return self._connection_number

    def connection_closed(
        self, number: int, code: int | None, reason: str | None, traffic: Traffic
    ) -> None:
        """The connection is gone, with this close code (1006: without a close frame)."""
        self._database.flush()  # the row it updates must exist
        row = (self._clock.now_ms(), code, reason, *msgspec.structs.astuple(traffic), number)
        self._database.defer(_CLOSE_CONNECTION, row)

    def add(
        self,
        connection: int,
        position: int,
        device: str,
        direction: str,
        payload: bytes,
        is_text: bool,
        content_format: str | None,
    ) -> int:
        """The application has read (or written) a message; returns its number."""
        self._message_number += 1
        size = len(payload)
        self._bytes += size
        row = (
            self._message_number,
            connection,
            position,
            device,
            direction,
            self._clock.now_ms(),
            size,
            content_format,
            is_text,
            payload,
        )
        number = self._message_number
        self._database.defer(_INSERT_MESSAGE, row, size)
        return number

    def commit(self) -> None:
        """Commit everything read so far."""
        self._database.flush()

    def _trim(self) -> None:
        execute = self._database.execute
        execute(
            "DELETE FROM connections WHERE number <= ?",
            (self._connection_number - self._max_connections,),
        )
        upto = self._message_number - self._max_messages
        if upto > 0:
            self._drop_messages(upto)
        while self._bytes > self._max_bytes:
            oldest = self._database.select(
                "SELECT max(number), count(*) FROM"
                " (SELECT number FROM messages ORDER BY number LIMIT 64)"
            )[0]
            if oldest[1] <= 1:
                break  # keep a message larger than the bound if it is the newest
            self._drop_messages(oldest[0] if oldest[0] < self._message_number else oldest[0] - 1)

    def _drop_messages(self, upto: int) -> None:
        gone = self._database.select(
            "SELECT coalesce(sum(size), 0) FROM messages WHERE number <= ?", (upto,)
        )[0][0]
        self._database.execute("DELETE FROM messages WHERE number <= ?", (upto,))
        self._bytes -= gone

    def messages(
        self,
        device: str | None = None,
        direction: str | None = None,
        connection: int | None = None,
        after: int = 0,
        limit: int = 1_000_000,
    ) -> list[RecordedMessage]:
        """Recorded messages with a number above ``after``, oldest first."""
        where, arguments = ["number > ?"], [after]
        wanted: list[tuple[str, Any]] = [
            ("device", device),
            ("direction", direction),
            ("connection", connection),
        ]
        for column, value in wanted:
            if value is not None:
                where.append(f"{column} = ?")
                arguments.append(value)
        rows = self._database.query(
            f"SELECT * FROM messages WHERE {' AND '.join(where)} ORDER BY number LIMIT ?",
            [*arguments, limit],
        )
        return [_message(row) for row in rows]

    def connections(
        self, device: str | None = None, after: int = 0, limit: int = 1_000_000
    ) -> list[RecordedConnection]:
        """Recorded connections with a number above ``after``, oldest first."""
        rows = self._database.query(
            "SELECT * FROM connections WHERE number > ? AND (? IS NULL OR device = ?)"
            " ORDER BY number LIMIT ?",
            (after, device, device, limit),
        )
        return [RecordedConnection(*row) for row in rows]


def _message(row: Sequence[Any]) -> RecordedMessage:
    number, connection, position, device, direction, at_ms, size, content_format, text, body = row
    return RecordedMessage(
        number,
        connection,
        position,
        device,
        direction,
        at_ms,
        size,
        content_format,
        bool(text),
        body,
    )
