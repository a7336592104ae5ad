"""What to do with a store that can't be used: set it aside, and take over what can be read.

The file is renamed (with its write-ahead log) to ``<name>.damaged-<n>`` and never written to
again. Its rows are copied into a new file in ranges of ids; a range that can't be read is halved
until the damaged places are left out. When the first page is gone, with it the directory of the
tables, a copy gets the first page of a new store, which is the same for all of them.

Copied rows keep their ids, and their checksums: a row that was changed is found when it is read.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from oda.outbox.change import CLASSES, Tally, Totals
from oda.outbox.costs import PAGE_BYTES
from oda.outbox.records import read_totals
from oda.outbox.store import UNREADABLE, Store
from oda.settings import OutboxSettings

#: How long copying may take, in seconds: the agent waits for it.
SALVAGE_S = 1.2
#: So many files set aside are kept; the oldest is deleted for another one.
MAX_SET_ASIDE = 3
#: Larger ids are damage: a device would need a thousand rows each millisecond for 285 years.
MAX_ID = 1 << 53
#: How many places of a table are tried before it is given up.
_PROBES = 64
_TABLES = {"response": "id", "telemetry": "id", "dead": "id", "journal": "seq"}
_CHUNK_ROWS = 2000
_COMPANIONS = ("", "-wal", "-shm")


class Salvaged(NamedTuple):
    """A new store in place of a damaged one. ``lost`` is what the damaged one should have held
    but did not give, where its totals could be read."""

    store: Store
    set_aside: Path
    rows: int
    is_complete: bool
    lost: Tally


def salvage(path: Path, settings: OutboxSettings, seconds: Callable[[], float]) -> Salvaged:
    """Replace the unusable store at ``path``. Raises ``OSError`` or ``sqlite3.Error`` when there
    can be no new one."""
    deadline_s = seconds() + SALVAGE_S
    set_aside = _set_aside(path)
    store = Store(path, settings)
    try:
        copier = _Copier(store, lambda: seconds() > deadline_s)
        before = copier.copy(set_aside)
        if not copier.rows and not copier.was_readable:
            with _with_new_first_page(set_aside, path) as patched:
                before = copier.copy(patched.path) or before
        totals = store.count_anew()
        lost = _carry_over(totals, before)
        store.totals = totals
    except BaseException:
        store.close()
        raise
    return Salvaged(store, set_aside, copier.rows, not copier.ran_out_of_time, lost)


def _carry_over(totals: Totals, before: Totals | None) -> Tally:
    """Give the new totals the past of the old ones; returns what is missing in between."""
    messages = sum(totals.stored(one).rows for one in CLASSES)
    datapoints = sum(totals.stored(one).datapoints for one in CLASSES)
    if before is None:
        totals.accepted.add(messages, datapoints)
        return Tally()
    lost = Tally(
        max(0, sum(before.stored(one).rows for one in CLASSES) - messages),
        max(0, sum(before.stored(one).datapoints for one in CLASSES) - datapoints),
    )
    if before.last_id <= MAX_ID:
        totals.last_id = max(totals.last_id, before.last_id)
    totals.clock_ms, totals.wall_ms = before.clock_ms, before.wall_ms
    totals.delivered, totals.dead = before.delivered, before.dead
    totals.dropped = Tally(
        before.dropped.messages + lost.messages, before.dropped.datapoints + lost.datapoints
    )
    past = (totals.delivered, totals.dead, totals.dropped)
    totals.accepted = Tally(
        messages + sum(one.messages for one in past),
        datapoints + sum(one.datapoints for one in past),
    )
    return lost


def _set_aside(path: Path) -> Path:
    pattern = re.compile(re.escape(path.name) + r"\.damaged-(\d{1,9})\Z")
    numbers = sorted(
        int(match.group(1)) for one in path.parent.iterdir() if (match := pattern.match(one.name))
    )

    def place(number: int) -> Path:
        return path.with_name(f"{path.name}.damaged-{number}")

    for number in numbers[: max(0, len(numbers) - MAX_SET_ASIDE + 1)]:
        for suffix in _COMPANIONS:
            Path(f"{place(number)}{suffix}").unlink(missing_ok=True)
    target = place(numbers[-1] + 1 if numbers else 1)
    for suffix in _COMPANIONS:
        source = Path(f"{path}{suffix}")
        if source.exists():
            source.rename(f"{target}{suffix}")
    return target


class _with_new_first_page:  # noqa: N801 - used as a function
    """A copy of the file ``damaged`` with the first page of the new store at ``fresh``."""

    def __init__(self, damaged: Path, fresh: Path) -> None:
        self.path = damaged.with_name(damaged.name + ".tmp")
        self._damaged = damaged
        self._fresh = fresh

    def __enter__(self) -> _with_new_first_page:
        # The new store is read through SQLite: opening and closing its file ourselves would drop
        # the locks that SQLite holds on it in this process (POSIX locks belong to the process).
        blank = self.path.with_name(self.path.name + "0")
        with closing(sqlite3.connect(self._fresh)) as fresh, closing(sqlite3.connect(blank)) as to:
            fresh.backup(to, pages=-1)
            to.execute("PRAGMA journal_mode = DELETE")
        first = bytearray(blank.read_bytes()[:PAGE_BYTES])
        blank.unlink()
        for suffix in ("", "-wal"):
            source = Path(f"{self._damaged}{suffix}")
            if source.exists():
                shutil.copyfile(source, f"{self.path}{suffix}")
        pages = self.path.stat().st_size // PAGE_BYTES
        first[18:20] = b"\x02\x02"  # with a write-ahead log
        first[28:32] = pages.to_bytes(4, "big")  # the size of the database in pages
        first[32:40] = bytes(8)  # no free pages: some leak, none is used twice
        first[92:96] = first[24:28]  # the size is valid for this change counter
        with open(self.path, "r+b") as copy:
            copy.write(first)
        return self

    def __exit__(self, *_: object) -> None:
        for suffix in (*_COMPANIONS, "-journal"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)


class _Copier:
    """Copies tables into ``store`` until it is done or ``is_late()``."""

    def __init__(self, store: Store, is_late: Callable[[], bool]) -> None:
        self._store = store
        self._is_late = is_late
        self.rows = 0
        self.was_readable = False
        self.ran_out_of_time = False

    def copy(self, source: Path) -> Totals | None:
        """Everything that ``source`` gives; its totals, where they could be read."""
        # Through a connection of its own: an error in an attached file spoils the transaction.
        with closing(
            sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", isolation_level=None, uri=True)
        ) as old:
            old.text_factory = lambda text: text.decode("utf-8", "replace")
            self._store.execute("BEGIN IMMEDIATE")
            try:
                totals = self._totals(old)
                for table, key in _TABLES.items():
                    highest = self._highest(old, table, key, totals)
                    if highest and self._is_alive(old, table, key, highest):
                        self._copy_range(old, table, key, 0, highest)
                self._store.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._store.execute("ROLLBACK")
                raise
        return totals

    def _totals(self, old: sqlite3.Connection) -> Totals | None:
        with suppress(*UNREADABLE):
            row = old.execute(
                "SELECT CAST(body AS BLOB), crc FROM totals WHERE only = 1"
            ).fetchone()
            return read_totals(row)
        return None

    def _highest(self, old: sqlite3.Connection, table: str, key: str, totals: Totals | None) -> int:
        try:
            highest = old.execute(f"SELECT max({key}) FROM {table}").fetchone()[0]
        except UNREADABLE:
            known = totals.last_id if totals is not None and key == "id" else MAX_ID
            return min(known, MAX_ID)
        self.was_readable = True
        return min(int(highest or 0), MAX_ID)

    def _is_alive(self, old: sqlite3.Connection, table: str, key: str, highest: int) -> bool:
        """Whether any of a few places can be read. Without this a table whose root is damaged
        would be looked for at every place there could be."""
        for place in range(_PROBES):
            with suppress(*UNREADABLE):
                old.execute(
                    f"SELECT {key} FROM {table} WHERE {key} >= ? LIMIT 1",
                    (highest * place // _PROBES,),
                ).fetchone()
                return True
        return False

    def _copy_range(
        self, old: sqlite3.Connection, table: str, key: str, low: int, high: int
    ) -> None:
        """Copy the rows with low < key <= high."""
        while low < high:
            if self._is_late():
                self.ran_out_of_time = True
                return
            rows: list[Sequence[Any]] = []
            is_broken = False
            try:
                for row in old.execute(
                    f"SELECT * FROM {table} WHERE {key} > ? AND {key} <= ? ORDER BY {key} LIMIT ?",
                    (low, high, _CHUNK_ROWS),
                ):
                    if not low < row[0] <= high:
                        is_broken = True  # out of order: what follows could repeat for ever
                        break
                    low = row[0]
                    rows.append(row)
            except UNREADABLE:
                is_broken = True
            if rows:
                self.rows += self._store.take_over(table, rows)
            elif not is_broken:
                return
            if is_broken:
                if high - low <= 1:
                    return
                middle = (low + high) // 2
                self._copy_range(old, table, key, low, middle)
                low = middle
