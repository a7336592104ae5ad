"""The values that the in-memory state manager keeps, in SQLite.

Every call that changes something is one transaction. The journal is a WAL with synchronous NORMAL:
a value that was committed survives the end of the process; a power failure may take the newest
commits with it, but never damages the file. How many values there are of each datastream, device
and feed is also known in memory, so that trimming and look-ups touch only the rows they need.

A file that is damaged, or written by a newer version of this software, is set aside under its name
with ``.damaged`` behind it (an older one set aside is replaced), and a new one begun.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from twisted.logger import Logger

from oda.errors import EventRejected
from oda.model import HOST, DevicePattern, Event

log = Logger()

SCHEMA_VERSION = 1

_INSERT = (
    "INSERT INTO kept (datastream_id, device_id, feed, at_ms, from_ms, path, value)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SELECT = (
    "SELECT id, published, datastream_id, value, device_id, at_ms, feed, path, from_ms FROM kept"
)


class Kept(NamedTuple):
    """A value of the history; ``event`` has its time and, for the host, device id ""."""

    row_id: int
    is_published: bool
    event: Event


class History:
    """Keeps at most ``max_data`` values (the newest) of each datastream and device.

    ``path`` None keeps them in memory only. Opening raises ``OSError`` or ``sqlite3.Error`` when
    there can be no file at ``path``; the other calls raise ``sqlite3.Error`` when the database does
    not work, for instance because the disk is full, and have then changed nothing.
    """

    def __init__(self, path: Path | None, max_data: int) -> None:
        self._path = path
        self._max_data = max(max_data, 1)
        self._counts: dict[tuple[str, str], dict[str | None, int]] = {}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self.start_afresh(str(error))

    def add(self, events: Sequence[Event]) -> tuple[list[int], int]:
        """Keep ``events``, which all have a time.

        Returns their row ids, and how many values were dropped for them that were never published.
        """
        rows = [_row(event) for event in events]
        row_ids: list[int] = []
        lost = 0
        with self._db:
            places: dict[tuple[str, str], int] = {}
            for row in rows:
                row_ids.append(int(self._db.execute(_INSERT, row).lastrowid or 0))
                place = (row[0], row[1])
                places[place] = places.get(place, 0) + 1
            drops = []
            for place, added in places.items():
                excess = sum(self._counts.get(place, {}).values()) + added - self._max_data
                if excess > 0:
                    drops += self._db.execute(
                        "SELECT id, published, datastream_id, device_id, feed FROM kept"
                        " WHERE datastream_id = ? AND device_id = ? ORDER BY at_ms, id LIMIT ?",
                        (*place, excess),
                    ).fetchall()
            self._db.executemany("DELETE FROM kept WHERE id = ?", ((drop[0],) for drop in drops))
        for row in rows:
            self._count(row[0], row[1], row[2], 1)
        for _, is_published, datastream_id, device_id, feed in drops:
            lost += not is_published
            self._count(datastream_id, device_id, feed, -1)
        return row_ids, lost

    def datastream_ids(self, device_pattern: str) -> set[str]:
        """The datastreams of which there is a value for a matching device."""
        matches = DevicePattern(device_pattern).matches
        return {datastream_id for datastream_id, device_id in self._counts if matches(device_id)}

    def latest(self, datastream_id: str, device_pattern: str) -> list[Kept]:
        """The newest value of each matching device and feed: the host first, then by device id;
        without a feed first, then by feed. Of two with the same time, the one that came later."""
        found: list[Kept] = []
        for device_id in self._devices(datastream_id, device_pattern):
            feeds = self._counts[(datastream_id, device_id)]
            for feed in sorted(feeds, key=lambda name: (name is not None, name or "")):
                found += self._select(
                    "WHERE datastream_id = ? AND device_id = ? AND feed IS ?"
                    " ORDER BY at_ms DESC, id DESC LIMIT 1",
                    (datastream_id, device_id, feed),
                )
        return found

    def unpublished(self, datastream_id: str, device_pattern: str) -> list[Kept]:
        """The values not marked as published of matching devices, oldest first in each."""
        found: list[Kept] = []
        for device_id in self._devices(datastream_id, device_pattern):
            found += self._select(
                "WHERE published = 0 AND datastream_id = ? AND device_id = ? ORDER BY at_ms, id",
                (datastream_id, device_id),
            )
        return found

    def mark_published(self, row_ids: Iterable[int]) -> None:
        """These were accepted for delivery. Ids of values forgotten meanwhile are ignored."""
        with self._db:
            self._db.executemany(
                "UPDATE kept SET published = 1 WHERE id = ?", ((row_id,) for row_id in row_ids)
            )

    def forget(self, before_ms: int) -> tuple[int, int]:
        """Drop what is older; returns how many values, and how many of them never published."""
        with self._db:
            groups = self._db.execute(
                "SELECT datastream_id, device_id, feed, count(*), sum(published = 0) FROM kept"
                " WHERE at_ms < ? GROUP BY datastream_id, device_id, feed",
                (before_ms,),
            ).fetchall()
            if groups:
                self._db.execute("DELETE FROM kept WHERE at_ms < ?", (before_ms,))
        for datastream_id, device_id, feed, number, _ in groups:
            self._count(datastream_id, device_id, feed, -number)
        return sum(group[3] for group in groups), sum(group[4] for group in groups)

    def start_afresh(self, reason: str) -> None:
        """Set the file aside, which can't be used because of ``reason``, and begin a new one."""
        self.close()
        if self._path is not None:
            for suffix in ("", "-wal", "-shm"):
                old = Path(f"{self._path}{suffix}")
                aside = Path(f"{self._path}.damaged{suffix}")
                aside.unlink(missing_ok=True)
                if old.exists():
                    os.replace(old, aside)
            log.warn(
                "the history {path} can't be used ({reason}): set aside as {path}.damaged",
                path=str(self._path),
                reason=reason,
            )
        self._open()

    def close(self) -> None:
        """Keep nothing open; the history can't be used any more."""
        self._db.close()

    def _open(self) -> None:
        self._db = sqlite3.connect(":memory:" if self._path is None else self._path, timeout=0.2)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            schema = Path(__file__).with_name("history.sql").read_text("utf-8")
            self._db.executescript(
                f"BEGIN; {schema}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
            )
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"its schema version {version} is unknown")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        self._counts = {}
        for datastream_id, device_id, feed, number in self._db.execute(
            "SELECT datastream_id, device_id, feed, count(*) FROM kept GROUP BY 1, 2, 3"
        ):
            self._count(datastream_id, device_id, feed, number)

    def _devices(self, datastream_id: str, device_pattern: str) -> list[str]:
        if (datastream_id, device_pattern) in self._counts:
            return [device_pattern]
        matches = DevicePattern(device_pattern).matches
        devices = [
            device_id
            for other, device_id in self._counts
            if other == datastream_id and matches(device_id)
        ]
        return sorted(devices, key=lambda device_id: (device_id != HOST, device_id))

    def _select(self, where: str, parameters: tuple[object, ...]) -> list[Kept]:
        return [
            Kept(
                row_id,
                bool(is_published),
                Event(
                    datastream_id,
                    msgspec.msgpack.decode(value),
                    device_id,
                    at_ms,
                    feed,
                    msgspec.msgpack.decode(path, type=tuple[str, ...]),
                    from_ms,
                ),
            )
            for (
                row_id,
                is_published,
                datastream_id,
                value,
                device_id,
                at_ms,
                feed,
                path,
                from_ms,
            ) in self._db.execute(f"{_SELECT} {where}", parameters)
        ]

    def _count(self, datastream_id: str, device_id: str, feed: str | None, change: int) -> None:
        place = (datastream_id, device_id)
        feeds = self._counts.setdefault(place, {})
        number = feeds.get(feed, 0) + change
        if number:
            feeds[feed] = number
            return
        feeds.pop(feed, None)
        if not feeds:
            del self._counts[place]


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault, rather than the disk, a lock or a permission."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.OperationalError | sqlite3.ProgrammingError
    )


def encode_value(event: Event) -> bytes:
    """The value as it is kept; raises ``EventRejected`` when it can't be."""
    try:
        return msgspec.msgpack.encode(event.value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EventRejected(event.datastream_id, f"its value can't be kept: {error}") from error


def _row(event: Event) -> tuple[str, str, str | None, int | None, int | None, bytes, bytes]:
    return (
        event.datastream_id,
        event.device_id,
        event.feed,
        event.at_ms,
        event.from_ms,
        msgspec.msgpack.encode(event.path),
        encode_value(event),
    )
