"""How rows are copied from a damaged store, piece by piece: the test damages what it reads."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest

from oda.outbox import recovery, salvage
from oda.outbox.clock import FIRST_IDS
from oda.outbox.database import FileLock, _script
from oda.outbox.limits import row_cost
from oda.outbox.queue import END, Amount, Row, Span
from oda.outbox.recovery import (
    MAX_ID,
    _carry_over,
    _copy_some,
    _enter,
    _missing,
    _Progress,
    _totals_of,
)
from oda.outbox.salvage import (
    STEP_BYTES,
    STEP_ROWS,
    Reading,
    copy_small,
    finish_setting_aside,
    free_place,
    insert,
    is_alive,
    numbered,
    remove,
    rename,
    set_aside,
)
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import Recovered, StoredRecord, StoreMoved
from oda.outbox.transaction import (
    ANSWER,
    TELEMETRY,
    Burial,
    Record,
    Stored,
    Tally,
    Totals,
    Transaction,
    checksum,
)
from oda.settings import OutboxSettings
from tests.outbox.fakes import quick_directory

MALFORMED = sqlite3.DatabaseError("database disk image is malformed")


class Old:
    """A damaged table: the ids that can be read, and those at which reading fails, from both ends.
    It gives rows of ``size`` bytes, in ``order`` if that is given; those with an id of ``liars``
    are not as they were written."""

    def __init__(
        self,
        ids: Sequence[int] = (),
        broken: Sequence[int] = (),
        size: int = 3,
        order: Sequence[int] | None = None,
        liars: Sequence[int] = (),
    ) -> None:
        self._liars = liars
        self._ids = sorted({*ids, *broken})
        self._broken = set(broken)
        self._order = order
        self._size = size
        self.queries: list[tuple[int, ...]] = []

    def execute(self, statement: str, values: Sequence[int]) -> Iterator[Any]:
        self.queries.append(tuple(values))
        low, high, limit = values
        ids = self._order or self._ids
        if "DESC" in statement:
            # A search comes to the place of the highest id; from there on everything is passed.
            at = max((at for at, one in enumerate(ids) if one <= high), default=-1)
            passed = ids[at::-1] if at >= 0 else []
            return self._rows(passed[:limit], lambda one: one <= low)
        at = next((at for at, one in enumerate(ids) if one > low), len(ids))
        return self._rows(ids[at : at + limit], lambda one: one > high)

    def _rows(self, ids: Sequence[int], is_beyond: Callable[[int], bool]) -> Iterator[Any]:
        for row_id in ids:
            if is_beyond(row_id):
                return
            if row_id in self._broken:
                raise MALFORMED
            payload = bytes(self._size)
            crc = checksum(row_id, 1, 2, payload) ^ (row_id in self._liars)
            yield (row_id, 1, 2, 1000, crc, payload)


def ids_of(rows: Sequence[Sequence[Any]]) -> list[int]:
    return [row[0] for row in rows]


def read(old: Old, low: int = 0, high: int = 100) -> tuple[list[int], list[tuple[int, int]]]:
    rows, rest = Reading(old).rows("telemetry", low, high)  # type: ignore[arg-type]
    assert all(table == "telemetry" for table, _, _ in rest)
    return ids_of(rows), [(low, high) for _, low, high in rest]


def test_a_range_that_can_be_read_is_read_to_its_end() -> None:
    """Whatever gaps it has; nothing is left of it."""
    old = Old([1, 5, 100, 101])
    assert read(old) == ([1, 5, 100], [])
    assert old.queries == [(0, 100, STEP_ROWS)]


def test_a_range_that_breaks_off_is_halved() -> None:
    """After the last row that could be read; the two halves are read after it. What is one id wide
    and can't be read is given up."""
    assert read(Old([1, 5], broken=[6])) == ([1, 5], [(5, 52), (52, 100)])
    assert read(Old([], broken=[6])) == ([], [(0, 50), (50, 100)])
    assert read(Old([5], broken=[6]), 4, 6) == ([5], [])
    assert read(Old([5], broken=[6]), 4, 7) == ([5], [(5, 6), (6, 7)])


def test_rows_out_of_order_are_a_damage() -> None:
    """What follows could repeat for ever: a row before the last one, the same one, or, in the last
    range, one that is not in it."""
    for order in ([1, 5, 4], [1, 5, 5]):
        assert read(Old(order=order)) == ([1, 5], [(5, 52), (52, 100)])
    reading = Reading(Old(order=[1, 5, 200, 7], liars=[200]))  # type: ignore[arg-type]
    rows, rest = reading.rows("telemetry", 0, 100, is_last=True)
    assert ids_of(rows) == [1, 5]
    assert rest == [("telemetry", 5, 52), ("telemetry", 52, 100)]


def test_a_row_that_was_not_copied_on_purpose_ends_the_last_range() -> None:
    """One with a higher id that is as it was written is none that hides others."""
    reading = Reading(Old([1, 5, 200]))  # type: ignore[arg-type]
    rows, rest = reading.rows("telemetry", 0, 100, is_last=True)
    assert (ids_of(rows), rest) == ([1, 5], [])


class Astray(Old):
    """A table in which a search finds nothing but its two ends."""

    def execute(self, statement: str, values: Sequence[int]) -> Iterator[Any]:
        if values[0] and "DESC" not in statement:
            raise MALFORMED
        return super().execute(statement, values)


def copied(old: Old, store: SqliteStore, high: int) -> list[int]:
    """Copy all that can be read, in steps; gives the ids in the order in which they were found."""
    progress = _Progress("o.sqlite.recovering-1", "damaged", ranges=[("telemetry", 0, high)])
    progress.expected = {"telemetry": Stored()}
    found: list[int] = []
    while progress.ranges:
        for _, span, amount in _copy_some(old, store.writer, progress):  # type: ignore[arg-type]
            rows = store.writer.execute(
                "SELECT id FROM telemetry WHERE id BETWEEN ? AND ? ORDER BY id", span
            ).fetchall()
            assert len(rows) == amount.rows
            found += [one for (one,) in rows]
    return found


def test_the_last_rows_are_found_from_the_end(store: SqliteStore) -> None:
    """Where a search goes astray, because ids within the tree are damaged, what lies behind the
    damage is found from the end of the table, once, after all others."""
    old = Astray(range(1, 101), broken=[40, 90])
    assert copied(old, store, 100) == [*range(1, 40), *range(91, 101)]


def test_what_was_found_already_is_not_copied_from_the_end_again(store: SqliteStore) -> None:
    """Not even where it has been delivered and deleted meanwhile."""
    old = Old(range(1, 101), broken=[40])
    found = copied(old, store, 100)
    assert found == [*range(1, 40), *range(41, 101)]


def test_a_wrong_id_hides_no_rows(store: SqliteStore) -> None:
    """A row whose id is damaged seems to be far behind its neighbours, or behind all: they are
    found all the same."""
    for liar in (90, 4000):
        store.writer.execute("DELETE FROM telemetry")
        old = Old(order=[1, 2, 3, liar, 5, 6, 7], liars=[liar])
        assert {1, 2, 3, 5, 6, 7} <= set(copied(old, store, 100))


def test_every_row_that_can_be_read_is_read_once() -> None:
    """However the damage lies: the ranges that are left lead to all the others."""
    broken = [7, 8, 31, 64, 99]
    old = Old(range(1, 101), broken=broken)
    progress = _Progress("o.sqlite.recovering-1", "damaged")
    progress.ranges = [("telemetry", 0, 100)]
    reading = Reading(old)  # type: ignore[arg-type]
    found: list[int] = []
    while progress.ranges:
        rows, rest = reading.rows(*progress.ranges.pop())
        progress.ranges += reversed(rest)
        found += ids_of(rows)
    assert found == [one for one in range(1, 101) if one not in broken]


def test_a_step_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """In rows, in bytes and in queries; what is left of a range is read in the next one."""
    monkeypatch.setattr(salvage, "STEP_ROWS", 5)
    reading = Reading(Old(range(1, 9)))  # type: ignore[arg-type]
    rows, rest = reading.rows("telemetry", 0, 3)
    assert (ids_of(rows), rest, reading.is_over) == ([1, 2, 3], [], False)
    rows, rest = reading.rows("telemetry", 3, 100)
    assert (ids_of(rows), rest) == ([4, 5], [("telemetry", 5, 100)])
    assert reading.is_over
    reading = Reading(Old(range(1, 6)))  # type: ignore[arg-type]
    assert reading.rows("telemetry", 0, 5)[1] == [], "the last one of the range"
    monkeypatch.setattr(salvage, "STEP_ROWS", 2000)
    half = STEP_BYTES // 2
    reading = Reading(Old(range(1, 9), size=half))  # type: ignore[arg-type]
    rows, rest = reading.rows("telemetry", 0, 1)
    assert not reading.is_over
    rows, rest = reading.rows("telemetry", 1, 100)
    assert (ids_of(rows), rest) == ([2], [("telemetry", 2, 100)])
    assert reading.is_over
    monkeypatch.setattr(salvage, "_STEP_QUERIES", 2)
    reading = Reading(Old())  # type: ignore[arg-type]
    reading.rows("telemetry", 0, 1)
    assert not reading.is_over
    reading.rows("telemetry", 0, 1)
    assert reading.is_over


@pytest.fixture
def store() -> Iterator[SqliteStore]:
    path = quick_directory() / "outbox.sqlite"
    store = SqliteStore(path, OutboxSettings(path=path))
    store.open()
    yield store
    store.close()


def raw(row_id: int, payload: object = b"abc", datapoints: object = 2) -> list[Any]:
    return [row_id, 1, datapoints, 1000, 5, payload]


def test_what_was_copied_is_told_by_ranges(store: SqliteStore) -> None:
    """With what they amount to. A row that is there already, or nonsense, is left out; no range
    covers one that was there before."""
    for row_id in (4, 8):
        store.writer.execute(
            "INSERT INTO telemetry VALUES (?, ?, ?, ?, ?, ?)", raw(row_id, b"mine")
        )
    rows = [raw(row_id) for row_id in range(1, 11)]
    rows[4] = raw(5, "text")
    rows[5] = raw(6, b"abc", "two")
    found = insert(store.writer, "telemetry", rows)
    cost = row_cost(3)
    assert found == [
        (Span(1, 3), Amount(3, 3 * cost, 6)),
        (Span(7, 7), Amount(1, cost, 2)),
        (Span(9, 10), Amount(2, 2 * cost, 4)),
    ]
    there = store.writer.execute("SELECT id, payload FROM telemetry ORDER BY id").fetchall()
    assert there == [
        *((row_id, b"abc") for row_id in (1, 2, 3)),
        (4, b"mine"),
        (7, b"abc"),
        (8, b"mine"),
        (9, b"abc"),
        (10, b"abc"),
    ]
    assert insert(store.writer, "telemetry", []) == []


def test_a_gap_of_ids_does_not_cut_a_range(store: SqliteStore) -> None:
    """Nothing is in it."""
    found = insert(store.writer, "telemetry", [raw(1), raw(9)])
    assert found == [(Span(1, 9), Amount(2, 2 * row_cost(3), 4))]


def test_a_step_says_what_it_copied(store: SqliteStore) -> None:
    """And what is still expected; the ranges that were read are done."""
    progress = _Progress("o.sqlite.recovering-1", "damaged")
    progress.ranges = [("response", 0, 5), ("telemetry", 0, 100)]
    progress.expected = {"telemetry": Stored(10, 1000, 20), "response": Stored()}
    restored = _copy_some(Old([1, 2, 3]), store.writer, progress)  # type: ignore[arg-type]
    cost = row_cost(3)
    assert restored == [
        (TELEMETRY, Span(1, 3), Amount(3, 3 * cost, 6)),
        (ANSWER, Span(1, 3), Amount(3, 3 * cost, 6)),
    ]
    assert progress.ranges == []
    assert progress.rows == 6
    assert progress.expected["telemetry"] == Stored(7, 1000 - 3 * cost, 14)


def test_only_queries_in_a_row_without_a_row_are_fruitless(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After too many of them, the rest of the table is given up, and not that of the other."""
    monkeypatch.setattr(recovery, "MAX_FRUITLESS", 3)
    progress = _Progress("o.sqlite.recovering-1", "damaged")
    progress.expected = {"telemetry": Stored(), "response": Stored()}
    progress.ranges = [("response", 9, 10), *[("telemetry", 50, 51)] * 9, ("telemetry", 0, 1)]
    old: Any = Old([1, 10])
    _copy_some(old, store.writer, progress)
    assert [one[:2] for one in old.queries] == [(0, 1), *[(50, END)] * 4, (9, END)]
    assert progress.fruitless == 0
    assert progress.ranges == []


def test_copied_rows_enter_the_totals(store: SqliteStore) -> None:
    """They are accepted and stored; nothing from them on counts as acknowledged. What is missing in
    the end was accepted and is dropped; what nobody had counted is no loss."""
    store.apply(Transaction())
    restored = [(TELEMETRY, Span(5, 6), Amount(2, 20, 4)), (ANSWER, Span(1, 1), Amount(1, 10, 0))]
    totals = Totals(accepted=Tally(9, 9), watermarks={"telemetry": [9, 4, 0, 0, 0], "response": []})
    transaction = Transaction()
    transaction.totals = msgspec.json.encode(totals)
    store.apply(transaction)
    _enter(store.writer, restored, None)
    found = store._read_totals()
    assert found.accepted == Tally(12, 13)
    assert found.dropped == Tally(0, 0)
    assert found.stored == {"telemetry": Stored(2, 20, 4), "response": Stored(1, 10, 0)}
    assert found.watermarks == {"telemetry": [4, 4, 0, 0, 0], "response": []}
    ended = _Progress("source", "damaged")
    ended.expected = {"telemetry": Stored(3, 30, 7), "response": Stored(-1, -10, 0)}
    _enter(store.writer, [], ended)
    found = store._read_totals()
    assert found.accepted == Tally(15, 20)
    assert found.dropped == Tally(3, 7)


def test_what_is_lost_has_no_negative_number_of_datapoints(store: SqliteStore) -> None:
    """Rows that the totals did not count were found, with more datapoints than those that are
    missing had: how many these had is not known."""
    progress = _Progress("o.sqlite.recovering-1", "damaged")
    progress.expected = {"telemetry": Stored(rows=2, datapoints=-9)}
    _enter(store.writer, (), progress)
    totals = store._read_totals()
    assert totals.dropped == totals.accepted == Tally(2, 0)


def test_what_is_missing_is_that_of_all_sources() -> None:
    """A store that was damaged while it was being recovered leads to the one before."""
    older = _Progress("older", "damaged-1")
    older.ranges = [("telemetry", 20, 30), ("response", 0, 4)]
    older.expected = {"telemetry": Stored(1, 10, 2)}
    progress = _Progress("newer", "damaged-2", then=older)
    progress.ranges = [("telemetry", 40, 50), ("telemetry", 0, 20)]
    progress.expected = {"telemetry": Stored(2, 20, 4), "response": Stored(3, 30, 6)}
    assert _missing(progress) == {
        TELEMETRY: ([Span(1, 30), Span(41, 50)], Amount(3, 30, 6)),
        ANSWER: ([Span(1, 4)], Amount(3, 30, 6)),
    }


@pytest.mark.parametrize("is_new", [True, False])
def test_a_new_store_goes_on_from_the_old_one(is_new: bool) -> None:
    """With its ids in any case, never with lower ones; and with its past where it has none."""
    totals = Totals(accepted=Tally(1, 1), clock_ms=5)
    totals.last_ids = {"telemetry": 7, "response": 70}
    before = Totals(
        accepted=Tally(100, 100),
        delivered=Tally(3, 30),
        dropped=Tally(4, 40),
        dead=Tally(5, 50),
        clock_ms=8,
        wall_ms=9,
    )
    before.last_ids = {"telemetry": 9, "response": 60}
    _carry_over(totals, before, is_new)
    assert totals.last_ids == {"telemetry": 9, "response": 70}
    if is_new:
        assert (totals.delivered, totals.dropped, totals.dead) == (
            Tally(3, 30),
            Tally(4, 40),
            Tally(5, 50),
        )
        assert totals.accepted == Tally(13, 121)
        assert (totals.clock_ms, totals.wall_ms) == (8, 9)
    else:
        assert totals.accepted == Tally(1, 1)
        assert totals.delivered == Tally(0, 0)
        assert (totals.clock_ms, totals.wall_ms) == (5, 0)


def test_the_totals_of_a_damaged_store_name_no_id_too_low(store: SqliteStore) -> None:
    """They count the rows behind them. Where a table can't be counted, its ids begin far beyond the
    last one that is known; without totals, beyond all there could be, higher for each file."""
    source = Path("outbox.sqlite.recovering-3")
    transaction = Transaction()
    transaction.insert(TELEMETRY, Row(5, b"abc", True, 2, 0, row_cost(3)))
    transaction.totals = msgspec.json.encode(
        Totals(accepted=Tally(9, 9), last_ids={"telemetry": 4, "response": 10**15 + 5})
    )
    store.apply(transaction)
    before, is_counted = _totals_of(store.writer, source)
    assert is_counted
    assert before.last_ids == {"telemetry": 5, "response": 10**15 + 5}
    assert before.accepted == Tally(10, 11)
    store.writer.execute("ALTER TABLE telemetry RENAME TO gone")
    before, is_counted = _totals_of(store.writer, source)
    assert not is_counted
    assert before.last_ids == {"telemetry": 4 + 2**24, "response": 10**15 + 5}
    assert before.accepted == Tally(9, 9)
    store.writer.execute("UPDATE totals SET body = 'x'")
    before, is_counted = _totals_of(store.writer, source)
    assert not is_counted
    assert before.last_ids["telemetry"] == FIRST_IDS[TELEMETRY] + 2**50 + 3 * 2**40
    assert before.accepted == Tally(0, 0)


def test_no_id_is_higher_than_there_can_be(store: SqliteStore) -> None:
    """Whatever a damaged row says."""
    store.writer.execute("INSERT INTO telemetry VALUES (?, ?, ?, ?, ?, ?)", raw(MAX_ID + 5))
    before, _ = _totals_of(store.writer, Path("o.recovering-1"))
    assert before.last_ids["telemetry"] == MAX_ID


def test_a_table_is_alive_where_one_place_of_it_can_be_read() -> None:
    """So many places are tried, from its beginning to its end; an empty table is alive."""

    class Probed:
        def __init__(self, works: int) -> None:
            self.works = works
            self.places: list[int] = []

        def execute(self, statement: str, values: Sequence[int]) -> Any:
            self.places.append(values[0])
            if len(self.places) - 1 == self.works:
                return closing_cursor()
            raise MALFORMED

    def closing_cursor() -> Any:
        return sqlite3.connect(":memory:").execute("SELECT 1 WHERE 0")

    for works, expected in ((0, True), (63, True), (64, False)):
        old = Probed(works)
        assert is_alive(old, "telemetry", 6400) is expected  # type: ignore[arg-type]
        assert old.places == [number * 100 for number in range(min(works + 1, 64))]


def test_small_tables_are_copied_as_far_as_they_can_be_read(
    store: SqliteStore, tmp_path: Path
) -> None:
    """In pages, in the order of their keys; what is there already stays."""
    old = SqliteStore(tmp_path / "old.sqlite", OutboxSettings())
    old.open()
    transaction = Transaction()
    for number in range(1201):
        transaction.records[number] = Record(
            number, f"{number}", "SET", "JSON", b'{"a":1}', 5, True, b"answer"
        )
    transaction.bury(Burial(TELEMETRY, Row(7, b"dead", True, 2, 3, 4), "refused"))
    old.apply(transaction)
    mine = Transaction()
    mine.records[3] = Record(3, "mine", "SET", "JSON", None, 5)
    store.apply(mine)
    for table in ("record", "answer", "dead"):
        copy_small(old.writer, store.writer, table)
    records = {one.number: one for one in store.records()}
    assert sorted(records) == list(range(1201))
    assert records[3].request_id == b"mine"
    assert records[4] == {one.number: one for one in old.records()}[4]
    assert store.answer(1200) == b"answer"
    assert store.letter(7) == old.letter(7)
    copy_small(sqlite3.connect(":memory:"), store.writer, "record")
    assert len(store.records()) == 1201
    old.close()


# -- files -----------------------------------------------------------------------------------


def made(*paths: Path) -> None:
    for path in paths:
        path.write_text(path.name)


def names(place: Path) -> list[str]:
    return sorted(one.name for one in place.iterdir())


def test_files_that_were_set_aside_have_numbers(tmp_path: Path) -> None:
    """Of their own kind; the next one is higher than any."""
    path = tmp_path / "o.sqlite"
    assert free_place(path, "damaged").name == "o.sqlite.damaged-1"
    made(*(tmp_path / f"o.sqlite.{one}" for one in ("damaged-2", "recovering-7", "displaced-3")))
    made(*(tmp_path / f"o.sqlite.{one}" for one in ("damaged-x", "damaged-9-wal")))
    made(tmp_path / "oxsqlite.damaged-20", tmp_path / "o.sqlite.damaged-1234567890")
    assert numbered(path, "damaged") == {2: tmp_path / "o.sqlite.damaged-2"}
    assert free_place(path, "damaged").name == "o.sqlite.damaged-8"


def test_a_store_is_set_aside_with_its_log(tmp_path: Path) -> None:
    """And the oldest of those that are kept goes: three are kept, the new one included."""
    path = tmp_path / "o.sqlite"
    made(path, *(Path(f"{path}{suffix}") for suffix in ("-wal", "-shm")))
    made(*(tmp_path / f"o.sqlite.damaged-{number}" for number in (1, 2, 3, 4)))
    made(tmp_path / "o.sqlite.damaged-1-wal")
    assert set_aside(path).name == "o.sqlite.recovering-5"
    assert names(tmp_path) == [
        "o.sqlite.damaged-3",
        "o.sqlite.damaged-4",
        "o.sqlite.recovering-5",
        "o.sqlite.recovering-5-wal",
    ]
    rename(tmp_path / "nothing", tmp_path / "other")
    remove(tmp_path / "o.sqlite.recovering-5")
    assert names(tmp_path) == ["o.sqlite.damaged-3", "o.sqlite.damaged-4"]


def test_a_log_that_was_left_behind_goes_to_its_file(tmp_path: Path) -> None:
    """To the one that has none; not where there is a store, which it belongs to then."""
    path = tmp_path / "o.sqlite"
    log = Path(f"{path}-wal")
    finish_setting_aside(path)
    made(log, path)
    made(tmp_path / "o.sqlite.recovering-1")
    finish_setting_aside(path)
    assert log.exists()
    path.unlink()
    made(tmp_path / "o.sqlite.recovering-1-wal")
    finish_setting_aside(path)
    assert log.exists(), "the file has one"
    made(tmp_path / "o.sqlite.recovering-2")
    made(tmp_path / "o.sqlite.recovering-3")
    finish_setting_aside(path)
    assert not log.exists()
    assert (tmp_path / "o.sqlite.recovering-2-wal").exists() != (
        tmp_path / "o.sqlite.recovering-3-wal"
    ).exists()


def test_a_step_that_fails_is_rolled_back(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one does the same again, on the same connection."""
    source = store.path.with_name("outbox.sqlite.recovering-1")
    old = SqliteStore(source, OutboxSettings())
    old.open()
    transaction = Transaction()
    transaction.insert(TELEMETRY, Row(1, b"abc", True, 2, 0, row_cost(3)))
    old.apply(transaction)
    old.close()
    progress = _Progress(source.name, str(store.path.with_name("outbox.sqlite.damaged-1")))
    progress.ranges = [("telemetry", 0, 9)]
    progress.expected = {"telemetry": Stored(), "response": Stored()}
    assert recovery.step(store) == Recovered((), True, 0, "", True)
    recovery._save(store.writer, progress)

    def fails(*_: object) -> None:
        raise OSError("disk")

    with monkeypatch.context() as patched:
        patched.setattr(recovery, "_enter", fails)
        with pytest.raises(OSError, match="disk"):
            recovery.step(store)
    assert not store.writer.in_transaction
    step = recovery.step(store)
    assert step.is_done
    assert step.rows == 1
    assert [one[1] for one in step.restored] == [Span(1, 1)]
    assert [row.row_id for row in store.page(TELEMETRY, Span(0, END), 9, 99)[0]] == [1]
    assert names(store.path.parent).count("outbox.sqlite.damaged-1") == 1


def test_only_tables_that_can_be_read_are_planned(store: SqliteStore) -> None:
    """Nothing is looked for in one that is gone; of the others each id up to the highest, or what
    is wanted of them. The small tables are copied at once."""
    source = store.path.with_name("outbox.sqlite.recovering-1")
    old = SqliteStore(source, OutboxSettings())
    old.open()
    transaction = Transaction()
    for row_id in (3, 8):
        transaction.insert(ANSWER, Row(row_id, b"abc", True, 2, 0, row_cost(3)))
    transaction.records[1] = Record(1, "1", "SET", "JSON", None, 5)
    old.apply(transaction)
    old.writer.execute("DROP TABLE telemetry")
    old.close()
    progress = recovery._start(store, Totals(), source, None)
    assert progress.ranges == [("response", 0, 8)]
    assert progress.expected["response"] == Stored(2, 2 * row_cost(3), 4)
    assert not progress.is_counted
    assert progress.set_aside == str(source.with_name("outbox.sqlite.damaged-1"))
    assert [one.number for one in store.records()] == [1]
    wanted = {"response": [(1, 4), (6, 20)], "telemetry": [(1, 5)]}
    progress = recovery._start(store, Totals(), source, wanted, is_copy=True)
    assert progress.ranges == [("response", 5, 8), ("response", 0, 4)]
    assert progress.expected["response"] == Stored()
    assert progress.set_aside == ""


def test_a_store_that_stands_in_the_way_is_displaced(store: SqliteStore) -> None:
    """It is another one, which no agent uses: it is kept, not locked by this one, and the reason
    says where."""
    store.path.rename(store.path.with_name("moved"))
    other = SqliteStore(store.path, OutboxSettings())
    other.open()
    other.close()
    before = len(os.listdir("/proc/self/fd"))
    opened = recovery.begin(store, StoreMoved("it is gone"), {})
    displaced = store.path.with_name("outbox.sqlite.displaced-2")
    assert displaced.exists()
    assert not FileLock.is_held(displaced)
    assert len(os.listdir("/proc/self/fd")) <= before
    assert opened.reason == f"it is gone (another outbox is there, which is kept as {displaced})"
    assert opened.set_aside == ""
    while not store.recover().is_done:
        pass
    assert names(store.path.parent).count("outbox.sqlite") == 1


def test_a_new_store_gets_a_directory_of_its_own(store: SqliteStore) -> None:
    """Where the old one was deleted with all that is above it."""
    shutil.rmtree(store.path.parent)
    store.path = store.path.parent / "a" / "b" / "outbox.sqlite"
    recovery.begin(store, StoreMoved("it is gone"), {})
    assert store.path.exists()


def test_a_file_that_somebody_took_away_ends_the_recovery(store: SqliteStore) -> None:
    """There is nothing to wait for: what is still missing was accepted, and is lost."""
    progress = _Progress("outbox.sqlite.recovering-1", "outbox.sqlite.damaged-1")
    progress.ranges = [("telemetry", 0, 9)]
    progress.expected = {"telemetry": Stored(2, 68, 4), "response": Stored()}
    recovery._save(store.writer, progress)
    step = store.recover()
    assert (step.restored, step.is_done, step.rows) == ([], True, 0)
    totals = store._read_totals()
    assert (totals.accepted, totals.dropped) == (Tally(2, 4), Tally(2, 4))
    assert store.recover() == Recovered((), True, 0, "", True)


def test_the_journal_of_an_older_schema_is_copied(store: SqliteStore) -> None:
    """It was one table: what has an answer has ended; without a format it was JSON."""
    with closing(sqlite3.connect(":memory:")) as old:
        old.executescript(_script(1))
        old.executemany(
            "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (1, "a", "SET", None, '{"path":[]}', 5, None, None),
                (2, "b", "GET", "CBOR", None, 6, crc32(b"answer"), b"answer"),
            ],
        )
        for table in ("record", "answer", "dead"):
            copy_small(old, store.writer, table)
    assert store.records() == [
        StoredRecord(1, b"a", b"SET", b"JSON", b'{"path":[]}', 5, 0, None),
        StoredRecord(2, b"b", b"GET", b"CBOR", None, 6, 1, 6),
    ]
    assert store.answer(2) == b"answer"
