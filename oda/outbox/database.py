"""The file of the outbox: the outbox's use of SQLite (connections, the meaning of errors, the
schema, the content of rows), and the lock that keeps other agents out.

Every row is checked against its checksum when it is read.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from zlib import crc32

import msgspec

from oda.errors import OutboxError
from oda.model import MessageClass
from oda.outbox.limits import PAGE_BYTES, row_cost
from oda.outbox.queue import Amount, Row, Span, merged
from oda.outbox.store import Letter, StoreDamaged, StoreError
from oda.outbox.transaction import CLASSES, Stored, Totals, checksum
from oda.private_files import secure
from oda.settings import OutboxSettings

SCHEMA_VERSION = 2
#: SQLite's largest id.
_LAST_ID = (1 << 63) - 1
#: "ODAo": identifies our files.
APPLICATION_ID = 0x4F44416F
#: SQLite's result codes for a file with wrong content: ERROR (a table or column is missing),
#: CORRUPT, NOTADB, FORMAT, TOOBIG, MISMATCH.
_DAMAGE_CODES = frozenset({1, 11, 26, 24, 18, 20})
#: Errors from reading a damaged file. SQLite quotes its content, which may not be valid text.
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)

#: The key of the state row for a file that is in use, or was when its process ended.
IS_OPEN = 1
#: Numbers of rows per statement; each size is one cached statement. SQLite takes 32,766 values per
#: statement, and took 999 before version 3.32 (2020).
_CHUNKS = (384, 96, 48, 24, 12, 6, 3, 1)
_MANY_VALUES = sqlite3.sqlite_version_info >= (3, 32)

#: The table of each class.
TABLES = {one: one.value for one in MessageClass}
#: The columns for ``read_row``.
ROW_COLUMNS = "id, is_text, datapoints, accepted_ms, crc, payload"
#: The columns for ``read_letter``.
LETTER_COLUMNS = "id, class, is_text, datapoints, accepted_ms, crc, reason, payload"

#: The page cache of the reading and of the writing connection, in KiB. Rows are read rarely and in
#: order, so a larger read cache gains nothing. Written pages must stay in memory until their
#: commit: a flood of operations commits 700 KiB at once, and pages that do not fit are written
#: early and read again. SQLite's default of 2 MiB would fill up with the first backlog. The
#: statements read the file, so they can discover damage.
READING_CACHE = "PRAGMA cache_size = -256"
WRITING_CACHE = "PRAGMA cache_size = -768"


def is_damage(error: BaseException | None) -> bool:
    """Whether an SQLite error means damaged content, not a failing disk."""
    if isinstance(error, UnicodeDecodeError):
        return True
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Raised by the sqlite3 module itself: a text is not UTF-8, or a number is invalid.
        return not isinstance(error, sqlite3.ProgrammingError)
    return (code & 0xFF) in _DAMAGE_CODES


def store_error(error: BaseException) -> StoreError:
    """An SQLite error as ``StoreError`` or ``StoreDamaged``."""
    return (StoreDamaged if is_damage(error) else StoreError)(str(error))


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite errors into ``StoreError`` or ``StoreDamaged``."""
    try:
        yield
    except UNREADABLE as error:
        raise store_error(error) from error


def connect(path: Path, settings: OutboxSettings, timeout_s: float = 2.0) -> sqlite3.Connection:
    """A connection with our options; reads nothing yet."""
    connection = sqlite3.connect(
        path.absolute().as_uri(),
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )
    connection.text_factory = bytes  # reading damaged text must not raise
    # SQLite's limit is a C int.
    limit = min(max(2 * settings.max_bytes, 1 << 27), 2**31 - 1)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    for pragma in (
        "cell_size_check = ON",
        "trusted_schema = OFF",
        "temp_store = MEMORY",
        "secure_delete = FAST",  # Debian's default writes each freed page once more
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def connect_read_only(path: Path, is_immutable: bool = False) -> sqlite3.Connection:
    """A connection that never writes, for a file that may be damaged. ``is_immutable``: no other
    process uses the file, and it has no write-ahead log."""
    options = "?mode=ro&immutable=1" if is_immutable else "?mode=ro"
    connection = sqlite3.connect(
        path.absolute().as_uri() + options, timeout=2.0, isolation_level=None, uri=True
    )
    connection.text_factory = bytes
    connection.execute("PRAGMA query_only = ON")
    return connection


# -- the schema ------------------------------------------------------------------------------


def _script(version: int) -> str:
    return (Path(__file__).with_name("schema") / f"{version:04d}.sql").read_text("utf-8")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the present schema. Raises ``StoreDamaged`` for a file of another program
    or of a newer version."""
    execute = connection.execute
    version = execute("PRAGMA user_version").fetchone()[0]
    application = execute("PRAGMA application_id").fetchone()[0]
    tables = execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise StoreDamaged("it was not written by this agent")
    if version < 0:  # four bytes, which may be damaged like any other
        raise StoreDamaged(f"its schema number {version} is invalid")
    if version > SCHEMA_VERSION:
        raise StoreDamaged(
            f"it was written by a newer version of this agent (schema {version}, "
            f"known is {SCHEMA_VERSION})"
        )
    if version < SCHEMA_VERSION:
        scripts = "".join(_script(one) for one in range(version + 1, SCHEMA_VERSION + 1))
        connection.executescript(
            f"BEGIN IMMEDIATE; {scripts} PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    if version < SCHEMA_VERSION or execute("PRAGMA page_size").fetchone()[0] != PAGE_BYTES:
        # Only possible without the write-ahead log, and only by rewriting the whole file. After
        # that every store, new or migrated, has its tables at the same pages, so a store that
        # lost its table directory can be patched with the one of a new store.
        execute("PRAGMA journal_mode = DELETE")
        execute(f"PRAGMA page_size = {PAGE_BYTES}")
        execute("VACUUM")
    if _schema(connection) != _expected_schema():
        raise StoreDamaged("its tables are not those of the outbox")


@cache
def _expected_schema() -> tuple[Any, ...]:
    with closing(sqlite3.connect(":memory:")) as blank:
        for version in range(1, SCHEMA_VERSION + 1):
            blank.executescript(_script(version))
        return _schema(blank)


def _schema(connection: sqlite3.Connection) -> tuple[Any, ...]:
    rows = connection.execute(
        "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(sql AS BLOB) FROM sqlite_master"
    )
    return tuple(sorted(rows.fetchall(), key=repr))


# -- statements ------------------------------------------------------------------------------


@cache
def insertion(insert: str, columns: int, rows: int) -> str:
    """A statement that inserts this many rows of this many columns."""
    row = f"({', '.join(['?'] * columns)})"
    return f"{insert} VALUES {', '.join([row] * rows)}"


def in_chunks(insert: str, columns: int, values: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """The statements that insert rows of this many columns, each with its part of ``values``, which
    holds one row after the other.

    One statement inserts many rows: each step of a statement releases the interpreter to the other
    threads, and a busy reactor takes milliseconds to give it back.
    """
    start, end = 0, len(values)
    if end == columns:  # one row, as where operations come one by one
        yield insertion(insert, columns, 1), values
        return
    for rows in _CHUNKS if _MANY_VALUES else _CHUNKS[1:]:
        size = rows * columns
        while end - start >= size:
            yield insertion(insert, columns, rows), values[start : start + size]
            start += size


def ranges_of(numbers: Iterable[int]) -> list[Span]:
    """The numbers in as few ranges as possible, in order."""
    ordered = sorted(set(numbers))
    if ordered and ordered[-1] - ordered[0] == len(ordered) - 1:  # as it is mostly
        return [Span(ordered[0], ordered[-1])]
    return merged([Span(one, one) for one in ordered])


def delete_ranges(
    connection: sqlite3.Connection, table: str, key: str, spans: Iterable[Span]
) -> None:
    """Delete the rows whose number ``key`` is in one of ``spans``."""
    for span in spans:
        connection.execute(f"DELETE FROM {table} WHERE {key} BETWEEN ? AND ?", span)


# -- rows ------------------------------------------------------------------------------------


#: A message has no more datapoints than bytes, and ``maxMessageSize`` allows this many.
_MOST_DATAPOINTS = 1 << 30


def is_sound(values: Sequence[Any]) -> bool:
    """Whether a row of a message table is undamaged."""
    row_id, is_text, datapoints, accepted_ms, crc, payload = values
    return (
        isinstance(payload, bytes)
        and isinstance(datapoints, int)
        and isinstance(accepted_ms, int)
        and is_text in (0, 1)
        and crc == checksum(row_id, is_text, datapoints, payload)
    )


def read_row(values: Sequence[Any]) -> tuple[Row, bool]:
    """A row of a message table, and whether it is undamaged."""
    row_id, is_text, datapoints, accepted_ms, _, payload = values
    is_as_written = is_sound(values)
    if not is_as_written:
        payload = payload if isinstance(payload, bytes) else repr(payload).encode()
        is_credible = isinstance(datapoints, int) and 0 <= datapoints <= _MOST_DATAPOINTS
        datapoints = datapoints if is_credible else 0
        accepted_ms = accepted_ms if isinstance(accepted_ms, int) else 0
    row = Row(row_id, payload, bool(is_text), datapoints, accepted_ms, row_cost(len(payload)))
    return row, is_as_written


def read_letter(values: Sequence[Any]) -> Letter:
    """A row of the dead letters."""
    row_id, table, is_text, datapoints, accepted_ms, crc, reason, payload = values
    row, is_as_written = read_row((row_id, is_text, datapoints, accepted_ms, crc, payload))
    name = _as_text(table)
    return Letter(row, name, _as_text(reason), is_as_written and name in TABLES.values())


def _as_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def read_amount(
    query: Callable[[str, tuple[int, int]], Iterable[Any]], table: str, span: Span
) -> Amount:
    """The amount of the rows of ``span`` in a message table; ``query`` runs a statement with its
    values."""
    total = Amount()
    for length, rows, datapoints in query(
        "SELECT length(payload), count(*), CAST(sum(datapoints) AS INTEGER)"
        f" FROM {table} WHERE id BETWEEN ? AND ? GROUP BY 1",
        (span.low, span.high),
    ):
        total.add(Amount(rows, rows * row_cost(length), datapoints))
    return total


# -- totals ----------------------------------------------------------------------------------


class _OldTotals(msgspec.Struct):
    """The members that only the totals of schema 1 have."""

    response: Stored
    telemetry: Stored


def read_totals(connection: sqlite3.Connection) -> Totals | None:
    """The totals as written; None if they are missing or damaged."""
    found = connection.execute(
        "SELECT CAST(body AS BLOB), crc FROM totals WHERE only = 1"
    ).fetchone()
    if found is None or not isinstance(found[0], bytes) or crc32(found[0]) != found[1]:
        return None
    body = found[0]
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        totals = msgspec.json.decode(body, type=Totals)
        if all(
            set(one) == set(TABLES.values())
            for one in (totals.last_ids, totals.stored, totals.watermarks)
        ):
            if b'"last_ids"' not in body:
                # Schema 1 had other costs: ``count_on`` counts the stored rows again.
                old = msgspec.json.decode(body, type=_OldTotals)
                for stored in (old.response, old.telemetry):
                    totals.accepted.add(-stored.rows, -stored.datapoints)
            return totals
    return None


def write_totals(connection: sqlite3.Connection, body: bytes) -> None:
    """Replace the totals, given as JSON, inside a transaction."""
    connection.execute(
        "INSERT OR REPLACE INTO totals VALUES (1, ?, ?)", (body.decode(), crc32(body))
    )


def count_on(
    connection: sqlite3.Connection, totals: Totals, classes: Sequence[MessageClass] = CLASSES
) -> None:
    """Add the rows that were written after the totals."""
    for message_class in classes:
        key, table = message_class.value, TABLES[message_class]
        after = totals.last_ids[key]
        stored = totals.stored[key]
        amount = read_amount(connection.execute, table, Span(after + 1, _LAST_ID))
        stored.add(amount)
        totals.accepted.add(amount.rows, amount.datapoints)
        highest = connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0]
        letters = connection.execute(
            "SELECT max(id) FROM dead WHERE class = ?", (table,)
        ).fetchone()[0]
        totals.last_ids[key] = max(after, highest or 0, letters or 0)


def find_fault(path: Path) -> StoreDamaged | None:
    """Find the damage from a power failure that SQLite itself would overlook."""
    log = Path(f"{path}-wal")
    size = path.stat().st_size if path.exists() else 0
    if not size and log.exists() and log.stat().st_size:
        return StoreDamaged("the file is missing beside its write-ahead log")
    if size and not log.exists():
        # By a separate connection: opening the file for writing would create an empty log.
        with suppress(*UNREADABLE), closing(connect_read_only(path, is_immutable=True)) as found:
            if found.execute("SELECT 1 FROM state WHERE number = ?", (IS_OPEN,)).fetchone():
                return StoreDamaged(
                    "it was not closed and its write-ahead log is missing: the newest messages"
                    " may be lost"
                )
    return None


# -- the lock --------------------------------------------------------------------------------


class FileLock:
    """A lock on a file itself, whatever the name by which it was opened. The kernel releases it
    when the process ends, however it ends.

    This is a ``flock``, which SQLite does not use. Closing the descriptor drops the locks that
    SQLite holds on the same file in this process (POSIX locks belong to the process). So it is
    closed last, and this process never opens its locked file a second time.
    """

    _held: ClassVar[set[tuple[int, int]]] = set()

    def __init__(self, path: Path, create: bool = True) -> None:
        """Lock the file and then make it private; nothing else of it changes.

        Raises ``OutboxError`` naming the other process if there is one, and ``OSError``, also for a
        link and for a file of another user.
        """
        if FileLock.is_held(path):
            raise OutboxError(
                f"{path}: the outbox is in use by another agent (process {os.getpid()}, this one)"
            )
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        self._descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            secure(self._descriptor, path)
            self._identity = _identity(os.fstat(self._descriptor))
            FileLock._held.add(self._identity)
        except BlockingIOError:
            owner = lock_owner(self._descriptor) or "unknown"
            os.close(self._descriptor)
            raise OutboxError(
                f"{path}: the outbox is in use by another agent (process {owner})"
            ) from None
        except BaseException:
            os.close(self._descriptor)
            raise

    @staticmethod
    def is_held(path: Path) -> bool:
        """Whether this process has locked the file at ``path``, and so must not open it."""
        try:
            return _identity(os.stat(path)) in FileLock._held
        except OSError:
            return False

    def is_at(self, path: Path) -> bool:
        """Whether the locked file is the one at ``path``."""
        try:
            return _identity(os.stat(path)) == self._identity
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Release the file."""
        FileLock._held.discard(self._identity)
        os.close(self._descriptor)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def lock_owner(descriptor: int) -> str | None:
    """The process that holds a ``flock`` on the file of ``descriptor``, if the kernel says so."""
    inode = os.fstat(descriptor).st_ino
    with suppress(OSError):
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return fields[4]
    return None


def is_locked(path: Path) -> bool:
    """Whether an agent has the store at ``path`` now. Changes nothing."""
    if FileLock.is_held(path):
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A shared lock, so that two inspecting processes don't see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def sync_directory(path: Path) -> None:
    """Make new names in a directory survive a power failure; some file systems can't."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
