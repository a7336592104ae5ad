"""The SQLite database (a file, or memory) behind the platform; collects writes into transactions.

Writers ``defer`` rows; one ``flush`` commits everything deferred in one transaction, in the order
given per statement. Every ``query`` flushes first, so it never returns unrecorded data. A durable
database survives the death of this process (write-ahead log, written at the commit), but not
necessarily a power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from oda.errors import OdaError
from oda.private_files import followed, make_private

SCHEMA_VERSION = 1

#: At this many deferred rows, they are written in any case.
MAX_DEFERRED_ROWS = 4096
MAX_DEFERRED_BYTES = 8 * 1024 * 1024

Row = Sequence[Any]


class DatabaseUnusable(OdaError):  # noqa: N818 - named like those of oda.errors
    """The database file is from another version, damaged, or can't be opened."""


class Database:
    """One SQLite connection; used by one thread.

    ``path`` None keeps everything in memory. ``durable`` means that the operating system has a
    commit before ``flush`` returns.
    """

    def __init__(self, path: Path | None = None, durable: bool = False) -> None:
        self.path = path
        self.durable = durable and path is not None
        self._deferred: dict[str, list[Row]] = {}
        self._rows = 0
        self._bytes = 0
        self._before_commit: list[Callable[[], None]] = []
        self._on_deferred: Callable[[], None] = lambda: None
        try:
            if path is not None:
                make_private(followed(path))
            self._connection = sqlite3.connect(
                ":memory:" if path is None else str(path), isolation_level=None
            )
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise DatabaseUnusable(f"{path or ':memory:'}: {error}") from error

    def _prepare(self) -> None:
        execute = self._connection.execute
        if self.path is not None:
            execute("PRAGMA journal_mode = WAL")
            execute(f"PRAGMA synchronous = {'NORMAL' if self.durable else 'OFF'}")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            schema = resources.files(__package__).joinpath("schema.sql").read_text("utf-8")
            self._connection.executescript(
                f"BEGIN; {schema} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        elif version != SCHEMA_VERSION:
            raise DatabaseUnusable(
                f"{self.path}: schema version {version}, this program knows {SCHEMA_VERSION}"
            )

    def before_commit(self, trim: Callable[[], None]) -> None:
        """Call ``trim`` inside each transaction, after the deferred rows (to enforce bounds)."""
        self._before_commit.append(trim)

    def on_deferred(self, notice: Callable[[], None]) -> None:
        """Call ``notice`` at the first deferred row after a flush."""
        self._on_deferred = notice

    def defer(self, statement: str, row: Row, size: int = 0) -> None:
        """Write ``row`` with ``statement`` at the next flush; ``size`` is its weight in bytes."""
        rows = self._deferred.get(statement)
        if rows is None:
            rows = self._deferred[statement] = []
        rows.append(row)
        if not self._rows:
            self._on_deferred()
        self._rows += 1
        self._bytes += size
        if self._rows >= MAX_DEFERRED_ROWS or self._bytes >= MAX_DEFERRED_BYTES:
            self.flush()

    @property
    def has_deferred(self) -> bool:
        """Whether a flush would write anything."""
        return self._rows > 0

    def flush(self) -> None:
        """Commit everything deferred. With a durable database it survives this process.

        Raises ``sqlite3.Error`` (a full disk); the next flush then retries the deferred rows.
        """
        if not self._rows:
            return
        self._connection.execute("BEGIN")
        try:
            for statement, rows in self._deferred.items():
                self._connection.executemany(statement, rows)
            for trim in self._before_commit:
                trim()
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            # the rows stay deferred, so that the record has no gap if a retry succeeds
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._deferred.clear()
        self._rows = self._bytes = 0

    def execute(self, statement: str, row: Row = ()) -> int:
        """Run ``statement`` inside the current transaction; returns the number of changed rows."""
        return self._connection.execute(statement, row).rowcount

    def select(self, statement: str, row: Row = ()) -> list[Any]:
        """The rows of a query, without deferred rows."""
        return self._connection.execute(statement, row).fetchall()

    def query(self, statement: str, row: Row = ()) -> list[Any]:
        """The rows of a query, including everything deferred (and now committed)."""
        self.flush()
        return self.select(statement, row)

    def bound_bytes(self, table: str, size: str, max_bytes: int) -> None:
        """Inside a transaction: delete the rows of ``table`` with the lowest ``number`` until the
        sum of ``size`` (an expression) is within the bound; keep the newest row."""
        while True:
            count, total, newest = self.select(
                f"SELECT count(*), coalesce(sum({size}), 0), max(number) FROM {table}"
            )[0]
            if total <= max_bytes or count <= 1:
                return
            upto = self.select(
                f"SELECT number FROM {table} ORDER BY number LIMIT 1 OFFSET ?", (count // 20,)
            )[0][0]
            self.execute(f"DELETE FROM {table} WHERE number <= ?", (min(upto, newest - 1),))

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self._connection.close()
