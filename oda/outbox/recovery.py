"""Replaces a store that can't be used, and copies from it what can be read.

The old file (with its write-ahead log: the two are one thing) is renamed to
``<name>.recovering-<n>`` and never written to again. A new file takes its place at once, so that
live data goes on. The journal and the dead letters are copied before anything else, because an
operation must not run twice; the messages follow in steps, between the commits of the agent. A step
copies rows, enters them in the totals and says how far it has come, all in one transaction of the
new file. So a process that is killed at any moment goes on where it was: nothing is lost before it
is copied, and nothing is copied twice. A process that replaces its store while it runs copies only
what it has not in memory; if it is killed before the first commit, which writes that, the next one
copies everything. In the end the old file is kept as ``<name>.damaged-<n>``.

A file that was deleted, or mounted over, while it was in use is still open: it is copied first.
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
#: After so many queries without a row, what is left of a table is given up: where nobody knows the
#: highest id, a damaged end of the tree would be looked for among all the ids there could be.
MAX_FRUITLESS = 20_000
#: Where the highest id of a table is not known, new rows begin so far beyond the last one that the
#: totals name. They are written at least once for some hundred rows.
_UNCOUNTED_IDS = 1 << 24
#: Where there are no totals either, new rows begin so far beyond the first id: above those of a
#: process that began without its store, and for each file that was set aside above the one before.
_UNKNOWN_IDS = 1 << 50
_IDS_OF_A_FILE = 1 << 40
_RECOVERY = 2
_CRC_LENGTH = 8

#: Copied at once, and what the log calls their content.
_SMALL_TABLES = {
    "record": "operations on record",
    "answer": "answers to operations",
    "dead": "dead letters",
}
#: Ranges of ids (both ends included) by table; None means every row.
_Spans = dict[str, list[tuple[int, int]]] | None


class _Progress(msgspec.Struct):
    """How far a recovery has come; ``is_over`` when all is copied. ``ranges`` are tables with ids,
    low < id <= high, still to be copied, the next one last; ``expected`` is what is still missing
    of each class, and ``is_counted`` tells whether that includes the newest rows. ``fruitless``
    counts the queries since the last row that was read.

    A range with low > high stands for the end of its table, which is read last where the table
    broke off: the rows with ``after`` < id <= high that are not among ``newest``, the highest ids
    that were read since.

    ``incomplete`` are the small tables of which not all could be read.

    ``wanted`` is as for ``begin``. ``then`` is what the source itself had not copied yet from an
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
    """Set the store aside and begin a new one; ``wanted`` None means every row. Raises as
    ``IStore.open``."""
    store.path.parent.mkdir(parents=True, exist_ok=True)
    is_copy, reason = isinstance(fault, StoreMoved), str(fault)
    source: Path | None = None
    if is_copy:
        with suppress(StoreError):  # it was closed by an attempt before this one
            source = copy_of_open_file(store.path, store.writer)
        store.release_file()
        if store.path.exists():
            # Another store stands there now; one that an agent uses stays where it is.
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
    """The store was opened: whether a recovery was under way when its process ended."""
    progress = _left_by_another(store.writer) or _next_source(store, totals)
    if progress is None:
        return Opened(totals)
    return Opened(totals, "", progress.set_aside, _missing(progress))


def _next_source(
    store: SqliteStore, totals: Totals, wanted: _Spans = None, left: _Progress | None = None
) -> _Progress | None:
    """The next file that was set aside and is not copied yet: ``left`` where that is known, else
    the newest, because it has the totals, and knows what it had not copied itself."""
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
                # An attempt before this one may have copied some.
                there = read_amount(writer.execute, table, Span(0, highest))
                _expect_less(progress.expected[table], there)
        writer.execute("BEGIN IMMEDIATE")
        if wanted is None:
            # A store that has totals has a past already.
            _carry_over(totals, before, is_new=read_totals(writer) is None)
            _pass_over_ids(totals, store, source)
            write_totals(writer, msgspec.json.encode(totals))
        progress.incomplete = [
            name for table, name in _SMALL_TABLES.items() if not copy_small(old, writer, table)
        ]
        _save(writer, progress)
        writer.execute("COMMIT")
    # Into the file itself: a log that gets lost must not take the ids with it that are given away.
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return progress


def _totals_of(old: sqlite3.Connection, source: Path) -> tuple[Totals, bool]:
    """The totals of a damaged store, set aside as ``source``, as far as they can be known, and
    whether they include its newest rows. No row has a higher id than they say: new rows begin after
    that, and recovery looks for rows up to that."""
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
    """Give the new totals the ids of the old ones and, where they are new, their past."""
    for key, last_id in before.last_ids.items():
        totals.last_ids[key] = max(totals.last_ids[key], last_id)
    if not is_new:
        return
    totals.clock_ms, totals.wall_ms = before.clock_ms, before.wall_ms
    totals.delivered, totals.dropped, totals.dead = before.delivered, before.dropped, before.dead
    for one in (before.delivered, before.dropped, before.dead):
        totals.accepted.add(one.messages, one.datapoints)


def _pass_over_ids(totals: Totals, store: SqliteStore, source: Path) -> None:
    """Begin new ids above those of the other files that are still to be copied, too: they may be
    older than ``source``, which may have lost what it knew of them."""
    for other in numbered(store.path, "recovering").values():
        if other == source:
            continue
        with suppress(*UNREADABLE), closing(connect_read_only(other)) as old:
            for key, last_id in _totals_of(old, other)[0].last_ids.items():
                totals.last_ids[key] = max(totals.last_ids[key], last_id)


def _missing(progress: _Progress) -> dict[MessageClass, tuple[Sequence[Span], Amount]]:
    """What is still to be copied, from all sources."""
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
    """Copy some more rows; see ``IStore.recover``. Raises as ``IStore.apply``."""
    writer = store.writer
    progress = _load(writer)
    if progress is None:
        return Recovered((), True, 0, "", True)
    restored: list[tuple[MessageClass, Span, Amount]] = []
    if not progress.is_over:
        source = _file(store, progress)
        if not source.exists():
            progress.ranges.clear()  # somebody took it away
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
            # In this order the last range is the only one of its table that is left.
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
    """Enter copied rows in the totals, and what is still missing when the recovery has ended."""
    totals = read_totals(writer) or Totals()
    for message_class, span, amount in restored:
        key = message_class.value
        totals.stored[key].add(amount)
        # They are not acknowledged, whatever newer ones are.
        totals.watermarks[key] = [min(one, span.low - 1) for one in totals.watermarks[key]]
        totals.accepted.add(amount.rows, amount.datapoints)
    for stored in ended.expected.values() if ended is not None else ():
        if stored.rows > 0:
            # Rows that were not counted may have had more datapoints than those that are missing.
            datapoints = max(0, stored.datapoints)
            totals.accepted.add(stored.rows, datapoints)
            totals.dropped.add(stored.rows, datapoints)
    write_totals(writer, msgspec.json.encode(totals))


def _finish(store: SqliteStore, progress: _Progress) -> bool:
    """Nothing is left to be copied from this file; True if there is no other one."""
    source = store.path.with_name(progress.source)
    if progress.is_patched:
        remove(_file(store, progress))
    if progress.is_copy:
        remove(source)
    else:
        # Only one of the file and its log is left where a process was killed in between. Beside
        # the store: the directory may have another name than when the recovery began.
        rename(source, store.path.with_name(Path(progress.set_aside).name))
    store.writer.execute("DELETE FROM state WHERE number = ?", (_RECOVERY,))
    totals = read_totals(store.writer) or Totals()
    return _next_source(store, totals, progress.wanted, progress.then) is None


# -- where it stands ----------------------------------------------------------------------


def _load(writer: sqlite3.Connection) -> _Progress | None:
    """The progress as it was saved; None where there is none, or it was changed since: then the
    copying begins anew, and passes over what is there already."""
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
    """The recovery that another process has left in a store, None where it has to begin anew.

    A process that replaces its store knows which rows it has in memory, copies the others only, and
    writes the totals with its first commit. Without totals it ended before that: its rows are in
    the source and nowhere else.
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
    """The file that rows are read from."""
    return store.path.with_name(progress.source + (".patched" if progress.is_patched else ""))
