"""Replaces a store that can't be used, and copies what can be read from it.

The old file (with its write-ahead log: the two belong together) is renamed to
``<name>.recovering-<n>`` and never written to again. A new file takes its place at once, so that
live data continues. The journal and the dead letters are copied first, because an operation must
not run twice. The messages follow in steps, between the commits of the agent. A step copies rows,
enters them in the totals and records its progress, in one transaction of the new file. So a process
killed at any moment continues from that point: nothing is lost before it is copied, and nothing is
copied twice. A process that replaces its store while running copies only the rows that it does not
have in memory. If it is killed before its first commit, which writes those rows, the next process
copies everything. At the end the old file is kept as ``<name>.damaged-<n>``.

If a file was deleted, or mounted over, while in use, it is still open: it is copied first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

from oda.model import MessageClass
from oda.outbox.clock import FIRST_IDS
from oda.outbox.database import (
    TABLES,
    UNREADABLE,
    FileLock,
    connect_read_only,
    count_on,
    read_amount,
    read_totals,
    write_totals,
)
from oda.outbox.queue import END, Amount, Span, merged
from oda.outbox.salvage import (
    STEP_ROWS,
    Reading,
    copy_of_open_file,
    copy_small,
    free_place,
    insert,
    is_alive,
    is_readable,
    numbered,
    patch,
    remove,
    rename,
    set_aside,
)
from oda.outbox.store import Opened, Recovered, StoreError, StoreMoved
from oda.outbox.transaction import CLASSES, Stored, Totals

if TYPE_CHECKING:
    from oda.outbox.sqlite_store import SqliteStore

#: Larger ids are damage.
MAX_ID = 1 << 53
#: After this many queries without a row, the rest of a table is abandoned. Where the highest id is
#: unknown, a damaged end of the tree would otherwise mean a search among all possible ids.
MAX_FRUITLESS = 20_000
#: If the highest id of a table is unknown, new rows start this far beyond the last id in the
#: totals, which are written at least once per some hundred rows.
_UNCOUNTED_IDS = 1 << 24
#: If there are no totals either, new rows start this far beyond the first id: above the ids of a
#: process that started without its store, and higher for each file set aside.
_UNKNOWN_IDS = 1 << 50
_IDS_OF_A_FILE = 1 << 40
_RECOVERY = 2
_CRC_LENGTH = 8

#: Tables that are copied at once, and the log's names for their content.
_SMALL_TABLES = {
    "record": "operations on record",
    "answer": "answers to operations",
    "dead": "dead letters",
}
#: Ranges of ids (both ends included) by table; None means every row.
_Spans = dict[str, list[tuple[int, int]]] | None


class _Progress(msgspec.Struct):
    """The progress of a recovery; ``is_over`` when all is copied. ``ranges`` are tables with ids,
    low < id <= high, still to be copied, the next one last. ``expected`` is the amount still
    missing of each class, and ``is_counted`` says whether that includes the newest rows.
    ``fruitless`` counts the queries since the last row that was read.

    A range with low > high stands for the end of its table, which is read last if the table broke
    off: the rows with ``after`` < id <= high that are not among ``newest``, the highest ids read
    since.

    ``incomplete`` are the small tables that could not be read completely.

    ``wanted`` is as for ``begin``. ``then`` is what the source itself had not yet copied from an
    older one."""

    source: str
    set_aside: str
    wanted: _Spans = None
    is_patched: bool = False
    is_copy: bool = False
    is_over: bool = False
    is_counted: bool = True
    ranges: list[tuple[str, int, int]] = msgspec.field(default_factory=list)
    expected: dict[str, Stored] = msgspec.field(default_factory=dict)
    incomplete: list[str] = msgspec.field(default_factory=list)
    rows: int = 0
    fruitless: int = 0
    after: int = 0
    newest: list[int] = msgspec.field(default_factory=list)
    then: _Progress | None = None


# -- beginning -------------------------------------------------------------------------------


def begin(
    store: SqliteStore,
    fault: StoreError,
    wanted: Mapping[MessageClass, Sequence[Span]] | None,
) -> Opened:
    """Set the store aside and start a new one; ``wanted`` None means every row. Raises like
    ``IStore.open``."""
    store.path.parent.mkdir(parents=True, exist_ok=True)
    is_copy, reason = isinstance(fault, StoreMoved), str(fault)
    source: Path | None = None
    if is_copy:
        with suppress(StoreError):  # an earlier attempt may have closed it
            source = copy_of_open_file(store.path, store.writer)
        store.release_file()
        if store.path.exists():
            # Another store is there now; if an agent uses it, it stays where it is.
            theirs = FileLock(store.path, create=False)
            try:
                displaced = free_place(store.path, "displaced")
                rename(store.path, displaced)
                reason += f" (another outbox is there, which is kept as {displaced})"
            finally:
                theirs.release()
    else:
        store.release_file()
        source = set_aside(store.path)
    totals = store.begin_file()
    spans: _Spans = None
    if wanted is not None:
        spans = {TABLES[one]: [(low, high) for low, high in wanted[one]] for one in wanted}
    if source is not None:
        progress: _Progress | None = _start(store, totals, source, spans, is_copy)
    else:
        progress = _next_source(store, totals, spans)
    if progress is None:
        return Opened(totals, reason)
    return Opened(totals, reason, progress.set_aside, _missing(progress))


def go_on(store: SqliteStore, totals: Totals) -> Opened:
    """The store was opened: continue a recovery that was running when its process ended."""
    progress = _left_by_another(store.writer) or _next_source(store, totals)
    if progress is None:
        return Opened(totals)
    return Opened(totals, "", progress.set_aside, _missing(progress))


def _next_source(
    store: SqliteStore, totals: Totals, wanted: _Spans = None, left: _Progress | None = None
) -> _Progress | None:
    """The next file that was set aside and is not yet copied: ``left`` if that is known, else the
    newest, because it has the totals, and knows what it had not copied itself."""
    if left is not None and store.path.with_name(left.source).exists():
        _save(store.writer, left)
        return left
    for _, source in sorted(numbered(store.path, "recovering").items(), reverse=True):
        return _start(store, totals, source, wanted)
    return None


def _start(
    store: SqliteStore,
    totals: Totals,
    source: Path,
    wanted: _Spans,
    is_copy: bool = False,
) -> _Progress:
    """Copy the small tables, and plan the large ones."""
    place = source.with_name(source.name.replace(".recovering-", ".damaged-"))
    progress = _Progress(source.name, "" if is_copy else str(place), wanted, is_copy=is_copy)
    if not is_readable(source):
        patch(source, store.settings)
        progress.is_patched = True
    writer = store.writer
    with closing(connect_read_only(_file(store, progress))) as old:
        before, progress.is_counted = _totals_of(old, source)
        with suppress(*UNREADABLE, msgspec.MsgspecError):
            progress.then = _load(old) if wanted is not None else _left_by_another(old)
        for message_class in reversed(CLASSES):
            table = TABLES[message_class]
            highest = before.last_ids[table]
            if not is_alive(old, table, highest):
                ranges = []
            elif wanted is None:
                ranges = [(table, 0, highest)]
            else:
                ranges = [
                    (table, low - 1, min(high, highest))
                    for low, high in sorted(wanted.get(table, ()), reverse=True)
                ]
            progress.ranges += ranges
            progress.expected[table] = Stored()
            if wanted is None:
                progress.expected[table] = before.stored[table]
                # An earlier attempt may have copied some.
                there = read_amount(writer.execute, table, Span(0, highest))
                _expect_less(progress.expected[table], there)
        writer.execute("BEGIN IMMEDIATE")
        if wanted is None:
            # A store that has totals already has a past.
            _carry_over(totals, before, is_new=read_totals(writer) is None)
            _pass_over_ids(totals, store, source)
            write_totals(writer, msgspec.json.encode(totals))
        progress.incomplete = [
            name for table, name in _SMALL_TABLES.items() if not copy_small(old, writer, table)
        ]
        _save(writer, progress)
        writer.execute("COMMIT")
    # Into the file itself: losing the log must not lose the ids that are already in use.
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return progress


def _totals_of(old: sqlite3.Connection, source: Path) -> tuple[Totals, bool]:
    """The totals of a damaged store, set aside as ``source``, as far as they can be known, and
    whether they include its newest rows. No row has a higher id than they say: new rows start after
    that id, and recovery searches up to that id."""
    before, is_known, is_counted = Totals(), False, True
    with suppress(*UNREADABLE):
        found = read_totals(old)
        if found is not None:
            before, is_known = found, True
    for message_class in CLASSES:
        counted = msgspec.json.decode(msgspec.json.encode(before), type=Totals)
        key = message_class.value
        try:
            count_on(old, counted, (message_class,))
            before = counted
        except UNREADABLE:
            is_counted = False
            last_id = before.last_ids[key] + _UNCOUNTED_IDS
            if not is_known:
                number = int(source.name.rpartition("-")[2])
                last_id = FIRST_IDS[message_class] + _UNKNOWN_IDS + number * _IDS_OF_A_FILE
            before.last_ids[key] = last_id
        before.last_ids[key] = min(before.last_ids[key], MAX_ID)
    return before, is_counted


def _carry_over(totals: Totals, before: Totals, is_new: bool) -> None:
    """Give the new totals the ids of the old ones and, if they are new, their past."""
    for key, last_id in before.last_ids.items():
        totals.last_ids[key] = max(totals.last_ids[key], last_id)
    if not is_new:
        return
    totals.clock_ms, totals.wall_ms = before.clock_ms, before.wall_ms
    totals.delivered, totals.dropped, totals.dead = before.delivered, before.dropped, before.dead
    for one in (before.delivered, before.dropped, before.dead):
        totals.accepted.add(one.messages, one.datapoints)


def _pass_over_ids(totals: Totals, store: SqliteStore, source: Path) -> None:
    """Start new ids above those of the other files that are still to be copied, too. They may be
    older than ``source``, which may have lost its record of them."""
    for other in numbered(store.path, "recovering").values():
        if other == source:
            continue
        with suppress(*UNREADABLE), closing(connect_read_only(other)) as old:
            for key, last_id in _totals_of(old, other)[0].last_ids.items():
                totals.last_ids[key] = max(totals.last_ids[key], last_id)


def _missing(progress: _Progress) -> dict[MessageClass, tuple[Sequence[Span], Amount]]:
    """The rows still to be copied, from all sources."""
    missing: dict[MessageClass, tuple[Sequence[Span], Amount]] = {}
    for message_class in CLASSES:
        table = TABLES[message_class]
        spans: list[Span] = []
        amount = Amount()
        one: _Progress | None = progress
        while one is not None:
            spans += [
                Span(low + 1, high)
                for name, low, high in one.ranges
                if name == table and low < high
            ]
            stored = one.expected.get(table, Stored())
            amount.add(Amount(stored.rows, stored.cost, stored.datapoints))
            one = one.then
        missing[message_class] = merged(spans), amount
    return missing


# -- a step ----------------------------------------------------------------------------------


def step(store: SqliteStore) -> Recovered:
    """Copy some more rows; see ``IStore.recover``. Raises like ``IStore.apply``."""
    writer = store.writer
    progress = _load(writer)
    if progress is None:
        return Recovered((), True, 0, "", True)
    restored: list[tuple[MessageClass, Span, Amount]] = []
    if not progress.is_over:
        source = _file(store, progress)
        if not source.exists():
            progress.ranges.clear()  # the file was removed
        writer.execute("BEGIN IMMEDIATE")
        try:
            if progress.ranges:
                with closing(connect_read_only(source)) as old:
                    restored = _copy_some(old, writer, progress)
            progress.is_over = not progress.ranges
            _enter(writer, restored, progress if progress.is_over else None)
            _save(writer, progress)
            writer.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                writer.execute("ROLLBACK")
            raise
    is_done = progress.is_over and _finish(store, progress)
    return Recovered(
        restored,
        is_done,
        progress.rows,
        progress.set_aside,
        progress.is_counted,
        progress.incomplete if progress.is_over else (),
    )


def _copy_some(
    old: sqlite3.Connection, writer: sqlite3.Connection, progress: _Progress
) -> list[tuple[MessageClass, Span, Amount]]:
    """Copy the rows of one step."""
    restored: list[tuple[MessageClass, Span, Amount]] = []
    reading = Reading(old)
    while progress.ranges and not reading.is_over:
        table, low, high = progress.ranges.pop()
        rest: list[tuple[str, int, int]] = []
        if low > high:
            found = reading.newest(table, progress.after, high)
            rows = [row for row in found if row[0] not in progress.newest]
        else:
            # In this order, the last range is the only one left of its table.
            is_last = progress.wanted is None and not any(
                one == table and start < end > high for one, start, end in progress.ranges
            )
            rows, rest = reading.rows(table, low, high, is_last)
            if is_last and reading.is_broken and (table, END, high) not in progress.ranges:
                progress.ranges.append((table, END, high))
                progress.after, progress.newest = low, []
            if any(one == table and start > end for one, start, end in progress.ranges):
                ids = [*progress.newest, *(row[0] for row in rows)]
                progress.newest = sorted(ids)[-STEP_ROWS:]
            progress.ranges += reversed(rest)
        progress.fruitless = 0 if rows else progress.fruitless + 1
        if progress.fruitless > MAX_FRUITLESS:
            progress.ranges = [one for one in progress.ranges if one[0] != table or one[1] > one[2]]
            progress.fruitless = 0
        for span, amount in insert(writer, table, rows):
            restored.append((MessageClass(table), span, amount))
            progress.rows += amount.rows
            _expect_less(progress.expected[table], amount)
    return restored


def _expect_less(stored: Stored, amount: Amount) -> None:
    stored.rows -= amount.rows
    stored.cost -= amount.cost
    stored.datapoints -= amount.datapoints


def _enter(
    writer: sqlite3.Connection,
    restored: Sequence[tuple[MessageClass, Span, Amount]],
    ended: _Progress | None,
) -> None:
    """Enter copied rows in the totals, and the amount still missing at the end of the recovery."""
    totals = read_totals(writer) or Totals()
    for message_class, span, amount in restored:
        key = message_class.value
        totals.stored[key].add(amount)
        # Copied rows are not acknowledged, whatever newer rows are.
        totals.watermarks[key] = [min(one, span.low - 1) for one in totals.watermarks[key]]
        totals.accepted.add(amount.rows, amount.datapoints)
    for stored in ended.expected.values() if ended is not None else ():
        if stored.rows > 0:
            # Uncounted rows may have had more datapoints than the missing ones.
            datapoints = max(0, stored.datapoints)
            totals.accepted.add(stored.rows, datapoints)
            totals.dropped.add(stored.rows, datapoints)
    write_totals(writer, msgspec.json.encode(totals))


def _finish(store: SqliteStore, progress: _Progress) -> bool:
    """Nothing is left to copy from this file; True if there is no other one."""
    source = store.path.with_name(progress.source)
    if progress.is_patched:
        remove(_file(store, progress))
    if progress.is_copy:
        remove(source)
    else:
        # If a process was killed in between, only the file or its log is left. Rename it beside the
        # store, because the directory may have had another name when the recovery started.
        rename(source, store.path.with_name(Path(progress.set_aside).name))
    store.writer.execute("DELETE FROM state WHERE number = ?", (_RECOVERY,))
    totals = read_totals(store.writer) or Totals()
    return _next_source(store, totals, progress.wanted, progress.then) is None


# -- progress ----------------------------------------------------------------------------


def _load(writer: sqlite3.Connection) -> _Progress | None:
    """The saved progress; None if there is none, or it is damaged. In that case the copying starts
    again, and skips the rows that are already there."""
    found = writer.execute(
        "SELECT CAST(body AS BLOB) FROM state WHERE number = ?", (_RECOVERY,)
    ).fetchone()
    if found is None or not isinstance(found[0], bytes):
        return None
    crc, body = found[0][:_CRC_LENGTH], found[0][_CRC_LENGTH:]
    if crc != b"%08x" % crc32(body):
        return None
    return msgspec.json.decode(body, type=_Progress)


def _left_by_another(connection: sqlite3.Connection) -> _Progress | None:
    """The recovery that another process has left in a store, None if it must start again.

    A process that replaces its store knows which rows it has in memory, copies only the others, and
    writes the totals with its first commit. No totals mean that it ended before that commit, so its
    rows are only in the source.
    """
    progress = _load(connection)
    if progress is None or progress.wanted is None or read_totals(connection) is not None:
        return progress
    return None


def _save(writer: sqlite3.Connection, progress: _Progress) -> None:
    body = msgspec.json.encode(progress)
    writer.execute(
        "INSERT OR REPLACE INTO state VALUES (?, ?)",
        (_RECOVERY, f"{crc32(body):08x}{body.decode()}"),
    )


def _file(store: SqliteStore, progress: _Progress) -> Path:
    """The file from which rows are read."""
    return store.path.with_name(progress.source + (".patched" if progress.is_patched else ""))
