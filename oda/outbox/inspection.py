"""Looks into a store from outside, while its agent runs or after it has stopped.

Nothing here writes; ``offline`` does, for an agent that has stopped.
"""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from oda.errors import OutboxError
from oda.model import MessageClass
from oda.outbox.database import (
    LETTER_COLUMNS,
    ROW_COLUMNS,
    SCHEMA_VERSION,
    UNREADABLE,
    connect_read_only,
    count_on,
    read_letter,
    read_row,
    read_totals,
)
from oda.outbox.store import is_locked
from oda.outbox.transaction import CLASSES, Stored, Totals


class StoreStatus(msgspec.Struct, frozen=True):
    """A store in numbers. ``is_running`` says whether an agent has it now.

    ``waiting`` counts rows by class; those acknowledged a short while ago are among them.
    ``oldest_ms`` is when the oldest was accepted (None without one), on the outbox's own clock.
    """

    path: str
    is_running: bool
    file_bytes: int
    used_bytes: int
    waiting: dict[str, int]
    waiting_datapoints: int
    dead: int
    operations: int
    oldest_ms: int | None
    totals: Totals | None


class StoredMessage(msgspec.Struct, frozen=True):
    """A message in a store. ``state`` is ``waiting`` or ``dead``; ``reason`` is why it is dead."""

    row_id: int
    message_class: str
    state: str
    accepted_ms: int
    datapoints: int
    is_text: bool
    is_sound: bool
    payload: bytes
    reason: str | None = None

    def as_json(self) -> bytes:
        """One line of an export: the payload as text where it is text, else as base64."""
        fields: dict[str, Any] = {
            "id": self.row_id,
            "class": self.message_class,
            "state": self.state,
            "acceptedMs": self.accepted_ms,
            "datapoints": self.datapoints,
            "isText": self.is_text,
        }
        if self.reason is not None:
            fields["reason"] = self.reason
        if not self.is_sound:
            fields["damaged"] = True
        try:
            fields["payload"] = self.payload.decode("utf-8")
        except UnicodeDecodeError:
            fields["payloadBase64"] = base64.b64encode(self.payload).decode()
        return msgspec.json.encode(fields)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads. Raises ``OutboxError`` naming the file if it can't be read."""
    if not path.is_file():
        raise OutboxError(f"{path}: there is no such file")
    try:
        with closing(connect_read_only(path)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if 0 < version < SCHEMA_VERSION:
                raise OutboxError(
                    f"{path}: it was written by an older version of this agent, which brings it up"
                    " to date at its next start"
                )
            yield connection
    except UNREADABLE as error:
        raise OutboxError(f"{path}: it can't be read: {error}") from error


def read_status(path: Path) -> StoreStatus:
    """The store in numbers. Raises ``OutboxError`` when it can't be read."""
    is_running = is_locked(path)  # first: closing a file drops SQLite's locks on it
    with _opened(path) as connection:

        def one(statement: str) -> Any:
            return connection.execute(statement).fetchone()[0]

        totals = read_totals(connection)
        stored = totals if totals is not None else Totals()
        count_on(connection, stored)
        oldest = [
            accepted
            for message_class in CLASSES
            for (accepted,) in connection.execute(
                f"SELECT accepted_ms FROM {message_class.value} ORDER BY id LIMIT 1"
            )
        ]
        pages, free = one("PRAGMA page_count"), one("PRAGMA freelist_count")
        return StoreStatus(
            path=str(path),
            is_running=is_running,
            file_bytes=sum(
                part.stat().st_size
                for suffix in ("", "-wal")
                if (part := Path(f"{path}{suffix}")).exists()
            ),
            used_bytes=(pages - free) * one("PRAGMA page_size"),
            waiting={key: found.rows for key, found in stored.stored.items()},
            waiting_datapoints=sum(found.datapoints for found in stored.stored.values()),
            dead=one("SELECT count(*) FROM dead"),
            operations=one("SELECT count(*) FROM record"),
            oldest_ms=min(oldest, default=None),
            totals=totals,
        )


def read_messages(path: Path, state: str | None = None) -> Iterator[StoredMessage]:
    """The messages in the order in which they would be sent, then the dead letters.

    ``state`` chooses ``waiting`` or ``dead``. They are read in pages, so that a running agent is
    not held up. Raises ``OutboxError`` when the store can't be read.
    """
    if state != "dead":
        for message_class in CLASSES:
            for row in _rows(path, message_class.value, ROW_COLUMNS):
                found, is_sound = read_row(row)
                yield StoredMessage(
                    found.row_id,
                    message_class.value,
                    "waiting",
                    found.accepted_ms,
                    found.datapoints,
                    found.is_text,
                    is_sound,
                    found.payload,
                )
    if state != "waiting":
        for row in _rows(path, "dead", LETTER_COLUMNS):
            letter = read_letter(row)
            found = letter.row
            yield StoredMessage(
                found.row_id,
                letter.table,
                "dead",
                found.accepted_ms,
                found.datapoints,
                found.is_text,
                letter.is_sound,
                found.payload,
                letter.reason,
            )


def _rows(path: Path, table: str, columns: str) -> Iterator[Any]:
    after = -1
    while True:
        with _opened(path) as connection:
            page = connection.execute(
                f"SELECT {columns} FROM {table} WHERE id > ? ORDER BY id LIMIT 500", (after,)
            ).fetchall()
        if not page:
            return
        yield from page
        after = page[-1][0]


def verify(path: Path) -> list[str]:
    """Everything that is wrong with the store, one line each; empty when it is sound.

    Reads the whole file. Raises ``OutboxError`` when there is no file.
    """
    faults: list[str] = []
    try:
        with _opened(path) as connection:
            for (line,) in connection.execute("PRAGMA integrity_check(20)").fetchall():
                if line != b"ok":
                    faults.append(f"{path}: {line.decode('utf-8', 'replace')}")
            totals = read_totals(connection)
            if totals is None:
                faults.append(f"{path}: the totals are missing or were changed")
            else:
                count_on(connection, totals)
            for message_class in CLASSES:
                faults += _verify_rows(path, connection, message_class, totals)
    except OutboxError as error:
        if not path.is_file():
            raise
        faults.append(str(error))
    return faults


def _verify_rows(
    path: Path, connection: sqlite3.Connection, message_class: MessageClass, totals: Totals | None
) -> list[str]:
    faults: list[str] = []
    found = Stored()
    for values in connection.execute(
        f"SELECT {ROW_COLUMNS} FROM {message_class.value} ORDER BY id"
    ):
        row, is_sound = read_row(values)
        found.rows += 1
        found.datapoints += row.datapoints
        if not is_sound:
            faults.append(f"{path}: {message_class.value} {row.row_id} was changed")
    if totals is not None:
        stored = totals.stored[message_class.value]
        if (stored.rows, stored.datapoints) != (found.rows, found.datapoints):
            faults.append(
                f"{path}: {message_class.value}: {found.rows} rows with {found.datapoints} "
                f"datapoints, but the totals say {stored.rows} with {stored.datapoints}"
            )
    return faults
