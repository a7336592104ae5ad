"""Damaged stores: the files set aside, and what can be read from them.

A store is a file and its write-ahead log; the two are moved, copied and deleted together. During
its recovery a damaged store is named ``<name>.recovering-<n>``, afterwards ``<name>.damaged-<n>``.
Another store that was found at the path is ``<name>.displaced-<n>``. No number is used twice while
files with higher ones are kept.

Rows are read in ranges of ids; a range that can't be read is halved until only the damaged places
are left out. If ids within the tree are damaged, a search by id goes astray, so the last rows of
such a table are also read from its end, where no id is needed. If the table directory is gone, a
copy of the file gets the directory of a new store, which is the same for all stores. Copied rows
keep their ids and checksums, so a damaged row is detected when it is read.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from oda.outbox.database import (
    TABLES,
    UNREADABLE,
    connect,
    connect_read_only,
    is_sound,
    migrate,
)
from oda.outbox.limits import PAGE_BYTES, row_cost
from oda.outbox.queue import END, Amount, Span
from oda.outbox.store import StoreError
from oda.private_files import make_private
from oda.settings import OutboxSettings

#: The maximum number of damaged files to keep; a further one replaces the oldest.
MAX_SET_ASIDE = 3
_COMPANIONS = ("", "-wal", "-shm")
#: The maximum number of rows that one step copies, and of queries that it makes.
STEP_ROWS = 2000
STEP_BYTES = 2 * 1024 * 1024
_STEP_QUERIES = 400
#: How many places of a table are tried before it is abandoned.
_PROBES = 64
_KEYS = {"response": "id", "telemetry": "id", "dead": "id", "record": "number", "answer": "number"}
#: The journal of schema 1.
_OLD_TABLES = {
    "record": (
        "(SELECT seq AS number, request_id, name, coalesce(content_type, 'JSON') AS content_type,"
        " request AS echo, at_ms, payload IS NOT NULL AS has_ended FROM journal)"
    ),
    "answer": "(SELECT seq AS number, crc, payload FROM journal WHERE payload IS NOT NULL)",
}


# -- files -----------------------------------------------------------------------------------


def numbered(path: Path, kind: str) -> dict[int, Path]:
    pattern = re.compile(re.escape(f"{path.name}.{kind}-") + r"(\d{1,9})\Z")
    return {
        int(match.group(1)): one
        for one in path.parent.iterdir()
        if (match := pattern.match(one.name))
    }


def free_place(path: Path, kind: str) -> Path:
    taken = {
        number for one in ("damaged", "recovering", "displaced") for number in numbered(path, one)
    }
    return path.with_name(f"{path.name}.{kind}-{max(taken, default=0) + 1}")


def set_aside(path: Path) -> Path:
    """Rename the file and its write-ahead log; deletes the oldest damaged one to make room."""
    damaged = numbered(path, "damaged")
    for number in sorted(damaged)[: max(0, len(damaged) - MAX_SET_ASIDE + 1)]:
        remove(damaged[number])
    place = free_place(path, "recovering")
    rename(path, place)
    return place


def rename(source: Path, target: Path) -> None:
    for suffix in ("", "-wal"):
        one = Path(f"{source}{suffix}")
        if one.exists():
            one.rename(f"{target}{suffix}")
    Path(f"{source}-shm").unlink(missing_ok=True)


def remove(path: Path) -> None:
    for suffix in (*_COMPANIONS, "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def copy_of_open_file(path: Path, writer: sqlite3.Connection) -> Path | None:
    """A copy of the store that is open and no longer at ``path``; None if it can't be read."""
    place = free_place(path, "recovering")
    unfinished = place.with_name(place.name + ".tmp")
    remove(unfinished)
    make_private(unfinished)
    try:
        with closing(sqlite3.connect(unfinished)) as copy:
            writer.backup(copy, pages=4096)
            copy.execute("PRAGMA journal_mode = DELETE")
    except (*UNREADABLE, StoreError):
        remove(unfinished)
        return None
    unfinished.rename(place)
    return place


def finish_setting_aside(path: Path) -> None:
    """Finish the renaming if a process was killed between the file and its write-ahead log."""
    log = Path(f"{path}-wal")
    if path.exists() or not log.exists():
        return
    for source in numbered(path, "recovering").values():
        if not Path(f"{source}-wal").exists():
            log.rename(f"{source}-wal")
            return


def is_readable(source: Path) -> bool:
    """Whether SQLite finds the tables of a file."""
    if not source.stat().st_size:
        return False  # SQLite would delete the write-ahead log beside it
    with suppress(*UNREADABLE), closing(connect_read_only(source)) as old:
        for table in TABLES.values():
            with suppress(*UNREADABLE):
                old.execute(f"SELECT max(id) FROM {table}").fetchone()
                return True
    return False


def patch(damaged: Path, settings: OutboxSettings) -> None:
    """Copy ``damaged`` to ``<name>.patched`` and give the copy the table directory of a new store.
    If the file is too short, it also gets the other pages of a new store; the write-ahead log may
    have newer ones."""
    patched = damaged.with_name(damaged.name + ".patched")
    blank = damaged.with_name(damaged.name + ".blank")
    for one in (patched, blank):
        remove(one)
    make_private(blank)
    with closing(connect(blank, settings)) as new:
        new.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        migrate(new)
        roots = {root for (root,) in new.execute("SELECT rootpage FROM sqlite_master")}
    content = blank.read_bytes()
    remove(blank)
    for suffix in ("", "-wal"):
        source = Path(f"{damaged}{suffix}")
        if source.exists():
            make_private(Path(f"{patched}{suffix}"))
            shutil.copyfile(source, f"{patched}{suffix}")
    there = patched.stat().st_size // PAGE_BYTES
    count = len(content) // PAGE_BYTES
    with open(patched, "r+b") as copy:
        for number in range(1, count + 1):
            page = bytearray(content[(number - 1) * PAGE_BYTES : number * PAGE_BYTES])
            if number == 1:
                page[18:20] = b"\x02\x02"  # with a write-ahead log
                page[28:32] = max(there, count).to_bytes(4, "big")  # the size in pages
                page[32:40] = bytes(8)  # no free pages: some leak, none is used twice
                page[92:96] = page[24:28]  # the size is valid for this change counter
            if number not in roots or number > there:
                copy.seek((number - 1) * PAGE_BYTES)
                copy.write(page)


# -- rows ------------------------------------------------------------------------------------


class Reading:
    """Reads ranges of rows within the limits of one step."""

    def __init__(self, old: sqlite3.Connection) -> None:
        self._old = old
        self._queries = 0
        self._rows = 0
        self._bytes = 0
        #: Whether the last range broke off.
        self.is_broken = False

    @property
    def is_over(self) -> bool:
        return (
            self._queries >= _STEP_QUERIES or self._rows >= STEP_ROWS or self._bytes >= STEP_BYTES
        )

    def rows(
        self, table: str, low: int, high: int, is_last: bool = False
    ) -> tuple[list[Sequence[Any]], list[tuple[str, int, int]]]:
        """Rows with low < id <= high, in order, and the ranges to read after them. ``is_last``: no
        range of the table with higher ids is left."""
        self._queries += 1
        self.is_broken = False
        rows: list[Sequence[Any]] = []
        is_broken = False
        wanted = STEP_ROWS - self._rows
        start = low
        # The last range bounds the ids. A damaged id above it must not hide the rows behind it.
        try:
            for row in self._old.execute(
                f"SELECT * FROM {table} WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
                (low, END if is_last else high, wanted),
            ):
                if row[0] > high and is_sound(row):
                    break
                if not low < row[0] <= high:
                    is_broken = True  # out of order: the rest could repeat for ever
                    break
                low = row[0]
                rows.append(row)
                self._bytes += _size_of(row)
                if self._bytes >= STEP_BYTES:
                    break
        except UNREADABLE:
            is_broken = True
        if not is_broken:
            self._rows += len(rows)
            is_all = len(rows) < wanted and self._bytes < STEP_BYTES
            return rows, [] if is_all or low >= high else [(table, low, high)]
        self.is_broken = True
        _believe(rows)
        low = rows[-1][0] if rows else start
        self._rows += len(rows)
        if high - low <= 1:
            return rows, []
        middle = (low + high) // 2
        return rows, [(table, low, middle), (table, middle, high)]

    def newest(self, table: str, after: int, high: int) -> list[Sequence[Any]]:
        """The last rows of the table with after < id <= high, in order, found from its end without
        a search by id."""
        self._queries += 1
        rows: list[Sequence[Any]] = []
        before = high + 1
        with suppress(*UNREADABLE):
            for row in self._old.execute(
                f"SELECT * FROM {table} WHERE id > ? AND id <= ? ORDER BY id DESC LIMIT ?",
                (after, END, STEP_ROWS - self._rows),
            ):
                if not after < row[0] < before:
                    break
                before = row[0]
                rows.append(row)
                self._bytes += _size_of(row)
                if self._bytes >= STEP_BYTES:
                    break
        _believe(rows)
        self._rows += len(rows)
        return rows[::-1]


def _size_of(row: Sequence[Any]) -> int:
    return len(row[-1]) if isinstance(row[-1], bytes) else 0


def _believe(rows: list[Sequence[Any]]) -> None:
    """Rows were read up to a break: drop the damaged ones at the end, for a later attempt. Their
    ids may be wrong, and with them the place of the next row."""
    while rows and not is_sound(rows[-1]):
        rows.pop()


def insert(
    writer: sqlite3.Connection, table: str, rows: Sequence[Sequence[Any]]
) -> list[tuple[Span, Amount]]:
    """Insert the valid rows that are not there yet; returns their ranges and their amount. No
    earlier row is within these ranges."""
    found: list[tuple[Span, Amount]] = []
    if not rows:
        return found
    taken = {
        row_id
        for (row_id,) in writer.execute(
            f"SELECT id FROM {table} WHERE id BETWEEN ? AND ?", (rows[0][0], rows[-1][0])
        )
    }
    places = sorted(taken)
    sound = [
        row
        for row in rows
        if row[0] not in taken
        and all(isinstance(value, int) for value in row[:5])
        and isinstance(row[5], bytes)
    ]
    writer.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)", sound)
    passed = -1
    for row in sound:
        row_id, amount = row[0], Amount(1, row_cost(len(row[5])), row[2])
        before = bisect_left(places, row_id)
        if found and before == passed:
            span, total = found[-1]
            total.add(amount)
            found[-1] = Span(span.low, row_id), total
        else:
            found.append((Span(row_id, row_id), amount))
        passed = before
    return found


def copy_small(old: sqlite3.Connection, writer: sqlite3.Connection, table: str) -> bool:
    """Copy the readable rows of a table of bounded size; returns False if some are unreadable."""
    key, source = _KEYS[table], table
    is_whole = True
    if table in _OLD_TABLES:
        with suppress(*UNREADABLE):
            if old.execute("SELECT 1 FROM sqlite_master WHERE name = 'journal'").fetchone():
                source = _OLD_TABLES[table]
    after = -1
    while True:
        rows: list[Sequence[Any]] = []
        try:
            for row in old.execute(
                f"SELECT * FROM {source} WHERE {key} > ? ORDER BY {key} LIMIT 500", (after,)
            ):
                rows.append([_text(value) for value in row[:-1]] + [row[-1]])
        except UNREADABLE:
            is_whole = False
        if not rows:
            return is_whole
        if not isinstance(rows[-1][0], int) or rows[-1][0] <= after:
            return False
        after = rows[-1][0]
        columns = ", ".join("?" * len(rows[0]))
        writer.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({columns})", rows)


def _text(value: object) -> object:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def is_alive(old: sqlite3.Connection, table: str, highest: int) -> bool:
    """Whether any of a few places can be read. Otherwise a table with a damaged root would mean a
    search at every possible place."""
    for place in range(_PROBES):
        with suppress(*UNREADABLE):
            old.execute(
                f"SELECT id FROM {table} WHERE id >= ? LIMIT 1", (highest * place // _PROBES,)
            ).fetchone()
            return True
    return False
