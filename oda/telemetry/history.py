"""The values that the in-memory state manager keeps, in SQLite.

The history keeps values in order of arrival; the age of a value is the time since its arrival
(``oda.telemetry.arrival``). The time that a value carries (``at``) is sent and otherwise ignored: a
device corrects its time of day now and then, and neither order nor age may jump with it.

Every call that changes something is one transaction. The journal is a WAL with synchronous NORMAL:
a committed value survives the end of the process. A power failure may lose the newest commits, but
never damages the file. The number of values of each datastream, device and feed is also kept in
memory, so that trimming and look-ups touch only the rows they need.

A file that is damaged, or written by a newer version of this software, is set aside under its name
with ``.damaged`` appended (and replaces an older one set aside), and a new file begins.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from oda.errors import EventRejected
from oda.log import Logger
from oda.model import HOST, DevicePattern, Event, Moment
from oda.private_files import followed, make_directory, make_private
from oda.telemetry.arrival import ArrivalClock, ClockReading
from oda.telemetry.place import is_foreign

log = Logger()

SCHEMA_VERSION = 3

#: How far the saved reading of the clock may lag behind before it is written again.
_CLOCK_TOLERANCE_MS = 60_000

_COLUMNS_1 = "datastream_id, device_id, feed, at_ms, from_ms, path, value"
_COLUMNS = f"{_COLUMNS_1}, taken_boot, taken_ms"
_INSERT = (
    f"INSERT INTO kept (arrived_ms, published, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SELECT = (
    "SELECT id, published, datastream_id, value, device_id, at_ms, feed, path, from_ms,"
    " taken_boot, taken_ms FROM kept"
)

#: A value ready for writing; ``encode_event`` makes it.
Row = tuple[str, str, str | None, int | None, int | None, bytes, bytes, str | None, int | None]


class Kept(NamedTuple):
    """A value of the history; ``event`` has its time, or the moment at which it was ``taken``, and,
    for the host, device id ""."""

    row_id: int
    is_published: bool
    event: Event


class Dropped(NamedTuple):
    """A value that left the history before it was marked as published."""

    row_id: int
    datastream_id: str
    device_id: str


#: A row that is deleted: its id, whether it was published, its datastream, device and feed.
_Drop = tuple[int, int, str, str, str | None]


class History:
    """Keeps at most ``max_data`` values (the last to arrive) of each datastream and device.

    With ``path`` None it keeps them in memory only. ``clock`` gives the times of arrival, and
    continues from the file's clock. Opening raises ``OSError`` or ``sqlite3.Error`` if there can be
    no file at ``path``. The other calls raise ``sqlite3.Error`` if the database does not work, for
    instance because the disk is full, and have then changed nothing. ``number_unpublished`` values
    are not marked as published.
    """

    def __init__(self, path: Path | None, max_data: int, clock: ArrivalClock) -> None:
        self.path = path
        self._max_data = max(max_data, 1)
        self._clock = clock
        self._saved: ClockReading | None = None
        self._file: tuple[int, int] | None = None
        self._counts: dict[tuple[str, str], dict[str | None, int]] = {}
        self.number_unpublished = 0
        if path is not None:
            make_directory(path.parent)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self.start_afresh(str(error))

    def __len__(self) -> int:
        """How many values there are."""
        return sum(number for feeds in self._counts.values() for number in feeds.values())

    def is_on_disk(self) -> bool:
        """Whether a later process will find the values: False in memory, and if the file was
        deleted or replaced."""
        return self._file is not None and self._file == identity_of(self.path)

    def add(self, rows: Sequence[Row]) -> tuple[list[int], list[Dropped]]:
        """Keep ``rows``, which arrive now. Returns their ids, and what was dropped for them."""
        arrived_ms = self._clock.now_ms()
        row_ids: list[int] = []
        with self._db:
            for row in rows:
                inserted = self._db.execute(_INSERT, (arrived_ms, 0, *row))
                row_ids.append(int(inserted.lastrowid or 0))
            added: dict[tuple[str, str], int] = {}
            for row in rows:
                added[row[:2]] = added.get(row[:2], 0) + 1
            drops = self._trim(added)
            saved = self._saved
            if self._clock.is_off(saved, _CLOCK_TOLERANCE_MS):
                saved = self._save_clock()
        self._saved = saved
        for row in rows:
            self._count(row[0], row[1], row[2], 1)
        self.number_unpublished += len(rows)
        return row_ids, self._dropped(drops)

    def set_max_data(self, max_data: int) -> list[Dropped]:
        """From now on, keep that many of each datastream and device."""
        before, self._max_data = self._max_data, max(max_data, 1)
        try:
            with self._db:
                drops = self._trim(dict.fromkeys(self._counts, 0))
        except sqlite3.Error:
            self._max_data = before
            raise
        return self._dropped(drops)

    def take_over(self, other: History) -> tuple[dict[int, int], list[Dropped]]:
        """Keep everything that ``other`` has, with its age, after what is here already.

        Returns the new id of each id of ``other``, and what was dropped because it exceeds the
        limit. ``other`` stays unchanged.
        """
        new_ids: dict[int, int] = {}
        added: dict[tuple[str, str], int] = {}
        rows: list[Sequence[str]] = []
        unpublished = 0
        shift_ms = self._clock.now_ms() - other._clock.now_ms()
        with self._db:
            for row_id, arrived_ms, published, *row in other._db.execute(
                f"SELECT id, arrived_ms, published, {_COLUMNS} FROM kept ORDER BY id"
            ):
                inserted = self._db.execute(_INSERT, (arrived_ms + shift_ms, published, *row))
                new_ids[row_id] = int(inserted.lastrowid or 0)
                place = (row[0], row[1])
                added[place] = added.get(place, 0) + 1
                rows.append(row[:3])
                unpublished += not published
            drops = self._trim(added)
            saved = self._save_clock()
        self._saved = saved
        for row in rows:
            self._count(row[0], row[1], row[2], 1)
        self.number_unpublished += unpublished
        return new_ids, self._dropped(drops)

    def clear(self) -> None:
        """Drop everything: another history has taken it over."""
        with self._db:
            self._db.execute("DELETE FROM kept")
        self._counts = {}
        self.number_unpublished = 0

    def datastream_ids(self, device_pattern: str) -> set[str]:
        """The datastreams that have a value for a matching device."""
        matches = DevicePattern(device_pattern).matches
        return {datastream_id for datastream_id, device_id in self._counts if matches(device_id)}

    def latest(self, datastream_id: str, device_pattern: str) -> list[Kept]:
        """The last value to arrive of each matching device and feed: the host first, then by device
        id; without a feed first, then by feed."""
        found: list[Kept] = []
        for device_id in self._devices(datastream_id, device_pattern):
            feeds = self._counts[(datastream_id, device_id)]
            for feed in sorted(feeds, key=lambda name: (name is not None, name or "")):
                found += self._select(
                    "WHERE datastream_id = ? AND device_id = ? AND feed IS ?"
                    " ORDER BY id DESC LIMIT 1",
                    (datastream_id, device_id, feed),
                )
        return found

    def unpublished(self, datastream_id: str, device_pattern: str) -> list[Kept]:
        """The values of matching devices that are not marked as published, each device's in order
        of arrival."""
        found: list[Kept] = []
        for device_id in self._devices(datastream_id, device_pattern):
            found += self._select(
                "WHERE published = 0 AND datastream_id = ? AND device_id = ? ORDER BY id",
                (datastream_id, device_id),
            )
        return found

    def all_unpublished(self) -> list[Kept]:
        """All values not marked as published, in order of arrival."""
        return self._select("WHERE published = 0 ORDER BY id", ())

    def places_unpublished(self) -> list[Dropped]:
        """The same without their values."""
        return [
            Dropped(*row)
            for row in self._db.execute(
                "SELECT id, datastream_id, device_id FROM kept WHERE published = 0 ORDER BY id"
            )
        ]

    def mark_published(self, row_ids: Iterable[int]) -> None:
        """These were accepted for delivery. Ids of values that were since forgotten are ignored."""
        with self._db:
            marked = self._db.executemany(
                "UPDATE kept SET published = 1 WHERE id = ? AND published = 0",
                ((row_id,) for row_id in row_ids),
            )
        self.number_unpublished -= max(0, marked.rowcount)

    def forget(self, older_than_ms: int) -> list[Dropped]:
        """Drop what arrived longer ago; returns the dropped values that were never published."""
        before_ms = self._clock.now_ms() - older_than_ms
        with self._db:
            # Arrivals grow with the ids, so this touches only rows that go, and one that stays.
            young = self._db.execute(
                "SELECT id FROM kept WHERE arrived_ms >= ? ORDER BY id LIMIT 1", (before_ms,)
            ).fetchone()
            drops = self._db.execute(
                "SELECT id, published, datastream_id, device_id, feed FROM kept WHERE id < ?",
                young or (2**63 - 1,),
            ).fetchall()
            self._delete(drops)
        return self._dropped(drops)

    def start_afresh(self, reason: str) -> int:
        """Set aside the file, which is unusable because of ``reason``, and begin a new one.

        Returns how many values in it were not published, as far as is known.
        """
        lost = self.number_unpublished
        self._db.close()
        self._saved = None
        if self.path is not None:
            set_aside(self.path)
            log.warn(
                "the history {path} can't be used ({reason}); the agent sets it aside as"
                " {path}.damaged and begins a new one",
                path=str(self.path),
                reason=reason,
            )
        self._open()
        return lost

    def close(self) -> None:
        """Close everything; the history can't be used any more."""
        try:
            with self._db:
                self._save_clock()
        except sqlite3.Error as error:
            # The earlier saved reading serves instead: it is a little older.
            log.debug("could not save the clock of the history: {reason}", reason=str(error))
        self._db.close()

    def _open(self) -> None:
        if self.path is not None:
            try:
                make_private(followed(self.path))
            except OSError as error:
                raise sqlite3.OperationalError(str(error)) from error
        self._db = sqlite3.connect(":memory:" if self.path is None else self.path, timeout=0.2)
        if is_foreign(self._db):
            self._db.close()
            raise sqlite3.OperationalError("it is the database of another program")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._run(_schema())
        elif version == 1:
            self._run(_from_schema_1())
        elif version == 2:
            self._run(_FROM_SCHEMA_2)
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"its schema version {version} is unknown")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        self._file = identity_of(self.path)
        self._counts = {}
        for datastream_id, device_id, feed, number in self._db.execute(
            "SELECT datastream_id, device_id, feed, count(*) FROM kept GROUP BY 1, 2, 3"
        ):
            self._count(datastream_id, device_id, feed, number)
        (self.number_unpublished,) = self._db.execute(
            "SELECT count(*) FROM kept WHERE published = 0"
        ).fetchone()
        saved = self._db.execute("SELECT age_ms, wall_ms, boot_id, uptime_ms FROM clock").fetchone()
        newest = self._db.execute("SELECT arrived_ms FROM kept ORDER BY id DESC LIMIT 1").fetchone()
        self._saved = None if saved is None else ClockReading(*saved)
        if saved is not None or newest is not None:
            self._clock.go_on_from(self._saved, newest[0] if newest else 0)

    def _run(self, statements: str) -> None:
        self._db.executescript(
            f"BEGIN; {statements}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
        )

    def _save_clock(self) -> ClockReading:
        """Write the reading in the present transaction; after the commit it is ``_saved``."""
        reading = self._clock.reading()
        self._db.execute(
            "INSERT OR REPLACE INTO clock (id, age_ms, wall_ms, boot_id, uptime_ms)"
            " VALUES (1, ?, ?, ?, ?)",
            reading,
        )
        return reading

    def _trim(self, added: dict[tuple[str, str], int]) -> list[_Drop]:
        """Delete what exceeds ``max_data`` at these places, to which so many rows were added."""
        drops: list[_Drop] = []
        for place, number in added.items():
            excess = sum(self._counts.get(place, {}).values()) + number - self._max_data
            if excess > 0:
                drops += self._db.execute(
                    "SELECT id, published, datastream_id, device_id, feed FROM kept"
                    " WHERE datastream_id = ? AND device_id = ? ORDER BY id LIMIT ?",
                    (*place, excess),
                ).fetchall()
        self._delete(drops)
        return drops

    def _delete(self, drops: Sequence[_Drop]) -> None:
        self._db.executemany("DELETE FROM kept WHERE id = ?", ((drop[0],) for drop in drops))

    def _dropped(self, drops: Sequence[_Drop]) -> list[Dropped]:
        """Count what was deleted, after the commit; returns what was not published."""
        for _, _, datastream_id, device_id, feed in drops:
            self._count(datastream_id, device_id, feed, -1)
        lost = [
            Dropped(row_id, datastream_id, device_id)
            for row_id, is_published, datastream_id, device_id, _ in drops
            if not is_published
        ]
        self.number_unpublished -= len(lost)
        return lost

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
                    at_ms if taken_boot is None else None,
                    feed,
                    msgspec.msgpack.decode(path, type=tuple[str, ...]),
                    from_ms,
                    None if taken_boot is None else Moment(taken_boot, taken_ms),
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
                taken_boot,
                taken_ms,
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
    """Whether the file itself is at fault, and not the disk, a lock, a permission or the data to
    write."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error,
        sqlite3.OperationalError
        | sqlite3.ProgrammingError
        | sqlite3.DataError
        | sqlite3.IntegrityError,
    )


def encode_event(event: Event) -> Row:
    """The event, which has a time or was ``taken``, in its stored form; raises ``EventRejected`` if
    it has none."""
    try:
        value = msgspec.msgpack.encode(event.value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EventRejected(event.datastream_id, f"its value can't be kept: {error}") from error
    return (
        event.datastream_id,
        event.device_id,
        event.feed,
        0 if event.at_ms is None else event.at_ms,
        event.from_ms,
        msgspec.msgpack.encode(event.path),
        value,
        None if event.taken is None else event.taken.boot_id,
        None if event.taken is None else event.taken.uptime_ms,
    )


def set_aside(path: Path) -> Path:
    """Rename the closed database at ``path``, with the files that belong to it, to its name with
    ``.damaged``, which is returned. An older one of that name is replaced."""
    damaged = Path(f"{path}.damaged")
    for suffix in ("", "-wal", "-shm"):
        old, aside = Path(f"{path}{suffix}"), Path(f"{damaged}{suffix}")
        aside.unlink(missing_ok=True)
        if old.exists():
            os.replace(old, aside)
    return damaged


def identity_of(path: Path | None) -> tuple[int, int] | None:
    """Which file it is, whatever its name; None if there is none."""
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return found and (found.st_dev, found.st_ino)


def _schema() -> str:
    return Path(__file__).with_name("history.sql").read_text("utf-8")


#: Schema 2 knew only values that have a time.
_FROM_SCHEMA_2 = (
    "ALTER TABLE kept ADD COLUMN taken_boot TEXT; ALTER TABLE kept ADD COLUMN taken_ms INTEGER"
)


def _from_schema_1() -> str:
    """Schema 1 had no arrivals: what it kept counts as arriving at the moment of the upgrade."""
    return (
        "ALTER TABLE kept RENAME TO kept_1;"
        " DROP INDEX kept_by_place; DROP INDEX kept_by_age; DROP INDEX kept_to_publish;"
        f" {_schema()};"
        f" INSERT INTO kept (id, arrived_ms, published, {_COLUMNS_1})"
        f" SELECT id, 0, published, {_COLUMNS_1} FROM kept_1 ORDER BY id;"
        " DROP TABLE kept_1"
    )
