"""Readings that have no time yet, in SQLite, with the starts of the machine that date them.

Every call that changes something is one transaction, and on disk when it returns (synchronous
FULL): what was accepted survives a loss of power. Without a path everything is in memory.

A file that is damaged, or of a newer version of this software, is set aside under its name with
``.damaged`` behind it (an older one set aside is replaced). A new one is begun, with every row that
can still be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from oda.log import Logger
from oda.model import Event, Moment
from oda.private_files import followed, make_directory, make_private
from oda.telemetry.boots import Boot
from oda.telemetry.history import identity_of, is_damage, set_aside

log = Logger()

SCHEMA_VERSION = 1
#: What a row needs in the file besides its body, in bytes.
_ROW_BYTES = 100

_BOOT = "number, boot_id, not_before_ms, last_ms, starts_ms, is_exact, right_ms"
_EVENT = "boot_id, uptime_ms, crc, body"


class Undated(NamedTuple):
    """An event that has no time, as a row: without ``at_ms`` and ``taken``."""

    boot_id: str
    uptime_ms: int
    crc: int
    body: bytes

    @property
    def cost(self) -> int:
        """The bytes it needs in the file."""
        return len(self.body) + _ROW_BYTES

    @property
    def moment(self) -> Moment:
        return Moment(self.boot_id, self.uptime_ms)

    def event(self, at_ms: int, from_ms: int | None) -> Event:
        """The event with its time; the publisher's own ``from_ms`` goes before."""
        datastream_id, value, device_id, feed, path, own_from_ms = msgspec.msgpack.decode(self.body)
        return Event(
            datastream_id,
            value,
            device_id,
            at_ms,
            feed,
            tuple(path),
            from_ms if own_from_ms is None else own_from_ms,
        )


def as_row(event: Event, moment: Moment) -> Undated:
    """An event that was checked, as it is kept. ``moment`` is when it was taken."""
    body = msgspec.msgpack.encode(
        (event.datastream_id, event.value, event.device_id, event.feed, event.path, event.from_ms)
    )
    return Undated(moment.boot_id, moment.uptime_ms, crc32(body), body)


class UndatedFile:
    """Opening raises ``OSError`` or ``sqlite3.Error`` where there can be no file at ``path``. The
    other calls raise ``sqlite3.Error`` where the database does not work, and have then changed
    nothing. ``rows`` and ``cost`` are what it holds. ``lost`` are the rows that a damaged file had
    and that could not be read, as far as is known."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows = 0
        self.cost = 0
        self.lost = 0
        if path is not None:
            make_directory(path.parent)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self.start_afresh(str(error))

    def is_in_place(self) -> bool:
        """Whether a later process will find it: the open file is the one at the path."""
        return self.path is None or self._identity == identity_of(self.path)

    def boots(self) -> list[Boot]:
        """The starts of the machine that it knows, oldest first."""
        return [_boot(row) for row in self._db.execute(f"SELECT {_BOOT} FROM boot ORDER BY number")]

    def write(self, rows: Sequence[Undated], boots: Iterable[Boot], oldest_boot: int) -> None:
        """Add ``rows`` and enter ``boots``; those before ``oldest_boot`` are forgotten."""
        with self._db:
            self._add(rows)
            self._db.executemany(
                f"INSERT OR REPLACE INTO boot ({_BOOT}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [msgspec.structs.astuple(boot) for boot in boots],
            )
            self._db.execute("DELETE FROM boot WHERE number < ?", (oldest_boot,))
        self._count(rows, 1)

    def page(self, max_rows: int) -> list[tuple[int, Undated]]:
        """The oldest rows with their ids. Raises ``sqlite3.DatabaseError`` where one was changed
        since it was written."""
        found = [
            (row_id, Undated(*row))
            for row_id, *row in self._db.execute(
                f"SELECT id, {_EVENT} FROM event ORDER BY id LIMIT ?", (max_rows,)
            )
        ]
        if not all(crc32(row.body) == row.crc for _, row in found):
            raise sqlite3.DatabaseError("a row was changed since it was written")
        return found

    def delete(self, rows: Sequence[tuple[int, Undated]]) -> None:
        """These have their time, and are elsewhere."""
        with self._db:
            self._db.executemany(
                "DELETE FROM event WHERE id = ?", [(row_id,) for row_id, _ in rows]
            )
        self._count([row for _, row in rows], -1)

    def drop_oldest(self, cost: int) -> int:
        """Drop the oldest rows until ``cost`` bytes are free; returns how many."""
        dropped: list[tuple[int, Undated]] = []
        for row_id, *row in self._db.execute(f"SELECT id, {_EVENT} FROM event ORDER BY id"):
            if cost <= 0:
                break
            dropped.append((row_id, Undated(*row)))
            cost -= dropped[-1][1].cost
        self.delete(dropped)
        return len(dropped)

    def take_over(self, other: UndatedFile) -> None:
        """Take everything that ``other`` has, behind what is here already."""
        rows = [
            Undated(*row) for row in other._db.execute(f"SELECT {_EVENT} FROM event ORDER BY id")
        ]
        self.write(rows, other.boots(), 0)

    def start_afresh(self, reason: str) -> None:
        """Set the file aside, which can't be used because of ``reason``, and begin a new one with
        what can be read of it."""
        known = self.rows
        rows: dict[int, Undated] = {}
        boots: dict[int, Boot] = {}
        self._db.close()
        if self.path is not None:
            _salvage(set_aside(self.path), rows, boots)
        self._open()
        saved = [rows[row_id] for row_id in sorted(rows)]
        self.write(saved, boots.values(), 0)
        self.lost += max(0, known - len(saved))
        log.error(
            "the readings without a time in {path} can't be used ({reason}): the file is set aside"
            " as {path}.damaged, and the {saved} readings that can be read are taken over",
            path=str(self.path),
            reason=reason,
            saved=len(saved),
        )

    def close(self) -> None:
        """Keep nothing open."""
        self._db.close()

    def _open(self) -> None:
        if self.path is not None:
            try:
                make_private(followed(self.path))
            except OSError as error:
                raise sqlite3.OperationalError(str(error)) from error
        self._db = sqlite3.connect(":memory:" if self.path is None else self.path, timeout=0.2)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            schema = Path(__file__).with_name("undated.sql").read_text("utf-8")
            self._db.executescript(
                f"BEGIN; {schema}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
            )
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"its schema version {version} is unknown")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        self._identity = None if self.path is None else identity_of(self.path)
        self.rows, self.cost = self._db.execute(
            f"SELECT count(*), coalesce(sum(length(body) + {_ROW_BYTES}), 0) FROM event"
        ).fetchone()

    def _add(self, rows: Sequence[Undated]) -> None:
        self._db.executemany(f"INSERT INTO event ({_EVENT}) VALUES (?, ?, ?, ?)", rows)

    def _count(self, rows: Sequence[Undated], sign: int) -> None:
        self.rows += sign * len(rows)
        self.cost += sign * sum(row.cost for row in rows)


def _boot(row: Sequence[Any]) -> Boot:
    number, boot_id, not_before_ms, last_ms, starts_ms, is_exact, right_ms = row
    return Boot(number, boot_id, not_before_ms, last_ms, starts_ms, bool(is_exact), right_ms)


def _salvage(path: Path, rows: dict[int, Undated], boots: dict[int, Boot]) -> None:
    """Read what can be read. A damaged place in the middle is come to from both ends."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=0.2)) as database:
        for order in ("ASC", "DESC"):
            with suppress(sqlite3.Error, TypeError, ValueError):
                for row in database.execute(f"SELECT {_BOOT} FROM boot ORDER BY number {order}"):
                    boots[row[0]] = _boot(row)
            with suppress(sqlite3.Error, TypeError, ValueError):
                for row_id, *row in database.execute(
                    f"SELECT id, {_EVENT} FROM event ORDER BY id {order}"
                ):
                    one = Undated(*row)
                    if crc32(one.body) == one.crc:
                        rows[row_id] = one
