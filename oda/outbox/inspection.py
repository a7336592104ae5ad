"""Inspects a store from outside, while its agent runs or after it has stopped, and finds stores
that no agent uses any more.

This module never writes; ``maintenance`` does, for a stopped agent.
"""

from __future__ import annotations

import base64
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from oda.errors import OutboxError
from oda.model import MessageClass
from oda.outbox.clock import Watermark
from oda.outbox.database import (
    APPLICATION_ID,
    LETTER_COLUMNS,
    ROW_COLUMNS,
    SCHEMA_VERSION,
    UNREADABLE,
    FileLock,
    connect_read_only,
    count_on,
    is_locked,
    read_letter,
    read_row,
    read_totals,
)
from oda.outbox.transaction import CLASSES, Stored, Totals
from oda.settings import OutboxKind, OutboxSettings
from oda.wording import counted

#: Files beside a damaged store that the agent itself is taking over, or has taken over.
_OF_RECOVERY = re.compile(r"\.(damaged|recovering)-\d+")
#: The place of the application id in an SQLite file, and the start of each such file.
_ID_OFFSET = 68
_MAGIC = b"SQLite format 3\0"
#: A directory with more files than this is not searched for outboxes.
_MAX_FILES = 10_000


class StoreStatus(msgspec.Struct, frozen=True):
    """A store in numbers. ``is_running`` says whether an agent uses it now.

    ``stored`` counts rows by class. ``lingering`` of them were acknowledged, as far as the store
    knows: a running agent knows it sooner. ``oldest_ms`` is the time when the oldest was accepted
    (None if there is none), on the outbox's own clock.
    """

    path: str
    is_running: bool
    file_bytes: int
    used_bytes: int
    stored: dict[str, int]
    stored_datapoints: int
    lingering: int
    dead: int
    operations: int
    oldest_ms: int | None
    totals: Totals | None

    @property
    def waiting(self) -> int:
        """How many rows are not acknowledged, as far as the store knows."""
        return sum(self.stored.values()) - self.lingering


class StoredMessage(msgspec.Struct, frozen=True):
    """A message in a store. ``state`` is ``waiting``, ``lingering`` (acknowledged, as far as
    the store knows) or ``dead``; ``reason`` is why it is dead."""

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
        """One line of an export: the payload as text if it is text, else in base64."""
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
    """A read-only connection. Raises ``OutboxError`` naming the file if it can't be read."""
    if not path.is_file():
        raise OutboxError(f"{path}: there is no such file")
    try:
        with closing(connect_read_only(path)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if 0 < version < SCHEMA_VERSION:
                raise OutboxError(
                    f"{path}: it was written by an older version of this agent; start the agent"
                    " once to migrate it"
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
            stored={key: found.rows for key, found in stored.stored.items()},
            lingering=sum(
                one(f"SELECT count(*) FROM {key} WHERE id <= {resting}")
                for key, resting in _resting(totals).items()
            ),
            stored_datapoints=sum(found.datapoints for found in stored.stored.values()),
            dead=one("SELECT count(*) FROM dead"),
            operations=one("SELECT count(*) FROM record"),
            oldest_ms=min(oldest, default=None),
            totals=totals,
        )


def _resting(totals: Totals | None) -> dict[str, int]:
    """Up to which id the rows of each class linger."""
    marks = {} if totals is None else totals.watermarks
    return {one.value: Watermark(marks.get(one.value, ())).resting for one in CLASSES}


def read_messages(path: Path, state: str | None = None) -> Iterator[StoredMessage]:
    """The messages in the order of sending, then the dead letters.

    ``state`` selects ``waiting``, ``lingering`` or ``dead``. Reads in pages, so that a running
    agent is not blocked. Raises ``OutboxError`` when the store can't be read.
    """
    if state != "dead":
        with _opened(path) as connection:
            resting = _resting(read_totals(connection))
        for message_class in CLASSES:
            for row in _rows(path, message_class.value, ROW_COLUMNS):
                found, is_sound = read_row(row)
                is_lingering = found.row_id <= resting[message_class.value]
                own = "lingering" if is_lingering else "waiting"
                if state not in (None, own):
                    continue
                yield StoredMessage(
                    found.row_id,
                    message_class.value,
                    own,
                    found.accepted_ms,
                    found.datapoints,
                    found.is_text,
                    is_sound,
                    found.payload,
                )
    if state in (None, "dead"):
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
    """Every fault of the store, one line each; empty if there is none.

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
                f"{path}: {message_class.value}: {counted(found.rows, 'row')} with"
                f" {counted(found.datapoints, 'datapoint')}, but the totals say {stored.rows} with"
                f" {stored.datapoints}"
            )
    return faults


# -- stores that no agent uses ---------------------------------------------------------------


class Leftover(msgspec.Struct, frozen=True):
    """A store that no agent uses, with messages that no agent sends. ``problem`` says why it can't
    be read, "" if it can."""

    path: Path
    messages: int
    dead: int
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"no agent uses the outbox {self.path}, and it can't be read: {self.problem}"
        return (
            f"no agent uses the outbox {self.path}, which holds"
            f" {counted(self.messages, 'message')} and {counted(self.dead, 'dead letter')}"
        )


def find_leftovers(settings: OutboxSettings) -> list[Leftover]:
    """The stores that an agent with ``settings`` might be expected to send from, but does not.

    Searches the directory of its store and that of the default store. For an outbox in memory, also
    checks the file that it would have, and the files set aside beside it. Ignores acknowledged
    messages. Changes nothing.
    """
    found: dict[tuple[int, int], Leftover] = {}
    for path in _candidates(settings):
        try:
            status = path.stat()
        except OSError:
            continue
        identity = status.st_dev, status.st_ino
        if identity not in found and is_outbox(path) and not is_locked(path):
            leftover = look_into(path)
            if leftover.messages or leftover.dead or leftover.problem:
                found[identity] = leftover
    return list(found.values())


def is_outbox(path: Path) -> bool:
    """Whether the file at ``path`` is a store of this program, by its first bytes; a damaged one
    may also be. False for a store that this process uses."""
    try:
        if not path.is_file() or FileLock.is_held(path):
            return False
        with open(path, "rb") as file:
            first = file.read(_ID_OFFSET + 4)
    except OSError:
        return False
    return first.startswith(_MAGIC) and first[_ID_OFFSET:] == APPLICATION_ID.to_bytes(4, "big")


def _candidates(settings: OutboxSettings) -> Iterable[Path]:
    own = settings.path.absolute()
    if settings.kind is not OutboxKind.DURABLE:
        return [own, *(one for one in _files(own.parent) if one.name.startswith(f"{own.name}."))]
    directories = {own.parent: None, OutboxSettings().path.absolute().parent: None}
    return [
        path
        for directory in directories
        for path in _files(directory)
        if path.resolve() != own.resolve()
    ]


def _files(directory: Path) -> list[Path]:
    """The files of a directory that may be stores, by their names and sizes."""
    found: list[Path] = []
    try:
        with os.scandir(directory) as entries:
            for number, entry in enumerate(entries):
                if number >= _MAX_FILES:
                    break
                if _OF_RECOVERY.search(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                size = entry.stat(follow_symlinks=False).st_size
                if size and size % 512 == 0:  # SQLite's smallest page
                    found.append(Path(entry.path))
    except OSError:
        return found
    return sorted(found)


def look_into(path: Path) -> Leftover:
    """The content of a store that no agent uses."""
    log = Path(f"{path}-wal")
    try:
        # Without a write-ahead log, read the file as immutable: SQLite would leave a log behind.
        is_whole = not log.exists() or not log.stat().st_size
        with closing(connect_read_only(path, is_whole)) as connection:
            totals = read_totals(connection)
            totals = totals or Totals()
            count_on(connection, totals)
            messages = 0
            for message_class in CLASSES:
                key = message_class.value
                mark = Watermark(totals.watermarks[key])
                acknowledged = connection.execute(
                    f"SELECT count(*) FROM {key} WHERE id <= ?",
                    (max(mark.resting, mark.exhausted),),
                ).fetchone()[0]
                messages += totals.stored[key].rows - acknowledged
            dead = connection.execute("SELECT count(*) FROM dead").fetchone()[0]
        return Leftover(path, max(0, messages), dead)
    except (*UNREADABLE, OSError) as error:
        return Leftover(path, 0, 0, str(error))
