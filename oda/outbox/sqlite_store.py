"""The store in an SQLite file.

Writer and reader are separate connections (write-ahead log), so a page can be read while a commit
waits for the disk. One thread at a time writes: first the one that opens the store, then the
worker. The reactor's thread reads.

Two checks go beyond those of SQLite. The lock is on the file itself, so that no link, however it is
spelt, leads a second agent to the same rows. And after each commit the open file must still be the
one at the path, because rows in a file that was deleted or mounted over are lost.

A store is moved while its outbox stays in use. The write-ahead log is folded into the file first,
so that only one name changes. Within a file system the file is renamed, and its lock goes with it.
To another file system, it is copied under a temporary name, synchronised and locked before it gets
the new name; the old file is deleted after that. A process killed at any moment leaves the whole
store at the old place, at the new one, or (for a moment) at both.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from zlib import crc32

from zope.interface import implementer

from oda.model import MessageClass
from oda.outbox.database import (
    IS_OPEN,
    LETTER_COLUMNS,
    READING_CACHE,
    ROW_COLUMNS,
    TABLES,
    UNREADABLE,
    WRITING_CACHE,
    FileLock,
    connect,
    count_on,
    delete_ranges,
    find_fault,
    in_chunks,
    insertion,
    migrate,
    ranges_of,
    read_amount,
    read_letter,
    read_row,
    read_totals,
    store_error,
    sync_directory,
    translated,
    write_totals,
)
from oda.outbox.limits import PAGE_BYTES, wal_allowance
from oda.outbox.process_end import leave_open_at_end
from oda.outbox.queue import Amount, Row, Span
from oda.outbox.salvage import finish_setting_aside
from oda.outbox.store import (
    IStore,
    Letter,
    Opened,
    Recovered,
    StoreDamaged,
    StoredRecord,
    StoreError,
    StoreMoved,
)
from oda.outbox.transaction import CLASSES, Burial, Record, Totals, Transaction, checksum
from oda.private_files import followed, make_directory, make_private
from oda.settings import OutboxSettings, OutboxSync

#: The end of the name of a copy that is not yet complete.
_UNFINISHED = ".moving"
#: A file that was in use and is smaller than this is checked completely when it is opened.
_SMALL_BYTES = 4 * 1024 * 1024


@implementer(IStore)
class SqliteStore:
    """The file at ``path``; a relative path starts at the working directory at opening."""

    is_durable = True

    def __init__(self, path: Path, settings: OutboxSettings) -> None:
        self.path = path
        self.name = str(path)
        self.settings = settings
        self._lock: FileLock | None = None
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        leave_open_at_end(self)

    def connections(self) -> list[sqlite3.Connection]:
        """The connections that are open."""
        return [one for one in (self._writer, self._reader) if one is not None]

    # -- called by the worker ----------------------------------------------------------------

    def open(self) -> Opened:
        from oda.outbox import recovery

        if self._writer is not None:
            return Opened(self._read_totals())
        make_directory(self.path.parent)
        self.path = followed(self.path)
        try:
            finish_setting_aside(self.path)
            fault = find_fault(self.path)
            if fault is None:
                self._lock_file()
                try:
                    totals = self._open_file()
                except StoreDamaged as damage:
                    fault = damage
                else:
                    return recovery.go_on(self, totals)
            self._lock_file()
            return recovery.begin(self, fault, None)
        except BaseException:
            self._close_writer()
            self._unlock()
            raise

    def _lock_file(self) -> None:
        """Lock the file at the path, which must stay there meanwhile."""
        while self._lock is None:
            is_new = not self.path.exists()
            lock = FileLock(self.path)
            if not lock.is_at(self.path):
                lock.release()
                continue
            self._lock = lock
            if is_new:
                sync_directory(self.path.parent)

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def begin_file(self) -> Totals:
        """Create the new file of a replaced store; the old one was set aside."""
        self._unlock()
        self._lock_file()
        return self._open_file()

    def _open_file(self) -> Totals:
        make_private(self.path)
        connection = self._writer = connect(self.path, self.settings)
        execute = connection.execute
        try:
            execute(f"PRAGMA page_size = {PAGE_BYTES}")
            migrate(connection)
            sync = "FULL" if self.settings.sync is OutboxSync.FULL else "NORMAL"
            # Half of the allowance: the next transaction may be as large again.
            wal_bytes = wal_allowance(self.settings) // 2
            execute(WRITING_CACHE)
            execute(f"PRAGMA synchronous = {sync}")
            execute("PRAGMA journal_mode = WAL")
            execute(f"PRAGMA wal_autocheckpoint = {wal_bytes // PAGE_BYTES}")
            execute(f"PRAGMA journal_size_limit = {wal_bytes}")
            if self._used_bytes() <= _SMALL_BYTES:
                verdict = execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict not in (b"ok", "ok"):
                    raise StoreDamaged(bytes(verdict).decode("utf-8", "replace").replace("\n", " "))
            totals = self._read_totals()
            execute("INSERT OR REPLACE INTO state VALUES (?, 'open')", (IS_OPEN,))
            # Into the file itself: if the log is missing later, the file shows that there was one.
            execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except UNREADABLE as error:
            self._close_writer()
            raise store_error(error) from error
        except BaseException:
            self._close_writer()
            raise
        return totals

    def _read_totals(self) -> Totals:
        totals = read_totals(self.writer) or Totals()
        count_on(self.writer, totals)
        return totals

    @property
    def writer(self) -> sqlite3.Connection:
        """The connection that writes. Raises ``StoreError`` while the store is not open."""
        if self._writer is None:
            raise StoreError("the store is not open")
        return self._writer

    def apply(self, transaction: Transaction) -> int:
        if self._writer is None and self._lock is not None:
            # The last commit failed: after a disk error, a new connection is more reliable.
            self.check()
            self._open_file()
        execute = self.writer.execute
        try:
            execute("BEGIN IMMEDIATE")
            self._write(transaction)
            execute("COMMIT")
        except UNREADABLE as error:
            self._close_writer()
            raise store_error(error) from error
        except BaseException:
            self._close_writer()
            raise
        self.check()
        return self._used_bytes()

    def _write(self, transaction: Transaction) -> None:
        # First free pages, then use them, so that the file does not grow in between.
        for message_class in CLASSES:
            delete_ranges(
                self.writer, TABLES[message_class], "id", transaction.deleted[message_class]
            )
        self._bury(transaction.burials)
        delete_ranges(self.writer, "dead", "id", ranges_of(transaction.letters_gone))
        delete_ranges(self.writer, "answer", "number", ranges_of(transaction.answers_gone))
        for message_class in CLASSES:
            if transaction.rows[message_class]:
                self.add_rows(message_class, transaction.rows[message_class].values())
        if transaction.records:
            self._write_records(transaction.records)
        if transaction.totals is not None:
            write_totals(self.writer, transaction.totals)

    def add_rows(self, message_class: MessageClass, rows: Iterable[Row]) -> None:
        """Insert rows, inside a transaction. An unchanged row that is already there is left alone
        (a commit may have worked although it reported an error); an id that belongs to another
        message raises ``StoreError``.

        The ``sqlite3`` module takes integers, texts and bytearrays as they are. For each value of
        another type, such as bytes or a boolean, it searches for an adapter in vain, which costs
        almost half as much as inserting the row."""
        table = TABLES[message_class]
        insert = f"INSERT INTO {table} ({ROW_COLUMNS})"
        values: list[Any] = []
        for row in rows:
            row_id, payload = row.row_id, row.payload
            datapoints, is_text = row.datapoints, 1 if row.is_text else 0
            # As ``checksum``, repeated here for speed.
            seed = row_id * 0x9E3779B1 ^ datapoints * 0x85EBCA6B ^ is_text
            crc = crc32(payload, seed & 0xFFFFFFFF)
            values += (row_id, is_text, datapoints, row.accepted_ms, crc, payload)
        for statement, part in in_chunks(insert, 6, values):
            part[5::6] = map(bytearray, part[5::6])  # copies of one part at a time
            try:
                self.writer.execute(statement, part)
            except sqlite3.IntegrityError:
                self._add_one_by_one(table, [part[at : at + 6] for at in range(0, len(part), 6)])

    def _add_one_by_one(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            found = self.writer.execute(
                f"SELECT crc, payload FROM {table} WHERE id = ?", (row[0],)
            ).fetchone()
            if found is None:
                self.writer.execute(insertion(f"INSERT INTO {table} ({ROW_COLUMNS})", 6, 1), row)
            elif found != (row[4], row[5]):
                raise StoreError(f"the id {row[0]} is taken by another message of {table}")

    def _bury(self, burials: Sequence[Burial]) -> None:
        for burial in burials:
            row, table = burial.row, TABLES[burial.message_class]
            crc = checksum(row.row_id, row.is_text, row.datapoints, row.payload)
            self.writer.execute(
                "INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    row.row_id,
                    table,
                    row.is_text,
                    row.datapoints,
                    row.accepted_ms,
                    None if burial.is_damaged else crc,
                    burial.reason,
                    row.payload,
                ),
            )
            self.writer.execute(f"DELETE FROM {table} WHERE id = ?", (row.row_id,))

    def _write_records(self, records: Mapping[int, Record | None]) -> None:
        execute = self.writer.execute
        forgotten: list[int] = []
        known: list[Any] = []
        answers: list[Any] = []
        for number, one in records.items():
            if one is None:
                forgotten.append(number)
                continue
            echo, payload = one.echo, one.payload
            known += (
                number,
                one.request_id,
                one.name,
                one.content_type,
                None if echo is None else echo.decode(),
                one.at_ms,
                1 if one.has_ended else 0,
            )
            if payload is not None:
                answers += (number, crc32(payload), payload)
        if forgotten:
            spans = ranges_of(forgotten)
            delete_ranges(self.writer, "record", "number", spans)
            delete_ranges(self.writer, "answer", "number", spans)
        for statement, values in in_chunks("INSERT OR REPLACE INTO record", 7, known):
            execute(statement, values)
        for statement, values in in_chunks("INSERT OR REPLACE INTO answer", 3, answers):
            values[2::3] = map(bytearray, values[2::3])
            execute(statement, values)

    def replace(self, fault: StoreError, wanted: Mapping[MessageClass, Sequence[Span]]) -> Opened:
        from oda.outbox import recovery

        with translated():
            return recovery.begin(self, fault, wanted)

    def recover(self) -> Recovered:
        from oda.outbox import recovery

        with translated():
            step = recovery.step(self)
        self.check()
        return step

    def move(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path = path.parent.resolve() / path.name
        if path == self.path:
            return
        for suffix in ("", "-wal", "-journal"):
            if os.path.lexists(f"{path}{suffix}"):
                raise StoreError(f"there is a file {path}{suffix} already")
        self.check()
        old = self.path
        try:
            with translated():
                self._fold()
            lock = _rename(old, path)
        except BaseException:
            self._go_on_at(old)
            raise
        # Left by an empty write-ahead log that another program had open.
        for suffix in ("-wal", "-shm") if lock is None else ("", "-wal", "-shm"):
            with suppress(OSError):
                Path(f"{old}{suffix}").unlink()
        sync_directory(path.parent)
        sync_directory(old.parent)
        self._go_on_at(path, lock)

    def _fold(self) -> None:
        """Close the connections so that the file alone is the store; the lock stays. Raises
        ``StoreError`` if another program keeps the write-ahead log."""
        try:
            self.close_reader()
            self.writer.execute("DELETE FROM state WHERE number = ?", (IS_OPEN,))
            self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._close_writer()
        log = Path(f"{self.path}-wal")
        if log.exists() and log.stat().st_size:
            raise StoreError("another program is reading it; try again later")

    def _go_on_at(self, path: Path, lock: FileLock | None = None) -> None:
        """The folded file is at ``path``: open it there. ``lock`` is its lock, None if it has kept
        its lock. The next commit will detect any fault."""
        if lock is not None:
            self._unlock()
            self._lock = lock
        self.path, self.name = path, str(path)
        self.check()
        with suppress(StoreError):
            self._open_file()

    def check(self) -> None:
        if self._lock is None or not self._lock.is_at(self.path):
            raise StoreMoved(f"it is not the file at {self.path} any more")

    def close(self) -> None:
        self.close_reader()
        if self._writer is not None:
            with suppress(sqlite3.Error):
                self._writer.execute("DELETE FROM state WHERE number = ?", (IS_OPEN,))
        self._close_writer()
        self._unlock()

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            if writer.in_transaction:
                with suppress(sqlite3.Error):
                    writer.execute("ROLLBACK")
            writer.close()

    def release_file(self) -> None:
        """Close the connections; the lock stays."""
        self.close_reader()
        self._close_writer()

    def _used_bytes(self) -> int:
        """The bytes of the file that are in use; free pages are reused before it grows."""
        pages, free = self.writer.execute(
            "SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count"
        ).fetchone()
        return int(pages - free) * PAGE_BYTES

    # -- called by the reactor ---------------------------------------------------------------

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query; text comes as bytes."""
        try:
            if self._reader is None:
                self._reader = connect(self.path, self.settings, timeout_s=0.5)
                self._reader.execute("PRAGMA query_only = ON")
            return self._reader.execute(statement, values).fetchall()
        except UNREADABLE as error:
            self.close_reader()
            raise store_error(error) from error

    def page(
        self, message_class: MessageClass, span: Span, max_rows: int, max_bytes: int
    ) -> tuple[list[Row], set[int]]:
        rows: list[Row] = []
        damaged: set[int] = set()
        self.query(READING_CACHE)
        reader = self._reader
        assert reader is not None
        try:
            with closing(reader.cursor()) as cursor:
                cursor.execute(
                    f"SELECT {ROW_COLUMNS} FROM {TABLES[message_class]}"
                    " WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
                    (*span, max_rows),
                )
                for values in cursor:
                    row, is_sound = read_row(values)
                    if rows and row.row_id <= rows[-1].row_id:
                        raise StoreDamaged("its rows are out of order")
                    rows.append(row)
                    if not is_sound:
                        damaged.add(row.row_id)
                    max_bytes -= len(row.payload)
                    if max_bytes <= 0:
                        break
        except UNREADABLE as error:
            self.close_reader()
            raise store_error(error) from error
        return rows, damaged

    def amount(self, message_class: MessageClass, span: Span) -> Amount:
        return read_amount(self.query, TABLES[message_class], span)

    def letters(self) -> Sequence[tuple[int, int]]:
        return self.query("SELECT id, length(payload) FROM dead ORDER BY id")

    def letter(self, row_id: int) -> Letter | None:
        found = self.query(f"SELECT {LETTER_COLUMNS} FROM dead WHERE id = ?", (row_id,))
        return read_letter(found[0]) if found else None

    def records(self) -> Sequence[StoredRecord]:
        return [
            StoredRecord(*values)
            for values in self.query(
                "SELECT number, request_id, name, content_type, echo, at_ms, has_ended,"
                " (SELECT length(payload) FROM answer WHERE answer.number = record.number)"
                " FROM record ORDER BY number"
            )
        ]

    def answer(self, number: int) -> bytes | None:
        for crc, payload in self.query(
            "SELECT crc, payload FROM answer WHERE number = ?", (number,)
        ):
            if isinstance(payload, bytes) and crc32(payload) == crc:
                return payload
        return None

    def close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def _rename(old: Path, path: Path) -> FileLock | None:
    """Give the file its new name. If that takes a copy, returns the copy's lock; the old file still
    exists then."""
    try:
        os.rename(old, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _copy(old, path)
    return None


def _copy(old: Path, path: Path) -> FileLock:
    unfinished = path.with_name(path.name + _UNFINISHED)
    unfinished.unlink(missing_ok=True)
    lock = FileLock(unfinished)
    try:
        # No connection is open, so closing the old file drops no lock of SQLite.
        with open(old, "rb") as source, open(unfinished, "r+b") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        os.rename(unfinished, path)
        sync_directory(path.parent)  # before the old file goes
    except BaseException:
        lock.release()
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    return lock
