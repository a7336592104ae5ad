"""Looks into a store from outside, while its agent runs or after it has stopped.

Nothing here writes, but for the two functions that say so; those take the store's lock, and are
for an agent that has stopped. A running agent offers the same on its ``DurableOutbox``.
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
from oda.outbox.change import CLASSES, Stored, Totals
from oda.outbox.costs import PAGE_BYTES, row_cost
from oda.outbox.lock import StoreLock
from oda.outbox.records import LETTER_COLUMNS, read_letter, read_row, read_totals
from oda.outbox.store import UNREADABLE, Store, StoreDamaged
from oda.settings import OutboxSettings

_COLUMNS = "id, is_text, datapoints, accepted_ms, crc, payload"


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
        with closing(
            sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", timeout=2.0, isolation_level=None, uri=True
            )
        ) as connection:
            connection.text_factory = bytes
            connection.execute("PRAGMA query_only = ON")
            yield connection
    except UNREADABLE as error:
        raise OutboxError(f"{path}: it can't be read: {error}") from error


def read_status(path: Path) -> StoreStatus:
    """The store in numbers. Raises ``OutboxError`` when it can't be read."""
    with _opened(path) as connection:

        def one(statement: str) -> Any:
            return connection.execute(statement).fetchone()[0]

        totals = read_totals(
            connection.execute("SELECT body, crc FROM totals WHERE only = 1").fetchone()
        )
        stored = totals if totals is not None else Totals()
        if totals is None:
            for message_class in CLASSES:
                found: Stored = stored.stored(message_class)
                table = message_class.value
                found.rows = one(f"SELECT count(*) FROM {table}")
                found.datapoints = one(f"SELECT coalesce(sum(datapoints), 0) FROM {table}")
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
            is_running=_is_running(path),
            file_bytes=sum(
                part.stat().st_size
                for suffix in ("", "-wal")
                if (part := Path(f"{path}{suffix}")).exists()
            ),
            used_bytes=(pages - free) * PAGE_BYTES,
            waiting={one.value: stored.stored(one).rows for one in CLASSES},
            waiting_datapoints=sum(stored.stored(one).datapoints for one in CLASSES),
            dead=one("SELECT count(*) FROM dead"),
            operations=one("SELECT count(*) FROM journal"),
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
            for row in _rows(path, message_class.value, _COLUMNS):
                kept, is_sound = read_row(row)
                yield StoredMessage(
                    kept.row_id,
                    message_class.value,
                    "waiting",
                    kept.accepted_ms,
                    kept.datapoints,
                    kept.is_text,
                    is_sound,
                    kept.payload,
                )
    if state != "waiting":
        for row in _rows(path, "dead", LETTER_COLUMNS):
            letter = read_letter(row)
            kept = letter.kept
            yield StoredMessage(
                kept.row_id,
                letter.table,
                "dead",
                kept.accepted_ms,
                kept.datapoints,
                kept.is_text,
                letter.is_sound,
                kept.payload,
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
            totals = read_totals(
                connection.execute("SELECT body, crc FROM totals WHERE only = 1").fetchone()
            )
            if totals is None:
                faults.append(f"{path}: the totals are missing or were changed")
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
    for row in connection.execute(f"SELECT {_COLUMNS} FROM {message_class.value} ORDER BY id"):
        kept, is_sound = read_row(row)
        found.rows += 1
        found.cost += row_cost(len(kept.payload))
        found.datapoints += kept.datapoints
        if not is_sound:
            faults.append(f"{path}: {message_class.value} {kept.row_id} was changed")
    if totals is not None:
        stored = totals.stored(message_class)
        if (stored.rows, stored.datapoints) != (found.rows, found.datapoints):
            faults.append(
                f"{path}: {message_class.value}: {found.rows} rows with {found.datapoints} "
                f"datapoints, but the totals say {stored.rows} with {stored.datapoints}"
            )
    return faults


def purge(path: Path, settings: OutboxSettings) -> int:
    """Delete everything that waits, and the dead letters, of an agent that has stopped; returns
    how many messages. The totals count the waiting ones as dropped.

    Raises ``OutboxError`` when an agent runs or the store can't be used.
    """
    with _locked(path, settings) as store:
        totals = store.totals
        waiting = [totals.stored(one) for one in CLASSES]
        totals.dropped.add(sum(one.rows for one in waiting), sum(one.datapoints for one in waiting))
        purged = sum(one.rows for one in waiting)
        purged += int(store.execute("SELECT count(*) FROM dead")[0][0])
        for message_class in CLASSES:
            store.execute(f"DELETE FROM {message_class.value}")
        store.execute("DELETE FROM dead")
        totals.response, totals.telemetry = Stored(), Stored()
        totals.response_marks, totals.telemetry_marks = [], []
        return purged


def retry_dead(path: Path, settings: OutboxSettings) -> int:
    """Put the dead letters of an agent that has stopped behind everything that waits; returns how
    many. Damaged ones stay. Raises as ``purge``."""
    with _locked(path, settings) as store:
        totals, retried = store.totals, 0
        for row in store.execute(f"SELECT {LETTER_COLUMNS} FROM dead ORDER BY id"):
            letter = read_letter(row)
            kept = letter.kept
            if not letter.is_sound:
                continue
            store.execute("DELETE FROM dead WHERE id = ?", (kept.row_id,))
            totals.last_id += 1
            kept.row_id = totals.last_id
            message_class = MessageClass(letter.table)
            store.add_rows(message_class, (kept,))
            totals.dead.add(-1, -kept.datapoints)
            stored = totals.stored(message_class)
            stored.rows += 1
            stored.cost += kept.cost
            stored.datapoints += kept.datapoints
            retried += 1
        return retried


@contextmanager
def _locked(path: Path, settings: OutboxSettings) -> Iterator[Store]:
    """The store, in a transaction that ends with its totals."""
    if not path.is_file():
        raise OutboxError(f"{path}: there is no such file")
    lock = StoreLock(path)
    lock.acquire()
    try:
        store = Store(path, settings)
        try:
            store.execute("BEGIN IMMEDIATE")
            yield store
            store.write_totals(msgspec.json.encode(store.totals))
            store.execute("COMMIT")
        finally:
            store.close()
    except (*UNREADABLE, StoreDamaged) as error:
        raise OutboxError(f"{path}: it can't be used: {error}") from error
    finally:
        lock.release()


def _is_running(path: Path) -> bool:
    lock = StoreLock(path)
    if not lock.path.exists():
        return False
    return lock.is_taken()
