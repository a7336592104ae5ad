"""The SQLite file: its schema, and one transaction per change.

The writer and the readers (see ``reader``) are separate connections (write-ahead log), so that a
page can be read while a commit waits for the disk. A ``Store`` is used by one thread at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from oda.errors import OdaError
from oda.model import MessageClass
from oda.outbox.change import CLASSES, Burial, Change, JournalRow, Totals, checksum
from oda.outbox.costs import PAGE_BYTES, row_cost
from oda.outbox.queue import Amount, Kept
from oda.outbox.records import TABLES, read_totals
from oda.settings import OutboxSettings, OutboxSync

SCHEMA_VERSION = 1
#: "ODAo": tells our files from those of other programs.
APPLICATION_ID = 0x4F44416F
_SMALL_BYTES = 4 * 1024 * 1024
#: SQLite's result codes for a file that is not what it should be: ERROR (a table or column is
#: missing), CORRUPT, NOTADB, FORMAT, TOOBIG, MISMATCH.
_DAMAGE_CODES = frozenset({1, 11, 26, 24, 18, 20})
#: So many rows go into one statement. Old versions of SQLite take 999 values; each size is a
#: statement that is kept.
_CHUNKS = (96, 48, 24, 12, 6, 3, 1)
_REPLACE_JOURNAL = "INSERT OR REPLACE INTO journal"
_T = TypeVar("_T")

#: How much of the file a connection keeps in memory, in KiB. Rows are written once, read rarely and
#: then in order: more makes nothing faster, and SQLite's 2 MiB are full after the first backlog.
#: The statement reads the file, so it can find it damaged.
CACHE = "PRAGMA cache_size = -256"

#: What reading a damaged file raises: SQLite quotes it in its errors, as text that may be none.
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)


class StoreDamaged(OdaError):  # noqa: N818 - named like those of oda.errors
    """The file is damaged, of another program, or of a newer version."""


def is_damage(error: BaseException | None) -> bool:
    """Whether an error of SQLite speaks of the file's content rather than of the disk."""
    if isinstance(error, StoreDamaged | UnicodeDecodeError):
        return True
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Raised by the module itself: a text that is no UTF-8, a number that is no number.
        return not isinstance(error, sqlite3.ProgrammingError)
    return (code & 0xFF) in _DAMAGE_CODES


def migrations(after: int) -> list[str]:
    """The scripts that lead from version ``after`` to the present one."""
    folder = Path(__file__).with_name("schema")
    return [
        (folder / f"{version:04d}.sql").read_text("utf-8")
        for version in range(after + 1, SCHEMA_VERSION + 1)
    ]


@cache
def _expected_schema() -> tuple[Any, ...]:
    with closing(sqlite3.connect(":memory:")) as blank:
        for script in migrations(0):
            blank.executescript(script)
        return _schema(blank)


def _schema(connection: sqlite3.Connection) -> tuple[Any, ...]:
    rows = connection.execute(
        "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(sql AS BLOB) FROM sqlite_master"
    )
    return tuple(sorted(rows.fetchall(), key=repr))


@cache
def _statement(insert: str, columns: int, rows: int) -> str:
    row = f"({', '.join(['?'] * columns)})"
    return f"{insert} VALUES {', '.join([row] * rows)}"


def _in_chunks(insert: str, columns: int, rows: Sequence[_T]) -> Iterator[tuple[str, Sequence[_T]]]:
    """The statements that insert ``rows``, each with the rows that it is for.

    Many rows in one statement: each step of a statement lets the other threads have the
    interpreter, and getting it back from a busy reactor takes milliseconds.
    """
    start = 0
    for size in _CHUNKS:
        while len(rows) - start >= size:
            yield _statement(insert, columns, size), rows[start : start + size]
            start += size


def _spans(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """The numbers as ranges without gaps, from and to, in order."""
    spans: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] + 1 == number:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return spans


def connect(path: Path, settings: OutboxSettings, timeout_s: float = 2.0) -> sqlite3.Connection:
    """A connection with our options; nothing is read yet."""
    connection = sqlite3.connect(
        path.absolute().as_uri(),
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )
    connection.text_factory = bytes  # damaged text must not raise where it is read
    # SQLite takes no larger limit than a C int.
    limit = min(max(2 * settings.max_bytes, 1 << 27), 2**31 - 1)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    for pragma in ("cell_size_check = ON", "trusted_schema = OFF", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


class Store:
    """The file at ``path``. Opening raises ``StoreDamaged``, ``sqlite3.Error`` or ``OSError``."""

    def __init__(self, path: Path, settings: OutboxSettings) -> None:
        self.path = path
        self._settings = settings
        self._connection = connect(path, settings)
        try:
            self._prepare()
            self.totals = self._read_totals()
        except UNREADABLE as error:
            self._connection.close()
            if is_damage(error):
                raise StoreDamaged(str(error)) from error
            raise
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute(f"PRAGMA page_size = {PAGE_BYTES}")
        version = execute("PRAGMA user_version").fetchone()[0]
        application = execute("PRAGMA application_id").fetchone()[0]
        tables = execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != APPLICATION_ID:
            raise StoreDamaged("it was not written by this agent")
        if version > SCHEMA_VERSION:
            raise StoreDamaged(
                f"it was written by a newer version of this agent (schema {version}, "
                f"known is {SCHEMA_VERSION})"
            )
        sync = "FULL" if self._settings.sync is OutboxSync.FULL else "NORMAL"
        # Half of what it may have: the transaction after that may be as large again.
        wal_bytes = wal_allowance(self._settings) // 2
        execute(CACHE)
        execute(f"PRAGMA synchronous = {sync}")
        execute("PRAGMA journal_mode = WAL")
        execute(f"PRAGMA wal_autocheckpoint = {wal_bytes // PAGE_BYTES}")
        execute(f"PRAGMA journal_size_limit = {wal_bytes}")
        if version < SCHEMA_VERSION:
            script = "".join(migrations(version))
            self._connection.executescript(
                f"BEGIN IMMEDIATE; {script} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        if _schema(self._connection) != _expected_schema():
            raise StoreDamaged("its tables are not those of the outbox")
        if self.used_bytes() <= _SMALL_BYTES:
            verdict = execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict not in (b"ok", "ok"):
                raise StoreDamaged(bytes(verdict).decode("utf-8", "replace").replace("\n", " "))

    def _read_totals(self) -> Totals:
        row = self._connection.execute("SELECT body, crc FROM totals WHERE only = 1").fetchone()
        totals = read_totals(row)
        if totals is None:
            totals = self.count_anew()
            if row is not None:
                totals.accepted.add(*_sum(totals))
        return totals

    def count_anew(self) -> Totals:
        """Totals of what the tables hold, from reading them; nothing of the past."""
        totals = Totals()
        for message_class in CLASSES:
            amount = self.amount(message_class, 0)
            stored = totals.stored(message_class)
            stored.rows, stored.cost, stored.datapoints = amount.as_tuple()
            highest = self._connection.execute(
                f"SELECT max(id) FROM {TABLES[message_class]}"
            ).fetchone()[0]
            totals.last_id = max(totals.last_id, highest or 0)
        highest = self._connection.execute("SELECT max(id) FROM dead").fetchone()[0]
        totals.last_id = max(totals.last_id, highest or 0)
        return totals

    def amount(self, message_class: MessageClass, after_id: int) -> Amount:
        """What the rows after ``after_id`` amount to, from reading them."""
        total = Amount()
        for length, rows, datapoints in self._connection.execute(
            "SELECT length(payload), count(*), CAST(sum(datapoints) AS INTEGER)"
            f" FROM {TABLES[message_class]} WHERE id > ? GROUP BY 1",
            (after_id,),
        ):
            total.add(Amount(rows, rows * row_cost(length), datapoints))
        return total

    def apply(self, change: Change) -> int:
        """Commit ``change``, all of it or (raising ``sqlite3.Error``) nothing.

        Returns how many bytes of the file are in use.
        """
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            # First what frees pages, then what needs them: so the file doesn't grow in between.
            for message_class in CLASSES:
                table = TABLES[message_class]
                for low, high in change.gone[message_class]:
                    execute(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?", (low, high))
            self._bury(change.burials)
            if change.dead_gone:
                self._connection.executemany(
                    "DELETE FROM dead WHERE id = ?", [(one,) for one in change.dead_gone]
                )
            for message_class in CLASSES:
                if change.rows[message_class]:
                    self.add_rows(message_class, change.rows[message_class].values())
            if change.journal:
                self._write_journal(change.journal)
            self.write_totals(change.totals)
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        return self.used_bytes()

    def write_totals(self, totals: bytes) -> None:
        """Replace the totals, given as JSON, inside a transaction."""
        self._connection.execute(
            "INSERT OR REPLACE INTO totals VALUES (1, ?, ?)", (totals.decode(), crc32(totals))
        )

    def add_rows(self, message_class: MessageClass, rows: Iterable[Kept]) -> None:
        """Insert rows, inside a transaction; one whose id exists already is left as it is."""
        insert = (
            f"INSERT OR IGNORE INTO {TABLES[message_class]}"
            " (id, is_text, datapoints, accepted_ms, crc, payload)"
        )
        for statement, chunk in _in_chunks(insert, 6, list(rows)):
            values: list[Any] = []
            for kept in chunk:
                row_id, payload = kept.row_id, kept.payload
                datapoints, is_text = kept.datapoints, kept.is_text
                seed = row_id * 0x9E3779B1 ^ datapoints * 0x85EBCA6B ^ is_text
                crc = crc32(payload, seed & 0xFFFFFFFF)
                values += (row_id, is_text, datapoints, kept.accepted_ms, crc, payload)
            self._connection.execute(statement, values)

    def _bury(self, burials: Sequence[Burial]) -> None:
        for burial in burials:
            kept, table = burial.kept, TABLES[burial.message_class]
            self._connection.execute(
                "INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    kept.row_id,
                    table,
                    kept.is_text,
                    kept.datapoints,
                    kept.accepted_ms,
                    None
                    if burial.is_damaged
                    else checksum(kept.row_id, kept.is_text, kept.datapoints, kept.payload),
                    burial.reason,
                    kept.payload,
                ),
            )
            self._connection.execute(f"DELETE FROM {table} WHERE id = ?", (kept.row_id,))

    def _write_journal(self, journal: dict[int, JournalRow | None]) -> None:
        forgotten = [seq for seq, row in journal.items() if row is None]
        for low, high in _spans(forgotten):
            self._connection.execute("DELETE FROM journal WHERE seq BETWEEN ? AND ?", (low, high))
        known = [row for row in journal.values() if row is not None]
        for statement, rows in _in_chunks(_REPLACE_JOURNAL, 8, known):
            values: list[Any] = []
            for row in rows:
                payload = row.payload
                values += (
                    row.seq,
                    row.request_id,
                    row.name,
                    row.content_type,
                    None if row.request is None else row.request.decode(),
                    row.at_ms,
                    None if payload is None else crc32(payload),
                    payload,
                )
            self._connection.execute(statement, values)

    def take_over(self, table: str, rows: Sequence[Sequence[Any]]) -> int:
        """Insert complete rows of a damaged store, inside a transaction; returns how many of them
        were no nonsense."""
        columns = ", ".join("?" * len(rows[0]))
        return self._connection.executemany(
            f"INSERT OR IGNORE INTO {table} VALUES ({columns})", rows
        ).rowcount

    def used_bytes(self) -> int:
        """The bytes of the file that are in use; the free pages are used before it grows."""
        pages, free = self._connection.execute(
            "SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count"
        ).fetchone()
        return int(pages - free) * PAGE_BYTES

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a statement of one's own."""
        return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        self._connection.close()


def wal_allowance(settings: OutboxSettings) -> int:
    """How large the write-ahead log may become before it is folded back into the file."""
    return min(4 * 1024 * 1024, max(16 * PAGE_BYTES, settings.max_bytes // 16))


def _sum(totals: Totals) -> tuple[int, int]:
    stored = (totals.response, totals.telemetry)
    return sum(one.rows for one in stored), sum(one.datapoints for one in stored)
